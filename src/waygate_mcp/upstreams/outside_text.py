"""Text from outside made fit for one line of our log.

Knows escaping and clipping. Refuses to know where a text came from.
Spec: threat model rule 34.
"""

from __future__ import annotations

__all__ = ["clipped"]

_MAX_CHARS = 500


def clipped(text: bytes | str, most: int = _MAX_CHARS) -> str:
    """Give the text without control or invisible characters, at most `most` characters of it."""
    whole = text[: most * 4].decode(errors="replace") if isinstance(text, bytes) else text
    shown = whole[:most]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return safe + "…" if len(text) > len(shown) and len(whole) > most else safe
