from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.config.document import PluginSection
from waygate_mcp.errors import ConfigError, PluginError
from waygate_mcp.plugins.discovery import load_plugin
from waygate_mcp.plugins.files import PluginFiles, is_file_use, mend_of_open_paths, place_of
from waygate_mcp.plugins.lifecycle import open_plugins
from waygate_mcp.testing.fakes import Announcements, call_tool, text_of

TOOL = """\
from waygate_mcp import Toolbox

box = Toolbox()


@box.tool(structured=False)
async def say() -> str:
    return {word!r}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    write(tmp_path / "weather.py", TOOL.format(word="sunny"))
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    paths, finders = list(sys.path), list(sys.meta_path)
    yield
    assert (sys.path, sys.meta_path) == (paths, finders)
    assert not [name for name in sys.modules if name.startswith("waygate_plugin_files_")]


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)


async def say(folder: Path, use: str = "./weather.py") -> str:
    plugins = {"weather": PluginSection(use=use)}
    async with open_plugins(plugins, Announcements(), folder=folder) as (provider,):
        return text_of(await call_tool(provider, "say"))


def load(folder: Path | None, use: str) -> Any:
    with PluginFiles(folder) as files:
        return load_plugin("weather", use, files)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("./weather.py", True),
        ("../a b/weather.py:Class.inner", True),
        ("/opt/weather.py:box", True),
        ("weather.py", False),
        ("weather", False),
        ("./weather", False),
        ("./weather.py:", False),
        ("./weather.pyc", False),
        ("package.module:attribute", False),
    ],
)
def test_a_file_is_told_from_a_module_by_how_it_is_written(use: str, expected: bool) -> None:
    assert is_file_use(use) is expected
    if expected:
        assert PluginSection(use=use).use == use


async def test_a_file_beside_the_document_is_a_plugin(folder: Path) -> None:
    assert await say(folder) == "sunny"


async def test_a_file_may_lie_in_another_folder_or_be_written_with_its_whole_path(
    folder: Path,
) -> None:
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    assert await say(inner, "../weather.py") == "sunny"
    assert await say(inner, str(folder / "weather.py")) == "sunny"


async def test_an_attribute_of_a_file_may_be_named(folder: Path) -> None:
    write(folder / "two.py", TOOL.format(word="two") + "\n\nother = box\n")
    assert await say(folder, "./two.py:other") == "two"
    with pytest.raises(ConfigError, match=r"\./two\.py has no 'ohter'") as caught:
        await say(folder, "./two.py:ohter")
    assert caught.value.problems[0].suggestion == "other"


async def test_a_file_without_a_box_is_refused_by_the_name_it_has_in_the_document(
    folder: Path,
) -> None:
    write(folder / "empty.py", "")
    with pytest.raises(ConfigError, match=r"\./empty\.py has no `box = Toolbox\(\)`"):
        await say(folder, "./empty.py")


@pytest.mark.parametrize("changed", ["weather.py", "words.py"])
async def test_each_opening_runs_the_files_as_they_are_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write(folder / "words.py", "WORD = 'sunny'\n")
    write(
        folder / "weather.py",
        "from .words import WORD\n" + TOOL.replace("{word!r}", "'so ' + WORD"),
    )
    first = (folder / changed).stat()
    assert await say(folder) == "so sunny"
    # The same size and the same second: bytecode would be taken for fresh.
    text = (folder / changed).read_text()
    write(folder / changed, text.replace("so ", "oh ").replace("sunny", "rainy"))
    os.utime(folder / changed, ns=(first.st_atime_ns, first.st_mtime_ns))
    assert await say(folder) == ("oh sunny" if changed == "weather.py" else "so rainy")
    assert not (folder / "__pycache__").exists()


async def test_a_neighbour_younger_than_the_last_look_at_the_folder_is_found(folder: Path) -> None:
    importing = "from .{} import WORD\n" + TOOL.replace("{word!r}", "WORD")
    write(folder / "first.py", "WORD = 'first'\n")
    write(folder / "weather.py", importing.format("first"))
    before = folder.stat()
    assert await say(folder) == "first"
    write(folder / "second.py", "WORD = 'second'\n")
    write(folder / "weather.py", importing.format("second"))
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await say(folder) == "second"


async def test_two_generations_run_side_by_side(folder: Path) -> None:
    plugins = {"weather": PluginSection(use="./weather.py")}
    async with open_plugins(plugins, Announcements(), folder=folder) as (old,):
        write(folder / "weather.py", TOOL.format(word="rainy"))
        async with open_plugins(plugins, Announcements(), folder=folder) as (new,):
            assert text_of(await call_tool(old, "say")) == "sunny"
            assert text_of(await call_tool(new, "say")) == "rainy"
        assert text_of(await call_tool(old, "say")) == "sunny"


# ---------------------------------------------------------------------- neighbours


async def test_a_neighbour_is_imported_with_a_dot_and_is_as_fresh(folder: Path) -> None:
    write(folder / "words.py", "WORD = 'mild'\n")
    relative = TOOL.replace("{word!r}", "words.WORD + w")
    write(folder / "weather.py", f"from . import words\nfrom .words import WORD as w\n{relative}")
    assert await say(folder) == "mildmild"
    write(folder / "words.py", "WORD = 'cold'\n")
    assert await say(folder) == "coldcold"
    assert "words" not in sys.modules


async def test_a_neighbour_may_be_a_folder_and_be_imported_in_the_midst_of_a_call(
    folder: Path,
) -> None:
    (folder / "deep").mkdir(mode=0o755)
    write(folder / "deep" / "__init__.py", "from .inner import WORD\n")
    write(folder / "deep" / "inner.py", "WORD = 'deep'\n")
    late = TOOL.replace("return {word!r}", "from .deep import WORD\n    return WORD")
    write(folder / "weather.py", late)
    assert await say(folder) == "deep"


def test_two_files_of_one_folder_share_their_neighbours_and_two_loads_the_module(
    folder: Path,
) -> None:
    write(folder / "other.py", "from .weather import box\n")
    with PluginFiles(folder) as files:
        weather = load_plugin("a", "./weather.py", files)
        assert load_plugin("b", "./weather.py:box", files) is weather.box
        assert load_plugin("c", "./other.py", files).box is weather.box


def test_a_neighbour_imported_without_a_dot_is_refused_with_the_mend(folder: Path) -> None:
    write(folder / "words.py", "WORD = 'mild'\n")
    write(folder / "weather.py", "\nfrom words import WORD\n")
    with pytest.raises(PluginError) as caught:
        load(folder, "./weather.py")
    assert f"{folder / 'weather.py'}, line 2: ModuleNotFoundError" in str(caught.value)
    assert "write `from .words import …`" in str(caught.value)


def test_what_lies_beside_a_file_hides_nothing_that_is_installed(folder: Path) -> None:
    write(folder / "json.py", "dumps = None\n")
    write(folder / "weather.py", "import json\n")
    assert load(folder, "./weather.py").json is sys.modules["json"]
    (folder / "weather").mkdir()  # a folder of the same name would be found before the file
    assert load(folder, "./weather.py").json is sys.modules["json"]


def test_other_packages_are_none_of_its_business(folder: Path) -> None:
    with PluginFiles(folder) as files:
        load_plugin("a", "./weather.py", files)
        finder: Any = sys.meta_path[0]
        assert finder.find_spec("json", None) is None
        assert finder.find_spec("waygate_plugin_files_0.weather", [str(folder)]) is None
        (package,) = files.packages()
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"{package}.nothing")


# ---------------------------------------------------------------------- what is not there


def test_a_missing_file_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, "./wether.py:box")
    (problem,) = caught.value.problems
    assert problem.path == "plugins.weather.use"
    assert problem.message == f"no such file: {folder / 'wether.py'}"
    assert problem.suggestion == "./weather.py"
    with pytest.raises(ConfigError, match="no such file") as caught:
        load(folder, "./no/such/folder.py")
    assert caught.value.problems[0].suggestion is None


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "dir.py").mkdir()
    with pytest.raises(ConfigError, match="no regular file"):
        load(folder, "./dir.py")


def test_a_circle_of_links_cannot_be_read(folder: Path) -> None:
    (folder / "round.py").symlink_to(folder / "round.py")
    with pytest.raises(ConfigError):
        load(folder, "./round.py")


def test_without_a_document_only_whole_paths_are_known(folder: Path) -> None:
    with pytest.raises(ConfigError, match="write the whole path") as caught:
        load(None, "./weather.py")
    assert caught.value.path == "plugins.weather.use"
    with pytest.raises(ConfigError, match="write the whole path"):
        load_plugin("weather", "./weather.py")
    assert load(None, str(folder / "weather.py")).box


# ---------------------------------------------------------------------- who may write (rule 30)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_others_may_write_is_refused_with_the_mend(folder: Path, mode: int) -> None:
    file = folder / "weather.py"
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(folder, "./weather.py")
    assert caught.value.path == "plugins.weather.use"
    mend = str(caught.value).rpartition("mend it with: ")[2]
    assert mend == f"chmod go-w {file}"
    subprocess.run(mend, shell=True, check=True)
    assert load(folder, "./weather.py").box


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_others_may_write_is_refused_with_the_mend(folder: Path, mode: int) -> None:
    spaced = folder / "with space"
    spaced.mkdir()
    write(spaced / "weather.py", TOOL.format(word="x"))
    spaced.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(spaced, "./weather.py")
    subprocess.run(str(caught.value).rpartition("mend it with: ")[2], shell=True, check=True)
    assert load(spaced, "./weather.py").box


def test_nothing_of_a_refused_file_is_run(folder: Path) -> None:
    write(folder / "weather.py", "from pathlib import Path\nPath(__file__ + '.ran').touch()\n")
    (folder / "weather.py").chmod(0o666)
    with pytest.raises(ConfigError):
        load(folder, "./weather.py")
    assert not (folder / "weather.py.ran").exists()


def test_a_link_is_looked_at_on_both_ends(folder: Path) -> None:
    for name in ("open", "shut"):
        (folder / name).mkdir(mode=0o755)
    write(folder / "shut" / "real.py", TOOL.format(word="x"))
    (folder / "open" / "link.py").symlink_to("../shut/real.py")
    assert load(folder, "./open/link.py").box
    (folder / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="open"):
        load(folder, "./open/link.py")
    (folder / "open").chmod(0o755)
    (folder / "shut").chmod(0o777)
    with pytest.raises(ConfigError, match="shut"):
        load(folder, "./open/link.py")


def test_a_neighbour_others_may_write_is_refused_too(folder: Path) -> None:
    write(folder / "words.py", "WORD = 'mild'\n")
    (folder / "words.py").chmod(0o666)
    write(folder / "weather.py", "from .words import WORD\n")
    with pytest.raises(ConfigError) as caught:
        load(folder, "./weather.py")
    assert caught.value.path == "plugins.weather.use"
    assert f"chmod go-w {folder / 'words.py'}" in str(caught.value)


def test_what_only_its_owner_writes_needs_no_mend(folder: Path) -> None:
    assert mend_of_open_paths(folder / "weather.py") is None


# ---------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\ndef broken(:\n", "line 3: SyntaxError: "),
        ("x = 1\ny = nothing\n", "line 2: NameError: name 'nothing' is not defined"),
        ("import sys\n\nsys.exit('no')\n", "line 3: SystemExit: no"),
        (
            "from waygate_mcp import Toolbox\nbox = Toolbox()\n@box.tool\ndef f(*x): ...\n",
            "line 4: RegistrationError: ",
        ),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(folder: Path, text: str, reason: str) -> None:
    write(folder / "weather.py", text)
    with pytest.raises(PluginError) as caught:
        load(folder, "./weather.py")
    # Decorators stand on the line above the function, whichever of the two Python counts.
    expected = f"{folder / 'weather.py'}, {reason}"
    assert expected in str(caught.value).replace("line 3: RegistrationError", reason[:-2])
    assert caught.value.plugin == "weather"


def test_a_neighbour_that_fails_is_named_with_its_own_line(folder: Path) -> None:
    write(folder / "weather.py", "from . import words\n")
    for text, reason in (
        ("1 / 0\n", "line 1: ZeroDivisionError"),
        ("\n)\n", "line 2: SyntaxError"),
    ):
        write(folder / "words.py", text)
        with pytest.raises(PluginError, match=f"words.py, {reason}"):
            load(folder, "./weather.py")


async def test_a_lifespan_and_a_config_that_fail_are_named_with_their_line(folder: Path) -> None:
    lifespan = "\n\ndef lifespan(config):\n    raise RuntimeError('no')\n"
    write(folder / "weather.py", TOOL.format(word="x") + lifespan)
    with pytest.raises(PluginError, match=r"weather\.py, line 12: RuntimeError: no"):
        await say(folder)


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "weather.py").write_bytes(b"\0")
    with pytest.raises(PluginError, match=str(folder / "weather.py")):
        load(folder, "./weather.py")


def test_an_error_of_other_code_has_no_place() -> None:
    assert place_of(ValueError("x")) == ""


# ---------------------------------------------------------------------- what is watched


def test_each_file_is_told_of_before_it_is_looked_at(folder: Path) -> None:
    seen: list[Path] = []
    write(folder / "words.py", "1 / 0\n")
    write(folder / "weather.py", "from . import words\n")
    with PluginFiles(folder, seen.append) as files, pytest.raises(PluginError):
        files.load("weather", "./weather.py")
    assert set(seen) == {folder / "weather.py", folder / "words.py"}
    seen.clear()
    with PluginFiles(folder, seen.append) as files, pytest.raises(ConfigError):
        files.load("weather", "./missing.py")
    assert set(seen) == {folder / "missing.py"}
