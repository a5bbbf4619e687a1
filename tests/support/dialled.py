"""What this process dials, heard from the interpreter itself, and stopped before the first packet.

An audit hook sees every `connect` and `sendto` of the process, whoever calls it. What is not loopback ends there with
an OSError: it was recorded, and no packet left. The hook cannot be taken out again, so it does nothing outside of
`recording()`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOPBACK = ("127.0.0.1", "::1")
_recorders: list[list[tuple[str, int]]] = []
_is_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recorders or event not in _EVENTS:
        return
    address = arguments[1]
    if not isinstance(address, tuple):
        return  # a Unix socket of this machine
    for recorder in _recorders:
        recorder.append((str(address[0]), int(address[1])))
    if address[0] not in _LOOPBACK:
        raise OSError(f"stopped by the recorder: {address[0]}")


@contextmanager
def recording() -> Iterator[list[tuple[str, int]]]:
    """Give the addresses that are dialled until the block ends."""
    global _is_hooked  # noqa: PLW0603 - there is one interpreter to hook
    if not _is_hooked:
        sys.addaudithook(_hear)
        _is_hooked = True
    dialled: list[tuple[str, int]] = []
    _recorders.append(dialled)
    try:
        yield dialled
    finally:
        _recorders.remove(dialled)


def resolving(patch: pytest.MonkeyPatch, answer: Callable[[str], Sequence[str]]) -> list[str]:
    """Let the system's resolver answer with what `answer` says; gives the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        asked.append(name)
        found = answer(name)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, int(port or 0), 0, 0) if ":" in address else (address, int(port or 0)),
            )
            for address in found
        ]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked
