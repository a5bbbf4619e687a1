"""Roles in shadow: what roles shall become, judged beside what they are, and never enforced.

Knows whether somebody who may do something now could no longer do it. Refuses to know who is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waygate_mcp.model.permissions import NAMED, Grant
from waygate_mcp.model.principal import Principal, principal_of

__all__ = ["ShadowRoles"]

_LISTED = {
    "tools:call": "tools:list",
    "prompts:get": "prompts:list",
    "resources:read": "resources:list",
}
_MAX_KNOWN = 4096


class ShadowRoles:
    """The roles of a document, `shadow` in place of those in force."""

    def __init__(
        self, roles: Mapping[str, Sequence[Grant]], shadow: Mapping[str, Sequence[Grant]]
    ) -> None:
        self._roles = {**roles, **shadow}
        self._shadowed = frozenset(shadow)
        self._known: dict[tuple[object, ...], Principal] = {}

    def refusing(
        self, principal: Principal, permission: str, endpoint: str, provider: str, name: str
    ) -> tuple[str, ...]:
        """Give the principal's roles in shadow, if with them it could not do what it may do now.

        A permission that comes from no role, as a token's may, is judged as it stands.
        """
        concerned = tuple(role for role in principal.roles if role in self._shadowed)
        if not concerned:
            return ()
        then = self._then(principal)
        if permission in NAMED and provider:
            wanted = (permission, _LISTED.get(permission, permission))
            is_allowed = all(then.may_use(one, endpoint, provider, name) for one in wanted)
        else:
            is_allowed = then.may(permission)
        return () if is_allowed else concerned

    def _then(self, principal: Principal) -> Principal:
        """Give the principal as it would be, from memory where it is known."""
        key = (principal.id, principal.roles, principal.permissions, principal.scope)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            grants = [grant for role in principal.roles for grant in self._roles.get(role, ())]
            grants += [grant for grant in principal.grants or () if not grant.role]
            found = principal_of(principal.id, principal.name, grants, principal.narrowing)
            self._known[key] = found
        return found
