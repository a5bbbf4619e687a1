"""What may be permitted, and the built-in roles.

Knows every permission by name, and how one is written: `verb:object`, or `verb:object:PATTERN` where it
is about named entries (surface.md 5). Refuses to know who has which.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from waygate_mcp.model.patterns import any_of

__all__ = ["ALL", "BUILTIN_ROLES", "NAMED", "PERMISSIONS", "Grant", "Narrowing", "expand"]

ALL = "*"

PERMISSIONS: Mapping[str, str] = {
    "session:open": "Connect with an MCP client: initialize, ping, discover, listen.",
    "tools:list": "See tools.",
    "tools:call": "Call tools, and ask for their tasks.",
    "prompts:list": "See prompts.",
    "prompts:get": "Get prompts.",
    "resources:list": "See resources and templates.",
    "resources:read": "Read resources and subscribe to them.",
    "completions:use": "Have arguments completed.",
    "status:read": "Read the state of the server and its commands.",
    "servers:read": "Read which upstreams there are and how they are.",
    "plugins:read": "Read which plugins there are and how they are.",
    "metrics:read": "Read /metrics.",
    "diagnostics:read": "Read diagnostics, and details of /health.",
    "audit:read": "Read and export the audit journal.",
    "admin:keys": "Make, change and revoke API keys and read roles.",
    "admin:approvals": "Approve definitions of upstreams.",
    "admin:config": "Plan, apply and roll back the document.",
    "admin:servers": "Reload upstreams.",
    "admin:plugins": "Reload plugins.",
    "admin:backups": "Make backups.",
}
"""Every permission, and what it lets one do."""

NAMED: Mapping[str, str] = {
    "tools:list": "tool",
    "tools:call": "tool",
    "prompts:list": "prompt",
    "prompts:get": "prompt",
    "resources:list": "resource",
    "resources:read": "resource",
}
"""The permissions that are about entries, which a pattern of their names or URIs may narrow."""

_USE = (
    "session:open",
    "tools:list",
    "tools:call",
    "prompts:list",
    "prompts:get",
    "resources:list",
    "resources:read",
    "completions:use",
)
_READ = ("status:read", "servers:read", "plugins:read", "metrics:read", "diagnostics:read")

BUILTIN_ROLES: Mapping[str, tuple[str, ...]] = {
    "viewer": ("session:open", "tools:list", "prompts:list", "resources:list", *_READ),
    "operator": (*_USE, *_READ, "admin:servers", "admin:plugins"),
    "admin": (ALL,),
}
"""The roles there are without being defined. A document may define others, and these anew."""


class Grant(msgspec.Struct, frozen=True):
    """One permission, `*` for all of them; `names` is a pattern of public names or URIs."""

    permission: str
    names: str = ALL
    role: str = ""
    """The role it comes from, to tell why something is allowed; empty where it comes from none."""

    def covers(self, permission: str, name: str) -> bool:
        """Tell whether it allows this for the entry of that name."""
        return self.permission in (permission, ALL) and (
            self.names == ALL or any_of((self.names,)).match(name) is not None
        )

    def __str__(self) -> str:
        return self.permission if self.names == ALL else f"{self.permission}:{self.names}"


class Narrowing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key is restricted to whatever its roles allow: patterns, `*` for no restriction."""

    endpoints: tuple[str, ...] = (ALL,)
    upstreams: tuple[str, ...] = (ALL,)
    names: tuple[str, ...] = (ALL,)

    @property
    def is_wide(self) -> bool:
        """Tell whether it restricts nothing."""
        return all(ALL in patterns for patterns in (self.endpoints, self.upstreams, self.names))

    def admits(self, endpoint: str) -> bool:
        """Tell whether the endpoint exists for the key."""
        return _covers(self.endpoints, endpoint)

    def knows(self, provider: str) -> bool:
        """Tell whether an upstream or plugin exists for the key on any endpoint."""
        return _covers(self.upstreams, provider)

    def names_cover(self, name: str) -> bool:
        """Tell whether a name or URI is one the key may use."""
        return _covers(self.names, name)

    def reaches(self, endpoint: str, provider: str) -> bool:
        """Tell whether an upstream or plugin exists for the key."""
        return _covers(self.endpoints, endpoint) and _covers(self.upstreams, provider)

    def covers(self, endpoint: str, provider: str, name: str) -> bool:
        """Tell whether the entry exists for the key."""
        return self.reaches(endpoint, provider) and _covers(self.names, name)


def expand(word: str, role: str = "") -> tuple[Grant, ...]:
    """Give the grants of one word of a role; `tools:*` stands for all that begins so.

    Raises:
        ValueError: there is no such permission, or it is not about named entries. The text says which.
    """
    if word == ALL:
        return (Grant(ALL, role=role),)
    verb, _, rest = word.partition(":")
    thing, colon, names = rest.partition(":")
    permission = f"{verb}:{thing}"
    if thing == ALL and not colon:
        found = tuple(one for one in PERMISSIONS if one.startswith(f"{verb}:"))
        if found:
            return tuple(Grant(one, role=role) for one in found)
    if permission not in PERMISSIONS:
        raise ValueError(f"there is no permission {permission!r}")
    if not colon:
        return (Grant(permission, role=role),)
    if permission not in NAMED:
        raise ValueError(f"{permission} is about no named entries: write it without {names!r}")
    if not names:
        raise ValueError("the pattern after the second colon is empty")
    return (Grant(permission, names, role),)


def _covers(patterns: tuple[str, ...], text: str) -> bool:
    return any_of(patterns).match(text) is not None
