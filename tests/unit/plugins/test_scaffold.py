from __future__ import annotations

import os
import runpy
import stat
import sys
from pathlib import Path

import pytest

from waygate_mcp.config.document import PluginSection
from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigError
from waygate_mcp.plugins.files import PluginFiles, mend_of_open_paths
from waygate_mcp.plugins.inspection import inspect_plugin
from waygate_mcp.plugins.scaffold import write_plugin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_what_is_written_is_a_plugin_without_problems_or_hints(folder: Path) -> None:
    made = write_plugin("my-weather", folder, document_folder=folder)
    assert (made.plugin.name, made.test.name) == ("my_weather.py", "test_my_weather.py")
    section = PluginSection(use="./my_weather.py", config={"greeting": "Hi"})
    with PluginFiles(folder) as files:
        report = inspect_plugin("my-weather", section, files)
    assert [one.name for one in report.entries] == ["greet", "count_words", "about://my-weather"]
    assert not any(one.problems or one.hints for one in report.entries)


def test_the_test_that_is_written_passes_and_tests_something(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_plugin("plug-made", folder, document_folder=folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "plug_made", raising=False)

    def run() -> int:
        sys.modules.pop("plug_made", None)
        tests = {
            name: one
            for name, one in runpy.run_path(str(made.test)).items()
            if name.startswith("test_")
        }
        for test in tests.values():
            test()
        return len(tests)

    assert run() == 4
    made.plugin.write_text(made.plugin.read_text().replace("max_length=100", "max_length=1000"))
    with pytest.raises(AssertionError):
        run()


def test_the_line_is_one_of_the_document(folder: Path) -> None:
    for where, use in (
        (folder, "./odd.py"),
        (folder / "in" / "side", "./in/side/odd.py"),
        (folder / "a, b", "./a, b/odd.py"),
        (folder.parent / f"{folder.name}-other", f"../{folder.name}-other/odd.py"),
    ):
        made = write_plugin("odd", where, document_folder=folder)
        assert parse_yaml(made.line.encode()).value == {"odd": {"use": use}}
        assert PluginSection(use=use).use == use
        assert made.line in made.plugin.read_text()


def test_what_is_written_can_be_loaded_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        made = write_plugin("odd", folder / "new", document_folder=folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.plugin.stat().st_mode) == 0o644
    assert mend_of_open_paths(made.plugin) is None


@pytest.mark.parametrize("there", ["odd.py", "test_odd.py"])
@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_that_is_there_is_overwritten_and_nothing_else_written(
    folder: Path, there: str, is_link: bool
) -> None:
    if is_link:
        (folder / there).symlink_to(folder / "nowhere")
    else:
        (folder / there).write_text("mine")
    with pytest.raises(ConfigError, match=f"{there} is there already"):
        write_plugin("odd", folder, document_folder=folder)
    assert [one.name for one in folder.iterdir()] == [there]
    assert is_link or (folder / there).read_text() == "mine"


def test_both_are_written_or_neither(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def fail(path: Path, *more: int) -> int:
        if path.name.startswith("test_"):
            raise OSError(28, "No space left on device")
        return opened(path, *more)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_plugin("odd", folder, document_folder=folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Odd", "a plugin's name has"),
        ("odd_", "a plugin's name has"),
        ("o__d", "a plugin's name has"),
        ("../odd", "a plugin's name has"),
        ("", "a plugin's name has"),
        ("9lives", "no module of Python can be called 9lives"),
        ("class", "no module of Python can be called class"),
        ("calendar", "there is a module called calendar already"),
        ("pydantic", "there is a module called pydantic already"),
    ],
)
def test_a_name_that_would_not_work_is_refused(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        write_plugin(name, folder, document_folder=folder)
    assert list(folder.iterdir()) == []
