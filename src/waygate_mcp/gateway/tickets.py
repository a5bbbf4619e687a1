"""The sealed texts in `requestState`: which call a modern client's retry belongs to.

Knows what a ticket binds (endpoint, method, name, arguments, principal, expiry) and checks all of it
on return. Every failure is the same error (protocol.md 6.1).
Spec: 2026-07-28 basic/patterns/mrtr, server requirements 4 and 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec

from waygate_mcp.errors import InvalidStateError, TooLargeError
from waygate_mcp.model.call import Call
from waygate_mcp.protocol.seal import KeyRing, SealError

__all__ = ["INVALID_STATE", "Ticket", "Tickets"]

_PURPOSE = "ticket"
INVALID_STATE = "Invalid or expired requestState"
"""What a client is told of every ticket that is not good, whatever is wrong with it."""
MAX_STATE_BYTES = 48 * 1024
"""The largest text a provider may put into a ticket (protocol.md 6.1)."""
_encode = msgspec.msgpack.Encoder().encode
_digest_encode = msgspec.json.Encoder(order="sorted").encode


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What a ticket holds. `state` is the provider's own text (relay), `exchange` names the parked call.

    `binding` is a digest over endpoint, method, name, arguments and principal. `expires_at` is in
    seconds since 1970, since a ticket may come back to another process.
    """

    kind: Literal["parked", "relay"]
    binding: bytes
    expires_at: int
    node: str = ""
    exchange: str = ""
    round: int = 0
    state: str | None = None


_decode = msgspec.msgpack.Decoder(Ticket).decode


def _binding(call: Call) -> bytes:
    """Digest all a ticket must come back with. Key order and spacing of arguments do not matter."""
    facts = (call.endpoint, call.method, call.name, call.params.get("arguments"))
    return hashlib.blake2b(
        _digest_encode(facts), key=call.principal.fingerprint, digest_size=16
    ).digest()


class Tickets:
    """Writes and reads tickets.

    `now` is the wall clock in seconds; tickets live `life_s` seconds.
    """

    def __init__(self, ring: KeyRing, node: str, now: Callable[[], float]) -> None:
        self._ring = ring
        self._node = node
        self._now = now

    def for_parked(self, call: Call, exchange: str, round_: int, life_s: float) -> str:
        """Seal a ticket for a call that waits on this node."""
        return self._seal(
            Ticket("parked", _binding(call), self._expiry(life_s), self._node, exchange, round_)
        )

    def for_relay(self, call: Call, state: str | None, life_s: float) -> str:
        """Seal a provider's own state; nothing is kept here.

        Raises:
            TooLargeError: the state has more than 48 KiB.
        """
        if state is not None and len(state.encode()) > MAX_STATE_BYTES:
            text = f"The state of the call is larger than {MAX_STATE_BYTES} bytes."
            raise TooLargeError(MAX_STATE_BYTES, safe_message=text)
        return self._seal(Ticket("relay", _binding(call), self._expiry(life_s), state=state))

    def open(self, text: object, call: Call) -> Ticket:
        """Read a ticket that came back with `call`.

        Raises:
            InvalidStateError: forged, altered, expired, or of another call or principal.
        """
        if not isinstance(text, str):
            raise InvalidStateError(reason="not_text", safe_message=INVALID_STATE)
        try:
            ticket = _decode(self._ring.open(text, _PURPOSE))
        except (SealError, msgspec.DecodeError) as exc:
            raise InvalidStateError(reason="forged", safe_message=INVALID_STATE) from exc
        if ticket.binding != _binding(call):
            raise InvalidStateError(reason="foreign", safe_message=INVALID_STATE)
        if ticket.expires_at < self._now():
            raise InvalidStateError(reason="expired", safe_message=INVALID_STATE)
        return ticket

    def _seal(self, ticket: Ticket) -> str:
        return self._ring.seal(_encode(ticket), _PURPOSE)

    def _expiry(self, life_s: float) -> int:
        return int(self._now() + life_s)
