from __future__ import annotations

import asyncio
import io
import json
import os
from typing import Any

import pytest

from waygate_mcp.cli.terminal_caller import TerminalCaller, read_line
from waygate_mcp.model.call import Answer, LogEvent, Progress, Question


class Person:
    """Types prepared lines; what was shown is kept."""

    def __init__(self, *lines: str | None) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    async def __call__(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        line = self.lines.pop(0)
        return None if line is None else f"{line}\n"


def form(**properties: Any) -> Question:
    required = [name for name, field in properties.items() if field.pop("required", False)]
    schema = {"type": "object", "properties": properties, "required": required}
    params = {"message": "Tell me", "requestedSchema": schema}
    return Question("elicitation/create", json.dumps(params).encode())


async def asked(question: Question, *lines: str | None) -> Any:
    person = Person(*lines)
    answer = await TerminalCaller(interactive=True, read=person).ask(question)
    assert not person.lines, "more was typed than asked"
    assert answer.result is not None
    return json.loads(answer.result)


async def test_a_form_is_asked_field_by_field() -> None:
    question = form(
        name={"type": "string", "title": "Your name", "required": True},
        age={"type": "integer"},
        share={"type": "number", "default": 0.5},
        on={"type": "boolean"},
    )
    assert await asked(question, "y", "Ada", "36", "", "yes") == {
        "action": "accept", "content": {"name": "Ada", "age": 36, "share": 0.5, "on": True}
    }  # fmt: skip


async def test_an_optional_field_may_stay_empty_and_a_required_one_may_not() -> None:
    question = form(a={"type": "string"}, b={"type": "integer", "required": True})
    answer = await asked(question, "", "", "", "7")
    assert answer["content"] == {"b": 7}


@pytest.mark.parametrize(
    ("field", "wrong", "right", "value"),
    [
        ({"type": "integer"}, "x", "3", 3),
        ({"type": "integer", "minimum": 3, "maximum": 5}, "2", "5", 5),
        ({"type": "integer", "minimum": 3, "maximum": 5}, "6", "3", 3),
        ({"type": "number"}, "x", "1.5", 1.5),
        ({"type": "boolean"}, "maybe", "n", False),
        ({"type": "string", "minLength": 2}, "a", "ab", "ab"),
        ({"type": "string", "maxLength": 2}, "abc", "ab", "ab"),
        ({"type": "string", "enum": ["a", "b"]}, "c", "b", "b"),
        ({"type": "string", "enum": ["a", "b"]}, "3", "2", "b"),
        ({"type": "string", "enum": ["a", "b"], "enumNames": ["One", "Two"]}, "x", "Two", "b"),
        ({"type": "string", "oneOf": [{"const": "a", "title": "One"}]}, "0", "One", "a"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "a, c", "1, b", ["a", "b"]),
        (
            {"type": "array", "items": {"anyOf": [{"const": "a", "title": "One"}]}},
            "Two",
            "One",
            ["a"],
        ),
    ],
)
async def test_what_does_not_fit_is_asked_again(
    field: dict[str, Any], wrong: str, right: str, value: Any
) -> None:
    answer = await asked(form(x={**field, "required": True}), "y", wrong, right)
    assert answer["content"] == {"x": value}


@pytest.mark.parametrize(
    ("lines", "action"),
    [
        (["n"], "decline"),
        (["c"], "cancel"),
        ([None], "cancel"),
        (["what", "?", "no"], "decline"),
        (["1", "2", "3", "4", "5"], "cancel"),
        (["y", None], "cancel"),
        (["y", "x", "x", "x", "x", "x"], "cancel"),
    ],
)
async def test_a_person_may_refuse_or_give_up(lines: list[str | None], action: str) -> None:
    question = form(a={"type": "integer", "required": True})
    assert await asked(question, *lines) == {"action": action}


async def test_a_url_is_shown_with_its_host_and_never_opened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = {
        "mode": "url",
        "message": "Sign in",
        "url": "https://a.example/x?y",
        "elicitationId": "e",
    }
    question = Question("elicitation/create", json.dumps(params).encode())
    assert await asked(question, "y") == {"action": "accept"}
    assert "if you trust a.example: https://a.example/x?y" in capsys.readouterr().err
    assert await asked(question, "n") == {"action": "decline"}


async def test_what_a_server_writes_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = form(**{"na\x1b[2Jme": {"type": "string", "description": "\x1b]0;x\x07"}})
    person = Person("y", "v")
    await TerminalCaller(interactive=True, read=person).ask(question)
    assert "\x1b" not in capsys.readouterr().err + "".join(person.prompts)


async def test_where_nobody_sits_a_question_is_declined_with_a_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = await TerminalCaller(interactive=False).ask(form(a={"type": "string"}))
    assert answer == Answer(b'{"action":"decline"}')
    err = capsys.readouterr().err
    assert "Tell me" in err
    assert "terminal" in err


async def test_other_questions_are_not_for_a_terminal() -> None:
    caller = TerminalCaller(interactive=True)
    for method in ("sampling/createMessage", "roots/list"):
        answer = await caller.ask(Question(method))
        assert (answer.result, answer.error_code) == (None, -32601)


async def test_log_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    caller = TerminalCaller(interactive=False)
    await caller.emit(LogEvent("warning", b'"watch out\\n"', "db"))
    await caller.emit(LogEvent("info", b'{"a": 1}'))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("[warning] db: watch out")
    assert '[info] {"a": 1}' in captured.err


async def test_progress_is_drawn_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TerminalCaller(interactive=False) as caller:
        await caller.emit(Progress(1, 2, "half"))
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        await caller.emit(Progress(1, 2, "half"))
        await caller.emit(Progress(2, 2))
        is_drawn = caller._bar is not None
    assert is_drawn
    assert caller._bar is None
    await caller.close_stream()


async def test_a_line_is_read_without_holding_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        task = asyncio.get_running_loop().create_task(read_line("? "))
        await asyncio.sleep(0)
        os.write(writing, b"typed\n")
        async with asyncio.timeout(5):
            assert await task == "typed\n"
        os.close(writing)
        async with asyncio.timeout(5):
            assert await read_line("? ") is None


async def test_a_line_is_read_in_a_thread_where_the_loop_cannot_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    monkeypatch.setattr("sys.stdin", io.StringIO("typed\n"))
    assert await read_line("? ") == "typed\n"
