"""The bootstrap administrator's key: given by a setting, kept from an earlier start, or made now.

Knows `keys.json` in the data folder, which holds hashes and never a key. Refuses to print: the text
of a key made now is handed to whoever starts the server, once.

    set by WAYGATE_API_KEY or its file   it is in force, and its hash replaces the one kept
    not set, one kept                    the kept one is in force
    not set, none kept                   one is made, kept as a hash, and given back to be shown
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Literal

import msgspec

from waygate_mcp.auth.api_keys import KeyRecord
from waygate_mcp.auth.key_text import KeyHash, find_public_id, has_key_form, make_key
from waygate_mcp.config.secrets import load_api_key, prepare_private_folder
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError
from waygate_mcp.model.principal import Principal

__all__ = ["KEYS_FILE", "BootstrapKey", "KeySource", "open_bootstrap_key"]

KEYS_FILE = "keys.json"
"""Name of the file in the data folder."""

MIN_KEY_CHARS = 24
MAX_KEY_CHARS = 256
_MAX_FILE_BYTES = 1024 * 1024
_PROBE = b"waygate key file"
_NAME = "bootstrap administrator"

KeySource = Literal["setting", "kept", "made"]


@dataclass(frozen=True, slots=True)
class BootstrapKey:
    """The key in force. `shown_once` is its text if it was made just now, else None.

    `problem` says why its hash could not be kept, where it is in force all the same.
    """

    record: KeyRecord
    source: KeySource
    shown_once: str | None = None
    problem: str | None = None

    def __repr__(self) -> str:
        """Leave the text of the key out."""
        return f"BootstrapKey(source={self.source!r}, id={self.record.public_id!r})"


class _KeptKey(msgspec.Struct, forbid_unknown_fields=True):
    """One line of the file. `public_id` is null for a text that is not of our form."""

    public_id: str | None
    digest: str
    role: Literal["bootstrap"] = "bootstrap"


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file. `hashed_with` is a hash of a constant: it tells whether the master key is the same."""

    version: Literal[1]
    hashed_with: str
    keys: list[_KeptKey]


_decode = msgspec.json.Decoder(_KeyFile).decode


def open_bootstrap_key(
    settings: Settings, key_hash: KeyHash, *, may_make: bool = True
) -> BootstrapKey:
    """Give the bootstrap key in force, and keep its hash.

    Blocks for a moment on the disk. Without `may_make` none is made: nobody would see it.

    Raises:
        ConfigError: the key that is set is too weak or mistyped; `keys.json` cannot be read or was
            written under another master key; a key was made and cannot be kept, or none is there.
    """
    path = settings.data_dir / KEYS_FILE
    given = load_api_key(settings)
    if given is not None:
        where = "WAYGATE_API_KEY" if settings.api_key_file is None else "WAYGATE_API_KEY_FILE"
        return _use_given(given.get_secret_value(), where, path, key_hash)
    kept = _read(path, key_hash)
    if kept is not None:
        return BootstrapKey(kept, "kept")
    if not may_make:
        raise ConfigError("there is no key yet; set WAYGATE_API_KEY or restart", path="auth.mode")
    return _make(path, key_hash)


def _use_given(text: str, where: str, path: Path, key_hash: KeyHash) -> BootstrapKey:
    """Put the key of a setting in force."""
    _check_strength(text, where)
    public_id = find_public_id(text)
    if public_id is None and has_key_form(text):
        raise ConfigError(
            "looks like a key of ours, but its checksum is wrong: a character is missing or changed",
            path=where,
        )
    digest = key_hash.digest(text.encode())
    record = _record(public_id, digest)
    try:
        kept = _read(path, key_hash)
        if kept is None or not compare_digest(kept.digest, digest):
            _write(path, _file_text(record, key_hash), replace=True)
    except ConfigError:
        # Under another master key, or broken: what is set now outweighs it.
        return BootstrapKey(record, "setting", problem=_replace(path, record, key_hash))
    except OSError as exc:
        return BootstrapKey(record, "setting", problem=f"cannot write {path}: {exc.strerror}")
    return BootstrapKey(record, "setting")


def _replace(path: Path, record: KeyRecord, key_hash: KeyHash) -> str | None:
    try:
        _write(path, _file_text(record, key_hash), replace=True)
    except OSError as exc:
        return f"cannot write {path}: {exc.strerror}"
    return None


def _make(path: Path, key_hash: KeyHash) -> BootstrapKey:
    """Make a key and keep its hash; whoever was first wins where two processes start at once."""
    text = make_key()
    record = _record(find_public_id(text), key_hash.digest(text.encode()))
    prepare_private_folder(path.parent, path="WAYGATE_DATA_DIR")
    try:
        if not _write(path, _file_text(record, key_hash), replace=False):
            kept = _read(path, key_hash)
            if kept is not None:
                return BootstrapKey(kept, "kept")
    except OSError as exc:
        raise ConfigError(
            f"cannot write {path}: {exc.strerror}; make the folder writable, or set a key",
            path="WAYGATE_DATA_DIR",
        ) from exc
    return BootstrapKey(record, "made", shown_once=text)


def _check_strength(text: str, where: str) -> None:
    if not all("\x21" <= character <= "\x7e" for character in text):
        raise ConfigError("the key may hold visible ASCII characters only", path=where)
    if not MIN_KEY_CHARS <= len(text) <= MAX_KEY_CHARS:
        raise ConfigError(
            f"the key has {len(text)} characters; it needs {MIN_KEY_CHARS} to {MAX_KEY_CHARS}. "
            "`openssl rand -hex 32` makes a good one",
            path=where,
        )


def _record(public_id: str | None, digest: bytes) -> KeyRecord:
    principal = Principal(f"key:{public_id or 'bootstrap'}", _NAME, frozenset({"*"}))
    return KeyRecord(public_id, digest, principal)


def _read(path: Path, key_hash: KeyHash) -> KeyRecord | None:
    """Give the key that is kept, None where the file is not there.

    Raises:
        ConfigError: it is there and of no use.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}", path="WAYGATE_DATA_DIR") from exc
    try:
        kept = _decode(data)
        digests = [bytes.fromhex(key.digest) for key in kept.keys]
    except (msgspec.MsgspecError, ValueError):
        raise ConfigError(
            f"{path} is damaged; remove it to have a new key made", path="WAYGATE_DATA_DIR"
        ) from None
    if not compare_digest(kept.hashed_with, key_hash.digest(_PROBE).hex()):
        raise ConfigError(
            f"the keys in {path} were stored under another secret key: restore that secret key, or "
            "remove the file to have a new key made",
            path="WAYGATE_SECRET_KEY",
        )
    return _record(kept.keys[0].public_id, digests[0]) if kept.keys else None


def _file_text(record: KeyRecord, key_hash: KeyHash) -> bytes:
    kept = _KeyFile(
        1, key_hash.digest(_PROBE).hex(), [_KeptKey(record.public_id, record.digest.hex())]
    )
    return msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"


def _write(path: Path, data: bytes, *, replace: bool) -> bool:
    """Put `data` at `path` in one step, mode 600; without `replace`, only if nothing is there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
