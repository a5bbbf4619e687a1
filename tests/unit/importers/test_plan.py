"""What an import would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.config.document import Document
from waygate_mcp.config.load import parse_document
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigProblem
from waygate_mcp.importers.found_servers import FoundServer, Reading
from waygate_mcp.importers.plan import Scene, Step, edited, plan_import
from waygate_mcp.importers.secret_texts import stored_secrets

TOKEN = "ghp_abcdefghijklmnopqrstuvwx"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "work").mkdir()
    return Scene(
        Document(),
        tmp_path / "data",
        tmp_path,
        own_ports=frozenset({8000}),
        environ={"SET": "there"},
        home=tmp_path / "home",
    )


def reading(scene: Scene, servers: Mapping[str, Any], *, is_ours: bool) -> Reading:
    folder = scene.folder / "work"
    block = "upstreams" if is_ours else "mcpServers"
    found = [
        FoundServer(name, server, (block, name), is_ours=is_ours)
        for name, server in servers.items()
    ]
    return Reading(folder / "mcp.json", folder, found, inputs={"key": "Your key"})


def plan(scene: Scene, servers: Mapping[str, Any], *, is_ours: bool = False) -> list[Step]:
    return plan_import([reading(scene, servers, is_ours=is_ours)], scene)


def one(scene: Scene, server: dict[str, Any], *, is_ours: bool = False) -> Step:
    (step,) = plan(scene, {"a": server}, is_ours=is_ours)
    return step


def notes(step: Step) -> list[tuple[str, str]]:
    return [(note.path, note.message) for note in step.notes]


def document(text: str) -> Document:
    return parse_document(text.encode(), Settings())


def test_a_new_server_is_added_under_a_name_of_ours(scene: Scene) -> None:
    (step,) = plan(scene, {"My Server": {"command": "x", "args": ["a"]}})
    assert (step.name, step.theirs, step.action) == ("my-server", "My Server", "add")
    assert step.section == {"command": "x", "args": ["a"]}
    text = edited("version: 1\n", [step], source="w")
    assert document(text).upstreams["my-server"].args == ("a",)


def test_what_is_there_already_is_same_kept_or_replaced(scene: Scene) -> None:
    there = document(
        "upstreams:\n  a: {command: x}\n  b: {command: x}\nplugins: {c: {use: p}}\nmcpServers: {d: {command: x}}\n"
    )
    here = replace(scene, document=there)
    servers = {name: {"command": "y"} for name in "bcd"} | {"a": {"command": "x"}}
    actions = {step.name: step.action for step in plan(here, servers)}
    assert actions == {"a": "same", "b": "keep", "c": "skip", "d": "keep"}
    steps = plan(replace(here, replace=True), servers)
    assert {step.name: step.action for step in steps} == {**actions, "b": "replace"}
    messages = {step.name: step.notes[-1].message for step in steps if step.notes}
    assert messages["c"] == "a plugin is called c"
    assert "below `mcpServers`" in messages["d"]
    assert "upstreams:\n  b:\n    command: y\n" in edited(
        "upstreams:\n  b: {command: x}\n", steps, source="w"
    )


def test_two_servers_of_one_name_both_come_in_and_a_copy_does_not(scene: Scene) -> None:
    steps = plan(
        scene,
        {
            "A b": {"command": "x"},
            "a-b": {"command": "y"},
            "a_b": {"command": "x"},
            "a.b": {"command": "x"},
        },
    )
    assert [(step.name, step.action) for step in steps] == [
        ("a-b", "add"), ("a-b-2", "add"), ("a_b", "add"), ("a-b", "same"),
    ]  # fmt: skip
    assert notes(steps[1]) == [("mcpServers.a-b", "a-b is taken in this import")]
    assert "is the same as mcpServers.A b" in steps[3].notes[0].message


def test_secrets_are_moved_and_two_of_one_name_stay_apart(scene: Scene) -> None:
    first, second = plan(
        scene,
        {
            "A b": {"command": "x", "env": {"TOKEN": TOKEN}},
            "a-b": {"command": "y", "env": {"TOKEN": TOKEN + "2"}},
        },
    )
    assert first.secrets == {"a-b.TOKEN": TOKEN}
    assert second.secrets == {"a-b.TOKEN-2": TOKEN + "2"}
    assert second.section["env"] == {"TOKEN": "${secret:a-b.TOKEN-2}"}
    assert TOKEN not in repr(first)
    assert notes(first) == [
        ("mcpServers.A b.env.TOKEN", "is a secret and is kept as ${secret:a-b.TOKEN}")
    ]


def test_a_second_import_finds_the_same(scene: Scene) -> None:
    server = {"command": "x", "env": {"TOKEN": TOKEN}}
    step = one(scene, server)
    with stored_secrets(scene.data_dir, step.secrets):
        text = edited("", [step], source="w")
    assert one(replace(scene, document=document(text)), server).action == "same"


def test_every_key_that_is_not_taken_is_noted(scene: Scene) -> None:
    step = one(
        scene,
        {"url": "https://x", "autoApprove": [], "excludeTools": ["rm"], "wrod": 1, "env": {"A": "1"},
         "oauth": {}},
    )  # fmt: skip
    assert step.action == "add"
    assert step.section == {"url": "https://x"}
    assert [path for path, _ in notes(step)] == [
        "mcpServers.a.autoApprove", "mcpServers.a.excludeTools", "mcpServers.a.wrod", "mcpServers.a.oauth",
        "mcpServers.a.env",
    ]  # fmt: skip
    assert all(message.startswith("not taken over") for _, message in notes(step))


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"type": "ws", "url": "https://x"}, "expected stdio, http or sse"),
        ({}, "needs either `url` or `command`"),
        ({"command": "x", "args": [5]}, "expected text, found a whole number"),
        ({"url": "https://u:p@x"}, "must hold no user name or password"),
        ({"command": "/bin/waygate", "args": ["stdio"]}, "is this gateway itself"),
        ({"url": "http://localhost:8000/mcp"}, "is this gateway itself"),
        ({"command": "x", "args": ["${command:pick}"]}, "means nothing here"),
    ],
)
def test_what_cannot_be_served_is_left_out_with_the_reason(
    scene: Scene, server: dict[str, Any], message: str
) -> None:
    step = one(scene, server)
    assert step.action == "skip"
    assert not step.is_written
    assert message in step.notes[-1].message


def test_a_name_nothing_can_be_made_of_is_left_out(scene: Scene) -> None:
    (step,) = plan(scene, {"天": {"command": "x"}})
    assert step.action == "skip"
    assert "no name of ours" in step.notes[0].message


def test_a_url_that_is_none_is_not_taken_for_this_gateway(scene: Scene) -> None:
    step = one(scene, {"url": "http://[bad"})
    assert step.action == "skip"
    assert "is this gateway itself" not in step.notes[-1].message


def test_variables_of_editors_are_written_out(scene: Scene) -> None:
    folder = scene.folder / "work"
    step = one(
        scene,
        {
            "command": "${SET}/x",
            "cwd": "${workspaceFolder}/sub",
            "args": [
                "${workspaceFolder}/a",
                "${userHome}",
                "${workspaceFolderBasename}",
                "${/}",
                "${SET}",
            ],
            "env": {
                "A": "${SET:-other}",
                "B": "${NOT:-other}",
                "C": "${input:key}",
                "D": "${input:no}",
            },
        },
    )
    assert step.section["command"] == "${env:SET}/x"
    assert step.section["cwd"] == str(folder / "sub")
    assert step.section["args"] == [f"{folder}/a", str(scene.home), "work", "/", "${env:SET}"]
    assert step.section["env"] == {
        "A": "${env:SET}", "B": "other", "C": "${secret:a.key}", "D": "${secret:a.no}",
    }  # fmt: skip
    messages = [message for _, message in notes(step)]
    kept = scene.data_dir / "secrets"
    assert f"asks for 'Your key': write the answer into {kept / 'a.key'}, mode 600" in messages
    assert f"asks for 'no': write the answer into {kept / 'a.no'}, mode 600" in messages
    assert "the variable NOT is not set; its default is written" in messages


def test_a_file_of_variables_is_read_and_env_outweighs_it(scene: Scene) -> None:
    (scene.folder / "work" / ".env").write_text("A=file\nB='two words'\nEMPTY=\n")
    step = one(scene, {"command": "x", "envFile": "${workspaceFolder}/.env", "env": {"A": "own"}})
    assert step.section["env"] == {"A": "own", "B": "two words"}
    assert "2 values of" in step.notes[0].message
    step = one(scene, {"command": "x", "envFile": "none.env"})
    assert step.section == {"command": "x"}
    assert "there is no file" in step.notes[0].message
    assert "not taken over" in one(scene, {"command": "x", "envFile": 5}).notes[0].message


def test_relative_paths_begin_where_they_began(scene: Scene) -> None:
    folder = scene.folder / "work"
    step = one(scene, {"command": "./run.sh", "args": ["./a"]})
    assert step.section == {"command": str(folder / "run.sh"), "args": ["./a"], "cwd": str(folder)}
    assert one(scene, {"command": "node", "args": ["a"]}).section.get("cwd") is None


def test_a_section_of_ours_is_taken_as_it_is(scene: Scene) -> None:
    server = {"command": "x", "era": "legacy", "env": {"TOKEN": TOKEN}, "limits": {"calls": 5}}
    step = one(scene, server, is_ours=True)
    assert step.section == {
        **server, "env": {"TOKEN": "${secret:a.TOKEN}"}, "cwd": str(scene.folder / "work"),
    }  # fmt: skip
    assert one(scene, {"command": "x", "erra": "legacy"}, is_ours=True).action == "skip"
    assert one(scene, {"url": "https://x"}, is_ours=True).section == {"url": "https://x"}


def test_a_server_that_cannot_be_opened_yet_is_written_switched_off(scene: Scene) -> None:
    def examine(name: str, section: UpstreamSection) -> list[ConfigProblem]:
        assert section.command == "x"
        return [
            ConfigProblem(f"upstreams.{name}.env.K", "the secret is not there"),
            ConfigProblem("", "and so on"),
        ]

    here = replace(scene, examine=examine)
    step = one(here, {"command": "x"})
    assert (step.action, step.section) == ("add", {"command": "x", "enabled": False})
    assert notes(step)[1:] == [
        ("mcpServers.a.env.K", "the secret is not there"), ("mcpServers.a", "and so on"),
    ]  # fmt: skip
    off = one(here, {"command": "x", "disabled": True})
    assert off.section == {"command": "x", "enabled": False}
    assert notes(off) == []
