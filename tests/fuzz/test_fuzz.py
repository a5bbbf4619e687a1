"""The fuzzer in the test command: every input that once broke something, the corpus, then a minute of new ones.

`WAYGATE_FUZZ_SECONDS` says for how long; `scripts/fuzz.sh` runs for hours.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.application import PATIENCE_S, Application, Channel
from tests.fuzz.engine import Finding, check, check_memory, crashes, run, run_all, starts
from tests.fuzz.targets import TARGETS

SECONDS = float(os.environ.get("WAYGATE_FUZZ_SECONDS", "60"))
SEED = random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with Application(tmp_path_factory.mktemp("fuzzed")) as running:
        yield running


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_every_input_that_once_broke_a_target_pass(name: str) -> None:
    for data in [*starts(name), *(path.read_bytes() for path in crashes(name))]:
        check(TARGETS[name], data)
        check_memory(TARGETS[name], data)


def test_the_corpus_and_every_input_that_once_broke_the_application_pass(
    application: Application,
) -> None:
    for data in [*starts("app"), *(path.read_bytes() for path in crashes("app"))]:
        application(data)
        application.check_health()


def test_the_corpus_gets_past_the_first_doors(application: Application) -> None:
    application.statuses.clear()
    for data in starts("app"):
        application(data)
    served = sum(count for status, count in application.statuses.items() if status < 300)
    assert served > len(starts("app")) * 2 / 3, application.statuses


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_random_input_breaks_no_part_of_the_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        for report in run_all(SECONDS / 2, SEED, lambda text: print(f"\n{text}", end="")):
            assert report.inputs > 0


def test_the_corpus_and_every_line_that_once_broke_a_conversation_pass(tmp_path: Path) -> None:
    with Channel(tmp_path) as channel:
        for data in [*starts("channel"), *(path.read_bytes() for path in crashes("channel"))]:
            channel(data)
            channel.check_health()


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_random_lines_do_not_break_a_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Channel(tmp_path) as channel:
        report = run("channel", channel, SECONDS / 4, SEED, patience_s=4 * PATIENCE_S)
        channel.check_health()
    with capsys.disabled():
        print(f"\n{report}", end="")
    assert report.inputs > 0


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_random_requests_do_not_break_the_application(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run("app", application, SECONDS / 4, SEED, patience_s=4 * PATIENCE_S)
    application.check_health()
    report.notes = application.statuses
    with capsys.disabled():
        print(f"\n{report}", end="")
    assert report.inputs > 0


# ------------------------------------------------------------------ the fuzzer itself
def test_an_input_that_breaks_a_target_is_kept_and_named_with_its_seed(tmp_path: Path) -> None:
    def fragile(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("0xff")

    with pytest.raises(Finding, match="post: seed 5, input in") as caught:
        run("post", fragile, 20, 5, keep=tmp_path)
    assert isinstance(caught.value.__cause__, KeyError)
    assert b"\xff" in caught.value.path.read_bytes()
    with pytest.raises(Finding, match=caught.value.path.name):
        run("post", fragile, 20, 5, keep=tmp_path)


def test_work_that_grows_with_the_square_of_the_input_is_found() -> None:
    def quadratic(data: bytes) -> None:
        time.sleep(len(data) ** 2 / 1e9)

    check(quadratic, b"x" * 100)
    with pytest.raises(AssertionError, match="s for 40000 bytes"):
        check(quadratic, b"x" * 40_000)


def test_memory_far_beyond_the_input_is_found() -> None:
    def greedy(data: bytes) -> None:
        bytearray(100_000 * len(data))

    check_memory(greedy, b"x")
    with pytest.raises(AssertionError, match="bytes of memory for 100 bytes"):
        check_memory(greedy, b"x" * 100)
