from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.protocol.headers import (
    HeaderParam,
    HeaderParamsError,
    decode_value,
    encode_value,
    find_header_params,
    mirrored_headers,
    param_mismatch,
)

# RFC 9110 section 5.5 as 2026-07-28 basic/transports/streamable-http narrows it: visible ASCII, and
# space and tab between them.
LEGAL = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")


def tool(**properties: Any) -> dict[str, Any]:
    """A tool's input schema."""
    return {"type": "object", "properties": properties}


def annotated(name: Any = "Region", kind: Any = "string") -> dict[str, Any]:
    """A property whose value is mirrored."""
    return {"type": kind, "x-mcp-header": name}


# ------------------------------------------------------------------ values
@given(st.text() | st.text("=?base64 \t\r\n\0aZ\x7fé"))
def test_any_text_travels_in_a_header_and_comes_back(text: str) -> None:
    encoded = encode_value(text)
    assert LEGAL.fullmatch(encoded)
    assert decode_value(encoded.encode("ascii")) == text
    assert decode_value(b" \t" + encoded.encode("ascii") + b"\t ") == text


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        # The table "Encoding examples" of the specification.
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        # and "Type conversion"
        (42, "42"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        ("", ""),
        ("a b\tc", "a b\tc"),
        ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
    ],
)
def test_values_are_written_as_the_specification_shows(
    value: str | int | bool, encoded: str
) -> None:
    assert encode_value(value) == encoded


@pytest.mark.parametrize(
    "raw",
    [
        b"caf\xc3\xa9",
        b"\xff",
        b"a\0b",
        b"a\nb",
        b"a\x7f",
        b"=?base64?SGVsbG8?=",
        b"=?base64?SGVsb!8=?=",
        b"=?base64?SGVs bG8=?=",
        b"=?base64?SGVsbG9=?=",
        b"=?base64?/w==?=",
        b"=?base64?SGVsbG8=====?=",
        b"=?base64?SGVs=bG8=?=",
    ],
)
def test_a_malformed_header_value_stands_for_nothing(raw: bytes) -> None:
    assert decode_value(raw) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"  ", ""),
        (b"=?base64??=", ""),
        (b"=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?="),
        (b"=?base64?SGVsbG8=", "=?base64?SGVsbG8="),
        (b"SGVsbG8=?=", "SGVsbG8=?="),
    ],
)
def test_what_is_not_marked_as_base64_is_taken_literally(raw: bytes, text: str) -> None:
    assert decode_value(raw) == text


@given(st.binary(max_size=100))
def test_any_bytes_of_a_header_are_read_or_refused(raw: bytes) -> None:
    text = decode_value(raw)
    assert text is None or isinstance(text, str)


# ------------------------------------------------------------------ annotations of a schema
def test_annotations_are_found_along_chains_of_properties() -> None:
    schema = tool(
        region=annotated("Region"),
        query={"type": "string"},
        nested=tool(deep=tool(number=annotated("X-Number", "integer"))),
        flag=annotated("Flag", "boolean"),
    )
    assert find_header_params(schema) == (
        HeaderParam("Region", ("region",)),
        HeaderParam("X-Number", ("nested", "deep", "number")),
        HeaderParam("Flag", ("flag",)),
    )
    assert HeaderParam("X-Number", ("n",)).header == b"mcp-param-x-number"


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"properties": None},
        {"properties": []},
        {"properties": {"a": True, "b": None, "c": 5}},
        {"properties": {"x-mcp-header": {"type": "string"}}},
        {"$defs": {"x-mcp-header": {"type": "string"}}},
        {"patternProperties": {"x-mcp-header": {}}},
        {"properties": {"a": {"default": {"x-mcp-header": "A"}, "enum": [{"x-mcp-header": 1}]}}},
        {"const": {"x-mcp-header": "A"}, "examples": [{"x-mcp-header": "A"}]},
    ],
)
def test_a_schema_without_annotations_has_none(schema: dict[str, Any]) -> None:
    assert find_header_params(schema) == ()


@pytest.mark.parametrize("schema", [None, True, [], "x", [{"x-mcp-header": 5}][:0]])
def test_what_is_no_schema_at_all_has_no_annotations(schema: Any) -> None:
    assert find_header_params(schema) == ()


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:b", "é", "a\r\nb", "a\n", "\x00", "(x)", None, 5, True, [], {}, "x" * 129],
)
def test_an_annotation_that_is_no_header_token_makes_the_tool_unusable(name: Any) -> None:
    with pytest.raises(HeaderParamsError, match="not a header token"):
        find_header_params(tool(a=annotated(name)))


@pytest.mark.parametrize(
    "kind", ["number", "object", "array", "null", None, 5, ["string"], ["string", "null"], {}]
)
def test_an_annotation_on_anything_but_three_primitives_makes_the_tool_unusable(kind: Any) -> None:
    with pytest.raises(HeaderParamsError, match="not on a string, integer or boolean"):
        find_header_params(tool(a=annotated("A", kind)))


def test_an_annotation_without_a_type_makes_the_tool_unusable() -> None:
    with pytest.raises(HeaderParamsError, match="not on a string"):
        find_header_params(tool(a={"anyOf": [{"type": "string"}], "x-mcp-header": "A"}))


@pytest.mark.parametrize(
    "schema",
    [
        {"x-mcp-header": "A", "type": "string"},
        tool(a={"type": "array", "items": annotated()}),
        tool(a={"anyOf": [annotated()]}),
        tool(a={"oneOf": [tool(b=annotated())]}),
        {"allOf": [tool(a=annotated())]},
        {"not": tool(a=annotated())},
        {"if": tool(a=annotated())},
        {"then": tool(a=annotated()), "else": {}},
        {"$defs": {"a": annotated()}},
        {"definitions": {"a": tool(b=annotated())}},
        {"patternProperties": {"a": annotated()}},
        {"dependentSchemas": {"a": tool(b=annotated())}},
        {"additionalProperties": annotated()},
        tool(a={"prefixItems": [annotated()]}),
        {"x-more": {"deep": [annotated()]}},
    ],
)
def test_an_annotation_that_extraction_cannot_reach_makes_the_tool_unusable(schema: Any) -> None:
    with pytest.raises(HeaderParamsError, match="no argument can be read"):
        find_header_params(schema)


def test_two_annotations_that_differ_in_case_only_make_the_tool_unusable() -> None:
    with pytest.raises(HeaderParamsError, match="twice"):
        find_header_params(tool(a=annotated("Region"), b=tool(c=annotated("REGION"))))


def test_annotations_and_depth_are_bounded() -> None:
    most = {f"a{number}": annotated(f"A{number}") for number in range(64)}
    assert len(find_header_params(tool(**most))) == 64
    with pytest.raises(HeaderParamsError, match="more than"):
        find_header_params(tool(**most, b=annotated("B")))
    deep: dict[str, Any] = annotated()
    for _ in range(64):
        deep = tool(a=deep)
    assert len(find_header_params(deep)[0].path) == 64
    with pytest.raises(HeaderParamsError, match="too deep"):
        find_header_params(tool(a=deep))


# ------------------------------------------------------------------ headers against arguments
PARAMS = (HeaderParam("Region", ("region",)), HeaderParam("Deep", ("a", "b")))
REGION, DEEP = b"mcp-param-region", b"mcp-param-deep"


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({}, {}),
        ({"region": None, "a": None}, {}),
        ({"a": 5}, {}),
        ({"a": {"b": None}}, {}),
        ({"region": "eu"}, {REGION: b"eu"}),
        ({"region": "eu"}, {REGION: b" eu\t"}),
        ({"region": "eu"}, {REGION: b"=?base64?ZXU=?="}),
        ({"region": ""}, {REGION: b""}),
        ({"region": 42}, {REGION: b"42"}),
        ({"region": 42}, {REGION: b"42.0"}),
        ({"region": 42.0}, {REGION: b"42"}),
        ({"region": 42}, {REGION: b"4.2e1"}),
        ({"region": -7}, {REGION: b"-7"}),
        ({"region": 0}, {REGION: b"-0"}),
        ({"region": 1.5}, {REGION: b"1.5"}),
        ({"region": 2**53 - 1}, {REGION: b"9007199254740991"}),
        ({"region": True}, {REGION: b"true"}),
        ({"region": False, "a": {"b": "x"}}, {REGION: b"false", DEEP: b"x"}),
        ({"region": {"an": "object"}}, {}),
        ({"region": ["a list"]}, {}),
        ({"region": "eu"}, {REGION: b"eu", b"mcp-param-other": b"\xff"}),
    ],
)
def test_headers_that_mirror_the_arguments_agree(
    arguments: dict[str, Any], headers: dict[bytes, bytes]
) -> None:
    assert param_mismatch(PARAMS, arguments, headers) is None


@pytest.mark.parametrize(
    ("arguments", "headers", "word"),
    [
        ({}, {REGION: b"eu"}, "no value"),
        ({}, {REGION: b""}, "no value"),
        ({"region": None}, {REGION: b"null"}, "no value"),
        ({"region": {}}, {REGION: b"{}"}, "no value"),
        ({"region": "eu"}, {}, "missing"),
        ({"region": 0}, {}, "missing"),
        ({"region": False}, {}, "missing"),
        ({"a": {"b": ""}}, {}, "Mcp-Param-Deep is missing"),
        ({"region": "eu"}, {REGION: b"\xff"}, "invalid characters"),
        ({"region": "eu"}, {REGION: b"=?base64?ZXU?="}, "invalid characters"),
        ({"region": "eu"}, {REGION: b"EU"}, "not match"),
        ({"region": "42"}, {REGION: b"42.0"}, "not match"),
        ({"region": 42}, {REGION: b"43"}, "not match"),
        ({"region": 42}, {REGION: b""}, "not match"),
        ({"region": 42}, {REGION: b"4_2"}, "not match"),
        ({"region": 42}, {REGION: b"+42"}, "not match"),
        ({"region": 42}, {REGION: b"0x2a"}, "not match"),
        ({"region": 42}, {REGION: b"forty-two"}, "not match"),
        # Arabic digits, which int() would read
        ({"region": 42}, {REGION: b"=?base64?2aTZog==?="}, "not match"),
        ({"region": 2**53}, {REGION: b"9007199254740993.0"}, "not match"),
        ({"region": 1}, {REGION: b"1" + b"0" * 500}, "not match"),
        ({"region": 1}, {REGION: b"1e99999"}, "not match"),
        ({"region": 1.0}, {REGION: b"NaN"}, "not match"),
        ({"region": 1.0}, {REGION: b"Infinity"}, "not match"),
        ({"region": True}, {REGION: b"1"}, "not match"),
        ({"region": True}, {REGION: b"True"}, "not match"),
        ({"region": 1}, {REGION: b"true"}, "not match"),
    ],
)
def test_headers_that_say_something_else_are_named(
    arguments: dict[str, Any], headers: dict[bytes, bytes], word: str
) -> None:
    problem = param_mismatch(PARAMS, arguments, headers)
    assert problem is not None
    assert problem.startswith("Header mismatch: Mcp-Param-")
    assert word in problem


@given(
    st.text(max_size=20)
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.integers(-(10**6), 10**6).map(float)
)
def test_what_we_mirror_is_what_we_accept(value: str | bool | int | float) -> None:
    built = mirrored_headers("tools/call", "echo", PARAMS, {"region": value})
    headers = {name.lower().encode(): text.encode("ascii") for name, text in built}
    assert param_mismatch(PARAMS, {"region": value}, headers) is None


def test_a_request_is_mirrored_with_its_method_name_and_arguments() -> None:
    arguments = {"region": "é", "a": {"b": 42.0}}
    assert mirrored_headers("tools/call", "世", PARAMS, arguments) == [
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "=?base64?5LiW?="),
        ("Mcp-Param-Region", "=?base64?w6k=?="),
        ("Mcp-Param-Deep", "42"),
    ]
    assert mirrored_headers("tools/list", None) == [("Mcp-Method", "tools/list")]


@pytest.mark.parametrize("value", [None, [], {}, 1.5])
def test_values_without_a_header_form_are_not_mirrored(value: Any) -> None:
    built = mirrored_headers("tools/call", "echo", PARAMS, {"region": value})
    assert [name for name, _ in built] == ["Mcp-Method", "Mcp-Name"]
