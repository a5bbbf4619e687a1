"""Subscriptions that outlive a connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.providers import ALICE, BOB, Announced, make_call
from waygate_mcp.errors import LocalProtocolError, UpstreamUnavailableError
from waygate_mcp.model.call import Call, Outcome, Question, Reply
from waygate_mcp.model.event import ResourceUpdated
from waygate_mcp.upstreams.subscriptions import Subscriptions


def subscribe(uri: str, **more: Any) -> Call:
    return make_call("resources/subscribe", {"uri": uri}, **more)


class Upstream:
    """Notes what it is asked for again; refuses what is in `refused`."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.refused: set[str] = set()

    async def make(self, call: Call) -> Outcome:
        self.asked.append(call)
        if call.target in self.refused:
            raise UpstreamUnavailableError("up", "gone")
        return Reply(b"{}")


async def renewed(subscriptions: Subscriptions, upstream: Upstream) -> list[Any]:
    announced = Announced()
    await subscriptions.renew("up", upstream.make, announced, 1_000.0)
    return list(announced.events)


async def test_what_was_subscribed_to_is_asked_for_again_and_told_as_changed() -> None:
    subscriptions, upstream = Subscriptions(), Upstream()
    for call in (subscribe("a://1"), subscribe("a://2", session_id="s"), subscribe("a://1")):
        subscriptions.note(call)
    events = await renewed(subscriptions, upstream)
    assert [(call.target, call.session_id) for call in upstream.asked] == [
        ("a://1", None), ("a://1", None), ("a://2", "s"),
    ]  # fmt: skip
    assert upstream.asked[0].deadline_s > 1_000.0
    assert ResourceUpdated("up", "a://2") in events
    assert len(subscriptions) == 2


async def test_what_was_taken_back_is_not_asked_for_and_counts_by_subscriber() -> None:
    subscriptions, upstream = Subscriptions(), Upstream()
    for principal in (ALICE, ALICE, BOB):
        subscriptions.note(subscribe("a://1", principal=principal))
    subscriptions.take_back(subscribe("a://1", principal=ALICE))
    subscriptions.take_back(subscribe("a://1", principal=BOB))
    subscriptions.take_back(subscribe("a://1", principal=BOB))
    await renewed(subscriptions, upstream)
    assert [call.principal for call in upstream.asked] == [ALICE]


async def test_one_taken_back_while_others_are_renewed_is_left_out() -> None:
    subscriptions, upstream = Subscriptions(), Upstream()
    first, second = subscribe("a://1"), subscribe("a://2")
    subscriptions.note(first)
    subscriptions.note(second)

    async def make(call: Call) -> Outcome:
        subscriptions.take_back(second)
        return await upstream.make(call)

    await subscriptions.renew("up", make, Announced(), 0.0)
    assert [call.target for call in upstream.asked] == ["a://1"]


async def test_one_that_is_refused_hinders_no_other() -> None:
    subscriptions, upstream = Subscriptions(), Upstream()
    upstream.refused = {"a://1"}
    subscriptions.note(subscribe("a://1"))
    subscriptions.note(subscribe("a://2"))
    assert await renewed(subscriptions, upstream) == [ResourceUpdated("up", "a://2")]


def test_a_session_that_is_over_leaves_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.note(subscribe("a://1", session_id="s"))
    subscriptions.note(subscribe("a://1"))
    subscriptions.forget_session("s")
    assert [call.session_id for call in subscriptions.calls()] == [None]


def test_they_are_bounded_and_the_oldest_go_first() -> None:
    subscriptions = Subscriptions(most=2)
    for number in range(4):
        subscriptions.note(subscribe(f"a://{number}"))
    assert [call.target for call in subscriptions.calls()] == ["a://2", "a://3"]


def test_another_connection_takes_them_over_and_leaves_the_old_ones() -> None:
    old, new = Subscriptions(), Subscriptions()
    old.note(subscribe("a://1"))
    new.take_over(old)
    new.take_back(subscribe("a://1"))
    assert (len(old), len(new)) == (1, 0)


async def test_nothing_of_the_request_is_kept_and_nobody_can_be_asked() -> None:
    subscriptions = Subscriptions()
    call = subscribe("a://1")
    subscriptions.note(call)
    (kept,) = subscriptions.calls()
    assert kept.caller is not call.caller
    assert (kept.body, kept.headers, kept.caller.log_level) == (b"", None, None)
    await kept.caller.emit(None)  # type: ignore[arg-type]  # it looks at nothing
    await kept.caller.close_stream()
    with pytest.raises(LocalProtocolError):
        await kept.caller.ask(Question("roots/list"))
