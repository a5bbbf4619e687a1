"""A real OAuth 2.1 authorization server on the loopback address, built with authlib.

Knows metadata (RFC 8414), dynamic registration (RFC 7591), the authorization code with PKCE S256 and the `iss`
parameter (RFC 9207), resource indicators (RFC 8707), rotating refresh tokens, and signing keys that can be
rotated. Consent is given at once, by the one person it knows, for the scopes that person may have. It can be
stopped, so that its clients see an outage, and started again on its port.
"""

# mypy: disable-error-code="no-untyped-call, misc, no-any-return, no-untyped-def"
# The library this is built with has no types.

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import uvicorn
from authlib.oauth2 import AuthorizationServer as Protocol
from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    ClientMixin,
    JsonRequest,
    OAuth2Request,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7591 import ClientRegistrationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oauth2.rfc9207 import IssuerParameter
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from waygate_mcp.runtime.clock import Clock

SCOPES = ("mcp:read", "mcp:call", "mcp:admin")
PERSON = "alice"
_STARTED_WITHIN_S = 10.0


class Client(ClientMixin):
    """A client that registered itself."""

    def __init__(self, identifier: str, metadata: dict[str, Any]) -> None:
        self.client_id = identifier
        self.metadata = metadata

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.metadata["redirect_uris"][0]

    def get_allowed_scope(self, scope: str | None) -> str:
        return " ".join(each for each in (scope or "").split() if each in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.metadata["redirect_uris"]

    def check_client_secret(self, client_secret: str) -> bool:
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


@dataclass
class Code(AuthorizationCodeMixin):
    """An authorization code, usable once."""

    client_id: str
    redirect_uri: str | None
    scope: str
    code_challenge: str
    code_challenge_method: str
    resource: str | None

    def get_redirect_uri(self) -> str | None:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Refresh(TokenMixin):
    """A refresh token, usable once."""

    client_id: str
    scope: str
    resource: str | None

    def check_client(self, client: Client) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return self.scope


@dataclass
class State:
    """What the server knows, and what it saw."""

    issuer: str
    now: Callable[[], float] = Clock().now
    lives_s: int = 300
    scopes: Sequence[str] = SCOPES
    clients: dict[str, Client] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    resource: str | None = None
    keys_url: str | None = None
    person: Any = field(default_factory=lambda: SimpleNamespace(get_user_id=lambda: PERSON))


class AuthorizationServer:
    """Owns the server's thread. `issuer` is its identifier and base URL."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.issuer = f"http://127.0.0.1:{port}"
        self.state = State(self.issuer)
        self.rotate()
        self._app = _application(self.state)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve, on the same port as before."""
        config = uvicorn.Config(
            self._app, "127.0.0.1", self.port, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while not self._server.started:
            assert time.monotonic() < deadline, "the authorization server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop serving: an outage."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STARTED_WITHIN_S)
            assert not self._thread.is_alive(), "the authorization server did not stop"
            self._server = self._thread = None

    def rotate(self, *, keep: bool = False) -> None:
        """Sign with a new key from now on; `keep` goes on publishing the old ones."""
        number = len(self.state.issued) + len(self.state.seen) + len(self.state.keys)
        kid = f"key-{time.monotonic_ns()}-{number}"
        key = ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"})
        self.state.keys = [key, *(self.state.keys if keep else ())]

    def token(self, audience: str | list[str], scope: str = "", **claims: Any) -> str:
        """Issue a token without the dance, as a test wants it; a claim that is None is left out."""
        return sign(self.state, audience, scope, PERSON, "a-client", **claims)

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return self.state.seen.count(path)


@contextmanager
def authorization_server(port: int) -> Iterator[AuthorizationServer]:
    """Serve an authorization server until the block ends."""
    # The library insists on https; loopback is the one exception the specification makes.
    with patch.dict(os.environ, {"AUTHLIB_INSECURE_TRANSPORT": "1"}):
        server = AuthorizationServer(port)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def sign(state: State, audience: Any, scope: str, subject: str, client: str, **claims: Any) -> str:
    """Sign an access token as RFC 9068 has it."""
    now = int(state.now())
    payload = {
        "iss": state.issuer,
        "sub": subject,
        "client_id": client,
        "aud": audience,
        "iat": now,
        "exp": now + state.lives_s,
        "jti": f"{time.monotonic_ns():x}",
        "scope": scope,
    } | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    key = state.keys[0]
    header = {"alg": key.alg or "RS256", "kid": key.kid, "typ": "at+jwt"}
    token = jwt.encode(header, payload, key, algorithms=["ES256", "RS256"])
    state.issued.append(token)
    return token


def weak_key() -> RSAKey:
    """A key too short to be trusted."""
    return RSAKey.generate_key(1024, {"kid": "weak", "use": "sig"})


class _CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def save_authorization_code(self, code: str, request: Any) -> None:
        data = request.payload.data
        assert data.get("code_challenge_method") == "S256", "clients of MCP use S256"
        self.server.state.codes[code] = Code(
            request.client.client_id,
            request.payload.redirect_uri,
            " ".join(
                each for each in (request.scope or "").split() if each in self.server.state.scopes
            ),
            data["code_challenge"],
            data["code_challenge_method"],
            data.get("resource"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found = self.server.state.codes.get(code)
        if found is None or found.client_id != client.client_id:
            return None
        if found.resource != self.request.form.get("resource"):
            return None
        return found

    def delete_authorization_code(self, authorization_code: Code) -> None:
        codes = self.server.state.codes
        for code in [each for each, known in codes.items() if known is authorization_code]:
            del codes[code]

    def authenticate_user(self, authorization_code: Code) -> Any:
        return self.server.state.person


class _RefreshGrant(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Refresh | None:
        return self.server.state.refreshes.pop(refresh_token, None)

    def authenticate_user(self, refresh_token: Refresh) -> Any:
        return self.server.state.person

    def revoke_old_credential(self, refresh_token: Refresh) -> None:
        """It was taken out when it was used."""


class _Registration(ClientRegistrationEndpoint):
    def authenticate_token(self, request: Any) -> bool:
        return True  # anybody may register

    def get_server_metadata(self) -> dict[str, Any]:
        return _metadata(self.server.state)

    def generate_client_info(self, request: Any) -> dict[str, Any]:
        return {
            "client_id": self.generate_client_id(request),
            "client_id_issued_at": int(self.server.state.now()),
        }

    def save_client(self, client_info: Any, client_metadata: Any, request: Any) -> Client:
        client = Client(client_info["client_id"], dict(client_metadata))
        self.server.state.clients[client.client_id] = client
        return client


class _Tokens(JWTBearerTokenGenerator):
    def __init__(self, state: State) -> None:
        super().__init__(state.issuer, refresh_token_generator=self._refresh)
        self._state = state

    def access_token_generator(self, client: Client, grant_type: str, user: Any, scope: str) -> str:
        resource = self._state.resource or client.client_id
        return sign(self._state, resource, scope, user.get_user_id(), client.client_id)

    def _refresh(self, client: Client, grant_type: str, user: Any, scope: str) -> str:
        token = f"refresh-{time.monotonic_ns():x}"
        self._state.refreshes[token] = Refresh(client.client_id, scope, self._state.resource)
        return token

    def _get_expires_in(self, client: Client, grant_type: str) -> int:
        return self._state.lives_s


class _Issuer(IssuerParameter):
    def __init__(self, server: Any) -> None:
        self._issuer = server.state.issuer
        super().__call__(server)

    def __call__(self, server: Any) -> None:
        """The hook is set already."""

    def get_issuer(self) -> str:
        return self._issuer


class _Protocol(Protocol):
    def __init__(self, state: State) -> None:
        super().__init__(scopes_supported=list(SCOPES))
        self.state = state
        self.register_token_generator("default", _Tokens(state))
        self.register_grant(_CodeGrant, [CodeChallenge(required=True)])
        self.register_grant(_RefreshGrant)
        self.register_endpoint(_Registration)
        self.register_extension(_Issuer)

    def query_client(self, client_id: str) -> Client | None:
        return self.state.clients.get(client_id)

    def save_token(self, token: Any, request: Any) -> None:
        """Nothing is kept: access tokens speak for themselves."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: Any) -> OAuth2Request:
        return request

    def create_json_request(self, request: Any) -> JsonRequest:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        told = dict(headers)
        location = told.get("Location")
        response = (
            JSONResponse(body, status, told)
            if isinstance(body, dict)
            else Response(body, status, told)
        )
        response.location = location  # type: ignore[attr-defined]  # what the extension for `iss` looks at
        return response


class _Request(OAuth2Request):
    def __init__(self, request: Request, data: dict[str, str]) -> None:
        super().__init__(request.method, str(request.url), headers=dict(request.headers))
        self.payload = BasicOAuth2Payload(data)
        self._form = data

    @property
    def args(self) -> dict[str, str]:
        return self._form

    @property
    def form(self) -> dict[str, str]:
        return self._form


def _metadata(state: State) -> dict[str, Any]:
    issuer = state.issuer
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "registration_endpoint": f"{issuer}/register",
        "jwks_uri": state.keys_url or f"{issuer}/keys",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": True,
    }


def _application(state: State) -> Starlette:
    protocol = _Protocol(state)

    async def metadata(request: Request) -> Response:
        return JSONResponse(_metadata(state))

    async def keys(request: Request) -> Response:
        return JSONResponse({"keys": [key.as_dict(private=False) for key in state.keys]})

    async def authorize(request: Request) -> Response:
        asked = _Request(request, dict(request.query_params))
        grant = protocol.get_consent_grant(asked, state.person)
        response = protocol.create_authorization_response(asked, state.person, grant)
        if response.location:
            response.headers["location"] = response.location
        return response

    async def token(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        state.resource = form.get("resource")
        return protocol.create_token_response(_Request(request, form))

    async def register(request: Request) -> Response:
        asked = JsonRequest(request.method, str(request.url), dict(request.headers))
        asked.payload = SimpleNamespace(data=json.loads(await request.body()))
        return protocol.create_endpoint_response("client_registration", asked)

    app = Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route("/keys", keys),
            Route("/authorize", authorize),
            Route("/token", token, methods=["POST"]),
            Route("/register", register, methods=["POST"]),
        ]
    )

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        state.seen.append(scope["path"])
        await app(scope, receive, send)

    return noted  # type: ignore[return-value]
