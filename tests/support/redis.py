"""A real Redis for tests: a server of its own on a loopback port, nothing kept on the disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

_WITHIN_S = 20


def program() -> str | None:
    """The server's path; None where it is not installed."""
    return shutil.which("redis-server")


@dataclass
class Server:
    """A running Redis."""

    folder: Path
    port: int
    password: str
    tls: Path | None
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        self.process.wait(_WITHIN_S)

    def stop(self) -> None:
        """Let it hang: it takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it hang no longer."""
        self.process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start it again on the same port, empty, and wait until it listens."""
        self.process = _start(self.folder, self.port, self.password, self.tls)

    def keys(self) -> list[str]:
        """The names of all keys."""
        with (
            socket.create_connection(("127.0.0.1", self.port), _WITHIN_S) as dialled,
            dialled.makefile("rwb") as stream,
        ):
            if self.password:
                stream.write(b"AUTH %b\r\n" % self.password.encode())
                stream.flush()
                assert stream.readline() == b"+OK\r\n"
            stream.write(b"KEYS *\r\n")
            stream.flush()
            count = int(stream.readline()[1:])
            return [
                (stream.readline(), stream.readline())[1].decode().strip() for _ in range(count)
            ]


@contextmanager
def redis_server(password: str = "", tls: Path | None = None) -> Iterator[Server]:
    """A server, ended and removed at the end; `tls` holds its certificate and its key."""
    folder = Path(tempfile.mkdtemp(prefix="wg-redis-"))
    try:
        port = free_port()
        server = Server(folder, port, password, tls, _start(folder, port, password, tls))
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, port: int, password: str, tls: Path | None) -> subprocess.Popen[bytes]:
    where = program()
    assert where is not None, "ask `program` first"
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    if tls is None:
        options += ["--port", str(port)]
    else:
        options += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
        for name in ("cert", "key", "ca-cert"):
            options += [f"--tls-{name}-file", str(tls)]
    if password:
        options += ["--requirepass", password]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([where, *options, "--dir", str(folder)], stdout=log, stderr=log)
    until_s = time.monotonic() + _WITHIN_S
    while time.monotonic() < until_s:
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process
    process.kill()
    raise AssertionError("Redis does not answer")
