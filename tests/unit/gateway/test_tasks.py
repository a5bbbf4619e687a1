"""Handles of tasks: of one caller at one endpoint, for a time, and routed to whoever runs the task."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.support.dialogues import SERVER_INFO, live_state, person, ring
from tests.support.providers import make_call
from tests.support.scripted import Scripted, text
from tests.support.virtual_time import virtual_time
from waygate_mcp.errors import CapabilityMissingError, UnknownMethodError, UnknownNameError
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Gateway
from waygate_mcp.gateway.tasks import Handle, TaskHandles, task_capabilities
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.tasks import RELATED_TASK_KEY, TASKS_EXTENSION, LegacyTasks
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, REVISIONS

ALICE, BOB = person("alice"), person("bob")
WITH_TASKS = ClientCapabilities(0, (TASKS_EXTENSION,))
DAY_S = 86_400.0
MODERN_ONLY = Features(tools=True, extensions=(TASKS_EXTENSION,))
LEGACY_ONLY = Features(tools=True, tasks=LegacyTasks(calls=True, cancels=True))


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def handles(clock: Clock | None = None) -> TaskHandles:
    return TaskHandles(ring(), clock or Clock())


def tool_call(**more: Any) -> Call:
    given = {"principal": ALICE, "capabilities": WITH_TASKS, **more}
    call = make_call("tools/call", {"name": "slow"}, **given)
    call.provider = "box"
    return call


def about(handle: str, method: str = "tasks/get", **more: Any) -> Call:
    given = {"principal": ALICE, "capabilities": WITH_TASKS, **more}
    call = make_call(method, {"taskId": handle}, **given)
    call.name = handle
    call.target = call.provider = ""
    return call


def opened(desk: TaskHandles, call: Call) -> Handle:
    return desk.open(call.name, call.endpoint, call.principal, call.revision)


# --- handles


def test_a_handle_says_whose_task_it_is_and_where() -> None:
    desk = handles()
    handle = desk.seal(tool_call(), "id-1", 60_000)
    assert "id-1" not in handle
    found = opened(desk, about(handle))
    assert (found.provider, found.task, found.tool, found.is_modern) == (
        "box",
        "id-1",
        "slow",
        True,
    )


def test_a_handle_of_anybody_or_anything_else_is_a_task_nobody_knows() -> None:
    desk = handles()
    handle = desk.seal(tool_call(), "id-1", None)
    elsewhere = about(handle)
    elsewhere.endpoint = "another"
    foreign = [
        about(handle, principal=BOB),
        about(handle, revision=LATEST_LEGACY),
        elsewhere,
        about(handle[:-8] + ("A" if handle[-8] != "A" else "B") + handle[-7:]),
        about(ring().seal(b"\x97", "task")),
        about(ring().seal(msgspec.msgpack.encode(["x"] * 7), "ticket")),
        about("no-such-task"),
        about(""),
    ]
    said = set()
    for call in foreign:
        with pytest.raises(UnknownNameError) as caught:
            opened(desk, call)
        said.add((str(caught.value), caught.value.safe_message, caught.value.name))
    assert [(safe, name) for _, safe, name in said] == [("Task not found", "")]


@pytest.mark.parametrize(
    ("ttl_ms", "days"), [(1_000.0, 1.0), (86_400_000.0, 2.0), (1e12, 30.0), (None, 30.0)]
)
def test_a_handle_outlives_its_task_but_not_for_ever(ttl_ms: float | None, days: float) -> None:
    clock = Clock()
    desk = handles(clock)
    handle = desk.seal(tool_call(), "id-1", ttl_ms)
    clock.now_s += days * DAY_S - 2
    opened(desk, about(handle))
    clock.now_s += 4
    with pytest.raises(UnknownNameError):
        opened(desk, about(handle))


# --- what is announced


def test_each_revision_is_told_what_it_can_use() -> None:
    both = [MODERN_ONLY, LEGACY_ONLY, Features()]
    assert task_capabilities(both, MODERN) == {"extensions": {TASKS_EXTENSION: {}}}
    offered: dict[str, Any] = {"tasks": {"requests": {"tools": {"call": {}}}, "cancel": {}}}
    assert task_capabilities(both, LATEST_LEGACY) == offered
    assert task_capabilities(both, REVISIONS["2025-06-18"]) == {}
    assert task_capabilities([LEGACY_ONLY], MODERN) == {}
    assert task_capabilities([MODERN_ONLY], LATEST_LEGACY) == {}
    without_cancel = Features(tasks=LegacyTasks(calls=True))
    assert task_capabilities([without_cancel], LATEST_LEGACY) == {
        "tasks": {"requests": {"tools": {"call": {}}}}
    }


# --- at an endpoint


def endpoint_of(*providers: Scripted, **plan: Any) -> Endpoint:
    plans = [EndpointPlan("default", providers, **plan)]
    return Gateway(plans, live_state(), (), CallLimits(), SERVER_INFO).endpoints["default"]


def made(call: Call) -> Reply:
    """A task as the client's era has it."""
    task = {"taskId": "id-1", "status": "working", "keep": 1}
    times = {"ttlMs": 60_000} if call.revision.is_modern else {"ttl": 60_000}
    result = {**task, **times} if call.revision.is_modern else {"task": {**task, **times}}
    meta = json.dumps({RELATED_TASK_KEY: {"taskId": "id-1"}}).encode()
    return Reply(
        json.dumps(result).encode(), None if call.revision.is_modern else meta, task_id="id-1"
    )


def tasks_box(features: Features, name: str = "box") -> Scripted:
    box = Scripted(name, features=features)
    box.tool("slow", made)
    box.tool("plain", lambda call: text("at once"))
    for method in ("tasks/get", "tasks/update", "tasks/cancel", "tasks/result"):
        box.on(method, "*", lambda call: Reply(json.dumps({"target": call.target}).encode()))
    return box


async def ask(endpoint: Endpoint, call: Call) -> Outcome:
    call.target = call.provider = ""
    return await endpoint.handler_for(call.method)(call)


async def handle_from(endpoint: Endpoint, **more: Any) -> str:
    reply = await ask(endpoint, tool_call(**more))
    assert isinstance(reply, Reply)
    assert reply.task_id is not None
    return reply.task_id


@virtual_time
async def test_a_task_is_handed_out_under_a_handle_and_asked_for_by_it() -> None:
    box = tasks_box(MODERN_ONLY)
    endpoint = endpoint_of(box)
    reply = await ask(endpoint, tool_call())
    assert isinstance(reply, Reply)
    result = json.loads(reply.result)
    assert result == {"taskId": reply.task_id, "status": "working", "keep": 1, "ttlMs": 60_000}
    assert reply.task_id is not None
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        answered = await ask(endpoint, about(reply.task_id, method))
        assert answered == Reply(b'{"target": "id-1"}')
    assert {(call.provider, call.target) for call in box.calls[1:]} == {("box", "id-1")}
    assert await ask(endpoint, make_call("tools/call", {"name": "plain"})) == text("at once")


@virtual_time
async def test_a_legacy_client_gets_the_handle_in_every_place() -> None:
    endpoint = endpoint_of(tasks_box(LEGACY_ONLY))
    reply = await ask(endpoint, tool_call(revision=LATEST_LEGACY))
    assert isinstance(reply, Reply)
    assert json.loads(reply.result)["task"]["taskId"] == reply.task_id
    assert json.loads(reply.meta or b"") == {RELATED_TASK_KEY: {"taskId": reply.task_id}}
    assert reply.task_id is not None
    call = about(reply.task_id, "tasks/result", revision=LATEST_LEGACY)
    assert await ask(endpoint, call) == Reply(b'{"target": "id-1"}')


@virtual_time
async def test_a_step_that_changed_a_task_beyond_recognition_does_no_harm() -> None:
    endpoint = endpoint_of(box := Scripted(features=MODERN_ONLY))
    for number, result in enumerate((b"{}", b'{"task":{}}', b"nonsense")):
        changed = Reply(result, task_id="id-1")
        box.tool(f"t{number}", partial(lambda reply, _: reply, changed))
        call = make_call("tools/call", {"name": f"t{number}"}, capabilities=WITH_TASKS)
        endpoint.forget(ListChanged("box", Kind.TOOL))
        reply = await ask(endpoint, call)
        assert isinstance(reply, Reply)
        assert reply.task_id != "id-1"


@virtual_time
async def test_methods_about_tasks_need_the_extension_on_the_request() -> None:
    endpoint = endpoint_of(tasks_box(MODERN_ONLY))
    handle = await handle_from(endpoint)
    with pytest.raises(CapabilityMissingError) as caught:
        await ask(endpoint, about(handle, capabilities=ClientCapabilities()))
    assert caught.value.required == {"extensions": {TASKS_EXTENSION: {}}}


@virtual_time
async def test_methods_about_tasks_exist_where_somebody_has_tasks_for_the_revision() -> None:
    for features, revision in ((LEGACY_ONLY, MODERN), (MODERN_ONLY, LATEST_LEGACY)):
        with pytest.raises(UnknownMethodError) as caught:
            await ask(endpoint_of(tasks_box(features)), about("x", revision=revision))
        assert caught.value.safe_message == "Method not found: tasks/get"
    without_cancel = Features(tools=True, tasks=LegacyTasks(calls=True))
    endpoint = endpoint_of(tasks_box(without_cancel))
    handle = await handle_from(endpoint, revision=LATEST_LEGACY)
    await ask(endpoint, about(handle, revision=LATEST_LEGACY))
    with pytest.raises(UnknownMethodError):
        await ask(endpoint, about(handle, "tasks/cancel", revision=LATEST_LEGACY))
    with pytest.raises(UnknownMethodError):
        endpoint_of(Scripted(features=Features(tools=True))).handler_for("tasks/get")


@virtual_time
async def test_a_task_of_a_tool_that_may_not_be_used_any_more_is_a_task_nobody_knows() -> None:
    box = tasks_box(MODERN_ONLY)
    live = live_state()

    def endpoint(**plan: Any) -> Endpoint:
        plans = [EndpointPlan("default", (box, Scripted("other")), **plan)]
        return Gateway(plans, live, (), CallLimits(), SERVER_INFO).endpoints["default"]

    call = make_call("tools/call", {"name": "box__slow"}, principal=ALICE, capabilities=WITH_TASKS)
    reply = await ask(endpoint(), call)
    assert isinstance(reply, Reply)
    assert reply.task_id is not None
    await ask(endpoint(), about(reply.task_id))
    with pytest.raises(UnknownNameError):
        await ask(endpoint(deny=("box__slow",)), about(reply.task_id))
    taken = Scripted("other", features=MODERN_ONLY)
    taken.tool("slow", made)
    plans = [EndpointPlan("default", (taken,), prefixes={"other": "box__"})]
    other = Gateway(plans, live, (), CallLimits(), SERVER_INFO).endpoints["default"]
    with pytest.raises(UnknownNameError):
        await ask(other, about(reply.task_id))


@virtual_time
async def test_endpoints_tell_each_revision_of_tasks_and_show_tools_as_it_can_use_them() -> None:
    box = tasks_box(
        Features(tools=True, tasks=LegacyTasks(calls=True), extensions=(TASKS_EXTENSION,))
    )
    box.tool("slow", made, execution={"taskSupport": "required"})
    endpoint = endpoint_of(box)
    opened = json.loads(endpoint.initialize(Hello(LATEST_LEGACY, ClientCapabilities(), "")))
    assert opened["capabilities"]["tasks"] == {"requests": {"tools": {"call": {}}}}
    assert "extensions" not in opened["capabilities"]
    old = json.loads(endpoint.initialize(Hello(REVISIONS["2025-06-18"], ClientCapabilities(), "")))
    assert "tasks" not in old["capabilities"]
    discovered = await ask(endpoint, make_call("server/discover", {}))
    assert isinstance(discovered, Reply)
    assert json.loads(discovered.result)["capabilities"]["extensions"] == {TASKS_EXTENSION: {}}
    for text_, revision in REVISIONS.items():
        listed = await ask(endpoint, make_call("tools/list", {}, revision=revision))
        assert isinstance(listed, Reply)
        assert (b"taskSupport" in listed.result) is (text_ == "2025-11-25")


@virtual_time
async def test_what_a_task_came_to_has_the_uris_clients_know() -> None:
    link = b'{"content":[{"type":"resource_link","uri":"memo://a","name":"a"}]}'
    for features, revision in ((MODERN_ONLY, MODERN), (LEGACY_ONLY, LATEST_LEGACY)):
        box = tasks_box(features)
        whole = b'{"taskId":"id-1","result":%b}' % link
        box.on("tasks/get", "*", partial(lambda reply, _: reply, Reply(whole)))
        box.on("tasks/result", "*", partial(lambda reply, _: reply, Reply(link)))
        endpoint = endpoint_of(box, uri_prefixes={"box": "mine"})
        handle = await handle_from(endpoint, revision=revision)
        method = "tasks/get" if revision.is_modern else "tasks/result"
        told = await ask(endpoint, about(handle, method, revision=revision))
        assert isinstance(told, Reply)
        assert b'"uri":"mine+memo://a"' in told.result


@virtual_time
async def test_a_provider_that_gets_tasks_later_is_announced_and_routed() -> None:
    box = tasks_box(Features(tools=True))
    endpoint = endpoint_of(box)
    with pytest.raises(UnknownMethodError):
        endpoint.handler_for("tasks/get")
    box.features = MODERN_ONLY
    endpoint.forget(ListChanged("box", Kind.TOOL))
    assert await ask(endpoint, about(await handle_from(endpoint))) == Reply(b'{"target": "id-1"}')
