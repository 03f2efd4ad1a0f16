"""When are a node's devices read for what runs make them do? As a run begins, as it ends, and in between.

`metering` has the arithmetic.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from node_agent.execution.order import RunContext
from node_agent.messages import DeviceUse, RunKey
from node_agent.metering import READ_EVERY_S, RunMeters
from node_agent.nodes import NodeAgent
from node_agent.run_watch import tell_failure


class MeterRounds:
    """`nodes` may fill up later. `spawn` sees a reading to its end."""

    def __init__(self, nodes: Mapping[str, NodeAgent], spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._nodes = nodes
        self._spawn = spawn
        self._meters = RunMeters()
        self._rounds: asyncio.Task[None] | None = None

    def begin(self, key: RunKey, context: RunContext | None) -> None:
        node = self._nodes.get(key.node)
        if node is None or context is None or context.share_milli or not node.meters_devices:
            return
        with contextlib.suppress(KeyError):  # a device that is gone meters nothing
            self._meters.begin(key, [device.uuid for device in node.devices(context.devices)])
            self._spawn(self._read(key.node))
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._go_round(), name="metering of runs")
            self._rounds.add_done_callback(tell_failure)

    def metered(self, key: RunKey) -> bool:
        return self._meters.metered(key)

    async def last(self, key: RunKey) -> DeviceUse | None:
        """What it came to, with one more reading."""
        await self._read(key.node)
        return self._meters.end(key)

    def drop(self, key: RunKey) -> None:
        self._meters.end(key)

    def close(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()

    async def _go_round(self) -> None:
        while nodes := self._meters.nodes():
            await asyncio.sleep(READ_EVERY_S)
            await asyncio.gather(*(self._read(name) for name in nodes))

    async def _read(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is not None:
            self._meters.read(name, await node.readings())
