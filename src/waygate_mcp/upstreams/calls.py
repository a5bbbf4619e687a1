"""How a call is written for an upstream of each era, and what its answer means to the client.

Knows the members both eras add to parameters and results, and the table of errors of protocol.md 7.
Refuses to send anything. What it does not know travels as it came.
Spec: 2026-07-28 basic/index, "_meta"; basic/patterns/mrtr; server/utilities/caching.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from waygate_mcp.errors import CapabilityMissingError, RpcError, UpstreamProtocolError
from waygate_mcp.model.call import Call, InputRequired, Outcome, Reply
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.failures import RESOURCE_NOT_FOUND_LEGACY
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.stateless import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    SERVER_INFO_KEY,
    SUBSCRIPTION_KEY,
    VERSION_KEY,
)
from waygate_mcp.protocol.tasks import TASK_METHODS, TASKS_EXTENSION, read_task
from waygate_mcp.protocol.versions import MODERN, Revision
from waygate_mcp.upstreams.channel import RemoteError
from waygate_mcp.upstreams.questions import (
    input_required,
    input_responses,
    url_questions,
    was_declined,
)
from waygate_mcp.upstreams.slices import Members, NotAnObjectError, cut, join

__all__ = [
    "URL_REQUIRED_LEGACY",
    "ModernContext",
    "declaration",
    "error_for",
    "legacy_outcome",
    "legacy_params",
    "modern_meta",
    "modern_outcome",
    "modern_params",
]

URL_REQUIRED_LEGACY = -32042
_ERA_PARAMS = frozenset(("inputResponses", "requestState", "task"))
# Ours on each side, and what may carry private data over the border (protocol.md 9, rule 25).
_OWN_META = frozenset((
    VERSION_KEY, CLIENT_INFO_KEY, CAPABILITIES_KEY, LOG_LEVEL_KEY, SUBSCRIPTION_KEY,
    "progressToken", "baggage",
))  # fmt: skip
_MAX_METAS, _MAX_META_BYTES = 256, 1_024
_metas_without: set[bytes] = set()
_NAMES = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
    **dict.fromkeys(TASK_METHODS, "taskId"),
}


class _Body(msgspec.Struct):
    """What is read of the message a call came in."""

    method: str
    params: Members = {}


class ModernContext(msgspec.Struct):
    """What every modern request says of its sender. `extensions` are those agreed with this upstream.

    One context serves many calls: `written` keeps what it comes to as `_meta`.
    """

    client_info: Mapping[str, Any]
    capabilities: ClientCapabilities
    log_level: str | None = None
    extensions: tuple[str, ...] = ()
    written: bytes = b""

    def usual_meta(self) -> bytes:
        """Give the `_meta` of a request without a token."""
        if not self.written:
            self.written = join(modern_meta(self))
        return self.written


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_int = msgspec.json.Decoder(int).decode


def declaration(
    capabilities: ClientCapabilities, extensions: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Write capabilities as they are declared to an upstream: the client's, never more.

    Of extensions only those are declared that are carried here and agreed for this request.
    """
    return ClientCapabilities(capabilities.bits, extensions).to_declaration()


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(jsonrpc.encode_json(value))


def _params_of(call: Call) -> Members:
    """Give the parameters as they came; where no bytes fit the call, the parsed ones are written.

    A step that changes `call.params` clears `call.body`, and so its change is what is sent.
    """
    if call.body:
        try:
            body = _decode_body(call.body)
            if body.method == call.method:
                return body.params
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # a batch, for example: its members were parsed one by one
    return cut(jsonrpc.encode_json(call.params))


def _entry_params(call: Call) -> tuple[Members, Members]:
    """Give parameters and `_meta` with this provider's own names and without era members."""
    members = _params_of(call)
    meta = members.pop("_meta", None)
    if not _ERA_PARAMS.isdisjoint(members):
        for name in _ERA_PARAMS:
            if name != "inputResponses" or call.method != "tasks/update":
                members.pop(name, None)
    member = _NAMES.get(call.method)
    if member is not None:
        members[member] = _raw(call.target)
    elif "ref" in members:
        members["ref"] = msgspec.Raw(_reference(members["ref"], call.target))
    return members, {} if meta is None else _foreign_meta(bytes(meta))


def _foreign_meta(raw: bytes) -> Members:
    """Give the members of a `_meta` that are neither ours nor the client's own.

    A client sends the same `_meta` with every call, mostly, and nothing in it that is foreign.
    """
    if raw in _metas_without:
        return {}
    kept = cut(raw)
    for name in _OWN_META:
        kept.pop(name, None)
    if not kept and len(raw) <= _MAX_META_BYTES:
        if len(_metas_without) >= _MAX_METAS:
            _metas_without.clear()
        _metas_without.add(raw)
    return kept


def _reference(ref: msgspec.Raw, target: str) -> bytes:
    """Write the reference of a completion with the provider's own name."""
    parts = cut(ref)
    member = "uri" if bytes(parts.get("type", msgspec.Raw(b""))) == b'"ref/resource"' else "name"
    if target:
        parts[member] = _raw(target)
    return join(parts)


def modern_meta(context: ModernContext, token: str | None = None) -> Members:
    """Build the `_meta` members every modern request carries."""
    meta = {
        VERSION_KEY: _raw(MODERN.text),
        CLIENT_INFO_KEY: _raw(context.client_info),
        # This era has no news of roots.
        CAPABILITIES_KEY: _raw(
            declaration(context.capabilities.without_roots_changed(), context.extensions)
        ),
    }
    if context.log_level is not None:
        meta[LOG_LEVEL_KEY] = _raw(context.log_level)
    if token is not None:
        meta["progressToken"] = _raw(token)
    return meta


def _plain_arguments(call: Call) -> bytes | None:
    """Give the arguments of a call of a tool that has nothing else to be passed on: most calls.

    What was parsed is written again, which is far less work than to cut the body into pieces, and used
    only where the body has the same bytes. None where it does not, or where there is more in the call.
    """
    params = call.params
    meta, arguments = params.get("_meta"), params.get("arguments")
    if (
        call.method != "tools/call"
        or type(arguments) is not dict
        or len(params) != (2 if meta is None else 3)
        or "name" not in params
        or not (meta is None or (type(meta) is dict and meta.keys() <= _OWN_META))
        or call.input_responses is not None
        or call.request_state is not None
    ):
        return None
    try:
        written = jsonrpc.encode_json(arguments)
    except (OverflowError, ValueError, RecursionError):  # numbers of any length are read
        return None
    return written if not call.body or b'"arguments":%b' % written in call.body else None


def modern_params(call: Call, context: ModernContext, token: str | None) -> bytes:
    """Write the parameters of a call for a modern upstream, answers of a retry included."""
    if token is None and (arguments := _plain_arguments(call)) is not None:
        name, usual = jsonrpc.encode_json(call.target), context.usual_meta()
        return b'{"name":%b,"arguments":%b,"_meta":%b}' % (name, arguments, usual)
    members, meta = _entry_params(call)
    if call.input_responses is not None:
        members["inputResponses"] = msgspec.Raw(input_responses(call.input_responses))
    if call.request_state is not None:
        members["requestState"] = _raw(call.request_state)
    if meta or token is not None:
        members["_meta"] = msgspec.Raw(join({**meta, **modern_meta(context, token)}))
    else:
        members["_meta"] = msgspec.Raw(context.usual_meta())
    return join(members)


def legacy_params(
    call: Call, revision: Revision, token: str | None, task: bytes | None = None
) -> bytes:
    """Write the parameters of a call for an upstream of a legacy revision.

    Answers of a retry are not sent: for such an upstream a retry without a parked call is a new call.
    With `task`, a raw object, the call is to become a task.
    """
    if token is None and task is None and (arguments := _plain_arguments(call)) is not None:
        return b'{"name":%b,"arguments":%b}' % (jsonrpc.encode_json(call.target), arguments)
    members, meta = _entry_params(call)
    if not revision.has_completion_context and call.method == "completion/complete":
        members.pop("context", None)
    if task is not None:
        members["task"] = msgspec.Raw(task)
    if token is not None:
        meta["progressToken"] = _raw(token)
    if meta:
        members["_meta"] = msgspec.Raw(join(meta))
    return join(members)


def _reply(upstream: str, raw: msgspec.Raw, members: Members, *, is_task: bool = False) -> Reply:
    """Take the era's members out of a result; the ttlMs of a task is the task's own."""
    size = len(members)
    members.pop("resultType", None)
    meta = members.pop("_meta", None)
    if meta is not None:
        meta = _neutral_meta(upstream, meta)
    ttl = scope = None
    if not is_task:
        ttl, scope = members.pop("ttlMs", None), members.pop("cacheScope", None)
    error = members.get("isError")
    return Reply(
        result=bytes(raw) if len(members) == size else join(members),
        meta=None if meta is None else bytes(meta),
        is_error=error is not None and bytes(error) == b"true",
        ttl_ms=0 if ttl is None else _ttl(ttl),
        cache_scope="private" if scope is None else _scope(scope),
    )


def _neutral_meta(upstream: str, raw: msgspec.Raw) -> msgspec.Raw | None:
    """Take the upstream's own name out of `_meta`; ours replaces it (protocol.md 9, rule 10)."""
    try:
        meta = cut(raw)
    except NotAnObjectError as exc:
        raise UpstreamProtocolError(upstream, f"_meta is no object: {exc}") from exc
    if SERVER_INFO_KEY not in meta:
        return raw if meta else None
    del meta[SERVER_INFO_KEY]
    return msgspec.Raw(join(meta)) if meta else None


def _ttl(raw: msgspec.Raw) -> int:
    """Read `ttlMs`; what is negative or no integer is 0."""
    try:
        return min(max(_decode_int(raw), 0), 2**53 - 1)
    except msgspec.DecodeError:
        return 0


def _scope(raw: msgspec.Raw) -> Literal["public", "private"]:
    """Read `cacheScope`; only the literal `public` is public."""
    return "public" if bytes(raw) == b'"public"' else "private"


def _cut_result(upstream: str, raw: msgspec.Raw) -> Members:
    """Cut a result, blaming the upstream where it is no object."""
    try:
        return cut(raw)
    except NotAnObjectError as exc:
        raise UpstreamProtocolError(upstream, f"the result is no object: {exc}") from exc


def modern_outcome(
    upstream: str, method: str, raw: msgspec.Raw, extensions: tuple[str, ...] = ()
) -> Outcome:
    """Read the result of a modern upstream; `extensions` are those declared on the request.

    Raises:
        UpstreamProtocolError: a `resultType` nobody agreed on, or `input_required` where it may not
            stand.
    """
    members = _cut_result(upstream, raw)
    stated = members.get("resultType")
    kind = b'"complete"' if stated is None else bytes(stated)
    if kind == b'"complete"':
        return _reply(upstream, raw, members, is_task=method in TASK_METHODS)
    if kind == b'"task"' and method == "tools/call" and TASKS_EXTENSION in extensions:
        reply = _reply(upstream, raw, members, is_task=True)
        return msgspec.structs.replace(reply, task_id=_task_id(upstream, reply.result))
    known = METHODS.get(method)
    if kind != b'"input_required"' or known is None or not known.may_ask:
        raise UpstreamProtocolError(upstream, f"{method} gave resultType {kind[:80]!r}")
    try:
        return input_required(members)
    except (ValueError, UnicodeDecodeError) as exc:
        raise UpstreamProtocolError(upstream, str(exc)) from exc


def _task_id(upstream: str, task: bytes | msgspec.Raw) -> str:
    """Read the id of a task an upstream made."""
    try:
        return read_task(task).id
    except ValueError as exc:
        raise UpstreamProtocolError(upstream, str(exc)) from exc


def legacy_outcome(upstream: str, raw: msgspec.Raw, *, may_be_task: bool = False) -> Reply:
    """Read the result of a legacy upstream, which is a task where one was asked for and made."""
    members = _cut_result(upstream, raw)
    made = members.get("task") if may_be_task else None
    reply = _reply(upstream, raw, members)
    if made is None:
        return reply
    return msgspec.structs.replace(reply, task_id=_task_id(upstream, made))


def error_for(
    call: Call, upstream: str, error: RemoteError, *, is_modern: bool
) -> RpcError | CapabilityMissingError | UpstreamProtocolError | InputRequired:
    """Say an upstream's error in the client's era: what to raise, or in one case what to answer.

    1. A missing resource has another code in each era.
    2. -32042 (URL needed) is a question in the modern era; older clients get it as text.
    3. -32020 and -32022 are between the upstream and us, never the client's fault.
    4. -32021 reaches a modern client; a legacy one cannot read it. A legacy upstream that says in
       `data` which capability is missing says -32021 to a modern client.
    5. Everything else is relayed untouched.
    """
    reader = call.revision
    data = bytes(error.data) or None
    if is_modern:
        if error.code in (jsonrpc.HEADER_MISMATCH, jsonrpc.UNSUPPORTED_VERSION):
            return UpstreamProtocolError(upstream, f"refused our request: {error.message[:500]}")
        if error.code == jsonrpc.MISSING_CAPABILITY and not reader.is_modern:
            return RpcError(jsonrpc.INTERNAL_ERROR, error.message, data)
        if error.code == jsonrpc.INVALID_PARAMS and not reader.is_modern:
            is_read = call.method == "resources/read"
            code = RESOURCE_NOT_FOUND_LEGACY if is_read else error.code
            return RpcError(code, error.message, data)
    elif error.code == RESOURCE_NOT_FOUND_LEGACY and reader.is_modern:
        data = _with_uri(data, call.name)
        return RpcError(jsonrpc.INVALID_PARAMS, error.message, data)
    elif error.code == URL_REQUIRED_LEGACY:
        return _url_required(call, error, data)
    elif error.code == jsonrpc.INTERNAL_ERROR and reader.is_modern:
        required = _required_capabilities(data)
        if required is not None:
            return CapabilityMissingError(required, safe_message=error.message)
    return RpcError(error.code, error.message, data)


class _Required(msgspec.Struct, rename="camel"):
    required_capabilities: dict[str, Any]


_decode_required = msgspec.json.Decoder(_Required).decode


def _required_capabilities(data: bytes | None) -> dict[str, Any] | None:
    """Read which capabilities an error says the client lacks, None where it does not."""
    try:
        return _decode_required(data or b"null").required_capabilities or None
    except (msgspec.DecodeError, RecursionError):
        return None


def _with_uri(data: bytes | None, uri: str) -> bytes:
    """Make sure that `data` names the resource that is missing."""
    members: Members = {}
    if data is not None:
        try:
            members = cut(data)
        except NotAnObjectError:
            members = {"reason": msgspec.Raw(data)}
    members["uri"] = _raw(uri)
    return join(members)


def _url_required(
    call: Call, error: RemoteError, data: bytes | None
) -> RpcError | CapabilityMissingError | InputRequired:
    """Turn "visit this URL first" into what the client's revision has for it."""
    if call.revision.has_url_elicitation and not call.revision.is_modern:
        return RpcError(error.code, error.message, data)
    questions = url_questions(data or b"")
    if call.revision.is_modern and questions:
        answers = call.input_responses or {}
        if any(was_declined(answer) for answer in answers.values()):
            return RpcError(jsonrpc.INTERNAL_ERROR, f"Not done: {error.message}")
        missing = call.capabilities.missing_for("elicitation/create", {"mode": "url"})
        return InputRequired(questions) if missing is None else CapabilityMissingError(missing)
    urls = [cast("str", msgspec.json.decode(q.params)["url"]) for q in questions.values()]
    return RpcError(jsonrpc.INTERNAL_ERROR, " ".join([error.message, *urls]).strip())
