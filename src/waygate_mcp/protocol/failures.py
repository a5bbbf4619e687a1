"""The one table from errors to JSON-RPC codes and HTTP statuses.

Knows what a client of each era may be told. Refuses to know which door it leaves by.
Codes of our own are 4400…4499, outside the range JSON-RPC reserves (decisions.md 26).
Spec: 2026-07-28 basic/index, "Error Codes"; protocol.md 7.
"""

from __future__ import annotations

from typing import Any

import msgspec

from waygate_mcp import errors
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.versions import Revision

__all__ = ["CODES", "RpcFailure", "describe_failure"]

RESOURCE_NOT_FOUND_LEGACY = -32002
URL_NEEDED_LEGACY = -32042
_RESERVED = range(-32099, -32019)  # only the specification defines codes here
_PASSED_ON = frozenset({jsonrpc.HEADER_MISMATCH, jsonrpc.MISSING_CAPABILITY})


class RpcFailure(msgspec.Struct, frozen=True):
    """An error in a client's words. `status` is for HTTP doors; `data` is raw JSON."""

    code: int
    message: str
    data: bytes | None = None
    status: int = 200

    def encode(self, identifier: str | int | None) -> bytes:
        """Frame it as the error response to request `identifier`."""
        return jsonrpc.encode_error(identifier, self.code, self.message, self.data)


CODES: dict[type[errors.WaygateError], int] = {
    errors.ConfigError: jsonrpc.INTERNAL_ERROR,
    errors.LocalProtocolError: jsonrpc.INTERNAL_ERROR,
    errors.RemoteProtocolError: jsonrpc.INVALID_REQUEST,
    errors.RpcError: jsonrpc.INTERNAL_ERROR,
    errors.UnauthenticatedError: 4401,
    errors.ForbiddenError: 4403,
    errors.RateLimitedError: 4429,
    errors.TooLargeError: 4413,
    errors.LimitError: 4420,
    errors.UnknownNameError: jsonrpc.INVALID_PARAMS,
    errors.UnknownMethodError: jsonrpc.METHOD_NOT_FOUND,
    errors.InvalidArgumentsError: jsonrpc.INVALID_PARAMS,
    errors.CapabilityMissingError: jsonrpc.MISSING_CAPABILITY,
    errors.CallTimeoutError: 4408,
    errors.InvalidStateError: jsonrpc.INVALID_PARAMS,
    errors.InterruptedCallError: jsonrpc.INTERNAL_ERROR,
    errors.UpstreamUnavailableError: jsonrpc.INTERNAL_ERROR,
    errors.UpstreamTimeoutError: jsonrpc.INTERNAL_ERROR,
    errors.UpstreamProtocolError: jsonrpc.INTERNAL_ERROR,
    errors.PluginError: jsonrpc.INTERNAL_ERROR,
    errors.StorageError: jsonrpc.INTERNAL_ERROR,
    errors.WaygateError: jsonrpc.INTERNAL_ERROR,
}
"""Error class → code; subclasses without a line of their own take their parent's."""


def describe_failure(error: errors.WaygateError, revision: Revision) -> RpcFailure:
    """Word an error for a client of `revision`; only `safe_message` and facts for clients leave."""
    if isinstance(error, errors.RpcError):
        return _pass_on(error, revision)
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    status = 200
    if isinstance(error, errors.UnknownNameError) and error.kind == "resource":
        code = code if revision.is_modern else RESOURCE_NOT_FOUND_LEGACY
    elif isinstance(error, errors.CapabilityMissingError):
        if revision.is_modern:
            status = 400
        else:
            code = jsonrpc.INTERNAL_ERROR
    elif isinstance(error, errors.UnknownMethodError) and revision.is_modern:
        status = 404
    elif isinstance(error, errors.RateLimitedError):
        status = 429
    facts = _facts(error)
    data = jsonrpc.encode_json(facts) if facts else None
    return RpcFailure(code, error.safe_message, data, status)


def _pass_on(error: errors.RpcError, revision: Revision) -> RpcFailure:
    """Give an error that brings its own code, as far as the client's revision knows that code.

    Cases: (1) modern codes that mean something about this request keep it, with their status;
    (2) "not found" has a code of its own before 2026-07-28; (3) other codes that are reserved for the
    specification would say what is not so: they become internal errors; (4) the rest passes.
    Spec: 2026-07-28 basic/index, "Error Codes".
    """
    code, status = error.rpc_code, 200
    if revision.is_modern and code in _PASSED_ON:
        status = 400
    elif revision.is_modern and code == RESOURCE_NOT_FOUND_LEGACY:
        code = jsonrpc.INVALID_PARAMS
    elif code in _RESERVED and not _is_url_needed(code, revision):
        code = jsonrpc.INTERNAL_ERROR
    return RpcFailure(code, error.safe_message, error.data, status)


def _is_url_needed(code: int, revision: Revision) -> bool:
    """Tell whether this is the one reserved code that 2025-11-25, and only that, has of its own."""
    is_known = revision.has_url_elicitation and not revision.is_modern
    return code == URL_NEEDED_LEGACY and is_known


def _facts(error: errors.WaygateError) -> dict[str, Any]:
    """Choose what goes into `data`."""
    if isinstance(error, errors.UnknownNameError):
        return {"uri": error.name} if error.kind == "resource" else {}
    if isinstance(error, errors.CapabilityMissingError):
        return {"requiredCapabilities": error.required}
    if isinstance(error, errors.RateLimitedError):
        return {"reason": error.code, "retryAfterSeconds": error.retry_after_s}
    if isinstance(error, errors.UpstreamError):
        return {"reason": error.code, "upstream": error.upstream}
    if isinstance(error, errors.InterruptedCallError | errors.CallTimeoutError):
        return {"reason": error.code}
    return {}
