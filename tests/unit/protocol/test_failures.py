from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.spec_schemas import assert_valid
from waygate_mcp import errors
from waygate_mcp.protocol.failures import CODES, describe_failure
from waygate_mcp.protocol.versions import REVISIONS, Revision

MODERN = REVISIONS["2026-07-28"]
LATEST = REVISIONS["2025-11-25"]
OLD = REVISIONS["2025-06-18"]
BOTH = (MODERN, LATEST)

# One of each error that can be raised, with everything it knows.
EXAMPLES: list[errors.WaygateError] = [
    errors.ConfigError("the secret path /etc/x", path="a.b"),
    errors.LocalProtocolError("internal words"),
    errors.RemoteProtocolError("internal words"),
    errors.RpcError(-5, "own words", b'{"a":1}'),
    errors.UnauthenticatedError("internal words", reason="expired"),
    errors.ForbiddenError("internal words", permission="tools:call"),
    errors.RateLimitedError(1.5, "internal words", limit="x"),
    errors.TooLargeError(10, "internal words"),
    errors.UnknownNameError("tool", "nope"),
    errors.UnknownNameError("resource", "a:b"),
    errors.UnknownMethodError("no/such"),
    errors.InvalidArgumentsError(["`a` is missing"]),
    errors.CapabilityMissingError({"sampling": {}}),
    errors.CallTimeoutError(30.0, "internal words"),
    errors.InvalidStateError("internal words", reason="foreign"),
    errors.InterruptedCallError("internal words"),
    errors.UpstreamUnavailableError("weather", "internal words 10.0.0.1"),
    errors.UpstreamTimeoutError("weather", "internal words"),
    errors.UpstreamProtocolError("weather", "internal words"),
    errors.PluginError("hello", "internal words"),
    errors.StorageError("internal words"),
]
Case = errors.WaygateError


def described(error: Case, revision: Revision) -> tuple[int, int, Any]:
    """Code, HTTP status and data as a client of `revision` gets them."""
    failure = describe_failure(error, revision)
    return failure.code, failure.status, json.loads(failure.data) if failure.data else None


def test_every_error_has_an_example_and_a_line_in_the_table() -> None:
    leaves = set(errors.leaf_errors())
    assert {type(example) for example in EXAMPLES} == leaves
    assert leaves <= set(CODES)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("revision", BOTH, ids=lambda revision: str(revision.text))
def test_every_error_is_a_json_rpc_error_that_tells_no_internals(
    error: Case, revision: Revision
) -> None:
    frame = describe_failure(error, revision).encode("id-1")
    assert_valid(revision.text, "JSONRPCErrorResponse", frame)
    value = json.loads(frame)
    assert value["id"] == "id-1"
    assert value["error"]["message"] == error.safe_message
    assert b"internal words" not in frame
    assert b"secret" not in frame


def test_codes_of_our_own_stay_in_their_range_and_out_of_the_reserved_one() -> None:
    # 2026-07-28 basic/index, "Error Codes"
    known = {-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022}
    for code in CODES.values():
        assert code in known or 4400 <= code <= 4499


@pytest.mark.parametrize(
    ("error", "modern", "legacy"),
    [
        (
            errors.UnknownNameError("resource", "a:b"),
            (-32602, 200, {"uri": "a:b"}),
            (-32002, 200, {"uri": "a:b"}),
        ),
        (errors.UnknownNameError("tool", "x"), (-32602, 200, None), (-32602, 200, None)),
        (errors.UnknownMethodError("x"), (-32601, 404, None), (-32601, 200, None)),
        (
            errors.CapabilityMissingError({"sampling": {}}),
            (-32021, 400, {"requiredCapabilities": {"sampling": {}}}),
            (-32603, 200, {"requiredCapabilities": {"sampling": {}}}),
        ),
        (
            errors.RateLimitedError(2.5),
            (4429, 429, {"reason": "rate_limited", "retryAfterSeconds": 2.5}),
            (4429, 429, {"reason": "rate_limited", "retryAfterSeconds": 2.5}),
        ),
        (
            errors.UpstreamTimeoutError("weather"),
            (-32603, 200, {"reason": "upstream_timeout", "upstream": "weather"}),
            (-32603, 200, {"reason": "upstream_timeout", "upstream": "weather"}),
        ),
        (
            errors.InterruptedCallError(),
            (-32603, 200, {"reason": "interrupted"}),
            (-32603, 200, {"reason": "interrupted"}),
        ),
        (
            errors.CallTimeoutError(5),
            (4408, 200, {"reason": "call_timeout"}),
            (4408, 200, {"reason": "call_timeout"}),
        ),
        (errors.InvalidStateError(), (-32602, 200, None), (-32602, 200, None)),
        (errors.StorageError(), (-32603, 200, None), (-32603, 200, None)),
        (errors.ForbiddenError(), (4403, 200, None), (4403, 200, None)),
    ],
)
def test_each_era_is_told_in_its_own_words(error: Case, modern: Any, legacy: Any) -> None:
    assert described(error, MODERN) == modern
    assert described(error, LATEST) == legacy


def test_the_capability_error_is_the_one_of_the_schema() -> None:
    failure = describe_failure(errors.CapabilityMissingError({"roots": {}}), MODERN)
    name = "MissingRequiredClientCapabilityError"
    assert_valid("2026-07-28", name, json.loads(failure.encode(1)))


@pytest.mark.parametrize(
    ("code", "modern", "latest", "old"),
    [
        (-5, (-5, 200), (-5, 200), (-5, 200)),
        (0, (0, 200), (0, 200), (0, 200)),
        (-32602, (-32602, 200), (-32602, 200), (-32602, 200)),
        (-32601, (-32601, 200), (-32601, 200), (-32601, 200)),
        (-32000, (-32000, 200), (-32000, 200), (-32000, 200)),
        (-32019, (-32019, 200), (-32019, 200), (-32019, 200)),
        (-32002, (-32602, 200), (-32002, 200), (-32002, 200)),
        (-32020, (-32020, 400), (-32603, 200), (-32603, 200)),
        (-32021, (-32021, 400), (-32603, 200), (-32603, 200)),
        (-32022, (-32603, 200), (-32603, 200), (-32603, 200)),
        (-32042, (-32603, 200), (-32042, 200), (-32603, 200)),
        (-32099, (-32603, 200), (-32603, 200), (-32603, 200)),
        (-32100, (-32100, 200), (-32100, 200), (-32100, 200)),
    ],
)
def test_an_error_with_its_own_code_keeps_it_where_the_revision_allows(
    code: int, modern: Any, latest: Any, old: Any
) -> None:
    error = errors.RpcError(code, "words", b"[1]")
    assert described(error, MODERN) == (*modern, [1])
    assert described(error, LATEST) == (*latest, [1])
    assert described(error, OLD) == (*old, [1])


def test_a_refinement_without_a_line_of_its_own_takes_its_parents() -> None:
    class OddPluginError(errors.PluginError):
        """A refinement nobody listed."""

    assert describe_failure(OddPluginError("p"), MODERN).code == CODES[errors.PluginError]
    assert describe_failure(errors.WaygateError("x"), MODERN).code == -32603
    assert describe_failure(errors.LimitError("x"), MODERN).code == 4420
