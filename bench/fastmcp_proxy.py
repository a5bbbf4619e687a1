"""FastMCP's proxy before one upstream, in its fastest documented form: one session that all share.

A client that is connected already is what makes the proxy share; its own session speaks the upstream's
era, whichever the client in front speaks. Answers are JSON, not event streams; no banner, no access log;
uvloop and httptools, as for every other Python server of the bench.
"""

import argparse

import uvloop
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy


async def serve(port: int, target: str | StdioTransport) -> None:
    """Serve until told to stop."""
    async with Client(target) as client:  # connected here: the proxy reuses the session
        proxy = create_proxy(client, name="bench")
        await proxy.run_http_async(
            host="127.0.0.1", port=port, path="/mcp", json_response=True, show_banner=False,
            log_level="error",
            uvicorn_config={"http": "httptools", "access_log": False, "proxy_headers": False},
        )  # fmt: skip


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", help="URL of the upstream")
    parser.add_argument("--stdio", nargs=argparse.REMAINDER, default=[], help="command of a child")
    options = parser.parse_args()
    if (options.to is None) == (not options.stdio):
        parser.error("give either --to or --stdio")
    target = options.to or StdioTransport(options.stdio[0], options.stdio[1:])
    uvloop.run(serve(options.port, target))


if __name__ == "__main__":
    main()
