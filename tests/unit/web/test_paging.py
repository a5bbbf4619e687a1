"""Pages of lists: what is on one, and the way to the others."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.support.house import scope_of
from waygate_mcp.web.paging import Window, cut


def page_of(
    count: int, page: int, limit: int, path: str = "/mcp/tools"
) -> tuple[list[int], Response]:
    response = Response()
    return cut(range(count), page, limit, Request(scope_of(path)), response), response


def ways(response: Response) -> dict[str, str]:
    """Relation → path of the `Link` header."""
    found = {}
    for each in response.headers["link"].split(", "):
        target, _, relation = each.partition("; rel=")
        found[relation.strip('"')] = target.strip("<>")
    return found


def test_a_page_in_the_middle_leads_both_ways() -> None:
    shown, response = page_of(25, 2, 10)
    assert shown == list(range(10, 20))
    assert response.headers["x-total-count"] == "25"
    assert ways(response) == {
        "first": "/mcp/tools?page=1&limit=10",
        "last": "/mcp/tools?page=3&limit=10",
        "prev": "/mcp/tools?page=1&limit=10",
        "next": "/mcp/tools?page=3&limit=10",
    }


@pytest.mark.parametrize(
    ("count", "page", "limit", "shown", "relations"),
    [
        (0, 1, 10, 0, {"first", "last"}),
        (10, 1, 10, 10, {"first", "last"}),
        (11, 1, 10, 10, {"first", "last", "next"}),
        (11, 2, 10, 1, {"first", "last", "prev"}),
        (3, 9, 1, 0, {"first", "last", "prev"}),
    ],
)
def test_ends_are_ends(count: int, page: int, limit: int, shown: int, relations: set[str]) -> None:
    found, response = page_of(count, page, limit)
    assert len(found) == shown
    assert set(ways(response)) == relations


def test_past_the_end_the_way_back_is_to_the_last_page() -> None:
    _, response = page_of(3, 9, 1)
    assert ways(response)["prev"] == "/mcp/tools?page=3&limit=1"


def test_other_parameters_are_kept_and_written_anew() -> None:
    _, response = page_of(3, 1, 1, "/mcp/tools?limit=1&endpoint=a%3E%22b&page=1")
    assert ways(response)["next"] == "/mcp/tools?endpoint=a%3E%22b&page=2&limit=1"


def test_a_window_is_as_long_as_the_whole_and_holds_one_page() -> None:
    window = Window(30, [{"a": 1}])
    assert len(window) == 30
    assert window[20:30] == [{"a": 1}]
    assert window[0] == {"a": 1}
