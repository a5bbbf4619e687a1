"""One revision's rules for every message, in both directions: its own schema, and nothing of another revision.

Schemas of MCP are open: a member they do not know is legal. A message for a reader of one revision must not, however,
carry what only another revision gives a meaning to, so that is looked for as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.support.spec_schemas import definitions, problems

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
MODERN = "2026-07-28"
MODERN_PREFIX = "io.modelcontextprotocol/"

_RESULTS = {
    "initialize": "InitializeResult",
    "server/discover": "DiscoverResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "completion/complete": "CompleteResult",
    "subscriptions/listen": "SubscriptionsListenResult",
    "sampling/createMessage": "CreateMessageResult",
    "elicitation/create": "ElicitResult",
    "roots/list": "ListRootsResult",
}
_MAY_ASK = frozenset({"tools/call", "prompts/get", "resources/read"})
# Members only a modern reader knows in a result, and those of parameters that are no other revision's.
_MODERN_RESULTS = frozenset(
    {"resultType", "ttlMs", "cacheScope", "inputRequests", "requestState", "inputResponses"}
)
# Left alone by protocol.md 4: unknown to 2025-06-18, which ignores it.
_IGNORED = frozenset({"_meta", "mode"})
# `initialize` is written before the revision is agreed.
_UNAGREED = frozenset({"initialize"})


@cache
def types_by_method(revision: str) -> dict[str, str]:
    """The type of each request and notification of a revision, by its method."""
    found: dict[str, str] = {}
    for name, schema in definitions(revision).items():
        method = schema.get("properties", {}).get("method", {}).get("const")
        if method is not None:
            found[method] = name
    return found


@cache
def members_of(revision: str, method: str) -> frozenset[str]:
    """The parameters a revision gives a method; none where it has no such method."""
    known = definitions(revision)
    name = types_by_method(revision).get(method)
    if name is None:
        return frozenset()
    found: set[str] = set()
    open_schemas = [known[name]["properties"].get("params", {})]
    while open_schemas:
        schema = open_schemas.pop()
        found |= set(schema.get("properties", {}))
        open_schemas += schema.get("anyOf", [])
        if "$ref" in schema:
            open_schemas.append(known[schema["$ref"].rpartition("/")[2]])
    return frozenset(found)


@cache
def foreign_members(revision: str, method: str) -> frozenset[str]:
    """The parameters of a method that only other revisions know."""
    elsewhere = frozenset().union(*(members_of(other, method) for other in REVISIONS))
    return elsewhere - members_of(revision, method) - _IGNORED


class Wire:
    """The rules of one revision."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.is_modern = revision == MODERN

    def has(self, method: str) -> bool:
        """Whether the revision has a request or notification of that name."""
        return method in types_by_method(self.revision)

    def problems_of_said(self, message: Mapping[str, Any]) -> list[str]:
        """What the revision has against a request or notification, whoever says it."""
        method = message["method"]
        name = types_by_method(self.revision).get(method)
        if name is None:
            return [f"{self.revision} has no {method}"]
        envelope = "JSONRPCRequest" if "id" in message else "JSONRPCNotification"
        found = problems(self.revision, envelope, message) + problems(self.revision, name, message)
        params = message.get("params", {})
        if method not in _UNAGREED:
            found += [f"{method}: {member} is of another revision"
                      for member in foreign_members(self.revision, method) & set(params)]  # fmt: skip
        return found + self._problems_of_meta(params.get("_meta", {}))

    def problems_of_response(self, message: Mapping[str, Any], method: str) -> list[str]:
        """What the revision has against the response to a request of `method`."""
        is_named_so = self.revision >= "2025-11-25"
        if "error" in message:
            name = "JSONRPCErrorResponse" if is_named_so else "JSONRPCError"
            return problems(self.revision, name, message)
        name = "JSONRPCResultResponse" if is_named_so else "JSONRPCResponse"
        return problems(self.revision, name, message) + self.problems_of_result(
            message["result"], method
        )

    def problems_of_result(self, result: Mapping[str, Any], method: str) -> list[str]:
        """What the revision has against the result of `method`."""
        name = _RESULTS.get(method, "EmptyResult")
        if self.is_modern and method in _MAY_ASK and result.get("resultType") == "input_required":
            name = "InputRequiredResult"
        found = problems(self.revision, name, result)
        if self.is_modern:
            return found
        found += [f"{method}: {member} is modern" for member in _MODERN_RESULTS & set(result)]
        return found + self._problems_of_meta(result.get("_meta", {}))

    def _problems_of_meta(self, meta: Mapping[str, Any]) -> list[str]:
        if self.is_modern:
            return []
        return [f"_meta holds {key}" for key in meta if key.startswith(MODERN_PREFIX)]
