from __future__ import annotations

import pytest

from tests.support.spec_schemas import definitions
from waygate_mcp.protocol.log_levels import LOG_LEVELS, is_loud_enough
from waygate_mcp.protocol.versions import REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_levels_are_those_of_every_revision(revision: str) -> None:
    assert set(LOG_LEVELS) == set(definitions(revision)["LoggingLevel"]["enum"])


def test_a_message_passes_at_its_own_level_and_below() -> None:
    levels = list(LOG_LEVELS)
    for level in levels:
        passed = [minimum for minimum in levels if is_loud_enough(level, minimum)]
        assert passed == levels[: levels.index(level) + 1]


def test_a_client_that_wants_none_gets_none() -> None:
    assert not any(is_loud_enough(level, None) for level in LOG_LEVELS)


@pytest.mark.parametrize(("level", "minimum"), [("loud", "debug"), ("error", "loud"), ("", "")])
def test_an_unknown_level_passes_nothing(level: str, minimum: str) -> None:
    assert not is_loud_enough(level, minimum)
