"""The sealed texts in `requestState`: bound to one call of one principal, for a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dialogues import person, ring
from tests.support.providers import make_call
from waygate_mcp.errors import InvalidStateError, TooLargeError
from waygate_mcp.gateway.tickets import INVALID_STATE, Tickets
from waygate_mcp.model.call import Call
from waygate_mcp.protocol.seal import KeyRing

ALICE, BOB = person("alice"), person("bob")


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def tickets(clock: Clock | None = None, keys: KeyRing | None = None) -> Tickets:
    return Tickets(keys or ring(), "node", clock or Clock())


def call(name: str = "tool", arguments: Any = None, **more: Any) -> Call:
    params = {"name": name, **({} if arguments is None else {"arguments": arguments})}
    return make_call("tools/call", params, **{"principal": ALICE, **more})


def reason(opened: Any) -> str:
    with pytest.raises(InvalidStateError) as caught:
        opened()
    assert caught.value.safe_message == INVALID_STATE
    return caught.value.reason


def test_a_ticket_comes_back_with_what_was_put_in() -> None:
    desk = tickets()
    parked = desk.open(desk.for_parked(call(), "exchange", 3, 60), call())
    assert (parked.kind, parked.node, parked.exchange, parked.round) == (
        "parked",
        "node",
        "exchange",
        3,
    )
    relay = desk.open(desk.for_relay(call(), "where we were", 60), call())
    assert (relay.kind, relay.state) == ("relay", "where we were")
    assert desk.open(desk.for_relay(call(), None, 60), call()).state is None


def test_the_order_and_spacing_of_arguments_do_not_matter() -> None:
    desk = tickets()
    text = desk.for_relay(call(arguments={"a": 1, "b": {"c": 2, "d": 2**70}}), None, 60)
    desk.open(text, call(arguments={"b": {"d": 2**70, "c": 2}, "a": 1}))


@pytest.mark.parametrize(
    "other",
    [
        call(name="other"),
        call(arguments={}),
        call(arguments={"a": 2}),
        call(principal=BOB),
        make_call("prompts/get", {"name": "tool", "arguments": {"a": 1}}, principal=ALICE),
    ],
    ids=["name", "no arguments", "arguments", "principal", "method"],
)
def test_a_ticket_of_another_call_is_refused(other: Call) -> None:
    desk = tickets()
    text = desk.for_parked(call(arguments={"a": 1}), "exchange", 1, 60)
    assert reason(lambda: desk.open(text, other)) == "foreign"


def test_a_ticket_of_another_endpoint_is_refused() -> None:
    desk = tickets()
    elsewhere = call()
    elsewhere.endpoint = "other"
    assert reason(lambda: desk.open(desk.for_relay(call(), None, 60), elsewhere)) == "foreign"


def test_a_ticket_lives_as_long_as_it_was_given_and_no_longer() -> None:
    clock = Clock()
    desk = tickets(clock)
    text = desk.for_relay(call(), None, 60)
    clock.now_s += 60
    desk.open(text, call())
    clock.now_s += 1
    assert reason(lambda: desk.open(text, call())) == "expired"


def test_what_is_no_text_or_was_not_sealed_here_is_refused() -> None:
    desk = tickets()
    text = desk.for_relay(call(), None, 60)
    altered = ("A" if text[-1] != "A" else "B").join((text[:-1], ""))
    assert reason(lambda: desk.open(7, call())) == "not_text"
    for forged in ("", "nonsense", altered, text[:-8]):
        assert reason(lambda forged=forged: desk.open(forged, call())) == "forged"
    foreign = tickets(keys=KeyRing.from_master(b"x" * 32)).for_relay(call(), None, 60)
    assert reason(lambda: desk.open(foreign, call())) == "forged"


def test_a_sealed_text_of_another_kind_is_no_ticket() -> None:
    keys = ring()
    desk = tickets(keys=keys)
    assert reason(lambda: desk.open(keys.seal(b"\x90", "ticket"), call())) == "forged"
    session = keys.seal(b"anything", "session")
    assert reason(lambda: desk.open(session, call())) == "forged"


def test_a_state_too_large_for_a_ticket_is_refused_with_its_limit() -> None:
    desk = tickets()
    desk.open(desk.for_relay(call(), "x" * 48 * 1024, 60), call())
    with pytest.raises(TooLargeError) as caught:
        desk.for_relay(call(), "é" * 25 * 1024, 60)
    assert caught.value.limit_bytes == 48 * 1024
