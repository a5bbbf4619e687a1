from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest

from waygate_mcp.errors import UpstreamError, UpstreamProtocolError
from waygate_mcp.model.catalog import Entry, Kind, Listing
from waygate_mcp.upstreams.listing import Bounds, Listings, Page, read_all, read_page

BOUNDS = Bounds()


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def page(*names: str, cursor: str | None = None, ttl: int = 0, scope: Any = "private") -> Page:
    return Page(tuple(raw({"name": name}) for name in names), cursor, ttl, scope)


async def read(
    *pages: Page, kind: Kind = Kind.TOOL, modern: bool = True, bounds: Bounds = BOUNDS
) -> Listing:
    """Read pages whose cursors are their positions."""
    given = dict(enumerate(pages))
    fetched = 0

    async def fetch(cursor: str | None) -> Page:
        nonlocal fetched
        fetched += 1
        assert fetched <= len(pages), "no page is worth fetching twice"
        return given[0 if cursor is None else int(cursor)]

    return await read_all("up", kind, fetch, bounds, is_modern=modern)


def test_a_page_keeps_its_definitions_raw() -> None:
    result = msgspec.Raw(
        b'{"tools":[{"name":"a","n":1.50}],"nextCursor":"","ttlMs":7,"cacheScope":"public","x":1}'
    )
    found = read_page("up", Kind.TOOL, result)
    assert bytes(found.items[0]) == b'{"name":"a","n":1.50}'
    assert (found.cursor, found.ttl_ms, found.cache_scope) == ("", 7, "public")


@pytest.mark.parametrize(
    "result", [[], {}, {"tools": {}}, {"prompts": []}, {"tools": [], "nextCursor": 5},
               {"tools": [], "nextCursor": "x" * 70_000}],
)  # fmt: skip
def test_a_page_that_is_none_is_refused(result: Any) -> None:
    with pytest.raises(UpstreamProtocolError):
        read_page("up", Kind.TOOL, raw(result))


@pytest.mark.parametrize(
    "hints", [{"ttlMs": -1}, {"ttlMs": "x"}, {"ttlMs": True}, {"cacheScope": 5}]
)
def test_hints_without_sense_mean_do_not_cache(hints: dict[str, Any]) -> None:
    found = read_page("up", Kind.TOOL, raw({"tools": [], **hints}))
    assert (found.ttl_ms, found.cache_scope) == (0, "private")


async def test_all_pages_are_read_and_the_strictest_hints_count() -> None:
    listing = await read(
        page("a", cursor="1", ttl=10, scope="public"),
        page("b", "c", cursor="2", ttl=5, scope="public"),
        page("d", ttl=20),
    )
    assert [entry.name for entry in listing.entries] == ["a", "b", "c", "d"]
    assert (listing.ttl_ms, listing.cache_scope) == (5, "private")


@pytest.mark.parametrize(
    ("pages", "bounds", "names"),
    [
        ([page("a", cursor="1"), page("b", cursor="1")], {}, "ab"),
        ([page("a", cursor="1"), page("b", cursor="2"), page("c")], {"pages": 2}, "ab"),
        ([page("a", "b", "c", cursor="1"), page("d")], {"entries": 2}, "ab"),
    ],
)
async def test_a_list_without_end_is_cut_with_a_warning(
    pages: list[Page], bounds: dict[str, int], names: str, caplog: pytest.LogCaptureFixture
) -> None:
    listing = await read(*pages, bounds=Bounds(**bounds))
    assert "".join(entry.name for entry in listing.entries) == names
    assert caplog.records[-1].levelno == logging.WARNING


async def test_the_first_of_two_entries_of_one_name_counts() -> None:
    both = Page((raw({"name": "a", "n": 1}), raw({"name": "a", "n": 2})))
    (entry,) = (await read(both)).entries
    assert json.loads(entry.definition)["n"] == 1


async def test_definitions_without_a_usable_name_are_left_out_one_by_one() -> None:
    items = (raw({}), raw({"name": 5}), raw({"name": ""}), raw({"name": "x" * 9000}), raw([]),
             raw({"name": "good"}))  # fmt: skip
    assert [entry.name for entry in (await read(Page(items))).entries] == ["good"]


@pytest.mark.parametrize(
    ("kind", "member"),
    [(Kind.RESOURCE, "uri"), (Kind.TEMPLATE, "uriTemplate"), (Kind.PROMPT, "name")],
)
async def test_each_kind_is_named_by_its_own_member(kind: Kind, member: str) -> None:
    (entry,) = (await read(Page((raw({member: "x", "name": "x"}),)), kind=kind)).entries
    assert (entry.kind, entry.name) == (kind, "x")


def annotated(annotation: str) -> msgspec.Raw:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": annotation},
            "x-mcp-header": {"type": "string"},
        },
        "anyOf": [{"required": ["region"]}],
    }
    return raw({"name": "t", "inputSchema": schema, "vendor": 1})


async def test_mirrored_arguments_are_found() -> None:
    (entry,) = (await read(Page((annotated("Region"),)))).entries
    assert [param.name for param in entry.header_params] == ["Region"]


async def test_a_bad_annotation_costs_a_modern_upstream_its_tool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listing = await read(Page((annotated("not a token"), raw({"name": "other"}))))
    assert [entry.name for entry in listing.entries] == ["other"]
    assert "left out" in caplog.text


async def test_a_bad_annotation_costs_a_legacy_upstream_the_annotation_only() -> None:
    (entry,) = (await read(Page((annotated("not a token"),)), modern=False)).entries
    definition = json.loads(entry.definition)
    assert entry.header_params == ()
    assert definition["vendor"] == 1
    assert definition["inputSchema"]["properties"] == {
        "region": {"type": "string"}, "x-mcp-header": {"type": "string"}
    }  # fmt: skip
    assert definition["inputSchema"]["anyOf"] == [{"required": ["region"]}]


# --- copies


class Reader:
    """Reads a list that a test changes; counts."""

    def __init__(self) -> None:
        self.names = ["a"]
        self.count = 0
        self.failure: UpstreamError | None = None
        self.gate: asyncio.Event | None = None
        self.ttl_ms = 0

    async def __call__(self) -> Listing:
        self.count += 1
        names = list(self.names)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        entries = tuple(
            Entry(Kind.TOOL, name, json.dumps({"name": name}).encode()) for name in names
        )
        return Listing(entries, 0, self.ttl_ms)


class Kept:
    """Copies with a clock a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.listings = Listings("up", lambda: self.now, poll_s=5.0)
        self.read = Reader()

    async def get(self, viewers: str = "v", *, watched: bool = False) -> Listing:
        return await self.listings.get(Kind.TOOL, viewers, self.read, watched=watched)


async def test_a_copy_is_believed_for_its_time_and_its_version_changes_with_its_content() -> None:
    kept = Kept()
    first = await kept.get()
    kept.now += 4
    again = await kept.get()
    assert kept.read.count == 1
    assert (first.ttl_ms, again.ttl_ms) == (5000, 1000)
    kept.now += 2
    assert (await kept.get()).version == first.version
    assert kept.read.count == 2
    kept.read.names = ["b"]
    kept.now += 6
    assert (await kept.get()).version != first.version


async def test_a_longer_promise_of_the_upstream_is_believed_and_so_is_a_watch() -> None:
    kept = Kept()
    kept.read.ttl_ms = 20_000
    assert (await kept.get()).ttl_ms == 20_000
    assert (await Kept().get(watched=True)).ttl_ms == 60_000


async def test_a_change_makes_every_copy_of_its_kind_stale() -> None:
    kept = Kept()
    await kept.get("v")
    await kept.get("w")
    kept.listings.forget(Kind.PROMPT)
    await kept.get("v")
    assert kept.read.count == 2
    kept.listings.forget(Kind.TOOL)
    await kept.get("v")
    await kept.get("w")
    assert kept.read.count == 4


async def test_a_list_is_read_once_for_all_who_wait_for_it() -> None:
    kept = Kept()
    kept.read.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(kept.get()) for _ in range(5)]
        await asyncio.sleep(0)
        kept.read.gate.set()
    assert kept.read.count == 1
    assert len({id(task.result().entries) for task in tasks}) == 1


async def test_a_reader_that_is_cancelled_lets_the_next_one_read() -> None:
    kept = Kept()
    kept.read.gate = asyncio.Event()
    first = asyncio.get_running_loop().create_task(kept.get())
    await asyncio.sleep(0)
    second = asyncio.get_running_loop().create_task(kept.get())
    await asyncio.sleep(0)
    first.cancel()
    kept.read.gate.set()
    assert [entry.name for entry in (await second).entries] == ["a"]


async def test_a_change_during_reading_is_not_lost() -> None:
    kept = Kept()
    kept.read.gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(kept.get())
    await asyncio.sleep(0)
    kept.listings.forget(Kind.TOOL)
    kept.read.names = ["b"]
    kept.read.gate.set()
    assert [entry.name for entry in (await task).entries] == ["a"]
    assert [entry.name for entry in (await kept.get()).entries] == ["b"]


async def test_a_list_that_fails_is_shown_as_it_was_for_a_day() -> None:
    kept = Kept()
    await kept.get()
    kept.read.failure = UpstreamError("up", "down")
    kept.now += 6
    assert (await kept.get()).ttl_ms == 5000
    kept.now += 24 * 3600
    with pytest.raises(UpstreamError):
        await kept.get()


async def test_a_list_that_never_was_read_fails_and_leaves_nothing_behind() -> None:
    kept = Kept()
    kept.read.failure = UpstreamError("up", "down")
    with pytest.raises(UpstreamError):
        await kept.get()
    assert not kept.listings._locks


async def test_what_is_remembered_of_tools_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.upstreams.listing._KEPT_TOOLS", 3)
    kept = Kept()
    for number in range(20):
        kept.read.names = [str(number)]
        kept.listings.forget(Kind.TOOL)
        await kept.get()
    assert len(kept.listings._header_params) <= 4
    assert kept.listings.header_params("19") == ()


async def test_copies_not_looked_at_are_dropped() -> None:
    kept = Kept()
    for number in range(600):
        await kept.get(str(number))
    assert len(kept.listings._kept) == 512
    assert len(kept.listings._locks) == 512


async def test_what_to_mirror_is_known_of_listed_tools() -> None:
    kept = Kept()
    assert kept.listings.header_params("a") is None
    await kept.get()
    assert kept.listings.header_params("a") == ()
