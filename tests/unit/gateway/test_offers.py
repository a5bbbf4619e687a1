"""What a binding offers: under which name, with which words, and what is left out by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.scripted import Scripted
from waygate_mcp.gateway.names import UriMark, is_allowed_by
from waygate_mcp.gateway.offers import Binding, Offers, Part, Rules
from waygate_mcp.model.catalog import Entry, Kind

ONE = Binding(Scripted("one"), "")
TWO = Binding(Scripted("two"), "two__", UriMark("two"))


def entry(name: str, kind: Kind = Kind.TOOL, **members: Any) -> Entry:
    key = {Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}.get(kind, "name")
    return Entry(kind, name, json.dumps({key: name, **members}).encode())


def part(binding: Binding, *entries: Entry, kind: Kind = Kind.TOOL, **rules: Any) -> Part:
    return Offers([ONE, TWO], Rules(**rules)).part(kind, binding, entries)


def shown(made: Part) -> list[str]:
    return [offer.name for offer in made.offers]


def reasons(made: Part) -> list[tuple[str, str]]:
    return [(one.original, one.reason) for one in made.hidden]


def only(made: Part) -> Any:
    [offer] = made.offers
    return json.loads(offer.definition)


def test_a_definition_under_its_own_name_keeps_its_bytes() -> None:
    given = entry("greet", annotations={"a": 1.50})
    [offer] = part(ONE, given).offers
    assert offer.definition is given.definition
    assert (offer.found.target, offer.found.provider) == ("greet", ONE.provider)


def test_offers_stand_in_the_order_of_their_public_names() -> None:
    entries = [entry("b"), entry("a"), entry("c")]
    assert shown(part(TWO, *entries)) == ["two__a", "two__b", "two__c"]
    assert shown(part(TWO, *entries, rename={"two__c": "a"})) == ["a", "two__a", "two__b"]


def test_a_tool_gets_another_name_title_and_description_by_the_name_it_has_without() -> None:
    given = entry("greet", title="T", description="D", annotations={"title": "A", "x": 1})
    made = part(
        TWO,
        given,
        rename={"two__greet": "hello"},
        titles={"two__greet": "Ours"},
        descriptions={"two__greet": "Says hello."},
    )
    assert only(made) == {
        "name": "hello",
        "title": "Ours",
        "description": "Says hello.",
        "annotations": {"title": "Ours", "x": 1},
    }
    assert made.keys == {"two__greet"}


def test_words_may_be_given_alone_and_need_no_annotations() -> None:
    assert only(part(ONE, entry("a"), titles={"a": "T"})) == {"name": "a", "title": "T"}
    made = part(ONE, entry("a", annotations=None), titles={"a": "T"})
    assert only(made) == {"name": "a", "annotations": None, "title": "T"}
    assert only(part(ONE, entry("a"), descriptions={"a": "D"})) == {"name": "a", "description": "D"}


def test_only_tools_are_renamed() -> None:
    made = part(
        ONE, entry("a", Kind.PROMPT), kind=Kind.PROMPT, rename={"a": "b"}, titles={"a": "T"}
    )
    assert only(made) == {"name": "a"}


def test_a_renamed_tool_is_filtered_by_either_name() -> None:
    def names(allow: Any, deny: Any = ()) -> list[str]:
        tools = is_allowed_by(allow, deny)
        return shown(part(TWO, entry("a"), entry("b"), rename={"two__a": "x"}, tools=tools))

    assert names(("x",)) == ["x"]
    assert names(("two__*",)) == ["two__b", "x"]
    assert names(None, ("two__a",)) == ["two__b"]
    assert names(None, ("x",)) == ["two__b"]


def test_prompts_and_resources_have_filters_of_their_own() -> None:
    def none(*_names: str) -> bool:
        return False

    for kind, rule in (
        (Kind.PROMPT, "prompts"),
        (Kind.RESOURCE, "resources"),
        (Kind.TEMPLATE, "resources"),
    ):
        assert shown(part(ONE, entry("x://a", kind), kind=kind)) == ["x://a"]
        assert shown(part(ONE, entry("x://a", kind), kind=kind, **{rule: none})) == []


def test_a_template_that_is_not_shown_still_leads_somewhere() -> None:
    """What it leads to is checked by itself when it is read."""
    resources = is_allowed_by(("memo://days/1",), ())
    made = part(
        ONE, entry("memo://days/{d}", Kind.TEMPLATE), kind=Kind.TEMPLATE, resources=resources
    )
    assert shown(made) == []
    assert [template.text for template, _ in made.templates] == ["memo://days/{d}"]


def test_a_template_that_cannot_be_read_is_shown_and_reported() -> None:
    made = part(ONE, entry("memo://{a:3}", Kind.TEMPLATE), kind=Kind.TEMPLATE)
    assert shown(made) == ["memo://{a:3}"]
    assert made.templates == ()
    assert "is shown, but no URI leads to it" in reasons(made)[0][1]


def test_unfit_names_are_left_out_one_by_one_with_a_reason() -> None:
    names = ["good", "in\u200bvisible", "gr\u0435et", "bell\x07", "also good"]
    made = part(ONE, *(entry(name) for name in names))
    assert shown(made) == ["also good", "good"]
    assert reasons(made) == [
        (
            "in\u200bvisible",
            "is left out: its name holds the character U+200B, which cannot be seen",
        ),
        (
            "gr\u0435et",
            "is left out: its name has letters that look like those of A-Z; a prefix mends that",
        ),
        ("bell\x07", "is left out: its name holds the character U+0007, which cannot be seen"),
    ]


def test_under_a_prefix_a_look_alike_looks_like_nothing() -> None:
    [name] = shown(part(TWO, entry("gr\u0435et")))
    assert name.isascii()
    assert name.startswith("two__gr_et_")
    assert shown(part(TWO, entry("in\u200bvisible"))) == []


@pytest.mark.parametrize("kind", [Kind.RESOURCE, Kind.TEMPLATE])
def test_uris_may_hold_any_letters_but_none_that_cannot_be_seen(kind: Kind) -> None:
    made = part(ONE, entry("memo://gr\u0435et", kind), entry("memo://a\u202e", kind), kind=kind)
    assert shown(made) == ["memo://gr\u0435et"]


def test_a_verbatim_name_may_not_begin_as_those_of_another_do() -> None:
    made = part(ONE, entry("two__greet"), entry("two_greet"))
    assert shown(made) == ["two_greet"]
    assert reasons(made) == [("two__greet", "is left out: its name begins as those of two do")]
    assert shown(part(TWO, entry("two__greet"))) == ["two__two__greet"]


def test_the_operator_may_give_such_a_name() -> None:
    assert shown(part(ONE, entry("greet"), rename={"greet": "two__greet"})) == ["two__greet"]


def test_an_unmarked_uri_may_not_begin_as_those_of_another_do() -> None:
    uris = ["two+memo://a", "ui://two/w", "ui://w", "memo://a"]
    made = part(ONE, *(entry(uri, Kind.RESOURCE) for uri in uris), kind=Kind.RESOURCE)
    assert shown(made) == ["memo://a", "ui://w"]
    assert [original for original, _ in reasons(made)] == ["two+memo://a", "ui://two/w"]


def test_marks_stand_in_every_kind_of_definition() -> None:
    ui: dict[str, Any] = {"_meta": {"ui": {"resourceUri": "ui://w"}}}
    assert only(part(TWO, entry("t", **ui)))["_meta"]["ui"]["resourceUri"] == "ui://two/w"
    resource = only(part(TWO, entry("memo://a", Kind.RESOURCE), kind=Kind.RESOURCE))
    assert resource == {"uri": "two+memo://a"}
    template = only(part(TWO, entry("memo://{a}", Kind.TEMPLATE), kind=Kind.TEMPLATE))
    assert template == {"uriTemplate": "two+memo://{a}"}
    assert only(part(ONE, entry("t", **ui))) == {"name": "t", **ui}
