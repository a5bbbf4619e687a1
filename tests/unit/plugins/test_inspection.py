from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from waygate_mcp.config.document import PluginSection
from waygate_mcp.errors import ConfigError, PluginError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.plugins.files import PluginFiles
from waygate_mcp.plugins.inspection import EntryReport, PluginReport, inspect_plugin
from waygate_mcp.toolkit.toolbox import Toolbox


class Period(BaseModel):
    days: int = Field(7, description="How many.", examples=[1, "two"])


def inspect_module(monkeypatch: pytest.MonkeyPatch, box: Toolbox, **more: Any) -> PluginReport:
    module = ModuleType("plug_inspected")
    vars(module).update(box=box, **more)
    monkeypatch.setitem(sys.modules, "plug_inspected", module)
    return inspect_plugin("p", PluginSection(use="plug_inspected"), PluginFiles())


def entries_of(monkeypatch: pytest.MonkeyPatch, box: Toolbox) -> dict[str, EntryReport]:
    return {one.name: one for one in inspect_module(monkeypatch, box).entries}


def test_every_kind_of_entry_is_listed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox()
    for name in ("a", "b"):
        box.add_tool(lambda: None, name=name, description="A tool.")
    box.add_resource("x://y", lambda: "", name="y", description="A resource.")
    box.add_prompt(lambda: "", name="p", description="A prompt.")

    @box.resource("x://{one}")
    def template(one: str) -> str:
        """A template."""
        return one

    report = inspect_module(monkeypatch, box)
    assert [(one.kind, one.name) for one in report.entries] == [
        ("tool", "a"), ("tool", "b"), ("prompt", "p"), ("resource", "x://y"), ("resource template", "x://{one}"),
    ]  # fmt: skip
    assert report.is_well
    assert report.count(Kind.TOOL) == 2
    assert report.count(Kind.RESOURCE, Kind.TEMPLATE) == 2


def test_what_is_looked_at_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[bool] = []

    async def lifespan() -> AsyncIterator[None]:
        entered.append(True)
        yield

    assert inspect_module(monkeypatch, Toolbox(), lifespan=lifespan).is_well
    assert entered == []


def test_a_default_that_does_not_fit_its_own_schema_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = Toolbox()

    @box.tool
    def wrong(
        days: Annotated[int, Field(ge=1, description="How many.")] = 0,
        fine: Annotated[int, "Well."] = 1,
        none: Annotated[int | None, "Well."] = None,
    ) -> None:
        """A tool."""

    report = entries_of(monkeypatch, box)["wrong"]
    assert report.hints == ()
    (problem,) = report.problems
    assert problem.startswith("`days`: its default does not fit its own schema: ")
    assert "at least 1" in problem
    assert not inspect_module(monkeypatch, box).is_well


def test_defaults_and_examples_are_found_however_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox()

    @box.tool
    def deep(period: Annotated[Period, "When."], many: Annotated[list[Period], "All."]) -> None:
        """A tool."""

    (problem,) = entries_of(monkeypatch, box)["deep"].problems
    assert problem.startswith("`Period.days`: its example does not fit its own schema: ")
    item = {"type": "object", "properties": {"n": {"type": "integer", "default": "x"}}}
    schema = {"type": "object", "properties": {"all": {"type": "array", "items": item}}}
    box.add_tool(lambda **_: None, name="raw", description="Raw.", input_schema=schema)
    (problem,) = entries_of(monkeypatch, box)["raw"].problems
    assert problem.startswith("`all.[].n`: its default does not fit")


def test_output_schemas_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox()

    @box.tool
    def period() -> Period:
        """A tool."""
        return Period()

    (problem,) = entries_of(monkeypatch, box)["period"].problems
    assert problem.startswith("`days`: its example does not fit")


def test_a_part_that_cannot_be_judged_alone_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox()
    properties = {
        "a": {"type": "string", "description": "A."},
        "b": {"$ref": "#/properties/a", "description": "B.", "default": 5},
    }
    schema = {"type": "object", "properties": properties}
    box.add_tool(lambda **_: None, name="raw", description="Raw.", input_schema=schema)
    assert entries_of(monkeypatch, box)["raw"] == EntryReport("tool", "raw")


def test_what_leaves_a_model_guessing_is_a_hint_and_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = Toolbox()
    box.add_tool(lambda anything: None, name="vague")
    box.add_prompt(lambda topic: "", name="ask")
    box.add_resource("x://y", lambda: "", name="y")
    found = entries_of(monkeypatch, box)
    undescribed = "no description: write a docstring"
    assert found["vague"].hints == (
        undescribed,
        "`anything` has no type",
        "`anything` has no description",
    )
    assert found["ask"].hints == (undescribed, "`topic` has no description")
    assert found["x://y"].hints == (undescribed,)
    assert inspect_module(monkeypatch, box).is_well


def test_a_schema_of_anything_says_that_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox()
    schema = {"type": "object", "properties": {"a": True}}
    box.add_tool(lambda **_: None, name="raw", description="Raw.", input_schema=schema)
    expected = ("`a` has no type", "`a` has no description")
    assert entries_of(monkeypatch, box)["raw"].hints == expected


def test_another_makers_server_is_told_apart_and_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was called")

    module: Any = ModuleType("plug_foreign")
    module.app = app
    monkeypatch.setitem(sys.modules, "plug_foreign", module)
    report = inspect_plugin("p", PluginSection(use="plug_foreign:app"), PluginFiles())
    assert report == PluginReport("p", "plug_foreign:app", is_mounted=True)
    assert report.is_well
    assert report.count(Kind.TOOL) is None
    wrong = PluginSection(use="plug_foreign:app", config={"era": "new"})
    with pytest.raises(ConfigError) as caught:
        inspect_plugin("p", wrong, PluginFiles())
    assert caught.value.path == "plugins.p.config.era"


def test_faults_are_those_of_opening_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no module named"):
        inspect_plugin("p", PluginSection(use="no.such"), PluginFiles())
    (tmp_path / "plug_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        inspect_plugin("p", PluginSection(use="plug_broken"), PluginFiles())
