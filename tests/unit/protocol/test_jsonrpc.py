from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.jsonrpc import (
    MAX_DEPTH,
    MAX_VALUES,
    MessageShape,
    ParseFailure,
    encode_error,
    encode_json,
    encode_notification,
    encode_request,
    encode_result,
    is_valid_id,
    loads_strict,
    raw_error_data,
    raw_result,
    read_message,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


def nested(depth: int, inside: str = "1") -> bytes:
    """A list in a list … `depth` deep."""
    return ("[" * depth + inside + "]" * depth).encode()


# ------------------------------------------------------------------ strict parsing
FORMS = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (",", ":")},
        {},
        {"ensure_ascii": False},
        {"indent": 1},
    ]
)


@given(JSON_VALUES, FORMS)
def test_what_json_writes_is_read_as_json_reads_it(value: Any, form: dict[str, Any]) -> None:
    text = json.dumps(value, **form)
    read, expected = loads_strict(text.encode()), json.loads(text)
    assert read == expected
    assert repr(read) == repr(expected)  # 1 is not 1.0, nor True


@given(JSON_VALUES, st.text(" \t\r\n", max_size=3), st.text(" \t\r\n", max_size=3))
def test_white_space_around_a_text_means_nothing(value: Any, before: str, after: str) -> None:
    assert loads_strict((before + json.dumps(value) + after).encode()) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b"   ", "not valid JSON"),
        (b"nul", "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b"[01]", "not valid JSON"),
        (b"[1.]", "not valid JSON"),
        (b"[+1]", "not valid JSON"),
        (b"// a\n1", "not valid JSON"),
        (b'"a\nb"', "not valid JSON"),
        (b'"\\x41"', "not valid JSON"),
        (b'"open', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"\x0c{}", "not valid JSON"),
        ("\u00a0{}".encode(), "not valid JSON"),
        (b"9" * 5000, "not valid JSON"),
        (b"{} {}", "more than one JSON text"),
        (b"1]", "more than one JSON text"),
        (b"1\x00", "more than one JSON text"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"\xff\xfe1\x00", "not UTF-8"),
        (b'{"a":1,"a":1}', "same key twice"),
        (b'{"a":1,"\\u0061":2}', "same key twice"),
        (b'[{"b":{"a":1,"c":2,"a":3}}]', "same key twice"),
        (b"NaN", "NaN and Infinity"),
        (b'{"a":[-Infinity]}', "NaN and Infinity"),
        (b"[Infinity]", "NaN and Infinity"),
        (b"[1e400]", "too large"),
        (b"[-1e400]", "too large"),
        (b"[1" + b"0" * 400 + b".5]", "too large"),
        (nested(MAX_DEPTH + 1), "nesting is deeper"),
        (b"[" * 100_000, "nesting is deeper"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nesting is deeper"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\uDC00":1}', "surrogate"),
        (b'[{"a":["\\udbff\\u0041"]}]', "surrogate"),
        (b'"\\ude00\\ud83d"', "surrogate"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ParseFailure, match=reason) as caught:
        loads_strict(data)
    assert caught.value.reason == str(caught.value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        (b"1e308", 1e308),
        (b"-0", 0),
        (b"[123456789012345678901234567890]", [123456789012345678901234567890]),
        (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
        (b'["' + b"[{" * 500 + b'"]', ["[{" * 500]),
        (b'["' + b'\\"[' * 500 + b'"]', ['"[' * 500]),
        (b"[" + b"[]," * 500 + b"1]", [*([[]] * 500), 1]),
    ],
)
def test_unusual_but_valid_texts_are_read(data: bytes, value: Any) -> None:
    assert loads_strict(data) == value


@given(JSON_VALUES, st.data())
def test_a_key_repeated_anywhere_is_refused(value: Any, data: st.DataObject) -> None:
    repeated = json.dumps(data.draw(st.text(max_size=5)), ensure_ascii=False)
    inner = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    twice = f"{{{repeated}:1,{repeated}:{inner}}}"
    outer = data.draw(st.sampled_from(["%s", "[1,%s]", '{"x":%s}', '[{"y":[%s]}]']))
    with pytest.raises(ParseFailure, match="same key twice"):
        loads_strict((outer % twice).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        value = loads_strict(data)
    except ParseFailure:
        return
    assert json.loads(data) == value


def test_a_text_of_too_many_values_is_refused_before_anything_is_built() -> None:
    most = b"[" + b"0," * (MAX_VALUES - 2) + b"0]"
    assert len(loads_strict(most)) == MAX_VALUES - 1
    with pytest.raises(ParseFailure, match="more than"):
        loads_strict(b"[" + b"0," * (MAX_VALUES - 1) + b"0]")
    with pytest.raises(ParseFailure, match="more than"):
        loads_strict(b"[" + b"{}," * MAX_VALUES + b"0]")


def test_commas_inside_a_long_text_are_not_counted_as_values() -> None:
    assert loads_strict(b'"' + b"," * (MAX_VALUES + 1) + b'"') == "," * (MAX_VALUES + 1)


@pytest.mark.parametrize(
    "unit",
    [b'\\"', b'"', b'"\\', b"\\", b"[", b"]", b"{}", b'"":', b"1", b"-", b"e1", b"\\ud800"],
)
def test_refusing_a_long_text_takes_time_in_proportion_to_its_length(unit: bytes) -> None:
    def took(length: int) -> float:
        data = b"[" + b"[]," * (MAX_DEPTH + 1) + b'"' + unit * (length // len(unit))
        start = time.perf_counter()
        for _ in range(3):
            with pytest.raises(ParseFailure):
                loads_strict(data)
        return time.perf_counter() - start

    took(1_000)
    # Quadratic work would make this several minutes.
    assert took(1_000_000) < 3


# ------------------------------------------------------------------ shapes of messages
@pytest.mark.parametrize("identifier", [0, 1, -1, 2**53 - 1, -(2**53 - 1), "", "a", "x" * 256])
def test_these_ids_identify_a_request(identifier: str | int) -> None:
    message = read_message({"jsonrpc": "2.0", "id": identifier, "method": "m"})
    assert message.shape == MessageShape.REQUEST
    assert message.id == identifier
    assert type(message.id) is type(identifier)
    assert message.params == {}


@pytest.mark.parametrize(
    "identifier", [None, True, False, 1.0, 1.5, 2**53, -(2**53), 10**300, "x" * 257, [], {}, [1]]
)
def test_these_ids_identify_nothing(identifier: Any) -> None:
    assert not is_valid_id(identifier)
    message = read_message({"jsonrpc": "2.0", "id": identifier, "method": "m"})
    assert message.shape == MessageShape.INVALID
    assert message.id is None
    assert "id must be" in message.problem


def test_a_message_without_an_id_is_a_notification() -> None:
    message = read_message({"jsonrpc": "2.0", "method": "m", "params": {"a": 1}})
    assert message.shape == MessageShape.NOTIFICATION
    assert (message.method, message.params, message.id) == ("m", {"a": 1}, None)


@pytest.mark.parametrize(
    ("value", "known_id", "problem"),
    [
        ([], None, "object"),
        ("text", None, "object"),
        (None, None, "object"),
        ({}, None, "jsonrpc"),
        ({"jsonrpc": "1.0", "id": 1, "method": "m"}, 1, "jsonrpc"),
        ({"jsonrpc": 2.0, "id": 1, "method": "m"}, 1, "jsonrpc"),
        ({"JSONRPC": "2.0", "id": 1, "method": "m"}, 1, "jsonrpc"),
        ({"id": 1, "method": "m"}, 1, "jsonrpc"),
        ({"id": 1, "result": {}}, None, "jsonrpc"),
        ({"jsonrpc": "2.0", "id": "a"}, "a", "method is missing"),
        ({"jsonrpc": "2.0", "id": "a", "Method": "m"}, "a", "method is missing"),
        ({"jsonrpc": "2.0", "id": 1, "method": None}, 1, "method must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": ""}, 1, "method must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, 1, "method must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m" * 257}, 1, "method must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m", "params": []}, 1, "params must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m", "params": None}, 1, "params must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m", "params": "x"}, 1, "params must be"),
        ({"jsonrpc": "2.0", "method": "m", "params": 1}, None, "params must be"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m", "result": {}}, None, "not both"),
        ({"jsonrpc": "2.0", "id": 1, "method": "m", "error": {}}, None, "not both"),
        ({"jsonrpc": "2.0", "id": 1, "method": None, "result": {}}, None, "method must be"),
        ({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1}}, None, "not both"),
        ({"jsonrpc": "2.0", "id": 1, "result": 5}, None, "result must be"),
        ({"jsonrpc": "2.0", "id": 1, "result": None}, None, "result must be"),
        ({"jsonrpc": "2.0", "result": {}}, None, "id must be"),
        ({"jsonrpc": "2.0", "id": None, "error": {"code": 1}}, None, "id must be"),
        ({"jsonrpc": "2.0", "id": 1, "error": "x"}, None, "error must be"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": "1"}}, None, "error must be"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": True}}, None, "error must be"),
        ({"jsonrpc": "2.0", "id": 1, "error": {}}, None, "error must be"),
    ],
)
def test_what_is_no_message_is_told_why_and_keeps_a_requests_id_only(
    value: Any, known_id: Any, problem: str
) -> None:
    message = read_message(value)
    assert message.shape == MessageShape.INVALID
    assert message.id == known_id
    assert problem in message.problem


def test_a_result_and_an_error_are_read_as_responses() -> None:
    result = read_message({"jsonrpc": "2.0", "id": "q1", "result": {"a": 1}})
    assert (result.shape, result.id, result.result) == (MessageShape.RESPONSE, "q1", {"a": 1})
    error = read_message({"jsonrpc": "2.0", "id": 2, "error": {"code": -1, "message": "no"}})
    assert (error.shape, error.id, error.error) == (
        MessageShape.RESPONSE,
        2,
        {"code": -1, "message": "no"},
    )
    assert result.error is None
    assert error.result is None


def test_unknown_members_of_a_message_are_left_alone() -> None:
    message = read_message({"jsonrpc": "2.0", "id": 1, "method": "m", "x": 1, "ID": 2})
    assert message.shape == MessageShape.REQUEST


@given(JSON_VALUES)
def test_any_value_is_sorted_into_one_of_four_shapes(value: Any) -> None:
    message = read_message(value)
    assert message.shape in {"request", "notification", "response", "invalid"}
    assert message.id is None or is_valid_id(message.id)


def test_only_what_has_an_id_is_asked_for_it() -> None:
    assert read_message({"jsonrpc": "2.0", "id": 0, "method": "m"}).wire_id == 0
    with pytest.raises(AssertionError):
        _ = read_message({"jsonrpc": "2.0", "method": "m"}).wire_id


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"a" : 1.0}}', b'{"a" : 1.0}'),
        (b' {"result": {}, "other": [1]} ', b"{}"),
        (b'{"error":{"code":1}}', None),
        (b"{}", None),
        (b'[{"result":{}}]', None),
        (b"{", None),
        (b"", None),
    ],
)
def test_a_result_is_cut_out_as_it_was_written(body: bytes, result: bytes | None) -> None:
    assert raw_result(body) == result


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"id":1,"error":{"code":1,"message":"m","data":{"n": 1.10}}}', b'{"n": 1.10}'),
        (b'{"id":1,"error":{"code":1,"message":"m"}}', None),
        (b'{"id":1,"result":{}}', None),
        (b'[{"id":1,"error":{"code":1,"message":"m","data":1}}]', None),
    ],
)
def test_what_an_error_says_besides_is_cut_out_as_it_was_written(
    body: bytes, data: bytes | None
) -> None:
    assert raw_error_data(body) == data


def test_the_codes_are_those_of_the_specification() -> None:
    for name, code in (
        ("ParseError", jsonrpc.PARSE_ERROR),
        ("InvalidRequestError", jsonrpc.INVALID_REQUEST),
        ("MethodNotFoundError", jsonrpc.METHOD_NOT_FOUND),
        ("InvalidParamsError", jsonrpc.INVALID_PARAMS),
        ("InternalError", jsonrpc.INTERNAL_ERROR),
    ):
        assert_valid("2026-07-28", name, {"code": code, "message": "x"})
    for name, code in (
        ("HeaderMismatchError", jsonrpc.HEADER_MISMATCH),
        ("MissingRequiredClientCapabilityError", jsonrpc.MISSING_CAPABILITY),
        ("UnsupportedProtocolVersionError", jsonrpc.UNSUPPORTED_VERSION),
    ):
        data = {"requiredCapabilities": {}, "supported": [], "requested": ""}
        error = {"code": code, "message": "x", "data": data}
        assert_valid("2026-07-28", name, {"jsonrpc": "2.0", "id": 1, "error": error})


# ------------------------------------------------------------------ encoding
@given(st.integers(-(2**53 - 1), 2**53 - 1) | st.text(max_size=20), st.text(max_size=40))
def test_frames_hold_what_they_were_given(identifier: str | int, text: str) -> None:
    raw = encode_json({"a": text})
    assert json.loads(encode_result(identifier, raw)) == {
        "jsonrpc": "2.0",
        "id": identifier,
        "result": {"a": text},
    }
    assert json.loads(encode_request(identifier, text or "m", raw)) == {
        "jsonrpc": "2.0",
        "id": identifier,
        "method": text or "m",
        "params": {"a": text},
    }
    assert json.loads(encode_notification(text, raw)) == {
        "jsonrpc": "2.0",
        "method": text,
        "params": {"a": text},
    }
    assert json.loads(encode_error(identifier, -5, text, raw)) == {
        "jsonrpc": "2.0",
        "id": identifier,
        "error": {"code": -5, "message": text, "data": {"a": text}},
    }


def test_a_notification_without_params_has_no_such_member() -> None:
    assert json.loads(encode_notification("m")) == {"jsonrpc": "2.0", "method": "m"}


def test_an_error_about_an_unreadable_message_has_no_id_member() -> None:
    message = encode_error(None, -32700, "Parse error")
    assert json.loads(message) == {
        "jsonrpc": "2.0",
        "error": {"code": -32700, "message": "Parse error"},
    }
    assert_valid("2025-11-25", "JSONRPCErrorResponse", message)
    assert_valid("2026-07-28", "JSONRPCErrorResponse", message)


def test_words_with_half_a_surrogate_pair_are_answered_all_the_same() -> None:
    message = json.loads(encode_error(1, -32603, "no file a\udcffb"))
    assert message["error"]["message"] == "no file a?b"
