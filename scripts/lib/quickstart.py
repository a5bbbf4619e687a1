"""What quickstart.sh does: environment, folder, key, server, self-test, words. Standard library only.

Knows the order of a first start and how each step fails; runs with any Python 3.11+, before anything is installed.
Refuses to know how the gateway works inside: it uses the `waygate` command and HTTP, as a person would.

    folder (./.waygate)      waygate.yaml · api.key · data/ · logs/      made once, never overwritten
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
WAYGATE = ROOT / ".venv" / "bin" / "waygate"
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
HOST = "127.0.0.1"
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 15.0
COMMAND_WITHIN_S = 60.0
KEY_SETTINGS = ("WAYGATE_API_KEY", "WAYGATE_API_KEY_FILE")
STARTED = time.monotonic()


class StartError(Exception):
    """A step failed; the text is the one line a person reads, the mend included."""


@dataclass(frozen=True)
class Plan:
    """What to start, and where. `folder` holds everything the gateway keeps."""

    folder: Path
    port: int
    is_check: bool

    @property
    def document(self) -> Path:
        """The document that is served."""
        return self.folder / "waygate.yaml"

    @property
    def key_file(self) -> Path:
        """Where a key made here lies, mode 600."""
        return self.folder / "api.key"

    @property
    def log_file(self) -> Path:
        """What the server says on standard output and error."""
        return self.folder / "logs" / "console.log"

    @property
    def url(self) -> str:
        """The address of the server, without a path."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Key:
    """The bootstrap key; `origin` is a sentence, `is_new` whether this run made it, `option` how a command gets it."""

    text: str
    origin: str
    is_new: bool = False
    option: str = ""


def say(text: str) -> None:
    """A step begins."""
    bold, plain = (
        ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    )
    print(f"{bold}==>{plain} {text}", flush=True)


def tell(text: str = "") -> None:
    """A line below a step."""
    print(text, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run and give the exit code: 0 well, 1 a step failed, 2 wrong use."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        if options.docker:
            return run_in_containers()
        make_environment()
        with plan_for(options) as plan:
            return run(plan)
    except StartError as exc:
        print(f"quickstart.sh: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        tell("\nStopped.")
        return 0 if not options.check else 130


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; ends the program where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="quickstart.sh",
        description="From a fresh clone to a running gateway: environment, key, self-test, client configuration.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="do it all in a temporary folder on a free port, then stop; exit 0 if well",
    )
    parser.add_argument(
        "--docker",
        action="store_true",
        help="the hardened container stack instead (needs Docker with Compose)",
    )
    parser.add_argument(
        "--port", type=port_number, metavar="N", help="TCP port (default: WAYGATE_PORT, else 8000)"
    )
    parser.add_argument(
        "--data-dir",
        metavar="D",
        help="folder for configuration, key, data and logs (default: ./.waygate)",
    )
    parser.add_argument("--came-from", default=str(ROOT), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def port_number(text: str) -> int:
    """A TCP port from its text."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; take a number from 1 to 65535")


def make_environment() -> None:
    """Make or complete .venv, by the same shell parts that scripts/test.sh uses."""
    script = ". scripts/lib/environment.sh; make_environment runtime"
    if subprocess.run(
        ["sh", "-eu", "-c", script, "quickstart.sh"], cwd=ROOT, check=False
    ).returncode:
        raise SystemExit(1)  # the shell part has said why


@contextlib.contextmanager
def plan_for(options: argparse.Namespace) -> Iterator[Plan]:
    """The folder and port to use; a check's folder is gone afterwards."""
    port = options.port or (free_port() if options.check else default_port())
    refuse_taken(port)
    if options.check and not options.data_dir:
        with tempfile.TemporaryDirectory(prefix="waygate-check-") as temporary:
            yield Plan(Path(temporary), port, is_check=True)
        return
    folder = Path(options.came_from, options.data_dir) if options.data_dir else ROOT / ".waygate"
    yield Plan(folder.absolute(), port, is_check=options.check)


def default_port() -> int:
    """The port of the environment, else 8000."""
    try:
        return port_number(os.environ.get("WAYGATE_PORT") or "8000")
    except argparse.ArgumentTypeError as exc:
        raise StartError(f"WAYGATE_PORT: {exc}") from None


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def refuse_taken(port: int) -> None:
    """Say so before anything is started where another program has the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except PermissionError:
            raise StartError(
                f"port {port} needs privileges; take one from 1024 up: ./quickstart.sh --port 8000"
            ) from None
        except OSError:
            raise StartError(
                f"port {port} is in use; stop what uses it, or: ./quickstart.sh --port {free_port()}"
            ) from None


def run(plan: Plan) -> int:
    """Folder, key, server, self-test, words; then serve until somebody stops it."""
    environment = environment_for(plan)
    say(f"preparing {shown(plan.folder)}")
    prepare(plan, environment)
    key = find_key(plan, environment)
    say(f"starting the gateway on {plan.url}")
    with server(plan, environment) as process:
        wait_until_ready(plan, process)
        say("self-test")
        self_test(plan, key)
        introduce(plan, key)
        if plan.is_check:
            tell("\nThe check is well; stopping.")
            return 0
        process.wait()
    raise StartError(
        f"the gateway ended by itself with code {process.returncode}; its last words are in {shown(plan.log_file)}"
    )


def environment_for(plan: Plan) -> dict[str, str]:
    """The server's environment. A check takes no setting of this machine, so that it says the same everywhere."""
    kept = {n: v for n, v in os.environ.items() if not (plan.is_check and n.startswith("WAYGATE_"))}
    return {
        "WAYGATE_LOG_FORMAT": "console",  # for who reads console.log; the log files are JSON all the same
        **kept,
        "WAYGATE_CONFIG": str(plan.document),
        "WAYGATE_DATA_DIR": str(plan.folder / "data"),
        "WAYGATE_LOG_DIR": str(plan.folder / "logs"),
    }


def prepare(plan: Plan, environment: Mapping[str, str]) -> None:
    """Let `waygate init` write what is missing."""
    try:
        for folder in (plan.folder, plan.log_file.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan.log_file.touch(mode=0o600)
    except OSError as exc:
        raise StartError(
            f"cannot write {exc.filename}: {exc.strerror}; choose another folder with --data-dir"
        ) from None
    command = [str(WAYGATE), "init", "--dir", str(plan.folder)]
    for line in output_of(command, environment, directory(plan)).splitlines():
        if not line.startswith("next:"):
            tell(f"    {line}")


def find_key(plan: Plan, environment: dict[str, str]) -> Key:
    """The key of the environment or `.env`, of an earlier start, or a new one; the server is told where it lies."""
    for name, value in given_keys(plan, environment).items():
        is_file = name.endswith("_FILE")
        text = read_key(Path(value).expanduser()) if is_file else value
        return Key(text, f"yours, from {name}")
    environment["WAYGATE_API_KEY_FILE"] = str(plan.key_file)
    where = shown(plan.key_file)
    option = f" --key-file {where}"
    if plan.key_file.exists():
        again = f"made by an earlier start, kept in {where}; for a new one delete that file and start again"
        return Key(read_key(plan.key_file), again, option=option)
    script = "from waygate_mcp.auth.key_text import make_key; print(make_key())"
    text = output_of([str(VENV_PYTHON), "-c", script], environment, ROOT).strip()
    plan.key_file.touch(mode=0o600, exist_ok=False)
    plan.key_file.write_text(f"{text}\n", encoding="ascii")
    return Key(
        text,
        f"made now and shown this once; kept in {where}, readable by you only",
        is_new=True,
        option=option,
    )


def given_keys(plan: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of the bootstrap key that are not ours: of the environment, else of `.env`."""
    given = {name: environment[name] for name in KEY_SETTINGS if environment.get(name)}
    dotenv = ROOT / ".env"
    if not given and not plan.is_check and dotenv.is_file():
        pattern = re.compile(
            rf"^\s*(?:export\s+)?({'|'.join(KEY_SETTINGS)})\s*=\s*[\"']?([^\"'\s]+)", re.MULTILINE
        )
        given = dict(pattern.findall(dotenv.read_text(encoding="utf-8")))
    return given


def read_key(path: Path) -> str:
    """The key in a file."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError(
            f"cannot read the key in {path}: {exc}; delete the file to have a new one made"
        ) from None


@contextlib.contextmanager
def server(plan: Plan, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`waygate serve` in a session of its own, so that Ctrl-C reaches it once, from here; stopped at the end."""
    command = [
        str(WAYGATE),
        "serve",
        "-c",
        str(plan.document),
        "--host",
        HOST,
        "--port",
        str(plan.port),
    ]
    with plan.log_file.open("ab") as log:
        process = subprocess.Popen(
            command, cwd=directory(plan), env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask to stop, wait for calls in flight, insist."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def wait_until_ready(plan: Plan, process: subprocess.Popen[bytes]) -> None:
    """Ask /ready until it says yes."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tell(last_words(plan.log_file))
            raise StartError(
                f"the gateway did not start (code {process.returncode}); its words are above"
            )
        if status_of(f"{plan.url}/ready") == 200:
            return
        time.sleep(0.05)
    tell(last_words(plan.log_file))
    raise StartError(
        f"the gateway was not ready within {READY_WITHIN_S:.0f} s; its last words are above"
    )


def status_of(url: str, body: bytes | None = None) -> int:
    """The HTTP status of an answer; 0 if there was none. Proxies of the environment are not asked."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - always our own http URL
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


def last_words(log_file: Path, lines: int = 12) -> str:
    """The end of the server's output."""
    text = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line[:400]}" for line in text[-lines:])


def self_test(plan: Plan, key: Key) -> None:
    """A stranger is refused, and a tool answers whoever has the key."""
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    status = status_of(f"{plan.url}/mcp", json.dumps(listing).encode())
    if status != 401:
        raise StartError(
            f"a call without a key was answered {status or 'not at all'} instead of 401; "
            f"auth.mode in {shown(plan.document)} must be keys"
        )
    tell("    ok  a call without a key is refused (401)")
    name = '{"name": "quickstart"}'
    answer = client(plan, key, "tools", "call", "greet", name, "--url", f"{plan.url}/mcp")
    if "quickstart" not in answer:
        raise StartError(
            f"the tool greet answered {answer.strip()!r}, not a greeting; "
            f"is the plugin hello still in {shown(plan.document)}?"
        )
    tell(f"    ok  the tool greet answers: {' '.join(answer.split())}")


def introduce(plan: Plan, key: Key) -> None:
    """Where it is, how to get in, what to paste into which client."""
    address = ["--url", f"{plan.url}/mcp"]
    shows_key = ["--with-key"] if key.is_new else []
    for name, words, options in (
        ("mcp-json", "the shape most clients read", [*address, *shows_key]),
        ("vscode", "VS Code: .vscode/mcp.json", [*address, *shows_key]),
        ("claude-desktop", "Claude Desktop, which starts it by itself", ["-c", str(plan.document)]),
    ):
        tell(f"\n# {words}")
        tell(client(plan, key, "connect", name, *options).rstrip())
    tell(f"\nWaygate is serving, {time.monotonic() - STARTED:.0f} s after you asked.\n")
    tell(f"    URL      {plan.url}/mcp")
    tell(f"    Key      {key.text if key.is_new else '(not shown again)'}")
    tell(f"             {key.origin}")
    tell(
        f"    Files    {shown(plan.folder)}: waygate.yaml is yours to edit, logs/ has what happened"
    )
    tell(f"    Tools    {shown(WAYGATE)} tools list {' '.join(address)}{key.option}")
    tell(
        f"    Clients  {shown(WAYGATE)} connect (a list; connect NAME prints what that client wants)"
    )
    if not plan.is_check:
        tell("\nCtrl-C stops it; ./quickstart.sh starts it again.")


def client(plan: Plan, key: Key, *arguments: str) -> str:
    """Run a `waygate` command as a client with the key and no other setting, and give what it printed."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("WAYGATE_")}
    environment["WAYGATE_API_KEY"] = key.text
    return output_of([str(WAYGATE), *arguments], environment, plan.folder)


def output_of(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """Run a program to its end and give its standard output."""
    words = " ".join(["waygate" if part == str(WAYGATE) else part for part in command[:3]])
    try:
        result = subprocess.run(
            list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StartError(f"`{words}` did not end within {COMMAND_WITHIN_S:.0f} s") from None
    if result.returncode:
        tell((result.stderr or result.stdout).rstrip())
        raise StartError(f"`{words}` failed with code {result.returncode}; its words are above")
    return result.stdout


def directory(plan: Plan) -> Path:
    """Where the gateway runs: in the clone, whose .env counts; a check runs in its own folder, where there is none."""
    return plan.folder if plan.is_check else ROOT


def shown(path: Path) -> str:
    """A path as short as it can be said from the clone."""
    return f"./{path.relative_to(ROOT)}" if path.is_relative_to(ROOT) else str(path)


def run_in_containers() -> int:
    """Bring the stack of docker-compose.yml up."""
    if not (ROOT / "docker-compose.yml").is_file():
        raise StartError(
            "docker-compose.yml is missing from this clone; run ./quickstart.sh without --docker"
        )
    if not shutil.which("docker"):
        raise StartError(
            "Docker is not installed; install Docker Engine with the Compose plugin, "
            "or run ./quickstart.sh without --docker"
        )
    raise StartError("the container stack is not ready yet")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
