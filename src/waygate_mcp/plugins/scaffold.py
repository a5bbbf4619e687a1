"""A new plugin as files: a small module that works, and its test.

Knows their text, which names they can have, and that nothing is ever overwritten. Refuses to touch the
document: the line it needs is given back.
"""

from __future__ import annotations

import importlib.util
import json
import keyword
import os
import re
import sys
from pathlib import Path
from string import Template

import msgspec

from waygate_mcp.config.patterns import NAME_PATTERN
from waygate_mcp.errors import ConfigError

__all__ = ["Scaffold", "write_plugin"]

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")

_PLUGIN = Template('''\
"""$name: say in a line what it is for.

Served by this line below `plugins:` in waygate.yaml; `waygate plugins check` says what is wrong with it:

    $line
"""

from typing import Annotated

from pydantic import BaseModel, Field

from waygate_mcp import Context, Toolbox

# Advice to models about the whole, sent to every client.
box = Toolbox(instructions="Greets people and counts words.")


class Config(BaseModel):
    """What `config:` of this plugin may say; other keys are refused, with the nearest known one."""

    greeting: str = "Hello"


@box.tool
async def greet(
    ctx: Context,
    name: Annotated[str, Field(description="Whom to greet.", max_length=100)],
) -> str:
    """Greet somebody."""
    # The docstring is what a model reads. Arguments were checked before this line runs; `ctx` is the
    # call: its config, progress, log, and questions to the user (`await ctx.elicit(...)`).
    await ctx.info("greeting")
    return f"{ctx.config.greeting}, {name}!"


@box.tool
def count_words(text: Annotated[str, "The text whose words are counted."]) -> int:
    """Count the words of a text."""
    # Without `async` a function runs in a thread, so it may block.
    return len(text.split())


@box.resource("about://$name", mime_type="text/plain")
async def about() -> str:
    """What this plugin is."""
    return "The plugin $name."
''')

_TEST = Template('''\
"""Tests of $module.py; no server is needed: `python -m pytest $test`."""

import asyncio
import json

from $module import Config, box

from waygate_mcp.testing.fakes import call_of, call_tool, provider_of, text_of

provider = provider_of(box, name="$name", config=Config(greeting="Hi"))


def test_somebody_is_greeted_as_the_config_says() -> None:
    assert text_of(asyncio.run(call_tool(provider, "greet", {"name": "Ada"}))) == "Hi, Ada!"


def test_a_name_that_is_too_long_is_refused_before_the_function_runs() -> None:
    refused = asyncio.run(call_tool(provider, "greet", {"name": "a" * 101}))
    assert "at most 100 characters" in text_of(refused)


def test_words_are_counted() -> None:
    assert text_of(asyncio.run(call_tool(provider, "count_words", {"text": "one two"}))) == "2"


def test_it_says_what_it_is() -> None:
    reply = asyncio.run(provider.call(call_of("resources/read", "about://$name")))
    assert json.loads(reply.result)["contents"][0]["text"] == "The plugin $name."
''')


class Scaffold(msgspec.Struct, frozen=True):
    """What was written, and the line of the document that serves it."""

    plugin: Path
    test: Path
    line: str


def write_plugin(name: str, folder: Path, *, document_folder: Path) -> Scaffold:
    """Write a plugin called `name` and its test into `folder`, both or neither.

    They are readable by all and writable by their owner, as the loader insists. `document_folder` is
    what the line's path is relative to.

    Raises:
        ConfigError: the name cannot be used, a file is there already, or nothing can be written.
    """
    module = _module_of(name)
    plugin = folder / f"{module}.py"
    test = folder / f"test_{module}.py"
    for file in (plugin, test):
        if file.is_symlink() or file.exists():
            raise ConfigError(f"{file} is there already; nothing was written")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        # Its test imports it by that name.
        raise ConfigError(
            f"{name!r}: there is a module called {module} already; choose another name"
        )
    line = f"{name}: {{use: {_use_of(plugin, document_folder)}}}"
    words = {"name": name, "module": module, "test": test.name, "line": line}
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write_new(plugin, _PLUGIN.substitute(words))
        try:
            _write_new(test, _TEST.substitute(words))
        except OSError:
            plugin.unlink()
            raise
    except OSError as exc:
        raise ConfigError(f"cannot write into {folder}: {exc.strerror}") from exc
    return Scaffold(plugin, test, line)


def _module_of(name: str) -> str:
    """Give the name of a plugin's module."""
    if not re.fullmatch(NAME_PATTERN, name) or "__" in name or name.endswith("_"):
        raise ConfigError(
            f"{name!r}: a plugin's name has 1 to 63 of `a-z 0-9 _ -`, begins with a letter, does not "
            "end in `_` and does not hold `__`"
        )
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise ConfigError(f"{name!r}: no module of Python can be called {module}")
    return module


def _use_of(plugin: Path, folder: Path) -> str:
    path = os.path.relpath(plugin.resolve(), folder.resolve())
    written = path if path.startswith("../") else f"./{path}"
    return written if _PLAIN.fullmatch(written) else json.dumps(written, ensure_ascii=False)


def _write_new(file: Path, text: str) -> None:
    # 0644 whatever the umask: what group or others may write is not loaded.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
