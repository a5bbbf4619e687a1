"""MCP servers in the shape desktop clients and editors write, said in ours.

Knows the members of `mcpServers` (Claude Desktop, Cursor, Windsurf) and of VS Code's `servers`, which of them
are the client's own affair, and how a foreign name becomes one of ours. Serves the document and the importer
alike. Refuses to read files and to look anything up: what `${…}` of another maker stands for is said by
whoever asks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from waygate_mcp.config.patterns import NAME_PATTERN
from waygate_mcp.config.references import KINDS
from waygate_mcp.config.suggest import nearest

__all__ = [
    "CLIENT_SERVERS_SCHEMA",
    "Finding",
    "Translation",
    "own_name",
    "plain_variables",
    "say_references",
    "translate_server",
]

Variables = Callable[[str], str | None]
"""What stands in `${…}` of another maker → the text that replaces all of it; None: not known here."""

_MAX_NAME = 63
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_THEIRS = frozenset({
    "workspaceFolder", "workspaceFolderBasename", "workspaceRoot", "userHome", "pathSeparator", "extensionPath",
})  # fmt: skip
"""Names that mean something to the client itself and are no variables of the environment."""

_KINDS_OF_TYPE: Mapping[str, tuple[str, str | None]] = {
    "stdio": ("command", None),
    "local": ("command", None),
    "http": ("url", None),
    "streamablehttp": ("url", None),
    "remote": ("url", None),
    "sse": ("url", "sse"),
}
"""`type` without `-` and `_` → which transport it means, and what `http` becomes."""

_TYPE_KEYS = ("type", "transport", "transportType")
_URL_KEYS = ("url", "serverUrl", "httpUrl")
_GATEWAYS_OWN = frozenset({
    "accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "last-event-id", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers clients are told to write and a gateway writes itself."""
_TAKEN = (
    *_TYPE_KEYS,
    *_URL_KEYS,
    "headers",
    "command",
    "args",
    "env",
    "cwd",
    "disabled",
    "enabled",
)

_ITS_OWN = "is the client's own affair"
_IGNORED: Mapping[str, str] = {
    **dict.fromkeys(
        ("autoApprove", "alwaysAllow", "trust", "approval_mode", "default_tools_approval_mode"),
        "asking before a call is the client's own affair",
    ),
    **dict.fromkeys(
        ("timeout", "initTimeout", "requestTimeout", "startup_timeout_sec", "startup_timeout_ms",
         "tool_timeout_sec", "sse_read_timeout"),
        "how long a client waits is its own affair; here it is `limits`",
    ),
    **dict.fromkeys(
        ("name", "title", "description", "icon", "note", "comment", "_comment", "$comment", "version",
         "gallery", "source", "metadata", "dev", "watchPaths", "autoStart", "required", "bundled",
         "available_tools", "display_name"),
        _ITS_OWN,
    ),
}  # fmt: skip

_NARROWS = "narrows what may be called, and is written here as `tools` of an endpoint"
_SIGNS_IN = "signing in is not taken over; give `headers` what the server asks for"
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("includeTools", "excludeTools", "enabledTools", "disabledTools", "allowedTools", "allowed_tools",
         "enabled_tools", "disabled_tools", "tools", "toolFilter"),
        _NARROWS,
    ),
    **dict.fromkeys(("oauth", "auth", "authProviderType", "oauth_resource", "scopes"), _SIGNS_IN),
    "envFile": "is not read; write its values under `env`, or let `waygate import` do it",
}  # fmt: skip

CLIENT_SERVERS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "maxProperties": 256,
    "additionalProperties": {
        "type": "object",
        "properties": {
            "type": {"enum": ["stdio", "http", "streamable-http", "sse"]},
            "command": {"type": "string"},
            "args": {"type": "array", "items": {"type": "string"}},
            "env": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            },
            "cwd": {"type": "string"},
            "url": {"type": "string"},
            "serverUrl": {"type": "string"},
            "httpUrl": {"type": "string"},
            "headers": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            },
            "disabled": {"type": "boolean"},
            "enabled": {"type": "boolean"},
        },
    },
}
"""JSON Schema of `mcpServers`, for editors."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a key of theirs, other than being taken as it is.

    `changed`: taken in another form. `ignored`: nothing is lost by leaving it out. `refused`: it means
    something that is not served here, or nothing at all.
    """

    key: tuple[str | int, ...]
    kind: Literal["changed", "ignored", "refused"]
    message: str
    suggestion: str | None = None


@dataclass(slots=True)
class Translation:
    """One server: the keys of an `upstreams` section, and what became of theirs.

    `places` says which key of theirs each of ours came from.
    """

    section: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> list[Finding]:
        """The findings that are errors in a document."""
        return [one for one in self.findings if one.kind == "refused"]

    def note(
        self,
        key: tuple[str | int, ...],
        kind: Literal["changed", "ignored", "refused"],
        message: str,
    ) -> None:
        """Add a finding."""
        self.findings.append(Finding(key, kind, message))

    def take(self, ours: str, theirs: str, value: Any) -> None:
        """Set a key of ours from one of theirs."""
        self.section[ours] = value
        self.places[ours] = theirs


def own_name(name: str) -> str:
    """Give the name of ours nearest to a foreign one; empty where nothing of it can be kept.

    `GitHub Server` becomes `github-server`, `Überblick` becomes `uberblick`. A name of ours stays.
    """
    if re.fullmatch(NAME_PATTERN, name) and "__" not in name and not name.endswith("_"):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"_{2,}", "_", re.sub(r"[^a-z0-9_]+", "-", plain))
    return text.strip("-_")[:_MAX_NAME].rstrip("-_")


def plain_variables(inner: str) -> str | None:
    """Know `${NAME}` for a variable of the environment, as several clients write it, and nothing else."""
    if _PLAIN_NAME.fullmatch(inner) and inner not in _THEIRS:
        return f"${{env:{inner}}}"
    return None


def say_references(text: str, variables: Variables) -> tuple[str, list[str]]:
    """Write another maker's `${…}` as ours; give what was not known as well, as it stood there.

    References of ours (`${env:NAME}` is everybody's) and `$${` stay.
    """
    unknown: list[str] = []

    def replace(match: re.Match[str]) -> str:
        inner = match[1]
        if inner is None or inner.partition(":")[0] in KINDS:
            return match[0]
        found = variables(inner)
        if found is None:
            unknown.append(match[0])
            return match[0]
        return found

    return _VARIABLE.sub(replace, text), unknown


def translate_server(
    server: Mapping[str, Any], variables: Variables = plain_variables
) -> Translation:
    """Say one entry of `mcpServers` or `servers` in the keys of an `upstreams` section.

    The section is not validated: what is wrong with a value is said by the model of the section.
    """
    done = Translation()
    _take_transport(server, done, variables)
    for key in ("command", "cwd"):
        if key in server and server[key] is not None:
            done.take(key, key, _text(server[key], (key,), variables, done))
    if server.get("args"):
        done.take("args", "args", _texts(server["args"], "args", variables, done))
    for key in ("env", "headers"):
        if server.get(key):
            done.take(key, key, _mapping(server[key], key, variables, done))
    _take_switch(server, done)
    done.findings.extend(_others(server))
    return done


def _take_transport(server: Mapping[str, Any], done: Translation, variables: Variables) -> None:
    """Take the URL, and of the type what the rest does not say."""
    for key in (key for key in _URL_KEYS if server.get(key) is not None):
        if "url" in done.section:
            done.note((key,), "refused", f"there is `{done.places['url']}` already")
        else:
            done.take("url", key, _text(server[key], (key,), variables, done))
    for key in (key for key in _TYPE_KEYS if server.get(key) is not None):
        given = server[key]
        word = re.sub(r"[-_]", "", given.lower()) if isinstance(given, str) else ""
        if word not in _KINDS_OF_TYPE:
            done.note((key,), "refused", "expected stdio, http or sse")
            continue
        wanted, http = _KINDS_OF_TYPE[word]
        has = {"url": "url" in done.section, "command": server.get("command") is not None}
        if not has[wanted] and any(has.values()):
            done.note((key,), "refused", f"says {given}, which needs `{wanted}`")
        elif http is not None:
            done.take("http", key, http)


def _take_switch(server: Mapping[str, Any], done: Translation) -> None:
    """Take `disabled` and `enabled`; either can switch it off."""
    for key, meaning in (("disabled", False), ("enabled", True)):
        given = server.get(key)
        if given is None:
            continue
        if not isinstance(given, bool):
            done.note((key,), "refused", "expected true or false")
        elif given is not meaning:
            done.take("enabled", key, False)


def _others(server: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what becomes of every key that is not taken."""
    for key in server:
        if key in _TAKEN:
            continue
        if key in _IGNORED:
            yield Finding((key,), "ignored", _IGNORED[key])
        elif key in _REFUSED:
            yield Finding((key,), "refused", _REFUSED[key])
        else:
            yield Finding((key,), "refused", "unknown key", nearest(key, _TAKEN))


def _text(value: Any, key: tuple[str | int, ...], variables: Variables, done: Translation) -> Any:
    """Take one text; what is none is left to the model, which says so."""
    if not isinstance(value, str):
        return value
    said, unknown = say_references(value, variables)
    for one in unknown:
        message = f"`{one[:60]}` means nothing here; write the text itself, `${{env:NAME}}` or `${{secret:NAME}}`"
        done.note(key, "refused", message)
    if said != value:
        done.note(key, "changed", "its `${…}` is written as ours")
    return said


def _texts(value: Any, key: str, variables: Variables, done: Translation) -> Any:
    if not isinstance(value, list):
        return value
    return [_text(one, (key, index), variables, done) for index, one in enumerate(value)]


def _mapping(value: Any, key: str, variables: Variables, done: Translation) -> Any:
    """Take a mapping of texts; numbers and flags are written as text, as clients do."""
    if not isinstance(value, Mapping):
        return value
    taken: dict[str, Any] = {}
    for name, one in value.items():
        if one is None:
            done.note((key, name), "ignored", "has no value")
        elif key == "headers" and _is_gateways(str(name)):
            done.note((key, name), "ignored", "the gateway writes this header itself")
        elif isinstance(one, bool):
            taken[name] = "true" if one else "false"
        elif isinstance(one, (int, float)):
            taken[name] = str(one)
        else:
            taken[name] = _text(one, (key, name), variables, done)
    return taken


def _is_gateways(header: str) -> bool:
    return header.lower() in _GATEWAYS_OWN or header.lower().startswith("mcp-")
