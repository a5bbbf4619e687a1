"""`waygate upstreams`: what is asked, what is shown, how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.exchange import Response
from waygate_mcp.cli import upstreams as module
from waygate_mcp.cli.main import app
from waygate_mcp.cli.probe import Probe
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import UpstreamUnavailableError

TEXT = """\
upstreams:
  alpha: {url: https://x/mcp, era: legacy}
  beta: {command: run, args: [a], enabled: false}
mcpServers:
  Their S: {command: x}
"""
SERVERS = [
    {"name": "alpha", "state": "ready", "transport": "http", "eras": ["legacy", "modern"],
     "revision": "2026-07-28", "latency_s": 0.01234567, "in_flight": 2, "held": 3, "last_error": ""},
    {"name": "beta", "state": "down", "transport": "stdio", "eras": [], "revision": "",
     "latency_s": None, "in_flight": 0, "last_error": "its process\nended"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("waygate.yaml").write_text(TEXT)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["upstreams", *words])


def gateway(
    monkeypatch: pytest.MonkeyPatch,
    body: Any = None,
    status: int = 200,
    failure: Exception | None = None,
) -> list[Any]:
    """Put an answer in the place of a running gateway; give what it is asked."""
    asked: list[Any] = []

    class Transport:
        def __init__(self, origin: str, name: str, *, headers: Sequence[tuple[str, str]]) -> None:
            asked.append((origin, list(headers)))

        async def __aenter__(self) -> Transport:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        @asynccontextmanager
        async def request(
            self, method: str, path: str, headers: object, body_: bytes = b""
        ) -> AsyncIterator[Response]:
            asked.append((method, path))
            if failure is not None:
                raise failure
            pages = body if isinstance(body, list) else [body]
            page = pages[min(len(asked) - 2, len(pages) - 1)]
            data = page if isinstance(page, bytes) else json.dumps(page).encode()
            yield Response(status, chunks=[data])

    monkeypatch.setattr(module, "AiohttpTransport", Transport)
    return asked


def page(*servers: Any, total: Any) -> dict[str, Any]:
    return {"servers": list(servers), "total": total, "page": 1, "limit": 100}


def test_a_running_gateway_is_asked_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_API_KEY", "wg_key")
    pages = [page(SERVERS[0], total=2), page(SERVERS[1], total=2)]
    asked = gateway(monkeypatch, pages)
    result = run("list", "--url", "http://gateway.example:81/mcp")
    assert result.exit_code == 0, result.output
    assert asked == [
        ("http://gateway.example:81", [("authorization", "Bearer wg_key")]), ("GET", "/mcp/servers?page=1&limit=100"),
        ("GET", "/mcp/servers?page=2&limit=100"),
    ]  # fmt: skip
    head, alpha, beta = result.stdout.splitlines()
    assert head.split() == list(module._RUNNING)
    assert alpha.split() == [
        "alpha",
        "ready",
        "http",
        "legacy,",
        "modern",
        "2026-07-28",
        "0.0123",
        "2",
        "3",
        "–",
    ]
    assert beta.split()[:2] == ["beta", "down"]
    assert "its process\\u000aended" in beta, "no server steers the terminal"
    gateway(monkeypatch, page(*SERVERS, total=2))
    assert json.loads(run("list", "--json").stdout) == SERVERS
    gateway(monkeypatch, [page(SERVERS[0], total=9), page(total=9)])
    assert len(json.loads(run("list", "--json").stdout)) == 1, "a page that is empty is the last"


def test_no_upstreams_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway(monkeypatch, page(total=0))
    result = run("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no upstreams\n")
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        (
            {"failure": UpstreamUnavailableError("g", "is not reached")},
            3,
            "--offline reads the document",
        ),
        ({"failure": TimeoutError()}, 3, "did not answer within 10 s"),
        ({"status": 401}, 2, "wants another key: give --key-file"),
        ({"status": 403}, 2, "wants another key"),
        ({"status": 404, "body": {}}, 1, "answers 404 to GET /mcp/servers"),
        ({"body": page(total="x")}, 1, "no list of upstreams"),
        ({"body": b"<html>"}, 1, "no list of upstreams"),
        ({"body": page(5, total=1)}, 1, "no list of upstreams"),
    ],
)
def test_what_goes_wrong_is_said(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], code: int, message: str
) -> None:
    gateway(monkeypatch, **how)
    result = run("list")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_the_document_is_read_offline() -> None:
    head, *rows = run("list", "--offline").stdout.splitlines()
    assert head.split()[:3] == ["name", "enabled", "transport"]
    assert [row.split() for row in rows] == [
        ["alpha", "yes", "http", "https://x/mcp", "legacy", "auto", "upstreams.alpha"],
        ["beta", "no", "stdio", "run", "a", "auto", "auto", "upstreams.beta"],
        ["their-s", "yes", "stdio", "x", "auto", "auto", "mcpServers.Their", "S"],
    ]
    assert json.loads(run("list", "--offline", "--json").stdout)[1]["enabled"] is False
    Path("waygate.yaml").write_text("version: 1")
    assert run("list", "--offline").stderr == "no upstreams\n"
    assert json.loads(run("list", "--offline", "--json").stdout) == []


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def probe(sections: Mapping[str, UpstreamSection], *_: Any) -> list[Probe]:
        names.extend(sections)
        return [Probe(name, problem="is down" if name == "beta" else "") for name in sections]

    monkeypatch.setattr(module, "probe_upstreams", probe)
    return names


def test_all_that_are_enabled_are_tried(tried: list[str]) -> None:
    result = run("test")
    assert result.exit_code == 0, result.output
    assert tried == ["alpha", "their-s"]


def test_one_that_is_named_is_tried_even_if_it_is_off_and_the_exit_code_tells(
    tried: list[str],
) -> None:
    result = run("test", "beta", "alpha")
    assert result.exit_code == 1
    assert tried == ["beta", "alpha"]
    assert "beta: not well: is down" in result.stdout
    result = run("test", "beta", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["problem"] == "is down"


def test_a_name_nothing_has_gets_the_nearest(tried: list[str]) -> None:
    result = run("test", "alpah")
    assert result.exit_code == 2
    assert "did you mean 'alpha'?" in result.stderr
    assert "did you mean" not in run("test", "zzzz").stderr
    assert tried == []


def test_where_none_is_enabled_that_is_said(tried: list[str]) -> None:
    Path("waygate.yaml").write_text("upstreams: {beta: {command: x, enabled: false}}")
    assert run("test").stdout == "no upstream is enabled\n"
    assert json.loads(run("test", "--json").stdout) == []
