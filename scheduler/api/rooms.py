"""Where blocking calls run, so that the event loop never blocks and no kind of call starves another.

Each kind has threads of its own and a bounded queue before them; who finds the queue full is told to come again (429)
instead of waiting without end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from scheduler.errors import Overloaded

T = TypeVar("T")


class Room:
    """`threads` calls at once and `queued` more that wait for a thread."""

    def __init__(self, name: str, threads: int, queued: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"api-{name}")
        self._places = threading.BoundedSemaphore(threads + queued)

    async def call(self, function: Callable[[], T]) -> T:
        """Run it in a thread. Raises Overloaded when every place is taken."""
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"too many {self._name} requests at this moment; try again in a second")
        try:
            future = self._executor.submit(function)
        except RuntimeError:  # closed: the service is on its way down
            self._places.release()
            raise Overloaded("the service is stopping; try again when it is back") from None
        # The place is free when the call has ended, not when a client that went away stops waiting for it.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _future: Future[T]) -> None:
        self._places.release()


class Rooms:
    """One room a kind: commands and queries, submissions (those that wait together are committed together, so that it
    pays to let many in), log reads (they wait on nodes), long polls."""

    def __init__(self, *, max_waits: int) -> None:
        self.commands = Room("command", threads=16, queued=512)
        self.submissions = Room("submission", threads=64, queued=512)
        self.logs = Room("log", threads=8, queued=64)
        self.waits = Room("wait", threads=max_waits, queued=max_waits)
        self._wait_places = threading.BoundedSemaphore(max_waits)
        self._max_waits = max_waits

    @contextmanager
    def one_wait(self) -> Iterator[None]:
        """Hold one of the places for long polls, over all the calls that one poll makes."""
        if not self._wait_places.acquire(blocking=False):
            raise Overloaded(f"{self._max_waits} requests wait for jobs already; try again in a second")
        try:
            yield
        finally:
            self._wait_places.release()

    def close(self) -> None:
        for room in (self.commands, self.submissions, self.logs, self.waits):
            room.close()
