"""Secrets that stand in a document in clear, where a reference should stand.

Knows the places of a document that hold secrets: headers, environment, arguments and addresses of upstreams, and
what plugins are configured with. Where a document is shown or kept beside its file, they are taken out; a
document that the admin API is given must have none. Refuses to touch references.
Spec: threat model rule 33.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from waygate_mcp.config.yaml_text import KeyPath, parse_yaml
from waygate_mcp.errors import ConfigError
from waygate_mcp.telemetry.redaction import Redactor, is_secret, is_sensitive

__all__ = ["HIDDEN", "clear_secrets", "without_secrets", "without_secrets_in"]

HIDDEN = "(secret)"
"""Stands where a secret was; a text that YAML takes for one without quotes."""

_SERVERS = ("upstreams", "mcpServers")
_TABLES = ("headers", "env")
_TEXTS = Redactor()


def clear_secrets(value: Any) -> list[tuple[KeyPath, str]]:
    """Find the secrets in a parsed document, each with its path."""
    if not isinstance(value, Mapping):
        return []
    found: list[tuple[KeyPath, str]] = []
    for block in _SERVERS:
        for name, server in _members(value.get(block)):
            found += _of_server((block, name), server)
    for name, plugin in _members(value.get("plugins")):
        config = plugin.get("config") if isinstance(plugin, Mapping) else None
        found += _in_tree(("plugins", name, "config"), config)
    return found


def without_secrets(text: str) -> str:
    """Give a document's text with every such secret replaced, and all else as it was.

    A text of which nobody can say what it holds is not given at all.
    """
    try:
        value = parse_yaml(text.encode()).value
    except ConfigError:
        return HIDDEN
    found = clear_secrets(value)
    if not found:
        return text
    wanted, masked = without_secrets_in(value), text
    for secret in sorted({one for _, one in found}, key=len, reverse=True):
        masked = masked.replace(secret, HIDDEN)
    if _reads(masked) == wanted:
        return masked
    # Written otherwise than it reads, with escapes for example, or so short that it stands elsewhere too.
    return json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"


def without_secrets_in(value: Any) -> Any:
    """Give a parsed document, or the part of one that begins where it does, without such secrets."""
    copied = json.loads(json.dumps(value))
    for path, _ in clear_secrets(copied):
        inner = copied
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = HIDDEN
    return copied


def _reads(text: str) -> Any:
    try:
        return parse_yaml(text.encode()).value
    except ConfigError:
        return None


def _of_server(path: KeyPath, server: Any) -> Iterator[tuple[KeyPath, str]]:
    if not isinstance(server, Mapping):
        return
    for table in _TABLES:
        for name, text in _members(server.get(table)):
            if isinstance(text, str) and _is_secret(name, text):
                yield (*path, table, name), text
    arguments = server.get("args")
    before = ""
    for index, text in enumerate(arguments if isinstance(arguments, Sequence) else ()):
        if isinstance(text, str):
            flag, _, inner = text.lstrip("-").partition("=")
            if _is_secret(flag, inner) if inner else _is_secret(before, text):
                yield (*path, "args", index), text
            before = flag if text.startswith("-") and not inner else ""
    url = server.get("url")
    if isinstance(url, str) and _is_secret("url", url):
        yield (*path, "url"), url


def _in_tree(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """Find secrets anywhere in the configuration of a plugin, whose names only the plugin knows.

    Names that merely end in `key` are common there, so those alone that say `secret` plainly count.
    """
    if isinstance(value, str):
        names = [part for part in path[3:] if isinstance(part, str)]
        is_named = bool(names) and is_sensitive(names[-1]) and is_secret(names[-1], value)
        is_seen = "${" not in value and _TEXTS.text(value, len(value) + 1) != value
        if is_named or is_seen or value == HIDDEN:
            yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _in_tree((*path, str(name)), inner)
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from _in_tree((*path, index), inner)


def _is_secret(name: str, text: str) -> bool:
    """Tell what is one; what stands in the place of one would not do either."""
    return text == HIDDEN or is_secret(name, text)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(name), inner) for name, inner in value.items())
