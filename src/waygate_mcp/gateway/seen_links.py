"""Links seen in results: who gave a principal a URI that no list shows.

Knows that a link is somebody's for a day, and only for the principal it was given to. Refuses to know what
is behind it. Spec: protocol.md 5, "URIs"; threat model rules 11, 12 and 39; decision 0071.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["SeenLinks"]

KEPT_S = 24 * 3600.0
MAX_LINKS = 50_000
MAX_LINKS_OF_ONE = 2_000
MAX_URI_CHARS = 8_192

_Reader = tuple[str, bytes]


class SeenLinks:
    """Which provider gave a link, by endpoint and principal. `monotonic` is in seconds.

    Whoever gave a link first keeps it. A principal with too many loses its own oldest; where all
    together are too many, the principal longest without a new one loses all of its.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._links: OrderedDict[_Reader, OrderedDict[str, tuple[str, float]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """The number of links kept."""
        return self._count

    def note(self, endpoint: str, principal: bytes, uri: str, provider: str) -> None:
        """Note that a provider gave a principal a link."""
        if len(uri) > MAX_URI_CHARS:
            return
        reader = (endpoint, principal)
        links = self._links.setdefault(reader, OrderedDict())
        self._links.move_to_end(reader)
        now_s = self._monotonic()
        before = links.get(uri)
        if before is not None and before[0] != provider and before[1] > now_s:
            return
        self._count += before is None
        links[uri] = (provider, now_s + KEPT_S)
        links.move_to_end(uri)
        if len(links) > MAX_LINKS_OF_ONE:
            links.popitem(last=False)
            self._count -= 1
        while self._count > MAX_LINKS:
            _, lost = self._links.popitem(last=False)
            self._count -= len(lost)

    def find(self, endpoint: str, principal: bytes, uri: str) -> str | None:
        """Give the name of the provider a principal has a link from."""
        links = self._links.get((endpoint, principal))
        found = None if links is None else links.get(uri)
        return found[0] if found is not None and found[1] > self._monotonic() else None
