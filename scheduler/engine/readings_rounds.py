"""When is which agent asked for its readings, and what if it does not answer? One that hangs holds up nobody else's.

`gathering` says by which way; where there is no connection yet it is made here, and where none can be had Ray carries
the question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from node_agent.lane import ToldReadings
from scheduler.engine.feed import Way
from scheduler.engine.gathering import DRAIN_S, LOOK_S, ReadingsGathering
from scheduler.engine.lane import LaneBroken

CALL_TIMEOUT_S = 15.0

log = logging.getLogger(__name__)


class ReadingsRounds:
    """`handles`: each agent's actor by its name; None while it is out of reach."""

    def __init__(self, gathering: ReadingsGathering, handles: Callable[[], Mapping[str, Any]]) -> None:
        self._gathering = gathering
        self._handles = handles

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        asked: dict[str, asyncio.Task[None]] = {}
        look_s = 0.0
        while True:
            now_s = loop.time()
            more = self._gathering.drain(now_s)
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                for name, handle in self._handles().items():
                    if handle is None or (name in asked and not asked[name].done()):
                        continue
                    way = self._gathering.look(name, now_s)
                    if way in (Way.CONNECT, Way.RAY):
                        work = self._connect(name) if way is Way.CONNECT else self._read(name)
                        asked[name] = asyncio.create_task(work, name=f"readings of {name}")
            await asyncio.sleep(0 if more else DRAIN_S)

    async def _connect(self, name: str) -> None:
        try:
            await self._gathering.connect(name, asyncio.get_running_loop().time())
        except LaneBroken as error:
            log.warning("agent %s: no connection for its readings (%s)", name, error)

    async def _read(self, name: str) -> None:
        handle = self._handles().get(name)
        if handle is None:
            return
        try:
            asked = handle.read.remote(*self._gathering.known(name))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                told: ToldReadings = await asked
            self._gathering.hear_by_ray(name, told.batches)
        except Exception as error:  # whatever Ray raises of an agent that is dying
            log.warning("agent %s gave no readings: %s", name, type(error).__name__)
