from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from waygate_mcp.auth.api_keys import AnonymousAuthenticator
from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.config.document import Document, ServerSection
from waygate_mcp.errors import (
    LimitError,
    RemoteProtocolError,
    UnauthenticatedError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.principal import ANONYMOUS, LOCAL, Principal
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.web.guard import MEMORY, REMEMBER_S, SINGLE, STRANGER, Guard, guard_of
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.resource import Resource

Pairs = list[tuple[bytes, bytes]]
HOST = (b"host", b"127.0.0.1:8000")


class OneKey:
    """Lets `good` in; `both` stands for two credentials."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        key = headers.get(b"x-api-key")
        if key == b"good":
            return LOCAL
        if key == b"both":
            raise RemoteProtocolError
        raise UnauthenticatedError(reason="invalid" if key else "missing")


def guard(failures: list[str] | None = None, **server: Any) -> Guard:
    heard = failures if failures is not None else []
    return Guard(ServerSection(**server), AnonymousAuthenticator(), heard.append)


def keyed(failures: list[str]) -> Guard:
    return Guard(ServerSection(), OneKey(), failures.append)


def scope(*pairs: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"headers": [*pairs]}


def refusal(asked: Guard, *pairs: tuple[bytes, bytes]) -> Refused:
    with pytest.raises(Refused) as caught:
        asked.admit(scope(*pairs))
    assert caught.value.request_id
    return caught.value


def test_an_honest_request_is_let_in_with_headers_id_and_principal() -> None:
    admission = guard().admit(scope(HOST, (b"accept", b"*/*")))
    assert admission.headers == {b"host": b"127.0.0.1:8000", b"accept": b"*/*"}
    assert admission.principal is ANONYMOUS
    assert admission.request_id


# --- request id


def test_a_sane_request_id_of_the_caller_is_kept() -> None:
    assert guard().admit(scope(HOST, (b"x-request-id", b"a.B-9_z"))).request_id == "a.B-9_z"


@pytest.mark.parametrize("given", [b"", b"with space", b"x" * 129, b"new\nline", b"\xff", b"a/b"])
def test_another_request_id_is_replaced_by_ours(given: bytes) -> None:
    found = guard().admit(scope(HOST, (b"x-request-id", given))).request_id
    assert found
    assert found.encode() != given


def test_our_request_ids_never_repeat() -> None:
    one, other = guard(), guard()
    found = {each.admit(scope(HOST)).request_id for each in (one, other) for _ in range(50)}
    assert len(found) == 100


# --- limits of headers


def test_a_hundred_headers_are_let_in_and_one_more_is_not() -> None:
    more: Pairs = [(b"x-%d" % number, b"") for number in range(99)]
    assert guard().admit(scope(HOST, *more)).request_id
    assert refusal(guard(), HOST, *more, (b"x-last", b"")).status == 431


def test_64_kib_of_headers_are_let_in_and_one_byte_more_is_not() -> None:
    room = 64 * 1024 - len(b"host") - len(HOST[1]) - 1
    assert guard().admit(scope(HOST, (b"x", b"y" * room))).request_id
    refused = refusal(guard(), HOST, (b"x", b"y" * (room + 1)))
    assert (refused.status, refused.code) == (431, "headers_too_large")


@pytest.mark.parametrize("name", sorted(SINGLE | {b"mcp-param-city"}))
@pytest.mark.parametrize("value", [b"same", b"other"])
def test_a_header_that_decides_is_refused_twice(name: bytes, value: bytes) -> None:
    pairs = [(name, b"same"), (name, value)]
    refused = refusal(guard(), *([] if name == b"host" else [HOST]), *pairs)
    assert (refused.status, refused.code) == (400, "duplicate_header")


def test_other_headers_sent_twice_are_joined() -> None:
    pairs: Pairs = [(b"accept", b"a"), (b"accept", b"b"), (b"cookie", b"c"), (b"cookie", b"d")]
    headers = guard().admit(scope(HOST, *pairs)).headers
    assert headers[b"accept"] == b"a, b"
    assert headers[b"cookie"] == b"c; d"


# --- Host


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"localhost:8000", b"LOCALHOST:1", b"127.0.0.1", b"[::1]", b"[::1]:8000",
     b"localhost.", b"mcp.example.org", b"mcp.example.org:443", b"mcp.example.org:8443",
     b"inner:9000"],
)  # fmt: skip
def test_hosts_of_ours_are_answered(host: bytes) -> None:
    asked = guard(public_url="https://mcp.example.org", allowed_hosts=("inner:9000",))
    for _ in range(2):  # at first sight, and remembered
        assert asked.admit(scope((b"host", host))).request_id


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example", b"evil.example:8000", b"127.0.0.1.evil.example",
     b"mcp.example.org.evil", b"xmcp.example.org", b"inner", b"inner:9001", b"", b"localhost:",
     b"localhost:x", b"localhost:99999", b"localhost@evil", b"evil@localhost", b"local host",
     b" localhost", b"localhost\t", b"::1", b"[::1", b"http://localhost", b"localhost/",
     b"localhost,evil", b"127.1", b"0.0.0.0", b"\xff"],
)  # fmt: skip
def test_other_hosts_are_refused(host: bytes) -> None:
    asked = guard(public_url="https://mcp.example.org", allowed_hosts=("inner:9000",))
    refused = refusal(asked, (b"host", host))
    assert (refused.status, refused.code) == (421, "host_not_allowed")


def test_a_request_without_host_is_refused() -> None:
    assert refusal(guard()).status == 400


# --- Origin

OPEN: dict[str, Any] = {
    "public_url": "https://mcp.example.org",
    "allowed_origins": ("https://app.example.org:8443",),
    "cors_origins": ("https://web.example.org",),
}


@pytest.mark.parametrize(
    "origin",
    [b"https://mcp.example.org", b"https://mcp.example.org:443", b"https://app.example.org:8443",
     b"https://web.example.org", b"HTTPS://Web.Example.org", b"http://127.0.0.1:8000"],
)  # fmt: skip
def test_pages_of_listed_origins_and_of_our_own_may_call(origin: bytes) -> None:
    asked = guard(**OPEN)
    for _ in range(2):
        assert asked.admit(scope(HOST, (b"origin", origin))).request_id


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"", b"http://127.0.0.1:3000", b"http://localhost:8000",
     b"https://127.0.0.1:8000", b"http://127.0.0.1", b"http://mcp.example.org",
     b"https://mcp.example.org:8443", b"https://app.example.org", b"https://web.example.org.evil",
     b"https://evil.example/https://web.example.org", b"https://web.example.org/",
     b"https://web.example.org@evil.example", b"*", b" https://web.example.org", b"file://",
     b"https://web.example.org, https://evil.example", b"\xff"],
)  # fmt: skip
def test_pages_of_other_origins_may_not(origin: bytes) -> None:
    refused = refusal(guard(**OPEN), HOST, (b"origin", origin))
    assert (refused.status, refused.code) == (403, "origin_not_allowed")


def test_an_origin_that_was_ours_under_one_host_is_judged_again_under_another() -> None:
    asked = guard()
    origin = (b"origin", b"http://localhost:8000")
    assert asked.admit(scope((b"host", b"localhost:8000"), origin)).request_id
    assert refusal(asked, HOST, origin).status == 403


def test_what_is_remembered_is_bounded() -> None:
    asked = guard()
    for port in range(1, 1000):
        host = b"localhost:%d" % port
        asked.admit(scope((b"host", host), (b"origin", b"http://" + host)))
    assert len(asked._known_hosts) <= 256
    assert len(asked._known_origins) <= 256


# --- credential, last of all


def test_host_and_origin_are_asked_before_any_credential() -> None:
    failures: list[str] = []
    asked = keyed(failures)
    key = (b"x-api-key", b"wrong")
    assert refusal(asked, (b"host", b"evil"), key).status == 421
    assert refusal(asked, HOST, (b"origin", b"https://evil"), key).status == 403
    assert failures == []


def test_nobody_known_is_refused_with_a_challenge_and_counted() -> None:
    failures: list[str] = []
    asked = keyed(failures)
    refused = refusal(asked, HOST)
    assert (refused.status, refused.code) == (401, "unauthenticated")
    assert refused.headers == ((b"www-authenticate", b'Bearer realm="waygate"'),)
    assert refusal(asked, HOST, (b"x-api-key", b"wrong")).status == 401
    assert refusal(asked, HOST, (b"x-api-key", b"both")).status == 400
    assert failures == ["missing", "invalid", "ambiguous"]


def test_an_open_route_asks_for_no_credential_and_for_all_else() -> None:
    asked = keyed([])
    assert asked.admit_open(scope(HOST)).principal is STRANGER
    with pytest.raises(Refused):
        asked.admit_open(scope((b"host", b"evil")))
    assert not STRANGER.may("tools:call")


def test_a_caller_of_an_open_route_is_recognised_or_a_stranger() -> None:
    failures: list[str] = []
    asked = keyed(failures)
    assert asked.recognise({b"x-api-key": b"good"}) is LOCAL
    assert asked.recognise({}) is STRANGER
    assert asked.recognise({b"x-api-key": b"wrong"}) is STRANGER
    assert asked.recognise({b"x-api-key": b"both"}) is STRANGER
    assert failures == ["invalid", "ambiguous"]


# --- CORS


def test_only_listed_pages_get_cors_headers() -> None:
    asked = guard(**OPEN)
    found = dict(asked.cors_headers(b"https://web.example.org"))
    assert found[b"access-control-allow-origin"] == b"https://web.example.org"
    assert b"Mcp-Session-Id" in found[b"access-control-expose-headers"]
    assert found[b"vary"] == b"Origin"
    assert dict(asked.cors_headers(b"https://app.example.org:8443")) == {b"vary": b"Origin"}
    assert asked.cors_headers(None) == ()
    assert guard().cors_headers(b"https://web.example.org") == ()


def test_a_preflight_of_a_listed_page_is_answered_with_what_it_may_send() -> None:
    asked = guard(**OPEN)
    wanted = b"Content-Type, MCP-Session-Id, Mcp-Param-City, X-Evil, mcp-param-, ,Authorization"
    admission = asked.admit_open(
        scope(HOST, (b"origin", b"https://web.example.org"),
              (b"access-control-request-method", b"POST"),
              (b"access-control-request-headers", wanted))
    )  # fmt: skip
    found = dict(asked.preflight(admission) or ())
    assert found[b"access-control-allow-origin"] == b"https://web.example.org"
    assert found[b"access-control-allow-methods"] == b"GET, POST, DELETE, OPTIONS"
    assert (
        found[b"access-control-allow-headers"]
        == b"content-type, mcp-session-id, mcp-param-city, authorization"
    )
    assert b"access-control-allow-credentials" not in found


@pytest.mark.parametrize("pairs", [[], [(b"origin", b"https://app.example.org:8443")]])
def test_a_preflight_of_another_page_is_not(pairs: Pairs) -> None:
    asked = guard(**OPEN)
    assert asked.preflight(asked.admit_open(scope(HOST, *pairs))) is None


def test_a_guard_is_made_of_a_document() -> None:
    asked = guard_of(Document(), AnonymousAuthenticator, lambda _reason: None)
    assert asked.admit(scope(HOST)).principal is ANONYMOUS


# --- the same headers again on one connection


class Counted(OneKey):
    def __init__(self) -> None:
        self.asked = 0

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        self.asked += 1
        return super().authenticate(headers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("waygate_mcp.web.guard.time.monotonic", lambda: now[0])
    return now


def test_a_head_that_came_before_is_asked_once_a_second(clock: list[float]) -> None:
    keys = Counted()
    asked = Guard(ServerSection(), keys, lambda _: None)
    memory: dict[str, Any] = {}
    headers = [HOST, (b"x-api-key", b"good"), (b"content-length", b"5")]
    first, second = (asked.admit({"headers": headers, MEMORY: memory}) for _ in range(2))
    assert keys.asked == 1
    assert (first.principal, first.headers) == (second.principal, second.headers)
    assert first.request_id != second.request_id
    clock[0] += REMEMBER_S
    asked.admit({"headers": headers, MEMORY: memory})
    assert keys.asked == 2


@pytest.mark.usefixtures("clock")
def test_a_longer_body_keeps_its_own_length() -> None:
    keys = Counted()
    asked = Guard(ServerSection(), keys, lambda _: None)
    memory: dict[str, Any] = {}
    known = [HOST, (b"x-api-key", b"good")]
    asked.admit({"headers": [*known, (b"content-length", b"5")], MEMORY: memory})
    longer = asked.admit({"headers": [*known, (b"content-length", b"50")], MEMORY: memory})
    assert longer.headers == dict([*known, (b"content-length", b"50")])
    assert keys.asked == 1


@pytest.mark.usefixtures("clock")
def test_another_memory_another_guard_or_none_is_asked_anew() -> None:
    keys = Counted()
    asked, newer = (Guard(ServerSection(), keys, lambda _: None) for _ in range(2))
    memory: dict[str, Any] = {}
    headers = [HOST, (b"x-api-key", b"good")]
    asked.admit({"headers": headers, MEMORY: memory})
    asked.admit({"headers": headers, MEMORY: {}})
    newer.admit({"headers": headers, MEMORY: memory})
    asked.admit({"headers": headers, MEMORY: memory})
    asked.admit({"headers": headers})
    asked.admit({"headers": headers})
    assert keys.asked == 6


def test_a_head_that_was_refused_is_refused_again() -> None:
    asked = keyed([])
    memory: dict[str, Any] = {}
    for _ in range(2):
        with pytest.raises(Refused):
            asked.admit({"headers": [HOST, (b"x-api-key", b"evil")], MEMORY: memory})
    assert memory == {}


def test_a_request_id_that_was_given_is_kept_each_time() -> None:
    asked = keyed([])
    headers = [HOST, (b"x-api-key", b"good"), (b"x-request-id", b"mine")]
    memory: dict[str, Any] = {}
    ids = {asked.admit({"headers": headers, MEMORY: memory}).request_id for _ in range(3)}
    assert ids == {"mine"}


# --- access tokens


def token_principal(**more: Any) -> TokenPrincipal:
    values: dict[str, Any] = {
        "issuer": "https://login.example.org",
        "scopes": frozenset({"a"}),
        "endpoints": frozenset({"default"}),
        "expires_at_s": 0.0,
    }
    return TokenPrincipal("oauth:x", "x", **(values | more))


class Tokens:
    """Decides as a test says: at once, later, or not at all."""

    def __init__(self, outcome: Principal | Exception, *, later: bool = False) -> None:
        self.outcome = outcome
        self.later = later

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        if self.later:
            raise UnverifiedError(self.verify)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def verify(self) -> Principal:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def with_tokens(tokens: Tokens, failures: list[str] | None = None, *required: str) -> Guard:
    heard = failures if failures is not None else []
    resource = Resource("https://mcp.example.org", ["https://login.example.org"], (), required)
    return Guard(ServerSection(), tokens, heard.append, resource)


async def settled(asked: Guard, endpoint: str = "default") -> Any:
    with pytest.raises(UnverifiedError) as caught:
        asked.admit(scope(HOST), endpoint)
    return await asked.admit_later(scope(HOST), caught.value, endpoint)


async def test_who_is_verified_later_is_let_in_as_who_is_known() -> None:
    principal = token_principal()
    admission = await settled(with_tokens(Tokens(principal, later=True)))
    assert admission.principal is principal
    assert admission.headers == {b"host": HOST[1]}
    assert admission.request_id


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (UnauthenticatedError(reason="expired"), 401, "expired"),
        (RemoteProtocolError(), 400, "ambiguous"),
        (UpstreamUnavailableError("issuer"), 503, "unavailable"),
    ],
)
async def test_now_or_later_the_answer_is_the_same(
    error: Exception, status: int, reason: str
) -> None:
    for later in (True, False):
        failures: list[str] = []
        asked = with_tokens(Tokens(error, later=later), failures)
        with pytest.raises(Refused) as caught:
            await settled(asked) if later else asked.admit(scope(HOST))
        assert (caught.value.status, failures) == (status, [reason])
        assert caught.value.request_id


async def test_a_server_without_room_to_verify_is_busy() -> None:
    with pytest.raises(Refused) as caught:
        await settled(with_tokens(Tokens(LimitError(), later=True)))
    assert caught.value.status == 503


async def test_a_token_for_another_endpoint_is_none_here() -> None:
    for later in (True, False):
        asked = with_tokens(Tokens(token_principal(), later=later))
        with pytest.raises(Refused) as caught:
            await settled(asked, "dev") if later else asked.admit(scope(HOST), "dev")
        assert caught.value.status == 401
        [(_, challenge)] = caught.value.headers
        assert b"/servers/dev/mcp" in challenge


def test_a_token_without_a_required_scope_is_403() -> None:
    failures: list[str] = []
    asked = with_tokens(Tokens(token_principal()), failures, "a", "b")
    with pytest.raises(Refused) as caught:
        asked.admit(scope(HOST))
    assert (caught.value.status, caught.value.code, failures) == (
        403,
        "insufficient_scope",
        ["scope"],
    )


def test_one_head_that_goes_from_endpoint_to_endpoint_is_asked_at_each() -> None:
    asked = with_tokens(Tokens(token_principal()))
    request = {"headers": [HOST], MEMORY: {}}
    assert asked.admit(request, "default").principal.id == "oauth:x"
    assert asked.admit(request, "default").principal.id == "oauth:x"
    with pytest.raises(Refused):
        asked.admit(request, "dev")
    assert asked.admit(request, "default").principal.id == "oauth:x"


@pytest.mark.parametrize(
    ("tokens", "known"),
    [
        (Tokens(token_principal()), True),
        (Tokens(token_principal(), later=True), False),
        (Tokens(UpstreamUnavailableError("issuer")), False),
        (Tokens(token_principal(endpoints=frozenset({"dev"}))), False),
    ],
)
def test_open_routes_know_a_token_only_if_that_takes_no_waiting(
    tokens: Tokens, known: bool
) -> None:
    headers = {b"authorization": b"Bearer x"}
    assert (with_tokens(tokens).recognise(headers) is not STRANGER) is known
