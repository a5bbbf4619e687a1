"""From a file to a checked Document.

Knows where the document lies, how the environment outweighs it, and what must fit together across
its sections. Refuses to resolve references: they are resolved when used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from waygate_mcp.config.client_block import path_in_file, with_client_servers
from waygate_mcp.config.document import (
    DEFAULT_ENDPOINT,
    EVERYTHING,
    Document,
    EndpointSection,
    PluginSection,
)
from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.config.problems import translate
from waygate_mcp.config.references import NOTHING_KNOWN, KnownSecrets, resolve_references
from waygate_mcp.config.roles import roles_of
from waygate_mcp.config.settings import HOME, Settings
from waygate_mcp.config.suggest import nearest
from waygate_mcp.config.yaml_text import MAX_BYTES, KeyPath, YamlText, dotted, parse_yaml
from waygate_mcp.errors import ConfigError, ConfigProblem

FILE_NAME = "waygate.yaml"
HELLO = "waygate_mcp.plugins.builtin.hello"
"""What serves when there is no document at all."""

Examine = Callable[[Document, Path | None, Path, KnownSecrets], Sequence[ConfigProblem]]
"""Looks at a document, the folder it lies in, the data folder and what is known of secrets.

Paths begin at the document.
"""


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
    return parse_document(read_document(path), settings, source=str(path))


def check_document(
    path: Path | None,
    settings: Settings,
    examine: Examine | None = None,
    fetch: Callable[[Document], KnownSecrets] | None = None,
) -> Document:
    """Do as `load_document` does, and also try to resolve the references of enabled plugins.

    `examine` looks at what this room cannot judge, such as upstreams; what it finds is given its
    place in the file. `fetch` gives what the store and Vault know of secrets.

    Raises:
        ConfigError: as `load_document`, or every problem found beyond that.
    """
    document = load_document(path, settings)
    known = NOTHING_KNOWN if fetch is None else fetch(document)
    folder = None if path is None else path.parent
    problems = examine_document(document, settings, folder, known, examine)
    if problems:
        raise locate(ConfigError(problems=problems), path)
    return document


def examine_document(
    document: Document,
    settings: Settings,
    folder: Path | None,
    known: KnownSecrets = NOTHING_KNOWN,
    examine: Examine | None = None,
) -> list[ConfigProblem]:
    """Find what is wrong with a valid document beyond its text. See `check_document`.

    `folder` is the document's.
    """
    problems: list[ConfigProblem] = []
    for name, plugin in document.enabled_plugins().items():
        try:
            resolve_references(
                plugin.config,
                data_dir=settings.data_dir,
                path=f"plugins.{name}.config",
                known=known,
            )
        except ConfigError as exc:
            problems.extend(exc.problems)
    if examine is not None:
        problems.extend(examine(document, folder, settings.data_dir, known))
    return problems


def locate(error: ConfigError, path: Path | None) -> ConfigError:
    """Give an error found beyond the document's schema its places in the file, as far as it has any.

    What names its place or its source already is given back as it is; and so is everything where the
    file cannot be read any more.
    """
    if path is None:
        return error
    try:
        data = read_document(path)
    except ConfigError:
        return error
    return place_in(error, data, source=str(path))


def place_in(error: ConfigError, data: bytes, *, source: str) -> ConfigError:
    """Do as `locate` does, in a text that need not be in its file."""
    if error.source or any(problem.line for problem in error.problems):
        return error
    try:
        text = parse_yaml(data)
    except ConfigError:
        return error
    placed = _placed(error.problems, text)
    has_place = any(problem.line for problem in placed)
    return ConfigError(problems=placed, source=source) if has_place else error


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


def read_document(path: Path) -> bytes:
    """Read the bytes of a document, of one that is too long a part that is.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read the document: {exc.strerror}", source=str(path)) from exc


def _across(document: Document, settings: Settings, text: YamlText) -> list[ConfigProblem]:
    problems = _auth(document, settings, text)
    for name in document.upstreams:
        if name in document.plugins:
            message = "a plugin has this name too; the two would hide each other's tools"
            problems.append(_problem(text, ("upstreams", name), message))
    for name, endpoint in document.endpoints.items():
        problems.extend(_endpoint(document, name, endpoint, text))
    return problems


def _auth(document: Document, settings: Settings, text: YamlText) -> list[ConfigProblem]:
    auth = document.auth
    problems = []
    if auth.mode == "none" and not is_loopback(settings.host):
        message = (
            f"`none` is refused because the server listens on {settings.host}; use `keys`, or "
            "listen on 127.0.0.1"
        )
        problems.append(_problem(text, ("auth", "mode"), message))
    if auth.takes_tokens and auth.oauth is None:
        message = f"`{auth.mode}` needs `auth.oauth.issuers`: whose access tokens are taken"
        problems.append(_problem(text, ("auth", "mode"), message))
    elif auth.oauth is not None and not auth.takes_tokens:
        message = (
            f"nobody reads this while `auth.mode` is `{auth.mode}`; write `keys+oauth` or `oauth`"
        )
        problems.append(_problem(text, ("auth", "oauth"), message))
    if auth.takes_tokens and document.server.public_url is None:
        message = (
            "needs `server.public_url`: the URL under which clients reach this server, which tokens "
            "must name as their audience"
        )
        problems.append(_problem(text, ("auth", "mode"), message))
    return [*problems, *_shadow_roles(document, text), *_granted_roles(document, text)]


def _shadow_roles(document: Document, text: YamlText) -> list[ConfigProblem]:
    """Find roles in shadow that nobody can have."""
    known = roles_of(document.roles)
    return [
        _problem(text, ("shadow_roles", role), f"no role is named `{role}`", nearest(role, known))
        for role in document.shadow_roles
        if role not in known
    ]


def _granted_roles(document: Document, text: YamlText) -> list[ConfigProblem]:
    """Find the roles that access tokens would grant and that nobody has defined."""
    known = roles_of(document.roles)
    issuers = () if document.auth.oauth is None else document.auth.oauth.issuers
    problems = []
    for number, issuer in enumerate(issuers):
        for value, words in issuer.grants.items():
            for index, word in enumerate(words):
                if word != EVERYTHING and ":" not in word and word not in known:
                    path = ("auth", "oauth", "issuers", number, "grants", value, index)
                    message = f"no role is named `{word}`"
                    problems.append(_problem(text, path, message, nearest(word, known)))
    return problems


def _endpoint(
    document: Document, name: str, endpoint: EndpointSection, text: YamlText
) -> list[ConfigProblem]:
    problems = []
    for index, bound in enumerate(endpoint.bind):
        if bound != EVERYTHING and bound not in document.provider_names:
            place: KeyPath = ("endpoints", name, "bind", index)
            problems.append(_unknown_provider(document, text, place, bound))
    return [
        *problems,
        *_prefixes(document, name, endpoint, text),
        *_uris(document, name, endpoint, text),
        *_tools(name, endpoint, text),
    ]


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


def _uris(
    document: Document, name: str, endpoint: EndpointSection, text: YamlText
) -> list[ConfigProblem]:
    problems = []
    bound = document.holders(name)
    taken: dict[str, str] = {}
    named = [("uri_prefixes", alias, alias) for alias in endpoint.uri_prefixes]
    named += [("schemes", scheme, alias) for scheme, alias in endpoint.schemes.items()]
    for section, key, alias in named:
        path = ("endpoints", name, section, key)
        if alias not in document.provider_names:
            problems.append(_unknown_provider(document, text, path, alias))
        elif alias not in bound:
            problems.append(_problem(text, path, f"`{alias}` is not bound here"))
        elif section == "schemes" and alias in endpoint.uri_prefixes:
            message = f"the URIs of `{alias}` have a prefix, so that none of them has this scheme"
            problems.append(_problem(text, path, message))
        elif section == "uri_prefixes":
            prefix = endpoint.uri_prefixes[alias]
            if prefix in taken:
                problems.append(_problem(text, path, f"the same prefix as `{taken[prefix]}`"))
            taken.setdefault(prefix, alias)
    return problems


def _tools(name: str, endpoint: EndpointSection, text: YamlText) -> list[ConfigProblem]:
    tools = endpoint.tools
    problems = []
    taken: dict[str, str] = {}
    for old, new in tools.rename.items():
        path = ("endpoints", name, "tools", "rename", old)
        if old == new:
            problems.append(_problem(text, path, "that is the name it has"))
        elif new in taken:
            problems.append(_problem(text, path, f"the same new name as `{taken[new]}`"))
        elif new in tools.deny:
            problems.append(_problem(text, path, f"`{new}` is denied here"))
        taken.setdefault(new, old)
    for section in ("rename", "titles", "describe"):
        for old in getattr(tools, section):
            path = ("endpoints", name, "tools", section, old)
            if old in tools.deny:
                problems.append(_problem(text, path, f"`{old}` is denied here"))
            elif section != "rename" and old in taken and old not in tools.rename:
                message = f"it is named by what it is called without `rename`: `{taken[old]}`"
                problems.append(_problem(text, path, message))
    return problems


def _placed(problems: Sequence[ConfigProblem], text: YamlText) -> tuple[ConfigProblem, ...]:
    """Give each problem the place of its value, or of the nearest one around it, in file order.

    What is about no key of the file (a setting, for example) has no place.
    """
    places = {dotted(known): place for known, place in text.values.items()}
    placed = []
    for problem in problems:
        path = around = path_in_file(problem.path, text)
        while around and around not in places:
            around = around[: max(around.rfind("."), around.rfind("["), 0)]
        line, column = places[around] if around else (None, None)
        placed.append(ConfigProblem(path, problem.message, line, column, problem.suggestion))
    return tuple(sorted(placed, key=lambda each: (each.line or 0, each.column or 0)))


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
