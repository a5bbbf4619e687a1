"""Other makers' gateways before the echo upstream, each started from its published package.

Knows how each is installed, started, given its upstream and called. What one cannot do (an era it does
not speak, sessions it does not keep) is written down here, and it has no part in those pairs.
"""

import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import settings
from calls import WAIT_S, WrongAnswerError
from run import say
from servers import HERE, Running, Spec, started

NAMES = ("fastmcp", "contextforge", "contextforge-tuned")
CONTEXTFORGE = HERE / ".venv-contextforge/bin"
START_S = 240.0
"""ContextForge makes its database before it listens, which takes its time on a busy machine."""
MAIL = "admin@example.com"

NEEDED = {
    "SSRF_ALLOW_LOCALHOST": "true",
    "RATE_LIMITING_ENABLED": "false",
    "PLATFORM_ADMIN_EMAIL": MAIL,
}
"""What ContextForge cannot be measured without: the upstream is on loopback, and by default it
answers 100 calls a minute and refuses the rest."""

_SECRETS = ("AUTH_ENCRYPTION_SECRET", "BASIC_AUTH_PASSWORD", "PLATFORM_ADMIN_PASSWORD")
_OFF = (
    "MCPGATEWAY_UI_ENABLED", "MCPGATEWAY_ADMIN_API_ENABLED", "MCPGATEWAY_A2A_ENABLED",
    "MCPGATEWAY_CATALOG_ENABLED", "LLMCHAT_ENABLED", "PLUGINS_ENABLED", "OBSERVABILITY_ENABLED",
    "ENABLE_METRICS", "AUDIT_TRAIL_ENABLED", "SECURITY_LOGGING_ENABLED",
    "STRUCTURED_LOGGING_ENABLED", "STRUCTURED_LOGGING_DATABASE_ENABLED", "CORRELATION_ID_ENABLED",
    "DB_METRICS_RECORDING_ENABLED", "MCPGATEWAY_PERFORMANCE_NET_CONNECTIONS_ENABLED",
    "COMPRESSION_ENABLED", "PERFORMANCE_TRACKING_ENABLED", "TOKEN_USAGE_LOGGING_ENABLED",
)  # fmt: skip
TUNED = {
    **dict.fromkeys(_OFF, "false"),
    "AUTH_REQUIRED": "false",
    "LOG_LEVEL": "ERROR",
    "CACHE_TYPE": "memory",
    "HTTPX_MAX_CONNECTIONS": "200",
    "HTTPX_MAX_KEEPALIVE_CONNECTIONS": "100",
    "HTTPX_KEEPALIVE_EXPIRY": "30",
    "AUTH_CACHE_ENABLED": "true",
    "REGISTRY_CACHE_ENABLED": "true",
    "TOOL_LOOKUP_CACHE_ENABLED": "true",
    "JSON_RESPONSE_ENABLED": "true",
    "USE_STATEFUL_SESSIONS": "true",
}
"""The profile of its tuning guide for serving MCP only, plus no authentication, no access log, and
sessions: this version keeps its session with the upstream only for a client that has one itself. In
memory is what the guide keeps in Redis, since there is one process."""


@dataclass(frozen=True)
class Place:
    """Where a contender answers: its process, the path, and the tool's name there.

    `upstream` counts the calls that reach it, if it is HTTP. Without `has_sessions` a legacy client
    gets no session and calls without one.
    """

    name: str
    server: Running
    path: str = "/mcp"
    upstream: Running | None = None
    key: str = ""
    tool: str = "echo"
    has_sessions: bool = True


class Others:
    """Starts other makers' gateways, each once for each upstream it is put before."""

    def __init__(
        self,
        stack: ExitStack,
        who: settings.Interpreters,
        core: int,
        upstreams: Mapping[str, Running],
        child: list[str],
    ) -> None:
        self._stack = stack
        self._who = who
        self._core = core
        self._upstreams = upstreams
        self._child = child
        self._up: dict[tuple[str, str], Place] = {}

    def place(self, name: str, era: str, behind: str) -> Place | None:
        """The gateway of this name before this upstream; None where it does not speak both eras."""
        if name != "fastmcp" and (era, behind) != ("legacy", "legacy"):
            return None  # ContextForge speaks nothing newer than 2025-11-25, to either side
        if (name, behind) not in self._up:
            say(f"  starting {name} before the {behind} upstream")
            start = self._fastmcp if name == "fastmcp" else self._contextforge
            self._up[name, behind] = start(name, behind)
        return self._up[name, behind]

    def _fastmcp(self, name: str, behind: str) -> Place:
        command = [str(self._who.peers), str(HERE / "fastmcp_proxy.py"), "--port", "{port}"]
        to = self._upstreams.get(behind)
        if to is None:
            command += ["--stdio", *self._child]
        else:
            command += ["--to", f"http://127.0.0.1:{to.target.port}/mcp"]
        server = started(self._stack, Spec(name, tuple(command)), self._core)
        return Place(name, server, upstream=to)

    def _contextforge(self, name: str, behind: str) -> Place:
        to = self._upstreams[behind]
        is_tuned = name == "contextforge-tuned"
        secret = secrets.token_hex(32)
        environment = {
            **NEEDED,
            **(TUNED if is_tuned else {}),
            "JWT_SECRET_KEY": secret,
            **{name: secrets.token_hex(16) + "-Aa1" for name in _SECRETS},
        }
        key = token(environment)
        command = [str(CONTEXTFORGE / "mcpgateway"), "--host", "127.0.0.1", "--port", "{port}"]
        if is_tuned:
            command.append("--no-access-log")
        spec = Spec(name, tuple(command), environment, key=key)
        server = started(self._stack, spec, self._core, START_S)
        return register(server, to, is_tuned=is_tuned)


def token(environment: dict[str, str]) -> str:
    """A key of its administrator, made by ContextForge's own tool.

    Raises:
        WrongAnswerError: ContextForge is not installed, or its tool failed.
    """
    python = CONTEXTFORGE / "python"
    if not python.exists():
        raise WrongAnswerError("ContextForge is missing: python bench/gateway.py --install")
    command = [str(python), "-m", "mcpgateway.utils.create_jwt_token", "--admin"]
    command += ["--username", MAIL, "--exp", "600", "--secret", environment["JWT_SECRET_KEY"]]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        done = subprocess.run(
            command, env={"PATH": os.environ["PATH"], **environment}, cwd=folder,
            capture_output=True, text=True, check=False, timeout=START_S,
        )  # fmt: skip
    if done.returncode or not done.stdout.strip():
        raise WrongAnswerError(f"ContextForge's key: {done.stderr[-500:]}")
    return done.stdout.split()[-1]


def register(server: Running, to: Running, *, is_tuned: bool) -> Place:
    """Give ContextForge its upstream, and a virtual server with the one tool, through its own API."""
    url = f"http://127.0.0.1:{to.target.port}/mcp"
    given = {"name": "bench", "url": url, "transport": "STREAMABLEHTTP"}
    ask(server, "POST", "/v1/gateways", given)
    tools = ask(server, "GET", "/v1/tools")
    if [tool["originalName"] for tool in tools] != ["echo"]:
        raise WrongAnswerError(f"{server.spec.name}: its tools are {tools}")
    made = {"server": {"name": "bench", "associated_tools": [tools[0]["id"]]}}
    virtual = ask(server, "POST", "/v1/servers", made)
    path = f"/servers/{virtual['id']}/mcp"
    key = "" if is_tuned else server.target.key
    return Place(server.spec.name, server, path, to, key, tools[0]["name"], has_sessions=is_tuned)


def ask(server: Running, method: str, path: str, body: object = None) -> Any:
    """One request of a server's own API, its JSON answer.

    Raises:
        WrongAnswerError: it refused.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=WAIT_S)
    headers = {"Authorization": f"Bearer {server.target.key}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    if response.status not in (200, 201):
        name = server.spec.name
        raise WrongAnswerError(f"{name}: {method} {path}: status {response.status}: {said[:500]!r}")
    return json.loads(said)


def install() -> None:
    """FastMCP beside the SDK in bench/.venv, ContextForge in an environment of its own."""
    for folder, wanted in (
        (".venv", "requirements.txt"),
        (".venv-contextforge", "requirements-contextforge.txt"),
    ):
        subprocess.run([sys.executable, "-m", "venv", str(HERE / folder)], check=True)
        pip = [str(HERE / folder / "bin/python"), "-m", "pip", "install", "-q", "-r"]
        subprocess.run([*pip, str(HERE / wanted)], check=True)


def versions(names: list[str]) -> dict[str, object]:
    """What ContextForge runs on, where it takes part."""
    if not any(name.startswith("contextforge") for name in names):
        return {}
    packages = ("mcp-contextforge-gateway", "mcp", "uvicorn", "uvloop", "httptools", "pydantic")
    return {"contextforge": settings.versions(CONTEXTFORGE / "python", packages)}
