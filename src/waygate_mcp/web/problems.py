"""Errors in the words of the REST doors: HTTP status, code, envelope.

Knows one table from error classes to statuses, and what a refusal of the guard is. Refuses to know
JSON-RPC: those codes stand in `protocol/failures.py`.

    {"error": {"code", "message", "details", "timestamp", "request_id"}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp import errors

__all__ = ["CODES", "STATUSES", "Problem", "Refused", "describe", "encode_envelope", "rate_headers"]

Headers = Sequence[tuple[bytes, bytes]]

CODES: Mapping[int, str] = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TIMEOUT",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    421: "INVALID_REQUEST",
    429: "RATE_LIMITED",
    431: "INVALID_REQUEST",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
"""HTTP status → code of the envelope. A missing parameter is 400 with MISSING_PARAMETER."""

MISSING_PARAMETER = "MISSING_PARAMETER"

STATUSES: Mapping[type[errors.WaygateError], int] = {
    errors.ConfigError: 500,
    errors.LocalProtocolError: 500,
    errors.RemoteProtocolError: 400,
    errors.RpcError: 500,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.RateLimitedError: 429,
    errors.TooLargeError: 413,
    errors.LimitError: 503,
    errors.UnknownNameError: 404,
    errors.UnknownMethodError: 404,
    errors.InvalidArgumentsError: 400,
    errors.CapabilityMissingError: 400,
    errors.CallTimeoutError: 408,
    errors.InvalidStateError: 400,
    errors.InterruptedCallError: 503,
    errors.UpstreamUnavailableError: 503,
    errors.UpstreamTimeoutError: 408,
    errors.UpstreamProtocolError: 500,
    errors.PluginError: 500,
    errors.StorageError: 503,
    errors.WaygateError: 500,
}
"""Error class → HTTP status; subclasses without a line of their own take their parent's."""

BEARER_CHALLENGE = b'Bearer realm="waygate"'
"""What a 401 says of how to come in (RFC 9110, 11.6.1)."""


class Refused(Exception):  # noqa: N818 - a refusal is an answer of the guard, not a fault of ours
    """A request that is answered before anything of it is done. Never leaves `web`.

    `status` is the HTTP status, `code` a stable slug for log and metric (`origin_not_allowed`),
    `message` for the client. `headers` belong to the answer. `request_id` is the request's.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Headers = (),
        request_id: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = tuple(headers)
        self.request_id = request_id
        super().__init__(message)


class Problem(msgspec.Struct, frozen=True):
    """What a client is told: status, code of the envelope, sentence, facts, headers."""

    status: int
    code: str
    message: str
    details: Mapping[str, Any] | Sequence[Any] | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


def describe(error: errors.WaygateError | Refused) -> Problem:
    """Word an error for a client; only `safe_message` and facts for clients leave."""
    if isinstance(error, Refused):
        return Problem(error.status, CODES[error.status], error.message, headers=error.headers)
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, errors.RateLimitedError):
        headers = rate_headers(error)
    elif status == 401:
        headers = ((b"www-authenticate", BEARER_CHALLENGE),)
    return Problem(status, CODES[status], error.safe_message, _facts(error), headers)


def rate_headers(error: errors.RateLimitedError) -> tuple[tuple[bytes, bytes], ...]:
    """Give what a 429 says of when to come back; of the rate as well, where it was one."""
    after = (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))
    if error.count is None:
        return (after,)
    return (
        after,
        (b"x-ratelimit-limit", b"%d" % error.count),
        (b"x-ratelimit-remaining", b"0"),
        (b"x-ratelimit-reset", b"%d" % max(1, math.ceil(error.reset_s))),
    )


def encode_envelope(problem: Problem, request_id: str, timestamp: str) -> bytes:
    """Write the body of an error answer."""
    body = {
        "code": problem.code,
        "message": problem.message,
        "details": problem.details,
        "timestamp": timestamp,
        "request_id": request_id,
    }
    return msgspec.json.encode({"error": body})


def _facts(error: errors.WaygateError) -> Mapping[str, Any] | Sequence[Any] | None:
    """Choose what goes into `details`."""
    if isinstance(error, errors.InvalidArgumentsError):
        return error.details
    if isinstance(error, errors.ForbiddenError) and error.permission:
        return {"permission": error.permission}
    if isinstance(error, errors.RateLimitedError):
        return {"retry_after_s": error.retry_after_s}
    if isinstance(error, errors.TooLargeError):
        return {"limit_bytes": error.limit_bytes}
    if isinstance(error, errors.UpstreamError):
        return {"reason": error.code, "upstream": error.upstream}
    return None
