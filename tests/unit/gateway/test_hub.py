"""Changes on their way to those who listen: coalesced, filtered, never lost."""

from __future__ import annotations

import asyncio

from tests.support.dialogues import person
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.gateway.hub import ELICITATION_COMPLETE, TASK_CHANGED, Change, Hub, Listener
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, ListChanged, ResourceUpdated

TOOLS = Change("notifications/tools/list_changed")
PROMPTS = Change("notifications/prompts/list_changed")
RESOURCES = Change("notifications/resources/list_changed")


def listener(*kinds: Kind, endpoint: str = "default") -> Listener:
    return Listener(endpoint, person("alice"), frozenset(kinds))


@virtual_time
async def test_a_list_that_changed_twice_before_it_was_told_is_told_once() -> None:
    hub, hears = Hub(), listener(*Kind)
    hub.add(hears)
    for kind in (Kind.TOOL, Kind.PROMPT, Kind.TOOL, Kind.RESOURCE, Kind.TEMPLATE):
        hub.announce(ListChanged("box", kind))
    assert await hears.take() == [TOOLS, PROMPTS, RESOURCES]
    hub.announce(ListChanged("box", Kind.TOOL))
    assert await hears.take() == [TOOLS]


@virtual_time
async def test_a_listener_waits_until_there_is_something() -> None:
    hub, hears = Hub(), listener(Kind.TOOL)
    hub.add(hears)
    taking = asyncio.get_running_loop().create_task(hears.take())
    await settle()
    assert not taking.done()
    hub.announce(ListChanged("box", Kind.TOOL))
    assert await taking == [TOOLS]


@virtual_time
async def test_only_what_is_wanted_is_offered() -> None:
    hub, hears = Hub(), listener(Kind.PROMPT)
    hub.add(hears)
    hears.uris.add("memo://a")
    hub.announce(ListChanged("box", Kind.TOOL))
    hub.announce(ResourceUpdated("box", "memo://b"))
    hub.announce(ResourceUpdated("box", "memo://a"))
    hub.announce(ListChanged("box", Kind.PROMPT))
    assert await hears.take() == [Change("notifications/resources/updated", "memo://a"), PROMPTS]


@virtual_time
async def test_only_endpoints_that_bind_the_provider_hear_of_it() -> None:
    hub = Hub()
    here, there = listener(Kind.TOOL, endpoint="a"), listener(Kind.TOOL, endpoint="b")
    hub.add(here)
    hub.add(there)
    hub.route_by(lambda endpoint, provider: (endpoint, provider) == ("a", "box"))
    hub.announce(ListChanged("box", Kind.TOOL))
    hub.close()
    assert await here.take() == [TOOLS]
    assert await there.take() is None


@virtual_time
async def test_an_update_is_told_under_the_uri_of_the_endpoint_or_not_at_all() -> None:
    hub = Hub()
    here, there = listener(endpoint="a"), listener(endpoint="b")
    for each in (here, there):
        each.uris |= {"memo://a", "two+memo://a"}
        hub.add(each)
    hub.route_by(
        lambda _endpoint, _provider: True,
        lambda endpoint, provider, uri: f"{provider}+{uri}" if endpoint == "a" else None,
    )
    hub.announce(ResourceUpdated("two", "memo://a"))
    hub.close()
    assert await here.take() == [Change("notifications/resources/updated", "two+memo://a")]
    assert await there.take() is None


@virtual_time
async def test_a_removed_listener_hears_no_more() -> None:
    hub, hears = Hub(), listener(Kind.TOOL)
    hub.add(hears)
    assert len(hub) == 1
    hub.remove(hears)
    hub.remove(hears)
    assert len(hub) == 0
    hub.announce(ListChanged("box", Kind.TOOL))
    hears.close()
    assert await hears.take() is None


@virtual_time
async def test_a_closed_listener_gives_what_is_due_and_then_its_end_for_ever() -> None:
    hears = listener(Kind.TOOL)
    hears.offer(TOOLS)
    hears.close()
    hears.offer(PROMPTS)
    assert await hears.take() == [TOOLS]
    assert await hears.take() is None
    assert await hears.take() is None


@virtual_time
async def test_of_two_who_take_at_once_one_gets_it_and_the_other_nothing() -> None:
    hears = listener(Kind.TOOL)
    both = asyncio.gather(hears.take(), hears.take())
    await settle()
    hears.offer(TOOLS)
    await settle()
    first, second = await both
    assert (first, second) == ([TOOLS], [])


@virtual_time
async def test_a_take_that_was_given_up_loses_nothing() -> None:
    hears = listener(Kind.TOOL)
    taking = asyncio.get_running_loop().create_task(hears.take())
    await settle()
    hears.offer(TOOLS)
    taking.cancel()
    await settle()
    assert taking.cancelled()
    assert await hears.take() == [TOOLS]


@virtual_time
async def test_after_a_reload_every_list_may_have_changed() -> None:
    hub = Hub()
    everything, one = listener(*Kind), listener(Kind.PROMPT)
    hub.add(everything)
    hub.add(one)
    hub.announce_everything()
    assert await everything.take() == [PROMPTS, RESOURCES, TOOLS]
    assert await one.take() == [PROMPTS]


@virtual_time
async def test_of_a_task_that_changed_twice_before_it_was_told_the_last_is_told() -> None:
    hears = listener(Kind.TOOL)
    hears.offer_task("a", b'{"n":1}')
    hears.offer(TOOLS)
    hears.offer_task("b", b'{"n":2}')
    hears.offer_task("a", b'{"n":3}')
    assert await hears.take() == [
        TOOLS,
        Change(TASK_CHANGED, params=b'{"n":3}'),
        Change(TASK_CHANGED, params=b'{"n":2}'),
    ]
    hears.close()
    hears.offer_task("a", b"{}")
    assert await hears.take() is None


async def test_an_update_of_one_sessions_own_subscription_is_told_to_that_session_alone() -> None:
    hub = Hub()
    listeners = [
        Listener("default", person("alice"), frozenset(), session)
        for session in ("front-1", "front-2", None)
    ]
    for one in listeners:
        one.uris.add("memo://a")
        hub.add(one)
    hub.announce(ResourceUpdated("box", "memo://a", "front-1"))
    assert [bool(one._due) for one in listeners] == [True, False, False]
    hub.announce(ResourceUpdated("box", "memo://a"))
    assert [bool(one._due) for one in listeners] == [True, True, True]


def completion(identifier: str) -> Change:
    return Change(ELICITATION_COMPLETE, params=b'{"elicitationId":"%b"}' % identifier.encode())


@virtual_time
async def test_a_completed_elicitation_is_told_to_its_session_and_to_nobody_else() -> None:
    hub = Hub()
    asked, other = (
        Listener("default", person("alice"), frozenset(Kind), name) for name in ("s-1", "s-2")
    )
    modern, elsewhere = listener(*Kind), Listener("b", person("alice"), frozenset(), "s-1")
    hub.route_by(lambda endpoint, _provider: endpoint == "default")
    for each in (asked, other, modern, elsewhere):
        hub.add(each)
    hub.announce(ElicitationCompleted("box", "s-1", "e-1"))
    hub.announce(ElicitationCompleted("box", "s-1", "e-2"))
    hub.close()
    assert await asked.take() == [completion("e-1"), completion("e-2")]
    for each in (other, modern, elsewhere):
        assert await each.take() is None


@virtual_time
async def test_of_completed_elicitations_nobody_takes_the_oldest_are_dropped() -> None:
    hears = listener()
    for number in range(300):
        hears.offer_completion(f"e-{number}")
    hears.close()
    hears.offer_completion("late")
    due = await hears.take()
    assert due is not None
    assert (len(due), due[0], due[-1]) == (256, completion("e-44"), completion("e-299"))
