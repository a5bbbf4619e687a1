"""From a message to an exchange: what a call knows, and how a retry finds the call it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.dialogues import CAPABILITIES, FORM, LOG_LEVEL, VERSION, Desk, accepted, person
from tests.support.exchanges import Front
from tests.support.scripted import Scripted, content_of, form, text
from tests.support.virtual_time import now, settle, virtual_time
from waygate_mcp.errors import (
    InterruptedCallError,
    InvalidStateError,
    UnknownMethodError,
    UnknownNameError,
    WaygateError,
)
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan
from waygate_mcp.gateway.intake import (
    Arrival,
    Attached,
    begin_legacy,
    begin_modern,
    progress_token,
)
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Call, InputRequired, Outcome, Reply
from waygate_mcp.model.catalog import Features
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.jsonrpc import loads_strict, read_message
from waygate_mcp.protocol.ladder import ModernInbound, check_legacy, classify_line
from waygate_mcp.protocol.methods import Method
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN

ALICE, BOB = person("alice"), person("bob")


async def asks(call: Call) -> Outcome:
    return text(str(content_of(await call.caller.ask(form()))))


def box() -> Scripted:
    made = Scripted()
    made.tool("greet", lambda call: text("hello"))
    made.tool("ask", asks)
    made.resource("memo://a")
    for method in ("resources/subscribe", "resources/unsubscribe"):
        made.on(method, "memo://a", lambda call: Reply(b"{}"))
    return made


class Said:
    """A modern request on its way in."""

    def __init__(self, desk: Desk, front: Front, begun: Any) -> None:
        self.desk = desk
        self.front = front
        self.begun = begun

    async def run(self) -> Any:
        """Run it to its final message."""
        if isinstance(self.begun, Attached):
            await self.begun.attach(self.front)
        else:
            exchange, handler = self.begun
            self.desk.supervisor.start(exchange.run(handler), name="call")
        return await self.front.over()


def say(
    desk: Desk,
    method: str = "tools/call",
    *,
    principal: Principal = ALICE,
    endpoint: str = "default",
    meta: Mapping[str, Any] | None = None,
    headers: Mapping[bytes, bytes] | None = None,
    **params: Any,
) -> Said:
    """Take a modern request in."""
    envelope = {VERSION: "2026-07-28", CAPABILITIES: FORM, **(meta or {})}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {**params, "_meta": envelope},
    }
    body = json.dumps(message).encode()
    inbound = classify_line(body)
    assert isinstance(inbound, ModernInbound), inbound
    front = Front()
    begun = begin_modern(
        desk.gateway,
        desk.gateway.endpoints[endpoint],
        inbound,
        front,
        Arrival(principal, "r-7", body, headers),
    )
    return Said(desk, front, begun)


def refusal(said: Any) -> WaygateError:
    with pytest.raises(WaygateError) as caught:
        said()
    return caught.value


async def ticket_of(desk: Desk, **given: Any) -> str:
    """The ticket of a call that asks."""
    final = await say(desk, name="ask", **given).run()
    state = final["result"]["requestState"]
    assert isinstance(state, str)
    return state


# --- a modern call


@virtual_time
async def test_a_call_knows_who_calls_what_how_and_until_when() -> None:
    limits = CallLimits(call_timeout_s=7)
    made = box()
    async with Desk(made, limits=limits) as desk:
        meta = {
            "progressToken": "t",
            LOG_LEVEL: "error",
            "io.modelcontextprotocol/clientInfo": {"name": "Tester", "version": "1"},
        }
        headers = {b"mcp-param-x": b"1"}
        said = say(desk, name="greet", arguments={"a": 1}, meta=meta, headers=headers)
        exchange = said.begun[0]
        assert exchange.call_timeout_s == 7
        started = now()
        await said.run()
    [call] = made.calls
    assert (call.request_id, call.endpoint, call.method) == ("r-7", "default", "tools/call")
    assert (call.name, call.target, call.provider) == ("greet", "greet", "box")
    assert (call.principal, call.revision, call.client_name) == (ALICE, MODERN, "Tester")
    assert call.arguments == {"a": 1}
    assert call.meta["progressToken"] == call.progress_token == "t"
    assert call.capabilities.form
    assert call.caller.log_level == "error"
    assert call.deadline_s == started + 7
    assert call.headers == headers
    assert (call.session_id, call.input_responses, call.request_state) == (None, None, None)
    assert json.loads(call.body)["params"]["name"] == "greet"


@virtual_time
async def test_a_method_the_endpoint_does_not_offer_is_unknown() -> None:
    async with Desk(Scripted(features=Features(tools=True))) as desk:
        error = refusal(lambda: say(desk, "prompts/get", name="x"))
        assert isinstance(error, UnknownMethodError)


@pytest.mark.parametrize(
    ("params", "token"),
    [
        ({}, None),
        ({"_meta": None}, None),
        ({"_meta": []}, None),
        ({"_meta": {}}, None),
        ({"_meta": {"progressToken": None}}, None),
        ({"_meta": {"progressToken": True}}, None),
        ({"_meta": {"progressToken": 1.5}}, None),
        ({"_meta": {"progressToken": 0}}, 0),
        ({"_meta": {"progressToken": ""}}, ""),
        ({"_meta": {"progressToken": "1"}}, "1"),
    ],
)
def test_a_progress_token_is_text_or_a_whole_number_and_keeps_its_type(
    params: dict[str, Any], token: object
) -> None:
    found = progress_token(params)
    assert (found, type(found)) == (token, type(token))


# --- retries


@virtual_time
async def test_a_retry_with_its_ticket_reaches_the_call_that_waits() -> None:
    async with Desk(box()) as desk:
        state = await ticket_of(desk)
        retry = say(desk, name="ask", requestState=state, inputResponses={"w1": accepted(n=1)})
        assert isinstance(retry.begun, Attached)
        final = await retry.run()
        assert final["result"]["content"][0]["text"] == "{'n': 1}"


@virtual_time
@pytest.mark.parametrize(
    "other",
    [
        {"principal": BOB},
        {"name": "greet"},
        {"arguments": {"x": 1}},
        {"endpoint": "second"},
        {"requestState": "forged"},
        {"requestState": ""},
    ],
    ids=str,
)
async def test_a_ticket_of_another_call_is_refused_by_the_one_error(other: dict[str, Any]) -> None:
    made = box()
    plans = [EndpointPlan("default", (made,)), EndpointPlan("second", (made,))]
    async with Desk(plans=plans) as desk:
        state = await ticket_of(desk)
        given = {"name": "ask", "requestState": state, "inputResponses": {"w1": accepted()}}
        error = refusal(lambda: say(desk, **{**given, **other}))
        assert isinstance(error, InvalidStateError)
        assert error.safe_message == "Invalid or expired requestState"
        assert len(desk.live.parking) == 1


@virtual_time
async def test_a_ticket_of_an_old_round_is_refused_by_the_same_error() -> None:
    async def twice(call: Call) -> Outcome:
        for _ in range(3):
            await call.caller.ask(form())
        return text("done")

    made = box()
    made.tool("ask", twice)
    async with Desk(made) as desk:
        first = await ticket_of(desk)
        state = first
        for key in ("w1", "w2"):
            answers = {key: accepted()}
            final = await say(desk, name="ask", requestState=state, inputResponses=answers).run()
            state = final["result"]["requestState"]
        late = say(desk, name="ask", requestState=first, inputResponses={"w3": accepted()})
        with pytest.raises(InvalidStateError) as caught:
            await late.run()
        assert caught.value.safe_message == "Invalid or expired requestState"


@virtual_time
async def test_a_ticket_of_another_process_or_of_a_call_that_is_gone_is_interrupted() -> None:
    async with Desk(box()) as desk:
        state = await ticket_of(desk)
        desk.live.parking.all()[0].cancel("gone")
        await settle()
        error = refusal(lambda: say(desk, name="ask", requestState=state))
        assert isinstance(error, InterruptedCallError)
        assert "parked" not in error.safe_message
        state = await ticket_of(desk)
        desk.restart()
        error = refusal(lambda: say(desk, name="ask", requestState=state))
        assert isinstance(error, InterruptedCallError)


@virtual_time
async def test_what_is_no_object_answers_nothing() -> None:
    async with Desk(box()) as desk:
        state = await ticket_of(desk)
        answers = {"w1": "accept", "w2": None, "w3": [accepted()]}
        final = await say(desk, name="ask", requestState=state, inputResponses=answers).run()
        assert final["result"]["resultType"] == "input_required"


@virtual_time
async def test_a_provider_gets_its_own_state_and_the_answers_as_they_were_written() -> None:
    made = box()
    seen: list[Call] = []

    def rounds(call: Call) -> Outcome:
        seen.append(call)
        return InputRequired({"a": form()}, "page 2") if len(seen) == 1 else text("done")

    made.tool("pages", rounds)
    async with Desk(made) as desk:
        first = (await say(desk, name="pages").run())["result"]["requestState"]
        given = {"a": {"action": "accept", "content": {"n": 1.50}}}
        await say(desk, name="pages", requestState=first, inputResponses=given).run()
    assert seen[1].request_state == "page 2"
    assert seen[1].input_responses == {
        "a": b'{"action": "accept", "content": {"n": 1.5}}'  # spaces and all
    }
    assert seen[0].input_responses is None


@virtual_time
async def test_answers_without_a_ticket_go_to_a_fresh_call() -> None:
    made = box()
    async with Desk(made) as desk:
        await say(desk, name="greet", inputResponses={"a": accepted(n=1)}).run()
    [call] = made.calls
    assert call.request_state is None
    assert set(call.input_responses or ()) == {"a"}


@virtual_time
async def test_a_ticket_alone_is_a_retry_without_answers() -> None:
    async with Desk(box()) as desk:
        state = await ticket_of(desk)
        final = await say(desk, name="ask", requestState=state).run()
        assert final["result"]["resultType"] == "input_required"


@virtual_time
async def test_methods_that_never_ask_do_not_look_at_tickets() -> None:
    async with Desk(box()) as desk:
        final = await say(desk, "tools/list", requestState="whatever").run()
        assert "tools" in final["result"]


# --- a legacy call


def session_of(desk: Desk, principal: Principal = ALICE, endpoint: str = "default") -> Session:
    capabilities = ClientCapabilities.parse(FORM, LATEST_LEGACY)
    return desk.live.sessions.open(Hello(LATEST_LEGACY, capabilities, "old"), endpoint, principal)


async def legacy(desk: Desk, session: Session, method: str, **params: Any) -> Any:
    """Make a request of a session and give its final message."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    message = read_message(loads_strict(body))
    known = check_legacy(message, session.revision)
    assert isinstance(known, Method)
    front = Front()
    arrival = Arrival(session.principal, "r-8", body)
    exchange, handler = begin_legacy(desk.gateway, session, message, known, front, arrival)
    await exchange.run(handler)
    return await front.over()


@virtual_time
async def test_a_legacy_call_knows_its_session() -> None:
    made = box()
    async with Desk(made, limits=CallLimits(call_timeout_s=7)) as desk:
        session = session_of(desk)
        await legacy(desk, session, "tools/call", name="greet", _meta={"progressToken": 3})
    [call] = made.calls
    assert (call.session_id, call.client_name, call.revision) == (session.id, "old", LATEST_LEGACY)
    assert (call.progress_token, call.headers, call.capabilities) == (3, None, session.capabilities)
    assert (call.request_id, call.principal, call.endpoint) == ("r-8", ALICE, "default")


@virtual_time
async def test_ping_and_log_level_are_answered_here_and_pass_the_steps() -> None:
    async with Desk(box()) as desk:
        session = session_of(desk)
        assert (await legacy(desk, session, "ping"))["result"] == {}
        assert (await legacy(desk, session, "logging/setLevel", level="error"))["result"] == {}
        assert session.log_level == "error"
        for level in ("loud", "", "ERROR"):
            answer = await legacy(desk, session, "logging/setLevel", level=level)
            assert answer["error"]["code"] == -32602
        assert session.log_level == "error"
        nobody = session_of(desk, person("eve", "nothing:at-all"))
        for method in ("ping", "logging/setLevel"):
            answer = await legacy(desk, nobody, method, level="error")
            assert answer["error"]["code"] == 4403


@virtual_time
async def test_where_nobody_logs_there_is_no_level_to_set() -> None:
    async with Desk(Scripted(features=Features(tools=True))) as desk:
        with pytest.raises(UnknownMethodError):
            await legacy(desk, session_of(desk), "logging/setLevel", level="error")


@virtual_time
async def test_a_subscription_is_noted_once_its_provider_agrees() -> None:
    async with Desk(box()) as desk:
        session = session_of(desk)
        assert "error" in await legacy(desk, session, "resources/subscribe", uri="memo://none")
        assert session.listener.uris == set()
        assert (await legacy(desk, session, "resources/subscribe", uri="memo://a"))["result"] == {}
        assert session.listener.uris == {"memo://a"}
        await legacy(desk, session, "resources/unsubscribe", uri="memo://a")
        assert session.listener.uris == set()


@virtual_time
async def test_who_may_not_read_may_not_subscribe() -> None:
    async with Desk(box()) as desk:
        session = session_of(desk, person("eve", "session:open", "resources:list"))
        answer = await legacy(desk, session, "resources/subscribe", uri="memo://a")
        assert answer["error"]["code"] == 4403
        assert session.listener.uris == set()


@virtual_time
async def test_an_endpoint_that_a_reload_took_away_is_unknown() -> None:
    made = box()
    plans = [EndpointPlan("default", (made,)), EndpointPlan("second", (made,))]
    async with Desk(plans=plans) as desk:
        session = session_of(desk, endpoint="second")
        await legacy(desk, session, "ping")
        desk.put_in_force(plans[:1], CallLimits())
        for method in ("ping", "tools/list"):
            with pytest.raises(UnknownNameError) as caught:
                await legacy(desk, session, method)
            assert caught.value.kind == "endpoint"
