"""The agent's events, numbered, until the service has committed them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque

from node_agent.messages import Event, EventBatch, NumberedEvent

BATCH_EVENTS = 1000


class EventLog:
    """Numbers grow by one. Each incarnation begins above all numbers of those before it, so that a reader who asks with
    an old number loses nothing: it starts from the epoch second times 2**20, which a double holds exactly.
    """

    def __init__(self) -> None:
        self.incarnation = uuid.uuid4().hex
        self.last_seq = int(time.time()) << 20
        self._events: deque[NumberedEvent] = deque()
        self._news = asyncio.Event()

    def append(self, event: Event) -> None:
        self.last_seq += 1
        self._events.append(NumberedEvent(self.last_seq, event))
        self._news.set()

    async def after(self, seq: int, timeout_s: float) -> EventBatch:
        """Drop what is up to `seq`, and answer with what follows; wait up to `timeout_s` for the first of it."""
        while self._events and self._events[0].seq <= seq:
            self._events.popleft()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._events or self._events[-1].seq <= seq:
            self._news.clear()
            left_s = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, left_s))
            except TimeoutError:
                break
        chosen = [numbered for numbered in self._events if numbered.seq > seq]
        return EventBatch(self.incarnation, tuple(chosen[:BATCH_EVENTS]))
