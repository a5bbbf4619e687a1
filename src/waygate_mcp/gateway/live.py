"""What outlives a reload of the configuration: sessions, parked calls, listeners, names, links.

Knows these and how they end together. Refuses to know any generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from waygate_mcp.errors import InterruptedCallError, UnauthenticatedError
from waygate_mcp.gateway.hub import Hub
from waygate_mcp.gateway.name_table import NameTable
from waygate_mcp.gateway.parking import Parking
from waygate_mcp.gateway.places import ALONE, Place
from waygate_mcp.gateway.seen_links import SeenLinks
from waygate_mcp.gateway.sessions import Sessions
from waygate_mcp.gateway.tickets import Tickets
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.seal import KeyRing

__all__ = ["LiveState", "credential_ended"]


def credential_ended() -> UnauthenticatedError:
    """Give what a client is told whose key ended while its call was under way."""
    return UnauthenticatedError(
        reason="ended",
        safe_message="The key of this call was revoked or has expired; the call was ended.",
    )


class LiveState:
    """The process-wide state of conversations.

    `now` is the wall clock in seconds since 1970, `monotonic` the steady one. `node` names this
    process with its slot and a boot epoch, so that a restarted one is not mistaken for it. `names` are
    the public names that are somebody's; without a table they last as long as the process. `dismissed` are
    the ids of principals whose credential ended.
    """

    def __init__(
        self,
        ring: KeyRing,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        names: NameTable | None = None,
        place: Place = ALONE,
    ) -> None:
        self.place = place
        self.node = place.new_node()
        self.ring = ring
        self.now = now
        self.monotonic = monotonic
        self.hub = Hub()
        self.names = names or NameTable()
        self.links = SeenLinks(monotonic)
        self.sessions = Sessions(ring, self.hub, now, monotonic, place)
        self.parking = Parking(monotonic)
        self.tickets = Tickets(ring, self.node, now)
        self.listen_streams: Counter[str] = Counter()
        self.dismissed: set[str] = set()

    def dismiss(self, principal: Principal) -> None:
        """End what a principal holds open, since its credential is good no more.

        It is within a moment, not at its next request (threat model rule 7). Calls on HTTP are their doors'
        to end, which hear of it before this.
        """
        self.dismissed.add(principal.id)
        for exchange in self.parking.all():
            if exchange.call.principal.id == principal.id:
                exchange.cancel("the credential is good no more", credential_ended())
        self.sessions.end_for(principal, credential_ended)
        self.hub.close_for(principal.id)

    def drain(self) -> None:
        """End what would otherwise last: listeners gracefully, parked calls as interrupted."""
        self.hub.close()
        for exchange in self.parking.all():
            if exchange.front is None:
                exchange.cancel("server stops", InterruptedCallError())

    def close(self) -> None:
        """End everything."""
        self.drain()
        self.sessions.close()
