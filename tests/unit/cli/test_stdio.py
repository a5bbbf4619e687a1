"""`waygate stdio`: the process around the conversation, from its start to a signal."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from typer.testing import CliRunner

from tests.support.house import settings_in
from waygate_mcp.cli import stdio as module
from waygate_mcp.cli.main import app
from waygate_mcp.errors import ConfigError
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs

HELLO = {"version": 1, "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}}}
ENDPOINTS = {**HELLO, "endpoints": {"default": {}, "travel": {"bind": ["hello"]}}}


class Serving:
    """Stands for the conversation: notes what it was given and does as a test says."""

    def __init__(self, does: Callable[[], Awaitable[None]]) -> None:
        self.given: list[Any] = []
        self.was_cancelled = False
        self._does = does

    async def __call__(
        self, current: Any, endpoint: str, supervisor: Any, output_fd: int, limit_bytes: int
    ) -> None:
        self.given.append((current().gateway, endpoint, output_fd, limit_bytes))
        try:
            await self._does()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: Serving, endpoint: str = "default"
) -> None:
    """Run the command's own part with a conversation that is not one."""
    monkeypatch.setattr(module, "serve_stdio", serving)
    settings = settings_in(tmp_path, ENDPOINTS, max_request_size=5_000)
    with open_logs(settings, descriptor=None, file=False) as logs:
        async with asyncio.timeout(20):
            await module._serve(settings, logs, endpoint, 7)


async def at_once() -> None:
    """The client closed its end."""


async def test_the_end_of_the_conversation_is_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving(at_once)
    await serve(tmp_path, monkeypatch, serving, "travel")
    [(gateway, endpoint, output_fd, limit_bytes)] = serving.given
    assert isinstance(gateway, Gateway)
    assert (endpoint, output_fd, limit_bytes) == ("travel", 7, 5_000)


@pytest.mark.parametrize(("name", "hint"), [("trvel", "did you mean 'travel'?"), ("x" * 40, "")])
async def test_an_endpoint_that_is_not_there_is_named_with_the_nearest_one(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving(at_once)
    with pytest.raises(ConfigError) as caught:
        await serve(tmp_path, monkeypatch, serving, name)
    assert caught.value.path == "endpoints"
    assert repr(name) in str(caught.value)
    assert ("did you mean" in str(caught.value)) is bool(hint)
    assert hint in str(caught.value)
    assert serving.given == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_conversation(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_told_to_stop() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, number)
        await asyncio.Event().wait()

    serving = Serving(is_told_to_stop)
    await serve(tmp_path, monkeypatch, serving)
    assert serving.was_cancelled


async def test_a_hang_up_reloads_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    reloaded = asyncio.Event()

    def note(self: object, reason: str) -> None:
        reasons.append(reason)
        reloaded.set()

    monkeypatch.setattr(House, "request_reload", note)

    async def is_told_to_reload() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGHUP)
        await reloaded.wait()

    await serve(tmp_path, monkeypatch, Serving(is_told_to_reload))
    assert reasons == ["SIGHUP"]


@pytest.mark.parametrize(("platform", "is_uvloop"), [("linux", True), ("win32", False)])
def test_the_fastest_loop_there_is_runs_it(
    platform: str, is_uvloop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    monkeypatch.setattr(sys, "platform", platform)
    module.run(note())
    assert isinstance(loops[0], uvloop.Loop) is is_uvloop


def test_the_command_serves_standard_input_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    result = CliRunner().invoke(app, ["stdio"])  # standard input of tests is empty
    assert result.exit_code == 0, result.output
    assert capfd.readouterr().out == ""
