"""A client on the official Python SDK's first line (1.x), against servers that have tasks of either era.

Runs in the environment that scripts/setup-peers.sh makes for it, with orders as report.py reads them:

    .peers/sdk1/bin/python -m tests.peers.legacy_tasks_client STORY

STORY is `relayed` (tasks of 2025-11-25, made by the client) or `awaited` (plain calls of tools that answer with
tasks of 2026-07-28).
"""

# mypy: ignore-errors
# The type checker sees the SDK 2.x of the development environment, whose names differ.

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.peers.report import Report, read_orders

RELATED = "io.modelcontextprotocol/related-task"


class Asked:
    """What this client was asked, and whether it answers yet. (The SDK reads nothing meanwhile.)"""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def elicit(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        meta = params.meta.model_dump() if params.meta else {}
        self.questions.append({"message": params.message, "task": meta.get(RELATED)})
        self.came.set()
        await self.goes_on.wait()
        content = {
            name: field["type"] == "boolean" or f"my {name}"
            for name, field in params.requestedSchema["properties"].items()
        }
        return types.ElicitResult(action="accept", content=content)


def shown(result: types.CallToolResult) -> dict[str, Any]:
    """A result as it came."""
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


class Story:
    """What both stories share."""

    def __init__(self, session: ClientSession, opened: types.InitializeResult) -> None:
        self.session = session
        self.opened = opened
        self.asked = Asked()

    async def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        return shown(await self.session.call_tool(name, arguments))

    async def code_of(self, run: Any) -> int | str:
        try:
            await run
        except McpError as error:
            return error.error.code
        return "no error"

    async def ask(self, name: str) -> dict[str, Any]:
        self.asked.questions.clear()
        return {"result": await self.call(name), "asked": list(self.asked.questions)}

    async def capabilities(self) -> dict[str, Any]:
        return shown(self.opened.capabilities)

    async def support(self) -> dict[str, str | None]:
        tools = (await self.session.list_tools()).tools
        return {one.name: one.execution and one.execution.taskSupport for one in tools}

    async def seen(self) -> list[str]:
        return (await self.call("seen"))["content"][0]["text"].splitlines()

    async def until_seen(self, wanted: str) -> list[str]:
        while True:
            seen = await self.seen()
            if any(one.startswith(wanted) for one in seen):
                return seen
            await asyncio.sleep(0.05)

    async def cancel_while_asked(self, name: str, wanted: str) -> list[str]:
        """Give up a call while its question is open; what the server then saw."""
        self.asked.goes_on.clear()
        self.asked.came.clear()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self.call, name)
                await self.asked.came.wait()
                number = self.session._request_id - 1
                params = types.CancelledNotificationParams(requestId=number, reason="enough")
                notification = types.CancelledNotification(params=params)
                await self.session.send_notification(types.ClientNotification(notification))
                scope.cancel()
        self.asked.goes_on.set()
        return await self.until_seen(wanted)


class Relayed(Story):
    """Tasks of 2025-11-25: made, looked at, fetched, cancelled."""

    async def make(self, name: str, **arguments: Any) -> types.CreateTaskResult:
        return await self.session.experimental.call_tool_as_task(name, arguments, ttl=60_000)

    async def task(self) -> dict[str, Any]:
        made = (await self.make("slow", seconds=0.3)).task
        looked = await self.session.experimental.get_task(made.taskId)
        result = await self.session.experimental.get_task_result(made.taskId, types.CallToolResult)
        after = await self.session.experimental.get_task(made.taskId)
        return {
            "made": [made.status, made.ttl],
            "looked": [looked.status, looked.taskId == made.taskId],
            "after": after.status,
            "related": (result.meta or {}).get(RELATED) == {"taskId": made.taskId},
            "result": shown(result),
            "chars": len(made.taskId),
        }

    async def failing(self) -> dict[str, Any]:
        made = (await self.make("failing")).task
        result = await self.session.experimental.get_task_result(made.taskId, types.CallToolResult)
        return {"isError": result.isError, "text": result.content[0].text}

    async def question(self) -> dict[str, Any]:
        made = (await self.make("confirm")).task
        self.asked.questions.clear()
        result = await self.session.experimental.get_task_result(made.taskId, types.CallToolResult)
        (asked,) = self.asked.questions
        return {
            "message": asked["message"],
            "names_the_task": asked["task"] == {"taskId": made.taskId},
            "text": result.content[0].text,
        }

    async def cancelled(self) -> str:
        made = (await self.make("slow", seconds=60)).task
        return (await self.session.experimental.cancel_task(made.taskId)).status

    async def unknown(self) -> list[int | str]:
        made = (await self.make("slow", seconds=0)).task.taskId
        altered = made[:-5] + ("A" if made[-5] != "A" else "B") + made[-4:]
        ids = ["no-such-task", altered]
        return [await self.code_of(self.session.experimental.get_task(one)) for one in ids]

    async def listed(self) -> int | str:
        return await self.code_of(self.session.experimental.list_tasks())

    async def as_no_task(self) -> int | str:
        """A tool that is only called as a task, called plainly by a client that knows better."""
        return await self.code_of(self.session.call_tool("slow", {}))

    async def plain(self) -> dict[str, Any]:
        return await self.call("plain")

    async def walk(self, report: Report) -> None:
        for feature in (
            "capabilities", "support", "task", "failing", "question", "cancelled", "unknown",
            "listed", "as_no_task", "plain", "seen",
        ):  # fmt: skip
            await report.feature(feature, getattr(self, feature))


class Awaited(Story):
    """Plain calls whose answers take a task."""

    async def at_once(self) -> dict[str, Any]:
        return await self.call("greet", name="Ada")

    async def unneeded(self) -> dict[str, Any]:
        return await self.call("slow_compute", seconds=0, label="x")

    async def failing(self) -> dict[str, Any]:
        return await self.call("failing_job", seconds=0)

    async def again(self) -> dict[str, Any]:
        return await self.call("failing_job", seconds=0)

    async def question(self) -> dict[str, Any]:
        return await self.ask("confirm_delete")

    async def questions(self) -> dict[str, Any]:
        return await self.ask("multi_input")

    async def rounds_before(self) -> dict[str, Any]:
        return await self.ask("test_tool_with_task")

    async def protocol_error(self) -> int | str:
        return await self.code_of(self.session.call_tool("protocol_error_job", {}))

    async def cancelled(self) -> list[str]:
        return await self.cancel_while_asked("confirm_delete", "tasks/cancel")

    async def methods(self) -> int | str:
        return await self.code_of(self.session.experimental.get_task("no-such-task"))

    async def walk(self, report: Report) -> None:
        for feature in (
            "capabilities", "support", "at_once", "unneeded", "failing", "again", "question",
            "questions", "rounds_before", "protocol_error", "methods", "cancelled",
        ):  # fmt: skip
            await report.feature(feature, getattr(self, feature))


async def main() -> None:
    """Connect as ordered, walk, report."""
    orders = read_orders()
    report = Report("Python SDK 1.x")
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
        asked = Asked()
        session = ClientSession(streams[0], streams[1], elicitation_callback=asked.elicit)
        await stack.enter_async_context(session)
        opened = await session.initialize()
        story = {"relayed": Relayed, "awaited": Awaited}[sys.argv[1]](session, opened)
        story.asked = asked
        await story.walk(report)
        report.print()


if __name__ == "__main__":
    asyncio.run(main())
