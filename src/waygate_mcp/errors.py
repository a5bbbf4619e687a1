"""Every error this project raises on purpose.

    WaygateError                    code: stable slug · facts as fields · safe_message for clients
    ├─ ConfigError(path, problems)
    ├─ ProtocolError
    │  ├─ LocalProtocolError        we were asked to do what the protocol forbids
    │  ├─ RemoteProtocolError       the peer did what the protocol forbids
    │  └─ RpcError(rpc_code, data)   a JSON-RPC error to be told to the client as it stands
    ├─ AuthError
    │  ├─ UnauthenticatedError      nobody we know
    │  └─ ForbiddenError            known, and may not
    ├─ LimitError
    │  ├─ RateLimitedError(retry_after_s)
    │  └─ TooLargeError(limit_bytes)
    ├─ UnknownNameError(kind, name)
    ├─ UnknownMethodError(method)
    ├─ InvalidArgumentsError(details)
    ├─ CapabilityMissingError(required)
    ├─ CallTimeoutError(timeout_s)
    ├─ InvalidStateError            a `requestState` not ours, not theirs, or not fresh
    ├─ InterruptedCallError         its owner or the server went away
    ├─ UpstreamError(upstream)
    │  ├─ UpstreamUnavailableError  nothing was sent
    │  ├─ UpstreamTimeoutError      sent, outcome unknown
    │  └─ UpstreamProtocolError     answered, and the answer is not MCP
    ├─ PluginError(plugin)
    └─ StorageError

This module knows what went wrong and what a stranger may be told about it. It refuses to know
how an error is worded for a door: HTTP statuses stand in `web/problems.py`, JSON-RPC codes in
`protocol`.

`str(error)` is for our own log; `safe_message` is for clients and never holds addresses, paths,
statements or secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "AuthError",
    "CallTimeoutError",
    "CapabilityMissingError",
    "ConfigError",
    "ConfigProblem",
    "ForbiddenError",
    "InterruptedCallError",
    "InvalidArgumentsError",
    "InvalidStateError",
    "LimitError",
    "LocalProtocolError",
    "PluginError",
    "ProtocolError",
    "RateLimitedError",
    "RemoteProtocolError",
    "RpcError",
    "StorageError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnknownMethodError",
    "UnknownNameError",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "UpstreamUnavailableError",
    "WaygateError",
    "leaf_errors",
    "let_go",
]


class WaygateError(Exception):
    """The root of all errors raised on purpose.

    `code` is a stable slug (`unknown_name`) for logs, metrics and answers. `safe_message` is what
    a client may read; without one given, the sentence of the class is used, never the internal
    message.
    """

    code: ClassVar[str] = "internal_error"
    default_safe_message: ClassVar[str] = "The request could not be completed."

    def __init__(self, message: str = "", *, safe_message: str | None = None) -> None:
        self.safe_message = safe_message or self.default_safe_message
        super().__init__(message or self.safe_message)


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with the configuration.

    `path` is dotted (`endpoints.dev.tols`, `plugins.hello.use`; list items as `[0]`), empty for
    the whole document. `line` and `column` count from 1 and are None where the value has no place
    in a file. `suggestion` is the nearest known word.
    """

    path: str
    message: str
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        """Give one line for people: place, path, message, suggestion."""
        place = "" if self.line is None else f"line {self.line}, column {self.column}: "
        path = f"{self.path}: " if self.path else ""
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{place}{path}{self.message}{hint}"


class ConfigError(WaygateError):
    """The configuration cannot be used.

    `problems` holds everything found at once, in the order of the document; `path` is the key path
    of the first. `source` names the file or the part of the environment that was read.
    """

    code = "invalid_configuration"
    default_safe_message = "The configuration is not valid."

    def __init__(
        self,
        message: str = "",
        *,
        path: str = "",
        problems: Sequence[ConfigProblem] = (),
        source: str = "",
    ) -> None:
        if not problems:
            problems = (ConfigProblem(path=path, message=message or self.default_safe_message),)
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        self.path = path or self.problems[0].path
        self.source = source
        text = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"{source}: {text}" if source else text)


class ProtocolError(WaygateError):
    """Something in a conversation broke the rules of the protocol."""

    code = "protocol_error"
    default_safe_message = "The message breaks the rules of the protocol."


class LocalProtocolError(ProtocolError):
    """Our own code asked for something the protocol forbids now: a bug of ours, or of a plugin."""

    code = "local_protocol_error"
    default_safe_message = "The server tried something the protocol does not allow."


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol forbids."""

    code = "remote_protocol_error"


class RpcError(ProtocolError):
    """A JSON-RPC error that reaches the client with this very code, message and data.

    Raised by whoever answers a call: a tool that wants a code of its own, or an upstream whose
    error is relayed. `data` is the raw JSON text of the member, None where there is none.
    """

    code = "rpc_error"

    def __init__(self, rpc_code: int, message: str, data: bytes | None = None) -> None:
        self.rpc_code = rpc_code
        self.data = data
        super().__init__(message)
        self.safe_message = message  # an upstream's own words, even where it had none


class AuthError(WaygateError):
    """The caller may not do this."""

    code = "auth_error"
    default_safe_message = "Access is not allowed."


class UnauthenticatedError(AuthError):
    """No credential, or none that is valid.

    `reason` is a bounded slug (`missing`, `invalid`, `expired`) for log and metric.
    """

    code = "unauthenticated"
    default_safe_message = "Authentication is required."

    def __init__(
        self, message: str = "", *, reason: str = "invalid", safe_message: str | None = None
    ) -> None:
        self.reason = reason
        super().__init__(message, safe_message=safe_message)


class ForbiddenError(AuthError):
    """The caller is known and lacks the permission; `permission` names it (`metrics:read`)."""

    code = "forbidden"
    default_safe_message = "The credential does not allow this."

    def __init__(
        self, message: str = "", *, permission: str = "", safe_message: str | None = None
    ) -> None:
        self.permission = permission
        super().__init__(message, safe_message=safe_message)


class LimitError(WaygateError):
    """A limit was reached. `limit` is the name of the setting that holds it, where there is one."""

    code = "limit_reached"
    default_safe_message = "A limit of the server was reached."

    def __init__(
        self, message: str = "", *, limit: str = "", safe_message: str | None = None
    ) -> None:
        self.limit = limit
        super().__init__(message, safe_message=safe_message)


class RateLimitedError(LimitError):
    """Too many at once or in a row; the same request may succeed after `retry_after_s` seconds.

    Where a rate was exceeded, `count` is what it allows in its period, and `reset_s` the seconds until
    all of it is free again.
    """

    code = "rate_limited"
    default_safe_message = "Too many requests; try again later."

    def __init__(
        self,
        retry_after_s: float,
        message: str = "",
        *,
        limit: str = "",
        safe_message: str | None = None,
        count: int | None = None,
        reset_s: float = 0.0,
    ) -> None:
        self.retry_after_s = retry_after_s
        self.count = count
        self.reset_s = reset_s
        super().__init__(message, limit=limit, safe_message=safe_message)


class TooLargeError(LimitError):
    """A message, file or list is larger than `limit_bytes` bytes; it was not read to its end."""

    code = "too_large"

    def __init__(
        self,
        limit_bytes: int,
        message: str = "",
        *,
        limit: str = "",
        safe_message: str | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            message,
            limit=limit,
            safe_message=safe_message or f"The message is larger than {limit_bytes} bytes.",
        )


class UnknownNameError(WaygateError):
    """No entry of that name, or none this caller may see: both answer alike.

    `kind` is one of `tool`, `resource`, `prompt`, `endpoint`, `session`, …; `name` is as the caller
    gave it.
    """

    code = "unknown_name"

    def __init__(self, kind: str, name: str, *, safe_message: str | None = None) -> None:
        self.kind = kind
        self.name = name
        super().__init__(
            f"unknown {kind}: {name!r}",
            safe_message=safe_message or f"Unknown {kind}: {name[:200]}",
        )


class UnknownMethodError(WaygateError):
    """The method does not exist in the revision spoken."""

    code = "unknown_method"
    default_safe_message = "Method not found"

    def __init__(self, method: str, *, safe_message: str | None = None) -> None:
        self.method = method
        super().__init__(f"unknown method: {method!r}", safe_message=safe_message)


class InvalidArgumentsError(WaygateError):
    """The arguments do not fit the schema of the entry; the function was not run.

    `details` are sentences a model can act on, one for each fault, naming the argument and what is expected.
    """

    code = "invalid_arguments"

    def __init__(self, details: Sequence[str], *, safe_message: str | None = None) -> None:
        self.details: tuple[str, ...] = tuple(details)
        text = "; ".join(self.details) or "the arguments are not valid"
        super().__init__(text, safe_message=safe_message or f"Invalid arguments: {text}")


class CapabilityMissingError(WaygateError):
    """The call needs a capability the client did not declare.

    `required` has the shape of `ClientCapabilities`, for example `{"elicitation": {"form": {}}}`.
    """

    code = "capability_missing"

    def __init__(self, required: Mapping[str, object], *, safe_message: str | None = None) -> None:
        self.required: dict[str, object] = dict(required)
        names = ", ".join(sorted(self.required))
        text = f"The client lacks a capability this needs: {names}"
        super().__init__(text, safe_message=safe_message or text)


class CallTimeoutError(WaygateError):
    """The call did not end within its time of `timeout_s` seconds and was cancelled."""

    code = "call_timeout"
    default_safe_message = "The call took too long and was cancelled."

    def __init__(
        self, timeout_s: float, message: str = "", *, safe_message: str | None = None
    ) -> None:
        self.timeout_s = timeout_s
        super().__init__(message, safe_message=safe_message)


class InvalidStateError(WaygateError):
    """A `requestState` that is forged, altered, expired, used before, or somebody else's.

    The answer is the same for all of these.
    `reason` is a bounded slug for the log, never for the client.
    """

    code = "invalid_state"
    default_safe_message = "The request state is not valid."

    def __init__(
        self, message: str = "", *, reason: str = "invalid", safe_message: str | None = None
    ) -> None:
        self.reason = reason
        super().__init__(message, safe_message=safe_message)


class InterruptedCallError(WaygateError):
    """The call was begun and cannot be ended: the server stopped, or the parked call is gone."""

    code = "interrupted"
    default_safe_message = "The call was interrupted; start it again."


class UpstreamError(WaygateError):
    """An upstream did not do what a call needed. `upstream` is its name in the document."""

    code = "upstream_error"
    default_safe_message = "The upstream server failed."

    def __init__(
        self, upstream: str, message: str = "", *, safe_message: str | None = None
    ) -> None:
        self.upstream = upstream
        super().__init__(message, safe_message=safe_message)


class UpstreamUnavailableError(UpstreamError):
    """Nothing was sent; safe to retry."""

    code = "upstream_unavailable"
    default_safe_message = "The upstream server cannot be reached."


class UpstreamTimeoutError(UpstreamError):
    """Sent, outcome unknown; retry only if the entry is idempotent."""

    code = "upstream_timeout"
    default_safe_message = "The upstream server did not answer in time."


class UpstreamProtocolError(UpstreamError):
    """The upstream's answer is not what the protocol allows."""

    code = "upstream_protocol_error"
    default_safe_message = "The upstream server gave an answer that is not valid."


class PluginError(WaygateError):
    """A plugin raised, or cannot be loaded. `plugin` is its name in the document."""

    code = "plugin_error"
    default_safe_message = "A plugin of the server failed."

    def __init__(self, plugin: str, message: str = "", *, safe_message: str | None = None) -> None:
        self.plugin = plugin
        super().__init__(message, safe_message=safe_message)


class StorageError(WaygateError):
    """The store could not be read or written; nothing is to be taken as durable."""

    code = "storage_error"
    default_safe_message = "The server could not reach its storage."


def leaf_errors(root: type[WaygateError] = WaygateError) -> Iterator[type[WaygateError]]:
    """Yield every error that no other of this module refines, for tables that must be complete."""
    for child in root.__subclasses__():
        if child.__module__ != __name__:
            continue
        refined = tuple(leaf_errors(child))
        yield from refined or (child,)


def let_go(error: BaseException) -> None:
    """Cut an error that was dealt with from the frames it passed and the errors it came from.

    A frame that kept its error in a variable would hold that error, the error the frame, and both all
    that was read for the call, until the collector walks through everything, which it hardly ever does.
    """
    left = [error]
    while left:
        one = left.pop()
        left += [each for each in (one.__cause__, one.__context__) if each is not None]
        left += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        one.__traceback__ = one.__cause__ = one.__context__ = None
