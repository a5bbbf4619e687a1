"""From the credential headers of a request to a Principal.

Knows two headers, `authorization: Bearer …` and `x-api-key`, and nothing else: never the query, a
cookie, the body or `_meta` (threat model rule 4). Refuses to know where keys are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest

from waygate_mcp.auth.key_text import ID_CHARS, PREFIX, KeyHash
from waygate_mcp.errors import RemoteProtocolError, UnauthenticatedError
from waygate_mcp.model.principal import ANONYMOUS, Principal

__all__ = ["AnonymousAuthenticator", "ApiKeyAuthenticator", "KeyRecord"]

_HEAD_CHARS = len(PREFIX) + ID_CHARS
_MAX_KEY_BYTES = 512
_DIGEST_BYTES = 32
_SCHEME = b"bearer "


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of one key: `public_id` is None for a text that is not of our form."""

    public_id: str | None
    digest: bytes
    principal: Principal


class ApiKeyAuthenticator:
    """Knows the keys that are valid now. Fulfils `model.ports.Authenticator`.

    A key is looked up by its public id, then its hash is compared in constant time; a key nobody
    knows costs the same, since it is compared with a hash that no key has.
    """

    def __init__(self, key_hash: KeyHash, records: Iterable[KeyRecord]) -> None:
        self._hash_key = key_hash.key
        self._by_head: dict[bytes, KeyRecord] = {}
        # A text without our form carries no id: one such key can be known, the bootstrap key.
        self._other = KeyRecord(None, os.urandom(_DIGEST_BYTES), Principal("nobody", "nobody"))
        for record in records:
            if record.public_id is None:
                self._other = record
            else:
                self._by_head[f"{PREFIX}{record.public_id}".encode()] = record

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Decide who is calling, from `authorization` and `x-api-key` alone.

        Raises:
            UnauthenticatedError: no credential, or not a valid one.
            RemoteProtocolError: two different credentials in one request.
        """
        key = headers.get(b"x-api-key")
        bearer = headers.get(b"authorization")
        if bearer is not None:
            key = _bearer_token(bearer, key)
        elif key is None:
            raise UnauthenticatedError("no credential", reason="missing")
        if len(key) > _MAX_KEY_BYTES:
            raise UnauthenticatedError("the key is too long", reason="invalid")
        digest = blake2b(key, key=self._hash_key, digest_size=_DIGEST_BYTES).digest()
        record = self._by_head.get(key[:_HEAD_CHARS], self._other)
        if compare_digest(digest, record.digest):
            return record.principal
        raise UnauthenticatedError("the key is not valid", reason="invalid")


class AnonymousAuthenticator:
    """Asks nobody: `auth.mode` none, on loopback only. Fulfils `model.ports.Authenticator`."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Give the anonymous principal, whatever the headers say."""
        return ANONYMOUS


def _bearer_token(value: bytes, other: bytes | None) -> bytes:
    """Take the token out of `authorization`; `other` is what `x-api-key` says."""
    token = value[len(_SCHEME) :]
    if value[: len(_SCHEME)].lower() != _SCHEME:
        if other is not None:
            raise _two_credentials()
        raise UnauthenticatedError("not a bearer token", reason="invalid")
    if other is not None and not compare_digest(token, other):
        raise _two_credentials()
    return token


def _two_credentials() -> RemoteProtocolError:
    text = "The request carries two different credentials."
    return RemoteProtocolError(text, safe_message=text)
