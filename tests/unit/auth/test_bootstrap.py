from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.auth import bootstrap
from waygate_mcp.auth.api_keys import ApiKeyAuthenticator
from waygate_mcp.auth.bootstrap import KEYS_FILE, BootstrapKey, open_bootstrap_key
from waygate_mcp.auth.key_text import KeyHash, find_public_id, make_key
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError

HASH = KeyHash(b"m" * 32)
TEXT = "a-text-of-somebody's-own"
GOOD = make_key()
MISTYPED = GOOD[:20] + ("a" if GOOD[20] != "a" else "b") + GOOD[21:]


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **more)


def is_let_in(key: BootstrapKey, text: str) -> bool:
    headers = {b"x-api-key": text.encode()}
    return ApiKeyAuthenticator(HASH, [key.record]).authenticate(headers) is key.record.principal


def test_a_first_start_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    first = open_bootstrap_key(settings(tmp_path), HASH)
    second = open_bootstrap_key(settings(tmp_path), HASH)
    assert (first.source, second.source) == ("made", "kept")
    assert first.shown_once is not None
    assert second.shown_once is None
    assert is_let_in(first, first.shown_once)
    assert is_let_in(second, first.shown_once)
    assert first.record.principal.id == f"key:{find_public_id(first.shown_once)}"


def test_the_file_holds_a_hash_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = open_bootstrap_key(settings(tmp_path), HASH)
    file = tmp_path / KEYS_FILE
    assert made.shown_once is not None
    assert made.shown_once not in file.read_text()
    assert made.shown_once[16:] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEYS_FILE]
    assert made.shown_once not in repr(made)


@pytest.mark.parametrize("text", [TEXT, make_key()])
def test_a_key_that_is_set_is_in_force_and_kept_as_a_hash(tmp_path: Path, text: str) -> None:
    given = open_bootstrap_key(settings(tmp_path, api_key=text), HASH)
    kept = open_bootstrap_key(settings(tmp_path), HASH)
    assert (given.source, kept.source) == ("setting", "kept")
    assert given.shown_once is None
    assert is_let_in(given, text)
    assert is_let_in(kept, text)
    assert text not in (tmp_path / KEYS_FILE).read_text()
    assert given.record.principal.may("anything:at-all")


def test_a_key_that_is_set_replaces_the_one_kept(tmp_path: Path) -> None:
    made = open_bootstrap_key(settings(tmp_path), HASH)
    given = open_bootstrap_key(settings(tmp_path, api_key=TEXT), HASH)
    assert given.problem is None
    kept = open_bootstrap_key(settings(tmp_path), HASH)
    assert kept.record.digest == given.record.digest != made.record.digest


def test_the_same_key_set_again_writes_nothing(tmp_path: Path) -> None:
    open_bootstrap_key(settings(tmp_path, api_key=TEXT), HASH)
    before = (tmp_path / KEYS_FILE).stat().st_mtime_ns
    open_bootstrap_key(settings(tmp_path, api_key=TEXT), HASH)
    assert (tmp_path / KEYS_FILE).stat().st_mtime_ns == before


def test_a_key_from_a_file_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{TEXT}\n")
    file.chmod(0o600)
    assert is_let_in(open_bootstrap_key(settings(tmp_path, api_key_file=file), HASH), TEXT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short", "needs 24 to 256"),
        ("x" * 300, "needs 24 to 256"),
        ("with a space in the midst of it", "visible ASCII"),
        ("with-ümlauts-in-the-midst-of-it", "visible ASCII"),
        (MISTYPED, "checksum"),
    ],
)
def test_a_weak_or_mistyped_key_is_refused_and_not_shown(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        open_bootstrap_key(settings(tmp_path, api_key=text), HASH)
    assert caught.value.path == "WAYGATE_API_KEY"
    assert text not in str(caught.value)


def test_the_file_variable_is_named_where_its_content_is_weak(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("short")
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        open_bootstrap_key(settings(tmp_path, api_key_file=file), HASH)
    assert caught.value.path == "WAYGATE_API_KEY_FILE"


def test_keys_kept_under_another_secret_key_stop_the_start_and_say_so(tmp_path: Path) -> None:
    open_bootstrap_key(settings(tmp_path), KeyHash(b"other" * 8))
    with pytest.raises(ConfigError, match="another secret key"):
        open_bootstrap_key(settings(tmp_path), HASH)


def test_a_key_that_is_set_outweighs_a_file_of_another_secret_key(tmp_path: Path) -> None:
    open_bootstrap_key(settings(tmp_path), KeyHash(b"other" * 8))
    given = open_bootstrap_key(settings(tmp_path, api_key=TEXT), HASH)
    assert given.problem is None
    assert is_let_in(open_bootstrap_key(settings(tmp_path), HASH), TEXT)


@pytest.mark.parametrize("text", ["", "{", '{"version": 2, "hashed_with": "", "keys": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / KEYS_FILE).write_text(text)
    with pytest.raises(ConfigError, match="damaged"):
        open_bootstrap_key(settings(tmp_path), HASH)


def test_a_digest_that_is_no_hexadecimal_is_damage(tmp_path: Path) -> None:
    open_bootstrap_key(settings(tmp_path), HASH)
    file = tmp_path / KEYS_FILE
    kept = json.loads(file.read_text())
    kept["keys"][0]["digest"] = "zz"
    file.write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match="damaged"):
        open_bootstrap_key(settings(tmp_path), HASH)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        open_bootstrap_key(settings(tmp_path), HASH)


def test_a_folder_that_cannot_be_written_hinders_no_key_that_is_set(tmp_path: Path) -> None:
    missing = settings(tmp_path / "not" / "there", api_key=TEXT)
    given = open_bootstrap_key(missing, HASH)
    assert is_let_in(given, TEXT)
    assert given.problem is not None
    assert "cannot write" in given.problem


def test_a_damaged_file_that_cannot_be_replaced_is_a_problem_and_no_fault(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).mkdir()
    given = open_bootstrap_key(settings(tmp_path, api_key=TEXT), HASH)
    assert is_let_in(given, TEXT)
    assert given.problem is not None


def test_a_made_key_that_cannot_be_kept_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bootstrap, "_write", full)
    with pytest.raises(ConfigError, match="No space left"):
        open_bootstrap_key(settings(tmp_path), HASH)


def test_of_two_processes_that_start_at_once_one_makes_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_bootstrap_key(settings(tmp_path), HASH)
    real, calls = bootstrap._read, []

    def blind_at_first(path: Path, key_hash: KeyHash) -> Any:
        calls.append(path)
        return None if len(calls) == 1 else real(path, key_hash)

    monkeypatch.setattr(bootstrap, "_read", blind_at_first)
    second = open_bootstrap_key(settings(tmp_path), HASH)
    assert second.source == "kept"
    assert second.record.digest == first.record.digest


def test_while_serving_no_key_is_made_that_nobody_would_see(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set WAYGATE_API_KEY"):
        open_bootstrap_key(settings(tmp_path), HASH, may_make=False)
