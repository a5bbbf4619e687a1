"""One gateway before several real upstreams: clashing names and URIs, one that is dead and one that is silent.

The upstreams are servers of the official SDK and gateways of our own, as processes; the clients are the
official SDK's, in both eras.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration.gateway_process import Gateway, serving
from tests.support.ports import free_port

NOTES = """
import sys
from mcp.server import MCPServer
from mcp_types import EmbeddedResource, ResourceLink, TextResourceContents

name = sys.argv[1]
server = MCPServer(name)

@server.tool()
def whoami() -> str:
    return name

@server.tool()
def link() -> list[ResourceLink | EmbeddedResource]:
    shared = TextResourceContents(uri="note://shared", text="embedded by " + name)
    return [ResourceLink(uri="note://a/page", name="a"), EmbeddedResource(resource=shared)]

@server.tool()
def point() -> list[ResourceLink]:
    return [ResourceLink(uri="hidden://by-" + name, name="hidden")]

@server.prompt()
def ask() -> str:
    return "I am " + name

@server.resource("note://shared")
def shared() -> str:
    return "shared of " + name

@server.resource("note://{page}/page")
def page(page: str) -> str:
    return page + " of " + name

server.run("stdio")
"""
SILENT = "import sys; sys.stdin.read()"
MODES = ["auto", "legacy"]


def notes(name: str, **more: Any) -> Mapping[str, Any]:
    return {"command": sys.executable, "args": ["-c", NOTES, name], "sandbox": "none", **more}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    document = {
        "version": 1,
        "upstreams": {
            "silent": {"command": sys.executable, "args": ["-c", SILENT], "sandbox": "none"},
            "dead": {"url": f"http://127.0.0.1:{free_port()}/mcp"},
            "one": notes("one"),
            "two": notes("two", era="legacy"),
        },
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "endpoints": {
            "plugin": {"bind": ["hello"]},
            "mixed": {"bind": ["hello", "one"]},
            "default": {
                "bind": ["silent", "dead", "one", "two"],
                "uri_prefixes": {"two": "zwei"},
                "tools": {
                    "rename": {"two__whoami": "who_is_two"},
                    "describe": {"two__whoami": "Ask the second."},
                    "deny": ["one__point"],
                },
                "prompts": {"deny": ["one__*"]},
                "resources": {"deny": ["zwei+note://secret*"]},
            },
            "flat": {"bind": ["one", "two"], "prefix": "none"},
            "strict": {"bind": ["one", "dead"], "strict": True},
        },
    }
    with serving(tmp_path_factory.mktemp("many"), document) as running:
        yield running


@asynccontextmanager
async def client_of(
    gateway: Gateway, mode: str, endpoint: str = "", **more: Any
) -> AsyncIterator[Client]:
    url = f"{gateway.base_url}/servers/{endpoint}/mcp" if endpoint else gateway.url
    async with (
        asyncio.timeout(60),
        create_mcp_http_client(dict(gateway.headers)) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **more) as client,
    ):
        yield client


async def tools_of(client: Client, wanted: set[str]) -> dict[str, types.Tool]:
    """The tools, once those that are wanted are there: processes take their time to start."""
    async with asyncio.timeout(40):
        while True:
            found = {tool.name: tool for tool in (await client.list_tools()).tools}
            if wanted <= found.keys():
                return found
            await asyncio.sleep(0.2)


def words(result: Any) -> str:
    return "".join(block.text for block in result.content if hasattr(block, "text"))


ALL = {"one__whoami", "one__link", "two__link", "two__point", "who_is_two"}


@pytest.mark.parametrize("mode", MODES)
async def test_names_words_and_filters_are_those_of_the_document(
    gateway: Gateway, mode: str
) -> None:
    async with client_of(gateway, mode) as client:
        tools = await tools_of(client, ALL)
        assert set(tools) == ALL
        assert tools["who_is_two"].description == "Ask the second."
        assert words(await client.call_tool("who_is_two", {})) == "two"
        assert words(await client.call_tool("one__whoami", {})) == "one"
        for denied in ("one__point", "two__whoami"):
            with pytest.raises(MCPError):
                await client.call_tool(denied, {})
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["two__ask"]
        with pytest.raises(MCPError):
            await client.get_prompt("one__ask")


@pytest.mark.parametrize("mode", MODES)
async def test_uris_that_clash_are_told_apart_wherever_they_stand(
    gateway: Gateway, mode: str
) -> None:
    async with client_of(gateway, mode) as client:
        await tools_of(client, ALL)
        listed = [str(one.uri) for one in (await client.list_resources()).resources]
        assert listed == ["note://shared", "zwei+note://shared"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == [
            "note://{page}/page",
            "zwei+note://{page}/page",
        ]
        for tool, mark, owner in (("one__link", "", "one"), ("two__link", "zwei+", "two")):
            link, embedded = (await client.call_tool(tool, {})).content
            assert isinstance(link, types.ResourceLink)
            assert isinstance(embedded, types.EmbeddedResource)
            assert (link.uri, embedded.resource.uri) == (
                f"{mark}note://a/page",
                f"{mark}note://shared",
            )
            for uri, text in (
                (link.uri, f"a of {owner}"),
                (embedded.resource.uri, f"shared of {owner}"),
            ):
                [content] = (await client.read_resource(uri)).contents
                assert isinstance(content, types.TextResourceContents)
                assert (content.uri, content.text) == (uri, text)
        with pytest.raises(MCPError):
            await client.read_resource("zwei+note://secret/page")


@pytest.mark.parametrize("mode", MODES)
async def test_where_names_clash_the_first_has_them_and_prompts_too(
    gateway: Gateway, mode: str
) -> None:
    async with client_of(gateway, mode, "flat") as client:
        tools = await tools_of(client, {"whoami", "link", "point"})
        assert set(tools) == {"whoami", "link", "point"}
        owner = words(await client.call_tool("whoami", {}))
        prompt = await client.get_prompt("ask")
        assert owner in ("one", "two")
        assert f"I am {owner}" in json.dumps(prompt.model_dump(mode="json"))
        [link] = (await client.call_tool("point", {})).content
        assert isinstance(link, types.ResourceLink)
        assert link.uri == f"hidden://by-{owner}"
    gateway.wait_for_log("is hidden: the name belongs to")


async def test_one_part_for_few_makes_a_list_one_for_few(gateway: Gateway) -> None:
    async with client_of(gateway, "auto", "plugin") as client:
        listed = await client.list_tools()
        assert listed.cache_scope == "public"
    async with client_of(gateway, "auto", "mixed") as client:
        await tools_of(client, {"hello__greet", "one__whoami"})
        listed = await client.list_tools()
        assert listed.cache_scope == "private"
        assert 0 <= listed.ttl_ms <= 60_000


async def test_one_that_is_silent_delays_one_list_and_no_call(gateway: Gateway) -> None:
    async with client_of(gateway, "auto") as client:
        await tools_of(client, ALL)
        for _ in range(5):
            await asyncio.sleep(0.3)
            began_s = time.monotonic()
            assert words(await client.call_tool("one__whoami", {})) == "one"
            assert time.monotonic() - began_s < 4.0
        began_s = time.monotonic()
        await client.list_tools()
        assert time.monotonic() - began_s < 6.5


async def test_one_that_is_away_is_named_at_once(gateway: Gateway) -> None:
    async with client_of(gateway, "auto") as client:
        await tools_of(client, ALL)
        began_s = time.monotonic()
        for alias in ("dead", "silent"):
            with pytest.raises(MCPError, match=f"upstream server {alias} is not available"):
                await client.call_tool(f"{alias}__anything", {})
        assert time.monotonic() - began_s < 6.5
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("one__anything", {})


async def test_a_strict_endpoint_says_who_is_missing_and_calls_the_rest(gateway: Gateway) -> None:
    async with client_of(gateway, "auto", "strict") as client:
        with pytest.raises(MCPError, match="upstream server dead is not available"):
            await client.list_tools()
        async with asyncio.timeout(30):
            while True:
                try:
                    # No tool: this client lists tools after a call, to check the result.
                    assert (await client.get_prompt("one__ask")).messages
                    return
                except MCPError:
                    await asyncio.sleep(0.2)


def everything(folder: Path) -> Mapping[str, Any]:
    """A gateway of our own as a process, which offers the fixture under its own names."""
    folder.mkdir()
    document = folder / "waygate.yaml"
    document.write_text(
        "auth: {mode: none}\nplugins: {everything: {use: waygate_mcp.testing.everything}}\n"
    )
    code = "from waygate_mcp.cli.main import app; app()"
    return {
        "command": sys.executable,
        "args": ["-c", code, "stdio", "-c", str(document)],
        "env": {"WAYGATE_DATA_DIR": str(folder / "data"), "WAYGATE_LOG_DIR": "none"},
        "sandbox": "none",
        "era": "legacy",
    }


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
async def test_an_update_is_told_under_the_uri_that_was_subscribed_to(tmp_path: Path) -> None:
    document = {
        "version": 1,
        "upstreams": {"one": everything(tmp_path / "one"), "two": everything(tmp_path / "two")},
        "endpoints": {"default": {"uri_prefixes": {"two": "zwei"}}},
    }
    heard: list[str] = []
    woken = asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.append(str(message.params.uri))
            woken.set()

    with serving(tmp_path / "gateway", document) as running:
        async with client_of(running, "legacy", message_handler=hear) as client:
            update = "update_watched_resource"
            await tools_of(client, {f"one__{update}", f"two__{update}"})
            await client.subscribe_resource("zwei+test://watched-resource")
            await client.call_tool(f"one__{update}", {})
            await client.call_tool(f"two__{update}", {})
            async with asyncio.timeout(20):
                await woken.wait()
    assert heard == ["zwei+test://watched-resource"]
