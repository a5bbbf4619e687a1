from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.errors import ConfigError, PluginError
from waygate_mcp.plugins import discovery
from waygate_mcp.plugins.builtin import hello
from waygate_mcp.plugins.discovery import installed_plugins, load_plugin


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plugin modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("plug_fine", "plug_needs", "plug_raises", "plug_exits"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "plug_fine.py").write_text("class Inner:\n    thing = 5\n_hidden = 1\n")
    (tmp_path / "plug_needs.py").write_text("import surely_not_installed\n")
    (tmp_path / "plug_raises.py").write_text("1 / 0\n")
    (tmp_path / "plug_exits.py").write_text("import sys\nsys.exit(2)\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = (
        EntryPoint("hello", "waygate_mcp.plugins.builtin.hello", "waygate.plugins"),
        EntryPoint("box", "waygate_mcp.plugins.builtin.hello:box", "waygate.plugins"),
    )
    monkeypatch.setattr(discovery, "_entry_points", lambda: points)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("hello", hello),
        ("box", hello.box),
        ("waygate_mcp.plugins.builtin.hello", hello),
        ("waygate_mcp.plugins.builtin.hello:box", hello.box),
        ("waygate_mcp.plugins.builtin.hello:Config.model_fields", hello.Config.model_fields),
    ],
)
def test_an_entry_point_a_module_or_an_attribute_is_found(use: str, expected: Any) -> None:
    assert load_plugin("p", use) is expected or load_plugin("p", use) == expected


def test_what_is_installed_is_listed_without_importing_it() -> None:
    assert [(one.name, one.target) for one in installed_plugins()] == [
        ("box", "waygate_mcp.plugins.builtin.hello:box"),
        ("hello", "waygate_mcp.plugins.builtin.hello"),
    ]


@pytest.mark.parametrize("use", ["helo", "no.such.module", "waygate_mcp.plugins.nothing"])
def test_a_module_that_is_not_there_is_named_with_the_installed_ones(use: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugin("p", use)
    assert caught.value.path == "plugins.p.use"
    assert f"no module named {use}; installed plugins: box, hello" in str(caught.value)


def test_the_nearest_installed_plugin_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugin("p", "helo")
    assert caught.value.problems[0].suggestion == "hello"


def test_where_nothing_is_installed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_entry_points", tuple)
    with pytest.raises(ConfigError, match="no plugins are installed"):
        load_plugin("p", "helo")


def test_an_attribute_that_is_not_there_is_named_with_the_nearest(modules: Path) -> None:
    assert load_plugin("p", "plug_fine:Inner.thing") == 5
    with pytest.raises(ConfigError, match="plug_fine has no 'Iner'") as caught:
        load_plugin("p", "plug_fine:Iner")
    assert caught.value.problems[0].suggestion == "Inner"
    assert caught.value.path == "plugins.p.use"
    with pytest.raises(ConfigError, match="has no 'nothing'"):
        load_plugin("p", "plug_fine:Inner.thing.nothing")


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ("plug_needs", "plug_needs needs a module that is missing: .*surely_not_installed"),
        ("plug_exits", "plug_exits cannot be imported: SystemExit"),
        ("plug_raises", "plug_raises cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_module_that_fails_when_imported_is_the_plugins_fault(
    modules: Path, use: str, reason: str
) -> None:
    with pytest.raises(PluginError, match=reason) as caught:
        load_plugin("p", use)
    assert caught.value.plugin == "p"


def test_real_entry_points_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert isinstance(installed_plugins(), tuple)
