"""The requests by which answers through the gateway are compared with the fixture's own, one `Case` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.era_clients import FULL, Answerer, accept, decline, fail

ONLY_FORM: Mapping[str, Any] = {"elicitation": {"form": {}}}
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Case:
    """One request, and the client that makes it.

    `eras` are the clients that can make it, `not_from` the eras of upstreams that cannot answer alike, and why.
    """

    name: str
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    token: str | int | None = None
    level: str | None = None
    capabilities: Mapping[str, Any] = field(default_factory=lambda: FULL)
    answer: Answerer = accept
    eras: tuple[str, ...] = ("legacy", "modern")
    not_from: Mapping[str, str] = field(default_factory=dict)


NO_ERROR_ANSWERS = {
    "modern": "an answer to `inputRequests` is a result: a client's error cannot be handed on (2026-07-28 "
    "basic/patterns/mrtr), so it ends the call; see test_a_clients_error_is_told_to_the_client"
}


def tool(name: str, case: str = "", /, **more: Any) -> Case:
    """A call of a tool."""
    arguments = more.pop("arguments", None)
    params = {"name": name} if arguments is None else {"name": name, "arguments": arguments}
    return Case(f"{name} {case}".strip(), "tools/call", params, **more)


SCHEMA_CALL = {
    "name": "Ada",
    "address": {"street": "Main Street", "city": "Seattle"},
    "contactMethod": "email",
    "email": "ada@example.org",
}
ASKING = (
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_multi_round",
    "test_input_required_result_elicitation",
    "test_input_required_result_request_state",
    "test_input_required_result_tampered_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_capabilities",
)
PLAIN = (
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
)

CASES: tuple[Case, ...] = (
    *(tool(name) for name in PLAIN),
    *(tool(name, token="a-token") for name in ASKING),
    *(tool(name, "declined", answer=decline) for name in ASKING),
    *(tool(name, "without capabilities", capabilities=NOTHING) for name in ASKING),
    *(tool(name, "of a client that only has forms", capabilities=ONLY_FORM) for name in ASKING),
    tool("test_simple_text", "with arguments nobody declared", arguments={"more": 1}),
    tool("test_tool_with_progress"),
    tool("test_tool_with_progress", "and a text as token", token="p-1"),
    tool("test_tool_with_progress", "and a number as token", token=7),
    tool("test_tool_with_logging", "at debug", level="debug"),
    tool("test_tool_with_logging", "at info", level="info"),
    tool("test_tool_with_logging", "at warning", level="warning"),
    tool("test_logging_tool", eras=("modern",)),
    tool("test_logging_tool", "at info", level="info"),
    tool("test_sampling", arguments={"prompt": "Say hi"}),
    tool(
        "test_sampling",
        "of a client that fails",
        arguments={"prompt": "x"},
        answer=fail,
        eras=("legacy",),
        not_from=NO_ERROR_ANSWERS,
    ),
    tool("test_sampling", "without capabilities", arguments={"prompt": "x"}, capabilities=NOTHING),
    tool("test_sampling", "without its argument", arguments={}),
    tool("test_elicitation", arguments={"message": "Who?"}),
    tool("test_elicitation", "declined", arguments={"message": "Who?"}, answer=decline),
    tool(
        "test_elicitation",
        "of a client that fails",
        arguments={"message": "x"},
        answer=fail,
        eras=("legacy",),
        not_from=NO_ERROR_ANSWERS,
    ),
    tool("test_elicitation", "with an argument of another type", arguments={"message": 5}),
    tool("json_schema_2020_12_tool", arguments=SCHEMA_CALL),
    tool("json_schema_2020_12_tool", "against its schema", arguments={"name": "Ada"}),
    tool("test_custom_header", arguments={"region": "eu"}),
    tool("slow_cancellable", arguments={"seconds": 0}),
    tool("slow_cancellable", "against its bounds", arguments={"seconds": -1}),
    tool("no_such_tool"),
    tool("test_simple_text", "with a key of its own", token="t"),
    Case(
        "meta of the client's own",
        "tools/call",
        {"name": "test_simple_text", "_meta": {"org.example/k": 1}},
    ),
    Case("a static text", "resources/read", {"uri": "test://static-text"}),
    Case("a static image", "resources/read", {"uri": "test://static-binary"}),
    Case("a templated resource", "resources/read", {"uri": "test://template/123/data"}),
    Case("a resource nobody has", "resources/read", {"uri": "test://nowhere"}),
    Case("a resource of another scheme", "resources/read", {"uri": "file:///etc/passwd"}),
    Case("a prompt", "prompts/get", {"name": "test_simple_prompt"}),
    Case(
        "a prompt with arguments",
        "prompts/get",
        {"name": "test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "b"}},
    ),
    Case("a prompt that lacks arguments", "prompts/get", {"name": "test_prompt_with_arguments"}),
    Case(
        "a prompt with a resource",
        "prompts/get",
        {"name": "test_prompt_with_embedded_resource", "arguments": {"resourceUri": "test://x"}},
    ),
    Case("a prompt with an image", "prompts/get", {"name": "test_prompt_with_image"}),
    Case("a prompt that asks", "prompts/get", {"name": "test_input_required_result_prompt"}),
    Case("a prompt nobody has", "prompts/get", {"name": "no_such_prompt"}),
    Case(
        "a completion of a prompt",
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
            "argument": {"name": "arg1", "value": "par"},
        },
    ),
    Case(
        "a completion with a context",
        "completion/complete",
        {
            "ref": {"type": "ref/resource", "uri": "test://template/{id}/data"},
            "argument": {"name": "id", "value": "1"},
            "context": {"arguments": {"123": "taken"}},
        },
    ),
    Case(
        "a completion of a prompt nobody has",
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "no_such_prompt"},
            "argument": {"name": "a", "value": ""},
        },
    ),
    *(
        Case(f"the list of {method}", method)
        for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
    ),
    Case("a cursor nobody gave", "tools/list", {"cursor": "nowhere"}),
    Case("a method nobody has", "nothing/such"),
)
