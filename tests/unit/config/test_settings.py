"""Process settings from the environment, `.env` and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from waygate_mcp.config.settings import Settings, read_settings, unknown_variables
from waygate_mcp.errors import ConfigError

CANARY = "canary-5f2b-do-not-print-this-secret"


def read(**overrides: object) -> Settings:
    return read_settings(overrides, env_file=None)


def test_the_defaults_are_those_of_the_surface() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert (settings.env, settings.log_level, settings.log_format) == (
        "development",
        "INFO",
        "json",
    )
    assert settings.max_request_size == 10485760
    assert settings.data_dir == Path.home() / ".waygate" / "data"
    assert settings.log_dir == Path.home() / ".waygate" / "logs"
    assert settings.allowed_hosts == settings.cors_origins == ()


def test_there_are_fewer_than_25_settings() -> None:
    assert len(Settings.model_fields) < 25


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_command_line_outweighs_the_environment_and_that_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WAYGATE_PORT=1001\nWAYGATE_WORKERS=3\nWAYGATE_HOST=127.0.0.3\n")
    monkeypatch.setenv("WAYGATE_PORT", "1002")
    monkeypatch.setenv("WAYGATE_WORKERS", "2")
    settings = read_settings({"port": 1003, "workers": None}, env_file=env_file)
    assert (settings.port, settings.workers, settings.host) == (1003, 2, "127.0.0.3")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_PORT", "")
    assert read().port == 8000


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_ALLOWED_HOSTS", " A.example.org, b:80 ,")
    monkeypatch.setenv("WAYGATE_CORS_ORIGINS", "https://A.example.org:443")
    settings = read()
    assert settings.allowed_hosts == ("a.example.org", "b:80")
    assert settings.cors_origins == ("https://a.example.org",)


def test_words_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_LOG_LEVEL", "debug")
    monkeypatch.setenv("WAYGATE_LOG_FORMAT", "Console")
    assert (read().log_level, read().log_format) == ("DEBUG", "console")


def test_the_log_file_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_LOG_DIR", "none")
    assert read().log_dir is None


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_CONFIG", "~/my.yaml")
    assert read().config == Path.home() / "my.yaml"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "x", "expected a whole number"),
        ("PORT", "65536", "at most 65535"),
        ("PORT", "-1", "at least 0"),
        ("WORKERS", "0", "at least 1"),
        ("ENV", "prod", "expected development or production"),
        ("LOG_LEVEL", "loud", "expected DEBUG"),
        ("ALLOWED_HOSTS", "*", "not a host name"),
        ("CORS_ORIGINS", "example.org", "not an origin"),
        ("MAX_REQUEST_SIZE", "10", "at least 1024"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"WAYGATE_{name}", value)
    with pytest.raises(ConfigError) as caught:
        read()
    assert [problem.path for problem in caught.value.problems] == [f"WAYGATE_{name}"]
    assert words in caught.value.problems[0].message


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_PORT", "x")
    monkeypatch.setenv("WAYGATE_WORKERS", "y")
    with pytest.raises(ConfigError) as caught:
        read()
    assert {problem.path for problem in caught.value.problems} == {
        "WAYGATE_PORT",
        "WAYGATE_WORKERS",
    }


def test_a_misspelt_word_gets_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_ENV", "prodution")
    with pytest.raises(ConfigError) as caught:
        read()
    assert caught.value.problems[0].suggestion == "production"


def test_production_needs_a_secret_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_ENV", "production")
    with pytest.raises(ConfigError, match="WAYGATE_SECRET_KEY"):
        read()
    monkeypatch.setenv("WAYGATE_SECRET_KEY", CANARY)
    assert read().is_production


@pytest.mark.parametrize("name", ["SECRET_KEY", "API_KEY"])
def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"WAYGATE_{name}", CANARY)
    monkeypatch.setenv(f"WAYGATE_{name}_FILE", "/run/secrets/x")
    with pytest.raises(ConfigError, match="both set") as caught:
        read()
    assert CANARY not in str(caught.value)


def test_secrets_are_in_no_repr_and_no_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_SECRET_KEY", CANARY)
    monkeypatch.setenv("WAYGATE_API_KEY", CANARY)
    settings = read()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert CANARY not in shown


def test_a_secret_of_the_wrong_kind_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read(secret_key=[CANARY], port=CANARY)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        setattr(read(), "port", 1)  # noqa: B010 - mypy sees that it is read-only


def test_the_run_folder_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert read(data_dir=tmp_path).run_dir == tmp_path / "run"


def test_unknown_variables_are_named_with_the_nearest_known_one_and_without_their_value() -> None:
    environ = {"WAYGATE_PORTT": CANARY, "WAYGATE_ZZZ": CANARY, "WAYGATE_PORT": "1", "PATH": "x"}
    warnings = unknown_variables(environ, env_file=None)
    assert warnings == (
        "unknown variable 'WAYGATE_PORTT' has no effect; did you mean WAYGATE_PORT?",
        "unknown variable 'WAYGATE_ZZZ' has no effect",
    )


def test_unknown_variables_of_the_env_file_are_named_too(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"WAYGATE_LOG_LEVLE={CANARY}\n")
    (warning,) = unknown_variables({}, env_file=env_file)
    assert "WAYGATE_LOG_LEVEL?" in warning
    assert CANARY not in warning


def test_the_processs_own_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_HOTS", "x")
    assert "WAYGATE_HOST?" in unknown_variables(env_file=None)[0]


def documented_settings() -> list[str]:
    """The rows docs/configuration.md must have."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, Path):
            shown = f"`{default}`"
        elif default is None or default == ():
            shown = "–"
        else:
            shown = f"`{default}`"
        rows.append(f"| `WAYGATE_{name.upper()}` | {shown} | {field.description} |")
    return rows


def test_the_page_has_a_row_for_every_setting_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `WAYGATE_")]
    assert rows == documented_settings()


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://u:p@h:6380/1", "unix:///run/redis.sock", "redis://[::1]:6379/0"],
)
def test_the_address_of_a_redis_is_kept_as_a_secret(url: str) -> None:
    settings = read(redis_url=url)
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "url",
    ["h:6379", "http://h", "redis://", "redis://h:port", "redis://h:0", "redis://h/x", "unix:"],
)
def test_what_is_no_address_of_a_redis_is_refused_unseen(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(redis_url=url.replace("h:", f"{CANARY}:"))
    assert "WAYGATE_REDIS_URL" in str(caught.value)
    assert "rediss:// for TLS" in str(caught.value)
    assert CANARY not in str(caught.value)
