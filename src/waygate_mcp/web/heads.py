"""Heads that came before: a client that says the same again is not parsed again.

Clients send the same lines before each of their requests, but for the length of the body. Here is kept
what the parser made of them, under their very bytes, for requests that arrive whole and alone; whatever is
not byte for byte what was parsed goes to the parser. Refuses to know who is let in: of that the guard keeps
what it likes in a head's `memory`, under a deadline of its own.

A head is taken at its second sight, so that lines nobody sends again (a trace id in each) take no room. The
bytes are looked up by their hash, which is keyed with the process's own secret: how far a key agrees with
one that is good, nobody learns. Measured on the small `tools/call` of `bench/`: parser and guard together
cost an eighth of the call.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["Cut", "Head", "Heads"]

MAX_HEADS = 256
"""Heads of one generation; two are kept."""

MAX_HEAD_BYTES = 4096
MAX_BODY_BYTES = 64 * 1024
_MAX_ONCE = 4096
_END = b"\r\n\r\n"
_LENGTH = b"content-length"
_FRAMING = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_length_in = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([1-9][0-9]{0,4})\r\n").search


class Cut(msgspec.Struct, frozen=True):
    """A request that arrived whole: its head without the length, the length as written, where its body begins."""

    key: bytes
    length: bytes
    body_at: int


class Head(msgspec.Struct):
    """What the parser made of a head. `scope` has the members that come from it, `headers` among them.

    `place` is that of the length in `headers`; `memory` is for whoever decides by headers alone.
    """

    scope: dict[str, Any]
    headers: list[tuple[bytes, bytes]]
    place: int
    memory: dict[str, Any]

    def take(self, length: bytes) -> dict[str, Any]:
        """Give the members of a scope, for a body of this length. What they hold is not to be changed."""
        headers = self.headers
        if headers[self.place][1] != length:
            headers = self.headers = headers.copy()
            headers[self.place] = (_LENGTH, length)
            self.scope = {**self.scope, "headers": headers}
        return self.scope


class Heads:
    """The heads of one process."""

    def __init__(self) -> None:
        self._young: dict[bytes, Head] = {}
        self._old: dict[bytes, Head] = {}
        self._once: set[int] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @staticmethod
    def cut(data: bytes) -> Cut | None:
        """Cut what arrived into head and body, None where it is not exactly one request with a body."""
        body_at = data.find(_END) + 4
        if not 4 <= body_at <= MAX_HEAD_BYTES:
            return None
        found = _length_in(data, 0, body_at)
        if found is None:
            return None
        start, end = found.span(1)
        length = data[start:end]
        body_bytes = int(length)
        if len(data) != body_at + body_bytes or body_bytes > MAX_BODY_BYTES:
            return None
        return Cut(data[:start] + data[end:body_at], length, body_at)

    def find(self, cut: Cut) -> Head | None:
        """Give the head if it is known."""
        head = self._young.get(cut.key)
        if head is None and self._old:
            head = self._old.pop(cut.key, None)
            if head is not None:
                self._keep(cut.key, head)
        return head

    def learn(self, cut: Cut, scope: dict[str, Any]) -> None:
        """Keep what the parser made of a head, if it was seen before and everything in it stands for itself."""
        seen = hash(cut.key)
        if seen not in self._once:
            if len(self._once) >= _MAX_ONCE:
                self._once.clear()
            self._once.add(seen)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        names = [name for name, _ in headers]
        if (
            scope["method"] != "POST"
            or len(set(names)) != len(names)
            or not _FRAMING.isdisjoint(names)
        ):
            return
        members = ("method", "path", "raw_path", "query_string", "headers")
        kept = {member: scope[member] for member in members}
        self._keep(cut.key, Head(kept, headers, names.index(_LENGTH), {}))

    def clear(self) -> None:
        """Forget all of them: they hold credentials, and nobody is connected who could send them again."""
        self._young.clear()
        self._old.clear()

    def _keep(self, key: bytes, head: Head) -> None:
        if len(self._young) >= MAX_HEADS:
            self._old, self._young = self._young, {}
        self._young[key] = head
