"""Questions a server asks of the client, in both eras' shapes.

Knows `inputRequests` of modern results, the server requests of legacy streams, and how answers are
written back. Refuses to know who is asked.
Spec: 2026-07-28 basic/patterns/mrtr; 2025-11-25 client/elicitation, client/sampling, client/roots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import msgspec

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Answer, InputRequired, Question, QuestionMethod
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.handshake import INPUT_KEY_META, downgrade_sampled
from waygate_mcp.protocol.versions import Revision
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.slices import Members, NotAnObjectError, cut, join

__all__ = [
    "answer_for",
    "answer_message",
    "input_required",
    "input_responses",
    "question_of",
    "refusal_message",
    "url_questions",
    "was_declined",
]

_METHODS: frozenset[str] = frozenset(get_args(QuestionMethod))
_MAX_KEY_CHARS = 256
_MAX_QUESTIONS = 64
_MAX_URL_QUESTIONS = 16


class _InputRequest(msgspec.Struct):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _UrlErrorData(msgspec.Struct):
    """The `data` of error -32042."""

    elicitations: list[msgspec.Raw]


_decode_requests = msgspec.json.Decoder(dict[str, _InputRequest]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_url_error = msgspec.json.Decoder(_UrlErrorData).decode


def _is_question(method: str | None) -> bool:
    return method in _METHODS


def question_of(incoming: Incoming) -> Question | None:
    """Read a server's request as a question, None where it is another request.

    A legacy request has no key; a gateway of ours names it in `_meta`, so that a modern client behind
    two gateways sees the key the asker chose.
    """
    if not _is_question(incoming.method):
        return None
    method = cast("QuestionMethod", incoming.method)
    params = bytes(incoming.params) or b"{}"
    if INPUT_KEY_META.encode() not in params:
        return Question(method, params)
    key, rest = _take_key(params)
    return Question(method, rest, key)


def _take_key(params: bytes) -> tuple[str | None, bytes]:
    """Take the key out of `_meta`; without one the parameters stay as they are."""
    try:
        members = cut(params)
        meta = cut(members.get("_meta", msgspec.Raw(b"{}")))
        key = _decode_text(meta.pop(INPUT_KEY_META))
    except (NotAnObjectError, msgspec.DecodeError, KeyError):
        return None, params
    if meta:
        members["_meta"] = msgspec.Raw(join(meta))
    else:
        del members["_meta"]
    return key[:_MAX_KEY_CHARS], join(members)


def answer_for(revision: Revision, question: Question, answer: Answer) -> Answer:
    """Write a client's answer as a server of `revision` can read it."""
    if question.method != "sampling/createMessage" or answer.result is None:
        return answer
    return Answer(downgrade_sampled(answer.result, revision))


def answer_message(identifier: str | int, answer: Answer) -> bytes:
    """Write a client's answer as the response to the server's request `identifier`."""
    if answer.result is not None:
        return jsonrpc.encode_result(identifier, answer.result)
    code = answer.error_code or jsonrpc.INTERNAL_ERROR
    return jsonrpc.encode_error(identifier, code, answer.error_message, answer.error_data)


def refusal_message(identifier: str | int, error: WaygateError, code: int) -> bytes:
    """Write the response to a server's request that the client is not shown."""
    return jsonrpc.encode_error(identifier, code, error.safe_message)


def input_required(members: Members) -> InputRequired:
    """Read a result of type `input_required`.

    Raises:
        ValueError: neither questions nor a state, or a question that is none of the three.
    """
    requests: dict[str, Question] = {}
    raw = members.get("inputRequests")
    if raw is not None:
        for key, request in _decode_requests(raw).items():
            if not _is_question(request.method):
                raise ValueError(f"inputRequests holds {request.method[:80]!r}")
            method = cast("QuestionMethod", request.method)
            requests[key] = Question(method, bytes(request.params), key)
    state = members.get("requestState")
    if not requests and state is None:
        raise ValueError("input_required has neither inputRequests nor requestState")
    if len(requests) > _MAX_QUESTIONS:
        raise ValueError(f"more than {_MAX_QUESTIONS} inputRequests")
    return InputRequired(requests, None if state is None else _decode_text(state))


def input_responses(answers: Mapping[str, bytes]) -> bytes:
    """Write the answers of a retry as `inputResponses`."""
    return join({key: msgspec.Raw(answer) for key, answer in answers.items()})


def url_questions(data: bytes) -> dict[str, Question]:
    """Read the URLs that error -32042 wants visited, as questions; empty where it names none.

    Spec: 2025-11-25 client/elicitation, "URL Elicitation Required Error".
    """
    try:
        found = _decode_url_error(data).elicitations[:_MAX_URL_QUESTIONS]
        params = [_url_question(one) for one in found]
    except (msgspec.DecodeError, UnicodeDecodeError, NotAnObjectError, KeyError):
        return {}
    keys = [f"url{number}" for number in range(1, len(params) + 1)]
    return {
        key: Question("elicitation/create", one, key) for key, one in zip(keys, params, strict=True)
    }


def _url_question(raw: msgspec.Raw) -> bytes:
    """Write one entry of `data.elicitations` as 2026-07-28 asks; what it does not know stays."""
    members = {"message": msgspec.Raw(b'""'), **cut(raw)}
    for name in ("url", "message"):
        _decode_text(members[name])
    members.pop("elicitationId", None)
    return join({**members, "mode": msgspec.Raw(b'"url"')})


def was_declined(answer: bytes) -> bool:
    """Tell whether an answer to an elicitation is anything but an acceptance."""
    try:
        return bytes(cut(answer).get("action", msgspec.Raw(b""))) != b'"accept"'
    except NotAnObjectError:
        return True
