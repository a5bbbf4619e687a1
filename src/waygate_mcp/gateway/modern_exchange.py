"""A modern call: questions become `input_required`, and the call is parked until the retry comes.

Knows parking, rounds and the retry that attaches to them (protocol.md 6.2). A provider that answers
`InputRequired` itself is not parked: its state travels in the ticket.
Spec: 2026-07-28 basic/patterns/mrtr.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence

import msgspec

from waygate_mcp.errors import (
    CallTimeoutError,
    CapabilityMissingError,
    InterruptedCallError,
    LimitError,
    LocalProtocolError,
)
from waygate_mcp.gateway.exchange import Exchange, Front, question_params
from waygate_mcp.gateway.parking import Parking, ParkingLimits
from waygate_mcp.gateway.tickets import Tickets
from waygate_mcp.model.call import Answer, InputRequired, LogEvent, Outcome, Progress, Question
from waygate_mcp.model.decision import CallResult
from waygate_mcp.model.ports import Handler
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import unname_elicitation
from waygate_mcp.protocol.log_levels import is_loud_enough
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.stateless import encode_complete, input_required_result
from waygate_mcp.protocol.versions import MODERN

__all__ = ["ModernExchange", "ParkingPlace", "Retry"]

_MAX_LOGS_PARKED = 32


class ParkingPlace(msgspec.Struct, frozen=True):
    """What a modern exchange needs to park: where, sealed by whom, within which limits."""

    parking: Parking
    tickets: Tickets
    limits: ParkingLimits
    server_info: bytes


class Retry(msgspec.Struct, frozen=True):
    """A request that belongs to a parked call: what it answers, and its own context.

    `round` is the ticket's, `answers` maps question keys to raw JSON results. Token, level and
    capabilities hold for this request and replace those of the one before.
    """

    identifier: str | int
    round: int
    answers: Mapping[str, bytes]
    progress_token: str | int | None
    log_level: str | None
    capabilities: ClientCapabilities


class _Asked(msgspec.Struct):
    """A question that is open: what was asked and who waits."""

    question: Question
    params: bytes
    future: asyncio.Future[Answer]


class ModernExchange(Exchange):
    """One modern request, and the retries that belong to it."""

    # Made when it asks for the first time; most calls never do.
    id = ""
    """Names the exchange in tickets."""
    round = 0
    _asked: dict[str, _Asked]
    _used_keys: set[str]
    _parked_progress: Progress | None = None
    _parked_logs: Sequence[LogEvent] = ()
    _final: tuple[bytes, int] | None = None
    _overall: asyncio.TimerHandle | None = None

    def __init__(
        self,
        identifier: str | int,
        front: Front,
        place: ParkingPlace,
        log_level: str | None,
        progress_token: str | int | None,
    ) -> None:
        super().__init__(identifier, MODERN, front, log_level, progress_token)
        self._place = place

    # --- what providers see

    async def emit(self, event: Progress | LogEvent) -> None:
        """Carry an event, or keep it while parked: the furthest progress, the first log lines."""
        if self.front is not None or self.is_settled:
            await super().emit(event)
        elif isinstance(event, Progress):
            parked = self._parked_progress
            if parked is None or event.progress > parked.progress:
                self._parked_progress = event
        elif len(self._parked_logs) < _MAX_LOGS_PARKED and is_loud_enough(
            event.level, self.log_level
        ):
            self._parked_logs = [*self._parked_logs, event]

    async def ask(self, question: Question) -> Answer:
        """Show the question in an `input_required` and wait for the retry that answers it."""
        if self.is_settled:
            raise LimitError("asked after the end", safe_message="The call is over.")
        params = self._params_for_reader(question)
        limits = self._place.limits
        if not self.id:
            self.id = os.urandom(12).hex()
            self._asked, self._used_keys = {}, set()
        self._place.parking.reserve(self, self.call.principal.id, self.call.provider, limits)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        key = self._new_key(question.key)
        self._asked[key] = _Asked(question, params, future)
        try:
            await self._gather_and_park()
            return await self._await_answer(future, limits.question_s, question.method)
        finally:
            self._asked.pop(key, None)

    def _params_for_reader(self, question: Question) -> bytes:
        """Check that this request may be asked, and write the parameters as the revision has them."""
        if not METHODS[self.call.method].may_ask:
            raise LocalProtocolError(f"{self.call.method} may not be answered by questions")
        params = question_params(question)
        missing = self.call.capabilities.missing_for(question.method, params)
        if missing is not None:
            raise CapabilityMissingError(missing)
        if "elicitationId" not in params:
            return question.params
        return unname_elicitation(question.params)

    def _new_key(self, wanted: str | None) -> str:
        """Give a key that was never used in this exchange."""
        number = len(self._used_keys) + 1
        key = wanted if wanted and wanted not in self._used_keys else f"w{number}"
        while key in self._used_keys:
            number += 1
            key = f"w{number}"
        self._used_keys.add(key)
        return key

    async def _gather_and_park(self) -> None:
        """Wait a moment for sibling questions, then answer `input_required` with all that are open.

        Every asker waits for itself, and the first to be back parks for all: one that is cancelled
        meanwhile leaves it to the next.
        """
        if self.front is not None:
            await asyncio.sleep(self._place.limits.gather_s)
            await self._park()

    async def _park(self) -> None:
        """Answer `input_required` with the questions that are open, if somebody is there to be asked."""
        front = self.front
        if front is None or not self._asked or self.is_settled or self._is_cancelled:
            return
        self.front = None
        self.round += 1
        if self._overall is None:
            loop = asyncio.get_running_loop()
            self._overall = loop.call_later(self._place.limits.parked_s, self._expire_parked)
        self.result = CallResult.INPUT_REQUIRED
        await front.finish(self._word_open_questions())

    def _expire_parked(self) -> None:
        """End a call that has been parked on and off for too long."""
        self.cancel("parked too long", CallTimeoutError(self._place.limits.parked_s))

    def _word_open_questions(self) -> bytes:
        """Build the `input_required` of the present round for the request that waits now."""
        place = self._place
        life_s = min(place.limits.question_s, place.limits.parked_s)
        state = place.tickets.for_parked(self.call, self.id, self.round, life_s)
        open_questions = {
            key: (asked.question.method, asked.params) for key, asked in self._asked.items()
        }
        result = input_required_result(open_questions, state, place.server_info)
        return jsonrpc.encode_result(self.identifier, result)

    # --- the retry

    async def attach(self, front: Front, retry: Retry) -> bool:
        """Let a retry take the place of the request that was answered `input_required`.

        False: the ticket is of a round that is over. Else `front` is finished when the call says
        so, which may be after this returns. The retry of the round before the present one lost our
        reply: it gets that reply again and its answers are not delivered twice.
        """
        if self.is_settled:
            return retry.round == self.round and await self._repeat_final(front, retry.identifier)
        if retry.round == self.round - 1 and self.front is None:
            self.identifier = retry.identifier
            await front.finish(self._word_open_questions())
            return True
        if retry.round != self.round:
            return False
        await self._replace_front(front, retry.identifier)
        self._progress_token = retry.progress_token
        self._log_level = retry.log_level
        self.call.capabilities = retry.capabilities
        for key, raw in retry.answers.items():
            asked = self._asked.pop(key, None)
            if asked is not None and not asked.future.done():
                asked.future.set_result(Answer(raw))
        await self._carry_parked_events()
        if self._asked and self.front is front:
            await self._gather_and_park()
        return True

    async def _replace_front(self, front: Front, identifier: str | int) -> None:
        """Attach `front`; one that is still attached belongs to a connection nobody reads."""
        stale, self.front = self.front, front
        stale_id, self.identifier = self.identifier, identifier
        if stale is not None:
            error = InterruptedCallError(safe_message="A newer retry took over.")
            message, status = self._word_failure_for(error, stale_id)
            await stale.finish(message, status)

    def _word_failure_for(
        self, error: InterruptedCallError, identifier: str | int
    ) -> tuple[bytes, int]:
        """Word an error for a request that is not the one that waits now."""
        current, self.identifier = self.identifier, identifier
        try:
            return self._word_failure(error)
        finally:
            self.identifier = current

    async def _carry_parked_events(self) -> None:
        """Send what happened while nobody was attached, as far as this request wants it."""
        logs, self._parked_logs = self._parked_logs, ()
        progress, self._parked_progress = self._parked_progress, None
        for log in logs:
            await self.emit(log)
        if progress is not None:
            await self.emit(progress)

    async def _repeat_final(self, front: Front, identifier: str | int) -> bool:
        """Answer a retry of a call that is over with the outcome it had."""
        if self._final is None:
            return False
        tail, status = self._final
        await front.finish(_head(identifier) + tail, status)
        return True

    # --- what the base asks of an era

    async def _resolve(self, outcome: Outcome, handler: Handler) -> Outcome:
        """Leave it as it is: `input_required` is an answer of this era."""
        return outcome

    def _word(self, outcome: Outcome) -> bytes:
        """Word a reply, or an `InputRequired` with its state sealed."""
        if isinstance(outcome, InputRequired):
            return self._word_input_required(outcome)
        self._note_reply(outcome)
        cacheable = METHODS[self.call.method].is_cacheable
        cache = (outcome.ttl_ms, outcome.cache_scope) if cacheable else None
        info = self._place.server_info
        kind = b"complete" if outcome.task_id is None else b"task"
        return encode_complete(self.identifier, outcome.result, outcome.meta, info, cache, kind)

    def _word_input_required(self, outcome: InputRequired) -> bytes:
        """Check that the client can answer, seal the state, word the result."""
        requests = {
            key: (question.method, self._params_for_reader(question))
            for key, question in outcome.requests.items()
        }
        self.result = CallResult.INPUT_REQUIRED
        state = None
        if outcome.state is not None or not requests:
            life_s = self._place.limits.question_s
            state = self._place.tickets.for_relay(self.call, outcome.state, life_s)
        result = input_required_result(requests, state, self._place.server_info)
        return jsonrpc.encode_result(self.identifier, result)

    def _deliver(self, message: bytes | None, status: int) -> Awaitable[None] | None:
        """Give the final message to whoever waits, and keep it for a retry that may come."""
        if self._overall is not None:
            self._overall.cancel()
        if self.round and message is not None:
            self._final = (message[len(_head(self.identifier)) :], status)
        if self.id:
            self._place.parking.release(self, None if self._final is None else len(self._final[0]))
        front, self.front = self.front, None
        return None if front is None else front.finish(message, status)

    async def _abandon(self) -> None:
        """Free the place; a retry that is attached waits in a task of its own and is told."""
        if self._overall is not None:
            self._overall.cancel()
        if self.id:
            self._place.parking.release(self)
        if self.round and self.front is not None:
            front, self.front = self.front, None
            message, status = self._word_failure(InterruptedCallError())
            await front.finish(message, status)


def _head(identifier: str | int) -> bytes:
    """Give the first bytes of every response to `identifier`, which differ between retries."""
    return jsonrpc.encode_result(identifier, b"")[: -len(b'"result":}')]
