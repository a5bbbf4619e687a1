"""What workers tell each other: batches, outboxes, what is taken and from whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.dialogues import live_state, ring
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.errors import UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.gateway.places import Place
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged, ResourceUpdated
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.runtime import peers as module
from waygate_mcp.runtime.peers import NEWS_PATH, Peers, Workplace
from waygate_mcp.runtime.tasks import TaskSupervisor

TOOLS = ListChanged("box", Kind.TOOL)


class Way:
    """Stands for the transport to one worker: it hears what it is told, or fails."""

    def __init__(self, path: Path, name: str, _limits: object) -> None:
        self.path, self.name = path, name
        self.sent: list[bytes] = []
        self.status = 202
        self.error: Exception | None = None
        self.is_open = False

    async def __aenter__(self) -> Way:
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Any, body: bytes
    ) -> AsyncIterator[Any]:
        assert (method, path) == ("POST", NEWS_PATH)
        self.sent.append(body)
        if self.error is not None:
            raise self.error
        yield SimpleNamespace(status=self.status)


class Worker:
    """One worker's peers, and what it heard."""

    def __init__(self, slot: int, supervisor: TaskSupervisor, keys: KeyRing | None = None) -> None:
        self.heard: list[Event] = []
        self.live = live_state(Place(slot, 3))
        workplace = Workplace(Place(slot, 3), Path("/nowhere"), b"key")
        self.peers = Peers(workplace, keys or ring(), supervisor, self.live, self.heard.append)

    def way(self, slot: int) -> Way:
        found: Any = self.peers.way_to(slot)
        assert type(found) is Way
        return found


@pytest.fixture(autouse=True)
def _ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UnixTransport", Way)


@virtual_time
async def test_a_change_is_told_to_all_others_once() -> None:
    async with TaskSupervisor() as supervisor:
        first, second = Worker(0, supervisor), Worker(1, supervisor)
        async with first.peers:
            assert all(first.way(slot).is_open for slot in (1, 2))
            first.peers.tell(TOOLS)
            first.peers.tell(TOOLS)
            first.peers.tell(ElicitationCompleted("box", "a-session", "e-1"))  # of this worker's
            first.peers.tell(ResourceUpdated("box", "memo://a"))
            first.peers.tell(ResourceUpdated("box", "memo://a", "a-session"))
            await settle()
            assert [len(first.way(slot).sent) for slot in (1, 2)] == [1, 1]
            assert second.peers.take(first.way(1).sent[0])
        assert not first.way(1).is_open
        assert second.heard == [
            TOOLS,
            ResourceUpdated("box", "memo://a"),
            ResourceUpdated("box", "memo://a", "a-session"),
        ]
        assert not first.heard


@virtual_time
async def test_ends_and_returns_reach_the_sessions_of_others() -> None:
    async with TaskSupervisor() as supervisor:
        first, second = Worker(0, supervisor), Worker(1, supervisor)
        done: list[Any] = []
        second.live.sessions = SimpleNamespace(  # type: ignore[assignment]
            end_elsewhere=lambda *given: done.append(given), give_back=done.append
        )
        async with first.peers:
            first.peers.tell_of_end("a-session", 17)
            first.peers.tell_of_return()
            await settle()
            assert second.peers.take(first.way(1).sent[0])
        assert done == [("a-session", 17), 0]


@virtual_time
async def test_what_no_worker_sealed_is_not_taken() -> None:
    async with TaskSupervisor() as supervisor:
        stranger = Worker(0, supervisor, KeyRing.from_master(b"x" * 32))
        second = Worker(1, supervisor)
        async with stranger.peers:
            stranger.peers.tell(TOOLS)
            await settle()
            assert not second.peers.take(stranger.way(1).sent[0])
        assert not second.peers.take(b"\xff")
        assert not second.peers.take(ring().seal(b"\xc1", "worker-news").encode())
        assert not second.heard


@virtual_time
async def test_much_news_is_told_in_several_messages() -> None:
    async with TaskSupervisor() as supervisor:
        first, second = Worker(0, supervisor), Worker(1, supervisor)
        async with first.peers:
            for number in range(30):
                first.peers.tell(ResourceUpdated("box", f"memo://{number}/" + "é" * 4_000))
            first.peers.tell(ResourceUpdated("box", "memo://long/" + "x" * 100_000))
            await settle(100)
            batches = first.way(1).sent
            assert len(batches) > 3
            assert all(map(second.peers.take, batches))
        assert len(second.heard) == 31


@virtual_time
async def test_what_cannot_be_told_is_dropped_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_DUE", 2)
    async with TaskSupervisor() as supervisor:
        first, second = Worker(0, supervisor), Worker(1, supervisor)
        async with first.peers:
            with capture_logs() as lines:
                for number in range(3):
                    first.peers.tell(ResourceUpdated("box", f"memo://{number}"))
            assert [line["event"] for line in lines] == ["news_dropped"] * 2, "one at each outbox"
            await settle()
            assert second.peers.take(first.way(1).sent[0])
        assert [event.uri for event in second.heard if isinstance(event, ResourceUpdated)] == [
            "memo://1",
            "memo://2",
        ]


@pytest.mark.parametrize(
    ("error", "status", "is_said"),
    [
        (UpstreamUnavailableError("w", "nobody listens"), 202, False),
        (UpstreamTimeoutError("w", "hangs"), 202, True),
        (TimeoutError(), 202, True),
        (None, 403, True),
        (None, 202, False),
    ],
)
@virtual_time
async def test_one_that_cannot_be_told_holds_nobody_up(
    error: Exception | None, status: int, is_said: bool
) -> None:
    async with TaskSupervisor() as supervisor:
        first = Worker(0, supervisor)
        async with first.peers:
            first.way(1).error, first.way(1).status = error, status
            with capture_logs() as lines:
                first.peers.tell(TOOLS)
                await settle()
            assert bool([line for line in lines if line["event"] == "news_not_told"]) is is_said
            assert len(first.way(2).sent) == 1
            first.peers.tell(TOOLS)
            await settle()
            assert len(first.way(1).sent) == 2


@virtual_time
async def test_a_server_that_stops_tells_nobody() -> None:
    async with TaskSupervisor() as supervisor:
        first = Worker(0, supervisor)
        await supervisor.close()
        first.peers.tell(TOOLS)
        assert not first.way(1).sent


@virtual_time
async def test_who_is_missing_is_known_by_the_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_listening", lambda path: path.name == "1.sock")
    worker = Worker(0, TaskSupervisor())
    assert worker.peers.missing() == [2]
    assert worker.peers.is_there(1)
    workplace = Workplace(Place(0, 3), Path("/run"), b"")
    assert str(workplace.host_socket) == "/run/host.sock"


@virtual_time
async def test_a_changed_document_is_loaded_by_all_others() -> None:
    async with TaskSupervisor() as supervisor:
        loaded: list[int] = []
        first, second = Worker(0, supervisor), Worker(1, supervisor)
        async with first.peers:
            first.peers.tell_of_document()
            await settle()
            (sealed,) = first.way(1).sent
        assert second.peers.take(sealed), "before there is anything to be loaded"
        second.peers.on_document = lambda: loaded.append(1)
        assert second.peers.take(sealed)
        assert loaded == [1]
        assert second.heard == []
