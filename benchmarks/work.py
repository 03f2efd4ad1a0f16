"""What does the window ask of a workload, of a clock and of a device's own counters? Three protocols.

A workload is done in pieces (a product, a pass over memory, a training step), each of a stated number of FLOP or bytes.
A batch is some pieces; what each piece works on is drawn anew, so that a stale result of an earlier piece is a wrong
result of this one. Every piece leaves its result in a slot, where it stays until it may have been looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import Conditions, Fault

# What a piece works on: two numbers, of which each workload knows the meaning (of operand sets, of a seed, ...).
Pair = tuple[int, int]
Generator = np.random.Generator


class Clock(Protocol):
    def now_s(self) -> float:
        """Epoch seconds that never run backwards."""
        ...

    def sleep_until(self, at_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a workload's own memory shows, to be judged by `arming.judge_facts`.

    `inputs` are samples of values as they lie there, one of each operand; `spread` the standard deviation that they
    should have. `shortcuts` names what is switched on that cuts precision ("tf32").
    """

    input_dtype: str
    inputs: tuple[NDArray[np.float64], ...]
    spread: float
    shortcuts: tuple[str, ...] = ()


class Work(Protocol):
    """One workload in one precision on one device (or on one group of CPU devices working as one)."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def counts(self) -> Literal["flop", "bytes", "requests"]: ...

    @property
    def amount_per_piece(self) -> int:
        """FLOP or bytes, by the workload's formula."""
        ...

    @property
    def shape(self) -> tuple[int, int, int] | None: ...

    @property
    def most_slots(self) -> int:
        """For how many results there is room."""
        ...

    def prepare(self, rng: Generator, slots: int) -> None:
        """Make room for so many results, and what is needed to check them. Called again when the number changes."""
        ...

    def draw(self, rng: Generator, pieces: int) -> Sequence[Pair]: ...

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        """Piece i of `order` into slot first_slot + i; returns when the device has finished them all."""
        ...

    def settle(self) -> None:
        """Wait until the device has finished everything. At once after `run_batch`, unless that did not wait."""
        ...

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        """Whether what lies in the slot is right for this pair; None when it is."""
        ...

    def facts(self, rng: Generator) -> Facts | None:
        """None where there are no operands to look at."""
        ...

    def golden(self) -> str | None:
        """Digest of a fixed piece of work, whose bits are the same on each sound device; None where there is none."""
        ...

    def closing(self) -> Fault | None:
        """What can only be said when the window is over (a loss that did not fall); None when all is well."""
        ...


class DeviceWatch(Protocol):
    """The device's own counters over one window."""

    def begin(self) -> None: ...

    def end(self) -> Conditions: ...


class Unwatched:
    """Nobody could read this device, and why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def begin(self) -> None:
        pass

    def end(self) -> Conditions:
        return Conditions(note=self._reason)


Array = NDArray[Any]
