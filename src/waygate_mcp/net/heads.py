"""The head of a request, written so that nothing in it can be taken for something else.

Knows which header names and values may be sent by whom. Refuses to know connections.
Spec: RFC 9110 5; RFC 9112 3, 5, 6; threat model rules 15 and 20.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.net.http import Header

__all__ = ["HeadWriter", "check_headers", "check_path"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PATH = re.compile(r"/[!-~]*")
_MAX_VALUE = 16 * 1024
_MAX_KNOWN = 512
_MAX_KNOWN_HEAD = 2 * 1024
# What says where a message ends, to whom it goes and how long a connection lasts is said here only.
_OURS = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_known_names: set[str] = set()
_METHODS = frozenset(("DELETE", "GET", "POST"))


def check_headers(headers: Sequence[Header]) -> None:
    """See that headers can be sent as they are.

    Raises:
        LocalProtocolError: a name or value that is none, or a header that is not the caller's.
    """
    for name, value in headers:
        if name not in _known_names:
            if not _NAME.fullmatch(name) or name.lower() in _OURS:
                raise LocalProtocolError(f"the header {name[:60]!r} must not be sent")
            if len(_known_names) < _MAX_KNOWN:  # names of strangers must not fill the memory
                _known_names.add(name)
        # Printable ASCII is the common case, and quick to see; the pattern has the last word.
        is_plain = value.isascii() and value.isprintable()
        if len(value) > _MAX_VALUE or not (is_plain or _VALUE.fullmatch(value)):
            raise LocalProtocolError(f"the value of the header {name!r} must not be sent")


def check_path(path: str) -> None:
    """See that `path` is absolute and plain ASCII without blanks.

    Raises:
        LocalProtocolError: it is not.
    """
    if not _PATH.fullmatch(path):
        raise LocalProtocolError("the path must not be sent")


class HeadWriter:
    """Writes request heads for one origin; `headers` stand in each of them.

    Raises:
        LocalProtocolError: at once, where one of `headers` must not be sent.
    """

    def __init__(self, authority: str, headers: Sequence[Header] = ()) -> None:
        check_headers(headers)
        fixed = [("host", authority), ("accept-encoding", "identity")]
        if not any(name.lower() == "user-agent" for name, _ in headers):
            fixed.append(("user-agent", "waygate"))
        fixed += headers
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed)
        # By the very tuple of headers: who sends often keeps one. To compare them would cost more than to write.
        self._known: dict[tuple[str, str, int], tuple[tuple[Header, ...], bytes]] = {}

    def write(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> bytes:
        """Give a request as one piece, its body included.

        Raises:
            LocalProtocolError: something in it must not be sent.
        """
        key = (method, path, id(headers))
        known = self._known.get(key)
        if known is not None and known[0] is headers:
            head = known[1]
        else:
            head = self._write_head(method, path, headers)
            if type(headers) is tuple and len(head) <= _MAX_KNOWN_HEAD:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = (headers, head)
        if body or method == "POST":
            return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        return head + b"\r\n"

    def _write_head(self, method: str, path: str, headers: Sequence[Header]) -> bytes:
        """Give all of a head that does not depend on the body."""
        check_headers(headers)
        if method not in _METHODS:
            raise LocalProtocolError(f"the method {method[:20]!r} must not be sent")
        check_path(path)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"{method} {path} HTTP/1.1\r\n{self._fixed}{lines}".encode("ascii")
