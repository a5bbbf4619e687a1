"""`docs/plugin-guide.md` shows only code that runs: its modules are loaded as plugins and called here."""

from __future__ import annotations

import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.source_tree import ROOT
from waygate_mcp.config.document import Document, PluginSection
from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigError, RpcError, UnknownNameError
from waygate_mcp.model.call import InputRequired, Outcome, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ResourceUpdated
from waygate_mcp.plugins.discovery import load_plugin
from waygate_mcp.plugins.lifecycle import open_plugins
from waygate_mcp.testing.fakes import (
    Announcements,
    RecordingCaller,
    accepted,
    call_of,
    call_tool,
    text_of,
)

GUIDE = (ROOT / "docs" / "plugin-guide.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
MODULES = {
    match[1]: text
    for language, text in BLOCKS
    if language == "python" and (match := re.match(r"# (\w+)\.py\n", text))
}
PLUGINS = sorted(name for name in MODULES if not name.startswith("test_"))


@pytest.fixture(autouse=True)
def _modules_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


async def use(
    plugin: str, tool: str, arguments: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    """Open one plugin of the guide and call one of its tools."""
    section = {"p": PluginSection(use=plugin)}
    async with open_plugins(section, Announcements()) as (provider,):
        return await call_tool(provider, tool, arguments or {}, **more)


def structured(outcome: Outcome) -> Any:
    assert isinstance(outcome, Reply)
    return json.loads(outcome.result)["structuredContent"]


def test_every_python_block_is_a_module_that_is_tested_here() -> None:
    assert len(MODULES) == sum(language == "python" for language, _ in BLOCKS)
    assert PLUGINS == [
        "adding",
        "booking",
        "by_hand",
        "copying",
        "counting",
        "deleting",
        "failing",
        "greeting",
        "hashing",
        "notes",
        "results",
        "searching",
    ]


async def test_the_documents_load_and_serve() -> None:
    documents = [text for language, text in BLOCKS if language == "yaml"]
    assert len(documents) == 2
    for text in documents:
        document = Document.model_validate(parse_yaml(text.encode()).value)
        async with open_plugins(document.enabled_plugins(), Announcements()) as (provider,):
            if provider.name == "counting":
                assert text_of(await call_tool(provider, "count")) == "42"


async def test_adding() -> None:
    reply = await use("adding", "add", {"a": 1})
    assert structured(reply) == {"result": 2}
    box = load_plugin("p", "adding").box
    (entry,) = box.listing(Kind.TOOL).entries
    assert json.loads(entry.definition) == {
        "name": "add",
        "description": "Add two whole numbers.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "description": "The first."},
                "b": {"type": "integer", "default": 1, "description": "The second."},
            },
            "required": ["a"],
            "additionalProperties": False,
        },
        "outputSchema": {
            "type": "object",
            "properties": {"result": {"type": "integer"}},
            "required": ["result"],
        },
    }


async def test_searching() -> None:
    arguments = {
        "words": ["a", "b"],
        "period": {"first": "2026-01-02", "last": "2026-01-03"},
        "order": "newest",
    }
    reply = await use("searching", "search", arguments)
    assert structured(reply) == {"result": ["a b in eu, 02.01.2026, newest"]}
    (entry,) = load_plugin("p", "searching").box.listing(Kind.TOOL).entries
    assert [param.name for param in entry.header_params] == ["Region"]
    refused = await use("searching", "search", {})
    assert "- `words`: required argument is missing (expected array)" in text_of(refused)


async def test_by_hand() -> None:
    assert text_of(await use("by_hand", "reach", {"phone": "1"})) == "phone"
    refused = await use("by_hand", "reach", {})
    assert isinstance(refused, Reply)
    assert refused.is_error


async def test_results() -> None:
    assert structured(await use("results", "weather", {"city": "x"})) == {
        "city": "x",
        "degrees": 21.5,
    }
    kinds = {}
    for tool in ("motto", "picture", "report"):
        reply = await use("results", tool)
        assert isinstance(reply, Reply)
        found = json.loads(reply.result)
        assert set(found) == {"content"}
        kinds[tool] = [block["type"] for block in found["content"]]
    assert kinds == {
        "motto": ["text"],
        "picture": ["text", "image"],
        "report": ["resource", "resource_link"],
    }
    measured = await use("results", "measured")
    assert structured(measured) == {"rows": 12}
    assert isinstance(measured, Reply)
    assert measured.meta == b'{"example.org/took_ms":3}'


async def test_failing() -> None:
    assert text_of(await use("failing", "withdraw", {"amount": 500})) == "At most 100 a day."
    with pytest.raises(RpcError):
        await use("failing", "withdraw", {"amount": 13})
    with capture_logs() as logs:
        text = text_of(await use("failing", "withdraw", {"amount": 0}))
    assert logs[0]["error_id"] in text
    assert "zero" not in text


async def test_copying() -> None:
    caller = RecordingCaller()
    assert text_of(await use("copying", "copy", {"files": 2}, caller=caller)) == "done"
    assert [one.progress for one in caller.progress] == [1, 2]
    assert caller.logs == [("info", "local process copies 2 files")]


async def test_hashing() -> None:
    caller = RecordingCaller()
    arguments = {"word": "x", "rounds": 1001}
    assert len(text_of(await use("hashing", "grind", arguments, caller=caller))) == 64
    assert [one.progress for one in caller.progress] == [0, 1000]


async def test_deleting() -> None:
    asked = await use("deleting", "delete", {"path": "/a"})
    assert isinstance(asked, InputRequired)
    for sure, text in ((True, "/a is deleted"), (False, "/a stays")):
        responses = {"sure": json.dumps(accepted({"sure": sure})).encode()}
        reply = await use(
            "deleting",
            "delete",
            {"path": "/a"},
            input_responses=responses,
            request_state=asked.state,
        )
        assert text_of(reply) == text


async def test_notes() -> None:
    announced = Announcements()
    async with open_plugins({"p": PluginSection(use="notes")}, announced) as (provider,):

        async def result(method: str, name: str, params: Any = None) -> Any:
            reply = await provider.call(call_of(method, name, params))
            assert isinstance(reply, Reply)
            return json.loads(reply.result)

        read = await result("resources/read", "note://all")
        assert json.loads(read["contents"][0]["text"]) == ["tax", "tea"]
        assert (await result("resources/read", "note://tea"))["contents"][0]["text"] == "Buy tea."
        with pytest.raises(UnknownNameError):
            await result("resources/read", "note://nothing")
        prompt = await result("prompts/get", "summarise", {"arguments": {"name": "tea"}})
        assert prompt["messages"][0]["content"]["text"] == "Summarise in a dry tone: Buy tea."
        for ref, name, argument, values in (
            (
                {"type": "ref/resource"},
                "note://{name}",
                {"name": "name", "value": "t"},
                ["tea", "tax"],
            ),
            ({"type": "ref/prompt"}, "summarise", {"name": "name", "value": "te"}, ["tea"]),
            ({"type": "ref/prompt"}, "summarise", {"name": "tone", "value": "w"}, ["warm"]),
        ):
            params = {"ref": ref, "argument": argument}
            found = await result("completion/complete", name, params)
            assert found["completion"]["values"] == values
        await call_tool(provider, "write", {"name": "new", "text": "Be new."})
        assert (await result("resources/read", "note://new"))["contents"][0]["text"] == "Be new."
    assert announced == [ResourceUpdated("p", "note://new"), ResourceUpdated("p", "note://all")]


async def test_counting_refuses_a_misspelt_key_with_the_path_the_guide_says() -> None:
    section = {"counting": PluginSection(use="counting", config={"strat": 1})}
    with pytest.raises(ConfigError) as caught:
        async with open_plugins(section, Announcements()):
            pass
    (problem,) = caught.value.problems
    assert (problem.path, problem.suggestion) == ("plugins.counting.config.strat", "start")
    assert problem.path in GUIDE


async def test_greeting() -> None:
    assert text_of(await use("greeting:Greeting", "greet", {"name": "Ada"})) == "Hello, Ada!"
    (toml,) = [text for language, text in BLOCKS if language == "toml"]
    points = tomllib.loads(toml)["project"]["entry-points"]["waygate.plugins"]
    assert load_plugin("p", points["greeting"]).__name__ == "Greeting"


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(PLUGINS)))
async def test_the_tests_the_guide_shows_pass(name: str) -> None:
    module = load_plugin("p", name)
    tests = [one for key, one in vars(module).items() if key.startswith("test_")]
    assert tests
    for test in tests:
        assert inspect.iscoroutinefunction(test)
        await test()
