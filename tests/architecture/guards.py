"""The rules of the house that a syntax tree shows. Each guard takes one module and yields what is wrong with it.

Every list of exceptions stands here, each with its reason; a guard knows nothing else about the code. `test_guards.py`
runs them over the package and shows that each can fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from tests.support.source_tree import Module, dotted_name, type_of_function

Guard = Callable[[Module], Iterator[str]]

MODULE_LINES = 600
FUNCTION_LINES = 60
ARGUMENTS = 7

# Library → where it may be imported (packages or modules below waygate_mcp).
LIBRARY_HOMES: dict[str, tuple[str, ...]] = {
    "fastapi": ("web",),
    "starlette": ("web",),
    "sqlalchemy": ("storage",),
    "alembic": ("storage",),
    "aiosqlite": ("storage",),
    "asyncpg": ("storage",),
    "httptools": (
        "net",
        "web.connection",
        "web.cycle",
    ),  # uvicorn's own parser, bounded where it sets no limit
    "aiohttp": ("net",),
    "prometheus_client": ("telemetry",),
    "redis": ("policy.redis_link",),
    "opentelemetry": ("telemetry",),
    "uvicorn": ("web", "cli"),
    "typer": ("cli",),
    "rich": ("cli",),
    # Test peers; on nobody's path.
    "mcp": (),
    "mcp_types": (),
    "fastmcp": (),
    "pytest": ("testing",),
    # Clients that are a hundred times dearer than ours, or block the loop.
    "httpx": (),
    "requests": (),
}

# Rooms that refuse input, output, clocks and logs.
PURE_ROOMS = ("errors", "protocol", "model")
IMPURE_LIBRARIES = (
    "asyncio", "anyio", "logging", "pathlib", "socket", "ssl", "structlog", "subprocess", "threading",
)  # fmt: skip
PURE_CALLS = frozenset({"os.urandom"})  # randomness is an ingredient of seals and ids

# Who may read the wall clock: the clock itself, and the stamps of log lines.
WALL_CLOCK_HOMES = ("runtime.clock", "telemetry")
WALL_CLOCK_CALLS = frozenset({
    "time.time", "time.time_ns", "time.localtime", "time.gmtime",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
})  # fmt: skip

LOG_SETUP_CALLS = frozenset({
    "structlog.configure", "structlog.configure_once", "logging.basicConfig", "logging.config.dictConfig",
})  # fmt: skip

# Who may open a way out, or wait for one in. All outbound HTTP is `net`'s; see threat model rule 19.
SOCKET_HOMES = {
    "net": "the guarded way out",
    "web.server": "listens where the settings say; dials nobody",
    "runtime.host": "a Unix socket in the data folder, between processes of one gateway",
}
SOCKET_CALLS = frozenset({
    "socket.socket", "socket.create_connection", "socket.create_server", "socket.socketpair",
    "asyncio.open_connection", "asyncio.open_unix_connection", "asyncio.start_server", "asyncio.start_unix_server",
    "ssl.wrap_socket", "ssl.get_server_certificate", "urllib.request.urlopen", "urllib.request.urlretrieve",
})  # fmt: skip
SOCKET_VERBS = frozenset({
    "create_connection", "create_unix_connection", "create_datagram_endpoint", "create_server", "create_unix_server",
    "sock_connect", "sock_sendto", "connect_ex", "getaddrinfo",
})  # fmt: skip
CLIENT_LIBRARIES = frozenset({
    "http.client", "urllib.request", "urllib3", "httpx", "httpx2", "requests", "aiohttp", "websockets", "ftplib",
    "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc.client", "anyio.connect_tcp", "nntplib",
})  # fmt: skip

# Who may start a task that no TaskGroup owns.
TASK_HOMES = {
    "runtime.tasks": "the Supervisor itself",
    "plugins.lifecycle": "a lifespan is entered and left in one task, which `__aexit__` awaits",
    "upstreams.legacy": "the TaskGroup there is called `asking`",
    "web.cycle": "the server owns the tasks of its requests, in `server_state.tasks`, and waits for them at its end",
}

# Where `except Exception` may stand: the doors, the task supervisor, the plugin boundary.
BROAD_EXCEPT_HOMES = {
    "web": "door: HTTP",
    "stdio": "door: standard input and output",
    "gateway.exchange": "door: the last guard around one call, which turns a bug into an answer with an id",
    "net.asgi": "the plugin boundary: a mounted ASGI application is foreign code",
    "runtime.tasks": "the task supervisor",
    "plugins": "the plugin boundary: an author's code may raise anything",
    "toolkit.provider": "the plugin boundary: an author's function may raise anything",
    "toolkit.threads": "the plugin boundary: what an author's function raised is handed to who awaits it",
    "toolkit.signatures": "the plugin boundary: annotations run an author's code",
}

# Who may import inside a function.
LATE_IMPORT_HOMES = {
    "cli.stdio": "uvloop does not exist on Windows",
    "runtime.counters": "the library of Redis is loaded only where one is configured",
}

# Where everything is caught and not raised again.
SWALLOWING_HOMES = {
    "web.body": "throws it on into what is awaited, as `await` itself does",
}

# Functions whose argument list is a form people fill in.
MANY_ARGUMENTS_HOMES = {
    "cli": "typer reads each option of a command from an argument",
    "model.call": "Call is a record; its constructor is its list of fields",
}

FORBIDDEN_NAME = re.compile(r"(Manager|Service|Helper|Util|Utils|Base)$")


def module_size(module: Module) -> Iterator[str]:
    """A module that needs more is two modules."""
    lines = module.text.count("\n")
    if lines > MODULE_LINES:
        yield f"{module.name}: {lines} lines, limit {MODULE_LINES}"


def function_size(module: Module) -> Iterator[str]:
    """A function fits on a screen."""
    for function in module.functions():
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{module.name}:{function.lineno} {function.name}: {lines} lines, limit {FUNCTION_LINES}"


def argument_count(module: Module) -> Iterator[str]:
    """Beyond seven arguments a noun is missing."""
    if module.is_within(*MANY_ARGUMENTS_HOMES):
        return
    for function in module.functions():
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > ARGUMENTS:
            yield f"{module.name}:{function.lineno} {function.name}: {count} arguments, limit {ARGUMENTS}"


def library_homes(module: Module) -> Iterator[str]:
    """A library is spoken to by one room, so that it can be changed in one room."""
    for name, line in module.imports():
        library = name.partition(".")[0]
        if library in LIBRARY_HOMES and not module.is_within(*LIBRARY_HOMES[library]):
            yield f"{module.name}:{line} imports {library}, which lives in {LIBRARY_HOMES[library] or 'no room'}"


def purity(module: Module) -> Iterator[str]:
    """The pure rooms are data and decisions: no input or output, no clock, no log."""
    if not module.is_within(*PURE_ROOMS):
        return
    for name, line in module.imports():
        if name.partition(".")[0] in IMPURE_LIBRARIES:
            yield f"{module.name}:{line} imports {name} in a room without input or output"
    for name, line in module.calls():
        is_impure = name.startswith(("time.", "os.")) or name in ("open", "print", "input")
        if is_impure and name not in PURE_CALLS:
            yield f"{module.name}:{line} calls {name} in a room without input or output"


def log_setup(module: Module) -> Iterator[str]:
    """One room decides how logs look."""
    if module.is_within("telemetry"):
        return
    for name, line in module.calls():
        if name in LOG_SETUP_CALLS:
            yield f"{module.name}:{line} calls {name}; logs are set up in telemetry"


def wall_clock(module: Module) -> Iterator[str]:
    """Time comes from a Clock that a test can set."""
    if module.is_within(*WALL_CLOCK_HOMES):
        return
    for name, line in module.calls():
        if name in WALL_CLOCK_CALLS:
            yield f"{module.name}:{line} reads the wall clock by {name}"


def ways_out(module: Module) -> Iterator[str]:
    """No room but `net` opens sockets or clients of its own, so that no address goes unchecked."""
    if module.is_within(*SOCKET_HOMES):
        return
    for name, line in module.imports():
        if any(name == one or name.startswith(f"{one}.") for one in CLIENT_LIBRARIES):
            yield f"{module.name}:{line} imports {name}; what goes out goes through net"
    for name, line in module.calls():
        if name in SOCKET_CALLS or name.rpartition(".")[2] in SOCKET_VERBS:
            yield f"{module.name}:{line} calls {name}; what goes out goes through net"


def raw_tasks(module: Module) -> Iterator[str]:
    """A task has an owner: the Supervisor or a TaskGroup, never nobody."""
    if module.is_within(*TASK_HOMES):
        return
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = dotted_name(node.func)
        owner, _, verb = name.rpartition(".")
        starts = verb in ("create_task", "ensure_future")
        if starts and not re.search(r"group|tg$|supervisor|tasks$", owner, re.IGNORECASE):
            yield f"{module.name}:{node.lineno} starts a task by {name}"


def broad_except(module: Module) -> Iterator[str]:
    """Only a door, the supervisor and the plugin boundary catch what they do not know."""
    if module.is_within(*BROAD_EXCEPT_HOMES):
        return
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and "Exception" in _caught(node):
            yield f"{module.name}:{node.lineno} catches Exception"


def swallowed_cancellation(module: Module) -> Iterator[str]:
    """Whoever catches a cancellation raises it again, unless it asked for it itself."""
    if module.is_within(*SWALLOWING_HOMES):
        return
    for node in module.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        if _caught(node) & {"", "BaseException"} and not any(
            isinstance(n, ast.Raise) for n in ast.walk(node)
        ):
            yield f"{module.name}:{node.lineno} catches everything and raises nothing"


def _caught(handler: ast.ExceptHandler) -> set[str]:
    """The names a handler catches; the empty name for a bare `except`."""
    if handler.type is None:
        return {""}
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {dotted_name(kind) for kind in kinds}


def imports_at_the_top(module: Module) -> Iterator[str]:
    """Imports are read at the top of a file, and are absolute."""
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module.name}:{node.lineno} imports relatively"
    if module.is_within(*LATE_IMPORT_HOMES):
        return
    for function in module.functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield f"{module.name}:{node.lineno} imports inside {function.name}"


def plain_names(module: Module) -> Iterator[str]:
    """A noun that says what it is; a Manager manages nothing in particular."""
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and FORBIDDEN_NAME.search(node.name):
            yield f"{module.name}:{node.lineno} class {node.name}"
    if re.search(r"(^|\.)(utils?|helpers?|common|misc)$", module.name):
        yield f"{module.name}: a module of everything"


def docstrings(module: Module) -> Iterator[str]:
    """A module opens with what it knows; every public name says what its signature cannot."""
    if module.text.strip() and not ast.get_docstring(module.tree):
        yield f"{module.name}: the module has no docstring"
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _undocumented(module, node)


def _undocumented(
    module: Module, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[str]:
    if node.name.startswith("_"):
        return
    if not ast.get_docstring(node):
        yield f"{module.name}:{node.lineno} {node.name} has no docstring"
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, type_of_function) and not _is_override(inner):
                yield from _undocumented(module, inner)


def _is_override(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A marked override is documented where it is first declared; `@overload` and setters by their sibling."""
    marks = {dotted_name(mark).rpartition(".")[2] for mark in function.decorator_list}
    return bool(marks & {"override", "overload", "setter"})


_REASON_ALONE = re.compile(r"^\s*[-–—,:#]?\s*\S*\w{3}")
_RULE_AND_REASON = re.compile(r"^(:\s*|\[)[\w, -]+?\]?\s+(#|-|–|—)\s*\S")


def reasons_for_ignores(module: Module) -> Iterator[str]:
    """An ignore names its rule and says why, on its own line: `# noqa: S603 - a fixed argument list`."""
    for number, line in enumerate(module.text.splitlines(), start=1):
        for mark in re.finditer(
            r"#\s*(noqa|type:\s*ignore|pragma:\s*no\s+(?:cover|branch))(.*)", line
        ):
            kind, rest = mark.group(1), mark.group(2)
            has_reason = _REASON_ALONE if kind.startswith("pragma") else _RULE_AND_REASON
            if not has_reason.search(rest):
                yield f"{module.name}:{number} ignores without rule or reason: {mark.group(0)}"


GUARDS: tuple[Guard, ...] = (
    module_size, function_size, argument_count, library_homes, purity, log_setup, wall_clock, ways_out, raw_tasks,
    broad_except, swallowed_cancellation, imports_at_the_top, plain_names, docstrings, reasons_for_ignores,
)  # fmt: skip
