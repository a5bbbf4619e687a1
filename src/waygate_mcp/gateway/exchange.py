"""One call from its arrival to its one final answer: the state machine every door drives.

Knows how events and questions of a call become messages for the client's revision, who is attached
to hear them, and when the call is over. Refuses to know sockets: a `Front` carries the messages.
The exchange runs in the task that received the call, so that a call that answers at once costs no
task at all; when it is parked, that task outlives the response it wrote.

States: `new → running ⇄ asking → settled`; beside them a front is attached, or none is (parked).
Spec: protocol.md 2.1, 6; 2026-07-28 basic/patterns.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec

from waygate_mcp.errors import (
    AuthError,
    CallTimeoutError,
    CapabilityMissingError,
    InterruptedCallError,
    InvalidArgumentsError,
    InvalidStateError,
    LimitError,
    RateLimitedError,
    UnknownMethodError,
    UnknownNameError,
    WaygateError,
    let_go,
)
from waygate_mcp.model.call import Answer, Call, LogEvent, Outcome, Progress, Question, Reply
from waygate_mcp.model.decision import CallResult
from waygate_mcp.model.ports import Handler
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.failures import RpcFailure, describe_failure
from waygate_mcp.protocol.log_levels import is_loud_enough
from waygate_mcp.protocol.versions import Revision

__all__ = [
    "Exchange",
    "Front",
    "encode_log",
    "encode_progress",
    "question_params",
    "unanswered",
]

_log = logging.getLogger(__name__)
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_REFUSALS = (
    AuthError,
    CapabilityMissingError,
    InvalidArgumentsError,
    InvalidStateError,
    LimitError,
    UnknownMethodError,
    UnknownNameError,
)


class Front(Protocol):
    """Carries the messages of one call to its client."""

    async def send(self, message: bytes) -> None:
        """Carry a message that comes before the final one."""

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Carry the final message and end. None: the client is to get nothing more.

        `status` is for an HTTP front that has not begun its response.
        """

    async def close_stream(self) -> None:
        """End the client's stream while the call goes on, where it can be resumed."""


def encode_progress(event: Progress, token: str | int) -> bytes:
    """Word progress for the client that gave `token`."""
    params: dict[str, Any] = {"progressToken": token, "progress": event.progress}
    if event.total is not None and math.isfinite(event.total):  # JSON has no other numbers
        params["total"] = event.total
    if event.message is not None:
        params["message"] = event.message
    return jsonrpc.encode_notification("notifications/progress", jsonrpc.encode_json(params))


def encode_log(event: LogEvent) -> bytes:
    """Word a log message."""
    logger = b"" if event.logger is None else b'"logger":%b,' % jsonrpc.encode_json(event.logger)
    params = b'{"level":"%b",%b"data":%b}' % (event.level.encode(), logger, event.data)
    return jsonrpc.encode_notification("notifications/message", params)


class Exchange:
    """What both eras share; `ModernExchange` and `LegacyExchange` differ in how questions travel.

    `identifier` is the id of the request that waits now. `call` is set right after construction,
    since call and exchange know each other.
    """

    # What most calls leave as it is stands in the class: it is set where it differs.
    call: Call
    call_timeout_s = 300.0
    limited: RateLimitedError | None = None
    is_settled = False
    result: str = CallResult.OK
    _last_progress = float("-inf")
    _task: asyncio.Task[Any] | None = None
    _cancelled_for: WaygateError | None = None
    _is_cancelled = False
    _deadline: asyncio.TimerHandle | None = None
    _open_questions = 0

    def __init__(
        self,
        identifier: str | int,
        revision: Revision,
        front: Front,
        log_level: str | None,
        progress_token: str | int | None,
    ) -> None:
        self.identifier = identifier
        self.revision = revision
        self.front: Front | None = front
        self._log_level = log_level
        self._progress_token = progress_token

    # --- the Caller port, as providers see it

    @property
    def log_level(self) -> str | None:
        """The least severe level the client wants, None for none."""
        return self._log_level

    async def emit(self, event: Progress | LogEvent) -> None:
        """Carry progress or a log message, dropping what the client did not ask for."""
        if self.is_settled:
            return
        if isinstance(event, Progress):
            token = self._progress_token
            if token is None or not self._last_progress < event.progress < math.inf:
                return
            self._last_progress = event.progress
            await self._carry(encode_progress(event, token))
        elif is_loud_enough(event.level, self.log_level):
            await self._carry(encode_log(event))

    async def ask(self, question: Question) -> Answer:
        """Ask the client; see `model.ports.Caller.ask`."""
        raise NotImplementedError

    async def close_stream(self) -> None:
        """End the client's stream while the call goes on."""
        if self.front is not None:
            await self.front.close_stream()

    # --- the door's side

    async def run(self, handler: Handler, task: asyncio.Task[Any] | None = None) -> None:
        """Have the call handled and give the client its one final message.

        `task` is the one this runs in, from whoever knows it: to find it costs more than to be told.
        Returns when the call is over, which may be long after the response of the request that
        brought it. Errors become messages here; only foreign cancellation passes through.
        """
        self._task = task or asyncio.current_task()
        message: bytes | None
        try:
            if self._is_cancelled:  # before it began: both stood in the same chunk of input
                raise asyncio.CancelledError
            outcome = await handler(self.call)
            if type(outcome) is not Reply:
                outcome = await self._resolve(outcome, handler)
            message, status = self._word(outcome), 200
        except WaygateError as error:
            message, status = self._word_failure(error)
            let_go(error)
        except asyncio.CancelledError as ended:
            let_go(ended)  # task groups keep the error that ended them in their frame
            if not self._is_cancelled:
                self.result = CallResult.CANCELLED
                self._settle()
                await self._abandon()
                raise
            message, status = None, 200
        except Exception as exc:  # noqa: BLE001 - the door's last guard: a bug of ours or of a step
            message, status = self._word_bug(exc)
        if self._is_cancelled:  # whatever the provider made of it
            self._forgive_cancellation()
            message, status = self._word_cancellation()
        self._settle()
        delivery = self._deliver(message, status)
        if delivery is not None:
            await delivery
        # Call and exchange know each other; apart, they are gone at once and not at a collection.
        del self.call
        self._task = None

    def cancel(self, reason: str, error: WaygateError | None = None) -> None:
        """Stop the call. With `error` the client is told it, without it gets nothing more.

        Spec: 2026-07-28 basic/patterns/cancellation; 2025-11-25 basic/utilities/cancellation.
        """
        if self.is_settled or self._is_cancelled:
            return
        self._is_cancelled = True
        self._cancelled_for = error
        _log.debug("call %s cancelled: %s", self.call.request_id, reason)
        if self._task is not None:
            self._task.cancel(reason)

    def arm_deadline(self) -> None:
        """Start the call's time; it does not run while the client is being asked."""
        if self._deadline is None and not self.is_settled and not self._open_questions:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self.call_timeout_s, self._expire)

    # --- what the eras fill in

    async def _carry(self, message: bytes) -> None:
        """Carry an event to whoever is attached."""
        if self.front is not None:
            await self.front.send(message)

    async def _resolve(self, outcome: Outcome, handler: Handler) -> Outcome:
        """Make of an `InputRequired` what the era can: answers until it is a Reply, or itself."""
        raise NotImplementedError

    def _word(self, outcome: Outcome) -> bytes:
        """Word a resolved outcome as the final message."""
        raise NotImplementedError

    def _deliver(self, message: bytes | None, status: int) -> Awaitable[None] | None:
        """Give the final message to whoever waits for it. What it gives is awaited."""
        return None if self.front is None else self.front.finish(message, status)

    async def _abandon(self) -> None:
        """Free what the call holds when its task is cancelled by somebody else."""

    # --- shared inner parts

    def _note_reply(self, reply: Reply) -> None:
        """Note how a reply counts."""
        self.result = CallResult.TOOL_ERROR if reply.is_error else CallResult.OK

    def _word_failure(self, error: WaygateError) -> tuple[bytes, int]:
        """Word an error raised on purpose."""
        self.result = _result_of(error)
        if isinstance(error, RateLimitedError):
            self.limited = error
        failure = describe_failure(error, self.revision)
        return failure.encode(self.identifier), failure.status

    def _word_cancellation(self) -> tuple[bytes | None, int]:
        """Word the end of a call somebody stopped."""
        if self._cancelled_for is None:
            self.result = CallResult.CANCELLED
            return None, 200
        return self._word_failure(self._cancelled_for)

    def _word_bug(self, exc: Exception) -> tuple[bytes, int]:
        """Word an error nobody foresaw; its id is in the log and in the answer."""
        self.result = CallResult.FAILED
        _log.error("call %s failed", self.call.request_id, exc_info=exc)
        data = jsonrpc.encode_json({"requestId": self.call.request_id})
        failure = RpcFailure(jsonrpc.INTERNAL_ERROR, "Internal error", data)
        return failure.encode(self.identifier), 200

    def _forgive_cancellation(self) -> None:
        """Take our own cancellation back, so that the door's task can finish its work."""
        assert self._task is not None, "only a call that runs is cancelled"
        self._task.uncancel()

    def _settle(self) -> None:
        """Note that the call is over."""
        self.is_settled = True
        if self._deadline is not None:
            self._stop_clock()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self.cancel("deadline", CallTimeoutError(self.call_timeout_s))

    async def _await_answer(
        self, future: asyncio.Future[Answer], timeout_s: float, method: str
    ) -> Answer:
        """Wait for an answer with the call's own clock stopped; silence becomes an answer too.

        The call's deadline moves by as long as it takes: work done elsewhere is bounded by it.
        """
        self._stop_clock()
        self._open_questions += 1
        clock = asyncio.get_running_loop().time
        started, deadline_s = clock(), self.call.deadline_s
        self.call.deadline_s = deadline_s + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return unanswered(method)
        finally:
            self._open_questions -= 1
            self.call.deadline_s = deadline_s + clock() - started
            self.arm_deadline()


def unanswered(method: str) -> Answer:
    """Give the answer that stands for a client that did not answer in time (protocol.md 6.2)."""
    if method == "elicitation/create":
        return Answer(b'{"action":"cancel"}')
    return Answer(None, jsonrpc.INTERNAL_ERROR, "The client did not answer in time")


def question_params(question: Question) -> dict[str, Any]:
    """Parse a question's parameters, which decide what capability it needs."""
    return _decode_object(question.params)


def _result_of(error: WaygateError) -> str:
    """Choose the word an error is recorded with."""
    if isinstance(error, CallTimeoutError):
        return CallResult.TIMEOUT
    if isinstance(error, InterruptedCallError):
        return CallResult.CANCELLED
    return CallResult.REFUSED if isinstance(error, _REFUSALS) else CallResult.FAILED
