"""Tools over REST: what MCP clients see, and the same for people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, Answer, ask, open_house, settings_in
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.gateway.catalog import Catalog
from waygate_mcp.web.rest import RestDoor
from waygate_mcp.web.tools import parameters_of

HELLO = {"use": "waygate_mcp.plugins.builtin.hello"}
DOCUMENT: dict[str, Any] = {
    "plugins": {"hello": HELLO},
    "upstreams": {"web": {"url": "https://h/mcp"}},
    "endpoints": {"few": {"bind": ["hello"], "tools": {"deny": ["echo"]}}},
}


@asynccontextmanager
async def open_api(folder: Path, **limits: int) -> AsyncIterator[Any]:
    document = {**DOCUMENT, "limits": limits}
    async with open_house(settings_in(folder, document)) as house:
        door = RestDoor(house)

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await door(scope, scope["raw_path"].decode(), receive, send)

        async def get(path: str) -> Answer:
            return await ask(serve, path, "GET", (HOST, BEARER))

        yield get


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "One number."},
            "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 3},
        },
        "required": ["a"],
    }
    FakeServer({"name": "add", "description": "Adds.", "inputSchema": schema}).put_in_place(
        monkeypatch
    )


async def test_tools_are_those_an_mcp_client_sees_under_their_public_names(tmp_path: Path) -> None:
    async with open_api(tmp_path) as get:
        answer = await get("/mcp/tools")
        body = answer.json()
        assert (answer.status, body["endpoint"], body["total"]) == (200, "default", 3)
        assert [each["name"] for each in body["tools"]] == [
            "hello__echo",
            "hello__greet",
            "web__add",
        ]
        assert body["tools"][2]["inputSchema"]["required"] == ["a"]
        assert answer.header("x-total-count") == "3"


async def test_pages_of_the_door_are_walked_to_the_end(tmp_path: Path) -> None:
    async with open_api(tmp_path, page_size=1) as get:
        body = (await get("/mcp/tools?limit=2&page=2")).json()
        assert (body["total"], [each["name"] for each in body["tools"]]) == (3, ["web__add"])


async def test_an_endpoint_shows_its_own(tmp_path: Path) -> None:
    async with open_api(tmp_path) as get:
        body = (await get("/mcp/tools?endpoint=few")).json()
        assert [each["name"] for each in body["tools"]] == ["greet"]
        answer = await get("/mcp/tools?endpoint=nowhere")
        assert (answer.status, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
        assert (await get(f"/mcp/tools?endpoint={'x' * 64}")).status == 400


async def test_commands_have_their_parameters_and_who_does_them(tmp_path: Path) -> None:
    async with open_api(tmp_path) as get:
        commands = (await get("/mcp/commands")).json()["commands"]
        greet = next(each for each in commands if each["name"] == "hello__greet")
        assert (greet["provider"], greet["description"]) == ("hello", "Greet somebody.")
        assert greet["parameters"][0]["name"] == "name"
        assert greet["parameters"][0]["default"] == "world"
        add = next(each for each in commands if each["name"] == "web__add")
        assert add["provider"] == "web"
        assert add["parameters"] == [
            {
                "name": "a", "type": "integer", "required": True, "description": "One number.",
                "default": None, "choices": None,
            },
            {
                "name": "b", "type": "integer|null", "required": False, "description": "",
                "default": 3, "choices": None,
            },
        ]  # fmt: skip


async def test_one_that_vanished_meanwhile_is_shown_with_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> Any:
        raise UnknownNameError("tool", "add")

    async with open_api(tmp_path) as get:
        monkeypatch.setattr(Catalog, "find", gone)
        commands = (await get("/mcp/commands")).json()["commands"]
        assert [each["provider"] for each in commands] == ["", "", ""]


@pytest.mark.parametrize(
    "schema", [None, True, [], {}, {"properties": []}, {"type": "object", "required": "a"}]
)
def test_a_schema_without_properties_has_no_parameters(schema: Any) -> None:
    assert parameters_of(schema) == []


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        (True, "any"),
        ({}, "any"),
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string|null"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}, {"const": 1}, 5]}, "string"),
        ({"anyOf": "nonsense"}, "any"),
        ({"type": 5}, "any"),
    ],
)
def test_types_are_read_as_far_as_a_list_can_say_them(schema: Any, kind: str) -> None:
    (parameter,) = parameters_of({"properties": {"p": schema}, "required": "nonsense"})
    assert (parameter.type, parameter.required) == (kind, False)


def test_choices_and_odd_descriptions() -> None:
    first, second = parameters_of(
        {"properties": {"a": {"enum": ["x", 1]}, "b": {"enum": 5, "description": 5}}}
    )
    assert (first.choices, second.choices, second.description) == (["x", 1], None, "")
