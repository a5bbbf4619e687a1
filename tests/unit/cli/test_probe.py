"""Upstreams tried: what is asked of them, and how the outcome is shown. Real ones are tried in tests/integration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waygate_mcp.cli import probe as module
from waygate_mcp.cli.probe import (
    Probe,
    mend_of,
    print_probe,
    probe_as_json,
    probe_upstreams,
    progress,
)
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.model.catalog import Entry, Features, Kind, Listing, Viewer
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.status import Status

SECRET = "s3cr3t-canary-text"
READY = Status("a", "stdio", "ready", ("legacy",), "2025-11-25", latency_s=0.0123, sandbox="walls")
SECTION = UpstreamSection(command="sh", env={"K": "${env:CANARY}"})


class Provider:
    """An upstream that is opened when it is waited for."""

    def __init__(
        self,
        status: Status,
        *,
        takes_long: bool = False,
        listing_fails: bool = False,
        empty_first: int = 0,
    ) -> None:
        self.status = msgspec.structs.replace(status, state="opening")
        self.features = Features(tools=True, resources=True)
        self.opening: asyncio.Future[None] | None = None
        self._final = status
        self._fails = listing_fails
        self._empty = empty_first
        self.opening = asyncio.get_running_loop().create_future()
        if not takes_long:
            asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        assert self.opening is not None
        self.status = self._final
        self.opening.set_result(None)

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        assert viewer.capabilities.bits
        if self._fails:
            self.status = msgspec.structs.replace(self.status, last_error="its list is none")
            return Listing((), 1)
        if self._empty:
            self._empty -= 1
            return Listing((), 0)
        count = {Kind.TOOL: 3, Kind.RESOURCE: 2, Kind.TEMPLATE: 1}[kind]
        return Listing(tuple(Entry(kind, str(number), b"{}") for number in range(count)), 1)


def house(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    """Put a house of such providers in the real one's place."""

    class House:
        def __init__(self, supervisor: object, run_folder: object, hidden: object) -> None:
            assert run_folder is None, "run-files belong to a running gateway"

        async def __aenter__(self) -> House:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        @asynccontextmanager
        async def use(
            self, configs: Mapping[str, UpstreamConfig], announce: object
        ) -> AsyncIterator[tuple[Provider, ...]]:
            ((name, config),) = configs.items()
            assert config.env == {"K": SECRET}
            logging.getLogger("waygate_mcp.upstreams.process").info(
                "%s: %s", name, f"wrote {SECRET}"
            )
            logging.getLogger("waygate_mcp.upstreams.process").info("alone")
            logging.getLogger("waygate_mcp.upstreams.process").warning("%s: %s", name, "ours")
            logging.getLogger("waygate_mcp.upstreams.other").info("%s: %s", name, "ours")
            if "raises" in how:
                raise how["raises"]
            yield (Provider(how.get("status", READY), **how.get("more", {})),)

    monkeypatch.setattr(module, "UpstreamHouse", House)
    monkeypatch.setenv("CANARY", SECRET)


def try_one(section: UpstreamSection = SECTION) -> Probe:
    (probe,) = probe_upstreams({"a": section}, Path(), Settings())
    return probe


def test_what_it_offers_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house(monkeypatch)
    probe = try_one()
    assert (probe.is_well, probe.counts) == (True, {"tools": 3, "prompts": 0, "resources": 3})
    probe.took_s = 1.5
    print_probe(probe)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "a: well · stdio · legacy (2025-11-25) · 3 tools, 0 prompts, 3 resources · latency 12 ms · "
        "opened and listed in 1.50 s"
    )
    assert second == "    sandbox: walls"
    shown = probe_as_json(probe)
    assert (shown["well"], shown["eras"], shown["latency_s"], shown["problem"]) == (
        True, ["legacy"], 0.0123, None,
    )  # fmt: skip


def test_without_sandbox_and_latency_nothing_is_said_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house(monkeypatch, status=Status("a", "http", "ready"))
    print_probe(try_one())
    (line,) = capsys.readouterr().out.splitlines()
    assert "era unknown" in line
    assert "latency" not in line


def test_one_that_does_not_open_says_why_with_its_last_words_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Status("a", "stdio", "failing", last_error=f"its process ended, {SECRET}")
    house(monkeypatch, status=status)
    probe = try_one()
    assert not probe.is_well
    assert probe.lines == ("wrote ***",)
    print_probe(probe)
    assert capsys.readouterr().out.splitlines() == [
        "a: not well: its process ended, ***",
        "    it wrote: wrote ***",
        "    mend: run its command by hand in a terminal",
    ]
    assert probe_as_json(probe)["log"] == ["wrote ***"]


def test_one_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    house(monkeypatch, more={"takes_long": True})
    monkeypatch.setattr(module, "_SPARE_S", 0.0)
    section = SECTION.model_copy(
        update={"limits": SECTION.limits.model_copy(update={"open_timeout_s": 0.01})}
    )
    assert try_one(section).problem == "did not open within 0 s"


def test_one_whose_lists_fail_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    house(monkeypatch, more={"listing_fails": True})
    assert try_one().problem == "its list is none"


def test_a_list_that_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    house(monkeypatch, more={"empty_first": 3})
    probe = try_one()
    assert (probe.is_well, probe.counts["tools"]) == (True, 3)


def test_a_list_that_does_not_come_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    house(monkeypatch, more={"empty_first": 1_000_000_000})
    section = SECTION.model_copy(
        update={"limits": SECTION.limits.model_copy(update={"list_timeout_s": 0.01})}
    )
    assert try_one(section).problem == "its resources were not read within 0 s"


def test_what_is_raised_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house(monkeypatch, raises=UpstreamUnavailableError("a", "is gone"))
    assert try_one().problem == "is gone"
    monkeypatch.delenv("CANARY")
    probe = try_one()
    assert probe.problem == "upstreams.a.env.K: the environment variable 'CANARY' is not set"
    print_probe(probe)
    assert capsys.readouterr().out.startswith("a: not well: upstreams.a.env.K")
    assert probe_as_json(probe)["transport"] is None


def test_the_log_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("waygate_mcp")
    before = (logger.level, logger.propagate, list(logger.handlers))
    house(monkeypatch)
    done: list[str] = []
    probe_upstreams(
        {"a": SECTION, "b": SECTION}, Path(), Settings(), lambda one: done.append(one.name)
    )
    assert sorted(done) == ["a", "b"]
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_progress_is_told_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert progress(2) is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert progress(1) is None
    told = progress(2)
    assert told is not None
    told(Probe("a"))
    told(Probe("b"))
    assert capsys.readouterr().err.splitlines() == ["1 of 2: a", "2 of 2: b"]


@pytest.mark.parametrize(
    ("problem", "part"),
    [
        ("wants credentials (401)", "--secret-header Authorization"),
        ("db is at a private address (10.0.0.1), which is refused", "`network: private` below x"),
        ("https://a is not reached: refused", "is it running"),
        ("something else", ""),
    ],
)
def test_a_known_problem_has_its_mend(problem: str, part: str) -> None:
    assert part in mend_of(problem, "x")
