"""Which settings choose which counters."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import settings_in
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.redis_counters import RedisCounters
from waygate_mcp.policy.shared_counters import SharedCounters
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.counters import open_counters, redis_passwords
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.telemetry.metrics import open_metrics


@pytest.mark.parametrize(
    ("more", "is_alone", "kind"),
    [
        ({}, True, LocalCounters),
        ({}, False, SharedCounters),
        ({"redis_url": "unix:///nobody/listens"}, True, RedisCounters),
        ({"redis_url": "unix:///nobody/listens"}, False, RedisCounters),
    ],
)
async def test_each_process_counts_as_far_as_its_settings_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    is_alone: bool,
    kind: type,
) -> None:
    async def look(_: RedisCounters) -> bool:
        return False

    monkeypatch.setattr(RedisCounters, "look", look)
    settings = settings_in(tmp_path, {}, **more)
    with open_metrics(tmp_path, workers=1, version="0") as metrics:
        async with TaskSupervisor() as supervisor, AsyncExitStack() as stack:
            store = await open_counters(
                stack, settings, b"m" * 40, Clock(), metrics, supervisor, is_alone=is_alone
            )
            assert type(store) is kind


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        (None, ()),
        ("redis://h", ()),
        ("redis://user@h", ()),
        ("rediss://:a%2Fsecret@h:1/0", ("a/secret",)),
        ("unix:///run/redis.sock?password=a%2Fsecret", ("a/secret",)),
    ],
)
def test_the_password_is_found_to_be_kept_out_of_logs(
    tmp_path: Path, url: str | None, passwords: tuple[str, ...]
) -> None:
    assert redis_passwords(settings_in(tmp_path, {}, redis_url=url)) == passwords
