"""The agent's event numbers as one event loop waits on them: long polls.

An answer costs both sides about a millisecond of work, whatever is in it. So a few go out at once, for a job that
stands alone; in a flood they wait for company, some milliseconds each.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from node_agent.event_numbers import NumberedEvents
from node_agent.messages import Event, EventBatch

AT_ONCE = 4  # answers
EACH_S = 0.010  # after so long one more


class EventLog:
    """Each incarnation begins above all numbers of those before it: from the epoch second times 2**20, which a double
    holds exactly.
    """

    def __init__(self) -> None:
        self.numbers = NumberedEvents(uuid.uuid4().hex, int(time.time()) << 20)
        self._news = asyncio.Event()
        self._none_left_s = 0.0  # when the last of those that may go at once would be used up

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
                async with asyncio.timeout(max(0.0, left_s)):
                    await self._news.wait()
            except TimeoutError:
                break
        await self._gather()
        return EventBatch(self.incarnation, self.numbers.after(seq))

    async def _gather(self) -> None:
        """Wait for company, if many answers went out of late: a leaky bucket."""
        now_s = asyncio.get_running_loop().time()
        self._none_left_s = max(self._none_left_s, now_s - AT_ONCE * EACH_S) + EACH_S
        if self._none_left_s > now_s:
            await asyncio.sleep(self._none_left_s - now_s)
