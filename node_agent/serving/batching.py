"""How do requests become batches, and what does each get back when a batch goes wrong?

Two halves. The pure one: `take_batch` says which waiting calls run together, `run_batch` runs them and settles each
call by itself. The other, `Batcher`, feeds them from an event loop to the one thread in which a model computes.

The rule: an idle model starts at once with whatever is there; while it computes, calls collect, and the next batch
takes as many as fit. No timer, so a lone request never waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

MAX_BATCH = 32
MAX_WAITING = 1024

Predict = Callable[[list[object]], object]


class PredictFailed(Exception):
    """The model raised, or answered with something other than one output an input. The message is one line."""


class TooManyWaiting(Exception):
    """The queue in front of the model is full: the caller is to come back later."""


class Stopped(Exception):
    """The replica is going and takes no new calls."""


@dataclass(frozen=True, slots=True)
class Answered:
    outputs: list[object]


@dataclass(frozen=True, slots=True)
class Failed:
    message: str


Outcome = Answered | Failed


def take_batch(sizes: Sequence[int], max_batch: int) -> int:
    """How many calls from the front, of `sizes` inputs each, go together: as many as fit, at least one."""
    total = taken = 0
    for size in sizes:
        if taken and total + size > max_batch:
            break
        total += size
        taken += 1
    return taken


def run_batch(predict: Predict, calls: Sequence[Sequence[object]]) -> list[Outcome]:
    """One outcome a call. When a batch of several fails, each call is tried alone, so that only the guilty fails.

    So `predict` must give the same answer whether it is asked once or twice: a model that counts its calls is wrong.
    """
    joined = _predict(predict, [one for call in calls for one in call])
    if isinstance(joined, Failed):
        return [joined] if len(calls) == 1 else [_predict(predict, list(call)) for call in calls]
    outcomes: list[Outcome] = []
    start = 0
    for call in calls:
        outcomes.append(Answered(joined.outputs[start : start + len(call)]))
        start += len(call)
    return outcomes


def _predict(predict: Predict, inputs: list[object]) -> Outcome:
    try:
        answer = predict(list(inputs))
        if isinstance(answer, str | bytes | dict) or not isinstance(answer, Iterable):
            return Failed(f"predict answered a {type(answer).__name__}; it must answer a list, one output an input")
        outputs: list[object] = list(answer)  # an array or a tensor gives its rows
    except BaseException as error:  # a tenant's code may raise anything, SystemExit too; the replica goes on
        return Failed(one_line(error))
    if len(outputs) != len(inputs):
        return Failed(f"predict answered {len(outputs)} outputs for {len(inputs)} inputs; it must answer one for each")
    return Answered(outputs)


def one_line(error: BaseException, limit: int = 300) -> str:
    """`ValueError: first line of the message`, for a caller who must not be shown a stack trace."""
    text = str(error).strip().split("\n", 1)[0]
    name = type(error).__name__
    return f"{name}: {text}"[:limit] if text else name


@dataclass(slots=True)
class _Call:
    inputs: Sequence[object]
    outcome: asyncio.Future[Outcome]


@dataclass(slots=True)
class BatchCounts:
    """Since the replica started. `largest_batch` and `inputs` count inputs."""

    batches: int = 0
    inputs: int = 0
    failed_calls: int = 0
    largest_batch: int = 0


class Batcher:
    """Serves `call()` from an event loop with a `predict` that runs in `thread` (of one worker), a batch at a time."""

    def __init__(
        self,
        predict: Predict,
        thread: ThreadPoolExecutor,
        *,
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.counts = BatchCounts()
        self._predict = predict
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Call] = deque()
        self._thread = thread
        self._busy: asyncio.Future[list[Outcome]] | None = None
        self._running: list[_Call] = []
        self._stopped = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def call(self, inputs: Sequence[object]) -> list[object]:
        """One output an input, in order. Raises PredictFailed, TooManyWaiting or Stopped.

        More inputs than a batch holds run as several batches, and fail together.
        """
        if self._stopped:
            raise Stopped
        pieces = [inputs[start : start + self._max_batch] for start in range(0, len(inputs), self._max_batch)]
        if len(self._waiting) + len(pieces) > self._max_waiting:
            raise TooManyWaiting
        loop = asyncio.get_running_loop()
        calls = [_Call(piece, loop.create_future()) for piece in pieces]
        self._waiting.extend(calls)
        if self._busy is None:
            self._start(loop)
        try:
            outcomes = [await call.outcome for call in calls]
        finally:
            for call in calls:
                call.outcome.cancel()  # does nothing to those that are done; the others' caller has gone
        outputs: list[object] = []
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                self.counts.failed_calls += 1
                raise PredictFailed(outcome.message)
            outputs.extend(outcome.outputs)
        return outputs

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if any(call.outcome.done() for call in self._waiting):  # their callers have gone
            self._waiting = deque(call for call in self._waiting if not call.outcome.done())
        if not self._waiting:
            return
        taken = take_batch([len(call.inputs) for call in self._waiting], self._max_batch)
        self._running = [self._waiting.popleft() for _ in range(taken)]
        batch = [call.inputs for call in self._running]
        self._busy = loop.run_in_executor(self._thread, run_batch, self._predict, batch)
        self._busy.add_done_callback(self._finish)

    def _finish(self, done: asyncio.Future[list[Outcome]]) -> None:
        self._busy = None
        calls, self._running = self._running, []
        outcomes = done.result()
        size = sum(len(call.inputs) for call in calls)
        self.counts.batches += 1
        self.counts.inputs += size
        self.counts.largest_batch = max(self.counts.largest_batch, size)
        for call, outcome in zip(calls, outcomes, strict=True):
            if not call.outcome.done():
                call.outcome.set_result(outcome)
        self._start(done.get_loop())

    async def stop(self) -> None:
        """Take no more calls, answer those that are here, end the thread."""
        self._stopped = True
        while self._busy is not None:
            await asyncio.wait([self._busy])
        self._thread.shutdown(wait=True)
