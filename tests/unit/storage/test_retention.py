"""How long records are promised to be kept."""

from __future__ import annotations

from waygate_mcp.storage.retention import DAYS


def test_the_days_are_those_that_are_promised() -> None:
    days = {table.name: count for table, count in DAYS.items()}
    assert days["command_history"] == 90
    assert days["execution_logs"] == 60
    assert days["metrics"] == 30
