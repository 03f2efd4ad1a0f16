"""How does one ask a file system that may never answer, without being held up with it?

Shared paths (working directories, checkpoints, models) hang when their server is away, and a thread that asks cannot
be called back. So each question has a thread to itself, a time limit, and one of a bounded number of places; the pool
that reads logs and results is never touched by them. A thread that got its answer takes the next question: to start one
costs more than most questions do. The threads are daemons: they do not keep the agent from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
Work = Callable[[], None]

PLACES = 16


class _Asker:
    """A thread that does one piece of work after the other. Each ends by calling `rest` in the event loop."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="slow file system", daemon=True).start()

    def give(self, work: Work | None) -> None:
        """None: there is no more."""
        self._given.put(work)

    def _run(self) -> None:
        while (work := self._given.get()) is not None:
            work()


class SlowFiles:
    """Questions to slow file systems, at most `places` at once. Belongs to one event loop; `close` it at the end."""

    def __init__(self, places: int = PLACES) -> None:
        self._free = asyncio.Semaphore(places)
        self._resting: list[_Asker] = []
        self._closed = False

    async def ask(self, question: Callable[[], Answer], within_s: float) -> Answer:
        """The answer, or what `question` raises; TimeoutError when it has not come in time.

        The time limit includes waiting for a place, and a place is free again only when its thread is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        if self._free.locked():
            async with asyncio.timeout(within_s):
                await self._free.acquire()
        else:
            await self._free.acquire()  # which does not wait
        answer: asyncio.Future[Answer] = loop.create_future()

        def settle(value: Answer | None, error: BaseException | None) -> None:
            self._free.release()
            self._rest(asker)
            if answer.done():  # nobody waits any more
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            value: Answer | None = None
            error: BaseException | None = None
            try:
                value = question()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(settle, value, error)
            except RuntimeError:
                asker.give(None)  # the loop is closed: the agent has gone

        try:
            asker = self._resting.pop() if self._resting else _Asker()
        except RuntimeError:  # no thread could be started
            self._free.release()
            raise
        asker.give(work)
        async with asyncio.timeout_at(deadline):
            return await answer

    def close(self) -> None:
        """Let the threads go; those that still wait for an answer go when they have it."""
        self._closed = True
        while self._resting:
            self._resting.pop().give(None)

    def _rest(self, asker: _Asker) -> None:
        if self._closed:
            asker.give(None)
        else:
            self._resting.append(asker)
