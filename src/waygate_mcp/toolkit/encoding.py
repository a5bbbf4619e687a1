"""Values to JSON and back, as the toolkit writes them.

Knows one encoder and one decoder for all of the toolkit. Refuses to know shapes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

__all__ = ["decode_json", "encode_json", "encode_text"]


def _jsonable(value: Any) -> Any:
    """Turn what msgspec does not know (Pydantic models above all) into what it does."""
    return to_jsonable_python(value, by_alias=True)


encode_json = msgspec.json.Encoder(enc_hook=_jsonable).encode
"""Encode any value: JSON types, dataclasses, msgspec structs, Pydantic models; bytes as Base64."""

decode_json = msgspec.json.Decoder().decode


def encode_text(value: Any) -> str:
    """Give the JSON of a value as text for people and models, on one line."""
    return encode_json(value).decode()
