"""The official Python SDK's first line (1.x) as an old client; what it does is said in report.py.

Runs in the environment that scripts/setup-peers.sh makes for it: .peers/sdk1/bin/python -m tests.peers.python_sdk1
"""

# mypy: ignore-errors
# The type checker sees the SDK 2.x of the development environment, whose names differ.

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from pydantic import AnyUrl

from tests.peers.report import ROOT_URI, STORY, Report, Seen, answer_form, read_orders

WATCHED = "test://watched-resource"


class Callbacks:
    """The client's side of a dialogue: a person, a model, roots, ears."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def elicit(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        properties = params.requestedSchema["properties"]
        self.seen.asked.append({"message": params.message, "fields": sorted(properties)})
        answer = answer_form(params.message, properties)
        if answer is None:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content=answer)

    async def sample(
        self, context: Any, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.seen.asked.append({"prompt": [text_of(one.content) for one in params.messages]})
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(type="text", text=STORY),
            model="a-model",
            stopReason="endTurn",
        )

    async def roots(self, context: Any) -> types.ListRootsResult:
        self.seen.asked.append({"roots": True})
        return types.ListRootsResult(roots=[types.Root(uri=ROOT_URI, name="peer")])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.seen.log(params.data)

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            told = message.root
            address = f" {told.params.uri}" if told.method.endswith("resources/updated") else ""
            self.seen.tell(f"{told.method}{address}")


def text_of(content: Any) -> str:
    """The text of one content block or of a list of them."""
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(block.text for block in blocks if block.type == "text")


async def code_of(run: Callable[[], Any]) -> dict[str, Any]:
    """The JSON-RPC code that this request fails with, or what it gave instead."""
    try:
        result = await run()
    except McpError as error:
        return {"code": error.error.code}
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}


class Story:
    """One client's walk through all features."""

    def __init__(self, session: ClientSession, revision: str, seen: Seen, report: Report) -> None:
        self.session = session
        self.connected_with = revision
        self.seen = seen
        self.report = report

    async def call(self, name: str, **arguments: Any) -> types.CallToolResult:
        return await self.session.call_tool(name, arguments)

    async def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that asks the client; what was asked and what came out."""
        self.seen.clear()
        result = await self.call(name, **arguments)
        return {
            "asked": list(self.seen.asked),
            "isError": bool(result.isError),
            "text": text_of(result.content),
        }

    async def revision(self) -> str:
        return self.connected_with

    async def lists(self) -> dict[str, list[str]]:
        tools = await self.session.list_tools()
        prompts = await self.session.list_prompts()
        resources = await self.session.list_resources()
        templates = await self.session.list_resource_templates()
        return {
            "tools": [tool.name for tool in tools.tools],
            "prompts": [prompt.name for prompt in prompts.prompts],
            "resources": [str(resource.uri) for resource in resources.resources],
            "templates": [template.uriTemplate for template in templates.resourceTemplates],
        }

    async def plain_call(self) -> str:
        return text_of((await self.session.call_tool("test_simple_text")).content)

    async def content(self) -> list[str]:
        return [block.type for block in (await self.call("test_multiple_content_types")).content]

    async def tool_error(self) -> dict[str, Any]:
        result = await self.call("test_error_handling")
        return {"isError": bool(result.isError), "text": text_of(result.content)}

    async def progress(self) -> list[list[float | None]]:
        steps: list[list[float | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total])

        await self.session.call_tool("test_tool_with_progress", {}, progress_callback=note)
        return steps

    async def log(self) -> list[Any]:
        self.seen.clear()
        await self.session.set_logging_level("debug")
        await self.call("test_tool_with_logging")
        await self.seen.until(lambda: len(self.seen.logged) >= 3)
        return list(self.seen.logged)

    async def parallel(self) -> int:
        calls = [self.call("test_simple_text") for _ in range(10)]
        return len({text_of(result.content) for result in await asyncio.gather(*calls)})

    async def read(self) -> dict[str, Any]:
        text = (await self.session.read_resource(AnyUrl("test://static-text"))).contents[0]
        blob = (await self.session.read_resource(AnyUrl("test://static-binary"))).contents[0]
        templated = await self.session.read_resource(AnyUrl("test://template/123/data"))
        return {
            "text": [text.mimeType, bool(text.text)],
            "blob": [blob.mimeType, bool(blob.blob)],
            "template": "123" in templated.contents[0].model_dump_json(exclude={"uri"}),
        }

    async def unknown_resource(self) -> dict[str, Any]:
        unknown = AnyUrl("test://no-such-resource")
        return await code_of(lambda: self.session.read_resource(unknown))

    async def resource_update(self) -> str:
        self.seen.clear()
        told = f"notifications/resources/updated {WATCHED}"
        await self.session.subscribe_resource(AnyUrl(WATCHED))
        await self.call("update_watched_resource")
        await self.seen.until(lambda: told in self.seen.told)
        await self.session.unsubscribe_resource(AnyUrl(WATCHED))
        return WATCHED

    async def list_changed(self) -> str:
        self.seen.clear()
        await self.call("test_trigger_tool_change")
        await self.seen.until(lambda: "notifications/tools/list_changed" in self.seen.told)
        return "ToolsListChanged"

    async def prompt(self) -> str:
        arguments = {"arg1": "alpha", "arg2": "beta"}
        result = await self.session.get_prompt("test_prompt_with_arguments", arguments)
        return text_of([message.content for message in result.messages])

    async def prompt_that_asks(self) -> dict[str, Any]:
        self.seen.clear()
        result = await self.session.get_prompt("test_input_required_result_prompt")
        texts = [message.content for message in result.messages]
        return {"asked": len(self.seen.asked), "text": text_of(texts)}

    async def completion(self) -> list[str]:
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        result = await self.session.complete(reference, {"name": "arg1", "value": "a"})
        return result.completion.values

    async def cancellation(self) -> int:
        """How many cancellations the server saw of the one call that was given up.

        This line of the SDK has no call for it: the notification is sent by hand.
        """
        before = int(text_of((await self.call("cancellations_seen")).content))
        request = self.session._request_id
        call = asyncio.ensure_future(self.call("slow_cancellable", seconds=30))  # noqa: TID251 - no supervisor here
        await asyncio.sleep(0.5)
        assert not call.done(), call
        params = types.CancelledNotificationParams(requestId=request, reason="given up")
        cancelled = types.CancelledNotification(params=params)
        await self.session.send_notification(types.ClientNotification(cancelled))
        call.cancel()
        after = before
        for _ in range(50):
            after = int(text_of((await self.call("cancellations_seen")).content))
            if after > before:
                break
            await asyncio.sleep(0.1)
        return after - before

    async def ping(self) -> dict[str, Any]:
        return (await self.session.send_ping()).model_dump(exclude_none=True)

    async def walk(self) -> None:
        """All features, in an order that leaves the streams time to open before they are needed."""
        add = self.report.feature
        await add("revision", self.revision)
        await add("ping", self.ping)
        await add("list", self.lists)
        await add("call", self.plain_call)
        await add("content", self.content)
        await add("tool_error", self.tool_error)
        await add("unknown_tool", lambda: code_of(lambda: self.call("no_such_tool")))
        await add("progress", self.progress)
        await add("log", self.log)
        await add("elicitation", lambda: self.ask("test_elicitation", message="Who are you?"))
        await add("declined", lambda: self.ask("test_elicitation", message="Please decline"))
        await add("sampling", lambda: self.ask("test_sampling", prompt="Tell a story"))
        await add("roots", lambda: self.ask("test_input_required_result_list_roots"))
        await add("rounds", lambda: self.ask("test_input_required_result_multi_round"))
        await add("parallel", self.parallel)
        await add("read", self.read)
        await add("unknown_resource", self.unknown_resource)
        await add("resource_update", self.resource_update)
        await add("prompt", self.prompt)
        await add("prompt_that_asks", self.prompt_that_asks)
        await add("completion", self.completion)
        await add("cancellation", self.cancellation)
        await add("list_changed", self.list_changed)


async def main() -> None:
    """Connect as ordered, walk, report."""
    orders = read_orders()
    report = Report(f"Python SDK {version('mcp')}")
    seen = Seen()
    on = Callbacks(seen)
    async with AsyncExitStack() as stack:
        if orders.is_http:
            http = await stack.enter_async_context(create_mcp_http_client(dict(orders.headers)))
            transport = streamable_http_client(orders.url, http_client=http)
        else:
            transport = stdio_client(
                StdioServerParameters(
                    command=orders.command,
                    args=list(orders.arguments),
                    env=dict(orders.environment),
                    cwd=orders.folder,
                )
            )
        streams = await stack.enter_async_context(transport)
        session = await stack.enter_async_context(
            ClientSession(
                streams[0],
                streams[1],
                elicitation_callback=on.elicit,
                sampling_callback=on.sample,
                list_roots_callback=on.roots,
                logging_callback=on.log,
                message_handler=on.message,
            )
        )
        opened = await session.initialize()
        await Story(session, str(opened.protocolVersion), seen, report).walk()
    report.print()


if __name__ == "__main__":
    asyncio.run(main())
