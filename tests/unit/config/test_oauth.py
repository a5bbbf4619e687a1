"""The section `auth.oauth`: what is taken, what is refused with which words, and what is offered."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.config.load import parse_document
from waygate_mcp.config.oauth import OAuthSection
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError

ISSUER: dict[str, Any] = {"issuer": "https://login.example.org", "grants": {"mcp": ["tools:call"]}}
GOOD = """
server: {public_url: https://mcp.example.org}
auth:
  mode: oauth
  oauth:
    issuers:
      - issuer: https://login.example.org
        grants: {mcp: [tools:call]}
"""


def section(*issuers: dict[str, Any], **more: Any) -> OAuthSection:
    return OAuthSection.model_validate({"issuers": [*issuers] or [ISSUER], **more})


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), Settings(_env_file=None))
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_a_small_section_is_enough() -> None:
    document = parse_document(GOOD.encode(), Settings(_env_file=None))
    assert document.auth.oauth is not None
    (issuer,) = document.auth.oauth.issuers
    assert (issuer.claim, issuer.network, issuer.audience) == ("scope", "public", ())
    assert issuer.token_types == ("at+jwt", "jwt")
    assert document.auth.takes_tokens
    assert not document.auth.takes_keys


@pytest.mark.parametrize(
    ("mode", "keys", "tokens"),
    [("keys", True, False), ("oauth", False, True), ("keys+oauth", True, True)],
)
def test_the_mode_says_which_credentials_let_in(mode: str, keys: bool, tokens: bool) -> None:
    text = GOOD.replace("mode: oauth", f"mode: {mode}")
    if mode == "keys":
        text = "auth: {mode: keys}"
    document = parse_document(text.encode(), Settings(_env_file=None))
    assert (document.auth.takes_keys, document.auth.takes_tokens) == (keys, tokens)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("server: {public_url: 'https://a.example'}\nauth: {mode: oauth}", "auth.mode", "issuers"),
        (GOOD.replace("mode: oauth", "mode: keys"), "auth.oauth", "nobody reads this"),
        (GOOD.replace("server: {public_url: https://mcp.example.org}", ""), "auth.mode", "server.public_url"),
        (GOOD.replace("https://login", "http://login"), "auth.oauth.issuers[0].issuer", "https://"),
        (GOOD.replace("https://login", "https://u:p@login"), "auth.oauth.issuers[0].issuer", "user name"),
        (GOOD.replace("login.example.org", "login.example.org?x=1"), "auth.oauth.issuers[0].issuer", "query"),
        (GOOD.replace("https://login.example.org", "login"), "auth.oauth.issuers[0].issuer", "https://"),
        (GOOD.replace("login.example.org", "logiñ.example.org"), "auth.oauth.issuers[0].issuer", "ASCII"),
        (GOOD.replace("tools:call", "a b"), "auth.oauth.issuers[0].grants.mcp[0]", "the name of a role"),
        (GOOD.replace("tools:call", "viewr"), "auth.oauth.issuers[0].grants.mcp[0]", "no role is named `viewr`"),
        (GOOD.replace("tools:call", "tools:cal"), "auth.oauth.issuers[0].grants.mcp[0]", "did you mean tools:call"),
        (GOOD.replace("{mcp: [tools:call]}", "{}"), "auth.oauth.issuers[0].grants", "at least 1"),
        (GOOD.partition("      - issuer")[0].replace("issuers:", "issuers: []"), "auth.oauth.issuers", "whose access"),
        (GOOD + "    scopes_required: ['a b']\n", "auth.oauth.scopes_required[0]", "one scope"),
        (GOOD + "    scopes_required: ['a\"b']\n", "auth.oauth.scopes_required[0]", "one scope"),
        (GOOD + "        algorithms: [HS256]\n", "auth.oauth.issuers[0].algorithms[0]", "expected RS256"),
        (GOOD + "        token_types: ['AT+JWT']\n", "auth.oauth.issuers[0].token_types[0]", "lower case"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_the_mend(text: str, path: str, words: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(f"{path}: ")
    assert words in found[0]


def test_an_issuer_stands_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        section(ISSUER, ISSUER)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:1"]
)
def test_plain_http_is_for_this_machine(url: str) -> None:
    assert section({**ISSUER, "issuer": url}).issuers[0].issuer == url


def test_an_issuer_is_kept_to_the_letter() -> None:
    url = "https://Tenant.example.org/"
    assert section({**ISSUER, "issuer": url}).issuers[0].issuer == url


def test_what_is_offered_at_first_is_what_every_token_needs() -> None:
    assert section(scopes_required=["a", "b"]).scopes_offered == ("a", "b")


def test_else_what_grants_something_short_of_an_administrators_power() -> None:
    grants = {"read": ["tools:list"], "all": ["*"], "keys": ["admin:keys"], "call": ["tools:call"]}
    by_role = {
        "issuer": "https://two.example",
        "claim": "roles",
        "grants": {"boss": ["tools:list"]},
    }
    found = section({**ISSUER, "grants": grants}, by_role)
    assert found.scopes_offered == ("read", "call")
    assert section(by_role).scopes_offered == ()
    assert not section(by_role).issuers[0].grants_by_scope
