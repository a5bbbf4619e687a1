"""What an endpoint shows: names, order, pages, who answers for a name, and how long that is kept."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.support.dialogues import person, ring
from tests.support.scripted import Scripted
from tests.support.virtual_time import settle
from waygate_mcp.errors import RpcError, UnknownNameError
from waygate_mcp.gateway.catalog import Catalog, Ground
from waygate_mcp.gateway.name_table import NameTable
from waygate_mcp.gateway.names import UriMark
from waygate_mcp.gateway.offers import Binding, Rules
from waygate_mcp.gateway.seen_links import SeenLinks
from waygate_mcp.model.catalog import Features, Kind, Viewer
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.principal import Principal
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
    clock: Clock | None = None,
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
