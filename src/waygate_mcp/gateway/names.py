"""Public names: prefixes, the rule of 64 characters, patterns of allow and deny lists.

Spec: 2025-11-25 server/tools, "Tool Names"; protocol.md 5, "Names"; decisions.md 12.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence

__all__ = ["is_allowed_by", "public_name"]

MAX_NAME_CHARS = 64
_KEPT_CHARS = 55
_HASH_CHARS = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def public_name(prefix: str, name: str) -> str:
    """Give the name clients see for `name` under `prefix`.

    Without a prefix it is the name itself. With one, characters outside `A-Za-z0-9_-` become `_` and
    what is longer than 64 characters keeps 55; both then end in `_` and 8 characters of a hash of the
    original, so that different names stay different.
    """
    if not prefix:
        return name
    full = prefix + name
    safe = _UNSAFE.sub("_", full)
    if safe == full and len(full) <= MAX_NAME_CHARS:
        return full
    digest = hashlib.sha256(full.encode()).digest()
    tail = base64.b32encode(digest).decode().lower()[:_HASH_CHARS]
    return f"{safe[:_KEPT_CHARS]}_{tail}"


def is_allowed_by(allow: Sequence[str] | None, deny: Sequence[str]) -> Callable[[str], bool]:
    """Build the check of a name against patterns in which `*` stands for any text.

    Deny wins; no allow list allows all, an empty one nothing.
    """
    allowed = _any_of(allow) if allow is not None else None
    denied = _any_of(deny) if deny else None

    def check(name: str) -> bool:
        if denied is not None and denied.match(name):
            return False
        return allowed is None or allowed.match(name) is not None

    return check


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Compile patterns into one; no pattern matches nothing."""
    alternatives = (re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
    return re.compile(f"(?:{'|'.join(alternatives)})\\Z" if patterns else r"(?!)", re.DOTALL)
