"""One request and its response: written once, recorded once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.dialogues import person
from tests.support.virtual_time import now, virtual_time
from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.telemetry.logs import RequestRecord
from waygate_mcp.web.cycle import CYCLE
from waygate_mcp.web.visit import Visit


class House:
    """What a visit records into."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.counted: list[tuple[str, str, int]] = []
        self.request_log = SimpleNamespace(write=self.records.append)
        self.clock = SimpleNamespace(now=lambda: 0.0)
        self.metrics = SimpleNamespace(observe_request=self._count)

    def _count(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.counted.append((method, endpoint, status))


class Cycle:
    """The extension: takes whole answers, unless it is told not to."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.body = b"hello"
        self.answers: list[tuple[int, Any, bytes]] = []

    def take_body(self) -> bytes:
        return self.body

    def answer(self, status: int, headers: Any, body: bytes) -> bool:
        if self.takes:
            self.answers.append((status, headers, body))
        return self.takes


class Scene:
    """A visit, the house it is recorded in, and what was sent."""

    def __init__(self, cycle: Cycle | None = None, **scope: Any) -> None:
        self.house = House()
        self.sent: list[Any] = []
        self.incoming: list[str] = []
        extensions = {"extensions": {CYCLE: cycle}} if cycle else {}
        made = {"method": "POST", "path": "/mcp", "client": ("10.0.0.1", 9), **extensions, **scope}
        self.visit = Visit(self.house, made, self._receive, self._send)  # type: ignore[arg-type]
        self.visit.request_id = "r-1"

    async def _receive(self) -> Any:
        return {"type": self.incoming.pop(0) if self.incoming else "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)


async def test_a_whole_response_is_sent_with_its_length_and_id() -> None:
    scene = Scene()
    scene.visit.extra_headers = ((b"vary", b"Origin"),)
    await scene.visit.answer(200, b"{}")
    start, body = scene.sent
    assert start["status"] == 200
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"x-request-id": b"r-1",
        b"vary": b"Origin",
    }
    assert body == {"type": "http.response.body", "body": b"{}"}


async def test_a_response_without_content_has_no_length() -> None:
    scene = Scene()
    await scene.visit.answer(204, b"", ())
    assert dict(scene.sent[0]["headers"]) == {b"x-request-id": b"r-1"}


async def test_a_response_is_begun_once() -> None:
    scene = Scene()
    await scene.visit.answer(200, b"{}")
    await scene.visit.answer(500, b"{}")
    await scene.visit.begin_stream()
    await scene.visit.end()
    assert len(scene.sent) == 2
    assert [record.status for record in scene.house.records] == [200]


async def test_a_stream_is_begun_written_and_ended_once() -> None:
    scene = Scene()
    await scene.visit.end()  # before it was begun there is nothing to end
    await scene.visit.begin_stream()
    await scene.visit.begin_stream()
    await scene.visit.write(b": a\n\n")
    await scene.visit.answer(500, b"{}")
    await asyncio.gather(scene.visit.end(), scene.visit.end())
    await scene.visit.write(b"late")
    kinds = [message["type"] for message in scene.sent]
    assert kinds == ["http.response.start", "http.response.body", "http.response.body"]
    headers = dict(scene.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"x-request-id"] == b"r-1"
    assert scene.sent[1]["more_body"]
    assert not scene.sent[2].get("more_body")
    assert [record.status for record in scene.house.records] == [200]


async def test_a_client_that_left_before_a_response_is_recorded_as_499() -> None:
    scene = Scene()
    scene.visit.abandon()
    scene.visit.abandon()
    await scene.visit.begin_stream()
    assert scene.sent == []
    assert [record.status for record in scene.house.records] == [499]


async def test_a_client_that_left_a_stream_is_recorded_with_its_status() -> None:
    scene = Scene()
    await scene.visit.begin_stream()
    scene.visit.abandon()
    await scene.visit.end()
    assert [record.status for record in scene.house.records] == [200]
    assert len(scene.sent) == 1


async def test_parts_of_a_body_nobody_wants_are_dropped_until_the_client_is_gone() -> None:
    scene = Scene()
    scene.incoming = ["http.request", "http.request", "http.disconnect", "http.request"]
    await scene.visit.until_disconnect()
    assert scene.incoming == ["http.request"]


# --- the record


async def test_a_record_says_what_became_known() -> None:
    scene = Scene()
    visit = scene.visit
    visit.endpoint, visit.rpc_method, visit.name = "default", "tools/call", "greet"
    visit.outcome, visit.principal, visit.door = "ok", person("alice"), "sse"
    await visit.answer(200, b"{}")
    [record] = scene.house.records
    assert (record.request_id, record.door, record.method, record.path) == (
        "r-1",
        "sse",
        "POST",
        "/mcp",
    )
    assert (record.endpoint, record.rpc_method, record.name) == ("default", "tools/call", "greet")
    assert (record.outcome, record.principal, record.client) == ("ok", "key:alice", "10.0.0.1")
    assert record.duration_ms >= 0
    assert scene.house.counted == [("POST", "default", 200)]


async def test_what_did_not_become_known_is_left_out() -> None:
    scene = Scene(client=None)
    await scene.visit.answer(401, b"{}")
    [record] = scene.house.records
    assert (record.endpoint, record.rpc_method, record.name) == (None, None, None)
    assert (record.outcome, record.principal, record.client) == (None, None, None)
    assert scene.house.counted == [("POST", "mcp", 401)]


# --- the shorter way


async def test_the_extension_takes_a_whole_answer_at_once() -> None:
    cycle = Cycle()
    scene = Scene(cycle)
    await scene.visit.answer(200, b"{}")
    assert scene.sent == []
    [(status, headers, body)] = cycle.answers
    assert (status, body) == (200, b"{}")
    assert dict(headers) == {b"content-type": b"application/json", b"x-request-id": b"r-1"}
    assert [record.status for record in scene.house.records] == [200]
    assert not scene.visit.answer_at_once(500, b"{}")


async def test_where_the_extension_cannot_the_usual_way_is_taken() -> None:
    scene = Scene(Cycle(takes=False))
    assert not scene.visit.answer_at_once(200, b"{}")
    await scene.visit.answer(200, b"{}")
    assert len(scene.sent) == 2
    assert not Scene().visit.answer_at_once(200, b"{}")


@pytest.mark.parametrize(("limit", "body"), [(5, b"hello"), (4, None)])
async def test_a_body_that_is_here_is_taken_within_the_limit(
    limit: int, body: bytes | None
) -> None:
    assert Scene(Cycle()).visit.whole_body(limit) == body


async def test_without_the_extension_a_body_has_to_be_read() -> None:
    assert Scene().visit.whole_body(100) is None


# --- streams and the token that opened them


def with_token(scene: Scene, left_s: float) -> None:
    scene.house.clock = SimpleNamespace(now=lambda: 1000.0)
    scene.visit.principal = TokenPrincipal(
        "oauth:x", "x", issuer="i", scopes=frozenset(), endpoints=None, expires_at_s=1000.0 + left_s
    )


def silent(scene: Scene) -> None:
    gone = asyncio.Event()
    asyncio.get_running_loop().call_later(10_000, gone.set)

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    scene.visit.receive = receive


@virtual_time
async def test_a_stream_ends_when_its_token_does() -> None:
    scene = Scene()
    with_token(scene, 300.0)
    silent(scene)
    await scene.visit.begin_stream()
    await scene.visit.write(b"data: x\n\n")
    started = now()
    await scene.visit.until_over()
    assert now() - started == pytest.approx(300)
    assert scene.sent[-1] == {"type": "http.response.body", "body": b""}, "properly, not cut"
    assert scene.visit.is_ended
    assert [record.outcome for record in scene.house.records] == ["token_expired"]


@virtual_time
async def test_a_token_in_its_leeway_opens_no_circle_of_streams() -> None:
    scene = Scene()
    with_token(scene, -20.0)
    silent(scene)
    await scene.visit.begin_stream()
    started = now()
    await scene.visit.until_over()
    assert now() - started == pytest.approx(1)


@virtual_time
async def test_a_client_that_leaves_first_ends_nothing_and_a_key_sets_no_end() -> None:
    scene = Scene()
    with_token(scene, 300.0)
    scene.incoming = ["http.request", "http.disconnect"]
    await scene.visit.until_over()
    assert not scene.visit.is_ended
    other = Scene()
    silent(other)
    started = now()
    await other.visit.until_over()
    assert now() - started == pytest.approx(10_000)
