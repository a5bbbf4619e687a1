"""Who subscribed to what at an upstream, so that a new connection knows it too.

Knows the calls by which clients subscribed, until they take that back or their session ends. Refuses to
know how an upstream is subscribed to: the same calls are made again.
Spec: protocol.md 8, "watchers".
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.event import ResourceUpdated
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.model.ports import Announce

__all__ = ["Subscriptions"]

_log = logging.getLogger(__name__)
_MOST = 10_000
_RENEWED_WITHIN_S = 30.0

_Key = tuple[str, bytes, int, str | None]


class Subscriptions:
    """The subscriptions in force, each as the calls that made it.

    Beyond `most` resources the oldest are forgotten: a new connection will not hear of those.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        self._most = most
        self._calls: OrderedDict[_Key, list[Call]] = OrderedDict()

    def __len__(self) -> int:
        """The number of resources subscribed to, counted for each subscriber."""
        return len(self._calls)

    def calls(self) -> list[Call]:
        """Give the calls to make again, the oldest first."""
        return [call for calls in self._calls.values() for call in calls]

    def take_over(self, other: Subscriptions) -> None:
        """Take those of another connection for one's own; of several the last has all."""
        self._calls = OrderedDict((key, list(calls)) for key, calls in other._calls.items())

    def note(self, call: Call) -> None:
        """Remember a call that subscribed; nothing of its request is kept alive."""
        kept = msgspec.structs.replace(call, caller=NOBODY, body=b"", headers=None)
        self._calls.setdefault(_key(call), []).append(kept)
        while len(self._calls) > self._most:
            self._calls.popitem(last=False)

    def take_back(self, call: Call) -> None:
        """Forget one subscription of whoever calls."""
        calls = self._calls.get(_key(call))
        if calls:
            calls.pop()
            if not calls:
                del self._calls[_key(call)]

    def forget_session(self, session_id: str) -> None:
        """Forget all subscriptions of a session at our door."""
        for key in [key for key in self._calls if key[3] == session_id]:
            del self._calls[key]

    async def renew(
        self,
        name: str,
        make: Callable[[Call], Awaitable[Outcome]],
        announce: Announce,
        now_s: float,
    ) -> None:
        """Make every subscription again by `make`, and announce each resource as changed.

        What changed while nobody listened is not known. `now_s` is the monotonic time.
        """
        for call in self.calls():
            if not any(call is one for one in self._calls.get(_key(call), ())):
                continue  # taken back meanwhile
            again = msgspec.structs.replace(call, deadline_s=now_s + _RENEWED_WITHIN_S)
            try:
                async with asyncio.timeout(_RENEWED_WITHIN_S):
                    await make(again)
            except (WaygateError, TimeoutError) as exc:
                _log.warning("%s: a subscription was not renewed: %s", name, type(exc).__name__)
            else:
                announce(ResourceUpdated(name, call.target))


def _key(call: Call) -> _Key:
    return (call.target, call.principal.fingerprint, call.capabilities.bits, call.session_id)
