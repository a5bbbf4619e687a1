"""Starts the real `waygate` program and stops it, so that tests see what an operator sees.

Knows the command line, the environment it needs and what a clean stop looks like. Refuses to know MCP:
clients are the business of the tests. Every gateway gets its own folder and a clean environment, so
nothing of the machine (settings, keys, a `.env`) reaches it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port

KEY = "wg_bootstrap_4f6d1c0a9e8b7d6c5f4e3d2c1b0a99887766554433221100"
"""The bootstrap key every gateway of the tests is given, unless a test says otherwise."""

EVERYTHING: Mapping[str, object] = {
    "version": 1,
    "plugins": {"everything": {"use": "waygate_mcp.testing.everything"}},
}
"""A document that serves the era-adaptive fixture of the conformance suite, keys required."""

_READY_WITHIN_S = 30.0
_LOGGED_WITHIN_S = 20.0
_STOPPED_WITHIN_S = 20.0
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "PYTHONPATH")


def waygate() -> str:
    """The command beside the interpreter that runs the tests: what `pip install` made."""
    return str(Path(sys.executable).parent / "waygate")


def clean_environment(folder: Path, key: str | None = KEY) -> dict[str, str]:
    """What a gateway in `folder` may see: no setting of this machine, coverage measuring kept."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith("COVERAGE")
    }
    own = {
        "HOME": str(folder),
        "WAYGATE_DATA_DIR": str(folder / "data"),
        "WAYGATE_LOG_DIR": str(folder / "logs"),
        # Tests of other things call faster than people do; those of rates say their own.
        "WAYGATE_RATE_LIMIT": "1000000000",
    }
    return kept | own | ({} if key is None else {"WAYGATE_API_KEY": key})


def write_document(folder: Path, document: Mapping[str, object]) -> Path:
    """Write `document` as the gateway's own file (JSON is YAML) and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "waygate.yaml"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def wait_for_port(port: int, within_s: float) -> None:
    """Wait until something listens on this port of the loopback address.

    Raises:
        AssertionError: nothing did in time.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nothing listens on port {port} after {within_s:.0f} s")


@dataclass
class Gateway:
    """One running `waygate serve`. `url` is its MCP endpoint, `key` what to send as bearer token."""

    process: subprocess.Popen[bytes]
    base_url: str
    key: str | None
    folder: Path
    output: Path
    stopped: bool = field(default=False)

    @property
    def url(self) -> str:
        """Where MCP clients connect."""
        return f"{self.base_url}/mcp"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an authorised request; empty where keys are off."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    def log(self) -> str:
        """All it wrote so far: standard output and error, then the files of its log folder."""
        files = [self.output, *sorted((self.folder / "logs").rglob("*"))]
        return "\n".join(
            file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()
        )

    def wait_for_log(self, text: str) -> None:
        """Wait until the log holds `text`: lines are written by a thread that lets them gather.

        Raises:
            AssertionError: it does not in time.
        """
        deadline = time.monotonic() + _LOGGED_WITHIN_S
        while text not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log\n{tail(self.log())}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to stop and require a clean end: exit code 0, no traceback, no key in the log."""
        if self.stopped:
            return
        self.stopped = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = wait_or_kill(self.process, "SIGTERM", self.log)
        assert code == 0, f"waygate serve ended with {code}, not 0\n{tail(self.log())}"
        assert_clean(self.log(), self.key)


def wait_or_kill(process: subprocess.Popen[bytes], after: str, log: Callable[[], str]) -> int:
    """The exit code of `process`; one that does not end in time is killed and is a failure."""
    try:
        return process.wait(_STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOPPED_WITHIN_S)
        raise AssertionError(
            f"still running {_STOPPED_WITHIN_S:.0f} s after {after}\n{tail(log())}"
        ) from None


def assert_clean(log: str, key: str | None) -> None:
    """A gateway that served well wrote no traceback, and never its key."""
    where = log.find("Traceback (most recent call last)")
    assert where < 0, f"a traceback stands in the log:\n{log[max(0, where - 500) : where + 6000]}"
    assert key is None or key not in log, "the key stands in the log"


def tail(text: str, size: int = 4000) -> str:
    """The end of a log, enough to see why."""
    return text[-size:]


@contextlib.contextmanager
def serving(
    folder: Path,
    document: Mapping[str, object] | None = EVERYTHING,
    *,
    key: str | None = KEY,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Gateway]:
    """Run `waygate serve` with `document` in `folder` until the block ends, then require a clean stop.

    None serves the document that lies there already. With `auth: {mode: none}` in the document pass
    `key=None`. A block that raises stops the gateway too; its own error is then the one that is seen.
    `port` is one of `free_port`, where the document names it.
    """
    path = folder / "waygate.yaml" if document is None else write_document(folder, document)
    port = port or free_port()
    output = folder / "output.log"
    command = [waygate(), "serve", "-c", str(path), "--port", str(port), *arguments]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(folder, key) | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    gateway = Gateway(process, f"http://127.0.0.1:{port}", key, folder, output)
    try:
        _await_ready(gateway, port)
        yield gateway
    except BaseException as error:
        _end(process)
        error.add_note(f"the gateway's log ends so:\n{tail(gateway.log())}")
        raise
    gateway.stop()


def _await_ready(gateway: Gateway, port: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    seen = "no answer"
    while time.monotonic() < deadline:
        code = gateway.process.poll()
        assert code is None, f"waygate serve ended with {code} at start\n{tail(gateway.log())}"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/ready")
                response = connection.getresponse()
                seen = f"{response.status} {response.read(500)!r}"
                if response.status == 200:
                    return
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        time.sleep(0.02)
    raise AssertionError(
        f"not ready after {_READY_WITHIN_S:.0f} s; /ready: {seen}\n{tail(gateway.log())}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@dataclass(frozen=True)
class StdioGateway:
    """How a client starts `waygate stdio`: command, arguments, environment, working folder."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path

    def log(self) -> str:
        """What it wrote into its log folder."""
        files = sorted((self.folder / "logs").rglob("*"))
        return "\n".join(
            file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()
        )


def stdio_command(folder: Path, document: Mapping[str, object] = EVERYTHING) -> StdioGateway:
    """The command of a gateway with `document` behind standard input and output.

    The process is its own user there, so no key is given.
    """
    path = write_document(folder, document)
    return StdioGateway(
        waygate(), ("stdio", "-c", str(path)), clean_environment(folder, None), folder
    )
