"""What docs/security-checklist.md names exists: commands, options, settings, keys of the document, pages."""

from __future__ import annotations

import re

import pytest

from tests.support.source_tree import ROOT
from waygate_mcp.cli.main import COMMANDS, load_command
from waygate_mcp.config.schema import document_schema
from waygate_mcp.config.settings import PREFIX, Settings

PAGE = (ROOT / "docs" / "security-checklist.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`]+)`", PAGE)
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_lines_are_numbered_and_each_says_how_it_is_checked() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, len(ROWS) + 1))
    assert all(check.strip() and how.strip() for _, check, how in ROWS)


@pytest.mark.parametrize("words", sorted({one for one in CODE if one.startswith("waygate ")}))
def test_commands_exist(words: str) -> None:
    _, name, *rest = words.split()
    assert name in COMMANDS
    command = load_command(name)
    if rest and rest[0].islower() and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= options


def test_settings_exist() -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", PAGE))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert f"{PREFIX}SECRET_KEY_FILE" in named


def test_keys_of_the_document_exist() -> None:
    schema = document_schema()
    keys = set(schema["properties"])
    for section in schema["$defs"].values():
        keys |= set(section.get("properties", {}))
    dotted = [one for one in CODE if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", one)]
    single = [one.partition(":")[0] for one in CODE if re.fullmatch(r"[a-z_]+: [a-z]+", one)]
    assert dotted
    assert single
    for name in [*(part for one in dotted for part in one.split(".")), *single]:
        assert name in keys, name


def test_pages_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
