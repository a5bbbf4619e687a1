"""Ports for servers the tests start, and start again."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

_TRIES = 200
# Below those a system gives to who connects somewhere (32768 on Linux, 49152 elsewhere): a server that is killed
# and started again would now and then find its port taken by somebody's connection.
_LOWEST, _HIGHEST = 15_000, 32_000


def free_port() -> int:
    """Give a port of the loopback address that was free a moment ago.

    Raises:
        OSError: none was, of many tried.
    """
    for _ in range(_TRIES):
        port = random.randint(_LOWEST, _HIGHEST)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no port of the loopback address is free")
