"""What runs together, what each call gets, and that nobody waits for company."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from node_agent.serving.batching import (
    Answered,
    Batcher,
    Failed,
    Outcome,
    PredictFailed,
    Stopped,
    TooManyWaiting,
    run_batch,
    take_batch,
)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([], 0),
        ([1], 1),
        ([1] * 40, 32),
        ([30, 2, 1], 2),
        ([30, 3, 1], 1),
        ([50, 1], 1),
        ([32], 1),
    ],
)
def test_a_batch_takes_as_many_whole_calls_as_fit(sizes: list[int], taken: int) -> None:
    assert take_batch(sizes, 32) == taken


def double(batch: list[object]) -> object:
    """A model with moods: `boom` raises, `exit` leaves, `many` answers too much, and `alone` hates company."""
    if "boom" in batch:
        raise ValueError("boom happened\nwith a second line")
    if "exit" in batch:
        raise SystemExit(3)
    if "alone" in batch and len(batch) > 1:
        raise ValueError("not alone")
    if "many" in batch:
        return [*batch, "one too many"]
    if "text" in batch:
        return "text"
    return [value * 2 for value in batch]  # type: ignore[operator]


COUNT = "predict answered 2 outputs for 1 inputs; it must answer one for each"


@pytest.mark.parametrize(
    ("calls", "outcomes"),
    [
        ([[1]], [Answered([2])]),
        ([[1, 2], [3], [4, 5]], [Answered([2, 4]), Answered([6]), Answered([8, 10])]),
        ([["boom"]], [Failed("ValueError: boom happened")]),
        ([[1], ["boom"], [3]], [Answered([2]), Failed("ValueError: boom happened"), Answered([6])]),
        ([[1], ["exit"]], [Answered([2]), Failed("SystemExit: 3")]),
        ([[1], ["many"]], [Answered([2]), Failed(COUNT)]),
        ([["alone"], [1]], [Answered(["alonealone"]), Answered([2])]),
        ([["text"]], [Failed("predict answered a str; it must answer a list, one output an input")]),
    ],
)
def test_only_the_guilty_call_fails(calls: list[list[object]], outcomes: list[Outcome]) -> None:
    assert run_batch(double, calls) == outcomes


class Gated:
    """A model that waits in predict until it is let go, and notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()

    def __call__(self, batch: list[object]) -> object:
        self.batches.append(batch)
        self.entered.set()
        assert self.gate.wait(10)
        return double(batch)


def one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1)


def in_a_loop(test: Callable[[Gated], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        model = Gated()
        try:
            asyncio.run(asyncio.wait_for(test(model), 10))
        finally:
            model.gate.set()

    run.__name__ = test.__name__
    return run


async def busy(batcher: Batcher, model: Gated) -> asyncio.Task[list[object]]:
    task = asyncio.create_task(batcher.call([0]))
    assert await asyncio.to_thread(model.entered.wait, 5)
    return task


@in_a_loop
async def test_an_idle_model_starts_at_once_and_then_calls_collect(model: Gated) -> None:
    batcher = Batcher(model, one_thread())
    first = await busy(batcher, model)
    assert model.batches == [[0]]
    later = [asyncio.create_task(batcher.call([n])) for n in range(1, 40)]
    await asyncio.sleep(0)
    model.gate.set()
    assert [await task for task in (first, *later)] == [[2 * n] for n in range(40)]
    assert [len(batch) for batch in model.batches] == [1, 32, 7]
    assert (batcher.counts.batches, batcher.counts.inputs, batcher.counts.largest_batch) == (3, 40, 32)
    await batcher.stop()


@in_a_loop
async def test_a_call_larger_than_a_batch_runs_in_pieces(model: Gated) -> None:
    model.gate.set()
    batcher = Batcher(model, one_thread())
    assert await batcher.call(list(range(70))) == [2 * n for n in range(70)]
    assert [len(batch) for batch in model.batches] == [32, 32, 6]
    with pytest.raises(PredictFailed, match="boom happened"):
        await batcher.call([*range(40), "boom"])
    assert await batcher.call([1]) == [2]
    await batcher.stop()


@in_a_loop
async def test_a_full_queue_refuses(model: Gated) -> None:
    batcher = Batcher(model, one_thread(), max_waiting=2)
    first = await busy(batcher, model)
    waiting = [asyncio.create_task(batcher.call([n])) for n in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await batcher.call([3])
    model.gate.set()
    await asyncio.gather(first, *waiting)
    await batcher.stop()


@in_a_loop
async def test_whose_caller_has_gone_is_not_computed(model: Gated) -> None:
    batcher = Batcher(model, one_thread())
    first = await busy(batcher, model)
    gone, kept = (asyncio.create_task(batcher.call([n])) for n in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    model.gate.set()
    assert (await first, await kept) == ([0], [4])
    assert model.batches == [[0], [2]]
    await batcher.stop()


@in_a_loop
async def test_stop_answers_those_who_are_here_and_takes_no_more(model: Gated) -> None:
    batcher = Batcher(model, one_thread())
    calls = [await busy(batcher, model), asyncio.create_task(batcher.call([1]))]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    with pytest.raises(Stopped):
        await batcher.call([2])
    model.gate.set()
    await stopping
    assert [await call for call in calls] == [[0], [2]]
