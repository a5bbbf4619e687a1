from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.protocol.versions import (
    LATEST_LEGACY,
    MODERN,
    REVISIONS,
    SUPPORTED,
    Era,
    Revision,
    negotiate,
)


def test_the_five_revisions_stand_in_order() -> None:
    assert list(REVISIONS) == ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
    assert list(REVISIONS) == sorted(REVISIONS)
    assert tuple(reversed(REVISIONS)) == SUPPORTED
    assert all(name == revision.text for name, revision in REVISIONS.items())


def test_one_revision_is_modern_and_the_others_have_sessions() -> None:
    assert [revision for revision in REVISIONS.values() if revision.is_modern] == [MODERN]
    assert LATEST_LEGACY.text == "2025-11-25"
    assert {revision.era for revision in REVISIONS.values()} == {Era.LEGACY, Era.MODERN}


@pytest.mark.parametrize(
    ("flag", "having"),
    [
        ("has_batches", ["2025-03-26"]),
        ("has_audio", ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_elicitation", ["2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_resource_links", ["2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_structured_content", ["2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_completion_context", ["2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_version_header", ["2025-06-18", "2025-11-25", "2026-07-28"]),
        ("has_url_elicitation", ["2025-11-25", "2026-07-28"]),
        ("has_sampling_tools", ["2025-11-25", "2026-07-28"]),
        ("has_modern_enums", ["2025-11-25", "2026-07-28"]),
        ("has_priming_event", ["2025-11-25"]),
    ],
)
def test_each_flag_is_set_where_the_feature_exists(flag: str, having: list[str]) -> None:
    assert [name for name, revision in REVISIONS.items() if getattr(revision, flag)] == having


def test_every_flag_is_in_that_table() -> None:
    flags = {name for name in Revision.__struct_fields__ if name.startswith("has_")}
    assert len(flags) == 11


@pytest.mark.parametrize("name", [name for name in REVISIONS if name != "2026-07-28"])
def test_a_legacy_revision_we_know_is_granted(name: str) -> None:
    assert negotiate(name) is REVISIONS[name]


@pytest.mark.parametrize(
    "requested", ["2026-07-28", "1999-01-01", "", "2099-01-01", None, 5, [], {}]
)
def test_anything_else_gets_the_latest_legacy_revision(requested: Any) -> None:
    assert negotiate(requested) is LATEST_LEGACY
