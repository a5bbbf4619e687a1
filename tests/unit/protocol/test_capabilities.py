from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import REVISIONS

MODERN = REVISIONS["2026-07-28"]
LATEST = REVISIONS["2025-11-25"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ["sampling", "roots", "elicitation", "extensions", "other"]


@pytest.mark.parametrize(
    ("declared", "revision", "expected"),
    [
        ({}, "2026-07-28", set()),
        ({"sampling": {}}, "2024-11-05", {"sampling"}),
        ({"sampling": {"tools": {}}}, "2025-11-25", {"sampling", "sampling_tools"}),
        ({"sampling": {"tools": {}}}, "2025-06-18", {"sampling"}),
        ({"sampling": {"tools": True}}, "2026-07-28", {"sampling"}),
        ({"sampling": True}, "2026-07-28", set()),
        ({"roots": {}}, "2024-11-05", {"roots"}),
        ({"roots": None}, "2024-11-05", set()),
        ({"elicitation": {}}, "2026-07-28", {"form"}),
        ({"elicitation": {"form": {}}}, "2026-07-28", {"form"}),
        ({"elicitation": {"url": {}}}, "2026-07-28", {"url"}),
        ({"elicitation": {"form": {}, "url": {}}}, "2025-11-25", {"form", "url"}),
        ({"elicitation": {"url": True}}, "2025-11-25", {"form"}),
        ({"elicitation": {"form": {}, "url": {}}}, "2025-06-18", {"form"}),
        # There is but one kind of elicitation in 2025-06-18, whatever stands inside.
        ({"elicitation": {"url": {}}}, "2025-06-18", {"form"}),
        ({"elicitation": {}}, "2025-03-26", set()),
        ({"elicitation": []}, "2025-11-25", set()),
    ],
)
def test_a_declaration_means_what_its_revision_says(
    declared: dict[str, Any], revision: str, expected: set[str]
) -> None:
    found = ClientCapabilities.parse(declared, REVISIONS[revision])
    names = ("sampling", "sampling_tools", "roots", "form", "url")
    assert {name for name in names if getattr(found, name)} == expected


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.sampled_from(list(REVISIONS)))
def test_any_declaration_is_read(declared: dict[str, Any], revision: str) -> None:
    found = ClientCapabilities.parse(declared, REVISIONS[revision])
    assert ClientCapabilities.parse(found.to_declaration(), REVISIONS[revision]) == found


@pytest.mark.parametrize("revision", REVISIONS.values(), ids=lambda revision: revision.text)
def test_what_is_rebuilt_is_a_declaration_of_the_specification(revision: Any) -> None:
    for bits in range(128):
        rebuilt = ClientCapabilities(bits, ("com.example/x",)).to_declaration()
        assert_valid(revision.text, "ClientCapabilities", rebuilt)
        again = ClientCapabilities.parse(rebuilt, revision)
        assert again.bits & ~bits in {0, 16}  # a url alone means a form where only forms exist


def test_all_parts_come_back() -> None:
    declared = {
        "sampling": {"tools": {}, "context": {}},
        "roots": {"listChanged": True},
        "elicitation": {"form": {}, "url": {}},
        "extensions": {"b.c/y": {}, "a.b/x": {}},
    }
    found = ClientCapabilities.parse(declared, MODERN)
    assert found.extensions == ("a.b/x", "b.c/y")
    assert found.to_declaration() == declared
    assert NO_CAPABILITIES.to_declaration() == {}


def test_equal_classes_are_equal_and_can_be_keys() -> None:
    parsed = [ClientCapabilities.parse({"roots": {}}, MODERN) for _ in range(2)]
    assert parsed[0] == parsed[1]
    assert len({*parsed, NO_CAPABILITIES}) == 2
    assert ClientCapabilities.parse({"extensions": {}}, MODERN) is NO_CAPABILITIES


def test_declared_extensions_are_bounded() -> None:
    declared: dict[str, Any] = {f"x/{number:03}": {} for number in range(100)} | {"y" * 129: {}}
    found = ClientCapabilities.parse({"extensions": declared}, MODERN)
    assert len(found.extensions) == 32
    assert max(map(len, found.extensions)) <= 128
    assert ClientCapabilities.parse({"extensions": ["x"]}, MODERN) == NO_CAPABILITIES


FORM: dict[str, Any] = {"elicitation": {"form": {}}}
URL: dict[str, Any] = {"elicitation": {"url": {}}}


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("sampling/createMessage", {}, {"sampling": {}}),
        ("sampling/createMessage", {"tools": [{}]}, {"sampling": {"tools": {}}}),
        ("sampling/createMessage", {"toolChoice": {}}, {"sampling": {"tools": {}}}),
        ("sampling/createMessage", {"tools": []}, {"sampling": {}}),
        ("roots/list", {}, {"roots": {}}),
        ("elicitation/create", {}, FORM),
        ("elicitation/create", {"mode": "form"}, FORM),
        ("elicitation/create", {"mode": "url"}, URL),
    ],
)
def test_a_question_needs_what_the_specification_names(
    method: str, params: dict[str, Any], needed: dict[str, Any]
) -> None:
    missing = NO_CAPABILITIES.missing_for(method, params)
    assert missing is not None
    assert set(missing) == set(needed)
    assert ClientCapabilities.parse(needed, MODERN).missing_for(method, params) is None
    assert ClientCapabilities(127).missing_for(method, params) is None
    assert_valid("2026-07-28", "ClientCapabilities", missing)


def test_exactly_what_is_missing_is_named() -> None:
    plain = ClientCapabilities.parse({"sampling": {}}, MODERN)
    missing = plain.missing_for("sampling/createMessage", {"tools": [{}]})
    assert missing == {"sampling": {"tools": {}}}
    url_only = ClientCapabilities.parse(URL, MODERN)
    assert url_only.missing_for("elicitation/create", {}) == FORM
    form_only = ClientCapabilities.parse({"elicitation": {}}, LATEST)
    assert form_only.missing_for("elicitation/create", {"mode": "url"}) == URL


def test_no_two_classes_share_their_bits() -> None:
    parts: list[dict[str, Any]] = [
        {"sampling": {}},
        {"sampling": {"tools": {}}},
        {"sampling": {"context": {}}},
        {"roots": {}},
        {"roots": {"listChanged": True}},
        {"elicitation": {}},
        {"elicitation": {"url": {}}},
    ]
    classes = [ClientCapabilities.parse(part, MODERN) for part in parts]
    for one, other in itertools.combinations(classes, 2):
        assert one != other


def test_news_of_roots_can_be_left_out_of_what_is_promised() -> None:
    told = ClientCapabilities.parse({"roots": {"listChanged": True}, "sampling": {}}, LATEST)
    assert told.roots_changed
    untold = told.without_roots_changed()
    assert not untold.roots_changed
    assert untold.to_declaration() == {"roots": {}, "sampling": {}}
    assert untold.without_roots_changed() == untold
