"""From a token to a principal: who, with which permissions, for how long, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.tokens import AUDIENCE, ISSUER, NOW_S, forged, public_jwk, token
from waygate_mcp.auth import oauth
from waygate_mcp.auth.jwt import TokenRules, VerificationKey, read_key
from waygate_mcp.auth.oauth import (
    KNOWN_S,
    TOLD_EVERY_S,
    Issuer,
    TokenAuthenticator,
    TokenPrincipal,
    principal_id,
)
from waygate_mcp.errors import (
    RemoteProtocolError,
    UnauthenticatedError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.permissions import Grant
from waygate_mcp.model.principal import LOCAL, Principal
from waygate_mcp.model.unverified import UnverifiedError

GRANTS = {
    "mcp:read": (Grant("tools:list"),),
    "mcp:call": (Grant("tools:call", role="caller"), Grant("tools:list", role="caller")),
    "mcp:files": (Grant("tools:call", "files__*", "files"),),
    "mcp:admin": (Grant("*"),),
}
ENDPOINTS = {AUDIENCE: "default", "https://mcp.example.org/servers/dev/mcp": "dev"}
EVERYWHERE: dict[str, str | None] = {**ENDPOINTS, "https://mcp.example.org": None}


class Keys:
    """A key set a test fills; `later` are the keys a fetch would bring."""

    def __init__(self, *kinds: str, later: tuple[str, ...] | None = None) -> None:
        self.kinds = list(kinds)
        self.later = later
        self.serves = bool(kinds)
        self.fetches = 0
        self.looks = 0

    def find(self, key_id: str | None, algorithm: str, outage_s: float) -> VerificationKey | None:
        self.looks += 1
        return read_key(public_jwk(key_id)) if key_id in self.kinds else None

    def may_serve(self, outage_s: float) -> bool:
        return self.serves

    def may_fetch(self, outage_s: float) -> bool:
        return self.later is not None

    async def refresh(self) -> None:
        self.fetches += 1
        self.kinds = list(self.later or ())
        self.serves = self.serves or bool(self.kinds)
        self.later = None


class OneKey:
    """Lets the key `good` in."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        if headers.get(b"x-api-key") == b"good" or headers.get(b"authorization") == b"Bearer good":
            return LOCAL
        raise UnauthenticatedError(reason="invalid")


class Clock:
    """Both clocks, moved together."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s - NOW_S


class Rig:
    """An authenticator with one issuer."""

    def __init__(self, keys: Keys | None = None, *, with_keys: bool = False, **issuer: Any) -> None:
        self.keys = keys or Keys("ES256")
        self.clock = Clock()
        rules = TokenRules(frozenset({"ES256", "ES384"}), frozenset({"at+jwt", "jwt"}), 30.0)
        values: dict[str, Any] = {
            "name": ISSUER,
            "rules": rules,
            "keys": self.keys,
            "outage_s": 3600.0,
            "audiences": EVERYWHERE,
            "claim": "scope",
            "grants": GRANTS,
        }
        self.authenticator = TokenAuthenticator(
            [Issuer(**(values | issuer))],
            self.clock.now,
            self.clock.monotonic,
            OneKey() if with_keys else None,
        )

    def ask(self, text: bytes | None = None, **headers: bytes) -> Principal:
        sent = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        if text is not None:
            sent[b"authorization"] = b"Bearer " + text
        return self.authenticator.authenticate(sent)

    def reason(self, text: bytes | None = None, **headers: bytes) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            self.ask(text, **headers)
        return caught.value.reason


def known(principal: Principal) -> TokenPrincipal:
    assert isinstance(principal, TokenPrincipal)
    return principal


def test_a_token_says_who_what_and_how_long() -> None:
    found = known(Rig().ask(token()))
    assert found.id == "oauth:https://login.example.org|alice|app"
    assert found.name == "alice"
    assert found.permissions == {"tools:list", "tools:call"}
    assert found.scopes == {"mcp:read", "mcp:call"}
    assert found.expires_at_s == NOW_S + 300
    assert found.endpoints == frozenset({"default"})
    assert found.may_enter("default")
    assert not found.may_enter("dev")


def test_the_scheme_is_read_in_any_case() -> None:
    assert Rig().ask(authorization=b"bEARER " + token()).name == "alice"


def test_principals_are_issuer_subject_and_client_and_nothing_less() -> None:
    ids = {
        principal_id(*three)
        for three in [
            ("https://a", "b", "c"),
            ("https://a", "b|c", ""),
            ("https://a", "b", "|c"),
            ("https://a|b", "c", ""),
            ("https://a", "b%7Cc", ""),
            ("https://a", "", "b"),
            ("https://b", "b", "c"),
            ("https://a", "b", "C"),
        ]
    }
    assert len(ids) == 8
    assert principal_id("https://a", "zoë\n", "c") == "oauth:https://a|zo%C3%AB%0A|c"


def test_a_refreshed_token_is_the_same_principal() -> None:
    rig = Rig()
    first, second = rig.ask(token(jti="1")), rig.ask(token(jti="2", exp=NOW_S + 900))
    assert first.fingerprint == second.fingerprint
    assert first == second
    assert rig.ask(token(client_id="other")).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("claim", "claims", "expected"),
    [
        ("scope", {"scope": "mcp:read"}, {"tools:list"}),
        ("scope", {"scope": "unknown mcp:READ"}, set()),
        ("scope", {"scope": ""}, set()),
        ("scope", {"scope": None}, set()),
        ("scope", {"scope": ["mcp:read", 7]}, {"tools:list"}),
        ("scope", {"scope": {"mcp:read": True}}, set()),
        ("scp", {"scp": ["mcp:call"]}, {"tools:call", "tools:list"}),
        ("roles", {"roles": ["mcp:admin"]}, {"*"}),
        ("realm_access.roles", {"realm_access": {"roles": ["mcp:read"]}}, {"tools:list"}),
        ("realm_access.roles", {"realm_access": "mcp:read"}, set()),
        ("realm_access.roles", {"realm_access": {"roles": None}}, set()),
        ("https://x.example/roles", {"https://x.example/roles": ["mcp:read"]}, {"tools:list"}),
        ("roles", {"scope": "mcp:admin"}, set()),
    ],
)
def test_only_what_is_mapped_grants_anything(
    claim: str, claims: dict[str, Any], expected: set[str]
) -> None:
    assert Rig(claim=claim).ask(token(**claims)).permissions == expected


def test_roles_and_narrow_grants_are_those_of_keys() -> None:
    found = Rig().ask(token(scope="mcp:read mcp:files"))
    assert found.roles == ("files",)
    assert found.may_use("tools:call", "default", "files", "files__read")
    assert not found.may_use("tools:call", "default", "shell", "shell__run")
    assert Rig().ask(token(scope="mcp:call")).scope is None, (
        "nothing narrow: it costs a call nothing"
    )


@pytest.mark.parametrize(
    ("aud", "endpoints"),
    [
        (AUDIENCE, {"default"}),
        ([AUDIENCE, "https://else.example"], {"default"}),
        (list(ENDPOINTS), {"default", "dev"}),
        ("https://mcp.example.org", None),
        ([AUDIENCE, "https://mcp.example.org"], None),
    ],
)
def test_a_token_is_good_for_what_it_was_issued_for(aud: Any, endpoints: Any) -> None:
    assert known(Rig().ask(token(aud=aud))).endpoints == endpoints


@pytest.mark.parametrize(
    "aud",
    [None, "", "https://else.example", AUDIENCE + "/", AUDIENCE.upper(), AUDIENCE[:-1], "default"],
)
def test_a_token_for_somebody_else_is_refused(aud: Any) -> None:
    assert Rig().reason(token(aud=aud)) == "audience"


def test_an_issuer_that_is_not_configured_is_refused_before_any_key_is_asked_for() -> None:
    rig = Rig()
    assert rig.reason(token(iss="https://evil.example")) == "issuer"
    assert rig.reason(token(iss=ISSUER + "/")) == "issuer"
    assert rig.keys.looks == 0


def test_a_bad_algorithm_or_type_causes_no_fetch() -> None:
    rig = Rig(Keys(later=("ES256",)))
    assert rig.reason(forged({"alg": "none", "typ": "jwt"})) == "algorithm"
    assert rig.reason(token(header={"typ": "id+jwt"})) == "type"
    assert rig.keys.looks == 0


# --- credentials beside each other


def test_without_keys_nothing_but_a_token_lets_anybody_in() -> None:
    rig = Rig()
    assert rig.reason() == "missing"
    assert rig.reason(x_api_key=b"good") == "no_token"
    assert rig.reason(b"good") == "no_token"
    assert rig.reason(authorization=b"Basic YTpi") == "no_token"
    assert rig.reason(x_api_key=token()) == "no_token"
    with pytest.raises(RemoteProtocolError):
        rig.ask(b"good", x_api_key=b"good")


def test_with_keys_either_lets_in() -> None:
    rig = Rig(with_keys=True)
    assert rig.ask(x_api_key=b"good") is LOCAL
    assert rig.ask(b"good") is LOCAL
    assert known(rig.ask(token())).name == "alice"
    assert rig.reason() == "invalid"


@pytest.mark.parametrize("with_keys", [True, False])
def test_two_different_credentials_are_refused(with_keys: bool) -> None:
    rig = Rig(with_keys=with_keys)
    with pytest.raises(RemoteProtocolError):
        rig.ask(token(), x_api_key=b"good")
    assert rig.ask(text := token(), x_api_key=text).name == "alice"


# --- what a known token costs


def test_a_known_token_is_not_verified_again_for_a_while() -> None:
    rig = Rig()
    text = token()
    first = rig.ask(text)
    assert rig.ask(text) is first
    assert rig.keys.looks == 1
    rig.clock.now_s += KNOWN_S
    assert rig.ask(text) is not first
    assert rig.keys.looks == 2


def test_a_key_that_was_withdrawn_ends_within_a_minute() -> None:
    rig = Rig()
    text = token()
    rig.ask(text)
    rig.keys.kinds.clear()
    assert rig.ask(text).name == "alice"
    rig.clock.now_s += KNOWN_S
    assert rig.reason(text) == "key"


def test_a_known_token_ends_with_its_time() -> None:
    rig = Rig()
    text = token(exp=NOW_S + 5)
    rig.ask(text)
    rig.clock.now_s += 34.9
    assert rig.ask(text).name == "alice"
    rig.clock.now_s += 0.2
    assert rig.reason(text) == "expired"


def test_no_more_than_so_many_tokens_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "MAX_KNOWN", 3)
    rig = Rig()
    texts = [token(jti=str(number)) for number in range(4)]
    for text in texts:
        rig.ask(text)
    looks = rig.keys.looks
    rig.ask(texts[3])
    assert rig.keys.looks == looks
    rig.ask(texts[0])
    assert rig.keys.looks == looks + 1


def test_no_token_is_kept_as_text() -> None:
    rig = Rig()
    text = token()
    rig.ask(text)
    assert text.decode() not in repr(vars(rig.authenticator))


# --- where waiting is needed


async def test_a_token_whose_key_is_not_at_hand_is_verified_later() -> None:
    rig = Rig(Keys("ES384", later=("ES256",)))
    with pytest.raises(UnverifiedError) as caught:
        rig.ask(text := token())
    assert rig.keys.fetches == 0
    found = await caught.value.verify()
    assert rig.keys.fetches == 1
    assert found.id.endswith("|alice|app")
    assert rig.ask(text) is found


async def test_a_key_nobody_publishes_is_refused_after_one_look() -> None:
    rig = Rig(Keys("ES384", later=("ES384",)))
    with pytest.raises(UnverifiedError) as caught:
        rig.ask(text := token())
    with pytest.raises(UnauthenticatedError) as refused:
        await caught.value.verify()
    assert refused.value.reason == "key"
    assert rig.reason(text) == "key"


async def test_where_no_keys_can_be_had_nobody_is_told_that_the_token_is_bad() -> None:
    rig = Rig(Keys(later=()))
    with pytest.raises(UnverifiedError) as caught:
        rig.ask(text := token())
    with pytest.raises(UpstreamUnavailableError):
        await caught.value.verify()
    with pytest.raises(UpstreamUnavailableError) as later:
        rig.ask(text)
    assert "try again" in later.value.safe_message
    assert "example.org" not in later.value.safe_message


async def test_a_bad_token_is_bad_after_waiting_too() -> None:
    rig = Rig(Keys(later=("ES256",)))
    with pytest.raises(UnverifiedError) as caught:
        rig.ask(token(aud="https://else.example"))
    with pytest.raises(UnauthenticatedError) as refused:
        await caught.value.verify()
    assert refused.value.reason == "audience"


# --- what is told


def test_the_operator_learns_why_and_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(oauth._log, "info", lambda event, **facts: told.append(facts))
    rig = Rig()
    for _ in range(5):
        rig.reason(token(aud="https://else.example"))
        rig.reason(b"ey.ey.e")
    assert told == [
        {"reason": "audience", "stated_issuer": ISSUER},
        {"reason": "malformed", "stated_issuer": None},
    ]
    rig.clock.now_s += TOLD_EVERY_S
    rig.reason(b"ey.ey.e")
    assert len(told) == 3


def test_a_token_of_any_size_is_refused_by_its_size() -> None:
    assert Rig().reason(b"ey" + b"a" * 20_000 + b".b.c") == "too_large"
