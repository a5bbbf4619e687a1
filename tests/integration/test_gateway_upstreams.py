"""Upstreams of the document behind the real program, called by the official client in both eras."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration import upstream_servers as servers
from tests.integration.gateway_process import (
    Gateway,
    clean_environment,
    serving,
    stdio_command,
    wait_for_port,
    waygate,
)
from tests.integration.test_web_shell import get
from tests.support.ports import free_port

Era = Literal["legacy", "auto"]
HELLO = {"use": "waygate_mcp.plugins.builtin.hello"}
WITHIN_S = 30.0


@contextlib.contextmanager
def program(source: str, port: int) -> Iterator[int]:
    """Run a server written as a Python program until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, WITHIN_S)
        yield port
    finally:
        process.kill()
        process.wait(10)


@asynccontextmanager
async def connected(
    gateway: Gateway, era: Era, path: str = "/mcp", *, within_s: float = WITHIN_S
) -> AsyncIterator[Client]:
    """The official client, in one era; `auto` takes the modern one where it is offered."""
    async with (
        asyncio.timeout(within_s),
        create_mcp_http_client(gateway.headers) as http,
        Client(
            streamable_http_client(gateway.base_url + path, http_client=http), mode=era
        ) as client,
    ):
        yield client


def text_of(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


def checks(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(gateway, "/health", **gateway.headers)[2])["checks"]
    return found


async def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that is seen from outside, within a bound."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {WITHIN_S:.0f} s") from None


def document(over_http: int, over_sse: int, **more: Any) -> Mapping[str, Any]:
    """One upstream of each kind and a plugin."""
    return {
        "version": 1,
        "plugins": {"hello": HELLO},
        "upstreams": {
            "web": {"url": f"http://127.0.0.1:{over_http}/mcp"},
            "old": {"url": f"http://127.0.0.1:{over_sse}/sse"},
            "local": {"command": sys.executable, "args": ["-c", servers.SDK]},
        },
        **more,
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        program(servers.SDK_HTTP, free_port()) as over_http,
        program(servers.SDK_SSE, free_port()) as over_sse,
        serving(
            tmp_path_factory.mktemp("upstreams"),
            document(over_http, over_sse, endpoints={"alone": {"bind": ["web"]}}),
        ) as running,
    ):
        asyncio.run(until(lambda: is_well(running), "all upstreams"))
        yield running


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_every_kind_of_upstream_and_a_plugin_answer_a_client(
    gateway: Gateway, era: Era
) -> None:
    async with connected(gateway, era) as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else "2026-07-28")
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["hello__echo", "hello__greet", "web__add", "old__add", "local__add"]
        for name in ("web__add", "old__add", "local__add"):
            assert text_of(await client.call_tool(name, {"a": 2, "b": 3})) == "5", name
        assert text_of(await client.call_tool("hello__greet", {"name": "you"})) == "Hello, you!"


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_an_endpoint_of_one_upstream_has_its_names_and_its_advice(
    gateway: Gateway, era: Era
) -> None:
    async with connected(gateway, era, "/servers/alone/mcp") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
        assert text_of(await client.call_tool("add", {"a": 20, "b": 3})) == "23"
        assert "Adds." in str(client.instructions)


async def test_health_says_how_each_upstream_is_to_who_may_know(gateway: Gateway) -> None:
    await until(lambda: is_well(gateway), "all upstreams")
    assert set(checks(gateway)["upstreams"]["states"]) == {"web", "old", "local"}
    stranger = json.loads(get(gateway, "/health")[2])["checks"]["upstreams"]
    assert stranger == {"status": "healthy"}


async def test_the_rest_side_shows_each_upstream_and_pages(gateway: Gateway) -> None:
    await until(lambda: is_well(gateway), "all upstreams")
    status, headers, body = get(gateway, "/mcp/servers?limit=2", **gateway.headers)
    page = json.loads(body)
    assert (status, page["total"], headers["x-total-count"]) == (200, 3, "3")
    assert [each["name"] for each in page["servers"]] == ["web", "old"]
    following = re.search(r'<([^>]+)>; rel="next"', headers["link"])
    assert following is not None
    (local,) = json.loads(get(gateway, following[1], **gateway.headers)[2])["servers"]
    assert (local["transport"], local["state"], local["up"]) == ("stdio", "ready", True)
    assert "own session" in local["sandbox"]
    assert get(gateway, "/mcp/servers")[0] == 401


@pytest.mark.parametrize("name", ["web", "old", "local"])
async def test_one_is_opened_anew_by_hand_while_its_calls_end(gateway: Gateway, name: str) -> None:
    await until(lambda: is_well(gateway), "all upstreams")
    async with connected(gateway, "legacy") as client:
        results = []

        async def keep_calling() -> None:
            for number in range(30):
                result = await client.call_tool(f"{name}__add", {"a": number, "b": 1})
                results.append(text_of(result))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_calling())
            status, _, body = await asyncio.to_thread(
                get, gateway, f"/mcp/servers/{name}/reload", "POST", **gateway.headers
            )
        assert status == 200, body
        after = json.loads(body)
        assert (after["state"], after["up"]) == ("ready", True)
        assert after["opened"] >= 2
        assert sorted(results) == sorted(str(number + 1) for number in range(30) for _ in range(4))


async def test_tools_over_rest_are_those_of_the_client(gateway: Gateway) -> None:
    async with connected(gateway, "auto") as client:
        seen = [tool.name for tool in (await client.list_tools()).tools]
    for path in ("/mcp/tools", "/mcp/commands"):
        found = json.loads(get(gateway, path, **gateway.headers)[2])
        assert [each["name"] for each in found[path.rpartition("/")[2]]] == seen
    own = json.loads(get(gateway, "/mcp/servers/web/tools", **gateway.headers)[2])
    assert [each["name"] for each in own["tools"]] == ["add"]


async def test_workers_count_the_requests_of_upstreams_together(tmp_path: Path) -> None:
    with program(servers.SDK_HTTP, free_port()) as port:
        given = {"version": 1, "upstreams": {"web": {"url": f"http://127.0.0.1:{port}/mcp"}}}
        with serving(tmp_path, given, arguments=("--workers", "2")) as gateway:
            for _ in range(6):
                async with connected(gateway, "auto") as client:
                    assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
            name = 'waygate_upstream_requests_total{outcome="ok",upstream="web"}'
            await until(lambda: metric(gateway, name) >= 6, "the numbers of both workers")
            await until(
                lambda: metric(gateway, 'waygate_upstream_up{upstream="web"}') == 1, "both ways"
            )


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_upstreams_are_behind_standard_input_and_output_as_well(
    tmp_path: Path, era: Era
) -> None:
    with program(servers.SDK_HTTP, free_port()) as port:
        given = {
            "version": 1,
            "upstreams": {
                "web": {"url": f"http://127.0.0.1:{port}/mcp"},
                "local": {"command": sys.executable, "args": ["-c", servers.SDK]},
            },
        }
        started = stdio_command(tmp_path, given)
        parameters = StdioServerParameters(
            command=started.command,
            args=list(started.arguments),
            env=dict(started.environment),
            cwd=started.folder,
        )
        async with (
            asyncio.timeout(WITHIN_S),
            Client(stdio_client(parameters), mode=era) as client,
        ):
            for name in ("web__add", "local__add"):
                assert text_of(await client.call_tool(name, {"a": 2, "b": 3})) == "5"


def metric(gateway: Gateway, line: str) -> float:
    """A number of `/metrics`; 0 where it is not there."""
    text = get(gateway, "/metrics", **gateway.headers)[2].decode()
    found = [each for each in text.splitlines() if each.startswith(line + " ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def is_well(gateway: Gateway) -> bool:
    """Whether every upstream is open; one that opens for the first time is no fault, but not open."""
    return set(checks(gateway)["upstreams"]["states"].values()) == {"ready"}


async def test_an_upstream_that_is_down_hinders_nobody_and_comes_by_itself(tmp_path: Path) -> None:
    port = free_port()
    given = {
        "version": 1,
        "plugins": {"hello": HELLO},
        "upstreams": {"web": {"url": f"http://127.0.0.1:{port}/mcp"}},
    }
    with serving(tmp_path, given) as gateway:
        assert not is_well(gateway)
        assert metric(gateway, 'waygate_upstream_up{upstream="web"}') == 0
        async with connected(gateway, "auto") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["hello__echo", "hello__greet"]
            assert text_of(await client.call_tool("hello__greet", {"name": "you"})) == "Hello, you!"
            async with client.listen(tools_list_changed=True) as changes:
                with program(servers.SDK_HTTP, port):
                    assert isinstance(await anext(aiter(changes)), ToolsListChanged)
                    await until(lambda: is_well(gateway), "the upstream")
                    assert text_of(await client.call_tool("web__add", {"a": 2, "b": 3})) == "5"
                    assert metric(gateway, 'waygate_upstream_up{upstream="web"}') == 1
        gateway.wait_for_log("cannot be opened")


@pytest.mark.parametrize("kind", ["SDK_HTTP", "SDK_SSE"])
async def test_one_that_went_down_is_left_alone_and_back_without_anybody_calling(
    tmp_path: Path, kind: str
) -> None:
    port, source = free_port(), str(getattr(servers, kind))
    url = f"http://127.0.0.1:{port}/{'mcp' if kind == 'SDK_HTTP' else 'sse'}"
    limits = {"failures": 2, "open_timeout_s": 5}
    with serving(
        tmp_path, {"version": 1, "upstreams": {"web": {"url": url, "limits": limits}}}
    ) as (gateway):
        async with connected(gateway, "auto") as client:
            with program(source, port):
                await until(lambda: is_well(gateway), "the upstream")
                assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
            for _ in range(3):
                with pytest.raises(MCPError, match="upstream server"):
                    await client.call_tool("add", {"a": 2, "b": 3})
            assert not is_well(gateway)
            name = 'waygate_upstream_requests_total{outcome="%s",upstream="web"}'
            assert metric(gateway, name % "ok") >= 1
            assert metric(gateway, name % "failed") + metric(gateway, name % "refused") >= 3
            with program(source, port):
                await until(lambda: is_well(gateway), "the upstream, back")
                assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"


async def test_after_a_restart_it_is_announced_what_upstreams_can_do_though_all_are_down(
    tmp_path: Path,
) -> None:
    port = free_port()
    given = {
        "version": 1,
        "upstreams": {"web": {"url": f"http://127.0.0.1:{port}/mcp"}},
    }
    with serving(tmp_path, given) as gateway:
        assert not await can_subscribe(gateway, "auto")
    with program(servers.SDK_HTTP, port), serving(tmp_path, given) as gateway:
        await until(lambda: is_well(gateway), "the upstream")
    kept = tmp_path / "data" / "upstreams.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with serving(tmp_path, given) as gateway:
        assert await can_subscribe(gateway, "legacy")
        assert await can_subscribe(gateway, "auto")
        async with connected(gateway, "auto") as client:
            assert "Adds." in str(client.instructions)
    kept.write_text("{")
    with serving(tmp_path, given) as gateway:
        assert not await can_subscribe(gateway, "auto")
        gateway.wait_for_log("upstream_facts_ignored")


async def can_subscribe(gateway: Gateway, era: Era) -> bool:
    """Whether subscriptions are announced, which is never guessed."""
    async with connected(gateway, era) as client:
        resources = client.server_capabilities.resources
        return bool(resources and resources.subscribe)


WRONG = """version: 1
upstreams:
  files:
    command: no-such-program
  web:
    url: http://127.0.0.1:9/mcp
    headers:
      Authorization: "Bearer ${secret:NOT_THERE}"
  odd:
    url: http://0x7f.1/mcp
"""


@pytest.mark.parametrize("command", ["check", "serve"])
def test_what_keeps_an_upstream_from_being_opened_is_named_with_its_line(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "waygate.yaml").write_text(WRONG, encoding="utf-8")
    done = subprocess.run(
        [waygate(), command, "-c", "waygate.yaml"],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | {"WAYGATE_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    for wanted in (
        "line 4, column 14: upstreams.files.command: there is no such program",
        "line 8, column 22: upstreams.web.headers.Authorization: the secret",
        "line 10, column 10: upstreams.odd.url: has no usable host",
    ):
        assert wanted in said
    assert "Traceback" not in said
