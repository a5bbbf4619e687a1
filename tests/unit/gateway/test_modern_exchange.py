"""Questions in the middle of a modern call: gathered, parked, answered by a retry, or never."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.dialogues import EVERYTHING, FORM, accepted
from tests.support.exchanges import ALICE, BOB, Front, Running, Scene, call_of
from tests.support.scripted import content_of, form, sampling, text
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.errors import CapabilityMissingError, InterruptedCallError, LimitError
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.model.call import Call, InputRequired, LogEvent, Outcome, Progress, Question
from waygate_mcp.model.decision import CallResult
from waygate_mcp.protocol.versions import MODERN


async def asks_once(call: Call) -> Outcome:
    answer = await call.caller.ask(form())
    return text(f"hello {content_of(answer)}")


async def asks_twice(call: Call) -> Outcome:
    first = await call.caller.ask(form("First?"))
    second = await call.caller.ask(form("Second?"))
    return text(f"{content_of(first)} {content_of(second)}")


async def asks_both(call: Call) -> Outcome:
    answers = await asyncio.gather(call.caller.ask(form("A?")), call.caller.ask(form("B?")))
    return text(" ".join(str(content_of(answer)) for answer in answers))


def questions(final: Any) -> dict[str, Any]:
    """What an `input_required` asks, by key."""
    assert final["result"]["resultType"] == "input_required", final
    found: dict[str, Any] = final["result"]["inputRequests"]
    return found


def words(final: Any) -> str:
    return str(final["result"]["content"][0]["text"])


async def taken(running: Running, answers: Any = None, **more: Any) -> Front:
    """Attach a retry that has to be taken."""
    front = await running.retry(answers, **more)
    assert front is not None
    return front


# --- one question


@virtual_time
async def test_a_question_ends_the_response_and_the_retry_gets_the_rest() -> None:
    scene = Scene()
    running = scene.begin(asks_once)
    asked = questions(await running.front.over())
    assert asked["w1"]["method"] == "elicitation/create"
    assert asked["w1"]["params"]["message"] == "Name?"
    assert running.exchange.result == "input_required"
    assert len(scene.live.parking) == 1
    retry = await taken(running, {"w1": accepted(name="Bo")}, identifier="again")
    final = await retry.over()
    assert (final["id"], words(final)) == ("again", "hello {'name': 'Bo'}")
    assert running.exchange.result == CallResult.OK
    assert len(scene.live.parking) == 0


@virtual_time
async def test_an_answer_reaches_the_asker_as_it_was_written() -> None:
    seen: list[bytes | None] = []

    async def asks(call: Call) -> Outcome:
        seen.append((await call.caller.ask(form())).result)
        return text("done")

    running = Scene().begin(asks)
    await running.front.over()
    await taken(running, {"w1": {"action": "accept", "content": {"n": 1.50, "é": None}}})
    await running.task
    assert json.loads(seen[0] or b"") == {"action": "accept", "content": {"n": 1.5, "é": None}}


@virtual_time
async def test_a_question_the_client_did_not_declare_is_never_shown() -> None:
    caught: list[CapabilityMissingError] = []

    async def asks(call: Call) -> Outcome:
        try:
            await call.caller.ask(sampling())
        except CapabilityMissingError as error:
            caught.append(error)
            raise
        raise AssertionError

    scene = Scene()
    running = scene.begin(asks, declared=FORM)
    final = await running.front.over()
    assert final["error"]["code"] == -32021
    assert final["error"]["data"] == {"requiredCapabilities": {"sampling": {}}}
    assert running.front.status == 400
    assert caught
    assert len(scene.live.parking) == 0


@virtual_time
async def test_a_question_by_url_has_no_elicitation_id_in_this_revision() -> None:
    url = {"mode": "url", "message": "Sign", "url": "https://x.test", "elicitationId": "e1"}

    async def asks(call: Call) -> Outcome:
        await call.caller.ask(Question("elicitation/create", json.dumps(url).encode()))
        return text("done")

    running = Scene().begin(asks)
    asked = questions(await running.front.over())
    assert asked["w1"]["params"] == {k: v for k, v in url.items() if k != "elicitationId"}


@virtual_time
async def test_only_methods_that_may_ask_are_answered_by_questions() -> None:
    async def returns(call: Call) -> Outcome:
        return InputRequired({"a": form()}, None)

    for handler in (asks_once, returns):
        running = Scene().begin(handler, method="completion/complete")
        final = await running.front.over()
        assert final["error"]["code"] == -32603


# --- several questions


@virtual_time
async def test_questions_asked_at_once_stand_in_one_answer() -> None:
    running = Scene().begin(asks_both)
    asked = questions(await running.front.over())
    assert [asked[key]["params"]["message"] for key in ("w1", "w2")] == ["A?", "B?"]
    retry = await taken(running, {"w1": accepted(x=1), "w2": {"action": "decline"}})
    assert words(await retry.over()) == "{'x': 1} decline"


@virtual_time
async def test_siblings_are_waited_for_as_long_as_the_limits_say() -> None:
    async def asks(call: Call) -> Outcome:
        async def later() -> Any:
            await asyncio.sleep(0.01)
            return await call.caller.ask(form("late"))

        await asyncio.gather(call.caller.ask(form("early")), later())
        return text("done")

    running = Scene(ParkingLimits(gather_s=0.02)).begin(asks)
    assert len(questions(await running.front.over())) == 2


@virtual_time
async def test_a_sibling_parks_the_call_when_the_first_asker_is_cancelled() -> None:
    async def asks(call: Call) -> Outcome:
        first = asyncio.get_running_loop().create_task(call.caller.ask(form("A?")))
        second = asyncio.get_running_loop().create_task(call.caller.ask(form("B?")))
        await asyncio.sleep(0)
        first.cancel()
        return text(str(content_of(await second)))

    running = Scene(ParkingLimits(gather_s=0.02)).begin(asks)
    asked = questions(await running.front.over())
    assert [one["params"]["message"] for one in asked.values()] == ["B?"]
    retry = await taken(running, {"w2": accepted(x=1)})
    assert words(await retry.over()) == "{'x': 1}"


@virtual_time
async def test_an_asker_that_gave_up_parks_nothing() -> None:
    async def asks(call: Call) -> Outcome:
        try:
            async with asyncio.timeout(0.01):
                await call.caller.ask(form())
        except TimeoutError:
            return text("never mind")
        raise AssertionError

    scene = Scene(ParkingLimits(gather_s=0.02))
    running = scene.begin(asks)
    assert words(await running.front.over()) == "never mind"
    assert len(scene.live.parking) == 0


@virtual_time
async def test_keys_are_never_used_twice_in_one_call() -> None:
    keys: list[list[str]] = []

    async def asks(call: Call) -> Outcome:
        for wanted in ("name", "name", None, "w5", ""):
            await call.caller.ask(form(key=wanted))
        return text("done")

    running = Scene().begin(asks)
    front = running.front
    for _ in range(5):
        asked = list(questions(await front.over()))
        keys.append(asked)
        front = await taken(running, {key: accepted() for key in asked})
    assert words(await front.over()) == "done"
    assert keys == [["name"], ["w2"], ["w3"], ["w5"], ["w6"]]


@virtual_time
async def test_a_question_given_up_while_a_retry_gathers_is_not_asked_again() -> None:
    async def gives_up(call: Call) -> Outcome:
        try:
            async with asyncio.timeout(1):
                await call.caller.ask(form())
        except TimeoutError:
            await asyncio.sleep(1)
        return text("without")

    running = Scene(ParkingLimits(gather_s=0.02)).begin(gives_up)
    await running.front.over()
    await asyncio.sleep(0.97)
    retry = await taken(running)
    assert words(await retry.over()) == "without"


@virtual_time
async def test_a_question_that_comes_while_nobody_is_there_waits_for_the_retry() -> None:
    async def asks(call: Call) -> Outcome:
        async def later() -> Any:
            await asyncio.sleep(5)
            return await call.caller.ask(form("B?"))

        await asyncio.gather(call.caller.ask(form("A?")), later())
        return text("done")

    running = Scene().begin(asks)
    assert len(questions(await running.front.over())) == 1
    await pass_time(10)
    retry = await taken(running, {"w1": accepted()})
    assert list(questions(await retry.over())) == ["w2"]
    last = await taken(running, {"w2": accepted()})
    assert words(await last.over()) == "done"


# --- rounds


@virtual_time
async def test_missing_keys_are_asked_again_and_unknown_ones_ignored() -> None:
    running = Scene().begin(asks_both)
    await running.front.over()
    retry = await taken(running, {"w2": accepted(x=2), "w9": accepted()})
    assert list(questions(await retry.over())) == ["w1"]
    assert running.exchange.round == 2
    retry = await taken(running, {"w1": accepted(x=1), "w2": accepted(x=99)})
    assert words(await retry.over()) == "{'x': 1} {'x': 2}"


@virtual_time
async def test_a_retry_without_answers_is_asked_again() -> None:
    running = Scene().begin(asks_once)
    first = questions(await running.front.over())
    retry = await taken(running)
    assert questions(await retry.over()) == first


@virtual_time
async def test_a_retry_of_the_round_before_gets_the_same_questions_and_delivers_nothing() -> None:
    running = Scene().begin(asks_twice)
    await running.front.over()
    lost = await taken(running, {"w1": accepted(x=1)})
    asked = questions(await lost.over())
    again = await taken(running, {"w1": accepted(x=99)}, of_round=1, identifier="again")
    final = await again.over()
    assert (final["id"], questions(final)) == ("again", asked)
    assert running.exchange.round == 2
    last = await taken(running, {"w2": accepted(x=2)})
    assert words(await last.over()) == "{'x': 1} {'x': 2}"


@virtual_time
async def test_a_retry_of_an_older_or_a_future_round_is_not_taken() -> None:
    async def asks(call: Call) -> Outcome:
        for _ in range(3):
            await call.caller.ask(form())
        return text("done")

    running = Scene().begin(asks)
    front = running.front
    for key in ("w1", "w2"):
        await front.over()
        front = await taken(running, {key: accepted()})
    await front.over()
    assert running.exchange.round == 3
    for number in (0, 1, 4, -1):
        assert await running.retry({"w3": accepted()}, of_round=number) is None
    assert not running.task.done()


@virtual_time
async def test_a_retry_of_the_round_before_is_not_taken_while_the_present_one_is_at_work() -> None:
    working = asyncio.Event()

    async def asks(call: Call) -> Outcome:
        await call.caller.ask(form())
        await call.caller.ask(form())
        await working.wait()
        return text("done")

    running = Scene().begin(asks)
    await running.front.over()
    retry = await taken(running, {"w1": accepted()})
    await retry.over()
    retry = await taken(running, {"w2": accepted()})
    await settle()
    assert await running.retry({"w1": accepted()}, of_round=1) is None
    working.set()
    assert words(await retry.over()) == "done"


@virtual_time
async def test_a_newer_retry_of_the_same_round_takes_over_and_the_older_is_told() -> None:
    working = asyncio.Event()

    async def asks(call: Call) -> Outcome:
        answer = await call.caller.ask(form())
        await working.wait()
        return text(str(content_of(answer)))

    running = Scene().begin(asks)
    await running.front.over()
    older = await taken(running, {"w1": accepted(x=1)}, identifier="older")
    newer = await taken(running, {"w1": accepted(x=99)}, identifier="newer")
    told = await older.over()
    assert told["id"] == "older"
    assert told["error"]["data"] == {"reason": "interrupted"}
    working.set()
    final = await newer.over()
    assert (final["id"], words(final)) == ("newer", "{'x': 1}")


@virtual_time
async def test_of_two_retries_at_once_that_answer_half_each_the_newer_gets_the_result() -> None:
    running = Scene(ParkingLimits(gather_s=0.02)).begin(asks_both)
    await running.front.over()
    older, newer = await asyncio.gather(
        taken(running, {"w1": accepted(x=1)}, identifier="older"),
        taken(running, {"w2": accepted(x=2)}, identifier="newer"),
    )
    assert "error" in await older.over()
    assert words(await newer.over()) == "{'x': 1} {'x': 2}"


# --- the outcome is kept


@virtual_time
async def test_a_finished_call_gives_its_outcome_to_a_retry_that_comes_again() -> None:
    scene = Scene()
    running = scene.begin(asks_once)
    await running.front.over()
    first = await (await taken(running, {"w1": accepted(x=1)}, identifier=1)).over()
    await running.task
    first_id = running.exchange.id
    assert scene.live.parking.find(first_id) is running.exchange
    again = await (await taken(running, {"w1": accepted(x=99)}, identifier="é", of_round=1)).over()
    assert again == {**first, "id": "é"}
    assert await running.retry({}, of_round=0) is None
    await pass_time(61)
    assert scene.live.parking.find(first_id) is None


@virtual_time
async def test_a_call_that_ended_while_nobody_was_there_gives_its_outcome_to_the_retry() -> None:
    async def gives_up(call: Call) -> Outcome:
        try:
            async with asyncio.timeout(5):
                await call.caller.ask(form())
        except TimeoutError:
            return text("gave up")
        raise AssertionError

    running = Scene().begin(gives_up)
    await running.front.over()
    await pass_time(10)
    assert running.task.done()
    retry = await taken(running, {"w1": accepted()}, identifier="late")
    final = await retry.over()
    assert (final["id"], words(final)) == ("late", "gave up")


@virtual_time
async def test_a_call_that_never_asked_leaves_nothing_behind() -> None:
    async def plain(call: Call) -> Outcome:
        return text("done")

    scene = Scene()
    running = scene.begin(plain)
    await running.task
    assert running.exchange._final is None
    assert not scene.live.parking._kept
    assert await running.retry({}) is None


@virtual_time
async def test_a_cancelled_call_keeps_nothing_for_a_retry() -> None:
    scene = Scene()
    running = scene.begin(asks_once)
    await running.front.over()
    running.exchange.cancel("the client is gone")
    await running.task
    assert len(scene.live.parking) == 0
    assert scene.live.parking.find(running.exchange.id) is None


# --- limits and time


@virtual_time
async def test_parked_calls_of_one_principal_are_limited_and_the_call_says_so() -> None:
    scene = Scene(ParkingLimits(per_principal=1, total=2))
    first = scene.begin(asks_once)
    await first.front.over()
    refused = await scene.begin(asks_once).front.over()
    assert refused["error"]["code"] == 4420
    assert "Too many of your calls" in refused["error"]["message"]
    other = scene.begin(asks_once, principal=BOB)
    questions(await other.front.over())
    third = await scene.begin(asks_once, principal=ALICE).front.over()
    assert "error" in third
    assert len(scene.live.parking) == 2


@virtual_time
async def test_parked_calls_at_one_upstream_are_limited_whoever_made_them() -> None:
    scene = Scene(ParkingLimits(per_upstream=1))
    first = scene.begin(asks_once)
    first.exchange.call.provider = "one"
    questions(await first.front.over())
    second = scene.begin(asks_once, principal=BOB)
    second.exchange.call.provider = "one"
    refused = await second.front.over()
    assert refused["error"]["code"] == 4420
    assert "Too many calls to this server" in refused["error"]["message"]
    third = scene.begin(asks_once, principal=BOB)
    third.exchange.call.provider = "two"
    questions(await third.front.over())


@virtual_time
async def test_a_refused_question_can_be_lived_without() -> None:
    async def lives(call: Call) -> Outcome:
        try:
            await call.caller.ask(form())
        except LimitError:
            return text("without")
        raise AssertionError

    scene = Scene(ParkingLimits(per_principal=0))
    running = scene.begin(lives)
    assert words(await running.front.over()) == "without"
    assert not scene.live.parking._kept


@virtual_time
@pytest.mark.parametrize(
    ("question", "said"),
    [(form(), "cancel"), (sampling(), "error -32603"), (Question("roots/list"), "error -32603")],
)
async def test_a_question_nobody_answers_ends_in_its_own_way(question: Question, said: str) -> None:
    async def asks(call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(question))))

    running = Scene(ParkingLimits(question_s=600)).begin(asks)
    await running.front.over()
    started = now()
    await running.task
    assert now() - started == pytest.approx(600)
    retry = await taken(running, {"w1": accepted()})
    assert words(await retry.over()) == said


@virtual_time
async def test_an_answer_that_comes_too_late_is_ignored() -> None:
    async def asks(call: Call) -> Outcome:
        first = content_of(await call.caller.ask(form()))
        second = content_of(await call.caller.ask(form()))
        return text(f"{first} {second}")

    running = Scene(ParkingLimits(question_s=600)).begin(asks)
    await running.front.over()
    await pass_time(601)
    retry = await taken(running, {"w1": accepted(x=1)})
    assert list(questions(await retry.over())) == ["w2"]
    retry = await taken(running, {"w2": accepted(x=2)})
    assert words(await retry.over()) == "cancel {'x': 2}"


@virtual_time
async def test_a_call_parked_too_long_is_ended_and_the_retry_is_told() -> None:
    scene = Scene(ParkingLimits(question_s=600, parked_s=700))

    async def asks(call: Call) -> Outcome:
        while True:
            await call.caller.ask(form())

    running = scene.begin(asks)
    await running.front.over()
    await pass_time(599)
    await (await taken(running, {"w1": accepted()})).over()
    await pass_time(102)
    assert running.task.done()
    assert len(scene.live.parking) == 0
    retry = await taken(running, {"w2": accepted()})
    assert (await retry.over())["error"]["code"] == 4408


@virtual_time
async def test_a_call_parked_too_long_is_told_to_a_retry_that_waits() -> None:
    async def asks(call: Call) -> Outcome:
        await call.caller.ask(form())
        await asyncio.Event().wait()
        raise AssertionError

    running = Scene(ParkingLimits(parked_s=100)).begin(asks)
    await running.front.over()
    retry = await taken(running, {"w1": accepted()})
    final = await retry.over()
    assert final["error"]["code"] == 4408


@virtual_time
async def test_a_ticket_lives_no_longer_than_its_question() -> None:
    scene = Scene(ParkingLimits(question_s=60, parked_s=30))
    running = scene.begin(asks_once)
    state = (await running.front.over())["result"]["requestState"]
    ticket = scene.live.tickets.open(state, running.exchange.call)
    assert ticket.expires_at == (1_800_000_000 + 1_000 + 30)


# --- events while parked


@virtual_time
async def test_what_happens_while_parked_is_told_to_the_retry_under_its_own_token() -> None:
    go_on = asyncio.Event()

    async def works(call: Call) -> Outcome:
        asked = asyncio.get_running_loop().create_task(call.caller.ask(form()))
        await call.caller.emit(Progress(1))
        await go_on.wait()
        for step in (3, 2, 4):
            await call.caller.emit(Progress(step))
        for number in range(40):
            await call.caller.emit(LogEvent("info", str(number).encode()))
        await call.caller.emit(LogEvent("debug", b'"too quiet"'))
        await asked
        await call.caller.emit(Progress(5))
        return text("done")

    running = Scene().begin(works, token="old", level="info")
    await running.front.over()
    assert [event["params"]["progress"] for event in running.front.events] == [1]
    go_on.set()
    await settle()
    retry = await taken(running, {"w1": accepted()}, token="new", level="info")
    await retry.over()
    logs = [e["params"]["data"] for e in retry.events if e["method"] == "notifications/message"]
    assert logs == list(range(32))
    progress = [e["params"] for e in retry.events if e["method"] == "notifications/progress"]
    assert progress == [
        {"progressToken": "new", "progress": 4},
        {"progressToken": "new", "progress": 5},
    ]


@virtual_time
async def test_a_retry_that_wants_no_events_gets_none() -> None:
    go_on = asyncio.Event()

    async def works(call: Call) -> Outcome:
        asked = asyncio.get_running_loop().create_task(call.caller.ask(form()))
        await go_on.wait()
        await call.caller.emit(Progress(1))
        await call.caller.emit(LogEvent("error", b"1"))
        await asked
        await call.caller.emit(Progress(2))
        await call.caller.emit(LogEvent("error", b"2"))
        return text("done")

    running = Scene().begin(works, token="old", level="debug")
    await running.front.over()
    go_on.set()
    await settle()
    retry = await taken(running, {"w1": accepted()})
    await retry.over()
    assert retry.events == []


@virtual_time
async def test_a_retry_asks_only_what_it_declares_itself() -> None:
    async def asks(call: Call) -> Outcome:
        await call.caller.ask(form())
        await call.caller.ask(sampling())
        return text("done")

    running = Scene().begin(asks, declared=EVERYTHING)
    await running.front.over()
    retry = await taken(running, {"w1": accepted()}, declared=FORM)
    assert (await retry.over())["error"]["code"] == -32021


# --- the end from outside


@virtual_time
async def test_a_server_that_stops_ends_what_is_parked_and_lets_the_rest_finish() -> None:
    scene = Scene()
    working = asyncio.Event()

    async def works(call: Call) -> Outcome:
        await call.caller.ask(form())
        await working.wait()
        return text("done")

    parked, attached = scene.begin(works), scene.begin(works)
    await parked.front.over()
    await attached.front.over()
    retry = await taken(attached, {"w1": accepted()})
    scene.live.drain()
    await settle()
    assert parked.task.done()
    lost = await taken(parked, {"w1": accepted()})
    assert (await lost.over())["error"]["data"] == {"reason": "interrupted"}
    working.set()
    assert words(await retry.over()) == "done"


@virtual_time
async def test_a_call_cancelled_from_outside_frees_its_place() -> None:
    scene = Scene()
    running = scene.begin(asks_once)
    await running.front.over()
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert len(scene.live.parking) == 0
    assert await running.retry({"w1": accepted()}) is None
    await pass_time(10_000)  # no timer is left to do anything


@virtual_time
async def test_a_retry_that_waits_is_told_when_the_call_is_cancelled_from_outside() -> None:
    async def works(call: Call) -> Outcome:
        await call.caller.ask(form())
        await asyncio.Event().wait()
        raise AssertionError

    running = Scene().begin(works)
    await running.front.over()
    retry = await taken(running, {"w1": accepted()})
    running.task.cancel()
    assert (await retry.over())["error"]["data"] == {"reason": "interrupted"}


@virtual_time
async def test_no_question_is_parked_by_a_call_that_is_being_cancelled() -> None:
    async def asks(call: Call) -> Outcome:
        return await asks_both(call)

    scene = Scene(ParkingLimits(gather_s=0.02))
    running = scene.begin(asks)
    await settle()
    running.exchange.cancel("stop", InterruptedCallError())
    final = await running.front.over()
    assert "error" in final
    await pass_time(1)
    assert len(scene.live.parking) == 0


# --- state instead of parking


@virtual_time
async def test_a_provider_that_keeps_its_state_in_the_ticket_is_not_parked() -> None:
    async def returns(call: Call) -> Outcome:
        return InputRequired({"name": form()}, "page 2")

    scene = Scene()
    running = scene.begin(returns)
    final = await running.front.over()
    assert list(questions(final)) == ["name"]
    ticket = scene.live.tickets.open(final["result"]["requestState"], _call_again(running))
    assert (ticket.kind, ticket.state) == ("relay", "page 2")
    assert running.exchange.result == CallResult.INPUT_REQUIRED
    assert len(scene.live.parking) == 0
    await running.task


def _call_again(running: Running) -> Call:
    """The call of a retry, which names the same tool."""
    return call_of(Exchange(1, MODERN, Front(), None, None), "tools/call", ALICE, {})


@virtual_time
async def test_questions_without_a_state_need_no_ticket_and_nothing_at_all_gets_one() -> None:
    async def only_questions(call: Call) -> Outcome:
        return InputRequired({"name": form()})

    async def only_waiting(call: Call) -> Outcome:
        return InputRequired({})

    asked = (await Scene().begin(only_questions).front.over())["result"]
    assert "requestState" not in asked
    waiting = (await Scene().begin(only_waiting).front.over())["result"]
    assert "inputRequests" not in waiting
    assert isinstance(waiting["requestState"], str)


@virtual_time
async def test_a_returned_question_the_client_did_not_declare_is_an_error() -> None:
    async def returns(call: Call) -> Outcome:
        return InputRequired({"a": form(), "b": sampling()})

    running = Scene().begin(returns, declared=FORM)
    assert (await running.front.over())["error"]["code"] == -32021


@virtual_time
async def test_only_results_of_lists_and_reads_carry_caching_hints() -> None:
    async def plain(call: Call) -> Outcome:
        return text("done")

    called = await Scene().begin(plain).front.over()
    assert "ttlMs" not in called["result"]
    read = await Scene().begin(plain, method="resources/read").front.over()
    assert (read["result"]["ttlMs"], read["result"]["cacheScope"]) == (0, "private")
