"""A batch in one POST, which only 2025-03-26 has."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.dialogues import Desk, Visitor, accepted
from tests.support.scripted import Scripted, content_of, sampling, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.gateway.gateway import CallLimits
from waygate_mcp.model.call import Call, Outcome, Progress
from waygate_mcp.model.catalog import Features


class Box(Scripted):
    """Tools that greet, count, ask, or wait for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.tool("greet", lambda call: text("hello"))
        self.tool("count", self._count)
        self.tool("ask", self._ask)
        self.tool("wait", self._wait)

    @staticmethod
    async def _count(call: Call) -> Outcome:
        await call.caller.close_stream()  # the stream is not the call's alone
        await call.caller.emit(Progress(1))
        return text("counted")

    @staticmethod
    async def _ask(call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(sampling()))))

    async def _wait(self, call: Call) -> Outcome:
        await self.go_on.wait()
        return text("waited")


def call(identifier: Any, name: str, **meta: Any) -> dict[str, Any]:
    params = {"name": name, **({"_meta": meta} if meta else {})}
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}


CANCELLED = "notifications/cancelled"
SEEN = {"jsonrpc": "2.0", "method": "notifications/initialized"}


async def opened(desk: Desk, revision: str = "2025-03-26") -> Visitor:
    client = Visitor(desk.door)
    await client.open(revision)
    client.revision = revision
    return client


def by_id(messages: list[Any]) -> dict[Any, Any]:
    return {message.get("id"): message for message in messages if "method" not in message}


@virtual_time
async def test_requests_of_a_batch_are_answered_in_one_array() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        batch = [
            call(1, "greet"),
            SEEN,
            call("1", "none"),
            {"jsonrpc": "2.0", "id": 2, "method": "ping"},
            {"jsonrpc": "2.0", "id": "unasked", "result": {}},
        ]
        answer = await client.post(batch, client.session_headers)
        assert answer.status == 200
        answers = by_id(json.loads(answer.body))
        assert set(answers) == {1, "1", 2}
        assert answers[1]["result"]["content"][0]["text"] == "hello"
        assert answers["1"]["error"]["code"] == -32602
        assert answers[2]["result"] == {}


@virtual_time
async def test_messages_that_are_none_and_methods_that_are_none_are_answered_each_on_its_own() -> (
    None
):
    async with Desk(Box()) as desk:
        client = await opened(desk)
        batch = [
            7,
            {"jsonrpc": "2.0", "id": 1},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/invent"},
            {"jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": {"name": "x"}},
            call(4, "greet"),
        ]
        answer = await client.post(batch, client.session_headers)
        answers = by_id(json.loads(answer.body))
        codes = {key: one.get("error", {}).get("code") for key, one in answers.items()}
        assert codes == {None: -32600, 1: -32600, 2: -32601, 3: -32602, 4: None}


@virtual_time
async def test_what_the_endpoint_does_not_offer_is_unknown() -> None:
    async with Desk(Scripted(features=Features(tools=True))) as desk:
        client = await opened(desk)
        batch = [{"jsonrpc": "2.0", "id": 1, "method": "prompts/list"}]
        answer = await client.post(batch, client.session_headers)
        assert json.loads(answer.body)[0]["error"]["code"] == -32601


@virtual_time
async def test_a_batch_without_requests_is_accepted() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        answer = await client.post([SEEN, SEEN], client.session_headers)
        assert (answer.status, answer.body) == (202, b"")


@virtual_time
async def test_one_call_with_events_turns_the_whole_answer_into_a_stream() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        batch = [call(1, "greet"), call(2, "count", progressToken="t"), call(3, "greet")]
        answer = await client.post(batch, client.session_headers)
        assert answer.is_stream
        assert [one["method"] for one in answer.events if "method" in one] == [
            "notifications/progress"
        ]
        assert set(by_id(answer.events)) == {1, 2, 3}
        assert desk.live.sessions is not None
        quiet = await client.post([call(4, "count")], client.session_headers)
        assert not quiet.is_stream


@virtual_time
async def test_a_question_is_asked_on_the_stream_of_the_batch() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        running = client.send([call(1, "ask"), call(2, "greet")], client.session_headers)
        await settle()
        [question] = [one for one in running.response.events if "method" in one]
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": accepted(n=1)}
        await client.post([answer, SEEN], client.session_headers)
        answers = by_id((await running.over()).events)
        assert answers[1]["result"]["content"][0]["text"] == "{'n': 1}"
        assert set(answers) == {1, 2}


@virtual_time
async def test_the_same_id_twice_is_refused_and_the_first_is_served() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.send([call(1, "wait"), call(1, "greet")], client.session_headers)
        await settle()
        elsewhere = await client.post([call(1, "greet")], client.session_headers)
        assert json.loads(elsewhere.body)[0]["error"]["code"] == -32600
        box.go_on.set()
        answers = json.loads((await running.over()).body)
        assert sorted("error" in one for one in answers) == [False, True]


@virtual_time
async def test_a_cancelled_call_is_missing_from_the_answer() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        running = client.send([call(1, "wait"), call(2, "greet")], client.session_headers)
        await settle()
        await client.tell(CANCELLED, requestId=1)
        assert set(by_id(json.loads((await running.over()).body))) == {2}


@virtual_time
async def test_where_every_call_was_cancelled_there_is_no_answer() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        running = client.send([call(1, "wait"), call(2, "wait")], client.session_headers)
        await settle()
        cancels = [
            {"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": number}}
            for number in (1, 2)
        ]
        await client.post(cancels, client.session_headers)
        answer = await running.over()
        assert (answer.status, answer.body) == (202, b"")


@virtual_time
async def test_a_call_of_a_batch_is_limited_in_time() -> None:
    async with Desk(Box(), limits=CallLimits(call_timeout_s=5)) as desk:
        client = await opened(desk)
        answer = await client.post([call(1, "wait"), call(2, "greet")], client.session_headers)
        assert by_id(json.loads(answer.body))[1]["error"]["code"] == 4408


@virtual_time
async def test_a_client_that_leaves_has_not_cancelled_its_batch() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.send([call(1, "wait")], client.session_headers)
        await pass_time(1)
        running.leave()
        await pass_time(1)
        box.go_on.set()
        await running.done()
        assert len(box.calls) == 1


@virtual_time
async def test_other_revisions_have_no_batches() -> None:
    async with Desk(Box()) as desk:
        for revision in ("2024-11-05", "2025-06-18", "2025-11-25"):
            client = await opened(desk, revision)
            answer = await client.post([call(1, "greet")], client.session_headers)
            assert (answer.status, answer.error["code"]) == (400, -32600)
            without = [client.session_headers[0]]
            answer = await client.post([call(1, "greet")], without)
            assert (answer.status, answer.error["code"]) == (400, -32600)


@virtual_time
async def test_a_batch_without_a_session_is_refused() -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).post([call(1, "greet")])
        assert (answer.status, answer.error["code"]) == (400, -32600)


@virtual_time
async def test_each_call_of_a_batch_is_given_its_own_message() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        await client.post([call(1, "greet", k=1.5), call(2, "greet", k=2)], client.session_headers)
        bodies = [json.loads(one.body) for one in box.calls]
        assert [body["params"]["_meta"]["k"] for body in bodies] == [1.5, 2]
        assert [body["method"] for body in bodies] == ["tools/call"] * 2
