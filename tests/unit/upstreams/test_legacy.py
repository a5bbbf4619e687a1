from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
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
    events,
    result,
)  # fmt: skip
from tests.support.providers import EVERYTHING, FakeCaller, make_call
from tests.support.virtual_time import now, virtual_time
from waygate_mcp.errors import (
    CapabilityMissingError,
    InterruptedCallError,
    LimitError,
    RpcError,
    UpstreamProtocolError,
)
from waygate_mcp.model.call import Answer, InputRequired, Question, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, REVISIONS, Revision
from waygate_mcp.upstreams.channel import HttpChannel
from waygate_mcp.upstreams.legacy import (
    LegacyConnector,
    LegacySession,
    NoStreamError,
    NotLegacyError,
    SessionLostError,
)

ACCEPT = Answer(b'{"action":"accept"}')


class Server:
    """A legacy upstream whose answers a test writes."""

    def __init__(self, version: str = "2025-11-25", **handlers: Any) -> None:
        self.heard: list[Event] = []
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.exchange = FakeExchange(
            initialize=lambda r: result(
                r,
                {
                    "protocolVersion": version,
                    "capabilities": {"tools": {"listChanged": True}, "logging": {}},
                    "instructions": "hi",
                },
                mcp_session_id="s-1",
            ),
            notifications__initialized=lambda _: Response(202),
            notifications__cancelled=lambda _: Response(202),
            logging__setLevel=lambda r: result(r, {}),
            response=self._note,
            DELETE=lambda _: Response(204),
            **handlers,
        )
        numbers = count(1)
        self.connector = LegacyConnector(
            "up",
            HttpChannel("up", self.exchange, "/mcp"),
            lambda: f"id-{next(numbers)}",
            {"name": "w"},
            self.heard.append,
        )

    def _note(self, request: Request) -> Response:
        self.answers.put_nowait(request.message)
        return Response(202)

    def asking(self, *questions: dict[str, Any], then: dict[str, Any] | None = None) -> None:
        """Let tools/call ask questions one after the other, then answer."""

        def answer(request: Request) -> Response:
            async def chunks() -> AsyncGenerator[bytes, None]:
                for question in questions:
                    yield event(question)
                    await self.answers.get()
                yield event({"id": request.message["id"], **(then or {"result": {"content": []}})})

            return Response(200, EVENTS, chunks())

        self.exchange.handlers["tools/call"] = answer

    async def call(self, session: LegacySession, caller: FakeCaller, **more: Any) -> Any:
        call = make_call("tools/call", {"name": "t"}, caller=caller, **more)
        async with asyncio.timeout(5):
            return await self.connector.call(session, call, lambda _: None)


def elicit(identifier: Any = "q1") -> dict[str, Any]:
    return {"id": identifier, "method": "elicitation/create", "params": {"message": "?"}}


# --- opening


async def test_a_session_is_opened_by_the_handshake() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)
    assert (session.id, session.revision, session.instructions) == ("s-1", LATEST_LEGACY, "hi")
    assert session.has("tools")
    assert session.has("tools", "listChanged")
    assert not session.has("prompts")
    assert not session.has("logging", "x")
    first, second = server.exchange.requests
    assert first.params == {
        "protocolVersion": "2025-11-25",
        "capabilities": EVERYTHING.to_declaration(),
        "clientInfo": {"name": "w"},
    }
    assert "mcp-session-id" not in first.headers
    assert second.rpc == "notifications/initialized"
    assert second.headers["mcp-session-id"] == "s-1"
    assert second.headers["mcp-protocol-version"] == "2025-11-25"


async def test_an_older_revision_is_taken_and_gets_no_header_it_does_not_know() -> None:
    session = await Server("2025-03-26").connector.open(NO_CAPABILITIES)
    assert session.revision is REVISIONS["2025-03-26"]
    assert [name for name, _ in session.headers] == ["mcp-session-id"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda r: error(r, -32022, "modern only", status=400), NotLegacyError),
        (lambda r: error(r, -32601, "what?"), NotLegacyError),
        (lambda _: Response(404), NotLegacyError),
        (lambda _: Response(405), NotLegacyError),
        (lambda r: result(r, {"protocolVersion": "2026-07-28"}), NotLegacyError),
        (lambda r: result(r, {"protocolVersion": "1999-01-01"}), NotLegacyError),
        (lambda _: Response(401), UpstreamProtocolError),
        (lambda _: Response(503), UpstreamProtocolError),
        (lambda r: result(r, {}), UpstreamProtocolError),
        (lambda _: Response(202), UpstreamProtocolError),
        (
            lambda r: result(r, {"protocolVersion": "2025-11-25"}, mcp_session_id="bad\nvalue"),
            UpstreamProtocolError,
        ),
    ],
)
async def test_a_handshake_that_fails(answer: Any, kind: type[Exception]) -> None:
    server = Server()
    server.exchange.handlers["initialize"] = answer
    with pytest.raises(kind) as caught:
        await server.connector.open(NO_CAPABILITIES)
    assert type(caught.value) is kind


async def test_closing_ends_the_session_at_the_server_too() -> None:
    server = Server()
    session = await server.connector.open(NO_CAPABILITIES)
    await server.connector.close(session)
    assert session.is_lost
    (ended,) = server.exchange.asked("DELETE")
    assert ended.headers["mcp-session-id"] == "s-1"
    nameless = LegacySession(None, LATEST_LEGACY, {}, None, session.channel)
    await server.connector.close(nameless)
    assert len(server.exchange.asked("DELETE")) == 1


# --- calls


async def test_a_call_is_answered_and_its_progress_is_rewritten() -> None:
    def answer(request: Request) -> Response:
        token = request.params["_meta"]["progressToken"]
        assert token != "t"
        progress = {"progressToken": token, "progress": 1}
        return events(
            event({"method": "notifications/progress", "params": progress}),
            event({"method": "notifications/tools/list_changed"}),
            event({"id": request.message["id"], "result": {"content": [], "x": 1}}),
        )

    server = Server(tools__call=answer)
    session = await server.connector.open(EVERYTHING)
    caller = FakeCaller()
    reply = await server.call(session, caller)
    assert reply == Reply(b'{"content": [], "x": 1}')
    assert caller.progress == [1]
    assert server.heard == [ListChanged("up", Kind.TOOL)]
    assert not session.live


async def test_log_messages_are_asked_for_once_somebody_wants_any() -> None:
    server = Server(tools__call=lambda r: result(r, {}))
    session = await server.connector.open(EVERYTHING)
    await server.call(session, FakeCaller(log_level=None))
    assert not server.exchange.asked("logging/setLevel")
    for _ in range(2):
        await server.call(session, FakeCaller(log_level="error"))
    (sent,) = server.exchange.asked("logging/setLevel")
    assert sent.params == {"level": "debug"}


async def test_a_question_is_asked_of_the_caller_and_its_answer_carried_back() -> None:
    server = Server()
    server.asking(elicit("q1"), elicit(7))
    session = await server.connector.open(EVERYTHING)
    caller = FakeCaller(lambda _: ACCEPT)
    seen: list[dict[str, Any]] = []
    note = server.exchange.handlers["response"]

    def watch(request: Request) -> Any:
        seen.append(request.message)
        assert request.headers["mcp-session-id"] == "s-1"
        return note(request)

    server.exchange.handlers["response"] = watch
    assert isinstance(await server.call(session, caller), Reply)
    assert [question.params for question in caller.questions] == [b'{"message": "?"}'] * 2
    assert [message["id"] for message in seen] == ["q1", 7]
    assert seen[0]["result"] == {"action": "accept"}


async def test_an_answer_is_carried_back_in_the_shape_of_the_servers_revision() -> None:
    server = Server("2025-06-18")
    server.asking({"id": 1, "method": "sampling/createMessage", "params": {"messages": []}})
    session = await server.connector.open(EVERYTHING)
    said = Answer(b'{"content":[{"type":"text","text":"Hi"}]}')
    await server.call(session, FakeCaller(lambda _: said))
    (sent,) = server.exchange.asked("response")
    assert sent.message["result"] == {"content": {"type": "text", "text": "Hi"}}


async def test_an_answer_the_client_sent_along_is_used_where_the_key_is_known() -> None:
    server = Server()
    question = elicit()
    question["params"]["_meta"] = {"waygate-mcp/inputKey": "k"}
    server.asking(question)
    session = await server.connector.open(EVERYTHING)
    given = {"k": b'{"action":"decline"}', "other": b"{}"}
    caller = FakeCaller()
    assert isinstance(await server.call(session, caller, input_responses=given), Reply)
    assert caller.questions == []
    (answered,) = server.exchange.asked("response")
    assert answered.message["result"] == {"action": "decline"}


async def test_several_questions_are_asked_at_once() -> None:
    server = Server()
    both = asyncio.Barrier(2)

    class Slow(FakeCaller):
        async def ask(self, question: Question) -> Answer:
            self.questions.append(question)
            await both.wait()
            return ACCEPT

    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield event(elicit(1)) + event(elicit(2)) + event(elicit(2))
            for _ in range(2):
                await server.answers.get()
            yield event({"id": request.message["id"], "result": {}})

        return Response(200, EVENTS, chunks())

    server.exchange.handlers["tools/call"] = answer
    session = await server.connector.open(EVERYTHING)
    caller = Slow()
    assert isinstance(await server.call(session, caller), Reply)
    assert len(caller.questions) == 2  # the repeated one is the same question
    assert len(server.exchange.asked("response")) == 2


@pytest.mark.parametrize("revision", [MODERN, LATEST_LEGACY])
@virtual_time
async def test_questions_that_come_one_after_the_other_are_shown_to_a_modern_client_at_once(
    revision: Revision,
) -> None:
    server = Server()
    asked_s: list[float] = []

    def note(_: Question) -> Answer:
        asked_s.append(round(now() - began_s, 3))
        return ACCEPT

    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            for number, pause_s in enumerate((0.0, 0.005, 0.01, 0.085)):
                await asyncio.sleep(pause_s)
                yield event(elicit(number))
            for _ in range(4):
                await server.answers.get()
            yield event({"id": request.message["id"], "result": {}})

        return Response(200, EVENTS, chunks())

    server.exchange.handlers["tools/call"] = answer
    session = await server.connector.open(EVERYTHING)
    began_s = now()
    assert isinstance(await server.call(session, FakeCaller(note), revision=revision), Reply)
    at_once, one_by_one = [0.02, 0.02, 0.02, 0.12], [0.0, 0.005, 0.015, 0.1]
    assert asked_s == (at_once if revision.is_modern else one_by_one)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CapabilityMissingError({"elicitation": {}}), -32601),
        (LimitError("full"), -32603),
        (RpcError(-1, "x"), -32603),
    ],
)
async def test_a_question_that_cannot_be_asked_is_refused(failure: Any, code: int) -> None:
    server = Server()
    seen: list[dict[str, Any]] = []

    def refuse(_: Question) -> Answer:
        raise failure

    def watch(request: Request) -> Response:
        seen.append(request.message)
        return server._note(request)

    server.asking(elicit())
    server.exchange.handlers["response"] = watch
    session = await server.connector.open(EVERYTHING)
    if isinstance(failure, LimitError):
        with pytest.raises(LimitError):
            await server.call(session, FakeCaller(refuse))
    else:
        assert isinstance(await server.call(session, FakeCaller(refuse)), Reply)
    assert seen[0]["error"]["code"] == code


async def test_a_call_that_fails_for_a_missing_capability_says_so() -> None:
    def refuse(_: Question) -> Answer:
        raise CapabilityMissingError({"elicitation": {"form": {}}})

    server = Server()
    server.asking(elicit(), then={"error": {"code": -32603, "message": "cannot ask"}})
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(CapabilityMissingError):
        await server.call(session, FakeCaller(refuse))


async def test_a_call_that_is_over_ends_at_once_whatever_is_asked() -> None:
    def over(_: Question) -> Answer:
        raise InterruptedCallError

    server = Server()
    server.asking(elicit())
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(InterruptedCallError):
        await server.call(session, FakeCaller(over))
    assert not session.live


async def test_an_answer_that_comes_before_the_client_answered_ends_the_asking() -> None:
    class Thinking(FakeCaller):
        async def ask(self, question: Question) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

    def answer(request: Request) -> Response:
        return events(event(elicit()), event({"id": request.message["id"], "result": {}}))

    server = Server(tools__call=answer)
    session = await server.connector.open(EVERYTHING)
    assert isinstance(await server.call(session, Thinking()), Reply)


async def test_an_answer_the_server_refuses_ends_the_call() -> None:
    server = Server()
    server.asking(elicit())
    server.exchange.handlers["response"] = lambda _: Response(400)
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(UpstreamProtocolError):
        await server.call(session, FakeCaller(lambda _: ACCEPT))


async def test_a_ping_is_answered_and_an_unknown_request_refused() -> None:
    server = Server()
    seen: list[dict[str, Any]] = []

    def watch(request: Request) -> Response:
        seen.append(request.message)
        return server._note(request)

    server.asking({"id": 1, "method": "ping"}, {"id": 2, "method": "tools/call", "params": {}})
    server.exchange.handlers["response"] = watch
    session = await server.connector.open(EVERYTHING)
    await server.call(session, FakeCaller())
    assert seen[0]["result"] == {}
    assert seen[1]["error"]["code"] == -32601


async def test_a_question_in_answer_to_our_own_request_is_nobodys() -> None:
    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield event(elicit())
            await server.answers.get()
            yield event({"id": request.message["id"], "result": {"tools": []}})

        return Response(200, EVENTS, chunks())

    server = Server(tools__list=answer)
    session = await server.connector.open(EVERYTHING)
    async with asyncio.timeout(5):
        page = await server.connector.fetch_page(session, Kind.TOOL, None)
    assert page.items == ()
    assert "error" in server.exchange.asked("response")[0].message


async def test_an_error_is_said_in_the_clients_era() -> None:
    data = {"elicitations": [{"mode": "url", "url": "https://a", "message": "m"}]}
    server = Server(tools__call=lambda r: error(r, -32042, "visit", data))
    session = await server.connector.open(EVERYTHING)
    assert isinstance(await server.call(session, FakeCaller()), InputRequired)
    with pytest.raises(RpcError):
        await server.call(session, FakeCaller(), revision=LATEST_LEGACY)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda _: Response(404), SessionLostError),
        (lambda _: Response(401), UpstreamProtocolError),
        (lambda _: Response(500), UpstreamProtocolError),
        (lambda _: Response(202), UpstreamProtocolError),
        (lambda _: events(), UpstreamProtocolError),
    ],
)
async def test_an_answer_without_a_response(
    answer: Callable[[Request], Response], kind: type[Exception]
) -> None:
    server = Server(tools__call=answer)
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(kind):
        await server.call(session, FakeCaller())
    assert session.is_lost is (kind is SessionLostError)


async def test_a_stream_that_closes_early_is_resumed_where_it_ended() -> None:
    sent: list[str] = []

    def answer(request: Request) -> Response:
        sent.append(request.message["id"])
        return events(b"id: 1\nretry: 0\ndata:\n\n")

    def resume(request: Request) -> Response:
        number = int(request.headers["last-event-id"])
        if number < 3:
            return events(event({"method": "notifications/message"}, id=str(number + 1)))
        return events(event({"id": sent[0], "result": {"done": True}}))

    class Polled(FakeCaller):
        closed = 0

        async def close_stream(self) -> None:
            self.closed += 1

    server = Server(tools__call=answer, GET=resume)
    session = await server.connector.open(EVERYTHING)
    caller = Polled()
    reply = await server.call(session, caller)
    assert caller.closed == 1
    assert json.loads(reply.result) == {"done": True}
    assert [r.headers["last-event-id"] for r in server.exchange.asked("GET")] == ["1", "2", "3"]
    assert len(sent) == 1


async def test_a_cancellation_is_told_with_the_upstreams_id() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)
    await server.connector.cancel(session, "id-9", "gone")
    (told,) = server.exchange.asked("notifications/cancelled")
    assert told.params == {"requestId": "id-9", "reason": "gone"}


# --- the session's own stream


async def listen_with(server: Server, session: LegacySession, *chunks: bytes) -> str | None:
    server.exchange.handlers["GET"] = lambda _: events(*chunks)
    async with asyncio.timeout(5):
        return await server.connector.listen(session, None)


async def test_changes_on_the_own_stream_are_heard() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)
    changed = event({"method": "notifications/tools/list_changed"}, id="5")
    assert await listen_with(server, session, changed) == "5"
    assert server.heard == [ListChanged("up", Kind.TOOL)]


async def test_a_question_there_belongs_to_the_only_call_in_flight() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)
    caller = FakeCaller(lambda _: ACCEPT)
    asked = asyncio.Event()

    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            asked.set()
            await server.answers.get()
            yield event({"id": request.message["id"], "result": {}})

        return Response(200, EVENTS, chunks())

    server.exchange.handlers["tools/call"] = answer
    async with asyncio.TaskGroup() as group:
        group.create_task(server.call(session, caller))
        await asked.wait()
        await listen_with(server, session, event(elicit()))
    assert len(caller.questions) == 1


async def test_a_question_there_is_refused_while_two_calls_are_in_flight() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)
    waiting = asyncio.Barrier(3)
    go = asyncio.Event()

    def answer(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            await waiting.wait()
            await go.wait()
            yield event({"id": request.message["id"], "result": {}})

        return Response(200, EVENTS, chunks())

    server.exchange.handlers["tools/call"] = answer
    callers = [FakeCaller(lambda _: ACCEPT), FakeCaller(lambda _: ACCEPT)]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(server.call(session, caller))
        await waiting.wait()
        token = next(iter(session.live.values())).token
        progress = {"progressToken": token, "progress": 3}
        await listen_with(
            server,
            session,
            event(elicit()),
            event({"method": "notifications/message", "params": {"level": "info", "data": 1}}),
            event({"method": "notifications/progress", "params": progress}),
        )
        go.set()
    assert [caller.questions for caller in callers] == [[], []]
    assert [caller.logs for caller in callers] == [[], []]
    assert [caller.progress for caller in callers] == [[3], []]
    assert server.exchange.asked("response")[0].message["error"]["code"] == -32601


async def test_an_upstream_without_an_own_stream_says_405() -> None:
    server = Server(GET=lambda _: Response(405))
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(NoStreamError):
        await server.connector.listen(session, None)
    server.exchange.handlers["GET"] = lambda _: Response(404)
    with pytest.raises(SessionLostError):
        await server.connector.listen(session, None)
    session.is_lost = False
    for status in (429, 503):
        refusal = Response(status)
        server.exchange.handlers["GET"] = lambda _, given=refusal: given  # type: ignore[misc]
        with pytest.raises(UpstreamProtocolError) as failed:
            await server.connector.listen(session, None)
        assert isinstance(failed.value, NoStreamError) is (status < 500)  # else it is tried again


async def test_a_stream_that_breaks_off_is_resumed_from_what_was_heard() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield event({"method": "notifications/tools/list_changed"}, id="7")
        raise UpstreamProtocolError("up", "reset")

    server = Server(GET=lambda _: Response(200, EVENTS, chunks()))
    session = await server.connector.open(EVERYTHING)
    with pytest.raises(UpstreamProtocolError):
        await server.connector.listen(session, None)
    assert session.heard_until == "7"


# --- URLs that were visited


def visit(identifier: str = "e-1") -> dict[str, Any]:
    params = {"mode": "url", "message": "?", "url": "https://a.test", "elicitationId": identifier}
    return {"id": f"q-{identifier}", "method": "elicitation/create", "params": params}


def completed(identifier: str) -> dict[str, Any]:
    params = {"elicitationId": identifier}
    return {"method": "notifications/elicitation/complete", "params": params}


async def listen_to(server: Server, session: LegacySession, *messages: dict[str, Any]) -> None:
    server.exchange.handlers["GET"] = lambda _: events(*(event(one) for one in messages))
    await server.connector.listen(session, None)


async def test_a_visit_is_told_to_the_session_at_our_door_whose_call_was_asked() -> None:
    server = Server()
    awaited: list[LegacySession] = []
    server.connector.on_awaiting = awaited.append
    session = await server.connector.open(EVERYTHING)
    for front in ("front-1", "front-2"):
        server.asking(visit(f"e-{front}"))
        caller = FakeCaller(lambda _: ACCEPT)
        await server.call(session, caller, session_id=front, revision=LATEST_LEGACY)
    assert awaited == [session, session]
    await listen_to(server, session, completed("e-front-2"), completed("invented"))
    assert server.heard == [ElicitationCompleted("up", "front-2", "e-front-2")]


async def test_a_visit_may_be_told_on_the_stream_of_the_call_that_asked() -> None:
    server = Server()
    session = await server.connector.open(EVERYTHING)

    def telling(request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield event(visit())
            await server.answers.get()
            yield event(completed("e-1"))
            yield event({"id": request.message["id"], "result": {"content": []}})

        return Response(200, EVENTS, chunks())

    server.exchange.handlers["tools/call"] = telling
    caller = FakeCaller(lambda _: ACCEPT)
    await server.call(session, caller, session_id="front-1", revision=LATEST_LEGACY)
    assert server.heard == [ElicitationCompleted("up", "front-1", "e-1")]
    assert caller.events == []


async def test_a_visit_in_one_session_says_nothing_of_another() -> None:
    server = Server()
    mine, other = [await server.connector.open(EVERYTHING) for _ in range(2)]
    server.asking(visit())
    caller = FakeCaller(lambda _: ACCEPT)
    await server.call(mine, caller, session_id="front-1", revision=LATEST_LEGACY)
    await listen_to(server, other, completed("e-1"))
    assert server.heard == []


async def test_a_visit_a_modern_client_was_asked_for_is_told_to_nobody() -> None:
    server = Server()
    awaited: list[LegacySession] = []
    server.connector.on_awaiting = awaited.append
    session = await server.connector.open(EVERYTHING)
    server.asking(visit())
    await server.call(session, FakeCaller(lambda _: ACCEPT))
    await listen_to(server, session, completed("e-1"))
    assert (server.heard, awaited) == ([], [])


async def test_a_question_the_client_was_not_shown_is_completed_for_nobody() -> None:
    def refuse(_: Question) -> Answer:
        raise CapabilityMissingError({"elicitation": {"url": {}}})

    server = Server()
    session = await server.connector.open(EVERYTHING)
    server.asking(visit())
    await server.call(session, FakeCaller(refuse), session_id="front-1", revision=LATEST_LEGACY)
    await listen_to(server, session, completed("e-1"))
    assert server.heard == []


async def test_visits_an_error_asks_for_are_told_to_the_session_whose_call_it_ended() -> None:
    server = Server()
    awaited: list[LegacySession] = []
    server.connector.on_awaiting = awaited.append
    session = await server.connector.open(EVERYTHING)
    asked = {"url": "https://a.test", "message": "?", "mode": "url", "elicitationId": "e-1"}
    failure = {"code": -32042, "message": "first", "data": {"elicitations": [asked]}}
    server.asking(then={"error": failure})
    with pytest.raises(RpcError):
        await server.call(session, FakeCaller(), session_id="front-1", revision=LATEST_LEGACY)
    assert awaited == [session]
    await listen_to(server, session, completed("e-1"))
    assert server.heard == [ElicitationCompleted("up", "front-1", "e-1")]
