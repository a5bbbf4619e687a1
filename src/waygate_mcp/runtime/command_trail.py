"""The audit journal of a command that changes something while no server, or another process, serves.

A chain of its own, begun with the first record, closed and anchored when the command ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waygate_mcp.config.settings import Settings
from waygate_mcp.model.ports import AuditTrail
from waygate_mcp.runtime.audit import AuditRoom
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.storage.engine import Database
from waygate_mcp.telemetry.logs import open_logs

__all__ = ["command_trail"]


@asynccontextmanager
async def command_trail(
    settings: Settings, master: bytes, database: Database
) -> AsyncIterator[AuditTrail]:
    """Give where a command records what it does. One that records nothing leaves nothing behind."""
    with open_logs(settings, descriptor=None, file=False) as logs:
        async with TaskSupervisor() as supervisor:
            room = AuditRoom(settings, master, logs, Clock(), supervisor, database)
            try:
                yield room.trail
            finally:
                await room.close()
