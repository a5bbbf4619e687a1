"""Secret files: who may read them, and how the master key is made."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from waygate_mcp.config import secrets
from waygate_mcp.config.secrets import (
    KEY_FILE,
    SecretText,
    load_api_key,
    load_or_create_secret_key,
    prepare_private_folder,
    read_secret_file,
)
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.errors import ConfigError

KEY = "k" * 40


def settings_with(**overrides: object) -> Settings:
    return read_settings(overrides, env_file=None)


def secret_file(folder: Path, text: str = KEY, mode: int = 0o600) -> Path:
    file = folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_key_is_made_once_with_mode_600_in_a_folder_of_mode_700(tmp_path: Path) -> None:
    settings = settings_with(data_dir=tmp_path / "data")
    key = load_or_create_secret_key(settings)
    assert len(key) >= 48
    assert load_or_create_secret_key(settings) == key
    file = tmp_path / "data" / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_two_starts_at_once_get_one_key(tmp_path: Path) -> None:
    settings = settings_with(data_dir=tmp_path / "data")
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_or_create_secret_key(settings)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_who_loses_the_race_takes_the_winners_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def lose(source: Path, target: Path) -> None:
        secret_file(tmp_path).rename(target)
        real(source, target)

    monkeypatch.setattr(os, "link", lose)
    assert load_or_create_secret_key(settings_with(data_dir=tmp_path)) == KEY.encode()
    assert list(tmp_path.iterdir()) == [tmp_path / KEY_FILE]


def test_the_content_of_the_file_is_the_same_key_in_the_environment(tmp_path: Path) -> None:
    key = load_or_create_secret_key(settings_with(data_dir=tmp_path))
    text = (tmp_path / KEY_FILE).read_text().strip()
    assert load_or_create_secret_key(settings_with(secret_key=SecretStr(text))) == key


def test_a_key_file_from_outside_is_read_and_nothing_is_made(tmp_path: Path) -> None:
    file = secret_file(tmp_path, f"{KEY}\n")
    settings = settings_with(secret_key_file=file, data_dir=tmp_path / "data")
    assert load_or_create_secret_key(settings) == KEY.encode()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("where", ["secret_key", "secret_key_file"])
def test_a_short_key_is_refused_with_a_way_to_make_a_good_one(tmp_path: Path, where: str) -> None:
    value = "short-canary" if where == "secret_key" else secret_file(tmp_path, "short-canary")
    with pytest.raises(ConfigError, match="openssl rand") as caught:
        load_or_create_secret_key(settings_with(**{where: value}))
    assert "short-canary" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o620, 0o602, 0o644])
def test_a_key_others_can_read_or_write_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    settings = settings_with(data_dir=tmp_path)
    load_or_create_secret_key(settings)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_or_create_secret_key(settings)


def test_a_folder_others_may_write_into_is_refused_with_the_mend(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(ConfigError, match="chmod 700"):
        prepare_private_folder(tmp_path, path="WAYGATE_DATA_DIR")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make") as caught:
        prepare_private_folder(tmp_path / "file" / "data", path="WAYGATE_DATA_DIR")
    assert caught.value.path == "WAYGATE_DATA_DIR"


def test_a_key_that_cannot_be_written_is_an_error_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        load_or_create_secret_key(settings_with(data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_owner_may_be_readable_but_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert read_secret_file(secret_file(tmp_path, mode=0o444), path="x") == KEY
    with pytest.raises(ConfigError, match="open to others"):
        read_secret_file(secret_file(tmp_path, mode=0o662), path="x")


def test_a_mount_of_the_container_engine_may_have_any_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = secret_file(tmp_path, mode=0o444)
    with pytest.raises(ConfigError, match="open to others"):
        read_secret_file(file, path="x")
    monkeypatch.setattr(secrets, "MOUNTED", (tmp_path,))
    assert read_secret_file(file, path="x") == KEY


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), (" \n", "is empty"), ("x" * (64 * 1024 + 1), "larger than")],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_secret_file(secret_file(tmp_path, text), path="x")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_secret_file(file, path="x")


def test_a_missing_file_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_secret_file(tmp_path / "none", path="x")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret_file(Path("/dev/null"), path="x")


def test_the_api_key_comes_from_the_environment_or_its_file(tmp_path: Path) -> None:
    assert load_api_key(settings_with()) is None
    given = load_api_key(settings_with(api_key=SecretStr("wg_x")))
    assert given is not None
    assert given.get_secret_value() == "wg_x"
    read = load_api_key(settings_with(api_key_file=secret_file(tmp_path, "wg_y\n")))
    assert read is not None
    assert read.get_secret_value() == "wg_y"
    assert "wg_y" not in repr(read)


def test_secret_text_is_text_that_does_not_show_itself() -> None:
    text = SecretText("abc")
    assert text == "abc"
    assert repr(text) == "SecretText('***')"
    assert "abc" not in repr({"key": [text]})
    assert f"Bearer {text}" == "Bearer abc"
