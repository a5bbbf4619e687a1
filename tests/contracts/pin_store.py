"""What every PinStore keeps to, wherever the pins are.

A subclass gives `store` and `another`, two stores of the same pins as two processes have them. The class is
not collected by itself: `test_*.py` files subclass it as `Test…`.
"""

from __future__ import annotations

import asyncio

import pytest

from waygate_mcp.model.pins import KEPT_DIGESTS, Approval, Pin, Sighting
from waygate_mcp.model.ports import PinStore

FIRST, SECOND, THIRD = ("1" * 64, "2" * 64, "3" * 64)


def sighting(
    digest: str = FIRST, name: str = "read", *, trusted: bool = False, upstream: str = "files"
) -> Sighting:
    """A tool that was seen."""
    return Sighting(upstream, "tool", name, digest, f'{{"name":"{digest[:3]}"}}', trusted)


def decision(digest: str = FIRST, name: str = "read") -> Approval:
    """A decision about it."""
    return Approval("files", "tool", name, digest)


async def only(store: PinStore) -> Pin:
    """The one pin there is."""
    (pin,) = await store.load()
    return pin


class PinStoreContract:
    """The suite."""

    @pytest.fixture
    def store(self) -> PinStore:
        raise NotImplementedError

    @pytest.fixture
    def another(self, store: PinStore) -> PinStore:
        raise NotImplementedError

    async def test_it_is_empty_at_first(self, store: PinStore) -> None:
        assert list(await store.load()) == []
        assert list(await store.see([])) == []
        assert list(await store.approve([decision()], "admin")) == []
        assert list(await store.reject([decision()])) == []

    async def test_what_is_seen_waits(self, store: PinStore, another: PinStore) -> None:
        (pin,) = await store.see([sighting()])
        assert (pin.state, pin.accepted, pin.definition) == ("pending", (), None)
        assert (pin.waiting_digest, pin.waiting_definition) == (FIRST, '{"name":"111"}')
        assert (pin.approved_at, pin.approved_by) == (None, None)
        assert pin.first_seen_at == pin.changed_at
        assert await only(another) == pin

    async def test_what_is_seen_and_trusted_is_approved_by_first_use(
        self, store: PinStore, another: PinStore
    ) -> None:
        (pin,) = await store.see([sighting(trusted=True)])
        assert (pin.state, pin.accepted, pin.approved_by) == ("approved", (FIRST,), "first use")
        assert (pin.definition, pin.waiting_digest) == ('{"name":"111"}', None)
        assert pin.approved_at is not None
        assert await only(another) == pin

    async def test_only_the_first_sight_is_trusted(self, store: PinStore) -> None:
        await store.see([sighting(trusted=True)])
        (pin,) = await store.see([sighting(SECOND, trusted=True)])
        assert (pin.state, pin.accepted, pin.waiting_digest) == ("changed", (FIRST,), SECOND)
        assert (pin.definition, pin.waiting_definition) == ('{"name":"111"}', '{"name":"222"}')

    async def test_what_waits_is_what_was_seen_last(self, store: PinStore) -> None:
        await store.see([sighting()])
        (pin,) = await store.see([sighting(SECOND, trusted=True)])
        assert (pin.state, pin.waiting_digest) == ("pending", SECOND)

    async def test_what_is_known_already_changes_nothing(self, store: PinStore) -> None:
        (first,) = await store.see([sighting(trusted=True)])
        assert list(await store.see([sighting(), sighting(trusted=True)])) == [first]
        (changed,) = await store.see([sighting(SECOND)])
        assert list(await store.see([sighting(SECOND)])) == [changed]
        assert list(await store.see([sighting()])) == [changed]

    async def test_an_approval_is_of_exactly_the_definition_that_was_looked_at(
        self, store: PinStore, another: PinStore
    ) -> None:
        await store.see([sighting()])
        assert list(await another.approve([decision(SECOND)], "admin")) == []
        assert (await only(store)).state == "pending"
        (pin,) = await another.approve([decision()], "key:1")
        assert (pin.state, pin.accepted, pin.approved_by) == ("approved", (FIRST,), "key:1")
        assert (pin.definition, pin.waiting_digest) == ('{"name":"111"}', None)
        assert await only(store) == pin
        assert list(await store.approve([decision()], "admin")) == []

    async def test_a_change_that_is_approved_leaves_the_earlier_one_in_force(
        self, store: PinStore
    ) -> None:
        await store.see([sighting(trusted=True)])
        await store.see([sighting(SECOND)])
        (pin,) = await store.approve([decision(SECOND)], "admin")
        assert (pin.state, pin.accepted, pin.waiting_digest) == ("approved", (SECOND, FIRST), None)
        (same,) = await store.see([sighting()])
        assert same == pin

    async def test_only_so_many_earlier_ones_stay_in_force(self, store: PinStore) -> None:
        digests = [f"{number:064x}" for number in range(KEPT_DIGESTS + 3)]
        for digest in digests:
            await store.see([sighting(digest)])
            await store.approve([decision(digest)], "admin")
        assert (await only(store)).accepted == tuple(reversed(digests[3:]))

    async def test_a_change_that_is_rejected_is_forgotten(self, store: PinStore) -> None:
        await store.see([sighting(trusted=True)])
        await store.see([sighting(SECOND)])
        assert list(await store.reject([decision(THIRD)])) == []
        (pin,) = await store.reject([decision(SECOND)])
        assert (pin.state, pin.accepted, pin.waiting_digest) == ("approved", (FIRST,), None)
        (again,) = await store.see([sighting(SECOND)])
        assert again.state == "changed"

    async def test_what_was_never_approved_cannot_be_rejected(self, store: PinStore) -> None:
        await store.see([sighting()])
        assert list(await store.reject([decision()])) == []

    async def test_some_of_many_are_approved(self, store: PinStore) -> None:
        await store.see([sighting(name=name) for name in ("a", "b", "c")])
        pins = await store.approve(
            [decision(name="c"), decision(SECOND, "b"), decision(name="x")], "me"
        )
        assert [pin.name for pin in pins] == ["c"]
        states = {pin.name: pin.state for pin in await store.load()}
        assert states == {"a": "pending", "b": "pending", "c": "approved"}

    async def test_upstreams_kinds_and_names_are_told_apart(self, store: PinStore) -> None:
        prompt = Sighting("files", "prompt", "read", SECOND, "{}", True)
        odd = sighting(name="\u0440\u00e9 'x\"; DROP TABLE tool_pins;-- %_ \\")
        seen = [sighting(), sighting(SECOND, upstream="other"), prompt, odd]
        assert len(await store.see(seen)) == 4
        pins = {pin.key: pin for pin in await store.load()}
        assert set(pins) == {one.key for one in seen}
        assert pins["files", "prompt", "read"].state == "approved"
        assert pins["files", "tool", "read"].waiting_digest == FIRST

    async def test_an_upstream_s_own_advice_has_no_name(self, store: PinStore) -> None:
        (pin,) = await store.see([Sighting("files", "instructions", "", FIRST, '{"a":1}', True)])
        assert await only(store) == pin

    async def test_a_long_definition_is_kept_whole(self, store: PinStore) -> None:
        text = '{"name":"' + "\u00e9\U0001f600" * 50_000 + '"}'
        await store.see([Sighting("files", "tool", "read", FIRST, text)])
        assert (await only(store)).waiting_definition == text

    async def test_a_poller_is_given_what_is_newer_than_it_saw(
        self, store: PinStore, another: PinStore
    ) -> None:
        await store.see([sighting(name="a"), sighting(name="b")])
        seen = await another.load()
        versions = [pin.version for pin in seen]
        assert versions == sorted(versions)
        assert versions[0] > 0
        assert list(await another.load(versions[-1])) == []
        await store.approve([decision(name="a")], "admin")
        (newer,) = await another.load(versions[-1])
        assert (newer.name, newer.state) == ("a", "approved")
        assert newer.version > versions[-1]
        await store.see([sighting(name="b")])
        assert list(await another.load(newer.version)) == []

    async def test_of_two_that_see_a_new_one_at_once_one_is_first(
        self, store: PinStore, another: PinStore
    ) -> None:
        one, other = await asyncio.gather(
            store.see([sighting(FIRST, trusted=True)]),
            another.see([sighting(SECOND, trusted=True)]),
        )
        pin = await only(store)
        assert pin.state == "changed"
        assert {*pin.accepted, pin.waiting_digest} == {FIRST, SECOND}
        assert sorted(found.state for found in (*one, *other)) == ["approved", "changed"]

    async def test_of_many_at_once_none_is_lost_and_none_is_skipped_by_a_poller(
        self, store: PinStore, another: PinStore
    ) -> None:
        names = [f"t{number}" for number in range(24)]
        found: dict[str, int] = {}
        version = 0

        async def poll() -> None:
            nonlocal version
            for pin in await another.load(version):
                found[pin.name] = version = pin.version

        async def write(number: int) -> None:
            chosen = store if number % 2 else another
            await chosen.see([sighting(name=names[number])])

        await asyncio.gather(*(write(number) for number in range(24)), *(poll() for _ in range(12)))
        await poll()
        assert set(found) == set(names)
