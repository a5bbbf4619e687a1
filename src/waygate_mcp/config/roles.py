"""`roles:` of the document: names for sets of permissions.

Knows how a role is written and that the built-in ones exist. Refuses to know who has a role.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from waygate_mcp.config.suggest import nearest
from waygate_mcp.model.permissions import BUILTIN_ROLES, PERMISSIONS, Grant, expand

__all__ = ["Permission", "known_permission", "roles_of"]


def known_permission(word: str) -> str:
    """Give a permission back as it is written.

    Raises:
        ValueError: there is none of that name; with the nearest one.
    """
    try:
        expand(word)
    except ValueError as exc:
        near = nearest(":".join(word.split(":")[:2]), PERMISSIONS)
        hint = f"; did you mean {near}?" if near and "there is no" in str(exc) else ""
        raise ValueError(f"{exc}{hint}") from None
    return word


Permission = Annotated[
    str, StringConstraints(min_length=1, max_length=300), AfterValidator(known_permission)
]
"""`verb:object`, `verb:object:PATTERN`, `verb:*` or `*`."""


def roles_of(
    defined: Mapping[str, Iterable[str]], *, built_in: bool = True
) -> dict[str, tuple[Grant, ...]]:
    """Give every role with its grants: the built-in ones, and those a document defines."""
    words = {**(BUILTIN_ROLES if built_in else {}), **defined}
    return {
        role: tuple(grant for word in found for grant in expand(word, role))
        for role, found in words.items()
    }
