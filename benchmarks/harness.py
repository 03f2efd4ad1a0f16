"""What does the protocol cost? The sustained, verified rate of a window against a bare loop of the same products.

Both are run in turns in one process, on the same operands: a bare loop that draws nothing, verifies nothing and
counts what was finished over the time it took; and a window as `bench run` runs it, whose denominator is the whole
window. Who comes first changes from round to round, so that a machine that warms up or is disturbed favours neither;
what is told is the median of the rounds' ratios, with their spread. Beside them stands the usual method, the best of
several shapes (`best_shape.py`), which is never compared: it measures something else.

Where a machine moves the rate by more than the 2% that are asked for, the rounds do not tell; then the
windows' own books still do: how much of each was spent in batches, and whether a check slows down the batch after it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.arming import Armed, arm
from benchmarks.best_shape import ACCELERATOR_SHAPES, CPU_SHAPES, BestShape, best_of_shapes
from benchmarks.one_device import shaped
from benchmarks.protocol import Verdict, WindowOutcome, WindowPlan
from benchmarks.record import Answer, Case
from benchmarks.suite import Measurement, make_work
from benchmarks.window import run_window
from benchmarks.work import Clock, Work
from benchmarks.workloads.devices import ComputeDevice

MUST_RATIO = 0.98
WARMUP_S = 0.5


@dataclass(frozen=True, slots=True)
class Round:
    """FLOP/s of both, in one turn."""

    bare: float
    verified: float
    outcome: WindowOutcome


@dataclass(frozen=True, slots=True)
class HarnessCost:
    precision: str
    shape: tuple[int, int, int] | None
    rounds: tuple[Round, ...]
    armed: Armed
    best: BestShape | None

    @property
    def ratio(self) -> float:
        return statistics.median(r.verified / r.bare for r in self.rounds)

    @property
    def error(self) -> float:
        """Standard error of that median, from the rounds' spread (1.4826 x MAD for sigma, 1.2533 for a median's)."""
        ratios = [r.verified / r.bare for r in self.rounds]
        spread = statistics.median(abs(ratio - self.ratio) for ratio in ratios)
        return 1.2533 * 1.4826 * spread / math.sqrt(len(ratios))

    @property
    def holds(self) -> bool | None:
        """None: this machine was too restless for these rounds to tell."""
        if not self.is_valid:
            return False
        if len(self.rounds) < 3 or abs(self.ratio - MUST_RATIO) < 2 * self.error:
            return None
        return self.ratio >= MUST_RATIO

    @property
    def accounted(self) -> float:
        """What of the windows was spent in batches, less what batches right after a check took longer than others: the
        same ratio by the windows' own books, which a restless machine does not blur."""
        return statistics.median(accounted_share(r.outcome) for r in self.rounds)

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
    pieces = armed.rhythm.pieces_per_batch
    bare_loop(work, clock, rng, pieces, WARMUP_S)
    done: list[Round] = []
    for number in range(rounds):
        bare = bare_loop(work, clock, rng, pieces, window_s) if number % 2 == 0 else 0.0
        outcome = run_window(work, clock, replace(plan, seed=seed + number), armed=armed)
        bare = bare or bare_loop(work, clock, rng, pieces, window_s)
        done.append(Round(bare, outcome.counted / window_s, outcome))
        progress((number + 1) / rounds)
    best = None
    if with_best:
        shapes = CPU_SHAPES if device.is_cpu else ACCELERATOR_SHAPES
        best = best_of_shapes(lambda shape: shaped(device, work.precision, shape, seed), shapes, clock)
    return HarnessCost(work.precision, work.shape, tuple(done), armed, best)


def accounted_share(outcome: WindowOutcome) -> float:
    after: list[int] = []
    others: list[int] = []
    checked = False
    for batch in outcome.batches:
        (after if checked else others).append(batch.busy_us)
        checked = batch.check_us > 0
    longer = max(0.0, statistics.median(after) - statistics.median(others)) if after and others else 0.0
    busy = sum(b.busy_us for b in outcome.batches)
    return (busy - longer * len(after)) / 1e6 / outcome.window_s


def bare_loop(work: Work, clock: Clock, rng: np.random.Generator, pieces: int, seconds: float) -> float:
    """FLOP/s of batches run one after the other, with nothing around them; over the time until the last one ended."""
    orders = [work.draw(rng, pieces) for _ in range(64)]
    begun = ended = clock.now_s()
    batches = 0
    while ended - begun < seconds:
        work.run_batch(orders[batches % len(orders)], 0)
        work.settle()
        ended = clock.now_s()
        batches += 1
    return work.amount_per_piece * pieces * batches / (ended - begun)


def cases_of_cost(cost: HarnessCost) -> tuple[Case, ...]:
    """By the medians of the rounds. `ok` None: these rounds do not tell."""
    outcomes = [r.outcome for r in cost.rounds]

    def median(values: Sequence[float]) -> float | None:
        return statistics.median(values) if values else None

    valid = cost.is_valid
    ratio = cost.ratio if valid else None
    accounted = cost.accounted if valid else None
    ratios = [r.verified / r.bare for r in cost.rounds]
    used = [sum(b.busy_us + b.check_us for b in o.batches) / 1e6 / o.window_s for o in outcomes]
    samples = sum(o.samples for o in outcomes)
    return (
        Case("verified_over_bare", ratio, "ratio", must=MUST_RATIO, ok=cost.holds),
        Case("verified_over_bare_error", cost.error if valid else None, "ratio, standard error"),
        Case(
            "verified_over_bare_accounted",
            accounted,
            "ratio, by the windows' own books",
            must=MUST_RATIO,
            ok=None if accounted is None else accounted >= MUST_RATIO,
        ),
        Case("verified_over_bare_lowest", min(ratios, default=None), "ratio"),
        Case("verified_over_bare_highest", max(ratios, default=None), "ratio"),
        Case("bare_gflops", median([r.bare / 1e9 for r in cost.rounds]), "GFLOP/s"),
        Case("verified_gflops", median([r.verified / 1e9 for r in cost.rounds]), "GFLOP/s"),
        Case("verification_share", median([o.check_s / o.window_s for o in outcomes]), "share of the window"),
        Case("timing_and_end_share", median([max(0.0, 1.0 - u) for u in used]), "share of the window"),
        Case("arming_s", cost.armed.arming_s, "s, outside the window"),
        Case("checks", samples, "products checked"),
        Case("pieces_per_check", cost.armed.rhythm.slots, "products"),
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
    peers: dict[str, Any] = {"bare-loop": {"gflops": [r.bare / 1e9 for r in cost.rounds], "same": "products, operands"}}
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
