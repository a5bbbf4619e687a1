"""Waygate MCP: a framework, a gateway and an operated service for the Model Context Protocol.

Knows its own version, and the names plugin authors import. They are re-exported from `toolkit`,
`plugins`, `model` and `errors` only, and each is loaded when it is first asked for (PEP 562): whoever wants
the version, or a module of the house, does not wait for the toolkit. Importing this package must never
load a web framework or a database library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waygate_mcp.errors import RpcError, UnknownNameError
    from waygate_mcp.plugins.api import Plugin, Services
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
    from waygate_mcp.toolkit.provider import Completion, ToolboxProvider
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
    "ToolboxProvider",
    "UnknownNameError",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "Annotations": "waygate_mcp.toolkit.content",
    "Audio": "waygate_mcp.toolkit.content",
    "Completion": "waygate_mcp.toolkit.provider",
    "Context": "waygate_mcp.toolkit.context",
    "Elicit": "waygate_mcp.toolkit.questions",
    "ElicitUrl": "waygate_mcp.toolkit.questions",
    "Elicitation": "waygate_mcp.toolkit.questions",
    "EmbeddedResource": "waygate_mcp.toolkit.content",
    "Icon": "waygate_mcp.toolkit.content",
    "Image": "waygate_mcp.toolkit.content",
    "InputRequired": "waygate_mcp.toolkit.questions",
    "ListRoots": "waygate_mcp.toolkit.questions",
    "Message": "waygate_mcp.toolkit.content",
    "MirroredHeader": "waygate_mcp.toolkit.signatures",
    "Plugin": "waygate_mcp.plugins.api",
    "PromptResult": "waygate_mcp.toolkit.content",
    "QuestionRefusedError": "waygate_mcp.toolkit.failures",
    "RegistrationError": "waygate_mcp.toolkit.failures",
    "ResourceBlob": "waygate_mcp.toolkit.content",
    "ResourceLink": "waygate_mcp.toolkit.content",
    "ResourceText": "waygate_mcp.toolkit.content",
    "Root": "waygate_mcp.toolkit.questions",
    "RpcError": "waygate_mcp.errors",
    "Sample": "waygate_mcp.toolkit.questions",
    "SamplingResult": "waygate_mcp.toolkit.questions",
    "Services": "waygate_mcp.plugins.api",
    "Text": "waygate_mcp.toolkit.content",
    "ToolError": "waygate_mcp.toolkit.failures",
    "ToolHints": "waygate_mcp.toolkit.content",
    "ToolResult": "waygate_mcp.toolkit.content",
    "Toolbox": "waygate_mcp.toolkit.toolbox",
    "ToolboxProvider": "waygate_mcp.toolkit.provider",
    "UnknownNameError": "waygate_mcp.errors",
}
"""Where each name above comes from; a test compares the two."""

if not TYPE_CHECKING:  # a type checker would take it for a promise of any name at all

    def __getattr__(name: str) -> object:
        """Load a public name and keep it."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
