"""What outlives a reload, and how it ends."""

from __future__ import annotations

import asyncio

from tests.support.dialogues import accepted, live_state, person
from tests.support.exchanges import ALICE, BOB, Scene
from tests.support.scripted import form, text
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.gateway.hub import Listener
from waygate_mcp.model.call import Call, Outcome


async def hangs(call: Call) -> Outcome:
    await asyncio.Event().wait()
    return text("never")


async def asks(call: Call) -> Outcome:
    await call.caller.ask(form())
    return text("done")


@virtual_time
async def test_no_two_processes_have_the_same_name() -> None:
    assert live_state().node != live_state().node


@virtual_time
async def test_draining_ends_listeners_and_what_is_parked_but_no_session() -> None:
    scene = Scene()
    live = scene.live
    session = scene.session()
    listener = Listener("default", person("alice"), frozenset())
    live.hub.add(listener)
    parked = scene.begin(asks)
    await parked.front.over()
    live.drain()
    await settle()
    assert parked.task.done()
    assert listener.is_closed
    assert session.token is not None
    assert live.sessions.find(session.token, "default", session.principal) is session


@virtual_time
async def test_draining_lets_a_call_finish_whose_client_waits() -> None:
    scene = Scene()
    running = scene.begin(asks)
    scene.live.drain()  # it has not asked yet
    await running.front.over()
    scene.live.parking.all()[0].front = running.front  # somebody is attached
    scene.live.drain()
    await settle()
    assert not running.task.done()
    running.exchange.front = None
    await running.retry({"w1": accepted()})
    await running.task


@virtual_time
async def test_closing_ends_sessions_too() -> None:
    scene = Scene()
    scene.session()
    scene.live.close()
    assert len(scene.live.sessions) == 0


@virtual_time
async def test_who_is_dismissed_has_nothing_open_and_its_clients_read_why() -> None:
    scene = Scene()
    live, parked = scene.live, scene.begin(asks)
    await parked.front.over()
    theirs = Listener("default", ALICE, frozenset())
    other = Listener("default", BOB, frozenset())
    live.hub.add(theirs)
    live.hub.add(other)
    session = scene.session()
    running = scene.begin_legacy(hangs, session)
    session.calls[1] = running.exchange
    await settle()
    live.dismiss(ALICE)
    told = await running.front.over()
    assert told["error"]["code"] == 4401
    assert "was revoked or has expired" in told["error"]["message"]
    await settle()
    assert parked.task.done()
    assert theirs.is_closed
    assert not other.is_closed
    assert session.token is not None
    assert live.sessions.find(session.token, "default", ALICE) is None
    assert live.dismissed == {ALICE.id}
