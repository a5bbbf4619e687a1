"""Secrets planted wherever one can appear, and a gateway that is used well and badly: they come out nowhere.

Searched: the log at debug level, metrics, every answer that is an error or about the gateway itself, every answer of
the admin API to a GET, the bytes of the database (file and write-ahead log, or a dump of PostgreSQL), a backup and all
in it, the exported journal, every other file the gateway wrote, the output of commands, the arguments and environments
of processes. Texts of keys may stand in the one answer that made them. (There are no traces; what a caller sends for
one is planted.)
Spec: threat model rules 17, 32 and 33.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import secrets
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from typer.testing import CliRunner

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
from waygate_mcp.cli.main import app

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


@functools.cache
def forms_of(text: str) -> frozenset[bytes]:
    """Give what a text looks like where it stands, as it is or in a usual encoding.

    Of a text with odd characters the part before them is enough: escapes in URLs, JSON and logs leave it as it is.
    """
    whole = text.encode()
    plain = whole[: len(re.match("[A-Za-z0-9]*", text)[0])]  # type: ignore[index]
    assert len(plain) >= 16, "a shorter one may stand there by chance"
    forms = {
        plain,
        plain.hex().encode(),
        plain.hex().upper().encode(),
        plain.decode().encode("utf-16-le"),
    }
    forms |= {"".join(f"%{byte:{case}}" for byte in plain).encode() for case in ("02x", "02X")}
    # Base64 of it in both alphabets, at each of the three places it can have in a longer text.
    for pad in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"x" * pad + whole)[4:-4])
    return frozenset(forms)


class Canaries:
    """Texts that stand for secrets, made anew for each run, by where they are planted."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def __call__(self, place: str, odd: str = "") -> str:
        """Give the canary of a place; `odd` are characters in its middle that encodings change."""
        return self.texts.setdefault(
            place, f"cnry{secrets.token_hex(16)}{odd}{secrets.token_hex(16) if odd else ''}"
        )

    def found_in(self, data: bytes | str) -> list[str]:
        """Give the places whose canary stands in `data`, as it is or in a usual encoding of it."""
        raw = data.encode() if isinstance(data, str) else data
        found = []
        for place, text in self.texts.items():
            if any(form in raw for form in forms_of(text)):
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
            {"Traceparent": f"00-{wrong}-01", "Tracestate": f"a={wrong}", **self.gateway.headers},
        ):
            sent = {"content-type": "application/json", **headers}
            self.answers.append(send(base, sent, body))
            self.answers.append(send(f"{base}?api_key={wrong}&token={wrong}", sent, body))
        for broken in (b"{" + body, body[:-1], body.replace(b'"ping"', b"5"), b"\xff" + body):
            sent = {"content-type": "application/json", **self.gateway.headers}
            self.answers.append(send(base, sent, broken))

    def administer(self) -> str:
        """What its operator does over HTTP, well and badly; gives the id of a key that was made."""
        sent = {"content-type": "application/json", **self.gateway.headers}
        base = f"{self.gateway.base_url}/admin/v1"

        def made(path: str, body: dict[str, Any], place: str) -> str:
            answer = send(f"{base}{path}", sent, json.dumps(body).encode())
            new = json.loads(answer[answer.index("{") :])
            self.canary.texts[place] = new["key"].split("_", 2)[2]  # what is secret of it
            return str(new["id"])

        id_ = made("/keys", {"name": "one", "roles": ["viewer"]}, "a key that was made")
        made(f"/keys/{id_}/rotate", {}, "a key that was rotated")
        wrong = self.canary("wrong key")
        for path, body in (
            ("/keys", {"name": "two", "roles": ["viewer"], "password": wrong}),
            ("/keys", {"name": "two", "roles": [{"token": wrong}]}),
            ("/keys", {"name": "two", "roles": ["viewer"], "expires_in": wrong}),
            ("/keys/none/rotate", {"overlap": 5, "secret": wrong}),
            ("/approvals/decisions", {"definitions": [{"digest": wrong}]}),
        ):
            refused = send(f"{base}{path}", sent, json.dumps(body).encode())
            if "expires_in" not in body:  # a span that is none is shown to whoever wrote it
                self.answers.append(refused)
            assert refused.startswith("4"), (path, refused)
        self.answers.append(send(f"{base}/keys", sent, b"{" + wrong.encode()))
        return id_

    def shown(self, id_: str) -> None:
        """Ask for everything the admin API has to show."""
        described = send(f"{self.gateway.base_url}/openapi.json", self.gateway.headers)
        paths = json.loads(described[described.index("{") :])["paths"]
        asked = [path for path, how in paths.items() if path.startswith("/admin/") and "get" in how]
        assert len(asked) >= 5, asked
        for path in asked:
            url = f"{self.gateway.base_url}{path.replace('{id}', id_)}?limit=100"
            if path.endswith("/explain"):
                url += f"&key={id_}&name=echo__fine"
            answer = send(url, self.gateway.headers)
            assert answer.startswith(("200", "400", "404")), (url, answer)
            self.answers.append(answer)


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


def inside(file: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file in a backup; a dump of PostgreSQL, which is compressed, as the statements it holds."""
    with tarfile.open(file) as archive:
        for member in archive:
            data = archive.extractfile(member)
            assert data is not None
            text = data.read()
            if member.name.endswith(".dump"):
                tool = str(Path(str(programs())) / "pg_restore")
                text = subprocess.run(
                    [tool, "--file=-"], input=text, capture_output=True, timeout=60, check=True
                ).stdout
                assert b"OF_STORE" in text
            yield member.name, text


def told(environment: Mapping[str, str], *words: str) -> str:
    """Run a command of ours in this process, which is sooner done, and give all it wrote."""
    result = CliRunner().invoke(app, words, env=dict(environment))
    assert result.exit_code in (0, 1), (words, result.output)
    return f"{result.output}\n{result.stderr}"


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
            "NOT_GRANTED": canary("of the gateway alone", odd="/+= &"),
        }
        if database == "postgresql":
            cluster = stack.enter_context(postgres())
            environment["WAYGATE_DB_URL"] = cluster.make()
        key = canary("api key", odd="/+=&%~")
        document = {
            "secrets": {
                "vault": {
                    "address": address,
                    "token": f"${{file:{private(hidden / 'vault', canary('vault token'))}}}",
                }
            },
            "limits": {"call_timeout_s": 20},
            "audit": {"clear_arguments": ["*"]},
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
        outputs = [
            run(
                folder,
                environ,
                "secrets",
                "set",
                "OF_STORE",
                stdin=canary("of the store", odd="/+=&;~"),
            )
        ]
        with serving(folder, document, key=key, environment=environment) as gateway:
            use = Use(gateway, canary)
            use.well()
            use.badly()
            id_ = use.administer()
            for place in processes_of(gateway.process.pid):
                assert canary.found_in((place / "cmdline").read_bytes()) == [], "arguments"
                if place.name != str(gateway.process.pid):
                    given = set(canary.found_in((place / "environ").read_bytes()))
                    assert given <= {"of the store"}, "a child gets what it was granted"
            outputs += [run(folder, environ, *words) for words in COMMANDS[database]]
            outputs.append(run(folder, environ, "backup", str(tmp_path / "copy.tar")))
            at = ("--url", gateway.base_url, "--key-file", private(hidden / "key", key))
            outputs += [
                told(environ, "explain", id_, "echo__fine", *at),
                told(environ, "explain", id_, "echo__fine", "--json", *at),
                told(environ, "audit", "export"),
                told(environ, "audit", "export", "--format", "cef"),
                told(environ, "audit", "tail", "--lines", "1000"),
            ]
            assert "echo__fine" in outputs[-3], "calls are in the journal"
            assert "keys.rotate" in outputs[-2], "acts are in the journal"
            assert "arguments" in outputs[-3], "and their arguments, redacted"
            use.shown(id_)
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
    assert canary.found_in((tmp_path / "copy.tar").read_bytes()) == []
    members = dict(inside(tmp_path / "copy.tar"))
    assert any(name.startswith("data/audit/") for name in members)
    for name, data in members.items():
        assert canary.found_in(data) == [], name
    granted = canary.found_in((tmp_path / "environ").read_bytes())
    assert granted == ["of the store"], "a child gets what it was granted"


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg", "postgresql")


def test_what_is_searched_for_would_be_found() -> None:
    canary = Canaries()
    text = canary("x", odd='/+= &"é')
    for form in (
        text,
        f"Bearer {text}",
        base64.b64encode(f"user:{text}".encode()).decode(),
        base64.urlsafe_b64encode(f"users:{text}".encode()).decode(),
        json.dumps({"a": text}),
        quote(text, safe=""),
        quote_plus(text),
        "".join(f"%{byte:02X}" for byte in text.encode()),
        text.encode().hex(),
    ):
        assert canary.found_in(f"before {form} after") == ["x"], form
    assert canary.found_in("nothing") == []


def test_what_is_in_a_backup_would_be_found(tmp_path: Path) -> None:
    canary = Canaries()
    with tarfile.open(tmp_path / "copy.tar", "w") as archive:
        data = canary("x").encode()
        member = tarfile.TarInfo("data/audit/x.jsonl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    assert [(name, canary.found_in(text)) for name, text in inside(tmp_path / "copy.tar")] == [
        ("data/audit/x.jsonl", ["x"])
    ]
