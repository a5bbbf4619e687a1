"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.config.files import _sync_folder, alone_in, keep_beside, read_text, write_whole
from waygate_mcp.errors import ConfigError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_gets_its_folder_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.yaml"
    write_whole(file, "x: 1\r\n")
    assert file.read_bytes() == b"x: 1\r\n"
    assert mode(file) == 0o644
    assert [one.name for one in file.parent.iterdir()] == ["b.yaml"]


def test_the_mode_stays_and_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    file.chmod(0o640)
    write_whole(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o640)
    write_whole(file, "key", is_secret=True)
    assert mode(file) == 0o600


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real = tmp_path / "real" / "x"
    real.parent.mkdir()
    real.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert [one.name for one in real.parent.iterdir()] == ["x"]


def test_a_fault_in_the_middle_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x"
    file.write_text("old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="No space left"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no regular file"):
        write_whole(tmp_path, "x")


def test_the_owner_stays_as_far_as_the_system_lets_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    given: list[Any] = []

    def chown(path: str, uid: int, gid: int) -> None:
        given.append((uid, gid))
        raise PermissionError

    monkeypatch.setattr(os, "chown", chown)
    write_whole(file, "new")
    assert given == [(file.stat().st_uid, file.stat().st_gid)]
    assert file.read_text() == "new"


def test_a_system_that_cannot_sync_folders_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "open", refuse)
    _sync_folder(tmp_path)


def test_old_content_is_kept_under_a_free_name(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one\r\n")
    file.chmod(0o600)
    first, second = keep_beside(file), keep_beside(file)
    assert (first.name, second.name) == ("x.waygate-backup-1", "x.waygate-backup-2")
    assert (first.read_bytes(), mode(first)) == (b"one\r\n", 0o600)


def test_what_is_not_there_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        keep_beside(tmp_path / "none")


def test_too_many_backups_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x"
    file.write_text("x")

    def taken(*_: Any) -> int:
        raise FileExistsError

    monkeypatch.setattr(os, "open", taken)
    with pytest.raises(ConfigError, match="too many backups"):
        keep_beside(file)


def test_reading_is_bounded_and_keeps_line_breaks(tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert read_text(file, limit_bytes=10) is None
    file.write_bytes(b"a\r\nb")
    assert read_text(file, limit_bytes=4) == "a\r\nb"
    with pytest.raises(ConfigError, match="is longer than 3 bytes"):
        read_text(file, limit_bytes=3)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_text(tmp_path, limit_bytes=3)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_text(file, limit_bytes=3)


def test_two_of_our_commands_do_not_write_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with (
        alone_in(folder),
        pytest.raises(ConfigError, match="another command writes here"),
        alone_in(folder),
    ):
        pytest.fail("both were let in")
    with alone_in(folder), alone_in(tmp_path):
        pass


def test_a_file_system_without_locks_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone_in(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"), alone_in(tmp_path / "file" / "x"):
        pytest.fail("the block was entered")
