"""A plugin with 1,000 tools whose schemas look like those of real servers.

Ten functions with signatures as people write them (descriptions, choices, bounds, nested objects,
lists), each offered for a hundred kinds of things under names of its own. One of the thousand is
`echo`, so that the bench can greet this server as it greets the others.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from waygate_mcp.plugins.api import Toolbox

COUNT = 1_000

box = Toolbox()

Id = Annotated[str, Field(description="Identifier, as `search` and `list` give it.", max_length=64)]
Page = Annotated[int, Field(description="Page of the result, from 1.", ge=1)]
PerPage = Annotated[int, Field(description="Entries on a page.", ge=1, le=100)]


class Period(BaseModel):
    """A span of time."""

    since: str = Field(description="First moment, RFC 3339.")
    until: str | None = Field(None, description="Last moment, RFC 3339; open if absent.")


class Change(BaseModel):
    """One change of one field."""

    field: str = Field(description="Name of the field.")
    value: str | int | bool | None = Field(description="Its new value; null removes it.")


async def search(query: str, page: Page = 1, per_page: PerPage = 30, *, exact: bool = False) -> Any:
    """Search by words, best first. Quote words to find them together; -word excludes."""


async def fetch(
    id: Id, include: list[Literal["history", "comments", "links"]] | None = None
) -> Any:
    """Fetch one by its identifier, with what is attached to it if you ask for it."""


async def list_all(
    state: Literal["open", "closed", "all"] = "open",
    sort: Literal["created", "updated", "name"] = "created",
    page: Page = 1,
    per_page: PerPage = 30,
) -> Any:
    """List those you may see, page by page."""


async def create(
    title: Annotated[str, Field(min_length=1, max_length=256)],
    body: str = "",
    labels: list[str] | None = None,
    assignee: str | None = None,
) -> Any:
    """Create a new one. Gives its identifier and where to find it."""


async def update(id: Id, changes: list[Change], *, notify: bool = True) -> Any:
    """Change fields of one; all changes are made, or none."""


async def remove(id: Id, reason: str | None = None, *, permanently: bool = False) -> Any:
    """Remove one. It can be brought back for thirty days unless removed permanently."""


async def comment(id: Id, text: Annotated[str, Field(max_length=10_000)]) -> Any:
    """Add a comment that everyone who follows it will see."""


async def report(
    period: Period,
    group_by: Literal["day", "week", "month"] = "week",
    form: Literal["table", "chart", "csv"] = "table",
) -> Any:
    """Summarise what happened in a period of time."""


async def subscribe(
    id: Id, events: list[Literal["created", "updated", "removed"]], webhook: str | None = None
) -> Any:
    """Be told when something happens to it."""


async def export(
    period: Period | None = None,
    columns: Annotated[list[str] | None, Field(description="In this order.")] = None,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1_000,
) -> Any:
    """Export as a file. Large exports are prepared in the background."""


async def echo(text: str) -> str:
    """Answer the text unchanged."""
    return text


_VERBS = (search, fetch, list_all, create, update, remove, comment, report, subscribe, export)
_AREAS = ("billing", "chat", "code", "crm", "files", "fleet", "hr", "mail", "shop", "tickets")
_THINGS = (
    "account",
    "branch",
    "channel",
    "deal",
    "folder",
    "invoice",
    "order",
    "route",
    "user",
    "job",
)


def _fill() -> None:
    box.add_tool(echo, structured=False)
    for area in _AREAS:
        for thing in _THINGS:
            for verb in _VERBS:
                if len(box.tools) == COUNT:
                    return
                doc = (verb.__doc__ or "").strip()
                box.add_tool(
                    verb,
                    name=f"{area}_{thing}_{verb.__name__}",
                    title=f"{verb.__name__.replace('_', ' ').capitalize()} {area} {thing}",
                    description=f"{area.capitalize()}, {thing}: {doc}",
                    structured=False,
                )


_fill()
