"""What is constructed and not entered; the forms of plugins are tested with their lives."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from waygate_mcp.config.document import PluginSection
from waygate_mcp.errors import ConfigError
from waygate_mcp.plugins.builtin import hello
from waygate_mcp.plugins.construction import construct_plugin, offer_to_mount
from waygate_mcp.testing.fakes import Announcements
from waygate_mcp.toolkit.toolbox import Toolbox


def test_a_plugin_is_constructed_and_its_config_checked_without_entering_it() -> None:
    entered: list[str] = []
    module: Any = ModuleType("plug")
    module.box = Toolbox()

    async def lifespan() -> Any:
        entered.append("entered")
        yield None

    module.lifespan = lifespan
    made = construct_plugin("p", PluginSection(use="plug"), module)
    assert made.box is module.box
    assert made.lifespan is not None
    assert entered == []


def test_a_config_is_checked_by_the_plugins_own_model() -> None:
    section = PluginSection(use="hello", config={"greeting": "Hi"})
    assert construct_plugin("p", section, hello).config.greeting == "Hi"
    with pytest.raises(ConfigError) as caught:
        construct_plugin("p", PluginSection(use="hello", config={"greting": "Hi"}), hello)
    assert caught.value.problems[0].suggestion == "greeting"


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [(hello, []), (Toolbox(), []), (Toolbox, []), (5, [5]), ("server", ["server"])],
)
def test_what_may_be_another_makers_server_is_offered_to_be_mounted(
    loaded: object, expected: list[object]
) -> None:
    offered: list[object] = []

    def mount(name: str, obj: object, config: Any, announce: Any) -> None:
        offered.append(obj)

    section = PluginSection(use="x")
    assert offer_to_mount("p", section, loaded, Announcements(), mount) is None
    assert offered == expected
