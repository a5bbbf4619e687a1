"""Tasks on a listen stream: which are heard of, under which handles, and how that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.dialogues import SERVER_INFO, live_state, person
from tests.support.providers import make_call
from tests.support.scripted import Scripted
from tests.support.virtual_time import virtual_time
from waygate_mcp.errors import CapabilityMissingError, ForbiddenError, UpstreamUnavailableError
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Gateway
from waygate_mcp.gateway.hub import TASK_CHANGED, Change, Listener
from waygate_mcp.gateway.task_watch import check_may_listen, tag_change, watch_tasks
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Features, Viewer
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.stateless import CAPABILITIES_KEY, ListenFilter
from waygate_mcp.protocol.tasks import TASKS_EXTENSION

ALICE, BOB = person("alice"), person("bob")
WITH_TASKS = ClientCapabilities(0, (TASKS_EXTENSION,))
HAS_TASKS = Features(tools=True, extensions=(TASKS_EXTENSION,))


class Telling(Scripted):
    """A provider whose tasks tell of themselves."""

    def __init__(self, name: str = "box", agrees: bool = True) -> None:
        super().__init__(name, features=HAS_TASKS)
        self.agrees = agrees
        self.failure: Exception | None = None
        self.silence = False
        self.told: tuple[str, ...] = ()
        self.tell: Callable[[bytes], None] = lambda _: None
        self.end: Callable[[], None] = lambda: None
        self.is_left = False
        self.tool(
            "slow", lambda call: Reply(b'{"taskId":"%b-1"}' % name.encode(), task_id=f"{name}-1")
        )

    @asynccontextmanager
    async def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AsyncIterator[frozenset[str]]:
        if self.failure is not None:
            raise self.failure
        if self.silence:
            await asyncio.Event().wait()
        self.told, self.tell, self.end = ids, on_task, on_end
        try:
            yield frozenset(ids) if self.agrees else frozenset()
        finally:
            self.is_left = True


def endpoint_of(*providers: Scripted) -> Endpoint:
    plans = [
        EndpointPlan(
            "default", providers, prefixes={one.name: f"{one.name}__" for one in providers}
        )
    ]
    return Gateway(plans, live_state(), (), CallLimits(), SERVER_INFO).endpoints["default"]


async def task_of(endpoint: Endpoint, box: Scripted) -> str:
    """Make a task of Alice's."""
    call = make_call(
        "tools/call", {"name": f"{box.name}__slow"}, principal=ALICE, capabilities=WITH_TASKS
    )
    reply = await endpoint.handle(call)
    assert isinstance(reply, Reply)
    assert reply.task_id is not None
    return reply.task_id


def hearing() -> Listener:
    return Listener("default", ALICE, frozenset())


VIEWER = Viewer(ALICE, WITH_TASKS)


@virtual_time
async def test_a_task_is_told_under_its_handle_and_of_no_other() -> None:
    box = Telling()
    endpoint = endpoint_of(box)
    handle = await task_of(endpoint, box)
    listener = hearing()
    asked = ("no-such-task", handle)
    async with watch_tasks(endpoint, VIEWER, asked, listener) as agreed:
        assert agreed == (handle,)
        assert box.told == ("box-1",)
        change = {"taskId": "box-1", "status": "working", "_meta": {"x": 1}, "keep": 1.5}
        box.tell(json.dumps(change).encode())
        for nonsense in (b"", b"[]", b"{}", b'{"taskId":"other","status":"working"}', b"\xff"):
            box.tell(nonsense)
        ((told),) = await listener.take() or []
        assert told.method == TASK_CHANGED
        assert json.loads(told.params or b"") == {
            "taskId": handle, "status": "working", "keep": 1.5
        }  # fmt: skip
    assert box.is_left


@virtual_time
async def test_what_is_told_no_more_ends_the_listener() -> None:
    box = Telling()
    endpoint = endpoint_of(box)
    listener = hearing()
    async with watch_tasks(endpoint, VIEWER, (await task_of(endpoint, box),), listener):
        box.end()
        assert await listener.take() is None


@virtual_time
async def test_handles_nobody_agrees_to_tell_of_are_left_out() -> None:
    telling, silent, down = Telling("telling"), Telling("silent"), Telling("down")
    refusing, plain = Telling("refusing", agrees=False), Scripted("plain", features=HAS_TASKS)
    plain.tool("slow", lambda call: Reply(b'{"taskId":"p"}', task_id="p"))
    silent.silence = True
    down.failure = UpstreamUnavailableError("down", "away")
    boxes = (plain, silent, down, refusing, telling)
    endpoint = endpoint_of(*boxes)
    handles = {box.name: await task_of(endpoint, box) for box in boxes}
    began_s = asyncio.get_running_loop().time()
    async with watch_tasks(endpoint, VIEWER, tuple(handles.values()), hearing()) as agreed:
        assert agreed == (handles["telling"],)
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(5)


@virtual_time
async def test_nobody_hears_of_the_tasks_of_others() -> None:
    box = Telling()
    endpoint = endpoint_of(box)
    handle = await task_of(endpoint, box)
    async with watch_tasks(endpoint, Viewer(BOB, WITH_TASKS), (handle,), hearing()) as agreed:
        assert agreed == ()
    assert box.told == ()


def params(*extensions: str) -> dict[str, Any]:
    return {"_meta": {CAPABILITIES_KEY: {"extensions": {name: {} for name in extensions}}}}


@virtual_time
async def test_who_wants_to_hear_of_tasks_declares_the_extension() -> None:
    endpoint, without = endpoint_of(Telling()), endpoint_of(Scripted(features=Features()))
    wanted = ListenFilter(tasks=("x",))
    assert check_may_listen(endpoint, params(TASKS_EXTENSION), wanted, ALICE) == VIEWER
    with pytest.raises(CapabilityMissingError) as caught:
        check_may_listen(endpoint, params(), wanted, ALICE)
    assert caught.value.required == {"extensions": {TASKS_EXTENSION: {}}}
    check_may_listen(endpoint, params(), ListenFilter(tools=True), ALICE)
    with pytest.raises(ForbiddenError):
        check_may_listen(endpoint, params(), ListenFilter(), person("eve", "nothing:at-all"))
    check_may_listen(without, params(), wanted, ALICE)
    async with watch_tasks(without, VIEWER, ("x",), hearing()) as agreed:
        assert agreed == ()


def test_a_change_is_worded_for_its_stream() -> None:
    told = json.loads(tag_change(Change(TASK_CHANGED, params=b'{"taskId":"1"}'), "s"))
    assert told["params"] == {
        "_meta": {"io.modelcontextprotocol/subscriptionId": "s"},
        "taskId": "1",
    }
    told = json.loads(tag_change(Change("notifications/resources/updated", "a:b"), "s"))
    assert told["params"]["uri"] == "a:b"
