"""Pages of REST lists: `page` and `limit` of a request, `X-Total-Count` and `Link` of its answer.

Knows how a list is cut and how the way to other pages is written. Refuses to know what is listed.
Spec: RFC 8288; surface.md 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar, overload
from urllib.parse import parse_qsl, urlencode

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["MAX_LIMIT", "Limit", "Page", "PageNumber", "Window", "cut"]

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_PAGE = 1_000_000

PageNumber = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Which page, from 1.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries on a page.")]

T = TypeVar("T")


class Page(BaseModel):
    """What every list says of itself; the entries stand beside it under their own name."""

    model_config = ConfigDict(extra="forbid")

    total: int = Field(description="Entries on all pages together; also in `X-Total-Count`.")
    page: int
    limit: int


class Window(Sequence[T]):
    """A list of which the database gave one page: what `cut` needs, and no more."""

    def __init__(self, total: int, rows: list[T]) -> None:
        self._total = total
        self._rows = rows

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._rows if isinstance(index, slice) else self._rows[index]


def cut(
    entries: Sequence[T], page: int, limit: int, request: Request, response: Response
) -> list[T]:
    """Give the entries of one page, and write into `response` how many there are and where the others.

    A page past the end is empty, and its `Link` leads back.
    """
    total = len(entries)
    last = max(-(-total // limit), 1)
    ways = {"first": 1, "last": last}
    if page > 1:
        ways["prev"] = min(page - 1, last)
    if page < last:
        ways["next"] = page + 1
    response.headers["x-total-count"] = str(total)
    response.headers["link"] = ", ".join(
        f'<{_path(request, number, limit)}>; rel="{relation}"' for relation, number in ways.items()
    )
    response.headers["cache-control"] = "no-store"
    return list(entries[(page - 1) * limit : page * limit])


def _path(request: Request, page: int, limit: int) -> str:
    """Give the same request's path and query for another page; no host, whatever proxies stand here."""
    kept = [
        (name, value)
        for name, value in parse_qsl(request.url.query)
        if name not in ("page", "limit")
    ]
    return f"{request.url.path}?{urlencode([*kept, ('page', page), ('limit', limit)])}"
