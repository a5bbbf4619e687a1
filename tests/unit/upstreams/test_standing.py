from __future__ import annotations

from typing import Any

import pytest

from tests.support.providers import BOB, make_call
from waygate_mcp.model.call import Call
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.upstreams import standing as module
from waygate_mcp.upstreams.standing import Standing


def call(uri: str, method: str = "resources/subscribe", **more: Any) -> Call:
    return make_call(method, {"uri": uri}, **more)


def uris(standing: Standing) -> list[str]:
    return [kept.target for kept in standing.calls()]


def test_a_subscription_stands_until_it_was_ended_as_often_as_it_was_made() -> None:
    standing = Standing()
    for _ in range(2):
        standing.note(call("a://b"))
    standing.note(call("a://c"))
    standing.note(make_call("tools/call", {"name": "t"}))
    assert uris(standing) == ["a://b", "a://b", "a://c"]
    assert {kept.caller for kept in standing.calls()} == {NOBODY}
    standing.note(call("a://b", "resources/unsubscribe"))
    assert uris(standing) == ["a://b", "a://c"]
    for _ in range(2):
        standing.note(call("a://b", "resources/unsubscribe"))
    assert uris(standing) == ["a://c"]
    standing.drop(call("a://c"))
    assert len(standing) == 0


def test_subscriptions_of_different_callers_stand_apart_and_end_with_their_session() -> None:
    standing = Standing()
    standing.note(call("a://b", session_id="front-1"))
    standing.note(call("a://c", session_id="front-1"))
    standing.note(call("a://b", session_id="front-2"))
    standing.note(call("a://b"))
    standing.note(call("a://b", principal=BOB))
    assert len(standing) == 5
    standing.forget("front-1")
    assert uris(standing) == ["a://b"] * 3
    standing.note(call("a://b", "resources/unsubscribe", principal=BOB))
    assert {(kept.session_id, kept.principal.id) for kept in standing.calls()} == {
        ("front-2", "key:alice"),
        (None, "key:alice"),
    }


def test_no_more_are_remembered_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KEPT", 2)
    standing = Standing()
    for number in range(3):
        standing.note(call(f"a://{number}"))
    assert uris(standing) == ["a://0", "a://1"]
