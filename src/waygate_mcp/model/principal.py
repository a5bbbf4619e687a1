"""Who is calling.

Knows the identity a door has established. Refuses to know credentials and how they were checked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["ANONYMOUS", "LOCAL", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """One identity, equal wherever the same credential was presented.

    `id` is stable and unique over all kinds (`key:4f2a…`, `anonymous`, `local`) and is what
    records and limits count by; `name` is for people. `permissions` are `verb:object` words, `*`
    grants all (surface.md 5). `fingerprint` (16 bytes) stands for the principal in sealed tokens.
    """

    id: str
    name: str
    permissions: frozenset[str] = frozenset()
    fingerprint: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the fingerprint once; tokens are compared against it on every call."""
        digest = hashlib.blake2b(self.id.encode(), digest_size=16, person=b"waygate-princip")
        object.__setattr__(self, "fingerprint", digest.digest())

    def may(self, permission: str) -> bool:
        """Tell whether `permission` was granted, literally or by `*`."""
        return permission in self.permissions or "*" in self.permissions


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({"*"}))
"""The caller where `auth.mode` is none, which is refused unless bound to loopback."""

LOCAL = Principal("local", "local process", frozenset({"*"}))
"""The caller on standard input: whoever started the process owns it."""
