"""The document on the desk."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand

from waygate_mcp.cli.document_desk import DocumentDesk, upstream_names
from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.errors import ConfigError

FILE = Path("waygate.yaml")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))


def desk(text: str) -> DocumentDesk:
    FILE.write_text(text)
    return DocumentDesk(None)


def problems(desk: DocumentDesk, text: str, *touched: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        desk.write(text, touched=touched)
    return [f"{one.path}: {one.message}" for one in caught.value.problems]


def test_where_there_is_none_a_first_document_lies_there(tmp_path: Path) -> None:
    new = DocumentDesk(None)
    assert (new.is_new, new.text, new.folder) == (True, DOCUMENT, tmp_path)
    assert new.write("version: 1\n", keeps_old=True) is None
    assert FILE.read_text() == "version: 1\n"
    assert not new.is_new


def test_the_old_text_is_kept_where_asked_for() -> None:
    backup = desk("version: 1\n").write("version: 1 # new\n", keeps_old=True)
    assert backup is not None
    assert backup.read_text() == "version: 1\n"


def test_what_is_not_valid_is_refused_and_nothing_is_written() -> None:
    here = desk("version: 1\n")
    assert problems(here, "upstreams: {a: {command: x, erra: y}}") == [
        "upstreams.a.erra: unknown key"
    ]
    assert FILE.read_text() == "version: 1\n"


def test_what_keeps_a_touched_upstream_from_being_opened_is_refused_as_well() -> None:
    here = desk("version: 1\n")
    text = """\
upstreams:
  a: {command: no-such-program}
  b: {command: sh, env: {K: "${env:NOT_SET}"}}
  c: {command: no-such-program, enabled: false}
  e: {command: sh, env: {NODE_OPTIONS: "--inspect"}}
  f: {url: "http://x/mcp", headers: {A: "\\nb"}}
"""
    assert problems(here, text, *"abcd") == [
        "upstreams.a.command: there is no such program",
        "upstreams.b.env.K: the environment variable 'NOT_SET' is not set",
    ]
    assert [one.partition(": ")[0] for one in problems(here, text, "e", "f")] == [
        "upstreams.e.env.NODE_OPTIONS", "upstreams.f.headers",
    ]  # fmt: skip
    assert FILE.read_text() == "version: 1\n"
    here.write(text)  # those that were broken before do not stand in the way
    assert FILE.read_text() == text


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten() -> None:
    here = desk("version: 1\n")
    FILE.write_text("version: 1 # by hand\n")
    assert problems(here, "version: 1\nauth: {}\n") == [": was changed meanwhile; do it again"]
    FILE.unlink()
    new = DocumentDesk(None)
    FILE.write_text("version: 1 # by hand\n")
    assert problems(new, "version: 1\n") == [": was changed meanwhile; do it again"]
    assert FILE.read_text() == "version: 1 # by hand\n"


def test_names_are_completed_and_errors_are_not_told() -> None:
    Path("my.yaml").write_text("upstreams: {alpha: {command: x}, beta: {command: x}}")
    context = typer.Context(TyperCommand("x"))
    context.params = {"config": Path("my.yaml")}
    assert upstream_names(context, "") == ["alpha", "beta"]
    assert upstream_names(context, "b") == ["beta"]
    Path("my.yaml").write_text("upstreams: [")
    assert upstream_names(context, "") == []
