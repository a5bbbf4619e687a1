"""Looks at a gateway through its published port, with the standard library only.

    python container_probe.py status URL             the status of a GET, `none` without an answer
    python container_probe.py call URL               the status of a call that carries no key
    python container_probe.py wait URL SECONDS       until a GET is answered 200; exit 1 if it is not in time
    python container_probe.py addresses PORT         whether the machine's other addresses answer: `open` or `closed`

Knows HTTP. Refuses to know keys and containers.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import time
from urllib.parse import urlsplit


def status(url: str, method: str = "GET", body: str | None = None) -> str:
    """The HTTP status of an answer, `none` where nothing answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with contextlib.closing(connection):
        try:
            connection.request(method, parts.path, body, headers)
            return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return "none"


def wait(url: str, within_s: float) -> int:
    """Ask until the answer is 200; the exit code."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if status(url) == "200":
            return 0
        time.sleep(0.05)
    return 1


def other_addresses() -> set[str]:
    """The addresses of this machine that are not loopback, as far as its own name and routes tell."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        found.update(str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(
            ("192.0.2.1", 9)
        )  # nothing is sent: the system only chooses an address of ours
        found.add(probe.getsockname()[0])
    return {one for one in found if not one.startswith("127.") and one != "::1"}


def addresses(port: int) -> str:
    """`open` and where, if the port answers on an address other than loopback; `closed` if on none."""
    for address in sorted(other_addresses()):
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2):
            return f"open on {address}"
    return "closed"


def main(arguments: list[str]) -> int:
    """Do one thing and print what came of it."""
    match arguments:
        case ["status", url]:
            print(status(url))
        case ["call", url]:
            listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            print(status(url, "POST", json.dumps(listing)))
        case ["wait", url, seconds]:
            return wait(url, float(seconds))
        case ["addresses", port]:
            print(addresses(int(port)))
        case _:
            raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
