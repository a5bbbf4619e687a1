"""Ids of tasks on the two sides, wherever they stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.providers import make_call
from waygate_mcp.model.call import Answer, InputRequired, Question, Reply
from waygate_mcp.model.catalog import Entry, Kind, Listing
from waygate_mcp.protocol.tasks import RELATED_TASK_KEY, TASKS_EXTENSION
from waygate_mcp.upstreams.task_messages import (
    answer_of_task,
    names_tasks,
    question_of_task,
    readdressed,
    task_param,
    without_related,
    without_task_support,
)


def about_task() -> Any:
    call = make_call("tasks/result", {"taskId": "handle"})
    call.name, call.target = "handle", "id-1"
    return call


def related(task_id: str, **more: Any) -> dict[str, Any]:
    return {RELATED_TASK_KEY: {"taskId": task_id}, **more}


def test_a_reply_about_a_task_names_it_by_the_clients_handle() -> None:
    meta = json.dumps(related("id-1", x=1)).encode()
    reply = readdressed(Reply(b'{"taskId":"id-1","status":"working"}', meta), about_task())
    assert reply.result == b'{"taskId":"handle","status":"working"}'
    assert json.loads(reply.meta or b"") == related("handle", x=1)
    plain = Reply(b'{"content": []}')
    assert readdressed(plain, about_task()) == plain


def test_the_result_of_an_awaited_task_does_not_say_that_it_was_one() -> None:
    meta = json.dumps(related("id-1")).encode()
    assert without_related(Reply(b"{}", meta)) == Reply(b"{}")
    kept = json.dumps(related("id-1", x=1)).encode()
    assert without_related(Reply(b"{}", kept)) == Reply(b"{}", b'{"x":1}')
    for other in (Reply(b"{}"), Reply(b"{}", b"[]"), InputRequired({}, "state")):
        assert without_related(other) == other


def question(meta: Any = None) -> Question:
    params = {"message": "?", **({} if meta is None else {"_meta": meta})}
    return Question("elicitation/create", json.dumps(params).encode(), "k")


def test_a_question_of_a_task_names_the_handle_where_the_client_knows_of_the_task() -> None:
    asked = question_of_task(question(related("id-1", x=1)), about_task(), "id-1")
    assert json.loads(asked.params) == {"message": "?", "_meta": related("handle", x=1)}
    assert asked.key == "k"


def test_a_question_of_an_awaited_task_names_none() -> None:
    call = make_call("tools/call", {"name": "t"})
    asked = question_of_task(question(related("id-1")), call, "id-1")
    assert json.loads(asked.params) == {"message": "?"}
    asked = question_of_task(question(related("id-1", x=1)), call, "id-1")
    assert json.loads(asked.params) == {"message": "?", "_meta": {"x": 1}}


@pytest.mark.parametrize("meta", [None, {"x": 1}])
def test_a_question_that_names_no_task_is_asked_as_it_is(meta: Any) -> None:
    given = question(meta)
    assert question_of_task(given, about_task(), "id-1") == given
    assert question_of_task(question(related("id-1")), about_task(), None) == question(
        related("id-1")
    )


def test_an_answer_names_the_task_by_the_upstreams_id() -> None:
    answer = answer_of_task(Answer(b'{"action":"accept","n":1.50}'), "id-1")
    assert answer.result is not None
    assert b'"n":1.50' in answer.result
    assert json.loads(answer.result)["_meta"] == related("id-1")
    told = Answer(json.dumps({"action": "accept", "_meta": related("handle", x=1)}).encode())
    answer = answer_of_task(told, "id-1")
    assert json.loads(answer.result or b"")["_meta"] == related("id-1", x=1)


@pytest.mark.parametrize("answer", [Answer(None, -1, "no"), Answer(b"[]"), Answer(b'{"_meta":1}')])
def test_an_answer_that_has_no_place_for_an_id_goes_as_it_is(answer: Answer) -> None:
    assert answer_of_task(answer, "id-1") == answer


def test_an_answer_to_no_task_goes_as_it_is() -> None:
    assert answer_of_task(Answer(b"{}"), None) == Answer(b"{}")


def test_what_a_client_wants_of_a_task_is_taken_as_it_is() -> None:
    assert task_param(make_call("tools/call", {"name": "t", "task": {"ttl": 5}})) == b'{"ttl":5}'
    assert task_param(make_call("tools/call", {"name": "t", "task": {}})) == b"{}"
    assert task_param(make_call("tools/call", {"name": "t", "task": True})) is None
    assert task_param(make_call("tools/call", {"name": "t"})) is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (json.dumps({"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}), True),
        (json.dumps({"requiredCapabilities": {"extensions": {"x/y": {}}}}), False),
        (json.dumps({"requiredCapabilities": {"sampling": {}}}), False),
        (json.dumps({"requiredCapabilities": []}), False),
        ("", False),
        ("[]", False),
    ],
)
def test_an_error_may_say_that_tasks_are_needed(data: str, found: bool) -> None:
    assert names_tasks(data.encode()) is found


def test_tools_are_shown_without_what_promises_nothing() -> None:
    entry = Entry(Kind.TOOL, "t", b'{"name":"t","execution":{"taskSupport":"required"}}')
    listing = without_task_support(Listing((entry,), 7))
    assert listing == Listing((Entry(Kind.TOOL, "t", b'{"name":"t"}'),), 7)
