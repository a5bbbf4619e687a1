from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.net import dial
from waygate_mcp.net.addresses import AddressKind
from waygate_mcp.net.dial import Dialler, NetworkPolicy
from waygate_mcp.net.urls import parse_target

NEAR = (AddressKind.LOOPBACK, AddressKind.PRIVATE)
NEVER = tuple(kind for kind in AddressKind if kind not in (*NEAR, AddressKind.PUBLIC))


def resolving(*answers: Sequence[str]) -> Callable[[str, int], Any]:
    """Give each answer once, the last one for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record what would be connected to; every attempt is refused by the other side."""
    attempts: list[tuple[str, int]] = []

    async def create_connection(factory: object, host: str, port: int, **options: Any) -> Any:
        attempts.append((host, port))
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(
        asyncio.BaseEventLoop,
        "create_connection",
        lambda loop, *args, **options: create_connection(*args, **options),
    )
    return attempts


@pytest.mark.parametrize("kind", NEVER)
def test_no_policy_permits_what_nobody_may_reach(kind: AddressKind) -> None:
    target = parse_target("http://up.example:81/")
    for policy in (
        NetworkPolicy(),
        NetworkPolicy(allows_private=True),
        NetworkPolicy.for_operator(target),
        NetworkPolicy.for_document(target, allows_private=True),
        NetworkPolicy(exceptions=frozenset({("up.example", 81)})),
    ):
        assert not policy.permits("up.example", 81, kind)


@pytest.mark.parametrize("kind", NEAR)
def test_near_addresses_need_an_exception_for_that_host_and_port(kind: AddressKind) -> None:
    target = parse_target("http://up.example:81/")
    assert not NetworkPolicy().permits("up.example", 81, kind)
    assert not NetworkPolicy.for_document(target).permits("up.example", 81, kind)
    assert NetworkPolicy.for_document(target, allows_private=True).permits("up.example", 81, kind)
    operator = NetworkPolicy.for_operator(target)
    assert operator.permits("up.example", 81, kind)
    assert not operator.permits("up.example", 80, kind)
    assert not operator.permits("other.example", 81, kind)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "[::1]", "[fd00::1]", "localhost"])
def test_a_near_literal_of_the_document_excepts_itself(host: str) -> None:
    target = parse_target(f"http://{host}:81/")
    policy = NetworkPolicy.for_document(target)
    assert policy.exceptions == {(target.host, 81)}


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "8.8.8.8", "a.b"])
def test_no_other_host_of_the_document_excepts_itself(host: str) -> None:
    assert NetworkPolicy.for_document(parse_target(f"http://{host}/")).exceptions == frozenset()


async def test_localhost_is_this_machine_whatever_a_resolver_says() -> None:
    target = parse_target("http://localhost:81/")
    policy = NetworkPolicy.for_document(target)
    found = resolving(["10.0.0.1", "::1", "127.0.0.1"])
    assert await Dialler(target, "up", policy, resolve=found).addresses() == ["::1", "127.0.0.1"]


async def test_the_address_that_was_checked_is_dialled(dialled: list[tuple[str, int]]) -> None:
    found = resolving(["8.8.8.8", "10.0.0.1", "8.8.4.4", "8.8.8.8"])
    dialler = Dialler(parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=found)
    with pytest.raises(UpstreamUnavailableError, match="not reached"):
        await dialler.connect(asyncio.Protocol)
    assert dialled == [("8.8.8.8", 81), ("8.8.4.4", 81)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1%eth0", "rubbish"],
)
async def test_nothing_is_dialled_at_a_refused_address(
    address: str, dialled: list[tuple[str, int]]
) -> None:
    dialler = Dialler(
        parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=resolving([address])
    )
    with pytest.raises(UpstreamUnavailableError):
        await dialler.connect(asyncio.Protocol)
    assert dialled == []


async def test_each_connection_is_checked_anew(dialled: list[tuple[str, int]]) -> None:
    found = resolving(["8.8.8.8"], ["127.0.0.1"])
    dialler = Dialler(parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=found)
    with pytest.raises(UpstreamUnavailableError, match="not reached"):
        await dialler.connect(asyncio.Protocol)
    with pytest.raises(UpstreamUnavailableError, match="loopback"):
        await dialler.connect(asyncio.Protocol)
    assert dialled == [("8.8.8.8", 81)]


@pytest.mark.parametrize("answer", [[], ["127.0.0.1"] * 16 + ["8.8.8.8"]])
async def test_a_resolver_is_listened_to_only_so_long(answer: list[str]) -> None:
    dialler = Dialler(
        parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=resolving(answer)
    )
    with pytest.raises(UpstreamUnavailableError):
        await dialler.addresses()


async def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(dial, "_RESOLVE_S", 0.001)
    dialler = Dialler(parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=resolve)
    with pytest.raises(UpstreamUnavailableError, match="resolved"):
        await dialler.addresses()


async def test_a_name_that_is_not_found_is_unavailable() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    dialler = Dialler(parse_target("http://a.b:81"), "up", NetworkPolicy(), resolve=resolve)
    with pytest.raises(UpstreamUnavailableError, match="no such name"):
        await dialler.addresses()


async def test_https_without_a_context_is_never_dialled(dialled: list[tuple[str, int]]) -> None:
    dialler = Dialler(
        parse_target("https://a.b"), "up", NetworkPolicy(), resolve=resolving(["8.8.8.8"])
    )
    with pytest.raises(UpstreamUnavailableError, match="TLS"):
        await dialler.connect(asyncio.Protocol)
    assert dialled == []
