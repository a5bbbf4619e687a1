"""References in the document: `${env:NAME}`, `${file:PATH}`, `${secret:NAME}`.

Knows how a reference is written and where its text comes from. They are resolved when a value is
used, so the document in memory, its views and its history keep the reference and never the secret.
`$${` stands for a literal `${`.

`${secret:NAME}` is the first of these that there is; a place that has it and cannot be read is an error,
never passed over:

    1. the environment variable NAME
    2. the file NAME in `secrets/` of the data folder
    3. the file NAME in /run/secrets, /var/run/secrets, where container engines mount them
    4. the file NAME in one of `secrets.folders` of the document, in their order
    5. the encrypted store in the database
    6. Vault

The first four are looked at here. What lies in the others was fetched before (`KnownSecrets`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waygate_mcp.config.secrets import MOUNTED, SecretText, read_secret_file
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem

KINDS = ("env", "file", "secret")
SECRETS_FOLDER = "secrets"
"""Folder beneath the data folder in which `${secret:NAME}` looks after the environment."""

MAX_DEPTH = 64

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class KnownSecrets:
    """What is known of secrets before references are resolved.

    `folders` are those of the document. `texts` were fetched from the store and from Vault;
    `problems` say why others were not. `asked` names those places, for errors.
    """

    folders: tuple[Path, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()


NOTHING_KNOWN = KnownSecrets()


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """One place near at hand in which a secret may lie; `file` is None for the environment."""

    source: str
    where: str
    has_it: bool
    file: Path | None = None


def is_secret_name(name: str) -> bool:
    """Tell whether a secret may have this name: no separators, no leading dot."""
    return _NAME.fullmatch(name) is not None


def near_places(
    name: str,
    *,
    data_dir: Path,
    folders: tuple[Path, ...] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[SecretPlace]:
    """Yield the places near at hand for a secret, in the order in which they count."""
    known = os.environ if environ is None else environ
    yield SecretPlace("environment", name, name in known)
    for folder in (data_dir / SECRETS_FOLDER, *MOUNTED, *folders):
        file = folder / name
        yield SecretPlace("file", str(file), _is_there(file), file)


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        return True  # in a folder that is closed to us: reading it says so


def names_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each secret that `value` (text, lists and mappings) refers to, and the key path where."""
    if isinstance(value, str):
        for kind, name in find_references(value):
            if kind == "secret":
                yield name, path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from names_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from names_in(item, f"{path}[{index}]")


def resolve_references(
    value: Any,
    *,
    data_dir: Path,
    path: str = "",
    environ: Mapping[str, str] | None = None,
    on_secret: Callable[[str], None] | None = None,
    known: KnownSecrets = NOTHING_KNOWN,
) -> Any:
    """Give a copy of `value` (text, lists and mappings of JSON) with every reference replaced.

    Text in which a reference was replaced becomes a SecretText, and `on_secret` is told each text
    that came from outside, so that the log can hide it wherever it turns up. `path` is the key path
    of `value` for errors. `environ` is the process's own if None. Keys are left as they are. `known`
    is what was fetched from the store and from Vault.

    Raises:
        ConfigError: all references that cannot be resolved, each with its path and never a value.
    """
    resolver = _Resolver(data_dir, os.environ if environ is None else environ, on_secret, known)
    resolved = resolver.walk(value, path, 0)
    if resolver.problems:
        raise ConfigError(problems=resolver.problems)
    return resolved


def find_references(text: str) -> Iterator[tuple[str, str]]:
    """Yield each (kind, name) that `text` refers to, whether or not it can be resolved."""
    for match in _REFERENCE.finditer(text):
        if match[1] is not None:
            kind, _, name = match[1].partition(":")
            yield kind, name


class _Resolver:
    """Walks one value and gathers what cannot be resolved."""

    def __init__(
        self,
        data_dir: Path,
        environ: Mapping[str, str],
        on_secret: Callable[[str], None] | None,
        known: KnownSecrets,
    ) -> None:
        self._known = known
        self._data_dir = data_dir
        self._environ = environ
        self._on_secret = on_secret
        self.problems: list[ConfigProblem] = []

    def walk(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", path=path)
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, Mapping):
            return {
                key: self.walk(item, f"{path}.{key}" if path else str(key), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.walk(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        return value

    def _text(self, text: str, path: str) -> str:
        if "${" not in text:
            return text
        replaced = False

        def replace(match: re.Match[str]) -> str:
            nonlocal replaced
            if match[1] is None:
                return "${"
            replaced = True
            try:
                found = self._resolve(match, path)
            except ConfigError as exc:
                self.problems.extend(exc.problems)
                return ""
            if self._on_secret is not None:
                self._on_secret(found)
            return found

        result = _REFERENCE.sub(replace, text)
        return SecretText(result) if replaced else result

    def _resolve(self, match: re.Match[str], path: str) -> str:
        kind, colon, name = match[1].partition(":")
        if not match[0].endswith("}") or not colon or not name:
            raise ConfigError(
                "a reference is written `${env:NAME}`; `$${` is a plain `${`", path=path
            )
        if kind == "env":
            return self._env(name, path)
        if kind == "file":
            return read_secret_file(Path(name).expanduser(), path=path)
        if kind == "secret":
            return self._secret(name, path)
        problem = ConfigProblem(
            path=path,
            message=f"unknown kind of reference {kind[:50]!r}; there are {', '.join(KINDS)}",
            suggestion=nearest(kind, KINDS),
        )
        raise ConfigError(problems=(problem,))

    def _env(self, name: str, path: str) -> str:
        if (found := self._environ.get(name)) is None:
            raise ConfigError(f"the environment variable {name[:100]!r} is not set", path=path)
        return found

    def _secret(self, name: str, path: str) -> str:
        # The name must not lead out of the folder: no separators, no leading dot.
        if not is_secret_name(name):
            raise ConfigError(f"{name[:100]!r} is not the name of a secret", path=path)
        known = self._known
        near = near_places(
            name, data_dir=self._data_dir, folders=known.folders, environ=self._environ
        )
        for place in near:
            if place.has_it:
                if place.file is None:
                    return self._environ[name]
                return read_secret_file(place.file, path=path)
        if (found := known.texts.get(name)) is not None:
            return found
        if (problem := known.problems.get(name)) is not None:
            raise ConfigError(f"the secret {name!r}: {problem}", path=path)
        file = self._data_dir / SECRETS_FOLDER / name
        asked = "".join(f", nor in {place}" for place in known.asked)
        raise ConfigError(
            f"the secret {name!r} is neither an environment variable nor the file {file}{asked}; "
            f"keep it with: waygate secrets set {name}",
            path=path,
        )
