"""`mcpServers` of the document: served as upstreams, faults with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from waygate_mcp.config.client_block import client_names, document_notes, path_in_file
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import check_document, parse_document
from waygate_mcp.config.references import KnownSecrets
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigError, ConfigProblem


def settings_with() -> Settings:
    return read_settings({}, env_file=None)


def problems(text: str) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), settings_with())
    return caught.value.problems


THEIRS = """\
upstreams:
  time: {url: http://127.0.0.1:9/mcp}
mcpServers:
  GitHub Server:
    command: npx
    args: [-y, gh]
    env: {TOKEN: "${TOKEN}"}
    autoApprove: [a]
  remote: {type: sse, url: https://x/sse, disabled: true}
endpoints:
  gh: {bind: [github-server]}
"""


def test_servers_in_the_clients_shape_are_served_as_upstreams() -> None:
    document = parse_document(THEIRS.encode(), settings_with())
    assert list(document.upstreams) == ["time", "github-server", "remote"]
    assert document.upstreams["github-server"].env == {"TOKEN": "${env:TOKEN}"}
    assert document.upstreams["remote"].http == "sse"
    assert list(document.enabled_upstreams()) == ["time", "github-server"]
    assert document.bound_providers("gh") == ("github-server",)
    assert client_names(document) == {"GitHub Server": "github-server", "remote": "remote"}


def test_what_is_not_as_it_stands_there_is_noted() -> None:
    names, approve = document_notes(parse_document(THEIRS.encode(), settings_with()))
    assert names == "mcpServers.GitHub Server: is called github-server here"
    assert approve.startswith("mcpServers.GitHub Server.autoApprove: has no effect here")


@pytest.mark.parametrize(
    ("text", "path", "line", "part"),
    [
        ("mcpServers:\n  A b: {command: x}\n  a-b: {command: y}", "mcpServers.a-b", 3,
         "is called `a-b` here, and so is mcpServers.A b"),
        ("upstreams: {a: {command: x}}\nmcpServers:\n  A: {command: y}", "mcpServers.A", 3,
         "and so is upstreams.a"),
        ("plugins: {a: {use: x}}\nmcpServers:\n  A: {command: y}", "mcpServers.A", 3,
         "and so is plugins.a"),
        ("mcpServers:\n  天: {command: y}", "mcpServers.天", 2, "no name of ours"),
        ("mcpServers:\n  a:\n    comand: y\n    command: x", "mcpServers.a.comand", 3,
         "unknown key"),
        ("mcpServers:\n  a:\n    args: [1]\n    command: x", "mcpServers.a.args[0]", 3,
         "expected text, found a whole number"),
        ("mcpServers:\n  a:\n    disabled: true\n    serverUrl: ftp://x", "mcpServers.a.serverUrl", 4,
         "must begin with http:// or https://"),
        ("mcpServers:\n  a:\n    url: http://x\n    args: [a]", "mcpServers.a", 3,
         "`args` belongs to `command`"),
        ("mcpServers:\n  a:\n    command: x\n    includeTools: [a]", "mcpServers.a.includeTools", 4,
         "narrows what may be called"),
        ("mcpServers: [a]", "mcpServers", 1, "expected a mapping"),
        ("mcpServers: {a: 5}", "mcpServers.a", 1, "expected a mapping"),
    ],
)  # fmt: skip
def test_a_fault_of_a_clients_server_has_its_place_there(
    text: str, path: str, line: int, part: str
) -> None:
    (found,) = problems(text)
    assert (found.path, found.line) == (path, line)
    assert part in found.message


def test_a_bound_name_may_be_one_that_was_made() -> None:
    (found,) = problems("mcpServers: {A b: {command: x}}\nendpoints: {e: {bind: [a-c]}}")
    assert (found.path, found.suggestion) == ("endpoints.e.bind[0]", "a-b")


def test_the_block_of_the_page_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "importing.md").read_text(encoding="utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]
    document = parse_document(block.encode(), settings_with())
    assert list(document.upstreams) == ["github-server", "files"]
    assert len(document_notes(document)) == 2


def test_what_is_found_later_has_its_place_in_the_block_as_well(tmp_path: Path) -> None:
    file = tmp_path / "waygate.yaml"
    file.write_text(THEIRS)

    def examine(
        document: Document, folder: Path | None, data_dir: Path, known: KnownSecrets
    ) -> list[ConfigProblem]:
        assert list(document.enabled_upstreams()) == ["time", "github-server"]
        return [
            ConfigProblem("upstreams.github-server.command", "there is no such program"),
            ConfigProblem("upstreams.github-server", "is odd"),
            ConfigProblem("upstreams.time.url", "is odd too"),
        ]

    with pytest.raises(ConfigError) as caught:
        check_document(file, settings_with(), examine)
    assert [(one.path, one.line) for one in caught.value.problems] == [
        ("upstreams.time.url", 2),
        ("mcpServers.GitHub Server", 5),
        ("mcpServers.GitHub Server.command", 5),
    ]


def test_what_is_found_later_has_the_path_of_the_file() -> None:
    text = parse_yaml(
        b"""
upstreams: {own: {command: x}}
mcpServers:
  My Files: {command: x, args: [a, b]}
  web: {serverUrl: 'https://h/'}
  odd: 5
"""
    )
    found = {
        "upstreams.my-files.args[1]": "mcpServers.My Files.args[1]",
        "upstreams.my-files.command": "mcpServers.My Files.command",
        "upstreams.my-files": "mcpServers.My Files",
        "upstreams.web.url": "mcpServers.web.serverUrl",
        "upstreams.own.command": "upstreams.own.command",
        "upstreams.nobody.command": "upstreams.nobody.command",
        "upstreams.odd.command": "upstreams.odd.command",
        "plugins.web.config": "plugins.web.config",
        "": "",
    }
    assert {path: path_in_file(path, text) for path in found} == found
    assert path_in_file("upstreams.x", parse_yaml(b"5")) == "upstreams.x"
