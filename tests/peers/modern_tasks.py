"""A server on the official Python SDK (2.x) whose tools answer with tasks of 2026-07-28.

    python -m tests.peers.modern_tasks http PORT      http://127.0.0.1:PORT/mcp
    python -m tests.peers.modern_tasks stdio

The tools are those the `tasks-*` scenarios of the official conformance suite call. The SDK has no tasks of its own:
this is an extension in its terms, and the tasks live in memory. `seen` tells what arrived about tasks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import RequestParams
from pydantic import BaseModel

warnings.filterwarnings("ignore")
TASKS = "io.modelcontextprotocol/tasks"
Context = ServerRequestContext[Any, Any]
Work = Callable[["Task", dict[str, Any]], Awaitable[str]]
seen: list[str] = []


class ToolFailedError(Exception):
    """The tool ran and failed."""


def now() -> str:
    """The time as it is written."""
    return datetime.now(UTC).isoformat()  # noqa: TID251 - a foreign server has a clock of its own


class Task:
    """One task: its state, and the questions that are open."""

    def __init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.created = self.updated = now()
        self.status = "working"
        self.outcome: dict[str, Any] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, asyncio.Future[Any]] = {}
        self.running: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, Any]:
        """The task without what came of it."""
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": 300_000,
            "pollIntervalMs": 50,
            "vendorTask": {"keep": [1, 2.50]},
        }

    def detail(self) -> dict[str, Any]:
        """The task with all it holds."""
        questions = {"inputRequests": self.asked} if self.status == "input_required" else {}
        return {**self.describe(), **self.outcome, **questions}

    def turn(self, status: str, **outcome: Any) -> None:
        """Change the state; what is over stays over."""
        if self.status in ("working", "input_required"):
            self.status, self.outcome = status, outcome
            self.updated = now()
            for ids, changes in listeners:
                if self.id in ids:
                    changes.put_nowait(self.detail())

    async def ask(self, key: str, message: str, **fields: str) -> dict[str, Any]:
        """Wait for the answer to a form."""
        properties = {name: {"type": kind} for name, kind in fields.items()}
        schema = {"type": "object", "properties": properties, "required": list(fields)}
        params = {"mode": "form", "message": message, "requestedSchema": schema}
        self.asked[key] = {"method": "elicitation/create", "params": params}
        self.answers[key] = asyncio.get_running_loop().create_future()
        self.turn("input_required")
        answer: dict[str, Any] = await self.answers[key]
        return answer

    async def run(self, work: Work, arguments: dict[str, Any]) -> None:
        """Do the work and note what came of it."""
        try:
            self.turn("completed", result=content(await work(self, arguments)))
        except ToolFailedError as failed:
            self.turn("completed", result={**content(str(failed)), "isError": True})
        except asyncio.CancelledError:
            self.turn("cancelled")
        except Exception as crashed:  # noqa: BLE001 - that is the case to be shown
            self.turn("failed", error={"code": -32603, "message": f"crashed: {crashed}"})


listeners: list[tuple[set[str], asyncio.Queue[dict[str, Any] | None]]] = []


def content(words: str) -> dict[str, Any]:
    """A tool's result of one text."""
    return {"content": [{"type": "text", "text": words}]}


tasks: dict[str, Task] = {}


async def slow_compute(_: Task, arguments: dict[str, Any]) -> str:
    await asyncio.sleep(arguments.get("seconds", 0))
    return f"computed {arguments.get('label', '')}"


async def failing_job(_: Task, arguments: dict[str, Any]) -> str:
    await asyncio.sleep(arguments.get("seconds", 1))
    raise ToolFailedError("the job failed")


async def protocol_error_job(_: Task, arguments: dict[str, Any]) -> str:
    raise RuntimeError("on purpose")


async def confirm_delete(task: Task, arguments: dict[str, Any]) -> str:
    answer = await task.ask("confirm", f"Delete {arguments.get('filename')}?", confirm="boolean")
    return json.dumps(answer)


async def multi_input(task: Task, arguments: dict[str, Any]) -> str:
    first, second = await asyncio.gather(
        task.ask("first", "First?", name="string"), task.ask("second", "Second?", name="string")
    )
    return json.dumps([first, second])


async def greet_later(_: Task, arguments: dict[str, Any]) -> str:
    return f"Hello, {arguments['user_name']}!"


WORK: dict[str, Work] = {
    "slow_compute": slow_compute,
    "failing_job": failing_job,
    "protocol_error_job": protocol_error_job,
    "confirm_delete": confirm_delete,
    "multi_input": multi_input,
    "test_tool_with_task": greet_later,
}
INSISTING = {"failing_job", "confirm_delete", "multi_input", "test_tool_with_task"}
"""Tools that are only called as tasks; the others answer at once where a client knows no tasks."""


class TaskParams(RequestParams):
    """The parameters of every method about tasks."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class Tasks(Extension):
    """The extension: tools that become tasks, and the three methods about them."""

    identifier = TASKS

    def methods(self) -> list[MethodBinding]:
        """What is served besides the core."""
        modern = frozenset({"2026-07-28"})
        handlers = {"tasks/get": get, "tasks/update": update, "tasks/cancel": cancel}
        return [
            MethodBinding(name, TaskParams, handler, modern) for name, handler in handlers.items()
        ]

    async def intercept_tool_call(
        self, params: types.CallToolRequestParams, ctx: Context, call_next: Any
    ) -> Any:
        """Make a task of a call, where its client may get one."""
        work = WORK.get(params.name)
        if work is None:
            return await call_next(ctx)
        arguments = dict(params.arguments or {})
        capabilities = ctx.session.client_capabilities
        declared = (capabilities.extensions if capabilities else None) or {}
        seen.append(f"call {params.name} {TASKS in declared}")
        if params.name in INSISTING:
            require_client_extension(ctx, TASKS)
        if TASKS not in declared:
            if params.name == "protocol_error_job":
                raise MCPError(code=-32603, message="crashed: on purpose")
            return {"resultType": "complete", **content(await work(Task(), arguments))}
        if params.name == "test_tool_with_task":
            answers = params.input_responses or {}
            if "user_name" not in answers:
                return ask_for_the_name()
            answer = types.ElicitResult.model_validate(answers["user_name"], from_attributes=True)
            arguments["user_name"] = (answer.content or {})["name"]
        task = Task()
        tasks[task.id] = task
        task.running = asyncio.get_running_loop().create_task(task.run(work, arguments))
        return {"resultType": "task", **task.describe()}


def ask_for_the_name() -> types.InputRequiredResult:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    form = types.ElicitRequestFormParams(message="Who?", requested_schema=schema)
    return types.InputRequiredResult(
        input_requests={"user_name": types.ElicitRequest(params=form)}, request_state="round-1"
    )


def found(ctx: Context, params: TaskParams) -> Task:
    """The task somebody asks about."""
    require_client_extension(ctx, TASKS)
    seen.append(f"{ctx.method} {params.task_id}")
    if params.task_id not in tasks:
        raise MCPError(code=-32602, message="Failed to retrieve task: Task not found")
    return tasks[params.task_id]


async def get(ctx: Context, params: TaskParams) -> dict[str, Any]:
    return found(ctx, params).detail()


async def update(ctx: Context, params: TaskParams) -> dict[str, Any]:
    task = found(ctx, params)
    for key, answer in (params.input_responses or {}).items():
        if task.asked.pop(key, None) is not None:
            task.answers[key].set_result(answer)
    if not task.asked:
        task.turn("working")
    return {}


async def cancel(ctx: Context, params: TaskParams) -> dict[str, Any]:
    task = found(ctx, params)
    if task.running is not None:
        task.running.cancel()
        await asyncio.sleep(0)
    return {}


class Told(BaseModel):
    """A notification the SDK has no type for."""

    method: str
    params: dict[str, Any]


async def listen(ctx: Context, params: types.SubscriptionsListenRequestParams) -> Any:
    """Tell of tasks on a stream of their own; whatever else is listened to is the SDK's."""
    wanted = (params.notifications.model_extra or {}).get("taskIds")
    if not wanted:
        return await listen_to_lists(ctx, params)
    require_client_extension(ctx, TASKS)
    ids = [one for one in wanted if one in tasks]
    seen.append(f"listen {len(ids)} of {len(wanted)}")
    meta = {"io.modelcontextprotocol/subscriptionId": ctx.request_id}

    async def tell(method: str, told: dict[str, Any]) -> None:
        notification: Any = Told(method=method, params={"_meta": meta, **told})
        await ctx.session.send_notification(notification, related_request_id=ctx.request_id)

    changes: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    listener = (set(ids), changes)
    listeners.append(listener)
    try:
        acknowledged = {"notifications": {"taskIds": ids}}
        await tell("notifications/subscriptions/acknowledged", acknowledged)
        while (change := await changes.get()) is not None:
            await tell("notifications/tasks", change)
    finally:
        listeners.remove(listener)
        seen.append("listen ended")
    return {"resultType": "complete", "_meta": meta}


server = MCPServer("modern-tasks", version="1.0.0", extensions=[Tasks()])


low_level = server._lowlevel_server
listen_to_lists = low_level._request_handlers["subscriptions/listen"].handler
low_level.add_request_handler(
    "subscriptions/listen", types.SubscriptionsListenRequestParams, listen
)


@server.tool(name="hang_up")
async def hang_up() -> types.CallToolResult:
    """End every stream about tasks."""
    for _, changes in listeners:
        changes.put_nowait(None)
    return types.CallToolResult(content=[])


@server.tool(name="greet")
async def greet(name: str) -> types.CallToolResult:
    """Answer at once."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=f"Hello, {name}!")])


@server.tool(name="seen")
async def what_was_seen() -> types.CallToolResult:
    """Tell what arrived about tasks so far."""
    words = "\n".join(seen)
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def declare(name: str) -> None:
    """Show a tool whose calls the extension takes."""

    async def never(
        seconds: float = 0, label: str = "", filename: str = ""
    ) -> types.CallToolResult:
        raise AssertionError("the extension answers")

    server.tool(name=name)(never)


for tool_name in WORK:
    declare(tool_name)

if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
