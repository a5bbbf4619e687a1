"""The gateway behind standard input and output: lines in, lines out, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.dialogues import CAPABILITIES, VERSION, Desk
from tests.support.scripted import Scripted, text
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp import stdio as module
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.stdio import claim_standard_output, serve_stdio


class Box(Scripted):
    """Tools that greet, print, or wait for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.tool("greet", lambda call: text("hello"))
        self.tool("large", lambda call: text("x" * 300_000))
        self.tool("medium", lambda call: text("x" * 100_000))
        self.tool("wait", self._wait)

    async def _wait(self, call: Call) -> Outcome:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text("waited")


def line(method: str, identifier: Any = 1, **params: Any) -> bytes:
    meta = {VERSION: "2026-07-28", CAPABILITIES: {}}
    message = {
        "jsonrpc": "2.0",
        "id": identifier,
        "method": method,
        "params": {**params, "_meta": meta},
    }
    return json.dumps(message).encode() + b"\n"


GREET = line("tools/call", name="greet")


class Process:
    """A gateway on two pipes, and the client at their other ends."""

    def __init__(self, desk: Desk, limit_bytes: int = 1024 * 1024) -> None:
        self.input, self._stdin = os.pipe()[::-1]
        self._stdout, self._output = os.pipe()
        os.set_blocking(self._stdout, False)
        self.task = asyncio.get_running_loop().create_task(
            serve_stdio(
                desk.current,
                "default",
                desk.supervisor,
                self._output,
                limit_bytes,
                input_fd=self._stdin,
            )
        )
        self.open = {self.input, self._stdin, self._stdout, self._output}

    def say(self, data: bytes) -> None:
        os.write(self.input, data)

    def end(self) -> None:
        """Close the input."""
        self._close(self.input)

    def stop_reading(self) -> None:
        """Close the output, as a client that is gone."""
        self._close(self._stdout)

    def _close(self, fd: int) -> None:
        self.open.discard(fd)
        os.close(fd)

    def heard(self) -> list[Any]:
        """The messages written since the last time."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._stdout, 1_000_000):
                data += chunk
        assert not data or data.endswith(b"\n")
        return [json.loads(one) for one in data.splitlines()]

    async def over(self) -> list[Any]:
        """Wait for its end and give what it wrote."""
        async with asyncio.timeout(1_000):
            await self.task
        messages = [] if self._stdout not in self.open else self.heard()
        for fd in tuple(self.open):
            self._close(fd)
        await settle()
        return messages


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what a pipe brings; no time passes."""
    for _ in range(200):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was so")


# --- lines


@virtual_time
async def test_each_line_is_a_message_and_each_answer_a_line() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        process.say(GREET + b"\r\n\n" + line("tools/call", 2, name="none"))
        process.end()
        first, second = sorted(await process.over(), key=lambda one: int(one["id"]))
        assert first["result"]["content"][0]["text"] == "hello"
        assert second["error"]["code"] == -32602


@virtual_time
async def test_a_line_may_come_in_pieces() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        for piece in (GREET[:10], GREET[10:50], GREET[50:]):
            process.say(piece)
            await settle()
        process.end()
        [answer] = await process.over()
        assert answer["id"] == 1


@virtual_time
async def test_a_line_that_is_too_long_ends_the_conversation_with_a_word() -> None:
    async with Desk(box := Box()) as desk:
        process = Process(desk, limit_bytes=300)
        process.say(line("tools/call", name="wait"))
        await until(lambda: bool(box.calls))
        process.say(b"x" * 301)
        [told] = await process.over()
        assert told["error"]["code"] == -32700
        assert "300 bytes" in told["error"]["message"]
        assert box.cancelled == 1


@virtual_time
async def test_a_large_answer_comes_whole_however_slowly_it_is_read() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        for number in range(3):
            process.say(line("tools/call", number, name="large"))
        process.end()
        data = b""
        for _ in range(2_000):
            with contextlib.suppress(BlockingIOError):
                data += os.read(process._stdout, 10_000)
            await asyncio.sleep(0)
            if process.task.done():
                break
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(process._stdout, 1_000_000):
                data += chunk
        assert [
            len(json.loads(one)["result"]["content"][0]["text"]) for one in data.splitlines()
        ] == [300_000] * 3
        await process.over()


@virtual_time
async def test_an_answer_nobody_has_read_yet_is_not_left_behind_at_the_end() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        process.say(line("tools/call", name="medium"))
        process.end()
        await settle(200)  # no time passes: the grace is not over
        assert not process.task.done()
        data = b""
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                data += os.read(process._stdout, 100_000)
            await settle()
        assert len(json.loads(data)["result"]["content"][0]["text"]) == 100_000
        await process.over()


@virtual_time
async def test_a_bug_of_ours_is_told_and_the_conversation_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        endpoint = desk.gateway.endpoints["default"]
        monkeypatch.setattr(endpoint, "handler_for", None)
        process.say(GREET)
        await settle(50)
        monkeypatch.undo()
        process.say(GREET)
        process.end()
        told, answered = await process.over()
        assert told["error"]["message"] == "Internal error"
        assert set(told["error"]["data"]) == {"requestId"}
        assert "id" not in told
        assert answered["result"]["content"][0]["text"] == "hello"


# --- the end


@virtual_time
async def test_the_end_of_the_input_is_the_end() -> None:
    async with Desk(box := Box()) as desk:
        process = Process(desk)
        process.say(line("tools/call", name="wait"))
        await until(lambda: bool(box.calls))
        started = now()
        process.end()
        assert await process.over() == []
        assert box.cancelled == 1
        assert now() - started == pytest.approx(0.5)
        assert len(desk.supervisor) == 0


@virtual_time
async def test_a_call_that_is_quick_is_answered_after_the_end_of_the_input() -> None:
    async with Desk(box := Box()) as desk:
        process = Process(desk)
        process.say(line("tools/call", name="wait"))
        await until(lambda: bool(box.calls))
        process.end()
        await pass_time(0.3)
        box.go_on.set()
        [answer] = await process.over()
        assert answer["result"]["content"][0]["text"] == "waited"


@virtual_time
async def test_a_client_that_is_gone_is_told_nothing_and_hurts_nobody() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk)
        process.say(GREET)
        await until(lambda: bool(process.heard()))
        process.stop_reading()
        await settle()
        process.say(b"{\n")
        assert await process.over() == []


@virtual_time
async def test_a_client_that_is_gone_is_not_told_of_a_line_that_is_too_long() -> None:
    async with Desk(Box()) as desk:
        process = Process(desk, limit_bytes=300)
        process.say(GREET)
        await until(lambda: bool(process.heard()))
        process.stop_reading()
        await settle()
        process.say(b"x" * 301)
        assert await process.over() == []


@virtual_time
async def test_a_server_that_is_stopped_cancels_what_is_under_way() -> None:
    async with Desk(box := Box()) as desk:
        process = Process(desk)
        process.say(line("tools/call", name="wait"))
        await until(lambda: bool(box.calls))
        process.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await process.over()
        assert box.cancelled == 1
        process.task = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await process.over()


# --- files and terminals


async def test_a_file_may_be_the_input_and_another_the_output(tmp_path: Path) -> None:
    asked, answered = tmp_path / "in", tmp_path / "out"
    asked.write_bytes(GREET + line("tools/call", 2, name="large"))
    async with Desk(Box()) as desk:
        with asked.open("rb") as reading, answered.open("wb") as writing:
            await serve_stdio(
                desk.current,
                "default",
                desk.supervisor,
                writing.fileno(),
                1024 * 1024,
                input_fd=reading.fileno(),
            )
    answers = [json.loads(one) for one in answered.read_bytes().splitlines()]
    assert sorted(one["id"] for one in answers) == [1, 2]


@virtual_time
async def test_a_read_nobody_waits_for_any_more_ends_without_a_word() -> None:
    reading, writing = os.pipe()
    waiting = asyncio.get_running_loop().create_task(module._read_in_thread(reading))
    await settle()
    waiting.cancel()
    await settle()
    os.write(writing, b"late")
    for thread in _readers():
        await asyncio.to_thread(thread.join, 5)
    await settle()
    os.close(reading)
    os.close(writing)


def test_a_read_that_outlives_its_loop_is_forgotten() -> None:
    reading, writing = os.pipe()

    @virtual_time
    async def leaves() -> None:
        waiting = asyncio.get_running_loop().create_task(module._read_in_thread(reading))
        await settle()
        waiting.cancel()

    leaves()
    os.write(writing, b"late")
    for thread in _readers():
        thread.join(5)
        assert not thread.is_alive()
    os.close(reading)
    os.close(writing)


@virtual_time
async def test_a_terminal_that_is_gone_is_the_end_of_the_input() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    assert await module._read_in_thread(reading) == b""


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "standard input"]


# --- standard output


def test_what_prints_meanwhile_is_led_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(1, "w", closefd=False, buffering=8192) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        print("before")
        with claim_standard_output() as fd:
            print("printed")
            os.write(1, b"written\n")
            os.write(fd, b"message\n")
        print("after")
        stdout.flush()
        monkeypatch.undo()
    out, err = capfd.readouterr()
    assert out == "before\nmessage\nafter\n"
    assert err == "written\nprinted\n"


def test_standard_output_is_given_back_even_after_a_failure(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ZeroDivisionError), claim_standard_output():
        raise ZeroDivisionError
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"
