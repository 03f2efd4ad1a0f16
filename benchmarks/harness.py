"""What does the protocol cost? The sustained, verified rate of a window against a bare loop of the same products.

Both are run in one process, on the same operands, in turns of 50 ms (`turns.py`): a window as `bench run`
runs it, whose denominator is the whole window, and a bare loop that draws nothing, verifies nothing and counts what was
finished over the time it took. The ratio is that of the sums over all windows; its error comes from the stretches
between checks. Nearer to the must than twice that error nothing is said: neither that it holds nor that it is missed.

Beside it stands the same ratio by the windows' own books, which a restless machine blurs less: how much of each was
spent in batches, and how long these take in a window (those after a check told apart) and in the bare loop, by the
mean of the faster half of each kind of duration. Also the bare loop over cache-hot outputs, and the usual method, the
best of several shapes (`best_shape.py`); these two measure something else and are never judged.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.arming import Armed, arm
from benchmarks.best_shape import ACCELERATOR_SHAPES, CPU_SHAPES, BestShape, best_of_shapes
from benchmarks.one_device import shaped
from benchmarks.protocol import Verdict, WindowOutcome, WindowPlan
from benchmarks.record import Answer, Case
from benchmarks.suite import Measurement, make_work
from benchmarks.turns import BareLoop, HotTurn, Stretch, Turns, faster_half, hot_over_bare, jackknife, ratio_of_rates
from benchmarks.window import run_window
from benchmarks.work import Clock
from benchmarks.workloads.devices import ComputeDevice

MUST_RATIO = 0.98
WARMUP_S = 0.5
# An error that is estimated from fewer says little.
LEAST_STRETCHES = 8
# Fewer batches after a check are no sample of their own.
LEAST_AFTER = 8


@dataclass(frozen=True, slots=True)
class Round:
    """One window, cut at its checks, and the turns in which a third loop was there."""

    outcome: WindowOutcome
    stretches: tuple[Stretch, ...]
    hot_turns: tuple[HotTurn, ...]
    bare_batch_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class HarnessCost:
    precision: str
    shape: tuple[int, int, int] | None
    rounds: tuple[Round, ...]
    armed: Armed
    best: BestShape | None

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return tuple(s for r in self.rounds for s in r.stretches)

    @property
    def hot_turns(self) -> tuple[HotTurn, ...]:
        return tuple(t for r in self.rounds for t in r.hot_turns)

    @property
    def ratio(self) -> float:
        """NaN where the bare loop had no turn: the window was too short for one."""
        return ratio_of_rates(self.stretches)

    @property
    def error(self) -> float:
        """Standard error of `ratio`; infinite where there is nothing to estimate it from."""
        return jackknife(ratio_of_rates, self.stretches)

    @property
    def holds(self) -> bool | None:
        """None: this machine was too restless, or the windows too short, to tell."""
        if not self.is_valid:
            return False
        ratio, error = self.ratio, self.error
        if not math.isfinite(ratio) or len(self.stretches) < LEAST_STRETCHES or abs(ratio - MUST_RATIO) < 2 * error:
            return None
        return ratio >= MUST_RATIO

    @property
    def batches_over_bare(self) -> tuple[float, float]:
        """Rate of the windows' batches alone over that of the bare loop's, by their faster halves, and its error. Those
        right after a check are a sample of their own, so that they are not taken for disturbed ones."""
        batches = [batch_times(r.outcome) for r in self.rounds]
        own_s, own_error_s = _together(*([t for one in batches for t in one[kind]] for kind in (0, 1)))
        bare_s, bare_error_s = faster_half([one for r in self.rounds for one in r.bare_batch_s])
        if not (own_s > 0 and bare_s > 0):
            return math.nan, math.inf
        return bare_s / own_s, bare_s / own_s * math.hypot(own_error_s / own_s, bare_error_s / bare_s)

    @property
    def accounted(self) -> tuple[float, float]:
        """The ratio by the windows' own books, and its error: batches of the bare loop's duration, over what batches,
        checks and the time between them take by their faster halves, with what the end of each window left over."""
        outcomes = [r.outcome for r in self.rounds]
        ratio, error = self.batches_over_bare
        window_s = sum(o.window_s for o in outcomes)
        if not math.isfinite(ratio):
            return math.nan, math.inf
        batches = [b for o in outcomes for b in o.batches]
        checks_s = [b.check_us / 1e6 for b in batches if b.check_us]
        between_s = [gap for o in outcomes for gap in gaps_s(o)]
        bare_s = faster_half([one for r in self.rounds for one in r.bare_batch_s])[0]
        worked_s = len(batches) * bare_s / ratio
        beside_s = sum(len(some) * faster_half(some)[0] for some in (checks_s, between_s) if some)
        ends = sum(end_s(o) for o in outcomes) / window_s
        share = worked_s / (worked_s + beside_s) * (1.0 - ends)
        return share * ratio, share * error

    @property
    def accounted_holds(self) -> bool | None:
        ratio, error = self.accounted
        if not math.isfinite(ratio) or abs(ratio - MUST_RATIO) < 2 * error:
            return None
        return ratio >= MUST_RATIO

    @property
    def is_valid(self) -> bool:
        return bool(self.rounds) and all(r.outcome.verdict is Verdict.OK for r in self.rounds)


def measure_cost(
    device: ComputeDevice,
    precision: str | None,
    clock: Clock,
    *,
    window_s: float,
    rounds: int,
    seed: int = 1,
    with_best: bool = True,
    side: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> HarnessCost:
    """Raises UnsupportedPrecision, and what the device's library raises."""
    measurement = Measurement("gemm", precision)
    work = make_work(measurement, [device], seed=seed, side=side)
    plan = WindowPlan(window_s, seed, warmup_s=WARMUP_S)
    rng = np.random.default_rng(seed)
    armed = arm(work, clock, plan, rng)
    work.prepare(rng, 2 * armed.rhythm.slots)
    bare = BareLoop(work, clock, rng, armed.rhythm)
    bare.cold(armed.rhythm.batches_per_check)  # its pages are there and its code is met before it counts
    done: list[Round] = []
    for number in range(rounds):
        bare.batch_s.clear()
        turns = Turns(clock, bare, armed.rhythm)
        outcome = run_window(
            work,
            turns.clock,
            replace(plan, seed=seed + number),
            armed=armed,
            watch=turns,
            stop=turns.stop,
            progress=turns.progress,
        )
        done.append(Round(outcome, turns.stretches(outcome), tuple(turns.hot_turns), tuple(bare.batch_s)))
        progress((number + 1) / rounds)
    best = None
    if with_best:
        shapes = CPU_SHAPES if device.is_cpu else ACCELERATOR_SHAPES
        best = best_of_shapes(lambda shape: shaped(device, work.precision, shape, seed), shapes, clock)
    return HarnessCost(work.precision, work.shape, tuple(done), armed, best)


def batch_times(outcome: WindowOutcome) -> tuple[list[float], list[float]]:
    """Seconds of the batches right after a check, and of the others."""
    after: list[float] = []
    others: list[float] = []
    checked = False
    for batch in outcome.batches:
        (after if checked else others).append(batch.busy_us / 1e6)
        checked = batch.check_us > 0
    return after, others


def _together(after: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean duration of both kinds by their faster halves, each as often as it was there; and its error."""
    if len(after) < LEAST_AFTER or len(others) < LEAST_AFTER:
        return faster_half([*after, *others])
    (a, a_error), (b, b_error) = faster_half(after), faster_half(others)
    weight = len(after) / (len(after) + len(others))
    return weight * a + (1 - weight) * b, math.hypot(weight * a_error, (1 - weight) * b_error)


def gaps_s(outcome: WindowOutcome) -> list[float]:
    """Between batches and checks: clock reads, draws, books."""
    return [(b.began_us - a.began_us - a.busy_us - a.check_us) / 1e6 for a, b in pairwise(outcome.batches)]


def end_s(outcome: WindowOutcome) -> float:
    """What was left over behind the last check that counts."""
    if not outcome.batches:
        return outcome.window_s
    last = outcome.batches[-1]
    return max(0.0, outcome.window_s - (last.began_us + last.busy_us + last.check_us) / 1e6)


def cases_of_cost(cost: HarnessCost) -> tuple[Case, ...]:
    """`ok` None: nothing is demanded, or these windows do not tell."""
    outcomes = [r.outcome for r in cost.rounds]
    valid = cost.is_valid
    per_batch = outcomes[0].amount_per_batch / 1e9 if outcomes else 0.0
    stretches = cost.stretches

    def known(value: float) -> float | None:
        return value if valid and math.isfinite(value) else None

    def median(values: Sequence[float]) -> float | None:
        return statistics.median(values) if values else None

    def over(hot: Sequence[HotTurn]) -> float:
        return cost.ratio / hot_over_bare(hot)

    accounted, accounted_error = cost.accounted if valid else (math.nan, math.nan)
    batches, batches_error = cost.batches_over_bare if valid else (math.nan, math.nan)
    by_window = [ratio_of_rates(r.stretches) for r in cost.rounds]
    used = [sum(b.busy_us + b.check_us for b in o.batches) / 1e6 / o.window_s for o in outcomes]
    bare_s = sum(s.bare_s for s in stretches)
    hot_error = math.hypot(cost.error, jackknife(over, cost.hot_turns)) if cost.hot_turns else math.nan
    return (
        Case("verified_over_bare", known(cost.ratio), "ratio", must=MUST_RATIO, ok=cost.holds),
        Case("verified_over_bare_error", known(cost.error), "ratio, standard error"),
        Case(
            "verified_over_bare_accounted",
            known(accounted),
            "ratio, by the windows' own books",
            must=MUST_RATIO,
            ok=cost.accounted_holds if valid else None,
        ),
        Case("verified_over_bare_accounted_error", known(accounted_error), "ratio, standard error"),
        Case("batches_over_bare", known(batches), "ratio, of the batches alone"),
        Case("batches_over_bare_error", known(batches_error), "ratio, standard error"),
        Case("verified_over_bare_lowest", known(min(by_window, default=math.nan)), "ratio, of one window"),
        Case("verified_over_bare_highest", known(max(by_window, default=math.nan)), "ratio, of one window"),
        Case("verified_over_cache_hot_bare", known(over(cost.hot_turns)), "ratio, not judged"),
        Case("verified_over_cache_hot_bare_error", known(hot_error), "ratio, standard error"),
        Case("bare_gflops", sum(s.bare for s in stretches) * per_batch / bare_s if bare_s > 0 else None, "GFLOP/s"),
        Case("verified_gflops", median([o.counted / o.window_s / 1e9 for o in outcomes]), "GFLOP/s"),
        Case("verification_share", median([o.check_s / o.window_s for o in outcomes]), "share of the window"),
        Case("timing_share", median([sum(gaps_s(o)) / o.window_s for o in outcomes]), "share of the window"),
        Case("timing_and_end_share", median([max(0.0, 1.0 - u) for u in used]), "share of the window"),
        Case("arming_s", cost.armed.arming_s, "s, outside the window"),
        Case("checks", sum(o.samples for o in outcomes), "products checked"),
        Case("pieces_per_check", cost.armed.rhythm.slots, "products"),
        Case("stretches", len(stretches), "pairs of window and bare loop"),
        Case("windows_valid", sum(o.verdict is Verdict.OK for o in outcomes), "windows"),
    )


def harness_answer(device: ComputeDevice, cost: HarnessCost, *, window_s: float, provenance: dict[str, Any]) -> Answer:
    about = provenance | {
        "device": device.uuid,
        "model": device.model,
        "precision": cost.precision,
        "shape": cost.shape,
        "window_s": window_s,
        "rounds": len(cost.rounds),
        "threads": device.threads,
    }
    per_batch = cost.rounds[0].outcome.amount_per_batch / 1e9 if cost.rounds else 0.0
    peers: dict[str, Any] = {
        "bare-loop": {
            "gflops": [
                sum(s.bare for s in r.stretches) * per_batch / seconds
                for r in cost.rounds
                if (seconds := sum(s.bare_s for s in r.stretches)) > 0
            ],
            "same": "products, operands, sizes of batches, number of outputs, the same seconds of the machine",
        }
    }
    if cost.best is not None:
        shape = cost.best.shape
        peers["best-of-shapes"] = {
            "gflops": cost.best.gflops,
            "shape": [shape.m, shape.n, shape.k],
            "shapes_tried": cost.best.tried,
            "same": "device and precision; another shape, nothing verified",
        }
    return Answer(about, cases_of_cost(cost), (), peers)


def run_harness(
    precision: str | None,
    *,
    window_s: float,
    rounds: int,
    with_best: bool = True,
    side: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Answer, bool]:
    """On the first accelerator, or the CPU; the answer, and whether it holds what it must."""
    from benchmarks.local_run import devices_here
    from benchmarks.provenance import provenance
    from benchmarks.starts import SystemClock

    device = devices_here()[0]
    cost = measure_cost(
        device,
        precision,
        SystemClock(),
        window_s=window_s,
        rounds=rounds,
        seed=time.time_ns() % 2**31,
        with_best=with_best,
        side=side,
        progress=progress,
    )
    answer = harness_answer(device, cost, window_s=window_s, provenance=provenance(window_s=window_s))
    return answer, all(case.ok is not False for case in answer.cases) and cost.is_valid
