"""What the strict server offers: one tool for each feature of the matrix, each in its revision's words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.peers.strict_server import Ask

Message = dict[str, Any]

NAMES = (
    "echo", "fail", "refuse", "steps", "wait", "ask_twice", "ask_url", "need_url", "sample", "roots", "touch", "grow",
    "shrink", "talk", "blocks", "vendor", "choices", "several",
)  # fmt: skip
URL = "https://example.org/confirm?a=1&b=%20"
VENDOR: Message = {"example.org/vendor": {"deep": [1, {"x": None}], "": "empty key"}}
BLOB = "AAECAw=="
WATCHED = "test://watched"


class RpcError(Exception):
    """An error response."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.body: Message = {"code": code, "message": message}
        if data is not None:
            self.body["data"] = data
        super().__init__(message)


def text(words: str) -> Message:
    """A text block."""
    return {"type": "text", "text": words}


def entries(member: str, revision: str, *, has_grown: bool) -> list[Message]:
    """The entries of one list."""
    if member == "tools":
        names = (*NAMES, "grown") if has_grown else NAMES
        return [_tool(name, revision) for name in names]
    if member == "prompts":
        argument = {"name": "who", "required": False}
        return [{"name": f"prompt{n}", "arguments": [argument], **VENDOR} for n in range(7)]
    if member == "resources":
        found = [{"uri": f"test://resource/{n}", "name": f"r{n}", **VENDOR} for n in range(6)]
        return [*found, {"uri": WATCHED, "name": "watched"}]
    return [{"uriTemplate": "test://by/{id}", "name": "by id", **VENDOR}]


def _tool(name: str, revision: str) -> Message:
    schema: Message = {"type": "object", "properties": {"text": {"type": "string"}}, **VENDOR}
    tool: Message = {"name": name, "description": f"Does {name}.", "inputSchema": schema, **VENDOR}
    if name == "echo" and revision >= "2025-06-18":
        tool["outputSchema"] = {"type": "object", "$defs": {"a": {"$anchor": "b"}}}
    if name == "vendor" and revision >= "2026-07-28":
        tool["outputSchema"] = {"type": "array", "items": {"type": "integer"}}
    if revision == "2025-11-25":
        tool["execution"] = {"taskSupport": "optional" if name == "vendor" else "forbidden"}
    return tool


def complete(params: Message) -> Message:
    """Complete an argument; say what else was known."""
    known = params.get("context", {}).get("arguments", {})
    values = [params["argument"]["value"] + "ly", f"context {sorted(known)}"]
    return {"completion": {"values": values, "total": 2, "hasMore": False}}


async def answer(ask: Ask) -> Message:
    """Answer a call, a prompt or a read."""
    if ask.method == "prompts/get":
        return _prompt(ask)
    if ask.method == "resources/read":
        return _contents(ask)
    if ask.params["name"] not in NAMES:
        raise RpcError(-32602, f"Unknown tool: {ask.params['name']}")
    tool = getattr(_Tools(), ask.params["name"])
    result: Message = await tool(ask)
    return result


def _prompt(ask: Ask) -> Message:
    messages = [{"role": "user", "content": text(f"For {ask.arguments.get('who')}")}]
    if ask.revision >= "2025-03-26":
        audio = {"type": "audio", "data": BLOB, "mimeType": "audio/wav"}
        messages.append({"role": "assistant", "content": audio})
    if ask.revision >= "2025-06-18":
        link = {"type": "resource_link", "uri": "test://linked", "name": "linked"}
        messages.append({"role": "user", "content": link})
    return {"messages": messages, **VENDOR}


def _contents(ask: Ask) -> Message:
    uri = ask.params["uri"]
    if uri.endswith("missing"):
        code = -32602 if ask.revision >= "2026-07-28" else -32002
        raise RpcError(code, "Resource not found", {"uri": uri})
    return {"contents": [{"uri": uri, "text": f"content of {uri}"}], **VENDOR}


class _Tools:
    """The tools, by their names."""

    async def echo(self, ask: Ask) -> Message:
        result: Message = {"content": [text("echo")], "_meta": {"example.org/got": ask.arguments}}
        if ask.revision >= "2025-06-18":
            result["structuredContent"] = ask.arguments
        return result

    async def fail(self, ask: Ask) -> Message:
        return {"content": [text("it failed")], "isError": True}

    async def refuse(self, ask: Ask) -> Message:
        raise RpcError(-32011, "refused by the tool", {"why": ["because"]})

    async def steps(self, ask: Ask) -> Message:
        for step in (0, 50.5, 100):
            await ask.progress(step, 100)
        return {"content": [text("done")]}

    async def wait(self, ask: Ask) -> Message:
        ask.line.peer.note("waiting", ask.arguments.get("text"))
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def ask_twice(self, ask: Ask) -> Message:
        first = await ask.ask("first", "elicitation/create", _form(ask, "First name?"))
        second = await ask.ask("second", "elicitation/create", _form(ask, "Second name?"))
        names = [one.get("content", {}).get("name", one["action"]) for one in (first, second)]
        return {"content": [text(" ".join(map(str, names)))]}

    async def ask_url(self, ask: Ask) -> Message:
        params: Message = {"mode": "url", "message": "Confirm there", "url": URL}
        if ask.revision == "2025-11-25":
            params["elicitationId"] = "confirm-1"
        answer = await ask.ask("url", "elicitation/create", params)
        return {"content": [text(answer["action"])]}

    async def need_url(self, ask: Ask) -> Message:
        visited = ask.line.peer.visited
        if ask.revision != "2025-11-25" or ask.arguments["text"] in visited:
            return {"content": [text("was there")]}
        visited.add(ask.arguments["text"])
        one = {"mode": "url", "message": "Go there", "url": URL, "elicitationId": "need-1"}
        raise RpcError(-32042, "Visit first", {"elicitations": [one]})

    async def sample(self, ask: Ask) -> Message:
        message = {"role": "user", "content": text("Say hi")}
        params = {"messages": [message], "maxTokens": 10, "systemPrompt": "Be brief", **VENDOR}
        answer = await ask.ask("sample", "sampling/createMessage", params)
        ask.line.peer.note("answered", answer)
        content = answer["content"]
        blocks = content if isinstance(content, list) else [content]
        return {"content": [text(" ".join(block["text"] for block in blocks))]}

    async def roots(self, ask: Ask) -> Message:
        answer = await ask.ask("roots", "roots/list", {})
        return {"content": [text(" ".join(root["uri"] for root in answer["roots"]))]}

    async def touch(self, ask: Ask) -> Message:
        changed = "notifications/resources/updated"
        await ask.line.peer.tell_change(changed, WATCHED)
        return {"content": [text("touched")]}

    async def grow(self, ask: Ask) -> Message:
        ask.line.peer.has_grown = True
        await ask.line.peer.tell_change("notifications/tools/list_changed")
        return {"content": [text("grown")]}

    async def shrink(self, ask: Ask) -> Message:
        ask.line.peer.has_grown = False
        await ask.line.peer.tell_change("notifications/tools/list_changed")
        return {"content": [text("shrunk")]}

    async def talk(self, ask: Ask) -> Message:
        for level in ("debug", "info", "warning", "error"):
            await ask.log(level, {"said": level, **VENDOR})
        return {"content": [text("said")]}

    async def blocks(self, ask: Ask) -> Message:
        found: list[Message] = [
            {**text("words"), **VENDOR},
            {"type": "image", "data": BLOB, "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "test://embedded", "text": "inside"}},
        ]
        if ask.revision >= "2025-03-26":
            found.append({"type": "audio", "data": BLOB, "mimeType": "audio/wav"})
        if ask.revision >= "2025-06-18":
            found.append({"type": "resource_link", "uri": "test://linked", "name": "linked"})
        return {"content": found}

    async def vendor(self, ask: Ask) -> Message:
        result: Message = {"content": [{**text("kept"), **VENDOR}], "_meta": {**VENDOR}, **VENDOR}
        if ask.revision >= "2026-07-28":
            result["structuredContent"] = [1, 2]
        return result

    async def choices(self, ask: Ask) -> Message:
        answer = await ask.ask("choice", "elicitation/create", _choices(ask))
        return {"content": [text(str(answer["content"]["colour"]))]}

    async def several(self, ask: Ask) -> Message:
        titled = [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]
        colours = {"type": "array", "items": {"anyOf": titled}}
        schema = {"type": "object", "properties": {"colours": colours}}
        params = {"message": "Colours?", "requestedSchema": schema}
        answer = await ask.ask("colours", "elicitation/create", params)
        return {"content": [text(" ".join(answer["content"]["colours"]))]}


def _form(ask: Ask, words: str) -> Message:
    schema: Message = {
        "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]
    }  # fmt: skip
    params: Message = {"message": words, "requestedSchema": schema}
    if ask.revision >= "2025-11-25":
        params["mode"] = "form"
    return params


def _choices(ask: Ask) -> Message:
    colour: Message = {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"]}
    if ask.revision >= "2025-11-25":
        titled = [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]
        colour = {"type": "string", "oneOf": titled}
    schema = {"type": "object", "properties": {"colour": colour}}
    return {"message": "Colour?", "requestedSchema": schema}
