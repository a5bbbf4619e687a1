"""What is said outside of any call, through a real gateway between the official clients and server.

A visited URL is told to the session that was sent there, changed roots to the upstream session opened for
the client they are of; no other session and no other principal hears of either.
Spec: 2025-11-25 client/elicitation, client/roots; protocol.md 4; threat model rules 11 and 12.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration.faults.rig import gateway
from tests.integration.gateway_process import serving, wait_for_port
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
WITHIN_S = 20.0
QUIET_S = 0.5
"""Seconds in which nothing may come to those who are not meant, after it came to whoever is."""

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


class Peer:
    """The server of tests/peers/visits.py, and what it is told to do outside of calls."""

    def __init__(self, port: int) -> None:
        self.port = port

    def section(self, **more: Any) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.port}/mcp", "era": "legacy", **more}

    async def finish(self, who: str, identifier: str) -> None:
        await asyncio.to_thread(self._get, f"finish?who={who}&id={identifier}")

    async def heard(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await asyncio.to_thread(self._get, "heard"))
        return found

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body


@pytest.fixture
def peer() -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.visits", "http", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, 30)
        yield Peer(port)
    finally:
        process.kill()
        process.wait(10)


class Door(Protocol):
    """Where a gateway serves."""

    port: int


class Person:
    """An official client, what it was asked and what it was told."""

    def __init__(self) -> None:
        self.client: Client
        self.asked: list[str | None] = []
        self.told: list[str] = []
        self.woken = asyncio.Event()

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(getattr(params, "elicitation_id", None))
        return types.ElicitResult(action="accept")

    async def roots(self, context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[])

    async def hear(self, message: Any) -> None:
        if isinstance(message, types.ElicitCompleteNotification):
            self.told.append(message.params.elicitation_id)
            self.woken.set()

    async def call(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result
        return str(result.content[0].text)  # type: ignore[union-attr]

    async def until_told(self, *identifiers: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.told != list(identifiers):
                self.woken.clear()
                await self.woken.wait()


@asynccontextmanager
async def person(rig: Door, who: str, *, mode: str = "legacy") -> AsyncIterator[Person]:
    one = Person()
    async with (
        create_mcp_http_client({"Authorization": f"Bearer {who}"}) as http,
        Client(
            streamable_http_client(f"http://127.0.0.1:{rig.port}/mcp", http_client=http),
            mode=mode,
            elicitation_callback=one.elicit,
            list_roots_callback=one.roots,
            message_handler=one.hear,
        ) as one.client,
    ):
        yield one


@asynccontextmanager
async def people(rig: Door, *names: str) -> AsyncIterator[list[Person]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(person(rig, name)) for name in names]


async def until(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await is_so():  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {WITHIN_S:.0f} s") from None


# --- elicitation/complete


@pytest.mark.parametrize("sessions", ["client", "principal", "shared"])
async def test_a_visit_is_told_to_the_session_that_was_asked_and_to_no_other(
    peer: Peer, tmp_path: Path, sessions: str
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section(sessions=sessions)}) as rig,
        people(rig, "alice", "alice", "bob") as (first, second, bob),
    ):
        for one, identifier in ((first, "e-1"), (second, "e-2"), (bob, "e-3")):
            assert await one.call("visit", who=identifier, id=identifier) == "accept"
            assert one.asked == [identifier]  # as the server called it: the client knows it by that
        await peer.finish("e-2", "e-2")
        await second.until_told("e-2")
        await peer.finish("e-3", "e-3")
        await bob.until_told("e-3")
        await peer.finish("e-1", "e-1")
        await first.until_told("e-1")
        await asyncio.sleep(QUIET_S)
        assert [one.told for one in (first, second, bob)] == [["e-1"], ["e-2"], ["e-3"]]


async def test_the_urls_of_an_error_are_told_to_the_session_whose_call_it_ended(
    peer: Peer, tmp_path: Path
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section()}) as rig,
        people(rig, "alice", "alice", "bob") as (first, second, bob),
    ):
        for one, identifier in ((first, "e-1"), (second, "e-2"), (bob, "e-3")):
            with pytest.raises(MCPError) as caught:
                await one.call("sign_in", who=identifier, id=identifier)
            assert caught.value.error.code == -32042
            assert caught.value.error.data["elicitations"][0]["elicitationId"] == identifier
        await peer.finish("e-2", "e-2")
        await second.until_told("e-2")
        await asyncio.sleep(QUIET_S)
        assert [one.told for one in (first, second, bob)] == [[], ["e-2"], []]


async def test_ids_nobody_was_given_and_those_given_to_two_are_told_to_nobody(
    peer: Peer, tmp_path: Path
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section(sessions="shared")}) as rig,
        people(rig, "alice", "bob") as (alice, bob),
    ):
        for one in (alice, bob):
            await one.call("visit", who="both", id="same")
        await bob.call("visit", who="bob", id="e-3")
        await peer.finish("both", "invented")
        await peer.finish("both", "same")
        await peer.finish("bob", "e-3")
        await bob.until_told("e-3")
        await asyncio.sleep(QUIET_S)
        assert (alice.told, bob.told) == ([], ["e-3"])


async def test_a_modern_client_is_told_nothing_and_its_visit_nobody_elses(
    peer: Peer, tmp_path: Path
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section()}) as rig,
        person(rig, "alice", mode="auto") as modern,
        person(rig, "alice") as legacy,
    ):
        assert await modern.call("visit", who="modern", id="e-1") == "accept"
        assert modern.asked == [None]  # the modern era has no ids
        await legacy.call("visit", who="legacy", id="e-2")
        await peer.finish("modern", "e-1")
        await peer.finish("legacy", "e-2")
        await legacy.until_told("e-2")
        await asyncio.sleep(QUIET_S)
        assert (modern.told, legacy.told) == ([], ["e-2"])


async def test_a_visit_is_told_over_standard_input_and_output_too(tmp_path: Path) -> None:
    section = {
        "command": sys.executable,
        "args": ["-m", "tests.peers.visits", "stdio"],
        "cwd": str(ROOT),
        "era": "legacy",
        "sandbox": "none",
    }
    async with (
        gateway(tmp_path, {"up": section}) as rig,
        people(rig, "alice", "alice", "bob") as (first, second, bob),
    ):
        assert await first.call("visit", who="first", id="e-1") == "accept"
        # Of a process of her principal's; another principal has one of its own.
        await second.call("finish", who="first", id="e-1")
        await first.until_told("e-1")
        await asyncio.sleep(QUIET_S)
        assert (second.told, bob.told) == ([], [])


# --- roots/list_changed


async def test_changed_roots_are_told_in_the_session_opened_for_their_client(
    peer: Peer, tmp_path: Path
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section()}) as rig,
        people(rig, "alice", "alice", "bob") as (first, second, bob),
    ):
        await first.client.send_roots_list_changed()  # nothing is open for it, so nobody hears
        for one, name in ((first, "first"), (second, "second"), (bob, "bob")):
            await one.call("hello", who=name)
        assert (await peer.heard())["declared"] == {"first": True, "second": True, "bob": True}

        async def has_heard(*names: str) -> bool:
            return bool((await peer.heard())["heard"] == list(names))

        await second.client.send_roots_list_changed()
        await until(lambda: has_heard("second"), "the news of the second")
        await bob.client.send_roots_list_changed()
        await until(lambda: has_heard("second", "bob"), "the news of Bob")
        await asyncio.sleep(QUIET_S)
        assert await has_heard("second", "bob")


@pytest.mark.parametrize("sessions", ["principal", "shared", "request"])
async def test_where_callers_share_sessions_no_news_of_roots_are_promised_or_told(
    peer: Peer, tmp_path: Path, sessions: str
) -> None:
    async with (
        gateway(tmp_path, {"up": peer.section(sessions=sessions)}) as rig,
        people(rig, "alice", "bob") as (alice, bob),
    ):
        await alice.call("hello", who="alice")
        await bob.call("hello", who="bob")
        await alice.client.send_roots_list_changed()
        await asyncio.sleep(QUIET_S)
        assert await peer.heard() == {"heard": [], "declared": {"alice": False, "bob": False}}


# --- several workers, whose processes one host holds


@pytest.mark.parametrize("sessions", ["client", "principal"])
async def test_both_reach_whom_they_are_for_through_several_workers_and_the_host(
    tmp_path: Path, sessions: str
) -> None:
    section = {
        "command": sys.executable,
        "args": ["-m", "tests.peers.visits", "stdio"],
        "cwd": str(ROOT),
        "era": "legacy",
        "sandbox": "none",
        "sessions": sessions,
    }
    document = {
        "version": 1,
        "upstreams": {"up": section},
        "endpoints": {"default": {"bind": ["up"]}},
    }
    with serving(tmp_path, document, arguments=("--workers", "3")) as running:
        door = SimpleNamespace(port=int(running.base_url.rpartition(":")[2]))
        async with people(door, running.key or "", running.key or "") as (first, second):

            async def is_there() -> bool:
                listed = [one.name for one in (await first.client.list_tools()).tools]
                return "visit" in listed

            await until(is_there, "the upstream")
            for one, name in ((first, "first"), (second, "second")):
                assert await one.call("visit", who=name, id=f"e-{name}") == "accept"
            for one, name in ((second, "second"), (first, "first")):
                await one.call("finish", who=name, id=f"e-{name}")
                await one.until_told(f"e-{name}")
            await second.client.send_roots_list_changed()
            expected = ["second"] if sessions == "client" else []

            async def has_heard() -> bool:
                return bool(json.loads(await second.call("heard"))["heard"] == expected)

            await until(has_heard, "the news of roots")
            assert json.loads(await first.call("heard"))["heard"] == []
            await asyncio.sleep(QUIET_S)
            assert await has_heard()
            assert (first.told, second.told) == (["e-first"], ["e-second"])
