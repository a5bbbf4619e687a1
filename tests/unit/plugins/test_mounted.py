from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.providers import Announced
from waygate_mcp.errors import ConfigError, PluginError
from waygate_mcp.plugins.mounted import mount


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An application that has no lifespan and answers nothing."""
    assert scope["type"] == "http"


class AppObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)


class Connecting:
    """Stands in for a connector; notes what it was given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    @asynccontextmanager
    async def __call__(
        self, name: str, exchange: Any, path: str, announce: Any, *, era: str
    ) -> AsyncIterator[Any]:
        self.given = {"name": name, "path": path, "era": era}
        yield SimpleNamespace(name=name)


async def mounted(obj: object, **config: Any) -> dict[str, Any] | None:
    """Mount an object and give what its connector was given, None where it was not recognised."""
    connecting = Connecting()
    context = mount("m", obj, config, Announced(), connect=connecting)
    if context is None:
        return None
    async with context:
        return connecting.given


class Maker:
    """A server object whose method makes an application; notes the options."""

    def __init__(self, name: str, **known: Any) -> None:
        self.options: dict[str, Any] = {}
        self.settings = SimpleNamespace(stateless_http=True)

        def modern(
            path: str, stateless_http: bool = True, host_origin_protection: bool = True
        ) -> Any:
            self.options = {
                "path": path, "stateless_http": stateless_http, "protection": host_origin_protection
            }  # fmt: skip
            return app

        def official(*, streamable_http_path: str = "/mcp", host: str = "127.0.0.1") -> Any:
            self.options = {"path": streamable_http_path, "host": host}
            return app

        def old() -> Any:
            return app

        makers: dict[str, Callable[..., Any]] = {"modern": modern, "official": official, "old": old}
        setattr(self, "http_app" if name == "modern" else "streamable_http_app", makers[name])
        vars(self).update(known)


async def test_an_application_is_recognised_by_what_it_is_called_with() -> None:
    for obj in (app, AppObject(), AppObject().method):
        assert await mounted(obj) == {"name": "m", "path": "/mcp", "era": "auto"}
    assert await mounted(app, path="/x", era="legacy") == {
        "name": "m",
        "path": "/x",
        "era": "legacy",
    }


def two(a: Any, b: Any) -> None: ...
def sync_three(a: Any, b: Any, c: Any) -> None: ...
async def keyword_three(a: Any, b: Any, *, c: Any) -> None: ...


@pytest.mark.parametrize(
    "obj", [two, sync_three, keyword_three, AppObject, object(), "text", None, 5, print, {}]
)
async def test_anything_else_is_not_taken_whatever_its_config_says(obj: object) -> None:
    assert await mounted(obj, unknown=1) is None


async def test_a_server_object_is_asked_for_an_application_as_its_release_understands() -> None:
    maker = Maker("modern")
    assert await mounted(maker, path="/deep") is not None
    assert maker.options == {"path": "/deep", "stateless_http": False, "protection": False}
    official = Maker("official")
    assert await mounted(official, path="/deep") is not None
    assert official.options == {"path": "/deep", "host": "0.0.0.0"}


async def test_an_old_release_reads_its_settings_and_forgets_its_last_run() -> None:
    maker = Maker("old", _session_manager="used up")
    assert await mounted(maker, path="/deep") is not None
    assert maker.settings.streamable_http_path == "/deep"
    assert maker.settings.stateless_http is False
    assert vars(maker)["_session_manager"] is None


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"erra": "legacy"}, "config.erra"),
        ({"era": "new"}, "config.era"),
        ({"path": 5}, "config.path"),
        ({"path": "mcp"}, "config.path"),
    ],
)
async def test_a_config_that_is_wrong_is_named(config: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await mounted(app, **config)
    assert caught.value.path == path


async def test_a_server_object_that_fails_is_a_plugin_that_fails() -> None:
    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(PluginError):
        await mounted(SimpleNamespace(http_app=broken))
    with pytest.raises(PluginError):
        await mounted(SimpleNamespace(http_app=lambda: 5))


async def test_an_application_that_does_not_start_is_a_plugin_that_fails() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(PluginError, match="did not start"):
        await mounted(failing)


async def test_a_low_level_server_gets_the_session_manager_of_its_own_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story: list[str] = []

    class SessionManager:
        def __init__(self, **options: Any) -> None:
            story.append(f"made stateless={options['stateless']}")

        @asynccontextmanager
        async def run(self) -> AsyncIterator[None]:
            story.append("runs")
            yield
            story.append("ended")

        async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
            story.append(scope["type"])

    class LowLevel:
        create_initialization_options = run = staticmethod(lambda: None)

    LowLevel.__module__ = "otherkit.server.lowlevel"
    module = SimpleNamespace(StreamableHTTPSessionManager=SessionManager)
    monkeypatch.setattr("importlib.import_module", lambda name: {
        "otherkit.server.streamable_http_manager": module
    }[name])  # fmt: skip
    assert await mounted(LowLevel()) is not None
    assert story == ["made stateless=False", "runs", "ended"]
