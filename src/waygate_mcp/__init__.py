"""Waygate MCP: a framework, a gateway and an operated service for the Model Context Protocol.

Knows its own version. The public names join it here, re-exported from `toolkit`, `plugins`, `model` and `errors` only:
importing this package must never load a web framework or a database library.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
