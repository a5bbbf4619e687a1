from __future__ import annotations

import json

import pytest

from waygate_mcp import errors
from waygate_mcp.protocol.failures import CODES as RPC_CODES
from waygate_mcp.web.problems import CODES, STATUSES, Problem, Refused, describe, encode_envelope


@pytest.mark.parametrize("kind", list(errors.leaf_errors()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_words_at_both_doors(kind: type[errors.WaygateError]) -> None:
    assert kind in STATUSES
    assert kind in RPC_CODES
    assert STATUSES[kind] in CODES


def test_a_subclass_without_a_line_takes_its_parents() -> None:
    class VeryUnknownError(errors.UnknownNameError):
        pass

    assert describe(VeryUnknownError("tool", "x")).status == 404


def test_only_the_safe_message_leaves() -> None:
    problem = describe(errors.StorageError("cannot open /var/lib/secret.db"))
    assert problem == Problem(503, "SERVICE_UNAVAILABLE", errors.StorageError.default_safe_message)


@pytest.mark.parametrize(
    ("error", "status", "details"),
    [
        (
            errors.InvalidArgumentsError(["text: expected a string"]),
            400,
            ("text: expected a string",),
        ),
        (errors.ForbiddenError(permission="metrics:read"), 403, {"permission": "metrics:read"}),
        (errors.ForbiddenError(), 403, None),
        (errors.TooLargeError(100), 413, {"limit_bytes": 100}),
        (
            errors.UpstreamTimeoutError("files"),
            408,
            {"reason": "upstream_timeout", "upstream": "files"},
        ),
    ],
)
def test_facts_for_clients_are_details(
    error: errors.WaygateError, status: int, details: object
) -> None:
    problem = describe(error)
    assert (problem.status, problem.details) == (status, details)


@pytest.mark.parametrize(("seconds", "text"), [(0.0, b"1"), (1.2, b"2"), (30, b"30")])
def test_a_rate_answer_says_when_to_come_back(seconds: float, text: bytes) -> None:
    assert describe(errors.RateLimitedError(seconds)).headers == ((b"retry-after", text),)


def test_nobody_known_gets_the_challenge() -> None:
    headers = describe(errors.UnauthenticatedError()).headers
    assert headers == ((b"www-authenticate", b'Bearer realm="waygate"'),)


def test_a_refusal_keeps_its_status_words_and_headers() -> None:
    refused = Refused(431, "headers_too_large", "Too many.", [(b"a", b"b")], "id-1")
    assert describe(refused) == Problem(
        431, "INVALID_REQUEST", "Too many.", headers=((b"a", b"b"),)
    )
    assert refused.request_id == "id-1"


def test_the_envelope_has_code_message_details_timestamp_and_request_id() -> None:
    problem = Problem(404, "NOT_FOUND", "Unknown tool: x", {"a": 1})
    assert json.loads(encode_envelope(problem, "id-1", "2026-07-28T00:00:00.000Z")) == {
        "error": {
            "code": "NOT_FOUND",
            "message": "Unknown tool: x",
            "details": {"a": 1},
            "timestamp": "2026-07-28T00:00:00.000Z",
            "request_id": "id-1",
        }
    }
