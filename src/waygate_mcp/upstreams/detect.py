"""Which era an upstream speaks, and what it can do: read from its answer to `server/discover`.

Knows the rule of protocol.md 2.5, and declared capabilities. Refuses to send anything: it judges an answer.
Spec: 2026-07-28 basic/versioning, "Discovery"; basic/transports/stdio, "Version Detection".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.model.catalog import Features
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.stateless import ListenFilter
from waygate_mcp.protocol.tasks import bridged_extensions
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.channel import RemoteError

__all__ = [
    "CredentialsWantedError",
    "Discovered",
    "Verdict",
    "features_of",
    "judge",
    "read_discovery",
    "watchable",
]

_MODERN_ERRORS = (
    jsonrpc.HEADER_MISMATCH, jsonrpc.MISSING_CAPABILITY, jsonrpc.UNSUPPORTED_VERSION
)  # fmt: skip


class CredentialsWantedError(UpstreamUnavailableError):
    """The upstream answers 401 or 403 to whoever comes without the right credentials."""


class Verdict(Enum):
    """What an answer to the probe says."""

    MODERN = "modern"
    LEGACY = "legacy"
    CLOSED = "closed"
    OUTAGE = "outage"


class Discovered(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `server/discover`, as far as we read it."""

    supported_versions: tuple[str, ...] = ()
    capabilities: dict[str, Any] = {}
    instructions: str | None = None
    result_type: str | None = None


_decode = msgspec.json.Decoder(Discovered).decode


def read_discovery(result: msgspec.Raw | None) -> Discovered | None:
    """Read a discover result, None where it is none."""
    if result is None:
        return None
    try:
        return _decode(result)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def judge(status: int, result: msgspec.Raw | None, error: RemoteError | None) -> Verdict:
    """Judge the answer to a `server/discover` probe.

    1. 401 and 403 want credentials first, 5xx is an outage: no verdict.
    2. A discover result that offers our revision is modern; one that lists only others is not.
    3. An error only modern servers know is modern.
    4. Anything else means: try `initialize`. No single error code decides this.
    """
    if status in (401, 403):
        return Verdict.CLOSED
    if status >= 500:
        return Verdict.OUTAGE
    if error is not None:
        return Verdict.MODERN if error.code in _MODERN_ERRORS else Verdict.LEGACY
    discovered = read_discovery(result)
    if discovered is None:
        return Verdict.LEGACY
    if discovered.supported_versions:
        is_ours = MODERN.text in discovered.supported_versions
        return Verdict.MODERN if is_ours else Verdict.LEGACY
    return Verdict.MODERN if discovered.result_type is not None else Verdict.LEGACY


def _flag(declared: Mapping[str, Any], area: str, flag: str) -> bool:
    """Tell whether a capability has a flag set."""
    value = declared.get(area)
    return isinstance(value, dict) and value.get(flag) is True


def watchable(declared: Mapping[str, Any]) -> ListenFilter:
    """Give the lists whose changes a server announces."""
    return ListenFilter(
        tools=_flag(declared, "tools", "listChanged"),
        prompts=_flag(declared, "prompts", "listChanged"),
        resources=_flag(declared, "resources", "listChanged"),
    )


def features_of(declared: Mapping[str, Any], *, has_completion_capability: bool) -> Features:
    """Read declared capabilities; 2024-11-05 had completion without a capability for it."""
    return Features(
        tools=isinstance(declared.get("tools"), dict),
        prompts=isinstance(declared.get("prompts"), dict),
        resources=isinstance(declared.get("resources"), dict),
        subscribe=_flag(declared, "resources", "subscribe"),
        completions=isinstance(declared.get("completions"), dict) or not has_completion_capability,
        logging=isinstance(declared.get("logging"), dict),
        extensions=bridged_extensions(declared),
    )
