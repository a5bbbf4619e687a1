from __future__ import annotations

from typing import Any

import pytest

from tests.support.spec_schemas import definitions
from waygate_mcp.protocol.methods import CLIENT_NOTIFICATIONS, METHODS, find_method
from waygate_mcp.protocol.versions import REVISIONS

# The list of all tasks of 2025-11-25 has a capability of its own, which this server does not offer.
NOT_OFFERED = {"tasks/list"}
# What the tasks extension of 2026-07-28 adds to the core schema.
EXTENSION = {"2026-07-28": {"tasks/get", "tasks/update", "tasks/cancel"}}


def methods_of(revision: str, union: str) -> set[str]:
    """The methods in a union of the revision's schema."""
    types = definitions(revision)
    members: list[dict[str, Any]] = types[union].get("anyOf") or [types[union]]
    named = [types[m["$ref"].rpartition("/")[2]] if "$ref" in m else m for m in members]
    return {member["properties"]["method"]["const"] for member in named}


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_has_the_methods_its_schema_lists(revision: str) -> None:
    served = {name for name in METHODS if find_method(name, REVISIONS[revision])}
    core = methods_of(revision, "ClientRequest") - NOT_OFFERED
    assert served == core | EXTENSION.get(revision, set())


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_notification_of_the_schema_is_known(revision: str) -> None:
    sent = methods_of(revision, "ClientNotification") - {"notifications/tasks/status"}
    assert sent <= CLIENT_NOTIFICATIONS


def test_the_methods_that_may_ask_are_those_of_the_specification() -> None:
    # 2026-07-28 basic/patterns/mrtr, "Supported Requests"
    asking = {name for name, method in METHODS.items() if method.may_ask}
    assert asking == {"tools/call", "prompts/get", "resources/read"}


def test_the_cacheable_methods_are_those_of_the_specification() -> None:
    # 2026-07-28 server/utilities/caching, "Cacheable Results"
    assert {name for name, method in METHODS.items() if method.is_cacheable} == {
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    }


def test_the_named_methods_are_those_of_the_specification() -> None:
    # 2026-07-28 basic/transports/streamable-http, "Standard Request Headers"; tasks, "Routing Headers"
    modern = REVISIONS["2026-07-28"]
    named = {name: m.names for name, m in METHODS.items() if m.names and find_method(name, modern)}
    core = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
    assert named == core | dict.fromkeys(EXTENSION["2026-07-28"], "taskId")


def test_what_each_method_requires_is_what_the_schemas_require() -> None:
    # initialize is read by the handshake, which words its own refusals; _meta is the envelope's.
    kinds = {str: "string", dict: "object"}
    for revision in REVISIONS.values():
        requests = [value for value in definitions(revision.text).values() if is_request(value)]
        for request in requests:
            method = find_method(request["properties"]["method"]["const"], revision)
            if method is None or method.name == "initialize":
                continue
            wanted = set(required_params(revision.text, request)) - {"_meta"}
            assert wanted == {name for name, _ in method.required}, (revision.text, method.name)
            assert all(kind in kinds for _, kind in method.required)


def test_tasks_exist_in_the_last_legacy_revision_and_as_an_extension_only() -> None:
    for name in ("tasks/get", "tasks/cancel"):
        having = [text for text, revision in REVISIONS.items() if find_method(name, revision)]
        assert having == ["2025-11-25", "2026-07-28"]
    assert find_method("tasks/result", REVISIONS["2026-07-28"]) is None
    assert find_method("tasks/update", REVISIONS["2025-11-25"]) is None
    update = find_method("tasks/update", REVISIONS["2026-07-28"])
    assert update is not None
    assert dict(update.required) == {"taskId": str, "inputResponses": dict}


def is_request(value: dict[str, Any]) -> bool:
    """Whether a type of the schema is a request with a method of its own."""
    return "const" in value.get("properties", {}).get("method", {})


def required_params(revision: str, request: dict[str, Any]) -> list[str]:
    """The parameters a request of the schema must have."""
    params = request["properties"].get("params", {})
    if "$ref" in params:
        params = definitions(revision)[params["$ref"].rpartition("/")[2]]
    required: list[str] = params.get("required", [])
    return required


def test_every_method_needs_a_permission() -> None:
    assert all(method.permission.count(":") == 1 for method in METHODS.values())


@pytest.mark.parametrize("name", ["", "tools", "TOOLS/CALL", "tools/call "])
def test_a_method_nobody_knows_exists_in_no_revision(name: str) -> None:
    assert not any(find_method(name, revision) for revision in REVISIONS.values())
