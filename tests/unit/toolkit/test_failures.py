from __future__ import annotations

from waygate_mcp.toolkit.failures import QuestionRefusedError, ToolError, unwrap


def test_a_refused_question_is_a_tool_error_that_says_why() -> None:
    error = QuestionRefusedError(-1, "User rejected sampling request")
    assert isinstance(error, ToolError)
    assert (error.code, error.reason) == (-1, "User rejected sampling request")
    assert str(error) == "The client refused the question: User rejected sampling request"
    assert str(QuestionRefusedError(0, "")) == "The client refused the question: no reason given"


def test_what_is_alone_in_its_groups_is_taken_out() -> None:
    error = ToolError("x")
    two = ExceptionGroup("two", [error, error])
    assert unwrap(error) is error
    assert unwrap(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    assert unwrap(ExceptionGroup("a", [two])) is two
