"""Every place of the product that dials somebody, in a form a test can ask to dial any URL.

Knows how each place is come to: by a section of the document, a setting, or an argument of a command. Refuses to know
addresses. `MODULES` says which module of the package each place stands for; an architecture test finds those modules
in the code and fails where one is not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from typer.testing import CliRunner

from waygate_mcp.auth.jwks import KeySource, fetch_keys
from waygate_mcp.cli.gateway_client import Where, open_gateway
from waygate_mcp.cli.main import app
from waygate_mcp.cli.probe import probe_upstreams
from waygate_mcp.cli.rest_client import ask_json
from waygate_mcp.config.oauth import IssuerSection
from waygate_mcp.config.secret_sources import VaultSection
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError, WaygateError
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.transports import open_transport
from waygate_mcp.net.urls import parse_target
from waygate_mcp.net.vault import Vault
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.runtime.upstreams import UpstreamHouse
from waygate_mcp.upstreams.opening import UpstreamConfig

__all__ = ["COMMANDS", "MODULES", "PLACES", "Place"]

WITHIN_S = 20.0

Place = Callable[[str, Path], Awaitable[str]]
"""Dials a URL as the product does; gives why nothing came of it, and fails the test where something did."""


def by_upstream(http: Any) -> Place:
    """As the gateway serves an upstream."""

    async def dial(url: str, folder: Path) -> str:
        config = UpstreamConfig(url=url, http=http, open_timeout_s=5)
        async with TaskSupervisor() as supervisor, UpstreamHouse(supervisor) as house:
            try:
                async with house.use({"up": config}, lambda _: None) as (provider,):
                    if (opening := provider.opening) is not None:
                        await asyncio.wait({opening}, timeout=WITHIN_S)
                    assert provider.status.state != "ready"
                    return provider.status.last_error or ""
            except ConfigError as exc:
                return str(exc)

    return dial


def by_client(client: Any) -> Place:
    """As whoever asks the guarded way out for a transport."""

    async def dial(url: str, folder: Path) -> str:
        try:
            policy = NetworkPolicy.for_document(parse_target(url))
            async with (
                open_transport(url, policy, upstream="up", client=client) as exchange,
                exchange.request("POST", "/mcp", [], b"{}"),
            ):
                raise AssertionError("it was answered")
        except WaygateError as exc:
            return str(exc)

    return dial


async def by_test_of_upstream(url: str, folder: Path) -> str:
    """As `waygate add`, `waygate import` and `waygate upstreams test` try an upstream."""
    try:
        section = UpstreamSection.model_validate({"url": url, "limits": {"open_timeout_s": 5}})
    except ValidationError as exc:
        return str(exc)
    settings = Settings(_env_file=None, data_dir=folder / "data", log_dir=None)
    [probe] = await asyncio.to_thread(probe_upstreams, {"up": section}, folder, settings)
    assert not probe.is_well
    return probe.problem


async def by_vault(url: str, folder: Path) -> str:
    """As a secret is asked for."""
    (folder / "token").write_text("hvs.token")
    (folder / "token").chmod(0o600)
    address = url.removesuffix("/mcp").replace("http://", "https://", 1)
    try:
        section = VaultSection(address=address, token=f"${{file:{folder / 'token'}}}", timeout_s=5)
        vault = Vault(section, data_dir=folder, on_secret=lambda _: None, monotonic=lambda: 0.0)
        await vault.read("NAME")
    except (ValidationError, WaygateError) as exc:
        return str(exc)
    raise AssertionError("it was answered")


def by_keys(*, where_said: bool) -> Place:
    """As an issuer's keys are fetched, from where the document says or from where its metadata is looked for."""

    async def dial(url: str, folder: Path) -> str:
        # Plain http is for literals of this machine alone.
        secure = (
            url if url.startswith("http://127.0.0.1") else url.replace("http://", "https://", 1)
        )
        issuer = "https://issuer.test" if where_said else secure
        section = {"issuer": issuer, "grants": {"a": ["viewer"]}}
        try:
            read = IssuerSection.model_validate(
                {**section, "jwks_uri": secure} if where_said else section
            )
            await fetch_keys(KeySource(read.issuer, read.jwks_uri))
        except (ValidationError, WaygateError) as exc:
            return str(exc)
        raise AssertionError("there were keys")

    return dial


async def by_tools_command(url: str, folder: Path) -> str:
    """As `waygate tools --url`, `resources` and `prompts` reach a gateway."""
    try:
        async with open_gateway(Where(_settings(folder), url=url)):
            raise AssertionError("it was answered")
    except WaygateError as exc:
        return str(exc)


async def by_explain_command(url: str, folder: Path) -> str:
    """As `waygate explain --url` asks a gateway."""
    try:
        await ask_json(Where(_settings(folder), url=url), "/admin/v1/explain")
    except WaygateError as exc:
        return str(exc)
    raise AssertionError("it was answered")


async def by_upstreams_command(url: str, folder: Path) -> str:
    """As `waygate upstreams list --url` asks a gateway."""
    words = ["upstreams", "list", "--url", url]
    environment = {"WAYGATE_DATA_DIR": str(folder / "data"), "WAYGATE_LOG_DIR": "none"}
    result = await asyncio.to_thread(CliRunner().invoke, app, words, env=environment)
    assert result.exit_code, result.output
    return str(result.output or result.exception)


def _settings(folder: Path) -> Settings:
    return Settings(_env_file=None, data_dir=folder / "data", log_dir=None)


PLACES: dict[str, Place] = {
    "upstream, transport found out": by_upstream("auto"),
    "upstream, streamable": by_upstream("streamable"),
    "upstream, sse": by_upstream("sse"),
    "our own client": by_client("pooled"),
    "aiohttp": by_client("aiohttp"),
    "test of an upstream": by_test_of_upstream,
    "vault": by_vault,
    "keys of an issuer": by_keys(where_said=True),
    "metadata of an issuer": by_keys(where_said=False),
}
"""What the document or a setting sends somewhere."""

COMMANDS: dict[str, Place] = {
    "tools": by_tools_command,
    "explain": by_explain_command,
    "upstreams list": by_upstreams_command,
}
"""What the person at a command line sends somewhere: to the one gateway they named, which may well be near."""

MODULES: dict[str, str] = {
    "upstream, transport found out": "runtime.upstreams",
    "upstream, streamable": "runtime.upstreams",
    "upstream, sse": "runtime.upstreams",
    "our own client": "net.transports",
    "aiohttp": "net.transports",
    "test of an upstream": "runtime.upstreams",
    "vault": "net.vault",
    "keys of an issuer": "auth.jwks",
    "metadata of an issuer": "auth.jwks",
    "tools": "cli.gateway_client",
    "explain": "cli.rest_client",
    "upstreams list": "cli.upstreams",
}
"""The module of `waygate_mcp` that dials for each place; a test sees it do so."""
