from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.providers import Announced, TaskGroupSupervisor, make_call, viewer
from tests.support.scripted import Scripted, text
from waygate_mcp.errors import (
    LimitError,
    RpcError,
    TooLargeError,
    UnknownNameError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.call import Call, Reply
from waygate_mcp.model.catalog import Kind, Listing, Viewer
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.facts import Facts
from waygate_mcp.model.principal import Principal
from waygate_mcp.upstreams.breaker import LeftAloneError
from waygate_mcp.upstreams.status import Ledger, SteadyLimits
from waygate_mcp.upstreams.steady import SteadyUpstream

CALL = {"name": "t"}


class Fake(Scripted):
    """A connector that does as `failure` says."""

    eras: tuple[str, ...] = ("modern",)
    revision = "2026-07-28"
    is_interactive = False
    refused_questions = 0
    probed = 0
    forgotten = ""
    told_of_roots = ""
    probing: asyncio.Event | None = None
    silence: Exception | None = None
    listing_failure: Exception | None = None

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        if self.listing_failure is not None:
            raise self.listing_failure
        return await super().listing(kind, viewer)

    def forget_session(self, session_id: str) -> None:
        self.forgotten = session_id

    def tell_roots_changed(self, session_id: str) -> None:
        self.told_of_roots = session_id

    async def probe(self) -> None:
        self.probed += 1
        if self.probing is not None:
            self.probing.set()
            await asyncio.Event().wait()
        if self.silence is not None:
            raise self.silence

    refreshed = 0

    async def refresh(self, kind: Kind, viewer: Any) -> None:
        self.refreshed += 1

    @asynccontextmanager
    async def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AsyncIterator[frozenset[str]]:
        yield frozenset(ids)


class House:
    def __init__(self, **limits: Any) -> None:
        self.s = 1_000.0
        self.step_s = 0.0
        self.fake = Fake("up")
        self.fake.tool("t", self.answer)
        self.failure: Exception | None = None
        self.down: Exception | None = None
        self.opened = self.closed = 0
        self.gate: asyncio.Event | None = None
        self.opening_gate: asyncio.Event | None = None
        self.announced = Announced()
        self.counted: list[str] = []
        self.kept: list[Facts] = []
        self.supervisor = TaskGroupSupervisor()
        self.upstream = SteadyUpstream(
            "up",
            self.open,
            self.announced,
            supervisor=self.supervisor,
            limits=SteadyLimits(**{"list_wait_s": 0.01, **limits}),
            now=self.now,
            ledger=Ledger(None, self.kept.append, self.counted.append),
        )

    @asynccontextmanager
    async def open(self, _announce: Any) -> AsyncIterator[Fake]:
        if self.opening_gate is not None:
            await self.opening_gate.wait()
        if self.down is not None:
            raise self.down
        self.opened += 1
        try:
            yield self.fake
        finally:
            self.closed += 1

    async def answer(self, _call: Call) -> Reply:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return text("fine")

    def now(self) -> float:
        self.s += self.step_s
        return self.s

    def is_known(self) -> bool:
        return self.upstream.is_known

    def health(self) -> str:
        return self.upstream.status.state

    async def call(self) -> Any:
        return await self.upstream.call(make_call("tools/call", CALL))

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises((UpstreamTimeoutError, UpstreamUnavailableError)):
                await self.call()

    async def end(self) -> None:
        await self.upstream.close()
        await self.supervisor.close()
        assert self.opened == self.closed


async def test_it_is_opened_once_for_all_and_its_lists_are_announced() -> None:
    house = House()
    assert house.health() == "new"
    await asyncio.gather(*(house.call() for _ in range(5)))
    assert house.opened == 1
    assert house.announced.events == [ListChanged("up", kind) for kind in Kind]
    assert house.health() == "ready"
    assert house.upstream.status.eras == ("modern",)
    await house.end()


async def test_failures_in_a_row_leave_it_alone_and_a_trial_brings_it_back() -> None:
    house = House(failures=3)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(3)
    asked = len(house.fake.calls)
    with pytest.raises(UpstreamUnavailableError) as caught:
        await house.call()
    assert "up" in caught.value.safe_message
    assert len(house.fake.calls) == asked
    assert house.health() == "down"
    house.s += 2
    house.failure = None
    await house.call()
    assert house.health() == "ready"
    await house.end()


async def test_a_trial_that_fails_opens_a_new_connector_for_the_next() -> None:
    house = House(failures=2)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(2)
    house.s += 2
    await house.fail(1)
    house.s += 5
    house.failure = None
    await house.call()
    assert house.opened == 2
    await house.end()


async def test_an_answer_the_client_did_not_hope_for_is_an_answer() -> None:
    house = House(failures=1)
    house.failure = RpcError(-32602, "no")
    for _ in range(3):
        with pytest.raises(RpcError):
            await house.call()
    assert house.upstream.status.breaker == "closed"
    await house.end()


async def test_calls_ended_by_their_deadline_count_and_impatient_clients_do_not() -> None:
    house = House(failures=1)
    await house.call()
    house.gate = asyncio.Event()
    for deadline_s, state in ((house.s + 10, "closed"), (house.s - 10, "open")):
        call = make_call("tools/call", CALL)
        call.deadline_s = deadline_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await house.upstream.call(call)
        assert house.upstream.status.breaker == state
    await house.end()


async def test_a_slow_upstream_holds_a_bounded_number_of_calls() -> None:
    house = House(calls=1, waiting=0)
    await house.call()
    house.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.call())
        await asyncio.sleep(0)
        with pytest.raises(LimitError):
            await house.call()
        assert house.upstream.status.in_flight == 1
        house.gate.set()
    await house.end()


async def test_a_list_is_shown_as_last_read_while_the_upstream_fails_and_no_longer_than_that() -> (
    None
):
    house = House(failures=1, stale_s=1_000)
    listing = await house.upstream.listing(Kind.TOOL, viewer())
    assert [entry.name for entry in listing.entries] == ["t"]
    assert listing.version == 1
    again = await house.upstream.listing(Kind.TOOL, viewer())
    assert (again.version, house.fake.listed) == (1, 1)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    house.s += 0.1
    kept = await house.upstream.listing(Kind.TOOL, viewer())
    assert kept.entries == listing.entries
    house.s += 2_000
    house.upstream._breaker._until_s = house.s + 10
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    await house.end()


async def test_a_list_that_takes_long_is_empty_first_and_announced_when_it_is_there() -> None:
    house = House()
    house.fake.pause = asyncio.Event()
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    house.announced.events.clear()
    house.fake.pause.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries
    assert house.fake.listed == 1
    await house.end()


async def test_one_that_cannot_be_opened_says_why_and_lists_nothing() -> None:
    house = House()
    house.down = UpstreamUnavailableError("up", "refused\x1b")
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    with pytest.raises(UpstreamUnavailableError):
        await house.call()
    assert house.health() == "failing"
    assert house.upstream.status.last_error == "refused\\x1b"
    house.down = None
    await house.call()
    assert house.upstream.status.last_error == ""
    await house.end()


async def test_who_hears_of_tasks_holds_the_connector_as_a_call_does() -> None:
    house = House(failures=1)
    left = asyncio.Event()

    @asynccontextmanager
    async def telling(ids: Any, on_task: Any, on_end: Any) -> AsyncIterator[frozenset[str]]:
        on_task(b"{}")
        on_end()
        yield frozenset(ids)
        left.set()

    house.fake.tell_of_tasks = telling  # type: ignore[method-assign]
    heard: list[Any] = []
    async with house.upstream.tell_of_tasks(
        ("a",), heard.append, lambda: heard.append("end")
    ) as ids:
        assert ids == {"a"}
        assert heard == [b"{}", "end"]
        await house.upstream.reopen()
        assert (house.opened, house.closed) == (2, 0)
    assert left.is_set()
    await house.upstream.close()
    house.down = UpstreamUnavailableError("up", "away")
    with pytest.raises(UpstreamUnavailableError):
        async with house.upstream.tell_of_tasks((), heard.append, left.set):
            pass


async def test_every_request_is_counted_by_how_it_ended() -> None:
    house = House(failures=2, calls=1, waiting=0)
    await house.call()
    house.failure = RpcError(-32602, "no")
    with pytest.raises(RpcError):
        await house.call()
    house.failure = LimitError("sessions", limit="sessions")
    with pytest.raises(LimitError):
        await house.call()
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    house.failure = UpstreamUnavailableError("up", "refused")
    await house.fail(2)
    assert house.counted == ["ok", "error", "refused", "timeout", "failed", "refused"]
    await house.end()


async def test_calls_given_up_and_lists_are_counted_too() -> None:
    house = House()
    await house.upstream.listing(Kind.TOOL, viewer())
    house.gate = asyncio.Event()
    for deadline_s in (house.s + 10, house.s - 10):
        call = make_call("tools/call", CALL)
        call.deadline_s = deadline_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await house.upstream.call(call)
    house.fake.listing_failure = UpstreamTimeoutError("up", "no answer")
    await house.upstream.listing(Kind.PROMPT, viewer())
    assert house.counted == ["ok", "cancelled", "timeout", "timeout"]
    await house.end()


async def test_a_bound_of_ours_says_nothing_of_the_upstream() -> None:
    house = House(failures=1)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    house.s += 2
    house.failure = LimitError("sessions", limit="sessions")
    with pytest.raises(LimitError):
        await house.call()
    assert house.upstream.status.breaker == "half-open"
    await house.end()


async def test_calls_that_find_it_left_alone_prolong_nothing() -> None:
    house = House(failures=2)
    await house.call()
    house.failure = LeftAloneError("up", "broke off; not opened again for 0.4 s")
    for _ in range(10):
        with pytest.raises(LeftAloneError):
            await house.call()
    house.fake.silence = house.failure
    await house.upstream.probe()
    status = house.upstream.status
    assert (status.state, status.breaker) == ("failing", "closed")
    assert "not opened again" in status.last_error
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(2)
    house.s += 2
    house.failure = LeftAloneError("up", "broke off; not opened again for 0.4 s")
    with pytest.raises(LeftAloneError):
        await house.call()
    house.failure = None
    await house.call()
    assert (house.health(), house.opened) == ("ready", 1), "nothing was let go of"
    await house.end()


async def test_an_opening_that_is_put_off_is_no_failure_wherever_it_is_met() -> None:
    house = House(failures=2)
    house.down = LeftAloneError("up", "broke off; not opened again for 0.4 s")
    for _ in range(3):
        with pytest.raises(LeftAloneError):
            await house.call()
        await house.upstream.probe()
        assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "missing"
    assert house.upstream.status.breaker == "closed"
    assert set(house.counted) == {"refused"}
    house.down = None
    await house.call()
    assert house.health() == "ready"
    await house.end()


async def test_answers_too_large_for_one_caller_do_not_shut_it_for_the_others() -> None:
    house = House(failures=2)
    house.failure = TooLargeError(16)
    for _ in range(5):
        with pytest.raises(TooLargeError):
            await house.call()
    assert house.counted == ["failed"] * 5
    assert (house.upstream.status.breaker, house.health()) == ("closed", "ready")
    house.failure = None
    assert await house.call() == text("fine")
    await house.end()


async def test_answers_too_large_do_not_hide_that_it_fails_otherwise() -> None:
    house = House(failures=2)
    for failure in (UpstreamTimeoutError("up", "no answer"), TooLargeError(16)):
        house.failure = failure
        with pytest.raises(type(failure)):
            await house.call()
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    assert house.upstream.status.breaker == "open"
    await house.end()


async def test_a_probe_answered_with_too_much_counts_since_no_caller_chose_it() -> None:
    house = House(failures=1)
    await house.call()
    house.fake.silence = TooLargeError(16)
    await house.upstream.probe()
    assert house.upstream.status.breaker == "open"
    await house.end()


async def test_a_list_too_large_counts_and_a_bound_of_ours_does_not() -> None:
    house = House(failures=1)
    states: list[str] = []
    for failure in (LimitError("sessions", limit="sessions"), TooLargeError(16)):
        house.fake.listing_failure = failure
        await house.upstream.listing(Kind.TOOL, viewer())
        states.append(house.upstream.status.breaker)
    assert states == ["closed", "open"]
    await house.end()


async def test_the_gate_is_asked_last_before_a_call_leaves() -> None:
    house = House(calls=1)
    asked: list[str] = []
    verdict: Exception | None = None

    async def check() -> None:
        asked.append(f"looked, {house.opened} opened, {len(house.fake.calls)} sent")
        if verdict is not None:
            raise verdict

    def gate(_call: Call) -> Awaitable[None] | None:
        asked.append("asked")
        return check() if len(asked) % 3 == 1 else None

    call = make_call("tools/call", CALL)
    call.gate = gate
    await house.upstream.call(call)
    assert asked == ["asked", "looked, 1 opened, 0 sent", "asked"], "and once more after a look"
    asked.clear()
    verdict = UnknownNameError("tool", "t")
    with pytest.raises(UnknownNameError):
        await house.upstream.call(call)
    assert (len(house.fake.calls), house.health()) == (1, "ready"), "not sent, and no failure of it"
    asked.clear()
    verdict = None
    house.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.call())
        group.create_task(house.upstream.call(call))
        await asyncio.sleep(0)
        assert asked == [], "while it waits for its turn much may happen: it is asked after that"
        house.gate.set()
    assert asked == ["asked", "looked, 1 opened, 2 sent", "asked"]
    await house.end()


async def test_one_that_was_left_alone_comes_back_by_itself_and_its_lists_are_announced() -> None:
    house = House(failures=1)
    await house.upstream.listing(Kind.TOOL, viewer())
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    assert (house.health(), house.upstream.is_up) == ("down", False)
    await house.upstream.probe()
    assert house.fake.probed == 0
    house.s += 2
    house.announced.events.clear()
    await house.upstream.probe()
    assert (house.health(), house.upstream.is_up) == ("ready", True)
    assert house.announced.events == [ListChanged("up", kind) for kind in Kind]
    listed = house.fake.listed
    await house.upstream.listing(Kind.TOOL, viewer())
    assert house.fake.listed == listed + 1
    await house.end()


async def test_a_probe_opens_what_is_not_open_and_notes_what_does_not_answer() -> None:
    house = House(failures=3)
    house.down = UpstreamUnavailableError("up", "refused")
    await house.upstream.probe()
    assert (house.health(), house.upstream.is_up) == ("failing", False)
    house.down = None
    house.fake.silence = UpstreamUnavailableError("up", "broken")
    await house.upstream.probe()
    assert house.upstream.status.last_error == "broken"
    house.fake.silence = LimitError("sessions", limit="sessions")
    await house.upstream.probe()
    assert house.upstream.status.breaker == "closed"
    house.fake.silence = None
    await house.upstream.probe()
    assert house.health() == "ready"
    await house.end()


async def test_a_new_connection_is_told_who_subscribed_to_what_and_old_ones_are_forgotten() -> None:
    house = House()
    for method in ("resources/subscribe", "resources/unsubscribe"):
        house.fake._scripts[method, "*"] = lambda _: text("")

    async def say(method: str, uri: str) -> None:
        await house.upstream.call(make_call(method, {"uri": uri}, session_id="s"))

    await say("resources/subscribe", "a://1")
    await say("resources/subscribe", "a://2")
    await say("resources/unsubscribe", "a://2")
    house.fake.calls.clear()
    await house.upstream.reopen()
    await house.announced.wait_for(ResourceUpdated("up", "a://1"))
    assert [(call.method, call.target) for call in house.fake.calls] == [
        ("resources/subscribe", "a://1")
    ]
    house.upstream.forget_session("s")
    assert len(house.upstream.subscriptions) == 0
    assert house.fake.forgotten == "s"
    await house.end()


async def test_one_that_is_tried_again_fails_until_it_is_open() -> None:
    house = House()
    assert house.health() == "new"
    house.down = UpstreamUnavailableError("up", "refused")
    task = house.upstream._begin_opening()
    assert house.health() == "opening"
    await asyncio.wait({task})
    task = house.upstream._begin_opening()
    assert house.health() == "failing"
    house.down = None
    await asyncio.wait({task})
    assert house.health() == "ready"
    await house.end()


async def test_a_probe_is_bounded_and_one_that_is_cancelled_says_nothing() -> None:
    house = House(failures=1, probe_timeout_s=0.0)
    house.fake.probing = asyncio.Event()
    await house.upstream.probe()
    assert house.health() == "down"
    assert "did not answer a probe" in house.upstream.status.last_error
    await house.end()
    house = House(failures=1)
    house.fake.probing = asyncio.Event()
    task = house.supervisor.start(house.upstream.probe(), name="probe")
    await house.fake.probing.wait()
    task.cancel()
    await asyncio.wait({task})
    assert house.upstream.status.breaker == "closed"
    await house.end()


async def test_one_nobody_calls_is_looked_after_and_one_that_is_called_is_not() -> None:
    house = House(probe_s=0.001)
    house.step_s = 1.0
    house.fake.probing = asyncio.Event()
    house.upstream.start()
    async with asyncio.timeout(5):
        await house.fake.probing.wait()
    await house.end()
    house = House(probe_s=0.001)
    house.step_s = 1.0
    house.gate = asyncio.Event()
    call = house.supervisor.start(house.call(), name="call")
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    house.upstream.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.shield(call)
    assert house.fake.probed == 0
    house.gate.set()
    await asyncio.wait({call})
    await house.end()


async def test_one_that_begins_to_fail_is_looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.upstreams.breaker.random.uniform", lambda *_: 0.001)
    house = House(probe_s=3_000.0)
    house.step_s = 0.001
    await house.call()
    house.upstream.start()
    await asyncio.sleep(0)
    house.failure = UpstreamTimeoutError("up", "no answer")
    house.fake.probing = asyncio.Event()
    await house.fail(1)
    async with asyncio.timeout(2):
        await house.fake.probing.wait()
    await house.end()


async def test_what_it_can_do_is_kept_once_it_is_known() -> None:
    house = House()
    assert not house.is_known()
    await house.call()
    assert house.is_known()
    (facts,) = house.kept
    assert (facts.features, facts.eras, facts.revision) == (
        house.fake.features, ("modern",), "2026-07-28",
    )  # fmt: skip
    house.fake.eras = ("modern", "legacy")
    await house.end()
    assert house.kept[-1].eras == ("modern", "legacy")


async def test_a_list_says_whether_it_is_as_asked_an_older_copy_or_not_there() -> None:
    house = House(failures=100, list_wait_s=5)
    house.down = UpstreamUnavailableError("up", "refused")
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "missing"
    house.down = None
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "current"
    house.s += 61
    house.fake.list_failure = UpstreamTimeoutError("up", "no answer")
    for _ in range(2):  # the second time the copy is not asked for again yet
        kept = await house.upstream.listing(Kind.TOOL, viewer())
        assert ([entry.name for entry in kept.entries], kept.condition) == (["t"], "kept")
    house.fake.list_failure = None
    house.s += 2
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "current"
    await house.end()


async def test_a_list_that_hangs_is_waited_for_once_and_not_by_everybody_in_turn() -> None:
    house = House(list_wait_s=0.02)
    house.fake.pause = asyncio.Event()
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "missing"
    house.s += 0.02
    async with asyncio.timeout(0.01):
        for _ in range(100):
            await house.upstream.listing(Kind.TOOL, viewer())
    assert house.fake.listed == 1
    house.fake.pause.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    await house.end()


async def test_one_that_hangs_while_it_is_opened_is_waited_for_once_by_all_together() -> None:
    house = House(list_wait_s=0.5)
    house.opening_gate = asyncio.Event()
    house.upstream.start()
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "missing"
    house.s += 0.5
    async with asyncio.timeout(0.01):
        for number in range(50):
            somebody = viewer(Principal(f"key:{number}", "Somebody"))
            assert (await house.upstream.listing(Kind.TOOL, somebody)).condition == "missing"
    house.opening_gate.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "current"
    await house.end()


async def test_a_copy_that_became_old_is_shown_soon_and_one_that_was_changed_is_waited_for() -> (
    None
):
    house = House(list_wait_s=5, copy_wait_s=0.01)
    await house.upstream.listing(Kind.TOOL, viewer())
    house.fake.tool("new")
    house.fake.pause = asyncio.Event()
    house.s += 61
    async with asyncio.timeout(3):
        soon = await house.upstream.listing(Kind.TOOL, viewer())
    assert ([entry.name for entry in soon.entries], soon.ttl_ms) == (["t"], 1_000)
    assert soon.condition == "current"  # it is being read, and may still take its time
    house.s += 5
    assert (await house.upstream.listing(Kind.TOOL, viewer())).condition == "kept"
    house.announced.events.clear()
    house.fake.pause.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    house.upstream._hear(ListChanged("up", Kind.TOOL))
    house.fake.pause = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, house.fake.pause.set)
    changed = await house.upstream.listing(Kind.TOOL, viewer())
    assert [entry.name for entry in changed.entries] == ["t", "new"]
    await house.end()


async def test_a_list_whose_reader_left_is_announced_when_it_is_there() -> None:
    house = House(list_wait_s=5)
    await house.upstream.listing(Kind.PROMPT, viewer())
    house.announced.events.clear()
    house.fake.pause = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await house.upstream.listing(Kind.TOOL, viewer())
    house.fake.pause.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    await house.end()


async def test_a_list_is_read_again_on_request_however_fresh_it_is() -> None:
    house = House(list_wait_s=5)
    await house.upstream.refresh(Kind.TOOL, viewer())  # nothing is open: it opens
    await house.upstream.listing(Kind.TOOL, viewer())
    house.fake.tool("new")
    await house.upstream.refresh(Kind.TOOL, viewer())
    listing = await house.upstream.listing(Kind.TOOL, viewer())
    assert [entry.name for entry in listing.entries] == ["t", "new"]
    assert (house.fake.listed, house.fake.refreshed) == (2, 1)
    await house.end()


async def test_a_session_that_is_over_is_forgotten_by_the_open_connector() -> None:
    house = House()
    forgotten: list[str] = []
    house.fake.forget_session = forgotten.append  # type: ignore[method-assign,assignment]
    house.upstream.forget_session("front-1")  # nothing is open, so nothing is kept
    await house.call()
    house.upstream.forget_session("front-2")
    assert forgotten == ["front-2"]
    await house.upstream.close()


async def test_changed_roots_are_told_by_the_open_connector() -> None:
    house = House()
    house.upstream.tell_roots_changed("front-1")  # nothing is open, so nobody is told
    assert house.fake.told_of_roots == ""
    await house.call()
    house.upstream.tell_roots_changed("front-2")
    assert house.fake.told_of_roots == "front-2"
    await house.upstream.close()


class Plain(Scripted):
    """A connector that keeps no lists."""

    eras: tuple[str, ...] = ("modern",)
    revision = "2026-07-28"
    is_interactive = False
    refused_questions = 0


async def test_a_connector_that_keeps_no_lists_need_not_be_told() -> None:
    house = House(list_wait_s=5)
    house.fake = plain = Plain("up")  # type: ignore[assignment]
    await house.upstream.listing(Kind.TOOL, viewer())
    plain.tool("t")
    await house.upstream.refresh(Kind.TOOL, viewer())
    listing = await house.upstream.listing(Kind.TOOL, viewer())
    assert ([entry.name for entry in listing.entries], plain.listed) == (["t"], 2)
    await house.end()
