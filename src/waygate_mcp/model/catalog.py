"""What providers offer: entries, and lists of them.

Knows an entry by its kind, its provider's own name and its raw definition. Refuses to know public
names: those are the gateway's (`gateway/catalog.py`).
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec

from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.headers import HeaderParam
from waygate_mcp.protocol.tasks import TASKS_EXTENSION, LegacyTasks

__all__ = ["Condition", "Entry", "Features", "Kind", "Listing", "NameClaim", "Viewer"]

Condition = Literal["current", "kept", "missing"]
"""How a listing was come by: as asked, an older copy since asking fails, or not at all."""


class Kind(Enum):
    """The four kinds of entries. `value` is the word for people and errors."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    TEMPLATE = "resource template"

    # Members are singletons; Enum's own hash is a call into Python on the path of every call.
    __hash__ = object.__hash__


class Entry(msgspec.Struct, frozen=True):
    """One tool, prompt, resource or resource template.

    `name` is the provider's own: `name` of tools and prompts, `uri` of resources, `uriTemplate` of
    templates. `definition` is the raw JSON object the provider publishes, unknown members included.
    `header_params` are the arguments mirrored in `Mcp-Param-*` headers (tools only).
    """

    kind: Kind
    name: str
    definition: bytes
    header_params: tuple[HeaderParam, ...] = ()


class Listing(msgspec.Struct, frozen=True):
    """All entries of one kind a provider shows to one viewer, in the provider's order.

    `ttl_ms` and `cache_scope` are the provider's caching hints (2026-07-28 server/utilities/caching).
    `version` changes whenever the content may have changed, so that what was built from it can be
    kept. One that is `missing` has no entries, because nobody knows them. `changes` is how many changes
    of this list the provider had heard of when it began to be read, where it counts them.
    """

    entries: tuple[Entry, ...]
    version: int
    ttl_ms: int = 0
    cache_scope: Literal["public", "private"] = "public"
    condition: Condition = "current"
    changes: int = 0


class Features(msgspec.Struct, frozen=True):
    """What a provider can do at all, known without asking anyone.

    `tasks` is what it does for clients of 2025-11-25, `extensions` what for those of 2026-07-28.
    """

    tools: bool = False
    prompts: bool = False
    resources: bool = False
    subscribe: bool = False
    completions: bool = False
    logging: bool = False
    tasks: LegacyTasks = LegacyTasks()
    extensions: tuple[str, ...] = ()

    @property
    def has_tasks(self) -> bool:
        """Tell whether clients of any revision may get tasks from it."""
        return self.tasks.calls or TASKS_EXTENSION in self.extensions


class Viewer(msgspec.Struct, frozen=True):
    """Who looks at a list: some servers list by the client's capabilities (decisions.md 24)."""

    principal: Principal
    capabilities: ClientCapabilities


class NameClaim(msgspec.Struct, frozen=True, array_like=True):
    """A public name of an endpoint, and whose it is: the provider's name and that one's own name.

    `kind` is the value of a Kind; or `prefix`, where `name` is a provider and `original` the text
    that stands before its names.
    """

    endpoint: str
    kind: str
    name: str
    provider: str
    original: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What is claimed."""
        return (self.endpoint, self.kind, self.name)
