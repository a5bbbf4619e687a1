"""`/admin/v1/config`: the document, what another would change, putting one in force, and those there were.

Knows how that is asked for and answered. Refuses to know the rules; `runtime.config_desk` does. The text of a
document is shown with its references, and without secrets that stand in it in clear.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.changes import Change as Difference
from waygate_mcp.config.yaml_text import MAX_BYTES
from waygate_mcp.errors import ConfigError, ConfigProblem, InvalidArgumentsError, PluginError
from waygate_mcp.model.applied import AppliedDocument
from waygate_mcp.runtime.clear_secrets import without_secrets
from waygate_mcp.runtime.config_desk import (
    Applied,
    ApplyBrokenError,
    DocumentChangedError,
    NotKeptError,
    Wish,
    desk_of,
)
from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Needs, admission_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, Window, cut
from waygate_mcp.web.problems import Refused

__all__ = ["InForceNow", "WantedChange", "explained", "in_force", "router", "wish_of"]

Digest = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="`digest` of the document in force that this was planned against."),
]
Text = Annotated[
    str,
    StringConstraints(max_length=MAX_BYTES),
    Field(description="A whole document, YAML or JSON; kept and written as it is, comments too."),
]
Reason = Annotated[
    str,
    StringConstraints(max_length=500),
    Field(description="Why, for those who read the history."),
]


class InForce(BaseModel):
    """The document in force."""

    digest: str = Field(description="SHA-256 of its text; what a change is planned against.")
    generation: int = Field(description="Number of the configuration in force in this process.")
    text: str = Field(
        description="As it stands in the file; `(secret)` for one that stands there in clear."
    )
    masked: bool = Field(description="Whether secrets in clear were taken out of `text`.")
    file_is_same: bool = Field(
        description="Whether the file holds that document; where not, it was edited and not loaded."
    )


class ProblemShown(BaseModel):
    """One thing wrong with a document."""

    path: str
    message: str
    line: int | None
    column: int | None
    suggestion: str | None = Field(description="The nearest known word.")


class ChangeShown(BaseModel):
    """One difference to the document in force; a list counts as one value."""

    kind: Literal["added", "removed", "changed"]
    path: str = Field(description="Such as `upstreams.files` or `limits.page_size`.")
    old: Any
    new: Any


class Planned(BaseModel):
    """What a document would change, and what is wrong with it."""

    valid: bool
    digest: str = Field(description="Of the document that was sent.")
    based_on: str = Field(description="Of the document in force; give it to put this one in force.")
    problems: list[ProblemShown]
    changes: list[ChangeShown] = Field(description="Against the document in force, in its order.")
    omitted: bool = Field(description="Whether there are more changes than are shown.")
    notes: list[str] = Field(description="What is worth knowing and no problem.")


class Proposal(BaseModel):
    """A document to look at."""

    model_config = ConfigDict(extra="forbid")

    text: Text


class WantedChange(BaseModel):
    """A change of the document in force."""

    model_config = ConfigDict(extra="forbid", strict=True)

    based_on: Digest
    reason: Reason = ""


class WantedDocument(WantedChange):
    """A document to put in force."""

    text: Text


class Return(WantedChange):
    """A document of the history to put in force again."""

    number: int = Field(ge=1, le=2**62)


class Entry(BaseModel):
    """A document that was put in force."""

    number: int
    digest: str
    applied_at: datetime
    applied_by: str = Field(description="Who did; `file` where it was edited by hand.")
    reason: str
    masked: bool = Field(
        description="Whether its text was not kept whole: it held secrets in clear."
    )


class WholeEntry(Entry):
    """The same with its text."""

    text: str


class EntryList(Page):
    """One page of documents that were put in force, newest first."""

    entries: list[Entry]


class InForceNow(BaseModel):
    """What was put in force, in this process and soon in all others."""

    entry: Entry
    generation: int
    changes: list[ChangeShown]
    omitted: bool


class ConfigRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def show(self, response: Response) -> InForce:
        """Give the document in force."""
        desk = desk_of(self._house)
        digest, text, generation = desk.digest, desk.text, self._house.current().number
        shown = await asyncio.to_thread(without_secrets, text)
        response.headers["cache-control"] = "no-store"
        response.headers["etag"] = f'"{digest}"'
        return InForce(
            digest=digest,
            generation=generation,
            text=shown,
            masked=shown != text,
            file_is_same=not desk.has_file or await desk.file_digest() == digest,
        )

    async def plan(self, response: Response, proposal: Proposal) -> Planned:
        """Say what a document would change and what is wrong with it, as `waygate check` does."""
        plan = await desk_of(self._house).plan(proposal.text)
        response.headers["cache-control"] = "no-store"
        return Planned(
            valid=not plan.problems,
            digest=plan.digest,
            based_on=plan.base,
            problems=[_problem(one) for one in plan.problems],
            changes=_changes(plan.changes),
            omitted=plan.omitted,
            notes=list(plan.notes),
        )

    async def apply(
        self, request: Request, response: Response, wanted: WantedDocument
    ) -> InForceNow:
        """Put a document in force and into its file: all of it or nothing."""
        async with explained(self._house):
            wish = wish_of(request, wanted.based_on, wanted.reason)
            done = await desk_of(self._house).apply(wanted.text, wish)
        return in_force(response, done)

    async def roll_back(self, request: Request, response: Response, wanted: Return) -> InForceNow:
        """Put a document of the history in force again, and into the file."""
        async with explained(self._house):
            wish = wish_of(request, wanted.based_on, wanted.reason)
            done = await desk_of(self._house).roll_back(wanted.number, wish)
        return in_force(response, done)

    async def history(
        self, request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
    ) -> EntryList:
        """List the documents that were put in force, newest first."""
        desk = desk_of(self._house)
        total, found = await desk.history(skip=(page - 1) * limit, limit=limit)
        shown = cut(Window(total, found), page, limit, request, response)
        return EntryList(entries=list(map(_entry, shown)), total=total, page=page, limit=limit)

    async def entry(self, response: Response, number: int) -> WholeEntry:
        """Give one document that was put in force."""
        found = await desk_of(self._house).entry(number)
        response.headers["cache-control"] = "no-store"
        return WholeEntry(**_entry(found).model_dump(), text=found.text)


@asynccontextmanager
async def explained(house: House[Guard]) -> AsyncIterator[None]:
    """Word what keeps a document from being in force, for who asked for it.

    Raises:
        Refused: 409 where it was planned against another document, 503 where it cannot be written.
        InvalidArgumentsError: it is not valid, or cannot be opened.
    """
    clean = house.logs.redactor.text
    try:
        yield
    except DocumentChangedError as exc:
        raise Refused(409, "document_changed", _said("The document", exc)) from exc
    except NotKeptError as exc:
        raise Refused(409, "document_not_kept", _said("It cannot be put back:", exc)) from exc
    except ApplyBrokenError as exc:
        raise Refused(503, "document_not_written", _said("The document", exc)) from exc
    except ConfigError as exc:
        raise InvalidArgumentsError([clean(str(one)) for one in exc.problems]) from exc
    except PluginError as exc:
        raise InvalidArgumentsError([clean(str(exc))]) from exc


def router(house: House[Guard]) -> APIRouter:
    """Give the routes, for one house."""
    routes = ConfigRoutes(house)
    made = APIRouter(
        prefix="/config",
        tags=["configuration"],
        dependencies=[Depends(Needs("admin:config"))],
        responses={**FAILURES},
    )
    add = made.add_api_route
    add("", routes.show, summary="The document in force")
    add("/plan", routes.plan, methods=["POST"], summary="What a document would change")
    add("/apply", routes.apply, methods=["POST"], summary="Put a document in force")
    add("/history", routes.history, summary="Documents that were put in force")
    add("/history/{number}", routes.entry, summary="One of them")
    add("/rollback", routes.roll_back, methods=["POST"], summary="Put one in force again")
    return made


def wish_of(request: Request, base: str, reason: str) -> Wish:
    """Say who wants a change, and why."""
    admission = admission_of(request)
    return Wish(base, admission.principal.id, reason, admission.request_id)


def in_force(response: Response, done: Applied) -> InForceNow:
    """Answer what was put in force."""
    response.headers["cache-control"] = "no-store"
    return InForceNow(
        entry=_entry(done.entry),
        generation=done.generation,
        changes=_changes(done.changes),
        omitted=done.omitted,
    )


def _entry(entry: AppliedDocument) -> Entry:
    return Entry(
        number=entry.number,
        digest=entry.digest,
        applied_at=entry.applied_at,
        applied_by=entry.applied_by,
        reason=entry.reason,
        masked=entry.is_masked,
    )


def _problem(problem: ConfigProblem) -> ProblemShown:
    return ProblemShown(
        path=problem.path,
        message=problem.message,
        line=problem.line,
        column=problem.column,
        suggestion=problem.suggestion,
    )


def _changes(changes: Sequence[Difference]) -> list[ChangeShown]:
    return [ChangeShown(kind=one.kind, path=one.path, old=one.old, new=one.new) for one in changes]


def _said(subject: str, error: ConfigError) -> str:
    return f"{subject} {error.problems[0].message}."
