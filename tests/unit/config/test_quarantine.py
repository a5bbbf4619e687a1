"""The words about definitions nobody approved, and what is said of their absence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from waygate_mcp.config.document import Document
from waygate_mcp.config.quarantine import quarantine_notes

FILES = {"url": "https://files.example/mcp"}


def test_changes_are_held_back_where_nothing_is_said() -> None:
    document = Document.model_validate({"upstreams": {"files": FILES}})
    assert document.quarantine_of("files") == "first-use"
    assert document.quarantine_of("nobody") == "first-use"


@pytest.mark.parametrize("word", ["on", "first-use", "off"])
def test_an_upstream_may_say_otherwise_than_all(word: str) -> None:
    document = Document.model_validate(
        {"quarantine": "on", "upstreams": {"files": FILES | {"quarantine": word}, "other": FILES}}
    )
    assert document.quarantine_of("files") == word
    assert document.quarantine_of("other") == "on"


@pytest.mark.parametrize("word", ["yes", True, None, ""])
def test_other_words_are_refused(word: object) -> None:
    with pytest.raises(ValidationError):
        Document.model_validate({"quarantine": word})


def test_what_is_off_is_told_with_what_it_risks() -> None:
    (note,) = quarantine_notes({"files": "off", "other": "first-use", "more": "off"})
    assert note.startswith("quarantine is off for files, more: ")
    assert "`first-use`" in note
    assert quarantine_notes({"files": "on", "other": "first-use"}) == ()
