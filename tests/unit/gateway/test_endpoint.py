"""One endpoint: what it offers, who answers each of its methods, and that none goes past the steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.dialogues import SERVER_INFO, live_state, person
from tests.support.providers import make_call
from tests.support.scripted import ALL_FEATURES, Scripted, text
from tests.support.virtual_time import virtual_time
from waygate_mcp.errors import (
    ForbiddenError,
    InvalidArgumentsError,
    RpcError,
    UnknownMethodError,
    UnknownNameError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Gateway
from waygate_mcp.gateway.steps.authorize import authorize
from waygate_mcp.model.call import Call, InputRequired, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Handler, Step
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.tasks import TASK_METHODS
from waygate_mcp.protocol.versions import LATEST_LEGACY


def endpoint_of(*providers: Scripted, steps: tuple[Step, ...] = (), **plan: Any) -> Endpoint:
    plans = [EndpointPlan("default", providers, **plan)]
    return Gateway(plans, live_state(), steps, CallLimits(), SERVER_INFO).endpoints["default"]


def full_box(name: str = "box") -> Scripted:
    box = Scripted(name)
    box.tool("greet", lambda call: text("hello"))
    box.prompt("ask")
    box.resource("memo://a")
    box.template("memo://days/{day}")
    for method in ("resources/subscribe", "resources/unsubscribe"):
        box.on(method, "*", lambda call: Reply(b"{}"))
    box.on("completion/complete", "*", lambda call: Reply(b'{"completion":{"values":[]}}'))
    return box


PARAMS: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "greet"},
    "prompts/get": {"name": "ask"},
    "resources/read": {"uri": "memo://a"},
    "resources/subscribe": {"uri": "memo://a"},
    "resources/unsubscribe": {"uri": "memo://a"},
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "ask"}},
}
# What is asked about tasks is in test_tasks.py: it needs a task.
DOORS_OWN = {*TASK_METHODS, "initialize", "ping", "logging/setLevel", "subscriptions/listen"}


async def ask(endpoint: Endpoint, method: str, params: Any = None, **more: Any) -> Outcome:
    given = PARAMS.get(method, {}) if params is None else params
    call = make_call(method, given, **more)
    call.target = call.provider = ""
    return await endpoint.handler_for(method)(call)


# --- what it offers


@virtual_time
async def test_capabilities_are_those_of_all_providers_together() -> None:
    one = Scripted("one", features=Features(tools=True, logging=True))
    two = Scripted("two", features=Features(resources=True))
    three = Scripted("three", features=Features(prompts=True, completions=True, subscribe=True))
    assert endpoint_of(one, two).capabilities == {
        "tools": {"listChanged": True},
        "resources": {"listChanged": True},
        "logging": {},
    }
    assert endpoint_of(two, three).capabilities == {
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
    }
    assert endpoint_of().capabilities == {}


@virtual_time
async def test_no_provider_is_asked_for_what_an_endpoint_can_do() -> None:
    box = full_box()
    endpoint = endpoint_of(box)
    result = json.loads(endpoint.initialize(Hello(LATEST_LEGACY, NO_CAPABILITIES, "")))
    assert result["protocolVersion"] == "2025-11-25"
    assert result["serverInfo"] == SERVER_INFO
    reply = await ask(endpoint, "server/discover")
    assert isinstance(reply, Reply)
    extensions: dict[str, Any] = {"io.modelcontextprotocol/tasks": {}}
    assert json.loads(reply.result)["capabilities"] == {
        **endpoint.capabilities,
        "extensions": extensions,
    }
    assert (reply.ttl_ms, reply.cache_scope) == (60_000, "private")
    assert (box.listed, box.calls) == (0, [])


@virtual_time
async def test_the_advice_of_one_provider_is_given_as_it_is_and_of_several_under_their_names() -> (
    None
):
    kind = Scripted("kind", instructions="Be kind.")
    brief = Scripted("brief", instructions="Be brief." + "x" * 5_000)
    silent = Scripted("silent")
    assert endpoint_of(kind).instructions == "Be kind."
    assert endpoint_of(kind, silent).instructions == "# kind\nBe kind."
    joined = endpoint_of(kind, brief).instructions
    assert joined is not None
    assert joined.startswith("# kind\nBe kind.\n\n# brief\nBe brief.xxx")
    assert len(joined) == len("# kind\nBe kind.\n\n# brief\n") + 4_096
    assert endpoint_of(silent).instructions is None
    assert endpoint_of(kind, instructions="Ours.").instructions == "Ours."


# --- methods


@virtual_time
async def test_every_method_of_the_protocol_is_answered_or_is_the_doors_own() -> None:
    endpoint = endpoint_of(full_box())
    for method in METHODS:
        if method in DOORS_OWN - TASK_METHODS:
            with pytest.raises(UnknownMethodError):
                endpoint.handler_for(method)
        elif method not in TASK_METHODS:
            assert isinstance(await ask(endpoint, method), Reply)


@virtual_time
async def test_a_method_without_its_capability_is_unknown() -> None:
    bare = endpoint_of(Scripted(features=Features()))
    for method in METHODS:
        if method != "server/discover":
            with pytest.raises(UnknownMethodError) as caught:
                bare.handler_for(method)
            assert caught.value.safe_message == f"Method not found: {method}"
    no_subscriptions = endpoint_of(Scripted(features=Features(resources=True)))
    no_subscriptions.handler_for("resources/read")
    with pytest.raises(UnknownMethodError):
        no_subscriptions.handler_for("resources/subscribe")
    with pytest.raises(UnknownMethodError):
        bare.handler_for("tools/invent")


@virtual_time
async def test_every_method_passes_the_steps() -> None:
    endpoint = endpoint_of(full_box(), steps=(authorize,))
    nobody = person("eve", "nothing:at-all")
    for method in METHODS:
        if method in DOORS_OWN - TASK_METHODS:
            continue
        with pytest.raises(ForbiddenError):
            await ask(endpoint, method, principal=nobody)
        if method not in TASK_METHODS:
            await ask(endpoint, method, principal=person("al", METHODS[method].permission))


@virtual_time
async def test_a_handler_of_the_door_passes_the_steps_too() -> None:
    seen: list[str] = []

    async def notes(call: Call, call_next: Handler) -> Outcome:
        seen.append(call.method)
        return await call_next(call)

    async def pong(call: Call) -> Outcome:
        return Reply(b"{}")

    endpoint = endpoint_of(full_box(), steps=(notes,))
    await endpoint.guard(pong)(make_call("ping", {}))
    assert seen == ["ping"]


# --- routing


@virtual_time
async def test_a_call_is_given_its_provider_and_that_ones_own_name() -> None:
    one, two = full_box("one"), full_box("two")
    endpoint = endpoint_of(one, two)
    for _ in range(2):  # the second time the name is known
        call = make_call("tools/call", {"name": "two__greet"})
        await endpoint.handle(call)
        assert (call.provider, call.target, call.name) == ("two", "greet", "two__greet")
    assert (len(one.calls), len(two.calls)) == (0, 2)
    with pytest.raises(UnknownNameError):
        await ask(endpoint, "tools/call", {"name": "greet"})


@virtual_time
async def test_a_completion_goes_to_the_owner_of_what_it_is_about() -> None:
    one, two = full_box("one"), Scripted("two")
    two.resource("list://x")
    two.on("completion/complete", "*", lambda call: Reply(b"{}"))
    endpoint = endpoint_of(one, two)
    for ref, provider, target in (
        ({"type": "ref/prompt", "name": "one__ask"}, "one", "ask"),
        ({"type": "ref/resource", "uri": "memo://days/{day}"}, "one", "memo://days/{day}"),
        ({"type": "ref/resource", "uri": "list://x"}, "two", "list://x"),
        ({"type": "ref/resource", "uri": "memo://days/1"}, "one", "memo://days/1"),
    ):
        call = make_call("completion/complete", {"ref": ref})
        await endpoint.handle(call)
        assert (call.provider, call.target) == (provider, target)


@virtual_time
@pytest.mark.parametrize(
    "ref",
    [
        None,
        "ask",
        {},
        {"type": "ref/tool", "name": "greet"},
        {"type": "ref/prompt"},
        {"type": "ref/prompt", "name": 7},
        {"type": "ref/resource", "name": "memo://a"},
    ],
)
async def test_a_completion_about_nothing_is_an_invalid_argument(ref: Any) -> None:
    with pytest.raises(InvalidArgumentsError):
        await ask(endpoint_of(full_box()), "completion/complete", {"ref": ref})


@virtual_time
async def test_a_completion_about_an_unknown_name_says_so() -> None:
    endpoint = endpoint_of(full_box(), full_box("two"))
    for ref in ({"type": "ref/prompt", "name": "x"}, {"type": "ref/resource", "uri": "x://"}):
        with pytest.raises(UnknownNameError):
            await ask(endpoint, "completion/complete", {"ref": ref})


@virtual_time
async def test_a_list_is_paged_by_its_own_cursor() -> None:
    plans = [EndpointPlan("default", (box := full_box(),))]
    box.tool("second")
    limits = CallLimits(page_size=1)
    endpoint = Gateway(plans, live_state(), (), limits, SERVER_INFO).endpoints["default"]
    first = await ask(endpoint, "tools/list")
    assert isinstance(first, Reply)
    cursor = json.loads(first.result)["nextCursor"]
    second = await ask(endpoint, "tools/list", {"cursor": cursor})
    assert isinstance(second, Reply)
    assert [tool["name"] for tool in json.loads(second.result)["tools"]] == ["second"]
    nulled = await ask(endpoint, "tools/list", {"cursor": None})
    assert nulled == first or b"nextCursor" in nulled.result  # type: ignore[union-attr]


# --- mirrored arguments


def mirrored() -> Endpoint:
    box = Scripted()
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "x-mcp-header": "City"}},
    }
    box.tool("weather", lambda call: text("rain"), inputSchema=schema)
    return endpoint_of(box)


@virtual_time
@pytest.mark.parametrize(
    ("headers", "is_told"),
    [
        ({b"mcp-param-city": b"Oslo"}, True),
        ({b"mcp-param-city": b"=?base64?T3Nsbw==?="}, True),
        ({b"mcp-param-city": b"oslo"}, False),
        ({}, False),
    ],
)
async def test_mirrored_arguments_must_say_what_the_body_says(
    headers: dict[bytes, bytes], is_told: bool
) -> None:
    call = make_call("tools/call", {"name": "weather", "arguments": {"city": "Oslo"}})
    call.headers = headers
    if is_told:
        assert await mirrored().handle(call) == text("rain")
        return
    with pytest.raises(RpcError) as caught:
        await mirrored().handle(call)
    assert caught.value.rpc_code == -32020


@virtual_time
async def test_where_there_are_no_headers_nothing_is_compared() -> None:
    call = make_call("tools/call", {"name": "weather", "arguments": {"city": "Oslo"}})
    assert await mirrored().handle(call) == text("rain")


# --- events


@virtual_time
async def test_only_events_of_bound_providers_make_a_list_stale() -> None:
    box = full_box()
    endpoint = endpoint_of(box)
    assert endpoint.binds("box")
    assert not endpoint.binds("other")
    await ask(endpoint, "tools/list")
    endpoint.forget(ListChanged("other", Kind.TOOL))
    endpoint.forget(ResourceUpdated("box", "memo://a"))
    await ask(endpoint, "tools/list")
    assert box.listed == 1
    endpoint.forget(ListChanged("box", Kind.TOOL))
    await ask(endpoint, "tools/list")
    assert box.listed == 2


@virtual_time
async def test_what_an_upstream_can_do_is_known_once_it_says_so() -> None:
    late = Scripted("late", features=Features(tools=True), instructions=None)
    endpoint = endpoint_of(late)
    with pytest.raises(UnknownMethodError):
        endpoint.handler_for("resources/read")
    late.features, late.instructions = ALL_FEATURES, "Be quick."
    endpoint.forget(ListChanged("other", Kind.TOOL))
    assert "resources" not in endpoint.capabilities
    endpoint.forget(ListChanged("late", Kind.TOOL))
    endpoint.handler_for("resources/read")
    endpoint.handler_for("resources/subscribe")
    assert endpoint.capabilities["resources"] == {"listChanged": True, "subscribe": True}
    assert endpoint.instructions == "Be quick."
    late.features = Features(prompts=True)
    endpoint.forget(ListChanged("late", Kind.TOOL))
    assert set(endpoint.capabilities) == {"prompts"}
    with pytest.raises(UnknownMethodError):
        endpoint.handler_for("tools/call")


# --- URIs in what passes through

LINKS = {
    "content": [
        {"type": "resource_link", "uri": "memo://given", "name": "g"},
        {"type": "resource", "resource": {"uri": "ui://w", "text": "x"}},
    ]
}


def linking(name: str) -> Scripted:
    box = full_box(name)
    box.tool("link", lambda call: Reply(json.dumps(LINKS).encode(), meta=UI_META))
    return box


UI_META = b'{"ui":{"resourceUri":"ui://w"}}'


@virtual_time
async def test_links_in_results_are_remembered_where_several_have_resources() -> None:
    one, two = full_box("one"), linking("two")
    endpoint = endpoint_of(one, two)
    read = {"uri": "memo://given"}
    with pytest.raises(UnknownNameError):
        await ask(endpoint, "resources/read", read)
    reply = await ask(endpoint, "tools/call", {"name": "two__link"})
    assert isinstance(reply, Reply)
    assert json.loads(reply.result) == LINKS
    await ask(endpoint, "resources/read", read)
    assert [call.target for call in two.calls] == ["link", "memo://given"]
    with pytest.raises(UnknownNameError):
        await ask(endpoint, "resources/read", read, principal=person("bob"))
    assert one.calls == []


@virtual_time
async def test_uris_of_a_marked_binding_are_marked_wherever_they_stand() -> None:
    one, two = full_box("one"), linking("two")
    endpoint = endpoint_of(one, two, uri_prefixes={"two": "zwei"})
    reply = await ask(endpoint, "tools/call", {"name": "two__link"})
    assert isinstance(reply, Reply)
    blocks = json.loads(reply.result)["content"]
    assert blocks[0]["uri"] == "zwei+memo://given"
    assert blocks[1]["resource"]["uri"] == "ui://zwei/w"
    assert reply.meta == b'{"ui":{"resourceUri":"ui://zwei/w"}}'
    for uri, own in (("zwei+memo://a", "memo://a"), ("zwei+memo://given", "memo://given")):
        reply = await ask(endpoint, "resources/read", {"uri": uri})
        assert isinstance(reply, Reply)
        assert two.calls[-1].target == own
        assert json.loads(reply.result)["contents"][0]["uri"] == uri
    ref = {"type": "ref/resource", "uri": "zwei+memo://days/{day}"}
    await ask(endpoint, "completion/complete", {"ref": ref})
    assert two.calls[-1].target == "memo://days/{day}"
    await ask(endpoint, "resources/subscribe", {"uri": "zwei+memo://a"})
    assert two.calls[-1].target == "memo://a"
    assert one.calls == []


@virtual_time
async def test_what_a_marked_binding_says_is_wrong_is_about_the_uri_clients_know() -> None:
    one, two = full_box("one"), full_box("two")
    endpoint = endpoint_of(one, two, uri_prefixes={"two": "zwei"})

    def raising(error: Exception) -> None:
        def refuse(call: Call) -> Reply:
            raise error

        two.on("resources/read", "memo://a", refuse)

    async def fails() -> Any:
        with pytest.raises((RpcError, UnknownNameError)) as caught:
            await ask(endpoint, "resources/read", {"uri": "zwei+memo://a"})
        return caught.value

    raising(RpcError(-32002, "gone", b'{"uri":"memo://a","why":1}'))
    assert json.loads((await fails()).data) == {"uri": "zwei+memo://a", "why": 1}
    raising(RpcError(-32002, "gone", b'{"uri":"zwei+memo://a"}'))  # it was put right already
    assert json.loads((await fails()).data) == {"uri": "zwei+memo://a"}
    raising(RpcError(-32002, "gone"))
    assert (await fails()).data is None
    raising(UnknownNameError("resource", "memo://a"))
    assert (await fails()).name == "zwei+memo://a"


@virtual_time
async def test_a_question_of_a_marked_binding_passes_as_it_is() -> None:
    two = full_box("two")
    asked = InputRequired({}, "state")
    two.tool("asks", lambda call: asked)
    endpoint = endpoint_of(two, uri_prefixes={"two": "zwei"})
    assert await ask(endpoint, "tools/call", {"name": "asks"}) is asked


@virtual_time
async def test_an_endpoint_tells_how_it_is_made_up() -> None:
    one, two = full_box("one"), full_box("two")
    endpoint = endpoint_of(
        one, two, prefixes={"one": "", "two": ""}, uri_prefixes={"two": "zwei"}, rename={"x": "y"}
    )
    await ask(endpoint, "tools/list")
    status = endpoint.status()
    assert [(b.provider, b.prefix, b.uri_prefix, b.lists) for b in status.bindings] == [
        ("one", "", "", {"tool": "current"}),
        ("two", "", "zwei", {"tool": "current"}),
    ]
    assert [(one.provider, one.name) for one in status.hidden] == [("two", "greet")]
    assert status.unknown == ("x",)


def test_the_fixture_offers_all_there_is() -> None:
    assert all(getattr(ALL_FEATURES, name) for name in Features.__struct_fields__)
