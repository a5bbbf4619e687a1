from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.audit import NotedTrail
from tests.support.keys import START, MemoryKeys
from waygate_mcp.auth.key_desk import MAX_OVERLAP, KeyDesk, parse_span
from waygate_mcp.auth.key_text import KeyHash, find_public_id
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import (
    ForbiddenError,
    InvalidArgumentsError,
    StorageError,
    UnknownNameError,
)
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import LOCAL, Principal, principal_of

HASH = KeyHash(b"m" * 32)
ROLES = roles_of(
    {"reader": ["tools:call:files__*"], "keeper": ["admin:keys", "tools:call:files__*"]}
)


def desk(store: MemoryKeys | None = None) -> KeyDesk:
    return KeyDesk(store or MemoryKeys(), HASH, ROLES, START.timestamp)


async def test_a_key_is_kept_as_a_hash_and_its_text_given_once() -> None:
    store = MemoryKeys()
    key, text = await desk(store).create(
        LOCAL, "ci", ["reader", "reader"], limits=["5/minute"], expires_in=timedelta(days=1)
    )
    assert find_public_id(text) == key.id
    assert store.keys[key.id].digest == HASH.digest(text.encode())
    assert (key.roles, key.limits, key.created_by) == (("reader",), ("5/minute",), "local")
    assert key.expires_at == START + timedelta(days=1)
    assert await desk(store).list() == [key]
    assert await desk(store).show(key.id) == key


@pytest.mark.parametrize(
    ("name", "roles", "narrowing", "said"),
    [
        ("", ["viewer"], Narrowing(), "the name needs"),
        ("a\nb", ["viewer"], Narrowing(), "the name needs"),
        ("n", [], Narrowing(), "needs a role: viewer, operator, admin, reader, keeper"),
        ("n", ["reeder"], Narrowing(), "did you mean reader"),
        ("n", ["zzz"], Narrowing(), "there are viewer"),
        ("n", ["viewer"], Narrowing(names=()), "a narrowing needs"),
        ("n", ["viewer"], Narrowing(endpoints=("x" * 300,)), "a narrowing needs"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_and_nothing_kept(
    name: str, roles: list[str], narrowing: Narrowing, said: str
) -> None:
    store = MemoryKeys()
    with pytest.raises(InvalidArgumentsError, match=said):
        await desk(store).create(LOCAL, name, roles, narrowing=narrowing)
    assert store.keys == {}


@pytest.mark.parametrize("rate", ["often", "0/day", "10/hour"])
async def test_a_key_with_a_rate_nobody_can_read_is_refused_and_not_kept(rate: str) -> None:
    store = MemoryKeys()
    with pytest.raises(InvalidArgumentsError, match="is no rate"):
        await desk(store).create(LOCAL, "n", ["viewer"], limits=["5/minute", rate])
    assert store.keys == {}


KEEPER = principal_of("key:k", "keeper", ROLES["keeper"])
NARROW = principal_of("key:n", "narrow", [Grant("*")], Narrowing(upstreams=("files",)))


@pytest.mark.parametrize(
    ("maker", "roles", "narrowing"),
    [
        (KEEPER, ["admin"], Narrowing()),
        (KEEPER, ["operator"], Narrowing()),
        (NARROW, ["reader"], Narrowing()),
        (NARROW, ["reader"], Narrowing(upstreams=("files", "mail"))),
        (Principal("key:v", "v", frozenset({"admin:keys"})), ["reader"], Narrowing()),
    ],
)
async def test_nobody_makes_a_key_stronger_than_himself(
    maker: Principal, roles: list[str], narrowing: Narrowing
) -> None:
    store = MemoryKeys()
    with pytest.raises(ForbiddenError):
        await desk(store).create(maker, "n", roles, narrowing=narrowing)
    assert store.keys == {}


@pytest.mark.parametrize(
    ("maker", "roles", "narrowing"),
    [
        (KEEPER, ["reader"], Narrowing()),
        (KEEPER, ["reader"], Narrowing(names=("files__a",))),
        (NARROW, ["admin"], Narrowing(upstreams=("files",))),
    ],
)
async def test_one_as_strong_may_be_made(
    maker: Principal, roles: list[str], narrowing: Narrowing
) -> None:
    key, _ = await desk().create(maker, "n", roles, narrowing=narrowing)
    assert key.created_by == maker.id


async def test_a_rotated_key_has_two_texts_for_a_while_and_the_same_id() -> None:
    store = MemoryKeys()
    key, first = await desk(store).create(LOCAL, "n", ["viewer"])
    turned, second = await desk(store).rotate(LOCAL, key.id, timedelta(hours=2))
    assert first != second
    assert find_public_id(second) == key.id
    assert turned.previous_digest == HASH.digest(first.encode())
    assert turned.digest == HASH.digest(second.encode())
    assert turned.previous_until == START + timedelta(hours=2)
    assert turned.version > key.version


async def test_a_revoked_key_stays_revoked_and_is_not_rotated() -> None:
    store = MemoryKeys()
    key, _ = await desk(store).create(LOCAL, "n", ["viewer"])
    assert (await desk(store).revoke(LOCAL, key.id)).revoked_at == START
    assert (await desk(store).revoke(LOCAL, key.id)).revoked_at == START
    with pytest.raises(InvalidArgumentsError, match="is revoked"):
        await desk(store).rotate(LOCAL, key.id)


async def test_a_key_nobody_knows_and_an_overlap_too_long_are_told() -> None:
    with pytest.raises(UnknownNameError):
        await desk().rotate(LOCAL, "nobody")
    with pytest.raises(UnknownNameError):
        await desk().revoke(LOCAL, "nobody")
    with pytest.raises(InvalidArgumentsError, match="at most 30d"):
        await desk().rotate(LOCAL, "nobody", MAX_OVERLAP + timedelta(seconds=1))


async def test_each_change_is_recorded_before_it_is_made_and_after() -> None:
    store, trail = MemoryKeys(), NotedTrail()
    recorded = KeyDesk(store, HASH, ROLES, START.timestamp, trail)
    key, _ = await recorded.create(LOCAL, "n", ["viewer"])
    await recorded.rotate(LOCAL, key.id)
    await recorded.revoke(LOCAL, key.id)
    assert trail.records == [
        (f"keys.{act}", "local", outcome)
        for act in ("create", "rotate", "revoke")
        for outcome in ("begun", "done")
    ]
    assert (await recorded.revoke(LOCAL, key.id)).revoked_at == START
    with pytest.raises(InvalidArgumentsError):
        await recorded.rotate(LOCAL, key.id)
    assert trail.records[6:] == [
        ("keys.revoke", "local", "begun"),
        ("keys.revoke", "local", "done"),
    ]


async def test_a_change_that_fails_is_recorded_as_that() -> None:
    class Full(MemoryKeys):
        async def add(self, key: StoredKey) -> StoredKey:
            raise StorageError("the disk is full")

    trail = NotedTrail()
    with pytest.raises(StorageError):
        await KeyDesk(Full(), HASH, ROLES, START.timestamp, trail).create(LOCAL, "n", ["viewer"])
    assert trail.records == [("keys.create", "local", "begun"), ("keys.create", "local", "failed")]


async def test_what_cannot_be_recorded_is_not_done() -> None:
    store, trail = MemoryKeys(), NotedTrail()
    trail.is_broken = True
    with pytest.raises(StorageError):
        await KeyDesk(store, HASH, ROLES, START.timestamp, trail).create(LOCAL, "n", ["viewer"])
    assert store.keys == {}


async def test_a_key_whose_role_is_gone_for_now_is_for_those_alone_who_may_everything() -> None:
    store = MemoryKeys()
    key, _ = await desk(store).create(LOCAL, "n", ["reader"])
    fewer = {name: grants for name, grants in ROLES.items() if name != "reader"}
    other = KeyDesk(store, HASH, fewer, START.timestamp)
    with pytest.raises(ForbiddenError):
        await other.rotate(KEEPER, key.id)
    assert (await other.rotate(LOCAL, key.id))[0].id == key.id


async def test_a_stronger_key_is_neither_rotated_nor_revoked_by_a_weaker_one() -> None:
    store = MemoryKeys()
    key, _ = await desk(store).create(LOCAL, "boss", ["admin"])
    with pytest.raises(ForbiddenError):
        await desk(store).rotate(KEEPER, key.id)
    with pytest.raises(ForbiddenError):
        await desk(store).revoke(KEEPER, key.id)
    assert store.keys[key.id] == key


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("2h", 7200), ("90d", 7_776_000), ("1w", 604_800)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0d", "5", "d", "-1d", "1.5h", "9999999d", "5y"])
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        parse_span(text)


async def test_nobody_makes_or_takes_over_a_key_that_outlives_his_own_or_has_no_limit_of_his() -> (
    None
):
    store = MemoryKeys()
    keys = desk(store)
    day = timedelta(days=1)
    own, _ = await keys.create(LOCAL, "own", ["keeper"], limits=["5/minute"], expires_in=day)
    wider, _ = await keys.create(LOCAL, "wider", ["reader"])
    maker = principal_of(f"key:{own.id}", "own", ROLES["keeper"], limits=own.limits)
    for limits, expires_in in (((), day), (own.limits, None), (own.limits, day * 2)):
        with pytest.raises(ForbiddenError):
            await keys.create(maker, "more", ["reader"], limits=limits, expires_in=expires_in)
    with pytest.raises(ForbiddenError):
        await keys.rotate(maker, wider.id)
    made, _ = await keys.create(
        maker, "as much", ["reader"], limits=[*own.limits, "1/second"], expires_in=day
    )
    await keys.rotate(maker, made.id)
    await keys.rotate(maker, own.id)
