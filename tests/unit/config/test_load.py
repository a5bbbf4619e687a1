"""From a file to a checked document."""

from __future__ import annotations

from pathlib import Path

import pytest

from waygate_mcp.config.document import Document
from waygate_mcp.config.load import (
    HELLO,
    check_document,
    default_document,
    find_document,
    load_document,
    locate,
    parse_document,
)
from waygate_mcp.config.references import KnownSecrets
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.errors import ConfigError, ConfigProblem

CANARY = "canary-77aa-secret"


def settings_with(**overrides: object) -> Settings:
    return read_settings(overrides, env_file=None)


def problems(text: str, **overrides: object) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), settings_with(**overrides))
    return caught.value.problems


def test_the_document_that_is_set_is_taken_even_if_it_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    settings = settings_with(config=missing)
    assert find_document(settings, folder=tmp_path) == missing
    with pytest.raises(ConfigError, match="cannot read the document: No such file"):
        load_document(missing, settings)


def test_else_the_current_folder_is_looked_into_then_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".waygate"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home.parent))
    here = tmp_path / "here"
    here.mkdir()
    assert find_document(settings_with(), folder=here) is None
    (home / "waygate.yaml").write_text("version: 1")
    assert find_document(settings_with(), folder=here) == home / "waygate.yaml"
    (here / "waygate.yaml").write_text("version: 1")
    assert find_document(settings_with(), folder=here) == here / "waygate.yaml"


def test_without_any_document_hello_is_served() -> None:
    document = load_document(None, settings_with())
    assert document == default_document()
    assert document.plugins["hello"].use == HELLO
    assert document.bound_providers("default") == ("hello",)


def test_an_empty_document_is_not_the_default_one() -> None:
    assert parse_document(b"", settings_with()).plugins == {}


def test_the_default_endpoint_is_there_even_if_others_are_written() -> None:
    text = b"plugins: {a: {use: x}}\nendpoints: {dev: {bind: [a]}}"
    document = parse_document(text, settings_with())
    assert list(document.endpoints) == ["default", "dev"]
    assert document.bound_providers("default") == ("a",)


def test_a_default_endpoint_that_is_written_is_kept() -> None:
    document = parse_document(b"endpoints: {default: {bind: []}}", settings_with())
    assert document.endpoints["default"].bind == ()


def test_the_environment_outweighs_the_document() -> None:
    text = b"server: {allowed_hosts: [a.example.org], cors_origins: ['https://a.example.org']}"
    document = parse_document(text, settings_with(allowed_hosts=("b.example.org",)))
    assert document.server.allowed_hosts == ("b.example.org",)
    assert document.server.cors_origins == ("https://a.example.org",)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_no_authentication_is_allowed_on_loopback(host: str) -> None:
    document = parse_document(b"auth: {mode: none}", settings_with(host=host))
    assert document.auth.mode == "none"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_no_authentication_is_refused_elsewhere(host: str) -> None:
    (problem,) = problems("version: 1\nauth: {mode: none}", host=host)
    assert (problem.path, problem.line) == ("auth.mode", 2)
    assert host in problem.message


def test_an_endpoint_that_binds_an_unknown_plugin_gets_the_nearest() -> None:
    (problem,) = problems("plugins: {hello: {use: x}}\nendpoints:\n  a: {bind: ['*', helo]}")
    assert (problem.path, problem.line, problem.column) == ("endpoints.a.bind[1]", 3, 19)
    assert problem.suggestion == "hello"


def test_a_plugin_that_is_not_enabled_may_be_bound() -> None:
    text = b"plugins: {a: {use: x, enabled: false}}\nendpoints: {e: {bind: [a]}}"
    assert parse_document(text, settings_with()).bound_providers("e") == ()


def test_prefixes_are_for_bound_providers_and_differ() -> None:
    found = problems("""
plugins: {a: {use: x}, b: {use: x}, c: {use: x}, d: {use: x}}
endpoints:
  e: {bind: [a, b], prefixes: {a: same, b: same, c: other, zz: more}}
  f: {prefixes: {a: "", b: "", c: x}}
""")
    assert [(problem.path, problem.message) for problem in found] == [
        ("endpoints.e.prefixes.b", "the same prefix as `a`"),
        ("endpoints.e.prefixes.c", "it is not bound here"),
        ("endpoints.e.prefixes.zz", "no plugin or upstream is named `zz`"),
    ]


def test_a_prefix_that_is_the_name_of_another_bound_plugin_is_refused() -> None:
    (problem,) = problems("plugins: {a: {use: x}, b: {use: x}}\nendpoints: {e: {prefixes: {a: b}}}")
    assert (problem.path, problem.message) == ("endpoints.e.prefixes.a", "the same prefix as `b`")


def test_two_plugins_may_change_names() -> None:
    text = b"plugins: {a: {use: x}, b: {use: x}}\nendpoints: {e: {prefixes: {a: b, b: a}}}"
    assert parse_document(text, settings_with()).endpoints["e"].prefixes == {"a": "b", "b": "a"}


def test_uri_prefixes_and_schemes_are_for_bound_providers_and_do_not_contradict() -> None:
    found = problems("""
plugins: {a: {use: x}, b: {use: x}, c: {use: x}}
endpoints:
  e:
    bind: [a, b]
    uri_prefixes: {a: same, b: same, c: other, zz: more}
    schemes: {memo: a, note: c, list: zz}
  f: {bind: ["*"], schemes: {memo: a, note: a}, uri_prefixes: {b: x}}
""")
    assert [(problem.path, problem.message) for problem in found] == [
        ("endpoints.e.uri_prefixes.b", "the same prefix as `a`"),
        ("endpoints.e.uri_prefixes.c", "`c` is not bound here"),
        ("endpoints.e.uri_prefixes.zz", "no plugin or upstream is named `zz`"),
        (
            "endpoints.e.schemes.memo",
            "the URIs of `a` have a prefix, so that none of them has this scheme",
        ),
        ("endpoints.e.schemes.note", "`c` is not bound here"),
        ("endpoints.e.schemes.list", "no plugin or upstream is named `zz`"),
    ]
    assert found[0].line == 6


def test_new_names_for_tools_differ_and_are_not_denied() -> None:
    found = problems("""
endpoints:
  e:
    tools:
      deny: [gone, new_gone]
      rename: {a: same, b: same, c: c, gone: back, d: new_gone, e: f, f: e}
      titles: {same: T, gone: T, a: T, f: T}
      describe: {same: D}
""")
    assert [(problem.path, problem.message) for problem in found] == [
        ("endpoints.e.tools.rename.b", "the same new name as `a`"),
        ("endpoints.e.tools.rename.c", "that is the name it has"),
        ("endpoints.e.tools.rename.d", "`new_gone` is denied here"),
        ("endpoints.e.tools.rename.gone", "`gone` is denied here"),
        ("endpoints.e.tools.titles.same", "it is named by what it is called without `rename`: `a`"),
        ("endpoints.e.tools.titles.gone", "`gone` is denied here"),
        (
            "endpoints.e.tools.describe.same",
            "it is named by what it is called without `rename`: `a`",
        ),
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("tools: {rename: {a: 'no dots.'}}", "1 to 64 of `A-Z a-z 0-9 _ -`"),
        ("uri_prefixes: {a: 'A+'}", "1 to 32 of `a-z 0-9 . -`, beginning with a letter"),
        ("schemes: {'memo:': a}", "the scheme of a URI"),
    ],
)
def test_names_that_cannot_be_are_refused_with_what_can(section: str, expected: str) -> None:
    [problem] = problems(f"plugins: {{a: {{use: x}}}}\nendpoints: {{e: {{{section}}}}}")
    assert expected in problem.message


def test_problems_of_several_sections_come_at_once() -> None:
    found = problems("auth: {mode: none}\nendpoints: {a: {bind: [x]}, b: {bind: [y]}}", host="::")
    assert len(found) == 3


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "waygate.yaml"
    path.write_text("versoin: 1")
    with pytest.raises(ConfigError) as caught:
        load_document(path, settings_with())
    assert caught.value.source == str(path)
    assert caught.value.problems[0].suggestion == "version"


def test_a_folder_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_document(tmp_path, settings_with())


def test_loading_resolves_no_reference() -> None:
    text = b"plugins: {a: {use: x, config: {token: '${env:NO_SUCH}'}}}"
    config = parse_document(text, settings_with()).plugins["a"].config
    assert config == {"token": "${env:NO_SUCH}"}


def test_checking_names_references_that_cannot_be_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOD", CANARY)
    path = tmp_path / "waygate.yaml"
    path.write_text("""plugins:
  a:
    use: x
    config:
      good: ${env:GOOD}
      list: ["${env:NO_SUCH}"]
  off: {use: x, enabled: false, config: {token: "${env:ALSO_NOT}"}}
""")
    with pytest.raises(ConfigError) as caught:
        check_document(path, settings_with(data_dir=tmp_path))
    (problem,) = caught.value.problems
    assert (problem.path, problem.line, problem.column) == ("plugins.a.config.list[0]", 6, 14)
    assert CANARY not in str(caught.value)


def test_what_others_find_gets_its_place_or_that_of_the_nearest_value(tmp_path: Path) -> None:
    path = tmp_path / "waygate.yaml"
    path.write_text("upstreams:\n  a:\n    command: x\n    args: [b, c]\nversion: 1\n")
    seen: list[object] = []

    def examine(
        document: Document, folder: Path | None, data_dir: Path, known: KnownSecrets
    ) -> list[ConfigProblem]:
        seen.extend((document.upstreams["a"].command, folder, data_dir))
        return [
            ConfigProblem("upstreams.a.args[1]", "bad"),
            ConfigProblem("upstreams.a.command", "bad", suggestion="y"),
            ConfigProblem("upstreams.a.cwd", "bad"),
            ConfigProblem("elsewhere", "bad"),
        ]

    with pytest.raises(ConfigError) as caught:
        check_document(path, settings_with(data_dir=tmp_path), examine)
    assert seen == ["x", tmp_path, tmp_path]
    assert [(each.path, each.line, each.column) for each in caught.value.problems] == [
        ("elsewhere", None, None),
        ("upstreams.a.cwd", 3, 5),
        ("upstreams.a.command", 3, 14),
        ("upstreams.a.args[1]", 4, 15),
    ]
    assert caught.value.problems[2].suggestion == "y"


def test_an_error_from_elsewhere_gets_its_place_where_it_has_one(tmp_path: Path) -> None:
    path = tmp_path / "waygate.yaml"
    path.write_text("plugins:\n  a: {use: x}\n")
    error = ConfigError("bad", path="plugins.a.config")
    found = locate(error, path)
    assert (found.source, str(found.problems[0])) == (
        str(path), "line 2, column 6: plugins.a.config: bad",
    )  # fmt: skip
    placed = ConfigError(problems=(ConfigProblem("plugins.a", "bad", line=9, column=9),))
    setting = ConfigError("too short", path="WAYGATE_API_KEY")
    for kept in (found, placed, setting):
        assert locate(kept, path) is kept
    assert locate(error, None) is error
    path.unlink()
    assert locate(error, path) is error


def test_checking_gives_the_document_when_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "waygate.yaml"
    path.write_text("plugins: {a: {use: x, config: {b: plain}}}")
    settings = settings_with(data_dir=tmp_path)
    assert check_document(path, settings) == load_document(path, settings)
    assert check_document(None, settings) == default_document()
