"""A plugin looked at without being served: what it would offer, and what is wrong with its schemas.

Knows how to construct a plugin and drop it again; nothing is entered, so no lifespan runs and nothing is
opened. Its module is imported, which runs the author's code. Refuses to judge servers of other makers:
what they offer is known once they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec

from waygate_mcp.config.document import PluginSection
from waygate_mcp.model.catalog import Kind
from waygate_mcp.plugins.construction import construct_plugin, offer_to_mount
from waygate_mcp.plugins.discovery import load_plugin
from waygate_mcp.plugins.files import PluginFiles
from waygate_mcp.plugins.mounted import mount
from waygate_mcp.toolkit.entries import Resource, Template
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.toolbox import Toolbox
from waygate_mcp.toolkit.validation import compile_schema, explain

__all__ = ["EntryReport", "PluginReport", "inspect_plugin"]

_TYPED = frozenset({
    "type", "$ref", "$dynamicRef", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if",
})  # fmt: skip


class EntryReport(msgspec.Struct, frozen=True):
    """One entry. `problems` are wrong for every client; `hints` leave a model guessing."""

    kind: str
    name: str
    problems: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


class PluginReport(msgspec.Struct, frozen=True):
    """A plugin constructed well. Of a mounted server the entries are not known."""

    name: str
    use: str
    entries: tuple[EntryReport, ...] = ()
    is_mounted: bool = False

    @property
    def is_well(self) -> bool:
        """Tell whether no entry has a problem."""
        return not any(entry.problems for entry in self.entries)

    def count(self, *kinds: Kind) -> int | None:
        """Count the entries of some kinds; None where they are not known."""
        if self.is_mounted:
            return None
        wanted = [kind.value for kind in kinds]
        return sum(entry.kind in wanted for entry in self.entries)


def inspect_plugin(name: str, section: PluginSection, files: PluginFiles) -> PluginReport:
    """Construct the plugin called `name`, check its configuration, and look at its entries.

    Raises:
        ConfigError: its `use` or `config` is wrong; the path begins with `plugins.NAME`.
        PluginError: its own code failed.
    """
    loaded = load_plugin(name, section.use, files)
    if offer_to_mount(name, section, loaded, _ignore, _mount) is not None:
        return PluginReport(name, section.use, is_mounted=True)
    made = construct_plugin(name, section, loaded)
    return PluginReport(name, section.use, tuple(_entries(made.box)))


def _mount(name: str, obj: object, config: Mapping[str, Any], announce: Any) -> Any:
    return mount(name, obj, config, announce, connect=_never)


def _never(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a server that is only looked at is not connected to")


def _ignore(_event: object) -> None:
    """Hear of changes nobody waits for."""


def _entries(box: Toolbox) -> Iterator[EntryReport]:
    for name, tool in box.tools.items():
        definition = msgspec.json.decode(tool.entry.definition)
        hints = [*_undescribed(definition), *_vague_arguments(tool.schema)]
        problems = [*_unfit(tool.schema), *_unfit(definition.get("outputSchema"))]
        yield EntryReport(Kind.TOOL.value, name, tuple(problems), tuple(hints))
    for name, prompt in box.prompts.items():
        definition = msgspec.json.decode(prompt.entry.definition)
        hints = [
            *_undescribed(definition),
            *(
                f"`{one['name']}` has no description"
                for one in definition.get("arguments", ())
                if "description" not in one
            ),
        ]
        yield EntryReport(Kind.PROMPT.value, name, hints=tuple(hints))
    resources: list[Resource | Template] = [*box.resources.values(), *box.templates.values()]
    for resource in resources:
        definition = msgspec.json.decode(resource.entry.definition)
        hints = list(_undescribed(definition))
        yield EntryReport(resource.entry.kind.value, resource.uri, hints=tuple(hints))


def _undescribed(definition: Mapping[str, Any]) -> Iterator[str]:
    if not definition.get("description"):
        yield "no description: write a docstring"


def _vague_arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    properties = schema.get("properties")
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(value, Mapping) or not _TYPED & value.keys():
            yield f"`{name}` has no type"
        if not isinstance(value, Mapping) or not value.get("description"):
            yield f"`{name}` has no description"


def _unfit(schema: Any) -> Iterator[str]:
    """Say which defaults and examples do not fit the very schema they stand in."""
    if not isinstance(schema, Mapping):
        return
    shared = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
    for path, part in _parts(schema, ()):
        shown = [("default", part["default"])] if "default" in part else []
        examples = part.get("examples")
        shown += [("example", one) for one in examples] if isinstance(examples, list) else []
        if not shown:
            continue
        where = ".".join(path) or "the whole"
        try:
            validator = compile_schema({**part, **shared}, what=where)
        except RegistrationError:
            # The whole is a schema, or it were not registered: this part leans on more than is shared.
            continue
        for word, value in shown:
            for fault in explain(validator, part, value):
                yield f"`{where}`: its {word} does not fit its own schema: {fault}"


def _parts(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Walk through the parts of a schema that have a name: members, and what they hold."""
    yield path, schema
    for keyword in ("properties", "$defs", "definitions"):
        members = schema.get(keyword)
        for name, part in members.items() if isinstance(members, Mapping) else ():
            if isinstance(part, Mapping):
                yield from _parts(part, (*path, name))
    items = schema.get("items")
    if isinstance(items, Mapping):
        yield from _parts(items, (*path, "[]"))
