from __future__ import annotations

import pytest

from waygate_mcp.model.permissions import (
    BUILTIN_ROLES,
    NAMED,
    PERMISSIONS,
    Grant,
    Narrowing,
    expand,
)
from waygate_mcp.protocol.methods import METHODS


def test_every_permission_a_method_asks_for_exists() -> None:
    assert {method.permission for method in METHODS.values()} <= set(PERMISSIONS)
    assert set(NAMED) <= set(PERMISSIONS)


@pytest.mark.parametrize("role", BUILTIN_ROLES)
def test_the_built_in_roles_grant_what_exists(role: str) -> None:
    assert all(expand(word, role) for word in BUILTIN_ROLES[role])


@pytest.mark.parametrize(
    ("word", "grants"),
    [
        ("*", (Grant("*"),)),
        ("tools:call", (Grant("tools:call"),)),
        ("tools:call:files__*", (Grant("tools:call", "files__*"),)),
        ("resources:read:file:///docs/*", (Grant("resources:read", "file:///docs/*"),)),
        ("tools:*", (Grant("tools:list"), Grant("tools:call"))),
    ],
)
def test_a_word_of_a_role_becomes_its_grants(word: str, grants: tuple[Grant, ...]) -> None:
    assert expand(word) == grants
    assert [str(one) for one in expand("tools:call:files__*")] == ["tools:call:files__*"]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("tools:cal", "no permission 'tools:cal'"),
        ("tool:*", "no permission"),
        ("", "no permission"),
        ("admin:keys:mine", "no named entries"),
        ("tools:call:", "is empty"),
    ],
)
def test_a_word_that_means_nothing_is_refused(word: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        expand(word)


def test_a_grant_covers_its_own_permission_and_names_alone() -> None:
    grant = Grant("tools:call", "files__*")
    assert grant.covers("tools:call", "files__read")
    assert not grant.covers("tools:call", "web__read")
    assert not grant.covers("tools:list", "files__read")
    assert Grant("*").covers("admin:keys", "")


def test_a_narrowing_is_about_endpoint_upstream_and_name() -> None:
    narrowing = Narrowing(("dev",), ("files", "web*"), ("*read*",))
    assert not narrowing.is_wide
    assert Narrowing().is_wide
    assert narrowing.admits("dev")
    assert not narrowing.admits("default")
    assert narrowing.knows("website")
    assert narrowing.reaches("dev", "files")
    assert not narrowing.reaches("default", "files")
    assert narrowing.covers("dev", "files", "files__read_file")
    assert not narrowing.covers("dev", "files", "files__write")
    assert not narrowing.covers("dev", "mail", "mail__read")
    assert narrowing.names_cover("x_read")
