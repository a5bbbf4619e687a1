"""The section `auth.oauth` of the document: whose tokens are taken, and what they grant.

Knows every key, its unit, its default and its bounds. Refuses to fetch anything and to read a token.
Everything that decides about a token stands here, per issuer; nothing of it is ever read from a token's
header (threat model rule 8). A value that is mapped to nothing grants nothing (rule 5).
Spec: 2026-07-28 basic/authorization; RFC 9068, RFC 9728, RFC 8725.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.config.patterns import GRANT_PATTERN, SCOPE_PATTERN, TOKEN_TYPE_PATTERN
from waygate_mcp.config.roles import known_permission
from waygate_mcp.config.section import Section, items

__all__ = ["SCOPE_CLAIMS", "IssuerSection", "OAuthSection"]

SCOPE_CLAIMS = frozenset({"scope", "scp"})
"""Claims that hold scopes: what a client can ask its authorization server for."""

_DEFAULT_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_MAX_URL = 2048


def _url(text: str) -> str:
    if not all("\x21" <= character <= "\x7e" for character in text):
        raise ValueError("must be visible ASCII without blanks")
    parts = urlsplit(text)  # ValueError for what is no URL, with its reason
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with https:// and name a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must hold no user name, query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https://; plain http is for loopback addresses alone")
    return text


def _grant(word: str) -> str:
    """Check a permission; whether a role exists is for the whole document to say."""
    return known_permission(word) if ":" in word or word == "*" else word


Url = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_URL), AfterValidator(_url)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Scope = Annotated[str, StringConstraints(pattern=SCOPE_PATTERN)]
Audience = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_URL)]
ClaimValue = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Grant = Annotated[str, StringConstraints(pattern=GRANT_PATTERN), AfterValidator(_grant)]
"""The name of a role, a permission such as `tools:call` or `tools:call:files__*`, or `*` for all."""

Grants = Annotated[tuple[Grant, ...], Field(strict=False, max_length=64)]
TokenType = Annotated[str, StringConstraints(pattern=TOKEN_TYPE_PATTERN)]


class IssuerSection(Section):
    """One authorization server whose tokens are taken."""

    issuer: Url = Field(
        description="Its issuer identifier, exactly as it stands in the `iss` of its tokens. An address "
        "of this machine or of a private network written here is itself the leave to dial it."
    )
    jwks_uri: Url | None = Field(
        None,
        description="Where its keys lie; found by its metadata (RFC 8414, OpenID Connect Discovery) "
        "where nothing is said.",
    )
    network: Literal["public", "private"] = Field(
        "public",
        description="`private`: the names in `issuer` and `jwks_uri` may resolve to private and "
        "loopback addresses.",
    )
    audience: tuple[Audience, ...] = items(
        "Values of `aud` that are taken for every endpoint, for servers that cannot put a URL there. "
        "Where nothing is said, a token must name the URL of the endpoint it is used at, or "
        "`server.public_url` for all of them.",
        default=(),
        max_length=16,
    )
    algorithms: tuple[Algorithm, ...] = items(
        "Signature algorithms that are taken; all of them need a key pair.",
        default=_DEFAULT_ALGORITHMS,
        max_length=16,
    )
    token_types: tuple[TokenType, ...] = items(
        "Values of `typ` that are taken, lower case, without `application/`. A token without `typ` "
        "counts as `jwt`.",
        default=("at+jwt", "jwt"),
        max_length=8,
    )
    claim: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        "scope",
        description="The claim that says what a caller may do: `scope`, `scp`, `roles`, or a path such as "
        "`realm_access.roles`.",
    )
    grants: dict[ClaimValue, Grants] = Field(
        min_length=1,
        max_length=256,
        description="What each value of that claim grants: names of roles, permissions such as "
        "`tools:call`, or `*`. Any other value grants nothing.",
    )

    @property
    def grants_by_scope(self) -> bool:
        """Whether a client gets more by asking for more scopes."""
        return self.claim in SCOPE_CLAIMS


def _distinct(issuers: tuple[IssuerSection, ...]) -> tuple[IssuerSection, ...]:
    if not issuers:
        raise ValueError("names no issuer; say whose access tokens are taken")
    if len({issuer.issuer for issuer in issuers}) < len(issuers):
        raise ValueError("names an issuer twice")
    return issuers


class OAuthSection(Section):
    """Whose access tokens are taken."""

    issuers: Annotated[tuple[IssuerSection, ...], AfterValidator(_distinct)] = items(
        "The authorization servers; clients are told of them in this order.",
        max_length=16,
        json_schema_extra={"minItems": 1},
    )
    scopes_required: tuple[Scope, ...] = items(
        "Scopes every token must have; without them every request is 403.",
        default=(),
        max_length=64,
    )
    leeway_s: float = Field(
        30, ge=0, le=300, description="Seconds by which clocks may differ from the issuers'."
    )
    keys_outage_s: float = Field(
        86_400,
        ge=0,
        le=604_800,
        description="Seconds an issuer's known keys serve while it cannot be reached; after them its "
        "tokens are answered 503.",
    )

    @property
    def scopes_offered(self) -> tuple[str, ...]:
        """What clients are told to ask for at first: as little as is of use.

        The scopes every token must have; where there are none, those that grant something, the power
        of an administrator aside.
        """
        if self.scopes_required:
            return self.scopes_required
        found: dict[str, None] = {}
        for issuer in self.issuers:
            if issuer.grants_by_scope:
                found.update(
                    dict.fromkeys(
                        scope for scope, grants in issuer.grants.items() if not _is_power(grants)
                    )
                )
        return tuple(found)


def _is_power(grants: tuple[str, ...]) -> bool:
    return any(grant in ("*", "admin") or grant.startswith("admin:") for grant in grants)
