from __future__ import annotations

import inspect

from waygate_mcp.toolkit.docstrings import parse_docstring


def parse(text: str) -> tuple[str, dict[str, str]]:
    doc = parse_docstring(inspect.cleandoc(text))
    return doc.text, doc.parameters


def test_an_empty_docstring_says_nothing() -> None:
    assert parse("") == ("", {})


def test_the_args_section_describes_parameters_and_leaves_the_text() -> None:
    text, parameters = parse(
        """Find notes.

        Looks into titles too.

        Args:
            query: What to look for,
                in words.
            limit (int): How many
            *rest: More
            broken line without a colon

        Returns:
            The notes.

        Raises:
            ValueError: never.
        """
    )
    assert text == "Find notes.\n\nLooks into titles too."
    assert parameters == {
        "query": "What to look for, in words.",
        "limit": "How many",
        "rest": "More broken line without a colon",
    }


def test_text_after_a_section_belongs_to_the_text_again() -> None:
    text, parameters = parse("Do it.\n\nArgs:\n    a: One.\n\nNote that it is slow.")
    assert text == "Do it.\n\nNote that it is slow."
    assert parameters == {"a": "One."}


def test_sphinx_fields_describe_parameters_too() -> None:
    text, parameters = parse(
        """Do it.

        :param a: One,
            and more.
        :param int b: Two.
        :returns: Nothing.
            Really.
        :raises ValueError: never.
        """
    )
    assert text == "Do it."
    assert parameters == {"a": "One, and more.", "b": "Two."}


def test_a_colon_in_the_text_begins_no_section() -> None:
    assert parse("Remember: this is text.\nExample: so is this.") == (
        "Remember: this is text.\nExample: so is this.",
        {},
    )
