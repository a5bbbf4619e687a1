from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import KEY, open_house, settings_in
from tests.support.providers import make_call
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.errors import ConfigError, InterruptedCallError, UnauthenticatedError
from waygate_mcp.gateway.hub import Hub, Listener
from waygate_mcp.gateway.places import Place
from waygate_mcp.gateway.sessions import Sessions
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.model.principal import ANONYMOUS, LOCAL
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.versions import LATEST_LEGACY
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.web.guard import Guard, guard_of

EMPTY: dict[str, object] = {"version": 1}
HELLO = Hello(LATEST_LEGACY, NO_CAPABILITIES, "test")
HELLO_PLUGIN: dict[str, object] = {
    "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}}
}


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def closed_house(folder: Path) -> House[Guard]:
    settings = settings_in(folder, EMPTY)
    with open_logs(settings, descriptor=None, file=False) as logs:
        return House(settings, logs, guard_of)


async def test_a_house_that_is_not_open_has_no_generation(tmp_path: Path) -> None:
    house = closed_house(tmp_path)
    assert not house.is_ready
    with pytest.raises(InterruptedCallError):
        house.current()


async def test_an_open_house_serves_its_document(tmp_path: Path) -> None:
    document = {"plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        generation = house.current()
        assert house.is_ready
        assert generation.number == 1
        assert [provider.name for provider in generation.providers] == ["hello"]
        assert generation.settings is house.settings
    with pytest.raises(InterruptedCallError):
        house.current()


async def test_names_stay_with_their_provider_over_a_restart(tmp_path: Path) -> None:
    hello = {"use": "waygate_mcp.plugins.builtin.hello"}

    async def tools(document: dict[str, object]) -> dict[str, str]:
        async with open_house(settings_in(tmp_path, document)) as house:
            endpoint = house.current().gateway.endpoints["default"]
            await endpoint.handler_for("tools/list")(make_call("tools/list", {}))
            names = house.live.names
            binding = {b.provider: b.prefix for b in endpoint.status().bindings}
            greet = names.owner("default", "tool", "greet")
            assert greet is not None
            return binding | {"greet": greet.provider}

    assert await tools({"plugins": {"one": hello}}) == {"one": "", "greet": "one"}
    two = {
        "plugins": {"two": hello, "one": hello},
        "endpoints": {"default": {"bind": ["two", "one"]}},
    }
    assert await tools(two) == {"one": "", "two": "two__", "greet": "one"}
    assert (tmp_path / "data" / "names.json").stat().st_mode & 0o777 == 0o600


async def test_uptime_runs_on_the_monotonic_clock(tmp_path: Path) -> None:
    time = Time()
    async with open_house(settings_in(tmp_path, EMPTY), clock=Clock(monotonic=time)) as house:
        time.now_s += 12.5
        assert house.uptime_s == 12.5


async def test_nothing_runs_on_when_a_house_is_closed(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with open_house(settings_in(tmp_path, EMPTY)) as house:
        assert len(house.supervisor) >= 2
    assert asyncio.all_tasks() == before


async def test_gauges_show_what_is(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, EMPTY)) as house:
        text = house.metrics.render()[0].decode()
        for line in (
            "waygate_sessions 0.0",
            "waygate_parked_exchanges 0.0",
            "waygate_config_generation 1.0",
        ):
            assert line in text
        await house.reload("test")
        assert "waygate_config_generation 2.0" in house.metrics.render()[0].decode()


async def test_upstreams_are_shown_up_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer()
    server.put_in_place(monkeypatch)
    document = {"upstreams": {"web": {"url": "https://h/mcp"}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        assert 'waygate_upstream_up{upstream="web"} 1.0' in house.metrics.render()[0].decode()
        server.is_up = False
        await house.current().upstreams["web"].reopen()
        assert 'waygate_upstream_up{upstream="web"} 0.0' in house.metrics.render()[0].decode()


async def test_one_of_several_workers_knows_its_place_and_hears_the_others(tmp_path: Path) -> None:
    workplace = Workplace(Place(1, 3), tmp_path, b"key")
    async with open_house(settings_in(tmp_path, HELLO_PLUGIN), workplace=workplace) as house:
        assert house.live.node.startswith("1.")
        peers = house.peers
        assert peers is not None
        assert house.foundation.peers is peers
        listener = Listener("default", LOCAL, frozenset(Kind))
        house.live.hub.add(listener)
        house._hear(ListChanged("hello", Kind.TOOL))
        due = await listener.take()
        assert due is not None
        assert [change.method for change in due] == ["notifications/tools/list_changed"]
    house._hear(ListChanged("hello", Kind.TOOL))  # too late, and no harm
    async with open_house(settings_in(tmp_path, {})) as alone:
        assert alone.peers is None


async def test_a_draining_house_is_not_ready_and_waits_for_calls(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, EMPTY)) as house:
        house.current().calls.hold()
        draining = asyncio.get_running_loop().create_task(house.drain(5))
        await asyncio.sleep(0)
        assert house.is_draining
        assert not house.is_ready
        assert not draining.done()
        house.current().calls.leave()
        assert await draining


async def test_a_bootstrap_key_is_opened_once_and_hidden_from_the_log(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, EMPTY, api_key=None)) as house:
        key = house.bootstrap_key()
        assert house.bootstrap is key is house.bootstrap_key()
        assert key.shown_once is not None
        assert key.shown_once not in house.logs.redactor.text(f"it is {key.shown_once}")


async def test_the_secret_key_never_reaches_the_log(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, EMPTY, secret_key="x-Y" * 20)) as house:
        assert "x-Y" not in house.logs.redactor.text(f"key: {'x-Y' * 20}")


async def test_a_key_that_could_not_be_kept_is_in_force_all_the_same(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, EMPTY)
    (settings.data_dir / "keys.json").mkdir(parents=True)
    settings.data_dir.chmod(0o700)
    async with open_house(settings) as house:
        assert house.bootstrap is not None
        assert house.bootstrap.problem is not None
        headers = {b"x-api-key": KEY.encode()}
        assert house.current().guard.recognise(headers).may("tools:call")


async def test_no_key_is_made_by_a_reload(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {"auth": {"mode": "none"}}, api_key=None)
    async with open_house(settings) as house:
        assert house.bootstrap is None
        (tmp_path / "waygate.yaml").write_text('{"auth": {"mode": "keys"}}')
        report = await house.reload("test")
        assert not report.is_done
        assert "WAYGATE_API_KEY" in report.problems[0]
        assert not (settings.data_dir / "keys.json").exists()


async def test_a_secret_key_that_is_too_short_keeps_the_house_shut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 32"):
        async with open_house(settings_in(tmp_path, EMPTY, secret_key="short")):
            raise AssertionError("it opened")


async def test_two_houses_with_one_secret_key_know_the_same_keys(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, EMPTY, api_key=None)
    async with open_house(settings) as first:
        text = first.bootstrap_key().shown_once
        assert text is not None
    async with open_house(settings) as second:
        headers = {b"x-api-key": text.encode()}
        assert second.current().guard.recognise(headers).may("tools:call")
    other = KeyHash(b"z" * 40)
    assert other.key != second.foundation.key_hash.key


async def test_the_document_of_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, EMPTY, config=None)
    monkeypatch.chdir(tmp_path)
    async with open_house(settings) as house:
        assert house.document_path == Path("waygate.yaml")
        with pytest.raises(UnauthenticatedError):
            house.current().guard._authenticate({})


class Upstream:
    """Stands for an upstream that was opened."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget_session(self, session_id: str) -> None:
        self.forgotten.append(session_id)


def kept(upstream: Upstream | None, **config: object) -> Any:
    """An upstream as the house keeps it."""
    return SimpleNamespace(provider=upstream, config=UpstreamConfig(**config))  # type: ignore[arg-type]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - nobody else asks
            await asyncio.sleep(0)


async def test_changed_roots_of_a_session_are_told_upstream(tmp_path: Path) -> None:
    told: list[str] = []
    async with open_house(settings_in(tmp_path, {"version": 1})) as house:
        upstream = SimpleNamespace(tell_roots_changed=told.append)
        unopened = SimpleNamespace(provider=None)
        house.foundation.upstreams._kept += [SimpleNamespace(provider=upstream), unopened]  # type: ignore[list-item]
        sessions = house.live.sessions
        session = sessions.open(HELLO, "default", ANONYMOUS)
        sessions.on_roots_changed(session)
        assert told == [session.id]
        house.foundation.upstreams._kept.clear()


async def test_a_session_that_is_over_is_let_go_upstream(tmp_path: Path) -> None:
    document = {"plugins": {"everything": {"use": "waygate_mcp.testing.everything"}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        upstream = Upstream()
        house.foundation.upstreams._kept += [kept(upstream), kept(None)]
        sessions = house.live.sessions
        quiet, busy = (sessions.open(HELLO, "default", ANONYMOUS) for _ in range(2))
        busy.subscribe("test://watched-resource")
        for session in (quiet, busy):
            sessions.end(session)
        await until(lambda: len(upstream.forgotten) == 2)
        assert set(upstream.forgotten) == {quiet.id, busy.id}
        house.foundation.upstreams._kept.clear()


async def test_a_session_given_back_to_its_worker_keeps_what_the_host_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = Workplace(Place(1, 2), tmp_path, b"key")
    async with open_house(settings_in(tmp_path, EMPTY), workplace=workplace) as house:
        assert house.peers is not None
        told: list[str] = []
        monkeypatch.setattr(
            house.peers, "tell_of_end", lambda session, _until: told.append(session)
        )
        by_url, hosted = Upstream(), Upstream()
        upstreams = house.foundation.upstreams
        upstreams._kept += [kept(by_url, url="https://h/mcp"), kept(hosted, command="server")]
        sessions = house.live.sessions
        neighbour = Sessions(
            house.live.ring, Hub(), house.clock.now, house.clock.monotonic, Place(0, 2)
        )
        tokens = [neighbour.open(HELLO, "default", ANONYMOUS).token for _ in range(2)]
        moved, ended = (
            sessions.find(token or "", "default", ANONYMOUS, here=True) for token in tokens
        )
        assert moved is not None
        assert ended is not None
        sessions.end(ended)
        await until(lambda: by_url.forgotten == [ended.id])
        sessions.give_back(0)
        await until(lambda: by_url.forgotten == [ended.id, moved.id])
        assert hosted.forgotten == [ended.id]
        assert told == [ended.id]
        upstreams._kept.clear()
