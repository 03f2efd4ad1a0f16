"""How does one ask a file system that may never answer, without being held up with it?

Shared paths (working directories, checkpoints, models) hang when their server is away, and a thread that asks cannot
be called back. So each question has a thread of its own, a time limit, and one of a bounded number of places; the pool
that reads logs and results is never touched by them. The threads are daemons: they do not keep the agent from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

PLACES = 16


class SlowFiles:
    """Questions to slow file systems, at most `places` at once. Belongs to one event loop."""

    def __init__(self, places: int = PLACES) -> None:
        self._free = asyncio.Semaphore(places)

    async def ask(self, question: Callable[[], Answer], within_s: float) -> Answer:
        """The answer, or what `question` raises; TimeoutError when it has not come in time.

        The time limit includes waiting for a place, and a place is free again only when its thread is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        await asyncio.wait_for(self._free.acquire(), within_s)
        answer: asyncio.Future[Answer] = loop.create_future()

        def settle(value: Answer | None, error: BaseException | None) -> None:
            self._free.release()
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
                pass  # the loop is closed: the agent has gone

        try:
            threading.Thread(target=work, name="slow file system", daemon=True).start()
        except RuntimeError:  # no thread could be started
            self._free.release()
            raise
        return await asyncio.wait_for(answer, max(0.0, deadline - loop.time()))
