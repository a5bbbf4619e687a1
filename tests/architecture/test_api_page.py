"""`docs/api.md` says what the code does: its tables are compared with routes, codes and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import open_house, settings_in
from tests.support.routes import api_routes, paths
from tests.support.source_tree import ROOT
from waygate_mcp.auth import bootstrap
from waygate_mcp.gateway.places import Place
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.telemetry import metrics
from waygate_mcp.web import body, connection, guard, health, paging, problems, server
from waygate_mcp.web.access import Needs
from waygate_mcp.web.rest import DOCS_PATHS, OPEN_PATHS, RestDoor

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
RAW = {"/mcp", "/servers/{name}/mcp", "/sse", "/messages/{id}"}


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


async def routes(folder: Path, **more: Any) -> set[str]:
    async with open_house(settings_in(folder, {}, **more)) as house:
        return paths(RestDoor(house).api)


async def test_every_route_is_on_the_page_and_every_row_is_a_route(tmp_path: Path) -> None:
    written = {row[1].strip("`") for row in table("Routes")}
    assert written == RAW | await routes(tmp_path)
    assert written - DOCS_PATHS == RAW | await routes(tmp_path, env="production")


def test_the_page_names_the_open_routes_and_no_others() -> None:
    written = {row[1].strip("`") for row in table("Routes") if row[2] == "–"}
    assert written == OPEN_PATHS | DOCS_PATHS


async def test_the_permission_of_each_route_is_on_the_page(tmp_path: Path) -> None:
    written = {row[1].strip("`"): row[2].strip("`") for row in table("Routes")}
    async with open_house(settings_in(tmp_path, {})) as house:
        asked = {
            route.path: each.call.permission
            for route in api_routes(RestDoor(house).api)
            for each in route.dependant.dependencies
            if isinstance(each.call, Needs)
        }
    assert len(asked) >= 11
    assert {path: written[path] for path in asked} == asked


async def test_the_methods_of_each_route_are_on_the_page(tmp_path: Path) -> None:
    written = {row[1].strip("`"): set(row[0].split()) for row in table("Routes")}
    async with open_house(settings_in(tmp_path, {})) as house:
        found: dict[str, set[str]] = {}
        for route in api_routes(RestDoor(house).api):
            found.setdefault(route.path, set()).update(route.methods)
    assert {path: written[path] for path in found} == found


def test_every_metric_is_on_the_page_with_its_labels_and_meaning() -> None:
    lists = {**metrics.COUNTERS, **metrics.HISTOGRAMS}
    plain = {name: (text, ()) for name, text in metrics.GAUGES.items()}
    up = {
        metrics.UPSTREAM_UP: (metrics.UPSTREAM_UP_TEXT, ("upstream",)),
        metrics.DEFINITIONS_HELD: (metrics.DEFINITIONS_HELD_TEXT, ("upstream",)),
    }
    build = {"build_info": ("1, with the version as labels.", ("version", "python"))}
    wanted = [
        [f"`waygate_{name}`", ", ".join(f"`{label}`" for label in labels) or "–", text]
        for name, (text, labels) in {**lists, **plain, **up, **build}.items()
    ]
    assert table("Metrics") == wanted


def test_the_codes_are_those_of_the_table() -> None:
    assert {int(status): code for status, code in table("Errors")} == dict(problems.CODES)
    assert problems.MISSING_PARAMETER in TEXT


async def test_the_checks_are_those_that_are_made(tmp_path: Path) -> None:
    workplace = Workplace(Place(0, 2), tmp_path, b"")
    settings = settings_in(tmp_path, {}, redis_url=f"unix://{tmp_path}/nobody-listens")
    async with open_house(settings, workplace=workplace) as house:
        made = health.HealthRoutes(house)
        assert {row[0].strip("`") for row in table("Health")} == set(await made.checks())


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (r"\((\d+) of them, (\d+) KiB\)", [guard.MAX_HEADERS, guard.MAX_HEADER_BYTES // 1024]),
        (
            r"within (\d+) s and one second more for each (\d+) KiB",
            [body.BODY_TIMEOUT_S, body.MIN_RATE_BYTES_S // 1024],
        ),
        (
            r"header of a request \| (\d+) KiB, (\d+) s",
            [connection.MAX_HEAD_BYTES // 1024, connection.HEAD_TIMEOUT_S],
        ),
        (r"silence between two requests \| (\d+) s", [server.KEEP_ALIVE_S]),
        (r"before it ended \| (\d+) s", [connection.LINGER_S]),
        (r"more than ([\d.]+) s late", [health.SLOW_LOOP_S]),
        (r"within the last 10 s \| more than (\d+) s", [health.STUCK_LOOP_S]),
        (
            r"takes more than (\d+) s; measured at most every (\d+) s",
            [health.DISK_TIMEOUT_S, health.DISK_KEPT_S],
        ),
        (
            r"`limit` \(1 to (\d+), (\d+) where nothing is said\)",
            [paging.MAX_LIMIT, paging.DEFAULT_LIMIT],
        ),
        (r"At least (\d+) visible ASCII", [bootstrap.MIN_KEY_CHARS]),
    ],
)
def test_the_numbers_are_those_of_the_code(words: str, numbers: list[float]) -> None:
    found = re.search(words, TEXT)
    assert found is not None, f"the page does not say {words}"
    assert [float(number) for number in found.groups()] == numbers
