from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Predicate
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, Field, StringConstraints
from typing_extensions import TypedDict

from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.questions import InputRequired
from waygate_mcp.toolkit.signatures import (
    MirroredHeader,
    output_type,
    read_signature,
)


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(BaseModel):
    street: str
    number: int = 1


class Plain(TypedDict):
    name: str


class Rich(TypedDict):
    day: datetime.date


@dataclasses.dataclass
class Point:
    x: int


def schema_of(function: Any) -> dict[str, Any]:
    return read_signature(function).input_schema()


def test_a_schema_is_read_from_the_parameters() -> None:
    def search(
        query: Annotated[str, Field(description="What to look for", min_length=1)],
        limit: int = 10,
        *,
        color: Color | None = None,
        tags: list[str] = Field(default_factory=list, description="Labels"),  # noqa: B008
        kind: Literal["a", "b"] = "a",
    ) -> None:
        """Search.

        Args:
            query: Not this one.
            limit: How many.
            color: Which.
            tags: Not this one either.
            kind: Of what kind.
        """

    assert schema_of(search) == {
        "type": "object",
        "$defs": {"Color": {"enum": ["red", "green"], "title": "Color", "type": "string"}},
        "properties": {
            "query": {"type": "string", "minLength": 1, "description": "What to look for"},
            "limit": {"type": "integer", "default": 10, "description": "How many."},
            "color": {
                "anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}],
                "default": None,
                "description": "Which.",
            },
            "tags": {"type": "array", "items": {"type": "string"}, "description": "Labels"},
            "kind": {
                "type": "string",
                "enum": ["a", "b"],
                "default": "a",
                "description": "Of what kind.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_names_pydantic_wants_for_itself_are_arguments_like_others() -> None:
    def function(
        model_id: str, schema: int, copy: bool, json: str, self_: str, _x: int
    ) -> None: ...

    assert list(schema_of(function)["properties"]) == [
        "model_id", "schema", "copy", "json", "self_", "_x",
    ]  # fmt: skip


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def nothing() -> None: ...

    assert schema_of(nothing) == {"type": "object", "properties": {}, "additionalProperties": False}


def test_keywords_leave_the_schema_open() -> None:
    def anything(a: str, **rest: Any) -> None: ...

    assert "additionalProperties" not in schema_of(anything)
    assert read_signature(anything).takes_any


def test_unannotated_parameters_take_anything() -> None:
    def loose(a, b=1):  # type: ignore[no-untyped-def]
        ...

    assert schema_of(loose)["properties"] == {"a": {}, "b": {"default": 1}}


def test_the_context_is_found_anywhere_and_is_no_argument() -> None:
    def first(ctx: Context, a: str) -> None: ...
    def last(a: str, *, context: Context | None = None) -> None: ...
    def none(a: str) -> None: ...

    assert read_signature(first).context == "ctx"
    assert read_signature(last).context == "context"
    assert read_signature(none).context is None
    assert list(schema_of(first)["properties"]) == ["a"]


def test_methods_callables_and_wrapped_functions_are_read() -> None:
    class Caller:
        async def method(self, a: int) -> str:
            """Of a method."""
            return str(a)

        async def __call__(self, b: int) -> str:
            return str(b)

    method = read_signature(Caller().method)
    assert method.names == ("a",)
    assert method.is_async
    assert method.doc.text == "Of a method."
    called = read_signature(Caller())
    assert called.names == ("b",)
    assert called.is_async


def test_partial_functions_and_decorated_ones_are_read() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    @functools.wraps(add)
    def plain(**arguments: int) -> Any:
        return add(**arguments)

    def subtract(a: int, b: int) -> int:
        return a - b

    @functools.wraps(subtract)
    async def awaited(**arguments: int) -> int:
        return subtract(**arguments)

    partial = read_signature(functools.partial(add, b=1))
    assert partial.is_async
    assert [one.annotation for one in partial.parameters] == [int, int]
    assert read_signature(plain).is_async
    assert read_signature(awaited).is_async
    assert read_signature(awaited).names == ("a", "b")


def test_generators_are_refused_with_the_mend() -> None:
    def plain() -> Iterator[int]:
        yield 1

    async def awaited() -> AsyncIterator[int]:
        yield 1

    for function in (plain, awaited):
        with pytest.raises(RegistrationError, match="return a list"):
            read_signature(function)


def test_what_cannot_be_given_by_name_is_refused() -> None:
    def positional(a: int, /) -> None: ...
    def several(*many: int) -> None: ...
    def two(one: Context, other: Context) -> None: ...

    for function in (positional, several, two):
        with pytest.raises(RegistrationError):
            read_signature(function)


def test_annotations_that_cannot_be_evaluated_are_refused_with_the_mend() -> None:
    class Hidden(BaseModel):
        x: int

    def function(a: Hidden) -> None: ...

    with pytest.raises(RegistrationError, match="top of the module"):
        read_signature(function)


def test_a_type_without_a_schema_is_refused() -> None:
    def function(a: Callable[[], int]) -> None: ...

    with pytest.raises(RegistrationError, match="an annotation has no JSON schema"):
        read_signature(function).input_schema()


def test_metadata_nobody_knows_are_left_to_pydantic() -> None:
    def function(a: Annotated[str, object()]) -> None: ...

    assert read_signature(function).conversion


def test_a_typed_dict_whose_members_cannot_be_read_is_left_to_pydantic() -> None:
    class Hidden(TypedDict):
        a: Nowhere  # type: ignore[name-defined]  # noqa: F821

    def function(a: Any) -> None: ...

    function.__annotations__["a"] = Hidden
    with pytest.raises(RegistrationError):
        read_signature(function)


def test_a_type_that_cannot_come_from_json_is_refused() -> None:
    def function(a: socket_like) -> None: ...

    with pytest.raises(RegistrationError, match="`a` has a type that cannot come from JSON"):
        read_signature(function)


class socket_like:  # noqa: N801 - it stands for any class Pydantic does not know
    pass


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        float,
        bool,
        dict,
        list,
        Any,
        None,
        str | None,
        list[str],
        dict[str, Any],
        dict[str, list[float]],
        Sequence[str],
        Mapping[str, str],
        Literal["a", 1],
        Annotated[str, Field(min_length=1, pattern="x", description="y")],
        Annotated[str, MirroredHeader("Region")],
        Annotated[str, "Only words"],
        Plain,
    ],
)
def test_plain_json_reaches_the_function_untouched(annotation: Any) -> None:
    def function(a: Any) -> None: ...

    function.__annotations__["a"] = annotation
    assert not read_signature(function).conversion


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 5.0, 5),
        (int, 5, 5),
        (Annotated[int, Field(ge=1)], 5.0, 5),
        (list[int], [1.0, 2], [1, 2]),
        (int | None, 5.0, 5),
        (Color, "red", Color.RED),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[str], ["a", "a"], {"a"}),
        (Address, {"street": "x"}, Address(street="x")),
        (list[Address], [{"street": "x"}], [Address(street="x")]),
        (Point, {"x": 1}, Point(1)),
        (Rich, {"day": "2026-01-02"}, {"day": datetime.date(2026, 1, 2)}),
        (bytes, "abc", b"abc"),
        (Annotated[str, StringConstraints(to_lower=True)], "AB", "ab"),
        (Annotated[str, AfterValidator(str.upper)], "ab", "AB"),
    ],
)
def test_other_types_are_converted(annotation: Any, value: Any, expected: Any) -> None:
    def function(a: Any) -> None: ...

    function.__annotations__["a"] = annotation
    converted = read_signature(function).conversion.apply({"a": value})
    assert converted == {"a": expected}
    assert type(converted["a"]) is type(expected)


def test_a_rule_that_no_schema_can_say_is_checked_when_converting() -> None:
    def function(a: Annotated[str, Predicate(str.islower)]) -> None: ...

    assert read_signature(function).conversion


def test_arguments_that_were_left_out_are_not_converted() -> None:
    def function(a: Color = Color.RED) -> None: ...

    assert read_signature(function).conversion.apply({}) == {}


def test_defaults_that_stand_in_a_field_are_filled_in() -> None:
    def function(
        a: int = Field(3, ge=1),
        b: list[str] = Field(default_factory=list),  # noqa: B008 - written as authors may write it
    ) -> None: ...

    conversion = read_signature(function).conversion
    first, second = conversion.apply({}), conversion.apply({"a": 5.0})
    assert first == {"a": 3, "b": []}
    assert second == {"a": 5, "b": []}
    assert first["b"] is not second["b"]


def test_a_field_without_a_default_is_required() -> None:
    def function(a: int = Field(description="One")) -> None: ...

    assert schema_of(function)["required"] == ["a"]
    assert read_signature(function).conversion.apply({"a": 1}) == {"a": 1}


def test_a_mirrored_header_stands_in_the_schema() -> None:
    def function(region: Annotated[str, MirroredHeader("Region"), Field(max_length=9)]) -> None: ...

    assert schema_of(function)["properties"]["region"] == {
        "type": "string",
        "maxLength": 9,
        "x-mcp-header": "Region",
    }


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        (str, str),
        (str | InputRequired, str),
        (str | int | InputRequired, str | int),
        (InputRequired, inspect.Signature.empty),
        (str | int, str | int),
    ],
)
def test_a_returned_question_is_no_result(returns: Any, expected: Any) -> None:
    assert output_type(returns) == expected


# ---------------------------------------------------------------------- aliases


def mail(
    sender: Annotated[str, MirroredHeader("From"), Field(alias="from")],
    day: Annotated[datetime.date, Field(validation_alias="on", alias="never", description="When")],
    copies: int = Field(1, alias="number of copies", ge=1),
    subject: Annotated[str, Field(alias="subject")] = "",
    shown: Annotated[str, Field(serialization_alias="as")] = "",
) -> str:
    """Send.

    Args:
        sender: Who sends it.
        copies: How many.
        subject: What it is about.
    """
    return f"{sender} {day!r} {copies}"


def test_clients_know_a_parameter_by_its_alias() -> None:
    signature = read_signature(mail)
    assert signature.names == ("sender", "day", "copies", "subject", "shown")
    assert signature.keys == ("from", "on", "number of copies", "subject", "shown")
    assert signature.input_schema() == {
        "type": "object",
        "properties": {
            "from": {"type": "string", "description": "Who sends it.", "x-mcp-header": "From"},
            "on": {"type": "string", "format": "date", "description": "When"},
            "number of copies": {
                "type": "integer", "default": 1, "minimum": 1, "description": "How many.",
            },
            "subject": {"type": "string", "default": "", "description": "What it is about."},
            "shown": {"type": "string", "default": ""},
        },
        "required": ["from", "on"],
        "additionalProperties": False,
    }  # fmt: skip


def test_values_and_defaults_reach_the_parameter_behind_an_alias() -> None:
    conversion = read_signature(mail).conversion
    assert mail(**conversion.apply({"from": "Ada", "on": "2026-01-02"})) == (
        "Ada datetime.date(2026, 1, 2) 1"
    )
    given = {"from": "Ada", "on": "2026-01-02", "number of copies": 2.0}
    assert mail(**conversion.apply(given)).endswith(" 2")


def test_a_description_may_go_by_either_name() -> None:
    def send(sender: Annotated[str, Field(alias="from")]) -> None:
        """Send.

        :param from: Who.
        """

    assert schema_of(send)["properties"]["from"]["description"] == "Who."


def test_no_client_can_reach_a_parameter_past_its_alias() -> None:
    def open_ended(day: Annotated[str, Field(alias="on")] = "never", **more: Any) -> None: ...

    conversion = read_signature(open_ended).conversion
    assert conversion
    assert conversion.apply({"day": "unchecked", "x": 1}) == {"x": 1}
    assert conversion.apply({"day": "unchecked", "on": "checked"}) == {"day": "checked"}


def test_two_parameters_may_exchange_their_names() -> None:
    def swapped(
        a: Annotated[int, Field(alias="b")], b: Annotated[str, Field(alias="a")]
    ) -> None: ...

    schema = schema_of(swapped)["properties"]
    assert (schema["a"]["type"], schema["b"]["type"]) == ("string", "integer")
    applied = read_signature(swapped).conversion.apply({"a": "text", "b": 5.0})
    assert applied == {"a": 5, "b": "text"}


def test_an_alias_in_the_default_outweighs_one_in_the_annotation() -> None:
    def both(a: Annotated[str, Field(alias="inner")] = Field("", alias="outer")) -> None: ...

    assert read_signature(both).keys == ("outer",)
    assert list(schema_of(both)["properties"]) == ["outer"]


def test_one_name_for_two_parameters_or_two_for_one_are_refused() -> None:
    def same(a: str, b: Annotated[str, Field(alias="a")]) -> None: ...

    def many(a: Annotated[str, Field(validation_alias=AliasChoices("b", "c"))]) -> None: ...

    def deep(a: str = Field(validation_alias=AliasPath("b", 0))) -> None: ...

    with pytest.raises(RegistrationError, match="two parameters that clients call `a`"):
        read_signature(same)
    for function in (many, deep):
        with pytest.raises(RegistrationError, match="parameter `a` needs one alias, a text"):
            read_signature(function)
