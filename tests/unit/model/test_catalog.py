"""Nouns of what providers offer."""

from __future__ import annotations

from waygate_mcp.model.catalog import NameClaim


def test_a_claim_is_about_a_name_of_a_kind_on_an_endpoint() -> None:
    claim = NameClaim("default", "tool", "two__greet", "two", "greet")
    assert claim.key == ("default", "tool", "two__greet")
    assert claim.key == NameClaim("default", "tool", "two__greet", "other", "x").key
    assert claim.key != NameClaim("default", "prompt", "two__greet", "two", "greet").key
