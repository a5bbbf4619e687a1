"""A call of a legacy session: questions are requests on the call's own stream.

Knows the loop inside the request for providers that answer `InputRequired` (protocol.md 6.3).
Spec: 2025-11-25 client/elicitation, client/sampling, client/roots.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from waygate_mcp.errors import CapabilityMissingError, LimitError, RpcError
from waygate_mcp.gateway.exchange import Exchange, Front, question_params
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Answer, InputRequired, Outcome, Question, Reply
from waygate_mcp.model.ports import Handler
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.handshake import (
    downgrade_content,
    downgrade_form,
    downgrade_sampling,
    name_elicitation,
    name_input_key,
)

__all__ = ["LegacyExchange"]

_MAX_ROUNDS = 10
_MAX_BACKOFF_S = 2.0
_FIRST_BACKOFF_S = 0.05
_DOWNGRADED = frozenset({"tools/call", "prompts/get"})


class LegacyExchange(Exchange):
    """One request of a legacy session."""

    def __init__(
        self,
        identifier: str | int,
        session: Session,
        front: Front,
        progress_token: str | int | None,
        question_timeout_s: float,
    ) -> None:
        super().__init__(identifier, session.revision, front, session.log_level, progress_token)
        self._session = session
        self._question_timeout_s = question_timeout_s

    @property
    def log_level(self) -> str:
        """The session's level, which may change during the call."""
        return self._session.log_level

    async def ask(self, question: Question) -> Answer:
        """Send the question as a request of ours and wait for the client's response."""
        front = self.front
        if front is None or self.is_settled:
            raise LimitError("asked after the end", safe_message="The call is over.")
        params = self._params_for_reader(question)
        if question.key is not None:
            params = name_input_key(params, question.key)
        # It says which worker asks: the answer may arrive at another.
        identifier = "q" + self._session.place.mark(os.urandom(12).hex())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._session.questions[identifier] = future
        try:
            await front.send(jsonrpc.encode_request(identifier, question.method, params))
            return await self._await_answer(future, self._question_timeout_s, question.method)
        finally:
            self._session.questions.pop(identifier, None)

    def _params_for_reader(self, question: Question) -> bytes:
        """Check the capability and write the parameters as the revision has them."""
        params = question_params(question)
        missing = self._session.capabilities.missing_for(question.method, params)
        if missing is not None:
            raise CapabilityMissingError(missing)
        if question.method == "sampling/createMessage":
            return downgrade_sampling(question.params, self.revision)
        if question.method != "elicitation/create":
            return question.params
        if params.get("mode") == "url":
            if "elicitationId" in params:
                return question.params
            return name_elicitation(question.params, os.urandom(12).hex())
        form = downgrade_form(question.params, self.revision)
        if form is None:
            raise CapabilityMissingError({"elicitation": {"form": {}}})
        return form

    async def _resolve(self, outcome: Outcome, handler: Handler) -> Outcome:
        """Answer rounds of questions until the reply is final."""
        rounds = 0
        while isinstance(outcome, InputRequired):
            rounds += 1
            if rounds > _MAX_ROUNDS:
                raise LimitError(
                    "too many rounds", safe_message=f"More than {_MAX_ROUNDS} rounds of questions."
                )
            if outcome.requests:
                self.call.input_responses = await self._ask_all(outcome)
            else:
                self.call.input_responses = None
                await asyncio.sleep(min(_FIRST_BACKOFF_S * 2 ** (rounds - 1), _MAX_BACKOFF_S))
            self.call.request_state = outcome.state
            outcome = await handler(self.call)
        return outcome

    def _word(self, outcome: Outcome) -> bytes:
        """Word a reply as this revision has it."""
        assert isinstance(outcome, Reply), "rounds of questions end in a reply"
        self._note_reply(outcome)
        result = outcome.result
        if self.call.method in _DOWNGRADED:
            result = downgrade_content(result, self.revision)
        if outcome.meta is not None:
            result = _with_meta(result, outcome.meta)
        return jsonrpc.encode_result(self.identifier, result)

    async def _ask_all(self, outcome: InputRequired) -> dict[str, bytes]:
        """Ask everything at once; a client's error ends the call, since it is no input response.

        Where one question may not be asked, none is: nobody answers for nothing.
        """
        for question in outcome.requests.values():
            self._params_for_reader(question)
        try:
            async with asyncio.TaskGroup() as group:  # owned here: the group ends with this method
                tasks = {
                    key: group.create_task(self.ask(question))
                    for key, question in outcome.requests.items()
                }
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed  # the first is as good as any
        answers: dict[str, bytes] = {}
        for key, task in tasks.items():
            answer = task.result()
            if answer.result is None:
                raise RpcError(answer.error_code, answer.error_message)
            answers[key] = answer.result
        return answers


def _with_meta(result: bytes, meta: bytes) -> bytes:
    """Put `_meta` back into a neutral result."""
    if msgspec.json.decode(meta) == {}:
        return result
    return b'{"_meta":%b%b' % (meta, b"," + result[1:] if len(result) > len(b"{}") else b"}")
