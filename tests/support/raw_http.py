"""HTTP by hand: bytes as a test writes them, answers taken apart. For requests no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """One response. `status` is 0 where the server closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection to the server behind `base_url`."""

    def __init__(self, base_url: str, timeout_s: float = TIMEOUT_S) -> None:
        address = urlsplit(base_url)
        assert address.hostname, base_url
        assert address.port, base_url
        self._socket = socket.create_connection((address.hostname, address.port), timeout_s)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has closed already is no error of the test's."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def end(self) -> None:
        """Send no more, and stay to listen."""
        self._socket.shutdown(socket.SHUT_WR)

    def read_line(self) -> bytes:
        """One line of the answer, without its end; empty when the server has closed."""
        return self._stream.readline().rstrip(b"\r\n")

    def read_bytes(self, size: int) -> bytes:
        """So many bytes of the answer, fewer where the server closed."""
        return self._stream.read(size)

    def is_at_end(self) -> bool:
        """Whether nothing more comes of a chunked or closed answer: its last chunk was seen, or the end."""
        return self._stream.peek(1)[:1] in {b"", b"0"}

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers; 0 where the server closed."""
        try:
            first = self.read_line()
        except ConnectionResetError:
            return 0, {}
        if not first:
            return 0, {}
        headers: dict[str, str] = {}
        while line := self.read_line():
            name, _, value = line.decode("latin-1").partition(":")
            assert name.lower() not in headers or name.lower() == "set-cookie", f"{name} twice"
            headers[name.lower()] = value.strip()
        return int(first.split(b" ")[1]), headers

    def read(self) -> Answer:
        """One whole answer of known length."""
        status, headers = self.read_head()
        length = int(headers.get("content-length", "0"))
        return Answer(status, headers, self._stream.read(length))

    def is_closed(self) -> bool:
        """Whether the server has closed, waiting for it."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True


def ask(base_url: str, data: bytes, timeout_s: float = TIMEOUT_S) -> Answer:
    """Send bytes on a connection of their own and read one answer."""
    with Wire(base_url, timeout_s) as wire:
        wire.send(data)
        return wire.read()


def request(
    headers: dict[str, str | None] | None = None,
    body: bytes = b"",
    *,
    line: str = "POST /mcp HTTP/1.1",
    more: str = "",
) -> bytes:
    """A request that would be let in as JSON, changed: None leaves a header out, `more` adds lines."""
    usual: dict[str, str | None] = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [line, *(f"{name}: {value}" for name, value in usual.items() if value is not None)]
    head = "\r\n".join(lines) + "\r\n" + more + "\r\n"
    return head.encode("latin-1") + body
