"""Calling a tool over REST: `/mcp/execute` in the words of commands, `/mcp/tools/execute` in those of MCP.

Knows how a body becomes a call, and the outcome an answer. Both routes are one: they differ in what the
members of their bodies are called. Refuses to know who answers, and what may be called: the call goes
through the same steps as one of an MCP client, and is recorded, counted and limited there. A tool that asks
its caller something gets an error: nobody is there to answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import (
    CallTimeoutError,
    CapabilityMissingError,
    ForbiddenError,
    InterruptedCallError,
    InvalidArgumentsError,
    LimitError,
    RpcError,
    WaygateError,
)
from waygate_mcp.gateway.live import credential_ended
from waygate_mcp.model.call import Answer, Call, InputRequired, LogEvent, Progress, Question, Reply
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.jsonrpc import (
    INVALID_PARAMS,
    ParseFailure,
    encode_json,
    loads_strict,
)
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Fault, Needs, admission_of, generation_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.problems import CODES, Problem, describe
from waygate_mcp.web.tools import EndpointName, endpoint_named

__all__ = ["EXECUTE_PATHS", "add_routes"]

CALL = Needs("tools:call")
EXECUTE_PATHS = frozenset({"/mcp/execute", "/mcp/tools/execute"})
"""Requests of these are counted as calls, by the steps every call goes through, and not at the door."""

TOOL_FAILED = "TOOL_FAILED"
"""The code of a failure that a tool reports itself; the status is 200, as the call was made."""

_MAX_SAID_CHARS = 2_000


def _free(context: dict[str, Any]) -> dict[str, Any]:
    """Refuse what MCP keeps to itself."""
    for key in context:
        if key == "progressToken" or "modelcontextprotocol" in key:
            raise ValueError("a key here is one the protocol keeps to itself")
    return context


Name = Annotated[str, Field(min_length=1, max_length=1024)]
Context = Annotated[
    dict[str, Any],
    AfterValidator(_free),
    Field(description="What the tool is told beside its arguments: `_meta` of the call."),
]
Timeout = Annotated[
    float,
    Field(ge=1, le=300, description="Seconds to wait for it, `limits.call_timeout_s` at most."),
]


class Execution(BaseModel):
    """A command to carry out."""

    model_config = ConfigDict(extra="forbid")

    action: Name = Field(description="A name of `/mcp/commands`.")
    params: dict[str, Any] = Field({}, description="Its parameters.")
    context: Context = {}
    timeout: Timeout = 30


class ToolExecution(BaseModel):
    """A tool to call."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="A name of `/mcp/tools`.")
    arguments: dict[str, Any] = Field({}, description="Its arguments.")
    context: Context = {}
    timeout: Timeout = 30


class Executed(BaseModel):
    """How it went. An answer that is an error has these members too once there was a call."""

    status: Literal["success", "failed", "timeout"]
    result: dict[str, Any] | None = Field(
        description="What the tool answered, as MCP clients get it (2026-07-28 server/tools)."
    )
    error: Fault | None = Field(description="Why it failed; null where it did not.")
    duration_ms: float
    command_id: str = Field(description="The request's id, under which records of the call stand.")
    timestamp: str


class _Wish(msgspec.Struct, frozen=True):
    """What a body wants, by the names its members have there."""

    name: str
    arguments: str
    timeout_s: float

    def read(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        """Give the parameters of the call, and the message an MCP client would have sent.

        Every value goes on as it was written; what was checked before is read strictly now, as all that
        MCP clients send is.

        Raises:
            InvalidArgumentsError: it is JSON only for those who are lenient.
        """
        try:
            value = loads_strict(body)
        except ParseFailure as exc:
            raise InvalidArgumentsError([exc.reason]) from None
        raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        named = (("name", self.name), ("arguments", self.arguments), ("_meta", "context"))
        params = {ours: value[theirs] for ours, theirs in named if theirs in value}
        sent = {ours: raw[theirs] for ours, theirs in named if theirs in raw}
        return params, encode_json(
            {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": sent}
        )


class _Nobody:
    """The client's side of a call that nobody listens to. See `model.ports.Caller`."""

    log_level: str | None = None

    async def emit(self, event: Progress | LogEvent) -> None:
        """Drop it: the answer is one piece."""

    async def ask(self, question: Question) -> Answer:
        """Refuse.

        Raises:
            CapabilityMissingError: always.
        """
        raise _unaskable()

    async def close_stream(self) -> None:
        """Do nothing: there is none."""


class _UnderWay:
    """A call under way; `why` is set once it is to end."""

    def __init__(self, principal_id: str, task: asyncio.Task[Any]) -> None:
        self.principal_id = principal_id
        self.why: WaygateError | None = None
        self._task = task

    def end(self, why: WaygateError) -> None:
        """Cancel it, unless that was done."""
        if self.why is None:
            self.why = why
            self._task.cancel(str(why))


class ExecuteRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._under_way: set[_UnderWay] = set()
        house.on_dismiss.append(self._dismiss)

    def _dismiss(self, principal: Principal) -> None:
        """End the calls of a principal whose credential is good no more."""
        for one in self._under_way:
            if one.principal_id == principal.id:
                one.end(credential_ended())

    async def execute(
        self, request: Request, wanted: Execution, endpoint: EndpointName = DEFAULT_ENDPOINT
    ) -> Response:
        """Carry out a command and answer once it is done, failed, or took too long."""
        return await self._answer(request, _Wish("action", "params", wanted.timeout), endpoint)

    async def execute_tool(
        self, request: Request, wanted: ToolExecution, endpoint: EndpointName = DEFAULT_ENDPOINT
    ) -> Response:
        """Call a tool; the same as `/mcp/execute` in MCP's words."""
        return await self._answer(request, _Wish("name", "arguments", wanted.timeout), endpoint)

    async def _answer(self, request: Request, wish: _Wish, endpoint: str) -> Response:
        """Make the call and word its outcome.

        Raises:
            WaygateError: it was not made: no such endpoint, no permission, too much under way.
        """
        started_s = time.perf_counter()
        status = 200
        members: dict[str, Any]
        headers: dict[str, str] = {}
        try:
            reply = await self._call(request, wish, endpoint)
        except ForbiddenError:
            raise  # with what a client with a token could ask for
        except WaygateError as error:
            problem = _described(error)
            status = problem.status
            headers = {name.decode(): value.decode() for name, value in problem.headers}
            word = "timeout" if status == 408 else "failed"
            members = {"status": word, "result": None, "error": self._fault(request, problem)}
        else:
            members = {"status": "success", "result": _whole(reply), "error": None}
            if reply.is_error:
                problem = Problem(200, TOOL_FAILED, _said(reply))
                members |= {"status": "failed", "error": self._fault(request, problem)}
        members |= {
            "duration_ms": round((time.perf_counter() - started_s) * 1000, 3),
            "command_id": admission_of(request).request_id,
            "timestamp": self._house.stamp.now(),
        }
        headers = {**headers, "cache-control": "no-store"}
        return Response(
            msgspec.json.encode(members), status, headers, media_type="application/json"
        )

    async def _call(self, request: Request, wish: _Wish, endpoint: str) -> Reply:
        """Make the call, as an MCP client of the newest revision without any capability would."""
        found = endpoint_named(request, endpoint)
        generation, admission = generation_of(request), admission_of(request)
        if len(self._under_way) >= generation.document.limits.calls_in_flight_max:
            raise LimitError(
                "limits.calls_in_flight_max",
                safe_message="Too many calls are under way; try again shortly.",
            )
        timeout_s = min(wish.timeout_s, generation.document.limits.call_timeout_s)
        params, body = wish.read(await request.body())
        call = Call(
            request_id=admission.request_id,
            endpoint=endpoint,
            method="tools/call",
            name=params["name"],
            params=params,
            body=body,
            principal=admission.principal,
            revision=MODERN,
            capabilities=NO_CAPABILITIES,
            caller=_Nobody(),
            deadline_s=generation.gateway.live.monotonic() + timeout_s,
        )
        if call.principal.id in generation.gateway.live.dismissed:
            raise credential_ended()  # for a second a connection remembers who it is
        try:
            async with self._noted(request, call.principal), asyncio.timeout(timeout_s):
                outcome = await found.handler_for("tools/call")(call)
        except TimeoutError:
            raise CallTimeoutError(timeout_s) from None
        if isinstance(outcome, InputRequired):
            raise _unaskable()
        return outcome

    @asynccontextmanager
    async def _noted(self, request: Request, principal: Principal) -> AsyncIterator[None]:
        """End what is done in here with its client, who would not get the answer, and with its credential.

        Raises:
            InterruptedCallError: the client is gone.
            UnauthenticatedError: the credential ended.
        """
        task = asyncio.current_task()
        assert task is not None
        call = _UnderWay(principal.id, task)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            call.end(InterruptedCallError("the client is gone"))

        watching = self._house.supervisor.start(watch(), name="watch-client")
        self._under_way.add(call)
        try:
            yield
        except asyncio.CancelledError:
            if call.why is None:
                raise
            task.uncancel()
            raise call.why from None
        finally:
            self._under_way.discard(call)
            watching.cancel()

    def _fault(self, request: Request, problem: Problem) -> dict[str, Any]:
        return {
            "code": problem.code,
            "message": problem.message,
            "details": problem.details,
            "timestamp": self._house.stamp.now(),
            "request_id": admission_of(request).request_id,
        }


def add_routes(api: FastAPI, house: House[Guard]) -> None:
    """Add the routes of this module with their descriptions."""
    routes = ExecuteRoutes(house)
    add = partial(
        api.add_api_route,
        methods=["POST"],
        tags=["tools"],
        response_model=Executed,
        responses={**FAILURES},
        dependencies=[Depends(CALL)],
    )
    add("/mcp/execute", routes.execute, summary="Carry out a command")
    add("/mcp/tools/execute", routes.execute_tool, summary="Call a tool")


def _unaskable() -> CapabilityMissingError:
    """Word that a tool asks something where nobody can be asked."""
    return CapabilityMissingError(
        {}, safe_message="The tool asks its caller something, which only MCP clients can answer."
    )


def _described(error: WaygateError) -> Problem:
    """Word an error; one that an upstream gave keeps its code in `details`."""
    problem = describe(error)
    if not isinstance(error, RpcError):
        return problem
    status = 400 if error.rpc_code == INVALID_PARAMS else problem.status
    details = {"rpc_code": error.rpc_code}
    return msgspec.structs.replace(problem, status=status, code=CODES[status], details=details)


def _whole(reply: Reply) -> msgspec.Raw:
    """Give a result with its `_meta`, every value as it was written."""
    if reply.meta is None:
        return msgspec.Raw(reply.result)
    members = msgspec.json.decode(reply.result, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**members, "_meta": msgspec.Raw(reply.meta)}))


def _said(reply: Reply) -> str:
    """Give what a tool says of its failure: the first text in its answer."""
    read = msgspec.json.decode(reply.result)
    blocks = read.get("content")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            text: str = block["text"][:_MAX_SAID_CHARS]
            return text
    return "The tool reports a failure."
