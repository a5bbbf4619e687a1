from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from structlog.testing import capture_logs

from waygate_mcp.config.document import PluginSection
from waygate_mcp.errors import ConfigError, ConfigProblem, PluginError, UpstreamUnavailableError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.model.ports import Announce, Provider
from waygate_mcp.plugins import lifecycle
from waygate_mcp.plugins.api import Plugin, Services
from waygate_mcp.plugins.lifecycle import open_plugins
from waygate_mcp.testing.fakes import Announcements, call_tool, provider_of, text_of
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.toolbox import Toolbox

EVENTS: list[str] = []


class Config(BaseModel):
    word: str = "w"
    count: int = Field(1, ge=1)
    aliased: str = Field("a", alias="other-name")

    @field_validator("word")
    @classmethod
    def no_panic(cls, word: str) -> str:
        if word == "panic":
            raise RuntimeError("the validator panics")
        return word


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Open | None = None
    word: str = ""


def make_box() -> Toolbox:
    box = Toolbox()

    @box.tool(structured=False)
    async def show(ctx: Context) -> str:
        return f"{ctx.config!r} {ctx.lifespan!r}"

    return box


class Classic(Plugin):
    Config = Config

    def __init__(self, config: Any, services: Services) -> None:
        super().__init__(config, services)
        self.box.add_tool(self.show, structured=False)

    async def show(self, ctx: Context) -> str:
        """Show."""
        return f"{self.config.word} {self.services.name} {ctx.lifespan}"

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Any]:
        EVENTS.append(f"enter {self.services.name}")
        yield "opened"
        EVENTS.append(f"leave {self.services.name}")
        if self.config.word == "bad-leave":
            raise RuntimeError("cannot leave")


class Plainest:
    """No lifespan, no Config, no base."""

    def __init__(self) -> None:
        self.box = make_box()


class Aliased(BaseModel):
    word: str = Field("a", validation_alias=AliasChoices("one", "two"))  # type: ignore[pydantic-alias]
    other: str = Field("b", validation_alias="another")


class Boxless:
    def __init__(self, config: Any, services: Services) -> None:
        pass


def factory(config: Config, services: Services) -> Toolbox:
    if config.word == "raise":
        raise RuntimeError("cannot be made")
    if config.word == "exit":
        sys.exit("cannot be made")
    if config.word == "house":
        raise ConfigError("both at once", path="plugins.p.config.word")
    box = make_box()
    box.instructions = f"{config.word} for {services.name}"
    return box


def bare_factory() -> Toolbox:
    return make_box()


def unreadable_factory(config: Nowhere) -> Toolbox:  # type: ignore[name-defined]  # noqa: F821
    return make_box()


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    EVENTS.clear()
    for name, contents in MODULES.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)


@asynccontextmanager
async def with_config(config: Any) -> AsyncIterator[str]:
    yield f"of {config.word}"


@asynccontextmanager
async def with_services(config: Any, services: Services) -> AsyncIterator[str]:
    yield f"of {services.name}"


async def bare_generator() -> AsyncIterator[str]:
    yield "bare"


@asynccontextmanager
async def failing() -> AsyncIterator[None]:
    if MODULES:
        raise RuntimeError("no database")
    yield


@asynccontextmanager
async def stuck() -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


@asynccontextmanager
async def stuck_at_the_end() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


@asynccontextmanager
async def grouped() -> AsyncIterator[str]:
    async with asyncio.TaskGroup():
        yield "grouped"


async def no_manager() -> None:
    """A lifespan somebody forgot to decorate."""


def raising_lifespan() -> None:
    raise RuntimeError("at once")


BOX = make_box()
MODULES: dict[str, dict[str, Any]] = {
    "plug_plain": {"box": BOX},
    "plug_config": {"box": BOX, "Config": Config, "lifespan": with_config},
    "plug_services": {"box": BOX, "lifespan": with_services},
    "plug_generator": {"box": BOX, "lifespan": bare_generator},
    "plug_aliased": {"box": BOX, "Config": Aliased},
    "plug_open": {"box": BOX, "Config": Open},
    "plug_strict": {"box": BOX, "Config": Strict},
    "plug_wrong_config": {"box": BOX, "Config": dict},
    "plug_no_box": {"tools": BOX},
    "plug_failing": {"box": BOX, "lifespan": failing},
    "plug_stuck": {"box": BOX, "lifespan": stuck},
    "plug_stuck_end": {"box": BOX, "lifespan": stuck_at_the_end},
    "plug_grouped": {"box": BOX, "lifespan": grouped},
    "plug_no_manager": {"box": BOX, "lifespan": no_manager},
    "plug_raising": {"box": BOX, "lifespan": raising_lifespan},
    "plug_objects": {
        "Classic": Classic,
        "Boxless": Boxless,
        "Plainest": Plainest,
        "box": BOX,
        "factory": factory,
        "bare_factory": bare_factory,
        "unreadable_factory": unreadable_factory,
        "server": object(),
        "number": 5,
        "instance": Classic(Config(), Services("made", None)),  # type: ignore[arg-type]
    },
}


def sections(**uses: str | tuple[str, dict[str, Any]]) -> dict[str, PluginSection]:
    return {
        name: PluginSection(use=use)
        if isinstance(use, str)
        else PluginSection(use=use[0], config=use[1])
        for name, use in uses.items()
    }


async def show(use: str, config: dict[str, Any] | None = None) -> str:
    async with open_plugins(sections(p=(use, config or {})), Announcements()) as (provider,):
        return text_of(await call_tool(provider, "show"))


# ---------------------------------------------------------------------- forms


async def test_a_module_with_a_box_is_a_plugin() -> None:
    assert await show("plug_plain") == "NoConfig() None"


async def test_a_module_may_have_a_config_and_a_lifespan() -> None:
    shown = await show("plug_config", {"word": "x", "other-name": "y"})
    assert shown == "Config(word='x', count=1, aliased='y') 'of x'"
    assert await show("plug_services") == "NoConfig() 'of p'"
    assert await show("plug_generator") == "NoConfig() 'bare'"


async def test_a_class_is_made_with_config_and_services() -> None:
    assert await show("plug_objects:Classic", {"word": "x"}) == "x p opened"
    assert EVENTS == ["enter p", "leave p"]


async def test_a_class_needs_nothing_but_a_box() -> None:
    assert await show("plug_objects:Plainest") == "NoConfig() None"


async def test_keys_by_other_names_are_known() -> None:
    shown = await show("plug_aliased", {"another": "x", "two": "y"})
    assert shown == "Aliased(word='y', other='x') None"
    assert (await problems_of("plug_aliased", {"anoter": "x"}))[0][2] == "another"


async def test_an_object_with_a_box_is_taken_as_it_is() -> None:
    assert await show("plug_objects:instance") == "w made opened"


async def test_a_toolbox_is_a_plugin() -> None:
    assert await show("plug_objects:box") == "NoConfig() None"


async def test_a_function_makes_a_plugin_and_its_first_parameter_is_its_config() -> None:
    assert "word='x'" in await show("plug_objects:factory", {"word": "x"})
    assert await show("plug_objects:bare_factory") == "NoConfig() None"
    assert await show("plug_objects:unreadable_factory") == "NoConfig() None"
    async with open_plugins(sections(p="plug_objects:factory"), Announcements()) as (provider,):
        assert provider.instructions == "w for p"


async def test_one_box_may_serve_two_plugins_with_different_configs() -> None:
    two = sections(a=("plug_config", {"word": "x"}), b=("plug_config", {"word": "y"}))
    async with open_plugins(two, Announcements()) as providers:
        assert [provider.name for provider in providers] == ["a", "b"]
        shown = [text_of(await call_tool(provider, "show")) for provider in providers]
    assert "'of x'" in shown[0]
    assert "'of y'" in shown[1]


async def test_no_plugins_are_no_providers() -> None:
    async with open_plugins({}, Announcements()) as providers:
        assert providers == ()


async def test_changes_are_announced_under_the_plugins_name_while_it_is_open() -> None:
    announced = Announcements()
    async with open_plugins(sections(p="plug_plain"), announced):
        BOX.add_tool(no_manager, name="more")
    BOX.remove_tool("more")
    assert announced == [ListChanged("p", Kind.TOOL)]


# ---------------------------------------------------------------------- configuration


async def problems_of(use: str, config: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    with pytest.raises(ConfigError) as caught:
        async with open_plugins(sections(p=(use, config)), Announcements()):
            pass
    return [(one.path, one.message, one.suggestion) for one in caught.value.problems]


async def test_every_fault_of_a_config_is_named_with_its_path() -> None:
    assert await problems_of("plug_config", {"count": 0, "wrod": "x", "zzz": 1}) == [
        ("plugins.p.config.wrod", "unknown key", "word"),
        ("plugins.p.config.zzz", "unknown key; known here: word, count, other-name", None),
        ("plugins.p.config.count", "must be at least 1", None),
    ]


async def test_a_plugin_without_config_takes_none() -> None:
    assert await problems_of("plug_plain", {"a": 1}) == [
        ("plugins.p.config.a", "unknown key", None)
    ]
    assert await problems_of("plug_objects:box", {"a": 1})


async def test_a_model_may_forbid_or_allow_other_keys_itself() -> None:
    assert await show("plug_open", {"anything": 1}) == "Open(anything=1) None"
    assert await problems_of("plug_strict", {"wrod": "x"}) == [
        ("plugins.p.config.wrod", "unknown key", "word")
    ]
    assert await problems_of("plug_strict", {"inner": 5}) == [
        ("plugins.p.config.inner", "expected a mapping (key: value), found a whole number", None)
    ]


async def test_a_config_that_is_no_model_or_raises_is_the_plugins_fault() -> None:
    for use, config in (("plug_wrong_config", {}), ("plug_config", {"word": "panic"})):
        with pytest.raises(PluginError, match="its Config"):
            await show(use, config)


# ---------------------------------------------------------------------- what is no plugin


async def test_a_module_without_a_box_is_refused_with_the_mend() -> None:
    ((path, message, _),) = await problems_of("plug_no_box", {})
    assert path == "plugins.p.use"
    assert "no `box = Toolbox()`" in message


async def test_a_plugin_may_refuse_its_config_in_the_words_of_the_house() -> None:
    assert await problems_of("plug_objects:factory", {"word": "house"}) == [
        ("plugins.p.config.word", "both at once", None)
    ]


async def test_an_object_nobody_knows_is_refused() -> None:
    ((path, message, _),) = await problems_of("plug_objects:number", {})
    assert path == "plugins.p.use"
    assert message.startswith("a int is no plugin")


@pytest.mark.parametrize(
    ("use", "config", "reason"),
    [
        ("plug_objects:Boxless", {}, "Boxless has no `box`"),
        ("plug_objects:factory", {"word": "raise"}, "RuntimeError: cannot be made"),
        ("plug_objects:factory", {"word": "exit"}, "SystemExit: cannot be made"),
        ("plug_failing", {}, "its lifespan failed: RuntimeError: no database"),
        ("plug_raising", {}, "RuntimeError: at once"),
        ("plug_no_manager", {}, "add @asynccontextmanager"),
    ],
)
async def test_a_plugin_that_cannot_be_opened_is_named(
    use: str, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PluginError, match=reason) as caught:
        await show(use, config)
    assert caught.value.plugin == "p"


# ---------------------------------------------------------------------- order and failures


async def test_plugins_are_left_in_reverse_and_one_that_fails_hinders_no_other() -> None:
    classic = "plug_objects:Classic"
    three = sections(a=classic, b=(classic, {"word": "bad-leave"}), c=classic)
    with capture_logs() as logs:
        async with open_plugins(three, Announcements()):
            assert EVENTS == ["enter a", "enter b", "enter c"]
    assert EVENTS[3:] == ["leave c", "leave b", "leave a"]
    (line,) = logs
    assert (line["event"], line["plugin"]) == ("plugin_failed_while_leaving", "b")
    assert str(line["exc_info"]) == "cannot leave"


async def test_what_was_open_is_left_when_a_later_plugin_cannot_be_opened() -> None:
    with pytest.raises(PluginError, match="no database"):
        async with open_plugins(
            sections(a="plug_objects:Classic", b="plug_failing"), Announcements()
        ):
            pass
    assert EVENTS == ["enter a", "leave a"]


async def test_a_lifespan_that_never_comes_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "ENTER_S", 0.01)
    with pytest.raises(PluginError, match=r"took more than 0\.01 s"):
        await show("plug_stuck")


async def test_a_lifespan_that_never_ends_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "LEAVE_S", 0.01)
    with capture_logs() as logs:
        await show("plug_stuck_end")
    assert [line["event"] for line in logs] == ["plugin_did_not_leave"]


async def test_opening_that_is_cancelled_leaves_no_task_behind() -> None:
    async def open_it() -> None:
        async with open_plugins(sections(p="plug_stuck"), Announcements()):
            pass

    task = asyncio.ensure_future(open_it())  # noqa: TID251 - a test's own
    before = asyncio.all_tasks()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() <= before


async def test_a_lifespan_may_be_left_by_another_task_than_entered_it() -> None:
    manager = open_plugins(sections(p="plug_grouped"), Announcements())
    async with asyncio.TaskGroup() as group:
        (provider,) = await group.create_task(manager.__aenter__())
    assert text_of(await call_tool(provider, "show")) == "NoConfig() 'grouped'"
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.__aexit__(None, None, None))


async def test_a_failure_of_who_uses_them_passes_through() -> None:
    async def use() -> None:
        async with open_plugins(sections(p="plug_objects:Classic"), Announcements()):
            raise LookupError("the user's own")

    with pytest.raises(LookupError):
        await use()
    assert EVENTS == ["enter p", "leave p"]


# ---------------------------------------------------------------------- servers of others


class Mounting:
    """A `mount` that knows one object."""

    def __init__(self, known: object) -> None:
        self.known = known
        self.seen: list[tuple[str, object]] = []

    def __call__(
        self, name: str, obj: object, config: Mapping[str, Any], announce: Announce
    ) -> AbstractAsyncContextManager[Provider] | None:
        self.seen.append((name, obj))
        if "bad" in config:
            problem = ConfigProblem("config.bad", "unknown", suggestion="era")
            raise ConfigError(problems=[problem, ConfigProblem("", "whole")])
        if "down" in config:
            raise UpstreamUnavailableError(name)
        return self.provide(name) if obj is self.known else None

    @asynccontextmanager
    async def provide(self, name: str) -> AsyncIterator[Provider]:
        yield provider_of(make_box(), name=name)


async def test_an_object_of_another_maker_is_mounted() -> None:
    mount = Mounting(MODULES["plug_objects"]["server"])
    two = sections(a="plug_objects:server", b="plug_objects:factory")
    async with open_plugins(two, Announcements(), mount=mount) as providers:
        assert [provider.name for provider in providers] == ["a", "b"]
    assert [name for name, _ in mount.seen] == ["a", "b"]


async def test_what_is_ours_is_never_offered_to_mount() -> None:
    mount = Mounting(None)
    ours = sections(a="plug_plain", b="plug_objects:box", c="plug_objects:Classic")
    async with open_plugins(ours, Announcements(), mount=mount):
        pass
    assert mount.seen == []


async def test_faults_of_a_mounted_servers_config_are_named_below_the_plugin() -> None:
    section = sections(p=("plug_objects:server", {"bad": 1}))
    with pytest.raises(ConfigError) as caught:
        async with open_plugins(section, Announcements(), mount=Mounting(None)):
            pass
    assert [(one.path, one.suggestion) for one in caught.value.problems] == [
        ("plugins.p.config.bad", "era"),
        ("plugins.p", None),
    ]


async def test_other_errors_of_mounting_pass() -> None:
    section = sections(p=("plug_objects:server", {"down": 1}))
    with pytest.raises(UpstreamUnavailableError):
        async with open_plugins(section, Announcements(), mount=Mounting(None)):
            pass
