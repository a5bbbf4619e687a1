"""The document's JSON Schema, for editors and for people.

Knows how the models of `document.py` look from outside. Refuses to validate: the models do that,
and say more than a schema can.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from waygate_mcp.config.document import Document


def document_schema() -> dict[str, Any]:
    """Give the schema of `waygate.yaml` (JSON Schema 2020-12), as it is published in `docs/`."""
    schema = Document.model_json_schema()
    schema["title"] = "waygate.yaml"
    schema["description"] = "The document of Waygate MCP. Unknown keys are errors."
    _close(schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _close(schema: Any) -> None:
    # Pydantic writes the pattern of a mapping's keys, and leaves other keys open.
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)
