from __future__ import annotations

import pytest

from waygate_mcp.model.principal import ANONYMOUS, LOCAL, Principal


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
