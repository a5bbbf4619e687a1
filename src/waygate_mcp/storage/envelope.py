"""How a secret is encrypted at rest: a key of its own for each, wrapped by one derived from the master key.

    ciphertext   AES-256-GCM(data key, nonce, text)            bound to name and version
    wrapped_key  nonce · AES-256-GCM(wrapping key, data key)   bound to name, version and key id
    key_id       says under which master key it is wrapped, and nothing about that key

Moved to another name or another version, neither part opens. A new master key means new wrapped keys; the
ciphertext stays. Refuses to know tables and clocks, and what a version is.
Spec: threat model rule 32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from waygate_mcp.errors import StorageError
from waygate_mcp.protocol.seal import derive_key

__all__ = ["Envelope", "SealedSecret"]

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """One secret as it is stored."""

    name: str
    version: int
    key_id: str
    wrapped_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


class Envelope:
    """Seals under one master key, and opens what was sealed under it or the one before.

    `random` gives keys and nonces and is replaced in tests only.
    """

    def __init__(
        self,
        master: bytes,
        previous: bytes | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.key_id = _key_id(master)
        """Of the master key that seals."""
        self._wrapping = {self.key_id: AESGCM(derive_key(master, "secrets"))}
        if previous is not None:
            self._wrapping[_key_id(previous)] = AESGCM(derive_key(previous, "secrets"))
            self._wrapping[self.key_id] = AESGCM(derive_key(master, "secrets"))
        self._random = random

    def seal(self, name: str, version: int, text: str) -> SealedSecret:
        """Encrypt a text under a new key of its own."""
        data_key, nonce = self._random(_KEY_BYTES), self._random(_NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, text.encode(), _bound(name, version))
        wrapped = self._wrap(data_key, name, version)
        return SealedSecret(name, version, self.key_id, wrapped, nonce, ciphertext)

    def open(self, sealed: SealedSecret) -> str:
        """Give back the text.

        Raises:
            StorageError: it is sealed under a master key that is not known here, or not what was stored
                under this name and version.
        """
        data_key = self._unwrap(sealed)
        try:
            bound = _bound(sealed.name, sealed.version)
            return AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, bound).decode()
        except (InvalidTag, ValueError):
            raise _damaged(sealed.name) from None

    def rewrap(self, sealed: SealedSecret) -> SealedSecret:
        """Give the same secret wrapped under the master key that seals.

        Raises:
            StorageError: see `open`; the ciphertext itself is not looked at.
        """
        wrapped = self._wrap(self._unwrap(sealed), sealed.name, sealed.version)
        return replace(sealed, key_id=self.key_id, wrapped_key=wrapped)

    def _wrap(self, data_key: bytes, name: str, version: int) -> bytes:
        nonce = self._random(_NONCE_BYTES)
        bound = _bound(name, version, self.key_id)
        return nonce + self._wrapping[self.key_id].encrypt(nonce, data_key, bound)

    def _unwrap(self, sealed: SealedSecret) -> bytes:
        wrapping = self._wrapping.get(sealed.key_id)
        if wrapping is None:
            raise StorageError(
                f"the secret {sealed.name!r} is stored under another secret key: name that one's file "
                "in WAYGATE_SECRET_KEY_PREVIOUS_FILE, or store the secret anew with: "
                f"waygate secrets set {sealed.name}"
            )
        nonce, wrapped = sealed.wrapped_key[:_NONCE_BYTES], sealed.wrapped_key[_NONCE_BYTES:]
        try:
            bound = _bound(sealed.name, sealed.version, sealed.key_id)
            return wrapping.decrypt(nonce, wrapped, bound)
        except (InvalidTag, ValueError):
            raise _damaged(sealed.name) from None


def _key_id(master: bytes) -> str:
    return derive_key(master, "secrets-key-id")[:_ID_BYTES].hex()


def _bound(name: str, version: int, *more: str) -> bytes:
    """Give the associated data; names hold no NUL."""
    return "\0".join(("waygate secret 1", name, str(version), *more)).encode()


def _damaged(name: str) -> StorageError:
    return StorageError(
        f"the secret {name!r} is damaged, or another's was put in its place; store it anew with: "
        f"waygate secrets set {name}"
    )
