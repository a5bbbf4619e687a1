"""Secrets from files and the environment: the wrapper, the mode checks, the master key.

Knows where a secret may lie and how a new one is made. Refuses to use a file others can read or
change, and says how to mend it. No message of this module holds a secret.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from pydantic import SecretStr

from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError

KEY_FILE = "secret.key"
"""Name of the master key in the data folder."""

MIN_KEY_BYTES = 32
MAX_SECRET_BYTES = 64 * 1024
MOUNTED = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where container engines mount secrets, with modes nobody can choose."""


class SecretText(str):
    """Text that must not be shown: a plain string in use, `***` in `repr`, hidden in logs by type.

    It is made where a reference of the document is resolved. Joining it with other text gives a
    plain string, which the log then knows by value (`telemetry.redaction`).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the text."""
        return "SecretText('***')"


def load_or_create_secret_key(settings: Settings) -> bytes:
    """Give the master key: from the environment, from its file, or made now in the data folder.

    The bytes are those of the text itself, so that the content of the file can be moved into
    `WAYGATE_SECRET_KEY` and is the same key. Two processes that start at once get one key.

    Raises:
        ConfigError: the key is shorter than 32 bytes, its file cannot be read, or others can read it.
    """
    if settings.secret_key is not None:
        return _long_enough(settings.secret_key.get_secret_value().encode(), "WAYGATE_SECRET_KEY")
    if settings.secret_key_file is not None:
        text = read_secret_file(settings.secret_key_file, path="WAYGATE_SECRET_KEY_FILE")
        return _long_enough(text.encode(), "WAYGATE_SECRET_KEY_FILE")
    prepare_private_folder(settings.data_dir, path="WAYGATE_DATA_DIR")
    path = settings.data_dir / KEY_FILE
    _create_once(path, secrets.token_urlsafe(48))
    return _long_enough(read_secret_file(path, path="WAYGATE_DATA_DIR").encode(), str(path))


def load_previous_secret_key(settings: Settings) -> bytes | None:
    """Give the master key before this one, None where none is named.

    Raises:
        ConfigError: its file cannot be read, or others can read it, or it is too short.
    """
    if settings.secret_key_previous_file is None:
        return None
    where = "WAYGATE_SECRET_KEY_PREVIOUS_FILE"
    text = read_secret_file(settings.secret_key_previous_file, path=where)
    return _long_enough(text.encode(), where)


def load_api_key(settings: Settings) -> SecretStr | None:
    """Give the bootstrap key of `WAYGATE_API_KEY` or its file; None if neither is set.

    Raises:
        ConfigError: the file cannot be read, is empty, or others can read it.
    """
    if settings.api_key_file is None:
        return settings.api_key
    return SecretStr(read_secret_file(settings.api_key_file, path="WAYGATE_API_KEY_FILE"))


def prepare_private_folder(folder: Path, *, path: str) -> None:
    """Make `folder` with mode 700 if it is not there; `path` names the setting in errors.

    Raises:
        ConfigError: it cannot be made, is no folder, or others may write into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"cannot make the folder {folder}: {exc.strerror}", path=path) from exc
    if mode & 0o022:
        raise ConfigError(
            f"others may write into {folder}; mend it with: chmod 700 {folder}", path=path
        )


def read_secret_file(file: Path, *, path: str) -> str:
    """Read one secret: the text of `file` without the white space around it.

    `path` names the setting or key in errors.

    Raises:
        ConfigError: not readable, empty, not UTF-8, over 64 KiB, or open to others.
    """
    try:
        with file.open("rb") as handle:
            problem = _open_to_others(os.fstat(handle.fileno()), file)
            data = b"" if problem else handle.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}", path=path) from exc
    if problem:
        raise ConfigError(problem, path=path)
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_SECRET_BYTES} bytes", path=path)
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text", path=path) from None
    if not text:
        raise ConfigError(f"{file} is empty", path=path)
    return text


def _open_to_others(info: os.stat_result, file: Path) -> str | None:
    # Three cases: a mount of the container engine, whose mode nobody chooses; a file of another
    # owner (root, put there for us), which must not be changeable; our own, which only we may read.
    if not stat.S_ISREG(info.st_mode):
        return f"{file} is not a regular file"
    if any(file.is_relative_to(folder) for folder in MOUNTED):
        return None
    forbidden = 0o077 if info.st_uid == os.geteuid() else 0o022
    if info.st_mode & forbidden:
        mode = stat.S_IMODE(info.st_mode)
        return f"{file} is open to others (mode {mode:o}); mend it with: chmod 600 {file}"
    return None


def _create_once(path: Path, text: str) -> None:
    # The name appears only with the whole content behind it: a process that lost the race, or one
    # that starts after a crash in the middle, never reads half a key.
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as handle:
                handle.write(f"{text}\n")
                handle.flush()
                os.fsync(handle.fileno())
            os.link(draft, path)
        except FileExistsError:
            return
        finally:
            draft.unlink()
    except OSError as exc:
        raise ConfigError(
            f"cannot write the secret key {path}: {exc.strerror}", path="WAYGATE_DATA_DIR"
        ) from exc


def _long_enough(key: bytes, path: str) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"the secret key has {len(key)} bytes and needs at least {MIN_KEY_BYTES}; "
            "`openssl rand -base64 48` makes a good one",
            path=path,
        )
    return key
