"""Beside the suite: what a client is told through the gateway is what the fixture tells it directly.

The fixture adapts to the era of whoever calls it, so its direct answer to a client is the measure of the answer
that reaches the same client over a server of the other era. Compared is everything: progress, log messages,
questions, results and errors, byte for byte as JSON. Left out is only what `ERA_MEMBERS` names.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.answer_cases import CASES, Case, tool
from tests.conformance.cells import CELLS, OPEN, Cell, Running, running
from tests.conformance.era_clients import (
    LegacyClient,
    ModernClient,
    Transcript,
    call,
    client_of,
    fail,
)
from tests.integration.gateway_process import EVERYTHING, serving

pytestmark = [pytest.mark.timeout(120)]

ERA_MEMBERS: Mapping[str, str] = {
    "requestState": "sealed by whoever holds the call, another each time",
    "ttlMs": "how long a list or a read is believed, which the gateway decides for itself",
    "cacheScope": "lists of a legacy upstream are private: they may depend on the caller",
}
"""Members of a modern result that differ, and why."""

WATCHED = "test://watched-resource"
NOWHERE = "test://nowhere"
LEGACY_OVER_LINES = (Cell("legacy", "stdio"), Cell("legacy", "sse"))


def without_era_members(transcript: Transcript) -> Transcript:
    """A transcript without what may differ."""
    final = json.loads(json.dumps(transcript.final))
    result = final.get("result", {})
    for name in ERA_MEMBERS:
        result.pop(name, None)
    transcript.final = final
    return transcript


class Servers:
    """The fixture itself and the gateway in every cell, each started when it is first wanted."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[Cell, Running] = {}
        self._direct = ""
        self._answers: dict[tuple[str, str], Transcript] = {}

    @property
    def direct(self) -> str:
        """The address of the fixture without a gateway."""
        if not self._direct:
            document = {**EVERYTHING, **OPEN}
            gateway = self._stack.enter_context(
                serving(self._folder / "direct", document, key=None)
            )
            self._direct = gateway.url
        return self._direct

    def through(self, cell: Cell) -> Running:
        """A cell, running."""
        if cell not in self._running:
            started = running(cell, self._folder / cell.name)
            self._running[cell] = self._stack.enter_context(started)
        return self._running[cell]

    def direct_answer(self, era: str, case: Case) -> Transcript:
        """What the fixture tells a client of this era."""
        key = (era, case.name)
        if key not in self._answers:
            self._answers[key] = ask(self.direct, era, case)
        return self._answers[key]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        yield Servers(tmp_path_factory.mktemp("answers"), stack)


def ask(url: str, era: str, case: Case) -> Transcript:
    """Make the request of a case."""
    client = client_of(url, era, case.capabilities, case.answer)
    try:
        transcript = client.request(case.method, case.params, token=case.token, level=case.level)
    finally:
        client.close()
    return without_era_members(transcript)


each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
each_era = pytest.mark.parametrize("era", ["legacy", "modern"])

_TRIPLES = [
    (cell, era, case)
    for cell in CELLS
    for case in CASES
    for era in case.eras
    if cell.upstream not in case.not_from
]


@pytest.mark.parametrize(
    ("cell", "era", "case"), _TRIPLES, ids=[f"{c.name}-{e}-{k.name}" for c, e, k in _TRIPLES]
)
def test_an_answer_through_the_gateway_is_the_fixtures_own(
    servers: Servers, cell: Cell, era: str, case: Case
) -> None:
    direct = servers.direct_answer(era, case)
    through = ask(servers.through(cell).url, era, case)
    assert through == direct


def test_every_entry_of_the_fixture_is_compared(servers: Servers) -> None:
    client = client_of(servers.direct, "modern")
    apart = {  # they change the fixture or its stream; each is looked at below or by the suite
        "test_trigger_tool_change",
        "test_trigger_prompt_change",
        "update_watched_resource",
        "cancellations_seen",
        "test_reconnection",
    }
    tools = {one["name"] for one in client.request("tools/list").result["tools"]}
    prompts = {one["name"] for one in client.request("prompts/list").result["prompts"]}
    compared = {case.params.get("name") for case in CASES}
    assert tools - apart <= compared
    assert prompts <= compared


@each_era
@each_cell
def test_what_the_gateway_can_do_is_what_the_fixture_can(
    servers: Servers, cell: Cell, era: str
) -> None:
    direct = client_of(servers.direct, era)
    through = client_of(servers.through(cell).url, era)
    for member in ("capabilities", "instructions", "supportedVersions", "protocolVersion"):
        assert through.hello["result"].get(member) == direct.hello["result"].get(member)
    direct.close()
    through.close()


@each_cell
def test_a_clients_error_is_told_to_the_client(servers: Servers, cell: Cell) -> None:
    """Where the upstream is modern nobody else can be told; a legacy one decides what becomes of the call."""
    client = LegacyClient(servers.through(cell).url, answer=fail)
    transcript = client.request(
        "tools/call", dict(tool("test_elicitation", arguments={"message": "x"}).params)
    )
    client.close()
    if cell.upstream == "modern":
        assert transcript.final == {"error": {"code": -1, "message": "The model is out of order"}}
    else:
        assert "The model is out of order" in transcript.text


@each_era
@each_cell
def test_every_question_reaches_the_client_whose_call_asks(
    servers: Servers, cell: Cell, era: str
) -> None:
    """Each of many clients answers with its own name, and hears no other in its results.

    A legacy upstream on stdio asks once before: until it has, calls of one principal share a process, and a
    question that might be any call's is refused (protocol.md 6.4).
    """
    url = servers.through(cell).url
    if cell == Cell("legacy", "stdio"):
        call(client_of(url, era), "test_input_required_result_elicitation")

    def converse(number: int) -> list[str]:
        def answer(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
            fields = params.get("requestedSchema", {}).get("properties", {})
            content = {name: f"{name}-{number}" for name in fields}
            return {"result": {"action": "accept", "content": content}}

        client = client_of(url, era, answer=answer)
        said = [
            call(client, "test_input_required_result_elicitation"),
            call(client, "test_input_required_result_multi_round"),
            call(client, "test_streaming_elicitation"),
        ]
        client.close()
        return said

    with ThreadPoolExecutor(12) as pool:
        for number, said in enumerate(pool.map(converse, range(12))):
            assert said[0] == f"Hello, name-{number}!"
            assert said[1] == f"name-{number} likes color-{number}."
            assert f"name-{number}" in said[2]


# ---------------------------------------------------------------------- changes


@each_era
@each_cell
def test_a_subscriber_hears_of_the_resource_and_of_no_other(
    servers: Servers, cell: Cell, era: str
) -> None:
    client = client_of(servers.through(cell).url, era)
    with client.changes((WATCHED,)) as changes:
        call(client, "update_watched_resource")
        told = changes.wait_for("notifications/resources/updated")
        assert told["params"]["uri"] == WATCHED
        text = client.request("resources/read", {"uri": WATCHED}).result["contents"][0]["text"]
        assert "updated 0 times" not in text
    with client.changes() as changes:
        call(client, "update_watched_resource")
        call(client, "test_trigger_prompt_change")
        changes.wait_for("notifications/prompts/list_changed")
        assert "notifications/resources/updated" not in [one.get("method") for one in changes.seen]
        call(client, "test_trigger_prompt_change")
    client.close()


@each_era
@each_cell
def test_each_of_two_subscribers_hears_of_an_update_once(
    servers: Servers, cell: Cell, era: str
) -> None:
    first, second = (client_of(servers.through(cell).url, era) for _ in range(2))
    with first.changes((WATCHED,)) as to_first, second.changes((WATCHED,)) as to_second:
        call(first, "update_watched_resource")
        for changes in (to_first, to_second):
            changes.wait_for("notifications/resources/updated")
        time.sleep(0.3)  # for what should not come
        for changes in (to_first, to_second):
            methods = [one.get("method") for one in changes.seen]
            assert methods.count("notifications/resources/updated") == 1
    first.close()
    second.close()


@each_cell
def test_a_resource_nobody_has_is_not_subscribed_to(servers: Servers, cell: Cell) -> None:
    case = Case("subscribing to nothing", "resources/subscribe", {"uri": NOWHERE})
    assert ask(servers.through(cell).url, "legacy", case) == ask(servers.direct, "legacy", case)
    for url in (servers.direct, servers.through(cell).url):
        assert ModernClient(url).acknowledged((WATCHED, NOWHERE)) == [WATCHED]


@each_era
@each_cell
def test_a_changed_list_is_told_and_read_anew(servers: Servers, cell: Cell, era: str) -> None:
    client = client_of(servers.through(cell).url, era)

    def has_it() -> bool:
        tools = client.request("tools/list").result["tools"]
        return "test_dynamic_tool" in {one["name"] for one in tools}

    with client.changes() as changes:
        before = has_it()
        for expected in (not before, before):
            changes.forget()
            call(client, "test_trigger_tool_change")
            changes.wait_for("notifications/tools/list_changed")
            assert has_it() is expected
    client.close()


@each_era
@each_cell
def test_a_cancelled_call_is_cancelled_upstream(servers: Servers, cell: Cell, era: str) -> None:
    client = client_of(servers.through(cell).url, era)
    before = int(call(client, "cancellations_seen"))
    params = {"name": "slow_cancellable", "arguments": {"seconds": 60}}
    calls = servers.through(cell).count(cell.upstream)["tools/call"]
    begun = client.begin(params)
    until(lambda: servers.through(cell).count(cell.upstream)["tools/call"] > calls)
    time.sleep(0.2)  # the upstream has begun to work
    client.cancel(begun)
    until(lambda: int(call(client, "cancellations_seen")) == before + 1)
    client.close()


def until(is_so: Callable[[], bool], within_s: float = 15.0) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not so after {within_s} s"
        time.sleep(0.05)


@each_cell
def test_the_end_of_a_session_ends_what_was_opened_for_it_upstream(
    servers: Servers, cell: Cell
) -> None:
    cell_running = servers.through(cell)
    before = cell_running.count("legacy")
    client = LegacyClient(cell_running.url)
    with client.changes((WATCHED,)):
        client.close()
    if cell == Cell("legacy", "http"):
        until(lambda: cell_running.count("legacy")["DELETE"] > before["DELETE"])
    elif cell.upstream == "legacy" and cell.transport == "stdio":
        name = "resources/unsubscribe"
        until(lambda: cell_running.count("legacy")[name] > before[name])
