"""The published schema is the one of the models, and says what the models say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.config.document import Document
from waygate_mcp.config.schema import document_schema
from waygate_mcp.config.yaml_text import parse_yaml

PUBLISHED = Path(__file__).parents[3] / "docs" / "waygate.schema.json"


def is_valid(value: Any) -> bool:
    return jsonschema_rs.validator_for(document_schema()).is_valid(value)


def test_the_published_schema_is_up_to_date() -> None:
    expected = json.dumps(document_schema(), indent=2, ensure_ascii=False) + "\n"
    assert PUBLISHED.read_text(encoding="utf-8") == expected, (
        "waygate config schema > docs/waygate.schema.json"
    )


def test_the_schema_is_one_itself() -> None:
    jsonschema_rs.meta.validate(document_schema())
    assert document_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "version: 1",
        "auth: {mode: none}",
        "auth: {mode: oauth, oauth: {issuers: [{issuer: 'https://a', grants: {x: [viewer, 'tools:call', '*']}}]}}",
        "server: {public_url: null}",
        "plugins: {hello: {use: a.b:c, config: {x: [1]}}}",
        "endpoints: {dev: {bind: [hello, '*'], prefixes: {hello: ''}, tools: {allow: ['a*']}}}",
        DOCUMENT,
    ],
)
def test_what_the_models_take_the_schema_takes(text: str) -> None:
    value = parse_yaml(text.encode()).value
    Document.model_validate(value)
    assert is_valid(value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "version: 2",
        "unknown: 1",
        "auth: {mode: oauth2}",
        "auth: {mode: oauth, oauth: {issuers: []}}",
        "auth: {mode: oauth, oauth: {issuers: [{issuer: 'https://a', grants: {x: ['a b']}}]}}",
        "limits: {page_size: 0}",
        "limits: {page_size: '5'}",
        "plugins: {hello: {}}",
        "plugins: {hello: {use: 'a b'}}",
        "plugins: {Hello: {use: a}}",
        "endpoints: {dev: {tols: {}}}",
        "endpoints: {dev: {bind: x}}",
    ],
)
def test_what_the_models_refuse_the_schema_refuses(text: str) -> None:
    value = parse_yaml(text.encode()).value
    with pytest.raises(ValidationError):
        Document.model_validate(value)
    assert not is_valid(value)
