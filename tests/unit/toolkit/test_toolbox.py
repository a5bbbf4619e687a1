from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from waygate_mcp.errors import UnknownNameError
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.toolbox import Toolbox


async def nothing() -> None:
    """Do nothing."""


async def topic(name: str) -> str:
    return name


def names(box: Toolbox, kind: Kind) -> list[str]:
    return [entry.name for entry in box.listing(kind).entries]


def full_box() -> Toolbox:
    box = Toolbox(instructions="Be kind.", ttl_ms=5)
    box.tool(nothing)
    box.prompt(topic)
    box.resource("a://b")(nothing)
    box.resource("a://{name}")(topic)
    return box


def test_decorators_give_the_function_back_with_and_without_options() -> None:
    box = Toolbox()
    assert box.tool(nothing) is nothing
    assert box.tool(name="other", title="Other")(nothing) is nothing
    assert box.prompt(topic) is topic
    assert box.prompt(name="second")(topic) is topic
    assert box.resource("a://b")(nothing) is nothing
    assert names(box, Kind.TOOL) == ["nothing", "other"]
    assert names(box, Kind.PROMPT) == ["topic", "second"]


def test_every_kind_is_listed_in_the_order_of_registration() -> None:
    box = full_box()
    box.add_tool(nothing, name="a")
    assert names(box, Kind.TOOL) == ["nothing", "a"]
    assert names(box, Kind.PROMPT) == ["topic"]
    assert names(box, Kind.RESOURCE) == ["a://b"]
    assert names(box, Kind.TEMPLATE) == ["a://{name}"]
    assert json.loads(box.listing(Kind.TEMPLATE).entries[0].definition)["name"] == "topic"


def test_a_listing_is_the_same_object_until_it_changes() -> None:
    box = full_box()
    before = box.listing(Kind.TOOL)
    prompts = box.listing(Kind.PROMPT)
    assert box.listing(Kind.TOOL) is before
    assert (before.ttl_ms, before.cache_scope) == (5, "public")
    box.add_tool(nothing, name="more")
    after = box.listing(Kind.TOOL)
    assert after.version > before.version
    assert box.listing(Kind.PROMPT) is prompts


def test_features_follow_what_was_ever_there() -> None:
    assert Toolbox().features == Features(logging=True)
    box = full_box()
    everything = Features(
        tools=True, prompts=True, resources=True, subscribe=True, completions=True, logging=True
    )
    assert box.features == everything
    box.remove_tool("nothing")
    box.remove_prompt("topic")
    box.remove_resource("a://b")
    box.remove_resource("a://{name}")
    assert all(not box.listing(kind).entries for kind in Kind)
    assert box.features == everything


def test_a_name_is_given_once() -> None:
    box = full_box()
    for register in (
        lambda: box.tool(nothing),
        lambda: box.prompt(topic),
        lambda: box.resource("a://b")(nothing),
        lambda: box.resource("a://{name}")(topic),
    ):
        with pytest.raises(RegistrationError, match="registered already"):
            register()


def test_what_is_not_there_cannot_be_removed() -> None:
    box = Toolbox()
    for remove in (box.remove_tool, box.remove_prompt, box.remove_resource):
        with pytest.raises(UnknownNameError):
            remove("x")


@pytest.mark.parametrize("uri", ["b", "a://{", "a://{x:3}"])
def test_a_uri_has_to_be_one(uri: str) -> None:
    with pytest.raises(RegistrationError):
        Toolbox().resource(uri)(topic)


def test_listeners_hear_of_changes_until_they_end() -> None:
    box = Toolbox()
    heard: list[Any] = []
    other: list[Any] = []
    end = box.listen(heard.append)
    box.listen(other.append)
    box.tool(nothing)
    box.remove_tool("nothing")
    box.resource("a://{name}")(topic)
    box.notify_updated("a://x")
    end()
    box.prompt(topic)
    assert heard == [Kind.TOOL, Kind.TOOL, Kind.TEMPLATE, "a://x"]
    assert other == [*heard, Kind.PROMPT]


def test_the_most_specific_template_is_found() -> None:
    box = Toolbox()

    async def of_path(path: str) -> str:
        raise NotImplementedError

    async def of_name(name: str) -> str:
        raise NotImplementedError

    async def of_number(number: int) -> str:
        raise NotImplementedError

    box.resource("a://{+path}")(of_path)
    box.resource("a://{name}/info")(of_name)
    box.resource("a://no/{number}")(of_number)
    found = {
        uri: match[0].uri if (match := box.match(uri)) else None
        for uri in ("a://x/info", "a://no/5", "a://no/five", "a://x/y", "b://x")
    }
    assert found == {
        "a://x/info": "a://{name}/info",
        "a://no/5": "a://no/{number}",
        "a://no/five": "a://{+path}",
        "a://x/y": "a://{+path}",
        "b://x": None,
    }
    box.remove_resource("a://{+path}")
    assert box.match("a://x/y") is None


def test_completions_are_registered_by_name_text_or_function() -> None:
    box = full_box()

    async def complete(value: str) -> list[str]:
        raise NotImplementedError

    assert box.completion("topic", "name")(complete) is complete
    assert box.completer(Kind.PROMPT, "topic", "name") is not None
    assert box.completer(Kind.TEMPLATE, "a://{name}", "name") is None
    box.completion("a://{name}", "name")(complete)
    assert box.completer(Kind.TEMPLATE, "a://{name}", "name") is not None
    other = Toolbox()
    other.resource("a://{name}")(topic)
    other.completion(topic, "name")(complete)
    assert other.completer(Kind.TEMPLATE, "a://{name}", "name") is not None
    box.remove_prompt("topic")
    assert box.completer(Kind.PROMPT, "topic", "name") is None


def test_a_completion_of_nothing_known_is_refused() -> None:
    box = full_box()
    with pytest.raises(RegistrationError, match="register it before"):
        box.completion("other", "name")
    with pytest.raises(RegistrationError, match="no argument 'x'"):
        box.completion("topic", "x")


def test_a_box_can_include_another() -> None:
    inner = full_box()

    @inner.completion("topic", "name")
    async def complete(value: str) -> list[str]:
        raise NotImplementedError

    box = Toolbox()
    box.include(inner)
    inner.remove_tool("nothing")
    assert names(box, Kind.TOOL) == ["nothing"]
    assert names(box, Kind.PROMPT) == ["topic"]
    assert names(box, Kind.RESOURCE) == ["a://b"]
    assert box.match("a://x") is not None
    assert box.completer(Kind.PROMPT, "topic", "name") is not None
    with pytest.raises(RegistrationError, match="registered already"):
        box.include(box)


def test_threads_may_add_and_list_at_the_same_time() -> None:
    box = Toolbox()
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for each in range(20):
                box.add_tool(nothing, name=f"t{number}-{each}")
                box.listing(Kind.TOOL)
        except Exception as exc:  # noqa: BLE001 - told to the test
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert len(names(box, Kind.TOOL)) == 80
