"""Secrets planted wherever one can appear, and a gateway that is used well and badly: they come out nowhere.

Searched: the log at debug level, metrics, every answer that is an error or about the gateway itself, the bytes of
the database (file and write-ahead log, or a dump of PostgreSQL), every other file the gateway wrote, the output of
commands, the arguments of processes, and the environment of a child that was granted one secret.
Spec: threat model rules 17, 32 and 33.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.gateway_process import (
    Gateway,
    clean_environment,
    serving,
    waygate,
    write_document,
)
from tests.support.echoing import echoing_upstream
from tests.support.postgres import postgres, programs
from tests.support.vault import FakeVault, vault_server

CHILD = """
import json, os, sys
from pathlib import Path

Path(sys.argv[1]).write_bytes(Path("/proc/self/environ").read_bytes())
print("my environment is", dict(os.environ), file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "child", "version": "1"},
        }
    elif message["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "ping", "inputSchema": {"type": "object"}}]}
    elif message["method"] == "tools/call" and message["params"].get("arguments", {}).get("fail"):
        print("failing with", os.environ["CHILD_SECRET"], file=sys.stderr, flush=True)
        os._exit(3)
    elif message["method"] == "tools/call":
        answer["result"] = {"content": [{"type": "text", "text": "pong"}]}
    else:
        answer["error"] = {"code": -32601, "message": "no " + os.environ["CHILD_SECRET"]}
    print(json.dumps(answer), flush=True)
"""


COMMANDS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "sqlite": (
        ("secrets", "list", "--json"),
        ("secrets", "where", "OF_VAULT"),
        ("check", "--json"),
        ("upstreams", "test", "--json"),
    ),
    "postgresql": (("secrets", "list"),),
}
"""What an operator asks meanwhile; the same of both databases but for where secrets are."""


class Canaries:
    """Texts that stand for secrets, made anew for each run, by where they are planted."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        """Give the canary of a place."""
        return self.texts.setdefault(place, f"cnry{secrets.token_hex(16)}")

    def found_in(self, data: bytes | str) -> list[str]:
        """Give the places whose canary stands in `data`, as it is or in a usual encoding of it."""
        raw = data.encode() if isinstance(data, str) else data
        found = []
        for place, text in self.texts.items():
            forms = {text.encode(), text.encode().hex().encode(), text.encode("utf-16-le")}
            # Base64 of it, at each of the three places it can have in a longer text.
            for pad in range(3):
                coded = base64.b64encode(b"x" * pad + text.encode())
                forms.add(coded[4:-4])
            if any(form in raw for form in forms):
                found.append(place)
        return found


def send(
    url: str, headers: Mapping[str, str], body: bytes | None = None, method: str | None = None
) -> str:
    """Send a request and give all that came back: status, headers, body."""
    request = urllib.request.Request(url, body, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return f"{response.status} {response.headers} {response.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers} {error.read().decode()}"


class Use:
    """A gateway that is used as its clients, its operator and an attacker would."""

    def __init__(self, gateway: Gateway, canaries: Canaries) -> None:
        self.gateway = gateway
        self.canary = canaries
        self.answers: list[str] = []

    def rpc(self, method: str, params: dict[str, Any], **headers: str) -> str:
        """Ask at the MCP door, in the modern era."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            **self.gateway.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if "name" in params:
            sent["mcp-name"] = params["name"]
        answer = send(self.gateway.url, sent, json.dumps(body).encode())
        self.answers.append(answer)
        return answer

    def call(self, name: str, arguments: dict[str, Any] | None = None) -> str:
        """Call a tool."""
        return self.rpc("tools/call", {"name": name, "arguments": arguments or {}})

    def well(self) -> None:
        """What works."""
        assert "echo__fine" in self.rpc("tools/list", {})
        given = {"password": self.canary("argument"), "api_key": self.canary("argument")}
        assert "fine" in self.call("echo__fine", given)
        assert "pong" in self.call("child__ping", given)
        key = {"X-API-Key": str(self.gateway.key)}
        for path in ("/metrics", "/health", "/ready", "/mcp/status", "/mcp/tools", "/mcp/commands"):
            self.answers.append(send(f"{self.gateway.base_url}{path}", key))

    def badly(self) -> None:
        """What does not."""
        for tool in ("http_error", "not_json", "redirect", "rpc_error", "nothing"):
            self.call(f"echo__{tool}", {"token": self.canary("argument")})
        self.call("child__ping", {"fail": True})
        self.call("down__anything")
        self.rpc("resources/read", {"uri": "file:///nothing"})
        base, wrong = self.gateway.url, self.canary("wrong key")
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "password": wrong}).encode()
        for headers in (
            {"Authorization": f"Bearer {wrong}"},
            {"Authorization": f"Basic {base64.b64encode(f'u:{wrong}'.encode()).decode()}"},
            {"Authorization": f"Bearer wg_{'a' * 12}_{wrong}"},
            {"X-API-Key": wrong},
            {"X-API-Key": wrong, **self.gateway.headers},
            {"Cookie": f"session={wrong}", "Proxy-Authorization": f"Bearer {wrong}"},
            {"Mcp-Session-Id": wrong, **self.gateway.headers},
            {"Last-Event-ID": wrong, **self.gateway.headers},
            {"Origin": f"https://{wrong}.example", **self.gateway.headers},
            {"Host": f"{wrong}.example", **self.gateway.headers},
        ):
            sent = {"content-type": "application/json", **headers}
            self.answers.append(send(base, sent, body))
            self.answers.append(send(f"{base}?api_key={wrong}&token={wrong}", sent, body))
        for broken in (b"{" + body, body[:-1], body.replace(b'"ping"', b"5"), b"\xff" + body):
            sent = {"content-type": "application/json", **self.gateway.headers}
            self.answers.append(send(base, sent, broken))


def processes_of(pid: int) -> Iterator[Path]:
    """Give the folders in /proc of a process and of all that descend from it."""
    yield Path(f"/proc/{pid}")
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from processes_of(int(child))


def written_by(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Give every file below a folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file, file.read_bytes()


def run(folder: Path, environment: Mapping[str, str], *words: str, stdin: str = "") -> str:
    """Run a command of ours and give all it wrote."""
    done = subprocess.run(
        [waygate(), *words],
        cwd=folder,
        env=dict(environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return f"{done.stdout}\n{done.stderr}"


def private(file: Path, text: str) -> str:
    """Write a file that only its owner reads."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_planted_secrets_come_out_nowhere(database: str, tmp_path: Path) -> None:
    if database == "postgresql" and programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    canary, folder, hidden = Canaries(), tmp_path / "gateway", tmp_path / "hidden"
    vault = FakeVault()
    vault.tokens = {canary("vault token")}
    vault.secrets["secret/data/waygate/OF_VAULT"] = {"value": canary("of vault")}
    with ExitStack() as stack:
        address = stack.enter_context(vault_server(vault))
        echo = stack.enter_context(echoing_upstream())
        environment = {
            "WAYGATE_LOG_LEVEL": "DEBUG",
            "WAYGATE_SECRET_KEY_FILE": private(hidden / "master", canary("master key")),
            "OF_ENVIRONMENT": canary("of the environment"),
            "NOT_GRANTED": canary("of the gateway alone"),
        }
        if database == "postgresql":
            cluster = stack.enter_context(postgres())
            environment["WAYGATE_DB_URL"] = cluster.make()
        key = canary("api key")
        document = {
            "secrets": {
                "vault": {
                    "address": address,
                    "token": f"${{file:{private(hidden / 'vault', canary('vault token'))}}}",
                }
            },
            "limits": {"call_timeout_s": 20},
            "upstreams": {
                "echo": {
                    "url": f"{echo}?token=${{file:{private(hidden / 'url', canary('url'))}}}",
                    "headers": {
                        "Authorization": "Bearer ${secret:OF_STORE}",
                        "X-One": "${env:OF_ENVIRONMENT}",
                        "X-Two": "${secret:OF_VAULT}",
                    },
                },
                "child": {
                    "command": sys.executable,
                    "args": ["-u", "-c", CHILD, str(tmp_path / "environ")],
                    "env": {"CHILD_SECRET": "${secret:OF_STORE}"},
                    "sandbox": "none",
                },
                "down": {
                    "url": "http://127.0.0.1:9/mcp",
                    "headers": {"Authorization": "Bearer ${secret:OF_STORE}"},
                },
            },
        }
        write_document(folder, document)
        environ = clean_environment(folder, key) | environment
        outputs = [run(folder, environ, "secrets", "set", "OF_STORE", stdin=canary("of the store"))]
        with serving(folder, document, key=key, environment=environment) as gateway:
            use = Use(gateway, canary)
            use.well()
            use.badly()
            for place in processes_of(gateway.process.pid):
                assert canary.found_in((place / "cmdline").read_bytes()) == [], "arguments"
            outputs += [run(folder, environ, *words) for words in COMMANDS[database]]
            metrics = send(f"{gateway.base_url}/metrics", {"X-API-Key": key})
            gateway.wait_for_log("echo")
            dump = b""
            if database == "postgresql":
                dump = subprocess.run(
                    [str(Path(str(programs())) / "pg_dump"), _plain(environment["WAYGATE_DB_URL"])],
                    capture_output=True,
                    timeout=60,
                    check=True,
                ).stdout
                assert b"OF_STORE" in dump
            alive = b"".join(data for _, data in written_by(folder / "data"))
        log = gateway.log()
    assert canary.found_in(log) == []
    assert canary.found_in(metrics) == []
    for answer in use.answers:
        assert canary.found_in(answer) == [], answer
    for output in outputs:
        assert canary.found_in(output) == [], output
    assert canary.found_in(alive + dump) == []
    for file, data in written_by(folder):
        assert canary.found_in(data) == [], file
    granted = canary.found_in((tmp_path / "environ").read_bytes())
    assert granted == ["of the store"], "a child gets what it was granted"


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg", "postgresql")


def test_what_is_searched_for_would_be_found() -> None:
    canary = Canaries()
    text = canary("x")
    for form in (
        text,
        f"Bearer {text}",
        base64.b64encode(f"user:{text}".encode()).decode(),
        quote(text),
        text.encode().hex(),
    ):
        assert canary.found_in(f"before {form} after") == ["x"], form
    assert canary.found_in("nothing") == []
