"""The keys of issuers: found, fetched, kept, renewed.

Knows an issuer's metadata (RFC 8414, OpenID Connect Discovery) and its key set (RFC 7517), both fetched
by the one guarded client, and how long keys serve. Refuses to read tokens.

    known and fresh                           serve
    older than FRESH_S                        serve, and are fetched again beside the calls
    unknown key id, or no keys yet            whoever asks waits for one fetch that all share: one in RETRY_S
                                              without keys, UNKNOWN_KEYS in UNKNOWN_KEY_S with them
    not renewed for the outage limit          serve no more: tokens are answered 503 until a fetch succeeds

What an issuer publishes replaces all that was known of it: a key it withdrew is gone with the next fetch.
Keys live in memory, through reloads, and not beyond the process.
Spec: threat model rules 8, 19, 39 and 41; decisions.md 20.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from waygate_mcp.auth.jwt import VerificationKey, read_key
from waygate_mcp.errors import (
    LimitError,
    TooLargeError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import read_body
from waygate_mcp.net.transports import open_transport
from waygate_mcp.net.urls import parse_target
from waygate_mcp.telemetry.logs import get_logger

__all__ = [
    "FRESH_S",
    "RETRY_S",
    "UNKNOWN_KEYS",
    "UNKNOWN_KEY_S",
    "KeySet",
    "KeySets",
    "KeySource",
    "fetch_keys",
    "metadata_urls",
]

FRESH_S = 600.0
"""Seconds after which keys are fetched again."""
RETRY_S = 5.0
"""Seconds between fetches while there are no keys that could serve."""
UNKNOWN_KEYS = 3
UNKNOWN_KEY_S = 60.0
"""So many fetches in so many seconds because of key ids nobody knows: enough for a key that was changed in a
hurry, and no more for whoever makes key ids up."""
_AGAIN_S = 30.0

_FETCH_S = 10.0
_MAX_BYTES = 256 * 1024
_MAX_KEYS = 64
_MAX_SETS = 64
_ACCEPT = (("accept", "application/json"), ("user-agent", "waygate-mcp"))

_log = get_logger("auth.jwks")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where one issuer's keys come from. `allows_private` is its `network: private`."""

    issuer: str
    jwks_uri: str | None = None
    allows_private: bool = False


Fetch = Callable[[KeySource], Awaitable[tuple[VerificationKey, ...]]]


class KeySet:
    """The keys of one issuer."""

    def __init__(
        self,
        source: KeySource,
        supervisor: Supervisor,
        monotonic: Callable[[], float],
        fetch: Fetch,
    ) -> None:
        self.source = source
        self._supervisor = supervisor
        self._monotonic = monotonic
        self._fetch = fetch
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_s: float | None = None
        self._tries: deque[float] = deque(maxlen=UNKNOWN_KEYS)
        self._flight: asyncio.Task[None] | None = None

    def find(self, key_id: str | None, algorithm: str, outage_s: float) -> VerificationKey | None:
        """Give the key a token names, from memory; None where there is none, or none that may serve.

        A token without a key id gets the one key for its algorithm, if there is exactly one. Keys that
        grew old are fetched again beside this, without being waited for.
        """
        if not self.may_serve(outage_s):
            return None
        if self._age_s() > FRESH_S and self._since_s(-1) >= _AGAIN_S and not self._is_fetching:
            with suppress(LimitError):  # the server stops
                self._begin()
        usable = [key for key in self._keys if algorithm in key.algorithms]
        if key_id is not None:
            usable = [key for key in usable if key.id == key_id]
        return usable[0] if len(usable) == 1 else None

    def may_serve(self, outage_s: float) -> bool:
        """Tell whether there are keys that are not too old to be trusted."""
        return self._fetched_s is not None and self._age_s() <= max(outage_s, FRESH_S)

    def may_fetch(self, outage_s: float) -> bool:
        """Tell whether a fetch is under way, or may begin: whoever floods us makes no more of them."""
        if self._is_fetching:
            return True
        if self.may_serve(outage_s):
            return len(self._tries) < UNKNOWN_KEYS or self._since_s(0) >= UNKNOWN_KEY_S
        return self._since_s(-1) >= RETRY_S

    def warm(self) -> None:
        """Begin the first fetch, so that the first token need not wait for it."""
        if not self._tries and not self._is_fetching:
            with suppress(LimitError):  # too many tasks: the first token asks again
                self._begin()

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is under way. What went wrong stands in the log.

        Raises:
            LimitError: the server has no room for it, or stops.
        """
        flight = self._flight
        if flight is None or not self._is_fetching:
            flight = self._begin()
        await asyncio.wait((flight,))  # who is cancelled here ends it for nobody else

    @property
    def _is_fetching(self) -> bool:
        return self._flight is not None and not self._flight.done()

    def _since_s(self, index: int) -> float:
        """Seconds since one of the last fetches began."""
        return self._monotonic() - self._tries[index] if self._tries else math.inf

    def _age_s(self) -> float:
        return 0.0 if self._fetched_s is None else self._monotonic() - self._fetched_s

    def _begin(self) -> asyncio.Task[None]:
        self._tries.append(self._monotonic())
        flight: asyncio.Task[None] = self._supervisor.start(self._run(), name="issuer-keys")
        self._flight = flight
        return flight

    async def _run(self) -> None:
        issuer = self.source.issuer
        try:
            async with asyncio.timeout(_FETCH_S):
                keys = await self._fetch(self.source)
        except (WaygateError, TimeoutError) as exc:
            age_s = None if self._fetched_s is None else round(self._age_s())
            reason = str(exc) or "it took too long"
            _log.warning("issuer_keys_not_fetched", issuer=issuer, reason=reason, keys_age_s=age_s)
        else:
            if {key.id for key in keys} != {key.id for key in self._keys}:
                _log.info("issuer_keys_changed", issuer=issuer, keys=len(keys))
            self._keys, self._fetched_s = keys, self._monotonic()


class KeySets:
    """The key sets of a process, which outlive reloads: an outage is not made worse by one."""

    def __init__(
        self,
        supervisor: Supervisor,
        monotonic: Callable[[], float],
        fetch: Fetch | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._monotonic = monotonic
        self._fetch = fetch or fetch_keys
        self._sets: dict[KeySource, KeySet] = {}

    def of(self, source: KeySource) -> KeySet:
        """Give the key set of a source; of too many, the one that was first is forgotten."""
        found = self._sets.get(source)
        if found is None:
            while len(self._sets) >= _MAX_SETS:
                del self._sets[next(iter(self._sets))]
            found = KeySet(source, self._supervisor, self._monotonic, self._fetch)
            self._sets[source] = found
        return found


async def fetch_keys(source: KeySource) -> tuple[VerificationKey, ...]:
    """Fetch an issuer's keys, finding out first where they lie if nobody said so.

    What the document names may be near if it says so itself; what metadata names is dialled by the
    same leave on the issuer's own host and port, and elsewhere only on the public internet, never by
    plain http where the issuer has https.

    Raises:
        UpstreamError: nothing usable came.
    """
    if source.jwks_uri is not None:
        document = await _get(source.jwks_uri, _policy(source.jwks_uri, source))
        return _read_keys(source, document)
    where = await _discover(source)
    here, there = parse_target(source.issuer), parse_target(where)
    if here.scheme == "https" and there.scheme != "https":
        raise UpstreamProtocolError(_name(source.issuer), "its keys lie at a plain http URL")
    is_own = (here.host, here.port) == (there.host, there.port)
    policy = _policy(source.issuer, source) if is_own else NetworkPolicy()
    return _read_keys(source, await _get(where, policy))


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Give where an issuer's metadata may lie, in the order the specification says."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    urls = [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
    ]
    if path:
        urls.append(f"{origin}{path}/.well-known/openid-configuration")
    return tuple(urls)


async def _discover(source: KeySource) -> str:
    """Find where the keys lie; metadata that names another issuer is none (RFC 8414, 3.3)."""
    policy = _policy(source.issuer, source)
    name = _name(source.issuer)
    problem = "has no metadata"
    for url in metadata_urls(source.issuer):
        try:
            found = await _get(url, policy)
        except UpstreamUnavailableError:
            raise
        except UpstreamProtocolError as exc:
            problem = str(exc)
            continue
        if found.get("issuer") != source.issuer:
            problem = "its metadata names another issuer; write `issuer` exactly as it does"
            continue
        where = found.get("jwks_uri")
        if isinstance(where, str) and where.startswith(("https://", "http://")):
            return where
        problem = "its metadata has no jwks_uri"
    raise UpstreamProtocolError(name, f"{source.issuer}: {problem}")


async def _get(url: str, policy: NetworkPolicy) -> dict[str, Any]:
    """Get a JSON object.

    Raises:
        UpstreamError: there is none.
    """
    name = _name(url)
    async with (
        open_transport(url, policy, upstream=name) as transport,
        transport.request("GET", parse_target(url).path, _ACCEPT) as response,
    ):
        if response.status != 200:
            raise UpstreamProtocolError(name, f"{url} answered HTTP {response.status}")
        try:
            found = json.loads(await read_body(response, _MAX_BYTES))
        except (TooLargeError, ValueError, RecursionError):
            raise UpstreamProtocolError(name, f"{url} gave no JSON of a sane size") from None
    if not isinstance(found, dict):
        raise UpstreamProtocolError(name, f"{url} gave no JSON object")
    return found


def _read_keys(source: KeySource, document: dict[str, Any]) -> tuple[VerificationKey, ...]:
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise UpstreamProtocolError(_name(source.issuer), "its key set has no keys")
    keys = tuple(key for each in listed[:_MAX_KEYS] if (key := read_key(each)) is not None)
    if not keys:
        raise UpstreamProtocolError(
            _name(source.issuer), "its key set holds no key for signatures that is strong enough"
        )
    return keys


def _policy(url: str, source: KeySource) -> NetworkPolicy:
    return NetworkPolicy.for_document(parse_target(url), allows_private=source.allows_private)


def _name(url: str) -> str:
    """Name whom errors are about."""
    return urlsplit(url).netloc
