"""The history of the document: what was put in force by hand is written there too.

Knows when to look: at the start and after each reload. Refuses to hold anything up; a database that is away is
tried again at the next reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from waygate_mcp.errors import LimitError, StorageError
from waygate_mcp.model.applied import BY_FILE, digest_of
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.runtime.clear_secrets import without_secrets
from waygate_mcp.storage.config_history import ConfigHistory
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["DocumentRecord"]

CLOSE_S = 5.0

_log = get_logger("runtime.document_record")


class DocumentRecord:
    """Keeps the history in step. `text` gives the document in force, None where there is no file.

    Who changes the document holds `lock` meanwhile.
    """

    def __init__(
        self,
        history: ConfigHistory,
        supervisor: Supervisor,
        text: Callable[[], bytes | None],
    ) -> None:
        self.history = history
        self.lock = asyncio.Lock()
        self._supervisor = supervisor
        self._text = text
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let looks that began come to their end: one that is cut off leaves a connection behind."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    def look(self, reason: str) -> None:
        """Note soon what is in force, if the last entry is about something else. Never blocks or raises."""
        with suppress(LimitError):  # the house closes
            task = self._supervisor.start(self.note(reason), name="record-document")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def note(self, reason: str) -> None:
        """Note what is in force, if the last entry is about something else."""
        async with self.lock:
            data = self._text()
            if data is None:
                return
            text = await asyncio.to_thread(without_secrets, data.decode("utf-8", "replace"))
            try:
                await self.history.add(digest_of(data), text, BY_FILE, reason, unless_last=True)
            except StorageError as exc:
                _log.warning("document_not_recorded", reason=str(exc))
