"""Public names and URIs: prefixes, the rule of 64 characters, patterns, names unfit to be shown.

Spec: 2025-11-25 server/tools, "Tool Names"; protocol.md 5, "Names" and "URIs"; decisions.md 12; threat
model rule 25.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence

import msgspec

from waygate_mcp.model.look_alikes import look_alike
from waygate_mcp.model.patterns import any_of

__all__ = ["UriMark", "hidden_character", "is_allowed_by", "look_alike", "public_name"]

MAX_NAME_CHARS = 64
_KEPT_CHARS = 55
_HASH_CHARS = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_UI = "ui://"

# Control and format characters, surrogates, private and unassigned ones, line and paragraph breaks.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that are drawn as nothing (Default_Ignorable_Code_Point outside these categories).
_DRAWN_AS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


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


def is_allowed_by(allow: Sequence[str] | None, deny: Sequence[str]) -> Callable[..., bool]:
    """Build the check of an entry's names against patterns in which `*` stands for any text.

    Deny wins; no allow list allows all, an empty one nothing. One with two names, because the operator
    gave it another, is meant by either.
    """
    allowed = any_of(allow) if allow is not None else None
    denied = any_of(deny) if deny else None

    def check(*names: str) -> bool:
        if denied is not None and any(denied.match(name) for name in names):
            return False
        return allowed is None or any(allowed.match(name) for name in names)

    return check


def hidden_character(text: str) -> str | None:
    """Say which character of a name or URI cannot be seen, None where all can."""
    if text.isascii() and text.isprintable():
        return "white space at an end" if text.strip() != text else None
    for character in text:
        category = unicodedata.category(character)
        is_space = category == "Zs" and character != " "
        if category in _UNSEEN_CATEGORIES or is_space or _DRAWN_AS_NOTHING.match(character):
            return f"the character U+{ord(character):04X}, which cannot be seen"
    return "white space at an end" if text.strip() != text else None


class UriMark(msgspec.Struct, frozen=True):
    """What an operator puts before the URIs of one binding, so that they clash with nobody's.

    `memo://a` becomes `text+memo://a`. `ui://` stays the scheme, because clients look for it there:
    `ui://a` becomes `ui://text/a`. An empty text leaves all as it is.
    """

    text: str = ""

    def add(self, uri: str) -> str:
        """Give the public URI (or URI template) of a provider's own."""
        if not self.text:
            return uri
        if uri.startswith(_UI):
            return f"{_UI}{self.text}/{uri.removeprefix(_UI)}"
        return f"{self.text}+{uri}"

    def remove(self, uri: str) -> str | None:
        """Give the provider's own URI of a public one, None where it does not bear this mark."""
        if not self.text:
            return uri
        if uri.startswith(lead := f"{_UI}{self.text}/"):
            return _UI + uri.removeprefix(lead)
        if uri.startswith(lead := f"{self.text}+") and not uri.startswith(f"{lead}{_UI}"):
            return uri.removeprefix(lead)
        return None
