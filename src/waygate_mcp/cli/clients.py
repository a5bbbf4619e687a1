"""The MCP clients people use: where each keeps its servers, and how it writes one down.

Knows file formats and paths of other makers, as their documentation gives them
(docs/connecting-clients.md says what was checked, and when it was not). Refuses to touch a file; pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Literal

import msgspec

__all__ = ["CLIENTS", "Client", "FileFormat", "Place", "Target", "Transport", "snippet"]

Transport = Literal["http", "stdio"]
FileFormat = Literal["json", "toml", "yaml"]
Entry = dict[str, Any]

KEY_VARIABLE = "WAYGATE_API_KEY"
PLACEHOLDER = "<your Waygate key>"


class Target(msgspec.Struct, frozen=True):
    """What a client is to be connected to.

    `key` is the key itself, None for a reference to `WAYGATE_API_KEY` or a placeholder; `needs_key` is
    False where nobody is asked for one. `command` starts `waygate stdio`.
    """

    name: str
    url: str
    command: tuple[str, ...]
    key: str | None = None
    needs_key: bool = True

    def headers(self, reference: str | None) -> dict[str, str]:
        """Give the header that carries the key, by `reference` where the client can look it up."""
        if not self.needs_key:
            return {}
        return {"Authorization": f"Bearer {self.key or reference or PLACEHOLDER}"}


class Place(msgspec.Struct, frozen=True):
    """Where a client keeps its file. Words beginning with `$` are folders of the machine.

    `$HOME`, `$CONFIG` (the folder for configuration of the operating system), `$HERE` (the present
    folder).
    """

    darwin: str
    linux: str
    win32: str

    @classmethod
    def everywhere(cls, path: str) -> Place:
        """The same on every system."""
        return cls(path, path, path)

    def resolve(self, platform: str, folders: Mapping[str, PurePath]) -> PurePath:
        """Give the path on `platform` (as `sys.platform` says); unknown ones are taken for linux."""
        text = {"darwin": self.darwin, "win32": self.win32}.get(platform, self.linux)
        first, _, rest = text.partition("/")
        return folders[first.removeprefix("$")] / rest


class Client(msgspec.Struct, frozen=True):
    """One client. `path` are the keys from the root of its file to its table of servers.

    A client without a `place` keeps no file that may be edited: its snippet is pasted. `is_list` says
    that the servers stand in a list, each with its `name`. `is_checked` says that the format was read
    in its maker's documentation.
    """

    title: str
    format: FileFormat
    path: tuple[str, ...]
    http: Callable[[Target], Entry] | None
    stdio: Callable[[Target], Entry]
    place: Place | None
    hint: str
    reference: str | None = None
    is_list: bool = False
    frame: Mapping[str, Any] = {}
    is_checked: bool = True

    @property
    def transports(self) -> tuple[Transport, ...]:
        """The ways it can be connected, the usual one first."""
        return ("stdio",) if self.http is None else ("http", "stdio")

    def entry(self, target: Target, transport: Transport) -> Entry:
        """Write the target down as this client does.

        Raises:
            ValueError: the client has no such transport in its file.
        """
        if transport == "stdio":
            return self.stdio(target)
        if self.http is None:
            raise ValueError(f"{self.title} starts programs only; use --stdio")
        return self.http(target)


def _url_and_headers(
    url: str, reference: str | None = None, **more: Any
) -> Callable[[Target], Entry]:
    """Write a URL under the member `url`, with headers."""

    def write(target: Target) -> Entry:
        headers = target.headers(reference)
        entry: Entry = {**more, url: target.url}
        return {**entry, "headers": headers} if headers else entry

    return write


def _command(target: Target) -> Entry:
    """Write the program to start, as most clients do."""
    return {"command": target.command[0], "args": list(target.command[1:])}


def _typed_command(target: Target) -> Entry:
    return {"type": "stdio", **_command(target)}


def _codex_http(target: Target) -> Entry:
    entry: Entry = {"url": target.url}
    if not target.needs_key:
        return entry
    if target.key is not None:
        return {**entry, "http_headers": target.headers(None)}
    return {**entry, "bearer_token_env_var": KEY_VARIABLE}


def _continue_http(target: Target) -> Entry:
    entry: Entry = {"name": target.name, "type": "streamable-http", "url": target.url}
    headers = target.headers("${{ secrets.WAYGATE_API_KEY }}")
    return {**entry, "requestOptions": {"headers": headers}} if headers else entry


def _continue_stdio(target: Target) -> Entry:
    return {"name": target.name, "type": "stdio", **_command(target)}


def _goose(kind: str, **more: Any) -> Entry:
    return {"enabled": True, "type": kind, "timeout": 300, **more}


def _goose_http(target: Target) -> Entry:
    entry = _goose("streamable_http", name=target.name, uri=target.url, description="Waygate MCP")
    headers = target.headers(None)
    return {**entry, "headers": headers} if headers else entry


def _goose_stdio(target: Target) -> Entry:
    command, *arguments = target.command
    return _goose("stdio", name=target.name, cmd=command, args=arguments, description="Waygate MCP")


def _opencode_stdio(target: Target) -> Entry:
    return {"type": "local", "command": list(target.command), "enabled": True}


_BRACES = "${%s}" % KEY_VARIABLE  # noqa: UP031 - braces of another language
_ENV_BRACES = "${env:%s}" % KEY_VARIABLE  # noqa: UP031 - braces of another language

CLIENTS: dict[str, Client] = {
    "claude-desktop": Client(
        "Claude Desktop",
        "json",
        ("mcpServers",),
        None,
        _command,
        Place(
            "$CONFIG/Claude/claude_desktop_config.json",
            "$CONFIG/Claude/claude_desktop_config.json",
            "$CONFIG/Claude/claude_desktop_config.json",
        ),
        "Quit Claude Desktop and start it again. Remote servers are added in its settings, under "
        "connectors, and must be reachable from the internet.",
    ),
    "claude-code": Client(
        "Claude Code",
        "json",
        ("mcpServers",),
        _url_and_headers("url", _BRACES, type="http"),
        _typed_command,
        Place.everywhere("$HERE/.mcp.json"),
        "For this folder; `claude mcp list` shows it. It asks for approval at the first start.",
        reference=_BRACES,
    ),
    "cursor": Client(
        "Cursor",
        "json",
        ("mcpServers",),
        _url_and_headers("url", _ENV_BRACES),
        _command,
        Place.everywhere("$HOME/.cursor/mcp.json"),
        "Restart Cursor; the server is listed in its settings, under MCP.",
        reference=_ENV_BRACES,
    ),
    "vscode": Client(
        "VS Code",
        "json",
        ("servers",),
        _url_and_headers("url", "${input:waygate-key}", type="http"),
        _typed_command,
        Place.everywhere("$HERE/.vscode/mcp.json"),
        "For this folder; start it from the file or with `MCP: List Servers`. It asks for the key "
        "once and keeps it.",
        reference="${input:waygate-key}",
        frame={
            "inputs": [
                {
                    "type": "promptString",
                    "id": "waygate-key",
                    "description": "Waygate API key",
                    "password": True,
                }
            ]
        },
    ),
    "windsurf": Client(
        "Windsurf",
        "json",
        ("mcpServers",),
        _url_and_headers("serverUrl", _ENV_BRACES),
        _command,
        Place.everywhere("$HOME/.codeium/windsurf/mcp_config.json"),
        "Refresh the list of MCP servers in Cascade.",
        reference=_ENV_BRACES,
    ),
    "zed": Client(
        "Zed",
        "json",
        ("context_servers",),
        _url_and_headers("url"),
        _command,
        Place(
            "$HOME/.config/zed/settings.json",
            "$HOME/.config/zed/settings.json",
            "$CONFIG/Zed/settings.json",
        ),
        "Zed reads its settings as soon as they are saved.",
    ),
    "gemini-cli": Client(
        "Gemini CLI",
        "json",
        ("mcpServers",),
        _url_and_headers("httpUrl", _BRACES),
        _command,
        Place.everywhere("$HOME/.gemini/settings.json"),
        "Start Gemini CLI again; `/mcp` shows it.",
        reference=_BRACES,
    ),
    "codex": Client(
        "Codex",
        "toml",
        ("mcp_servers",),
        _codex_http,
        _command,
        Place.everywhere("$HOME/.codex/config.toml"),
        "Start Codex with WAYGATE_API_KEY in its environment; `/mcp` shows it.",
        reference=KEY_VARIABLE,
    ),
    "continue": Client(
        "Continue",
        "yaml",
        ("mcpServers",),
        _continue_http,
        _continue_stdio,
        Place.everywhere("$HERE/.continue/mcpServers/waygate.yaml"),
        "For this folder; tools are offered in Agent mode. Keep the key as the secret WAYGATE_API_KEY.",
        reference="${{ secrets.WAYGATE_API_KEY }}",
        is_list=True,
        frame={"name": "Waygate MCP", "version": "0.0.1", "schema": "v1"},
    ),
    "goose": Client(
        "goose",
        "yaml",
        ("extensions",),
        _goose_http,
        _goose_stdio,
        Place(
            "$HOME/.config/goose/config.yaml",
            "$HOME/.config/goose/config.yaml",
            "$CONFIG/Block/goose/config/config.yaml",
        ),
        "Start a new goose session.",
    ),
    "opencode": Client(
        "opencode",
        "json",
        ("mcp",),
        _url_and_headers("url", "{env:WAYGATE_API_KEY}", type="remote", enabled=True),
        _opencode_stdio,
        Place.everywhere("$HOME/.config/opencode/opencode.json"),
        "Start opencode again.",
        reference="{env:WAYGATE_API_KEY}",
    ),
    "jetbrains": Client(
        "JetBrains Junie and AI Assistant",
        "json",
        ("mcpServers",),
        None,
        _command,
        None,
        "Paste it in the IDE's settings, under Tools, Junie (or AI Assistant), MCP.",
    ),
    "mcp-json": Client(
        "any other client",
        "json",
        ("mcpServers",),
        _url_and_headers("url", type="http"),
        _command,
        None,
        "The shape most clients read; look up where yours keeps it.",
        is_checked=False,
    ),
}
"""Client by the word it has on the command line."""


def snippet(client: Client, target: Target, transport: Transport) -> dict[str, Any]:
    """Build what a file with nothing but this server would hold."""
    entry = client.entry(target, transport)
    inner: Any = [entry] if client.is_list else {target.name: entry}
    for key in reversed(client.path):
        inner = {key: inner}
    frame = client.frame if client.is_list or uses_frame(client, entry) else {}
    return {**frame, **inner}


def uses_frame(client: Client, entry: Entry) -> bool:
    """Tell whether an entry refers to something that must stand beside it (VS Code's inputs)."""
    return bool(client.frame) and "${input:" in json.dumps(entry)
