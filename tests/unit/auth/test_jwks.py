"""Key sets: found, fetched once by all who wait, renewed, kept through an outage and not beyond it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.tokens import public_jwk
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.auth import jwks
from waygate_mcp.auth.jwks import (
    FRESH_S,
    RETRY_S,
    UNKNOWN_KEY_S,
    UNKNOWN_KEYS,
    KeySet,
    KeySets,
    KeySource,
    fetch_keys,
    metadata_urls,
)
from waygate_mcp.auth.jwt import VerificationKey, read_key
from waygate_mcp.errors import (
    LimitError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.addresses import AddressKind
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.runtime.tasks import TaskSupervisor

ISSUER = "https://login.example.org"
DAY_S = 86_400.0


def keys(*kinds: str) -> tuple[VerificationKey, ...]:
    return tuple(key for kind in kinds if (key := read_key(public_jwk(kind))) is not None)


class Publisher:
    """An issuer whose keys and moods a test sets."""

    def __init__(self, *kinds: str) -> None:
        self.keys = keys(*kinds)
        self.is_down = False
        self.hangs = False
        self.fetches = 0

    async def __call__(self, source: KeySource) -> tuple[VerificationKey, ...]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_down:
            raise UpstreamUnavailableError("issuer", "nobody is there")
        return self.keys


@asynccontextmanager
async def key_set(publisher: Publisher) -> AsyncIterator[KeySet]:
    async with TaskSupervisor() as supervisor:
        yield KeySets(supervisor, now, publisher).of(KeySource(ISSUER))


@virtual_time
async def test_before_the_first_fetch_nothing_serves_and_a_fetch_may_begin() -> None:
    async with key_set(Publisher("ES256")) as found:
        assert found.find("ES256", "ES256", DAY_S) is None
        assert not found.may_serve(DAY_S)
        assert found.may_fetch(DAY_S)


@virtual_time
async def test_all_who_wait_share_one_fetch() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        await asyncio.gather(*(found.refresh() for _ in range(50)))
        assert publisher.fetches == 1
        assert found.find("ES256", "ES256", DAY_S) is publisher.keys[0]


@virtual_time
async def test_one_who_leaves_ends_the_fetch_for_nobody_else() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found, asyncio.TaskGroup() as group:
        first = group.create_task(found.refresh())
        other = group.create_task(found.refresh())
        await settle()
        first.cancel()
        await other
        assert found.find("ES256", "ES256", DAY_S) is not None


@virtual_time
async def test_warming_fetches_once_and_only_at_first() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        found.warm()
        found.warm()
        await pass_time(1)
        found.warm()
        await pass_time(1)
        assert publisher.fetches == 1


@virtual_time
async def test_a_key_is_found_by_its_id_and_algorithm() -> None:
    async with key_set(Publisher("ES256", "2048")) as found:
        await found.refresh()
        assert found.find("2048", "RS256", DAY_S) is not None
        assert found.find("2048", "ES256", DAY_S) is None
        assert found.find("other", "RS256", DAY_S) is None


@virtual_time
async def test_without_an_id_the_only_key_of_its_kind_is_meant() -> None:
    publisher = Publisher("ES256", "2048")
    async with key_set(publisher) as found:
        await found.refresh()
        assert found.find(None, "ES256", DAY_S) is not None
        publisher.keys = keys("ES256", "ES256")
        await found.refresh()
        assert found.find(None, "ES256", DAY_S) is None, "which of the two?"


@virtual_time
async def test_whoever_makes_up_key_ids_causes_few_fetches() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        started = now()
        while now() - started < 10 * UNKNOWN_KEY_S:
            if found.may_fetch(DAY_S):
                await found.refresh()
            await pass_time(0.5)
        assert publisher.fetches <= 10 * UNKNOWN_KEYS + UNKNOWN_KEYS


@virtual_time
async def test_a_key_changed_in_a_hurry_is_known_at_once() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        await found.refresh()
        publisher.keys = keys("ES384")
        assert found.may_fetch(DAY_S)
        await found.refresh()
        assert found.find("ES384", "ES384", DAY_S) is not None
        assert found.find("ES256", "ES256", DAY_S) is None, "withdrawn"


@virtual_time
async def test_keys_that_grew_old_are_fetched_beside_the_calls() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        await found.refresh()
        await pass_time(FRESH_S + 1)
        publisher.keys = keys("ES384")
        assert found.find("ES256", "ES256", DAY_S) is not None, "without waiting"
        assert found.find("ES256", "ES256", DAY_S) is not None
        await pass_time(1)
        assert publisher.fetches == 2
        assert found.find("ES256", "ES256", DAY_S) is None


@virtual_time
async def test_through_an_outage_known_keys_serve_as_long_as_they_may() -> None:
    publisher = Publisher("ES256")
    async with key_set(publisher) as found:
        await found.refresh()
        publisher.is_down = True
        await pass_time(7200 - 10)
        assert found.find("ES256", "ES256", 7200) is not None
        await pass_time(20)
        assert found.find("ES256", "ES256", 7200) is None
        assert not found.may_serve(7200)
        publisher.is_down = False
        await pass_time(RETRY_S)
        assert found.may_fetch(7200)
        await found.refresh()
        assert found.find("ES256", "ES256", 7200) is not None


@virtual_time
async def test_while_the_issuer_is_down_it_is_asked_now_and_then() -> None:
    publisher = Publisher("ES256")
    publisher.is_down = True
    async with key_set(publisher) as found:
        await found.refresh()
        assert not found.may_fetch(DAY_S)
        await pass_time(RETRY_S)
        assert found.may_fetch(DAY_S)
        await found.refresh()
        assert publisher.fetches == 2
        # With old keys at hand, not at every call either.
        publisher.is_down = False
        await pass_time(RETRY_S)
        await found.refresh()
        publisher.is_down = True
        before = publisher.fetches
        await pass_time(FRESH_S)
        for _ in range(100):
            found.find("ES256", "ES256", DAY_S)
            await pass_time(1)
        assert before < publisher.fetches <= before + 5


@virtual_time
async def test_an_issuer_that_hangs_is_given_up_after_ten_seconds() -> None:
    publisher = Publisher("ES256")
    publisher.hangs = True
    async with key_set(publisher) as found:
        started = now()
        await found.refresh()
        assert now() - started == pytest.approx(10, abs=0.2)
        assert not found.may_serve(DAY_S)


@virtual_time
async def test_a_server_that_stops_fetches_nothing() -> None:
    async with TaskSupervisor() as supervisor:
        found = KeySets(supervisor, now, Publisher("ES256")).of(KeySource(ISSUER))
        await found.refresh()
    await pass_time(FRESH_S + 1)
    assert found.find("ES256", "ES256", DAY_S) is not None
    with pytest.raises(LimitError):
        await found.refresh()
    KeySets(supervisor, now, Publisher()).of(KeySource(ISSUER)).warm()


@virtual_time
async def test_the_same_source_has_the_same_keys_through_reloads_and_few_are_kept() -> None:
    async with TaskSupervisor() as supervisor:
        sets = KeySets(supervisor, now)
        first = sets.of(KeySource(ISSUER))
        assert sets.of(KeySource(ISSUER)) is first
        assert sets.of(KeySource(ISSUER, "https://keys.example.org")) is not first
        for number in range(64):
            sets.of(KeySource(f"https://issuer-{number}.example.org"))
        assert sets.of(KeySource(ISSUER)) is not first


# --- where keys are found


class Web:
    """URLs and what they answer; who was asked by which leave."""

    def __init__(self, pages: dict[str, Any]) -> None:
        self.pages = pages
        self.asked: list[tuple[str, NetworkPolicy]] = []

    @asynccontextmanager
    async def open_transport(
        self, url: str, policy: NetworkPolicy, *, upstream: str
    ) -> AsyncIterator[Site]:
        assert upstream
        self.asked.append((url, policy))
        yield Site(self.pages.get(url, 404))


class Site:
    """Answers one request."""

    def __init__(self, page: Any) -> None:
        self.status = page if isinstance(page, int) else 200
        self._page = page

    @asynccontextmanager
    async def request(self, method: str, path: str, headers: Any) -> AsyncIterator[Site]:
        assert (method, path[:1]) == ("GET", "/")
        assert not any(name == "authorization" for name, _ in headers)
        if isinstance(self._page, Exception):
            raise self._page
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        body = self._page if isinstance(self._page, bytes) else json.dumps(self._page).encode()
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]


KEYS = {"keys": [public_jwk("ES256"), {"kty": "oct"}, "nonsense"]}
KEYS_URL = f"{ISSUER}/keys"
METADATA = {"issuer": ISSUER, "jwks_uri": KEYS_URL}
OAUTH, OIDC = metadata_urls(ISSUER)


def web(monkeypatch: pytest.MonkeyPatch, pages: dict[str, Any]) -> Web:
    made = Web(pages)
    monkeypatch.setattr(jwks, "open_transport", made.open_transport)
    return made


def test_metadata_lies_where_the_specification_says() -> None:
    assert metadata_urls("https://a.example/") == (
        "https://a.example/.well-known/oauth-authorization-server",
        "https://a.example/.well-known/openid-configuration",
    )
    assert metadata_urls("https://a.example/tenant/1") == (
        "https://a.example/.well-known/oauth-authorization-server/tenant/1",
        "https://a.example/.well-known/openid-configuration/tenant/1",
        "https://a.example/tenant/1/.well-known/openid-configuration",
    )


@pytest.mark.parametrize("where", [OAUTH, OIDC])
async def test_keys_are_found_by_metadata(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    made = web(monkeypatch, {where: METADATA, KEYS_URL: KEYS})
    found = await fetch_keys(KeySource(ISSUER))
    assert [key.id for key in found] == ["ES256"]
    assert [url for url, _ in made.asked][-2:] == [where, KEYS_URL]


async def test_keys_whose_place_is_configured_need_no_metadata(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = web(monkeypatch, {"https://keys.example.org/k": KEYS})
    assert await fetch_keys(KeySource(ISSUER, "https://keys.example.org/k"))
    assert len(made.asked) == 1


async def test_metadata_of_another_issuer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**METADATA, "issuer": ISSUER + "/"}
    made = web(monkeypatch, {OAUTH: other, OIDC: METADATA, KEYS_URL: KEYS})
    assert await fetch_keys(KeySource(ISSUER))
    made.pages[OIDC] = other
    with pytest.raises(UpstreamProtocolError, match="write `issuer` exactly"):
        await fetch_keys(KeySource(ISSUER))


@pytest.mark.parametrize(
    ("pages", "match"),
    [
        ({}, "HTTP 404"),
        ({OAUTH: b"<html>"}, "HTTP 404"),
        ({OIDC: b"<html>"}, "no JSON"),
        ({OIDC: b"[" * 100_000}, "no JSON"),
        ({OIDC: b" " * 300_000}, "sane size"),
        ({OIDC: [1]}, "no JSON object"),
        ({OIDC: {"issuer": ISSUER}}, "no jwks_uri"),
        ({OIDC: {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}}, "no jwks_uri"),
        ({OAUTH: {"issuer": ISSUER, "jwks_uri": "http://login.example.org/keys"}}, "plain http"),
        ({OAUTH: METADATA, KEYS_URL: 500}, "HTTP 500"),
        ({OAUTH: METADATA, KEYS_URL: {}}, "has no keys"),
        ({OAUTH: METADATA, KEYS_URL: {"keys": [public_jwk("1024")]}}, "strong enough"),
    ],
)
async def test_what_is_no_use_is_said(
    monkeypatch: pytest.MonkeyPatch, pages: dict[str, Any], match: str
) -> None:
    web(monkeypatch, pages)
    with pytest.raises(UpstreamProtocolError, match=match):
        await fetch_keys(KeySource(ISSUER))


@pytest.mark.parametrize("kind", [UpstreamUnavailableError, UpstreamTimeoutError])
async def test_an_issuer_nobody_reaches_is_not_asked_in_other_places(
    monkeypatch: pytest.MonkeyPatch, kind: type[UpstreamUnavailableError]
) -> None:
    made = web(monkeypatch, {OAUTH: kind("issuer", "no")})
    with pytest.raises(kind):
        await fetch_keys(KeySource(ISSUER))
    assert len(made.asked) == 1


def near(policy: NetworkPolicy, host: str, port: int) -> bool:
    return policy.permits(host, port, AddressKind.LOOPBACK)


async def test_a_near_issuer_is_dialled_at_its_own_host_and_port_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer = "http://127.0.0.1:9000"
    page = metadata_urls(issuer)[0]
    made = web(
        monkeypatch,
        {
            page: {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
            f"{issuer}/keys": KEYS,
            "http://127.0.0.1:9001/keys": KEYS,
        },
    )
    await fetch_keys(KeySource(issuer))
    assert all(near(policy, "127.0.0.1", 9000) for _, policy in made.asked)
    assert not any(near(policy, "127.0.0.1", 9001) for _, policy in made.asked)
    # Metadata may not send us to another port of this machine.
    made.pages[page] = {"issuer": issuer, "jwks_uri": "http://127.0.0.1:9001/keys"}
    made.asked.clear()
    await fetch_keys(KeySource(issuer))
    url, policy = made.asked[-1]
    assert url == "http://127.0.0.1:9001/keys"
    assert policy == NetworkPolicy(), "public addresses only: the guarded dial refuses this one"


async def test_a_private_network_is_for_what_the_document_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = "https://elsewhere.example/keys"
    pages = {OAUTH: {"issuer": ISSUER, "jwks_uri": elsewhere}, elsewhere: KEYS}
    made = web(monkeypatch, pages)
    await fetch_keys(KeySource(ISSUER, allows_private=True))
    assert [policy.allows_private for _, policy in made.asked] == [True, False]
    made.asked.clear()
    await fetch_keys(KeySource(ISSUER, elsewhere, allows_private=True))
    assert [policy.allows_private for _, policy in made.asked] == [True]
