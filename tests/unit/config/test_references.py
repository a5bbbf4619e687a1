"""References: `${env:…}`, `${file:…}`, `${secret:…}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.config.references import (
    KnownSecrets,
    find_references,
    names_in,
    near_places,
    resolve_references,
)
from waygate_mcp.config.secrets import SecretText
from waygate_mcp.errors import ConfigError

ENVIRON = {"TOKEN": "t0ken-value", "EMPTY": ""}


def resolve(value: Any, data_dir: Path = Path("/nonexistent"), **more: Any) -> Any:
    return resolve_references(value, data_dir=data_dir, environ=ENVIRON, **more)


def place_secret(data_dir: Path, name: str, text: str, mode: int = 0o600) -> None:
    folder = data_dir / "secrets"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


def test_values_without_references_come_back_as_they_are() -> None:
    value = {"a": [1, 2.5, None, True, "text", {"b": "$x {y}"}]}
    assert resolve(value) == value


def test_a_variable_is_put_in_its_place_and_hidden() -> None:
    resolved = resolve({"headers": ["Bearer ${env:TOKEN}", "x"]})
    assert resolved == {"headers": ["Bearer t0ken-value", "x"]}
    assert isinstance(resolved["headers"][0], SecretText)
    assert not isinstance(resolved["headers"][1], SecretText)
    assert "t0ken" not in repr(resolved)


def test_the_value_that_was_given_is_not_changed() -> None:
    value = {"a": ["${env:TOKEN}"]}
    resolve(value)
    assert value == {"a": ["${env:TOKEN}"]}


def test_each_secret_is_told_so_that_logs_can_hide_it() -> None:
    told: list[str] = []
    resolve("a ${env:TOKEN} b ${env:EMPTY}", on_secret=told.append)
    assert told == ["t0ken-value", ""]


def test_a_doubled_dollar_is_a_plain_one() -> None:
    assert resolve("$${env:TOKEN} costs $5") == "${env:TOKEN} costs $5"


def test_what_a_secret_holds_is_not_resolved_again() -> None:
    resolved = resolve_references(
        "${env:A}", data_dir=Path("/nonexistent"), environ={"A": "${env:B}", "B": "x"}
    )
    assert resolved == "${env:B}"


def test_a_file_is_read_if_only_its_owner_can(tmp_path: Path) -> None:
    place_secret(tmp_path, "s", "from file\n")
    file = tmp_path / "secrets" / "s"
    assert resolve(f"${{file:{file}}}") == "from file"
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve(f"${{file:{file}}}")


def test_a_secret_is_a_variable_or_else_a_file_of_the_data_folder(tmp_path: Path) -> None:
    place_secret(tmp_path, "TOKEN", "file wins not")
    place_secret(tmp_path, "OTHER", "other")
    assert resolve("${secret:TOKEN}", tmp_path) == "t0ken-value"
    assert resolve("${secret:OTHER}", tmp_path) == "other"
    place_secret(tmp_path, "OTHER", "other", mode=0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve("${secret:OTHER}", tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "/etc/passwd", "a\x00b", "x" * 200])
def test_a_secrets_name_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("outside")
    with pytest.raises(ConfigError, match="not the name of a secret"):
        resolve(f"${{secret:{name}}}", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${env:NONE}", "'NONE' is not set"),
        ("${secret:NONE}", "neither an environment variable nor the file"),
        ("${file:/nonexistent/x}", "cannot read"),
        ("${TOKEN}", "is written"),
        ("${env:}", "is written"),
        ("${env:TOKEN", "is written"),
        ("${}", "is written"),
        ("${envv:TOKEN}", "unknown kind"),
    ],
)
def test_what_cannot_be_resolved_is_named_with_its_path(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"list": [text]}, path="plugins.x.config")
    assert caught.value.path == "plugins.x.config.list[0]"
    assert words in str(caught.value)


def test_a_misspelt_kind_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("${secrt:X}")
    assert caught.value.problems[0].suggestion == "secret"


def test_all_that_cannot_be_resolved_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"a": "${env:X} ${env:Y}", "b": "${env:Z}"})
    assert [problem.path for problem in caught.value.problems] == ["a", "a", "b"]


def test_endless_nesting_ends() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ConfigError, match="nested deeper"):
        resolve(value)


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NAME", "some value")
    assert resolve_references("${env:SOME_NAME}", data_dir=Path("/nonexistent")) == "some value"


def test_references_can_be_listed_without_resolving_them() -> None:
    assert list(find_references("a ${env:X} $${env:Y} ${bad}")) == [("env", "X"), ("bad", "")]


def test_the_places_of_a_secret_count_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, folder = tmp_path / "run", tmp_path / "k8s"
    monkeypatch.setattr("waygate_mcp.config.references.MOUNTED", (mounted,))
    known = KnownSecrets((folder,), {"S": "fetched"}, {})
    environ: dict[str, str] = {}

    def found() -> str:
        text = resolve_references("${secret:S}", data_dir=tmp_path, environ=environ, known=known)
        assert isinstance(text, SecretText)
        return text

    assert found() == "fetched"
    for there, text in ((folder, "of a folder"), (mounted, "mounted")):
        there.mkdir()
        (there / "S").write_text(text)
        (there / "S").chmod(0o600)
        assert found() == text
    place_secret(tmp_path, "S", "of the data folder")
    assert found() == "of the data folder"
    environ["S"] = "of the environment"
    assert found() == "of the environment"


def test_a_place_that_has_it_and_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    place_secret(tmp_path, "S", "open to others", mode=0o644)
    known = KnownSecrets((), {"S": "fetched"}, {})
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve("${secret:S}", tmp_path, known=known)


def test_why_it_could_not_be_fetched_is_said_and_where_it_was_looked_for() -> None:
    known = KnownSecrets((), {}, {"S": "Vault: is not reached"}, ("the encrypted store", "Vault"))
    with pytest.raises(ConfigError, match="'S': Vault: is not reached"):
        resolve("${secret:S}", known=known)
    with pytest.raises(ConfigError, match="nor in the encrypted store, nor in Vault") as caught:
        resolve("${secret:T}", known=known)
    assert "waygate secrets set T" in str(caught.value)


def test_a_folder_that_is_closed_to_us_counts_as_a_place_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_file", closed)
    places = list(near_places("S", data_dir=tmp_path, environ={}))
    assert [one.has_it for one in places][:2] == [False, True]


def test_known_secrets_do_not_show_their_texts() -> None:
    assert "canary" not in repr(KnownSecrets((), {"S": "canary"}, {}))


def test_the_names_in_a_value_come_with_their_paths() -> None:
    value = {"a": ["x", "${secret:A} ${env:B}"], "b": {"c": "${secret:C}"}, "d": 5}
    assert list(names_in(value, "root")) == [("A", "root.a[1]"), ("C", "root.b.c")]
    assert list(names_in({"a": "${secret:A}"})) == [("A", "a")]
