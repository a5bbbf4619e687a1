"""Server objects of other makers, served in this process.

Knows by their shape: official SDK servers (1.x `FastMCP`, 2.x `MCPServer`, the low-level `Server`),
FastMCP 2 to 4 servers, and any ASGI application that speaks MCP. Imports none of their packages.
Refuses to know how a mounted server is talked to: that is a connector's work, given as `connect`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, Literal, Protocol, cast

import msgspec

from waygate_mcp.errors import ConfigError, PluginError, UpstreamUnavailableError
from waygate_mcp.model.ports import Announce, Provider
from waygate_mcp.net.asgi import AsgiApp, AsgiTransport
from waygate_mcp.net.http import HttpExchange

__all__ = ["Connect", "EraChoice", "mount"]

EraChoice = Literal["auto", "legacy", "modern"]
_DEFAULT_PATH = "/mcp"
_FAULTY_KEY = re.compile(r"`(?:\$\.)?(\w+)`$")

_MADE_WITH: Mapping[str, object] = {
    "stateless_http": False,
    "json_response": False,
    "host": "0.0.0.0",  # noqa: S104 - nothing is bound: it switches a check of loopback names off
    "host_origin_protection": False,
    "max_request_body_size": 16 * 1024 * 1024,
}
"""What a server object is asked for, as far as its release has the option.

Sessions stay on (questions in mid-call need them) and answers may stream (progress needs that).
Checks of Host and Origin are ours: our doors made them before a call came this far.
"""


class Connect(Protocol):
    """Makes a Provider of an HTTP exchange: `upstreams.streamable_http.connect`, bound by runtime."""

    def __call__(
        self, name: str, exchange: HttpExchange, path: str, announce: Announce, *, era: EraChoice
    ) -> AbstractAsyncContextManager[Provider]:
        """Open the connector named `name` on `path` of `exchange`; leaving the context closes it."""


def mount(
    name: str,
    obj: object,
    config: Mapping[str, Any],
    announce: Announce,
    *,
    connect: Connect,
) -> AbstractAsyncContextManager[Provider] | None:
    """Offer a server object of another maker as the provider `name`.

    `obj` is what `use: module:object` named. `config` may hold `path` (where an ASGI application
    serves MCP, default `/mcp`) and `era` (`auto`, `legacy`, `modern`; protocol.md 2.5). Gives None
    where the object is nothing we know; then nothing was started. Else an async context manager:
    entered with the generation, it runs the server's own lifespan and finds its era; left with it, it
    ends both. `connect` is bound once by the runtime (rooms do not import each other), so that
    callers may see `mount(name, obj, config, announce)`.

    Raises:
        ConfigError: at once, for a key of `config` that does not exist or has a wrong value; the
            path begins below the plugin (`config.era`).
        PluginError: at once, if the object refuses to give its application; on entering, if its
            lifespan fails.
        UpstreamError: on entering, if the application does not speak MCP.
    Spec: decisions.md 5 and 23.
    """
    make = _find_maker(obj)
    if make is None:
        return None
    options = _read_options(config)
    app = _make_app(name, make, options.path)
    return _serve(name, app, options, announce, connect)


class _Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What `config` of a mounted server may say."""

    path: str = _DEFAULT_PATH
    era: EraChoice = "auto"


def _read_options(config: Mapping[str, Any]) -> _Options:
    """Check `config`."""
    try:
        options = msgspec.convert(dict(config), _Options)
    except msgspec.ValidationError as exc:
        text = str(exc)
        found = _FAULTY_KEY.search(text)
        raise ConfigError(text, path=f"config.{found.group(1)}" if found else "config") from None
    if not options.path.startswith("/"):
        raise ConfigError("must begin with `/`", path="config.path")
    return options


@asynccontextmanager
async def _serve(
    name: str,
    app: AsgiApp,
    options: _Options,
    announce: Announce,
    connect: Connect,
) -> AsyncIterator[Provider]:
    """Run the application and a connector to it, the connector closing first."""
    transport = AsgiTransport(app, name)
    try:
        await transport.__aenter__()
    except UpstreamUnavailableError as exc:
        raise PluginError(name, f"the mounted server did not start: {exc}") from exc
    try:
        async with connect(name, transport, options.path, announce, era=options.era) as provider:
            yield provider
    finally:
        await transport.__aexit__(None, None, None)


def _find_maker(obj: Any) -> Callable[[str], object] | None:
    """Recognise an object, by the shapes we know; the result makes its application for a path.

    1. `http_app`: FastMCP 2 and later.
    2. `streamable_http_app`: the official SDK, `FastMCP` of 1.x, `MCPServer` and `Server` of 2.x.
    3. A low-level server of SDK 1.x has neither; its session manager makes one.
    4. An ASGI application as it is.
    """
    if isinstance(obj, type):
        return None
    for method in ("http_app", "streamable_http_app"):
        make = getattr(obj, method, None)
        if callable(make):
            return partial(_call_maker, obj, make)
    if _is_low_level(obj):
        return partial(_low_level_app, obj)
    return (lambda _path: cast("object", obj)) if _is_asgi(obj) else None


def _make_app(name: str, make: Callable[[str], object], path: str) -> AsgiApp:
    """Get the application, whatever the object does meanwhile."""
    try:
        app = make(path)
    except Exception as exc:
        # The plugin boundary: foreign code may raise anything.
        raise PluginError(name, f"the server object gave no application: {exc}") from exc
    if not callable(app):
        raise PluginError(name, f"the server object gave {type(app).__name__}, no application")
    return cast("AsgiApp", app)


def _call_maker(obj: Any, make: Callable[..., object], path: str) -> object:
    """Call a server object's own method."""
    # SDK 1.x keeps one session manager per server, and each runs only once: without this a reload
    # of the configuration could not mount the same object again.
    if getattr(obj, "_session_manager", None) is not None:
        vars(obj)["_session_manager"] = None
    known = inspect.signature(make).parameters
    if "path" not in known and "streamable_http_path" not in known:
        # SDK 1.x takes no arguments and reads its settings.
        settings = getattr(obj, "settings", None) or SimpleNamespace()
        settings.streamable_http_path = path
        settings.stateless_http = False
        settings.json_response = False
    options = {**_MADE_WITH, "path": path, "streamable_http_path": path}
    return make(**{key: value for key, value in options.items() if key in known})


def _is_low_level(obj: object) -> bool:
    """Recognise the low-level server of SDK 1.x."""
    return callable(getattr(obj, "create_initialization_options", None)) and callable(
        getattr(obj, "run", None)
    )


def _low_level_app(obj: object, _path: str) -> AsgiApp:
    """Make an application of a low-level server, by the session manager of its own package."""
    package = type(obj).__module__.partition(".")[0]
    module = importlib.import_module(f"{package}.server.streamable_http_manager")
    manager = module.StreamableHTTPSessionManager(app=obj, stateless=False, json_response=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await manager.handle_request(scope, receive, send)
            return
        await receive()
        async with manager.run():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


def _is_asgi(obj: Any) -> bool:
    """Tell whether `obj` is called with scope, receive and send, and awaited."""
    if not callable(obj):
        return False
    is_function = isinstance(obj, FunctionType | MethodType)
    if not inspect.iscoroutinefunction(obj if is_function else type(obj).__call__):
        return False
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [one for one in parameters if one.default is inspect.Parameter.empty]
    return len(required) == 3 and all(one.kind in positional for one in required)
