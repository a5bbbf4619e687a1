from __future__ import annotations

import json
from typing import Any

import pytest

from waygate_mcp.model.catalog import Kind
from waygate_mcp.protocol.headers import HeaderParam
from waygate_mcp.toolkit.content import Annotations, Icon, ToolHints
from waygate_mcp.toolkit.definitions import (
    check_name,
    parse_schema,
    prompt_entry,
    resource_entry,
    tool_entry,
)
from waygate_mcp.toolkit.failures import RegistrationError

OBJECT = {"type": "object"}


def test_a_tool_is_published_with_all_that_was_said_of_it() -> None:
    entry = tool_entry(
        "add",
        OBJECT,
        OBJECT,
        {
            "title": "Add",
            "description": "Adds",
            "annotations": ToolHints(read_only=True),
            "icons": [Icon("https://x/i.png")],
            "meta": {"a": 1},
        },
    )
    assert (entry.kind, entry.name, entry.header_params) == (Kind.TOOL, "add", ())
    assert entry.definition == (
        b'{"name":"add","title":"Add","description":"Adds","inputSchema":{"type":"object"},'
        b'"outputSchema":{"type":"object"},"annotations":{"readOnlyHint":true},'
        b'"icons":[{"src":"https://x/i.png"}],"_meta":{"a":1}}'
    )


def test_a_tool_that_says_nothing_publishes_nothing() -> None:
    assert tool_entry("add", OBJECT, None, {"description": "", "icons": []}).definition == (
        b'{"name":"add","inputSchema":{"type":"object"}}'
    )


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_schema_given_as_text_is_published_byte_for_byte(as_bytes: bool) -> None:
    text = (
        '{ "type":"object",  "$schema":"https://json-schema.org/draft/2020-12/schema", "x": 1.0 }'
    )
    entry = tool_entry("t", text.encode() if as_bytes else text, text, {})
    assert f'"inputSchema":{text}' in entry.definition.decode()
    assert f'"outputSchema":{text}' in entry.definition.decode()


def test_mirrored_arguments_are_found() -> None:
    schema = {
        "type": "object",
        "properties": {
            "where": {
                "type": "object",
                "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
            }
        },
    }
    entry = tool_entry("t", schema, None, {})
    assert entry.header_params == (HeaderParam("Region", ("where", "region")),)


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "object", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": ""}},
        {"a": {"type": "string", "x-mcp-header": "A b"}},
        {
            "a": {"type": "string", "x-mcp-header": "A"},
            "b": {"type": "string", "x-mcp-header": "a"},
        },
        {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}},
    ],
)
def test_a_bad_header_annotation_is_an_error_at_registration(properties: Any) -> None:
    with pytest.raises(RegistrationError, match="tool t: "):
        tool_entry("t", {"type": "object", "properties": properties}, None, {})


@pytest.mark.parametrize("schema", [{}, {"type": "string"}, {"$ref": "#/$defs/a"}])
def test_a_tool_takes_an_object(schema: Any) -> None:
    with pytest.raises(RegistrationError, match='"type": "object"'):
        tool_entry("t", schema, None, {})


@pytest.mark.parametrize("name", ["a", "A.b-c_d/e", "x" * 64])
def test_a_name_may_hold_letters_digits_and_a_few_signs(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 65, "a\n", "<lambda>"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="1 to 64 characters"):
        check_name(name)


@pytest.mark.parametrize("schema", ["{", "[]", b"\xff", "5"])
def test_a_schema_that_is_no_json_object_is_refused(schema: str | bytes) -> None:
    with pytest.raises(RegistrationError, match="what: "):
        parse_schema(schema, what="what")


def test_a_prompt_is_published_with_its_arguments() -> None:
    entry = prompt_entry("p", [{"name": "a", "required": True}], {"title": "P"})
    assert json.loads(entry.definition) == {
        "name": "p",
        "title": "P",
        "arguments": [{"name": "a", "required": True}],
    }
    assert json.loads(prompt_entry("p", [], {}).definition) == {"name": "p"}


def test_resources_and_templates_are_published_under_their_own_members() -> None:
    options: Any = {"mime_type": "text/plain", "size": 5, "annotations": Annotations(priority=1.0)}
    resource = resource_entry(Kind.RESOURCE, "a://b", "b", options)
    assert json.loads(resource.definition) == {
        "uri": "a://b",
        "name": "b",
        "mimeType": "text/plain",
        "size": 5,
        "annotations": {"priority": 1.0},
    }
    assert resource.name == "a://b"
    template = resource_entry(Kind.TEMPLATE, "a://{b}", "b", options)
    assert set(json.loads(template.definition)) == {
        "uriTemplate",
        "name",
        "mimeType",
        "annotations",
    }
