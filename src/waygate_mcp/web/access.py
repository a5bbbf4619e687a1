"""What a REST route asks of its caller, and how its answers are described.

Knows permissions as words on routes. Refuses to know who has them: the principal does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import ForbiddenError
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.web.guard import Admission, Guard
from waygate_mcp.web.problems import Problem

__all__ = [
    "FAILURES",
    "Failure",
    "Fault",
    "Needs",
    "admission_of",
    "generation_of",
    "with_scopes",
]


class Needs:
    """The dependency of a route by which a caller without `permission` is refused."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def __call__(self, request: Request) -> None:
        """Refuse who may not.

        Raises:
            ForbiddenError: the permission is missing.
        """
        if not admission_of(request).principal.may(self.permission):
            raise ForbiddenError(permission=self.permission)


class Fault(BaseModel):
    """What went wrong."""

    code: str
    message: str
    details: Any = None
    timestamp: str
    request_id: str


class Failure(BaseModel):
    """The body of every answer that is an error."""

    error: Fault


FAILURES: Mapping[int | str, dict[str, Any]] = {
    401: {"model": Failure, "description": "No valid key"},
    403: {"model": Failure, "description": "The key may not do this"},
    "4XX": {
        "model": Failure,
        "description": "The request is not valid, or what it names is not there",
    },
    "5XX": {"model": Failure, "description": "The server cannot do it now"},
}
"""How the errors of a route are described."""


def with_scopes(problem: Problem, request: Request, permission: str) -> Problem:
    """Let a 403 tell a client with an access token which scopes would permit it, where any would."""
    principal = admission_of(request).principal
    if not isinstance(principal, TokenPrincipal):
        return problem
    resource = generation_of(request).guard.resource
    challenge = resource.lacks(principal, (permission,), DEFAULT_ENDPOINT)
    if challenge is None:
        return problem
    headers = (*problem.headers, (b"www-authenticate", challenge))
    return msgspec.structs.replace(problem, headers=headers)


def admission_of(request: Request) -> Admission:
    """Give what the door found out about a request."""
    admission: Admission = request.state.admission
    return admission


def generation_of(request: Request) -> Generation[Guard]:
    """Give the configuration a request is served by, whatever is in force meanwhile."""
    generation: Generation[Guard] = request.state.generation
    return generation
