"""The official Python SDK as an OAuth client that begins with nothing but a URL; both of its lines run this.

It discovers, registers, authorizes with PKCE, lists, calls a tool that needs one scope more, and refreshes its
token. The person who would consent is a GET of the authorization URL: the server behind it consents at once.
Called as: python -m tests.peers.oauth_client URL legacy|modern; prints one JSON object.
"""

# mypy: ignore-errors
# The two lines of the SDK have different names for the same things; the type checker sees one of them.

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
import warnings
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata

try:
    from mcp import Client
    from mcp.client.auth import AuthorizationCodeResult
except ImportError:  # the first line of the SDK
    Client = AuthorizationCodeResult = None

REDIRECT = "http://localhost:8791/callback"

warnings.simplefilter("ignore")


class Memory:
    """Where the SDK keeps what it learns."""

    def __init__(self) -> None:
        self.tokens = None
        self.client = None
        self.count = 0

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens) -> None:
        self.tokens = tokens
        self.count += 1

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info) -> None:
        self.client = client_info


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Person:
    """Goes where the client sends it, and comes back with what the server gave it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: dict[str, str] = {}

    async def go(self, url: str) -> None:
        self.asked.append({key: value[0] for key, value in parse_qs(urlsplit(url).query).items()})
        location = await asyncio.to_thread(self._visit, url)
        self.answer = {key: value[0] for key, value in parse_qs(urlsplit(location).query).items()}

    async def come_back(self):
        given = self.answer
        if AuthorizationCodeResult is None:
            return given["code"], given.get("state")
        return AuthorizationCodeResult(
            code=given["code"], state=given.get("state"), iss=given.get("iss")
        )

    def _visit(self, url: str) -> str:
        try:
            urllib.request.build_opener(_Stay).open(url, timeout=20)
        except urllib.error.HTTPError as answer:
            return answer.headers["location"]
        raise AssertionError("the authorization server did not send its person back")


async def walk(session, provider, memory, person, seen) -> None:
    """List with the scopes a client begins with; call, which takes one more; refresh, and call again."""
    seen["tools"] = sorted(tool.name for tool in (await session.list_tools()).tools)
    seen["scopes_at_first"] = person.asked[-1]["scope"]
    seen["called"] = (await session.call_tool("greet", {"name": "Ada"})).content[0].text
    seen["scopes_after"] = person.asked[-1]["scope"]
    seen["authorizations"] = len(person.asked)
    first, before = memory.tokens.access_token, memory.count
    provider.context.token_expiry_time = 1.0  # as if time had passed
    seen["called_again"] = (await session.call_tool("greet", {"name": "Bo"})).content[0].text
    seen["refreshed"] = memory.count == before + 1 and memory.tokens.access_token != first
    seen["authorizations_at_end"] = len(person.asked)
    seen["resource"] = person.asked[0]["resource"]
    seen["pkce"] = person.asked[0]["code_challenge_method"]


async def main() -> None:
    """Connect, walk, print."""
    url, era = sys.argv[1:3]
    memory, person = Memory(), Person()
    metadata = OAuthClientMetadata(
        client_name="a client of the tests",
        redirect_uris=[REDIRECT],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    provider = OAuthClientProvider(
        server_url=url,
        client_metadata=metadata,
        storage=memory,
        redirect_handler=person.go,
        callback_handler=person.come_back,
    )
    seen = {"sdk": version("mcp")}
    async with create_mcp_http_client(auth=provider) as http:
        transport = streamable_http_client(url, http_client=http)
        if Client is None:
            async with transport as streams, ClientSession(streams[0], streams[1]) as session:
                seen["revision"] = (await session.initialize()).protocolVersion
                await walk(session, provider, memory, person, seen)
        else:
            async with Client(transport, mode="auto" if era == "modern" else "legacy") as client:
                seen["revision"] = client.protocol_version
                await walk(client, provider, memory, person, seen)
    seen["registered"] = memory.client.client_id
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), 60))
