"""The agent's event numbers as one event loop waits on them: long polls."""

from __future__ import annotations

import asyncio
import time
import uuid

from node_agent.event_numbers import NumberedEvents
from node_agent.messages import Event, EventBatch


class EventLog:
    """Each incarnation begins above all numbers of those before it: from the epoch second times 2**20, which a double
    holds exactly.
    """

    def __init__(self) -> None:
        self.numbers = NumberedEvents(uuid.uuid4().hex, int(time.time()) << 20)
        self._news = asyncio.Event()

    @property
    def incarnation(self) -> str:
        return self.numbers.incarnation

    @property
    def last_seq(self) -> int:
        return self.numbers.last_seq

    def append(self, event: Event) -> None:
        self.numbers.append(event)
        self._news.set()

    async def after(self, seq: int, timeout_s: float) -> EventBatch:
        """Drop what is up to `seq`, and answer with what follows; wait up to `timeout_s` for the first of it."""
        self.numbers.drop(seq)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self.numbers.has_after(seq):
            self._news.clear()
            left_s = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, left_s))
            except TimeoutError:
                break
        return EventBatch(self.incarnation, self.numbers.after(seq))
