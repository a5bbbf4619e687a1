"""What an import would do to the document, server by server.

Knows which servers are new, which are there, what of each is not taken over and which secrets are moved.
Deciding changes nothing; `edited` gives the new text. Refuses to write files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import ValidationError

from waygate_mcp.config.client_servers import (
    Translation,
    own_name,
    plain_variables,
    translate_server,
)
from waygate_mcp.config.document import Document
from waygate_mcp.config.document_text import put_entry
from waygate_mcp.config.problems import translate
from waygate_mcp.config.references import SECRETS_FOLDER
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import YamlText, dotted
from waygate_mcp.errors import ConfigProblem
from waygate_mcp.importers.found_servers import FoundServer, Left, Reading
from waygate_mcp.importers.secret_texts import move_secrets, secret_name

__all__ = ["Action", "Scene", "Step", "edited", "plan_import"]

Action = Literal["add", "replace", "same", "keep", "skip"]
"""keep: another server has this name here and stays. skip: it cannot or should not be taken."""


def _find_nothing(_name: str, _section: UpstreamSection) -> Sequence[ConfigProblem]:
    return ()


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an import happens. `folder` is the document's, `examine` says what keeps a server from being opened.

    `own_ports` are the loopback ports at which this gateway itself may be.
    """

    document: Document
    data_dir: Path
    folder: Path
    examine: Callable[[str, UpstreamSection], Sequence[ConfigProblem]] = _find_nothing
    replace: bool = False
    own_ports: frozenset[int] = frozenset()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path = field(default_factory=Path.home)


@dataclass(slots=True)
class Step:
    """What becomes of one server. `notes` say what was not taken over, or only in another form."""

    name: str
    theirs: str
    file: Path
    path: str
    action: Action
    section: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    notes: list[Left] = field(default_factory=list)

    @property
    def is_written(self) -> bool:
        """Whether the document changes for it."""
        return self.action in ("add", "replace")


def plan_import(readings: Iterable[Reading], scene: Scene) -> list[Step]:
    """Decide what becomes of every server of every file, in their order."""
    steps: list[Step] = []
    taken: dict[str, Step] = {}
    secrets: dict[str, str] = {}
    for reading in readings:
        for found in reading.servers:
            step = _Work(reading, found, scene, secrets).step()
            if step.action != "skip":
                _settle(step, taken, scene)
            steps.append(step)
    return steps


def edited(text: str, steps: Iterable[Step], *, source: str) -> str:
    """Give the document with what the steps write.

    Raises:
        ConfigError: see `put_entry`.
    """
    for step in steps:
        if step.is_written:
            text = put_entry(text, "upstreams", step.name, step.section, source=source)
    return text


def _settle(step: Step, taken: dict[str, Step], scene: Scene) -> None:
    """Decide between adding, replacing and keeping; a name two servers want gets a number."""
    wanted, number = step.name, 1
    while (other := taken.get(step.name)) is not None:
        if _as_model(other.section) == _as_model(step.section):
            step.action = "same"
            step.notes.append(Left(step.path, f"is the same as {other.path} of {other.file}"))
            return
        number += 1
        step.name = f"{wanted[:60]}-{number}"
    if number > 1:
        step.notes.append(Left(step.path, f"{wanted} is taken in this import"))
    taken[step.name] = step
    document = scene.document
    if step.name in document.plugins:
        step.action = "skip"
        step.notes.append(Left(step.path, f"a plugin is called {step.name}"))
        return
    there = document.upstreams.get(step.name)
    if there is None:
        step.action = "add"
    elif there == _as_model(step.section):
        step.action = "same"
    elif any(own_name(name) == step.name for name in document.mcpServers):
        step.action = "keep"
        step.notes.append(
            Left(step.path, "one of this name stands below `mcpServers`; remove it first")
        )
    elif scene.replace:
        step.action = "replace"
    else:
        step.action = "keep"
        step.notes.append(
            Left(step.path, "another of this name is there; --replace takes this one")
        )


def _as_model(section: Mapping[str, Any]) -> UpstreamSection:
    return UpstreamSection.model_validate(dict(section))


class _Work:
    """One server on its way to a step."""

    def __init__(
        self, reading: Reading, found: FoundServer, scene: Scene, secrets: dict[str, str]
    ) -> None:
        self._secrets = secrets
        self._reading = reading
        self._found = found
        self._scene = scene
        self._path = dotted(found.path)
        self._name = own_name(found.name)
        self._notes: list[Left] = []

    def step(self) -> Step:
        """Translate, complete, check; every reason to leave it out is a note."""
        step = Step(
            self._name, self._found.name, self._reading.file, self._path, "skip", notes=self._notes
        )
        if not self._name:
            self._note((), "no name of ours can be made of this one")
            return step
        if self._is_this_gateway():
            self._note((), "is this gateway itself")
            return step
        section = dict(self._found.server) if self._found.is_ours else self._translated()
        if section is None:
            return step
        self._complete_paths(section)
        if not self._is_valid(section):
            return step
        self._switch_off_what_lacks(section)
        moved = move_secrets(self._name, section, self._scene.data_dir, self._secrets)
        self._secrets.update(moved.texts)
        for place, secret in moved.places.items():
            self._note((place,), f"is a secret and is kept as ${{secret:{secret}}}")
        step.section, step.secrets, step.action = moved.section, moved.texts, "add"
        return step

    def _note(self, key: tuple[str | int, ...], message: str) -> None:
        self._notes.append(Left(dotted((*self._found.path, *key)), message))

    # --- the clients' shape

    def _translated(self) -> dict[str, Any] | None:
        """Say the server in our keys; None where something of it means nothing here."""
        server = self._with_file_of_variables(dict(self._found.server))
        done = translate_server(server, self._variable)
        is_fit = True
        for one in done.findings:
            hint = f" (did you mean {one.suggestion}?)" if one.suggestion else ""
            if one.kind == "refused" and one.key[0] in _VALUES:
                is_fit = False
                self._note(one.key, f"{one.message}{hint}")
            elif one.kind == "changed":
                self._note(one.key, one.message)
            else:
                self._note(one.key, f"not taken over: {one.message}{hint}")
        return self._of_one_transport(done) if is_fit else None

    def _of_one_transport(self, done: Translation) -> dict[str, Any]:
        """Leave out what a transport has no use for, as clients do."""
        section = done.section
        foreign = ("env", "args", "cwd") if "url" in section else ("headers", "http")
        if ("url" in section) != ("command" in section):
            for key in (key for key in foreign if key in section):
                del section[key]
                self._note((key,), "not taken over: it has no effect with this transport")
        return section

    def _with_file_of_variables(self, server: dict[str, Any]) -> dict[str, Any]:
        """Read VS Code's `envFile`; what stands in `env` outweighs it."""
        given = server.get("envFile")
        if not isinstance(given, str):
            return server
        del server["envFile"]
        place = given.replace("${workspaceFolder}", str(self._reading.folder))
        file = self._reading.folder / Path(place.replace("${userHome}", str(self._scene.home)))
        if not file.is_file():
            self._note(("envFile",), f"not taken over: there is no file {file}")
            return server
        found = {key: one for key, one in dotenv_values(file, interpolate=False).items() if one}
        own = server.get("env")
        server["env"] = {**found, **(own if isinstance(own, dict) else {})}
        self._note(("envFile",), f"{len(found)} values of {file} are taken into `env`")
        return server

    def _variable(self, inner: str) -> str | None:
        """Know what the variables of editors stand for where this file lies."""
        word, _, rest = inner.partition(":")
        folder = self._reading.folder
        known = {
            "workspaceFolder": str(folder), "workspaceRoot": str(folder),
            "workspaceFolderBasename": folder.name, "userHome": str(self._scene.home),
            "pathSeparator": os.sep, "/": os.sep,
        }  # fmt: skip
        if word in known:
            return known[word]
        if word == "input" and rest:
            wanted = secret_name(self._name, rest)
            asked = self._reading.inputs.get(rest, rest)
            file = self._scene.data_dir / SECRETS_FOLDER / wanted
            self._note((), f"asks for {asked!r}: write the answer into {file}, mode 600")
            return f"${{secret:{wanted}}}"
        if rest.startswith("-") and (plain := plain_variables(word)) is not None:
            if word in self._scene.environ:
                return plain
            self._note((), f"the variable {word} is not set; its default is written")
            return rest[1:]
        return plain_variables(inner)

    # --- ours

    def _complete_paths(self, section: dict[str, Any]) -> None:
        """Make paths that began at the file's folder begin at the root."""
        folder = self._reading.folder
        command = section.get("command")
        if not isinstance(command, str):
            return
        if "/" in command and not command.startswith("${"):
            section["command"] = str(folder / Path(command).expanduser())
        cwd = section.get("cwd")
        words = [command, *(section.get("args") or ())]
        is_relative = any(
            isinstance(word, str) and word.startswith(("./", "../")) for word in words
        )
        if isinstance(cwd, str):
            is_reference = cwd.startswith("${")
            section["cwd"] = cwd if is_reference else str(folder / Path(cwd).expanduser())
        elif is_relative or (self._found.is_ours and folder != self._scene.folder):
            section["cwd"] = str(folder)
            self._note(("cwd",), f"its relative paths begin at {folder}")

    def _is_valid(self, section: dict[str, Any]) -> bool:
        try:
            _as_model(section)
        except ValidationError as exc:
            for problem in translate(exc, UpstreamSection, YamlText(None)):
                self._note((problem.path,) if problem.path else (), str(problem.message))
            return False
        return True

    def _is_this_gateway(self) -> bool:
        """Tell whether it leads back here: a gateway that is its own upstream would call itself forever."""
        server = self._found.server
        command, arguments = server.get("command"), server.get("args")
        is_program = isinstance(command, str) and Path(command).stem == "waygate"
        if is_program and isinstance(arguments, list) and "stdio" in arguments:
            return True
        for key in ("url", "serverUrl", "httpUrl"):
            url = server.get(key)
            try:
                parts = urlsplit(url if isinstance(url, str) else "")
                is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
                if is_here and parts.port in self._scene.own_ports:
                    return True
            except ValueError:
                continue
        return False

    def _switch_off_what_lacks(self, section: dict[str, Any]) -> None:
        """Switch a server off that cannot be opened here yet: it would keep the document from being valid."""
        if section.get("enabled") is False:
            return
        faults = self._scene.examine(self._name, _as_model(section))
        if faults:
            section["enabled"] = False
            self._note((), "is written with `enabled: false` until what is missing is there")
        for fault in faults:
            key = fault.path.removeprefix(f"upstreams.{self._name}").lstrip(".")
            self._note((key,) if key else (), fault.message)


_VALUES = frozenset({
    "type", "transport", "transportType", "url", "serverUrl", "httpUrl", "headers", "command", "args", "env",
    "cwd", "disabled", "enabled",
})  # fmt: skip
"""Members whose refusal means that the server cannot be served as it was meant."""
