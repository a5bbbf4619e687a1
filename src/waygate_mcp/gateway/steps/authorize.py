"""May this principal use this method at all? Checked at the moment of use (threat model rule 9)."""

from __future__ import annotations

from collections.abc import Awaitable

from waygate_mcp.errors import ForbiddenError
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.ports import Handler
from waygate_mcp.protocol.methods import METHODS

__all__ = ["authorize"]


def authorize(call: Call, call_next: Handler) -> Awaitable[Outcome]:
    """Refuse what the principal's permissions do not name.

    A plain function: there is nothing to be awaited before the call goes on.

    Raises:
        ForbiddenError: the permission of the method is missing.
    """
    permission = METHODS[call.method].permission
    if not call.principal.may(permission):
        raise ForbiddenError(permission=permission)
    return call_next(call)
