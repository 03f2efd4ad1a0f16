"""Does a replica answer yet? Its ready file says so, or, for a command that serves by itself, its port."""

from __future__ import annotations

import asyncio
import re

from node_agent.execution.logs import RunPaths
from node_agent.execution.order import RunContext

CONNECT_TIMEOUT_S = 0.5
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
ADDRESS_BYTES = 300


async def ready_address(context: RunContext, paths: RunPaths) -> str | None:
    """`host:port` when the replica answers, else None."""
    try:
        with open(paths.ready, encoding="ascii", errors="replace") as file:  # noqa: ASYNC230 (a few bytes, local)
            text = file.read(ADDRESS_BYTES).strip()
    except FileNotFoundError:
        text = ""
    if ADDRESS.fullmatch(text):
        return text
    if context.model or context.port is None:
        return None
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(context.address, context.port), timeout=CONNECT_TIMEOUT_S
        )
    except (OSError, TimeoutError):
        return None
    writer.close()
    return f"{context.address}:{context.port}"
