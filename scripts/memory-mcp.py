#!/usr/bin/env python3
"""Talks to `understudy memory mcp` with the Model Context Protocol's own Python client.

    python3 -m venv venv && venv/bin/pip install mcp
    venv/bin/python scripts/memory-mcp.py understudy memory mcp --file memory.toml
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

FAILURE = {
    "goal": "refund an order",
    "agent": "desk",
    "target": {"kind": "app", "key": "desk"},
    "action": {"tool": "refunds.create"},
    "error": {"message": "refund has no current quotation", "code": 412},
}
PLAN = {
    "goal": "please refund my order",
    "agent": "desk",
    "tools": ["orders.find", "refunds.quote", "refunds.create"],
    "session": "check",
}


def wire(result):
    """As it was on the wire: the attributes' names differ between versions of the package."""
    return result.model_dump(mode="json", by_alias=True)


async def main(command, *arguments):
    server = StdioServerParameters(command=command, args=list(arguments))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        greeting = wire(await session.initialize())
        print("server:", greeting["serverInfo"]["name"], greeting["protocolVersion"])
        tools = wire(await session.list_tools())["tools"]
        print("tools:", ", ".join(tool["name"] for tool in tools))
        for name, asked in [("plan", PLAN), ("heal", FAILURE)]:
            answer = wire(await session.call_tool(name, asked))
            assert not answer["isError"], answer
            print(f"{name}:", json.dumps(answer["structuredContent"])[:400])
        wrong = wire(await session.call_tool("heal", {"target": {}}))
        assert wrong["isError"], "a failure that is not understood is told to the model"
        print("a wrong failure:", wrong["content"][0]["text"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
