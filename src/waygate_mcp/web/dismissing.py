"""What happens here to the calls of a key that is good no more.

Knows which calls are under way at a door. Refuses to know why a key ended; `auth.key_book` finds that out, and
`gateway.live` tells. No call pays for it: those that take longer than a moment are known anyway.
Spec: threat model rule 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.live import LiveState, credential_ended
from waygate_mcp.model.principal import Principal
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.visit import Visit

__all__ = ["check_still_good", "end_if_dismissed", "ends_calls"]


_REASON = "the credential is good no more"


class UnderWay(Protocol):
    """What carries a call; `exchange` is None once it is over."""

    exchange: Exchange | None


def ends_calls(under_way: Callable[[], Iterable[UnderWay]]) -> Callable[[Principal], None]:
    """Give what ends the calls of a principal that is dismissed; their clients read why."""

    def dismiss(principal: Principal) -> None:
        for one in under_way():
            exchange = one.exchange
            if exchange is None or exchange.is_settled:
                continue
            if exchange.call.principal.id == principal.id:
                exchange.cancel(_REASON, credential_ended())

    return dismiss


def end_if_dismissed(exchange: Exchange, live: LiveState) -> None:
    """End a call that began after its key had ended: for a second a connection remembers who it is."""
    if not exchange.is_settled and exchange.call.principal.id in live.dismissed:
        exchange.cancel(_REASON, credential_ended())


def check_still_good(visit: Visit, guard: Guard, live: LiveState) -> None:
    """Check again who was let in before the body of a request had arrived.

    Raises:
        Refused: 401, the key ended meanwhile.
    """
    if visit.principal.id not in live.dismissed:
        return
    error = credential_ended()
    challenge = guard.resource.challenge(visit.endpoint, is_invalid=True)
    headers = ((b"www-authenticate", challenge),)
    raise Refused(401, error.code, error.safe_message, headers, visit.request_id)
