"""Heads that came before: a client that says the same again is not parsed again.

Clients send the same lines before each of their requests, but for the length of the body. Here is kept
what the parser made of them, under their very bytes, for requests that arrive whole and alone; whatever is
not byte for byte what was parsed goes to the parser. Refuses to know who is let in: of that the guard keeps
what it likes with a head, under a deadline of its own.

A head is taken at its second sight, so that lines nobody sends again (a trace id in each) take no room. The
bytes are looked up by their hash, which is keyed with the process's own secret: how far a key agrees with
one that is good, nobody learns. Measured on the small `tools/call` of `bench/`: parser and guard together
cost an eighth of the call.
"""

from __future__ import annotations

from typing import Any

import msgspec

from waygate_mcp.web.guard import MEMORY

__all__ = ["Cut", "Head", "Heads"]

MAX_HEADS = 256
"""Heads of one generation; two are kept."""

MAX_HEAD_BYTES = 4096
MAX_BODY_BYTES = 64 * 1024
_MAX_ONCE = 4096
_END = b"\r\n\r\n"
_LENGTH = b"content-length"
_FRAMING = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_BEFORE_LENGTH = (b"\r\nContent-L", b"\r\ncontent-l")
_BEHIND_NAME = b"ength: "

Cut = tuple[bytes, bytes, bytes]
"""A request that arrived whole: its head without the length, the length as written, its body."""


class Head(msgspec.Struct):
    """What the parser made of a head. `scope` has the members that come from it, `headers` among them.

    `place` is that of the length in `headers`. Under `MEMORY` is kept what is decided by headers alone.
    """

    scope: dict[str, Any]
    headers: list[tuple[bytes, bytes]]
    place: int

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
        if len(data) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            return None
        head, _, body = data.partition(_END)
        before, name, after = head.partition(_BEHIND_NAME)
        length, mark, rest = after.partition(b"\r\n")
        if (
            not body
            or length != b"%d" % len(body)
            or not before.endswith(_BEFORE_LENGTH)
            or len(head) > MAX_HEAD_BYTES
            or len(body) > MAX_BODY_BYTES
        ):
            return None
        # With the end of the name, which stands nowhere before: one place to put the length back to.
        return before + name + mark + rest, length, body

    def find(self, cut: Cut) -> Head | None:
        """Give the head if it is known."""
        key = cut[0]
        head = self._young.get(key)
        if head is None and self._old:
            head = self._old.pop(key, None)
            if head is not None:
                self._keep(key, head)
        return head

    def learn(self, cut: Cut, scope: dict[str, Any]) -> None:
        """Keep what the parser made of a head, if it was seen before and everything in it stands for itself."""
        key = cut[0]
        seen = hash(key)
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
        self._keep(key, Head({**kept, MEMORY: {}}, headers, names.index(_LENGTH)))

    def clear(self) -> None:
        """Forget all of them: they hold credentials, and nobody is connected who could send them again."""
        self._young.clear()
        self._old.clear()

    def _keep(self, key: bytes, head: Head) -> None:
        if len(self._young) >= MAX_HEADS:
            self._old, self._young = self._young, {}
        self._young[key] = head
