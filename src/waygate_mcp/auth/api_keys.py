"""From the credential headers of a request to a Principal.

Knows two headers, `authorization: Bearer …` and `x-api-key`, and nothing else: never the query, a
cookie, the body or `_meta` (threat model rule 4). Refuses to know where keys are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from hmac import compare_digest

from waygate_mcp.auth.key_book import KeyBook
from waygate_mcp.auth.key_text import ID_CHARS, PREFIX, KeyHash
from waygate_mcp.errors import RemoteProtocolError, UnauthenticatedError
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import Grant
from waygate_mcp.model.principal import ANONYMOUS, Principal, principal_of

__all__ = ["AnonymousAuthenticator", "ApiKeyAuthenticator", "KeyRecord"]

_PREFIX = PREFIX.encode()
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

    `records` are keys that are in no store: the bootstrap key. `book` has all others, and `roles` says
    what their roles grant. A key is looked up by its public id, then its hash is compared in constant
    time; a key nobody knows costs the same, since it is compared with a hash that no key has.
    """

    def __init__(
        self,
        key_hash: KeyHash,
        records: Iterable[KeyRecord],
        book: KeyBook | None = None,
        roles: Mapping[str, Sequence[Grant]] | None = None,
    ) -> None:
        self._hash_key = key_hash.key
        self._book = book
        self._roles = roles or {}
        self._principals: dict[str, tuple[int, Principal]] = {}
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
        head = key[:_HEAD_CHARS]
        record = self._by_head.get(head)
        if record is None and self._book is not None and head[: len(PREFIX)] == _PREFIX:
            stored = self._book.find(head[len(PREFIX) :].decode("latin-1"))
            if stored is not None:
                return self._stored(stored, digest, self._book)
        if compare_digest(digest, (record or self._other).digest):
            return (record or self._other).principal
        raise UnauthenticatedError("the key is not valid", reason="invalid")

    def _stored(self, key: StoredKey, digest: bytes, book: KeyBook) -> Principal:
        """Decide about a key of the book.

        Raises:
            UnauthenticatedError: it is not the key's text, or the key is good no more.
        """
        now = datetime.fromtimestamp(book.now(), UTC)
        is_right = compare_digest(digest, key.digest)
        is_old = compare_digest(digest, key.previous_digest or key.digest) and not is_right
        if not is_right and not is_old:
            raise UnauthenticatedError("the key is not valid", reason="invalid")
        state = key.state(now)
        if state in ("revoked", "expired"):
            raise UnauthenticatedError(f"the key is {state}", reason=state)
        if is_old and state != "rotating":
            raise UnauthenticatedError("the key was rotated", reason="rotated")
        book.note_use(key.id)
        version, principal = self._principals.get(key.id, (-1, None))
        if principal is None or version != key.version:
            grants = [grant for role in key.roles for grant in self._roles.get(role, ())]
            principal = principal_of(
                f"key:{key.id}", key.name, grants, key.narrowing,
                roles=key.roles, limits=key.limits,
            )  # fmt: skip
            self._principals[key.id] = (key.version, principal)
        return principal


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
