from __future__ import annotations

import pytest

from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import ANONYMOUS, LOCAL, Principal, principal_of


def test_a_fingerprint_stands_for_the_id_and_nothing_else() -> None:
    one = Principal("key:1", "one", frozenset({"tools:call"}))
    same = Principal("key:1", "renamed")
    assert one.fingerprint == same.fingerprint
    assert len(one.fingerprint) == 16
    others = [Principal("key:2", "one"), ANONYMOUS, LOCAL]
    assert len({principal.fingerprint for principal in [one, *others]}) == 4


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        (set(), False),
        ({"tools:call"}, True),
        ({"tools"}, False),
        ({"tools:*"}, False),
        ({"TOOLS:CALL"}, False),
        ({"*"}, True),
    ],
)
def test_a_permission_is_granted_literally_or_by_a_star(granted: set[str], allowed: bool) -> None:
    assert Principal("p", "p", frozenset(granted)).may("tools:call") is allowed


def test_no_permission_means_nothing_is_allowed() -> None:
    assert not Principal("p", "p").may("")


def test_the_two_unnamed_callers_may_do_everything_where_they_exist_at_all() -> None:
    assert ANONYMOUS.may("metrics:read")
    assert LOCAL.may("metrics:read")


def test_a_principal_does_not_print_what_tokens_compare() -> None:
    assert "fingerprint" not in repr(ANONYMOUS)


def test_one_that_is_restricted_nowhere_has_no_scope() -> None:
    assert LOCAL.scope is None
    assert principal_of("p", "p", [Grant("*"), Grant("tools:call", "a*")]).scope is None
    assert principal_of("p", "p", [Grant("tools:call", "a*"), Grant("tools:call")]).scope is None
    assert principal_of("p", "p", [Grant("tools:call")], Narrowing()).scope is None
    assert LOCAL.may_use("tools:call", "default", "any", "any")
    assert LOCAL.may_enter("any")
    assert LOCAL.may_reach("any", "any")
    assert LOCAL.may_know("any")
    assert LOCAL.grant_for("tools:call", "any") == Grant("tools:call")
    assert Principal("p", "p").grant_for("tools:call", "any") is None


def test_grants_of_named_entries_are_about_those_alone() -> None:
    one = principal_of("p", "p", [Grant("tools:list"), Grant("tools:call", "files__*", "reader")])
    assert one.may("tools:call")
    assert one.may_use("tools:call", "default", "files", "files__read")
    assert not one.may_use("tools:call", "default", "web", "web__get")
    assert one.grant_for("tools:call", "files__read") == Grant("tools:call", "files__*", "reader")
    assert one.scope == principal_of("q", "q", one.grants or ()).scope


def test_a_narrowing_outweighs_every_grant() -> None:
    narrowing = Narrowing(("dev",), ("files",), ("*read",))
    one = principal_of("p", "p", [Grant("*")], narrowing)
    assert one.may_use("tools:call", "dev", "files", "files__read")
    for endpoint, provider, name in (
        ("default", "files", "files__read"),
        ("dev", "web", "web__read"),
        ("dev", "files", "files__write"),
    ):
        assert not one.may_use("tools:call", endpoint, provider, name)
    assert not one.may_enter("default")
    assert not one.may_reach("dev", "web")
    assert not one.may_know("web")


@pytest.mark.parametrize(
    ("grants", "sees"),
    [
        ([Grant("tools:list"), Grant("tools:call", "a")], {"a"}),
        ([Grant("tools:list"), Grant("prompts:get", "x")], {"a", "b"}),
        ([Grant("tools:list", "b"), Grant("tools:call", "a")], set()),
        ([Grant("tools:call", "a")], set()),
    ],
)
def test_lists_show_what_may_be_used_and_to_one_who_uses_nothing_what_may_be_listed(
    grants: list[Grant], sees: set[str]
) -> None:
    one = principal_of("p", "p", grants)
    assert {name for name in "ab" if one.may_see("tools:list", "default", "x", name)} == sees
