"""The document, `waygate.yaml`, as frozen models.

Knows every key, its unit, its default and its bounds. Refuses to read files, to resolve references
and to check one section against another (`load.py` does). Every key here is enforced somewhere; a
key nobody enforces does not belong here. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from waygate_mcp.config.audit import AuditSection
from waygate_mcp.config.client_servers import CLIENT_SERVERS_SCHEMA
from waygate_mcp.config.concurrent import ConcurrentSection
from waygate_mcp.config.hosts import LOOPBACK_HOSTS, parse_host, parse_origin
from waygate_mcp.config.oauth import OAuthSection
from waygate_mcp.config.patterns import (
    BOUND_PATTERN,
    NAME_PATTERN,
    PREFIX_PATTERN,
    PUBLIC_NAME_PATTERN,
    SCHEME_PATTERN,
    URI_PREFIX_PATTERN,
    USE_PATTERN,
)
from waygate_mcp.config.quarantine import Quarantine
from waygate_mcp.config.rates import RatesSection
from waygate_mcp.config.roles import Permission
from waygate_mcp.config.secret_sources import SecretsSection
from waygate_mcp.config.section import Section, items
from waygate_mcp.config.upstream import UpstreamSection

DEFAULT_ENDPOINT = "default"
"""The endpoint that is served at /mcp and exists without being written."""

EVERYTHING = "*"
"""In `bind`: every enabled provider."""


def _unspoofable(name: str) -> str:
    if "__" in name or name.endswith("_"):
        raise ValueError(
            "a name may not hold `__` or end in `_`, which stand between name and tool"
        )
    return name


def _host(text: str) -> str:
    return parse_host(text)


def _origin(text: str) -> str:
    return parse_origin(text)


Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    AfterValidator(_unspoofable),
]
"""A name of ours: 1 to 63 of `a-z 0-9 _ -`, beginning with a letter or digit."""

Bound = Annotated[
    str,
    StringConstraints(pattern=BOUND_PATTERN),
]
"""A name of ours, or `*`."""

Prefix = Annotated[
    str,
    StringConstraints(pattern=PREFIX_PATTERN),
    AfterValidator(_unspoofable),
]
Host = Annotated[str, StringConstraints(max_length=300), AfterValidator(_host)]
Origin = Annotated[str, StringConstraints(max_length=300), AfterValidator(_origin)]
ClientServers = Annotated[dict[str, dict[str, Any]], WithJsonSchema(dict(CLIENT_SERVERS_SCHEMA))]
"""Servers in the shape desktop clients write; `client_servers.py` knows their members."""
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A whole public name in which `*` stands for any text."""

PublicName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NewName = Annotated[str, StringConstraints(pattern=PUBLIC_NAME_PATTERN)]
UriPrefix = Annotated[str, StringConstraints(pattern=URI_PREFIX_PATTERN)]
Scheme = Annotated[str, StringConstraints(pattern=SCHEME_PATTERN)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Description = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


class ServerSection(Section):
    """How the HTTP doors present themselves and whom they answer."""

    public_url: Origin | None = Field(
        None,
        description="Origin under which clients reach this server, for example "
        "`https://mcp.example.org`; its host and origin are accepted.",
    )
    allowed_hosts: tuple[Host, ...] = items(
        "Values of the Host header accepted beside the loopback names and `public_url`; a name "
        "without a port is accepted with any port.",
        default=(),
    )
    allowed_origins: tuple[Origin, ...] = items(
        "Origins of web pages whose requests are accepted; any other Origin is 403.", default=()
    )
    cors_origins: tuple[Origin, ...] = items(
        "Origins that are accepted and get CORS answers, so that their scripts can read ours.",
        default=(),
    )
    metrics: Literal["protected", "public"] = Field(
        "protected",
        description="`protected`: /metrics needs `metrics:read`; `public`: open to all.",
    )
    remote_changes: Literal["safe", "all"] = Field(
        "safe",
        description="What the admin API may change of this document. `safe`: nothing that says what is run "
        "here, which private addresses are dialled, where secrets come from or whether there is a record; "
        "`all`: everything. Only the file can say `all`.",
    )
    http_sse: bool = Field(
        False, description="Open the HTTP+SSE door of 2024-11-05 (`/sse` and `/messages/…`)."
    )

    @property
    def accepted_hosts(self) -> frozenset[str]:
        """Values of Host that are ours, lower case; those without a port stand for any port."""
        public = () if self.public_url is None else (self.public_url.partition("://")[2],)
        return frozenset((*LOOPBACK_HOSTS, *public, *self.allowed_hosts))

    @property
    def accepted_origins(self) -> frozenset[str]:
        """Values of Origin that are accepted, normalised as `parse_origin` does."""
        public = () if self.public_url is None else (self.public_url,)
        return frozenset((*public, *self.allowed_origins, *self.cors_origins))


class AuthSection(Section):
    """Who may call."""

    mode: Literal["keys", "oauth", "keys+oauth", "none"] = Field(
        "keys",
        description="`keys`: every call carries a key. `oauth`: every call carries an access token of an "
        "issuer in `oauth`. `keys+oauth`: either. `none`: nobody is asked; refused unless the server "
        "listens on loopback.",
    )
    oauth: OAuthSection | None = Field(
        None, description="Whose access tokens are taken, where `mode` names `oauth`."
    )

    @property
    def takes_keys(self) -> bool:
        """Whether a key lets a caller in."""
        return self.mode in ("keys", "keys+oauth")

    @property
    def takes_tokens(self) -> bool:
        """Whether an access token lets a caller in."""
        return self.mode in ("oauth", "keys+oauth")


class LimitsSection(Section):
    """Bounds on time, number and size; each is enforced and none trips an honest client."""

    call_timeout_s: float = Field(
        300, gt=0, le=3600, description="Seconds a call may take from door to answer."
    )
    question_timeout_s: float = Field(
        600, gt=0, le=86_400, description="Seconds a client may think about one question of a call."
    )
    parked_call_timeout_s: float = Field(
        1800,
        gt=0,
        le=86_400,
        description="Seconds a call with questions may last, thinking included.",
    )
    parked_per_principal: int = Field(
        16, ge=0, le=10_000, description="Parked calls of one principal; more are refused."
    )
    parked_per_upstream: int = Field(
        64,
        ge=0,
        le=1_000_000,
        description="Parked calls at one upstream or plugin; more are refused.",
    )
    parked_total: int = Field(
        1000, ge=0, le=1_000_000, description="Parked calls of one process; more are refused."
    )
    session_idle_s: float = Field(
        3600,
        gt=0,
        le=2_592_000,
        description="Seconds after which an unused session gives up its place in memory.",
    )
    sessions_max: int = Field(
        10_000, ge=1, le=1_000_000, description="Sessions of one process; more are refused."
    )
    stream_events: int = Field(
        256, ge=1, le=100_000, description="Events kept for each stream so that it can be resumed."
    )
    stream_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Bytes kept for each stream so that it can be resumed.",
    )
    stream_keep_s: float = Field(
        300, ge=0, le=86_400, description="Seconds a broken stream can still be resumed."
    )
    listen_streams_per_principal: int = Field(
        64, ge=1, le=100_000, description="Open listening streams of one principal."
    )
    keep_alive_s: float = Field(
        15, gt=0, le=3600, description="Seconds of silence after which a stream gets a comment."
    )
    page_size: int = Field(1000, ge=1, le=10_000, description="Entries on one page of a list.")
    connections_max: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="Open connections of one process; more get 503.",
    )
    calls_in_flight_max: int = Field(
        1024, ge=1, le=1_000_000, description="Calls one process works on at once; more get 503."
    )
    sync_threads: int = Field(
        16, ge=1, le=1024, description="Threads that run functions written without `async`."
    )
    drain_s: float = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds calls in flight may still run when the server stops.",
    )
    rates: RatesSection = Field(
        default_factory=RatesSection, description="How often callers may call."
    )
    concurrent: ConcurrentSection = Field(
        default_factory=ConcurrentSection, description="How many calls callers may have at once."
    )


class PluginSection(Section):
    """One plugin, by the name it has here."""

    use: Annotated[
        str,
        StringConstraints(pattern=USE_PATTERN, max_length=256),
    ] = Field(
        description="What to load: `module`, `./file.py`, either with `:attribute`, or the name of an entry point."
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The plugin's own configuration; `${env:…}`, `${secret:…}`, `${file:…}` allowed.",
    )
    enabled: bool = Field(True, description="Whether it is loaded.")


class ToolsSection(Section):
    """Which tools of an endpoint are seen and callable; `deny` outweighs `allow`."""

    allow: tuple[Pattern, ...] = items(
        "Public names that exist here, `*` for any text; an empty list allows nothing.",
        default=(EVERYTHING,),
    )
    deny: tuple[Pattern, ...] = items("Public names that do not exist here.", default=())
    rename: dict[PublicName, NewName] = Field(
        default_factory=dict,
        max_length=1000,
        description="Other names for single tools, by the public names they have without this.",
    )
    titles: dict[PublicName, Title] = Field(
        default_factory=dict,
        max_length=1000,
        description="Titles instead of the tools' own, by the same names.",
    )
    describe: dict[PublicName, Description] = Field(
        default_factory=dict,
        max_length=1000,
        description="Descriptions instead of the tools' own, by the same names.",
    )


class FilterSection(Section):
    """Which prompts or resources of an endpoint are seen and usable; `deny` outweighs `allow`."""

    allow: tuple[Pattern, ...] = items(
        "Public names or URIs that exist here, `*` for any text; an empty list allows nothing.",
        default=(EVERYTHING,),
    )
    deny: tuple[Pattern, ...] = items("Public names or URIs that do not exist here.", default=())


class EndpointSection(Section):
    """One catalog under one URL."""

    bind: tuple[Bound, ...] = items(
        "Names of the plugins and upstreams it serves; `*` is all of them.", default=(EVERYTHING,)
    )
    prefix: Literal["auto", "none"] = Field(
        "auto",
        description="`auto`: names are `plugin__name` where several plugins or upstreams are bound, "
        "and verbatim where there is one; once published they stay so. `none`: always verbatim; where "
        "names clash, the first to publish one keeps it and the other is left out and reported.",
    )
    prefixes: dict[Name, Prefix] = Field(
        default_factory=dict,
        description="Text instead of a plugin's or an upstream's name before `__`; `\"\"` leaves its "
        "names verbatim.",
    )
    uri_prefixes: dict[Name, UriPrefix] = Field(
        default_factory=dict,
        description="Text before the URIs of a plugin or upstream whose URIs clash with others': "
        "`memo://a` becomes `text+memo://a`, and `ui://a` becomes `ui://text/a`.",
    )
    schemes: dict[Scheme, Name] = Field(
        default_factory=dict,
        max_length=256,
        description="Who is asked for URIs of a scheme that stand in no list and fit no template.",
    )
    strict: bool = Field(
        False,
        description="Whether a list of which a part cannot be had is an error that names the upstream; "
        "otherwise it shows the last copy of that part, or does without it.",
    )
    tools: ToolsSection = Field(
        default_factory=ToolsSection,
        description="Which tools are seen and callable, under which names and words.",
    )
    prompts: FilterSection = Field(
        default_factory=FilterSection, description="Which prompts are seen and usable."
    )
    resources: FilterSection = Field(
        default_factory=FilterSection,
        description="Which resources are seen and readable, by URI or URI template.",
    )
    instructions: Annotated[str, StringConstraints(max_length=16_384)] | None = Field(
        None, description="Instructions for the model, instead of those of the plugins."
    )


class Document(Section):
    """The whole document. One without any key is valid and serves nothing but what is built in."""

    version: Literal[1] = Field(1, description="Version of this format.")
    server: ServerSection = Field(
        default_factory=ServerSection, description="How the HTTP doors present themselves."
    )
    auth: AuthSection = Field(default_factory=AuthSection, description="Who may call.")
    roles: dict[Name, Annotated[tuple[Permission, ...], Field(strict=False, max_length=1000)]] = (
        Field(
            default_factory=dict,
            max_length=256,
            description="Roles by name, beside the built-in viewer, operator and admin: lists of "
            "permissions such as `tools:call` or `tools:call:files__*`.",
        )
    )
    shadow_roles: dict[
        Name, Annotated[tuple[Permission, ...], Field(strict=False, max_length=1000)]
    ] = Field(
        default_factory=dict,
        max_length=256,
        description="What roles shall become, by name: whom that would refuse is counted, logged, recorded "
        "and told by `waygate explain`, and nobody is refused.",
    )
    limits: LimitsSection = Field(
        default_factory=LimitsSection, description="Bounds on time, number and size."
    )
    quarantine: Quarantine = Field(
        "first-use",
        description="Definitions of upstreams that nobody approved. `first-use`: what is new is trusted, "
        "what changed is held back until it is approved. `on`: what is new is held back too. `off`: all is "
        "trusted, whatever it becomes.",
    )
    secrets: SecretsSection = Field(
        default_factory=SecretsSection, description="Where `${secret:NAME}` looks besides."
    )
    audit: AuditSection = Field(
        default_factory=AuditSection, description="The record of every call."
    )
    plugins: dict[Name, PluginSection] = Field(
        default_factory=dict, max_length=256, description="Python code that answers calls, by name."
    )
    upstreams: dict[Name, UpstreamSection] = Field(
        default_factory=dict, max_length=256, description="MCP servers that are served, by name."
    )
    mcpServers: ClientServers = Field(  # noqa: N815 - the clients' own word
        default_factory=dict,
        max_length=256,
        description="MCP servers in the shape desktop clients write, served as if they stood in `upstreams`.",
    )
    endpoints: dict[Name, EndpointSection] = Field(
        default_factory=lambda: {DEFAULT_ENDPOINT: EndpointSection()},
        max_length=256,
        description="Catalogs by name. `default` is served at /mcp and always exists; the others at "
        "/servers/{name}/mcp.",
    )

    def enabled_plugins(self) -> dict[str, PluginSection]:
        """Give the plugins that are to be loaded, in the order of the document."""
        return {name: plugin for name, plugin in self.plugins.items() if plugin.enabled}

    def enabled_upstreams(self) -> dict[str, UpstreamSection]:
        """Give the upstreams that are to be served, in the order of the document."""
        return {name: section for name, section in self.upstreams.items() if section.enabled}

    def quarantine_of(self, upstream: str) -> Quarantine:
        """Give what holds for an upstream; what holds for all where it says nothing."""
        section = self.upstreams.get(upstream)
        return (None if section is None else section.quarantine) or self.quarantine

    @property
    def provider_names(self) -> tuple[str, ...]:
        """The names of all plugins and upstreams, enabled or not, plugins first."""
        return (*self.plugins, *self.upstreams)

    def holders(self, endpoint: str) -> tuple[str, ...]:
        """Give all plugins and upstreams an endpoint binds, enabled or not, in the order of `bind`.

        Raises:
            KeyError: no endpoint of that name.
        """
        return _bound(self.endpoints[endpoint].bind, self.provider_names)

    def bound_providers(self, endpoint: str) -> tuple[str, ...]:
        """Give the enabled plugins and upstreams an endpoint serves, in the order of `bind`.

        Raises:
            KeyError: no endpoint of that name.
        """
        enabled = (*self.enabled_plugins(), *self.enabled_upstreams())
        return _bound(self.endpoints[endpoint].bind, enabled)


def endpoint_path(name: str) -> str:
    """Give the path an endpoint is served at."""
    return "/mcp" if name == DEFAULT_ENDPOINT else f"/servers/{name}/mcp"


def _bound(bind: Iterable[str], enabled: Iterable[str]) -> tuple[str, ...]:
    known = tuple(enabled)
    found: dict[str, None] = {}
    for name in bind:
        wanted = known if name == EVERYTHING else (name,)
        found.update(dict.fromkeys(one for one in wanted if one in known))
    return tuple(found)
