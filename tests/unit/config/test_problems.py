"""Findings in our words: place, path, what is expected, nearest word, never the value."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from waygate_mcp.config.document import Document
from waygate_mcp.config.problems import describe, known_keys, translate
from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigProblem

CANARY = "canary-9d1e"
NAME = "expected 1 to 63 of `a-z 0-9 _ -`, beginning with a letter or digit"
UNDERSCORES = "a name may not hold `__` or end in `_`, which stand between name and tool"
USE = "expected `module`, `./file.py`, either with `:attribute`, or the name of an entry point"


def problems(text: str) -> tuple[ConfigProblem, ...]:
    parsed = parse_yaml(text.encode())
    with pytest.raises(ValidationError) as caught:
        Document.model_validate(parsed.value)
    return translate(caught.value, Document, parsed)


def only(text: str) -> ConfigProblem:
    (problem,) = problems(text)
    return problem


def test_an_unknown_key_has_its_full_path_its_place_and_the_nearest_key() -> None:
    problem = only("endpoints:\n  dev:\n    bind: ['*']\n    tols: {}\n")
    assert (problem.path, problem.line, problem.column) == ("endpoints.dev.tols", 4, 5)
    assert (problem.message, problem.suggestion) == ("unknown key", "tools")


def test_an_unknown_key_nothing_is_near_to_gets_all_known_ones() -> None:
    problem = only("auth: {qqqqqq: 1}")
    assert problem.message == "unknown key; known here: mode, oauth"
    assert problem.suggestion is None


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("limits: {page_size: abc}", "limits.page_size", "expected a whole number, found text"),
        ("limits: {page_size: 1.5}", "limits.page_size", "expected a whole number, found a number"),
        ("limits: {page_size: true}", "limits.page_size", "expected a whole number, found true or false"),
        ("limits: {page_size: '5'}", "limits.page_size", "expected a whole number, found text"),
        ("limits: {call_timeout_s: x}", "limits.call_timeout_s", "expected a number, found text"),
        ("limits: {call_timeout_s: 0}", "limits.call_timeout_s", "must be more than 0"),
        ("limits: {call_timeout_s: 3601}", "limits.call_timeout_s", "must be at most 3600"),
        ("limits: {sessions_max: 0}", "limits.sessions_max", "must be at least 1"),
        ("limits: {stream_bytes: 268435457}", "limits.stream_bytes", "must be at most 268435456"),
        ("limits: []", "limits", "expected a mapping (key: value), found a list"),
        ("limits:", "limits", "expected a mapping (key: value), found nothing"),
        ("server: {http_sse: 'yes'}", "server.http_sse", "expected true or false, found text"),
        ("server: {allowed_hosts: x}", "server.allowed_hosts", "expected a list, found text"),
        ("server: {allowed_hosts: [1]}", "server.allowed_hosts[0]", "expected text, found a whole number"),
        ("plugins: {a: {}}", "plugins.a.use", "is required"),
        ("plugins: {a: x}", "plugins.a", "expected a mapping (key: value), found text"),
        ("plugins: {a: {use: x, config: 1.5}}", "plugins.a.config", "expected a mapping (key: value), found a number"),
        ("plugins: {A: {use: x}}", "plugins.A", NAME),
        ("plugins: {a__b: {use: x}}", "plugins.a__b", UNDERSCORES),
        ("plugins: {a: {use: 'x y'}}", "plugins.a.use", USE),
        ("endpoints: {a: {bind: [A]}}", "endpoints.a.bind[0]", "expected the name of a plugin, or `*`"),
        ("endpoints: {a: {tools: {allow: ['']}}}", "endpoints.a.tools.allow[0]", "is shorter than 1 characters"),
        ("endpoints: {a: {prefixes: {x: Y}}}", "endpoints.a.prefixes.x", NAME.replace("1 to", "at most")),
        ("version: 2", "version", "expected 1, found a whole number"),
        ("version: '1'", "version", "expected 1, found another word"),
        ("[]", "", "expected a mapping (key: value), found a list"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_is_expected(text: str, path: str, message: str) -> None:
    problem = only(text)
    assert (problem.path, problem.message) == (path, message)
    assert problem.line == 1


def test_a_misspelt_word_gets_the_nearest() -> None:
    assert only("auth: {mode: nonee}").suggestion == "none"


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    found = problems("limits: {page_size: x}\nauth: {mod: keys}\nversion: 3\n")
    assert [problem.path for problem in found] == ["limits.page_size", "auth.mod", "version"]
    assert [problem.line for problem in found] == [1, 2, 3]


def test_a_list_that_is_too_long_is_told_by_its_bound() -> None:
    items = ", ".join(f"h{n}" for n in range(1001))
    assert "more than 1000 entries" in only(f"server: {{allowed_hosts: [{items}]}}").message


def test_no_value_stands_in_a_problem() -> None:
    text = f"""
server: {{public_url: {CANARY}, allowed_hosts: ["{CANARY}/"], metrics: {CANARY}, http_sse: {CANARY}}}
auth: {{mode: {CANARY}}}
limits: {{page_size: {CANARY}}}
plugins: {{a: {{use: "{CANARY} x", config: {CANARY}, enabled: {CANARY}}}}}
endpoints: {{a: {{bind: ["{CANARY} x"], prefix: {CANARY}, instructions: [{CANARY}]}}}}
"""
    assert len(problems(text)) == 12
    assert all(CANARY not in str(problem) for problem in problems(text))


def test_known_keys_are_those_of_the_mapping_at_a_path() -> None:
    assert known_keys(Document, ("endpoints", "x", "prompts")) == ("allow", "deny")
    assert known_keys(Document, ("plugins", "x", "config")) == ()
    assert known_keys(Document, ("nowhere", "x")) == ()


def test_a_kind_of_finding_without_words_of_ours_keeps_pydantics() -> None:
    with pytest.raises(ValidationError) as caught:
        Document.model_validate_json("{")
    message, suggestion = describe(caught.value.errors()[0])
    assert "JSON" in message
    assert suggestion is None
