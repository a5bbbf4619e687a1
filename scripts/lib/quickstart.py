"""What quickstart.sh does: environment, folder, key, server, self-test, words. Standard library only.

Knows the order of a first start and how each step fails; runs with any Python 3.11+, before anything is installed.
Refuses to know how the gateway works inside: it uses the `waygate` command and HTTP, as a person would.

    folder (./.waygate)   waygate.yaml · api.key · data/ · logs/     made once, never overwritten
    place (the clone)     .env, which `waygate` commands run there read: they reach this gateway without options
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from quickstart_docker import run_in_containers
from quickstart_key import Key, find_key, write_settings
from quickstart_parts import (
    HOST,
    ROOT,
    WAYGATE,
    Plan,
    StartError,
    check_greeting,
    check_stranger,
    free_port,
    output_of,
    port_number,
    refuse_taken,
    say,
    shown,
    status_of,
    tell,
)

READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 15.0
STARTED = time.monotonic()


def main(arguments: Sequence[str]) -> int:
    """Run and give the exit code: 0 well, 1 a step failed, 2 wrong use."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        if options.docker:
            folder = (
                Path(options.came_from, options.data_dir).absolute() if options.data_dir else None
            )
            return run_in_containers(options.port, default_port(), folder, is_check=options.check)
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
    if options.data_dir:
        folder = Path(options.came_from, options.data_dir).absolute()
        yield Plan(folder, folder, port, is_check=options.check)
    elif options.check:
        with tempfile.TemporaryDirectory(prefix="waygate-check-") as temporary:
            yield Plan(Path(temporary), Path(temporary), port, is_check=True)
    else:
        yield Plan(ROOT / ".waygate", ROOT, port, is_check=False)


def default_port() -> int:
    """The port of the environment, else 8000."""
    try:
        return port_number(os.environ.get("WAYGATE_PORT") or "8000")
    except argparse.ArgumentTypeError as exc:
        raise StartError(f"WAYGATE_PORT: {exc}") from None


def run(plan: Plan) -> int:
    """Folder, key, server, self-test, words; then serve until somebody stops it."""
    environment = environment_for(plan)
    say(f"preparing {shown(plan.folder)}")
    prepare(plan, environment)
    key = find_key(plan, environment)
    is_reached_plainly = write_settings(plan, key)
    say(f"starting the gateway on {plan.url}")
    with server(plan, environment) as process:
        wait_until_ready(plan, process)
        say("self-test")
        self_test(plan, key)
        introduce(plan, key, is_reached_plainly)
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
    for line in output_of(command, environment, plan.place).splitlines():
        if not line.startswith("next:"):
            tell(f"    {line}")


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
            command, cwd=plan.place, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
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


def last_words(log_file: Path, lines: int = 12) -> str:
    """The end of the server's output."""
    text = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line[:400]}" for line in text[-lines:])


def self_test(plan: Plan, key: Key) -> None:
    """A stranger is refused, and a tool answers whoever has the key."""
    url = f"{plan.url}/mcp"
    check_stranger(url)
    check_greeting(
        client(plan, key, "tools", "call", "greet", '{"name": "quickstart"}', "--url", url)
    )


def introduce(plan: Plan, key: Key, is_reached_plainly: bool) -> None:
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
    key_option = f" --key-file {shown(key.file)}" if key.file else ""
    reach = "" if is_reached_plainly else f" {' '.join(address)}{key_option}"
    there = "" if plan.place == ROOT else f"   (in {plan.place})"
    tell(f"    Tools    {WAYGATE if there else shown(WAYGATE)} tools list{reach}{there}")
    tell(
        f"    Clients  {shown(WAYGATE)} connect (a list; connect NAME prints what that client wants)"
    )
    if not plan.is_check:
        tell("\nCtrl-C stops it; ./quickstart.sh starts it again.")


def client(plan: Plan, key: Key, *arguments: str) -> str:
    """Run a `waygate` command as a client with the key and no other setting, and give what it printed."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("WAYGATE_")}
    environment["WAYGATE_API_KEY"] = key.text
    return output_of(
        [str(WAYGATE), *arguments], environment, plan.folder / "data"
    )  # where no .env lies


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
