from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from waygate_mcp.cli import client_commands
from waygate_mcp.cli.arguments import ArgumentsError
from waygate_mcp.cli.client_commands import (
    arguments_from,
    decode,
    find_entry,
    first_line,
    print_raw,
    run_with,
    where_from,
)
from waygate_mcp.cli.gateway_client import Where
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Entry, Kind
from waygate_mcp.upstreams.detect import CredentialsWantedError

WHERE = Where(Settings())


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def opened(monkeypatch: pytest.MonkeyPatch, failure: BaseException | None = None) -> None:
    """Let every gateway open, or fail."""

    @asynccontextmanager
    async def open_one(_: Where) -> AsyncIterator[Any]:
        if failure is not None:
            raise failure
        yield "gateway"

    monkeypatch.setattr(client_commands, "open_gateway", open_one)


def exit_code(work: Any) -> int:
    """Run work and give the exit code."""
    try:
        run_with(WHERE, work)
    except typer.Exit as exc:
        return exc.exit_code
    return 0


async def nothing(_: Any) -> int:
    return 0


def test_the_exit_code_is_what_the_work_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch)

    async def failed(_: Any) -> int:
        return 1

    assert exit_code(nothing) == 0
    assert exit_code(failed) == 1


def test_a_missing_key_and_wrong_arguments_are_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch, CredentialsWantedError("gateway", "401"))
    assert exit_code(nothing) == 2
    assert "--key-file" in capsys.readouterr().err

    async def wrong(_: Any) -> int:
        raise ArgumentsError("no such thing")

    opened(monkeypatch)
    assert exit_code(wrong) == 2
    assert "no such thing" in capsys.readouterr().err


def test_other_errors_are_worded_by_the_command_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, UpstreamUnavailableError("gateway", "refused"))
    with pytest.raises(UpstreamUnavailableError):
        run_with(WHERE, nothing)


def test_ctrl_c_cancels_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch)
    story: list[str] = []

    async def work(_: Any) -> int:
        try:
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            story.append("cancelled")
            raise
        return 0

    def interrupt() -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    assert exit_code(work) == 130
    assert story == ["cancelled"]
    assert "cancelled" in capsys.readouterr().err


def test_a_gateway_is_near_or_far() -> None:
    with pytest.raises(typer.BadParameter):
        where_from(None, "http://127.0.0.1:1/mcp", in_process=True)
    assert where_from(None, None, "dev").endpoint == "dev"


def test_the_raw_result_has_its_meta(capsys: pytest.CaptureFixture[str]) -> None:
    print_raw(Reply(b'{"n":1.50}', b'{"k":1}'))
    assert capsys.readouterr().out == '{"n":1.50,"_meta":{"k":1}}\n'


def test_a_description_is_its_first_line_clipped() -> None:
    assert first_line({"description": "One.\nTwo."}) == "One."
    assert first_line({"title": "T"}) == "T"
    assert first_line({}) == ""
    assert first_line({"description": "x" * 200}, 10) == "x" * 9 + "…"


def test_arguments_come_from_standard_input_where_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.read", lambda: '{"a": 1}', raising=False)
    assert arguments_from(["-"], {}) == {"a": 1}
    assert arguments_from(["a=1"], {}) == {"a": "1"}


def test_small_things() -> None:
    assert decode(b"[1]") == {}
    assert decode(json.dumps({"a": 1}).encode()) == {"a": 1}
    entry = Entry(Kind.TOOL, "a", b"{}")
    assert find_entry([entry], "a") is entry
    assert find_entry([entry], "b") is None
