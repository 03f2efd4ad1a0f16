"""What waits for the model, and what comes next? Calls in pieces of a batch, single requests, and streams.

One thread runs the model. Batches, single requests and the steps of streams take turns in it, so that a long stream
holds nobody up for longer than one of its steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from node_agent.serving.batching import MAX_WAITING, BatchLaw, Failed, Outcome, take_batch
from node_agent.serving.wire import Refused

MAX_STREAMS = 64


class Caller(Protocol):
    """wire.Connection, as far as it matters here."""

    closed: bool


@dataclass(eq=False, slots=True)
class Call:
    """One request of predict: its inputs, in as many pieces as batches need. `deadline_s` by time.monotonic();
    `priority` as the gateway says it, higher first."""

    caller: Caller
    inputs: list[object]
    form: str
    since_s: float
    deadline_s: float | None = None
    priority: int = 0
    outputs: list[list[object]] = field(default_factory=list)
    missing: int = 0
    failed: str | None = None

    def take(self, index: int, outcome: Outcome) -> bool:
        """Whether it can be answered now: all pieces are here, or the first has failed."""
        if self.failed is not None:
            return False
        if isinstance(outcome, Failed):
            self.failed = outcome.message
            return True
        self.outputs[index] = outcome.outputs
        self.missing -= 1
        return self.missing == 0

    def all_outputs(self) -> list[object]:
        return self.outputs[0] if len(self.outputs) == 1 else [one for piece in self.outputs for one in piece]


@dataclass(frozen=True, slots=True)
class Piece:
    call: Call
    index: int
    inputs: list[object]


@dataclass(eq=False, slots=True)
class Task:
    """One request for a method of the model's own. `stream`: whatever it gives is to be sent piece by piece."""

    caller: Caller
    run: Callable[[], object]
    stream: bool


@dataclass(eq=False, slots=True)
class Stream:
    """`pieces` is advanced one step at a time. `ready`: its caller takes more."""

    caller: Caller
    pieces: Iterator[object]
    ready: Callable[[], bool]
    media_type: str = ""


Turn = list[Piece] | Task | Stream


class Line:
    """Whoever waits. Told of time by its callers; not safe against threads, so they hold a lock."""

    def __init__(self, law: BatchLaw, max_waiting: int = MAX_WAITING) -> None:
        self.law = law
        self.streams: deque[Stream] = deque()
        self.inputs = 0  # that wait
        self._pieces: deque[Piece] = deque()
        self._tasks: deque[Task] = deque()
        self._max_waiting = max_waiting
        self._streamed = False  # the last turn was a stream's

    @property
    def waiting(self) -> int:
        return len(self._pieces) + len(self._tasks)

    def add_call(self, call: Call) -> None:
        """Raises Refused when too many wait."""
        size = self.law.settings.max_batch
        pieces = [call.inputs[start : start + size] for start in range(0, len(call.inputs), size)]
        if self.waiting + len(pieces) > self._max_waiting:
            raise Refused(503, "too many requests wait for this replica")
        call.missing = len(pieces)
        call.outputs = [[]] * len(pieces)
        behind: list[Piece] = []
        while self._pieces and self._pieces[-1].call.priority < call.priority:
            behind.append(self._pieces.pop())
        self._pieces.extend(Piece(call, index, inputs) for index, inputs in enumerate(pieces))
        self._pieces.extend(reversed(behind))
        self.inputs += len(call.inputs)

    def add_task(self, task: Task) -> None:
        """Raises Refused when too many wait."""
        if self.waiting >= self._max_waiting or len(self.streams) >= MAX_STREAMS:
            raise Refused(503, "too many requests wait for this replica")
        self._tasks.append(task)

    def hold_s(self, now_s: float) -> float:
        """For how long an idle model should wait for more; 0 where there is something to do now, or nothing at all."""
        if not self._pieces or self._tasks:
            return 0.0
        return self.law.hold_s(self.inputs, now_s - self._pieces[0].call.since_s)

    def take(self, now_s: float) -> tuple[Turn | None, list[Call]]:
        """What is next, and the calls whose deadline has passed while they waited. Whoever has gone is passed over."""
        late: list[Call] = []
        stream = None if self._streamed and (self._pieces or self._tasks) else self._next_stream()
        self._streamed = stream is not None
        if stream is not None:
            return stream, late
        while self._tasks:
            task = self._tasks.popleft()
            if not task.caller.closed:
                return task, late
        while self._pieces:
            first = self._pieces[0]
            if self._is_void(first, now_s, late):
                self._drop_first()
                continue
            count = take_batch((len(piece.inputs) for piece in self._pieces), self.law.limit)
            batch: list[Piece] = []
            for _ in range(count):
                piece = self._pieces[0]
                void = self._is_void(piece, now_s, late)
                self._drop_first()
                if not void:
                    batch.append(piece)
            return batch, late
        return None, late

    def _drop_first(self) -> None:
        self.inputs -= len(self._pieces.popleft().inputs)

    @staticmethod
    def _is_void(piece: Piece, now_s: float, late: list[Call]) -> bool:
        call = piece.call
        if call.caller.closed or call.failed is not None:
            return True
        if call.deadline_s is not None and now_s > call.deadline_s:
            call.failed = "late"
            late.append(call)
            return True
        return False

    def _next_stream(self) -> Stream | None:
        for _ in range(len(self.streams)):
            stream = self.streams[0]
            self.streams.rotate(-1)
            if stream.caller.closed or stream.ready():
                return stream
        return None
