from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.keys import START, MemoryKeys, stored
from waygate_mcp.auth import api_keys
from waygate_mcp.auth.api_keys import AnonymousAuthenticator, ApiKeyAuthenticator, KeyRecord
from waygate_mcp.auth.key_book import KeyBook
from waygate_mcp.auth.key_text import KeyHash, find_public_id, make_key
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import RemoteProtocolError, UnauthenticatedError
from waygate_mcp.model.permissions import Narrowing
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


# --- keys of the book


async def booked(**more: object) -> tuple[ApiKeyAuthenticator, bytes, list[float], MemoryKeys]:
    """An authenticator with one stored key, its text, the clock, and the store."""
    text = make_key()
    id_ = find_public_id(text)
    assert id_ is not None
    store, now = MemoryKeys(), [START.timestamp()]
    await store.add(stored(id_, digest=HASH.digest(text.encode()), roles=("reader",), **more))
    book = KeyBook(store, lambda: now[0], lambda _id: None)
    await book.refresh()
    roles = roles_of({"reader": ["tools:call:files__*"]})
    return ApiKeyAuthenticator(HASH, (), book, roles), text.encode(), now, store


async def test_a_stored_key_is_a_principal_with_what_its_roles_grant() -> None:
    known_, text, _, _ = await booked(
        narrowing=Narrowing(upstreams=("files",)), limits=("5/minute",)
    )
    principal = known_.authenticate({b"x-api-key": text})
    assert principal is known_.authenticate({b"authorization": b"Bearer " + text})
    assert principal.id == f"key:{text[3:15].decode()}"
    assert (principal.roles, principal.limits) == (("reader",), ("5/minute",))
    assert principal.may_use("tools:call", "default", "files", "files__read")
    assert not principal.may_use("tools:call", "default", "web", "files__read")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"revoked_at": START}, "revoked"),
        ({"expires_at": START}, "expired"),
    ],
)
async def test_one_that_is_good_no_more_says_so_to_the_operator_alone(
    more: dict[str, object], reason: str
) -> None:
    known_, text, _, _ = await booked(**more)
    with pytest.raises(UnauthenticatedError) as caught:
        known_.authenticate({b"x-api-key": text})
    assert caught.value.reason == reason
    assert caught.value.safe_message == UnauthenticatedError("x", reason="invalid").safe_message
    with pytest.raises(UnauthenticatedError) as caught:
        known_.authenticate({b"x-api-key": text[:-7] + b"0000000"})
    assert caught.value.reason == "invalid"


async def test_both_texts_work_while_a_key_is_rotated_and_then_the_new_one() -> None:
    _, old, now, store = await booked()
    id_ = old[3:15].decode()
    new = make_key(public_id=id_).encode()
    await store.rotate(id_, HASH.digest(new), START + timedelta(hours=1), START)
    book = KeyBook(store, lambda: now[0], lambda _id: None)
    await book.refresh()
    known_ = ApiKeyAuthenticator(HASH, (), book, {})
    assert known_.authenticate({b"x-api-key": old}) == known_.authenticate({b"x-api-key": new})
    now[0] += 3601
    assert known_.authenticate({b"x-api-key": new}).id == f"key:{id_}"
    with pytest.raises(UnauthenticatedError) as caught:
        known_.authenticate({b"x-api-key": old})
    assert caught.value.reason == "rotated"
