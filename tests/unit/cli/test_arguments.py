from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.cli.arguments import ArgumentsError, parse_json_object, parse_pairs, wants_stdin

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "on": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "options": {"type": "object"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["integer", "string"]},
        "level": {"enum": [1, 2, "high"]},
        "any": {},
    },
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["name=Ada"], {"name": "Ada"}),
        (["name=3"], {"name": "3"}),
        (["name="], {"name": ""}),
        (["name=a=b"], {"name": "a=b"}),
        (["count=3"], {"count": 3}),
        (["share=0.5"], {"share": 0.5}),
        (["share=2"], {"share": 2}),
        (["on=true"], {"on": True}),
        (["tags=a", "tags=b"], {"tags": ["a", "b"]}),
        (['tags=["a"]'], {"tags": ["a"]}),
        (["sizes=1", "sizes=2"], {"sizes": [1, 2]}),
        (['options={"a":1}'], {"options": {"a": 1}}),
        (["maybe=null"], {"maybe": None}),
        (["maybe=4"], {"maybe": 4}),
        (["either=4"], {"either": 4}),
        (["either=x"], {"either": "x"}),
        (["level=2"], {"level": 2}),
        (["level=high"], {"level": "high"}),
        (["any=5"], {"any": "5"}),
        (["new=5"], {"new": "5"}),
        (['{"name": "Ada"}'], {"name": "Ada"}),
    ],
)
def test_pairs_are_read_as_the_schema_says(words: list[str], expected: dict[str, Any]) -> None:
    assert parse_pairs(words, SCHEMA) == expected


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["name"], "key=value"),
        (["=x"], "key=value"),
        (["count=x"], "integer"),
        (["count=1.5"], "integer"),
        (["on=1"], "boolean"),
        (["sizes=x"], "integer"),
        (["name=a", "name=b"], "twice"),
        (["{not json"], "JSON"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(words: list[str], hint: str) -> None:
    with pytest.raises(ArgumentsError, match=hint):
        parse_pairs(words, SCHEMA)


def test_a_key_that_is_not_allowed_is_refused_with_the_nearest() -> None:
    with pytest.raises(ArgumentsError, match="did you mean 'name'"):
        parse_pairs(["nmae=Ada"], {**SCHEMA, "additionalProperties": False})


def test_only_an_object_is_taken() -> None:
    assert parse_json_object('{"a": [1]}') == {"a": [1]}
    for text in ("[1]", "5", "nonsense"):
        with pytest.raises(ArgumentsError):
            parse_json_object(text)


def test_a_dash_means_standard_input() -> None:
    assert wants_stdin(["-"])
    assert not wants_stdin(["-", "a=b"])
    assert not wants_stdin([])
