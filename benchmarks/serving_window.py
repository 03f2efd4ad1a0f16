"""How is a window of serving run? Requests come by themselves, wait, and are answered in batches, all checked.

Arming finds the capacity: full batches, one right after the other, with their checks. In the window requests come at
LOAD_SHARE of it, as a Poisson process (`raw_requests.Arrivals`), whoever is slow: an open loop, so that a stall is
charged to every request that it delays. Whenever the device is free, those that wait, at most a full batch, are
answered together, in the order in which they came; where none waits, the device rests until the next one comes. Every
answer of a batch is checked right behind it, inside the window.

A request counts that came, was answered and had its batch's check ended inside the window. The window's beginning, its
end, what voids it and what is asked afterwards are those of every other window (`window.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeGuard

import numpy as np

from benchmarks.arming import Armed, Rhythm, judge_facts
from benchmarks.protocol import Batch, Fault, Verdict, WindowOutcome, WindowPlan, clock_bound, quantile
from benchmarks.raw_requests import Arrivals
from benchmarks.window import NOBODY, UNSETTLED_SHARE, Window, error_text
from benchmarks.work import Clock, DeviceWatch, Generator, Pair, Unwatched, Work

# Of the capacity that arming found. At more of it queues are long whatever the device, at less nobody waits.
LOAD_SHARE = 0.7
# How long full batches are run to find the capacity: a share of the window, within bounds.
CAPACITY_SHARE, CAPACITY_LEAST_S, CAPACITY_MOST_S = 0.05, 0.2, 5.0
CAPACITY_LEAST_BATCHES = 5
# Progress is told so often: a bar on a terminal costs more than a batch.
TOLD_EVERY_S = 0.2


class ServingWork(Work, Protocol):
    """A workload whose pieces are requests; `run_batch` answers all of its order together, in slots from 0 on."""

    @property
    def largest_batch(self) -> int: ...

    @property
    def flop_per_request(self) -> int: ...

    def check_all(self, order: Sequence[Pair]) -> Fault | None:
        """Every answer of the last batch."""
        ...


def is_serving(work: Work) -> TypeGuard[ServingWork]:
    return work.counts == "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOutcome(WindowOutcome):
    """`amount` is requests; `sizes`: of each of `batches`. Requests came at `offered_per_s` of `capacity_per_s`."""

    sizes: tuple[int, ...]
    arrivals_seed: int
    offered_per_s: float
    capacity_per_s: float

    @property
    def products(self) -> int:
        """Requests: each is one forward pass."""
        return self.amount


def arm_serving(work: ServingWork, clock: Clock, plan: WindowPlan, rng: Generator) -> Armed:
    """As `arming.arm`, with full batches to find the capacity. Raises what the device's library raises."""
    begun_s = clock.now_s()
    work.prepare(rng, work.largest_batch)
    facts = work.facts(rng)
    fault = None if facts is None else judge_facts(facts, work.precision)
    for size in range(1, work.largest_batch + 1):  # no size of batch is first met inside the window
        work.run_batch(work.draw(rng, size), 0)
        work.settle()
    least_s = min(CAPACITY_MOST_S, max(CAPACITY_LEAST_S, CAPACITY_SHARE * plan.window_s))
    batches_s: list[float] = []
    checks_s: list[float] = []
    while len(batches_s) < CAPACITY_LEAST_BATCHES or sum(batches_s) + sum(checks_s) < least_s:
        order = work.draw(rng, work.largest_batch)
        begun = clock.now_s()
        work.run_batch(order, 0)
        work.settle()
        ended = clock.now_s()
        work.check_all(order)
        batches_s.append(ended - begun)
        checks_s.append(clock.now_s() - ended)
        if sum(batches_s) > plan.window_s:
            break  # so slow that a window holds next to nothing
    rhythm = Rhythm(work.largest_batch, 1, statistics.median(batches_s), statistics.median(checks_s))
    return Armed(rhythm, None, clock.now_s() - begun_s, fault)


def capacity_of(rhythm: Rhythm) -> float:
    """Requests a second of full batches with their checks."""
    return rhythm.pieces_per_batch / max(rhythm.batch_s + rhythm.check_s, 1e-6)


def run_serving(
    work: ServingWork,
    clock: Clock,
    plan: WindowPlan,
    *,
    armed: Armed | None = None,
    watch: DeviceWatch | None = None,
    flop_per_clock: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share: None,
) -> ServedOutcome:
    """As `window.run_window`."""
    if armed is None:
        try:
            armed = arm_serving(work, clock, plan, np.random.default_rng(plan.seed))
        except Exception as error:  # as in a window: whatever the device's library raises
            armed = Armed(Rhythm(1, 1, 0.0, 0.0), None, 0.0, Fault(Verdict.DEVICE_ERROR, error_text(error)))
    window = _ServingWindow(work, clock, plan, armed, watch or Unwatched(NOBODY), flop_per_clock, stop, progress)
    outcome = window.run()
    assert isinstance(outcome, ServedOutcome)
    return outcome


class _ServingWindow(Window):
    """One use."""

    def __init__(
        self,
        work: ServingWork,
        clock: Clock,
        plan: WindowPlan,
        armed: Armed,
        watch: DeviceWatch,
        flop_per_clock: float | None,
        stop: Callable[[], bool],
        progress: Callable[[float], None],
    ) -> None:
        super().__init__(work, clock, plan, armed, watch, flop_per_clock, stop, progress)
        self._serving = work
        self._capacity_per_s = capacity_of(armed.rhythm)
        self._sizes: list[int] = []

    @property
    def _offered_per_s(self) -> float:
        return LOAD_SHARE * self._capacity_per_s

    def _work_until_the_end(self, rhythm: Rhythm) -> Fault | None:
        clock, work = self._clock, self._serving
        arrivals = Arrivals(self._plan.seed, self._offered_per_s)
        answered, told_us = 0, 0
        while True:
            if self._stop():
                done_s = max(0.0, clock.now_s() - self._start_s)
                return Fault(
                    Verdict.INTERRUPTED, f"stopped after {done_s:.1f} s of {self._plan.window_s:g} s; not a full window"
                )
            now_us = self._us(clock.now_s())
            if now_us >= self._window_us:
                break
            waiting = arrivals.come_by(now_us) - answered
            if waiting <= 0:
                due_us = arrivals.due_us(answered)
                if due_us >= self._window_us:
                    break
                clock.sleep_until(self._start_s + due_us / 1e6)
                continue
            order = work.draw(self._rng, min(waiting, work.largest_batch))
            begun = clock.now_s()
            work.run_batch(order, 0)
            returned = clock.now_s()
            work.settle()
            ended = clock.now_s()
            self._run_batches += 1
            self._unsettled += ended - returned > UNSETTLED_SHARE * (ended - begun)
            fault = work.check_all(order)
            checked = clock.now_s()
            self._check_s += checked - ended
            self._samples += len(order)
            if fault is not None:
                return Fault(fault.verdict, f"{fault.detail} (batch {self._run_batches})")
            answered += len(order)
            begun_us, ended_us, checked_us = self._us(begun), self._us(ended), self._us(checked)
            self._keep(Batch(begun_us, ended_us - begun_us, checked_us - ended_us), len(order))
            if checked_us - told_us > TOLD_EVERY_S * 1e6:
                told_us = checked_us
                self._progress(min(1.0, told_us / self._window_us))
        self._progress(1.0)
        return None

    def _keep(self, batch: Batch, size: int) -> None:
        if batch.began_us + batch.busy_us + batch.check_us <= self._window_us:
            self._batches.append(batch)
            self._sizes.append(size)

    def _clock_bound_fault(self) -> Fault | None:
        """Of the batches as they were computed: over the whole window a device rests between them."""
        flop = self._serving.flop_per_request
        rates = [flop * size * 1e6 / max(b.busy_us, 1) for b, size in zip(self._batches, self._sizes, strict=True)]
        self._clock_bound, fault = clock_bound(
            quantile(rates, 0.5) or 0.0, self._conditions.mean_clock_megahertz, self._flop_per_clock
        )
        return fault

    def _outcome(self, fault: Fault | None) -> ServedOutcome:
        plain = super()._outcome(fault)
        told = {each.name: getattr(plain, each.name) for each in fields(WindowOutcome)}
        told |= {"amount": sum(self._sizes), "amount_per_batch": 1, "pieces_per_batch": 0, "pieces_per_check": 1}
        return ServedOutcome(
            **told,
            sizes=tuple(self._sizes),
            arrivals_seed=self._plan.seed,
            offered_per_s=self._offered_per_s,
            capacity_per_s=self._capacity_per_s,
        )
