"""`waygate stdio` as its clients meet it: a process, two pipes, both eras on them, and nothing but messages."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.integration.gateway_process import assert_clean, stdio_command, write_document

WAIT_S = 20.0
NOISY = '''
import ctypes
import logging
import os
import subprocess
import sys

from waygate_mcp import Context, Toolbox

box = Toolbox()


@box.tool(structured=False)
def shout() -> str:
    """Print in every way there is."""
    print("printed")
    sys.stdout.write("written\\n")
    sys.__stdout__.write("the other way\\n")
    os.write(1, b"to the descriptor\\n")
    logging.getLogger("somewhere").warning("logged")
    subprocess.run(["echo", "by a child"], check=True)
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    return "quiet\\nenough"


@box.tool(structured=False)
async def ask(ctx: Context) -> str:
    """Ask for a name."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    answer = await ctx.elicit("Name?", schema)
    return f"Hello {answer.content}"


@box.tool(structured=False)
async def change() -> str:
    """Change the list of tools."""
    box.add_tool(box.tools["ask"].function, name="another")
    return "changed"
'''
DOCUMENT: Mapping[str, object] = {
    "version": 1,
    "plugins": {
        "noisy": {"use": "./noisy.py"},
        "everything": {"use": "waygate_mcp.testing.everything"},
    },
    "endpoints": {"default": {"prefix": "none"}},
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}


class Client:
    """A client that started the gateway and speaks with it by lines."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self.errors = errors
        self.lines: list[bytes] = []
        self._queue: queue.Queue[bytes] = queue.Queue()
        self._ids = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(b"")

    def say(self, *messages: Any) -> None:
        """Send messages in one write."""
        assert self.process.stdin is not None
        data = b"".join(
            one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in messages
        )
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def request(self, method: str, *, modern: bool = False, **params: Any) -> dict[str, Any]:
        """Make a request without sending it."""
        if modern:
            params["_meta"] = {**META, **params.get("_meta", {})}
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}

    def ask(self, method: str, *, modern: bool = False, **params: Any) -> int:
        """Send a request and give its id."""
        message = self.request(method, modern=modern, **params)
        self.say(message)
        return int(message["id"])

    def tell(self, method: str, **params: Any) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params})

    def hear(self) -> Any:
        """Wait for the next message; None at the end."""
        line = self._queue.get(timeout=WAIT_S)
        if not line:
            return None
        self.lines.append(line)
        return json.loads(line)

    def until(self, is_it: Callable[[Any], bool]) -> Any:
        """Read until a message is the one."""
        while (message := self.hear()) is not None:
            if is_it(message):
                return message
        raise AssertionError(f"it never came; {self.errors.read_text()[-2000:]}")

    def answer_to(self, identifier: Any) -> Any:
        return self.until(lambda one: "method" not in one and one.get("id") == identifier)

    def open(self, revision: str = "2025-11-25") -> Any:
        identifier = self.ask(
            "initialize",
            protocolVersion=revision,
            capabilities={"elicitation": {}},
            clientInfo={"name": "probe", "version": "1"},
        )
        answer = self.answer_to(identifier)["result"]
        self.tell("notifications/initialized")
        return answer

    def end(self) -> list[Any]:
        """Close the input, wait for the end, give what was still said."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        rest = []
        while (message := self.hear()) is not None:
            rest.append(message)
        assert self.process.wait(WAIT_S) == 0, self.errors.read_text()[-2000:]
        return rest


@contextlib.contextmanager
def client_of(
    folder: Path, environment: Mapping[str, str] | None = None, *, is_clean: bool = True
) -> Iterator[Client]:
    """Start the gateway, and end it however the test went."""
    (folder / "noisy.py").write_text(NOISY)
    command = stdio_command(folder, DOCUMENT)
    errors = folder / "errors.log"
    with errors.open("wb") as sink:
        process = subprocess.Popen(
            [command.command, *command.arguments],
            cwd=folder,
            env={**command.environment, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
    client = Client(process, errors)
    try:
        yield client
    finally:
        process.kill()
        process.wait(WAIT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
    if is_clean:
        assert_clean(errors.read_text() + command.log(), None)


def words(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


def test_both_eras_are_interleaved_on_one_pair_of_pipes(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        assert client.open()["protocolVersion"] == "2025-11-25"
        slow = client.ask("tools/call", name="slow_cancellable", arguments={"seconds": 0.5})
        modern = client.answer_to(client.ask("tools/call", modern=True, name="test_simple_text"))
        assert modern["result"]["resultType"] == "complete"
        legacy = client.answer_to(slow)
        assert words(legacy) == "Waited 0.5 s"
        assert "resultType" not in legacy["result"]
        assert client.end() == []


def test_whatever_a_tool_prints_stays_off_standard_output(tmp_path: Path) -> None:
    with client_of(tmp_path, is_clean=False) as client:
        answer = client.answer_to(client.ask("tools/call", modern=True, name="shout"))
        assert words(answer) == "quiet\nenough"
        assert client.end() == []
        for line in client.lines:
            json.loads(line)
    errors = (tmp_path / "errors.log").read_text()
    for said in (
        "printed",
        "written",
        "the other way",
        "to the descriptor",
        "by a child",
        "from C",
    ):
        assert said in errors


def test_questions_of_both_eras_are_answered(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        client.open()
        called = client.ask("tools/call", name="ask")
        question = client.until(lambda one: one.get("method") == "elicitation/create")
        accepted = {"action": "accept", "content": {"name": "Bo"}}
        client.say({"jsonrpc": "2.0", "id": question["id"], "result": accepted})
        assert words(client.answer_to(called)) == "Hello {'name': 'Bo'}"
        asked = client.answer_to(client.ask("tools/call", modern=True, name="ask"))["result"]
        [key] = asked["inputRequests"]
        retry = client.ask(
            "tools/call",
            modern=True,
            name="ask",
            requestState=asked["requestState"],
            inputResponses={key: accepted},
        )
        assert words(client.answer_to(retry)) == "Hello {'name': 'Bo'}"


def test_calls_are_cancelled_by_notification_even_in_the_same_write(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        client.open()
        slow = {"name": "slow_cancellable", "arguments": {"seconds": 60}}
        together = client.request("tools/call", modern=True, **slow)
        client.say(
            together,
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": together["id"]},
            },
        )
        for modern in (True, False):
            running = client.ask("tools/call", modern=modern, **slow, _meta={"progressToken": 1})
            time.sleep(0.3)
            client.tell("notifications/cancelled", requestId=running)
        seen = client.ask("tools/call", name="cancellations_seen")
        assert words(client.answer_to(seen)) == "2"  # the first was never begun
        assert client.end() == []
        answered = [json.loads(line).get("id") for line in client.lines]
        assert together["id"] not in answered


def test_a_listener_hears_until_it_is_cancelled(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        wanted = {"toolsListChanged": True}
        listening = client.ask("subscriptions/listen", modern=True, notifications=wanted)
        ack = client.hear()
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        client.ask("tools/call", modern=True, name="change")
        told = client.until(lambda one: one.get("method") == "notifications/tools/list_changed")
        tag = told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
        assert tag == listening
        client.tell("notifications/cancelled", requestId=listening)
        changed = client.ask("tools/call", modern=True, name="test_trigger_tool_change")
        client.answer_to(changed)
        assert [one for one in client.end() if "method" in one] == []


def test_a_line_that_is_too_long_is_the_end_and_says_so(tmp_path: Path) -> None:
    with client_of(tmp_path, {"WAYGATE_MAX_REQUEST_SIZE": "2000"}) as client:
        client.answer_to(client.ask("tools/call", modern=True, name="test_simple_text"))
        client.say(b"x" * 3_000)
        told = client.hear()
        assert (told["error"]["code"], client.hear()) == (-32700, None)
        assert client.process.wait(WAIT_S) == 0


def test_nonsense_is_refused_and_the_conversation_goes_on(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        client.say(b"\n", b"nonsense\n", b"\xff\xfe\n", b"[]\n", b'{"jsonrpc":"2.0","id":null}\n')
        codes = [client.hear()["error"]["code"] for _ in range(4)]
        assert codes == [-32700, -32700, -32600, -32600]
        answer = client.answer_to(client.ask("tools/call", modern=True, name="test_simple_text"))
        assert "result" in answer


def test_a_signal_ends_it_and_so_does_the_end_of_the_input(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        folder = tmp_path / str(int(number))
        folder.mkdir()
        with client_of(folder) as client:
            client.open()
            client.ask("tools/call", name="slow_cancellable", arguments={"seconds": 60})
            time.sleep(0.2)
            client.process.send_signal(number)
            assert client.process.wait(WAIT_S) == 0
    with client_of(tmp_path) as client:
        client.open()
        client.ask("tools/call", name="slow_cancellable", arguments={"seconds": 60})
        assert client.end() == []


def test_files_may_be_its_input_and_output(tmp_path: Path) -> None:
    command = stdio_command(tmp_path)
    requests = [
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": "test_simple_text", "_meta": META},
        }
        for number in range(20)
    ]
    asked, answered = tmp_path / "in", tmp_path / "out"
    asked.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in requests))
    with asked.open("rb") as reading, answered.open("wb") as writing:
        done = subprocess.run(
            [command.command, *command.arguments],
            cwd=command.folder,
            env=dict(command.environment),
            stdin=reading,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in answered.read_bytes().splitlines()]
    assert sorted(one["id"] for one in answers) == list(range(20))


def test_at_a_terminal_it_ends_when_told_though_nobody_types(tmp_path: Path) -> None:
    write_document(tmp_path, DOCUMENT)
    (tmp_path / "noisy.py").write_text(NOISY)
    command = stdio_command(tmp_path, DOCUMENT)
    master, terminal = os.openpty()
    errors = tmp_path / "errors.log"
    with errors.open("wb") as sink:
        process = subprocess.Popen(
            [command.command, *command.arguments],
            cwd=tmp_path,
            env=dict(command.environment),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
    os.close(terminal)
    try:
        client = Client(process, errors)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        os.write(master, json.dumps(ping).encode() + b"\n")
        assert client.hear()["result"] == {}
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait(WAIT_S)
        os.close(master)
        if process.stdout is not None:
            process.stdout.close()
