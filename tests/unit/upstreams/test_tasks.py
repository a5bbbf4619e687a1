"""Calls that become tasks, against upstreams whose answers a test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.support.exchange import (
    EVENTS,
    FakeExchange,
    Request,
    Response,
    error,
    event,
    modern_result,
    result,
)  # fmt: skip
from tests.support.providers import EVERYTHING, LEGACY, FakeCaller, TaskGroupSupervisor, make_call
from tests.support.virtual_time import virtual_time
from waygate_mcp.errors import (
    CapabilityMissingError,
    LimitError,
    RpcError,
    UnknownMethodError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.call import Answer, InputRequired, Question, Reply
from waygate_mcp.model.catalog import Entry, Kind, Listing
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.tasks import RELATED_TASK_KEY, TASKS_EXTENSION, LegacyTasks
from waygate_mcp.protocol.versions import REVISIONS
from waygate_mcp.upstreams import tasks as module
from waygate_mcp.upstreams.channel import HttpChannel, RemoteError
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession
from waygate_mcp.upstreams.modern import ModernConnector
from waygate_mcp.upstreams.tasks import TaskCalls

WITH_TASKS = ClientCapabilities(EVERYTHING.bits, (TASKS_EXTENSION, "x.example/y"))
INSISTS: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}
DONE = {"content": [{"type": "text", "text": "done"}], "vendor": 1}
DONE_REPLY = Reply(b'{"content":[{"type": "text", "text": "done"}],"vendor":1}')
"""What is left of it, each member as it was written."""
KEY = "io.modelcontextprotocol/clientCapabilities"


def task(status: str = "working", **more: Any) -> dict[str, Any]:
    return {"taskId": "id-1", "status": status, "ttlMs": 60_000, "pollIntervalMs": 500, **more}


class House:
    """Calls of one upstream over a fake network. `states` are the answers to tasks/get, in order."""

    def __init__(self, *states: dict[str, Any] | Callable[[Request], Any], **handlers: Any) -> None:
        self.states: Iterator[Any] = iter(states)
        self.exchange = FakeExchange(
            tools__call=self.call_tool,
            tasks__get=self.look,
            tasks__update=lambda r: modern_result(r, {}),
            tasks__cancel=lambda r: modern_result(r, {}),
            notifications__cancelled=lambda _: Response(202),
            response=lambda _: Response(202),
            **handlers,
        )
        self.supervisor = TaskGroupSupervisor()
        numbers = count(1)
        channel = HttpChannel("up", self.exchange, "/mcp")

        def new_id() -> str:
            return f"wg-{next(numbers)}"

        self.now_s: float | None = None
        self.modern = ModernConnector("up", channel, new_id, {"name": "w"})
        self.legacy = LegacyConnector("up", channel, new_id, {"name": "w"}, lambda _: None)
        self.tasks = TaskCalls(self.modern, self.legacy, self.supervisor, self.now)
        self.session = LegacySession("s-1", LEGACY, {}, None, channel)
        self.sent: list[str] = []

    def now(self) -> float:
        if self.now_s is None:
            return 0.0
        return self.now_s

    def call_tool(self, request: Request) -> Response:
        """A tool that insists on a task."""
        if request.params.get("task") is not None:
            return result(request, {"task": task()})
        if "_meta" not in request.params or KEY not in request.params["_meta"]:
            return result(request, DONE)
        if TASKS_EXTENSION not in request.params["_meta"][KEY].get("extensions", {}):
            return error(request, -32021, "needs tasks", INSISTS, status=400)
        return result(request, {"resultType": "task", **task()})

    def look(self, request: Request) -> Any:
        state = next(self.states)
        return state(request) if callable(state) else result(request, state)

    async def call_modern(self, **more: Any) -> Any:
        given = {"revision": LEGACY, "capabilities": EVERYTHING, **more}
        call = make_call(
            given.pop("method", "tools/call"), given.pop("params", {"name": "t"}), **given
        )
        return await self.tasks.call_modern(call, ())

    async def call_legacy(self, **more: Any) -> Any:
        call = make_call(
            more.pop("method", "tools/call"), more.pop("params", {"name": "t"}), **more
        )
        return await self.tasks.call_legacy(self.session, call, self.sent.append)

    def has_legacy_tasks(self, *required: str, cancels: bool = True) -> None:
        self.tasks.terms = LegacyTasks(calls=True, cancels=cancels)
        entries = [
            Entry(
                Kind.TOOL,
                name,
                json.dumps({"name": name, "execution": {"taskSupport": support}}).encode(),
            )
            for name, support in {"o": "optional", **dict.fromkeys(required, "required")}.items()
        ]
        self.tasks.take_listing(Listing(tuple(entries), 0))

    def asked(self, *methods: str) -> list[str]:
        """The methods of what was sent, or of those given only."""
        return [one.rpc for one in self.exchange.requests if not methods or one.rpc in methods]

    async def close(self) -> None:
        while self.supervisor.tasks:
            await asyncio.wait(self.supervisor.tasks)
        await self.supervisor.close()


def failing(exc: Exception) -> Callable[[Request], Any]:
    def fail(_: Request) -> Any:
        raise exc

    return fail


# --- a modern upstream


@virtual_time
async def test_the_extension_is_declared_as_the_client_did_and_a_task_is_given_on() -> None:
    house = House()
    house.tasks.extensions = (TASKS_EXTENSION,)
    modern = REVISIONS["2026-07-28"]
    made = await house.call_modern(revision=modern, capabilities=WITH_TASKS)
    assert made == Reply(json.dumps(task()).replace(" ", "").encode(), task_id="id-1")
    declared = house.exchange.requests[0].params["_meta"][KEY]
    assert declared["extensions"] == {TASKS_EXTENSION: {}}
    with pytest.raises(RpcError) as caught:
        await house.call_modern(revision=modern, capabilities=EVERYTHING)
    assert (caught.value.rpc_code, json.loads(caught.value.data or b"")) == (-32021, INSISTS)
    assert "extensions" not in house.exchange.requests[1].params["_meta"][KEY]


@virtual_time
async def test_a_task_of_an_upstream_that_agreed_on_none_is_its_fault() -> None:
    house = House()
    house.exchange.handlers["tools/call"] = lambda r: result(r, {"resultType": "task", **task()})
    modern = REVISIONS["2026-07-28"]
    with pytest.raises(UpstreamProtocolError):
        await house.call_modern(revision=modern, capabilities=WITH_TASKS)
    house.tasks.extensions = (TASKS_EXTENSION,)
    for bad in ({"taskId": ""}, {"status": "dreaming"}):
        answer = {"resultType": "task", **task(), **bad}
        house.exchange.handlers["tools/call"] = partial(lambda a, r: result(r, a), answer)
        with pytest.raises(UpstreamProtocolError):
            await house.call_modern(revision=modern, capabilities=WITH_TASKS)
    answer = {"resultType": "task", **task()}
    house.exchange.handlers["prompts/get"] = lambda r: result(r, answer)
    with pytest.raises(UpstreamProtocolError):
        await house.call_modern(method="prompts/get", revision=modern, capabilities=WITH_TASKS)


@virtual_time
async def test_methods_about_tasks_carry_the_upstreams_id_there_and_the_handle_back() -> None:
    house = House({"resultType": "complete", **task("completed", result={"x": 1.5})})
    house.tasks.extensions = (TASKS_EXTENSION,)
    answers = {"a": {"action": "accept"}}
    for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": answers})):
        call = make_call(method, {"taskId": "handle", **more}, capabilities=WITH_TASKS)
        call.name, call.target = "handle", "id-1"
        outcome = await house.tasks.call_modern(call, ())
        assert isinstance(outcome, Reply)
        if method == "tasks/get":
            told = json.loads(outcome.result)
            assert (told["taskId"], told["ttlMs"], told["result"]) == ("handle", 60_000, {"x": 1.5})
            assert outcome.task_id is None
        else:
            assert outcome == Reply(b"{}")
    looked, updated = house.exchange.requests
    assert (looked.params["taskId"], looked.headers["mcp-name"]) == ("id-1", "id-1")
    assert updated.params["inputResponses"] == answers


@virtual_time
async def test_a_legacy_client_gets_the_result_of_a_task_the_upstream_insists_on() -> None:
    house = House(
        task(),
        task("working", pollIntervalMs=None),
        task("completed", result={**DONE, "resultType": "complete"}),
    )
    house.tasks.extensions = (TASKS_EXTENSION,)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await house.call_modern() == DONE_REPLY
    assert loop.time() - began_s == pytest.approx(0.5 + 0.5 + 0.1)
    assert house.asked() == ["tools/call", "tools/call", *["tasks/get"] * 3]
    house.states = iter([task("completed", result={**DONE, "isError": True})])
    failed = await house.call_modern()
    assert failed.is_error
    assert house.asked("tools/call") == ["tools/call"] * 3, "it is known by now to insist"


@virtual_time
async def test_a_task_that_is_over_when_it_is_made_is_fetched_at_once() -> None:
    house = House(task("completed", result=DONE))
    house.tasks.extensions = (TASKS_EXTENSION,)
    over = {"resultType": "task", **task("completed")}
    house.exchange.handlers["tools/call"] = lambda r: (
        result(r, over) if TASKS_EXTENSION in r.body.decode() else house.call_tool(r)
    )
    began_s = asyncio.get_running_loop().time()
    outcome = await house.call_modern()
    assert json.loads(outcome.result) == DONE
    assert asyncio.get_running_loop().time() == began_s


@virtual_time
async def test_nothing_is_declared_where_the_upstream_has_no_tasks_or_wants_something_else() -> (
    None
):
    house = House()
    outcome = await house.call_modern()
    assert isinstance(outcome, RemoteError), "its extension was never announced"
    house.tasks.extensions = (TASKS_EXTENSION,)
    other: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
    house.exchange.handlers["tools/call"] = lambda r: error(r, -32021, "no", other, status=400)
    assert isinstance(await house.call_modern(), RemoteError)
    house.exchange.handlers["tools/call"] = lambda r: error(r, -32020, "no", INSISTS, status=400)
    assert isinstance(await house.call_modern(), RemoteError)
    house.exchange.handlers["resources/read"] = lambda r: error(r, -32021, "no", INSISTS)
    read = await house.call_modern(method="resources/read", params={"uri": "x:y"})
    assert isinstance(read, RemoteError)
    assert len(house.asked()) == 4
    house.exchange.handlers["tools/call"] = lambda r: error(r, -32020, "header", status=400)
    given = await house.call_modern(revision=REVISIONS["2026-07-28"], capabilities=WITH_TASKS)
    assert isinstance(given, RemoteError)


@virtual_time
async def test_questions_of_an_awaited_task_are_asked_once_and_answered_by_an_update() -> None:
    form = {"method": "elicitation/create", "params": {"message": "?"}}
    first = {"a": form, "b": form}
    house = House(
        task("input_required", inputRequests=first),
        task("input_required", inputRequests=first),
        task("input_required", inputRequests={"c": form}),
        task("completed", result=DONE),
    )
    house.tasks.extensions = (TASKS_EXTENSION,)
    caller = FakeCaller(lambda q: Answer(b'{"action":"accept","k":"%b"}' % (q.key or "").encode()))
    assert isinstance(await house.call_modern(caller=caller), Reply)
    assert [question.key for question in caller.questions] == ["a", "b", "c"]
    updates = [one.params["inputResponses"] for one in house.exchange.asked("tasks/update")]
    assert updates == [
        {key: {"action": "accept", "k": key} for key in ("a", "b")},
        {"c": {"action": "accept", "k": "c"}},
    ]


class Refusing(FakeCaller):
    """A client that cannot be asked."""

    async def ask(self, question: Question) -> Answer:
        raise CapabilityMissingError({"elicitation": {}})


FORM = {"a": {"method": "elicitation/create", "params": {"message": "?"}}}


@pytest.mark.parametrize(
    ("states", "caller", "kind", "is_cancelled"),
    [
        (
            [task("input_required", inputRequests=FORM)],
            FakeCaller(lambda _: Answer(None, -1, "the client broke")),
            RpcError,
            True,
        ),
        ([task("input_required", inputRequests=FORM)], Refusing(), CapabilityMissingError, True),
        ([task("input_required", inputRequests=[])], FakeCaller(), UpstreamProtocolError, True),
        ([task("input_required")], FakeCaller(), UpstreamProtocolError, True),
        ([{"status": "working"}], FakeCaller(), UpstreamProtocolError, True),
        ([lambda r: error(r, -32602, "Task not found")], FakeCaller(), RpcError, True),
        ([lambda r: result(r, [])], FakeCaller(), UpstreamProtocolError, True),  # type: ignore[arg-type]
        ([lambda _: Response(202)], FakeCaller(), UpstreamProtocolError, True),
        ([lambda _: Response(404)], FakeCaller(), UpstreamProtocolError, True),
        ([lambda _: Response(502)] * 3, FakeCaller(), UpstreamUnavailableError, True),
        ([task("cancelled")], FakeCaller(), RpcError, False),
        ([task("failed", error={"code": -32603, "message": "why"})], FakeCaller(), RpcError, False),
        ([task("failed", error={"code": "x"})], FakeCaller(), UpstreamProtocolError, False),
        ([task("failed")], FakeCaller(), UpstreamProtocolError, False),
        ([task("completed")], FakeCaller(), UpstreamProtocolError, False),
        (
            [task("completed", result={"resultType": "input_required", "requestState": "x"})],
            FakeCaller(),
            UpstreamProtocolError,
            False,
        ),
    ],
)
@virtual_time
async def test_a_task_that_comes_to_nothing_is_an_error_and_is_cancelled_unless_it_is_over(
    states: Sequence[Any], caller: FakeCaller, kind: type[Exception], is_cancelled: bool
) -> None:
    house = House(*states)
    house.tasks.extensions = (TASKS_EXTENSION,)
    with pytest.raises(kind):
        await house.call_modern(caller=caller)
    await house.close()
    assert house.asked("tasks/cancel") == ["tasks/cancel"] * is_cancelled


@virtual_time
async def test_the_upstreams_words_reach_the_client() -> None:
    failed = {"code": -32055, "message": "why", "data": {"a": 1}}
    house = House(task("failed", error=failed), task("cancelled", statusMessage="by the operator"))
    house.tasks.extensions = (TASKS_EXTENSION,)
    with pytest.raises(RpcError) as caught:
        await house.call_modern()
    assert (caught.value.rpc_code, caught.value.data) == (-32055, b'{"a": 1}')
    with pytest.raises(RpcError) as caught:
        await house.call_modern()
    assert str(caught.value) == "The upstream server cancelled the task: by the operator"


@virtual_time
async def test_a_poll_that_is_not_answered_is_repeated_a_few_times() -> None:
    away = failing(UpstreamUnavailableError("up", "away"))
    house = House(away, failing(UpstreamTimeoutError("up", "slow")), task("completed", result=DONE))
    house.tasks.extensions = (TASKS_EXTENSION,)
    assert isinstance(await house.call_modern(), Reply)
    house = House(away, away, away)
    house.tasks.extensions = (TASKS_EXTENSION,)
    with pytest.raises(UpstreamUnavailableError):
        await house.call_modern()
    await house.close()
    assert house.asked("tasks/get", "tasks/cancel") == ["tasks/get"] * 3 + ["tasks/cancel"]


@virtual_time
async def test_an_awaited_task_is_cancelled_with_its_call() -> None:
    house = House(*[task(pollIntervalMs=3_600_000)] * 10)
    house.tasks.extensions = (TASKS_EXTENSION,)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    running = loop.create_task(house.call_modern())
    await asyncio.sleep(25)
    assert house.asked("tasks/get") == ["tasks/get"] * 3, "a poll waits for ten seconds at most"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert loop.time() - began_s == pytest.approx(25), "whoever is cancelled waits for nothing"
    await house.close()
    assert house.asked("tasks/cancel") == ["tasks/cancel"]


@virtual_time
async def test_a_task_is_polled_no_longer_than_the_call_may_take() -> None:
    house = House(task(), task())
    house.tasks.extensions = (TASKS_EXTENSION,)
    house.now_s = 1e12
    with pytest.raises(UpstreamTimeoutError):
        await house.call_modern()
    await house.close()
    assert house.asked("tasks/cancel") == ["tasks/cancel"]


@virtual_time
async def test_a_cancellation_that_cannot_be_sent_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(task("input_required"))
    house.tasks.extensions = (TASKS_EXTENSION,)

    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    house.exchange.handlers["tasks/cancel"] = never
    with pytest.raises(UpstreamProtocolError):
        await house.call_modern()
    await house.close()

    def refuse(coroutine: Any, *, name: str) -> Any:
        coroutine.close()
        raise LimitError("too many tasks")

    monkeypatch.setattr(house.supervisor, "start", refuse)
    house.states = iter([task("input_required")])
    with pytest.raises(UpstreamProtocolError):
        await house.call_modern()
    assert house.asked("tasks/cancel") == ["tasks/cancel"]


@virtual_time
async def test_names_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_NAMES", 1)
    house = House()
    house.tasks.extensions = (TASKS_EXTENSION,)
    for name in ("a", "b", "c", "a"):
        house.states = iter([task("completed", result=DONE)])
        await house.call_modern(params={"name": name})
    assert house.asked("tools/call") == ["tools/call"] * 8
    for _ in range(3):
        house.has_legacy_tasks("a", "b")
    assert house.tasks.wants_listing(make_call("tools/call", {"name": "c"}))


# --- a legacy upstream


@virtual_time
async def test_a_modern_client_gets_the_result_of_a_tool_that_is_only_called_as_a_task() -> None:
    payload = {**DONE, "_meta": {RELATED_TASK_KEY: {"taskId": "id-1"}, "x": 1}}
    house = House(task(), task("completed"), tasks__result=lambda r: result(r, payload))
    house.has_legacy_tasks("t")
    outcome = await house.call_legacy()
    assert outcome == Reply(DONE_REPLY.result, b'{"x":1}')
    assert house.asked() == ["tools/call", "tasks/get", "tasks/get", "tasks/result"]
    sent = house.exchange.requests
    assert sent[0].params["task"]["ttl"] >= 600_000
    assert {one.params["taskId"] for one in sent[1:]} == {"id-1"}
    assert house.sent[-1] == "", "a request that is over is cancelled no more"
    assert house.session.is_idle
    tokens = {one.params["_meta"]["progressToken"] for one in sent[:1]}
    assert tokens == {"wg-1"}


@virtual_time
async def test_an_older_client_is_helped_likewise_and_one_that_knows_tasks_is_not() -> None:
    house = House(task("failed"), tasks__result=lambda r: result(r, {**DONE, "isError": True}))
    house.has_legacy_tasks("t")
    outcome = await house.call_legacy(revision=REVISIONS["2025-06-18"], progress_token=None)
    assert outcome.is_error
    assert await house.call_legacy(revision=LEGACY) == Reply(json.dumps(DONE).encode())
    assert "task" not in house.exchange.requests[-1].params


@virtual_time
async def test_a_tool_that_may_be_called_plainly_is() -> None:
    house = House()
    house.has_legacy_tasks("t")
    assert isinstance(await house.call_legacy(params={"name": "o"}), Reply)
    house.tasks.terms = LegacyTasks()
    assert isinstance(await house.call_legacy(), Reply)
    assert all("task" not in one.params for one in house.exchange.requests)
    house.exchange.handlers["prompts/get"] = lambda r: result(r, {})
    await house.call_legacy(method="prompts/get")


@virtual_time
async def test_an_upstream_that_answers_at_once_all_the_same_is_believed() -> None:
    house = House()
    house.has_legacy_tasks("t")
    house.exchange.handlers["tools/call"] = lambda r: result(r, DONE)
    assert await house.call_legacy() == Reply(json.dumps(DONE).encode())
    house.exchange.handlers["tools/call"] = lambda r: error(
        r, -32042, "visit", {"elicitations": [{"url": "https://a.example", "message": "m"}]}
    )
    assert isinstance(await house.call_legacy(), InputRequired)
    house.exchange.handlers["tools/call"] = lambda r: result(r, {"task": {"taskId": 1}})
    with pytest.raises(UpstreamProtocolError):
        await house.call_legacy()


@virtual_time
async def test_the_questions_of_an_awaited_task_come_with_its_result() -> None:
    meta = {RELATED_TASK_KEY: {"taskId": "id-1"}}
    question = {
        "id": "q", "method": "elicitation/create", "params": {"message": "?", "_meta": meta}
    }  # fmt: skip
    answered = asyncio.Event()

    def note(request: Request) -> Response:
        answered.set()
        return Response(202)

    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield event(question)
            await answered.wait()
            yield event({"id": request.message["id"], "result": DONE})

        return Response(200, EVENTS, chunks())

    house = House(task("input_required"), tasks__result=answer)
    house.exchange.handlers["response"] = note
    house.has_legacy_tasks("t")
    caller = FakeCaller(lambda _: Answer(b'{"action":"decline"}'))
    assert isinstance(await house.call_legacy(caller=caller), Reply)
    assert json.loads(caller.questions[0].params) == {"message": "?"}
    (reply,) = house.exchange.asked("response")
    assert reply.message["result"] == {"action": "decline", "_meta": meta}


@pytest.mark.parametrize("cancels", [True, False])
@virtual_time
async def test_an_awaited_task_of_a_legacy_upstream_is_cancelled_with_its_call(
    cancels: bool,
) -> None:
    house = House(*[task()] * 100)
    house.has_legacy_tasks("t", cancels=cancels)
    running = asyncio.get_running_loop().create_task(house.call_legacy())
    await asyncio.sleep(1.2)
    assert house.sent[-1] == ""
    assert not house.session.is_idle, "it would be unknown in another session"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await house.close()
    assert house.asked("tasks/cancel") == ["tasks/cancel"] * cancels
    assert house.session.is_idle


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (task("cancelled"), RpcError),
        ({"status": "working"}, UpstreamProtocolError),
        (lambda r: error(r, -32602, "no such task"), RpcError),
        # A lost session must not be met by doing the call again in a new one: the task was made.
        (lambda _: Response(404), UpstreamProtocolError),
        (
            lambda r: error(r, -32042, "visit", {"elicitations": [{"url": "u"}]}),
            UpstreamProtocolError,
        ),
    ],
)
@virtual_time
async def test_a_task_of_a_legacy_upstream_that_comes_to_nothing_is_an_error(
    state: Any, kind: type[Exception]
) -> None:
    house = House(state)
    house.has_legacy_tasks("t")
    with pytest.raises(kind) as caught:
        await house.call_legacy()
    assert type(caught.value) is kind
    await house.close()


@virtual_time
async def test_a_client_of_the_revision_that_has_tasks_makes_them_itself() -> None:
    house = House()
    house.has_legacy_tasks("t")
    params = {"name": "t", "task": {"ttl": 5, "x": 1.5}}
    made = await house.call_legacy(params=params, revision=LEGACY)
    assert made.task_id == "id-1"
    assert house.exchange.requests[0].params["task"] == {"ttl": 5, "x": 1.5}
    house.exchange.handlers["tools/call"] = lambda r: result(r, {"task": "a word", "content": []})
    plain = await house.call_legacy(revision=LEGACY)
    assert plain.task_id is None, "nobody asked for a task"


@virtual_time
async def test_requests_about_tasks_are_carried_to_upstreams_that_have_them() -> None:
    payload = {**DONE, "_meta": {RELATED_TASK_KEY: {"taskId": "id-1"}}}
    house = House(task("completed"), tasks__result=lambda r: result(r, payload))

    async def ask(method: str) -> Any:
        call = make_call(method, {"taskId": "handle"}, revision=LEGACY)
        call.name, call.target = "handle", "id-1"
        return await house.tasks.call_legacy(house.session, call, house.sent.append)

    with pytest.raises(UnknownMethodError):
        await ask("tasks/get")
    house.has_legacy_tasks(cancels=False)
    with pytest.raises(UnknownMethodError):
        await ask("tasks/cancel")
    looked = json.loads((await ask("tasks/get")).result)
    assert (looked["taskId"], looked["status"]) == ("handle", "completed")
    fetched = await ask("tasks/result")
    assert json.loads(fetched.meta) == {RELATED_TASK_KEY: {"taskId": "handle"}}
    assert house.exchange.requests[-1].params["taskId"] == "id-1"
    house.exchange.handlers["tasks/result"] = lambda r: error(
        r, -32042, "visit", {"elicitations": [{"url": "https://a.example", "message": "m"}]}
    )
    call = make_call("tasks/result", {"taskId": "handle"})
    assert isinstance(
        await house.tasks.call_legacy(house.session, call, house.sent.append), InputRequired
    )


# --- lists and sessions


def test_the_list_of_tools_is_read_where_it_says_how_a_tool_is_called() -> None:
    house = House()
    call = make_call("tools/call", {"name": "t"})
    assert not house.tasks.wants_listing(call), "it has no tasks"
    house.has_legacy_tasks()
    assert house.tasks.wants_listing(call)
    assert not house.tasks.wants_listing(make_call("tools/call", {"name": "t"}, revision=LEGACY))
    assert not house.tasks.wants_listing(make_call("prompts/get", {"name": "t"}))
    assert not house.tasks.wants_listing(make_call("tools/call", {"name": "o"}))


def test_how_tools_are_called_is_shown_only_where_it_leads_to_tasks() -> None:
    house = House()
    entry = Entry(Kind.TOOL, "t", b'{"name":"t","execution":{"taskSupport":"required"}}')
    assert house.tasks.take_listing(Listing((entry,), 0)).entries[0].definition == b'{"name":"t"}'
    house.has_legacy_tasks()
    assert house.tasks.take_listing(Listing((entry,), 0)) == Listing((entry,), 0)


def test_what_is_about_a_task_stays_in_its_session() -> None:
    house = House()
    made = make_call("tools/call", {"name": "t", "task": {}}, revision=LEGACY)
    assert house.tasks.outlasts(make_call("tasks/get", {"taskId": "x"}, revision=LEGACY))
    assert not house.tasks.outlasts(made), "it has no tasks"
    house.has_legacy_tasks()
    assert house.tasks.outlasts(made)
    assert not house.tasks.outlasts(make_call("tools/call", {"name": "t"}, revision=LEGACY))
    assert not house.tasks.outlasts(make_call("tools/call", {"name": "t", "task": {}}))
