"""A visit is let in: what every MCP door does before it reads a byte of a body.

Knows how the guard's decision comes onto the visit. Refuses to decide: the guard does.
"""

from __future__ import annotations

from collections.abc import Sequence

from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.errors import ForbiddenError
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.ladder import LegacyInbound, ModernInbound
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.web.guard import Admission, Guard
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.visit import JSON, Visit

__all__ = ["admit", "admit_later", "ask_for_scopes"]


def admit(visit: Visit, guard: Guard, endpoint: str) -> Admission:
    """Ask the guard, and note who calls.

    Raises:
        Refused: see `Guard.admit`; a preflight carries no credential and is not asked for one.
        UnverifiedError: see `admit_later`.
    """
    scope = visit.scope
    try:
        is_preflight = scope["method"] == "OPTIONS"
        admission = guard.admit_open(scope) if is_preflight else guard.admit(scope, endpoint)
    except Refused:
        visit.extra_headers = guard.cors_headers(dict(scope["headers"]).get(b"origin"))
        raise
    return _noted(visit, guard, admission)


async def admit_later(
    visit: Visit, guard: Guard, endpoint: str, unverified: UnverifiedError
) -> Admission:
    """Wait until a credential is verified, and note who calls.

    Raises:
        Refused: see `Guard.admit_later`.
    """
    try:
        admission = await guard.admit_later(visit.scope, unverified, endpoint)
    except Refused:
        visit.extra_headers = guard.cors_headers(dict(visit.scope["headers"]).get(b"origin"))
        raise
    return _noted(visit, guard, admission)


def _noted(visit: Visit, guard: Guard, admission: Admission) -> Admission:
    visit.headers = admission.headers
    visit.request_id = admission.request_id
    visit.principal = admission.principal
    origin = admission.headers.get(b"origin")
    if origin is not None and visit.scope["method"] != "OPTIONS":
        visit.extra_headers = guard.cors_headers(origin)
    return admission


async def ask_for_scopes(
    visit: Visit,
    principal: TokenPrincipal,
    guard: Guard,
    endpoint: str,
    inbound: ModernInbound | LegacyInbound,
) -> bool:
    """Answer 403 where scopes would permit what a token does not; False where the call may go on.

    This only tells a client what to ask for: that it may not is decided where the call is.
    Spec: 2026-07-28 basic/authorization, "Scope Challenge Handling".
    """
    messages: Sequence[Message]
    messages = (inbound.message,) if isinstance(inbound, ModernInbound) else inbound.messages
    permissions = [
        METHODS[message.method].permission
        for message in messages
        if message.shape == MessageShape.REQUEST and message.method in METHODS
    ]
    challenge = guard.resource.lacks(principal, permissions, endpoint)
    if challenge is None:
        return False
    missing = next(each for each in permissions if not principal.may(each))
    visit.rpc_method = messages[0].method
    visit.outcome = "insufficient_scope"
    failure = describe_failure(ForbiddenError(permission=missing), MODERN)
    body = failure.encode(messages[0].id if len(messages) == 1 else None)
    await visit.answer(403, body, (JSON, (b"www-authenticate", challenge)))
    return True
