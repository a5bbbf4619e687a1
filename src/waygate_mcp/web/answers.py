"""The answers every MCP door has words for: refusals, limits, and what a client can read.

Knows how a refusal becomes a JSON-RPC error on a visit. Refuses to know what was asked.
"""

from __future__ import annotations

from waygate_mcp.errors import RateLimitedError, WaygateError
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.jsonrpc import Message
from waygate_mcp.protocol.ladder import Refusal
from waygate_mcp.protocol.versions import LATEST_LEGACY, Revision
from waygate_mcp.web.problems import Refused, rate_headers
from waygate_mcp.web.visit import JSON, Visit

__all__ = [
    "accepts",
    "answer_refusal",
    "busy",
    "prefers_stream",
    "refuse",
    "say",
    "tell",
    "tell_when",
]


async def refuse(visit: Visit, refused: Refused) -> None:
    """Word a refusal of the guard or of the body reader."""
    visit.request_id = visit.request_id or refused.request_id
    codes = {401: 4401, 403: 4403, 413: 4413, 408: 4408, 503: 4503}
    code = codes.get(refused.status, jsonrpc.INVALID_REQUEST)
    visit.outcome = refused.code
    body = jsonrpc.encode_error(None, code, refused.message)
    await visit.answer(refused.status, body, (JSON, *refused.headers))


async def say(visit: Visit, status: int, code: int, text: str) -> None:
    """Answer a JSON-RPC error that belongs to no request."""
    visit.outcome = "refused"
    await visit.answer(status, jsonrpc.encode_error(None, code, text))


async def busy(visit: Visit, message: str) -> None:
    """Refuse early, with a hint when to come back (threat model rule 39)."""
    visit.outcome = "busy"
    body = jsonrpc.encode_error(None, 4503, message)
    await visit.answer(503, body, (JSON, (b"retry-after", b"1")))


async def answer_refusal(visit: Visit, refusal: Refusal) -> None:
    """Answer what the ladder did not let pass."""
    visit.outcome = "refused"
    await visit.answer(refusal.status, refusal.encode())


async def tell(visit: Visit, error: WaygateError, revision: Revision, message: Message) -> None:
    """Answer a request that did not come to be a call."""
    failure = describe_failure(error, revision)
    visit.outcome = error.code
    await visit.answer(failure.status, failure.encode(message.id))


async def tell_when(visit: Visit, limit: RateLimitedError, message: Message) -> None:
    """Answer that there is no room, and when there may be."""
    failure = describe_failure(limit, LATEST_LEGACY)
    visit.outcome = limit.code
    await visit.answer(429, failure.encode(message.id), (JSON, *rate_headers(limit)))


def prefers_stream(accept: bytes | None) -> bool:
    """Tell whether a client names the event stream before JSON: the order is all that current clients say."""
    return accept is not None and accept.lstrip().lower().startswith(b"text/event-stream")


def accepts(accept: bytes | None) -> bool:
    """Tell whether a client can read either form of an answer; no Accept accepts everything.

    Clients must list both; one that lists only one of them is served all the same.
    """
    if accept is None:
        return True
    lowered = accept.lower()
    return (
        b"application/json" in lowered
        or b"text/event-stream" in lowered
        or b"*/*" in lowered
        or b"application/*" in lowered
    )
