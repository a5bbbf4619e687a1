"""Changes of the document that may be made in its file only, unless it says otherwise.

Knows what a change would run, reach inside, or open: commands and code, addresses that are not public, places
secrets come from, files. Whoever holds a stolen key of an administrator must not become the machine's; so the admin API
is refused such a change where `server.remote_changes` is `safe`, and the switch itself is one of them.
Spec: threat model rule 28; decisions.md 20.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from waygate_mcp.config.document import Document
from waygate_mcp.config.oauth import OAuthSection
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError, ConfigProblem
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.urls import parse_target

__all__ = ["unsafe_changes"]

_RUN = ("command", "args", "env", "allow_env", "cwd", "sandbox")
_DIALLED = ("url", "network")
_HINT = "; change it in the file, or set `server.remote_changes: all` there"


def unsafe_changes(old: Document, new: Document) -> list[ConfigProblem]:
    """Give what of a new document may not come over the network; nothing where the old one lets it."""
    if old.server.remote_changes == "all":
        return []
    return [ConfigProblem(path, f"{why}{_HINT}") for path, why in _unsafe(old, new)]


def _unsafe(old: Document, new: Document) -> Iterator[tuple[str, str]]:
    if new.server.remote_changes == "all":
        yield "server.remote_changes", "the admin API may not give itself this leave"
    for name, upstream in new.upstreams.items():
        yield from _of_upstream(f"upstreams.{name}", old.upstreams.get(name), upstream)
    for name, plugin in new.plugins.items():
        known = old.plugins.get(name)
        if known is None or known.use != plugin.use:
            yield f"plugins.{name}.use", "it says which code is run here"
        if _files_in(plugin.config) - _files_in({} if known is None else known.config):
            yield f"plugins.{name}.config", "it reads a file of this machine"
    if new.secrets != old.secrets:
        yield "secrets", "it says where secrets come from"
    yield from _of_issuers(old.auth.oauth, new.auth.oauth)
    if new.auth.mode == "none" != old.auth.mode:
        yield "auth.mode", "it lets everybody in"
    if old.audit.enabled and not new.audit.enabled:
        yield "audit.enabled", "it ends the record of what is done here"


def _of_upstream(
    path: str, old: UpstreamSection | None, new: UpstreamSection
) -> Iterator[tuple[str, str]]:
    def is_same(keys: tuple[str, ...]) -> bool:
        return old is not None and all(getattr(old, key) == getattr(new, key) for key in keys)

    if new.command is not None:
        if not is_same(_RUN):
            yield f"{path}.command", "it says which program is run here"
        return
    if not is_same(_DIALLED) and (new.network == "private" or _is_near(new.url or "")):
        yield f"{path}.url", "it may lead into a network that is not public"
    known = {} if old is None else old.referring
    if _files_in(new.referring) - _files_in(known):
        yield path, "it reads a file of this machine"


def _of_issuers(old: OAuthSection | None, new: OAuthSection | None) -> Iterator[tuple[str, str]]:
    known = () if old is None else old.issuers
    for number, issuer in enumerate(() if new is None else new.issuers):
        addresses = (issuer.issuer, issuer.jwks_uri or issuer.issuer)
        is_near = issuer.network == "private" or any(map(_is_near, addresses))
        if is_near and not any(
            (one.issuer, one.jwks_uri, one.network)
            == (issuer.issuer, issuer.jwks_uri, issuer.network)
            for one in known
        ):
            path = f"auth.oauth.issuers[{number}]"
            yield path, "it may lead into a network that is not public"


def _is_near(url: str) -> bool:
    """Tell whether a URL is itself the leave to dial an address that is not public, or may turn out so."""
    if "${" in url:
        return True
    try:
        return bool(NetworkPolicy.for_document(parse_target(url)).exceptions)
    except ConfigError:
        return False  # it is refused for what it is


def _files_in(value: Any) -> frozenset[str]:
    """Give the texts that refer to files."""
    if isinstance(value, str):
        return frozenset({value} if "${file:" in value else ())
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(inner, (list, tuple)) and inner is value:
        return frozenset()
    return frozenset().union(*map(_files_in, inner))
