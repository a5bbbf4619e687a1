"""From the section `auth.oauth` to the issuers a `TokenAuthenticator` knows.

Knows what the document leaves to be worked out: which values of `aud` stand for which endpoint, and what
the values of a claim grant. Refuses to read tokens.
Spec: 2026-07-28 basic/authorization, "Canonical Server URI"; threat model rules 5 and 8.
"""

from __future__ import annotations

from collections.abc import Mapping

from waygate_mcp.auth.jwks import KeySets, KeySource
from waygate_mcp.auth.jwt import TokenRules
from waygate_mcp.auth.oauth import Issuer
from waygate_mcp.config.document import Document, endpoint_path
from waygate_mcp.config.oauth import IssuerSection
from waygate_mcp.config.roles import roles_of
from waygate_mcp.model.permissions import ALL, Grant, expand

__all__ = ["audiences_for", "granted_by", "open_issuers"]


def open_issuers(document: Document, key_sets: KeySets) -> tuple[Issuer, ...]:
    """Give the issuers of a document; the keys of each begin to be fetched, so that no call waits."""
    oauth = document.auth.oauth
    if oauth is None:
        return ()
    found = []
    roles = roles_of(document.roles)
    for section in oauth.issuers:
        source = KeySource(
            section.issuer, section.jwks_uri, allows_private=section.network == "private"
        )
        keys = key_sets.of(source)
        keys.warm()
        found.append(
            Issuer(
                section.issuer,
                TokenRules(
                    frozenset(section.algorithms), frozenset(section.token_types), oauth.leeway_s
                ),
                keys,
                oauth.keys_outage_s,
                audiences_for(document, section),
                section.claim,
                granted_by(section, roles),
            )
        )
    return tuple(found)


def audiences_for(document: Document, section: IssuerSection) -> Mapping[str, str | None]:
    """Map values of `aud` to the endpoints they stand for, None for all of them.

    They are the issuer's own where it has any; else the URLs of the endpoints, and that of the server.
    """
    if section.audience:
        return dict.fromkeys(section.audience)
    origin = document.server.public_url
    if origin is None:
        return {}
    found: dict[str, str | None] = {origin: None, f"{origin}/": None}
    found.update({f"{origin}{endpoint_path(name)}": name for name in document.endpoints})
    return found


def granted_by(
    section: IssuerSection, roles: Mapping[str, tuple[Grant, ...]]
) -> Mapping[str, tuple[Grant, ...]]:
    """Map the values of an issuer's claim to what they grant. A role nobody defined grants nothing."""
    return {
        value: tuple(grant for word in words for grant in _grants_of(word, roles))
        for value, words in section.grants.items()
    }


def _grants_of(word: str, roles: Mapping[str, tuple[Grant, ...]]) -> tuple[Grant, ...]:
    if word == ALL or ":" in word:
        return expand(word)
    return roles.get(word, ())
