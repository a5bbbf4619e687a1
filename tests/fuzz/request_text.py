"""An HTTP request as a fuzz input: `POST /path`, header lines, an empty line, the body.

Reads anything: what is no header line is left out, a missing part is empty.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request of the corpus or what a mutation left of one. Header names are lower-case."""

    method: str
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def read_request(data: bytes) -> Request:
    """Take an input apart."""
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    method, _, path = first.partition(b" ")
    headers = []
    for text in rest:
        name, colon, value = text.partition(b":")
        if colon:
            headers.append((name.strip().lower(), value.strip(b" \t\r")))
    return Request(method.decode("latin-1"), path, tuple(headers), body)
