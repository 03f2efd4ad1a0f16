"""Does a replica answer yet? Its ready file says so, or, for a command that serves by itself, its port.

The ready file is the tenant's to write, and requests (with the replica's secret) are sent where it points: so it may
choose a port of this node, and nothing else.
"""

from __future__ import annotations

import asyncio
import re

from node_agent.execution.logs import RunPaths
from node_agent.execution.order import RunContext
from node_agent.regular_files import read_bounded

CONNECT_TIMEOUT_S = 0.5
ADDRESS = re.compile(r"(\[[^\]\s]+\]|[^\[\]:\s]+):([0-9]{1,5})", re.ASCII)
ADDRESS_BYTES = 300
MAX_PORT = 65535


async def ready_address(context: RunContext, paths: RunPaths) -> tuple[str | None, str]:
    """(`host:port` when the replica answers, else None; what is wrong with its ready file, if something is)."""
    try:
        text = read_bounded(paths.ready, ADDRESS_BYTES, own=True).decode("ascii", "replace").strip()
    except FileNotFoundError:
        text = ""
    except OSError as error:
        return None, f"the ready file cannot be read: {error}"
    if text:
        return _said(text, context.address)
    if context.model or context.port is None:
        return None, ""
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(context.address, context.port), timeout=CONNECT_TIMEOUT_S
        )
    except (OSError, TimeoutError):
        return None, ""
    writer.close()
    return address_of(context.address, context.port), ""


def _said(text: str, own: str) -> tuple[str | None, str]:
    found = ADDRESS.fullmatch(text)
    if found is None:
        return None, f"the ready file holds {text[:80]!r} and not host:port"
    host, port = found[1].strip("[]"), int(found[2])
    if host != own:
        return (
            None,
            f"the ready file names host {host!r}; a replica listens on its node's address {own} (SUANLI_BIND_HOST)",
        )
    if not 1 <= port <= MAX_PORT:
        return None, f"the ready file names port {port}, which no TCP port is"
    return address_of(own, port), ""


def address_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
