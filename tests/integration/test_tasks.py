"""Tasks between clients and upstreams of both eras, all of them real: which client is told of one, and which is not.

    client   upstream
    modern   modern     the extension of 2026-07-28, relayed
    modern   legacy     a task of 2025-11-25, awaited
    legacy   legacy     tasks of 2025-11-25, relayed
    legacy   modern     a task of the extension, awaited

The upstreams are servers on both lines of the official Python SDK, over HTTP and over stdio; the legacy client is
the SDK's first line, the modern one a client that shows every byte.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway, serving, wait_for_port
from tests.peers.paths import OLD_PYTHON, ROOT, require_peers
from tests.support.modern_client import Answer, ModernClient
from tests.support.ports import free_port

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

TASKS = "io.modelcontextprotocol/tasks"
REQUIRED: Mapping[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
WITHIN_S = 30.0
PROGRAM_WITHIN_S = 90.0
SEEN = "seen.txt"
MODERN = ("jobs", "jobs_stdio")
LEGACY = ("old", "old_stdio")
PROGRAMS = {"jobs": (sys.executable, "modern_tasks"), "old": (str(OLD_PYTHON), "legacy_tasks")}


@contextlib.contextmanager
def server(name: str) -> Iterator[int]:
    """Run a server over HTTP until the block ends; the context's value is its port."""
    interpreter, module = PROGRAMS[name]
    port = free_port()
    process = subprocess.Popen(
        [interpreter, "-W", "ignore", "-m", f"tests.peers.{module}", "http", str(port)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, WITHIN_S)
        yield port
    finally:
        process.kill()
        process.wait(10)


def over_stdio(name: str, **more: Any) -> Mapping[str, Any]:
    """The section of a server that the gateway starts."""
    interpreter, module = PROGRAMS[name]
    arguments = ["-W", "ignore", "-m", f"tests.peers.{module}", "stdio"]
    return {"command": interpreter, "args": arguments, "cwd": str(ROOT), "sandbox": "none", **more}


def document(jobs: int, old: int, folder: Path) -> Mapping[str, Any]:
    """Every upstream on an endpoint of its own, where its tools have their own names."""
    upstreams = {
        "jobs": {"url": f"http://127.0.0.1:{jobs}/mcp", "era": "modern"},
        "jobs_stdio": over_stdio("jobs", era="modern"),
        "old": {"url": f"http://127.0.0.1:{old}/mcp/"},
        "old_stdio": over_stdio("old", env={"SEEN_TASKS": str(folder / SEEN)}),
    }
    return {
        "version": 1,
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "upstreams": upstreams,
        "endpoints": {name: {"bind": [name]} for name in (*upstreams, "hello")},
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    require_peers()
    folder = tmp_path_factory.mktemp("tasks")
    with (
        server("jobs") as jobs,
        server("old") as old,
        serving(folder, document(jobs, old, folder)) as one,
    ):
        for name in (*MODERN, *LEGACY):
            until(lambda name=name: "greet" in tools(one, name) or "plain" in tools(one, name))  # type: ignore[misc]
        yield one


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that is seen from outside, within a bound."""
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


def client(gateway: Gateway, endpoint: str, *extensions: str) -> ModernClient:
    """A modern client of an endpoint."""
    url = f"{gateway.base_url}/servers/{endpoint}/mcp"
    return ModernClient(url, gateway.headers).declaring(*extensions)


def tools(gateway: Gateway, endpoint: str) -> set[str]:
    """The names of the tools an endpoint shows."""
    shown = client(gateway, endpoint).send("tools/list").result["tools"]
    return {one["name"] for one in shown}


def seen(gateway: Gateway, endpoint: str) -> list[str]:
    """What the upstream saw of calls and tasks so far; where it has several processes, all of them."""
    file = gateway.folder / SEEN
    if endpoint == "old_stdio":
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return client(gateway, endpoint).call("seen").text.splitlines()


def get(someone: ModernClient, task: str) -> dict[str, Any]:
    return someone.send("tasks/get", {"taskId": task}).result


def ended(someone: ModernClient, task: str) -> dict[str, Any]:
    """Poll a task until it is over."""
    last: dict[str, Any] = {}

    def is_over() -> bool:
        last.update(get(someone, task))
        return last["status"] not in ("working", "input_required")

    until(is_over)
    return last


# ------------------------------------------------------------------ modern client, modern upstream


@pytest.mark.parametrize("endpoint", MODERN)
def test_a_task_is_relayed_under_a_handle_of_ours(gateway: Gateway, endpoint: str) -> None:
    someone = client(gateway, endpoint, TASKS)
    made = someone.call("slow_compute", seconds=0.2, label="x")
    task = made.result["taskId"]
    assert (made.status, made.result["resultType"], made.result["status"]) == (
        200,
        "task",
        "working",
    )
    assert (made.result["ttlMs"], made.result["pollIntervalMs"]) == (300_000, 50)
    assert b'"vendorTask":{"keep":[1,2.5]}' in made.raw.replace(b" ", b"")
    assert len(task) > 100, "this is the upstream's own id"
    looked = get(someone, task)
    assert (looked["resultType"], looked["taskId"], looked["status"]) == (
        "complete",
        task,
        "working",
    )
    last = ended(someone, task)
    assert (last["taskId"], last["status"], last["ttlMs"]) == (task, "completed", 300_000)
    assert last["result"]["content"] == [{"type": "text", "text": "computed x"}]


@pytest.mark.parametrize("endpoint", MODERN)
def test_questions_of_a_task_are_answered_by_an_update(gateway: Gateway, endpoint: str) -> None:
    someone = client(gateway, endpoint, TASKS)
    task = someone.call("multi_input").result["taskId"]
    until(lambda: len(get(someone, task).get("inputRequests", {})) == 2)
    answer = {"action": "accept", "content": {"name": "Ada"}, "vendor": 1}
    params = {"taskId": task, "inputResponses": {"first": answer}}
    acknowledged = someone.send("tasks/update", params).result
    assert set(acknowledged) == {"resultType", "_meta"}
    assert set(get(someone, task)["inputRequests"]) == {"second"}
    someone.send("tasks/update", {"taskId": task, "inputResponses": {"second": answer}})
    words = ended(someone, task)["result"]["content"][0]["text"]
    assert json.loads(words) == [answer, answer]


def test_a_task_is_cancelled_at_the_upstream(gateway: Gateway) -> None:
    someone = client(gateway, "jobs", TASKS)
    task = someone.call("slow_compute", seconds=60).result["taskId"]
    assert set(someone.send("tasks/cancel", {"taskId": task}).result) == {"resultType", "_meta"}
    assert ended(someone, task)["status"] == "cancelled"
    assert seen(gateway, "jobs")[-1].startswith("tasks/get ")
    assert any(one.startswith("tasks/cancel ") for one in seen(gateway, "jobs"))


@pytest.mark.parametrize("endpoint", MODERN)
def test_the_extension_is_declared_upstream_only_where_this_request_declared_it(
    gateway: Gateway, endpoint: str
) -> None:
    plain, with_tasks = client(gateway, endpoint), client(gateway, endpoint, TASKS, "x.example/y")
    assert plain.call("slow_compute", label="now").text == "computed now"
    assert with_tasks.call("slow_compute", label="later").result["resultType"] == "task"
    assert plain.call("slow_compute", label="again").text == "computed again"
    refused = plain.call("failing_job")
    assert (refused.status, refused.code) == (400, -32021)
    assert refused.message["error"]["data"] == REQUIRED
    calls = [one for one in seen(gateway, endpoint) if one.startswith("call slow_compute")]
    assert calls[-3:] == [f"call slow_compute {one}" for one in (False, True, False)]


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_methods_about_tasks_need_the_extension_on_the_request(
    gateway: Gateway, method: str
) -> None:
    task = client(gateway, "jobs", TASKS).call("slow_compute", seconds=60).result["taskId"]
    more: dict[str, Any] = {"inputResponses": {}} if method == "tasks/update" else {}
    for one in (task, "no-such-task"):
        refused = client(gateway, "jobs").send(method, {"taskId": one, **more})
        assert (refused.status, refused.code) == (400, -32021)
        assert refused.message["error"]["data"] == REQUIRED
    client(gateway, "jobs", TASKS).send("tasks/cancel", {"taskId": task})


def test_the_header_names_the_handle(gateway: Gateway) -> None:
    someone = client(gateway, "jobs", TASKS)
    task = someone.call("slow_compute", seconds=60).result["taskId"]
    wrong = someone.send("tasks/get", {"taskId": task}, mcp_name="another")
    assert (wrong.status, wrong.code) == (400, -32020)
    someone.send("tasks/cancel", {"taskId": task})


def test_a_handle_that_is_altered_or_of_another_endpoint_is_a_task_nobody_knows(
    gateway: Gateway,
) -> None:
    someone = client(gateway, "jobs", TASKS)
    task = someone.call("slow_compute", seconds=60).result["taskId"]
    place = len(task) // 2
    altered = task[:place] + ("A" if task[place] != "A" else "B") + task[place + 1 :]
    elsewhere = client(gateway, "jobs_stdio", TASKS)
    answers: list[Answer] = [
        someone.send("tasks/get", {"taskId": "no-such-task"}),
        someone.send("tasks/get", {"taskId": altered}),
        elsewhere.send("tasks/get", {"taskId": task}),
    ]
    before = len(seen(gateway, "jobs"))
    assert [(one.status, one.code) for one in answers] == [(200, -32602)] * 3
    assert len({json.dumps(one.message["error"]) for one in answers}) == 1
    assert len(seen(gateway, "jobs")) == before
    someone.send("tasks/cancel", {"taskId": task})


def test_a_handle_outlives_the_gateway_that_gave_it(tmp_path: Path) -> None:
    """Nothing is stored: any process that has the keys can route it."""
    require_peers()
    with server("jobs") as jobs:
        section = {"url": f"http://127.0.0.1:{jobs}/mcp", "era": "modern"}
        alone = {"version": 1, "upstreams": {"jobs": section}}
        with serving(tmp_path, alone) as first:
            someone = ModernClient(first.url, first.headers).declaring(TASKS)
            task = someone.call("slow_compute", seconds=0, label="kept").result["taskId"]
        with serving(tmp_path, alone) as second:
            someone = ModernClient(second.url, second.headers).declaring(TASKS)
            assert ended(someone, task)["result"]["content"][0]["text"] == "computed kept"


# ------------------------------------------------------------------ tasks on a listen stream


@pytest.mark.parametrize("endpoint", MODERN)
def test_a_listener_hears_of_its_tasks_under_their_handles(gateway: Gateway, endpoint: str) -> None:
    someone = client(gateway, endpoint, TASKS)
    task = someone.call("confirm_delete", filename="x").result["taskId"]
    other = someone.call("slow_compute", seconds=0.3, label="other").result["taskId"]
    wanted = {"taskIds": [task, "no-such-task"], "toolsListChanged": True}
    with someone.listening(**wanted) as messages:
        first = next(messages)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == {"toolsListChanged": True, "taskIds": [task]}
        answers = {"confirm": {"action": "accept", "content": {"confirm": True}}}
        someone.send("tasks/update", {"taskId": task, "inputResponses": answers})
        last: dict[str, Any] = {}
        while last.get("status") != "completed":
            message = next(messages)
            assert message["method"] == "notifications/tasks"
            last = message["params"]
            assert last["taskId"] == task
            assert last["_meta"] == {"io.modelcontextprotocol/subscriptionId": 1}
        assert last["vendorTask"] == {"keep": [1, 2.5]}
        assert json.loads(last["result"]["content"][0]["text"])["action"] == "accept"
    assert ended(someone, other)["status"] == "completed"
    until(lambda: seen(gateway, endpoint).count("listen ended") > 0)


def test_a_listener_is_told_when_no_more_will_come(gateway: Gateway) -> None:
    someone = client(gateway, "jobs", TASKS)
    task = someone.call("slow_compute", seconds=60).result["taskId"]
    with someone.listening(taskIds=[task]) as messages:
        assert next(messages)["params"]["notifications"] == {"taskIds": [task]}
        someone.call("hang_up")
        assert next(messages)["result"]["resultType"] == "complete"
        assert list(messages) == []
    someone.send("tasks/cancel", {"taskId": task})


def test_who_did_not_declare_the_extension_hears_of_no_task(gateway: Gateway) -> None:
    refused = client(gateway, "jobs").send(
        "subscriptions/listen", {"notifications": {"taskIds": ["x"]}}
    )
    assert (refused.status, refused.code) == (400, -32021)
    assert refused.message["error"]["data"] == REQUIRED
    for endpoint in ("hello", "old"):
        with client(gateway, endpoint).listening(taskIds=["x"], toolsListChanged=True) as messages:
            assert next(messages)["params"]["notifications"] == {"toolsListChanged": True}


# ------------------------------------------------------------------ modern client, legacy upstream


@pytest.mark.parametrize("endpoint", LEGACY)
def test_a_tool_that_is_only_called_as_a_task_is_awaited(gateway: Gateway, endpoint: str) -> None:
    for someone in (client(gateway, endpoint), client(gateway, endpoint, TASKS)):
        done = someone.call("slow", seconds=0.2)
        assert done.result["resultType"] == "complete"
        assert done.text == 'later: {"seconds": 0.2}'
        assert done.result["vendorResult"] == {"keep": 1.5}
        assert "related-task" not in done.raw.decode()
        failed = someone.call("failing")
        assert (failed.result["isError"], failed.text) == (True, "the job failed")
        assert someone.call("optional").text == "at once: {}"


@pytest.mark.parametrize("endpoint", LEGACY)
def test_a_question_of_an_awaited_task_is_asked(gateway: Gateway, endpoint: str) -> None:
    someone = client(gateway, endpoint)
    asked = someone.call("confirm").result
    assert asked["resultType"] == "input_required"
    ((key, question),) = asked["inputRequests"].items()
    assert question["params"]["message"] == "Sure?"
    assert "_meta" not in question["params"]
    again = {
        "name": "confirm",
        "arguments": {},
        "requestState": asked["requestState"],
        "inputResponses": {key: {"action": "accept", "content": {"confirm": True}}},
    }
    assert json.loads(someone.send("tools/call", again).text) == ["accept", {"confirm": True}]


@pytest.mark.parametrize("endpoint", LEGACY)
def test_an_awaited_task_is_cancelled_with_the_call(gateway: Gateway, endpoint: str) -> None:
    before = seen(gateway, endpoint)
    params = {"name": "slow", "arguments": {"seconds": 60}}

    def news() -> list[str]:
        return seen(gateway, endpoint)[len(before) :]

    with client(gateway, endpoint).sent("tools/call", params):
        until(lambda: "tasks/get" in news())
        assert "tasks/cancel" not in news()
    until(lambda: "tasks/cancel" in news())


@pytest.mark.parametrize("endpoint", [*LEGACY, "hello"])
def test_no_extension_is_announced_that_is_not_carried(gateway: Gateway, endpoint: str) -> None:
    someone = client(gateway, endpoint, TASKS)
    capabilities = someone.send("server/discover").result["capabilities"]
    assert not {"extensions", "tasks"} & set(capabilities)
    unknown = someone.send("tasks/get", {"taskId": "no-such-task"})
    assert (unknown.status, unknown.code) == (404, -32601)
    assert b"taskSupport" not in someone.send("tools/list").raw


@pytest.mark.parametrize("endpoint", MODERN)
def test_the_extension_is_announced_where_it_is_carried(gateway: Gateway, endpoint: str) -> None:
    capabilities = client(gateway, endpoint).send("server/discover").result["capabilities"]
    assert capabilities["extensions"] == {TASKS: {}}
    assert "tasks" not in capabilities


# ------------------------------------------------------------------ legacy client


Told = Mapping[str, Any]


@pytest.fixture(scope="module")
def told(gateway: Gateway) -> Callable[[str, str], Told]:
    """What the legacy client reports of a story at an endpoint; each is told once."""
    known: dict[tuple[str, str], Told] = {}

    def tell(story: str, endpoint: str) -> Told:
        if (story, endpoint) not in known:
            url = f"{gateway.base_url}/servers/{endpoint}/mcp"
            at = {"transport": "http", "url": url, "era": "legacy"}
            orders: Mapping[str, Any] = {**at, "headers": dict(gateway.headers)}
            command = [str(OLD_PYTHON), "-W", "ignore", "-m", "tests.peers.legacy_tasks_client"]
            done = subprocess.run(
                [*command, story],
                cwd=ROOT,
                input=json.dumps(orders),
                capture_output=True,
                encoding="utf-8",
                timeout=PROGRAM_WITHIN_S,
                check=False,
            )
            assert done.stdout, done.stderr[-3000:]
            known[story, endpoint] = json.loads(done.stdout.splitlines()[0])["features"]
        return known[story, endpoint]

    return tell


def value(told: Told, feature: str) -> Any:
    assert "value" in told[feature], told[feature]
    return told[feature]["value"]


@pytest.mark.parametrize("endpoint", LEGACY)
def test_a_legacy_client_makes_tasks_at_a_legacy_upstream(
    told: Callable[[str, str], Told], endpoint: str
) -> None:
    story = told("relayed", endpoint)
    offered: Mapping[str, Any] = {"cancel": {}, "requests": {"tools": {"call": {}}}}
    assert value(story, "capabilities")["tasks"] == offered
    support = value(story, "support")
    assert (support["slow"], support["optional"], support["plain"]) == (
        "required",
        "optional",
        None,
    )
    task = value(story, "task")
    assert task["made"] == ["working", 60_000]
    assert task["looked"] == ["working", True]
    assert (task["after"], task["related"]) == ("completed", True)
    assert task["result"]["content"][0]["text"] == 'later: {"seconds": 0.3}'
    assert task["result"]["vendorResult"] == {"keep": 1.5}
    assert task["chars"] > 100, "this is the upstream's own id"
    assert value(story, "failing") == {"isError": True, "text": "the job failed"}
    assert value(story, "cancelled") == "cancelled"
    assert value(story, "unknown") == [-32602, -32602]
    assert value(story, "listed") == -32601
    assert value(story, "plain")["content"][0]["text"] == "at once: {}"


@pytest.mark.parametrize("endpoint", LEGACY)
def test_a_question_names_the_task_by_the_handle_the_client_knows(
    told: Callable[[str, str], Told], endpoint: str
) -> None:
    assert value(told("relayed", endpoint), "question") == {
        "message": "Sure?",
        "names_the_task": True,
        "text": '["accept", {"confirm": true}]',
    }


@pytest.mark.parametrize("endpoint", MODERN)
def test_a_legacy_client_never_sees_a_task_of_a_modern_upstream(
    told: Callable[[str, str], Told], endpoint: str
) -> None:
    story = told("awaited", endpoint)
    assert not {"tasks", "extensions"} & set(value(story, "capabilities"))
    assert set(value(story, "support").values()) == {None}
    assert value(story, "at_once")["content"][0]["text"] == "Hello, Ada!"
    assert value(story, "unneeded")["content"][0]["text"] == "computed x"
    for feature in ("failing", "again"):
        failed = value(story, feature)
        assert (failed["isError"], failed["content"][0]["text"]) == (True, "the job failed")
    assert value(story, "protocol_error") == -32603
    assert value(story, "methods") == -32601


@pytest.mark.parametrize("endpoint", MODERN)
def test_questions_of_a_task_reach_a_legacy_client_within_its_call(
    told: Callable[[str, str], Told], endpoint: str
) -> None:
    story = told("awaited", endpoint)
    one = value(story, "question")
    assert [asked["message"] for asked in one["asked"]] == ["Delete None?"]
    words = json.loads(one["result"]["content"][0]["text"])
    assert words == {"action": "accept", "content": {"confirm": True}}
    two = value(story, "questions")
    assert sorted(asked["message"] for asked in two["asked"]) == ["First?", "Second?"]
    assert len(json.loads(two["result"]["content"][0]["text"])) == 2
    before = value(story, "rounds_before")
    assert [asked["message"] for asked in before["asked"]] == ["Who?"]
    assert before["result"]["content"][0]["text"] == "Hello, my name!"


@pytest.mark.parametrize("endpoint", MODERN)
def test_a_task_is_cancelled_with_the_call_of_a_legacy_client_and_declared_only_where_insisted_upon(
    told: Callable[[str, str], Told], endpoint: str
) -> None:
    saw = value(told("awaited", endpoint), "cancelled")
    assert any(one.startswith("tasks/cancel ") for one in saw)
    failing = [one for one in saw if one.startswith("call failing_job")]
    assert failing[-3:] == [f"call failing_job {one}" for one in (False, True, True)]
    assert "call slow_compute False" in saw
