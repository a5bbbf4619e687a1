"""The caller of what the gateway asks for by itself.

Knows the Caller port. Refuses to hear, and to answer, anything.
"""

from __future__ import annotations

from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.model.call import Answer, LogEvent, Progress, Question

__all__ = ["NOBODY", "Nobody"]


class Nobody:
    """A Caller that wants no log messages, drops events and cannot be asked."""

    log_level: str | None = None

    async def emit(self, event: Progress | LogEvent) -> None:
        """See Caller."""

    async def ask(self, question: Question) -> Answer:
        """See Caller."""
        raise LocalProtocolError("nobody is there to be asked")

    async def close_stream(self) -> None:
        """See Caller."""


NOBODY = Nobody()
