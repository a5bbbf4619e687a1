"""Keys and access tokens made by hand, good ones and each kind of bad one, without a server."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.org"
AUDIENCE = "https://mcp.example.org/mcp"
NOW_S = 1_800_000_000.0
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "client_id": "app",
    "aud": AUDIENCE,
    "iat": NOW_S - 10,
    "exp": NOW_S + 300,
    "scope": "mcp:read mcp:call",
}


@cache
def private_key(kind: str) -> Any:
    """A key of a kind: `ES256`, `ES384`, `EdDSA`, or the bits of an RSA key."""
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1() if kind == "ES256" else ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind))


def public_jwk(kind: str, **more: Any) -> dict[str, Any]:
    """The public half, as a key set has it."""
    public = private_key(kind).public_key()
    if kind == "EdDSA":
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
    elif kind.startswith("ES"):
        found = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    return {**found, "kid": kind, **more}


def part(value: Any) -> bytes:
    """One part of a token: bytes as they are, all else as JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=")


def token(
    kind: str = "ES256",
    algorithm: str | None = None,
    header: dict[str, Any] | None = None,
    **claims: Any,
) -> bytes:
    """A token signed with the key of a kind; claims and headers that are None are left out."""
    payload = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return signed(json.dumps(payload).encode(), kind, algorithm, header)


def signed(
    payload: bytes,
    kind: str = "ES256",
    algorithm: str | None = None,
    header: dict[str, Any] | None = None,
) -> bytes:
    """A token around any payload."""
    named = algorithm or (kind if not kind.isdigit() else "RS256")
    told = {"typ": "at+jwt", "kid": kind, **(header or {})}
    told = {name: value for name, value in told.items() if value is not None}
    if "typ" not in told:
        told["typ"] = None  # else the library writes its own
    return PyJWS().encode(payload, private_key(kind), named, told).encode()


def forged(header: Any, payload: Any = CLAIMS, signature: bytes = b"x" * 64) -> bytes:
    """A token nobody signed."""
    return b".".join((part(header), part(payload), part(signature)))
