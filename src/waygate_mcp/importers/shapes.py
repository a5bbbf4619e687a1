"""Servers as single clients write them, in the shape most of them share.

Knows the members of Codex, goose, opencode, Continue and Zed that mean what `mcpServers` says by another name.
What it does not know stays as it is: whoever translates the shared shape says what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["common_shape"]

_NAME = r"([A-Za-z_][A-Za-z0-9_]*)"
_CONTINUE = re.compile(r"\$\{\{\s*(?:secrets|inputs)\.([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*\}\}")
_OPENCODE = re.compile(rf"(?<!\$)\{{env:{_NAME}\}}")
_RENAMED = {
    "cmd": "command",
    "uri": "url",
    "envs": "env",
    "environment": "env",
    "http_headers": "headers",
}
_LISTED = ("env_vars", "env_keys")


def common_shape(server: Mapping[str, Any]) -> dict[str, Any]:
    """Give a server with the members of `mcpServers` where they are known by another name."""
    shaped: dict[str, Any] = {}
    for key, value in server.items():
        _place(shaped, _RENAMED.get(key, key), _references(value))
    _split_command(shaped)
    for key in _LISTED:
        names = shaped.get(key)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            del shaped[key]
            _place(shaped, "env", {name: f"${{env:{name}}}" for name in names})
    _shape_headers(shaped)
    return shaped


def _place(shaped: dict[str, Any], key: str, value: Any) -> None:
    """Set a member; of two mappings the first keeps its own."""
    there = shaped.get(key)
    if isinstance(there, dict) and isinstance(value, dict):
        value = {**value, **there}
    shaped[key] = value


def _split_command(shaped: dict[str, Any]) -> None:
    """Take a command that is a list (opencode) or a mapping (Zed) apart."""
    command = shaped.get("command")
    if isinstance(command, list) and command:
        shaped["command"], *arguments = command
        shaped["args"] = [*arguments, *(shaped.get("args") or ())]
    elif isinstance(command, dict) and "path" in command:
        shaped["command"] = command["path"]
        for key in ("args", "env"):
            if command.get(key):
                _place(shaped, key, command[key])


def _shape_headers(shaped: dict[str, Any]) -> None:
    """Gather headers that stand elsewhere."""
    options = shaped.get("requestOptions")
    if isinstance(options, dict) and set(options) == {"headers"}:
        del shaped["requestOptions"]
        _place(shaped, "headers", options["headers"])
    names = shaped.get("env_http_headers")
    if isinstance(names, dict):
        del shaped["env_http_headers"]
        _place(shaped, "headers", {header: f"${{env:{name}}}" for header, name in names.items()})
    bearer = shaped.get("bearer_token_env_var")
    if isinstance(bearer, str):
        del shaped["bearer_token_env_var"]
        _place(shaped, "headers", {"Authorization": f"Bearer ${{env:{bearer}}}"})


def _references(value: Any) -> Any:
    """Write the references of Continue and opencode as `${…}`."""
    if isinstance(value, str):
        return _OPENCODE.sub(r"${env:\1}", _CONTINUE.sub(r"${secret:\1}", value))
    if isinstance(value, list):
        return [_references(one) for one in value]
    if isinstance(value, dict):
        return {key: _references(one) for key, one in value.items()}
    return value
