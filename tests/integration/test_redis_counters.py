"""Rates counted in a real Redis: together over processes, alone while it is away, together again after."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.test_limits import check_refusal, discover, document
from tests.integration.test_net_dial import certificate
from tests.support.house import HOST, ask, open_app, settings_in
from tests.support.redis import Server, program, redis_server
from waygate_mcp.model.ports import Bucket, FarCounterStore, Shortage
from waygate_mcp.model.rate import parse_rate
from waygate_mcp.policy import redis_counters
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.limits import buckets_of
from waygate_mcp.policy.redis_counters import LANES, RedisCounters
from waygate_mcp.policy.redis_link import RedisLink
from waygate_mcp.runtime.tasks import TaskSupervisor

MASTER = b"m" * 40
WITHIN_S = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Redis for all tests here but those that end it."""
    if program() is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    with redis_server() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A Redis with a password, for one test."""
    if program() is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    with redis_server("a-password-of-the-tests") as running:
        yield running


class Process:
    """What one process of a gateway has for counting."""

    def __init__(self, counters: RedisCounters, alone: Counter[str]) -> None:
        self.counters = counters
        self.alone = alone

    async def take(self, *buckets: Bucket) -> Shortage | None:
        said = self.counters.take(buckets)
        return await said if inspect.isawaitable(said) else said

    async def passed(self, bucket: Bucket, tries: int) -> int:
        """How many of so many calls at once are let through."""
        said = await asyncio.gather(*(self.take(bucket) for _ in range(tries)))
        return said.count(None)


@asynccontextmanager
async def process(url: str, master: bytes = MASTER, wait_s: float = 1.0) -> AsyncIterator[Process]:
    """A process that counts in the Redis of that address."""
    alone: Counter[str] = Counter()
    link = RedisLink(url, master, LANES)
    async with TaskSupervisor() as supervisor:
        counters = RedisCounters(
            link,
            LocalCounters(asyncio.get_running_loop().time),
            supervisor,
            lambda: alone.update(("calls",)),
            wait_s=wait_s,  # a busy machine of tests is no slow Redis
        )
        async with counters:
            yield Process(counters, alone)
        await link.close()


def bucket(text: str, subject: str = "key:a") -> Bucket:
    (one,) = buckets_of("key", subject, (parse_rate(text),))
    return one


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, within a bound."""
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110 - it is so of what others hold
            await asyncio.sleep(0.01)


async def test_processes_count_together_and_each_installation_for_itself(server: Server) -> None:
    one = bucket("100/day", "key:together")
    async with process(server.url) as left, process(server.url) as right:
        passed = await asyncio.gather(left.passed(one, 80), right.passed(one, 80))
        assert sum(passed) == 100
        shortage = await right.take(one)
        assert shortage is not None
        assert shortage.bucket is one
        assert shortage.retry_after_s == pytest.approx(864, abs=5)
        assert shortage.reset_s == pytest.approx(86_400, abs=5)
        assert not left.alone + right.alone
        async with process(server.url, b"o" * 40) as foreign:
            assert await foreign.passed(one, 10) == 10


async def test_of_several_buckets_all_are_taken_from_or_none(server: Server) -> None:
    wide, narrow = bucket("100/day", "key:both"), bucket("2/day", "key:both tool")
    async with process(server.url) as one:
        said = [await one.take(wide, narrow) for _ in range(4)]
        assert [each is None for each in said] == [True, True, False, False]
        assert said[2] is not None
        assert said[2].bucket is narrow
        assert await one.passed(wide, 200) == 98


async def test_in_the_long_run_the_rate_holds(server: Server) -> None:
    one = bucket("50/second burst 5", "key:long")
    async with process(server.url) as here:
        clock = asyncio.get_running_loop().time
        began_s, passed = clock(), 0
        while clock() - began_s < 0.5:
            passed += await here.take(one) is None
        took_s = clock() - began_s
    assert 5 + 25 - 3 <= passed <= 5 + took_s * 50 + 1


async def test_no_key_names_a_caller_and_all_go_by_themselves(server: Server) -> None:
    async with process(server.url) as here:
        await here.take(bucket("10/second", "key:secretive"))
        names = server.keys()
    assert names
    assert not [name for name in names if "secretive" in name]
    assert all(name.startswith("{waygate:") for name in names)
    async with AsyncExitStack() as stack:
        link = RedisLink(server.url, MASTER, 1)
        stack.push_async_callback(link.close)
        key = link.name(bucket("10/second", "key:secretive").key)
        life_ms = await link._client.pttl(key)
    assert 0 < life_ms <= 1_200


async def test_a_killed_redis_is_noticed_at_once_and_so_is_its_return(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "BEAT_S", 0.1)
    caplog.set_level(logging.INFO)
    day = bucket("100/day", "key:a")
    async with process(own_server.url) as left, process(own_server.url) as right:
        await until(lambda: left.counters.processes == 2)
        assert await left.passed(day, 10) == 10
        own_server.kill()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        assert await left.passed(bucket("100/day", "key:b"), 90) == 50
        assert clock() - began_s < WITHIN_S
        assert left.alone["calls"] == 90
        assert not left.counters.is_up
        assert inspect.isawaitable(left.counters.take((day,))) is False
        warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert 1 <= len(warnings) <= 2, "one of each process"
        assert "cannot be reached" in warnings[0].getMessage()
        assert own_server.password not in caplog.text
        own_server.start()
        await until(lambda: left.counters.is_up)
        await right.take(day)
        await until(lambda: right.counters.is_up)
        again = bucket("100/day", "key:c")
        assert sum(await asyncio.gather(left.passed(again, 80), right.passed(again, 80))) == 100


async def test_a_wrong_password_and_nobody_there_are_told_and_stop_nothing(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = own_server.url.replace(own_server.password, "wrong-secret")
    async with process(wrong) as here:
        assert not here.counters.is_up
        assert "refuses the password; mend user and password" in here.counters.problem
        assert await here.passed(bucket("100/day"), 50) == 25
    own_server.kill()
    async with process(own_server.url) as here:
        assert not here.counters.is_up
        assert "cannot be reached" in here.counters.problem
        assert await here.passed(bucket("100/day"), 50) == 25
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == 2
    assert "wrong-secret" not in caplog.text
    assert own_server.password not in caplog.text


async def test_a_redis_that_hangs_holds_calls_up_once_and_is_used_again_when_it_goes_on(
    own_server: Server,
) -> None:
    async with process(own_server.url, wait_s=0.1) as here:
        await until(lambda: here.counters.is_up)
        own_server.stop()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await here.passed(bucket("100/day"), 200)
        assert clock() - began_s < 2.0
        assert here.alone["calls"] == 200
        assert "did not answer within 0.1 s" in here.counters.problem
        assert not inspect.isawaitable(here.counters.take((bucket("100/day"),)))
        own_server.go_on()
        await until(lambda: here.counters.is_up)
        assert await here.passed(bucket("100/day", "key:later"), 1) == 1


async def test_with_tls_the_certificate_and_the_name_are_checked(tmp_path: Path) -> None:
    if program() is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    certificate(tmp_path, "localhost")
    pem = tmp_path / "both.pem"
    with redis_server("a-password-of-the-tests", tls=pem) as server:
        base = f"rediss://:{server.password}@%s:{server.port}/0"
        async with process(f"{base % 'localhost'}?ssl_ca_certs={pem}") as here:
            assert here.counters.is_up, here.counters.problem
            assert await here.passed(bucket("100/day"), 150) == 100
        for url in (base % "localhost", f"{base % '127.0.0.1'}?ssl_ca_certs={pem}"):
            async with process(url) as here:
                assert not here.counters.is_up
                assert "cannot be reached" in here.counters.problem
                assert "certificate" in here.counters.problem


async def test_two_gateways_share_a_rate_through_their_doors(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    rates = document(default=["3/day"])
    one = settings_in(tmp_path / "one", rates, redis_url=server.url)
    two = settings_in(tmp_path / "two", rates, redis_url=server.url)
    async with open_app(one) as (left, house), open_app(two) as (right, _):
        statuses = [(await discover(app)).status for app in (left, right, left)]
        assert statuses == [200] * 3
        check_refusal(await discover(right), "3")
        refused = await discover(left)
        check_refusal(refused, "3")
        assert refused.json()["error"]["code"] == 4429
        store: FarCounterStore = house.foundation.counters
        assert isinstance(store, RedisCounters)
        health = await ask(left, "/health", headers=(HOST,))
        assert health.json()["checks"]["cache"] == {"status": "healthy"}
