"""Secrets that stand literally in a server's configuration, and where they are put instead.

Knows which texts look like secrets: by the name beside them or by themselves (`telemetry.redaction`). Where in
doubt a text is taken for one, since a reference to a file works as well as the text. Refuses to touch what refers to
something already.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waygate_mcp.config.references import SECRETS_FOLDER
from waygate_mcp.config.secrets import MAX_SECRET_BYTES, prepare_private_folder
from waygate_mcp.errors import ConfigError
from waygate_mcp.telemetry.redaction import is_secret

__all__ = [
    "MovedSecrets",
    "free_name",
    "is_secret",
    "move_secrets",
    "secret_name",
    "stored_secrets",
]

_SCHEME = re.compile(r"(?i)(bearer|basic|token|apikey|api-key)\s+(\S.*)", re.DOTALL)
_PARAMETER = re.compile(r"([?&])([^=&#]+)=([^&#]+)")
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)(?:=(.*))?", re.DOTALL)
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME = 120


@dataclass(slots=True)
class MovedSecrets:
    """A section without literal secrets, and the texts by the names they are referred to by."""

    section: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def secret_name(upstream: str, key: str) -> str:
    """Give the name under which a value of an upstream is kept: `github.GITHUB_TOKEN`.

    The point in it keeps it from being a variable of the environment, which would outweigh the file.
    """
    return _UNFIT.sub("-", f"{upstream}.{key}")[:_MAX_NAME].rstrip(".-")


def free_name(wanted: str, text: str, texts: Mapping[str, str], data_dir: Path) -> str:
    """Give the name itself, or with a number where another text has it, in `texts` or in the store."""
    name, number = wanted, 1
    while (texts[name] if name in texts else _kept(data_dir / SECRETS_FOLDER / name)) not in (
        None,
        text,
    ):
        number += 1
        name = f"{wanted}-{number}"
    return name


def move_secrets(
    upstream: str,
    section: Mapping[str, Any],
    data_dir: Path,
    taken: Mapping[str, str] | None = None,
) -> MovedSecrets:
    """Replace the literal secrets of a section by references; nothing is written yet.

    A name that another text has in the secret store, or among those `taken` already, gets a number.
    """
    moved = MovedSecrets(dict(section))

    def refer(key: str, place: str, text: str) -> str:
        known = {**(taken or {}), **moved.texts}
        name = free_name(secret_name(upstream, key), text.strip(), known, data_dir)
        moved.texts[name] = text.strip()
        moved.places[place] = name
        return f"${{secret:{name}}}"

    for block in ("env", "headers"):
        table = moved.section.get(block)
        if isinstance(table, Mapping):
            moved.section[block] = {
                key: _split(text, str(key), block, refer)
                if isinstance(text, str) and is_secret(str(key), text)
                else text
                for key, text in table.items()
            }
    if isinstance(moved.section.get("args"), (list, tuple)):
        moved.section["args"] = list(_arguments(moved.section["args"], refer))
    if isinstance(moved.section.get("url"), str):
        moved.section["url"] = _PARAMETER.sub(
            lambda match: _parameter(match, refer), moved.section["url"]
        )
    return moved


@contextlib.contextmanager
def stored_secrets(data_dir: Path, texts: Mapping[str, str]) -> Iterator[None]:
    """Keep secrets where `${secret:NAME}` finds them, each in a file that only its owner can read.

    Those that are new are taken back if the block raises.

    Raises:
        ConfigError: one cannot be written, is empty or too long, or another text has its name.
    """
    made: list[Path] = []
    try:
        for name, text in texts.items():
            if (file := _store(data_dir, name, text.strip())) is not None:
                made.append(file)
        yield
    except BaseException:
        for file in made:
            file.unlink(missing_ok=True)
        raise


def _store(data_dir: Path, name: str, text: str) -> Path | None:
    """Keep one secret; give its file if it is new."""
    if not text or len(text.encode()) > MAX_SECRET_BYTES:
        raise ConfigError("the secret is empty or too long", path=name)
    folder = data_dir / SECRETS_FOLDER
    for one in (data_dir, folder):
        prepare_private_folder(one, path="WAYGATE_DATA_DIR")
    file = folder / name
    if (there := _kept(file)) is not None:
        if there == text:
            return None
        raise ConfigError(f"there is another secret of this name: {file}", path=name)
    draft = file.with_name(f".{name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                handle.write(f"{text}\n")
                handle.flush()
                os.fsync(handle.fileno())
            os.link(draft, file)
        finally:
            draft.unlink()
    except OSError as exc:
        raise ConfigError(f"cannot write the secret {file}: {exc.strerror}", path=name) from exc
    return file


def _kept(file: Path) -> str | None:
    """Give the text of a secret that is there, None where there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the secret {file}: {exc}") from exc


def _split(text: str, key: str, block: str, refer: Any) -> str:
    """Refer to a secret; the word before it in a header (`Bearer …`) stays readable."""
    scheme = _SCHEME.fullmatch(text.strip())
    place = f"{block}.{key}"
    if scheme is not None and block == "headers":
        return f"{scheme[1]} {refer(key, place, scheme[2])}"
    return str(refer(key, place, text))


def _arguments(arguments: Any, refer: Any) -> Iterator[Any]:
    """Refer to the secrets among arguments: `--api-key X`, `--api-key=X`, and what looks like one."""
    before = ""
    for index, text in enumerate(arguments):
        place = f"args[{index}]"
        flag = _FLAG.fullmatch(text) if isinstance(text, str) else None
        name = "" if flag is None else flag[1]
        if not isinstance(text, str):
            yield text
        elif flag is not None and flag[2] and is_secret(name, flag[2]):
            start = text[: len(text) - len(flag[2])]
            yield start + refer(name, place, flag[2])
        elif flag is None and is_secret(before, text):
            yield refer(before or f"argument-{index + 1}", place, text)
        else:
            yield text
        before = name if flag is not None and flag[2] is None else ""


def _parameter(match: re.Match[str], refer: Any) -> str:
    before, name, text = match.groups()
    if not is_secret(name, text):
        return match[0]
    return f"{before}{name}={refer(name, 'url', text)}"
