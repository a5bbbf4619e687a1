"""Who is calling, and what that one may do.

Knows the identity a door has established and the grants that came with it. Refuses to know credentials
and how they were checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from waygate_mcp.model.permissions import ALL, Grant, Narrowing

__all__ = ["ANONYMOUS", "LOCAL", "Principal", "principal_of"]

_USES = {
    "tools:list": "tools:call",
    "prompts:list": "prompts:get",
    "resources:list": "resources:read",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """One identity, equal wherever the same credential was presented.

    `id` is stable and unique over all kinds (`key:4f2a…`, `anonymous`, `local`) and is what
    records and limits count by; `name` is for people. `permissions` are `verb:object` words, `*`
    grants all (surface.md 5). `grants` and `narrowing` say for which entries, None for all.
    `scope` is None for a principal that sees and uses every entry its permissions are about, else
    equal for all that see and use the same. `limits` are rates of its own, such as
    `100/minute`. `fingerprint` (16 bytes) stands for the principal in sealed tokens.
    """

    id: str
    name: str
    permissions: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()
    grants: tuple[Grant, ...] | None = None
    narrowing: Narrowing | None = None
    limits: tuple[str, ...] = ()
    scope: object = field(init=False, repr=False)
    fingerprint: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive what every call compares, once."""
        digest = hashlib.blake2b(self.id.encode(), digest_size=16, person=b"waygate-princip")
        object.__setattr__(self, "fingerprint", digest.digest())
        is_wide = self.grants is None and self.narrowing is None
        object.__setattr__(self, "scope", None if is_wide else (self.grants, self.narrowing))

    def may(self, permission: str) -> bool:
        """Tell whether `permission` was granted for anything at all, literally or by `*`."""
        return permission in self.permissions or ALL in self.permissions

    def may_enter(self, endpoint: str) -> bool:
        """Tell whether an endpoint exists for this principal."""
        return self.narrowing is None or self.narrowing.admits(endpoint)

    def may_reach(self, endpoint: str, provider: str) -> bool:
        """Tell whether an upstream or plugin exists for this principal."""
        return self.narrowing is None or self.narrowing.reaches(endpoint, provider)

    def may_know(self, provider: str) -> bool:
        """Tell whether an upstream or plugin exists for this principal on any endpoint."""
        return self.narrowing is None or self.narrowing.knows(provider)

    def may_use(self, permission: str, endpoint: str, provider: str, name: str) -> bool:
        """Tell whether `permission` was granted for one entry, by its public name or URI."""
        if self.scope is None:
            return self.may(permission)
        if self.narrowing is not None and not self.narrowing.covers(endpoint, provider, name):
            return False
        return self.grant_for(permission, name) is not None

    def may_see(self, permission: str, endpoint: str, provider: str, name: str) -> bool:
        """Tell whether an entry is in this principal's lists: it may be listed, and used.

        One that may use no entry of the kind at all, as a viewer, sees what may be listed.
        """
        use = _USES[permission]
        return self.may_use(permission, endpoint, provider, name) and (
            not self.may(use) or self.may_use(use, endpoint, provider, name)
        )

    def grant_for(self, permission: str, name: str) -> Grant | None:
        """Give the grant that allows something for one entry, the narrowing aside."""
        if self.grants is None:
            return Grant(permission) if self.may(permission) else None
        return next((one for one in self.grants if one.covers(permission, name)), None)


def principal_of(
    id_: str,
    name: str,
    grants: Iterable[Grant],
    narrowing: Narrowing | None = None,
    *,
    roles: tuple[str, ...] = (),
    limits: tuple[str, ...] = (),
) -> Principal:
    """Make a principal of what it was granted.

    Grants and a narrowing that restrict nothing are left out, so that it costs a call nothing.
    """
    found = tuple(dict.fromkeys(grants))
    words = frozenset(one.permission for one in found)
    whole = {one.permission for one in found if one.names == ALL}
    is_narrow = ALL not in whole and any(one.permission not in whole for one in found)
    narrowed = None if narrowing is None or narrowing.is_wide else narrowing
    return Principal(id_, name, words, roles, found if is_narrow else None, narrowed, limits)


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({ALL}))
"""The caller where `auth.mode` is none, which is refused unless bound to loopback."""

LOCAL = Principal("local", "local process", frozenset({ALL}))
"""The caller on standard input: whoever started the process owns it."""
