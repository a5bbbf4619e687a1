"""Stand-ins for what surrounds a provider: a caller who answers, a supervisor, ready-made calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from waygate_mcp.model.call import Answer, Call, LogEvent, Progress, Question
from waygate_mcp.model.catalog import Viewer
from waygate_mcp.model.event import Event
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, Revision

ALICE = Principal("key:alice", "Alice", frozenset({"*"}))
BOB = Principal("key:bob", "Bob", frozenset({"*"}))

EVERYTHING = ClientCapabilities.parse(
    {
        "sampling": {"tools": {}},
        "roots": {"listChanged": True},
        "elicitation": {"form": {}, "url": {}},
    },
    MODERN,
)


class TaskGroupSupervisor:
    """Owns tasks until `close`; a failure is raised there, so that no test misses it."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._note)
        return task

    def _note(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    async def close(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)
        assert not self.failures, self.failures


class FakeCaller:
    """A client's side of a call: notes events, answers questions by `answer`."""

    def __init__(
        self,
        answer: Callable[[Question], Answer] | None = None,
        *,
        log_level: str | None = "debug",
    ) -> None:
        self.log_level = log_level
        self.events: list[Progress | LogEvent] = []
        self.questions: list[Question] = []
        self.has_event = asyncio.Event()
        self._answer = answer

    async def emit(self, event: Progress | LogEvent) -> None:
        self.events.append(event)
        self.has_event.set()

    async def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        assert self._answer is not None, f"nobody expected {question}"
        return self._answer(question)

    async def close_stream(self) -> None:
        return

    @property
    def progress(self) -> list[float]:
        return [event.progress for event in self.events if isinstance(event, Progress)]

    @property
    def logs(self) -> list[LogEvent]:
        return [event for event in self.events if isinstance(event, LogEvent)]


class Announced:
    """Notes what a provider announces."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._arrived.set()

    async def wait_for(self, wanted: Event) -> None:
        async with asyncio.timeout(5):
            while wanted not in self.events:
                self._arrived.clear()
                await self._arrived.wait()


def make_call(
    method: str,
    params: dict[str, Any],
    *,
    caller: FakeCaller | None = None,
    revision: Revision = MODERN,
    principal: Principal = ALICE,
    capabilities: ClientCapabilities = EVERYTHING,
    session_id: str | None = None,
    progress_token: str | int | None = "t",
    input_responses: Mapping[str, bytes] | None = None,
    request_state: str | None = None,
    raw_params: bytes | None = None,
) -> Call:
    """Make a call as a door would; `raw_params` stands for bytes the client wrote in its own way."""
    written = raw_params or json.dumps(params).encode()
    name = params.get("name") or params.get("uri") or ""
    call = Call(
        request_id="r-1",
        endpoint="default",
        method=method,
        name=str(name),
        params=params,
        body=b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (method.encode(), written),
        principal=principal,
        revision=revision,
        capabilities=capabilities,
        caller=caller or FakeCaller(),
        deadline_s=time.monotonic() + 30,
        progress_token=progress_token,
        input_responses=input_responses,
        request_state=request_state,
        session_id=session_id,
    )
    call.target = call.name
    return call


def viewer(principal: Principal = ALICE, capabilities: ClientCapabilities = EVERYTHING) -> Viewer:
    """Somebody who looks at lists."""
    return Viewer(principal, capabilities)


LEGACY = LATEST_LEGACY
