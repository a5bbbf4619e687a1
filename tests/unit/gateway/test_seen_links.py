"""Links seen in results: whose, for whom, how long, how many."""

from __future__ import annotations

import pytest

from waygate_mcp.gateway import seen_links
from waygate_mcp.gateway.seen_links import SeenLinks

ALICE, BOB = b"a" * 16, b"b" * 16


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_link_is_for_who_got_it_and_on_that_endpoint() -> None:
    links = SeenLinks(Clock())
    links.note("default", ALICE, "memo://a", "one")
    assert links.find("default", ALICE, "memo://a") == "one"
    assert links.find("default", BOB, "memo://a") is None
    assert links.find("other", ALICE, "memo://a") is None
    assert links.find("default", ALICE, "memo://b") is None


def test_a_link_is_kept_for_a_day_after_it_was_last_given() -> None:
    clock = Clock()
    links = SeenLinks(clock)
    links.note("default", ALICE, "memo://a", "one")
    clock.now_s = 80_000
    links.note("default", ALICE, "memo://a", "one")
    clock.now_s = 80_000 + 86_399
    assert links.find("default", ALICE, "memo://a") == "one"
    clock.now_s += 1
    assert links.find("default", ALICE, "memo://a") is None


def test_who_gave_a_link_first_keeps_it_until_it_is_too_old() -> None:
    clock = Clock()
    links = SeenLinks(clock)
    links.note("default", ALICE, "memo://a", "one")
    links.note("default", ALICE, "memo://a", "two")
    assert links.find("default", ALICE, "memo://a") == "one"
    clock.now_s = 86_400
    links.note("default", ALICE, "memo://a", "two")
    assert links.find("default", ALICE, "memo://a") == "two"
    assert len(links) == 1


def test_one_principal_loses_its_own_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_links, "MAX_LINKS_OF_ONE", 3)
    links = SeenLinks(Clock())
    links.note("default", BOB, "memo://b", "one")
    for number in range(10):
        links.note("default", ALICE, f"memo://{number}", "one")
    kept = [n for n in range(10) if links.find("default", ALICE, f"memo://{n}")]
    assert kept == [7, 8, 9]
    assert links.find("default", BOB, "memo://b") == "one"
    assert len(links) == 4


def test_all_together_are_bounded_and_who_is_quiet_for_longest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_links, "MAX_LINKS", 3)
    links = SeenLinks(Clock())
    links.note("default", ALICE, "memo://1", "one")
    links.note("default", BOB, "memo://2", "one")
    links.note("default", ALICE, "memo://3", "one")
    links.note("default", ALICE, "memo://4", "one")
    assert links.find("default", BOB, "memo://2") is None
    assert links.find("default", ALICE, "memo://1") == "one"
    assert len(links) == 3


def test_a_uri_nobody_could_ask_for_is_not_kept() -> None:
    links = SeenLinks(Clock())
    links.note("default", ALICE, "memo://" + "x" * 9_000, "one")
    assert len(links) == 0
