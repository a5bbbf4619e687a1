"""`waygate upstreams diff`, `approve`, `reject`: definitions of upstreams that wait for somebody to look.

Knows how what changed is shown on a terminal and how a decision is given. Works on the database, whether
a gateway runs or not. What is approved is exactly what was shown: by its digest, or by showing it first.
Spec: threat model rules 24 and 34.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from waygate_mcp.cli.document_desk import DocumentDesk, upstream_names
from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, say
from waygate_mcp.config.secrets import load_or_create_secret_key
from waygate_mcp.model.pins import Approval, Pin
from waygate_mcp.policy.approval_desk import ApprovalDesk, Verdict
from waygate_mcp.policy.held import (
    SHORT_DIGEST,
    HeldEntry,
    diff_lines,
    held_entries,
    select,
    waiting_pins,
)
from waygate_mcp.policy.poison import visible
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.command_trail import command_trail
from waygate_mcp.runtime.opening import open_database
from waygate_mcp.storage.tool_pins import ToolPins

__all__ = ["approve", "diff", "reject"]

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The upstream.", autocompletion=upstream_names),
]
WantedArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ENTRY…]",
        help="Names of tools, prompts or templates, with `@` and a digest as `diff` prints them.",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that waits, as it is now.")]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask, whatever waits at this moment.")
]


def diff(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show what of an upstream waits for approval: changed fields, and signs of deceit.

    Exit code 1: something waits.
    """
    held = asyncio.run(_held(config, name))
    if json:
        print_json([_as_json(one) for one in held])
    elif not held:
        note(f"nothing of {name} waits for approval")
    for one in () if json else held:
        _show(one)
    if held and not json:
        say()
        say(f"approve exactly this: waygate upstreams approve {name} {_exactly(held)}")
    if held:
        raise typer.Exit(ExitCode.NOT_WELL)


def approve(
    name: NameArgument,
    entries: WantedArgument = None,
    everything: AllOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Approve definitions of an upstream that are new or changed.

    `ENTRY@DIGEST`, as `diff` prints it, approves that definition and no later one. Without a digest the
    definition is shown and you are asked; a running gateway knows within a second. Exit code 1: some of
    it was not approved.
    """
    _decide("approve", name, entries or [], config, everything=everything, yes=yes, as_json=json)


def reject(
    name: NameArgument,
    entries: WantedArgument = None,
    everything: AllOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Forget changed definitions, so that the approved ones are in force where they are shown again.

    For an upstream that took a change back. One that still shows it is held back again. Exit code 1:
    some of it was not rejected.
    """
    _decide("reject", name, entries or [], config, everything=everything, yes=yes, as_json=json)


def _decide(
    verb: Verdict,
    name: str,
    entries: Sequence[str],
    config: Path | None,
    *,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    if bool(entries) == everything:
        raise typer.BadParameter("name some entries, or give --all")
    held = asyncio.run(_held(config, name))
    wanted, missing = _wanted(held, entries, everything=everything)
    if wanted and not yes and not all(_is_exact(one, entries) for one in wanted):
        _ask(verb, name, wanted)
    decided = asyncio.run(_store(config, verb, [one.approval for one in wanted])) if wanted else []
    keys = {pin.key for pin in decided}
    missing += [one.label for one in wanted if one.approval.key not in keys]
    if as_json:
        print_json(
            {
                "decision": verb,
                "upstream": name,
                "decided": [_plain(p) for p in decided],
                "refused": missing,
            }
        )
    else:
        for pin in decided:
            say(f"{_DONE[verb]}: {pin.kind} {visible(pin.name)}".rstrip())
        for each in missing:
            note(f"not {_DONE[verb]}: {visible(each)}: {_WHY[verb]}")
        if not decided and not missing:
            note(f"nothing of {name} waits for approval")
    if missing:
        raise typer.Exit(ExitCode.NOT_WELL)


_DONE = {"approve": "approved", "reject": "rejected"}
_WHY = {
    "approve": "no such definition waits, or it changed meanwhile; `waygate upstreams diff` shows what does",
    "reject": "no such change waits, or it changed meanwhile, or nothing was approved before it",
}


def _wanted(
    held: Sequence[HeldEntry], entries: Sequence[str], *, everything: bool
) -> tuple[list[HeldEntry], list[str]]:
    """Give what is meant, and the words that mean nothing that waits."""
    if everything:
        return list(held), []
    wanted: dict[tuple[str, str, str], HeldEntry] = {}
    missing = []
    for each in entries:
        found = select(held, each)
        wanted |= {one.approval.key: one for one in found}
        if not found:
            missing.append(each)
    return list(wanted.values()), missing


def _is_exact(entry: HeldEntry, entries: Sequence[str]) -> bool:
    """Tell whether somebody named this definition, and not merely its name."""
    names = (entry.label, visible(entry.label))
    return any(each not in names and select([entry], each) for each in entries)


def _ask(verb: Verdict, name: str, wanted: Sequence[HeldEntry]) -> None:
    """Show what is about to be decided, and ask.

    Raises:
        BadParameter: there is nobody to ask.
        Exit: the answer is no.
    """
    if not _can_ask():
        raise typer.BadParameter(
            "nobody can be asked here: name the digests that `waygate upstreams diff "
            f"{name}` prints, or give --yes"
        )
    for one in wanted:
        _show(one)
    say()
    if not typer.confirm(f"{verb} {len(wanted)} of {name}?"):
        raise typer.Exit(ExitCode.NOT_WELL)


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _show(entry: HeldEntry) -> None:
    word = "is new" if entry.state == "pending" else "changed"
    say()
    what = f"{entry.kind} {visible(entry.name)}".rstrip()
    say(f"{what} {word}, digest {entry.digest[:SHORT_DIGEST]}")
    for sign in entry.signs:
        mark = "!!" if sign.is_grave else "!"
        say(f"{mark} {visible(sign.path)}: {visible(sign.text)}")
    for line in diff_lines(entry):
        say(line)


def _exactly(held: Sequence[HeldEntry]) -> str:
    """Give the arguments that approve exactly these, fit for a shell."""
    return " ".join(_quoted(f"{visible(one.label)}@{one.digest[:SHORT_DIGEST]}") for one in held)


def _quoted(text: str) -> str:
    if all(each.isascii() and (each.isalnum() or each in "_-./:@") for each in text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _as_json(entry: HeldEntry) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(entry)
    return shown


def _plain(pin: Pin) -> dict[str, str]:
    return {"kind": pin.kind, "name": pin.name, "digest": pin.accepted[0]}


async def _held(config: Path | None, upstream: str) -> tuple[HeldEntry, ...]:
    async with open_database(settings_from(config=config)) as database:
        pins = await ToolPins(database, Clock().now).load()
    return held_entries(waiting_pins(pins, upstream), pins)


async def _store(
    config: Path | None, verb: Verdict, approvals: Sequence[Approval]
) -> Sequence[Pin]:
    documents = DocumentDesk(config)
    settings, document = documents.settings, documents.document()
    master = load_or_create_secret_key(settings)
    async with (
        open_database(settings) as database,
        command_trail(settings, master, database) as trail,
    ):
        store = ToolPins(database, Clock().now)
        desk = ApprovalDesk(store, trail if document.audit.enabled else None)
        return await desk.decide(verb, approvals, by=f"command line, {_who()}")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not know its user
        return f"user {os.getuid()}"
