"""What client and upstream do in each cell: one function for each feature, which fails where anything is amiss.

Both ends check every message besides (`Client.wrong`, the upstream's complaints).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.matrix.clients import WAIT_S, Client, Message, RemoteError
from tests.peers.strict_tools import BLOB, NAMES, URL, VENDOR, WATCHED

ARGUMENTS: Message = {
    "text": 'żółw 🐢 \u2028 \\ " </script>',
    "n": 12345678901234567890,
    "d": 1.5,
    "deep": {"a": [{}, [], None, {"b": [[]]}]},
    "": False,
}


class Room:
    """A client, its upstream's revision, and the upstream's journal."""

    def __init__(
        self, client: Client, upstream: str, journal: Callable[[], list[list[Any]]]
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.journal = journal

    @property
    def reader(self) -> str:
        """The client's revision."""
        return self.client.revision

    async def noted(self, event: str, what: Any) -> None:
        """Wait until the upstream noted something."""
        async with asyncio.timeout(WAIT_S):
            while [event, what] not in self.journal():  # noqa: ASYNC110 - the journal may be a file
                await asyncio.sleep(0.005)

    def received(self, method: str) -> list[Message]:
        """The parameters of the requests of a method the upstream received."""
        return [
            what.get("params", {})
            for event, what in self.journal()
            if event == "received" and what["method"] == method
        ]


def words(result: Message) -> str:
    """The text of a result's first block."""
    return str(result["content"][0]["text"])


async def call(room: Room) -> None:
    """Tools, prompts and resources answer; blocks the client does not know are said otherwise."""
    client = room.client
    result = await client.call("echo", ARGUMENTS)
    assert result["_meta"]["example.org/got"] == ARGUMENTS, result
    if room.upstream >= "2025-06-18":
        assert result["structuredContent"] == ARGUMENTS
    prompt = await client.request("prompts/get", {"name": "prompt3", "arguments": {"who": "Ann"}})
    assert prompt["messages"][0]["content"]["text"] == "For Ann"
    said = [message["content"]["type"] for message in prompt["messages"]]
    assert said == ["text", *_block_types(room)[3:]]
    read = await client.request("resources/read", {"uri": "test://by/7"})
    assert read["contents"] == [{"uri": "test://by/7", "text": "content of test://by/7"}]
    blocks = (await client.call("blocks"))["content"]
    assert [block["type"] for block in blocks] == _block_types(room)
    if _block_types(room)[3:4] == ["resource"]:
        assert blocks[3]["resource"]["blob"] == BLOB
    if _block_types(room)[4:] == ["text"]:
        assert "test://linked" in blocks[4]["text"]


def _block_types(room: Room) -> list[str]:
    types = ["text", "image", "resource"]
    if room.upstream >= "2025-03-26":
        types.append("audio" if room.reader >= "2025-03-26" else "resource")
    if room.upstream >= "2025-06-18":
        types.append("resource_link" if room.reader >= "2025-06-18" else "text")
    return types


async def error(room: Room) -> None:
    """A tool's own failure is a result; an error keeps code and data; what is missing has the reader's code."""
    client = room.client
    failed = await client.call("fail")
    assert failed["isError"] is True
    assert words(failed) == "it failed"
    with pytest.raises(RemoteError) as refused:
        await client.call("refuse")
    assert (refused.value.code, refused.value.data) == (-32011, {"why": ["because"]})
    assert "refused by the tool" in refused.value.message
    for uri in ("test://by/missing",):
        with pytest.raises(RemoteError) as missing:
            await client.request("resources/read", {"uri": uri})
        assert missing.value.code == (-32602 if client.wire.is_modern else -32002)
        assert missing.value.data["uri"] == uri
    with pytest.raises(RemoteError) as unknown:
        await client.call("nowhere")
    assert unknown.value.code == -32602


async def progress(room: Room) -> None:
    """Progress bears the client's own token, its type kept."""
    client = room.client
    for token in (7, "7"):
        await client.call("steps", token=token)
        heard = client.notes("notifications/progress")
        assert [one["progress"] for one in heard] == [0, 50.5, 100]
        assert all(one["progressToken"] == token for one in heard)
        assert all(type(one["progressToken"]) is type(token) for one in heard)
        await client.hears("notifications/progress", 3)
    await client.call("steps")
    assert client.notes("notifications/progress") == []


async def cancel(room: Room) -> None:
    """A call that is cancelled stops at the upstream, and nothing else does."""
    client = room.client
    before = room.journal().count(["cancelled", "wait"])
    mark = f"{client.revision} {id(client)}"
    identifier, waiting = await client.begin(
        "tools/call", {"name": "wait", "arguments": {"text": mark}}
    )
    await room.noted("waiting", mark)
    await client.cancel(identifier)
    async with asyncio.timeout(WAIT_S):
        while room.journal().count(["cancelled", "wait"]) == before:  # noqa: ASYNC110 - may be a file
            await asyncio.sleep(0.005)
    assert not waiting.future.done()
    assert words(await client.call("echo")) == "echo"


async def two_rounds(room: Room) -> None:
    """Two forms in one call are answered one after the other; titled choices are shown the reader's way."""
    client = room.client
    names = iter(["Ann", "Zoë"])
    client.respond = lambda method, params: {"action": "accept", "content": {"name": next(names)}}
    result = await client.call("ask_twice")
    assert words(result) == "Ann Zoë"
    asked = [params["message"] for _, params in client.asked]
    assert [
        text.endswith(end) for text, end in zip(asked, ("First name?", "Second name?"), strict=True)
    ] == [True, True]
    client.respond = lambda method, params: {"action": "accept", "content": {"colour": "g"}}
    assert words(await client.call("choices")) == "g"
    client.respond = lambda method, params: {"action": "decline"}
    assert words(await client.call("ask_twice")) == "decline decline"
    if room.upstream >= "2025-11-25":
        await _choose_several(room)


async def _choose_several(room: Room) -> None:
    """A choice of several is shown to who can show it; else the call says what is missing."""
    client = room.client
    content = {"colours": ["r", "g"]}
    client.respond = lambda method, params: {"action": "accept", "content": content}
    if client.revision >= "2025-11-25":
        assert words(await client.call("several")) == "r g"
        return
    asked = len(client.asked)
    with pytest.raises(RemoteError) as refused:
        await client.call("several")
    assert refused.value.data == {"requiredCapabilities": {"elicitation": {"form": {}}}}
    assert len(client.asked) == asked


async def url_question(room: Room) -> None:
    """A page to visit is shown whole, in the middle of a call and as the error that 2025-11-25 has for it."""
    client = room.client
    client.respond = lambda method, params: {"action": "accept"}
    assert words(await client.call("ask_url")) == "accept"
    _, params = client.asked[-1]
    assert (params["mode"], params["url"]) == ("url", URL)
    if room.upstream != "2025-11-25":
        return
    mark = {"text": f"{client.revision} {id(client)}"}
    if client.wire.is_modern:
        assert words(await client.call("need_url", mark)) == "was there"
        assert client.asked[-1][1]["url"] == URL
        return
    with pytest.raises(RemoteError) as needed:
        await client.call("need_url", mark)
    assert needed.value.code == -32042
    assert needed.value.data["elicitations"][0]["url"] == URL
    assert words(await client.call("need_url", mark)) == "was there"


async def refused_question(room: Room, feature: str) -> None:
    """A client that cannot be asked gets an error that says what is missing, and where it should go."""
    tool = {"two-round question": "ask_twice", "url question": "ask_url"}[feature]
    with pytest.raises(RemoteError) as refused:
        await room.client.call(tool)
    assert refused.value.code == -32603
    assert refused.value.message
    wanted = "url" if feature == "url question" else "form"
    assert refused.value.data == {"requiredCapabilities": {"elicitation": {wanted: {}}}}
    assert room.client.asked == []
    if feature == "url question" and room.upstream == "2025-11-25":
        with pytest.raises(RemoteError) as needed:
            await room.client.call("need_url", {"text": f"{room.reader} {id(room.client)}"})
        assert needed.value.code == -32603
        assert URL in needed.value.message


async def sampling(room: Room) -> None:
    """The client's model is asked, and says what it says in the shape the upstream knows."""
    client = room.client
    block: Message = {"type": "text", "text": "Hi"}
    several: Any = [block, {"type": "text", "text": "there"}]
    content = several if client.revision >= "2025-11-25" else block
    answer = {"role": "assistant", "content": content, "model": "m", **VENDOR}
    client.respond = lambda method, params: answer
    said = words(await client.call("sample"))
    assert said.split() == (["Hi", "there"] if client.revision >= "2025-11-25" else ["Hi"])
    method, params = client.asked[-1]
    assert method == "sampling/createMessage"
    assert params["messages"][0]["content"]["text"] == "Say hi"
    assert params["systemPrompt"] == "Be brief"
    assert VENDOR.items() <= params.items()
    answered = [what for event, what in room.journal() if event == "answered"]
    assert VENDOR.items() <= answered[-1].items()


async def roots(room: Room) -> None:
    """The client's roots are asked for."""
    client = room.client
    client.respond = lambda method, params: {"roots": [{"uri": "file:///a%20b", "name": "a b"}]}
    assert words(await client.call("roots")) == "file:///a%20b"
    assert client.asked[-1][0] == "roots/list"


async def subscribe(room: Room) -> None:
    """A resource that changes is announced to who subscribed to it, and to nobody after that."""
    client = room.client
    if client.wire.is_modern:
        await client.listen(resourceSubscriptions=[WATCHED])
    else:
        await client.request("resources/subscribe", {"uri": WATCHED})
    await client.call("touch")
    updated = await client.hears("notifications/resources/updated")
    assert updated["uri"] == WATCHED
    if not client.wire.is_modern:
        await client.request("resources/unsubscribe", {"uri": WATCHED})
        await client.call("touch")
        await client.call("echo")
        assert client.notes("notifications/resources/updated") == []


async def list_change(room: Room) -> None:
    """A list that changes is announced, and shows the change."""
    client = room.client
    if client.wire.is_modern:
        await client.listen(toolsListChanged=True)
    assert "grown" not in await _names(client)
    client.heard.clear()
    await client.call("grow")
    await client.hears("notifications/tools/list_changed")
    assert "grown" in await _names(client)
    await client.call("shrink")
    await client.hears("notifications/tools/list_changed")
    assert "grown" not in await _names(client)


async def _names(client: Client) -> list[str]:
    return [tool["name"] for tool in await _listed(client, "tools/list", "tools")]


async def _listed(client: Client, method: str, member: str) -> list[Message]:
    """Every entry of a list, page by page."""
    found: list[Message] = []
    params: Message = {}
    for _ in range(20):
        page = await client.request(method, params)
        found += page[member]
        if "nextCursor" not in page:
            return found
        params = {"cursor": page["nextCursor"]}
    raise AssertionError("the list does not end")


async def pages(room: Room) -> None:
    """Lists that come in pages and go out in pages are whole."""
    client = room.client
    first = await client.request("tools/list")
    assert len(first["tools"]) == 3, "a page of ours, which is none of the upstream's"
    assert sorted(await _names(client)) == sorted(NAMES)
    prompts = await _listed(client, "prompts/list", "prompts")
    assert [one["name"] for one in prompts] == [f"prompt{n}" for n in range(7)]
    resources = await _listed(client, "resources/list", "resources")
    assert len(resources) == 7
    templates = await _listed(client, "resources/templates/list", "resourceTemplates")
    assert [one["uriTemplate"] for one in templates] == ["test://by/{id}"]
    with pytest.raises(RemoteError) as wrong:
        await client.request("tools/list", {"cursor": "made up"})
    assert wrong.value.code == -32602


async def unknown_fields(room: Room) -> None:
    """What no revision knows travels both ways; what only newer readers know is taken out for older ones."""
    client = room.client
    kept = {"name": "vendor", "arguments": {"x": 1}, "_meta": {**VENDOR}, **VENDOR}
    result = await client.request("tools/call", kept)
    assert [result[key] for key in VENDOR] == [VENDOR[key] for key in VENDOR]
    assert result["content"][0] == {"type": "text", "text": "kept", **VENDOR}
    assert VENDOR.items() <= result["_meta"].items()
    if room.upstream >= "2026-07-28":
        if client.wire.is_modern:
            assert result["structuredContent"] == [1, 2]
        else:
            assert "structuredContent" not in result
    sent = [one for one in room.received("tools/call") if one["name"] == "vendor"][-1]
    assert sent["arguments"] == {"x": 1}
    assert VENDOR.items() <= sent.items()
    assert VENDOR.items() <= sent["_meta"].items()
    tools = {tool["name"]: tool for tool in await _listed(client, "tools/list", "tools")}
    assert all(VENDOR.items() <= tool.items() for tool in tools.values())
    if room.reader != "2025-11-25":  # which knows tasks, and is served them
        assert not any("taskSupport" in tool.get("execution", {}) for tool in tools.values())
    assert VENDOR.items() <= tools["vendor"]["inputSchema"].items()
    if room.upstream >= "2025-06-18":
        assert tools["echo"]["outputSchema"] == {"type": "object", "$defs": {"a": {"$anchor": "b"}}}
    assert ("outputSchema" in tools["vendor"]) == (
        room.upstream >= "2026-07-28" and client.wire.is_modern
    )
    for method, member in (
        ("prompts/list", "prompts"), ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ):  # fmt: skip
        assert VENDOR.items() <= (await _listed(client, method, member))[0].items()
    for method, params in (
        ("prompts/get", {"name": "prompt1"}), ("resources/read", {"uri": "test://resource/1"}),
    ):  # fmt: skip
        assert VENDOR.items() <= (await client.request(method, params)).items()


async def log_level(room: Room) -> None:
    """Log messages come from the level on that was set; a modern call that names none gets none."""
    client = room.client
    if client.wire.is_modern:
        await client.call("talk")
        assert client.notes("notifications/message") == []
        client.log_level = "warning"
    else:
        await client.request("logging/setLevel", {"level": "warning"})
    await client.call("talk")
    heard = client.notes("notifications/message")
    await client.hears("notifications/message", 2)
    client.log_level = None
    assert [one["level"] for one in heard] == ["warning", "error"]
    assert heard[0]["data"] == {"said": "warning", **VENDOR}
    assert heard[0]["logger"] == "stub"


async def completion(room: Room) -> None:
    """An argument is completed; what else is known reaches an upstream whose revision has a place for it."""
    client = room.client
    for ref in (
        {"type": "ref/prompt", "name": "prompt2"},
        {"type": "ref/resource", "uri": "test://by/{id}"},
    ):
        params: Message = {"ref": ref, "argument": {"name": "who", "value": "love"}}
        if client.revision >= "2025-06-18":
            params["context"] = {"arguments": {"other": "x"}}
        result = await client.request("completion/complete", params)
        reaches = min(client.revision, room.upstream) >= "2025-06-18"
        wanted = ["lovely", "context ['other']" if reaches else "context []"]
        assert result["completion"] == {"values": wanted, "total": 2, "hasMore": False}


FEATURE_RUNS: dict[str, Callable[[Room], Awaitable[None]]] = {
    "call": call,
    "error": error,
    "progress": progress,
    "cancel": cancel,
    "two-round question": two_rounds,
    "url question": url_question,
    "sampling": sampling,
    "roots": roots,
    "subscribe": subscribe,
    "list change": list_change,
    "pages": pages,
    "unknown fields kept": unknown_fields,
    "log level": log_level,
    "completion": completion,
}
