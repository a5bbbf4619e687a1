from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.house import open_house, settings_in, write_document
from waygate_mcp.errors import PluginError
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.testing.fakes import call_tool, text_of
from waygate_mcp.toolkit.toolbox import Toolbox

HELLO = {"use": "waygate_mcp.plugins.builtin.hello"}
GOOD: dict[str, Any] = {"plugins": {"hello": HELLO}}
MISSPELT: dict[str, Any] = {"plugins": {"hello": HELLO}, "endpints": {}}


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A plugin `lives` that says when it is opened and closed, and can be told to fail."""
    events: list[str] = []
    module: Any = ModuleType("plugin_that_lives")
    module.box = Toolbox()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if "fail" in events:
            raise RuntimeError("told to fail")
        events.append("open")
        yield
        events.append("close")

    module.lifespan = lifespan
    monkeypatch.setitem(sys.modules, "plugin_that_lives", module)
    return events


LIVING: dict[str, Any] = {"plugins": {"lives": {"use": "plugin_that_lives"}}}


async def until(is_so: Callable[[], bool]) -> None:
    """Let tasks run until something is so."""
    async with asyncio.timeout(5):
        for _ in iter(is_so, True):
            await asyncio.sleep(0)


async def settle() -> None:
    """Let the tasks of a generation that closes run to their end."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_changed_document_is_in_force_after_a_reload(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, GOOD)
    async with open_house(settings) as house:
        before = house.current()
        write_document(tmp_path / "waygate.yaml", GOOD | {"endpoints": {"dev": {}}})
        report = await house.reload("test")
        assert (report.is_done, report.number, report.problems) == (True, 2, ())
        after = house.current()
        assert after is not before
        assert (before.number, after.number) == (1, 2)
        assert set(after.gateway.endpoints) == {"default", "dev"}
        assert set(before.gateway.endpoints) == {"default"}


async def test_a_misspelt_key_keeps_the_old_generation_and_is_named(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        before = house.current()
        write_document(tmp_path / "waygate.yaml", MISSPELT)
        with capture_logs() as lines:
            report = await house.reload("test")
        assert not report.is_done
        assert report.number == 1
        (problem,) = report.problems
        assert "endpints: unknown key (did you mean `endpoints`?)" in problem
        assert house.current() is before
        assert house.reloader.last is report
        assert [line["event"] for line in lines] == ["reload_failed"]


async def test_after_a_failed_reload_the_next_good_one_works(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        write_document(tmp_path / "waygate.yaml", MISSPELT)
        await house.reload("test")
        write_document(tmp_path / "waygate.yaml", GOOD)
        assert (await house.reload("test")).is_done
        assert house.current().number == 2


async def test_a_document_that_is_gone_keeps_the_old_generation(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        (tmp_path / "waygate.yaml").unlink()
        assert not (await house.reload("test")).is_done
        assert house.current().number == 1


async def test_a_plugin_that_fails_to_open_keeps_the_old_generation_open(
    tmp_path: Path, lives: list[str]
) -> None:
    async with open_house(settings_in(tmp_path, LIVING)) as house:
        lives.append("fail")
        report = await house.reload("test")
        assert not report.is_done
        assert "told to fail" in report.problems[0]
        await settle()
        assert "close" not in lives
    assert lives == ["open", "fail", "close"]


async def test_a_house_whose_first_generation_fails_does_not_open(
    tmp_path: Path, lives: list[str]
) -> None:
    lives.append("fail")
    with pytest.raises(PluginError):
        async with open_house(settings_in(tmp_path, LIVING)):
            raise AssertionError("it opened")
    assert lives == ["fail"]


async def test_the_old_generation_closes_when_nobody_uses_it(
    tmp_path: Path, lives: list[str]
) -> None:
    async with open_house(settings_in(tmp_path, LIVING)) as house:
        await house.reload("test")
        await settle()
        assert lives == ["open", "open", "close"]
    assert lives == ["open", "open", "close", "close"]


async def test_the_old_generation_stays_while_a_call_uses_it(
    tmp_path: Path, lives: list[str]
) -> None:
    async with open_house(settings_in(tmp_path, LIVING)) as house:
        with house.current().in_use():
            await house.reload("test")
            await settle()
            assert lives == ["open", "open"]
        await settle()
        assert lives == ["open", "open", "close"]


async def test_a_call_of_an_old_generation_cannot_keep_it_for_ever(
    tmp_path: Path, lives: list[str]
) -> None:
    limits = {"call_timeout_s": 0.001, "parked_call_timeout_s": 0.001}
    async with open_house(settings_in(tmp_path, LIVING | {"limits": limits})) as house:
        house.current().calls.hold()
        with capture_logs() as lines:
            await house.reload("test")
            await until(lambda: "close" in lives)
        assert "generation_closed_in_use" in [line["event"] for line in lines]


async def test_closing_the_house_closes_a_generation_that_still_drains(
    tmp_path: Path, lives: list[str]
) -> None:
    async with open_house(settings_in(tmp_path, LIVING)) as house:
        house.current().calls.hold()
        await house.reload("test")
    assert lives == ["open", "open", "close", "close"]


async def test_requests_that_come_together_are_one_reload(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        for _ in range(5):
            house.request_reload("SIGHUP")
        await until(lambda: house.current().number == 2)
        await settle()
        assert house.current().number == 2


async def test_reloads_come_one_after_the_other(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        reports = await asyncio.gather(*(house.reload("test") for _ in range(3)))
        assert [report.number for report in reports] == [2, 3, 4]


async def test_listeners_hear_that_everything_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        heard: list[bool] = []
        monkeypatch.setattr(house.live.hub, "announce_everything", lambda: heard.append(True))
        await house.reload("test")
        assert heard == [True]


async def test_a_drain_waits_for_calls_and_says_whether_they_ended(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        assert await house.reloader.drain(1)
        house.current().calls.hold()
        assert not await house.reloader.drain(0)


async def test_the_documents_own_drain_time_is_the_default(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, GOOD | {"limits": {"drain_s": 0}})) as house:
        house.current().calls.hold()
        assert not await house.reloader.drain()


class Watcher(ModuleType):
    """Stands for watchfiles: the test says when it speaks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("watchfiles")
        self.watched: list[tuple[Path, ...]] = []
        self._news: list[set[Any]] = []
        monkeypatch.setitem(sys.modules, "watchfiles", self)

    async def awatch(
        self,
        *folders: Path,
        recursive: bool,
        stop_event: asyncio.Event,
        yield_on_timeout: bool,
    ) -> AsyncIterator[set[Any]]:
        assert not recursive
        assert yield_on_timeout
        self.watched.append(folders)
        while not stop_event.is_set():
            if self._news:
                yield self._news.pop()
            await asyncio.sleep(0)

    async def speak(self) -> None:
        """Say that something may have changed, and let it be heard."""
        self._news.append(set())
        await until(lambda: not self._news)
        await settle()


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return Watcher(monkeypatch)


async def test_a_change_of_the_file_reloads(tmp_path: Path, watcher: Watcher) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        house.watch_document()
        await watcher.speak()
        assert house.current().number == 1  # nothing has changed
        write_document(tmp_path / "waygate.yaml", GOOD | {"endpoints": {"dev": {}}})
        await watcher.speak()
        await until(lambda: house.current().number == 2)
        await watcher.speak()
        assert house.reloader.last is not None
        assert (house.reloader.last.number, house.reloader.last.reason) == (2, "file changed")
        assert watcher.watched == [(Path(os.path.realpath(tmp_path)),)]


async def test_a_document_that_is_replaced_and_one_that_comes_back_reload(
    tmp_path: Path, watcher: Watcher
) -> None:
    path = tmp_path / "waygate.yaml"
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        house.watch_document()
        write_document(tmp_path / "new", GOOD)
        (tmp_path / "new").replace(path)
        await watcher.speak()
        await until(lambda: house.current().number == 2)
        path.unlink()
        await watcher.speak()
        await until(lambda: house.reloader.last is not None and not house.reloader.last.is_done)
        write_document(path, GOOD)
        await watcher.speak()
        await until(lambda: house.current().number == 3)


async def test_a_change_that_failed_is_not_tried_again_before_the_next(
    tmp_path: Path, watcher: Watcher
) -> None:
    async with open_house(settings_in(tmp_path, GOOD)) as house:
        house.watch_document()
        write_document(tmp_path / "waygate.yaml", MISSPELT)
        await watcher.speak()
        await until(lambda: house.reloader.last is not None)
        first = house.reloader.last
        await watcher.speak()
        await watcher.speak()
        assert house.reloader.last is first


# ---------------------------------------------------------------------- files of plugins

WEATHER = """\
from waygate_mcp import Toolbox

box = Toolbox()


@box.tool(structured=False)
async def say() -> str:
    return {word}
"""


class Folder:
    """A folder with a document that names file plugins, and what its house offers."""

    def __init__(self, path: Path) -> None:
        path.chmod(0o755)
        self.path = path
        self.write("weather.py", WEATHER.format(word="'sunny'"))
        self.use(weather="./weather.py")

    def use(self, **uses: str) -> None:
        """Write the document."""
        plugins = {name: {"use": use} for name, use in uses.items()}
        write_document(self.path / "waygate.yaml", {"plugins": plugins})

    def write(self, name: str, text: str) -> None:
        """Write a file that only its owner may write."""
        file = self.path / name
        file.parent.mkdir(mode=0o755, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)

    async def says(self, generation: Generation[Any]) -> list[str]:
        """What each plugin of a generation answers."""
        return [text_of(await call_tool(one, "say")) for one in generation.providers]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_a_changed_file_of_a_plugin_reloads_and_calls_in_flight_keep_the_old_code(
    folder: Folder, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(settings_in(folder.path)) as house:
        house.watch_document()
        heard: list[bool] = []
        monkeypatch.setattr(house.live.hub, "announce_everything", lambda: heard.append(True))
        old = house.current()
        with old.in_use():
            folder.write("weather.py", WEATHER.format(word="'rainy'"))
            await watcher.speak()
            await until(lambda: house.current().number == 2)
            assert await folder.says(house.current()) == ["rainy"]
            assert await folder.says(old) == ["sunny"]
        assert heard == [True]


async def test_a_broken_file_keeps_the_old_code_and_its_line_is_in_the_log(
    folder: Folder, watcher: Watcher
) -> None:
    async with open_house(settings_in(folder.path)) as house:
        house.watch_document()
        with capture_logs() as lines:
            folder.write("weather.py", "x = 1\ny = nothing\n")
            await watcher.speak()
            await until(lambda: house.reloader.last is not None)
        (line,) = [one for one in lines if one["event"] == "reload_failed"]
        assert f"{folder.path / 'weather.py'}, line 2: NameError" in str(line["problems"])
        assert house.current().number == 1
        assert await folder.says(house.current()) == ["sunny"]
        folder.write("weather.py", WEATHER.format(word="'mended'"))
        await watcher.speak()
        await until(lambda: house.current().number == 2)
        assert await folder.says(house.current()) == ["mended"]


async def test_what_a_file_imports_from_beside_it_is_watched_too(
    folder: Folder, watcher: Watcher
) -> None:
    folder.write("words.py", "WORD = 'mild'\n")
    folder.write("weather.py", "from .words import WORD\n" + WEATHER.format(word="WORD"))
    async with open_house(settings_in(folder.path)) as house:
        house.watch_document()
        assert await folder.says(house.current()) == ["mild"]
        folder.write("words.py", "WORD = 'cold'\n")
        await watcher.speak()
        await until(lambda: house.current().number == 2)
        assert await folder.says(house.current()) == ["cold"]


async def test_the_folders_watched_are_those_of_the_files_last_tried(
    folder: Folder, watcher: Watcher
) -> None:
    root = Path(os.path.realpath(folder.path))
    async with open_house(settings_in(folder.path)) as house:
        house.watch_document()
        await watcher.speak()
        folder.use(weather="./weather.py", second="./inner/second.py")
        folder.write("inner/second.py", "1 / 0\n")
        await house.reload("test")
        await until(lambda: len(watcher.watched) == 2)
        # The new one is broken, and not in force; its file is what will be mended.
        folder.write("inner/second.py", WEATHER.format(word="'second'"))
        await watcher.speak()
        await until(lambda: house.current().number == 2)
        assert await folder.says(house.current()) == ["sunny", "second"]
        folder.use(weather="./weather.py")
        await house.reload("test")
        await until(lambda: len(watcher.watched) == 3)
        assert watcher.watched == [(root,), (root, root / "inner"), (root,)]


async def test_a_watcher_that_ends_by_itself_is_not_begun_anew_for_ever(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending(ModuleType):
        @staticmethod
        async def awatch(*_: Path, **__: Any) -> AsyncIterator[set[Any]]:
            no_news: tuple[set[Any], ...] = ()
            for news in no_news:
                yield news

    monkeypatch.setitem(sys.modules, "watchfiles", Ending("watchfiles"))
    async with open_house(settings_in(folder.path)) as house:
        before = len(house.supervisor)
        house.watch_document()
        await settle()
        assert len(house.supervisor) <= before  # what looks things up at the start ends meanwhile


async def test_without_a_document_there_is_nothing_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_house(settings_in(tmp_path)) as house:
        before = len(house.supervisor)
        house.watch_document()
        assert len(house.supervisor) == before
