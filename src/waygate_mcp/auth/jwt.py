"""One access token: read without trust, then verified.

Knows the form of a signed token and its claims, and which of them decide. Algorithms and keys come from
the configuration of an issuer: what a header says only chooses among them, and a header that brings a
key, or demands what nobody here understands, is refused (threat model rule 8). Refuses to know where keys
come from and what a token grants. Nothing of a token that failed leaves this module but a slug.
Spec: RFC 7515, RFC 7519, RFC 8725, RFC 9068; OAuth 2.1, 5.2.
"""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jwt.api_jwk import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from waygate_mcp.errors import UnauthenticatedError

__all__ = [
    "MAX_TOKEN_BYTES",
    "Head",
    "TokenRules",
    "VerificationKey",
    "looks_like_token",
    "read_head",
    "read_key",
    "refused",
    "verify",
]

Claims = Mapping[str, Any]

MAX_TOKEN_BYTES = 16 * 1024
MAX_ID_CHARS = 255
_MAX_KID_CHARS = 512
_MAX_AUDIENCES = 64
_RSA_BITS = (2048, 8192)
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ASYMMETRIC = (*sorted(_RSA), *_CURVES.values(), "EdDSA")
_FORBIDDEN_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_UNSIGNED_PARTS = 2

_jws = PyJWS(algorithms=_ASYMMETRIC)


def refused(reason: str) -> UnauthenticatedError:
    """The one refusal of a token: what was wrong is for log and metric, never for the caller."""
    text = "The access token expired, or is not valid here."
    return UnauthenticatedError(f"token refused: {reason}", reason=reason, safe_message=text)


@dataclass(frozen=True, slots=True)
class Head:
    """What a token says of itself before anything of it is believed."""

    issuer: str
    algorithm: str
    type: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What one issuer's tokens must be like."""

    algorithms: frozenset[str]
    types: frozenset[str]
    leeway_s: float


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key of an issuer, and the algorithms it may be used with."""

    id: str | None
    algorithms: frozenset[str]
    key: Any


def looks_like_token(text: bytes) -> bool:
    """Tell whether a bearer credential is meant as a signed token and not as a key: three parts, JSON first."""
    return text.startswith(b"ey") and text.count(b".") == _UNSIGNED_PARTS


def read_head(token: bytes) -> Head:
    """Read what chooses rules and key. Nothing of it is verified yet.

    Raises:
        UnauthenticatedError: this is no signed token, or one that brings its own key.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise refused("too_large")
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise refused("malformed")
    header, claims = _read_object(parts[0]), _read_object(parts[1])
    if not _FORBIDDEN_HEADERS.isdisjoint(header):
        raise refused("header")
    algorithm, kind, key_id = header.get("alg"), header.get("typ", "JWT"), header.get("kid")
    issuer = claims.get("iss")
    if not isinstance(algorithm, str) or not isinstance(kind, str):
        raise refused("header")
    if key_id is not None and (not isinstance(key_id, str) or len(key_id) > _MAX_KID_CHARS):
        raise refused("header")
    if not isinstance(issuer, str):
        raise refused("issuer")
    return Head(issuer, algorithm, kind.lower().removeprefix("application/"), key_id)


def check_head(head: Head, rules: TokenRules) -> None:
    """Refuse what no key could make good.

    Raises:
        UnauthenticatedError: another algorithm or type than the issuer's.
    """
    if head.algorithm not in rules.algorithms:
        raise refused("algorithm")
    if head.type not in rules.types:
        raise refused("type")


def verify(
    token: bytes, head: Head, key: VerificationKey, rules: TokenRules, now_s: float
) -> Claims:
    """Verify signature and times, and give the claims; whom the token is for is the caller's to judge.

    `now_s` is wall-clock time.

    Raises:
        UnauthenticatedError: it is not valid, or not now.
    """
    check_head(head, rules)
    if head.algorithm not in key.algorithms:
        raise refused("key")
    try:
        # The algorithm named is the one allowed, and one this key is for: nothing is left to choose.
        payload = _jws.decode_complete(token, key.key, algorithms=[head.algorithm])["payload"]
    except (PyJWTError, ValueError, TypeError):
        raise refused("signature") from None
    claims = _parse(payload)
    if claims.get("iss") != head.issuer:
        raise refused("issuer")
    _check_times(claims, rules.leeway_s, now_s)
    if "cnf" in claims:
        # Bound to a key of its client (RFC 8705, RFC 9449), which nobody here checks.
        raise refused("bound")
    return claims


def audiences_of(claims: Claims) -> frozenset[str]:
    """Give whom a token is for.

    Raises:
        UnauthenticatedError: it names nobody, or is not as RFC 7519 says.
    """
    found = claims.get("aud")
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not found or len(found) > _MAX_AUDIENCES:
        raise refused("audience")
    if not all(isinstance(one, str) for one in found):
        raise refused("audience")
    return frozenset(found)


def identity_of(claims: Claims) -> tuple[str, str]:
    """Give subject and client; the client is empty where the issuer names none.

    Raises:
        UnauthenticatedError: there is no subject, or one of both is no usable text.
    """
    names = ("client_id", "azp", "cid", "appid")
    client = next((claims[name] for name in names if name in claims), "")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not isinstance(client, str) or not subject:
        raise refused("subject")
    if len(subject) > MAX_ID_CHARS or len(client) > MAX_ID_CHARS:
        raise refused("subject")
    return subject, client


def expiry_of(claims: Claims) -> float:
    """Give when a verified token expires, in seconds since 1970."""
    return float(claims["exp"])


def read_key(jwk: object) -> VerificationKey | None:
    """Read one key of a key set, None where it is none for signatures, too weak, or unknown."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations, key_id, stated = jwk.get("key_ops"), jwk.get("kid"), jwk.get("alg")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    if key_id is not None and not isinstance(key_id, str):
        return None
    allowed = _algorithms_for(jwk)
    if stated is not None:
        allowed &= {stated} if isinstance(stated, str) else frozenset()
    if not allowed:
        return None
    try:
        key = PyJWK(jwk, algorithm=min(allowed)).key
        bits = getattr(key, "key_size", _RSA_BITS[0])
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    if hasattr(key, "private_bytes") or (
        jwk.get("kty") == "RSA" and not _RSA_BITS[0] <= bits <= _RSA_BITS[1]
    ):
        return None
    return VerificationKey(key_id, allowed, key)


def _algorithms_for(jwk: Mapping[str, Any]) -> frozenset[str]:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        return _RSA
    if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        return frozenset({_CURVES[curve]})
    if kind == "OKP" and curve == "Ed25519":
        return frozenset({"EdDSA"})
    return frozenset()


def _check_times(claims: Claims, leeway_s: float, now_s: float) -> None:
    expires, starts, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise refused("expiry_missing")
    if expires + leeway_s <= now_s:
        raise refused("expired")
    if any(moment is not None and moment - leeway_s > now_s for moment in (starts, issued)):
        raise refused("not_yet_valid")


def _time(claims: Claims, name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused("malformed")
    try:
        seconds = float(value)
    except OverflowError:
        raise refused("malformed") from None
    if not math.isfinite(seconds):
        raise refused("malformed")
    return seconds


def _read_object(part: bytes) -> dict[str, Any]:
    try:
        data = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        raise refused("malformed") from None
    return _parse(data)


def _parse(data: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: two readers must not see two tokens in one."""
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise refused("malformed") from None
    if not isinstance(value, dict):
        raise refused("malformed")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
