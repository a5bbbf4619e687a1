"""The upstreams of a house: opened once, kept while some generation names them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange import FakeExchange, modern_result
from tests.support.providers import Announced, TaskGroupSupervisor, make_call
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import parse_document
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.model.facts import Facts
from waygate_mcp.model.ports import FactStore
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.runtime.upstreams import (
    FIRST_LOOK_S,
    UpstreamHouse,
    configure_upstream,
    examine_upstreams,
    open_http,
    resolve_upstreams,
)
from waygate_mcp.upstreams.opening import Transports, UpstreamConfig
from waygate_mcp.upstreams.process import Processes
from waygate_mcp.upstreams.status import SteadyLimits
from waygate_mcp.upstreams.steady import SteadyUpstream

DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}


def section(**keys: Any) -> UpstreamSection:
    return UpstreamSection.model_validate(keys)


def config_at(host: str, **more: Any) -> UpstreamConfig:
    return UpstreamConfig(url=f"https://{host}/mcp", **more)


class Opened:
    """A house whose upstreams are fakes; `open` holds the names of those with a way open."""

    def __init__(self, facts: FactStore | None = None) -> None:
        self.open: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.way: asyncio.Event | None = None
        self.supervisor = TaskGroupSupervisor()
        transports = Transports(self.reach, Processes())
        self.house = UpstreamHouse(self.supervisor, facts=facts, transports=transports)

    @asynccontextmanager
    async def reach(self, name: str, _config: UpstreamConfig) -> AsyncIterator[HttpExchange]:
        if self.way is not None:
            await self.way.wait()
        self.open.append(name)
        try:
            yield FakeExchange(server__discover=lambda asked: modern_result(asked, DISCOVERED))
        finally:
            if name in self.gates:
                await self.gates[name].wait()
            self.open.remove(name)

    async def use(
        self, stack: AsyncExitStack, configs: Mapping[str, UpstreamConfig], heard: Announced
    ) -> tuple[SteadyUpstream, ...]:
        return await stack.enter_async_context(self.house.use(configs, heard))

    async def close(self) -> None:
        await self.house.__aexit__(None, None, None)
        await self.supervisor.close()
        assert self.open == []


async def test_a_generation_waits_a_moment_for_what_is_new_and_gets_the_order_of_the_document() -> (
    None
):
    opened = Opened()
    async with AsyncExitStack() as stack:
        configs = {"b": config_at("b"), "a": config_at("a")}
        providers = await opened.use(stack, configs, Announced())
        assert [each.name for each in providers] == ["b", "a"]
        assert [each.status.state for each in providers] == ["ready", "ready"]
    await opened.close()


async def test_what_did_not_change_lives_on_and_what_did_is_opened_beside_the_old_one() -> None:
    opened = Opened()
    first, second = AsyncExitStack(), AsyncExitStack()
    heard = Announced()
    old = await opened.use(first, {"same": config_at("h"), "other": config_at("h")}, Announced())
    new = await opened.use(
        second, {"same": config_at("h"), "other": config_at("h", era="modern")}, heard
    )
    assert new[0] is old[0]
    assert new[1] is not old[1]
    assert sorted(opened.open) == ["other", "other", "same"]
    await first.aclose()
    assert sorted(opened.open) == ["other", "same"]
    assert [each.status.state for each in (*new, old[1])] == ["ready", "ready", "closed"]
    await second.aclose()
    assert opened.open == []
    await opened.close()


async def test_who_subscribed_at_one_that_changes_hears_from_the_new_one() -> None:
    opened = Opened()
    first, second = AsyncExitStack(), AsyncExitStack()
    (old,) = await opened.use(first, {"a": config_at("h")}, Announced())
    old.subscriptions.note(make_call("resources/subscribe", {"uri": "a://1"}))
    (new,) = await opened.use(second, {"a": config_at("h", era="modern")}, Announced())
    assert [call.target for call in new.subscriptions.calls()] == ["a://1"]
    await first.aclose()
    await second.aclose()
    await opened.close()


async def test_every_generation_hears_of_changes_while_it_lives_and_not_after() -> None:
    opened = Opened()
    first, second = AsyncExitStack(), AsyncExitStack()
    early, late = Announced(), Announced()
    await opened.use(first, {"a": config_at("h")}, early)
    (upstream,) = await opened.use(second, {"a": config_at("h")}, late)
    event = ListChanged("a", Kind.TOOL)
    early.events.clear()
    upstream._announce(event)
    assert (early.events, late.events) == ([event], [event])
    await first.aclose()
    upstream._announce(event)
    assert (len(early.events), len(late.events)) == (1, 2)
    await second.aclose()
    await opened.close()


async def test_all_that_no_retry_can_heal_is_said_at_once_and_nothing_stays_open() -> None:
    opened = Opened()
    configs = {
        "good": config_at("h"),
        "bad": UpstreamConfig(command="no-such-program"),
        "worse": UpstreamConfig(command=sys.executable, env={"LD_PRELOAD": "x"}),
    }
    with pytest.raises(ConfigError) as caught:
        async with opened.house.use(configs, Announced()):
            raise AssertionError("it opened")
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["upstreams.bad.command", "upstreams.worse.env.LD_PRELOAD"]
    assert opened.open == []
    await opened.close()


async def test_a_generation_that_is_cancelled_while_it_closes_leaves_nothing_open() -> None:
    opened = Opened()
    gate = asyncio.Event()
    opened.gates = {"a": gate, "b": gate}
    stack = AsyncExitStack()
    await opened.use(stack, {"a": config_at("a"), "b": config_at("b")}, Announced())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stack.aclose()
    assert sorted(opened.open) == ["a", "b"]
    gate.set()
    await opened.close()


class Remembered:
    """A store of facts in memory."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], Facts] = {}

    def recall(self, name: str, key: str) -> Facts | None:
        return self.facts.get((name, key))

    def keep(self, name: str, key: str, facts: Facts) -> None:
        self.facts[name, key] = facts


async def test_what_an_upstream_can_do_is_known_before_it_is_asked_and_kept_when_it_was() -> None:
    store = Remembered()
    opened = Opened(store)
    async with AsyncExitStack() as stack:
        await opened.use(stack, {"a": config_at("h")}, Announced())
    (kept,) = store.facts.values()
    assert (kept.features, kept.eras) == (Features(tools=True), ("modern",))
    later = Opened(store)
    later.way = asyncio.Event()
    async with AsyncExitStack() as stack:
        (upstream,) = await later.use(stack, {"a": config_at("h")}, Announced())
        assert later.open == []
        assert upstream.status.state == "opening"
        assert upstream.features == Features(tools=True)
        assert (upstream.status.eras, upstream.status.revision) == (("modern",), "2026-07-28")
    await opened.close()
    await later.close()


async def test_a_house_closes_what_is_still_used() -> None:
    opened = Opened()
    stack = AsyncExitStack()
    (upstream,) = await opened.use(stack, {"a": config_at("h")}, Announced())
    await opened.close()
    assert upstream.status.state == "closed"
    await stack.aclose()


async def test_a_house_reaps_what_a_killed_gateway_left_when_it_is_entered(tmp_path: Path) -> None:
    supervisor = TaskGroupSupervisor()
    async with (
        UpstreamHouse(supervisor, tmp_path / "children") as house,
        house.use({}, Announced()) as providers,
    ):
        assert providers == ()
    await supervisor.close()


def test_references_are_resolved_and_what_they_give_is_told_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "canary-0815")
    hidden: list[str] = []
    sections = {
        "web": section(url="https://h/", headers={"Authorization": "Bearer ${env:TOKEN}"}),
        "files": section(command="npx", args=["${env:TOKEN}"], env={"A": "${env:TOKEN}"}),
    }
    configs = resolve_upstreams(sections, None, data_dir=tmp_path, on_secret=hidden.append)
    assert configs["web"].headers == {"Authorization": "Bearer canary-0815"}
    assert (configs["files"].args, configs["files"].env) == (("canary-0815",), {"A": "canary-0815"})
    assert set(hidden) == {"canary-0815"}
    assert "canary" not in repr(sections)


def test_every_reference_that_cannot_be_resolved_is_named(tmp_path: Path) -> None:
    sections = {
        "web": section(url="https://h/", headers={"X-Key": "${env:NOT_THERE}"}),
        "files": section(command="npx", args=["ok", "${secret:NOT_THERE}"]),
    }
    with pytest.raises(ConfigError) as caught:
        resolve_upstreams(sections, None, data_dir=tmp_path)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["upstreams.web.headers.X-Key", "upstreams.files.args[1]"]


def test_all_that_is_wrong_is_found_without_starting_anything(tmp_path: Path) -> None:
    given = {
        "fine": {"url": "https://h/"},
        "unresolved": {"url": "${env:NOT_THERE}"},
        "host": {"url": "http://2130706433/"},
        "program": {"command": "no-such-program"},
        "folder": {"command": "python3", "cwd": "no-such-folder"},
        "strange": {"command": "python3", "cwd": "a\0b"},
        "argument": {"command": "python3", "args": ["a", "b\0"]},
        "variable": {"command": "python3", "env": {"PYTHONPATH": "x"}},
        "header": {"url": "https://h/", "headers": {"X-A": "a\nb"}},
        "off": {"command": "no-such-program", "enabled": False},
    }
    document = Document.model_validate({"upstreams": given})
    found = examine_upstreams(document, tmp_path, tmp_path)
    assert [problem.path for problem in found] == [
        "upstreams.unresolved.url",
        "upstreams.host.url",
        "upstreams.program.command",
        "upstreams.folder.cwd",
        "upstreams.strange.cwd",
        "upstreams.argument.args[1]",
        "upstreams.variable.env.PYTHONPATH",
        "upstreams.header.headers",
    ]
    assert "`allow_env`" in found[6].message


def test_a_section_is_said_in_the_words_of_the_room_that_opens_it(tmp_path: Path) -> None:
    given = section(
        command="run", args=["a"], env={"LD_PRELOAD": "x"}, allow_env=["LD_PRELOAD"], cwd="sub",
        sandbox="none", era="legacy", sessions="shared",
        limits={
            "calls": 2, "waiting": 3, "sessions": 4, "session_idle_s": 5, "failures": 6,
            "open_timeout_s": 7, "list_timeout_s": 8, "message_bytes": 9000, "open_files": 100,
            "memory_bytes": 20_000_000,
        },
    )  # fmt: skip
    config = configure_upstream(given, tmp_path)
    assert (config.command, config.args, config.dangerous_env) == ("run", ("a",), ("LD_PRELOAD",))
    assert config.cwd == str(tmp_path / "sub")
    assert (config.sandbox, config.era, config.sessions) == ("none", "legacy", "shared")
    assert (config.limits.calls, config.limits.waiting, config.limits.failures) == (2, 3, 6)
    assert (config.sessions_max, config.session_idle_s, config.open_timeout_s) == (4, 5, 7)
    assert (config.list_timeout_s, config.message_bytes) == (8, 9000)
    assert config.process_limits.open_files == 100
    assert configure_upstream(section(command="run"), tmp_path).cwd == str(tmp_path)
    over_http = configure_upstream(section(url="https://h/", network="private"), tmp_path)
    assert (over_http.cwd, over_http.is_private, over_http.sessions) == (None, True, None)


def test_a_header_that_must_not_be_sent_is_a_fault_of_the_document() -> None:
    for name in ("Host", "Content-Length"):
        with pytest.raises(ConfigError) as caught:
            open_http("up", config_at("h", headers={name: "x"}))
        assert caught.value.path == "headers"


def test_the_page_says_the_numbers_of_the_code_and_its_example_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "upstreams.md").read_text(encoding="utf-8")
    limits = SteadyLimits()
    for words in (
        f"those it knows nothing of {FIRST_LOOK_S:.0f} s",
        f"nobody called for {limits.probe_s:.0f} s",
        f"legacy one, {limits.probe_timeout_s:.0f} s at most",
        f"nothing came for {UpstreamConfig().probe_timeout_s:.0f} s",
    ):
        assert words in page, words
    assert limits.stale_s == 24 * 3600
    example = page.partition("\n    upstreams:")[2].partition("\n\n")[0]
    document = parse_document(
        f"upstreams:{example}".replace("\n    ", "\n").encode(), Settings(_env_file=None)
    )
    assert set(document.upstreams) == {"github", "files", "old"}
