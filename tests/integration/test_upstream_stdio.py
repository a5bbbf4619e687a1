"""Upstreams behind real processes: both eras, questions of two users at once, and everything that breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import upstream_servers as servers
from tests.support.providers import ALICE, BOB
from tests.support.upstreams import RUN, children, nothing_left, opened, ready, script
from waygate_mcp.errors import (
    ConfigError,
    TooLargeError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN
from waygate_mcp.testing.fakes import (
    ALL_CAPABILITIES,
    RecordingCaller,
    accepted,
    call_tool,
    text_of,
)
from waygate_mcp.upstreams import sandbox
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.process import Processes
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.upstreams.streamable_http import EraChoice

LINES = script(servers.LINES)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    with nothing_left():
        yield


async def tool(
    provider: SteadyUpstream, name: str, /, who: Principal = ALICE, **arguments: Any
) -> str:
    async with asyncio.timeout(30):
        return text_of(await call_tool(provider, name, arguments, principal=who))


def asker(name: str) -> RecordingCaller:
    return RecordingCaller([accepted({"name": name})])


# --- both eras, real servers


@pytest.mark.parametrize("era", ["auto", "legacy", "modern"])
@pytest.mark.parametrize("source", [servers.SDK, servers.FASTMCP], ids=["sdk", "fastmcp"])
async def test_a_server_of_a_library_is_called_in_each_era_by_clients_of_each(
    source: str, era: EraChoice
) -> None:
    async with opened(script(source, era=era)) as provider:
        await ready(provider)
        assert provider.status.eras == (("legacy",) if era == "legacy" else ("modern",))
        listing = await provider.listing(Kind.TOOL, Viewer(ALICE, ALL_CAPABILITIES))
        assert [entry.name for entry in listing.entries] == ["add"]
        for revision in (MODERN, LATEST_LEGACY):
            outcome = await call_tool(provider, "add", {"a": 1, "b": 2}, revision=revision)
            assert text_of(outcome) == "3"


async def test_a_server_that_answers_no_probe_is_asked_to_shake_hands_in_the_same_process() -> None:
    silent = servers.LINES.replace("    elif identifier is not None:", "    elif False:")
    async with opened(script(silent, probe_timeout_s=0.5)) as provider:
        await ready(provider)
        assert provider.status.eras == ("legacy",)
        assert len(children()) == 1
        assert await tool(provider, "echo", text="hi") == "hi"


# --- who is asked


async def test_two_users_who_are_asked_at_once_each_get_their_own_question() -> None:
    async with opened(LINES) as provider:
        await ready(provider)
        callers = {ALICE: asker("Alice"), BOB: asker("Bob")}
        outcomes = await asyncio.gather(
            *(
                call_tool(provider, "ask", {"seconds": 0.2}, caller=caller, principal=who)
                for who, caller in callers.items()
            )
        )
        names = [json.loads(text_of(outcome))["content"]["name"] for outcome in outcomes]
        assert names == ["Alice", "Bob"]


async def test_a_question_nobody_can_be_said_to_own_is_refused_and_then_calls_are_kept_apart() -> (
    None
):
    config = script(servers.LINES, sessions="shared")
    async with opened(config) as provider:
        await ready(provider)
        callers = [asker("Alice"), asker("Bob")]
        slowly = {"seconds": 0.5, "after": 0.5}

        async def both() -> list[Any]:
            outcomes = await asyncio.gather(
                *(
                    call_tool(provider, "ask", slowly, caller=caller, principal=who)
                    for who, caller in zip((ALICE, BOB), callers, strict=True)
                )
            )
            return [json.loads(text_of(outcome)) for outcome in outcomes]

        first = await both()
        assert [one["code"] for one in first] == [-32601, -32601]
        assert callers[0].questions == callers[1].questions == []
        assert provider.status.refused_questions == 2
        assert provider.status.is_interactive
        second = await both()
        assert [one["content"]["name"] for one in second] == ["Alice", "Bob"]


async def test_principals_never_share_a_process_unless_it_is_declared_harmless() -> None:
    async with opened(LINES) as provider:
        pids = {await tool(provider, "pid", who) for who in (ALICE, ALICE, BOB)}
        assert len(pids) == 2
    async with opened(script(servers.LINES, sessions="shared")) as provider:
        assert len({await tool(provider, "pid", who) for who in (ALICE, ALICE, BOB)}) == 1
    async with opened(script(servers.LINES, sessions="request")) as provider:
        assert len({await tool(provider, "pid") for _ in range(3)}) == 3


async def test_many_calls_in_flight_are_told_apart() -> None:
    async with opened(LINES) as provider:
        words = [f"{number}" * 50 for number in range(200)]
        said = await asyncio.gather(*(tool(provider, "echo", text=word) for word in words))
        assert said == words


async def test_idle_processes_are_ended() -> None:
    async with opened(script(servers.LINES, session_idle_s=0.2)) as provider:
        await tool(provider, "echo", text="x")
        before = children()
        assert len(before) == 2
        async with asyncio.timeout(15):
            while len(children()) > 1:  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(0.1)


# --- what breaks


async def test_a_crash_fails_what_was_in_flight_and_the_next_call_starts_it_again() -> None:
    async with opened(LINES) as provider:
        first = await tool(provider, "pid")
        sleeping = asyncio.create_task(tool(provider, "sleep", seconds=30))  # noqa: TID251
        await asyncio.sleep(0.1)
        with pytest.raises(UpstreamTimeoutError):
            await tool(provider, "crash")
        with pytest.raises(UpstreamTimeoutError):
            await sleeping
        assert await tool(provider, "pid") != first


async def test_a_process_that_flaps_is_started_less_and_less_often_and_others_are_unharmed() -> (
    None
):
    async with opened(LINES) as provider, opened(LINES) as other:
        failures: list[type[UpstreamError]] = []
        for _ in range(8):
            with pytest.raises(UpstreamError) as caught:
                await tool(provider, "crash")
            failures.append(type(caught.value))
        assert failures[:2] == [UpstreamTimeoutError] * 2
        assert issubclass(failures[-1], UpstreamUnavailableError)  # nothing was sent
        assert provider.status.state in ("down", "failing")
        assert await tool(other, "echo", text="fine") == "fine"


async def test_garbage_and_invented_answers_between_messages_harm_nobody() -> None:
    async with opened(LINES) as provider:
        assert await tool(provider, "garbage") == "after garbage"
        assert await tool(provider, "echo", text="still there") == "still there"


async def test_a_line_of_100_mb_ends_the_process_and_not_the_gateway() -> None:
    async with opened(LINES) as provider:
        with pytest.raises(TooLargeError):
            await tool(provider, "huge")
        assert await tool(provider, "echo", text="again") == "again"


async def test_endless_words_on_standard_error_are_read_and_clipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with opened(LINES) as provider:
        assert await tool(provider, "noise") == "noisy"
    noise = [one.getMessage() for one in caplog.records if "noise" in one.getMessage()]
    assert 100 <= len(noise) <= 400
    assert not any("\x1b" in line for line in noise)
    assert max(len(one.getMessage()) for one in caplog.records) < 1_000


async def test_a_child_that_ignores_its_input_and_sigterm_is_killed() -> None:
    stubborn = UpstreamConfig(
        command=sys.executable,
        args=("-u", "-c", servers.LINES, "stubborn"),
        env={"TEST_RUN_OF_UPSTREAMS": RUN},
        sessions="shared",
        sandbox="none",
    )
    async with opened(stubborn) as provider:
        assert await tool(provider, "echo", text="x") == "x"
        assert len(children()) == 1


async def test_what_a_child_started_ends_with_it_in_its_group_or_out_of_it() -> None:
    async with opened(LINES) as provider:
        pids = [int(one) for one in (await tool(provider, "offspring")).split()]
        assert set(pids) <= children()
    for _ in range(250):  # a busy machine takes a moment to bury what was killed
        if not children() & set(pids):
            break
        await asyncio.sleep(0.02)
    assert not children() & set(pids)


async def test_a_program_that_ends_at_once_leaves_a_provider_that_says_why() -> None:
    async with opened(script("raise SystemExit(1)", era="legacy")) as provider:
        await ready(provider)
        listing = await provider.listing(Kind.TOOL, Viewer(ALICE, ALL_CAPABILITIES))
        assert listing.entries == ()
        assert "ended" in provider.status.last_error
        with pytest.raises(UpstreamUnavailableError):
            await tool(provider, "echo")


async def test_a_call_nobody_waits_for_is_cancelled_there_and_leaves_the_line_in_order() -> None:
    async with opened(LINES) as provider:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await call_tool(provider, "sleep", {"seconds": 0.6}, principal=ALICE)
        await asyncio.sleep(0.5)  # its answer comes and is dropped
        assert await tool(provider, "echo", text="in order") == "in order"


# --- what a child is given


async def test_a_child_sees_a_minimal_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "hush")
    async with opened(script(servers.LINES, env={"TOKEN": "t"})) as provider:
        seen = json.loads(await tool(provider, "environment"))
    assert "SECRET_OF_THE_GATEWAY" not in seen
    assert seen["TOKEN"] == "t"
    names = {"PATH", "HOME", "LANG", "TMPDIR", "TOKEN", "WAYGATE_CHILD", "LC_CTYPE"}
    seen.pop("TEST_RUN_OF_UPSTREAMS")
    assert set(seen) - {"__CF_USER_TEXT_ENCODING"} <= names


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (UpstreamConfig(), "url"),
        (UpstreamConfig(url="http://h/", command="true"), "url"),
        (UpstreamConfig(command="./server"), "command"),
        (UpstreamConfig(command="no-such-program-anywhere"), "command"),
        (UpstreamConfig(command="true", cwd="/no/such/folder"), "cwd"),
        (UpstreamConfig(command="true", env={"LD_PRELOAD": "x.so"}), "env.LD_PRELOAD"),
        (UpstreamConfig(command="true", env={"WAYGATE_CHILD": "x"}), "env.WAYGATE_CHILD"),
    ],
)
async def test_what_no_retry_can_heal_is_an_error_of_the_configuration(
    config: UpstreamConfig, path: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        async with opened(config):
            pass
    assert caught.value.path == path


@pytest.mark.skipif(sandbox.probe() is None, reason="bubblewrap does not work here")
async def test_inside_bubblewrap_a_child_sees_no_process_but_its_own(tmp_path: Path) -> None:
    async with opened(script(servers.LINES, sandbox="bubblewrap")) as provider:
        assert "bubblewrap" in provider.status.sandbox
        assert int(await tool(provider, "pid")) < 10


# --- a gateway that is killed

GATEWAY = """
import asyncio, sys
from pathlib import Path
from tests.support.upstreams import opened, script
from tests.integration import upstream_servers as servers
from waygate_mcp.testing.fakes import call_tool, text_of

async def main():
    async with opened(script(servers.LINES), run_folder=Path(sys.argv[1])) as provider:
        print(text_of(await call_tool(provider, "offspring")), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_gateway_left_behind_is_ended_by_the_next(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
    )
    assert gateway.stdout is not None
    with gateway, gateway.stdout:
        pids = {int(one) for one in gateway.stdout.readline().split()}
        assert pids <= children()
        assert Processes(tmp_path).reap() == 0, "its gateway still runs"
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
    assert pids & children(), "grandchildren outlive it"
    assert Processes(tmp_path).reap() >= 1
    assert list(tmp_path.iterdir()) == []
    deadline = 100
    while pids & children() and deadline:
        deadline -= 1
        os.sched_yield()
    assert not pids & children()
