"""What upstreams can do, kept over restarts: one small file nothing depends on."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.providers import TaskGroupSupervisor
from waygate_mcp.config.file_lock import locked
from waygate_mcp.config.secrets import SecretText
from waygate_mcp.errors import LimitError
from waygate_mcp.model.catalog import Features
from waygate_mcp.model.facts import Facts
from waygate_mcp.runtime import facts as facts_module
from waygate_mcp.runtime.facts import FactFile, facts_key
from waygate_mcp.upstreams.opening import UpstreamConfig

FACTS = Facts(Features(tools=True), "Be kind.", ("modern",), "2026-07-28")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "DELAY_S", 0)


class Kept:
    """A fact file of a test, and the time it is told."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1_000.0
        self.path = folder / "upstreams.json"
        self.supervisor = TaskGroupSupervisor()
        self.file = FactFile(self.path, self.supervisor, lambda: self.now_s)

    async def end(self) -> None:
        await self.file.close()
        await self.supervisor.close()


async def again(folder: Path) -> Kept:
    """What the next start sees."""
    kept = Kept(folder)
    await kept.file.load()
    return kept


async def test_what_was_found_is_there_after_a_restart_with_its_time(tmp_path: Path) -> None:
    first = await again(tmp_path)
    assert first.file.recall("up", "k") is None
    first.file.keep("up", "k", FACTS)
    await first.end()
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["upstreams.json", "upstreams.json.lock"]
    second = await again(tmp_path)
    found = second.file.recall("up", "k")
    assert found is not None
    assert (found.features, found.instructions) == (Features(tools=True), "Be kind.")
    assert (found.eras, found.revision, found.found_at_s) == (("modern",), "2026-07-28", 1_000.0)
    assert second.file.recall("up", "another") is None
    await second.end()


async def test_it_is_written_in_the_background_and_only_where_something_changed(
    tmp_path: Path,
) -> None:
    kept = await again(tmp_path)
    kept.file.keep("up", "k", FACTS)
    kept.file.keep("other", "k", FACTS)
    await asyncio.wait(kept.supervisor.tasks, timeout=5)
    before = kept.path.stat()
    kept.now_s += 100
    kept.file.keep("up", "k", FACTS)
    assert not kept.supervisor.tasks
    await kept.end()
    assert kept.path.stat().st_ino == before.st_ino
    found = kept.file.recall("up", "k")
    assert found is not None
    assert found.found_at_s == 1_000.0


SOUND = '{"format": 1, "upstreams": []}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\xff\xfe",
        "[]",
        '{"format": 2, "upstreams": []}',
        '{"format": 1, "upstreams": [{"name": "a", "key": 1}]}',
        SOUND + " " * (8 * 1024 * 1024),
    ],
)
async def test_a_file_that_is_damaged_is_ignored_said_and_written_anew(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "upstreams.json"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with capture_logs() as lines:
        kept = await again(tmp_path)
    assert [line["event"] for line in lines] == ["upstream_facts_ignored"]
    kept.file.keep("up", "k", FACTS)
    await kept.end()
    assert (await again(tmp_path)).file.recall("up", "k") is not None


async def test_a_file_others_can_write_is_not_believed(tmp_path: Path) -> None:
    first = await again(tmp_path)
    first.file.keep("up", "k", FACTS)
    await first.end()
    first.path.chmod(0o666)
    assert (await again(tmp_path)).file.recall("up", "k") is None
    first.path.chmod(0o600)
    first.path.rename(tmp_path / "elsewhere")
    first.path.symlink_to(tmp_path / "elsewhere")
    assert (await again(tmp_path)).file.recall("up", "k") is None


async def test_a_damaged_file_is_written_anew_even_where_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "upstreams.json").write_text("{")
    await (await again(tmp_path)).end()
    assert '"upstreams": []' in (tmp_path / "upstreams.json").read_text()


async def test_two_processes_keep_what_the_other_found(tmp_path: Path) -> None:
    one, two = await again(tmp_path), await again(tmp_path)
    one.file.keep("a", "k", FACTS)
    await one.end()
    two.file.keep("b", "k", FACTS)
    await two.end()
    third = await again(tmp_path)
    assert third.file.recall("a", "k") is not None
    assert third.file.recall("b", "k") is not None


async def test_closing_in_the_middle_of_a_write_waits_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge, begun, may_go_on = facts_module._merge, threading.Event(), threading.Event()
    done: list[Path] = []

    def slow(path: Path, ours: Any) -> None:
        if not begun.is_set():
            begun.set()
            may_go_on.wait(5)
        merge(path, ours)
        done.append(path)

    monkeypatch.setattr(facts_module, "_merge", slow)
    kept = await again(tmp_path)
    kept.file.keep("up", "k", FACTS)
    await asyncio.to_thread(begun.wait, 5)
    await kept.file.close()
    assert done, "it was written when closing was over, whatever became of the first thread"
    may_go_on.set()
    await kept.supervisor.close()
    assert (await again(tmp_path)).file.recall("up", "k") is not None


async def test_what_another_process_found_later_is_not_overwritten(tmp_path: Path) -> None:
    early, late = await again(tmp_path), await again(tmp_path)
    early.file.keep("up", "k", FACTS)
    early.file.keep("mine", "k", FACTS)
    late.now_s += 1
    late.file.keep("up", "k", msgspec.structs.replace(FACTS, revision="later"))
    await late.end()
    await early.end()
    third = await again(tmp_path)
    found = third.file.recall("up", "k")
    assert found is not None
    assert found.revision == "later"
    assert third.file.recall("mine", "k") is not None
    await third.end()


async def test_while_another_process_writes_nothing_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "LOCK_WAIT_S", 0.05)
    kept = await again(tmp_path)
    kept.file.keep("up", "k", FACTS)
    with locked(kept.path, 0), capture_logs() as logged:
        await kept.end()
    assert [line["event"] for line in logged] == ["upstream_facts_not_kept"]
    assert not kept.path.exists()


async def test_what_was_configured_before_is_known_again_when_it_comes_back(tmp_path: Path) -> None:
    kept = await again(tmp_path)
    kept.file.keep("up", "old", FACTS)
    kept.file.keep("up", "new", Facts(Features()))
    kept.file.keep("up", "old", Facts(Features(), eras=("legacy",)))
    await kept.end()
    after = await again(tmp_path)
    old, new = after.file.recall("up", "old"), after.file.recall("up", "new")
    assert old is not None
    assert new is not None
    assert (old.eras, new.eras) == (("legacy",), ())


async def test_the_file_is_bounded_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "MAX_ENTRIES", 2)
    kept = await again(tmp_path)
    for name in ("old", "new", "newest"):
        kept.now_s += 1
        kept.file.keep(name, "k", Facts(Features(), "x" * 100_000))
    await kept.end()
    assert kept.path.stat().st_size < 20_000
    after = await again(tmp_path)
    assert [after.file.recall(name, "k") is not None for name in ("old", "new", "newest")] == [
        False, True, True,
    ]  # fmt: skip


async def test_what_cannot_be_written_is_said_and_stays_in_memory(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "nowhere")
    await kept.file.load()
    kept.file.keep("up", "k", FACTS)
    with capture_logs() as lines:
        await kept.end()
    assert [line["event"] for line in lines] == ["upstream_facts_not_kept"]
    assert kept.file.recall("up", "k") is not None


async def test_what_is_found_at_the_very_end_is_written_by_the_end(tmp_path: Path) -> None:
    kept = await again(tmp_path)

    def refuse(coroutine: Any, *, name: str) -> Any:
        coroutine.close()
        raise LimitError(f"{name}: the server stops", limit="tasks")

    kept.supervisor.start = refuse  # type: ignore[method-assign]  # as a closed supervisor does
    kept.file.keep("up", "k", FACTS)
    await kept.end()
    assert (await again(tmp_path)).file.recall("up", "k") is not None


def test_the_key_tells_upstreams_apart_and_holds_no_secret() -> None:
    url = UpstreamConfig(url="https://h/mcp", headers={"Authorization": "a"})
    assert facts_key(url) == facts_key(
        UpstreamConfig(url="https://h/mcp", headers={"Authorization": "b"}, open_timeout_s=1)
    )
    others = [
        UpstreamConfig(url="https://h/other", headers={"Authorization": "a"}),
        UpstreamConfig(url="https://h/mcp"),
        UpstreamConfig(url="https://h/mcp", headers={"Authorization": "a"}, era="legacy"),
        UpstreamConfig(command="x"),
        UpstreamConfig(command="x", args=("y",)),
        UpstreamConfig(command="x", env={"Y": ""}),
    ]
    assert len({facts_key(each) for each in [url, *others]}) == 7
    assert facts_key(UpstreamConfig(command="x", args=(SecretText("one"),))) == facts_key(
        UpstreamConfig(command="x", args=(SecretText("two"),))
    )
