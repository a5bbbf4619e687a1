"""One token: the good ones, and each way of being bad."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest

from tests.support.tokens import (
    AUDIENCE,
    CLAIMS,
    ISSUER,
    NOW_S,
    forged,
    part,
    private_key,
    public_jwk,
    signed,
    token,
)
from waygate_mcp.auth.jwt import (
    MAX_TOKEN_BYTES,
    Claims,
    TokenRules,
    VerificationKey,
    audiences_of,
    check_head,
    expiry_of,
    identity_of,
    looks_like_token,
    read_head,
    read_key,
    refused,
    verify,
)
from waygate_mcp.errors import UnauthenticatedError

ALL = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"})
RULES = TokenRules(ALL, frozenset({"at+jwt", "jwt"}), 30.0)


def key(kind: str, **more: Any) -> VerificationKey:
    found = read_key(public_jwk(kind, **more))
    assert found is not None
    return found


def judge(text: bytes, kind: str = "ES256", rules: TokenRules = RULES) -> Claims:
    return verify(text, read_head(text), key(kind), rules, NOW_S)


def reason(text: bytes, kind: str = "ES256", rules: TokenRules = RULES) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        judge(text, kind, rules)
    assert caught.value.safe_message == refused("x").safe_message, "one sentence for all of them"
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("ES256", None), ("ES384", None), ("EdDSA", None), ("2048", "RS256"), ("2048", "PS256")],
)
def test_a_good_token_gives_its_claims(kind: str, algorithm: str | None) -> None:
    claims = judge(token(kind, algorithm), kind)
    assert claims["scope"] == "mcp:read mcp:call"
    assert audiences_of(claims) == {AUDIENCE}
    assert identity_of(claims) == ("alice", "app")
    assert expiry_of(claims) == NOW_S + 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "malformed"),
        (b"ey.ey", "malformed"),
        (b"ey.ey.ey.ey", "malformed"),
        (b"ey..x", "malformed"),
        (b"e!.e!.x", "malformed"),
        (b"e.e.e", "malformed"),
        (b"x" * (MAX_TOKEN_BYTES + 1), "too_large"),
        (forged([]), "malformed"),
        (forged(b"{nothing"), "malformed"),
        (forged(b'{"alg": "ES256", "alg": "none"}'), "malformed"),
        (forged(b"\xff\xfe"), "malformed"),
        (forged(b"[" * 9000), "malformed"),
        (forged({"alg": "ES256"}, b"[" * 9000), "malformed"),
        (forged({"alg": "ES256"}, b'{"iss": NaN}'), "malformed"),
        (forged({}), "header"),
        (forged({"alg": 1}), "header"),
        (forged({"alg": "ES256", "typ": 1}), "header"),
        (forged({"alg": "ES256", "kid": 1}), "header"),
        (forged({"alg": "ES256", "kid": "x" * 513}), "header"),
        (forged({"alg": "ES256"}, {"sub": "a"}), "issuer"),
        (forged({"alg": "ES256"}, {"iss": [ISSUER]}), "issuer"),
    ],
)
def test_what_is_no_token_is_refused_before_any_key_is_looked_for(
    text: bytes, expected: str
) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        read_head(text)
    assert caught.value.reason == expected


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"jwk": public_jwk("ES384")},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["http://example.org/unknown"]},
        {"crit": []},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"b64": True},
    ],
)
def test_a_header_that_brings_a_key_or_demands_something_is_refused(header: dict[str, Any]) -> None:
    assert reason(forged({"alg": "ES256", "typ": "at+jwt", **header})) == "header"


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "HS256", "HS512", "ES256K", "RS1", ""])
def test_an_algorithm_that_is_not_the_issuers_is_refused(name: str) -> None:
    assert reason(forged({"alg": name, "typ": "at+jwt"})) == "algorithm"


def test_no_signature_at_all_is_refused() -> None:
    unsigned = part({"alg": "none", "typ": "at+jwt"}) + b"." + part(CLAIMS) + b"."
    with pytest.raises(UnauthenticatedError):
        read_head(unsigned)


def test_an_algorithm_the_issuer_does_not_use_is_refused_though_the_signature_is_good() -> None:
    rules = TokenRules(frozenset({"RS256"}), RULES.types, 0)
    assert reason(token(), rules=rules) == "algorithm"


@pytest.mark.parametrize("kind", ["id+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "jwt2"])
def test_another_type_is_refused(kind: str) -> None:
    assert reason(token(header={"typ": kind})) == "type"


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", None])
def test_an_access_token_may_write_its_type_as_it_likes(kind: str | None) -> None:
    text = token(header={"typ": kind})
    if kind is None:
        head = json.loads(urlsafe_b64decode(text.split(b".")[0] + b"=="))
        assert "typ" not in head
    assert judge(text)


def test_where_only_access_tokens_are_taken_a_plain_one_is_refused() -> None:
    rules = TokenRules(ALL, frozenset({"at+jwt"}), 0)
    assert reason(token(header={"typ": "JWT"}), rules=rules) == "type"


def test_a_token_signed_with_another_key_is_refused() -> None:
    other = VerificationKey("ES256", frozenset({"ES256"}), private_key("ES384").public_key())
    text = token()
    with pytest.raises(UnauthenticatedError) as caught:
        verify(text, read_head(text), other, RULES, NOW_S)
    assert caught.value.reason == "signature"


def test_a_changed_token_is_refused() -> None:
    head, payload, signature = token().split(b".")
    other = part({**CLAIMS, "sub": "root"})
    assert reason(b".".join((head, other, signature))) == "signature"
    assert reason(b".".join((head, payload, part(b"\0" * 64)))) == "signature"
    assert reason(b".".join((head, payload, signature[:-2]))) == "signature"
    assert (
        reason(b".".join((part({"alg": "ES256", "typ": "jwt"}), payload, signature))) == "signature"
    )


def test_a_public_rsa_key_is_never_taken_for_a_shared_secret() -> None:
    rules = TokenRules(ALL | {"HS256"}, RULES.types, 0)
    text = forged({"alg": "HS256", "typ": "jwt"})
    assert reason(text, "2048", rules) == "key"


def test_a_key_is_used_with_its_own_algorithms_only() -> None:
    assert reason(token("2048"), "ES256") == "key"
    text = token("2048", "PS256")
    with pytest.raises(UnauthenticatedError):
        verify(text, read_head(text), key("2048", alg="RS256"), RULES, NOW_S)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": None}, "expiry_missing"),
        ({"exp": NOW_S - 30}, "expired"),
        ({"exp": NOW_S - 1e9}, "expired"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 10**400}, "malformed"),
        ({"nbf": NOW_S + 31}, "not_yet_valid"),
        ({"iat": NOW_S + 31}, "not_yet_valid"),
        ({"nbf": "now"}, "malformed"),
        ({"cnf": {"jkt": "x"}}, "bound"),
    ],
)
def test_times_and_bindings_decide(claims: dict[str, Any], expected: str) -> None:
    assert reason(token(**claims)) == expected


@pytest.mark.parametrize(
    "claims", [{"exp": NOW_S - 29}, {"nbf": NOW_S + 30}, {"iat": None}, {"exp": NOW_S + 0.5}]
)
def test_clocks_may_differ_by_the_leeway(claims: dict[str, Any]) -> None:
    assert judge(token(**claims))


def test_a_signed_payload_that_is_no_object_or_says_a_thing_twice_is_refused() -> None:
    twice = json.dumps(CLAIMS)[:-1] + ', "sub": "root"}'
    assert reason(signed(twice.encode())) == "malformed"
    assert reason(signed(b"[1]")) == "malformed"


def test_what_was_read_first_must_be_what_was_signed() -> None:
    text = token()
    head = read_head(token(iss="https://other.example"))
    with pytest.raises(UnauthenticatedError) as caught:
        verify(text, head, key("ES256"), RULES, NOW_S)
    assert caught.value.reason == "issuer"


@pytest.mark.parametrize("aud", [None, "", [], [1], {"a": 1}, ["x"] * 65, 5])
def test_a_token_must_say_whom_it_is_for(aud: Any) -> None:
    claims = {} if aud is None else {"aud": aud}
    if aud == "":
        assert audiences_of(claims) == {""}, "which is nobody's name"
        return
    with pytest.raises(UnauthenticatedError) as caught:
        audiences_of(claims)
    assert caught.value.reason == "audience"


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "a", "azp": "b"}, "a"),
        ({"azp": "b"}, "b"),
        ({"cid": "c"}, "c"),
        ({"appid": "d"}, "d"),
        ({}, ""),
    ],
)
def test_the_client_stands_where_issuers_write_it(claims: dict[str, Any], client: str) -> None:
    assert identity_of({"sub": "s", **claims}) == ("s", client)


@pytest.mark.parametrize(
    "claims",
    [{}, {"sub": ""}, {"sub": 1}, {"sub": "x" * 256}, {"sub": "s", "azp": 1},
     {"sub": "s", "client_id": "x" * 256}],
)  # fmt: skip
def test_nobody_in_particular_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        identity_of(claims)
    assert caught.value.reason == "subject"


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        [],
        {},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {"kty": "EC", "crv": "secp256k1"},
        {"kty": "EC", "crv": ["P-256"]},
        {"kty": "OKP", "crv": "X25519", "x": "x"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "AQAB"},
        public_jwk("ES256", use="enc"),
        public_jwk("ES256", key_ops=["sign"]),
        public_jwk("ES256", alg="RS256"),
        public_jwk("ES256", alg="none"),
        public_jwk("ES256", alg=1),
        public_jwk("ES256", kid=1),
        public_jwk("1024"),
    ],
)
def test_keys_that_are_none_for_signatures_or_too_weak_are_left_out(jwk: object) -> None:
    assert read_key(jwk) is None


def test_a_private_key_that_was_published_is_left_out() -> None:
    from_private = public_jwk("ES256", d="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE")
    assert read_key(from_private) is None


def test_a_key_is_read_with_its_id_and_algorithms() -> None:
    assert key("2048").algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert key("2048", alg="PS384").algorithms == {"PS384"}
    assert key("ES384", key_ops=["verify"], use="sig").algorithms == {"ES384"}
    assert key("EdDSA").id == "EdDSA"
    assert key("ES256", kid=None).id is None


def test_a_token_is_told_from_a_key_by_its_look() -> None:
    assert looks_like_token(token())
    assert not looks_like_token(b"wg_abc_def")
    assert not looks_like_token(b"ey.ey")
    assert not looks_like_token(b"a.b.c")


def test_rules_are_checked_before_a_key_is_fetched() -> None:
    check_head(read_head(token()), RULES)
    with pytest.raises(UnauthenticatedError):
        check_head(read_head(token()), TokenRules(frozenset(), frozenset(), 0))
