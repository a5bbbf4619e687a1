"""The specification's own JSON Schemas (`tests/data/schemas`), as checks of what we send."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs

from tests.support.source_tree import ROOT

SCHEMAS = ROOT / "tests" / "data" / "schemas"


@cache
def _document(revision: str) -> dict[str, Any]:
    """The whole schema of one revision."""
    text = (SCHEMAS / f"{revision}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def definitions(revision: str) -> dict[str, Any]:
    """Every named type of a revision."""
    document = _document(revision)
    found: dict[str, Any] = document.get("$defs") or document["definitions"]
    return found


@cache
def _validator(revision: str, name: str) -> Any:
    """A validator for one named type; asking for a type the revision lacks is an error."""
    document = _document(revision)
    keyword = "$defs" if "$defs" in document else "definitions"
    assert name in document[keyword], f"{revision} has no {name}"
    schema = {**document, "$ref": f"#/{keyword}/{name}"}
    if keyword == "definitions":
        # Before 2019-09 nothing may stand beside $ref.
        schema = {**document, "allOf": [{"$ref": f"#/{keyword}/{name}"}]}
    return jsonschema_rs.validator_for(schema)


def problems(revision: str, name: str, message: bytes | Any) -> list[str]:
    """What the revision's type `name` has against a message (bytes are parsed first)."""
    value = json.loads(message) if isinstance(message, bytes) else message
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in _validator(revision, name).iter_errors(value)
    ]


def assert_valid(revision: str, name: str, message: bytes | Any) -> None:
    """Fail where the message is not of the revision's type `name`."""
    found = problems(revision, name, message)
    assert not found, f"not a {name} of {revision}: {found}\n{message!r}"
