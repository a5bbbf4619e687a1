"""From the document to the issuers whose tokens are taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.virtual_time import now, pass_time, virtual_time
from waygate_mcp.auth.issuers import audiences_for, granted_by, open_issuers
from waygate_mcp.auth.jwks import KeySets, KeySource
from waygate_mcp.config.document import Document
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import UpstreamProtocolError
from waygate_mcp.model.permissions import Grant
from waygate_mcp.runtime.tasks import TaskSupervisor

ISSUER: dict[str, Any] = {
    "issuer": "https://login.example.org",
    "grants": {"mcp": ["tools:call", "tools:list"], "none": []},
}


def document(*issuers: dict[str, Any], **more: Any) -> Document:
    return Document.model_validate(
        {
            "server": {"public_url": "https://mcp.example.org"},
            "auth": {"mode": "oauth", "oauth": {"issuers": list(issuers), **more}},
            "endpoints": {"default": {}, "dev": {}},
        }
    )


def test_a_token_must_name_an_endpoint_or_the_whole_server() -> None:
    found = document(ISSUER)
    assert found.auth.oauth is not None
    assert audiences_for(found, found.auth.oauth.issuers[0]) == {
        "https://mcp.example.org": None,
        "https://mcp.example.org/": None,
        "https://mcp.example.org/mcp": "default",
        "https://mcp.example.org/servers/dev/mcp": "dev",
    }


def test_configured_audiences_stand_for_all_endpoints_and_alone() -> None:
    found = document({**ISSUER, "audience": ["api://mcp"]})
    assert found.auth.oauth is not None
    assert audiences_for(found, found.auth.oauth.issuers[0]) == {"api://mcp": None}


def test_without_a_public_url_no_audience_is_good() -> None:
    found = document(ISSUER).model_copy(update={"server": Document().server})
    assert found.auth.oauth is not None
    assert audiences_for(found, found.auth.oauth.issuers[0]) == {}


def test_a_value_grants_what_is_written() -> None:
    found = document(ISSUER)
    assert found.auth.oauth is not None
    granted = granted_by(found.auth.oauth.issuers[0], {})
    assert granted == {"mcp": (Grant("tools:call"), Grant("tools:list")), "none": ()}


def test_a_value_may_grant_a_role_and_one_nobody_defined_grants_nothing() -> None:
    words = {"ops": ["operator", "tools:call:files__*"], "lost": ["gone"], "all": ["*"]}
    found = document({**ISSUER, "grants": words})
    assert found.auth.oauth is not None
    roles = roles_of({})
    granted = granted_by(found.auth.oauth.issuers[0], roles)
    assert granted["ops"] == (*roles["operator"], Grant("tools:call", "files__*"))
    assert granted["lost"] == ()
    assert granted["all"] == (Grant("*"),)


@virtual_time
async def test_each_issuer_is_opened_with_its_own_rules_and_its_keys_are_on_the_way() -> None:
    asked: list[KeySource] = []

    async def fetch(source: KeySource) -> Any:
        asked.append(source)
        raise UpstreamProtocolError("issuer", "nothing")

    other = {
        **ISSUER,
        "issuer": "https://two.example",
        "network": "private",
        "algorithms": ["ES256"],
    }
    told = document(ISSUER, other, leeway_s=5, keys_outage_s=60)
    async with TaskSupervisor() as supervisor:
        first, second = open_issuers(told, KeySets(supervisor, now, fetch))
        await pass_time(1)
    assert (first.name, first.outage_s, first.rules.leeway_s) == (ISSUER["issuer"], 60, 5)
    assert first.claim == "scope"
    assert "HS256" not in first.rules.algorithms
    assert second.rules.algorithms == {"ES256"}
    assert [(source.issuer, source.allows_private) for source in asked] == [
        (ISSUER["issuer"], False),
        ("https://two.example", True),
    ]


def test_a_document_without_the_section_has_no_issuers() -> None:
    sets: Any = None
    assert open_issuers(Document(), sets) == ()


@pytest.mark.parametrize("wrong", ["HS256", "none"])
def test_shared_secrets_cannot_be_configured(wrong: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        document({**ISSUER, "algorithms": [wrong]})
