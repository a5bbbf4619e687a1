"""Which texts are secrets, and where they go."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.config.references import resolve_references
from waygate_mcp.errors import ConfigError
from waygate_mcp.importers.secret_texts import (
    free_name,
    is_secret,
    move_secrets,
    secret_name,
    stored_secrets,
)

TOKEN = "ghp_abcdefghijklmnopqrstuvwx"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GITHUB_PERSONAL_ACCESS_TOKEN", "x1"),
        ("BRAVE_API_KEY", "abc"),
        ("AWS_SECRET_ACCESS_KEY", "wJalr/K7"),
        ("Authorization", "Bearer abc"),
        ("X-Api-Key", "abc"),
        ("apiKey", "abc"),
        ("POSTGRES_PASSWORD", "hunter2"),
        ("DATABASE_URL", "postgresql://u:pa55@db/x"),
        ("ANYTHING", TOKEN),
        ("ANYTHING", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
        ("", "sk-abcdefghijklmnop1234"),
    ],
)
def test_a_secret_is_known_by_its_name_or_its_look(name: str, text: str) -> None:
    assert is_secret(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_TOKENS", "4096"),
        ("USE_KEY", "true"),
        ("API_KEY", "${env:API_KEY}"),
        ("API_KEY", ""),
        ("LOG_LEVEL", "debug"),
        ("PATH", "/usr/bin:/bin"),
        ("URL", "https://example.org/mcp"),
        ("MONKEYS", "many"),
    ],
)
def test_what_is_none_is_left_alone(name: str, text: str) -> None:
    assert not is_secret(name, text)


def moved(section: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Move, store, and make sure that resolving gives what stood there."""
    result = move_secrets("gh", section, folder)
    with stored_secrets(folder, result.texts):
        assert resolve_references(result.section, data_dir=folder, environ={}) == section
    return result.section, result.texts


def test_values_of_env_and_headers_are_moved_and_resolve_to_what_they_were(tmp_path: Path) -> None:
    section, texts = moved(
        {
            "env": {"TOKEN": TOKEN, "HOST": "x", "N": "1"},
            "headers": {"Authorization": "Bearer abc", "X-Key": "k", "X-A": "Token"},
        },
        tmp_path,
    )
    assert section == {
        "env": {"TOKEN": "${secret:gh.TOKEN}", "HOST": "x", "N": "1"},
        "headers": {
            "Authorization": "Bearer ${secret:gh.Authorization}",
            "X-Key": "${secret:gh.X-Key}",
            "X-A": "Token",
        },
    }
    assert texts == {"gh.TOKEN": TOKEN, "gh.Authorization": "abc", "gh.X-Key": "k"}


def test_arguments_and_the_url_are_looked_at_as_well(tmp_path: Path) -> None:
    section, texts = moved(
        {
            "args": [
                "-y",
                "pkg",
                "--api-key",
                "k1",
                "--token=t1",
                "--verbose",
                "postgres://u:p4@h/d",
                "-p",
            ],
            "url": "https://x/mcp?profile=a&api_key=q1#f",
        },
        tmp_path,
    )
    assert section == {
        "args": [
            "-y", "pkg", "--api-key", "${secret:gh.api-key}", "--token=${secret:gh.token}", "--verbose",
            "${secret:gh.verbose}", "-p",
        ],
        "url": "https://x/mcp?profile=a&api_key=${secret:gh.api_key}#f",
    }  # fmt: skip
    assert texts["gh.verbose"] == "postgres://u:p4@h/d"
    assert texts["gh.api_key"] == "q1"


def test_what_has_the_wrong_form_stays(tmp_path: Path) -> None:
    section = {"args": ["a", 5], "env": ["TOKEN"], "headers": {"Token": 5}, "url": None}
    assert move_secrets("gh", section, tmp_path).section == section


def test_a_name_another_text_has_gets_a_number(tmp_path: Path) -> None:
    with stored_secrets(tmp_path, {"gh.TOKEN": "old"}):
        pass
    result = move_secrets("gh", {"env": {"TOKEN": "new"}}, tmp_path)
    assert result.texts == {"gh.TOKEN-2": "new"}
    again = move_secrets("gh", {"env": {"TOKEN": "old"}}, tmp_path)
    assert again.section == {"env": {"TOKEN": "${secret:gh.TOKEN}"}}
    assert free_name("a", "x", {"a": "y", "a-2": "z"}, tmp_path) == "a-3"
    assert free_name("a", "x", {"a": "x"}, tmp_path) == "a"


def test_a_name_is_one_that_a_reference_may_hold() -> None:
    assert secret_name("gh", "X Y/Z") == "gh.X-Y-Z"
    assert secret_name("gh", "a..") == "gh.a"
    assert len(secret_name("gh", "a" * 300)) == 120


def test_a_secret_is_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with stored_secrets(folder, {"gh.TOKEN": " abc\n"}):
        file = folder / "secrets" / "gh.TOKEN"
        assert file.read_text() == "abc\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert os.listdir(file.parent) == ["gh.TOKEN"]


def test_new_secrets_are_taken_back_where_the_work_fails_and_old_ones_stay(tmp_path: Path) -> None:
    with stored_secrets(tmp_path, {"old": "a"}):
        pass
    seen: list[str] = []

    def work() -> None:
        with stored_secrets(tmp_path, {"old": "a", "new": "b"}):
            seen.extend(sorted(os.listdir(tmp_path / "secrets")))
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        work()
    assert seen == ["new", "old"]
    assert os.listdir(tmp_path / "secrets") == ["old"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"n": " "}, "empty or too long"),
        ({"n": "x" * 70_000}, "empty or too long"),
        ({"there": "other"}, "another secret of this name"),
        ({"n" * 300: "x"}, "cannot read the secret"),
        ({"folder": "x"}, "cannot read the secret"),
    ],
)
def test_what_cannot_be_kept_is_said(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with stored_secrets(tmp_path, {"there": "a"}):
        (tmp_path / "secrets" / "folder").mkdir()
    with (
        pytest.raises(ConfigError, match=message),
        stored_secrets(tmp_path, {"first": "1", **texts}),
    ):
        pytest.fail("the block was entered")
    assert not (tmp_path / "secrets" / "first").exists()


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "link", refuse)
    with (
        pytest.raises(ConfigError, match="cannot write the secret .*Read-only"),  # noqa: RUF043 - a pattern
        stored_secrets(tmp_path, {"n": "x"}),
    ):
        pytest.fail("the block was entered")
    assert os.listdir(tmp_path / "secrets") == []
