"""From an access token, or a key where both are taken, to a Principal.

Knows the issuers of the document and what values of a claim grant. A token that was verified is known by
its hash for a short while and costs no more than a key then; where its issuer's keys are at hand a new
one is verified at once, and else whoever asks is told to wait (`UnverifiedError`). Refuses to fetch keys
and to know HTTP. Nobody revokes a token here but its expiry: introspection (RFC 7662) is not asked.
Spec: threat model rules 4, 5, 8 and 39; 2026-07-28 basic/authorization, "Access Token Usage".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from hmac import compare_digest
from typing import Any
from urllib.parse import quote

from waygate_mcp.auth.jwks import KeySet
from waygate_mcp.auth.jwt import (
    MAX_TOKEN_BYTES,
    Claims,
    Head,
    TokenRules,
    VerificationKey,
    audiences_of,
    check_head,
    expiry_of,
    identity_of,
    looks_like_token,
    read_head,
    refused,
    verify,
)
from waygate_mcp.errors import (
    RemoteProtocolError,
    UnauthenticatedError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.permissions import Grant
from waygate_mcp.model.ports import Authenticator
from waygate_mcp.model.principal import Principal, principal_of
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["Issuer", "TokenAuthenticator", "TokenPrincipal", "principal_id"]

KNOWN_S = 60.0
"""Seconds for which a verified token is known by its hash; a key its issuer withdrew ends within them."""
MAX_KNOWN = 10_000
TOLD_EVERY_S = 10.0
"""Seconds between two lines of the log about tokens refused for the same reason."""

_SCHEME = b"bearer "
_DIGEST_BYTES = 32
_MAX_NAME_CHARS = 128
_MAX_VALUES = 256
_CANNOT_SAY = "Access tokens cannot be checked at the moment; try again shortly."

_log = get_logger("auth.oauth")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrincipal(Principal):
    """Who presented an access token, and what of the token the door has to know.

    `endpoints` are the endpoints it was issued for, None for all. `expires_at_s` is wall-clock time.
    """

    issuer: str = field(compare=False)
    scopes: frozenset[str] = field(compare=False, repr=False)
    endpoints: frozenset[str] | None = field(compare=False, repr=False)
    expires_at_s: float = field(compare=False)

    def may_enter(self, endpoint: str) -> bool:
        """Tell whether an endpoint exists for this principal: one the token was not issued for does not."""
        return self.endpoints is None or endpoint in self.endpoints


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer as configured. `audiences` maps values of `aud` to endpoints, None for all.

    `grants` maps values of `claim` to what they grant.
    """

    name: str
    rules: TokenRules
    keys: KeySet
    outage_s: float
    audiences: Mapping[str, str | None]
    claim: str
    grants: Mapping[str, tuple[Grant, ...]]


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified: good until `until_s` of the monotonic and `expires_at_s` of the wall clock."""

    principal: TokenPrincipal
    until_s: float
    expires_at_s: float


class TokenAuthenticator:
    """Knows whose tokens are good here. Fulfils `model.ports.Authenticator`.

    `keys` judges what is no token; without it, nothing else lets anybody in.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        keys: Authenticator | None = None,
    ) -> None:
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._now = now
        self._monotonic = monotonic
        self._keys = keys
        self._known: dict[bytes, _Known] = {}
        self._told: dict[str, float] = {}

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Decide who is calling, from `authorization` and `x-api-key` alone.

        Raises:
            UnauthenticatedError: no credential, or not a valid one.
            RemoteProtocolError: two different credentials in one request.
            UnverifiedError: the issuer's keys have to be fetched first.
            UpstreamUnavailableError: they cannot be had now.
        """
        bearer = headers.get(b"authorization")
        if bearer is None or bearer[: len(_SCHEME)].lower() != _SCHEME:
            return self._by_key(headers)
        token = bearer[len(_SCHEME) :]
        if not looks_like_token(token):
            return self._by_key(headers)
        other = headers.get(b"x-api-key")
        if other is not None and not compare_digest(token, other):
            text = "The request carries two different credentials."
            raise RemoteProtocolError(text, safe_message=text)
        if len(token) > MAX_TOKEN_BYTES:
            raise self._tell(refused("too_large"), None)
        digest = blake2b(token, digest_size=_DIGEST_BYTES).digest()
        known = self._known.get(digest)
        if (
            known is not None
            and self._monotonic() < known.until_s
            and self._now() < known.expires_at_s
        ):
            return known.principal
        return self._new(token, digest)

    def _by_key(self, headers: Mapping[bytes, bytes]) -> Principal:
        if self._keys is not None:
            return self._keys.authenticate(headers)
        if b"authorization" in headers and b"x-api-key" in headers:
            text = "The request carries two different credentials."
            raise RemoteProtocolError(text, safe_message=text)
        if b"authorization" not in headers and b"x-api-key" not in headers:
            raise UnauthenticatedError("no credential", reason="missing")
        raise refused("no_token")

    def _new(self, token: bytes, digest: bytes) -> TokenPrincipal:
        """Judge a token that is not known, if the keys to do so are at hand."""
        head = None
        try:
            head = read_head(token)
            issuer = self._issuers.get(head.issuer)
            if issuer is None:
                raise refused("issuer")
            check_head(head, issuer.rules)
            key = issuer.keys.find(head.key_id, head.algorithm, issuer.outage_s)
            if key is None:
                if issuer.keys.may_fetch(issuer.outage_s):
                    raise UnverifiedError(partial(self._verify_later, token, digest, head, issuer))
                raise _without_key(issuer)
            return self._verify(token, digest, head, issuer, key)
        except UnauthenticatedError as exc:
            raise self._tell(exc, head) from None

    async def _verify_later(
        self, token: bytes, digest: bytes, head: Head, issuer: Issuer
    ) -> Principal:
        """Wait for the issuer's keys and judge then."""
        await issuer.keys.refresh()
        key = issuer.keys.find(head.key_id, head.algorithm, issuer.outage_s)
        try:
            if key is None:
                raise _without_key(issuer)
            return self._verify(token, digest, head, issuer, key)
        except UnauthenticatedError as exc:
            raise self._tell(exc, head) from None

    def _verify(
        self, token: bytes, digest: bytes, head: Head, issuer: Issuer, key: VerificationKey
    ) -> TokenPrincipal:
        claims = verify(token, head, key, issuer.rules, self._now())
        principal = _principal(claims, issuer)
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known.pop(digest, None)  # so that it stands at the end, where the newest are
        self._known[digest] = _Known(
            principal,
            self._monotonic() + KNOWN_S,
            principal.expires_at_s + issuer.rules.leeway_s,
        )
        return principal

    def _tell(self, refusal: UnauthenticatedError, head: Head | None) -> UnauthenticatedError:
        """Let the operator know why tokens are refused, a line for each reason now and then."""
        now_s = self._monotonic()
        if now_s - self._told.get(refusal.reason, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told[refusal.reason] = now_s
            issuer = None if head is None else head.issuer[:_MAX_NAME_CHARS]
            _log.info("token_refused", reason=refusal.reason, stated_issuer=issuer)
        return refusal


def principal_id(issuer: str, subject: str, client: str) -> str:
    """Give the id of whoever an issuer calls `subject`, at one client: different for different three."""
    parts = (quote(part, safe="/:@.~_-") for part in (issuer, subject, client))
    return "oauth:" + "|".join(parts)


def _without_key(issuer: Issuer) -> UnauthenticatedError | UpstreamUnavailableError:
    """Say whether the token is bad, or nobody can say."""
    if issuer.keys.may_serve(issuer.outage_s):
        return refused("key")
    return UpstreamUnavailableError("issuer", "an issuer's keys", safe_message=_CANNOT_SAY)


def _principal(claims: Claims, issuer: Issuer) -> TokenPrincipal:
    """Say who a verified token stands for.

    Raises:
        UnauthenticatedError: it is not for us, or names nobody.
    """
    meant = [issuer.audiences[each] for each in audiences_of(claims) if each in issuer.audiences]
    if not meant:
        raise refused("audience")
    subject, client = identity_of(claims)
    granted = [
        grant for value in _values(claims, issuer.claim) for grant in issuer.grants.get(value, ())
    ]
    roles = tuple(dict.fromkeys(grant.role for grant in granted if grant.role))
    known = principal_of(
        principal_id(issuer.name, subject, client),
        subject[:_MAX_NAME_CHARS],
        granted,
        roles=roles,
    )
    scopes = frozenset((*_words(claims.get("scope")), *_words(claims.get("scp"))))
    return TokenPrincipal(
        known.id,
        known.name,
        known.permissions,
        known.roles,
        known.grants,
        issuer=issuer.name,
        scopes=scopes,
        endpoints=None if None in meant else frozenset(one for one in meant if one is not None),
        expires_at_s=expiry_of(claims),
    )


def _values(claims: Claims, claim: str) -> Iterable[str]:
    """Give the values of a claim: named literally, or by a path."""
    if claim in claims:
        return _words(claims[claim])
    found: Any = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return _words(found)


def _words(value: Any) -> Iterable[str]:
    """Read a claim that is text with blanks between its words, or a list of texts; all else is nothing."""
    if isinstance(value, str):
        return value.split(" ")[:_MAX_VALUES]
    if isinstance(value, list):
        return [each for each in value[:_MAX_VALUES] if isinstance(each, str)]
    return ()
