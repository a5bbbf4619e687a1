"""Whose an elicitation id is: told once, to the session that knows it, and to nobody where that is unsure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.support.providers import make_call
from waygate_mcp.errors import CapabilityMissingError
from waygate_mcp.model.call import Call, Question
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, REVISIONS, Revision
from waygate_mcp.upstreams.asked_urls import COMPLETED, AskedUrls
from waygate_mcp.upstreams.channel import Incoming, RemoteError


def by(session_id: str | None = "front-1", revision: Revision = LATEST_LEGACY) -> Call:
    return make_call("tools/call", {"name": "t"}, revision=revision, session_id=session_id)


def visit(identifier: Any = "e-1", mode: str = "url") -> Question:
    params = {"mode": mode, "message": "?", "url": "https://a.test", "elicitationId": identifier}
    return Question("elicitation/create", json.dumps(params).encode())


def completed(params: Any) -> Incoming:
    return Incoming(method=COMPLETED, params=msgspec.Raw(json.dumps(params).encode()))


def whose(asked: AskedUrls, identifier: str = "e-1") -> tuple[str, str] | None:
    return asked.complete(completed({"elicitationId": identifier}))


def required(*elicitations: Any, code: int = -32042) -> RemoteError:
    data = msgspec.Raw(json.dumps({"elicitations": elicitations}).encode())
    return RemoteError(code, "visit first", data)


def test_an_id_is_told_to_the_session_whose_call_was_asked_and_only_once() -> None:
    asked = AskedUrls()
    for front, name in (("front-1", "e-1"), ("front-2", "e-2")):
        with asked.asking(by(front), visit(name)) as is_url:
            assert is_url
    assert whose(asked, "e-2") == ("front-2", "e-2")
    assert whose(asked, "e-1") == ("front-1", "e-1")
    assert whose(asked, "e-1") is None


def test_an_id_that_is_known_while_the_question_is_open_may_complete_then() -> None:
    asked = AskedUrls()
    with asked.asking(by(), visit()):
        assert whose(asked) == ("front-1", "e-1")


def test_an_id_given_to_two_sessions_is_nobodys() -> None:
    asked = AskedUrls()
    for front in ("front-1", "front-2", "front-1"):
        with asked.asking(by(front), visit()):
            pass
    assert whose(asked) is None


def test_an_id_asked_of_one_session_twice_is_still_its_own() -> None:
    asked = AskedUrls()
    for _ in range(2):
        with asked.asking(by(), visit()):
            pass
    assert whose(asked) == ("front-1", "e-1")


@pytest.mark.parametrize(
    "call",
    [by(None), by(revision=REVISIONS["2025-06-18"]), by(revision=MODERN)],
    ids=["no session", "a revision without URLs", "a modern client"],
)
def test_who_cannot_be_told_is_not_noted(call: Call) -> None:
    asked = AskedUrls()
    with asked.asking(call, visit()) as is_url:
        assert not is_url
    assert not asked.note_error(call, required({"elicitationId": "e-1"}))
    assert whose(asked) is None


@pytest.mark.parametrize(
    "question",
    [
        visit(mode="form"),
        visit(7),
        visit("x" * 1_025),
        Question("elicitation/create", b'{"mode":"url","message":"?","url":"https://a.test"}'),
        Question("elicitation/create", b'{"message":"?"}'),
        Question("roots/list"),
    ],
)
def test_only_a_url_question_with_an_id_is_noted(question: Question) -> None:
    asked = AskedUrls()
    with asked.asking(by(), question) as is_url:
        assert not is_url
    assert not asked


def test_a_question_the_client_was_not_shown_leaves_no_id_behind() -> None:
    asked = AskedUrls()
    for question in (visit(), visit(mode="form")):
        with pytest.raises(CapabilityMissingError), asked.asking(by(), question):
            raise CapabilityMissingError({"elicitation": {"url": {}}})
    assert not asked


def test_the_ids_in_an_error_are_those_of_the_session_whose_call_it_ends() -> None:
    asked = AskedUrls()
    assert asked.note_error(by(), required({"elicitationId": "e-1"}, {"elicitationId": "e-2"}))
    assert whose(asked, "e-2") == ("front-1", "e-2")
    assert whose(asked, "e-1") == ("front-1", "e-1")


@pytest.mark.parametrize(
    "error",
    [
        required({"elicitationId": "e-1"}, code=-32603),
        required({"url": "https://a.test"}),
        required({"elicitationId": "x" * 1_025}),
        required(),
        RemoteError(-32042),
        RemoteError(-32042, data=msgspec.Raw(b"[1]")),
    ],
)
def test_an_error_that_names_no_id_notes_none(error: RemoteError) -> None:
    asked = AskedUrls()
    assert not asked.note_error(by(), error)
    assert not asked


@pytest.mark.parametrize("params", [None, {}, {"elicitationId": 1}, {"elicitationId": "e-9"}, []])
def test_a_completion_that_names_no_known_id_is_nobodys(params: Any) -> None:
    asked = AskedUrls()
    with asked.asking(by(), visit()):
        pass
    assert asked.complete(completed(params)) is None
    assert asked.complete(Incoming(method=COMPLETED)) is None
    assert len(asked) == 1


def test_the_oldest_ids_are_forgotten_where_there_are_too_many() -> None:
    asked = AskedUrls()
    for number in range(1_001):
        with asked.asking(by(), visit(f"e-{number}")):
            pass
    assert len(asked) == 1_000
    assert whose(asked, "e-0") is None
    assert whose(asked, "e-1") is not None
