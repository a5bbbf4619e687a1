"""What the process must know before it can read the document.

Knows the `WAYGATE_*` variables of the environment and of `.env`. Refuses to know what is in the
document, and never prints a secret. Order of precedence: command line (the arguments given to
`read_settings`), then the environment, then `.env`, then the defaults here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from waygate_mcp.config.hosts import parse_host, parse_origin
from waygate_mcp.config.problems import describe
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem

PREFIX = "WAYGATE_"
ENV_FILE = ".env"
DATABASE_ALIAS = "DATABASE_URL"
HOME = Path("~/.waygate")
"""Where data, logs and the document lie when nothing else is said."""

REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"})

Names = Annotated[tuple[str, ...], NoDecode]
"""Several values, written with commas between them."""


class Settings(BaseSettings):
    """The settings of one process, read once at start and frozen.

    Read them with `read_settings`, which turns faults into a ConfigError that names the variable.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=None,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        validate_default=True,
    )

    env: Literal["development", "production"] = Field(
        "development",
        description="In `production` a secret key from outside is required and /docs is closed.",
    )
    config: Path | None = Field(
        None,
        description="The document. Default: ./waygate.yaml if there, else ~/.waygate/waygate.yaml.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.", min_length=1)
    port: int = Field(
        8000, description="TCP port to listen on; 0 takes a free one.", ge=0, le=65535
    )
    workers: int = Field(
        1,
        description='Number of server processes; see "Several workers" in docs/api.md.',
        ge=1,
        le=256,
    )
    data_dir: Path = Field(HOME / "data", description="Folder of what must last, mode 700.")
    log_dir: Path | None = Field(
        HOME / "logs", description="Folder of the log files; `none` writes to standard error only."
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Master key, at least 32 bytes. Default: made on first start in the data folder.",
    )
    secret_key_file: Path | None = Field(
        None, description="File that holds the master key, readable by its owner only."
    )
    secret_key_previous_file: Path | None = Field(
        None,
        description="File of the master key before this one; see `waygate secrets rewrap --help`.",
    )
    api_key: SecretStr | None = Field(None, description="The bootstrap administrator's key.")
    api_key_file: Path | None = Field(
        None, description="File that holds the bootstrap key, readable by its owner only."
    )
    db_url: SecretStr | None = Field(
        None,
        description=(
            "The database: `postgresql+asyncpg://USER:PASSWORD@HOST/NAME`, or `sqlite:///FILE`. "
            "Default: SQLite in the data folder. `DATABASE_URL` is read where this is not set."
        ),
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis in which several machines count rates together: `redis://HOST:6379/0`, "
        "`rediss://USER:PASSWORD@HOST/0` with TLS, or `unix:///SOCKET`. Default: none, one machine.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe level that is written."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="Form of standard error: JSON lines, or text for people."
    )
    cors_origins: Names = Field(
        (), description="Origins of web pages that may call us; replaces `server.cors_origins`."
    )
    allowed_hosts: Names = Field(
        (), description="Host names beside the loopback ones; replaces `server.allowed_hosts`."
    )
    max_request_size: int = Field(
        10 * 1024 * 1024,
        description="Largest request body in bytes; a larger one is refused with 413.",
        ge=1024,
        le=1024 * 1024 * 1024,
    )

    rate_limit: int = Field(
        6000,
        description="Requests a key may make in a minute where `limits.rates` says nothing else; "
        "a thirtieth of them, 200 by default, in a row.",
        ge=1,
        le=1_000_000_000,
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("env", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("log_dir", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "none" else value

    @field_validator("cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for raw in value.split(",") if (part := raw.strip()))
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_redis_url(value.get_secret_value())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_origin(origin) for origin in value)

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_host(host) for host in value)

    @field_validator(
        "config",
        "data_dir",
        "log_dir",
        "secret_key_file",
        "secret_key_previous_file",
        "api_key_file",
    )
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        for name in ("secret_key", "api_key"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                both = f"{PREFIX}{name.upper()}"
                raise ValueError(f"{both} and {both}_FILE are both set; keep one")
        if self.is_production and self.secret_key is None and self.secret_key_file is None:
            raise ValueError(
                f"in production set {PREFIX}SECRET_KEY or {PREFIX}SECRET_KEY_FILE; "
                "`openssl rand -base64 48` makes a good one"
            )
        return self

    @property
    def is_production(self) -> bool:
        """Whether `env` is `production`."""
        return self.env == "production"

    @property
    def run_dir(self) -> Path:
        """Folder for files that live as long as the server (process ids, sockets and metrics of workers)."""
        return self.data_dir / "run"


def check_redis_url(text: str) -> None:
    """Look at the address of a Redis.

    Raises:
        ValueError: it is none; the message holds no part of it.
    """
    try:
        parts = urlsplit(text)
        is_there = bool(parts.path if parts.scheme == "unix" else parts.hostname)
        number = parts.path.removeprefix("/")
        is_fine = (
            parts.scheme in REDIS_SCHEMES
            and is_there
            and parts.port != 0
            and (parts.scheme == "unix" or not number or (number.isascii() and number.isdecimal()))
        )
    except ValueError:  # its port is no number
        is_fine = False
    if not is_fine:
        raise ValueError("write redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix:///SOCKET")


def read_settings(
    overrides: Mapping[str, Any] | None = None, *, env_file: Path | str | None = ENV_FILE
) -> Settings:
    """Read the settings of this process.

    `overrides` are command-line values by field name; those that are None count as not given.

    Raises:
        ConfigError: a variable or override has a value it cannot have; every fault is listed under
            the name of its variable, never with the value.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        settings = Settings(_env_file=env_file, **given)
        alias = None if settings.db_url is not None else _database_alias(env_file)
        return Settings(_env_file=env_file, **given, db_url=alias) if alias else settings
    except ValidationError as exc:
        raise ConfigError(problems=tuple(_problems(exc)), source="environment") from None


def _database_alias(env_file: Path | str | None) -> SecretStr | None:
    """Give what platforms that run services set for them."""
    found = os.environ.get(DATABASE_ALIAS)
    if not found and env_file is not None:
        found = dotenv_values(env_file).get(DATABASE_ALIAS)
    return SecretStr(found) if found else None


def unknown_variables(
    environ: Mapping[str, str] | None = None, *, env_file: Path | str | None = ENV_FILE
) -> tuple[str, ...]:
    """Give one warning for each `WAYGATE_*` variable nobody reads, with the nearest known name.

    The values are never part of a warning. Looks into `environ` (the process's own if None) and
    into `env_file`.
    """
    names = set(os.environ if environ is None else environ)
    if env_file is not None:
        names.update(dotenv_values(env_file))
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    return tuple(_unknown(name, known) for name in unknown)


def _unknown(name: str, known: Iterable[str]) -> str:
    # Without the prefix, which every name shares and which would make all of them look alike.
    bare = nearest(name.removeprefix(PREFIX), (word.removeprefix(PREFIX) for word in known))
    hint = f"; did you mean {PREFIX}{bare}?" if bare else ""
    return f"unknown variable {name!r} has no effect{hint}"


def _problems(exc: ValidationError) -> Iterable[ConfigProblem]:
    for error in exc.errors(include_url=False):
        name = str(error["loc"][0]) if error["loc"] else ""
        message, suggestion = describe(error)
        yield ConfigProblem(PREFIX + name.upper() if name else "", message, suggestion=suggestion)
