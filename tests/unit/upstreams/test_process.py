from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from waygate_mcp.errors import ConfigError, TooLargeError, UpstreamUnavailableError
from waygate_mcp.upstreams.process import ChildProcess, Command, Processes, ProcessLimits

ECHO = "import sys\nfor line in sys.stdin: print(line.strip(), flush=True)"


async def start(
    source: str, *, limit_bytes: int = 1_000, folder: Path | None = None
) -> ChildProcess:
    command = Command(sys.executable, ("-c", source), sandbox="none")
    return await Processes(folder).start("up", command, limit_bytes=limit_bytes, stop_s=0.2)


async def test_lines_go_in_and_come_out_and_its_end_leaves_nothing(tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    child = await start(ECHO, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert child.send(b'{"a":\n1}') is None
    async with asyncio.timeout(20):
        assert await anext(child.lines()) == [b'{"a": 1}']
        await child.close()
        await child.close()
    assert child.exit_status == 0
    assert child.is_closed
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UpstreamUnavailableError):
        child.send(b"{}")
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_a_line_over_the_limit_is_not_read() -> None:
    child = await start("print('x' * 5000, flush=True); input()")
    async with asyncio.timeout(20):
        with pytest.raises(TooLargeError):
            await anext(child.lines())
        await child.close()


async def test_one_that_will_not_end_is_killed() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    source = f"{deaf}; print('x', flush=True); time.sleep(99)"
    child = await start(source)
    async with asyncio.timeout(20):
        await anext(child.lines())
        await child.close()
    assert child.exit_status == -9


async def test_what_it_says_on_standard_error_is_logged_clipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    child = await start("import sys; sys.stderr.write('a\\x1b\\n' + 'y' * 9000)")
    async with asyncio.timeout(20):
        await child.drain_errors()
        await child.close()
    assert caplog.messages[0] == "up: a\\x1b"
    assert max(map(len, caplog.messages)) < 600


def test_limits_are_written_for_the_launcher() -> None:
    assert ProcessLimits().to_text() == "CORE=0,NOFILE=4096"
    assert ProcessLimits(None, 1, 2).to_text() == "CORE=0,AS=1,NPROC=2"


def test_a_command_is_checked_without_starting_it(tmp_path: Path) -> None:
    processes = Processes()
    processes.check(Command(sys.executable))
    with pytest.raises(ConfigError):
        processes.check(Command(sys.executable, cwd=str(tmp_path / "missing")))
    assert "limits" in processes.describe(Command(sys.executable))
