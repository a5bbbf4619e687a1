"""The text of an API key: how one is made, recognised and hashed.

    wg_ 12 characters _ 43 characters 6 characters
    │   │ public id     │ 256 bits    └ CRC-32 of all before it
    │                   └ of the system's random source
    └ says what it is, to people and to scanners that look for leaked keys

All in base62, so that a double click selects the whole of it. The checksum finds typing errors and
is no protection; the hash, keyed with a key of its own, is what is stored (threat model rule 7).
Refuses to know who a key belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable

from waygate_mcp.protocol.seal import derive_key

__all__ = ["ID_CHARS", "PREFIX", "KeyHash", "find_public_id", "has_key_form", "make_key"]

PREFIX = "wg_"
ID_CHARS = 12
_SECRET_BYTES = 32
_SECRET_CHARS = 43
_CHECK_CHARS = 6
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(rf"wg_([0-9A-Za-z]{{{ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS + _CHECK_CHARS}}}")
_DIGEST_BYTES = 32


class KeyHash:
    """Hashes keys with BLAKE2b, keyed by a key derived from the master key."""

    def __init__(self, master: bytes) -> None:
        self.key = derive_key(master, "api-keys")

    def digest(self, key_text: bytes) -> bytes:
        """Give the 32 bytes that are stored of a key."""
        return hashlib.blake2b(key_text, key=self.key, digest_size=_DIGEST_BYTES).digest()


def make_key(random: Callable[[int], bytes] = os.urandom, *, public_id: str | None = None) -> str:
    """Make a new key, or another text for the one of that public id. It is shown once and nowhere kept."""
    public_id = public_id or _base62(int.from_bytes(random(16), "big"), ID_CHARS)
    secret = _base62(int.from_bytes(random(_SECRET_BYTES), "big"), _SECRET_CHARS)
    body = f"{PREFIX}{public_id}_{secret}"
    return body + _checksum(body)


def has_key_form(text: str) -> bool:
    """Tell whether `text` looks like a key of ours, its checksum aside."""
    return _FORM.fullmatch(text) is not None


def find_public_id(text: str) -> str | None:
    """Give the public id of a key of ours, None where it has no such form or a wrong checksum."""
    match = _FORM.fullmatch(text)
    if match is None or _checksum(text[:-_CHECK_CHARS]) != text[-_CHECK_CHARS:]:
        return None
    return match[1]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
