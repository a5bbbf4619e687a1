from __future__ import annotations

import json

import msgspec
import pytest

from waygate_mcp.errors import CapabilityMissingError
from waygate_mcp.model.call import Answer, Question
from waygate_mcp.protocol.versions import REVISIONS
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.questions import (
    answer_for,
    answer_message,
    input_required,
    input_responses,
    question_of,
    refusal_message,
    url_questions,
    was_declined,
)
from waygate_mcp.upstreams.slices import cut


def test_the_three_questions_are_read_and_nothing_else() -> None:
    for method in ("elicitation/create", "sampling/createMessage", "roots/list"):
        incoming = Incoming(id=1, method=method, params=msgspec.Raw(b'{"a":1}'))
        assert question_of(incoming) == Question(method, b'{"a":1}')
    assert question_of(Incoming(id=1, method="roots/list")) == Question("roots/list")
    assert question_of(Incoming(id=1, method="tools/call")) is None


@pytest.mark.parametrize(
    ("params", "key", "rest"),
    [
        (b'{"a":1,"_meta":{"waygate-mcp/inputKey":"k"}}', "k", b'{"a":1}'),
        (b'{"_meta":{"waygate-mcp/inputKey":"k","x":2}}', "k", b'{"_meta":{"x":2}}'),
        (b'{"_meta":{"waygate-mcp/inputKey":5}}', None, None),
        (b'{"message":"waygate-mcp/inputKey"}', None, None),
        (b'["waygate-mcp/inputKey"]', None, None),
    ],
)
def test_a_key_named_by_a_gateway_of_ours_is_taken(
    params: bytes, key: str | None, rest: bytes | None
) -> None:
    question = question_of(Incoming(id=1, method="roots/list", params=msgspec.Raw(params)))
    assert question == Question("roots/list", params if rest is None else rest, key)


def test_answers_are_written_with_the_servers_own_id() -> None:
    assert json.loads(answer_message("x", Answer(b'{"action":"accept"}'))) == {
        "jsonrpc": "2.0", "id": "x", "result": {"action": "accept"}
    }  # fmt: skip
    refused = json.loads(answer_message(7, Answer(None, -1, "no")))
    assert (refused["id"], refused["error"]) == (7, {"code": -1, "message": "no"})
    assert b'"data":{"n":1.10}' in answer_message(7, Answer(None, -1, "no", b'{"n":1.10}'))
    assert json.loads(answer_message(7, Answer(None)))["error"]["code"] == -32603
    refusal = json.loads(refusal_message(7, CapabilityMissingError({"roots": {}}), -32601))
    assert refusal["error"]["code"] == -32601


def test_an_answer_is_written_as_the_servers_revision_has_it() -> None:
    blocks = b'[{"type":"text","text":"Hi"},{"type":"text","text":"there"}]'
    answer = Answer(b'{"role":"assistant","model":"m","content":%b}' % blocks)
    sampling, form = Question("sampling/createMessage"), Question("elicitation/create")
    old, new = REVISIONS["2025-06-18"], REVISIONS["2025-11-25"]
    folded = answer_for(old, sampling, answer).result
    assert json.loads(folded or b"")["content"] == {"type": "text", "text": "Hi\n\nthere"}
    assert answer_for(new, sampling, answer) == answer
    assert answer_for(old, form, answer) is answer
    refused = Answer(None, -1, "no")
    assert answer_for(old, sampling, refused) is refused


def test_input_required_becomes_questions_under_the_servers_keys() -> None:
    outcome = input_required(
        cut(
            b'{"inputRequests":{"k":{"method":"elicitation/create","params":{"message":"?","x":1.50}},'
            b'"r":{"method":"roots/list"}},"requestState":"st\\u00e4te"}'
        )
    )
    assert outcome.requests["k"] == Question("elicitation/create", b'{"message":"?","x":1.50}', "k")
    assert outcome.requests["r"] == Question("roots/list", b"{}", "r")
    assert outcome.state == "stäte"


def test_a_state_alone_is_enough() -> None:
    outcome = input_required(cut(b'{"requestState":"s"}'))
    assert (dict(outcome.requests), outcome.state) == ({}, "s")


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"inputRequests":{}}',
        b'{"inputRequests":{"k":{"method":"tools/call"}}}',
        b'{"inputRequests":[1]}',
        b'{"requestState":5}',
        json.dumps(
            {"inputRequests": {str(n): {"method": "roots/list"} for n in range(65)}}
        ).encode(),
    ],
)
def test_input_required_without_sense_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's errors are among them
        input_required(cut(raw))


def test_answers_of_a_retry_are_relayed_as_they_are() -> None:
    assert input_responses({"k": b'{"n":1.50}'}) == b'{"k":{"n":1.50}}'


def test_the_urls_of_an_error_become_questions() -> None:
    data = json.dumps(
        {
            "elicitations": [
                {"mode": "url", "elicitationId": "e", "url": "https://a", "message": "m"}
            ]
        }
    ).encode()
    (question,) = url_questions(data).values()
    assert json.loads(question.params) == {"mode": "url", "message": "m", "url": "https://a"}
    malformed = (b"", b"{}", b"[]", b'{"elicitations":[{}]}', b'{"elicitations":[1]}')
    of_wrong_type = (b'{"elicitations":[{"url":1}]}', b'{"elicitations":[{"url":"u","message":1}]}')
    for data in malformed + of_wrong_type:
        assert url_questions(data) == {}


def test_what_an_error_says_of_a_url_besides_stays_as_it_was_written() -> None:
    one = b'{"x":1.10,"elicitationId":"e","url":"https:\\/\\/a","mode":"url"}'
    ((key, question),) = url_questions(b'{"elicitations":[%b]}' % one).items()
    assert (key, question.key) == ("url1", "url1")
    assert question.params == b'{"message":"","x":1.10,"url":"https:\\/\\/a","mode":"url"}'


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"action":"accept"}', False),
        (b'{"action":"decline"}', True),
        (b'{"action":"cancel"}', True),
        (b"[]", True),
        (b"{}", True),
    ],
)
def test_only_an_acceptance_is_no_refusal(answer: bytes, expected: bool) -> None:
    assert was_declined(answer) is expected
