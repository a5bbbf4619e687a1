"""The official Python SDK's current client (2.x) in both eras; what it does is said in report.py.

Run from the repository's root: python -m tests.peers.python_sdk2 <orders.json
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared._httpx_utils import create_mcp_http_client
from pydantic import FileUrl

from tests.peers.report import ROOT_URI, STORY, Orders, Report, Seen, answer_form, read_orders

WATCHED = "test://watched-resource"

# Roots, sampling, logging and subscriptions are deprecated in the newest revision, and still have to work.
warnings.simplefilter("ignore")


class Callbacks:
    """The client's side of a dialogue: a person, a model, roots, ears."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        properties = params.requested_schema["properties"]
        self.seen.asked.append({"message": params.message, "fields": sorted(properties)})
        answer = answer_form(params.message, properties)
        if answer is None:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content=answer)

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.seen.asked.append({"prompt": [text_of(one.content) for one in params.messages]})
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(type="text", text=STORY),
            model="a-model",
            stop_reason="endTurn",
        )

    async def roots(self, context: ClientRequestContext) -> types.ListRootsResult:
        self.seen.asked.append({"roots": True})
        return types.ListRootsResult(roots=[types.Root(uri=FileUrl(ROOT_URI), name="peer")])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.seen.log(params.data)

    async def message(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.seen.tell(f"{message.method} {message.params.uri}")
        elif not isinstance(message, Exception):
            self.seen.tell(message.method)


def text_of(content: Any) -> str:
    """The text of one content block or of a list of them."""
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(block.text for block in blocks if block.type == "text")


async def code_of(run: Callable[[], Any]) -> dict[str, Any]:
    """The JSON-RPC code that this request fails with, or what it gave instead."""
    try:
        result = await run()
    except MCPError as error:
        return {"code": error.code}
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}


class Story:
    """One client's walk through all features."""

    def __init__(self, client: Client, orders: Orders, seen: Seen, report: Report) -> None:
        self.client = client
        self.orders = orders
        self.seen = seen
        self.report = report

    async def call(self, name: str, **arguments: Any) -> types.CallToolResult:
        return await self.client.call_tool(name, arguments)

    async def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that asks the client; what was asked and what came out."""
        self.seen.clear()
        result = await self.call(name, **arguments)
        return {
            "asked": list(self.seen.asked),
            "isError": bool(result.is_error),
            "text": text_of(result.content),
        }

    async def lists(self) -> dict[str, list[str]]:
        tools = await self.client.list_tools()
        prompts = await self.client.list_prompts()
        resources = await self.client.list_resources()
        templates = await self.client.list_resource_templates()
        return {
            "tools": [tool.name for tool in tools.tools],
            "prompts": [prompt.name for prompt in prompts.prompts],
            "resources": [str(resource.uri) for resource in resources.resources],
            "templates": [template.uri_template for template in templates.resource_templates],
        }

    async def plain_call(self) -> str:
        return text_of((await self.client.call_tool("test_simple_text")).content)

    async def content(self) -> list[str]:
        return [block.type for block in (await self.call("test_multiple_content_types")).content]

    async def tool_error(self) -> dict[str, Any]:
        result = await self.call("test_error_handling")
        return {"isError": bool(result.is_error), "text": text_of(result.content)}

    async def progress(self) -> list[list[float | None]]:
        steps: list[list[float | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total])

        await self.client.call_tool("test_tool_with_progress", {}, progress_callback=note)
        return steps

    async def log(self) -> list[Any]:
        self.seen.clear()
        if not self.orders.is_modern:
            await self.client.set_logging_level("debug")
        await self.call("test_tool_with_logging")
        await self.seen.until(lambda: len(self.seen.logged) >= 3)
        return list(self.seen.logged)

    async def parallel(self) -> int:
        calls = [self.client.call_tool("test_simple_text") for _ in range(10)]
        return len({text_of(result.content) for result in await asyncio.gather(*calls)})

    async def read(self) -> dict[str, Any]:
        text = (await self.client.read_resource("test://static-text")).contents[0]
        blob = (await self.client.read_resource("test://static-binary")).contents[0]
        from_template = await self.client.read_resource("test://template/123/data")
        assert isinstance(text, types.TextResourceContents)
        assert isinstance(blob, types.BlobResourceContents)
        return {
            "text": [text.mime_type, bool(text.text)],
            "blob": [blob.mime_type, bool(blob.blob)],
            "template": "123" in from_template.contents[0].model_dump_json(exclude={"uri"}),
        }

    async def resource_update(self) -> str:
        if self.orders.is_modern:
            async with self.client.listen(resource_subscriptions=[WATCHED]) as changes:
                await self.call("update_watched_resource")
                event = await anext(aiter(changes))
                assert isinstance(event, ResourceUpdated), event
                return str(event.uri)
        self.seen.clear()
        told = f"notifications/resources/updated {WATCHED}"
        await self.client.subscribe_resource(WATCHED)
        await self.call("update_watched_resource")
        await self.seen.until(lambda: told in self.seen.told)
        await self.client.unsubscribe_resource(WATCHED)
        return WATCHED

    async def list_changed(self) -> str:
        if self.orders.is_modern:
            async with self.client.listen(tools_list_changed=True) as changes:
                await self.call("test_trigger_tool_change")
                return type(await anext(aiter(changes))).__name__
        self.seen.clear()
        await self.call("test_trigger_tool_change")
        await self.seen.until(lambda: "notifications/tools/list_changed" in self.seen.told)
        return "ToolsListChanged"

    async def prompt(self) -> str:
        arguments = {"arg1": "alpha", "arg2": "beta"}
        result = await self.client.get_prompt("test_prompt_with_arguments", arguments)
        return text_of([message.content for message in result.messages])

    async def prompt_that_asks(self) -> dict[str, Any]:
        self.seen.clear()
        result = await self.client.get_prompt("test_input_required_result_prompt")
        texts = [message.content for message in result.messages]
        return {"asked": len(self.seen.asked), "text": text_of(texts)}

    async def completion(self) -> list[str]:
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        result = await self.client.complete(reference, {"name": "arg1", "value": "a"})
        return result.completion.values

    async def cancellation(self) -> int:
        """How many cancellations the server saw of the one call that was given up."""
        before = int(text_of((await self.call("cancellations_seen")).content))
        call = asyncio.ensure_future(self.call("slow_cancellable", seconds=30))  # noqa: TID251 - no supervisor here
        await asyncio.sleep(0.5)
        assert not call.done(), call
        call.cancel()
        after = before
        for _ in range(50):
            after = int(text_of((await self.call("cancellations_seen")).content))
            if after > before:
                break
            await asyncio.sleep(0.1)
        return after - before

    async def walk(self) -> None:
        """All features, in an order that leaves the streams time to open before they are needed."""
        add = self.report.feature
        client = self.client

        async def revision() -> str:
            return client.protocol_version

        await add("revision", revision)
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
        await add(
            "unknown_resource",
            lambda: code_of(lambda: client.read_resource("test://no-such-resource")),
        )
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
        client = Client(
            transport,
            mode="auto" if orders.is_modern else "legacy",
            log_level="debug" if orders.is_modern else None,
            elicitation_callback=on.elicit,
            sampling_callback=on.sample,
            list_roots_callback=on.roots,
            logging_callback=on.log,
            message_handler=on.message,
        )
        await stack.enter_async_context(client)
        await Story(client, orders, seen, report).walk()
    report.print()


if __name__ == "__main__":
    asyncio.run(main())
