from __future__ import annotations

import asyncio
import contextvars
import enum
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from waygate_mcp.errors import InvalidArgumentsError
from waygate_mcp.protocol.uris import UriTemplate
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.entries import Completer, Prompt, Resource, Template, Tool, run_in_thread
from waygate_mcp.toolkit.failures import RegistrationError


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Filter(BaseModel):
    words: list[str]


def refuse(value: str) -> str:
    raise ValueError("never this")


async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def open_ended(a: str = "", **more: Any) -> str:
    return a


async def two(a: str, ctx: Context) -> str:
    return a


async def picky(a: Annotated[str, AfterValidator(refuse)]) -> str:
    return a


def definition(entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entry.definition)
    return found


def test_a_tool_is_named_and_described_after_its_function_unless_told_otherwise() -> None:
    assert definition(Tool(add, {}).entry)["name"] == "add"
    assert definition(Tool(add, {}).entry)["description"] == "Add two numbers."
    named = definition(Tool(add, {"name": "plus", "description": "Plus"}).entry)
    assert (named["name"], named["description"]) == ("plus", "Plus")


def test_a_tool_knows_how_its_function_wants_to_be_called() -> None:
    tool = Tool(two, {})
    assert (tool.is_async, tool.context, bool(tool.conversion), tool.accepted) == (
        True,
        "ctx",
        False,
        None,
    )
    assert Tool(add, {}).conversion
    assert not Tool(lambda: None, {"name": "x"}).is_async


def test_arguments_of_a_raw_schema_that_the_function_does_not_know_are_left_out() -> None:
    schema = {"type": "object"}
    assert Tool(two, {"input_schema": schema}).convert({"a": "1", "b": "2"}) == {"a": "1"}
    assert Tool(open_ended, {"input_schema": schema}).convert({"a": "1", "b": "2"}) == {
        "a": "1",
        "b": "2",
    }


def test_a_value_that_fits_the_schema_and_not_the_type_is_an_invalid_argument() -> None:
    tool = Tool(picky, {})
    assert tool.is_valid({"a": "x"})
    with pytest.raises(InvalidArgumentsError, match="never this") as caught:
        tool.convert({"a": "x"})
    assert caught.value.details == ("`value`: Value error, never this",)


def test_an_output_schema_may_be_given_raw() -> None:
    raw = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    tool = Tool(add, {"output_schema": raw})
    assert definition(tool.entry)["outputSchema"] == raw
    assert "outputSchema" not in definition(Tool(add, {"structured": False}).entry)


# ---------------------------------------------------------------------- prompts


def advise(
    topic: str,
    words: int = 10,
    level: Level = Level.LOW,
    mode: Literal["a", "b"] | None = None,
    where: Filter | None = None,
    tags: list[str] | None = None,
) -> str:
    """Advise.

    Args:
        topic: About what.
        words: How many.
        level: How deep.
        mode: How.
        where: Where.
        tags: Labels.
    """
    return topic


def test_a_prompt_publishes_its_parameters_as_arguments() -> None:
    arguments = definition(Prompt(advise, {}).entry)["arguments"]
    assert arguments[:2] == [
        {"name": "topic", "description": "About what.", "required": True},
        {"name": "words", "description": "How many.", "required": False},
    ]


def test_the_texts_of_a_prompt_become_what_the_function_wants() -> None:
    prompt = Prompt(advise, {})
    assert prompt.convert({"topic": "x", "words": "5", "level": "high", "mode": "b"}) == {
        "topic": "x",
        "words": 5,
        "level": Level.HIGH,
        "mode": "b",
    }


def test_lists_and_objects_are_read_as_json() -> None:
    async def prompt(where: Filter, tags: list[int]) -> str:
        raise NotImplementedError

    prompt.__annotations__ = {"where": Filter, "tags": list[int]}
    assert Prompt(prompt, {}).convert({"where": '{"words":["a"]}', "tags": "[1]"}) == {
        "where": Filter(words=["a"]),
        "tags": [1],
    }


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "`topic`: required argument is missing"),
        (
            {"topic": "x", "other": "y"},
            "`other`: unknown argument; known are: topic, words, level, mode, where, tags",
        ),
        ({"topic": 5}, "`topic`: the arguments of a prompt are texts"),
        ({"topic": "x", "words": "many"}, "valid integer"),
    ],
)
def test_wrong_arguments_of_a_prompt_are_named(arguments: Any, fault: str) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        Prompt(advise, {}).convert(arguments)
    assert fault in str(caught.value)


def test_a_prompt_of_any_arguments_is_refused() -> None:
    with pytest.raises(RegistrationError, match="have names"):
        Prompt(open_ended, {})


def test_a_parameter_that_cannot_be_made_of_a_text_is_refused() -> None:
    async def prompt(a: Callable[[], int]) -> str:
        return ""

    with pytest.raises(RegistrationError, match="`a` cannot be made of a text"):
        Prompt(prompt, {})


def test_choices_are_known_from_annotations() -> None:
    prompt = Prompt(advise, {})
    assert prompt.choices("level") == ["low", "high"]
    assert prompt.choices("mode") == ["a", "b"]
    assert prompt.choices("topic") == ()
    assert prompt.choices("nothing") == ()


def test_choices_are_found_below_annotated() -> None:
    async def prompt(a: Annotated[Level, "Which"]) -> str:
        return ""

    assert Prompt(prompt, {}).choices("a") == ["low", "high"]


# ---------------------------------------------------------------------- resources


async def note(id: int, lang: str = "en") -> str:
    return f"{id} {lang}"


def test_a_template_reads_variables_into_types_and_knows_what_is_not_its() -> None:
    template = Template(UriTemplate("note://{id}{?lang}"), note, {})
    assert template.read("note://5?lang=de") == {"id": 5, "lang": "de"}
    assert template.read("note://five") is None
    assert template.read("other://5") is None
    plain = Template(UriTemplate("a://{a}"), two, {})
    assert plain.read("a://b") == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "function", "fault"),
    [
        ("note://{id}/{page}", note, "no parameter for page"),
        ("note://{lang}", note, "no variable for id"),
        ("note://x{?id,lang}", note, "id may be left out"),
    ],
)
def test_a_template_and_its_function_have_to_agree(text: str, function: Any, fault: str) -> None:
    with pytest.raises(RegistrationError, match=fault):
        Template(UriTemplate(text), function, {})


def test_a_template_may_have_variables_beyond_the_parameters_where_any_are_taken() -> None:
    template = Template(UriTemplate("a://{a}/{b}"), open_ended, {})
    assert template.read("a://1/2") == {"a": "1", "b": "2"}


def test_a_resource_has_no_parameters() -> None:
    with pytest.raises(RegistrationError, match=r"no \{variables\}"):
        Resource("a://b", note, {})


def test_caching_hints_are_kept() -> None:
    async def text() -> str:
        return ""

    resource = Resource("a://b", text, {"ttl_ms": 5, "cache_scope": "public"})
    assert (resource.ttl_ms, resource.cache_scope) == (5, "public")
    assert (Resource("a://b", text, {}).ttl_ms, Resource("a://b", text, {}).cache_scope) == (
        0,
        "private",
    )


# ---------------------------------------------------------------------- completions


def test_a_completer_gets_the_text_and_what_is_filled_in_if_it_wants() -> None:
    async def short(value: str) -> list[str]:
        raise NotImplementedError

    async def long(text: str, arguments: dict[str, str], ctx: Context) -> list[str]:
        raise NotImplementedError

    assert Completer(short).convert("x", {"a": "b"}) == {"value": "x"}
    assert Completer(long).convert("x", {"a": "b"}) == {"text": "x", "arguments": {"a": "b"}}


def test_a_completer_of_other_parameters_is_refused() -> None:
    async def none() -> list[str]:
        raise NotImplementedError

    async def many(a: str, b: str) -> list[str]:
        raise NotImplementedError

    for function in (none, many):
        with pytest.raises(RegistrationError, match="its parameters are"):
            Completer(function)


# ---------------------------------------------------------------------- threads

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


async def test_a_function_in_a_thread_runs_off_the_loop_with_the_variables_of_its_caller() -> None:
    VARIABLE.set("from the loop")

    def function(a: int) -> tuple[int, str, int]:
        return a, VARIABLE.get(), threading.get_ident()

    with ThreadPoolExecutor(1) as threads:
        a, variable, thread = await run_in_thread(function, {"a": 1}, None, threads)
    assert (a, variable) == (1, "from the loop")
    assert thread != threading.get_ident()


async def test_a_stop_iteration_in_a_thread_ends_the_call() -> None:
    def function() -> None:
        raise StopIteration

    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(run_in_thread(function, {}, None, threads), 5)


async def test_a_cancelled_function_without_a_context_is_simply_left() -> None:
    free = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        running = run_in_thread(free.wait, {"timeout": 20}, None, threads)
        task = asyncio.ensure_future(running)  # noqa: TID251 - a test's own
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()


async def test_a_plain_function_that_gives_a_coroutine_is_awaited() -> None:
    async def inner(a: int) -> int:
        return a + 1

    def plain(a: int) -> Any:
        return inner(a)

    assert await run_in_thread(plain, {"a": 1}, None, None) == 2


# ---------------------------------------------------------------------- aliases

From = Annotated[str, Field(alias="from", description="Who.")]


async def sent(sender: From, count: int = Field(1, alias="copies")) -> str:
    return f"{sender} {count}"


def test_a_tool_with_an_alias_is_explained_and_called_by_it() -> None:
    tool = Tool(sent, {})
    assert tool.is_valid({"from": "Ada", "copies": 2})
    (fault,) = tool.faults({"sender": "Ada", "from": "Ada"})
    assert "`sender`: unknown argument" in fault
    (fault,) = tool.faults({})
    assert "`from`: required argument is missing" in fault
    assert tool.convert({"from": "Ada"}) == {"sender": "Ada", "count": 1}


def test_a_schema_by_hand_speaks_of_aliases_too() -> None:
    tool = Tool(sent, {"input_schema": {"type": "object"}})
    given = {"from": "Ada", "copies": 2, "sender": "Eve", "else": 1}
    assert tool.convert(given) == {"sender": "Ada", "count": 2}


def test_a_prompt_publishes_and_takes_aliases() -> None:
    prompt = Prompt(sent, {})
    assert definition(prompt.entry)["arguments"] == [
        {"name": "from", "description": "Who.", "required": True},
        {"name": "copies", "required": False},
    ]
    assert prompt.convert({"from": "Ada", "copies": "2"}) == {"sender": "Ada", "count": 2}
    for arguments, fault in (
        ({}, "`from`: required argument is missing"),
        ({"from": "Ada", "sender": "Eve"}, "`sender`: unknown argument; known are: from, copies"),
    ):
        with pytest.raises(InvalidArgumentsError) as caught:
            prompt.convert(arguments)
        assert fault in str(caught.value.details)


def test_a_template_has_variables_no_parameter_could_be_called() -> None:
    template = Template(UriTemplate("mail://{from}/{copies}"), sent, {})
    assert template.read("mail://Ada/3") == {"sender": "Ada", "count": 3}
    with pytest.raises(RegistrationError, match="no parameter for sender"):
        Template(UriTemplate("mail://{sender}/{copies}"), sent, {})
