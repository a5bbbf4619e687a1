"""Where calls are counted: in this process, in a file its workers share, or in Redis.

Knows the settings that decide it. Refuses to count.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import parse_qs, unquote, urlsplit

from waygate_mcp.config.settings import Settings
from waygate_mcp.model.ports import CounterStore, FarCounterStore, Supervisor
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.redis_counters import LANES, RedisCounters
from waygate_mcp.policy.shared_counters import FILE_NAME, SharedCounters
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.telemetry.metrics import Metrics

__all__ = ["open_counters", "redis_passwords"]


def redis_passwords(settings: Settings) -> tuple[str, ...]:
    """Give the passwords that stand in the address of the Redis, for whoever keeps them out of logs."""
    if settings.redis_url is None:
        return ()
    parts = urlsplit(settings.redis_url.get_secret_value())
    own = (unquote(parts.password),) if parts.password else ()
    return (*own, *parse_qs(parts.query).get("password", ()))


async def open_counters(
    stack: AsyncExitStack,
    settings: Settings,
    master: bytes,
    clock: Clock,
    metrics: Metrics,
    supervisor: Supervisor,
    *,
    is_alone: bool,
) -> FarCounterStore:
    """Open what calls are counted with, to be closed by `stack`; `is_alone` where there are no other workers.

    A Redis that cannot be reached is waited for in the background.
    """
    alone = LocalCounters(clock.monotonic)
    missed = partial(metrics.count_error, "counters_not_shared")
    if settings.redis_url is not None:
        from waygate_mcp.policy.redis_link import RedisLink

        link = RedisLink(settings.redis_url.get_secret_value(), master, LANES)
        stack.push_async_callback(link.close)
        counters = RedisCounters(link, alone, supervisor, missed, workers=settings.workers)
        return await stack.enter_async_context(counters)
    store: CounterStore = alone
    if not is_alone:
        store = stack.enter_context(SharedCounters(settings.run_dir / FILE_NAME, alone, missed))
    return store
