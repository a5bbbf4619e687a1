"""One question to the REST door of a running gateway."""

from __future__ import annotations

import asyncio
import json as jsonlib
from typing import Any

from waygate_mcp.cli.gateway_client import Where, read_key
from waygate_mcp.errors import ConfigError, UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net.aiohttp_client import AiohttpTransport, parse_origin
from waygate_mcp.net.http import read_body

__all__ = ["ask_json"]

MAX_BYTES = 16 * 1024 * 1024
WITHIN_S = 30.0


async def ask_json(where: Where, path: str) -> dict[str, Any]:
    """Give the JSON object a gateway answers a GET of `path` with.

    Raises:
        UpstreamUnavailableError: none answers.
        UpstreamProtocolError: what answers is no gateway of ours.
        ConfigError: it refuses the question; the text says why.
    """
    origin, _ = parse_origin(where.address)
    key = await asyncio.to_thread(read_key, where)
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    name = f"the gateway at {origin}"
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            AiohttpTransport(origin, name, headers=headers) as transport,
            transport.request("GET", path, [("accept", "application/json")]) as response,
        ):
            body = await read_body(response, MAX_BYTES)
    except TimeoutError:
        raise UpstreamUnavailableError(name, f"did not answer within {WITHIN_S:.0f} s") from None
    try:
        value: Any = jsonlib.loads(body)
    except (ValueError, RecursionError):
        value = None
    if response.status in (401, 403):
        raise ConfigError(
            f"{name} wants another key: give --key-file FILE, or set WAYGATE_API_KEY", path="key"
        )
    if not isinstance(value, dict):
        raise UpstreamProtocolError(name, f"answers {response.status} to GET {path}, and no JSON")
    if response.status != 200:
        error = value.get("error")
        said = error.get("message") if isinstance(error, dict) else None
        raise ConfigError(f"{name} says: {said or response.status}", path="arguments")
    return value
