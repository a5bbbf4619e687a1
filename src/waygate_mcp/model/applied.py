"""A document that was put in force, as the history keeps it."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

__all__ = ["BY_FILE", "AppliedDocument", "digest_of"]

BY_FILE = "file"
"""Who put a document in force that was edited by hand."""


class AppliedDocument(msgspec.Struct, frozen=True):
    """One entry of the history. `number` only grows, `digest` is that of the file as it was.

    `is_masked`: secrets that stood in it in clear were taken out, so it cannot be put in force again.
    """

    number: int
    digest: str
    text: str
    applied_at: datetime
    applied_by: str
    reason: str

    @property
    def is_masked(self) -> bool:
        """Tell whether the text is not that of the file."""
        return digest_of(self.text.encode()) != self.digest


def digest_of(data: bytes) -> str:
    """Give what tells one text of a document from all others: SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
