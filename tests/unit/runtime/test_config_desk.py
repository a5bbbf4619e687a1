"""The document, changed while it is in force: on a whole house, its file and its database."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import open_house, settings_in
from waygate_mcp.config.files import alone_in
from waygate_mcp.errors import ConfigError, PluginError, StorageError, UnknownNameError
from waygate_mcp.model.applied import BY_FILE, digest_of
from waygate_mcp.runtime import config_desk
from waygate_mcp.runtime.config_desk import (
    ApplyBrokenError,
    ConfigDesk,
    DocumentChangedError,
    NotKeptError,
    Wish,
    desk_of,
)
from waygate_mcp.runtime.house import House
from waygate_mcp.storage.config_history import ConfigHistory
from waygate_mcp.web.guard import Guard

HELLO = "waygate_mcp.plugins.builtin.hello"
FIRST = f"# written by hand\nplugins:\n  hello: {{use: {HELLO}}}\n"
SECOND = f"{FIRST}endpoints:\n  dev: {{bind: [hello]}}  # for people who try things\n"


class Place:
    """A house, its desk and its document."""

    def __init__(self, house: House[Guard], file: Path) -> None:
        self.house = house
        self.file = file

    @property
    def desk(self) -> ConfigDesk:
        return desk_of(self.house)

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def wish(self, **more: Any) -> Wish:
        return Wish(**{"base": self.desk.digest, "by": "key:ada", "reason": "a test"} | more)

    async def history(self) -> list[tuple[str, str]]:
        _, found = await self.desk.history(skip=0, limit=100)
        return [(one.text, one.applied_by) for one in found]

    async def noted(self) -> None:
        """Let the history hold what is in force, which it does soon by itself."""
        await asyncio.sleep(0)  # the look at the start is first
        await self.house.document_record.note("looked at")

    def is_as_before(self, number: int = 1) -> bool:
        """Whether an apply left nothing behind."""
        return self.text == FIRST and self.house.current().number == number


@asynccontextmanager
async def open_place(folder: Path, text: str = FIRST) -> AsyncIterator[Place]:
    file = folder / "waygate.yaml"
    file.write_text(text, encoding="utf-8")
    async with open_house(settings_in(folder)) as house:
        place = Place(house, file)
        house.keep_document_history()
        await place.noted()
        yield place


async def test_a_plan_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        plan = await place.desk.plan(SECOND + "limits: {page_size: 7}\n")
        assert plan.problems == ()
        assert plan.base == place.desk.digest == digest_of(FIRST.encode())
        assert [(one.kind, one.path) for one in plan.changes] == [
            ("changed", "limits.page_size"),
            ("added", "endpoints.dev"),
        ]
        assert plan.changes[0].new == 7
        assert plan.changes[1].new["bind"] == ["hello"]
        assert place.is_as_before()
        assert len(await place.history()) == 1


async def test_a_plan_names_each_problem_with_its_place_and_the_nearest_word(
    tmp_path: Path,
) -> None:
    async with open_place(tmp_path) as place:
        (wrong,) = (await place.desk.plan("endpoint: {}\n")).problems
        assert (wrong.path, wrong.line, wrong.suggestion) == ("endpoint", 1, "endpoints")
        text = f"plugins:\n  hello:\n    use: {HELLO}\n    config: {{a: '${{secret:NOWHERE}}'}}\n"
        (missing,) = (await place.desk.plan(text)).problems
        assert (missing.path, missing.line) == ("plugins.hello.config.a", 4)


async def test_what_is_applied_is_in_force_in_the_file_and_in_the_history(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        place.file.chmod(0o640)
        done = await place.desk.apply(SECOND, place.wish())
        assert "dev" in place.house.current().gateway.endpoints
        assert (done.generation, place.house.current().number) == (2, 2)
        assert place.text == SECOND
        assert stat.S_IMODE(place.file.stat().st_mode) == 0o640
        assert place.desk.digest == await place.desk.file_digest() == done.entry.digest
        assert [one.path for one in done.changes] == ["endpoints.dev"]
        assert not place.house.reloader._is_stale(), "who watches files need not load it again"
        await place.house.reload("again")
        await place.house.document_record.note("again")
        assert await place.history() == [(SECOND, "key:ada"), (FIRST, BY_FILE)]
        entry = await place.desk.entry(done.entry.number)
        assert (entry.text, entry.reason, entry.is_masked) == (SECOND, "a test", False)


async def test_each_apply_is_recorded_before_and_after_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise ValueError('not today')", encoding="utf-8")
    leave = f"server: {{remote_changes: all}}\n{FIRST}"
    async with open_place(tmp_path) as place:
        await place.desk.apply(SECOND, place.wish(request_id="r-1"))
        with pytest.raises(ConfigError):
            await place.desk.apply(leave, place.wish())
        with pytest.raises(DocumentChangedError):
            await place.desk.apply(FIRST, place.wish(base="0" * 64))
        await place.desk.roll_back(1, place.wish())
        place.file.write_text(leave, encoding="utf-8")
        await place.house.reload("by hand")
        with pytest.raises((ConfigError, PluginError)):
            await place.desk.apply(f"{leave}  bad: {{use: ./bad.py}}\n", place.wish())
    acts = [one for one in journal(tmp_path) if str(one.get("name")).startswith("config.")]
    assert {one["principal"] for one in acts} == {"key:ada"}
    assert [(one["name"], one["outcome"]) for one in acts] == [
        ("config.apply", "begun"),
        ("config.apply", "done"),
        ("config.apply", "refused"),
        ("config.apply", "refused"),
        ("config.rollback", "begun"),
        ("config.rollback", "done"),
        ("config.apply", "begun"),
        ("config.apply", "failed"),
    ]
    assert acts[1]["details"]["number"] == 2
    assert acts[1]["request_id"] == "r-1"
    assert acts[2]["details"]["problems"] == ["server.remote_changes"]


async def test_without_a_journal_nothing_is_recorded(tmp_path: Path) -> None:
    async with open_place(tmp_path, f"audit: {{enabled: false}}\n{FIRST}") as place:
        await place.desk.apply(f"audit: {{enabled: false}}\n{SECOND}", place.wish())
    assert not [one for one in journal(tmp_path) if one.get("name") == "config.apply"]


async def test_a_rollback_is_an_apply_like_any_other(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        await place.desk.apply(SECOND, place.wish())
        done = await place.desk.roll_back(1, place.wish(reason=""))
        assert (place.text, done.entry.reason, done.entry.number) == (FIRST, "rollback to 1", 3)
        assert "dev" not in place.house.current().gateway.endpoints
        with pytest.raises(UnknownNameError):
            await place.desk.roll_back(99, place.wish())


async def test_two_editors_do_not_overwrite_one_another(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        wish = place.wish()
        results = await asyncio.gather(
            place.desk.apply(SECOND, wish),
            place.desk.apply(f"{FIRST}limits: {{page_size: 7}}\n", wish),
            return_exceptions=True,
        )
        assert [type(one).__name__ for one in results] == ["Applied", "DocumentChangedError"]
        assert place.text == SECOND


async def test_an_edit_by_hand_that_is_not_loaded_is_not_overwritten(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        wish = place.wish()
        place.file.write_text("# mine\n" + FIRST, encoding="utf-8")
        with pytest.raises(DocumentChangedError):
            await place.desk.apply(SECOND, wish)
        assert place.text.startswith("# mine")
        await place.house.reload("by hand")
        await place.noted()
        assert (await place.history())[0] == ("# mine\n" + FIRST, BY_FILE)


async def test_who_comes_while_a_document_is_built_or_written_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_place(tmp_path) as place:
        with alone_in(tmp_path), pytest.raises(DocumentChangedError):
            await place.desk.apply(SECOND, place.wish())
        assert place.is_as_before()
        real = config_desk._text_of
        looks = iter(["", "# mine\n"])
        monkeypatch.setattr(config_desk, "_text_of", lambda path: next(looks) + real(path))
        with pytest.raises(DocumentChangedError):
            await place.desk.apply(SECOND, place.wish())
        assert place.is_as_before()
        assert len(await place.history()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
async def test_a_file_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with open_place(tmp_path) as place:

        def full(_: int) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(ApplyBrokenError, match=os.strerror(number)) as caught:
                await place.desk.apply(SECOND, place.wish())
        assert str(tmp_path) not in str(caught.value)
        assert place.is_as_before()
        assert "dev" not in place.house.current().gateway.endpoints
        assert len(await place.history()) == 1
        assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "waygate.yaml"]
        await place.desk.apply(SECOND, place.wish())
        assert place.text == SECOND


async def test_a_file_that_cannot_be_read_or_is_none_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_place(tmp_path) as place:
        place.file.write_bytes(b"\xff")
        assert await place.desk.file_digest() is None
        with pytest.raises(DocumentChangedError):
            await place.desk.apply(SECOND, place.wish())
        with pytest.raises(ApplyBrokenError):
            config_desk._text_of(place.file)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "waygate.yaml").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_house(settings_in(tmp_path, data_dir=tmp_path / "other")) as house:
        desk = desk_of(house)
        assert (desk.has_file, desk.text) == (False, "")
        assert await desk.file_digest() == desk.digest
        with pytest.raises(DocumentChangedError, match="without a document"):
            await desk.apply(SECOND, Wish(desk.digest, "key:ada"))
        await house.document_record.note("nothing")
        assert (await desk.history(skip=0, limit=1))[0] == 0


async def test_nothing_is_applied_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_place(tmp_path) as place:

        async def gone(*_: Any, **__: Any) -> Any:
            raise StorageError("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(ConfigHistory, "add", gone)
            with pytest.raises(StorageError):
                await place.desk.apply(SECOND, place.wish())
            await place.house.document_record.note("a reload that meets it")
        assert place.is_as_before()
        with monkeypatch.context() as patch:
            # Recorded, then not written, then not taken back: what comes next sets it right.
            patch.setattr(ConfigHistory, "remove", gone)
            patch.setattr(config_desk, "write_whole", _raises(ConfigError("is no regular file")))
            with pytest.raises(ApplyBrokenError, match="no regular file"):
                await place.desk.apply(SECOND, place.wish())
        assert place.is_as_before()
        await place.house.document_record.note("the next look")
        texts = [text for text, _ in await place.history()]
        assert texts == [FIRST, SECOND, FIRST]


async def test_an_apply_that_is_cut_off_leaves_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_place(tmp_path) as place:
        monkeypatch.setattr(config_desk, "write_whole", _raises(asyncio.CancelledError()))
        with pytest.raises(asyncio.CancelledError):
            await place.desk.apply(SECOND, place.wish())
        assert place.is_as_before()
        assert len(await place.history()) == 1


@pytest.mark.parametrize("plugin", ["raise ValueError('not today')", "x = 1"])
async def test_a_plugin_that_does_not_open_is_never_written(tmp_path: Path, plugin: str) -> None:
    (tmp_path / "bad.py").write_text(plugin, encoding="utf-8")
    text = f"server: {{remote_changes: all}}\n{FIRST}"
    async with open_place(tmp_path, text) as place:
        with pytest.raises((ConfigError, PluginError)):
            await place.desk.apply(f"{text}  bad: {{use: ./bad.py}}\n", place.wish())
        assert place.text == text
        assert place.house.current().number == 1
        assert place.house.reloader.last is None, "no reload failed: none was tried"
        assert len(await place.history()) == 1


async def test_after_a_kill_the_file_is_the_truth_and_the_history_says_so(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place:
        # Killed between the record and the file.
        await place.desk._record.history.add(digest_of(b"x"), "x", "key:ada", "cut off")
    async with open_house(settings_in(tmp_path)) as house:
        place = Place(house, tmp_path / "waygate.yaml")
        house.keep_document_history()
        await place.noted()
        assert (await place.history())[0] == (FIRST, BY_FILE)
        # Killed between the file and the swap.
        await place.desk._record.history.add(digest_of(SECOND.encode()), SECOND, "key:ada", "")
        place.file.write_text(SECOND, encoding="utf-8")
    async with open_house(settings_in(tmp_path)) as house:
        place = Place(house, tmp_path / "waygate.yaml")
        house.keep_document_history()
        await house.document_record.note("start")
        assert (await place.history())[0] == (SECOND, "key:ada")
        assert "dev" in house.current().gateway.endpoints


async def test_what_may_not_come_over_the_network_is_a_problem_and_a_rollback_brings_it_back(
    tmp_path: Path,
) -> None:
    own = f"{FIRST}upstreams:\n  files: {{command: /bin/false, sandbox: none, enabled: false}}\n"
    async with open_place(tmp_path, own) as place:
        assert (await place.desk.plan(own)).problems == ()
        (problem,) = (await place.desk.plan(own.replace("/bin/false", "/bin/sh"))).problems
        assert (problem.path, problem.line) == ("upstreams.files.command", 5)
        await place.desk.apply(FIRST, place.wish())
        assert (await place.desk.plan(own)).problems != ()
        await place.desk.roll_back(1, place.wish())
        assert place.text == own


async def test_a_secret_in_clear_is_refused_and_never_kept(tmp_path: Path) -> None:
    secret = "hunter2hunter2"
    own = (
        f"{FIRST}upstreams:\n  web:\n    url: https://web.example.org/mcp\n    enabled: false\n"
        f"    headers: {{X-Api-Key: {secret}}}  # to be moved\n"
    )
    async with open_place(tmp_path) as place:
        (problem,) = (await place.desk.plan(own)).problems
        assert (problem.path, problem.line) == ("upstreams.web.headers.X-Api-Key", 8)
        assert secret not in str(problem)
        place.file.write_text(own, encoding="utf-8")
        await place.house.reload("by hand")
        await place.noted()
        (entry, *_) = (await place.desk.history(skip=0, limit=1))[1]
        assert entry.is_masked
        assert entry.text == own.replace(secret, "(secret)")
        with pytest.raises(NotKeptError):
            await place.desk.roll_back(entry.number, place.wish())
        moved = own.replace(secret, '"${secret:WEB}"')
        (change,) = (await place.desk.plan(moved)).changes
        assert (change.old, change.new) == ("(secret)", "${secret:WEB}")
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


async def test_the_other_workers_are_told(tmp_path: Path) -> None:
    told: list[bool] = []

    class Peers:
        def tell_of_document(self) -> None:
            told.append(True)

    async with open_place(tmp_path) as place:
        desk = place.desk
        foundation = desk._foundation
        object.__setattr__(foundation, "peers", Peers())
        try:
            await desk.apply(FIRST + "# more\n", place.wish())
        finally:
            object.__setattr__(foundation, "peers", None)
        assert told == [True]


def journal(folder: Path) -> list[dict[str, Any]]:
    """All records of the audit journal."""
    files = sorted((folder / "data" / "audit").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def _raises(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail
