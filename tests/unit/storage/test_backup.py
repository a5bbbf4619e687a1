"""What a backup takes along, and where its parts may go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.backup import _files_of, _safe, default_name


def test_links_keys_drafts_and_locks_stay_at_home(tmp_path: Path) -> None:
    (tmp_path / "audit" / "deep").mkdir(parents=True)
    for name in ("a.json", "secret.key", ".a.json.x", "waygate.db", "waygate.db.lock",
                 "audit/j.log", "audit/deep/k.log", "audit/.draft"):  # fmt: skip
        (tmp_path / name).write_text("x")
    (tmp_path / "link.json").symlink_to(tmp_path / "secret.key")
    (tmp_path / "audit" / "link").symlink_to(tmp_path / "secret.key")
    names = [name for name, _ in _files_of(tmp_path)]
    assert names == ["data/a.json", "data/audit/deep/k.log", "data/audit/j.log"]


@pytest.mark.parametrize("name", ["data/../x", "/data/x", "x", "data", "data/secret.key"])
def test_a_part_that_would_go_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(StorageError, match="none of ours"):
        _safe(name)


def test_the_name_holds_the_time() -> None:
    assert default_name(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "waygate-20260102T030405Z.tar"
