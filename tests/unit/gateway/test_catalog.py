"""What an endpoint shows: names, order, pages, who answers for a name, and how long that is kept."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.support.dialogues import person, ring
from tests.support.scripted import Scripted
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.errors import (
    RpcError,
    UnknownNameError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.gateway import name_table
from waygate_mcp.gateway.catalog import Catalog, Ground
from waygate_mcp.gateway.name_table import NameTable
from waygate_mcp.gateway.names import UriMark
from waygate_mcp.gateway.offers import Binding, Rules
from waygate_mcp.gateway.seen_links import SeenLinks
from waygate_mcp.model.catalog import Features, Kind, Viewer
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.permissions import Narrowing, expand
from waygate_mcp.model.principal import Principal, principal_of
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN

ALICE, BOB = person("alice"), person("bob")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def viewer(
    principal: Principal = ALICE, capabilities: ClientCapabilities = NO_CAPABILITIES
) -> Viewer:
    return Viewer(principal, capabilities)


def catalog_of(
    *bindings: tuple[Scripted, str],
    clock: Callable[[], float] | None = None,
    names: NameTable | None = None,
    marks: Mapping[str, str] | None = None,
    **rules: Any,
) -> Catalog:
    marks = marks or {}
    bound = [
        Binding(provider, prefix, UriMark(marks.get(provider.name, "")))
        for provider, prefix in bindings
    ]
    clock = clock or Clock()
    ground = Ground(ring(), names or NameTable(), SeenLinks(clock), clock)
    rules.setdefault("holders", frozenset(provider.name for provider, _ in bindings))
    return Catalog(bound, Rules(**rules), ground)


def box_with(*tools: str, name: str = "box") -> Scripted:
    box = Scripted(name)
    for tool in tools:
        box.tool(tool)
    return box


async def page(
    catalog: Catalog,
    kind: Kind = Kind.TOOL,
    cursor: Any = None,
    who: Viewer | None = None,
) -> tuple[list[str], str | None]:
    """The names on a page and its cursor."""
    reply = await catalog.page(kind, cursor, who or viewer(), MODERN)
    read = json.loads(reply.result)
    cursor = read.pop("nextCursor", None)
    [entries] = read.values()
    key = {Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}.get(kind, "name")
    return [entry[key] for entry in entries], cursor


async def pages(catalog: Catalog, who: Viewer | None = None) -> list[list[str]]:
    """All pages of tools."""
    names, cursor = await page(catalog, who=who)
    found = [names]
    while cursor is not None:
        names, cursor = await page(catalog, cursor=cursor, who=who)
        found.append(names)
    return found


# --- names and order


async def test_a_single_provider_is_shown_verbatim() -> None:
    box = Scripted()
    box.tool("Odd name. é", title="Odd", **{"x-vendor": {"kept": [1.50]}})
    catalog = catalog_of((box, ""))
    reply = await catalog.page(Kind.TOOL, None, viewer(), MODERN)
    [entry] = json.loads(reply.result)["tools"]
    assert entry["name"] == "Odd name. é"
    assert entry["x-vendor"] == {"kept": [1.5]}


async def test_a_prefix_stands_before_the_names_of_tools_and_prompts_only() -> None:
    box = box_with("greet")
    box.prompt("ask")
    box.resource("memo://a")
    box.template("memo://{day}")
    catalog = catalog_of((box, "box__"))
    assert await page(catalog) == (["box__greet"], None)
    assert await page(catalog, Kind.PROMPT) == (["box__ask"], None)
    assert await page(catalog, Kind.RESOURCE) == (["memo://a"], None)
    assert await page(catalog, Kind.TEMPLATE) == (["memo://{day}"], None)


async def test_a_renamed_definition_keeps_its_other_members_and_numbers() -> None:
    box = Scripted()
    box.tool("greet", annotations={"cost": 1.50, "big": 2**60})
    reply = await catalog_of((box, "b__")).page(Kind.TOOL, None, viewer(), MODERN)
    assert b'"annotations":{"cost":1.5,"big":1152921504606846976}' in reply.result


async def test_the_order_is_that_of_the_bindings_then_of_the_names() -> None:
    first, second = box_with("z", "a", name="one"), box_with("m", "b", name="two")
    catalog = catalog_of((first, "one__"), (second, "two__"))
    assert await page(catalog) == (["one__a", "one__z", "two__b", "two__m"], None)


async def test_the_first_claimant_keeps_a_name_and_the_operator_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    first, second = box_with("greet", name="one"), box_with("greet", "own", name="two")
    catalog = catalog_of((first, ""), (second, ""), clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await page(catalog) == (["greet", "own"], None)
            clock.now_s += 1_000
    assert (await catalog.find(Kind.TOOL, "greet", viewer())).provider is first
    [record] = caplog.records
    assert "'greet' of two is hidden: the name belongs to one" in record.getMessage()


async def test_warnings_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"tool{number}" for number in range(1_100)]
    first, second = box_with(*names, name="one"), box_with(*names, name="two")
    with caplog.at_level(logging.WARNING):
        await page(catalog_of((first, ""), (second, "")))
    assert len(caplog.records) == 1_000


async def test_only_allowed_tools_are_shown_and_found() -> None:
    box = box_with("keep", "drop")
    box.prompt("drop")
    catalog = catalog_of((box, ""), tools=lambda name: name == "keep")
    assert await page(catalog) == (["keep"], None)
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.TOOL, "drop", viewer())
    assert await page(catalog, Kind.PROMPT) == (["drop"], None)


async def test_a_definition_is_rewritten_for_older_readers_only() -> None:
    box = Scripted()
    box.tool("list", outputSchema={"type": "array"})
    catalog = catalog_of((box, ""))
    modern = await catalog.page(Kind.TOOL, None, viewer(), MODERN)
    legacy = await catalog.page(Kind.TOOL, None, viewer(), LATEST_LEGACY)
    assert b"outputSchema" in modern.result
    assert b"outputSchema" not in legacy.result


# --- who answers


async def test_a_name_leads_to_its_provider_and_the_providers_own_name() -> None:
    one, two = box_with("greet", name="one"), box_with("greet", name="two")
    catalog = catalog_of((one, "one__"), (two, "two__"))
    assert catalog.find_known(Kind.TOOL, "two__greet", viewer()) is None  # nothing is known yet
    found = await catalog.find(Kind.TOOL, "two__greet", viewer())
    assert (found.provider, found.target) == (two, "greet")
    assert found.entry is not None
    assert catalog.find_known(Kind.TOOL, "two__greet", viewer()) is found
    with pytest.raises(UnknownNameError) as caught:
        await catalog.find(Kind.TOOL, "greet", viewer())
    assert (caught.value.kind, caught.value.name) == ("tool", "greet")


async def test_names_are_looked_up_and_never_split() -> None:
    one, two = box_with("b__c", name="one"), box_with("c", name="two")
    catalog = catalog_of((one, "a__"), (two, "a__b__"))
    assert (await catalog.find(Kind.TOOL, "a__b__c", viewer())).provider is one


async def test_a_resource_is_found_by_its_very_uri_then_by_the_most_special_template() -> None:
    wide, narrow = Scripted("wide"), Scripted("narrow")
    wide.template("memo://{+path}")
    narrow.template("memo://days/{day}")
    narrow.resource("memo://days/today")
    catalog = catalog_of((wide, ""), (narrow, ""))

    async def owner(uri: str) -> str:
        return (await catalog.find(Kind.RESOURCE, uri, viewer())).provider.name

    assert await owner("memo://days/today") == "narrow"
    assert await owner("memo://days/monday") == "narrow"
    assert await owner("memo://weeks/7") == "wide"
    with pytest.raises(UnknownNameError) as caught:
        await owner("other://x")
    assert caught.value.kind == "resource"


async def test_of_two_equal_templates_the_first_bindings_is_asked() -> None:
    one, two = Scripted("one"), Scripted("two")
    one.template("memo://{a}")
    two.template("memo://{b}")
    catalog = catalog_of((one, ""), (two, ""))
    assert (await catalog.find(Kind.RESOURCE, "memo://x", viewer())).provider is one


async def test_an_unlisted_uri_goes_to_the_only_one_with_resources_and_never_to_several() -> None:
    bearer, other = Scripted("bearer"), Scripted("other", features=Features(tools=True))
    catalog = catalog_of((other, ""), (bearer, ""))
    found = await catalog.find(Kind.RESOURCE, "hidden://x", viewer())
    assert (found.provider, found.target, found.entry) == (bearer, "hidden://x", None)
    several = catalog_of((bearer, ""), (Scripted("second"), ""))
    with pytest.raises(UnknownNameError):
        await several.find(Kind.RESOURCE, "hidden://x", viewer())


async def test_a_template_that_cannot_be_read_backwards_is_shown_and_hurts_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Scripted()
    box.add(Kind.TEMPLATE, "memo://{a:3}")
    box.template("memo://days/{day}")
    second = Scripted("second")
    catalog = catalog_of((box, ""), (second, ""))
    with caplog.at_level(logging.WARNING):
        names, _ = await page(catalog, Kind.TEMPLATE)
    assert names == ["memo://days/{day}", "memo://{a:3}"]
    assert (await catalog.find(Kind.RESOURCE, "memo://days/1", viewer())).provider is box
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.RESOURCE, "memo://abc", viewer())
    assert "cannot be read from" in caplog.text


# --- pages


async def test_pages_hold_so_many_entries_and_the_last_has_no_cursor() -> None:
    catalog = catalog_of((box_with(*"abcde"), ""), page_size=2)
    assert await pages(catalog) == [["a", "b"], ["c", "d"], ["e"]]
    exact = catalog_of((box_with(*"abcd"), ""), page_size=2)
    assert await pages(exact) == [["a", "b"], ["c", "d"]]
    assert await pages(catalog_of((Scripted(), ""))) == [[]]


async def test_each_principal_pages_through_the_same_list_with_its_own_cursors() -> None:
    catalog = catalog_of((box_with(*"abc"), ""), page_size=2)
    assert await pages(catalog, viewer(ALICE)) == [["a", "b"], ["c"]]
    assert await pages(catalog, viewer(BOB)) == [["a", "b"], ["c"]]
    _, cursor = await page(catalog, who=viewer(ALICE))
    with pytest.raises(RpcError) as caught:
        await page(catalog, cursor=cursor, who=viewer(BOB))
    assert caught.value.rpc_code == -32602


async def test_a_cursor_of_another_list_or_of_nobody_is_refused() -> None:
    box = box_with(*"abc")
    for name in "abc":
        box.prompt(name)
    catalog = catalog_of((box, ""), page_size=2)
    _, tools = await page(catalog)
    foreign = ring().seal(b"\x90", "cursor")
    for cursor in (tools, "nonsense", "", 7, {"a": 1}, foreign, ring().seal(b"x", "ticket")):
        with pytest.raises(RpcError) as caught:
            await page(catalog, Kind.PROMPT, cursor)
        assert caught.value.rpc_code == -32602


@pytest.mark.parametrize(
    ("gone", "came", "rest"),
    [
        ((), (), ["c", "d", "e"]),
        (("b",), (), ["c", "d", "e"]),
        (("a",), (), ["c", "d", "e"]),
        (("a", "b"), (), ["c", "d", "e"]),
        (("b", "c"), (), ["d", "e"]),
        (("c", "d", "e"), (), []),
        ((), ("aa",), ["c", "d", "e"]),
        (("b",), ("bb",), ["bb", "c", "d", "e"]),
        ((), ("zz",), ["c", "d", "e", "zz"]),
    ],
)
async def test_a_cursor_survives_changes_without_skipping_or_repeating(
    gone: Sequence[str], came: Sequence[str], rest: Sequence[str]
) -> None:
    box = box_with(*"abcde")
    catalog = catalog_of((box, ""), page_size=2)
    _, cursor = await page(catalog)
    for name in gone:
        box.remove(Kind.TOOL, name)
    for name in came:
        box.tool(name)
    catalog.forget(ListChanged("box", Kind.TOOL))
    seen: list[str] = []
    while cursor is not None:
        names, cursor = await page(catalog, cursor=cursor)
        seen += names
    assert seen == rest


async def test_a_cursor_knows_which_binding_its_last_entry_was_of() -> None:
    one, two = box_with("m", "z", name="one"), box_with("a", "b", "n", name="two")
    catalog = catalog_of((one, ""), (two, ""), page_size=3)
    names, cursor = await page(catalog)
    assert names == ["m", "z", "a"]
    two.remove(Kind.TOOL, "a")
    catalog.forget(ListChanged("two", Kind.TOOL))
    assert await page(catalog, cursor=cursor) == (["b", "n"], None)


# --- what is kept, for whom and how long


async def test_a_list_is_read_once_until_it_changes() -> None:
    box = box_with("a")
    catalog = catalog_of((box, ""))
    first = await catalog.page(Kind.TOOL, None, viewer(), MODERN)
    assert await catalog.page(Kind.TOOL, None, viewer(BOB), MODERN) is first
    await catalog.find(Kind.TOOL, "a", viewer())
    assert box.listed == 1
    box.tool("b")
    catalog.forget(ListChanged("box", Kind.PROMPT))
    catalog.forget(ResourceUpdated("box", "memo://a"))
    assert await page(catalog) == (["a"], None)
    catalog.forget(ListChanged("box", Kind.TOOL))
    assert catalog.find_known(Kind.TOOL, "a", viewer()) is None
    assert await page(catalog) == (["a", "b"], None)


async def test_a_list_is_read_again_when_its_time_is_up() -> None:
    clock = Clock()
    box = box_with("a")
    box.ttl_ms = 5_000
    catalog = catalog_of((box, ""), clock=clock)
    await page(catalog)
    clock.now_s += 4.9
    await page(catalog)
    assert box.listed == 1
    clock.now_s += 0.1
    assert catalog.find_known(Kind.TOOL, "a", viewer()) is None
    await page(catalog)
    assert box.listed == 2


async def test_a_list_without_a_time_is_kept_for_a_second() -> None:
    clock = Clock()
    for ttl_ms in (0, -7):
        box = box_with("a")
        box.ttl_ms = ttl_ms
        catalog = catalog_of((box, ""), clock=clock)
        reply = await catalog.page(Kind.TOOL, None, viewer(), MODERN)
        assert reply.ttl_ms == 0
        clock.now_s += 0.9
        await page(catalog)
        assert box.listed == 1
        clock.now_s += 0.2
        await page(catalog)
        assert box.listed == 2


async def test_hints_are_those_of_the_shortest_and_most_private_part() -> None:
    one, two = box_with("a", name="one"), box_with("b", name="two")
    one.ttl_ms, two.ttl_ms = 5_000, 60_000
    reply = await catalog_of((one, ""), (two, "")).page(Kind.TOOL, None, viewer(), MODERN)
    assert (reply.ttl_ms, reply.cache_scope) == (5_000, "public")
    two.cache_scope = "private"
    reply = await catalog_of((one, ""), (two, "")).page(Kind.TOOL, None, viewer(), MODERN)
    assert reply.cache_scope == "private"
    nobody = await catalog_of().page(Kind.TOOL, None, viewer(), MODERN)
    assert (nobody.ttl_ms, nobody.cache_scope) == (0, "public")


async def test_a_private_list_is_never_shown_to_another_principal() -> None:
    box = Scripted()
    box.cache_scope = "private"
    box.by_principal = {
        "key:alice": {**box.entries, Kind.TOOL: {"hers": {"name": "hers"}}},
        "key:bob": {**box.entries, Kind.TOOL: {"his": {"name": "his"}}},
    }
    catalog = catalog_of((box, ""))
    for _ in range(2):
        assert await page(catalog, who=viewer(ALICE)) == (["hers"], None)
        assert await page(catalog, who=viewer(BOB)) == (["his"], None)
    assert box.listed == 2
    assert catalog.find_known(Kind.TOOL, "his", viewer(ALICE)) is None
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.TOOL, "his", viewer(ALICE))


async def test_a_list_that_becomes_private_is_private_from_then_on() -> None:
    box = box_with("a")
    catalog = catalog_of((box, ""))
    await page(catalog, who=viewer(ALICE))
    box.cache_scope = "private"
    catalog.forget(ListChanged("box", Kind.TOOL))
    await page(catalog, who=viewer(ALICE))
    assert catalog.find_known(Kind.TOOL, "a", viewer(ALICE)) is not None
    assert catalog.find_known(Kind.TOOL, "a", viewer(BOB)) is None


async def test_lists_are_kept_by_what_clients_can_do() -> None:
    box = box_with("a")
    catalog = catalog_of((box, ""))
    await page(catalog, who=viewer())
    await page(catalog, who=viewer(capabilities=ClientCapabilities(16)))
    assert box.listed == 2


async def test_a_change_while_a_list_is_read_is_not_covered_up() -> None:
    box = box_with("old")
    box.pause = asyncio.Event()
    catalog = catalog_of((box, ""))
    reading = asyncio.get_running_loop().create_task(page(catalog))
    await settle()
    box.tool("new")
    catalog.forget(ListChanged("box", Kind.TOOL))
    box.pause.set()
    assert await reading == (["old"], None)
    assert await page(catalog) == (["new", "old"], None)


async def test_no_more_than_512_lists_are_kept() -> None:
    box = box_with("a")
    catalog = catalog_of((box, ""))
    classes = [ClientCapabilities(0, (f"x/{number}",)) for number in range(513)]
    for capabilities in classes:
        await page(catalog, who=viewer(capabilities=capabilities))
    assert catalog.find_known(Kind.TOOL, "a", viewer(capabilities=classes[0])) is None
    assert catalog.find_known(Kind.TOOL, "a", viewer(capabilities=classes[1])) is not None


# --- whose a name is


async def test_a_name_stays_with_its_first_publisher_whatever_the_order_becomes() -> None:
    names = NameTable()
    one, two = box_with("greet", "a", name="one"), box_with("greet", "b", name="two")
    await page(catalog_of((one, ""), (two, ""), names=names))
    catalog = catalog_of((two, ""), (one, ""), names=names)
    assert await page(catalog) == (["b", "a", "greet"], None)
    assert (await catalog.find(Kind.TOOL, "greet", viewer())).provider is one
    [hidden] = catalog.status().hidden
    assert (hidden.provider, hidden.name) == ("two", "greet")
    assert hidden.reason == "is hidden: the name belongs to one"


async def test_a_newcomer_does_not_get_the_name_of_one_that_is_away() -> None:
    names = NameTable()
    one, two = box_with("greet", name="one"), box_with("greet", name="two")
    await page(catalog_of((one, ""), names=names))
    one.condition = "missing"
    catalog = catalog_of((one, ""), (two, ""), names=names)
    assert await page(catalog) == ([], None)
    with pytest.raises(UpstreamUnavailableError) as caught:
        await catalog.find(Kind.TOOL, "greet", viewer())
    assert caught.value.upstream == "one"
    assert "one" in caught.value.safe_message
    assert two.calls == []
    switched_off = catalog_of((two, ""), names=names, holders=frozenset({"one", "two"}))
    assert await page(switched_off) == ([], None)


async def test_who_is_bound_no_more_or_named_otherwise_gives_its_names_up() -> None:
    names = NameTable()
    one, two = box_with("greet", name="one"), box_with("greet", name="two")
    await page(catalog_of((one, ""), names=names))
    moved = catalog_of((one, "one__"), (two, ""), names=names)
    assert await page(moved) == (["one__greet", "greet"], None)
    assert (await moved.find(Kind.TOOL, "greet", viewer())).provider is two
    gone = catalog_of((one, ""), names=names)
    assert await page(gone) == (["greet"], None)


async def test_of_two_tools_of_one_provider_under_one_name_the_first_is_shown() -> None:
    box = box_with("a", "b")
    catalog = catalog_of((box, ""), rename={"a": "same", "b": "same"})
    assert await page(catalog) == (["same"], None)
    assert (await catalog.find(Kind.TOOL, "same", viewer())).target == "a"
    assert [one.original for one in catalog.status().hidden] == ["b"]


async def test_one_with_more_names_than_it_can_hold_shows_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_table, "MAX_CLAIMS", 2)
    one, two = box_with(*"abcd", name="one"), box_with("a", name="two")
    catalog = catalog_of((one, ""), (two, ""))
    assert await page(catalog) == (["a", "b", "c", "d"], None)
    assert (await catalog.find(Kind.TOOL, "a", viewer())).provider is one
    assert catalog.status().hidden[0].reason == "is hidden: the name belongs to one"


async def test_a_prefix_nobody_wrote_down_is_remembered_once_it_was_published() -> None:
    names = NameTable()
    one = box_with("greet", name="one")
    catalog = catalog_of((one, ""), names=names, auto_prefixes=frozenset({"one"}))
    await page(catalog, Kind.PROMPT)
    assert names.prefix("default", "one") is None  # nothing was published yet
    await page(catalog)
    assert names.prefix("default", "one") == ""
    written = box_with("greet", name="two")
    await page(catalog_of((written, "x__"), names=names))
    assert names.prefix("default", "two") is None


async def test_words_for_tools_nobody_has_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    box = box_with("a")
    clock = Clock()
    box.condition = "missing"
    catalog = catalog_of((box, ""), clock=clock, rename={"a": "x", "b": "y"}, titles={"c": "T"})
    with caplog.at_level(logging.WARNING):
        await page(catalog)
        assert caplog.records == []  # it may have them: nobody knows
        box.condition = "current"
        for _ in range(2):
            clock.now_s += 1_000
            await page(catalog)
    assert [record.getMessage() for record in caplog.records] == [
        "endpoint default: no tool is named 'b'",
        "endpoint default: no tool is named 'c'",
    ]
    assert catalog.status().unknown == ("b", "c")


# --- providers that are slow, broken or away


@virtual_time
async def test_all_are_asked_at_once_and_nobody_waits_for_longer_than_ten_seconds() -> None:
    slow = [box_with("t", name=f"slow{number}") for number in range(5)]
    for box in slow:
        box.pause = asyncio.Event()
    quick = box_with("q", name="quick")
    catalog = catalog_of(*((box, f"{box.name}__") for box in [*slow, quick]), clock=now)
    began_s = now()
    assert await page(catalog) == (["quick__q"], None)
    assert now() - began_s == 10.0
    assert [box.listed for box in slow] == [1] * 5


@virtual_time
async def test_those_who_want_the_same_wait_for_one_reading() -> None:
    box = box_with("a")
    box.pause = asyncio.Event()
    catalog = catalog_of((box, ""), clock=now)
    readers = [asyncio.get_running_loop().create_task(page(catalog)) for _ in range(10)]
    await settle()
    readers.pop(0).cancel()  # the first to come goes away
    await settle()
    box.pause.set()
    for reader in readers:
        assert await reader == (["a"], None)
    assert box.listed == 2  # once for the one that left, once for all others


@virtual_time
async def test_the_first_to_find_a_list_private_sends_the_others_to_their_own() -> None:
    box = Scripted()
    box.cache_scope = "private"
    box.by_principal = {
        f"key:{name}": {**box.entries, Kind.TOOL: {name: {"name": name}}}
        for name in ("alice", "bob")
    }
    catalog = catalog_of((box, ""), clock=now)
    found = await asyncio.gather(*(page(catalog, who=viewer(who)) for who in (ALICE, BOB, ALICE)))
    assert [names for names, _ in found] == [["alice"], ["bob"], ["alice"]]
    assert box.listed == 2


@virtual_time
async def test_a_call_does_not_wait_for_the_list_of_another() -> None:
    quick, slow = box_with("q", name="quick"), box_with("s", name="slow")
    quick.ttl_ms = 1_000
    catalog = catalog_of((quick, "quick__"), (slow, "slow__"), clock=now)
    await page(catalog)
    slow.pause = asyncio.Event()
    await pass_time(2)
    for waited_s in (0.25, 0.0, 0.0):
        began_s = now()
        assert (await catalog.find(Kind.TOOL, "quick__q", viewer())).provider is quick
        assert now() - began_s == waited_s
    assert slow.listed == 2
    await pass_time(5)
    quick.tool("new")
    slow.pause.set()
    assert (await catalog.find(Kind.TOOL, "quick__q", viewer())).provider is quick
    assert catalog.find_known(Kind.TOOL, "quick__new", viewer()) is not None


@pytest.mark.parametrize(
    "failure",
    [UpstreamTimeoutError("two", "no answer"), ValueError("a bug"), asyncio.CancelledError()],
)
async def test_what_goes_wrong_in_one_is_confined_to_its_part(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = box_with("a", name="one"), box_with("b", name="two")
    two.list_failure = failure
    catalog = catalog_of((one, ""), (two, ""))
    reply = await catalog.page(Kind.TOOL, None, viewer(), MODERN)
    assert [tool["name"] for tool in json.loads(reply.result)["tools"]] == ["a"]
    assert (reply.ttl_ms, reply.cache_scope) == (1_000, "private")
    assert ("listing tools failed" in caplog.text) is not isinstance(failure, UpstreamTimeoutError)
    assert catalog.status().bindings[1].lists == {"tool": "missing"}


async def test_a_public_list_somebody_else_saw_is_shown_to_whom_it_is_missing() -> None:
    clock = Clock()
    one, two = box_with("a", name="one"), box_with("b", name="two")
    catalog = catalog_of((one, ""), (two, ""), clock=clock)
    await page(catalog, who=viewer(ALICE))
    two.condition = "missing"
    clock.now_s += 1_000
    assert await page(catalog, who=viewer(BOB)) == (["a", "b"], None)
    assert catalog.status().bindings[1].lists == {"tool": "kept"}


async def test_a_list_with_an_old_part_is_believed_for_five_seconds_at_most() -> None:
    box = box_with("a")
    box.condition = "kept"
    reply = await catalog_of((box, "")).page(Kind.TOOL, None, viewer(), MODERN)
    assert reply.ttl_ms == 5_000
    box.condition = "current"
    box.ttl_ms = 3_600_000
    reply = await catalog_of((box, "")).page(Kind.TOOL, None, viewer(), MODERN)
    assert reply.ttl_ms == 60_000


@pytest.mark.parametrize("condition", ["kept", "missing"])
async def test_a_strict_endpoint_shows_a_whole_list_or_none_and_calls_go_on(condition: Any) -> None:
    one, two = box_with("a", name="one"), box_with("b", name="two")
    two.condition = condition
    catalog = catalog_of((one, ""), (two, ""), is_strict=True)
    with pytest.raises(UpstreamUnavailableError) as caught:
        await page(catalog)
    assert caught.value.safe_message == "The upstream server two is not available."
    assert (await catalog.find(Kind.TOOL, "a", viewer())).provider is one
    two.condition = "current"
    catalog.forget(ListChanged("two", Kind.TOOL))
    assert await page(catalog) == (["a", "b"], None)


async def test_a_name_under_the_prefix_of_one_that_is_away_says_who_is_away() -> None:
    one, two = box_with("a", name="one"), box_with("b", name="two")
    two.condition = "missing"
    catalog = catalog_of((one, "one__"), (two, "two__"))
    with pytest.raises(UpstreamUnavailableError) as caught:
        await catalog.find(Kind.TOOL, "two__anything", viewer())
    assert caught.value.upstream == "two"
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.TOOL, "one__anything", viewer())


# --- names nobody knows


class Refreshing(Scripted):
    """Has a tool more whenever its list is read again."""

    refreshed = 0
    gate: asyncio.Event | None = None

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        self.refreshed += 1
        if self.gate is not None:
            await self.gate.wait()
        self.tool(f"new{self.refreshed}")


async def test_for_an_unknown_name_the_list_of_its_upstream_is_read_again_once() -> None:
    clock = Clock()
    one, two = Refreshing("one"), Refreshing("two")
    catalog = catalog_of((one, "one__"), (two, "two__"), clock=clock)
    found = await catalog.find(Kind.TOOL, "two__new1", viewer())
    assert (found.provider, found.target) == (two, "new1")
    for _ in range(100):
        with pytest.raises(UnknownNameError):
            await catalog.find(Kind.TOOL, "two__guess", viewer())
    assert (one.refreshed, two.refreshed) == (0, 1)
    clock.now_s += 10
    assert (await catalog.find(Kind.TOOL, "two__new2", viewer())).target == "new2"
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.TOOL, "other__guess", viewer())
    assert (one.refreshed, two.refreshed) == (0, 2)


async def test_a_verbatim_name_is_looked_for_wherever_it_could_be() -> None:
    one, two = Refreshing("one"), Refreshing("two")
    names = NameTable()
    catalog = catalog_of((one, ""), (two, ""), names=names)
    assert (await catalog.find(Kind.TOOL, "new1", viewer())).provider is one
    assert (one.refreshed, two.refreshed) == (1, 1)
    one.remove(Kind.TOOL, "new1")
    again = catalog_of((one, ""), (two, ""), names=names)
    one.refreshed = two.refreshed = 7
    with pytest.raises(UnknownNameError):
        await again.find(Kind.TOOL, "new1", viewer())  # it is known whose it is
    assert (one.refreshed, two.refreshed) == (8, 7)


@virtual_time
async def test_those_who_ask_meanwhile_wait_for_the_same_reading() -> None:
    box = Refreshing()
    box.gate = asyncio.Event()
    catalog = catalog_of((box, ""), clock=now)
    await page(catalog)
    asking = [
        asyncio.get_running_loop().create_task(catalog.find(Kind.TOOL, "new1", viewer()))
        for _ in range(3)
    ]
    await settle()
    box.gate.set()
    assert {(await one).target for one in asking} == {"new1"}
    assert box.refreshed == 1


# --- whose a URI is


def bearers(**marks: str) -> tuple[Scripted, Scripted, Catalog]:
    """Two with resources on one endpoint."""
    one, two = Scripted("one"), Scripted("two")
    return one, two, catalog_of((one, "one__"), (two, "two__"), marks=marks)


async def owner(catalog: Catalog, uri: str, who: Viewer | None = None) -> tuple[str, str] | None:
    try:
        found = await catalog.find(Kind.RESOURCE, uri, who or viewer())
    except UnknownNameError:
        return None
    return found.provider.name, found.target


async def test_a_link_is_followed_to_who_gave_it_and_by_nobody_else() -> None:
    one, _, catalog = bearers()
    assert await owner(catalog, "memo://linked") is None
    catalog.note_links(["memo://linked"], "two", viewer(ALICE))
    assert await owner(catalog, "memo://linked") == ("two", "memo://linked")
    assert await owner(catalog, "memo://linked", viewer(BOB)) is None
    one.template("memo://{any}")
    catalog.forget(ListChanged("one", Kind.TEMPLATE))
    assert await owner(catalog, "memo://linked") == ("one", "memo://linked")
    gone = catalog_of((Scripted("one"), ""), (Scripted("three"), ""))
    gone.note_links(["memo://linked"], "two", viewer(ALICE))
    assert await owner(gone, "memo://linked") is None


async def test_a_scheme_the_operator_gave_to_somebody_is_theirs() -> None:
    one, two = Scripted("one"), Scripted("two")
    catalog = catalog_of((one, ""), (two, ""), schemes={"memo": "two"})
    assert await owner(catalog, "MEMO://x") == ("two", "MEMO://x")
    assert await owner(catalog, "other://x") is None


async def test_a_mark_says_whose_a_uri_is_and_the_only_other_has_the_rest() -> None:
    one, two, catalog = bearers(two="zwei")
    one.resource("memo://a")
    two.resource("memo://a")
    two.template("memo://days/{day}")
    assert await page(catalog, Kind.RESOURCE) == (["memo://a", "zwei+memo://a"], None)
    assert await page(catalog, Kind.TEMPLATE) == (["zwei+memo://days/{day}"], None)
    assert await owner(catalog, "memo://a") == ("one", "memo://a")
    assert await owner(catalog, "zwei+memo://a") == ("two", "memo://a")
    assert await owner(catalog, "zwei+memo://days/1") == ("two", "memo://days/1")
    assert await owner(catalog, "zwei+other://x") == ("two", "other://x")
    assert await owner(catalog, "ui://zwei/w") == ("two", "ui://w")
    assert await owner(catalog, "memo://days/1") == ("one", "memo://days/1")
    assert not catalog.has_rivals
    found = await catalog.find(Kind.TEMPLATE, "zwei+memo://days/{day}", viewer())
    assert found.target == "memo://days/{day}"


async def test_a_uri_that_is_not_allowed_does_not_exist_on_any_way() -> None:
    box = Scripted()
    box.resource("memo://secret")
    box.resource("memo://open")
    box.template("memo://{any}")

    def allows(*names: str) -> bool:
        return "secret" not in names[0]

    catalog = catalog_of((box, ""), resources=allows)
    assert await page(catalog, Kind.RESOURCE) == (["memo://open"], None)
    assert await owner(catalog, "memo://secret") is None
    assert await owner(catalog, "memo://secret/2") is None
    assert await owner(catalog, "memo://x") == ("box", "memo://x")
    assert catalog.public_uri("box", "memo://secret") is None


async def test_a_resource_of_one_that_is_away_is_not_read_from_another() -> None:
    one, two = Scripted("one"), Scripted("two")
    one.resource("memo://a")
    two.template("memo://{any}")
    clock = Clock()
    catalog = catalog_of((one, ""), (two, ""), clock=clock)
    await page(catalog, Kind.RESOURCE)
    one.condition, one.cache_scope = "missing", "private"
    catalog._last_public.clear()
    catalog.forget(ListChanged("one", Kind.RESOURCE))
    with pytest.raises(UpstreamUnavailableError):
        await catalog.find(Kind.RESOURCE, "memo://a", viewer())
    assert await owner(catalog, "memo://b") == ("two", "memo://b")


async def test_an_update_is_about_the_uri_clients_know_and_only_from_its_owner() -> None:
    one, _, catalog = bearers(two="zwei")
    one.resource("memo://a")
    await page(catalog, Kind.RESOURCE)
    assert catalog.public_uri("one", "memo://a") == "memo://a"
    assert catalog.public_uri("two", "memo://a") == "zwei+memo://a"
    assert catalog.public_uri("nobody", "memo://a") is None
    first, second, plain = bearers()
    first.resource("memo://a")
    second.template("list://{x}")
    assert plain.public_uri("two", "memo://a") == "memo://a"  # nobody is known to have it
    await page(plain, Kind.RESOURCE)
    assert plain.public_uri("two", "memo://a") is None
    await page(plain, Kind.TEMPLATE)
    assert plain.public_uri("one", "list://1") is None
    assert plain.public_uri("two", "list://1") == "list://1"


async def test_only_a_part_that_changed_is_made_anew() -> None:
    one, two = box_with("a", name="one"), box_with("b", name="two")
    kept = (await one.listing(Kind.TOOL, viewer())).entries
    one.fixed = kept
    catalog = catalog_of((one, "one__"), (two, "two__"))
    view = await catalog._view(Kind.TOOL, viewer())
    catalog.forget(ListChanged("two", Kind.TOOL))
    again = await catalog._view(Kind.TOOL, viewer())
    assert again is not view
    assert again.parts[0] is view.parts[0]
    assert again.parts[1] is not view.parts[1]


# --- what a principal may not see


def narrow(*grants: str, **narrowing: tuple[str, ...]) -> Viewer:
    found = [one for word in grants for one in expand(word)]
    return viewer(principal_of("key:narrow", "narrow", found, Narrowing(**narrowing)))


async def names_of(catalog: Catalog, kind: Kind, who: Viewer) -> list[str]:
    reply = await catalog.page(kind, None, who, MODERN)
    [entries] = [one for one in json.loads(reply.result).values() if isinstance(one, list)]
    return [one.get("name") or one["uri"] for one in entries]


async def test_a_list_shows_what_may_be_used_and_the_rest_is_unknown() -> None:
    catalog = catalog_of(
        (box_with("read", "write"), "files__"), (box_with("get", name="web"), "web__")
    )
    reader = narrow("tools:list", "tools:call:files__r*")
    assert await names_of(catalog, Kind.TOOL, reader) == ["files__read"]
    assert await names_of(catalog, Kind.TOOL, viewer()) == [
        "files__read",
        "files__write",
        "web__get",
    ]
    assert catalog.find_known(Kind.TOOL, "files__write", reader) is None
    for name in ("files__write", "web__get", "nothing"):
        with pytest.raises(UnknownNameError) as caught:
            await catalog.find(Kind.TOOL, name, reader)
        assert str(caught.value) == str(UnknownNameError("tool", name))
    assert (await catalog.find(Kind.TOOL, "files__read", reader)).target == "read"


async def test_a_key_for_one_upstream_knows_of_no_other() -> None:
    catalog = catalog_of(
        (box_with("read", name="box"), "files__"), (box_with("get", name="web"), "web__")
    )
    assert await names_of(catalog, Kind.TOOL, narrow("*", upstreams=("web",))) == ["web__get"]


async def test_resources_and_templates_are_narrowed_by_uri() -> None:
    box = Scripted("box")
    box.resource("memo://a/1")
    box.resource("memo://b/1")
    box.template("memo://{day}/x")
    catalog = catalog_of((box, ""))
    reader = narrow("resources:list", "resources:read:memo://a/*")
    assert await names_of(catalog, Kind.RESOURCE, reader) == ["memo://a/1"]
    assert (await catalog.find(Kind.RESOURCE, "memo://a/x", reader)).target == "memo://a/x"
    for uri in ("memo://b/1", "memo://b/x", "other://x"):
        with pytest.raises(UnknownNameError):
            await catalog.find(Kind.RESOURCE, uri, reader)


async def test_a_missing_upstream_is_unknown_to_whoever_may_not_reach_it() -> None:
    down = box_with("read", name="files")
    down.list_failure = UpstreamTimeoutError("files", "silent")
    catalog = catalog_of((down, "files__"), (box_with("get", name="web"), "web__"))
    with pytest.raises(UpstreamUnavailableError):
        await catalog.find(Kind.TOOL, "files__read", viewer())
    with pytest.raises(UnknownNameError):
        await catalog.find(Kind.TOOL, "files__read", narrow("*", upstreams=("web",)))
