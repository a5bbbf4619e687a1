"""Everything a plugin's author imports.

A plugin is what `use:` names in the document: a module, `module:attribute`, or an entry point of the
group `waygate.plugins`. Three forms are known, from the plainest:

1. A **module** with a Toolbox called `box`. Optional beside it: `class Config(BaseModel)`, which
   checks `config:` of the document, and `lifespan`, an async context manager that is given the
   config (and the Services, if it takes two parameters); what it yields is `ctx.lifespan`.
2. A **class** made of `Plugin`, or any class that takes `(config, services)` and has a `box`.
3. A **function** that takes `(config, services)`, or fewer, and gives a Toolbox or a Plugin.

Knows the names authors use and where they come from. Refuses to know how plugins are found and opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from waygate_mcp.errors import RpcError, UnknownNameError
from waygate_mcp.telemetry.plain_structlog import FilteringBoundLogger
from waygate_mcp.toolkit.content import (
    Annotations,
    Audio,
    EmbeddedResource,
    Icon,
    Image,
    Message,
    PromptResult,
    ResourceBlob,
    ResourceLink,
    ResourceText,
    Text,
    ToolHints,
    ToolResult,
)
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.failures import QuestionRefusedError, RegistrationError, ToolError
from waygate_mcp.toolkit.provider import Completion
from waygate_mcp.toolkit.questions import (
    Elicit,
    Elicitation,
    ElicitUrl,
    InputRequired,
    ListRoots,
    Root,
    Sample,
    SamplingResult,
)
from waygate_mcp.toolkit.signatures import MirroredHeader
from waygate_mcp.toolkit.toolbox import Toolbox

__all__ = [
    "Annotations",
    "Audio",
    "Completion",
    "Context",
    "Elicit",
    "ElicitUrl",
    "Elicitation",
    "EmbeddedResource",
    "Icon",
    "Image",
    "InputRequired",
    "ListRoots",
    "Message",
    "MirroredHeader",
    "NoConfig",
    "Plugin",
    "PromptResult",
    "QuestionRefusedError",
    "RegistrationError",
    "ResourceBlob",
    "ResourceLink",
    "ResourceText",
    "Root",
    "RpcError",
    "Sample",
    "SamplingResult",
    "Services",
    "Text",
    "ToolError",
    "ToolHints",
    "ToolResult",
    "Toolbox",
    "UnknownNameError",
]


class NoConfig(BaseModel):
    """The configuration of a plugin that has none: no key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Services:
    """What the house gives a plugin.

    `name` is the plugin's name in the document. `log` is its own logger, whose lines carry that name:
    `services.log.info("opened", path=…)`.
    """

    name: str
    log: FilteringBoundLogger


class Plugin:
    """A plugin as a class: name its `Config`, fill `self.box`, open things in `lifespan`.

        class Notes(Plugin):
            Config = NotesConfig

            def __init__(self, config, services):
                super().__init__(config, services)
                self.box.tool(self.search)

    The constructor only stores and registers; whatever opens something belongs into `lifespan`.
    """

    Config: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, config: Any, services: Services) -> None:
        self.config = config
        self.services = services
        self.box = Toolbox()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Any]:
        """Open what the plugin needs, yield once, close it; what is yielded is `ctx.lifespan`."""
        yield None
