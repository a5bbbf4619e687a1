"""Small servers that tests start as processes, the official SDK's and FastMCP's among them.

Each constant is the source of a program. `LINES` is written by hand, so that it can do what no library
does: it misbehaves as its tools are named.
"""

from __future__ import annotations

LINES = r"""
import json, os, signal, subprocess, sys, threading, time

lock = threading.Lock()
answers, waiting = {}, {}

def send(message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

def reply(identifier, **members):
    send({"jsonrpc": "2.0", "id": identifier, **members})

def text(identifier, words):
    reply(identifier, result={"content": [{"type": "text", "text": words}]})

def ask(key):
    ready = waiting[key] = threading.Event()
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = {"message": key, "requestedSchema": schema}
    send({"jsonrpc": "2.0", "id": key, "method": "elicitation/create", "params": params})
    ready.wait(20)
    return answers.get(key)

def call(identifier, name, arguments):
    if name == "echo":
        text(identifier, arguments.get("text", ""))
    elif name == "pid":
        text(identifier, str(os.getpid()))
    elif name == "environment":
        text(identifier, json.dumps(dict(os.environ)))
    elif name == "sleep":
        time.sleep(arguments.get("seconds", 60))
        text(identifier, "slept")
    elif name == "ask":
        key = f"q-{identifier}"
        time.sleep(arguments.get("seconds", 0))
        answer = ask(key)
        time.sleep(arguments.get("after", 0))
        text(identifier, json.dumps(answer.get("result") or answer.get("error")))
    elif name == "crash":
        os._exit(3)
    elif name == "garbage":
        with lock:
            sys.stdout.write("Listening on port 80\n\x1b[31mred\n{\"jsonrpc\":\n[1,2]\n")
            sys.stdout.flush()
        reply("nobody-asked", result={})
        text(identifier, "after garbage")
        text(identifier, "twice")
    elif name == "huge":
        with lock:
            for _ in range(100):
                sys.stdout.write("x" * 1024 * 1024)
            sys.stdout.write("\n")
            sys.stdout.flush()
    elif name == "noise":
        for number in range(200_000):
            sys.stderr.write(f"noise {number} \x1b[2J\n")
        sys.stderr.write("y" * 5_000_000)
        text(identifier, "noisy")
    elif name == "offspring":
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        ours = subprocess.Popen(command)
        away = subprocess.Popen(command, start_new_session=True)
        text(identifier, f"{ours.pid} {away.pid}")
    else:
        reply(identifier, error={"code": -32602, "message": "Unknown tool"})

if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    message = json.loads(line)
    identifier, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method == "initialize":
        agreed = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
        reply(identifier, result={**agreed, "serverInfo": {"name": "lines", "version": "1"}})
    elif method == "tools/list":
        reply(identifier, result={"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
    elif method == "tools/call":
        words = (identifier, params["name"], params.get("arguments", {}))
        threading.Thread(target=call, args=words, daemon=True).start()
    elif method is None:
        answers[identifier] = message
        if identifier in waiting:
            waiting[identifier].set()
    elif identifier is not None:
        reply(identifier, error={"code": -32601, "message": "Method not found"})
while "stubborn" in sys.argv:
    time.sleep(1)
"""

SDK = """
from mcp.server import MCPServer

server = MCPServer("sdk")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

server.run("stdio")
"""

SDK_SSE = """
import sys
from mcp.server import MCPServer

server = MCPServer("sdk")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

server.run("sse", host="127.0.0.1", port=int(sys.argv[1]))
"""

FASTMCP = """
from fastmcp import FastMCP

server = FastMCP("fast")

@server.tool
def add(a: int, b: int) -> int:
    return a + b

server.run("stdio", show_banner=False)
"""

SDK_HTTP = """
import sys
from mcp.server import MCPServer

server = MCPServer("sdk", instructions="Adds.")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""

SDK_HOLD = """
import asyncio, os, sys
from pathlib import Path
from mcp.server import MCPServer

server = MCPServer("hold")

@server.tool()
def pid() -> int:
    return os.getpid()

@server.tool()
async def hold(folder: str) -> int:
    Path(folder, "begun").touch()
    for _ in range(1200):
        if Path(folder, "go").exists():
            return os.getpid()
        await asyncio.sleep(0.05)
    raise TimeoutError

server.run("stdio")
"""
