"""The modern era: each request carries its own context in `_meta`.

Knows the envelope of a request and the frame of a result. Refuses to know the catalogue and the
sealed texts it carries.
Spec: 2026-07-28 basic/index, "_meta"; basic/patterns/mrtr; basic/patterns/subscriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.jsonrpc import encode_json, encode_notification, frame_result
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.protocol.versions import MODERN, SUPPORTED

__all__ = [
    "CAPABILITIES_KEY",
    "CLIENT_INFO_KEY",
    "LOG_LEVEL_KEY",
    "SERVER_INFO_KEY",
    "SUBSCRIPTION_KEY",
    "VERSION_KEY",
    "Envelope",
    "ListenFilter",
    "acknowledgement",
    "discover_result",
    "encode_complete",
    "input_required_result",
    "listen_end_result",
    "read_envelope",
    "read_listen_filter",
    "read_progress_token",
    "server_info_meta",
    "tag_notification",
]

_PREFIX = "io.modelcontextprotocol/"
VERSION_KEY = _PREFIX + "protocolVersion"
CLIENT_INFO_KEY = _PREFIX + "clientInfo"
CAPABILITIES_KEY = _PREFIX + "clientCapabilities"
LOG_LEVEL_KEY = _PREFIX + "logLevel"
SERVER_INFO_KEY = _PREFIX + "serverInfo"
SUBSCRIPTION_KEY = _PREFIX + "subscriptionId"

_SERVER_INFO_BYTES = SERVER_INFO_KEY.encode()
_MAX_NAME_CHARS = 128
_MAX_LISTEN_URIS = 1_000
_MAX_URI_CHARS = 4_096
_MAX_LISTEN_TASKS = 100
_LIST_FILTERS = ("toolsListChanged", "promptsListChanged", "resourcesListChanged")


class Envelope(msgspec.Struct, frozen=True):
    """The context of one request. `log_level` None means: send no log messages at all.

    `client_name` is for display only and holds at most 128 characters. `progress_token` is None where
    there is none of a legal type.
    """

    capabilities: ClientCapabilities
    client_name: str
    log_level: str | None
    progress_token: str | int | None


def read_envelope(meta: Mapping[str, Any]) -> Envelope | str:
    """Read the `_meta` of a request whose version was already found to be modern.

    Gives a sentence for the client where a required member is missing or of the wrong type.
    """
    declared = meta.get(CAPABILITIES_KEY)
    if type(declared) is not dict:
        return f"_meta lacks {CAPABILITIES_KEY}"
    level = meta.get(LOG_LEVEL_KEY)
    if level is not None and (type(level) is not str or level not in LOG_LEVELS):
        return f"{LOG_LEVEL_KEY} is not a log level"
    info = meta.get(CLIENT_INFO_KEY)
    name = info.get("name") if type(info) is dict else None
    return Envelope(
        ClientCapabilities.parse(declared, MODERN),
        name[:_MAX_NAME_CHARS] if type(name) is str else "",
        level,
        read_progress_token(meta),
    )


def read_progress_token(meta: Mapping[str, Any]) -> str | int | None:
    """Give the progress token a request's `_meta` holds, None where there is none of a legal type."""
    token = meta.get("progressToken")
    return token if type(token) is str or type(token) is int else None


def server_info_meta(server_info: Mapping[str, Any]) -> bytes:
    """Encode the member of `_meta` that names the server, once, for `encode_complete`."""
    return b'"%b":%b' % (SERVER_INFO_KEY.encode(), encode_json(server_info))


def encode_complete(
    identifier: str | int,
    result: bytes,
    meta: bytes | None,
    server_info: bytes,
    cache: tuple[int, str] | None = None,
    kind: bytes = b"complete",
) -> bytes:
    """Frame a neutral result as the response to `identifier`, with the members every modern result has.

    `result` is a JSON object without `resultType` and `_meta`, `meta` the raw `_meta` object of the
    provider, `server_info` what `server_info_meta` built: it replaces the provider's. `cache` is
    (ttlMs, cacheScope) for cacheable results, `kind` the `resultType`.
    Spec: 2026-07-28 basic/index, "Responses"; server/utilities/caching.
    """
    more = b"}" if meta is None else _more_members(_without_server_info(meta))
    head = b'{"resultType":"%b","_meta":{%b%b' % (kind, server_info, more)
    if cache is not None:
        # ttlMs MUST be >= 0
        head += b',"ttlMs":%d,"cacheScope":"%b"' % (max(0, cache[0]), cache[1].encode())
    if result[1:2] == b'"':  # compact and not empty, as our own encoder writes it
        return frame_result(identifier, (head, b",", memoryview(result)[1:]))
    return frame_result(identifier, (head, _more_members(result)))


def _more_members(raw: bytes) -> bytes:
    """Give the rest of an object that has members already: those of the object `raw`, and its end."""
    if raw[1:2] == b'"':  # compact and not empty, as our own encoder writes it
        return b"," + raw[1:]
    members = raw.strip()[1:].lstrip()
    return members if members[:1] == b"}" else b"," + members


def _without_server_info(meta: bytes) -> bytes:
    """Remove the provider's own `serverInfo`: a relay names itself, and no key stands twice."""
    if _SERVER_INFO_BYTES not in meta:
        return meta
    try:
        members = msgspec.json.decode(meta, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"{}"  # an upstream's half surrogate, for example: nothing of it can be kept apart
    members.pop(SERVER_INFO_KEY, None)
    return encode_json(members)


def input_required_result(
    requests: Mapping[str, tuple[str, bytes]], state: str | None, server_info: bytes
) -> bytes:
    """Build an `input_required` result. `requests` maps keys to (method, raw params).

    Raises:
        LocalProtocolError: neither requests nor a state, which would leave the client nothing to do.
    Spec: 2026-07-28 basic/patterns/mrtr, server requirement 7.
    """
    if not requests and state is None:
        raise LocalProtocolError("input_required needs requests or a state")
    parts = [b'{"resultType":"input_required","_meta":{%b}' % server_info]
    if requests:
        entries = b",".join(
            b'%b:{"method":"%b","params":%b}' % (encode_json(key), method.encode(), params)
            for key, (method, params) in requests.items()
        )
        parts.append(b',"inputRequests":{%b}' % entries)
    if state is not None:
        parts.append(b',"requestState":%b' % encode_json(state))
    return b"".join((*parts, b"}"))


def discover_result(capabilities: Mapping[str, Any], instructions: str | None) -> bytes:
    """Build the neutral result of `server/discover`.

    Spec: 2026-07-28 server/discover.
    """
    result: dict[str, Any] = {"supportedVersions": SUPPORTED, "capabilities": capabilities}
    if instructions:
        result["instructions"] = instructions
    return encode_json(result)


class ListenFilter(msgspec.Struct, frozen=True):
    """What a `subscriptions/listen` wants to hear."""

    tools: bool = False
    prompts: bool = False
    resources: bool = False
    uris: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def to_notifications(self) -> dict[str, Any]:
        """Rebuild the `notifications` object, with only what is asked for."""
        flags = zip(_LIST_FILTERS, (self.tools, self.prompts, self.resources), strict=True)
        built: dict[str, Any] = {name: True for name, wanted in flags if wanted}
        if self.uris:
            built["resourceSubscriptions"] = list(self.uris)
        if self.tasks:
            built["taskIds"] = list(self.tasks)
        return built


def read_listen_filter(params: Mapping[str, Any]) -> ListenFilter | str:
    """Read the filter of a `subscriptions/listen`, or give a sentence for the client."""
    wanted = params.get("notifications")
    if type(wanted) is not dict:
        return "notifications must be an object"
    flags = [wanted.get(name, False) for name in _LIST_FILTERS]
    if any(type(flag) is not bool for flag in flags):
        return "a list filter must be true or false"
    uris = wanted.get("resourceSubscriptions", [])
    if type(uris) is not list or any(type(uri) is not str for uri in uris):
        return "resourceSubscriptions must be a list of URIs"
    if len(uris) > _MAX_LISTEN_URIS or any(len(uri) > _MAX_URI_CHARS for uri in uris):
        return (
            f"resourceSubscriptions holds at most {_MAX_LISTEN_URIS} URIs"
            f" of at most {_MAX_URI_CHARS} characters"
        )
    tasks = wanted.get("taskIds", [])
    if type(tasks) is not list or any(type(task) is not str for task in tasks):
        return "taskIds must be a list of ids"
    if len(tasks) > _MAX_LISTEN_TASKS or any(len(task) > _MAX_URI_CHARS for task in tasks):
        return (
            f"taskIds holds at most {_MAX_LISTEN_TASKS} ids of at most {_MAX_URI_CHARS} characters"
        )
    tools, prompts, resources = flags
    found = tuple(dict.fromkeys(uris)), tuple(dict.fromkeys(tasks))
    return ListenFilter(tools, prompts, resources, *found)


def _subscription_meta(identifier: str | int) -> bytes:
    """Encode the `_meta` that ties a message to its subscription."""
    return b'{"%b":%b}' % (SUBSCRIPTION_KEY.encode(), encode_json(identifier))


def acknowledgement(identifier: str | int, confirmed: ListenFilter) -> bytes:
    """Build the notification that must come first on a listen stream."""
    params = b'{"_meta":%b,"notifications":%b}' % (
        _subscription_meta(identifier),
        encode_json(confirmed.to_notifications()),
    )
    return encode_notification("notifications/subscriptions/acknowledged", params)


def tag_notification(
    method: str, identifier: str | int, uri: str | None = None, more: bytes | None = None
) -> bytes:
    """Build a change notification for one listen stream; `more` is an object without `_meta`."""
    params = b'{"_meta":%b' % _subscription_meta(identifier)
    if more is not None:
        return encode_notification(method, params + _more_members(more))
    if uri is not None:
        params += b',"uri":%b' % encode_json(uri)
    return encode_notification(method, params + b"}")


def listen_end_result(identifier: str | int, server_info: bytes) -> bytes:
    """Build the result that ends a listen stream gracefully."""
    return b'{"resultType":"complete","_meta":{%b,%b}}' % (
        server_info,
        _subscription_meta(identifier)[1:-1],
    )
