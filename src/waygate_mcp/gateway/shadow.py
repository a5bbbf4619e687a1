"""Whom would the roles in shadow refuse? Counted, logged and recorded with the call, which goes on.

Knows calls that are allowed, once it is known who answers them. Refuses to refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from waygate_mcp.model.call import Call
from waygate_mcp.model.shadow import ShadowRoles
from waygate_mcp.protocol.methods import METHODS

__all__ = ["LOG_EVERY_S", "judge_in_shadow"]

LOG_EVERY_S = 10.0
"""One line for a role in so many seconds; it says how many calls were not logged."""

_log = logging.getLogger(__name__)


def judge_in_shadow(
    roles: ShadowRoles, count: Callable[[str], None], monotonic: Callable[[], float]
) -> Callable[[Call], None]:
    """Give what judges a call that is about to be made; `count` is told the role of each refusal that would be."""
    logged: dict[str, tuple[float, int]] = {}

    def note(role: str, call: Call) -> None:
        count(role)
        now_s = monotonic()
        last_s, unlogged = logged.get(role, (now_s - LOG_EVERY_S, 0))
        if now_s - last_s < LOG_EVERY_S:
            logged[role] = (last_s, unlogged + 1)
            return
        logged[role] = (now_s, 0)
        _log.warning(
            "the role %s in shadow would refuse %s %s to %s (%d more since the last line)",
            role, call.method, call.name, call.principal.id, unlogged,
        )  # fmt: skip

    def judge(call: Call) -> None:
        """Note on a call which roles in shadow would refuse it."""
        call.shadowed = roles.refusing(
            call.principal,
            METHODS[call.method].permission,
            call.endpoint,
            call.provider,
            call.name,
        )
        for role in call.shadowed:
            note(role, call)

    return judge
