"""Real clients of other makers against the gateway, every feature of every connection a test of its own.

A connection is client × era × transport. Its program (tests/peers) walks through all features once and prints what
came; the tests here say what each must be. Behind the gateway stands the era-adaptive fixture of the conformance
suite. Over HTTP the gateway requires its key; over stdio the client starts `waygate stdio` itself. `workers` is HTTP
to three processes: Python's clients make a connection for each request, so that any of them may get any; Node's fetch
lets no program say so, and keeps several.

`WAYGATE_PEERS_REFERENCE=1` puts tests/peers/reference_server.py in the gateway's place, which tells whose fault a
failure is.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import (
    EVERYTHING,
    StdioGateway,
    assert_clean,
    serving,
    stdio_command,
    wait_for_port,
)
from tests.peers.paths import NODE, OLD_PYTHON, PROGRAMS, ROOT, require_peers
from tests.support.ports import free_port

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

REFERENCE = bool(os.environ.get("WAYGATE_PEERS_REFERENCE"))
PROGRAM_WITHIN_S = 90.0
TRANSPORTS = ("http", "stdio") if REFERENCE else ("http", "stdio", "workers")
WATCHED = "test://watched-resource"


def module(interpreter: Path, name: str) -> Sequence[str]:
    """The command of a Python program of tests/peers."""
    return (str(interpreter), "-m", f"tests.peers.{name}")


CLIENTS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "python_sdk2": (module(Path(sys.executable), "python_sdk2"), ("legacy", "modern")),
    "python_sdk1": (module(OLD_PYTHON, "python_sdk1"), ("legacy",)),
    "fastmcp": (module(Path(sys.executable), "fastmcp_client"), ("legacy", "modern")),
    "typescript2": ((str(NODE), str(PROGRAMS / "typescript2.mjs")), ("legacy", "modern")),
    "typescript1": ((str(NODE), str(PROGRAMS / "typescript1.mjs")), ("legacy",)),
}
"""Client → its command and the eras it speaks."""

CANNOT: Mapping[tuple[str, str, str], str] = {
    ("python_sdk1", "modern", "*"): "the first line of the SDK knows the handshake revisions only",
    ("typescript1", "modern", "*"): "the first line of the SDK knows the handshake revisions only",
    ("fastmcp", "modern", "log"): "FastMCP's client sets no logLevel on a request",
}
"""(client, era, feature) → why there is nothing to test; `*` is all of them."""


@dataclass(frozen=True)
class Connection:
    """One way for one client to reach the server."""

    client: str
    era: str
    transport: str

    def __str__(self) -> str:
        return f"{self.client}-{self.era}-{self.transport}"


CONNECTIONS = [
    Connection(client, era, transport)
    for client, (_, eras) in CLIENTS.items()
    for era in eras
    for transport in TRANSPORTS
]


# ------------------------------------------------------------------ what each feature must give


def asks(*asked: Mapping[str, Any], text: Sequence[str]) -> Callable[[Any], None]:
    """The client was asked exactly this, and every one of these words is in the tool's answer."""

    def check(value: Any) -> None:
        assert value["asked"] == list(asked)
        assert not value["isError"], value["text"]
        missing = [words for words in text if words not in value["text"]]
        assert not missing, f"{missing} not in {value['text']!r}"

    return check


def is_exactly(wanted: Any) -> Callable[[Any], None]:
    """The value is this one."""

    def check(value: Any) -> None:
        assert value == wanted

    return check


def lists_everything(value: Any) -> None:
    """Every list has the fixture's entries, and none twice."""
    wanted = {
        "tools": {"test_simple_text", "test_elicitation", "slow_cancellable"},
        "prompts": {"test_prompt_with_arguments", "test_input_required_result_prompt"},
        "resources": {"test://static-text", "test://static-binary", WATCHED},
        "templates": {"test://template/{id}/data"},
    }
    for kind, names in wanted.items():
        assert names <= set(value[kind]), kind
        assert len(value[kind]) == len(set(value[kind])), kind


def rounds_go_on(value: Any) -> None:
    """Two questions, one after the other, then an answer."""
    assert [question["fields"] for question in value["asked"]] == [["name"], ["color"]]
    assert not value["isError"], value["text"]
    assert "Ada" in value["text"]
    assert "blue" in value["text"]


def prompt_shows_arguments(value: Any) -> None:
    """Both arguments appear verbatim."""
    assert "alpha" in value
    assert "beta" in value


def prompt_asked(value: Any) -> None:
    """The prompt asked once and used the answer."""
    assert value["asked"] == 1
    assert "tea" in value["text"]


def completes(value: Any) -> None:
    """A list of strings, empty or not."""
    assert isinstance(value, list)
    assert all(isinstance(item, str) for item in value)


Check = Callable[[Any], None]
FORM = ["email", "username"]
FEATURES: Mapping[str, Check | Mapping[str, Check]] = {
    "revision": {"legacy": is_exactly("2025-11-25"), "modern": is_exactly("2026-07-28")},
    "list": lists_everything,
    "call": is_exactly("This is a simple text response for testing."),
    "content": is_exactly(["text", "image", "resource"]),
    "tool_error": is_exactly(
        {"isError": True, "text": "This tool intentionally returns an error for testing"}
    ),
    "unknown_tool": is_exactly({"code": -32602}),
    "progress": is_exactly([[0, 100], [50, 100], [100, 100]]),
    "log": is_exactly(
        ["Tool execution started", "Tool processing data", "Tool execution completed"]
    ),
    "elicitation": asks(
        {"message": "Who are you?", "fields": FORM}, text=["User response", "ada@example.com"]
    ),
    "declined": asks(
        {"message": "Please decline", "fields": FORM}, text=["User response", "decline"]
    ),
    "sampling": asks({"prompt": ["Tell a story"]}, text=["LLM response: Once upon a time."]),
    "roots": asks({"roots": True}, text=[]),
    "rounds": rounds_go_on,
    "parallel": is_exactly(1),
    "read": is_exactly(
        {"text": ["text/plain", True], "blob": ["image/png", True], "template": True}
    ),
    "unknown_resource": {
        "legacy": is_exactly({"code": -32002}),
        "modern": is_exactly({"code": -32602}),
    },
    "resource_update": is_exactly(WATCHED),
    "prompt": prompt_shows_arguments,
    "prompt_that_asks": prompt_asked,
    "completion": completes,
    "cancellation": is_exactly(1),
    "list_changed": is_exactly("ToolsListChanged"),
}

LATE_EARS = (
    "the client drops notifications that arrive in one read with the answer they precede, which on "
    "a pipe is up to the system; the Python clients see all three"
)
OWN_CODES = "the client turns -32002 with an address into its own error, whose code is -32602"


def lacks_at_most_the_last(value: Any) -> None:
    """The steps in order; the last may be missing."""
    assert value in ([[0, 100], [50, 100]], [[0, 100], [50, 100], [100, 100]])


OWN_WAYS: Mapping[tuple[str, str, str, str], tuple[Check, str]] = {
    ("typescript1", "legacy", "stdio", "progress"): (lacks_at_most_the_last, LATE_EARS),
    ("typescript2", "legacy", "stdio", "progress"): (lacks_at_most_the_last, LATE_EARS),
    ("typescript2", "modern", "stdio", "progress"): (lacks_at_most_the_last, LATE_EARS),
    ("typescript2", "legacy", "http", "unknown_resource"): (
        is_exactly({"code": -32602}),
        OWN_CODES,
    ),
    ("typescript2", "legacy", "stdio", "unknown_resource"): (
        is_exactly({"code": -32602}),
        OWN_CODES,
    ),
    ("typescript2", "legacy", "workers", "unknown_resource"): (
        is_exactly({"code": -32602}),
        OWN_CODES,
    ),
}
"""(client, era, transport, feature) → what this client makes of what every other client gets, and why."""

OWN_COUNTS = "each worker has a plugin of its own, which counts what was cancelled there"


def is_a_number(value: Any) -> None:
    """A count, whatever it is."""
    assert isinstance(value, int)


SEVERAL = {
    ("workers", "modern", "cancellation"): (is_a_number, OWN_COUNTS),
}
"""(transport, era, feature) → what differs with several workers, for every client, and why."""

REFERENCE_DIFFERS = {
    "unknown_tool": "the SDK's server answers a result with isError",
    "unknown_resource": "the SDK's server answers -32602 in both eras",
}


# ------------------------------------------------------------------ the servers


@contextlib.contextmanager
def reference_server(folder: Path) -> Iterator[str]:
    """The reference server over HTTP; the context's value is its address."""
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.reference_server", "http", str(port)]
    with (folder / "reference.log").open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, 20.0)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def http_orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Where the HTTP clients go. At the end the gateway must stop cleanly."""
    folder = tmp_path_factory.mktemp("http")
    if REFERENCE:
        with reference_server(folder) as url:
            yield {"url": url, "headers": {}}
        return
    with contextlib.ExitStack() as stack:
        try:
            gateway = stack.enter_context(serving(folder, EVERYTHING))
        except AssertionError as failed:  # told once by `reports`, not by every test anew
            yield {"failed": failed}
            return
        yield {"url": gateway.url, "headers": gateway.headers}


@pytest.fixture(scope="module")
def workers_orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Where clients go that meet any of three workers with each request."""
    folder = tmp_path_factory.mktemp("workers")
    with serving(folder, EVERYTHING, arguments=("--workers", "3")) as gateway:
        yield {"url": gateway.url, "headers": {**gateway.headers, "Connection": "close"}}


@pytest.fixture(scope="module")
def stdio_orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """What the stdio clients start. At the end no log of any of them may hold a traceback."""
    folder = tmp_path_factory.mktemp("stdio")
    if REFERENCE:
        arguments = ["-m", "tests.peers.reference_server", "stdio"]
        own = {"PATH": os.environ["PATH"]}
        yield orders_of(StdioGateway(sys.executable, tuple(arguments), own, ROOT))
        return
    gateway = stdio_command(folder)
    yield orders_of(gateway)
    assert_clean(gateway.log(), None)


def orders_of(server: StdioGateway) -> Mapping[str, Any]:
    """The orders for a client that starts this server."""
    return {
        "command": server.command,
        "arguments": list(server.arguments),
        "environment": dict(server.environment),
        "folder": str(server.folder),
    }


def run_program(connection: Connection, orders: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Run a client's program and return what it reported about each feature."""
    require_peers()
    command, _ = CLIENTS[connection.client]
    kind = "stdio" if connection.transport == "stdio" else "http"
    given = {"transport": kind, "era": connection.era, **orders}
    if connection.client.startswith("typescript") and "headers" in given:
        headers = {name: value for name, value in given["headers"].items() if name != "Connection"}
        given["headers"] = headers
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        env=environment,
        input=json.dumps(given),
        capture_output=True,
        encoding="utf-8",
        timeout=PROGRAM_WITHIN_S,
        check=False,
    )
    said = f"exit code {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, said
    try:
        features = json.loads(done.stdout)["features"]
    except (ValueError, KeyError) as error:
        raise AssertionError(f"no report: {said}") from error
    assert isinstance(features, dict), said
    return features


Reports = Callable[[Connection], Mapping[str, Any]]


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """The report of a connection's program, which runs once."""
    made: dict[Connection, dict[str, Any] | Exception] = {}
    told: set[Exception] = set()

    def report(connection: Connection) -> Mapping[str, Any]:
        if connection not in made:
            orders = request.getfixturevalue(f"{connection.transport}_orders")
            try:
                if "failed" in orders:
                    raise orders["failed"]
                made[connection] = run_program(connection, orders, tmp_path_factory.mktemp("home"))
            except (AssertionError, subprocess.TimeoutExpired) as failed:
                made[connection] = failed
        match made[connection]:
            case dict() as features:
                return features
            case failure if failure in told:
                raise AssertionError("no report; the first test of this client tells why") from None
            case failure:
                told.add(failure)
                raise AssertionError(f"{connection}: {failure}") from None

    return report


# ------------------------------------------------------------------ the tests


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("connection", CONNECTIONS, ids=str)
def test_a_real_client_can_use(reports: Reports, connection: Connection, feature: str) -> None:
    outcome = reports(connection)[feature]
    reason = CANNOT.get((connection.client, connection.era, feature))
    if reason is not None:
        assert outcome == {"cannot": reason}
        return
    assert "error" not in outcome, f"{connection}: {feature}: {outcome['error']}"
    if REFERENCE and feature in REFERENCE_DIFFERS:
        pytest.skip(REFERENCE_DIFFERS[feature])
    check_of(connection, feature)(outcome["value"])


def check_of(connection: Connection, feature: str) -> Check:
    """What must hold for this feature on this connection."""
    key = (connection.client, connection.era, connection.transport, feature)
    if key in OWN_WAYS:
        return OWN_WAYS[key][0]
    several = (connection.transport, connection.era, feature)
    if several in SEVERAL:
        return SEVERAL[several][0]
    check = FEATURES[feature]
    return check if callable(check) else check[connection.era]


@pytest.mark.parametrize("connection", CONNECTIONS, ids=str)
def test_no_feature_of_a_client_goes_unchecked(reports: Reports, connection: Connection) -> None:
    assert set(reports(connection)) - {"ping"} == set(FEATURES)


def test_what_clients_cannot_do_or_do_in_their_own_way_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tested = {(connection.client, connection.era) for connection in CONNECTIONS}
    every = {(client, era) for client in CLIENTS for era in ("legacy", "modern")}
    missing = {(client, era, "*") for client, era in every - tested}
    assert missing == {cell for cell in CANNOT if cell[2] == "*"}, "a reason is missing or stale"
    with capsys.disabled():
        print("\nNot tested with real clients, because:")
        for (client, era, feature), reason in CANNOT.items():
            print(f"  {client:12} {era:7} {feature:4} {reason}")
        print("Tested for what these clients make of it:")
        for (client, era, transport, feature), (_, reason) in OWN_WAYS.items():
            print(f"  {client:12} {era:7} {transport:6} {feature:17} {reason}")
