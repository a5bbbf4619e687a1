"""The document's models: defaults, bounds, and what an endpoint serves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from waygate_mcp.config.audit import AuditSection
from waygate_mcp.config.concurrent import ConcurrentSection
from waygate_mcp.config.document import (
    AuthSection,
    Document,
    EndpointSection,
    FilterSection,
    LimitsSection,
    PluginSection,
    ServerSection,
    ToolsSection,
)
from waygate_mcp.config.oauth import IssuerSection, OAuthSection
from waygate_mcp.config.rates import RatesSection
from waygate_mcp.config.secret_sources import (
    AppRoleSection,
    KubernetesSection,
    SecretsSection,
    VaultSection,
)
from waygate_mcp.config.section import Section
from waygate_mcp.config.upstream import UpstreamLimitsSection, UpstreamSection

ISSUER = {"issuer": "https://login.example.org", "grants": {"mcp": ["tools:call"]}}


def sections() -> Sequence[type[BaseModel]]:
    return Section.__subclasses__()


def test_an_empty_document_is_valid_and_has_the_default_endpoint() -> None:
    document = Document()
    assert document.auth.mode == "keys"
    assert document.endpoints["default"].bind == ("*",)
    assert document.plugins == {}


def test_every_key_has_a_default_and_a_description() -> None:
    for section in sections():
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            is_optional_whole = section in (VaultSection, KubernetesSection, AppRoleSection)
            is_needed = name in ("use", "issuer", "issuers", "grants") or is_optional_whole
            assert is_needed or not field.is_required()


def test_every_limit_has_its_unit_in_its_name_or_counts_something() -> None:
    counted = ("_per_principal", "_per_upstream", "_total", "_events", "_max", "_threads", "_size")
    for name in LimitsSection.model_fields:
        assert name.endswith(("_s", "_bytes", *counted)) or name in ("rates", "concurrent"), name


def test_every_limit_has_both_bounds() -> None:
    for name in LimitsSection.model_fields:
        for number in (-1, 10**15):
            with pytest.raises(ValidationError):
                LimitsSection.model_validate({name: number})


@pytest.mark.parametrize("section", sections())
def test_nothing_can_be_added_or_changed(section: type[BaseModel]) -> None:
    all_needed: dict[type[BaseModel], dict[str, Any]] = {
        PluginSection: {"use": "x"},
        UpstreamSection: {"command": "x"},
        IssuerSection: ISSUER,
        OAuthSection: {"issuers": [ISSUER]},
        VaultSection: {"address": "https://vault.example.org", "token": "${env:T}"},
        KubernetesSection: {"role": "x"},
        AppRoleSection: {"role_id": "x", "secret_id": "${env:S}"},
    }
    needed = all_needed.get(section, {})
    with pytest.raises(ValidationError):
        section.model_validate({**needed, "no_such_key": 1})
    made = section.model_validate(needed)
    with pytest.raises(ValidationError):
        setattr(made, next(iter(section.model_fields)), None)


def test_hosts_and_origins_that_are_ours() -> None:
    server = ServerSection(
        public_url="https://MCP.example.org",
        allowed_hosts=("other.example.org:8443",),
        allowed_origins=("https://a.example.org",),
        cors_origins=("https://b.example.org:443",),
    )
    assert server.accepted_hosts == {
        "localhost", "127.0.0.1", "[::1]", "mcp.example.org", "other.example.org:8443",
    }  # fmt: skip
    assert server.accepted_origins == {
        "https://mcp.example.org", "https://a.example.org", "https://b.example.org",
    }  # fmt: skip


def test_without_configuration_only_loopback_names_and_no_origin_are_ours() -> None:
    assert ServerSection().accepted_hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert ServerSection().accepted_origins == frozenset()


def test_what_is_bound_is_what_is_enabled_in_the_order_of_bind() -> None:
    document = Document(
        plugins={
            "a": PluginSection(use="x"),
            "b": PluginSection(use="x", enabled=False),
            "c": PluginSection(use="x"),
        },
        endpoints={
            "all": EndpointSection(),
            "some": EndpointSection(bind=("c", "b", "*")),
            "none": EndpointSection(bind=()),
        },
    )
    assert list(document.enabled_plugins()) == ["a", "c"]
    assert document.bound_providers("all") == ("a", "c")
    assert document.bound_providers("some") == ("c", "a")
    assert document.bound_providers("none") == ()


def test_names_are_held_by_all_that_are_bound_enabled_or_not() -> None:
    document = Document(
        plugins={"a": PluginSection(use="x"), "b": PluginSection(use="x", enabled=False)},
        endpoints={"all": EndpointSection(), "some": EndpointSection(bind=("b",))},
    )
    assert document.holders("all") == ("a", "b")
    assert document.holders("some") == ("b",)


def test_an_endpoint_that_does_not_exist_binds_nothing() -> None:
    with pytest.raises(KeyError):
        Document().bound_providers("nowhere")


@pytest.mark.parametrize("use", ["m", "pkg.mod", "pkg.mod:attr", "pkg.mod:a.b", "my-entry-point"])
def test_a_plugin_is_a_module_an_attribute_or_an_entry_point(use: str) -> None:
    assert PluginSection(use=use).use == use


@pytest.mark.parametrize(
    "use", ["", "../x", "a/b", "a b", "a:", ":a", "a:b:c", "http://x", "x" * 257]
)
def test_a_plugin_is_never_a_path_or_a_url(use: str) -> None:
    with pytest.raises(ValidationError):
        PluginSection(use=use)


@pytest.mark.parametrize("name", ["a", "a-b_c", "0x", "a" * 63])
def test_a_name_of_ours_is_short_and_plain(name: str) -> None:
    assert name in Document(plugins={name: PluginSection(use="x")}).plugins


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a.b", "a/b", "a b", "a__b", "a_", "a" * 64, "ä", "a\n"]
)
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Document(plugins={name: PluginSection(use="x")})
    with pytest.raises(ValidationError):
        EndpointSection(prefixes={"a": name or "__"})


def test_an_empty_prefix_is_allowed() -> None:
    assert EndpointSection(prefixes={"a": ""}).prefixes == {"a": ""}


def test_words_that_are_not_listed_are_refused() -> None:
    with pytest.raises(ValidationError):
        AuthSection.model_validate({"mode": "oauth2"})


HEADINGS: dict[str, type[Section]] = {
    "server": ServerSection,
    "auth": AuthSection,
    "auth.oauth": OAuthSection,
    "auth.oauth.issuers[]": IssuerSection,
    "limits": LimitsSection,
    "secrets": SecretsSection,
    "secrets.vault": VaultSection,
    "secrets.vault.kubernetes": KubernetesSection,
    "secrets.vault.approle": AppRoleSection,
    "audit": AuditSection,
    "limits.rates": RatesSection,
    "limits.concurrent": ConcurrentSection,
    "plugins.NAME": PluginSection,
    "upstreams.NAME": UpstreamSection,
    "upstreams.NAME.limits": UpstreamLimitsSection,
    "endpoints.NAME": EndpointSection,
    "endpoints.NAME.tools": ToolsSection,
    "endpoints.NAME.prompts": FilterSection,
    "endpoints.NAME.resources": FilterSection,
}


def documented_keys() -> dict[str, list[str]]:
    """The rows docs/configuration.md must have, by section."""
    return {
        heading: [_row(*item) for item in section.model_fields.items()]
        for heading, section in HEADINGS.items()
    }


def _row(name: str, field: FieldInfo) -> str:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if field.is_required():
        shown = "required"
    elif isinstance(default, bool):
        shown = f"`{str(default).lower()}`"
    elif isinstance(default, tuple):
        shown = f"`[{', '.join(repr(each) for each in default)}]`".replace("'", '"')
    elif isinstance(default, BaseModel):
        shown = "below"
    else:
        shown = "–" if default in (None, {}) else f"`{default}`"
    return f"| `{name}` | {shown} | {field.description} |"


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_page_has_a_row_for_every_key_and_no_other(heading: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    _, _, section = page.partition(f"\n### `{heading}`\n")
    lines = section.split("\n#")[0].splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == documented_keys()[heading]


def test_every_section_is_on_the_page() -> None:
    assert set(HEADINGS.values()) == set(Section.__subclasses__()) - {Document}


def test_every_key_is_read_somewhere() -> None:
    # A key nobody reads is one nobody enforces. Reading is an attribute access: `.page_size`.
    package = Path(__file__).parents[3] / "src" / "waygate_mcp"
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    read = set(re.findall(r"\.([a-zA-Z_]+)\b", source))
    keys = {name for section in sections() for name in section.model_fields} - {"version"}
    assert keys - read == set()
