"""Whom a message of a legacy upstream is about, and when that is nobody's to say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.support.providers import ALICE, BOB, FakeCaller, make_call
from waygate_mcp.model.call import Answer, Question
from waygate_mcp.protocol.tasks import RELATED_TASK_KEY
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.live_calls import LiveCall, LiveCalls


def calls_of(*wanted: dict[str, Any]) -> LiveCalls:
    """Requests r-1, r-2 …; `task` says that one waits for that task."""
    calls = LiveCalls()
    for number, given in enumerate(wanted, start=1):
        task_id = given.pop("task", None)
        call = make_call("tools/call", {"name": "t"}, **given)
        live = LiveCall(call, f"r-{number}", f"token-{number}")
        live.task_id = task_id
        calls[live.identifier] = live
    return calls


def message(method: str, params: dict[str, Any], identifier: str | None = None) -> Incoming:
    return Incoming(identifier, method, msgspec.Raw(json.dumps(params).encode()))


def question(task_id: str | None = None) -> Incoming:
    meta = {} if task_id is None else {"_meta": {RELATED_TASK_KEY: {"taskId": task_id}}}
    return message("elicitation/create", {"message": "?", **meta}, "q")


def owner(calls: LiveCalls, incoming: Incoming) -> str | None:
    found = calls.owner_of(incoming)
    return None if found is None else found.identifier


def test_progress_is_attributed_by_its_token() -> None:
    calls = calls_of({"principal": ALICE}, {"principal": BOB})
    progress = message("notifications/progress", {"progressToken": "token-2", "progress": 1})
    assert (owner(calls, progress), calls.claim(progress, 2, is_shared=False)) == ("r-2", "r-2")
    foreign = message("notifications/progress", {"progressToken": "other", "progress": 1})
    assert (owner(calls, foreign), calls.claim(foreign, 2, is_shared=False)) == (None, None)


def test_what_names_a_task_belongs_to_the_request_that_waits_for_it() -> None:
    calls = calls_of({"principal": BOB}, {"task": "a"}, {"task": "b", "principal": BOB})
    for task_id, wanted in (("a", "r-2"), ("b", "r-3"), ("c", None)):
        assert owner(calls, question(task_id)) == wanted
        assert calls.claim(question(task_id), 3, is_shared=True) == wanted


def test_what_names_no_task_is_never_about_a_request_that_waits_for_one() -> None:
    assert calls_of({"task": "a"}).claim(question(), 1, is_shared=False) is None
    calls = calls_of({"task": "a", "principal": BOB}, {"principal": ALICE})
    assert calls.claim(question(), 2, is_shared=False) == "r-2"


@pytest.mark.parametrize(
    ("wanted", "in_flight", "is_shared", "claimed"),
    [
        ([], 0, False, None),
        ([{}], 1, True, "r-1"),
        ([{}], 2, True, None),
        ([{}], 2, False, "r-1"),
        ([{}, {}], 2, False, None),
        ([{"session_id": "s"}, {"session_id": "s"}], 2, False, "r-2"),
        ([{"session_id": "s"}, {"session_id": "other"}], 2, False, None),
        ([{"session_id": "s"}, {"session_id": "s", "principal": BOB}], 2, False, None),
    ],
)
def test_a_question_and_a_log_line_are_one_callers_or_nobodys(
    wanted: list[dict[str, Any]], in_flight: int, is_shared: bool, claimed: str | None
) -> None:
    calls = calls_of(*[dict(one) for one in wanted])
    log = message("notifications/message", {"level": "info", "data": 1})
    for incoming in (question(), log):
        assert calls.claim(incoming, in_flight, is_shared=is_shared) == claimed
    assert calls.claim(message("notifications/other", {}), in_flight, is_shared=is_shared) is None


def test_on_the_sessions_own_stream_a_message_belongs_to_the_only_call_there_is() -> None:
    assert owner(calls_of({}), question()) == "r-1"
    assert owner(calls_of({}, {}), question()) is None
    assert owner(calls_of(), question()) is None


async def test_a_call_is_told_of_its_progress_and_its_log() -> None:
    caller = FakeCaller()
    live = LiveCall(make_call("tools/call", {"name": "t"}, caller=caller), "r-1", "token")
    await live.tell(message("notifications/progress", {"progressToken": "token", "progress": 1}))
    await live.tell(message("notifications/message", {"level": "info", "data": 1}))
    await live.tell(message("notifications/other", {}))
    assert len(caller.events) == 2


def test_an_answer_the_client_sent_along_is_used_where_the_key_is_known() -> None:
    call = make_call("tools/call", {"name": "t"}, input_responses={"k": b"{}"})
    live = LiveCall(call, "r-1", None)
    assert live.answered_before(Question("roots/list", key="k")) == Answer(b"{}")
    assert live.answered_before(Question("roots/list", key="other")) is None
    assert live.answered_before(Question("roots/list")) is None
