"""The section of one upstream in the document.

Knows every key, its unit, its default and its bounds, and which keys belong to which transport. Refuses to
resolve references and to open anything. Every key here is enforced somewhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from waygate_mcp.config.quarantine import Quarantine
from waygate_mcp.config.section import Section, items

__all__ = ["UpstreamLimitsSection", "UpstreamSection"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_REFERENCE = "${"
_OUR_HEADERS = frozenset({
    "accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "last-event-id", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_OVER_HTTP = ("headers", "http", "network")
_OVER_STDIO = ("args", "env", "allow_env", "cwd", "sandbox")


def _url(text: str) -> str:
    if text.startswith(_REFERENCE):
        return text  # looked at again when it is resolved
    parts = urlsplit(text)  # ValueError for what is no URL, with its reason
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ValueError(
            "must hold no user name or password; credentials go into `headers`, as `${secret:…}`"
        )
    return text


def _header(name: str) -> str:
    if _HEADER_NAME.fullmatch(name) is None:
        raise ValueError("is no name of an HTTP header")
    if name.lower() in _OUR_HEADERS or name.lower().startswith("mcp-"):
        raise ValueError("is a header the gateway itself writes")
    return name


def _variable(name: str) -> str:
    if _VARIABLE_NAME.fullmatch(name) is None:
        raise ValueError("is no name of an environment variable")
    return name


Text = Annotated[str, StringConstraints(max_length=32_768)]
HeaderName = Annotated[str, AfterValidator(_header)]
VariableName = Annotated[str, AfterValidator(_variable)]


class UpstreamLimitsSection(Section):
    """What one upstream may hold up, and what its processes may use."""

    calls: int = Field(256, ge=1, le=100_000, description="Calls in flight; more wait.")
    waiting: int = Field(
        1024, ge=0, le=1_000_000, description="Calls that wait for their turn; more are refused."
    )
    sessions: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Sessions of a legacy upstream, or its processes; 1000 over HTTP and 32 "
        "processes where nothing is said.",
    )
    session_idle_s: float = Field(
        1800, gt=0, le=2_592_000, description="Seconds after which an unused session is ended."
    )
    failures: int = Field(
        5, ge=1, le=1000, description="Failures in a row after which it is left alone for a while."
    )
    open_timeout_s: float = Field(
        30, gt=0, le=600, description="Seconds it may take to be connected, or to start."
    )
    list_timeout_s: float = Field(
        60, gt=0, le=600, description="Seconds reading one of its lists may take."
    )
    message_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="Bytes of its largest message; a larger one ends the call with an error.",
    )
    open_files: int = Field(4096, ge=16, le=1_048_576, description="Open files of its process.")
    memory_bytes: int | None = Field(
        None,
        ge=16 * 1024 * 1024,
        description="Bytes of address space of its process; no limit where nothing is said.",
    )


class UpstreamSection(Section):
    """One MCP server whose entries are served here, by the name it has here."""

    url: Annotated[str, StringConstraints(max_length=8192), AfterValidator(_url)] | None = Field(
        None, description="Where it is reached over HTTP. Either this or `command`."
    )
    headers: dict[HeaderName, Text] = Field(
        default_factory=dict,
        max_length=64,
        description="Headers of every request to it, for example "
        '`Authorization: "Bearer ${secret:TOKEN}"`; sent to the origin of `url` alone.',
    )
    http: Literal["auto", "streamable", "sse"] = Field(
        "auto", description="The HTTP transport; `auto` finds out."
    )
    network: Literal["public", "private"] = Field(
        "public",
        description="`private`: a name in `url` may resolve to private and loopback addresses. An "
        "address written there needs no leave.",
    )
    command: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        None, description="The program to start, absolute or found on PATH; spoken to on stdio."
    )
    args: tuple[Text, ...] = items("Its arguments; never seen by a shell.", default=())
    env: dict[VariableName, Text] = Field(
        default_factory=dict,
        max_length=256,
        description="Environment it gets beside a minimal one.",
    )
    allow_env: tuple[VariableName, ...] = items(
        "Names in `env` that change what code it runs (`LD_PRELOAD`, `PYTHONPATH`, …) and are meant "
        "all the same.",
        default=(),
        max_length=64,
    )
    cwd: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        None, description="The folder it is started in; the document's own where nothing is said."
    )
    sandbox: Literal["auto", "bubblewrap", "none"] = Field(
        "auto",
        description="Walls round its process: `auto` takes bubblewrap where it works, `bubblewrap` "
        "insists on it, `none` leaves a session of its own and resource limits.",
    )
    era: Literal["auto", "legacy", "modern"] = Field(
        "auto",
        description="The era it is spoken to in: found out by `auto`; `legacy` for servers whose "
        "questions in mid-call work there only.",
    )
    sessions: Literal["auto", "client", "principal", "shared", "request"] = Field(
        "auto",
        description="Who gets a session of its own at a legacy upstream: each `client` session here, "
        "each `principal`, nobody (`shared`, for servers that keep nothing of their callers), each "
        "`request`. `auto`: `client` over HTTP, `principal` on stdio.",
    )
    limits: UpstreamLimitsSection = Field(
        default_factory=UpstreamLimitsSection, description="What it may hold up and use."
    )
    quarantine: Quarantine | None = Field(
        None, description="What `quarantine` says of all upstreams, for this one."
    )
    enabled: bool = Field(True, description="Whether it is served.")

    @property
    def referring(self) -> dict[str, Any]:
        """The values in which references may stand, by key."""
        keys = ("url", "headers", "command", "args", "env", "cwd")
        return {key: getattr(self, key) for key in keys}

    @model_validator(mode="after")
    def _is_one_transport(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("needs either `url` or `command`")
        foreign = _OVER_STDIO if self.command is None else _OVER_HTTP
        wrong = [name for name in foreign if name in self.model_fields_set]
        if wrong:
            has, lacks = ("url", "command") if self.command is None else ("command", "url")
            raise ValueError(f"`{wrong[0]}` belongs to `{lacks}`, and this upstream has `{has}`")
        if self.http == "sse" and self.era == "modern":
            raise ValueError("`http: sse` has no modern era; leave `era` or `http` to `auto`")
        return self
