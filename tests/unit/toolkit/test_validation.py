from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.validation import compile_schema, explain

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
        "age": {"type": "integer", "minimum": 1, "maximum": 9},
        "share": {
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "multipleOf": 0.5,
        },
        "color": {"enum": ["red", "green"]},
        "fixed": {"const": 7},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {
            "anyOf": [{"type": "string", "minLength": 3}, {"type": "integer", "minimum": 5}]
        },
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}},
            "required": ["street"],
            "additionalProperties": False,
        },
        "unique": {"type": "array", "uniqueItems": True},
    },
    "required": ["name"],
    "additionalProperties": False,
}
VALIDATOR = compile_schema(SCHEMA, what="test")


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"name": 5}, ["`name`: expected string, got 5"]),
        ({}, ["`name`: required argument is missing (expected string)"]),
        ({"name": "a"}, ['`name`: expected a text of at least 2 characters, got "a"']),
        ({"name": "abcdef"}, ['`name`: expected a text of at most 5 characters, got "abcdef"']),
        ({"name": "AB"}, ['`name`: expected a text that matches ^[a-z]+$, got "AB"']),
        ({"name": "ab", "age": 0}, ["`age`: expected a number of at least 1, got 0"]),
        ({"name": "ab", "age": 10}, ["`age`: expected a number of at most 9, got 10"]),
        ({"name": "ab", "age": 1.5}, ["`age`: expected integer, got 1.5"]),
        ({"name": "ab", "share": 1}, ["`share`: expected a number less than 1, got 1"]),
        ({"name": "ab", "share": -0.5}, ["`share`: expected a number greater than 0, got -0.5"]),
        ({"name": "ab", "share": 0.3}, ["`share`: expected a multiple of 0.5, got 0.3"]),
        ({"name": "ab", "color": "blue"}, ['`color`: expected one of "red", "green", got "blue"']),
        ({"name": "ab", "fixed": 8}, ["`fixed`: expected 7, got 8"]),
        ({"name": "ab", "maybe": 1}, ["`maybe`: expected string or null, got 1"]),
        (
            {"name": "ab", "tags": []},
            ["`tags`: expected a list of at least 1 items, got []"],
        ),
        (
            {"name": "ab", "tags": ["a", 2]},
            ["`tags[1]`: expected string, got 2"],
        ),
        (
            {"name": "ab", "tags": ["a", "b", "c"]},
            ['`tags`: expected a list of at most 2 items, got ["a","b","c"]'],
        ),
        (
            {"name": "ab", "address": {"stret": "x"}},
            [
                "`address.stret`: unknown argument; did you mean `street`?",
                "`address.street`: required argument is missing (expected string)",
            ],
        ),
        (
            {"name": "ab", "zzz": 1},
            [
                (
                    "`zzz`: unknown argument; known are name, age, share, color, fixed, maybe, "
                    "either, tags, address, unique"
                )
            ],
        ),
        ([], ["arguments: expected object, got []"]),
    ],
)
def test_a_fault_is_named_with_the_argument_what_is_expected_and_what_came(
    value: Any, faults: list[str]
) -> None:
    assert not VALIDATOR.is_valid(value)
    assert list(explain(VALIDATOR, SCHEMA, value)) == faults


def test_rules_without_words_of_ours_keep_the_librarys() -> None:
    (fault,) = explain(VALIDATOR, SCHEMA, {"name": "ab", "unique": [1, 1]})
    assert fault.startswith("`unique`: ")
    (fault,) = explain(VALIDATOR, SCHEMA, {"name": "ab", "either": 3})
    assert fault.startswith("`either`: ")


def test_a_rule_behind_a_reference_is_explained_without_its_neighbours() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "$defs": {"a": {"type": "object", "required": ["x"], "additionalProperties": False}},
        "properties": {"a": {"$ref": "#/$defs/a"}},
    }
    validator = compile_schema(schema, what="test")
    assert explain(validator, schema, {"a": {}}) == ("`a.x`: required argument is missing",)
    deep = {"properties": {"b": {"type": "object", "required": ["x"]}}}
    schema["$defs"] = {"a": deep}
    schema["properties"] = {"a": {"$ref": "#/$defs/a"}}
    validator = compile_schema(schema, what="test")
    assert explain(validator, schema, {"a": {"b": {}}}) == (
        "`a.b.x`: required argument is missing",
    )
    schema["properties"] = {}
    schema["additionalProperties"] = False
    validator = compile_schema(schema, what="test")
    assert explain(validator, schema, {"q": 1}) == ("`q`: unknown argument; none is known",)


def test_many_faults_are_cut_and_long_values_clipped() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    validator = compile_schema(schema, what="test")
    faults = explain(validator, schema, {f"key{number}": "x" * 1000 for number in range(50)})
    assert len(faults) == 11
    assert faults[-1] == "there are more faults"
    assert all(len(fault) <= 400 for fault in faults)
    assert "…" in faults[0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "#/$defs/nothing"},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$schema": "http://127.0.0.1:9/dialect"},
    ],
)
def test_a_schema_that_is_none_or_leads_outside_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError, match=r"test: not a usable schema"):
        compile_schema(schema, what="test")


def test_not_even_a_schema_that_is_there_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text('{"type": "string"}')
    with pytest.raises(RegistrationError, match="nothing is fetched"):
        compile_schema({"$ref": (tmp_path / "there.json").as_uri()}, what="test")


def test_a_dialect_that_is_known_is_obeyed() -> None:
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}
    assert not compile_schema(draft_7, what="test").is_valid([1])


def test_huge_numbers_are_judged_and_never_crash() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}
    validator = compile_schema(schema, what="test")
    assert not validator.is_valid({"n": 10**400})
    assert explain(validator, schema, {"n": 10**400})


def test_a_rule_in_another_document_of_the_schema_is_explained_too() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "$defs": {"a": {"$id": "urn:a", "type": "object", "required": ["x"]}},
        "properties": {"a": {"$ref": "urn:a"}},
    }
    validator = compile_schema(schema, what="test")
    assert explain(validator, schema, {"a": {}}) == ("`a.x`: required argument is missing",)
