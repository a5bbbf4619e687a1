"""The endpoints of one generation: which providers each binds, under which prefixes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.dialogues import SERVER_INFO, live_state, person
from tests.support.providers import make_call
from tests.support.scripted import Scripted
from tests.support.virtual_time import virtual_time
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Filter, Gateway
from waygate_mcp.gateway.hub import Listener
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged


def box(name: str) -> Scripted:
    made = Scripted(name)
    made.tool("greet")
    made.tool("drop")
    return made


def gateway_of(*plans: EndpointPlan) -> Gateway:
    return Gateway(plans, live_state(), (), CallLimits(), SERVER_INFO)


async def tools(gateway: Gateway, endpoint: str = "default") -> list[str]:
    handler = gateway.endpoints[endpoint].handler_for("tools/list")
    reply = await handler(make_call("tools/list", {}))
    assert isinstance(reply, Reply)
    return [tool["name"] for tool in json.loads(reply.result)["tools"]]


@virtual_time
@pytest.mark.parametrize(
    ("names", "prefixes", "shown"),
    [
        (["one"], {}, ["drop", "greet"]),
        (["one"], {"one": "x__"}, ["x__drop", "x__greet"]),
        (["one", "two"], {}, ["one__drop", "one__greet", "two__drop", "two__greet"]),
        (["one", "two"], {"one": ""}, ["drop", "greet", "two__drop", "two__greet"]),
    ],
)
async def test_names_are_prefixed_where_several_providers_are_bound(
    names: list[str], prefixes: Mapping[str, str], shown: list[str]
) -> None:
    plan = EndpointPlan("default", tuple(box(name) for name in names), prefixes)
    assert await tools(gateway_of(plan)) == shown


@virtual_time
@pytest.mark.parametrize(
    ("allow", "deny", "shown"),
    [
        (None, ("drop",), ["greet"]),
        (("gr*",), (), ["greet"]),
        ((), (), []),
    ],
)
async def test_a_plan_says_which_tools_are_shown(
    allow: Any, deny: tuple[str, ...], shown: list[str]
) -> None:
    plan = EndpointPlan("default", (box("one"),), allow=allow, deny=deny)
    assert await tools(gateway_of(plan)) == shown


@virtual_time
async def test_each_endpoint_has_its_own_providers() -> None:
    one, two = box("one"), box("two")
    gateway = gateway_of(EndpointPlan("a", (one,)), EndpointPlan("b", (one, two)))
    assert await tools(gateway, "a") == ["drop", "greet"]
    assert len(await tools(gateway, "b")) == 4
    assert gateway.binds("b", "two")
    assert not gateway.binds("a", "two")
    assert not gateway.binds("none", "one")


@virtual_time
async def test_an_event_makes_lists_stale_and_is_told_to_listeners() -> None:
    one = box("one")
    gateway = gateway_of(EndpointPlan("default", (one,)))
    gateway.live.hub.route_by(gateway.binds)
    listener = Listener("default", person("alice"), frozenset({Kind.TOOL}))
    gateway.live.hub.add(listener)
    await tools(gateway)
    one.tool("new")
    gateway.announce(ListChanged("one", Kind.TOOL))
    assert await tools(gateway) == ["drop", "greet", "new"]
    changes = await listener.take()
    assert [change.method for change in changes or ()] == ["notifications/tools/list_changed"]


@virtual_time
async def test_lists_grow_old_by_the_clock_that_is_given() -> None:
    times = iter(range(0, 10_000, 61))
    one = box("one")
    plans = [EndpointPlan("default", (one,))]
    gateway = Gateway(
        plans, live_state(), (), CallLimits(), SERVER_INFO, monotonic=lambda: float(next(times))
    )
    await tools(gateway)
    await tools(gateway)
    assert one.listed == 2


@virtual_time
async def test_a_provider_keeps_its_verbatim_names_when_others_are_added() -> None:
    live, one, two = live_state(), box("one"), box("two")

    def gateway(*providers: Scripted, **plan: Any) -> Gateway:
        plans = [EndpointPlan("default", providers, **plan)]
        return Gateway(plans, live, (), CallLimits(), SERVER_INFO)

    assert await tools(gateway(one)) == ["drop", "greet"]
    both = ["drop", "greet", "two__drop", "two__greet"]
    assert await tools(gateway(one, two)) == both
    assert await tools(gateway(one, two)) == both
    assert await tools(gateway(two)) == ["two__drop", "two__greet"]
    written = gateway(one, two, prefixes={"one": "one__"})
    assert await tools(written) == ["one__drop", "one__greet", "two__drop", "two__greet"]
    assert await tools(gateway(one, two)) == both  # what is written down counts while it is there


@virtual_time
async def test_who_is_added_before_anything_was_published_is_a_sibling_from_the_start() -> None:
    live, one, two = live_state(), box("one"), box("two")
    Gateway([EndpointPlan("default", (one,))], live, (), CallLimits(), SERVER_INFO)
    plans = [EndpointPlan("default", (one, two))]
    gateway = Gateway(plans, live, (), CallLimits(), SERVER_INFO)
    assert await tools(gateway) == ["one__drop", "one__greet", "two__drop", "two__greet"]


@virtual_time
async def test_filters_of_prompts_and_resources_are_those_of_the_plan() -> None:
    one = box("one")
    for name in ("keep", "drop"):
        one.prompt(name)
        one.resource(f"memo://{name}")
    plan = EndpointPlan(
        "default",
        (one,),
        prompts=Filter(deny=("drop",)),
        resources=Filter(("memo://k*",)),
        rename={"greet": "hello"},
        titles={"greet": "Hello"},
        descriptions={"greet": "Says so."},
    )
    endpoint = gateway_of(plan).endpoints["default"]
    prompts = await endpoint.handler_for("prompts/list")(make_call("prompts/list", {}))
    assert isinstance(prompts, Reply)
    assert prompts.result == b'{"prompts":[{"name":"keep"}]}'
    resources = await endpoint.handler_for("resources/list")(make_call("resources/list", {}))
    assert isinstance(resources, Reply)
    [resource] = json.loads(resources.result)["resources"]
    assert resource["uri"] == "memo://keep"
    assert endpoint.shows_uri("memo://keep")
    assert not endpoint.shows_uri("memo://drop")
    listed = await endpoint.handler_for("tools/list")(make_call("tools/list", {}))
    assert isinstance(listed, Reply)
    hello = json.loads(listed.result)["tools"][1]
    assert (hello["name"], hello["title"], hello["description"]) == ("hello", "Hello", "Says so.")


@virtual_time
async def test_an_update_reaches_each_endpoint_under_its_own_uri() -> None:
    one = box("one")
    gateway = gateway_of(
        EndpointPlan("plain", (one,)), EndpointPlan("marked", (one,), uri_prefixes={"one": "eins"})
    )
    assert gateway.public_uri("plain", "one", "memo://a") == "memo://a"
    assert gateway.public_uri("marked", "one", "memo://a") == "eins+memo://a"
    assert gateway.public_uri("none", "one", "memo://a") is None
