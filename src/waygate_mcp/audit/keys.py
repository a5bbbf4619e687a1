"""The keys of the journal, derived from the master key, each for one use.

Knows keyed BLAKE2b. Refuses to know files. Whoever lacks the master key can read the journal and
cannot write a record that verifies (threat model rule 38).
"""

from __future__ import annotations

import hashlib
import hmac

from waygate_mcp.protocol.seal import derive_key

__all__ = ["MAC_BYTES", "NO_MAC", "AuditKeys"]

MAC_BYTES = 16
NO_MAC = b"0" * (2 * MAC_BYTES)
"""What the first record of a chain names as the one before it."""


class AuditKeys:
    """What the journal is written and checked with."""

    def __init__(self, master: bytes) -> None:
        self._chain = hashlib.blake2b(key=derive_key(master, "audit/chain"), digest_size=MAC_BYTES)
        self._head = hashlib.blake2b(key=derive_key(master, "audit/head"), digest_size=MAC_BYTES)
        self._digest = hashlib.blake2b(
            key=derive_key(master, "audit/arguments"), digest_size=MAC_BYTES
        )

    def mac(self, line: bytes) -> bytes:
        """Give the MAC, as hex, of a record's bytes up to its own MAC."""
        state = self._chain.copy()
        state.update(line)
        return state.hexdigest().encode()

    def sign(self, text: bytes) -> str:
        """Sign a head or a tombstone."""
        state = self._head.copy()
        state.update(text)
        return state.hexdigest()

    def is_signed(self, text: bytes, signature: str) -> bool:
        """Tell whether `sign` made this signature."""
        return hmac.compare_digest(self.sign(text).encode(), signature.encode())

    def digest(self, arguments: bytes) -> str:
        """Give what stands for arguments: equal for equal bytes, and no guess can be checked without the key."""
        state = self._digest.copy()
        state.update(arguments)
        return state.hexdigest()
