from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.house import HOST, KEY, open_house, settings_in
from waygate_mcp import __version__
from waygate_mcp.config.document import Document
from waygate_mcp.config.references import NOTHING_KNOWN
from waygate_mcp.errors import ConfigError
from waygate_mcp.gateway.gateway import EndpointPlan, Filter
from waygate_mcp.gateway.places import Place
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.principal import ANONYMOUS
from waygate_mcp.runtime import builders
from waygate_mcp.runtime.builders import server_info
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.web.problems import Refused

HELLO = {"use": "waygate_mcp.plugins.builtin.hello"}
TWO: dict[str, Any] = {"plugins": {"one": HELLO, "two": HELLO}}


async def plans_of(tmp_path: Path, endpoint: dict[str, Any]) -> EndpointPlan:
    settings = settings_in(tmp_path, TWO | {"endpoints": {"dev": endpoint}})
    async with open_house(settings) as house:
        generation = house.current()
        plans = builders._plans(generation.document, generation.providers)
        return next(plan for plan in plans if plan.name == "dev")


def test_clients_are_told_name_and_version() -> None:
    assert server_info() == {"name": "waygate-mcp", "title": "Waygate MCP", "version": __version__}


async def test_an_endpoint_binds_what_it_names_in_that_order(tmp_path: Path) -> None:
    plan = await plans_of(tmp_path, {"bind": ["two", "one"]})
    assert [provider.name for provider in plan.providers] == ["two", "one"]
    assert plan.prefixes == {}
    assert plan.allow is None


async def test_prefixes_tools_and_instructions_are_handed_on(tmp_path: Path) -> None:
    plan = await plans_of(
        tmp_path,
        {
            "prefixes": {"one": "eins", "two": ""},
            "tools": {"allow": ["eins__*"], "deny": ["*greet"]},
            "instructions": "Be brief.",
        },
    )
    assert plan.prefixes == {"one": "eins__", "two": ""}
    assert plan.allow == ("eins__*",)
    assert plan.deny == ("*greet",)
    assert plan.instructions == "Be brief."


async def test_what_an_endpoint_does_with_entries_and_uris_is_handed_on(tmp_path: Path) -> None:
    plan = await plans_of(
        tmp_path,
        {
            "tools": {
                "rename": {"one__greet": "hello"},
                "titles": {"one__greet": "T"},
                "describe": {"one__greet": "D"},
            },
            "prompts": {"allow": ["a*"], "deny": ["ab"]},
            "resources": {"deny": ["memo://x*"]},
            "uri_prefixes": {"one": "eins"},
            "schemes": {"memo": "two"},
            "strict": True,
        },
    )
    assert plan.rename == {"one__greet": "hello"}
    assert (plan.titles, plan.descriptions) == ({"one__greet": "T"}, {"one__greet": "D"})
    assert plan.prompts == Filter(("a*",), ("ab",))
    assert plan.resources == Filter(None, ("memo://x*",))
    assert (plan.uri_prefixes, plan.schemes) == ({"one": "eins"}, {"memo": "two"})
    assert plan.is_strict
    assert plan.holders == ("one", "two")


async def test_who_is_switched_off_still_holds_its_names(tmp_path: Path) -> None:
    document = {"plugins": {"one": HELLO, "off": HELLO | {"enabled": False}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        generation = house.current()
        [plan] = builders._plans(generation.document, generation.providers)
        assert plan.holders == ("one", "off")
        assert [provider.name for provider in plan.providers] == ["one"]


async def test_an_empty_list_of_tools_allows_nothing(tmp_path: Path) -> None:
    assert (await plans_of(tmp_path, {"tools": {"allow": []}})).allow == ()


async def test_without_prefixes_all_names_are_verbatim(tmp_path: Path) -> None:
    plan = await plans_of(tmp_path, {"bind": ["one"], "prefix": "none"})
    assert plan.prefixes == {"one": ""}


async def test_limits_of_the_document_are_those_of_calls_and_sessions(tmp_path: Path) -> None:
    limits = {
        "call_timeout_s": 7,
        "page_size": 3,
        "parked_per_principal": 2,
        "parked_per_upstream": 3,
        "parked_total": 5,
        "question_timeout_s": 11,
        "parked_call_timeout_s": 13,
        "sessions_max": 17,
        "session_idle_s": 19,
        "stream_events": 23,
        "stream_bytes": 2900,
        "stream_keep_s": 31,
    }
    async with open_house(settings_in(tmp_path, {"limits": limits})) as house:
        calls = house.current().gateway.limits
        assert (calls.call_timeout_s, calls.page_size) == (7, 3)
        parking = calls.parking
        assert (parking.per_principal, parking.per_upstream, parking.total) == (2, 3, 5)
        assert (calls.parking.question_s, calls.parking.parked_s) == (11, 13)
        sessions = house.live.sessions
        assert (sessions.limits.count, sessions.limits.idle_s) == (17, 19)
        assert (sessions.stream_limits.events, sessions.stream_limits.size_bytes) == (23, 2900)
        assert sessions.stream_limits.age_s == 31


async def test_limits_follow_a_reload(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {"limits": {"sessions_max": 17}})
    async with open_house(settings) as house:
        (tmp_path / "waygate.yaml").write_text('{"limits": {"sessions_max": 18}}')
        await house.reload("test")
        assert house.live.sessions.limits.count == 18


async def test_events_of_plugins_reach_the_listeners_of_their_endpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(settings_in(tmp_path, TWO)) as house:
        heard: list[object] = []
        monkeypatch.setattr(house.live.hub, "announce", heard.append)
        event = ListChanged("one", Kind.TOOL)
        house.current().gateway.announce(event)
        assert heard == [event]
        announcer = builders._Announcer()
        announcer(event)
        announcer.gateway = house.current().gateway
        announcer(event)
        assert heard == [event, event]


async def test_what_only_one_worker_can_know_is_told_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = Workplace(Place(0, 2), tmp_path, b"key")
    async with open_house(settings_in(tmp_path, {}), workplace=workplace) as house:
        assert house.peers is not None
        told: list[Any] = []
        monkeypatch.setattr(house.peers, "tell", told.append)
        configs = {
            "site": UpstreamConfig(url="https://example.com/mcp"),
            "files": UpstreamConfig(command="files"),
        }
        announcer = builders._Announcer()
        by_plugin = announcer.for_plugins(house.peers)
        by_upstream = announcer.for_upstreams(house.peers, configs)
        changed, updated = ListChanged("hello", Kind.TOOL), ResourceUpdated("hello", "memo://a")
        by_plugin(changed)
        assert not told, "nobody listens yet, here or there"
        announcer.gateway = house.current().gateway
        by_plugin(changed)
        by_plugin(updated)
        assert told == [changed, updated]
        told.clear()
        by_upstream(ListChanged("site", Kind.TOOL))
        by_upstream(ResourceUpdated("files", "memo://a"))
        assert not told, "the others hear of these themselves"
        by_upstream(ResourceUpdated("site", "memo://a"))
        assert told == [ResourceUpdated("site", "memo://a")]
    alone = builders._Announcer()
    assert alone.for_plugins(None) is alone
    assert alone.for_upstreams(None, configs) is alone


async def test_references_in_a_plugins_configuration_are_resolved_and_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETING", "Salve-mundi")
    document = {"plugins": {"hello": HELLO | {"config": {"greeting": "${env:GREETING}"}}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        resolved = builders._resolved(house.current().document, house.foundation, NOTHING_KNOWN)
        assert resolved["hello"].config == {"greeting": "Salve-mundi"}
        assert "Salve-mundi" not in house.logs.redactor.text("it says Salve-mundi")
        assert "${env:GREETING}" in str(house.current().document.plugins["hello"].config)


async def test_every_reference_that_cannot_be_resolved_is_named(tmp_path: Path) -> None:
    missing = HELLO | {"config": {"greeting": "${env:NOT_THERE}"}}
    with pytest.raises(ConfigError) as caught:
        async with open_house(settings_in(tmp_path, {"plugins": {"a": missing, "b": missing}})):
            raise AssertionError("it opened")
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["plugins.a.config.greeting", "plugins.b.config.greeting"]


async def test_plugins_that_are_switched_off_are_not_loaded(tmp_path: Path) -> None:
    document = {"plugins": {"off": {"use": "no.such.module", "enabled": False}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        assert house.current().providers == ()


async def test_with_keys_only_a_key_is_let_in(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        guard = house.current().guard
        with pytest.raises(Refused):
            guard.admit({"headers": [HOST]})
        admission = guard.admit({"headers": [HOST, (b"x-api-key", KEY.encode())]})
        assert admission.principal.id == "key:bootstrap"


async def test_with_mode_none_everybody_is_anonymous_and_no_key_is_made(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {"auth": {"mode": "none"}}, api_key=None)
    async with open_house(settings) as house:
        assert house.current().guard.admit({"headers": [HOST]}).principal is ANONYMOUS
        assert not (settings.data_dir / "keys.json").exists()


async def test_mode_none_is_refused_where_others_could_connect(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {"auth": {"mode": "none"}}, host="0.0.0.0")
    with pytest.raises(ConfigError) as caught:
        async with open_house(settings):
            raise AssertionError("it opened")
    assert caught.value.path == "auth.mode"


async def test_the_builder_itself_refuses_mode_none_beyond_loopback(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {}, host="0.0.0.0")) as house:
        document = Document.model_validate({"auth": {"mode": "none"}})
        with pytest.raises(ConfigError):
            builders._authenticator(document, house.foundation, house.bootstrap_key)
