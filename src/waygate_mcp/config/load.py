"""From a file to a checked Document.

Knows where the document lies, how the environment outweighs it, and what must fit together across
its sections. Refuses to resolve references: they are resolved when used.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from waygate_mcp.config.client_block import with_client_servers
from waygate_mcp.config.document import (
    DEFAULT_ENDPOINT,
    EVERYTHING,
    Document,
    EndpointSection,
    PluginSection,
)
from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.config.problems import translate
from waygate_mcp.config.references import resolve_references
from waygate_mcp.config.settings import HOME, Settings
from waygate_mcp.config.suggest import nearest
from waygate_mcp.config.yaml_text import MAX_BYTES, KeyPath, YamlText, dotted, parse_yaml
from waygate_mcp.errors import ConfigError, ConfigProblem

FILE_NAME = "waygate.yaml"
HELLO = "waygate_mcp.plugins.builtin.hello"
"""What serves when there is no document at all."""


def find_document(settings: Settings, *, folder: Path | None = None) -> Path | None:
    """Give the document's path: the one set, `./waygate.yaml`, `~/.waygate/waygate.yaml`, or None.

    `folder` stands for the current one. A path that is set is given even if nothing is there.
    """
    if settings.config is not None:
        return settings.config
    for candidate in ((folder or Path()) / FILE_NAME, HOME.expanduser() / FILE_NAME):
        if candidate.is_file():
            return candidate
    return None


def load_document(path: Path | None, settings: Settings) -> Document:
    """Read, validate and complete the document at `path`; None gives the default document.

    Values of the environment replace those of the document, and the implicit endpoint is there.

    Raises:
        ConfigError: the file cannot be read, or every problem found in it.
    """
    if path is None:
        return complete_document(default_document(), settings)
    return parse_document(_read(path), settings, source=str(path))


def check_document(path: Path | None, settings: Settings) -> Document:
    """Do as `load_document` does, and also try to resolve the references of enabled plugins.

    Raises:
        ConfigError: as `load_document`, or every reference that cannot be resolved.
    """
    document = load_document(path, settings)
    try:
        resolve_references(
            {name: plugin.config for name, plugin in document.enabled_plugins().items()},
            data_dir=settings.data_dir,
        )
    except ConfigError as exc:
        text = parse_yaml(b"" if path is None else _read(path))
        problems = tuple(_placed(problem, text) for problem in exc.problems)
        raise ConfigError(problems=problems, source=str(path)) from None
    return document


def parse_document(data: bytes, settings: Settings, *, source: str = "") -> Document:
    """Validate and complete a document given as YAML text. See `load_document`."""
    text = parse_yaml(data, source=source)
    value = {} if text.value is None else text.value
    try:
        document = Document.model_validate(value)
    except ValidationError as exc:
        raise ConfigError(problems=translate(exc, Document, text), source=source) from None
    document, problems = with_client_servers(document, text)
    problems += _across(document, settings, text)
    if problems:
        raise ConfigError(problems=problems, source=source)
    return complete_document(document, settings)


def default_document() -> Document:
    """Give the document that is in force when there is none: the built-in plugin `hello`."""
    return Document(plugins={"hello": PluginSection(use=HELLO)})


def complete_document(document: Document, settings: Settings) -> Document:
    """Lay the environment over the document and add the implicit endpoint."""
    changes: dict[str, object] = {}
    if DEFAULT_ENDPOINT not in document.endpoints:
        changes["endpoints"] = {DEFAULT_ENDPOINT: EndpointSection(), **document.endpoints}
    outweighed: dict[str, object] = {
        name: getattr(settings, name)
        for name in ("allowed_hosts", "cors_origins")
        if name in settings.model_fields_set
    }
    if outweighed:
        changes["server"] = document.server.model_copy(update=outweighed)
    return document.model_copy(update=changes) if changes else document


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read the document: {exc.strerror}", source=str(path)) from exc


def _across(document: Document, settings: Settings, text: YamlText) -> list[ConfigProblem]:
    problems = []
    if document.auth.mode == "none" and not is_loopback(settings.host):
        message = (
            f"`none` is refused because the server listens on {settings.host}; use `keys`, or "
            "listen on 127.0.0.1"
        )
        problems.append(_problem(text, ("auth", "mode"), message))
    for name in document.upstreams:
        if name in document.plugins:
            message = "a plugin has this name too; the two would hide each other's tools"
            problems.append(_problem(text, ("upstreams", name), message))
    for name, endpoint in document.endpoints.items():
        problems.extend(_endpoint(document, name, endpoint, text))
    return problems


def _endpoint(
    document: Document, name: str, endpoint: EndpointSection, text: YamlText
) -> list[ConfigProblem]:
    problems = []
    for index, bound in enumerate(endpoint.bind):
        if bound != EVERYTHING and bound not in document.provider_names:
            place: KeyPath = ("endpoints", name, "bind", index)
            problems.append(_unknown_provider(document, text, place, bound))
    return [*problems, *_prefixes(document, name, endpoint, text)]


def _prefixes(
    document: Document, name: str, endpoint: EndpointSection, text: YamlText
) -> list[ConfigProblem]:
    problems = []
    everything = EVERYTHING in endpoint.bind
    bound = document.provider_names if everything else endpoint.bind
    # Every bound provider takes a prefix, if only its own name.
    taken = {alias: alias for alias in bound if alias not in endpoint.prefixes}
    for alias, prefix in endpoint.prefixes.items():
        path = ("endpoints", name, "prefixes", alias)
        if alias not in document.provider_names:
            problems.append(_unknown_provider(document, text, path, alias))
        elif alias not in bound:
            problems.append(_problem(text, path, "it is not bound here"))
        elif prefix and prefix in taken:
            problems.append(_problem(text, path, f"the same prefix as `{taken[prefix]}`"))
        taken.setdefault(prefix, alias)
    return problems


def _placed(problem: ConfigProblem, text: YamlText) -> ConfigProblem:
    # From `hello.token` among all configurations to `plugins.hello.config.token` in the file.
    plugin, _, rest = problem.path.partition(".")
    path = f"plugins.{plugin}.config.{rest}"
    places = {dotted(known): place for known, place in text.values.items()}
    line, column = places.get(path, (None, None))
    return ConfigProblem(path, problem.message, line, column, problem.suggestion)


def _unknown_provider(
    document: Document, text: YamlText, path: KeyPath, name: str
) -> ConfigProblem:
    hint = nearest(name, document.provider_names)
    return _problem(text, path, f"no plugin or upstream is named `{name}`", hint)


def _problem(
    text: YamlText, path: KeyPath, message: str, suggestion: str | None = None
) -> ConfigProblem:
    line, column = text.place(path) or (None, None)
    return ConfigProblem(dotted(path), message, line, column, suggestion)
