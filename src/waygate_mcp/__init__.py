"""Waygate MCP: a framework, a gateway and an operated service for the Model Context Protocol.

Knows its own version, and the names plugin authors import. They are re-exported from `toolkit`,
`plugins`, `model` and `errors` only: importing this package must never load a web framework or a
database library.
"""

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
