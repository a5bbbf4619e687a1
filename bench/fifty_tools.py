"""A small upstream with 50 tools: one process, standard input and output, 2026-07-28, standard library only.

Started twenty times under different names it makes a gateway's list of 1,000 tools. One of the fifty is
`echo`, so that the bench can greet the gateway through it.
"""

import json
import sys

COUNT = 50
INFO = {"name": "fifty-tools", "version": "1"}
CAPABILITIES = {"tools": {}}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "Text to give back, as it is."},
        "page": {"type": "integer", "minimum": 1, "description": "Page of the result, from 1."},
        "sort": {"enum": ["created", "updated", "name"], "description": "What comes first."},
        "labels": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
    },
    "required": ["text"],
}


def tools() -> list[dict[str, object]]:
    """The definitions, each about as long as those of real servers."""
    names = ["echo"] + [f"list_things_{number:02d}" for number in range(1, COUNT)]
    return [
        {
            "name": name,
            "title": name.replace("_", " ").capitalize(),
            "description": "List those you may see, page by page. Quote words to find them together.",
            "inputSchema": SCHEMA,
        }
        for name in names
    ]


def answer(method: str, params: dict[str, object]) -> dict[str, object] | None:
    """The result of a method, None where it is not known."""
    if method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES}
    if method == "tools/list":
        return {"tools": tools(), "ttlMs": 60_000, "cacheScope": "public"}
    if method == "tools/call":
        arguments = params.get("arguments")
        text = arguments.get("text", "") if isinstance(arguments, dict) else ""
        return {"content": [{"type": "text", "text": text}]}
    return None


def main() -> None:
    """Answer line by line until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        reply: dict[str, object] = {"jsonrpc": "2.0", "id": request["id"]}
        result = answer(request["method"], request.get("params", {}))
        if result is None:
            reply["error"] = {"code": -32601, "message": "Method not found"}
        else:
            meta = {"io.modelcontextprotocol/serverInfo": INFO}
            reply["result"] = {"resultType": "complete", "_meta": meta, **result}
        sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
