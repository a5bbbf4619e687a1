from __future__ import annotations

import pytest

from waygate_mcp.auth import api_keys
from waygate_mcp.auth.api_keys import AnonymousAuthenticator, ApiKeyAuthenticator, KeyRecord
from waygate_mcp.auth.key_text import KeyHash, find_public_id, make_key
from waygate_mcp.errors import RemoteProtocolError, UnauthenticatedError
from waygate_mcp.model.principal import ANONYMOUS, Principal

HASH = KeyHash(b"m" * 32)
KEY = make_key().encode()
OTHER = make_key().encode()
ADMIN = Principal("key:admin", "administrator", frozenset({"*"}))


def known(*keys: bytes) -> ApiKeyAuthenticator:
    return ApiKeyAuthenticator(
        HASH, [KeyRecord(find_public_id(key.decode()), HASH.digest(key), ADMIN) for key in keys]
    )


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEY},
        {b"authorization": b"bearer " + KEY},
        {b"x-api-key": KEY},
        {b"authorization": b"Bearer " + KEY, b"x-api-key": KEY},
    ],
)
def test_a_known_key_is_its_principal_in_either_header(headers: dict[bytes, bytes]) -> None:
    assert known(KEY).authenticate(headers) is ADMIN


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({b"cookie": b"key=" + KEY}, "missing"),
        ({b"x-api-key": OTHER}, "invalid"),
        ({b"x-api-key": KEY[:15]}, "invalid"),
        ({b"x-api-key": KEY[:15] + OTHER[15:]}, "invalid"),
        ({b"x-api-key": KEY + b"0"}, "invalid"),
        ({b"x-api-key": b""}, "invalid"),
        ({b"x-api-key": b"wg_"}, "invalid"),
        ({b"x-api-key": b"\xff" * 65}, "invalid"),
        ({b"x-api-key": b"k" * 100_000}, "invalid"),
        ({b"authorization": b"Bearer"}, "invalid"),
        ({b"authorization": b"Bearer "}, "invalid"),
        ({b"authorization": b"Basic " + KEY}, "invalid"),
        ({b"authorization": KEY}, "invalid"),
        ({b"authorization": b"Bearer  " + KEY}, "invalid"),
    ],
)
def test_whatever_is_not_a_known_key_is_refused(headers: dict[bytes, bytes], reason: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        known(KEY).authenticate(headers)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEY, b"x-api-key": OTHER},
        {b"authorization": b"Bearer " + OTHER, b"x-api-key": KEY},
        {b"authorization": b"Basic abc", b"x-api-key": KEY},
        {b"authorization": b"", b"x-api-key": KEY},
    ],
)
def test_two_different_credentials_are_an_error_and_not_a_choice(
    headers: dict[bytes, bytes],
) -> None:
    with pytest.raises(RemoteProtocolError):
        known(KEY).authenticate(headers)


def test_a_key_of_another_form_is_known_by_its_whole_text() -> None:
    text = b"wg_bootstrap_not-our-form-0123456789"
    keys = ApiKeyAuthenticator(HASH, [KeyRecord(None, HASH.digest(text), ADMIN)])
    assert keys.authenticate({b"x-api-key": text}) is ADMIN
    with pytest.raises(UnauthenticatedError):
        keys.authenticate({b"x-api-key": text[:-1]})


def test_a_key_hashed_under_another_master_key_is_not_known() -> None:
    keys = ApiKeyAuthenticator(
        KeyHash(b"n" * 32), [KeyRecord(find_public_id(KEY.decode()), HASH.digest(KEY), ADMIN)]
    )
    with pytest.raises(UnauthenticatedError):
        keys.authenticate({b"x-api-key": KEY})


def test_without_any_record_nobody_is_let_in() -> None:
    with pytest.raises(UnauthenticatedError):
        known().authenticate({b"x-api-key": KEY})


def test_an_unknown_id_costs_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    keys = known(KEY)
    monkeypatch.setattr(api_keys, "compare_digest", compare)
    for key in (KEY, OTHER):
        with pytest.raises(UnauthenticatedError):
            keys.authenticate({b"x-api-key": key})
    assert [len(other) for _, other in compared] == [32, 32]


def test_no_message_shows_the_key() -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        known(KEY).authenticate({b"x-api-key": OTHER})
    assert OTHER.decode() not in str(caught.value) + caught.value.safe_message


def test_where_nobody_is_asked_everybody_is_anonymous() -> None:
    assert AnonymousAuthenticator().authenticate({b"x-api-key": OTHER}) is ANONYMOUS
