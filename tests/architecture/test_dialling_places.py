"""Every module that dials somebody stands in the matrix of guarded dialling, or below with the reason why not.

The list is read from the code: whatever in `net` comes to a socket, by however many steps, is a way out, and whoever
calls one dials. A new way out, or a new caller of one, fails here until it is tried against every address
(`tests/support/dialling_places.py`). That nobody but `net` has sockets is another guard's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.guards import CLIENT_LIBRARIES, SOCKET_CALLS, SOCKET_VERBS
from tests.support.dialling_places import COMMANDS, MODULES, PLACES
from tests.support.source_tree import Module, modules, type_of_function

# Client libraries that `net` does not replace: whoever loads one dials by it.
OTHER_CLIENTS = frozenset({
    "redis", "asyncpg", "psycopg", "psycopg2", "grpc", "aio_pika", "pymongo", "jwt.PyJWKClient", "jwt.jwks_client",
    "authlib.integrations", "opentelemetry.exporter", "sqlalchemy.ext.asyncio.create_async_engine",
})  # fmt: skip

NOT_IN_THE_MATRIX = {
    "net.dial": "the guard itself",
    "net.pooled": "a client under the guard, tried as `our own client`",
    "net.aiohttp_client": "a client under the guard, tried as `aiohttp`",
    "net.unix": "sockets in a folder of this machine: there is no address",
    "runtime.peers": "asks other workers by their Unix sockets",
    "runtime.secrets": "makes the client tried as `vault`",
    "runtime.host": "connects to a program it started itself, by a Unix socket",
    "web.server": "listens",
    "web.workers": "listens",
    "policy.redis_link": "the Redis the administrator named in WAYGATE_REDIS_URL; its client dials",
    "storage.engine": "the database the administrator named in WAYGATE_DB_URL; its driver dials",
}


def ways_out_of(package: list[Module]) -> set[str]:
    """Give the names of functions and classes in `net` that come to a socket."""
    called: dict[str, set[str]] = {}
    for module in package:
        if not module.is_within("net"):
            continue
        for node in module.tree.body:
            if isinstance(node, (*type_of_function, ast.ClassDef)):
                part = Module(module.name, ast.unparse(ast.Module([*_imports(module), node], [])))
                bases = {ast.unparse(one) for one in getattr(node, "bases", ())}
                called[node.name] = {name for name, _ in part.calls()} | bases
    found: set[str] = set()
    while more := {
        name
        for name, calls in called.items()
        if name not in found and any(_is_socket(one) or _last(one) in found for one in calls)
    }:
        found |= more
    return found


def dialling(package: list[Module]) -> set[str]:
    """Give the modules, without `waygate_mcp.`, that use a way out or load a client of their own."""
    ways = ways_out_of(package)
    found = set()
    for module in package:
        calls = {name for name, _ in module.calls()}
        loads = {name for name, _ in module.imports()}
        clients = OTHER_CLIENTS | CLIENT_LIBRARIES
        if (
            any(_is_socket(one) or _last(one) in ways for one in calls)
            or any(one == name or one.startswith(f"{name}.") for one in loads for name in clients)
        ):  # fmt: skip
            found.add(module.name.partition(".")[2])
    return found


def _imports(module: Module) -> Iterator[ast.stmt]:
    for node in module.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


def _is_socket(name: str) -> bool:
    return name in SOCKET_CALLS or _last(name) in SOCKET_VERBS or name == "aiohttp.ClientSession"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def test_everything_that_dials_is_in_the_matrix() -> None:
    found = dialling(modules())
    known = {*MODULES.values(), *NOT_IN_THE_MATRIX}
    assert found - known == set(), "dials, and no test of guarded dialling knows it"
    assert known - found == set(), "dials no more"
    assert not {*MODULES.values()} & {*NOT_IN_THE_MATRIX}


def test_every_place_of_the_matrix_says_whose_it_is() -> None:
    assert MODULES.keys() == PLACES.keys() | COMMANDS.keys()
    assert not PLACES.keys() & COMMANDS.keys()


def test_what_dials_is_found() -> None:
    net = [
        Module("waygate_mcp.net.a", "import asyncio\ndef low():\n    asyncio.open_connection()\n"),
        Module(
            "waygate_mcp.net.b",
            "from waygate_mcp.net.a import low\nclass Client:\n    def f(self):\n        low()\n",
        ),
        Module(
            "waygate_mcp.net.c",
            "def parse():\n    return int('1')\nclass Heir(Client):\n    x = 1\n"
            "def looped():\n    asyncio.get_running_loop().create_connection(f, 'x', 1)\n",
        ),
    ]
    assert ways_out_of(net) == {"low", "Client", "Heir", "looped"}
    users = {
        "waygate_mcp.auth.x": "from waygate_mcp.net.b import Client as C\nC()\n",
        "waygate_mcp.auth.y": "import importlib\nimportlib.import_module('waygate_mcp.net.b').z\n",
        "waygate_mcp.auth.z": "from waygate_mcp.net import b\nb.Client()\n",
        "waygate_mcp.policy.r": "from redis.asyncio import Redis\n",
        "waygate_mcp.policy.j": "from jwt import PyJWKClient\n",
        "waygate_mcp.policy.k": "from jwt import decode\n",
        "waygate_mcp.web.h": "import urllib.request\n",
    }
    more = [Module(name, text) for name, text in users.items()]
    assert dialling([*net, *more]) == {
        "net.a", "net.b", "net.c", "auth.x", "auth.z", "policy.r", "policy.j", "web.h"
    }  # fmt: skip
