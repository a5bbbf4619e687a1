"""`waygate plugins`: list, new, check."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.cli.main import app
from waygate_mcp.plugins import discovery
from waygate_mcp.toolkit.toolbox import Toolbox

runner = CliRunner()
HELLO = "waygate_mcp.plugins.builtin.hello"
FILE = """\
print("said while loading")

from waygate_mcp import Toolbox

box = Toolbox()


@box.tool
def ask(city: str = 5) -> None:
    "Ask."
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    points = (
        EntryPoint("hello", HELLO, "waygate.plugins"),
        EntryPoint("stranger", "plug_stranger", "waygate.plugins"),
    )
    monkeypatch.setattr(discovery, "_entry_points", lambda: points)
    module: Any = ModuleType("plug_good")
    module.box = Toolbox()
    monkeypatch.setitem(sys.modules, "plug_good", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plug_stranger", raising=False)
    write("plug_stranger.py", "from pathlib import Path\nPath('ran').touch()\n1 / 0\n")


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def run(*words: str) -> Result:
    return runner.invoke(app, ["plugins", *words])


def document(text: str) -> None:
    write("waygate.yaml", f"plugins:\n{text}")


# ---------------------------------------------------------------------- list


def rows(*words: str) -> dict[tuple[str, str], dict[str, Any]]:
    result = run("list", "--json", *words)
    assert result.exit_code == 0, result.output
    return {(row["name"], row["from"]): row for row in json.loads(result.stdout)}


def test_those_of_the_document_and_the_installed_ones_are_listed_with_their_counts() -> None:
    document(
        f"  mine: {{use: {HELLO}, config: {{greeting: Hi}}}}\n  off: {{use: x, enabled: false}}\n"
    )
    found = rows()
    assert list(found) == [
        ("mine", "document"), ("off", "document"), ("hello", "installed"), ("stranger", "installed"),
    ]  # fmt: skip
    mine = found["mine", "document"]
    assert (mine["tools"], mine["resources"], mine["prompts"], mine["problem"]) == (2, 0, 0, None)
    assert (found["off", "document"]["enabled"], found["off", "document"]["tools"]) == (False, None)
    hello = found["hello", "installed"]
    assert (hello["enabled"], hello["tools"]) == (True, 2)


def test_what_the_document_does_not_enable_is_not_run_unless_it_is_asked_for() -> None:
    stranger = rows()["stranger", "installed"]
    assert (stranger["enabled"], stranger["tools"], stranger["problem"]) == (False, None, None)
    assert not Path("ran").exists()
    stranger = rows("--load")["stranger", "installed"]
    assert "ZeroDivisionError" in stranger["problem"]
    assert Path("ran").exists()


def test_a_plugin_that_fails_is_listed_with_its_problem() -> None:
    document("  bad: {use: plug_good, config: {a: 1}}\n")
    assert "unknown key" in rows()["bad", "document"]["problem"]
    write("asking.py", FILE)
    document("  asking: {use: asking}\n")
    assert "its default does not fit" in rows()["asking", "document"]["problem"]


def test_the_table_is_for_people() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == [
        "name", "use", "from", "enabled", "tools", "resources", "prompts", "problem",
    ]  # fmt: skip


# ---------------------------------------------------------------------- check


def test_without_a_name_all_that_is_enabled_is_checked() -> None:
    document(
        f"  mine: {{use: {HELLO}}}\n  good: {{use: plug_good}}\n  off: {{use: x, enabled: false}}\n"
    )
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "mine: tool greet",
        "mine: tool echo",
        "    hint: `text` has no description",
        f"mine ({HELLO}): well",
        "good (plug_good): well",
    ]


def test_nothing_enabled_is_well() -> None:
    document("  off: {use: x, enabled: false}\n")
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "no plugin is enabled\n")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("good", "good"), ("hello", "hello"), ("plug_good:box", "plug_good"), (HELLO, "hello")],
)
def test_one_is_named_by_the_document_its_entry_point_or_its_module(wanted: str, name: str) -> None:
    document("  good: {use: plug_good}\n")
    result = run("check", wanted, "--json")
    assert result.exit_code == 0, result.output
    ((found),) = json.loads(result.stdout)
    assert (found["name"], found["well"], found["problems"]) == (name, True, [])


def test_a_schema_with_a_problem_is_not_well() -> None:
    write("sub/asking.py", FILE)
    result = run("check", "sub/asking.py")
    assert result.exit_code == 1
    assert "    problem: `city`: its default does not fit its own schema: " in result.stdout
    assert result.stdout.splitlines()[-1].endswith("sub/asking.py): not well")


def test_what_a_plugin_prints_is_no_part_of_the_answer() -> None:
    write("asking.py", FILE)
    result = run("check", "./asking.py", "--json")
    assert json.loads(result.stdout)[0]["entries"][0]["name"] == "ask"
    assert "said while loading" in result.stderr


def test_a_file_of_the_document_is_checked_with_its_configuration() -> None:
    config = "from pydantic import BaseModel\n\n\nclass Config(BaseModel):\n    city: str\n\n\n"
    file = write("sub/asking.py", config + FILE.replace("str = 5", "str"))
    assert run("check", "sub/asking.py").exit_code == 2
    document(
        f"  hello: {{use: {HELLO}}}\n  other: {{use: ./sub/other.py}}\n"
        "  b: {use: './sub/asking.py:box'}\n"
        "  a: {use: ./sub/asking.py, config: {city: Oslo}}\n"
    )
    for wanted, name, code in (
        (str(file.resolve()), "b", 0),
        ("./sub/../sub/asking.py:box", "b", 0),
        ("a", "a", 0),
        ("sub/asking.py:nothing", "asking", 2),
    ):
        result = run("check", wanted, "--json")
        assert json.loads(result.stdout)[0]["name"] == name
        assert result.exit_code == code


def test_a_plugin_whose_own_code_fails_is_not_well_and_its_line_is_named() -> None:
    write("broken.py", "\n1 / 0\n")
    result = run("check", "broken.py")
    assert result.exit_code == 1
    assert "broken.py, line 2: ZeroDivisionError" in result.stderr
    found = json.loads(run("check", "broken.py", "--json").stdout)
    assert found[0]["well"] is False
    assert "line 2" in found[0]["problems"][0]["message"]


def test_a_wrong_configuration_is_wrong_use_and_outweighs_the_rest() -> None:
    write("broken.py", "1 / 0\n")
    document("  bad: {use: plug_good, config: {a: 1}}\n  broken: {use: broken}\n")
    result = run("check")
    assert result.exit_code == 2
    assert "plugins.bad.config.a: unknown key" in result.stderr
    found = json.loads(run("check", "--json").stdout)
    assert found[0]["problems"][0]["path"] == "plugins.bad.config.a"
    assert found[0]["entries"] is None


def test_a_reference_that_cannot_be_resolved_is_a_wrong_configuration() -> None:
    document("  bad: {use: plug_good, config: {a: '${env:NO_SUCH}'}}\n")
    result = run("check")
    assert result.exit_code == 2
    assert "plugins.bad.config.a" in result.stderr


def test_a_name_nobody_knows_gets_the_nearest() -> None:
    result = run("check", "helo")
    assert result.exit_code == 2
    assert "no plugin is named `helo`; known here: hello, stranger" in result.stderr
    assert "did you mean `hello`?" in result.stderr


def test_a_server_of_another_maker_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async def served(scope: Any, receive: Any, send: Any) -> None:
        """Serve."""

    module: Any = ModuleType("plug_foreign")
    module.app = served
    monkeypatch.setitem(sys.modules, "plug_foreign", module)
    result = run("check", "plug_foreign:app")
    assert result.exit_code == 0
    assert "another maker's server" in result.stdout
    assert json.loads(run("check", "plug_foreign:app", "--json").stdout)[0]["entries"] is None


# ---------------------------------------------------------------------- new


def test_a_new_plugin_is_written_checked_and_its_line_printed() -> None:
    result = run("new", "my-plug", "--dir", "made")
    assert result.exit_code == 0, result.output
    assert "  my-plug: {use: ./made/my_plug.py}" in result.stdout.splitlines()
    assert run("check", "made/my_plug.py").exit_code == 0
    assert result.stderr == ""


def test_the_line_is_relative_to_the_document_in_use() -> None:
    write("conf/waygate.yaml", "")
    result = run("new", "my-plug", "-c", "conf/waygate.yaml")
    assert "  my-plug: {use: ../my_plug.py}" in result.stdout.splitlines()


def test_what_is_there_is_kept_and_said_to_be() -> None:
    write("my_plug.py", "mine")
    result = run("new", "my-plug")
    assert result.exit_code == 2
    assert result.stderr == "error: my_plug.py is there already; nothing was written\n"
    assert Path("my_plug.py").read_text() == "mine"


def test_a_folder_from_which_nothing_is_loaded_is_warned_about(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = run("new", "my-plug")
    assert result.exit_code == 0
    assert "warning: it will not be loaded: " in result.stderr
    assert f"chmod go-w {tmp_path}" in result.stderr
