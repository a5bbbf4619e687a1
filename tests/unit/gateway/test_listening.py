"""What listeners of both eras share: what they may hear, and when it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.dialogues import ALL, SERVER_INFO, Desk, Visitor, live_state, person
from tests.support.exchanges import Scene
from tests.support.providers import TaskGroupSupervisor
from tests.support.scripted import Scripted
from tests.support.virtual_time import now, settle, virtual_time
from waygate_mcp.errors import (
    InterruptedCallError,
    LimitError,
    UnknownNameError,
    UpstreamUnavailableError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Filter, Gateway
from waygate_mcp.gateway.hub import Change, Hub
from waygate_mcp.gateway.listening import (
    Subscriber,
    announce_changes,
    confirmed_filter,
    open_listener,
    subscribed,
    unsubscribe,
    word_change,
)
from waygate_mcp.gateway.steps.authorize import authorize
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.stateless import ListenFilter

EVERYTHING = ListenFilter(tools=True, prompts=True, resources=True, uris=("memo://a",))
NOTHING = ListenFilter()


def endpoint_with(features: Features, resources: Filter | None = None) -> Endpoint:
    box = Scripted(features=features)
    plans = [EndpointPlan("default", (box,), resources=resources or Filter())]
    return Gateway(plans, live_state(), (), CallLimits(), SERVER_INFO).endpoints["default"]


@virtual_time
async def test_what_the_endpoint_offers_and_the_listener_asked_for_is_confirmed() -> None:
    everything = Features(tools=True, prompts=True, resources=True, subscribe=True)
    full, bare = endpoint_with(everything), endpoint_with(Features())
    alice = person("alice")
    assert confirmed_filter(full, EVERYTHING, alice) == EVERYTHING
    assert confirmed_filter(full, NOTHING, alice) == NOTHING
    assert confirmed_filter(bare, EVERYTHING, alice) == NOTHING
    unsubscribable = endpoint_with(Features(resources=True))
    assert confirmed_filter(unsubscribable, EVERYTHING, alice) == ListenFilter(resources=True)


@virtual_time
async def test_nobody_hears_of_a_resource_that_does_not_exist_here() -> None:
    everything = Features(tools=True, prompts=True, resources=True, subscribe=True)
    endpoint = endpoint_with(everything, Filter(deny=("memo://a",)))
    wanted = ListenFilter(uris=("memo://a", "memo://b"))
    assert confirmed_filter(endpoint, wanted, person("alice")) == ListenFilter(uris=("memo://b",))


@pytest.mark.parametrize(
    ("permission", "confirmed"),
    [
        ("tools:list", ListenFilter(tools=True)),
        ("prompts:list", ListenFilter(prompts=True)),
        ("resources:list", ListenFilter(resources=True)),
        ("resources:read", ListenFilter(uris=("memo://a",))),
        ("session:open", NOTHING),
    ],
)
def test_what_a_principal_may_not_see_it_does_not_hear_of(
    permission: str, confirmed: ListenFilter
) -> None:
    @virtual_time
    async def dialogue() -> None:
        everything = Features(tools=True, prompts=True, resources=True, subscribe=True)
        got = confirmed_filter(endpoint_with(everything), EVERYTHING, person("eve", permission))
        assert got == confirmed

    dialogue()


@virtual_time
async def test_a_listener_hears_the_kinds_of_its_filter() -> None:
    hub = Hub()
    alice = person("alice", *ALL)
    wanted = {
        frozenset({Kind.TOOL}): ListenFilter(tools=True),
        frozenset({Kind.PROMPT}): ListenFilter(prompts=True),
        frozenset({Kind.RESOURCE, Kind.TEMPLATE}): ListenFilter(resources=True),
        frozenset(): NOTHING,
    }
    for kinds, confirmed in wanted.items():
        assert open_listener(hub, "default", alice, confirmed).kinds == kinds
    assert len(hub) == 4


@virtual_time
async def test_changes_are_given_one_by_one_until_the_end() -> None:
    hub = Hub()
    listener = open_listener(hub, "default", person("alice"), EVERYTHING)
    hub.announce(ListChanged("box", Kind.TOOL))
    hub.announce(ResourceUpdated("box", "memo://a"))
    hub.announce(ResourceUpdated("box", "memo://other"))
    hub.close()
    assert [change async for change in announce_changes(listener)] == [
        Change("notifications/tools/list_changed"),
        Change("notifications/resources/updated", "memo://a"),
    ]


# --- subscriptions at whoever provides the resources


class Provider(Scripted):
    """Agrees to subscriptions to `memo://…`, and is slow or broken as a URI says."""

    def __init__(self) -> None:
        super().__init__()
        for uri in ("memo://a", "memo://b", "memo://slow", "memo://down"):
            self.resource(uri)
            self.on("resources/subscribe", uri, self.agree)
            self.on("resources/unsubscribe", uri, self.agree)

    async def agree(self, call: Call) -> Outcome:
        if call.method == "resources/subscribe" and call.target == "memo://slow":
            await asyncio.Event().wait()
        if call.target == "memo://down":
            raise UpstreamUnavailableError("box", "down")
        return Reply(b"{}")

    def heard(self) -> list[tuple[str, str]]:
        return [(call.method.partition("/")[2], call.target) for call in self.calls]


class House:
    """A gateway over one provider, and what holds subscriptions open."""

    def __init__(self) -> None:
        self.box = Provider()
        self.supervisor = TaskGroupSupervisor()
        plans = [EndpointPlan("default", (self.box,))]
        self.gateway = Gateway(plans, live_state(), (authorize,), CallLimits(), SERVER_INFO)
        self.is_open = True

    def current(self) -> Gateway:
        if not self.is_open:
            raise InterruptedCallError("the house is not open")
        return self.gateway

    def subscribed(self, *uris: str, who: Subscriber) -> Any:
        wanted = ListenFilter(tools=True, uris=uris)
        self.listener = open_listener(self.gateway.live.hub, "default", who.principal, wanted)
        return subscribed(self.current, self.listener, wanted, who, self.supervisor)


def subscriber(*permissions: str, endpoint: str = "default") -> Subscriber:
    return Subscriber(endpoint, person("alice", *permissions), NO_CAPABILITIES, "request-1")


@virtual_time
async def test_who_provides_a_resource_hears_that_somebody_listens_and_that_nobody_does() -> None:
    house = House()
    async with house.subscribed("memo://a", "memo://b", who=subscriber()) as confirmed:
        assert confirmed == ListenFilter(tools=True, uris=("memo://a", "memo://b"))
        assert house.box.heard() == [("subscribe", "memo://a"), ("subscribe", "memo://b")]
        assert {call.params["uri"] for call in house.box.calls} == {"memo://a", "memo://b"}
    await settle()
    assert house.box.heard()[2:] == [("unsubscribe", "memo://a"), ("unsubscribe", "memo://b")]


@virtual_time
async def test_only_what_was_agreed_to_in_time_is_confirmed_and_heard() -> None:
    house = House()
    began_s = now()
    wanted = ("memo://down", "memo://a", "memo://slow", "memo://nowhere")
    async with house.subscribed(*wanted, who=subscriber()) as confirmed:
        assert now() - began_s == pytest.approx(3.0)
        assert confirmed.uris == ("memo://a",)
        assert house.listener.uris == {"memo://a"}
    await settle()
    assert house.box.heard()[-1] == ("unsubscribe", "memo://a")


@virtual_time
async def test_who_may_not_read_resources_subscribes_to_none() -> None:
    house = House()
    async with house.subscribed("memo://a", who=subscriber("session:open")) as confirmed:
        assert confirmed.uris == ()
    assert house.box.heard() == []


@virtual_time
async def test_a_listener_without_resources_asks_nobody() -> None:
    house = House()
    async with house.subscribed(who=subscriber()) as confirmed:
        assert confirmed == ListenFilter(tools=True)
    assert (house.box.heard(), house.supervisor.tasks) == ([], set())


@virtual_time
async def test_subscriptions_of_a_house_that_closes_end_with_its_connections() -> None:
    house = House()
    async with house.subscribed("memo://a", who=subscriber()):
        house.is_open = False
    await settle()
    assert house.box.heard() == [("subscribe", "memo://a")]

    class Closed(TaskGroupSupervisor):
        def start(self, coroutine: Any, *, name: str) -> Any:
            coroutine.close()
            raise LimitError("the server stops")

    house.is_open, house.supervisor = True, Closed()
    async with house.subscribed("memo://b", who=subscriber()):
        pass
    assert house.box.heard()[1:] == [("subscribe", "memo://b")]


@virtual_time
async def test_an_end_nobody_can_be_told_of_is_no_failure() -> None:
    house = House()
    await unsubscribe(house.gateway, subscriber(endpoint="gone"), ["memo://a"])
    assert house.box.heard() == []
    await unsubscribe(house.gateway, subscriber(), ["memo://down", "memo://nowhere", "memo://a"])
    assert house.box.heard()[-1] == ("unsubscribe", "memo://a")
    with pytest.raises(UnknownNameError):  # the step that failed above
        await house.box.call(subscriber().call("resources/unsubscribe", "memo://nowhere", 0))


@virtual_time
async def test_a_subscription_is_a_call_of_its_session_that_nobody_waits_for() -> None:
    session = Scene().session()
    call = Subscriber.of_session(session).call("resources/subscribe", "memo://a", 5.0)
    assert (call.session_id, call.principal, call.capabilities) == (
        session.id,
        session.principal,
        session.capabilities,
    )
    assert call.caller is NOBODY


@virtual_time
async def test_a_listening_stream_over_http_subscribes_and_unsubscribes() -> None:
    box = Provider()
    async with Desk(box) as desk:
        alice = Visitor(desk.door, "alice")
        wanted = {"resourceSubscriptions": ["memo://a", "memo://nowhere"]}
        stream = alice.begin("subscriptions/listen", notifications=wanted)
        acknowledged = await stream.response.next_event()
        confirmed = acknowledged["params"]["notifications"]
        assert confirmed == {"resourceSubscriptions": ["memo://a"]}
        desk.announce(ResourceUpdated("box", "memo://a"))
        assert (await stream.response.next_event())["params"]["uri"] == "memo://a"
        stream.leave()
        await stream.done()
        await settle()
        assert box.heard()[-1] == ("unsubscribe", "memo://a")


@pytest.mark.parametrize(
    ("change", "params"),
    [
        (Change("notifications/tools/list_changed"), None),
        (Change("notifications/resources/updated", "memo://ä"), {"uri": "memo://ä"}),
        (Change("notifications/elicitation/complete", params=b'{"elicitationId":"e"}'),
         {"elicitationId": "e"}),
    ],
)  # fmt: skip
def test_a_change_is_worded_for_a_legacy_session(
    change: Change, params: dict[str, str] | None
) -> None:
    said = json.loads(word_change(change))
    assert said.pop("jsonrpc") == "2.0"
    assert said == {"method": change.method} | ({} if params is None else {"params": params})
