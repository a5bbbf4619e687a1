"""FastMCP's proxy before one upstream, in its fastest documented form: one session that all share."""

import argparse
import asyncio

from fastmcp import Client
from fastmcp.server import create_proxy


async def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    options = parser.parse_args()
    async with Client(options.to) as client:  # connected here: the proxy reuses the session
        proxy = create_proxy(client, name="bench")
        await proxy.run_http_async(
            host="127.0.0.1", port=options.port, path="/mcp", json_response=True, show_banner=False,
            log_level="error",
        )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
