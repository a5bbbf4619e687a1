"""Questions in the middle of a legacy call: requests on its own stream, answered by (session, id)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.dialogues import EVERYTHING, FORM, accepted
from tests.support.exchanges import BOB, Front, Scene, respond
from tests.support.scripted import content_of, form, sampling, text
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.errors import LimitError
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Call, InputRequired, Outcome, Question, Reply
from waygate_mcp.model.decision import CallResult
from waygate_mcp.protocol.handshake import INPUT_KEY_META

CHOICES = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "g"}]}
    },
}
SEVERAL = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}},
}


async def asks_once(call: Call) -> Outcome:
    return text(f"hello {content_of(await call.caller.ask(form()))}")


def url(**more: Any) -> Question:
    params = {"mode": "url", "message": "Sign in", "url": "https://sign.test/in", **more}
    return Question("elicitation/create", json.dumps(params).encode())


def words(final: Any) -> str:
    return str(final["result"]["content"][0]["text"])


# --- one question


@virtual_time
async def test_a_question_is_a_request_on_the_calls_own_stream() -> None:
    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(asks_once, session)
    question = await running.front.event(1)
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "Name?"
    assert list(session.questions) == [question["id"]]
    assert respond(session, question, accepted(name="Bo"))
    assert words(await running.front.over()) == "hello {'name': 'Bo'}"
    assert session.questions == {}


@virtual_time
async def test_ids_of_questions_cannot_be_guessed_and_belong_to_one_session() -> None:
    scene = Scene()
    alice, bob = scene.session(), scene.session(principal=BOB)
    running = scene.begin_legacy(asks_once, alice)
    question = await running.front.event(1)
    assert len(question["id"]) >= 24
    assert not respond(bob, question, accepted(name="Mallory"))
    assert not respond(alice, {"id": "q-1"}, accepted(name="Mallory"))
    await settle()
    assert not running.task.done()
    assert respond(alice, question, accepted(name="Al"))
    assert not respond(alice, question, accepted(name="again"))
    assert words(await running.front.over()) == "hello {'name': 'Al'}"


@virtual_time
async def test_a_clients_error_reaches_the_asker_as_one() -> None:
    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(asks_once, session)
    question = await running.front.event(1)
    respond(session, question, code=-32601, message="no")
    assert words(await running.front.over()) == "hello error -32601"


@virtual_time
async def test_a_question_nobody_answers_expires() -> None:
    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(asks_once, session, question_s=60)
    started = now()
    assert words(await running.front.over()) == "hello cancel"
    assert now() - started == pytest.approx(60)
    assert session.questions == {}


@virtual_time
async def test_a_cancelled_call_leaves_no_question_behind() -> None:
    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(asks_once, session)
    await running.front.event(1)
    session.cancel_call(1, "cancelled by the client")
    assert await running.front.over() is None
    assert session.questions == {}
    assert running.exchange.result == CallResult.CANCELLED


# --- what each revision can be asked


async def _asked(question: Question, revision: str, declared: Any = None) -> Any:
    """What a client of a revision gets to see of a question, or the error it gets instead."""

    async def asks(call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(question))))

    scene = Scene()
    session = scene.session(revision, declared=EVERYTHING if declared is None else declared)
    running = scene.begin_legacy(asks, session)
    await settle()
    if running.front.finals:
        return running.front.finals[0][0]
    running.task.cancel()
    return running.front.events[0]


@virtual_time
async def test_a_question_by_url_gets_an_elicitation_id_unless_it_has_one() -> None:
    first = (await _asked(url(), "2025-11-25"))["params"]
    second = (await _asked(url(), "2025-11-25"))["params"]
    assert first["url"] == "https://sign.test/in"
    assert first["elicitationId"] != second["elicitationId"]
    kept = await _asked(url(elicitationId="theirs"), "2025-11-25")
    assert kept["params"]["elicitationId"] == "theirs"


@virtual_time
async def test_what_a_revision_does_not_have_is_not_asked() -> None:
    for question, revision in (
        (url(), "2025-06-18"),
        (form(), "2025-03-26"),
        (form(), "2024-11-05"),
    ):
        answer = await _asked(question, revision)
        assert answer["error"]["code"] == -32603, revision
        assert "requiredCapabilities" in answer["error"]["data"]


@virtual_time
async def test_what_the_client_did_not_declare_is_not_asked() -> None:
    answer = await _asked(sampling(), "2025-11-25", FORM)
    assert answer["error"]["data"] == {"requiredCapabilities": {"sampling": {}}}


@virtual_time
async def test_the_key_a_question_was_asked_under_travels_in_its_meta() -> None:
    asked = await _asked(form(key="name"), "2025-11-25")
    assert asked["params"]["_meta"] == {INPUT_KEY_META: "name"}
    assert "_meta" not in (await _asked(form(), "2025-11-25"))["params"]


@virtual_time
async def test_other_questions_pass_as_they_are() -> None:
    question = sampling()
    asked = await _asked(question, "2024-11-05", {"sampling": {}})
    assert asked["params"] == json.loads(question.params)


@virtual_time
async def test_samplings_are_rewritten_for_revisions_with_one_block_in_a_message() -> None:
    block = {"type": "text", "text": "Hi"}
    message = {"role": "user", "content": [block, block]}
    params = json.dumps({"messages": [message], "maxTokens": 1}).encode()
    question = Question("sampling/createMessage", params)
    old = await _asked(question, "2025-06-18", {"sampling": {}})
    assert old["params"]["messages"] == [{"role": "user", "content": block}] * 2
    new = await _asked(question, "2025-11-25", {"sampling": {}})
    assert new["params"]["messages"] == [message]


@virtual_time
async def test_forms_are_rewritten_for_2025_06_18() -> None:
    question = form(requestedSchema=CHOICES)
    new = (await _asked(question, "2025-11-25"))["params"]["requestedSchema"]
    assert new == CHOICES
    old = (await _asked(question, "2025-06-18"))["params"]["requestedSchema"]
    assert old["properties"]["colour"] == {
        "type": "string",
        "enum": ["r", "g"],
        "enumNames": ["Red", "g"],
    }


@virtual_time
async def test_a_choice_of_several_is_not_asked_of_2025_06_18() -> None:
    question = form(requestedSchema=SEVERAL)
    assert "params" in await _asked(question, "2025-11-25")
    answer = await _asked(question, "2025-06-18")
    assert answer["error"]["data"] == {"requiredCapabilities": {"elicitation": {"form": {}}}}


# --- providers that return their questions


class Rounds:
    """A provider that returns questions; what it was called with is kept."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[tuple[dict[str, Any] | None, str | None]] = []
        self.at: list[float] = []

    async def __call__(self, call: Call) -> Outcome:
        given = call.input_responses
        answers = None if given is None else {key: json.loads(raw) for key, raw in given.items()}
        self.seen.append((answers, call.request_state))
        self.at.append(now())
        return self.outcomes.pop(0)


async def answer_all(session: Session, front: Any, count: int) -> None:
    """Accept the first `count` questions as they come, each with its own number."""
    for number in range(1, count + 1):
        question = await front.event(number)
        respond(session, question, accepted(n=number))


@virtual_time
async def test_returned_questions_are_asked_at_once_and_the_answers_brought_back_with_the_state() -> (
    None
):
    scene = Scene()
    session = scene.session()
    provider = Rounds(InputRequired({"a": form("A?"), "b": form("B?")}, "page 2"), text("done"))
    running = scene.begin_legacy(provider, session)
    first, second = await running.front.event(1), await running.front.event(2)
    assert [first["params"]["message"], second["params"]["message"]] == ["A?", "B?"]
    respond(session, second, {"action": "decline"})
    respond(session, first, accepted(x=1))
    assert words(await running.front.over()) == "done"
    assert provider.seen == [
        (None, None),
        ({"a": accepted(x=1), "b": {"action": "decline"}}, "page 2"),
    ]


@virtual_time
async def test_rounds_of_only_a_state_back_off_from_50_ms_to_two_seconds() -> None:
    waits = [InputRequired({}, str(number)) for number in range(8)]
    provider = Rounds(*waits, text("done"))
    running = Scene().begin_legacy(provider)
    assert words(await running.front.over()) == "done"
    gaps = [round(b - a, 3) for a, b in zip(provider.at, provider.at[1:], strict=False)]
    assert gaps == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert provider.seen[1:] == [(None, str(number)) for number in range(8)]


@virtual_time
async def test_answers_of_one_round_are_not_given_again_in_the_next() -> None:
    scene = Scene()
    session = scene.session()
    provider = Rounds(InputRequired({"a": form()}, "1"), InputRequired({}, "2"), text("done"))
    running = scene.begin_legacy(provider, session)
    await answer_all(session, running.front, 1)
    await running.front.over()
    assert provider.seen == [(None, None), ({"a": accepted(n=1)}, "1"), (None, "2")]


@virtual_time
async def test_ten_rounds_are_enough() -> None:
    scene = Scene()
    session = scene.session()
    provider = Rounds(*(InputRequired({"a": form()}) for _ in range(10)), text("done"))
    running = scene.begin_legacy(provider, session)
    await answer_all(session, running.front, 10)
    assert words(await running.front.over()) == "done"
    provider = Rounds(*(InputRequired({"a": form()}) for _ in range(11)))
    running = scene.begin_legacy(provider, session, identifier=2)
    await answer_all(session, running.front, 10)
    final = await running.front.over()
    assert final["error"]["code"] == 4420
    assert "10 rounds" in final["error"]["message"]


@virtual_time
async def test_a_clients_error_cannot_be_an_input_response_and_ends_the_call() -> None:
    scene = Scene()
    session = scene.session()
    provider = Rounds(InputRequired({"a": form(), "b": form()}))
    running = scene.begin_legacy(provider, session)
    first, second = await running.front.event(1), await running.front.event(2)
    respond(session, second, accepted())
    respond(session, first, code=1234, message="broken")
    final = await running.front.over()
    assert (final["error"]["code"], final["error"]["message"]) == (1234, "broken")
    assert len(provider.seen) == 1


@virtual_time
async def test_a_returned_question_that_may_not_be_asked_is_told_as_such() -> None:
    scene = Scene()
    session = scene.session(declared=FORM)
    provider = Rounds(InputRequired({"a": form(), "b": sampling()}))
    running = scene.begin_legacy(provider, session)
    final = await running.front.over()
    assert final["error"]["data"] == {"requiredCapabilities": {"sampling": {}}}
    assert session.questions == {}
    assert running.front.events == []  # nobody would use the answer to the other one


@virtual_time
async def test_questions_that_cannot_be_sent_end_the_call_with_what_stood_in_the_way() -> None:
    class Broken(Front):
        async def send(self, message: bytes) -> None:
            raise LimitError("full", safe_message="Too much is unread.")

    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(Rounds(InputRequired({"a": form(), "b": form()})), session)
    running.exchange.front = running.front = Broken()
    final = await running.front.over()
    assert final["error"]["message"] == "Too much is unread."
    assert session.questions == {}


@virtual_time
async def test_a_call_cancelled_between_its_rounds_ends() -> None:
    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(Rounds(InputRequired({"a": form()})), session)
    await running.front.event(1)
    running.exchange.cancel("stop")
    assert await running.front.over() is None
    assert session.questions == {}
    await pass_time(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- the words of a result


@virtual_time
async def test_a_result_is_rewritten_for_an_old_reader_only_where_it_has_content() -> None:
    link = {"type": "resource_link", "uri": "memo://1", "name": "memo"}

    async def replies(call: Call) -> Outcome:
        return Reply(json.dumps({"content": [link]}).encode())

    scene = Scene()
    old = scene.session("2025-03-26")
    final = await scene.begin_legacy(replies, old).front.over()
    assert final["result"]["content"] == [{"type": "text", "text": "memo: memo://1"}]
    final = await scene.begin_legacy(replies, scene.session()).front.over()
    assert final["result"]["content"] == [link]
    final = await scene.begin_legacy(
        replies, old, identifier=2, method="resources/read"
    ).front.over()
    assert final["result"]["content"] == [link]


@virtual_time
@pytest.mark.parametrize(
    ("result", "meta", "told"),
    [
        (b'{"a":1}', None, {"a": 1}),
        (b'{"a":1}', b"{}", {"a": 1}),
        (b'{"a":1}', b'{"k":2}', {"_meta": {"k": 2}, "a": 1}),
        (b"{}", b'{"k":2}', {"_meta": {"k": 2}}),
    ],
)
async def test_meta_stands_in_the_result_where_there_is_any(
    result: bytes, meta: bytes | None, told: Any
) -> None:
    async def replies(call: Call) -> Outcome:
        return Reply(result, meta)

    final = await Scene().begin_legacy(replies).front.over()
    assert final["result"] == told
