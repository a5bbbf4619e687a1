"""Calls that become tasks at an upstream: relayed where the client knows tasks too, else awaited.

Knows which client is told of a task, and how one is awaited within the request of a client that is not:
polled, its questions asked, cancelled with the call. Refuses to know handles: ids are the upstream's.

    client    upstream   what happens
    modern    modern     relayed; the extension is declared where this very request declared it
    legacy    legacy     relayed where the client asked for a task (2025-11-25)
    modern    legacy     a tool that is only called as a task is, and awaited
    legacy    modern     declared only where the upstream insisted before, and awaited

Spec: protocol.md 4.1; 2025-11-25 basic/utilities/tasks; io.modelcontextprotocol/tasks 2026-07-28.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, TypeVar

import msgspec

from waygate_mcp.errors import (
    LimitError,
    RpcError,
    UnknownMethodError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.call import Call, Outcome, Question, Reply
from waygate_mcp.model.catalog import Listing
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.headers import HeaderParam
from waygate_mcp.protocol.tasks import (
    TASK_METHODS,
    TASKS_EXTENSION,
    LegacyTasks,
    TaskState,
    has_legacy_tasks,
    read_task,
    task_support,
)
from waygate_mcp.upstreams.calls import error_for, legacy_params, modern_outcome
from waygate_mcp.upstreams.channel import RemoteError
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession, SessionLostError
from waygate_mcp.upstreams.modern import ModernConnector
from waygate_mcp.upstreams.questions import input_required
from waygate_mcp.upstreams.slices import Members, NotAnObjectError, cut, join
from waygate_mcp.upstreams.task_messages import (
    names_tasks,
    readdressed,
    task_param,
    without_related,
    without_task_support,
)

__all__ = ["TaskCalls"]

_log = logging.getLogger(__name__)
_MIN_POLL_S, _MAX_POLL_S = 0.05, 10.0
_FIRST_POLL_S, _SLOWEST_POLL_S = 0.1, 2.0
_MISSES = 3
"""How often in a row a poll may fail for want of an answer; asking again does nothing twice."""
_KEEP_MS = 600_000
"""How long beyond the call's deadline a legacy upstream is asked to keep a task."""
_SAY_GOODBYE_S = 5.0
_KEPT_NAMES = 10_000
_T = TypeVar("_T")
_decode_error = msgspec.json.Decoder(RemoteError).decode


class TaskCalls:
    """The calls of one upstream, as far as tasks are concerned.

    `extensions` are those a modern upstream has of the ones carried here, `terms` what a legacy one can
    do. `now` is the monotonic clock of `call.deadline_s`.
    """

    def __init__(
        self,
        modern: ModernConnector,
        legacy: LegacyConnector,
        supervisor: Supervisor,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.extensions: tuple[str, ...] = ()
        self.terms = LegacyTasks()
        self._upstream = modern.upstream
        self._modern = modern
        self._legacy = legacy
        self._supervisor = supervisor
        self._now = now
        self._insisting: set[str] = set()
        self._is_required: dict[str, bool] = {}

    def take_listing(self, listing: Listing) -> Listing:
        """Learn which tools are called as tasks; what leads to no task here is not shown as if it did."""
        if not self.terms.calls:
            return without_task_support(listing)
        if len(self._is_required) > _KEPT_NAMES:
            self._is_required.clear()
        for entry in listing.entries:
            self._is_required[entry.name] = task_support(entry.definition) == "required"
        return listing

    def wants_listing(self, call: Call) -> bool:
        """Tell whether the list of tools is to be read before a call: it says how the tool is called."""
        if not self.terms.calls or call.target in self._is_required:
            return False
        return call.method == "tools/call" and not has_legacy_tasks(call.revision)

    def outlasts(self, call: Call) -> bool:
        """Tell whether a call is about a task that a legacy upstream may know in one session only."""
        if call.method in TASK_METHODS:
            return True
        is_made = call.method == "tools/call" and has_legacy_tasks(call.revision)
        return is_made and self.terms.calls and "task" in call.params

    # --- modern upstreams

    def concerns_modern(self, call: Call) -> bool:
        """Tell whether a call to a modern upstream may have to do with tasks at all."""
        return bool(self.extensions) or call.method in TASK_METHODS

    async def call_modern(
        self, call: Call, header_params: Sequence[HeaderParam]
    ) -> Outcome | RemoteError:
        """Do `ModernConnector.call`, with tasks.

        An upstream that refuses a legacy client's call for want of the extension has not run it, and is
        called once more with it.
        """
        declared = self._declared(call)
        outcome = await self._modern.call(call, header_params, declared)
        if isinstance(outcome, RemoteError) and not declared and self._insists(call, outcome):
            declared = (TASKS_EXTENSION,)
            outcome = await self._modern.call(call, header_params, declared)
        if not isinstance(outcome, Reply):
            return outcome
        if call.method in TASK_METHODS:
            return readdressed(outcome, call)
        if outcome.task_id is None or call.revision.is_modern:
            return outcome
        return await self._await_modern(call, outcome, declared)

    def _declared(self, call: Call) -> tuple[str, ...]:
        """Choose the extensions to declare: the client's own; for one that has none, ours to await."""
        if call.revision.is_modern:
            return tuple(name for name in self.extensions if call.capabilities.declares(name))
        insists = call.method == "tools/call" and call.target in self._insisting
        return (TASKS_EXTENSION,) if insists else ()

    def _insists(self, call: Call, error: RemoteError) -> bool:
        """Tell whether a tool is only called as a task, which a legacy client cannot know of."""
        if call.revision.is_modern or call.method != "tools/call":
            return False
        is_meant = error.code == jsonrpc.MISSING_CAPABILITY and names_tasks(bytes(error.data))
        if not is_meant or TASKS_EXTENSION not in self.extensions:
            return False
        if len(self._insisting) > _KEPT_NAMES:
            self._insisting.clear()
        self._insisting.add(call.target)
        return True

    async def _await_modern(self, call: Call, made: Reply, declared: tuple[str, ...]) -> Outcome:
        """Poll a task to its end and give what came of it."""
        assert made.task_id is not None, "only tasks are awaited"
        task_id = made.task_id

        async def send(method: str, **more: Any) -> Members:
            params = {"taskId": task_id, **more}
            answered = await self._modern.request(
                method, params, call.capabilities, declared, task_id
            )
            if answered.error is None and answered.status >= 500:
                text = f"answered HTTP {answered.status} for its task"
                raise UpstreamUnavailableError(self._upstream, text)
            if answered.result is None:
                self._fail(call, answered.error)
            return self._cut(answered.result)

        async def look() -> Members:
            return await send("tasks/get")

        async def cancel() -> None:
            await send("tasks/cancel")

        pace = _Pace(self._upstream, call, self._now)
        state, asked = self._read(made.result), set[str]()
        async with self._held(cancel):
            while True:
                await pace.wait(state)
                members = await pace.insist(look)
                state = self._read(join(members))
                if state.status == "input_required":
                    answers = await self._ask(call, members, asked)
                    if answers:
                        await send("tasks/update", inputResponses=answers)
                        pace.hurry()
                elif state.status != "working":
                    break
        return self._end_of_modern(call, state, members)

    def _end_of_modern(self, call: Call, state: TaskState, members: Members) -> Outcome:
        """Give the result a finished task holds, or raise the error."""
        if state.status == "completed" and "result" in members:
            outcome = modern_outcome(self._upstream, "tools/call", members["result"])
            if isinstance(outcome, Reply):
                return outcome
        if state.status == "failed" and "error" in members:
            try:
                error = _decode_error(members["error"])
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                text = f"the error of its task is malformed: {exc}"
                raise UpstreamProtocolError(self._upstream, text) from exc
            self._fail(call, error)
        if state.status == "cancelled":
            raise _cancelled(state)
        raise UpstreamProtocolError(self._upstream, f"its {state.status} task holds no outcome")

    async def _ask(self, call: Call, members: Members, asked: set[str]) -> dict[str, msgspec.Raw]:
        """Ask the client what it was not asked yet; give the answers to be sent.

        A client's error is no input response: it ends the call, and with it the task.
        """
        try:
            questions = input_required(members).requests
        except (ValueError, UnicodeDecodeError) as exc:
            raise UpstreamProtocolError(self._upstream, str(exc)) from exc
        new = {key: question for key, question in questions.items() if key not in asked}
        asked.update(new)
        return await _answers_of(call, new)

    # --- legacy upstreams

    def call_legacy(
        self, session: LegacySession, call: Call, on_sent: Callable[[str], None]
    ) -> Awaitable[Outcome]:
        """Do `LegacyConnector.call`, with tasks."""
        if call.method in TASK_METHODS:
            return self._relay(session, call, on_sent)
        if call.method != "tools/call" or not self.terms.calls:
            return self._legacy.call(session, call, on_sent)
        if has_legacy_tasks(call.revision):
            task = task_param(call)
            if task is None:
                return self._legacy.call(session, call, on_sent)
            return self._augment(session, call, on_sent, task)
        if not self._is_required.get(call.target):
            return self._legacy.call(session, call, on_sent)
        return self._await_legacy(session, call, on_sent)

    async def _relay(
        self, session: LegacySession, call: Call, on_sent: Callable[[str], None]
    ) -> Outcome:
        """Carry a request about a task, whose id is `call.target`."""
        terms = self.terms
        if not terms.calls or (call.method == "tasks/cancel" and not terms.cancels):
            raise UnknownMethodError(call.method, safe_message=f"Method not found: {call.method}")
        live = self._legacy.begin(call)
        live.task_id = call.target
        params = legacy_params(call, session.revision, live.token)
        outcome = await self._legacy.send(session, live, (call.method, params), on_sent)
        return readdressed(outcome, call) if isinstance(outcome, Reply) else outcome

    async def _augment(
        self,
        session: LegacySession,
        call: Call,
        on_sent: Callable[[str], None],
        task: bytes,
        token: str | None = None,
    ) -> Outcome:
        """Ask for a task; the outcome has its id, unless the upstream answered at once."""
        live = self._legacy.begin(call, token)
        live.may_be_task = True
        params = legacy_params(call, session.revision, live.token, task)
        return await self._legacy.send(session, live, (call.method, params), on_sent)

    async def _await_legacy(
        self, session: LegacySession, call: Call, on_sent: Callable[[str], None]
    ) -> Outcome:
        """Call a tool as a task and give what came of it."""
        left_s = max(call.deadline_s - self._now(), 0.0)
        task = jsonrpc.encode_json({"ttl": int(left_s * 1000) + _KEEP_MS})
        token = None if call.progress_token is None else self._legacy.begin(call).token
        made = await self._augment(session, call, on_sent, task, token)
        if not isinstance(made, Reply) or made.task_id is None:
            return made
        task_id = made.task_id

        async def send(method: str) -> Outcome:
            live = self._legacy.begin(call, token)
            live.task_id = task_id
            params = jsonrpc.encode_json({"taskId": task_id})
            try:
                outcome = await self._legacy.send(session, live, (method, params), on_sent)
            except SessionLostError as exc:  # which would have the whole call done anew
                text = "lost the session its task was made in"
                raise UpstreamProtocolError(self._upstream, text) from exc
            on_sent("")  # it is over: what may be cancelled now is the task
            return outcome

        async def look() -> TaskState:
            outcome = await send("tasks/get")
            return self._read(outcome.result if isinstance(outcome, Reply) else b"")

        async def cancel() -> None:
            if self.terms.cancels:
                await send("tasks/cancel")

        on_sent("")
        pace = _Pace(self._upstream, call, self._now)
        state = self._read(bytes(self._cut(made.result)["task"]))
        session.tasks += 1
        try:
            async with self._held(cancel):
                while state.status == "working":
                    await pace.wait(state)
                    state = await pace.insist(look)
                if state.status == "input_required":  # this asks, and waits for the end
                    return without_related(await send("tasks/result"))
            if state.status == "cancelled":
                raise _cancelled(state)
            return without_related(await send("tasks/result"))
        finally:
            session.tasks -= 1

    # --- both

    def _read(self, task: bytes) -> TaskState:
        try:
            return read_task(task)
        except ValueError as exc:
            raise UpstreamProtocolError(self._upstream, str(exc)) from exc

    def _cut(self, raw: bytes | msgspec.Raw) -> Members:
        try:
            return cut(raw)
        except NotAnObjectError as exc:
            raise UpstreamProtocolError(self._upstream, f"the task is no object: {exc}") from exc

    def _fail(self, call: Call, error: RemoteError | None) -> NoReturn:
        """Raise what a modern upstream said of its task."""
        if error is None:
            raise UpstreamProtocolError(self._upstream, "did not answer for its task")
        said = error_for(call, self._upstream, error, is_modern=True)
        assert isinstance(said, Exception), "only legacy errors are answered by a question"
        raise said

    @asynccontextmanager
    async def _held(self, cancel: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Cancel the task, in the background, where its end is not awaited."""
        try:
            yield
        except BaseException:
            try:
                self._supervisor.start(_say(cancel), name=f"cancel-task:{self._upstream}")
            except LimitError as exc:
                _log.debug("%s: a task was not cancelled: %s", self._upstream, exc)
            raise


class _Pace:
    """How fast a task is polled: as the upstream wishes, within bounds, and never beyond the deadline."""

    def __init__(self, upstream: str, call: Call, now: Callable[[], float]) -> None:
        self._upstream = upstream
        self._call = call
        self._now = now
        self._next_s = _FIRST_POLL_S
        self._is_hurried = False

    def hurry(self) -> None:
        """Look soon, since something was answered."""
        self._is_hurried = True

    async def wait(self, state: TaskState) -> None:
        """Wait until the task may be looked at again.

        Raises:
            UpstreamTimeoutError: the call's time is over.
        """
        left_s = self._call.deadline_s - self._now()
        if left_s <= 0:
            raise UpstreamTimeoutError(self._upstream, "its task took too long")
        if state.status not in ("working", "input_required"):
            return
        if state.poll_ms is not None:
            pause_s = min(max(state.poll_ms / 1000, _MIN_POLL_S), _MAX_POLL_S)
        else:
            pause_s = self._next_s
            self._next_s = min(self._next_s * 1.5, _SLOWEST_POLL_S)
        if self._is_hurried:
            pause_s, self._is_hurried = min(pause_s, _MIN_POLL_S), False
        await asyncio.sleep(min(pause_s, left_s))

    async def insist(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask how the task is; silence is met by asking again."""
        for _ in range(_MISSES - 1):
            with suppress(UpstreamUnavailableError, UpstreamTimeoutError):
                return await ask()
            await asyncio.sleep(_FIRST_POLL_S)
        return await ask()


async def _say(cancel: Callable[[], Awaitable[None]]) -> None:
    """Tell an upstream that nobody waits for a task any more, if it can be told."""
    try:
        async with asyncio.timeout(_SAY_GOODBYE_S):
            await cancel()
    except (WaygateError, TimeoutError) as exc:
        _log.debug("a task could not be cancelled: %s", exc)


def _cancelled(state: TaskState) -> RpcError:
    """Say that a task was cancelled by somebody else."""
    said = f": {state.message}" if state.message else ""
    return RpcError(jsonrpc.INTERNAL_ERROR, f"The upstream server cancelled the task{said}"[:500])


async def _answers_of(call: Call, questions: dict[str, Question]) -> dict[str, msgspec.Raw]:
    """Ask everything at once."""
    try:
        async with asyncio.TaskGroup() as group:  # owned here: the group ends with this function
            asking = {
                key: group.create_task(call.caller.ask(question))
                for key, question in questions.items()
            }
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed  # the first is as good as any
    answers: dict[str, msgspec.Raw] = {}
    for key, task in asking.items():
        answer = task.result()
        if answer.result is None:
            raise RpcError(answer.error_code, answer.error_message)
        answers[key] = msgspec.Raw(answer.result)
    return answers
