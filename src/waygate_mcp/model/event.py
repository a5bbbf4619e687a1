"""What happened outside of any call.

Knows changes a client may want to hear of. Refuses to know who listens.
"""

from __future__ import annotations

import msgspec

from waygate_mcp.model.catalog import Kind

__all__ = ["ElicitationCompleted", "Event", "ListChanged", "ResourceUpdated"]


class ListChanged(msgspec.Struct, frozen=True):
    """The entries of `kind` of the provider named `provider` may have changed."""

    provider: str
    kind: Kind


class ResourceUpdated(msgspec.Struct, frozen=True):
    """The resource the provider named `provider` knows as `uri` has new content.

    `session_id` is given where one session at our door subscribed by itself and nobody else is meant.
    """

    provider: str
    uri: str
    session_id: str | None = None


class ElicitationCompleted(msgspec.Struct, frozen=True):
    """What a client was sent to a URL for is done, says the provider that asked.

    `session_id` is the session at our door whose call was asked: it alone is meant.
    """

    provider: str
    session_id: str
    elicitation_id: str


Event = ListChanged | ResourceUpdated | ElicitationCompleted
