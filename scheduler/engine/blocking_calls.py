"""Calls into Ray that block, each in a thread of its own beside an asyncio loop.

A caller that is cancelled leaves its call under way, and a way into Ray must not be shut under one: the call would
never return (seen: of `ray.shutdown()` while an actor was being registered). So `ended` waits for those under way. What
does not return all the same is left behind with its `BlockingCalls`: it takes no turn from those of another, as it
would in a pool, and its thread, a daemon, keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

AT_ONCE = 8


class BlockingCalls:
    """Of one loop. At most `at_once` are under way; others wait for their turn."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._under_way: set[Future[Any]] = set()

    async def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns or raises. A cancellation does not end it."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on a cancelled caller leaves it alone

        def run() -> None:
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

        def end(ended: Future[T]) -> None:
            self._under_way.discard(ended)
            self._turns.release()

        def tell(ended: Future[T]) -> None:
            try:
                loop.call_soon_threadsafe(end, ended)
            except RuntimeError:
                pass  # the loop is closed: nobody waits for a turn any more

        self._under_way.add(future)
        future.add_done_callback(tell)
        try:
            threading.Thread(target=run, name="blocking call", daemon=True).start()
        except RuntimeError as error:  # there can be no more threads
            future.set_exception(error)
        return await asyncio.wrap_future(future)

    async def ended(self, within_s: float) -> bool:
        """Whether those that are under way have all ended, in time."""
        waited_for = [asyncio.wrap_future(future) for future in self._under_way]
        if not waited_for:
            return True
        for future in waited_for:
            future.add_done_callback(_take_note)  # of what it raises, which is its caller's to handle
        _, left = await asyncio.wait(waited_for, timeout=within_s)
        return not left


def _take_note(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
