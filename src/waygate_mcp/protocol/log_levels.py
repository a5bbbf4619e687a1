"""The eight log levels of MCP (RFC 5424), and which passes which.

Spec: 2025-11-25 server/utilities/logging, "Log Levels".
"""

from __future__ import annotations

__all__ = ["LOG_LEVELS", "is_loud_enough"]

LOG_LEVELS: dict[str, int] = {
    name: rank
    for rank, name in enumerate(
        ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
    )
}
"""Level name → rank, the least severe 0."""


def is_loud_enough(level: str, minimum: str | None) -> bool:
    """Tell whether a message of `level` reaches a client that wants `minimum` and above.

    A minimum of None means the client wants none; an unknown level or minimum passes nothing.
    """
    if minimum is None or minimum not in LOG_LEVELS:
        return False
    return LOG_LEVELS.get(level, -1) >= LOG_LEVELS[minimum]
