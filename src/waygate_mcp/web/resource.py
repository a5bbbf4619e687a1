"""What an OAuth client is told of this server: its metadata, and the challenges of 401 and 403.

Knows the URL of each endpoint, which is its resource identifier, and which scopes grant what. Refuses to
read tokens. Where no tokens are taken, only the plain challenge of keys is left.
Spec: RFC 9728; RFC 6750, 3; 2025-06-18, 2025-11-25 and 2026-07-28 basic/authorization.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from waygate_mcp.auth.issuers import granted_by
from waygate_mcp.config.document import DEFAULT_ENDPOINT, Document, endpoint_path
from waygate_mcp.config.patterns import NAME_PATTERN
from waygate_mcp.config.roles import roles_of
from waygate_mcp.web.problems import BEARER_CHALLENGE

if TYPE_CHECKING:  # annotations only
    from waygate_mcp.auth.oauth import TokenPrincipal

__all__ = ["METADATA_PATH", "Resource", "endpoint_of_metadata", "resource_of"]

METADATA_PATH = "/.well-known/oauth-protected-resource"
"""Where the metadata of the whole server lies; that of an endpoint has the endpoint's path behind it."""

_NAME = re.compile(NAME_PATTERN)
_OF_ENDPOINT = re.compile(r"/servers/([^/]+)/mcp")
_INVALID = (
    'error="invalid_token", error_description="The access token expired, or is not valid here."'
)
_LACKS = 'error="insufficient_scope", error_description="The access token lacks a scope for this."'


def endpoint_of_metadata(path: str) -> str | None:
    """Give the endpoint whose metadata a path asks for, empty for the whole server, None for neither.

    Any name an endpoint could have is one: strangers must not learn here which exist.
    """
    if not path.startswith(METADATA_PATH):
        return None
    rest = path[len(METADATA_PATH) :]
    if not rest:
        return ""
    if rest == endpoint_path(DEFAULT_ENDPOINT):
        return DEFAULT_ENDPOINT
    found = _OF_ENDPOINT.fullmatch(rest)
    return found[1] if found is not None and _NAME.fullmatch(found[1]) else None


class Resource:
    """This server as an OAuth resource. `permissions` maps scopes to what they grant.

    One without `origin` takes no tokens.
    """

    def __init__(
        self,
        origin: str | None = None,
        issuers: Sequence[str] = (),
        offered: Sequence[str] = (),
        required: Sequence[str] = (),
        permissions: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.takes_tokens = origin is not None
        self._origin = origin or ""
        self._issuers = tuple(issuers)
        self._offered = tuple(offered)
        self._required = tuple(required)
        self._permissions = dict(permissions or {})

    def metadata(self, endpoint: str) -> dict[str, Any]:
        """Give the metadata of an endpoint, of the whole server where it is empty."""
        found: dict[str, Any] = {
            "resource": self._origin + (endpoint_path(endpoint) if endpoint else ""),
            "authorization_servers": list(self._issuers),
            "bearer_methods_supported": ["header"],
            "resource_name": "Waygate MCP",
        }
        if self._offered:
            found["scopes_supported"] = list(self._offered)
        return found

    def challenge(self, endpoint: str, *, is_invalid: bool) -> bytes:
        """Say how to come in; `is_invalid` where a token was presented that is no good."""
        if not self.takes_tokens:
            return BEARER_CHALLENGE
        parts = [BEARER_CHALLENGE.decode(), self._where(endpoint)]
        if self._offered:
            parts.append(_scope(self._offered))
        if is_invalid:
            parts.append(_INVALID)
        return ", ".join(parts).encode()

    def lacks_required(self, principal: TokenPrincipal, endpoint: str) -> bytes | None:
        """Give the challenge for a token without the scopes every token must have, None for others."""
        if all(scope in principal.scopes for scope in self._required):
            return None
        return self._insufficient(endpoint, self._required)

    def lacks(
        self, principal: TokenPrincipal, permissions: Sequence[str], endpoint: str
    ) -> bytes | None:
        """Give the challenge by which a token's client learns which scopes would permit something.

        All that are needed are named at once. None where nothing is missing, or where no scope helps:
        asking for more would then lead nowhere.
        """
        needed = dict.fromkeys(self._required)
        missing = False
        for permission in permissions:
            if principal.may(permission):
                continue
            scope = self._cheapest(permission)
            if scope is None:
                return None
            missing = True
            needed[scope] = None
        return self._insufficient(endpoint, tuple(needed)) if missing else None

    def _cheapest(self, permission: str) -> str | None:
        """Give the scope that grants a permission and as little else as there is."""
        granting = [
            (("*" in granted), len(granted), scope)
            for scope, granted in self._permissions.items()
            if permission in granted or "*" in granted
        ]
        return min(granting)[2] if granting else None

    def _insufficient(self, endpoint: str, scopes: Sequence[str]) -> bytes:
        return f"Bearer {_LACKS}, {_scope(scopes)}, {self._where(endpoint)}".encode()

    def _where(self, endpoint: str) -> str:
        path = endpoint_path(endpoint) if endpoint else ""
        return f'resource_metadata="{self._origin}{METADATA_PATH}{path}"'


def resource_of(document: Document) -> Resource:
    """Give what a document makes of this server for clients with access tokens."""
    auth = document.auth
    if not auth.takes_tokens or auth.oauth is None:
        return Resource()
    permissions: dict[str, frozenset[str]] = {}
    for issuer in auth.oauth.issuers:
        if issuer.grants_by_scope:
            for scope, grants in granted_by(issuer, roles_of(document.roles)).items():
                granted = frozenset(grant.permission for grant in grants)
                permissions[scope] = permissions.get(scope, frozenset()) | granted
    return Resource(
        document.server.public_url,
        [issuer.issuer for issuer in auth.oauth.issuers],
        auth.oauth.scopes_offered,
        auth.oauth.scopes_required,
        permissions,
    )


def _scope(scopes: Sequence[str]) -> str:
    return f'scope="{" ".join(scopes)}"'
