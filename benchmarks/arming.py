"""What is done before a window, and what is refused before it? Inputs looked at, a fixed product, sizes of batches.

An armed device has its operands in memory, has been looked at, and knows how many pieces make a batch and after how
many batches one is checked. Nothing of this is inside the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.protocol import Fault, Verdict, WindowPlan, batch_target_s, checks_for
from benchmarks.work import Clock, Facts, Generator, Work

# What checks may cost of a batch's time; where one costs more, several batches share a check.
CHECK_SHARE = 0.003
# However short the window, so many times it is checked.
LEAST_CHECKS = 8

DTYPES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp8": "float8_e4m3fn",
    "int8": "int8",
}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a window is divided. `batch_s` and `check_s` are what they took while arming."""

    pieces_per_batch: int
    batches_per_check: int
    batch_s: float
    check_s: float

    @property
    def slots(self) -> int:
        return self.pieces_per_batch * self.batches_per_check


@dataclass(frozen=True, slots=True)
class Armed:
    """`fault`: it will not count, whatever it does, and the window need not be run."""

    rhythm: Rhythm
    digest: str | None
    arming_s: float
    fault: Fault | None


def arm(work: Work, clock: Clock, plan: WindowPlan, rng: Generator) -> Armed:
    """Raises what the device's library raises."""
    begun_s = clock.now_s()
    work.prepare(rng, 1)
    facts = work.facts(rng)
    fault = None if facts is None else judge_facts(facts, work.precision)
    digest = work.golden() if fault is None else None
    rhythm = _rhythm(work, clock, plan, rng)
    work.prepare(rng, rhythm.slots)
    return Armed(rhythm, digest, clock.now_s() - begun_s, fault)


def _rhythm(work: Work, clock: Clock, plan: WindowPlan, rng: Generator) -> Rhythm:
    spent_s: list[float] = []
    check_s = 0.0
    for _ in range(
        4
    ):  # the first one meets code that was never run; of the rest the fastest, for a machine that hesitates
        (pair,) = work.draw(rng, 1)
        begun = clock.now_s()
        work.run_batch([pair], 0)
        work.settle()
        spent_s.append(clock.now_s() - begun)
        begun = clock.now_s()
        work.check(0, pair, rng)
        check_s = clock.now_s() - begun
        if sum(spent_s) + check_s > plan.window_s / 2:
            break  # so slow that a window hardly holds one
    piece_s = max(min(spent_s[1:] or spent_s), 1e-7)
    room = work.most_slots
    pieces = max(1, min(room, round(batch_target_s(plan.window_s) / piece_s)))
    batch_s = pieces * piece_s
    batches = max(1, math.floor(min(check_s / (CHECK_SHARE * batch_s), plan.window_s / LEAST_CHECKS / batch_s)))
    batches = max(1, min(batches, room // pieces))
    return Rhythm(pieces, batches, batch_s, check_s * checks_for(pieces * batches))


def judge_facts(facts: Facts, precision: str) -> Fault | None:
    """Number type, switches, and whether operands are drawn from N(0, spread) and differ."""
    wanted = DTYPES[precision]
    if facts.input_dtype != wanted:
        return Fault(Verdict.WRONG_DTYPE, f"operands are {facts.input_dtype}; {precision} is {wanted}")
    fault = judge_shortcuts(facts.shortcuts, precision)
    if fault is not None:
        return fault
    for place, values in enumerate(facts.inputs):
        if not np.isfinite(values).all():
            return Fault(Verdict.NOT_FINITE, f"operand {place} holds NaN or Inf")
        spread, centre = float(values.std()), float(values.mean())
        # 8 standard errors of a sample's spread and mean: a sound operand is never refused.
        slack = 8.0 / math.sqrt(max(len(values), 1))
        if abs(spread / facts.spread - 1.0) > slack or abs(centre) > slack * facts.spread:
            detail = f"operand {place}: mean {centre:.3g}, spread {spread:.3g}; N(0, {facts.spread:g}) is asked for"
            return Fault(Verdict.CONSTANT_INPUTS, detail)
    if len({values.tobytes() for values in facts.inputs}) < len(facts.inputs):
        return Fault(Verdict.CONSTANT_INPUTS, "two operand sets are equal; each must be drawn anew")
    return None


def judge_shortcuts(shortcuts: tuple[str, ...], precision: str) -> Fault | None:
    if "tf32" in shortcuts and precision == "fp32":
        return Fault(
            Verdict.TF32_ON, "the library may use TF32 where fp32 is said; declare precision tf32, or turn it off"
        )
    return None
