"""HashiCorp Vault's HTTP API, as far as reading a secret goes. OpenBao speaks the same.

Knows logins (token, Kubernetes, AppRole), the key-value engine in both versions, and leases. Refuses to
know who wants a secret, and keeps none: whoever asks caches. Requests take the guarded way out; redirects
to another origin are refused, so that the token reaches the configured address alone.
Spec: threat model rules 19, 20, 27 and 39.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from waygate_mcp.config.references import resolve_references
from waygate_mcp.config.secret_sources import VaultSection
from waygate_mcp.config.secrets import read_secret_file
from waygate_mcp.errors import (
    ConfigError,
    LocalProtocolError,
    TooLargeError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import Header, HttpExchange, read_body
from waygate_mcp.net.transports import open_transport
from waygate_mcp.net.urls import parse_target

__all__ = ["NAME", "Vault", "VaultText", "vault_place"]

NAME = "Vault"
"""What it is called in errors."""

FIELD = "value"
MAX_ANSWER_BYTES = 1024 * 1024
_RENEW = 2 / 3
"""Part of a login's lease after which another login is made."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class VaultText:
    """A text, and for how many seconds it may be used before it is asked for again; 0: nothing was said."""

    text: str
    lease_s: float

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"VaultText(lease_s={self.lease_s})"


@dataclass(frozen=True, slots=True)
class _Login:
    token: str
    ends_s: float | None


def vault_place(section: VaultSection, name: str) -> tuple[str, str]:
    """Give path and field in Vault of the secret NAME."""
    entry = section.names.get(name, f"{section.path}/{name}")
    path, _, field = entry.partition("#")
    return path, field or FIELD


class Vault:
    """Asks one Vault. Keeps its login and nothing else; connections are opened for each `reading`.

    `data_dir` is where references of the section are looked up; `on_secret` is told of tokens, so that
    the log can hide them.
    """

    def __init__(
        self,
        section: VaultSection,
        *,
        data_dir: Path,
        on_secret: Callable[[str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.section = section
        self._data_dir = data_dir
        self._on_secret = on_secret
        self._monotonic = monotonic
        self._login: _Login | None = None
        self._lock = asyncio.Lock()

    async def read(self, name: str) -> VaultText:
        """Read the secret NAME.

        Raises:
            ConfigError: Vault answered, and the secret is not to be had: it is not there, or refused.
            UpstreamError: Vault cannot be reached, or cannot answer now.
        """
        async with self._lock:  # few texts, seldom: one after the other, over one connection
            try:
                async with asyncio.timeout(self.section.timeout_s * 4), self._open() as exchange:
                    return await self._read(exchange, name)
            except TimeoutError as exc:
                raise UpstreamTimeoutError(NAME, "gave no answer in time") from exc

    def _open(self) -> Any:
        section = self.section
        target = parse_target(section.address)
        policy = NetworkPolicy.for_document(target, allows_private=section.network == "private")
        tls = None
        if section.ca_file is not None:
            try:
                tls = ssl.create_default_context(cafile=section.ca_file)
            except OSError as exc:
                text = f"cannot read the certificates in {section.ca_file}: {exc.strerror or exc}"
                raise ConfigError(text, path="secrets.vault.ca_file") from exc
        return open_transport(section.address, policy, upstream=NAME, tls=tls)

    async def _read(self, exchange: HttpExchange, name: str) -> VaultText:
        section = self.section
        path, field = vault_place(section, name)
        infix = "data/" if section.kv == 2 else ""
        there = f"/v1/{_quoted(section.mount)}/{infix}{_quoted(path)}"
        status, answer = await self._ask_with_login(exchange, there)
        if status == 404:
            raise ConfigError(f"Vault has nothing at {section.mount}/{path}")
        if status != 200:
            raise ConfigError(
                f"Vault refuses {section.mount}/{path} with HTTP {status}; look at the policies of "
                "the token or role"
            )
        data = answer.get("data")
        if section.kv == 2 and isinstance(data, dict):
            data = data.get("data")
        text = data.get(field) if isinstance(data, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"what Vault has at {section.mount}/{path} has no text {field!r}")
        return VaultText(text.strip(), _seconds(answer.get("lease_duration")))

    async def _ask_with_login(
        self, exchange: HttpExchange, path: str
    ) -> tuple[int, dict[str, Any]]:
        """Ask; where the login is refused, log in anew, once."""
        is_new = self._login is None or self._is_over(self._login)
        login = await self._log_in(exchange) if is_new or self._login is None else self._login
        status, answer = await self._ask(exchange, "GET", path, login.token)
        if status == 403 and not is_new:
            login = await self._log_in(exchange)
            status, answer = await self._ask(exchange, "GET", path, login.token)
        if status == 403:
            self._login = None
        return status, answer

    def _is_over(self, login: _Login) -> bool:
        return login.ends_s is not None and self._monotonic() >= login.ends_s

    async def _log_in(self, exchange: HttpExchange) -> _Login:
        """Get a token, by whichever way the section says.

        Raises:
            ConfigError: what it needs cannot be read, or Vault refuses it.
            UpstreamError: see `read`.
        """
        section = self.section
        if section.token is not None:
            self._login = _Login(await self._outside(section.token, "token"), None)
            return self._login
        if section.kubernetes is not None:
            mount, where = section.kubernetes.mount, "secrets.vault.kubernetes"
            file = Path(section.kubernetes.token_file)
            jwt = await asyncio.to_thread(read_secret_file, file, path=f"{where}.token_file")
            self._on_secret(jwt)
            body = {"role": section.kubernetes.role, "jwt": jwt}
        else:
            assert section.approle is not None
            mount, where = section.approle.mount, "secrets.vault.approle"
            body = {
                "role_id": await self._outside(section.approle.role_id, "approle.role_id"),
                "secret_id": await self._outside(section.approle.secret_id, "approle.secret_id"),
            }
        path = f"/v1/auth/{_quoted(mount)}/login"
        status, answer = await self._ask(exchange, "POST", path, None, msgspec.json.encode(body))
        auth = answer.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        if status != 200 or not isinstance(auth, dict) or not isinstance(token, str):
            raise ConfigError(f"Vault refuses the login with HTTP {status}", path=where)
        self._on_secret(token)
        lease_s = _seconds(auth.get("lease_duration"))
        self._login = _Login(token, self._monotonic() + lease_s * _RENEW if lease_s else None)
        return self._login

    async def _outside(self, text: str, key: str) -> str:
        """Resolve a reference of the section."""
        found = await asyncio.to_thread(
            resolve_references,
            text,
            data_dir=self._data_dir,
            path=f"secrets.vault.{key}",
            on_secret=self._on_secret,
        )
        return str(found).strip()

    async def _ask(
        self, exchange: HttpExchange, method: str, path: str, token: str | None, body: bytes = b""
    ) -> tuple[int, dict[str, Any]]:
        """Send one request; gives status and answer, the answer empty where it is no JSON object.

        Raises:
            UpstreamError: no answer, or one that says that it may be another later.
        """
        headers: list[Header] = [("x-vault-request", "true"), ("accept", "application/json")]
        if token is not None:
            headers.append(("x-vault-token", token))
        if self.section.namespace is not None:
            headers.append(("x-vault-namespace", self.section.namespace))
        if body:
            headers.append(("content-type", "application/json"))
        try:
            async with (
                asyncio.timeout(self.section.timeout_s),
                exchange.request(method, path, headers, body) as response,
            ):
                status, data = response.status, await read_body(response, MAX_ANSWER_BYTES)
        except TimeoutError as exc:
            raise UpstreamTimeoutError(NAME, "gave no answer in time") from exc
        except TooLargeError as exc:
            raise UpstreamProtocolError(NAME, "answered with more than it may") from exc
        except LocalProtocolError:
            # Its text could be the token's own.
            raise ConfigError(
                "the token holds characters that no header may have", path="secrets.vault"
            ) from None
        if status >= 500 or status in (408, 412, 429, 472, 473):
            raise UpstreamError(NAME, f"answers HTTP {status}: it is sealed, busy or not well")
        try:
            return status, _decode(data) if data else {}
        except msgspec.MsgspecError:
            raise UpstreamProtocolError(NAME, f"answers HTTP {status} without JSON") from None


def _quoted(path: str) -> str:
    return quote(path, safe="/")


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int) and value > 0 else 0.0
