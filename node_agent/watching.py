"""Does a replica answer yet, and is it still well? Its ready file says so, or, for a command that serves by itself,
its port.

The ready file is the tenant's to write, and requests (with the replica's secret) are sent where it points: so it may
choose a port of this node and a socket in its run's own directory, and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from node_agent.execution.logs import RunPaths
from node_agent.execution.order import RunContext
from node_agent.messages import ProbeSpec
from node_agent.regular_files import read_bounded

CONNECT_TIMEOUT_S = 0.5
ANSWER_TIMEOUT_S = 5.0
ADDRESS = re.compile(r"(\[[^\]\s]+\]|[^\[\]:\s]+):([0-9]{1,5})", re.ASCII)
READY_FILE_BYTES = 4500  # an address, and a path of at most PATH_MAX bytes
MAX_PORT = 65535
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r|$)")
STATUS_LINE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Ready:
    """`host:port`, and the socket that the replica says it has made in its run's directory."""

    address: str
    socket: Path | None = None


def said_ready(context: RunContext, paths: RunPaths) -> tuple[Ready | None, str]:
    """By its ready file: (what answers, or None; what is wrong with the file, if something is)."""
    try:
        text = read_bounded(paths.ready, READY_FILE_BYTES, own=True).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        text = ""
    except OSError as error:
        return None, f"the ready file cannot be read: {error}"
    return _said(text, context.address, paths) if text else (None, "")


async def probe_ready(context: RunContext) -> str:
    """By its port. Empty: it answers as it should; else what is wrong."""
    assert context.port is not None
    probe = context.readiness
    if probe is None or probe.path is None:
        return await connects(context.address, context.port)
    return await ask(context.address, context.port, probe, ANSWER_TIMEOUT_S)


async def connects(host: str, port: int) -> str:
    """Empty: something listens there."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return f"nothing listens on port {port}"
    writer.close()
    return ""


async def ask(host: str, port: int, probe: ProbeSpec, timeout_s: float) -> str:
    """GET its path. Empty: the answer was the good one; else what is wrong, for operators."""
    assert probe.path is not None
    asked = f"GET {probe.path} on port {port}"
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=STATUS_LINE_BYTES)
            name = f"[{host}]" if ":" in host else host
            head = f"GET {probe.path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
            writer.write(head.encode("ascii"))
            line = await reader.readline()
    except TimeoutError:
        return f"{asked} was not answered within {timeout_s:g} s"
    except (OSError, ValueError) as error:  # ValueError: a line that does not end
        return f"{asked} failed: {error}"
    finally:
        if writer is not None:
            writer.transport.abort()  # the rest of the answer is nobody's
    found = STATUS_LINE.match(line)
    if found is None:
        return f"{asked} was not answered in HTTP"
    return "" if int(found[1]) == probe.status else f"{asked} was answered with {int(found[1])}, not {probe.status}"


class Liveness:
    """One replica's answers in a row. `failed()` says after which it is to be ended, and why."""

    def __init__(self, probe: ProbeSpec) -> None:
        self.probe = probe
        self._bad = 0

    def heard(self, wrong: str) -> str:
        """Empty: it goes on."""
        self._bad = self._bad + 1 if wrong else 0
        if self._bad < self.probe.failures:
            return ""
        return f"it was ended, for {wrong}, {self._bad} times in a row"


def _said(text: str, own: str, paths: RunPaths) -> tuple[Ready | None, str]:
    line, _, second = text.partition("\n")
    found = ADDRESS.fullmatch(line.strip())
    if found is None:
        return None, f"the ready file holds {line[:80]!r} and not host:port"
    host, port = found[1].strip("[]"), int(found[2])
    if host != own:
        return (
            None,
            f"the ready file names host {host!r}; a replica listens on its node's address {own} (SUANLI_BIND_HOST)",
        )
    if not 1 <= port <= MAX_PORT:
        return None, f"the ready file names port {port}, which no TCP port is"
    ready = Ready(address_of(own, port))
    if not second.strip():
        return ready, ""
    at = Path(second.strip())
    if at.parent != paths.directory or at.name in ("", ".", ".."):
        said = f"the ready file names the socket {str(at)[:200]!r}, which is not in the run's directory"
        return ready, f"{said} (SUANLI_UNIX_SOCKET); the port alone is used"
    return Ready(ready.address, at), ""


def address_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
