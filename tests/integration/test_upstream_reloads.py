"""Reloads under load: upstreams come, go and change, and nobody notices who has no business with them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from tests.integration import upstream_servers as servers
from tests.integration.gateway_process import EVERYTHING, Gateway, serving
from tests.integration.test_gateway_upstreams import (
    HELLO,
    Era,
    checks,
    connected,
    is_well,
    program,
    text_of,
    until,
)
from tests.integration.test_web_shell import get
from tests.support.ports import free_port

RELOADS = 10
CLIENTS = 16
HOLD = {"command": sys.executable, "args": ["-c", servers.SDK_HOLD], "sandbox": "none"}


@pytest.fixture(scope="module")
def over_http() -> Iterator[int]:
    with program(servers.SDK_HTTP, free_port()) as port:
        yield port


def document(**upstreams: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": 1, "plugins": {"hello": HELLO}, "upstreams": upstreams}


def generation(gateway: Gateway) -> int:
    return int(checks(gateway)["configuration"]["generation"])


async def reload(gateway: Gateway, given: Mapping[str, Any]) -> None:
    """Put a document in force, as an operator does."""
    before = await asyncio.to_thread(generation, gateway)
    (gateway.folder / "waygate.yaml").write_text(json.dumps(given), encoding="utf-8")
    gateway.process.send_signal(signal.SIGHUP)
    await until(lambda: generation(gateway) > before, "the next generation")


@dataclass
class Load:
    """Calls of many clients, and what became of them; `absent` are moments without `comes`."""

    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    absent: list[tuple[float, float]] = field(default_factory=list)
    is_over: bool = False

    def was_absent(self, began_s: float) -> bool:
        """Whether `comes` was missing at some moment since then."""
        now_s = time.monotonic()
        return any(start < now_s and end > began_s for start, end in self.absent)

    async def run(self, gateway: Gateway, era: Era, first: int) -> None:
        """Call one tool after the other until it is over."""
        names = ["kept__add", "pipe__add", "changes__add", "hello__greet", "comes__add"]
        async with connected(gateway, era, within_s=60) as client:
            number = first
            while not self.is_over:
                number += 1
                await self.call(client, names[number % len(names)], number)

    async def call(self, client: Client, name: str, number: int) -> None:
        """Make one call and look at its answer."""
        began_s = time.monotonic()
        arguments = {"a": number, "b": 1} if name.endswith("add") else {"name": str(number)}
        wanted = str(number + 1) if name.endswith("add") else f"Hello, {number}!"
        try:
            found = text_of(await client.call_tool(name, arguments))
        except (MCPError, AssertionError) as exc:
            if name != "comes__add" or not self.was_absent(began_s):
                self.failed.append(f"{name}: {exc}")
            return
        if found == wanted:
            self.done[name] += 1
        else:
            self.failed.append(f"{name}: {found} is not {wanted}")


@pytest.mark.timeout(120)
async def test_no_call_fails_but_for_what_was_removed(tmp_path: Path, over_http: int) -> None:
    url = f"http://127.0.0.1:{over_http}/mcp"
    kept = {"url": url}
    pipe = {"command": sys.executable, "args": ["-c", servers.SDK]}
    load = Load()

    def version(number: int, *, with_comes: bool) -> dict[str, Any]:
        changes = {"url": url, "limits": {"calls": 100 + number}}
        more = {"comes": {"url": url}} if with_comes else {}
        return document(kept=kept, pipe=pipe, changes=changes, **more)

    with serving(tmp_path, version(0, with_comes=True)) as gateway:
        await until(lambda: is_well(gateway), "all upstreams")
        async with asyncio.TaskGroup() as group:
            for index in range(CLIENTS):
                group.create_task(load.run(gateway, ("legacy", "auto")[index % 2], index))
            for number in range(1, RELOADS + 1):
                await asyncio.sleep(0.3)
                is_there = number % 2 == 0
                if not is_there:
                    load.absent.append((time.monotonic(), float("inf")))
                await reload(gateway, version(number, with_comes=is_there))
                if is_there:
                    load.absent[-1] = (load.absent[-1][0], time.monotonic())
            await asyncio.sleep(0.3)
            load.is_over = True
        assert load.failed == []
        assert generation(gateway) == RELOADS + 1
        assert set(load.done) == {
            "kept__add", "pipe__add", "changes__add", "hello__greet", "comes__add",
        }  # fmt: skip
        assert sum(load.done.values()) > 10 * RELOADS


@asynccontextmanager
async def held_call(client: Client, folder: Path) -> AsyncIterator[asyncio.Task[Any]]:
    """A call that is under way in the upstream until the block ends, and has ended after it."""
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.call_tool("hold__hold", {"folder": str(folder)}))
        await until((folder / "begun").exists, "the call, in the upstream")
        try:
            yield call
        finally:
            assert not call.done()
            (folder / "go").touch()


async def test_an_unchanged_process_lives_on_and_its_calls_in_flight_too(tmp_path: Path) -> None:
    with serving(tmp_path, document(hold=HOLD)) as gateway:
        async with connected(gateway, "legacy", within_s=60) as client:
            pid = text_of(await client.call_tool("hold__pid"))
            async with held_call(client, tmp_path) as call:
                more = {"command": sys.executable, "args": ["-u", "-c", servers.LINES]}
                await reload(gateway, document(hold=HOLD, other=more))
                assert text_of(await client.call_tool("hold__pid")) == pid
            assert text_of(call.result()) == pid
            assert text_of(await client.call_tool("other__echo", {"text": "new"})) == "new"


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_a_changed_one_is_opened_anew_while_its_old_calls_finish(
    tmp_path: Path, era: Era
) -> None:
    changed = {**HOLD, "env": {"CHANGED": "yes"}}
    with serving(tmp_path, document(hold=HOLD)) as gateway:
        async with connected(gateway, era, within_s=60) as client:
            old = text_of(await client.call_tool("hold__pid"))
            async with held_call(client, tmp_path) as call:
                await reload(gateway, document(hold=changed))
                new = text_of(await client.call_tool("hold__pid"))
                assert new != old
            assert text_of(call.result()) == old
            await until(lambda: not is_running(int(old)), "the end of the old process")
            assert text_of(await client.call_tool("hold__pid")) == new


async def test_a_removed_one_ends_after_its_last_call_and_is_unknown_at_once(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, document(hold=HOLD)) as gateway:
        async with connected(gateway, "auto", within_s=60) as client:
            pid = text_of(await client.call_tool("hold__pid"))
            async with held_call(client, tmp_path) as call:
                await reload(gateway, document())
                with pytest.raises(MCPError, match="Unknown tool"):
                    await client.call_tool("hold__pid")
                assert is_running(int(pid))
            assert text_of(call.result()) == pid
            await until(lambda: not is_running(int(pid)), "the end of the process")


async def test_a_reload_that_is_refused_leaves_every_upstream_as_it_was(tmp_path: Path) -> None:
    with serving(tmp_path, document(hold=HOLD)) as gateway:
        async with connected(gateway, "auto") as client:
            pid = text_of(await client.call_tool("hold__pid"))
            wrong = document(hold={**HOLD, "era": "modern"}, bad={"command": "no-such-program"})
            (gateway.folder / "waygate.yaml").write_text(json.dumps(wrong), encoding="utf-8")
            gateway.process.send_signal(signal.SIGHUP)
            await until(
                lambda: checks(gateway)["configuration"]["status"] == "degraded", "the refusal"
            )
            (problem,) = checks(gateway)["configuration"]["problems"]
            assert "upstreams.bad.command: there is no such program" in problem
            assert text_of(await client.call_tool("hold__pid")) == pid


WATCHED = "test://watched-resource"


@pytest.mark.parametrize("pin", ["modern", "legacy"])
async def test_who_listens_to_a_resource_hears_of_it_over_a_new_connection_too(
    tmp_path: Path, pin: str
) -> None:
    with serving(tmp_path / "upstream", EVERYTHING) as upstream:
        web = {"url": upstream.url, "headers": upstream.headers, "era": pin}
        with serving(tmp_path / "gateway", document(web=web)) as gateway:
            await until(lambda: is_well(gateway), "the upstream")
            async with (
                connected(gateway, "auto", within_s=60) as client,
                client.listen(resource_subscriptions=[WATCHED]) as changes,
            ):
                events = aiter(changes)

                async def is_heard() -> None:
                    await client.call_tool("web__update_watched_resource")
                    assert str((await anext(events)).uri) == WATCHED  # type: ignore[union-attr]

                await is_heard()
                await asyncio.to_thread(
                    get, gateway, "/mcp/servers/web/reload", "POST", **gateway.headers
                )
                await anext(events)  # nobody knows what changed meanwhile
                await is_heard()
                await reload(gateway, document(web={**web, "limits": {"calls": 7}}))
                await anext(events)
                await is_heard()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
