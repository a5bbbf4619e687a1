"""Names that could be taken for others."""

from __future__ import annotations

import pytest

from waygate_mcp.model.look_alikes import look_alike, plain_form


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gr\u0435et", "letters that look like those of A-Z"),
        ("\u0441\u043e\u0440\u0443", "letters that look like those of A-Z"),
        ("\u0251dd", "letters that look like those of A-Z"),
        ("\uff47et", "letters that have a plainer form"),
        ("\ufb01nd", "letters that have a plainer form"),
        ("e\u0301", "letters that have a plainer form"),
        ("get_\u0434\u0430\u043d\u043d\u044b\u0435", "a mixture of alphabets (CYRILLIC, LATIN)"),
    ],
)
def test_a_name_that_looks_like_another_is_unfit(name: str, reason: str) -> None:
    assert look_alike(name) == reason


@pytest.mark.parametrize(
    "name",
    [
        "greet",
        "\u00e9t\u00e9",
        "\u043f\u043e\u0438\u0441\u043a",
        "\u65e5\u672cGreet",
        "\u03b3\u03ac\u03c4\u03b1",
    ],
)
def test_a_language_of_its_own_is_fit(name: str) -> None:
    assert look_alike(name) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("read_fi1e", "read_file"), ("readfiIe", "readfile"), ("cornmit", "commit"), ("a-b.c d", "a_b_c_d"),
     ("svvap", "swap"), ("l0gin", "login"), ("Read", "read"), ("r\u0435ad", "read"), ("\uff47et", "get")],
)  # fmt: skip
def test_names_that_look_alike_have_one_plain_form(one: str, other: str) -> None:
    assert plain_form(one) == plain_form(other)


def test_names_that_look_different_have_two() -> None:
    assert len({plain_form(name) for name in ("read", "reed", "reads", "write")}) == 4
