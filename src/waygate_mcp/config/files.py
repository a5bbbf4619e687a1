"""Files written whole or not at all.

Knows how a file is replaced in one step, and how its old content is kept. Refuses to know what is in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from waygate_mcp.errors import ConfigError

__all__ = ["alone_in", "keep_beside", "read_text", "write_whole"]

_ANY_MODE = 0o777
_NEW_MODE = 0o644


def read_text(path: Path, *, limit_bytes: int) -> str | None:
    """Read a UTF-8 file as it stands, line breaks included; None where there is none.

    Raises:
        ConfigError: it cannot be read, is longer than `limit_bytes`, or is not UTF-8.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(limit_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", source=str(path)) from exc
    if len(data) > limit_bytes:
        raise ConfigError(f"is longer than {limit_bytes} bytes", source=str(path))
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", source=str(path)) from None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only one of our commands that writes into `folder`; waits for nobody.

    Raises:
        ConfigError: another one does so at this moment, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as exc:
        raise ConfigError(f"cannot be written: {exc}", source=str(folder)) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno == errno.EWOULDBLOCK:
                message = "another command writes here at this moment; do it again"
                raise ConfigError(message, source=str(folder)) from exc
            # A file system without locks: the comparison before writing has to do.
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, *, is_secret: bool = False) -> None:
    """Write `text` to `path` in one step, so that no reader ever sees half of it.

    Links are followed: what is replaced is what they lead to. Mode and owner of an existing file
    stay, except that a secret is its owner's alone. Folders that are missing are made.

    Raises:
        ConfigError: it cannot be written; what was there is untouched then.
    """
    real = Path(os.path.realpath(path))
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        before = real.stat() if real.exists() else None
        if before is not None and not real.is_file():
            raise ConfigError("is no regular file", source=str(path))
        mode = _NEW_MODE if before is None else before.st_mode & _ANY_MODE
        descriptor, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if before is not None and hasattr(os, "chown"):
                with contextlib.suppress(PermissionError):  # only root may give a file away
                    os.chown(temporary, before.st_uid, before.st_gid)
            Path(temporary).chmod(mode & 0o600 if is_secret else mode)
            Path(temporary).replace(real)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(real.parent)
    except OSError as exc:
        raise ConfigError(f"cannot be written: {exc}", source=str(path)) from exc


def keep_beside(path: Path) -> Path:
    """Copy a file beside what `path` leads to, under a free name; give where.

    Raises:
        ConfigError: it cannot be copied.
    """
    real = Path(os.path.realpath(path))
    try:
        content, mode = real.read_bytes(), real.stat().st_mode & _ANY_MODE
        for number in range(1, 1_000):
            backup = real.with_name(f"{real.name}.waygate-backup-{number}")
            try:
                descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:
                continue
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return backup
    except OSError as exc:
        raise ConfigError(f"cannot be kept: {exc}", source=str(path)) from exc
    raise ConfigError("too many backups stand beside it", source=str(path))


def _sync_folder(folder: Path) -> None:
    """Make a new name last; systems that cannot do so do without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
