"""Nouns of what providers offer."""

from __future__ import annotations

from waygate_mcp.model.catalog import Features, NameClaim
from waygate_mcp.protocol.tasks import TASKS_EXTENSION, LegacyTasks


def test_a_claim_is_about_a_name_of_a_kind_on_an_endpoint() -> None:
    claim = NameClaim("default", "tool", "two__greet", "two", "greet")
    assert claim.key == ("default", "tool", "two__greet")
    assert claim.key == NameClaim("default", "tool", "two__greet", "other", "x").key
    assert claim.key != NameClaim("default", "prompt", "two__greet", "two", "greet").key


def test_a_provider_has_tasks_where_clients_of_any_revision_may_get_some() -> None:
    assert Features(tasks=LegacyTasks(calls=True)).has_tasks
    assert Features(extensions=(TASKS_EXTENSION,)).has_tasks
    assert not Features(tools=True, extensions=("x.example/y",)).has_tasks
    assert not Features(tasks=LegacyTasks(cancels=True)).has_tasks
