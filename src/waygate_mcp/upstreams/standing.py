"""Subscriptions that stand: made again at a connector that takes the place of another.

Knows who subscribed to what, by the calls that did. Refuses to send anything.
"""

from __future__ import annotations

import msgspec

from waygate_mcp.model.call import Call
from waygate_mcp.model.nobody import NOBODY

__all__ = ["Standing"]

_Key = tuple[str | None, bytes, int, str]
_MAX_KEPT = 10_000


class _Kept(msgspec.Struct):
    """The call that subscribed, and how often it was made."""

    call: Call
    times: int


class Standing:
    """The subscriptions of one upstream; more than ten thousand are not remembered."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}

    def __len__(self) -> int:
        """The number of subscriptions, each counted once however often it was made."""
        return len(self._kept)

    def note(self, call: Call) -> None:
        """Take note of a call that succeeded, where it is about a subscription."""
        if call.method == "resources/subscribe":
            kept = self._kept.get(_key(call))
            if kept is not None:
                kept.times += 1
            elif len(self._kept) < _MAX_KEPT:
                silent = msgspec.structs.replace(call, caller=NOBODY, progress_token=None)
                self._kept[_key(call)] = _Kept(silent, 1)
        elif call.method == "resources/unsubscribe":
            kept = self._kept.get(_key(call))
            if kept is not None and kept.times > 1:
                kept.times -= 1
            else:
                self._kept.pop(_key(call), None)

    def drop(self, call: Call) -> None:
        """Remember a subscription no more, because it could not be made again."""
        self._kept.pop(_key(call), None)

    def forget(self, session_id: str) -> None:
        """Remember nothing of a session at our door that is over."""
        for key in [key for key in self._kept if key[0] == session_id]:
            del self._kept[key]

    def calls(self) -> list[Call]:
        """Give the calls that have to be made again, in the order they were made, repeated ones too."""
        return [kept.call for kept in self._kept.values() for _ in range(kept.times)]


def _key(call: Call) -> _Key:
    return (call.session_id, call.principal.fingerprint, call.capabilities.bits, call.target)
