"""One upstream in the document: which keys go together, and what is refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from waygate_mcp.config.upstream import UpstreamLimitsSection, UpstreamSection


def problem(section: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        UpstreamSection.model_validate(section)
    return str(caught.value)


def test_a_url_or_a_command_is_all_it_needs() -> None:
    over_http = UpstreamSection.model_validate({"url": "https://example.org/mcp"})
    assert (over_http.http, over_http.network, over_http.era) == ("auto", "public", "auto")
    assert over_http.enabled
    over_stdio = UpstreamSection.model_validate({"command": "npx", "args": ["-y", "x"]})
    assert over_stdio.args == ("-y", "x")
    assert over_stdio.limits == UpstreamLimitsSection()


@pytest.mark.parametrize("section", [{}, {"url": "https://h/", "command": "x"}, {"env": {}}])
def test_neither_and_both_are_refused(section: dict[str, Any]) -> None:
    assert "needs either `url` or `command`" in problem(section)


@pytest.mark.parametrize("key", ["args", "env", "allow_env", "cwd", "sandbox"])
def test_keys_of_a_process_do_not_belong_to_a_url(key: str) -> None:
    values = {"args": [], "env": {}, "allow_env": [], "cwd": "/", "sandbox": "none"}
    assert f"`{key}` belongs to `command`" in problem({"url": "https://h/", key: values[key]})


@pytest.mark.parametrize("key", ["headers", "http", "network"])
def test_keys_of_http_do_not_belong_to_a_command(key: str) -> None:
    values = {"headers": {}, "http": "sse", "network": "private"}
    assert f"`{key}` belongs to `url`" in problem({"command": "x", key: values[key]})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://h/", "must begin with http"),
        ("/mcp", "must begin with http"),
        ("https:///mcp", "must begin with http"),
        ("https://user:hunter2@h/", "must hold no user name or password"),
        ("https://[x/", "Invalid IPv6"),
        ("https://h/" + "x" * 8192, "8192"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused_and_never_shown(url: str, words: str) -> None:
    said = problem({"url": url})
    assert words in said
    assert "hunter2" not in said


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\r\nb", "x" * 257])
def test_names_of_headers_are_checked(name: str) -> None:
    assert "no name of an HTTP header" in problem({"url": "https://h/", "headers": {name: "x"}})


@pytest.mark.parametrize("name", ["Host", "content-type", "MCP-Protocol-Version", "Mcp-Param-X"])
def test_headers_the_gateway_writes_are_not_to_be_set(name: str) -> None:
    said = problem({"url": "https://h/", "headers": {name: "x"}})
    assert "is a header the gateway itself writes" in said


def test_the_old_transport_has_no_modern_era() -> None:
    assert "has no modern era" in problem({"url": "https://h/", "http": "sse", "era": "modern"})


def test_a_url_that_is_a_reference_is_looked_at_when_it_is_resolved() -> None:
    assert UpstreamSection.model_validate({"url": "${env:URL}"}).url == "${env:URL}"


def test_values_in_which_references_may_stand() -> None:
    section = UpstreamSection.model_validate({"command": "x", "args": ["a"], "cwd": "/c"})
    assert section.referring == {
        "url": None, "headers": {}, "command": "x", "args": ("a",), "env": {}, "cwd": "/c",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "ä"])
def test_names_of_variables_are_checked(name: str) -> None:
    words = "no name of an environment variable"
    assert words in problem({"command": "x", "env": {name: "v"}})
    assert words in problem({"command": "x", "allow_env": [name]})


def test_every_limit_has_bounds() -> None:
    for name in UpstreamLimitsSection.model_fields:
        with pytest.raises(ValidationError):
            UpstreamLimitsSection.model_validate({name: -1})
    for name in ("calls", "session_idle_s", "open_timeout_s", "message_bytes", "open_files"):
        with pytest.raises(ValidationError):
            UpstreamLimitsSection.model_validate({name: 10**15})
