"""Roles in shadow: who would lose what, and nobody else."""

from __future__ import annotations

import pytest

from waygate_mcp.config.roles import roles_of
from waygate_mcp.model import shadow as module
from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import Principal, principal_of
from waygate_mcp.model.shadow import ShadowRoles

ROLES = roles_of({"agent": ["session:open", "tools:list", "tools:call"], "other": ["tools:call"]})


def shadows(**roles: list[str]) -> ShadowRoles:
    return ShadowRoles(ROLES, roles_of(roles, built_in=False))


def having(*roles: str, narrowing: Narrowing | None = None) -> Principal:
    grants = [grant for role in roles for grant in ROLES[role]]
    return principal_of("key:a", "a", grants, narrowing, roles=roles)


NARROWER = shadows(agent=["session:open", "tools:list", "tools:call:files__read*"])


@pytest.mark.parametrize(
    ("roles", "name", "refusing"),
    [
        (("agent",), "files__read_it", ()),
        (("agent",), "files__write", ("agent",)),
        (("other",), "files__write", ()),
        (("agent", "admin"), "files__write", ()),
    ],
)
def test_what_a_role_would_no_longer_grant_is_refused_by_it(
    roles: tuple[str, ...], name: str, refusing: tuple[str, ...]
) -> None:
    for _ in range(2):  # the second time from memory
        assert NARROWER.refusing(having(*roles), "tools:call", "default", "files", name) == refusing


def test_what_would_no_longer_be_listed_is_refused() -> None:
    unlisted = shadows(agent=["session:open", "tools:list:files__read", "tools:call"])
    told = [
        unlisted.refusing(having("agent"), "tools:call", "default", "files", name)
        for name in ("files__read", "files__write")
    ]
    assert told == [(), ("agent",)]


def test_methods_about_no_entry_need_their_permission() -> None:
    mute = shadows(agent=["tools:list"])
    told = [
        mute.refusing(having("agent"), permission, "default", "", "")
        for permission in ("tools:list", "session:open")
    ]
    assert told == [(), ("agent",)]


def test_a_built_in_role_may_be_in_shadow() -> None:
    viewing = shadows(admin=["tools:list"])
    assert viewing.refusing(having("admin"), "tools:call", "default", "up", "x") == ("admin",)


def test_what_a_token_has_of_no_role_stays_its_own() -> None:
    grants = [*ROLES["agent"], Grant("tools:call", "own__*")]
    narrow = [Grant("tools:list"), Grant("tools:call", "own__*")]
    gone = shadows(agent=["tools:list"])
    wide, own = (principal_of("oauth:a", "a", each, roles=("agent",)) for each in (grants, narrow))
    for token in (wide, own):
        assert gone.refusing(token, "tools:call", "default", "up", "files__x") == ("agent",)
    assert gone.refusing(own, "tools:call", "default", "up", "own__x") == ()


def test_no_more_is_remembered_than_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KNOWN", 1)
    found = shadows(agent=["session:open"])
    for id_ in ("key:a", "key:b", "key:a"):
        one = principal_of(id_, "a", ROLES["agent"], roles=("agent",))
        assert found.refusing(one, "tools:call", "default", "up", "x") == ("agent",)
        assert len(found._known) == 1
