"""What listeners of both eras share: what they may hear, and when it ends."""

from __future__ import annotations

import pytest

from tests.support.dialogues import ALL, SERVER_INFO, live_state, person
from tests.support.scripted import Scripted
from tests.support.virtual_time import virtual_time
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Filter, Gateway
from waygate_mcp.gateway.hub import Hub
from waygate_mcp.gateway.listening import announce_changes, confirmed_filter, open_listener
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
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
        ("notifications/tools/list_changed", None),
        ("notifications/resources/updated", "memo://a"),
    ]
