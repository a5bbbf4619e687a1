"""References in the document: `${env:NAME}`, `${file:PATH}`, `${secret:NAME}`.

Knows how a reference is written and where its text comes from. They are resolved when a value is
used, so the document in memory, its views and its history keep the reference and never the secret.
`$${` stands for a literal `${`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from waygate_mcp.config.secrets import SecretText, read_secret_file
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem

KINDS = ("env", "file", "secret")
SECRETS_FOLDER = "secrets"
"""Folder beneath the data folder in which `${secret:NAME}` looks after the environment."""

MAX_DEPTH = 64

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def resolve_references(
    value: Any,
    *,
    data_dir: Path,
    path: str = "",
    environ: Mapping[str, str] | None = None,
    on_secret: Callable[[str], None] | None = None,
) -> Any:
    """Give a copy of `value` (text, lists and mappings of JSON) with every reference replaced.

    Text in which a reference was replaced becomes a SecretText, and `on_secret` is told each text
    that came from outside, so that the log can hide it wherever it turns up. `path` is the key path
    of `value` for errors. `environ` is the process's own if None. Keys are left as they are.

    Raises:
        ConfigError: all references that cannot be resolved, each with its path and never a value.
    """
    resolver = _Resolver(data_dir, os.environ if environ is None else environ, on_secret)
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
        self, data_dir: Path, environ: Mapping[str, str], on_secret: Callable[[str], None] | None
    ) -> None:
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
        if _NAME.fullmatch(name) is None:
            raise ConfigError(f"{name[:100]!r} is not the name of a secret", path=path)
        if (found := self._environ.get(name)) is not None:
            return found
        file = self._data_dir / SECRETS_FOLDER / name
        if not file.exists():
            raise ConfigError(
                f"the secret {name!r} is neither an environment variable nor the file {file}",
                path=path,
            )
        return read_secret_file(file, path=path)
