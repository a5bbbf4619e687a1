"""Challenges and metadata, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tokens import ISSUER
from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.config.document import Document
from waygate_mcp.web.problems import BEARER_CHALLENGE
from waygate_mcp.web.resource import METADATA_PATH, Resource, endpoint_of_metadata, resource_of

PERMISSIONS = {
    "read": frozenset({"tools:list"}),
    "call": frozenset({"tools:call", "tools:list"}),
    "all": frozenset({"*"}),
}
WHERE = 'resource_metadata="https://a.example/.well-known/oauth-protected-resource/mcp"'


def resource(*required: str, permissions: Any = PERMISSIONS) -> Resource:
    return Resource("https://a.example", [ISSUER], required, required, permissions)


def principal(*permissions: str, scopes: tuple[str, ...] = ()) -> TokenPrincipal:
    return TokenPrincipal(
        "oauth:x",
        "x",
        frozenset(permissions),
        issuer=ISSUER,
        scopes=frozenset(scopes),
        endpoints=None,
        expires_at_s=0.0,
    )


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        (METADATA_PATH, ""),
        (f"{METADATA_PATH}/mcp", "default"),
        (f"{METADATA_PATH}/servers/a-b/mcp", "a-b"),
        (f"{METADATA_PATH}/servers/A/mcp", None),
        (f"{METADATA_PATH}/servers/a/mcp/", None),
        (f"{METADATA_PATH}/", None),
        ("/mcp", None),
    ],
)
def test_paths_of_metadata(path: str, endpoint: str | None) -> None:
    assert endpoint_of_metadata(path) == endpoint


def test_where_no_tokens_are_taken_the_challenge_is_that_of_keys() -> None:
    for is_invalid in (True, False):
        assert Resource().challenge("default", is_invalid=is_invalid) == BEARER_CHALLENGE
    assert not resource_of(Document()).takes_tokens


def test_without_scopes_none_are_named() -> None:
    found = resource()
    assert (
        found.challenge("default", is_invalid=False).decode() == f'Bearer realm="waygate", {WHERE}'
    )
    assert "scopes_supported" not in found.metadata("default")


def test_the_scope_that_grants_least_is_asked_for() -> None:
    found = resource("base")
    text = found.lacks(principal(), ["tools:list"], "default")
    assert text is not None
    assert 'scope="base read"' in text.decode()
    text = found.lacks(
        principal("tools:list"), ["tools:list", "tools:call", "metrics:read"], "default"
    )
    assert text is not None
    assert 'scope="base call all"' in text.decode(), "all at once"
    assert WHERE in text.decode()


def test_nothing_is_asked_for_where_nothing_is_missing_or_nothing_helps() -> None:
    assert resource().lacks(principal("*"), ["tools:call"], "default") is None
    assert resource().lacks(principal(), [], "default") is None
    narrow = resource(permissions={"read": frozenset({"tools:list"})})
    assert narrow.lacks(principal(), ["tools:list", "tools:call"], "default") is None


def test_scopes_every_token_must_have() -> None:
    found = resource("a", "b")
    assert found.lacks_required(principal(scopes=("a", "b", "c")), "default") is None
    text = found.lacks_required(principal("*", scopes=("a",)), "dev")
    assert text is not None
    assert 'scope="a b"' in text.decode()
    assert "/servers/dev/mcp" in text.decode()


def test_issuers_that_grant_by_scope_add_up_and_roles_are_no_scopes() -> None:
    issuers = [
        {"issuer": "https://one.example", "grants": {"s": ["tools:list"]}},
        {"issuer": "https://two.example", "claim": "scp", "grants": {"s": ["tools:call"]}},
        {"issuer": "https://three.example", "claim": "roles", "grants": {"boss": ["metrics:read"]}},
    ]
    document = Document.model_validate(
        {
            "server": {"public_url": "https://a.example"},
            "auth": {"mode": "oauth", "oauth": {"issuers": issuers}},
        }
    )
    found = resource_of(document)
    assert found.metadata("")["authorization_servers"] == [each["issuer"] for each in issuers]
    assert found.lacks(principal(), ["tools:call"], "default") is not None
    assert found.lacks(principal(), ["metrics:read"], "default") is None
