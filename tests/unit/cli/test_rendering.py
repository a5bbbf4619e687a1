from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.cli.rendering import Output

PICTURE = base64.b64encode(b"\x89PNG").decode()


def shown(
    capsys: pytest.CaptureFixture[str], *blocks: dict[str, Any], **more: Any
) -> tuple[str, str]:
    Output(None, "t").show_tool_result({"content": list(blocks), **more})
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_text_is_printed_as_it_is_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, {"type": "text", "text": "a\x1b[31m\nb"}) == ("a\x1b[31m\nb\n", "")


def test_a_terminal_gets_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    out, _ = shown(capsys, {"type": "text", "text": "a\x1b[31m\nb"})
    assert "\x1b" not in out
    assert out.endswith("b\n")


def test_bytes_are_named_with_their_size(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(
        capsys,
        {"type": "image", "data": PICTURE, "mimeType": "image/png"},
        {"type": "audio", "data": "not base64!", "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "a://b", "blob": PICTURE}},
    )
    assert out == ""
    assert "image image/png, 4 bytes" in err
    assert "not base64" in err
    assert "resource application/octet-stream, 4 bytes" in err


def test_links_resources_and_what_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = shown(
        capsys,
        {"type": "resource_link", "uri": "a://b", "name": "n"},
        {"type": "resource", "resource": {"uri": "a://b", "text": "inside"}},
        {"type": "hologram", "x": 1},
    )
    assert out == 'n: a://b\ninside\n{"type": "hologram", "x": 1}\n'


def test_structured_content_is_shown_where_no_text_says_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shown(capsys, structuredContent={"a": 1})[0] == '{\n  "a": 1\n}\n'
    text = {"type": "text", "text": "x"}
    assert shown(capsys, text, structuredContent={"a": 1})[0] == "x\n"


def test_messages_of_a_prompt_name_who_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    message = {"role": "user", "content": {"type": "text", "text": "hi"}}
    Output(None, "p").show_prompt({"messages": [message, {"role": "wizard"}, "odd"]})
    assert capsys.readouterr().out == "User:\nhi\nwizard:\n"


def test_files_get_names_of_our_own_and_overwrite_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "etc_passwd-1.png").write_bytes(b"mine")
    block = {"type": "image", "data": PICTURE, "mimeType": "image/png"}
    Output(folder, "../../etc/passwd").show_tool_result({"content": [block, block]})
    Output(folder, "").show_contents(
        {
            "contents": [
                {"text": "hello", "mimeType": "text/html"},
                {"blob": PICTURE, "mimeType": "x/y"},
            ]
        }
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "etc_passwd-1.png": b"mine",
        "etc_passwd-2.png": b"\x89PNG",
        "etc_passwd-3.png": b"\x89PNG",
        "result-1.html": b"hello",
        "result-2.bin": b"\x89PNG",
    }
