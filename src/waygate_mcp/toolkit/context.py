"""What a function may know of its call, and what it may do on the way.

Knows the call and its Caller, and gives both in an author's words: progress, log, questions, state.
Refuses to know how a question travels and which client can answer it. One Context lives as long as
one call; keeping it longer is of no use.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, overload

import msgspec
from pydantic import BaseModel

from waygate_mcp.errors import CallTimeoutError, InterruptedCallError
from waygate_mcp.model.call import Call, LogEvent, Progress, Question
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.toolkit.content import Message
from waygate_mcp.toolkit.encoding import decode_json, encode_json
from waygate_mcp.toolkit.failures import ToolError
from waygate_mcp.toolkit.questions import (
    Elicit,
    Elicitation,
    ElicitUrl,
    ListRoots,
    Root,
    Sample,
    SamplingResult,
    parse_answer,
    read_elicitation,
    read_roots,
    read_sampling,
)

__all__ = ["Context", "RequestInfo", "SyncContext"]

ModelT = TypeVar("ModelT", bound=BaseModel)
ResultT = TypeVar("ResultT")


class RequestInfo(msgspec.Struct, frozen=True):
    """Who calls, and how: facts for display, decisions and logs; nothing of it is a credential.

    `client_name` is what the client says of itself and proves nothing. `revision` is the text of
    the protocol revision; `session_id` is None for modern clients. `meta` is the request's `_meta`.
    """

    request_id: str
    endpoint: str
    principal_id: str
    principal_name: str
    client_name: str
    revision: str
    session_id: str | None
    capabilities: ClientCapabilities
    progress_token: str | int | None
    meta: Mapping[str, Any]


class Context:
    """The call a function answers: put a parameter of this type anywhere into its signature.

    `config` is the plugin's validated configuration and `lifespan` what its `lifespan` yielded, both
    None where it has none. Functions written without `async` use `ctx.sync`.
    """

    __slots__ = ("__dict__", "_call", "_cancelled", "_loop", "_waits", "config", "lifespan")

    def __init__(self, call: Call, *, config: Any = None, lifespan: Any = None) -> None:
        self._call = call
        self.config = config
        self.lifespan = lifespan
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: set[concurrent.futures.Future[Any]] = set()

    @cached_property
    def request(self) -> RequestInfo:
        """Facts about the request and who sent it."""
        call = self._call
        return RequestInfo(
            request_id=call.request_id,
            endpoint=call.endpoint,
            principal_id=call.principal.id,
            principal_name=call.principal.name,
            client_name=call.client_name,
            revision=call.revision.text,
            session_id=call.session_id,
            capabilities=call.capabilities,
            progress_token=call.progress_token,
            meta=call.meta,
        )

    @property
    def is_cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more.

        Async functions are cancelled at their next `await` and rarely need it; functions in a
        thread cannot be stopped from outside and should look now and then.
        """
        return self._cancelled

    @property
    def remaining_s(self) -> float:
        """Seconds left until the call's deadline, 0 once it has passed."""
        return max(0.0, self._call.deadline_s - time.monotonic())

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Tell the client how far this is; `progress` has to grow. Without a token it is dropped."""
        await self._call.caller.emit(Progress(progress, total, message))

    async def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Send a log message to the client, if it wants messages of this level.

        `level` is one of debug, info, notice, warning, error, critical, alert, emergency; `data` any
        value that can be JSON. This is the client's log; the server's own is `services.log`.

        Raises:
            ValueError: there is no such level.
        """
        if level not in LOG_LEVELS:
            raise ValueError(f"no log level {level!r}; there are {', '.join(LOG_LEVELS)}")
        await self._call.caller.emit(LogEvent(level, encode_json(data), logger))

    async def debug(self, data: Any, logger: str | None = None) -> None:
        """Send a log message of level debug."""
        await self.log("debug", data, logger)

    async def info(self, data: Any, logger: str | None = None) -> None:
        """Send a log message of level info."""
        await self.log("info", data, logger)

    async def notice(self, data: Any, logger: str | None = None) -> None:
        """Send a log message of level notice."""
        await self.log("notice", data, logger)

    async def warning(self, data: Any, logger: str | None = None) -> None:
        """Send a log message of level warning."""
        await self.log("warning", data, logger)

    async def error(self, data: Any, logger: str | None = None) -> None:
        """Send a log message of level error."""
        await self.log("error", data, logger)

    @overload
    async def elicit(
        self, message: str, schema: type[ModelT], key: str | None = None
    ) -> Elicitation[ModelT]: ...

    @overload
    async def elicit(
        self, message: str, schema: Mapping[str, Any], key: str | None = None
    ) -> Elicitation[Mapping[str, Any]]: ...

    async def elicit(self, message: str, schema: Any, key: str | None = None) -> Elicitation[Any]:
        """Ask the user to fill in a form and wait for the answer.

        `schema` is a flat Pydantic model, whose instance comes back as `data`, or a JSON schema,
        whose content comes back unchecked. Modern clients see the question under `key`.

        Raises:
            CapabilityMissingError: the client cannot show forms; left alone, the client is told.
            QuestionRefusedError: the client answered with an error.
            ToolError: the answer does not fit the form.
        Spec: 2026-07-28 client/elicitation.
        """
        result = await self._ask(Elicit(message, schema).to_question(key))
        return _readable(read_elicitation(result, schema))

    async def elicit_url(
        self,
        message: str,
        url: str,
        *,
        elicitation_id: str | None = None,
        key: str | None = None,
    ) -> Elicitation[None]:
        """Ask the user to open `url`; accepting says that the user agreed, not that it is done.

        `elicitation_id` is for clients of 2025-11-25, which want one; left out, it is made up.

        Raises:
            CapabilityMissingError: the client cannot open addresses.
            QuestionRefusedError: the client answered with an error.
        Spec: 2026-07-28 client/elicitation, "URL Mode".
        """
        elicit = ElicitUrl(message, url, elicitation_id or secrets.token_hex(8))
        question = elicit.to_question(key, is_modern=self._call.revision.is_modern)
        return _readable(read_elicitation(await self._ask(question)))

    async def sample(
        self,
        messages: str | Message | Sequence[Message | str],
        *,
        max_tokens: int,
        system_prompt: str | None = None,
        temperature: float | None = None,
        key: str | None = None,
        **extra: Any,
    ) -> SamplingResult:
        """Ask the client's model to write a message of at most `max_tokens` tokens.

        `extra` are further members of the request by their names there (`modelPreferences`,
        `stopSequences`, `tools`, …).

        Raises:
            CapabilityMissingError: the client has no model for us.
            QuestionRefusedError: the client, or its user, said no.
        Spec: 2026-07-28 client/sampling.
        """
        several = [messages] if isinstance(messages, str | Message) else messages
        sample = Sample(
            messages=several,
            max_tokens=max_tokens,
            system_prompt=system_prompt,
            temperature=temperature,
            extra=extra,
        )
        return _readable(read_sampling(await self._ask(sample.to_question(key))))

    async def list_roots(self, key: str | None = None) -> list[Root]:
        """Ask the client for the folders it works in.

        Raises:
            CapabilityMissingError: the client tells nobody.
            QuestionRefusedError: the client answered with an error.
        """
        return _readable(read_roots(await self._ask(ListRoots().to_question(key))))

    async def close_stream(self) -> None:
        """End the client's event stream while the call goes on, where the client can resume it.

        For long calls: the client comes back later and gets what it missed. Elsewhere a no-op.
        Spec: 2025-11-25 basic/transports, "Resumability and Redelivery".
        """
        await self._call.caller.close_stream()

    @cached_property
    def input_responses(self) -> Mapping[str, Any]:
        """The answers to a returned InputRequired by their keys, as parsed JSON; else empty.

        They come from the client unchecked. `elicited`, `sampled` and `roots` read one safely.
        """
        raw = self._call.input_responses or {}
        return {key: decode_json(value) for key, value in raw.items()}

    @property
    def state(self) -> str | None:
        """The `state` of the InputRequired this call continues, None in the first round."""
        return self._call.request_state

    @overload
    def elicited(self, key: str, schema: type[ModelT]) -> Elicitation[ModelT] | None: ...

    @overload
    def elicited(
        self, key: str, schema: Mapping[str, Any] | None = None
    ) -> Elicitation[Mapping[str, Any]] | None: ...

    def elicited(self, key: str, schema: Any = None) -> Elicitation[Any] | None:
        """Read the answer to the form or URL under `key`, None where there is none or no sound one.

        Raises:
            ToolError: the content does not fit the Pydantic model `schema`.
        """
        return read_elicitation(self.input_responses.get(key), schema)

    def sampled(self, key: str) -> SamplingResult | None:
        """Read the answer to the sampling under `key`, None where there is none or no sound one."""
        return read_sampling(self.input_responses.get(key))

    def roots(self, key: str) -> list[Root] | None:
        """Read the answer to the ListRoots under `key`, None where there is none or no sound one."""
        return read_roots(self.input_responses.get(key))

    @cached_property
    def sync(self) -> SyncContext:
        """The same verbs for functions that run in a thread: they wait instead of being awaited."""
        return SyncContext(self)

    async def _ask(self, question: Question) -> Mapping[str, Any]:
        return parse_answer(await self._call.caller.ask(question))

    def enter_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Remember the loop a function in a thread reports to."""
        self._loop = loop

    def cancel(self) -> None:
        """Note that nobody waits any more, and end what a thread is waiting for."""
        self._cancelled = True
        for wait in tuple(self._waits):
            wait.cancel()

    def wait(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine on the loop and wait for it in this thread, until the call's deadline.

        Raises:
            InterruptedCallError: the call was cancelled meanwhile.
            CallTimeoutError: the deadline passed.
            RuntimeError: not called from a function that runs in a thread.
        """
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("ctx.sync is for functions without `async`; await the same on ctx")
        if self._cancelled:
            coroutine.close()
            raise InterruptedCallError("the call was cancelled")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._waits.add(future)
        try:
            return self._result(future)
        except concurrent.futures.CancelledError as exc:
            raise InterruptedCallError("the call was cancelled while a thread waited") from exc
        finally:
            self._waits.discard(future)

    def _result(self, future: concurrent.futures.Future[ResultT]) -> ResultT:
        started_s = time.monotonic()
        while True:
            if self._cancelled:  # it may have come between the check in `wait` and the set
                future.cancel()
            # The deadline is read again each time: a question that is open may move it.
            try:
                return future.result(timeout=self.remaining_s)
            except concurrent.futures.TimeoutError as exc:
                if future.done():
                    raise  # the coroutine's own
                if self.remaining_s > 0:
                    continue
                future.cancel()
                raise CallTimeoutError(time.monotonic() - started_s) from exc


class SyncContext:
    """The verbs of Context for a function in a thread. Each waits, at most until the deadline.

    All raise what the verb of the same name raises, InterruptedCallError once the call was
    cancelled, and CallTimeoutError at the deadline.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """See `Context.report_progress`."""
        self._context.wait(self._context.report_progress(progress, total, message))

    def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """See `Context.log`."""
        self._context.wait(self._context.log(level, data, logger))

    def debug(self, data: Any, logger: str | None = None) -> None:
        """See `Context.debug`."""
        self.log("debug", data, logger)

    def info(self, data: Any, logger: str | None = None) -> None:
        """See `Context.info`."""
        self.log("info", data, logger)

    def notice(self, data: Any, logger: str | None = None) -> None:
        """See `Context.notice`."""
        self.log("notice", data, logger)

    def warning(self, data: Any, logger: str | None = None) -> None:
        """See `Context.warning`."""
        self.log("warning", data, logger)

    def error(self, data: Any, logger: str | None = None) -> None:
        """See `Context.error`."""
        self.log("error", data, logger)

    @overload
    def elicit(
        self, message: str, schema: type[ModelT], key: str | None = None
    ) -> Elicitation[ModelT]: ...

    @overload
    def elicit(
        self, message: str, schema: Mapping[str, Any], key: str | None = None
    ) -> Elicitation[Mapping[str, Any]]: ...

    def elicit(self, message: str, schema: Any, key: str | None = None) -> Elicitation[Any]:
        """See `Context.elicit`."""
        return self._context.wait(self._context.elicit(message, schema, key))

    def elicit_url(self, message: str, url: str, *, key: str | None = None) -> Elicitation[None]:
        """See `Context.elicit_url`."""
        return self._context.wait(self._context.elicit_url(message, url, key=key))

    def sample(
        self,
        messages: str | Message | Sequence[Message | str],
        *,
        max_tokens: int,
        **more: Any,
    ) -> SamplingResult:
        """See `Context.sample`."""
        return self._context.wait(self._context.sample(messages, max_tokens=max_tokens, **more))

    def list_roots(self, key: str | None = None) -> list[Root]:
        """See `Context.list_roots`."""
        return self._context.wait(self._context.list_roots(key))

    def close_stream(self) -> None:
        """See `Context.close_stream`."""
        self._context.wait(self._context.close_stream())


def _readable(answer: ResultT | None) -> ResultT:
    """Insist that an answer could be read."""
    if answer is None:
        raise ToolError("The client's answer cannot be read: it is not of the shape it should be.")
    return answer
