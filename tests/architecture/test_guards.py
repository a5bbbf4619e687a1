"""The rules a syntax tree shows hold in the whole package, and each guard finds the offence it is there for."""

from __future__ import annotations

import pytest

from tests.architecture import guards
from tests.architecture.guards import GUARDS, Guard
from tests.support.source_tree import Module, modules

MODULES = modules()

# Guard, offending text, the place it lies in, and a text that the guard lets pass in the same place.
SAMPLES: list[tuple[Guard, str, str, str]] = [
    (guards.module_size, "x = 1\n" * 601, "waygate_mcp.web.app", "x = 1\n" * 600),
    (
        guards.function_size,
        "def f():\n" + "    x = 1\n" * 60,
        "waygate_mcp.web.app",
        "def f():\n" + "    x = 1\n" * 59,
    ),
    (
        guards.argument_count,
        "def f(a, b, c, /, d, e, *, g, h, i): ...",
        "waygate_mcp.gateway.chain",
        "class C:\n    def f(self, a, b, c, d, e, g, h): ...",
    ),
    (
        guards.library_homes,
        "from fastapi import FastAPI",
        "waygate_mcp.gateway.chain",
        "import fast",
    ),
    (guards.library_homes, "import aiohttp.web", "waygate_mcp.web.app", "import fastapi"),
    (guards.library_homes, "def f():\n    import mcp.types", "waygate_mcp.plugins.api", "import x"),
    (guards.purity, "import asyncio", "waygate_mcp.protocol.ladder", "import re"),
    (
        guards.purity,
        "import time\nx = time.monotonic()",
        "waygate_mcp.model.call",
        "import os\nx = os.urandom(8)",
    ),
    (guards.purity, "open('x')", "waygate_mcp.errors", "x.open('x')"),
    (
        guards.log_setup,
        "import structlog\nstructlog.configure()",
        "waygate_mcp.cli.main",
        "import structlog\nstructlog.get_logger()",
    ),
    (
        guards.wall_clock,
        "from time import time as now\nnow()",
        "waygate_mcp.auth.api_keys",
        "from time import monotonic\nmonotonic()",
    ),
    (
        guards.ways_out,
        "import asyncio\nasyncio.get_running_loop().create_connection(f, 'x', 1)",
        "waygate_mcp.upstreams.opening",
        "import asyncio\nasyncio.get_running_loop().call_soon(f)",
    ),
    (
        guards.ways_out,
        "import socket\nsocket.create_connection(('x', 1))",
        "waygate_mcp.upstreams.opening",
        "import socket\nsocket.gethostname()",
    ),
    (
        guards.ways_out,
        "async def f(loop):\n    await loop.create_connection(None, 'x', 1)",
        "waygate_mcp.auth.api_keys",
        "async def f(connector):\n    await connector.connect()",
    ),
    (
        guards.ways_out,
        "from urllib.request import urlopen",
        "waygate_mcp.importers.plan",
        "from urllib.parse import urlsplit",
    ),
    (
        guards.wall_clock,
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "waygate_mcp.runtime.reload",
        "import datetime as dt\ndt.datetime.fromisoformat('x')",
    ),
    (
        guards.raw_tasks,
        "import asyncio\nasyncio.create_task(f())",
        "waygate_mcp.gateway.exchange",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(f())",
    ),
    (
        guards.raw_tasks,
        "self._loop.create_task(f())",
        "waygate_mcp.web.mcp",
        "self._supervisor.create_task(f())",
    ),
    (
        guards.broad_except,
        "try:\n    f()\nexcept (KeyError, Exception):\n    raise",
        "waygate_mcp.gateway.chain",
        "try:\n    f()\nexcept KeyError:\n    pass",
    ),
    (
        guards.swallowed_cancellation,
        "try:\n    f()\nexcept BaseException:\n    pass",
        "waygate_mcp.web.mcp",
        "try:\n    f()\nexcept BaseException:\n    g()\n    raise",
    ),
    (
        guards.swallowed_cancellation,
        "try:\n    f()\nexcept:\n    pass",
        "waygate_mcp.web.mcp",
        "try:\n    f()\nexcept Exception:\n    pass",
    ),
    (guards.imports_at_the_top, "from . import x", "waygate_mcp.web", "from waygate_mcp import x"),
    (guards.imports_at_the_top, "def f():\n    import re", "waygate_mcp.web", "import re"),
    (guards.plain_names, "class TaskManager: ...", "waygate_mcp.web.x", "class Supervisor: ..."),
    (guards.docstrings, "x = 1", "waygate_mcp.web.x", '"""What it knows."""'),
    (
        guards.docstrings,
        '"""M."""\nclass C:\n    """C."""\n    def f(self): ...',
        "waygate_mcp.web.x",
        '"""M."""\nclass C:\n    """C."""\n    def _f(self): ...',
    ),
    (
        guards.reasons_for_ignores,
        "x = 1  # noqa",
        "waygate_mcp.web.x",
        "x = 1  # noqa: S603 - the argument list is fixed",
    ),
    (
        guards.reasons_for_ignores,
        "x = 1  # type: ignore[assignment]",
        "waygate_mcp.web.x",
        "x = 1  # type: ignore[assignment]  # the stub is wrong",
    ),
    (
        guards.reasons_for_ignores,
        "x = 1  # pragma: no cover",
        "waygate_mcp.web.x",
        "x = 1  # pragma: no cover - Windows only",
    ),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
def test_the_package_keeps_the_rule(guard: Guard) -> None:
    offences = [offence for module in MODULES for offence in guard(module)]
    assert not offences, "\n".join([guard.__doc__ or "", *offences])


@pytest.mark.parametrize(
    ("guard", "offending", "place", "clean"),
    SAMPLES,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_guard_finds_the_offence_and_nothing_else(
    guard: Guard, offending: str, place: str, clean: str
) -> None:
    assert list(guard(Module(place, offending)))
    assert not list(guard(Module(place, clean)))


def test_every_guard_has_a_sample_that_it_refuses() -> None:
    assert {guard for guard, *_ in SAMPLES} == set(GUARDS)


def test_every_exception_to_a_rule_is_still_in_use() -> None:
    """A list of exceptions that nobody needs any more is an open door."""
    stale = [
        place
        for places in (
            guards.BROAD_EXCEPT_HOMES,
            guards.TASK_HOMES,
            guards.SOCKET_HOMES,
            guards.MANY_ARGUMENTS_HOMES,
            guards.SWALLOWING_HOMES,
            guards.LATE_IMPORT_HOMES,
        )
        for place in places
        if not any(module.is_within(place) for module in MODULES)
    ]
    assert not stale


def test_a_module_lies_within_its_own_room_only() -> None:
    module = Module("waygate_mcp.web.mcp", "")
    assert module.is_within("web")
    assert module.is_within("web.mcp")
    assert not module.is_within("we", "web.mc", "mcp")


def test_a_module_of_everything_is_found_by_its_name() -> None:
    assert list(guards.plain_names(Module("waygate_mcp.web.utils", "")))
    assert not list(guards.plain_names(Module("waygate_mcp.web.problems", "")))
