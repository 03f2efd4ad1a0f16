"""Calls that block: cancelled or not, their end is waited for; what never ends takes nobody else's turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from scheduler.engine.blocking_calls import BlockingCalls

WITHIN_S = 10.0


def test_what_it_returns_or_raises_is_the_caller_s() -> None:
    def fails() -> None:
        raise ValueError("no")

    async def run() -> None:
        calls = BlockingCalls()
        assert await calls.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ValueError, match="no"):
            await calls.call(fails)
        assert await calls.ended(WITHIN_S)

    asyncio.run(run())


def test_a_cancelled_caller_s_call_is_waited_for() -> None:
    async def run() -> None:
        calls = BlockingCalls()
        caller, may_end = await _under_way(calls)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not await calls.ended(0.0)
        waiting = asyncio.create_task(calls.ended(WITHIN_S))
        await asyncio.sleep(0)
        may_end.set()
        assert await waiting
        assert await calls.ended(0.0)

    asyncio.run(run())


def test_what_never_ends_takes_a_turn_here_and_none_elsewhere() -> None:
    async def run() -> None:
        calls = BlockingCalls(at_once=1)
        stuck, may_end = await _under_way(calls)
        second = threading.Event()
        waits = asyncio.create_task(calls.call(second.set))
        assert await BlockingCalls(at_once=1).call(_answer(5)) == 5
        assert not second.is_set()
        assert not waits.done()
        may_end.set()
        await asyncio.wait_for(waits, WITHIN_S)
        await stuck

    asyncio.run(run())


def test_one_that_waits_for_its_turn_can_be_cancelled() -> None:
    async def run() -> None:
        calls = BlockingCalls(at_once=1)
        first, may_end = await _under_way(calls)
        never = threading.Event()
        waits = asyncio.create_task(calls.call(never.set))
        await asyncio.sleep(0)
        waits.cancel()
        may_end.set()
        await first
        assert await calls.ended(WITHIN_S)
        assert not never.is_set()
        assert await calls.call(_answer(1)) == 1

    asyncio.run(run())


def test_where_there_can_be_no_more_threads_the_turn_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        calls = BlockingCalls(at_once=1)
        with monkeypatch.context() as scarce:
            scarce.setattr(threading.Thread, "start", no_more)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start"):
                    await asyncio.wait_for(calls.call(_answer(1)), WITHIN_S)
        assert await calls.ended(WITHIN_S)
        assert await asyncio.wait_for(calls.call(_answer(2)), WITHIN_S) == 2

    asyncio.run(run())


async def _under_way(calls: BlockingCalls) -> tuple[asyncio.Task[None], threading.Event]:
    """A call that has begun, and what lets it end."""
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(WITHIN_S)

    caller = asyncio.create_task(calls.call(work))
    assert await asyncio.to_thread(begun.wait, WITHIN_S)
    return caller, may_end


def _answer(value: int) -> Callable[[], int]:
    return lambda: value
