"""The tree of errors: codes, facts, and what a stranger may read."""

from __future__ import annotations

import ast
import inspect

import pytest

from waygate_mcp import errors
from waygate_mcp.errors import (
    CallTimeoutError,
    CapabilityMissingError,
    ConfigError,
    ConfigProblem,
    ForbiddenError,
    InvalidArgumentsError,
    InvalidStateError,
    LimitError,
    PluginError,
    RateLimitedError,
    RpcError,
    StorageError,
    TooLargeError,
    UnauthenticatedError,
    UnknownMethodError,
    UnknownNameError,
    UpstreamUnavailableError,
    WaygateError,
    leaf_errors,
    let_go,
)


def all_errors() -> list[type[WaygateError]]:
    found = (each for _, each in inspect.getmembers(errors, inspect.isclass))
    return [each for each in found if issubclass(each, WaygateError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [each.code for each in all_errors()]
    assert len(codes) == len(set(codes)) > 20
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_every_error_is_exported_and_stands_in_the_tree_of_the_docstring() -> None:
    tree = errors.__doc__ or ""
    for each in all_errors():
        assert each.__name__ in errors.__all__
        assert each.__name__ in tree


def test_leaves_are_those_that_nothing_here_refines() -> None:
    leaves = set(leaf_errors())
    assert ConfigError in leaves
    assert UpstreamUnavailableError in leaves
    assert LimitError not in leaves
    assert all(not (set(each.__subclasses__()) & set(all_errors())) for each in leaves)
    refined = {each for each in all_errors() if set(each.__subclasses__()) & set(all_errors())}
    assert refined.isdisjoint(leaves)
    assert refined | leaves == set(all_errors())


def test_a_class_made_elsewhere_does_not_hide_the_leaf_it_refines() -> None:
    class ElsewhereError(StorageError):
        pass

    assert StorageError in set(leaf_errors())
    assert ElsewhereError not in set(leaf_errors())


def test_the_internal_message_is_never_the_safe_one_by_itself() -> None:
    error = StorageError("connect to 10.0.0.5 as root failed")
    assert "10.0.0.5" in str(error)
    assert "10.0.0.5" not in error.safe_message


def test_a_safe_message_that_is_given_is_used() -> None:
    assert WaygateError("inside", safe_message="outside").safe_message == "outside"
    assert str(WaygateError()) == WaygateError.default_safe_message


def test_a_config_error_without_problems_is_one_problem_at_its_path() -> None:
    error = ConfigError("is required", path="plugins.hello.use", source="waygate.yaml")
    assert error.problems == (ConfigProblem("plugins.hello.use", "is required"),)
    assert str(error) == "waygate.yaml: plugins.hello.use: is required"


def test_a_config_error_has_the_path_of_its_first_problem() -> None:
    error = ConfigError(problems=[ConfigProblem("a.b", "x"), ConfigProblem("c", "y")])
    assert error.path == "a.b"
    assert str(error) == "a.b: x; c: y"


def test_a_problem_is_told_with_place_path_and_nearest_word() -> None:
    problem = ConfigProblem("endpoints.dev.tols", "unknown key", 3, 5, "tools")
    expected = "line 3, column 5: endpoints.dev.tols: unknown key (did you mean `tools`?)"
    assert str(problem) == expected
    assert str(ConfigProblem("", "not YAML")) == "not YAML"


def test_facts_are_fields() -> None:
    assert RateLimitedError(1.5, limit="x").retry_after_s == 1.5
    assert TooLargeError(10).limit_bytes == 10
    assert "10 bytes" in TooLargeError(10).safe_message
    assert UnknownNameError("tool", "x").kind == "tool"
    assert PluginError("hello", "boom").plugin == "hello"
    assert UpstreamUnavailableError("files").upstream == "files"
    assert UnauthenticatedError(reason="missing").reason == "missing"


def test_an_unknown_name_is_clipped_before_a_client_reads_it() -> None:
    assert len(UnknownNameError("tool", "x" * 10_000).safe_message) < 300


def test_invalid_arguments_tell_a_model_each_fault() -> None:
    error = InvalidArgumentsError(["`count` must be a number", "`name` is missing"])
    assert error.details == ("`count` must be a number", "`name` is missing")
    assert "`name` is missing" in error.safe_message


def test_a_missing_capability_names_it_and_keeps_its_shape() -> None:
    error = CapabilityMissingError({"elicitation": {"form": {}}})
    assert error.required == {"elicitation": {"form": {}}}
    assert "elicitation" in error.safe_message


@pytest.mark.parametrize(
    "error",
    [
        WaygateError(),
        ConfigError(),
        StorageError(),
        RpcError(-32001, "told to the client", b"{}"),
        ForbiddenError(permission="metrics:read"),
        UnknownMethodError("tools/cal"),
        CallTimeoutError(300),
        InvalidStateError(reason="expired"),
    ],
)
def test_every_error_has_something_to_say(error: WaygateError) -> None:
    assert error.safe_message
    assert str(error)


def test_a_relayed_error_says_what_was_said_even_where_that_is_nothing() -> None:
    assert RpcError(-32001, "").safe_message == ""
    assert RpcError(-32001, "their words").safe_message == "their words"


def test_the_tree_names_no_class_that_does_not_exist() -> None:
    names = {
        node.name
        for node in ast.parse(inspect.getsource(errors)).body
        if isinstance(node, ast.ClassDef)
    }
    words = (word.strip("…") for word in (errors.__doc__ or "").replace("(", " ").split())
    mentioned = {word for word in words if word.endswith("Error")}
    assert mentioned <= names


def test_an_error_that_was_dealt_with_holds_no_frame_and_no_other_error() -> None:
    def fail() -> None:
        try:
            try:
                raise KeyError
            except KeyError as exc:
                raise StorageError from exc
        except StorageError as exc:
            raise ExceptionGroup("both", [exc, LimitError("limit")]) from None

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    group = caught.value
    left = [group, *group.exceptions, group.exceptions[0].__cause__]
    assert any(one is not None and one.__traceback__ is not None for one in left)
    let_go(group)
    for one in left:
        assert one is not None
        assert one.__traceback__ is one.__cause__ is one.__context__ is None
    assert len(group.exceptions) == 2
