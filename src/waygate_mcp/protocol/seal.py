"""Authenticated encryption of what travels through clients: session ids, request states, cursors.

Knows keys and bytes. Refuses to know what is inside a payload, and what time it is: expiry is the
reader's to check. A sealed text is `version · key id · nonce · AES-256-GCM(payload)` in unpadded
base64url, so visible ASCII only. `purpose` is bound in as associated data: a session id is never a
request state (threat model rule 13).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["MAX_PAYLOAD_BYTES", "KeyRing", "SealError", "derive_key"]

_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 2
_KEY_BYTES = 32
_MAX_SEALED_CHARS = 96 * 1024
MAX_PAYLOAD_BYTES = _MAX_SEALED_CHARS // 4 * 3 - _HEAD_BYTES - _NONCE_BYTES - _TAG_BYTES
"""The largest payload that can be sealed: a longer text would not be opened again."""


class SealError(ValueError):
    """The text was not sealed by this ring for this purpose. It does not say why."""


def derive_key(master: bytes, label: str) -> bytes:
    """Derive a 32-byte key for one use from the master secret (HKDF-SHA256)."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"waygate/" + label.encode()).derive(master)


class KeyRing:
    """Seals with one key and opens with all it holds, so that keys can be rotated.

    `keys` maps key ids 0…255 to 32-byte keys; `active` is the one that seals. `random` gives nonces
    and is replaced in tests only.
    """

    def __init__(
        self,
        keys: Mapping[int, bytes],
        active: int,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if any(len(key) != _KEY_BYTES for key in keys.values()):
            raise ValueError(f"a sealing key has {_KEY_BYTES} bytes")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._active = active
        self._cipher = self._ciphers[active]
        self._random = random

    @classmethod
    def from_master(cls, master: bytes, label: str = "seal") -> KeyRing:
        """Build a ring of one key derived from the master secret."""
        return cls({0: derive_key(master, label)}, 0)

    def seal(self, payload: bytes, purpose: str) -> str:
        """Encrypt `payload` for `purpose`.

        Raises:
            ValueError: the payload is larger than MAX_PAYLOAD_BYTES.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a sealed payload has at most {MAX_PAYLOAD_BYTES} bytes")
        nonce = self._random(_NONCE_BYTES)
        head = bytes((_VERSION, self._active))
        sealed = self._cipher.encrypt(nonce, payload, head + purpose.encode())
        return base64.urlsafe_b64encode(head + nonce + sealed).rstrip(b"=").decode()

    def open(self, text: str, purpose: str) -> bytes:
        """Give back the payload of a text sealed for `purpose`.

        Raises:
            SealError: anything else, always the same.
        """
        raw = _from_base64(text)
        cipher = self._ciphers.get(raw[1])
        if raw[0] != _VERSION or cipher is None:
            raise SealError("not a sealed text of ours")
        head, body = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
        try:
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], head + purpose.encode())
        except InvalidTag:
            raise SealError("not a sealed text of ours") from None


def _from_base64(text: str) -> bytes:
    """Undo the base64url, canonical form only, so that no two texts mean the same payload."""
    if len(text) > _MAX_SEALED_CHARS:
        raise SealError("not a sealed text of ours")
    try:
        encoded = text.encode("ascii")
        raw = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise SealError("not a sealed text of ours") from None
    is_canonical = base64.urlsafe_b64encode(raw).rstrip(b"=") == encoded
    if not is_canonical or len(raw) < _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES:
        raise SealError("not a sealed text of ours")
    return raw
