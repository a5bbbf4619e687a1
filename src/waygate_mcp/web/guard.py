"""What every request is asked, at every door, before a byte of its body is read.

Knows, in this order: request id, limits of the headers, Host, Origin, credential. Plain functions on
one object that is built with a generation; both doors call it, nothing stands around it. What cannot
be decided at once, a token whose issuer's keys have to be fetched, is decided by `admit_later`. Refuses to
know paths: what is open is the caller's to say (`admit_open`), and only the application does.

What is accepted compares whole parsed values, never prefixes (threat model rules 1 to 4). A page of
our own origin, `http://` and a Host that is accepted, is not foreign: no other site can have that
Host. Texts that were accepted once are remembered, so that the usual request costs two look-ups.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp.auth.jwt import refused
from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.config.document import DEFAULT_ENDPOINT, Document, ServerSection
from waygate_mcp.config.hosts import parse_host, parse_origin
from waygate_mcp.errors import (
    LimitError,
    RemoteProtocolError,
    UnauthenticatedError,
    UpstreamError,
    WaygateError,
)
from waygate_mcp.model.ports import Authenticator
from waygate_mcp.model.principal import Principal
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.resource import Resource, resource_of

__all__ = ["MEMORY", "STRANGER", "Admission", "Guard", "guard_of"]

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
_MAX_REMEMBERED = 256
REMEMBER_S = 1.0
"""Seconds for which the same head is the same caller: a key that is taken back stops within two (threat
model rule 7)."""

MEMORY = "waygate.memory"
"""Name in the scope of what is kept of a head, where its very bytes came before (`web/heads.py`)."""

_LAST = "admitted"

STRANGER = Principal("stranger", "nobody we know")
"""Who calls an open route. May nothing."""

SINGLE = frozenset({
    b"host", b"origin", b"authorization", b"x-api-key", b"content-length", b"content-type",
    b"content-encoding", b"transfer-encoding", b"x-request-id", b"last-event-id", b"mcp-session-id",
    b"mcp-protocol-version", b"mcp-method", b"mcp-name",
})  # fmt: skip
"""Headers that decide something: twice is refused, because two readers could choose differently."""

EXPOSED = b"Mcp-Session-Id, MCP-Protocol-Version, X-Request-ID, WWW-Authenticate, Retry-After"
METHODS = b"GET, POST, DELETE, OPTIONS"
_REQUEST_HEADERS = frozenset({
    b"accept", b"authorization", b"content-type", b"last-event-id", b"mcp-method", b"mcp-name",
    b"mcp-protocol-version", b"mcp-session-id", b"traceparent", b"tracestate", b"x-api-key",
    b"x-request-id",
})  # fmt: skip
_MAX_AGE_S = b"600"
_RETRY_AFTER_S = b"5"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_PARAM_HEADER = re.compile(rb"mcp-param-[!#$%&'*+.^_`|~0-9a-z-]+")

_Scope = Mapping[str, Any]
_Pairs = tuple[tuple[bytes, bytes], ...]


class Admission(msgspec.Struct):
    """A request that may come in.

    `headers` maps lower-case names to values; what a client sent twice is joined with a comma.
    """

    headers: dict[bytes, bytes]
    request_id: str
    principal: Principal


class _Seen(msgspec.Struct, frozen=True):
    """By whom and as what the last request with a head was let in."""

    endpoint: str
    guard: Guard
    until_s: float
    pairs: Sequence[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    request_id: str | None
    principal: Principal


class Guard:
    """What one generation asks of every request.

    `on_failure` is told the bounded reason of each credential that is refused. `resource` is what this
    server is to clients with access tokens.
    """

    def __init__(
        self,
        server: ServerSection,
        authenticator: Authenticator,
        on_failure: Callable[[str], None],
        resource: Resource | None = None,
    ) -> None:
        self.resource = resource or Resource()
        self._authenticate = authenticator.authenticate
        self._on_failure = on_failure
        self._accepted_hosts = server.accepted_hosts
        self._accepted_origins = server.accepted_origins
        self._cors_origins = frozenset(server.cors_origins)
        self._known_hosts: set[bytes] = set()
        self._known_origins: set[tuple[bytes, bytes]] = set()
        prefix = os.urandom(6).hex()
        self._next_id = (f"{prefix}-{number:x}" for number in itertools.count(1)).__next__

    def admit(self, scope: _Scope, endpoint: str = DEFAULT_ENDPOINT) -> Admission:
        """Let a request to an endpoint in, or say why not; all that is no endpoint goes by the default one.

        One with the very head of a request before it is let in as that one was.

        Raises:
            Refused: 400, 401, 403, 421, 431 or 503, with the request's id.
            UnverifiedError: see `admit_later`.
        """
        memory: dict[str, _Seen] | None = scope.get(MEMORY)
        if memory is None:
            return self._admit(scope, endpoint)
        pairs, now_s = scope["headers"], time.monotonic()
        last = memory.get(_LAST)
        if (
            last is not None
            and now_s < last.until_s
            and last.guard is self
            and last.endpoint == endpoint
        ):
            # The same head, but its body may be longer or shorter.
            headers = last.headers if pairs is last.pairs else dict(pairs)
            return Admission(headers, last.request_id or self._next_id(), last.principal)
        admission = self._admit(scope, endpoint)
        given = _sane_id(admission.headers.get(b"x-request-id"))
        until_s = now_s + REMEMBER_S
        memory[_LAST] = _Seen(
            endpoint, self, until_s, pairs, admission.headers, given, admission.principal
        )
        return admission

    async def admit_later(
        self, scope: _Scope, unverified: UnverifiedError, endpoint: str = DEFAULT_ENDPOINT
    ) -> Admission:
        """Let a request in whose credential takes waiting, before anything of its body is read.

        Raises:
            Refused: see `admit`.
        """
        admission = self.admit_open(scope)
        try:
            principal = await unverified.verify()
        except (UnauthenticatedError, RemoteProtocolError, UpstreamError, LimitError) as exc:
            raise self._refusal(exc, admission.request_id, endpoint) from None
        return self._let_in(admission, principal, endpoint)

    def _admit(self, scope: _Scope, endpoint: str) -> Admission:
        admission = self.admit_open(scope)
        try:
            principal = self._authenticate(admission.headers)
        except (UnauthenticatedError, RemoteProtocolError, UpstreamError) as exc:
            raise self._refusal(exc, admission.request_id, endpoint) from None
        return self._let_in(admission, principal, endpoint)

    def _let_in(self, admission: Admission, principal: Principal, endpoint: str) -> Admission:
        """Let a known caller in; a token must be for this endpoint and have the scopes every one needs."""
        if isinstance(principal, TokenPrincipal):
            self._check_token(principal, admission.request_id, endpoint)
        admission.principal = principal
        return admission

    def _check_token(self, principal: TokenPrincipal, request_id: str, endpoint: str) -> None:
        if not principal.may_enter(endpoint):
            raise self._refusal(refused("audience"), request_id, endpoint)
        challenge = self.resource.lacks_required(principal, endpoint)
        if challenge is not None:
            self._on_failure("scope")
            text = "The access token lacks a scope this server asks of every token."
            headers = ((b"www-authenticate", challenge),)
            raise Refused(403, "insufficient_scope", text, headers, request_id)

    def _refusal(self, error: WaygateError, request_id: str, endpoint: str) -> Refused:
        """Word why a credential lets nobody in."""
        if isinstance(error, UnauthenticatedError):
            self._on_failure(error.reason)
            challenge = self.resource.challenge(endpoint, is_invalid=error.reason != "missing")
            headers = ((b"www-authenticate", challenge),)
            return Refused(401, error.code, error.safe_message, headers, request_id)
        if isinstance(error, RemoteProtocolError):
            self._on_failure("ambiguous")
            return Refused(400, "two_credentials", error.safe_message, request_id=request_id)
        self._on_failure("unavailable")
        headers = ((b"retry-after", _RETRY_AFTER_S),)
        return Refused(503, error.code, error.safe_message, headers, request_id)

    def admit_open(self, scope: _Scope) -> Admission:
        """Let a request to an open route in: everything is asked but the credential.

        Raises:
            Refused: 400, 403, 421 or 431.
        """
        pairs = scope["headers"]
        headers = dict(pairs)
        request_id = _sane_id(headers.get(b"x-request-id")) or self._next_id()
        if len(headers) != len(pairs):
            headers = _united(pairs, request_id)
        if len(pairs) > MAX_HEADERS or _size(headers) > MAX_HEADER_BYTES:
            text = (
                f"More than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes of them."
            )
            raise Refused(431, "headers_too_large", text, request_id=request_id)
        host = headers.get(b"host")
        if host not in self._known_hosts:
            self._check_host(host, request_id)
        if b"origin" in headers:
            self._check_origin(headers[b"origin"], host or b"", request_id)
        return Admission(headers, request_id, STRANGER)

    def recognise(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Give who calls an open route: a principal, or the stranger where no credential is valid."""
        if b"authorization" not in headers and b"x-api-key" not in headers:
            return STRANGER
        try:
            principal = self._authenticate(headers)
            if isinstance(principal, TokenPrincipal):
                self._check_token(principal, "", DEFAULT_ENDPOINT)
        except UnauthenticatedError as exc:
            self._on_failure(exc.reason)
        except RemoteProtocolError:
            self._on_failure("ambiguous")
        except (UnverifiedError, UpstreamError, Refused):
            pass  # an open route waits for no issuer
        else:
            return principal
        return STRANGER

    def cors_headers(self, origin: bytes | None) -> _Pairs:
        """Give what an answer to a page of `origin` carries, so that its scripts may read it."""
        if origin is None or not self._cors_origins:
            return ()
        if not self._is_cors(origin):
            return ((b"vary", b"Origin"),)
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        )

    def preflight(self, admission: Admission) -> _Pairs | None:
        """Give the headers that answer a preflight; None where it asks for what nobody allows."""
        headers = admission.headers
        origin = headers.get(b"origin")
        if origin is None or not self._is_cors(origin):
            return None
        asked = headers.get(b"access-control-request-headers", b"").lower()
        names = [name.strip() for name in asked.split(b",") if name.strip()]
        allowed = [
            name for name in names if name in _REQUEST_HEADERS or _PARAM_HEADER.fullmatch(name)
        ]
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", b", ".join(allowed)),
            (b"access-control-max-age", _MAX_AGE_S),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        )

    def _is_cors(self, origin: bytes) -> bool:
        return _normal_origin(origin) in self._cors_origins

    def _check_host(self, raw: bytes | None, request_id: str) -> None:
        if raw is None:
            raise Refused(400, "host_missing", "A Host header is required.", request_id=request_id)
        host = _normal_host(raw)
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if not host or (host not in self._accepted_hosts and name not in self._accepted_hosts):
            text = "This server does not answer to that Host; see server.allowed_hosts."
            raise Refused(421, "host_not_allowed", text, request_id=request_id)
        if len(self._known_hosts) < _MAX_REMEMBERED:
            self._known_hosts.add(raw)

    def _check_origin(self, raw: bytes, host: bytes, request_id: str) -> None:
        if (raw, host) in self._known_origins:
            return
        origin = _normal_origin(raw)
        own = _normal_origin(b"http://" + host)
        if not origin or (origin not in self._accepted_origins and origin != own):
            text = "Pages of that Origin may not call this server; see server.allowed_origins."
            raise Refused(403, "origin_not_allowed", text, request_id=request_id)
        if len(self._known_origins) < _MAX_REMEMBERED:
            self._known_origins.add((raw, host))


def guard_of(
    document: Document,
    authenticator: Callable[[], Authenticator],
    on_failure: Callable[[str], None],
) -> Guard:
    """Make the guard of a generation; see `runtime.builders.MakeGuard`."""
    return Guard(document.server, authenticator(), on_failure, resource_of(document))


def _sane_id(given: bytes | None) -> str | None:
    """Give the request id a caller chose, None where it is none or not fit for a log line."""
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else None


def _size(headers: dict[bytes, bytes]) -> int:
    """Count the bytes of all names and values: two joins in C, a third of what a loop costs."""
    return len(b"".join(headers)) + len(b"".join(headers.values()))


def _united(pairs: list[tuple[bytes, bytes]], request_id: str) -> dict[bytes, bytes]:
    """Join what was sent twice, as HTTP allows, and refuse what may not be.

    Spec: RFC 9110, 5.2 and 5.3.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in headers:
            headers[name] = value
        elif name in SINGLE or name.startswith(b"mcp-param-"):
            text = f"The header {name.decode('latin-1')} is given more than once."
            raise Refused(400, "duplicate_header", text, request_id=request_id)
        else:
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
    return headers


def _normal_host(raw: bytes) -> str:
    """Parse a Host; empty where it is none."""
    try:
        text = raw.decode("ascii")
        # An IPv6 address stands in brackets here, and white space nowhere.
        if text != text.strip() or (text.count(":") > 1 and not text.startswith("[")):
            return ""
        return parse_host(text)
    except (UnicodeDecodeError, ValueError):
        return ""


def _normal_origin(raw: bytes) -> str:
    """Parse an Origin; empty where it is none, `null` included."""
    try:
        text = raw.decode("ascii")
        return parse_origin(text) if text == text.strip() and not text.endswith("/") else ""
    except (UnicodeDecodeError, ValueError):
        return ""
