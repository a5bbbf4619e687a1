"""What is recorded of the process, beside logs and metrics: for people, in the database.

Knows which figures are kept and when records are pruned. All of it goes through
the background writer; nothing here is awaited by a call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from waygate_mcp import __version__
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.reload import ReloadReport
from waygate_mcp.storage.history import (
    EventRecord,
    Figure,
    write_events,
    write_figures,
)
from waygate_mcp.storage.retention import Pruner

__all__ = ["Records"]

FIGURES_EVERY_S = 300.0


class Records:
    """What this process tells of itself: starts, stops, reloads, and some figures now and then."""

    def __init__(self, foundation: Foundation) -> None:
        self._foundation = foundation
        self._process = str(os.getpid())

    def open(self) -> None:
        """Tell of the start; measure and prune from now on, until the supervisor ends it."""
        found = self._foundation
        self.tell("start", "info", f"Waygate {__version__} started")
        found.supervisor.start(self._measure(), name="figures")
        found.supervisor.start(Pruner(found.database, found.clock.now).run(), name="prune-records")

    def close(self) -> None:
        """Tell of the stop."""
        self.tell("stop", "info", "Waygate stopped")

    def tell_of_reload(self, report: ReloadReport) -> None:
        """Tell how a reload went."""
        words = "the configuration was put in force" if report.is_done else "a reload failed"
        self.tell(
            "reload",
            "info" if report.is_done else "error",
            words,
            {"generation": report.number, "reason": report.reason, "problems": report.problems},
        )

    def tell(
        self,
        kind: str,
        severity: str,
        message: str,
        data: Mapping[str, Any] | None = None,
        subject: str | None = None,
    ) -> None:
        """Record an event. Never blocks, never raises."""
        found = self._foundation
        data = {"process": self._process, **(data or {})}
        event = EventRecord(found.clock.now(), kind, severity, subject, message, data)
        found.writer.add(write_events, event)

    def measure(self) -> None:
        """Record the figures of this moment."""
        found, labels = self._foundation, {"process": self._process}
        at_s, snapshot = found.clock.now(), found.metrics.snapshot()
        values = dict(snapshot.gauges)
        calls = snapshot.histograms["calls"]
        values["mcp_calls_total"] = sum(sum(cell[:-1]) for _, cell in calls)
        values["mcp_calls_seconds_total"] = sum(cell[-1] for _, cell in calls)
        values["errors_total"] = sum(snapshot.counters["errors"].values())
        for name, value in values.items():
            found.writer.add(write_figures, Figure(at_s, name, labels, value))

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_EVERY_S)
            self.measure()
