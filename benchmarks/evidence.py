"""How is a rate known? Four kinds of evidence as four types, in FLOP/s, which cannot be added to one another.

- Nominal: a vendor's dense peak times installed cards. Nobody has seen it happen.
- Measured: verified products counted inside a shared window. Says on what: a figure from a CPU is true, but it is no
  accelerator figure and never counts towards a goal, so the two do not add up either.
- Extrapolated: cards that were not run, at the rate of equal cards that were.
- Simulated: made up by a simulated device.

Adding across kinds is a TypeError, at run time as under a type checker. 1 PFlops = 10^15 FLOP/s, never a power of 1024.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar, final

FLOPS_PER_GFLOPS = 1e9
FLOPS_PER_TFLOPS = 1e12
FLOPS_PER_PFLOPS = 1e15


class EvidenceKind(StrEnum):
    """The words used in JSON; reports translate them."""

    NOMINAL = "nominal"
    MEASURED = "measured"
    EXTRAPOLATED = "extrapolated"
    SIMULATED = "simulated"


class MeasuredOn(StrEnum):
    ACCELERATOR = "accelerator"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class _Rate:
    """A rate in FLOP/s with its evidence in its type. Finite and not negative."""

    flops: float

    def __post_init__(self) -> None:
        if isinstance(self.flops, bool) or not isinstance(self.flops, (int, float)):
            raise TypeError(f"a rate is a number of FLOP/s, not {type(self.flops).__name__}")
        if not math.isfinite(self.flops) or self.flops < 0:
            raise ValueError(f"a rate is finite and not negative, not {self.flops}")

    @property
    def gflops(self) -> float:
        return self.flops / FLOPS_PER_GFLOPS

    @property
    def pflops(self) -> float:
        return self.flops / FLOPS_PER_PFLOPS

    @property
    def counts_towards_goal(self) -> bool:
        """Whether this may stand against a goal as achieved."""
        return False

    def _plus(self, other: object) -> float:
        if type(other) is not type(self):
            raise TypeError(
                f"{type(self).__name__} and {type(other).__name__} are different evidence and cannot be added"
            )
        return self.flops + other.flops


@final
@dataclass(frozen=True, slots=True)
class Nominal(_Rate):
    def __add__(self, other: Self) -> Nominal:
        return Nominal(self._plus(other))


@final
@dataclass(frozen=True, slots=True)
class Measured(_Rate):
    on: MeasuredOn

    @property
    def counts_towards_goal(self) -> bool:
        return self.on is MeasuredOn.ACCELERATOR

    def __add__(self, other: Self) -> Measured:
        flops = self._plus(other)
        if other.on is not self.on:
            raise TypeError("a CPU's measured rate and an accelerator's are different evidence and cannot be added")
        return Measured(flops, self.on)


@final
@dataclass(frozen=True, slots=True)
class Extrapolated(_Rate):
    def __add__(self, other: Self) -> Extrapolated:
        return Extrapolated(self._plus(other))


@final
@dataclass(frozen=True, slots=True)
class Simulated(_Rate):
    def __add__(self, other: Self) -> Simulated:
        return Simulated(self._plus(other))


Rate = Nominal | Measured | Extrapolated | Simulated


OneKind = TypeVar("OneKind", Nominal, Measured, Extrapolated, Simulated)


def total(zero: OneKind, rates: Iterable[OneKind]) -> OneKind:
    """Sum of rates of one kind. `zero` names the kind, so that an empty sum still has its evidence."""
    answer = zero
    for rate in rates:
        answer = answer + rate
    return answer
