"""`docs/protocol-errors.md` against the code: each row of the ladder by an example, each error class by the table."""

from __future__ import annotations

import ast
import json

import pytest

from tests.support.refusal_examples import HEADERS, LADDER, MODERN, PARAMS, SERVER, SESSIONS
from tests.support.refusal_rows import PAGE, refusals, tables
from tests.support.source_tree import ROOT
from waygate_mcp import errors
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.headers import HeaderParam, param_mismatch
from waygate_mcp.protocol.ladder import LegacyInbound, Refusal, check_legacy, classify_post
from waygate_mcp.protocol.versions import REVISIONS

SESSION = REVISIONS["2025-11-25"]
ROWS = refusals()


def assert_as_documented(row: str, found: object) -> None:
    assert isinstance(found, Refusal), found
    documented = ROWS[row]
    assert (found.status, str(found.code)) == (documented.status, documented.code)
    assert documented.fits(found.message), found.message


@pytest.mark.parametrize("row", LADDER)
def test_the_ladder_refuses_as_its_page_says(row: str) -> None:
    value, changes = LADDER[row]
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    merged: dict[bytes, bytes | None] = {**HEADERS, **changes}
    headers = {name: text for name, text in merged.items() if text is not None}
    assert_as_documented(row, classify_post(body, headers))


@pytest.mark.parametrize("row", SESSIONS)
def test_a_session_refuses_as_the_page_says(row: str) -> None:
    inbound = classify_post(json.dumps(SESSIONS[row]).encode(), {})
    assert isinstance(inbound, LegacyInbound)
    assert_as_documented(row, check_legacy(inbound.messages[0], SESSION))


@pytest.mark.parametrize("row", PARAMS)
def test_mirrored_arguments_are_refused_as_the_page_says(row: str) -> None:
    arguments, headers = PARAMS[row]
    problem = param_mismatch((HeaderParam("Region", ("region",)),), arguments, headers)
    assert problem is not None
    assert ROWS[row].fits(problem)
    failure = describe_failure(errors.RpcError(-32020, problem), REVISIONS[MODERN])
    assert (failure.status, str(failure.code)) == (ROWS[row].status, ROWS[row].code)


def test_every_row_has_an_example_and_every_example_a_row() -> None:
    examples = [*LADDER, *SESSIONS, *PARAMS, *SERVER]
    assert len(examples) == len(set(examples))
    assert set(examples) == set(ROWS)


def sentences(module: str) -> set[str]:
    """The constant beginnings of all texts in a protocol module that look like a client's sentence."""
    path = ROOT / "src" / "waygate_mcp" / "protocol" / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    whole = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in documentation and node.value.strip().count(" ") >= 1
    }
    return {text.strip().removeprefix("Invalid request: ") for text in whole}


# Texts that no client is told: reasons of assertions and of our own faults.
UNSAID = {"only requests are asked for their id", "only requests are remembered"}


@pytest.mark.parametrize("module", ["ladder", "jsonrpc"])
def test_every_sentence_of_the_ladder_stands_on_its_page(module: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = page.replace("1 to 256", "1 to ").replace("at most 256", "at most ")
    missing = {text for text in sentences(module) if text not in page and text not in known}
    assert not missing - UNSAID


# ------------------------------------------------------------------ errors of calls
EXAMPLES: dict[str, errors.WaygateError] = {
    "CallTimeoutError": errors.CallTimeoutError(1),
    "CapabilityMissingError": errors.CapabilityMissingError({"roots": {}}),
    "ConfigError": errors.ConfigError("x"),
    "ForbiddenError": errors.ForbiddenError(),
    "InterruptedCallError": errors.InterruptedCallError(),
    "InvalidArgumentsError": errors.InvalidArgumentsError(["x"]),
    "InvalidStateError": errors.InvalidStateError(),
    "LocalProtocolError": errors.LocalProtocolError(),
    "PluginError": errors.PluginError("x"),
    "RateLimitedError": errors.RateLimitedError(1),
    "RemoteProtocolError": errors.RemoteProtocolError(),
    "StorageError": errors.StorageError(),
    "TooLargeError": errors.TooLargeError(1),
    "UnauthenticatedError": errors.UnauthenticatedError(),
    "UnknownMethodError": errors.UnknownMethodError("x"),
    "UnknownNameError (resource)": errors.UnknownNameError("resource", "x"),
    "UnknownNameError (all else)": errors.UnknownNameError("tool", "x"),
    "UpstreamProtocolError": errors.UpstreamProtocolError("x"),
    "UpstreamTimeoutError": errors.UpstreamTimeoutError("x"),
    "UpstreamUnavailableError": errors.UpstreamUnavailableError("x"),
}


def test_the_table_of_call_errors_is_that_of_the_code() -> None:
    documented = {row[0].replace("`", ""): row[1:] for row in tables()[-2]}
    actual = {}
    for name, error in EXAMPLES.items():
        modern, legacy = (describe_failure(error, r) for r in (REVISIONS[MODERN], SESSION))
        assert legacy.status == (429 if name == "RateLimitedError" else 200)
        actual[name] = [str(modern.code), str(modern.status), str(legacy.code)]
    assert documented == actual
    shown = {type(error) for error in EXAMPLES.values()} | {errors.RpcError}
    assert shown == set(errors.leaf_errors())


def test_the_table_of_passed_on_codes_is_that_of_the_code() -> None:
    rows = tables()[-1]
    for row in rows:
        error = errors.RpcError(int(row[0]), "x")
        modern = describe_failure(error, REVISIONS[MODERN])
        latest, before = (
            describe_failure(error, REVISIONS[name]) for name in ("2025-11-25", "2025-06-18")
        )
        actual = [modern.code, modern.status, latest.code, before.code]
        assert list(map(int, row[1:])) == actual
    shown = {int(row[0]) for row in rows}
    for code in range(-33_000, 100):
        failures = [describe_failure(errors.RpcError(code, "x"), r) for r in REVISIONS.values()]
        if any((failure.code, failure.status) != (code, 200) for failure in failures):
            assert code in shown or -32099 <= code <= -32023, code
