"""The resident Ray actor of a node: AgentHost behind Ray calls, and nothing else. Only this module imports ray here.

The engine makes it detached, named and pinned to its node, with `AgentActor.options(...).remote(config)`. A worker
process that dies takes neither launcher nor runs with it: the next actor finds them. Its methods are coroutines, of
which Ray runs up to a thousand at once: a long poll keeps no command out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import ray

from node_agent.config import with_expectation, with_sources
from node_agent.host import AgentConfig, AgentHost, with_directories
from node_agent.lane import ToldReadings
from node_agent.messages import AgentHello, Command, EventBatch, LogChunk

# Ray's threads, and those that ask slow file systems, hold the interpreter up to this long (by default 5 ms) while a
# start waits for it.
SWITCH_S = 0.0005


class AgentService:
    """What the actor does, without Ray's wrapping. The host starts with the first call, inside the actor's own loop."""

    def __init__(self, config: AgentConfig) -> None:
        sys.setswitchinterval(SWITCH_S)
        config = with_sources(with_directories(config, os.environ), os.environ)
        self._config = with_expectation(config, os.environ)
        self._host: AgentHost | None = None
        self._starting = asyncio.Lock()

    async def _started(self) -> AgentHost:
        async with self._starting:
            if self._host is None:
                host = AgentHost(self._config)
                await host.start()
                self._host = host
            return self._host

    async def hello(self, epoch: int, session: int) -> AgentHello:
        return await (await self._started()).hello(epoch, session)

    async def perform(self, session: int, number: int, commands: Sequence[Command]) -> None:
        await (await self._started()).perform(session, number, commands)

    async def events(self, after_seq: int, timeout_s: float) -> EventBatch:
        return await (await self._started()).events(after_seq, timeout_s)

    async def read_log(self, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int) -> LogChunk:
        return await (await self._started()).read_log(job_id, attempt, worker, stream, offset, limit)

    async def read(self, book: int, number: int) -> ToldReadings:
        return await (await self._started()).read(book, number)

    async def shutdown(self) -> None:
        """End all runs and the launcher; the actor itself is the engine's to end."""
        await (await self._started()).shutdown()


AgentActor = ray.remote(AgentService)
