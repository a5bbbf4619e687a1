"""A desktop client's own file taken over, and its three servers from the npm registry called through the gateway.

The servers are the reference ones (files, memory, everything), the caller is the official SDK's client in both eras,
and the programs are the real ones: `waygate import`, `waygate upstreams`, `waygate serve`.
"""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration.gateway_process import KEY, Gateway, clean_environment, serving, waygate
from tests.peers.paths import NODE, NPM, require_peers

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

Era = Literal["legacy", "modern"]
SERVERS = NPM / "node_modules" / "@modelcontextprotocol"
TOKEN = "ghp_" + "k3y0fNobody" * 3
COMMAND_WITHIN_S = 90.0


def desktop_file(folder: Path) -> Path:
    """A file as Claude Desktop keeps it: a program by its path, one by npx, a secret, a client's own switches."""
    folder.mkdir()
    kept = folder / "claude_desktop_config.json"
    files = folder / "Documents"
    files.mkdir()
    (files / "note.txt").write_text("written by a person", encoding="utf-8")
    servers = {
        "Local Files": {
            "command": str(NODE),
            "args": [str(SERVERS / "server-filesystem" / "dist" / "index.js"), str(files)],
        },
        "memory": {
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-memory"],
            # npx takes what is installed where it runs; offline it could take nothing else.
            "cwd": str(NPM),
            "env": {
                "MEMORY_FILE_PATH": str(folder / "memory.jsonl"),
                "npm_config_offline": True,
                "GITHUB_TOKEN": TOKEN,
            },
            "autoApprove": ["read_graph"],
        },
        "everything": {
            "command": str(NODE),
            "args": [str(SERVERS / "server-everything" / "dist" / "index.js")],
            "env": {"GREETING": "from the file"},
            "timeout": 60,
        },
    }
    kept.write_text(
        json.dumps({"mcpServers": servers, "theme": "dark"}, indent=2), encoding="utf-8"
    )
    return kept


def run(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `waygate` with the settings of the gateway in `folder`."""
    command, *rest = words
    return subprocess.run(
        [waygate(), command, *_with_document(folder, rest)],
        cwd=folder,
        env=clean_environment(folder),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
    )


def _with_document(folder: Path, words: list[str]) -> list[str]:
    """Name the document, after the word of a group and before what `--` hides."""
    at = 1 if words[:1] in (["test"], ["list"]) else 0
    return [*words[:at], "-c", str(folder / "waygate.yaml"), *words[at:]]


@dataclass
class Imported:
    """A gateway's folder with what was taken over, and the report of taking it over."""

    folder: Path
    client_folder: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    require_peers()
    folder = tmp_path_factory.mktemp("gateway")
    theirs = folder / "client"
    ran = run(folder, "import", str(desktop_file(theirs)), "--json")
    assert ran.returncode == 0, ran.stderr
    return Imported(folder, theirs, json.loads(ran.stdout))


@pytest.fixture(scope="module")
def gateway(imported: Imported) -> Iterator[Gateway]:
    with serving(imported.folder, None) as running:
        yield running


def test_the_file_is_taken_over_and_nothing_is_lost_silently(imported: Imported) -> None:
    report = imported.report
    assert [(one["theirs"], one["name"], one["action"]) for one in report["servers"]] == [
        ("Local Files", "local-files", "add"),
        ("memory", "memory", "add"),
        ("everything", "everything", "add"),
    ]
    notes = {one["path"]: one["message"] for server in report["servers"] for one in server["notes"]}
    assert set(notes) == {
        "mcpServers.memory.autoApprove",
        "mcpServers.memory.env.GITHUB_TOKEN",
        "mcpServers.everything.timeout",
    }
    assert [one["message"] for one in report["left"]] == ["other settings of the client: theme"]


def test_the_secret_lies_in_the_store_and_nowhere_else(imported: Imported) -> None:
    document = (imported.folder / "waygate.yaml").read_text(encoding="utf-8")
    assert TOKEN not in document
    assert TOKEN not in json.dumps(imported.report)
    assert "GITHUB_TOKEN: ${secret:memory.GITHUB_TOKEN}" in document
    kept = imported.folder / "data" / "secrets" / "memory.GITHUB_TOKEN"
    assert kept.read_text(encoding="utf-8").strip() == TOKEN
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_taking_it_over_again_changes_nothing(imported: Imported) -> None:
    before = (imported.folder / "waygate.yaml").read_bytes()
    ran = run(imported.folder, "import", str(imported.client_folder / "claude_desktop_config.json"))
    assert ran.returncode == 0, ran.stderr
    assert "nothing to write" in ran.stdout
    assert (imported.folder / "waygate.yaml").read_bytes() == before


def test_every_server_is_tried_in_this_process(imported: Imported) -> None:
    ran = run(imported.folder, "upstreams", "test", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    probes = {one["name"]: one for one in json.loads(ran.stdout)}
    assert set(probes) == {"local-files", "memory", "everything"}
    for probe in probes.values():
        assert (probe["well"], probe["transport"], probe["eras"]) == (True, "stdio", ["legacy"])
        assert probe["took_s"] > 0
        assert probe["latency_s"] is not None
    # What it lists depends on what a client can be asked: the tools that ask are among them.
    assert probes["everything"]["counts"]["tools"] > 15
    assert probes["memory"]["counts"]["tools"] == 9


@dataclass
class Person:
    """Who sits at the client: answers forms and plays the model."""

    asked: list[str] = field(default_factory=list)

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Ada", "check": True})

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.asked.append(f"a story of {params.max_tokens}")
        said = types.TextContent(type="text", text="Once upon a time.")
        return types.CreateMessageResult(role="assistant", content=said, model="a-model")


async def connect(stack: AsyncExitStack, gateway: Gateway, era: Era, person: Person) -> Client:
    http = await stack.enter_async_context(create_mcp_http_client(dict(gateway.headers)))
    client = Client(
        streamable_http_client(gateway.url, http_client=http),
        mode="auto" if era == "modern" else "legacy",
        elicitation_callback=person.elicit,
        sampling_callback=person.sample,
    )
    await stack.enter_async_context(client)
    return client


async def said(client: Client, tool: str, **arguments: Any) -> str:
    async with asyncio.timeout(60):
        result = await client.call_tool(tool, arguments)
    text = "\n".join(one.text for one in result.content if isinstance(one, types.TextContent))
    assert not result.is_error, text
    return text


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_all_three_are_called_by_an_official_client(
    gateway: Gateway, imported: Imported, era: Era
) -> None:
    with warnings.catch_warnings():
        # Sampling is deprecated in the newest revision, and still has to work.
        warnings.simplefilter("ignore")
        async with AsyncExitStack() as stack:
            person = Person()
            client = await connect(stack, gateway, era, person)
            revision = str(client.protocol_version)
            assert revision == ("2026-07-28" if era == "modern" else "2025-11-25")

            note = imported.client_folder / "Documents" / "note.txt"
            text = await said(client, "local-files__read_text_file", path=str(note))
            assert "written by a person" in text
            made = imported.client_folder / "Documents" / f"{era}.txt"
            await said(client, "local-files__write_file", path=str(made), content="by a model")
            assert made.read_text(encoding="utf-8") == "by a model"

            entity = {"name": f"Ada {era}", "entityType": "person", "observations": ["likes tea"]}
            await said(client, "memory__create_entities", entities=[entity])
            assert "likes tea" in await said(client, "memory__open_nodes", names=[f"Ada {era}"])

            assert "Echo: hello" in await said(client, "everything__echo", message="hello")
            assert "from the file" in await said(client, "everything__get-env")
            person.asked.clear()
            answer = await said(client, "everything__trigger-elicitation-request")
            assert person.asked == ["Please provide inputs for the following fields:"]
            assert "Ada" in answer
            person.asked.clear()
            answer = await said(
                client, "everything__trigger-sampling-request", prompt="A story", maxTokens=77
            )
            assert person.asked == ["a story of 77"]
            assert "Once upon a time." in answer


def test_what_the_servers_see_of_the_gateway_is_not_its_key(
    gateway: Gateway, imported: Imported
) -> None:
    async def environment() -> str:
        async with AsyncExitStack() as stack:
            client = await connect(stack, gateway, "modern", Person())
            return await said(client, "everything__get-env")

    seen = json.loads(asyncio.run(environment()))
    assert KEY not in json.dumps(seen)
    assert TOKEN not in json.dumps(seen), "a secret of one server was given to another"
    assert not [name for name in seen if name.startswith("WAYGATE_") and name != "WAYGATE_CHILD"]


def test_servers_are_added_tried_and_taken_out_by_hand(tmp_path: Path) -> None:
    require_peers()
    document = tmp_path / "waygate.yaml"
    everything = str(SERVERS / "server-everything" / "dist" / "index.js")
    ran = run(tmp_path, "add", "every", "--env", "A=b", "--", str(NODE), everything)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    created, tried, *_ = ran.stdout.splitlines()
    assert created.endswith("created with the upstream every")
    assert tried.startswith("every: well · stdio · legacy (2025-11-25) · ")
    before = document.read_bytes()

    ran = run(tmp_path, "add", "broken", "--", str(NODE), str(tmp_path / "none.js"))
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "broken: not well" in ran.stdout
    assert "Cannot find module" in ran.stdout, "the last words of a program are the best hint"
    ran = run(tmp_path, "upstreams", "test")
    assert ran.returncode == 1
    assert "every: well" in ran.stdout
    assert run(tmp_path, "remove", "broken").returncode == 0
    assert document.read_bytes() == before


def test_the_clients_own_block_is_served_where_it_stands(tmp_path: Path) -> None:
    require_peers()
    everything = str(SERVERS / "server-everything" / "dist" / "index.js")
    block = {"GitHub Server": {"command": str(NODE), "args": [everything], "alwaysAllow": ["echo"]}}
    plugins = {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}}

    async def echo(gateway: Gateway) -> str:
        async with AsyncExitStack() as stack:
            client = await connect(stack, gateway, "modern", Person())
            return await said(client, "github-server__echo", message="from the block")

    with serving(tmp_path, {"mcpServers": block, "plugins": plugins}) as gateway:
        assert "Echo: from the block" in asyncio.run(echo(gateway))
    log = gateway.log()
    assert "note: mcpServers.GitHub Server: is called github-server here" in log
    assert "note: mcpServers.GitHub Server.alwaysAllow: has no effect here" in log


def test_a_server_over_http_that_wants_a_key_is_added_with_one(
    gateway: Gateway, tmp_path: Path
) -> None:
    refused = run(tmp_path, "add", "other", gateway.url)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "other: not well: " in refused.stdout
    assert "mend: waygate add other URL --secret-header Authorization --force" in refused.stdout
    words = ("add", "other", gateway.url, "--force", "--secret-header", "Authorization")
    ran = run(tmp_path, *words, stdin=f"{KEY}\n")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "other: well · http · modern (2026-07-28) · " in ran.stdout
    assert KEY not in (tmp_path / "waygate.yaml").read_text(encoding="utf-8") + ran.stdout


def test_commands_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    words = [
        ("add", f"s{number}", f"https://{number}.example.org/mcp", "--no-test")
        for number in range(4)
    ]
    with ThreadPoolExecutor(len(words)) as pool:
        ran = list(pool.map(lambda one: run(tmp_path, *one), words))
    done = [one[1] for one, outcome in zip(words, ran, strict=True) if outcome.returncode == 0]
    refused = [outcome.stderr for outcome in ran if outcome.returncode]
    assert done
    assert all("do it again" in text for text in refused), refused
    listed = run(tmp_path, "upstreams", "list", "--offline", "--json")
    assert sorted(one["name"] for one in json.loads(listed.stdout)) == sorted(done)


def test_a_running_gateway_tells_how_its_upstreams_are(
    gateway: Gateway, imported: Imported
) -> None:
    words = ("upstreams", "list", "--url", gateway.base_url)
    ran = run(imported.folder, *words, "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    servers = {one["name"]: one for one in json.loads(ran.stdout)}
    assert set(servers) == {"local-files", "memory", "everything"}
    for one in servers.values():
        assert (one["state"], one["transport"], one["eras"]) == ("ready", "stdio", ["legacy"])
    table = run(imported.folder, *words)
    assert table.returncode == 0, table.stderr
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["name", *servers]
