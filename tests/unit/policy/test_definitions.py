"""What a definition is pinned by: every field counts, the way it is written does not."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.support.definitions import EXAMPLES, TOOL, encoded, single_changes
from waygate_mcp.model.catalog import Kind
from waygate_mcp.policy.definitions import (
    MAX_DEFINITION_BYTES,
    FieldChange,
    UnsafeDefinitionError,
    changes_between,
    digest_of,
    fields_of,
    parse_definition,
)

CHANGES = [
    pytest.param(kind, what, changed, id=f"{kind.value}: {what}")
    for kind in EXAMPLES
    for what, changed in single_changes(kind)
]


def digest(value: Any, kind: Kind = Kind.TOOL) -> str:
    return digest_of(kind.value, json.dumps(value))


@pytest.mark.parametrize(("kind", "what", "changed"), CHANGES)
def test_each_change_of_a_single_field_gives_another_digest(
    kind: Kind, what: str, changed: dict[str, Any]
) -> None:
    assert digest(changed, kind) != digest(EXAMPLES[kind], kind), what


@pytest.mark.parametrize(("kind", "what", "changed"), CHANGES)
def test_each_change_of_a_single_field_is_shown(
    kind: Kind, what: str, changed: dict[str, Any]
) -> None:
    found = changes_between(json.dumps(EXAMPLES[kind]), json.dumps(changed))
    assert found, what
    assert all(one.old != one.new for one in found)


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {key: shuffled(child, chance) for key, child in items}
    return [shuffled(child, chance) for child in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_order_of_members_does_not_count(kind: Kind) -> None:
    chance = random.Random(4)
    for _ in range(50):
        assert digest(shuffled(EXAMPLES[kind], chance), kind) == digest(EXAMPLES[kind], kind)


def test_white_space_and_escapes_do_not_count() -> None:
    spaced = json.dumps(TOOL, indent=3).replace("Reads", "\\u0052eads")
    assert digest_of("tool", spaced) == digest_of("tool", encoded(TOOL))


def test_the_order_in_the_sets_of_a_schema_does_not_count() -> None:
    schema = TOOL["inputSchema"]
    turned = {
        **schema,
        "required": ["mode", "path"],
        "properties": {
            **schema["properties"],
            "path": {**schema["properties"]["path"], "type": ["null", "string"]},
            "mode": {**schema["properties"]["mode"], "enum": ["binary", "text"]},
        },
    }
    assert digest({**TOOL, "inputSchema": turned}) == digest(TOOL)


@pytest.mark.parametrize(
    "turned",
    [
        {"properties": {"mode": {"default": {"required": ["a", "b"]}}}},
        {"properties": {"lines": {"prefixItems": [{"const": 2}, {"const": 1}]}}},
        {"$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "number"}]}}},
    ],
)
def test_any_other_order_counts(turned: dict[str, Any]) -> None:
    schema = json.loads(json.dumps(TOOL["inputSchema"]))
    for outer, inner in turned.items():
        for name, members in inner.items():
            schema[outer][name] = {**schema[outer][name], **members}
    assert digest({**TOOL, "inputSchema": schema}) != digest(TOOL)


def test_a_property_called_required_is_a_property() -> None:
    def with_property(examples: list[str]) -> dict[str, Any]:
        properties = {"required": {"examples": examples}, "enum": {"type": "string"}}
        return {"name": "a", "inputSchema": {"properties": properties}}

    assert digest(with_property(["a", "b"])) != digest(with_property(["b", "a"]))


def test_outside_of_schemas_nothing_is_a_set() -> None:
    one, other = {"_meta": {"required": ["a", "b"]}}, {"_meta": {"required": ["b", "a"]}}
    assert digest({"name": "a", **one}) != digest({"name": "a", **other})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"), ("1", "1e0"), ("100", "1E+2"), ("0", "-0.0"), ("0.5", "5e-1"),
        ("-12.50", "-1.25e1"), ("1e400", "10e399"),
        ("123456789012345678901234567890", "123456789012345678901234567890.0"),
        ("0.001", "1e-3"), ("1.5e-30", "15e-31"), ("0e99999", "0"),
    ],
)  # fmt: skip
def test_a_number_counts_by_its_value(one: str, other: str) -> None:
    texts = [f'{{"name":"a","n":{each}}}' for each in (one, other)]
    assert digest_of("tool", texts[0]) == digest_of("tool", texts[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"), ("1", '"1"'), ("1", "true"), ("0.1", "0.10000000000000000000000000001"),
        ("1e400", "1e401"), ("12345678901234567890123", "12345678901234567890124"), ("1", "-1"),
        ('{"":"1"}', "1"), ("[]", "{}"), ("null", '"null"'), ("0.001", "0.0001"),
    ],
)  # fmt: skip
def test_values_that_differ_never_meet(one: str, other: str) -> None:
    texts = [f'{{"name":"a","n":{each}}}' for each in (one, other)]
    assert digest_of("tool", texts[0]) != digest_of("tool", texts[1])


def test_a_prompt_is_no_tool() -> None:
    assert digest_of("tool", '{"name":"a"}') != digest_of("prompt", '{"name":"a"}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"name":"a","description":"good","description":"bad"}', "a member twice"),
        ('{"a":{"b":1,"b":1}}', "a member twice"),
        ('{"n":NaN}', "NaN, which is no JSON"),
        ('{"n":1e999999999999999999999}', "beyond all bounds"),
        ("[1]", "no JSON object"),
        ("{", "no JSON that can be read"),
        ('"' + "x" * MAX_DEFINITION_BYTES + '"', "is the limit"),
        ('{"a":' + "[" * 70 + "]" * 70 + "}", "nested deeper than 64"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "no JSON that can be read"),
    ],
)
def test_what_clients_may_read_in_two_ways_has_no_digest(text: str, reason: str) -> None:
    with pytest.raises(UnsafeDefinitionError, match=reason):
        digest_of("tool", text)


def test_bytes_that_are_no_text_have_no_digest() -> None:
    with pytest.raises(UnsafeDefinitionError):
        parse_definition(b'{"name":"\xff"}')


def test_half_a_surrogate_pair_is_a_value_like_any_other() -> None:
    assert digest_of("tool", '{"name":"\\ud800"}') != digest_of("tool", '{"name":"\\ud801"}')


def test_a_change_is_shown_with_its_path_and_both_values() -> None:
    old = {"name": "a", "inputSchema": {"properties": {"odd name": {"type": ["x"]}}}, "n": 1.50}
    new = {"name": "a", "inputSchema": {"properties": {"odd name": {"type": ["y"]}}}, "m": {}}
    assert changes_between(json.dumps(old), json.dumps(new)) == (
        FieldChange('inputSchema.properties."odd name".type[0]', '"x"', '"y"'),
        FieldChange("n", "1.5", None),
        FieldChange("m", None, "{}"),
    )


def test_what_is_new_is_all_new() -> None:
    found = changes_between(None, '{"name":"a","t":["b"]}')
    assert found == (FieldChange("name", None, '"a"'), FieldChange("t[0]", None, '"b"'))
    assert changes_between('{"name":"a"}', None) == (FieldChange("name", '"a"', None),)


def test_no_more_fields_are_told_than_somebody_could_bear() -> None:
    assert len(list(fields_of({str(n): n for n in range(30_000)}))) == 20_000
