"""How is one window run? Warm up, wait for the start, work and verify until it ends, then ask what only then can be.

A batch is a few pieces; after some batches one of their pieces is drawn and checked. The draw comes after the work,
so nothing can know which piece is going to be looked at. Checking happens inside the window: its time is part of the
price. Batches count when the check after them has passed and has ended inside the window; any check that fails voids
the whole window. Times are counted in whole microseconds, so that who adds them up again gets the same sum.

The clock is passed in; so is everything that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.arming import Armed, Rhythm, arm, judge_shortcuts
from benchmarks.protocol import (
    LATE_START_S,
    NIGHTLY_WINDOW_S,
    Batch,
    Conditions,
    Fault,
    Verdict,
    WindowOutcome,
    WindowPlan,
    checks_for,
    clock_bound,
    is_steady,
    quantile,
)
from benchmarks.work import Clock, DeviceWatch, Pair, Unwatched, Work

NOBODY = "nobody was asked to watch this device"
# Work that goes on after `run_batch` said it was done, as a share of a batch's time; and the share of such batches that
# no hiccup of the machine can reach.
UNSETTLED_SHARE = 0.1
UNSETTLED_BATCHES = 0.25
# How much of the slowest batch so far the next one is still expected to take: where the end is misjudged a whole group
# is lost, and where it is left too much room a part of one batch.
FORGETTING = 0.9


def run_window(
    work: Work,
    clock: Clock,
    plan: WindowPlan,
    *,
    armed: Armed | None = None,
    watch: DeviceWatch | None = None,
    flop_per_clock: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share: None,
) -> WindowOutcome:
    """Never raises for what the device does. `armed` None: it arms first.

    `stop` is asked between batches: when it says True the outcome is INTERRUPTED and holds what was verified so far.
    `progress` gets the elapsed share of the window, 0 to 1.
    """
    return Window(work, clock, plan, armed, watch or Unwatched(NOBODY), flop_per_clock, stop, progress).run()


def error_text(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


class Window:
    """The loop's own state. One use."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        plan: WindowPlan,
        armed: Armed | None,
        watch: DeviceWatch,
        flop_per_clock: float | None,
        stop: Callable[[], bool],
        progress: Callable[[float], None],
    ) -> None:
        self._work = work
        self._clock = clock
        self._plan = plan
        self._armed = armed
        self._watch = watch
        self._flop_per_clock = flop_per_clock
        self._stop = stop
        self._progress = progress
        self._rng = np.random.default_rng(plan.seed)
        self._window_us = round(plan.window_s * 1e6)
        self._batches: list[Batch] = []
        self._samples = 0
        self._check_s = 0.0
        self._run_batches = 0
        self._unsettled = 0
        self._warmup_s = 0.0
        self._steady: bool | None = None
        self._start_s = 0.0
        self._elapsed_s = 0.0
        self._conditions = Conditions()
        self._clock_bound: str | None = None
        self._digest: str | None = None

    def run(self) -> WindowOutcome:
        try:
            fault = self._run()
        except Exception as error:  # a device's library raises whatever it likes; the device counts zero, others go on
            fault = Fault(Verdict.DEVICE_ERROR, error_text(error))
        return self._outcome(fault)

    def _run(self) -> Fault | None:
        plan, clock = self._plan, self._clock
        if self._armed is None:
            self._armed = arm(self._work, clock, plan, self._rng)
        self._digest = self._armed.digest
        if self._armed.fault is not None:
            return self._armed.fault
        if plan.ramp_at_s is not None and not self._stop():
            clock.sleep_until(plan.ramp_at_s)
        warming_s = clock.now_s()
        self._warm_up(self._armed.rhythm, warming_s)
        self._warmup_s = clock.now_s() - warming_s
        if plan.start_at_s is not None and not self._stop():
            clock.sleep_until(plan.start_at_s)
        begun = clock.now_s()
        self._start_s = begun if plan.start_at_s is None else plan.start_at_s
        if begun - self._start_s > LATE_START_S:
            return Fault(Verdict.LATE_START, f"ready {begun - self._start_s:.2f} s after the announced start")
        self._watch.begin()  # waits for nothing
        try:
            fault = self._work_until_the_end(self._armed.rhythm)
        finally:
            self._elapsed_s = max(0.0, clock.now_s() - self._start_s)
            self._conditions = self._watch.end()
        return fault or self._look_back()

    def _warm_up(self, rhythm: Rhythm, warming_s: float) -> None:
        """Batches that count for nothing, and one check, so that no code path is first met inside the window."""
        plan = self._plan
        ends: list[float] = []
        rates: list[float] = []
        long_window = plan.window_s >= NIGHTLY_WINDOW_S
        slowest_s = 0.0
        while not self._stop():
            begun = self._clock.now_s()
            order = self._work.draw(self._rng, rhythm.pieces_per_batch)
            self._work.run_batch(order, 0)
            self._work.settle()
            ended = self._clock.now_s()
            if not ends:
                self._work.check(0, order[0], self._rng)
            ends.append(ended)
            rates.append(1.0 / max(ended - begun, 1e-9))
            now = self._clock.now_s()
            slowest_s = max(slowest_s, now - begun)
            if long_window:
                self._steady = is_steady(ends, rates)
            if plan.start_at_s is not None:
                if now + 1.5 * slowest_s >= plan.start_at_s:
                    return
            elif now - warming_s >= plan.warmup_s and (
                not long_window or self._steady or now - warming_s >= plan.warmup_limit_s
            ):
                return

    def _work_until_the_end(self, rhythm: Rhythm) -> Fault | None:
        """Groups of batches, each with its checks. The last ends where another batch would not be done in time."""
        clock, work = self._clock, self._work
        end_s = self._start_s + self._plan.window_s
        batch_s, check_s = rhythm.batch_s, rhythm.check_s
        group: list[Batch] = []
        pieces, orders = rhythm.pieces_per_batch, work.draw(self._rng, rhythm.slots)
        while True:
            if self._stop():
                done_s = max(0.0, clock.now_s() - self._start_s)
                return Fault(
                    Verdict.INTERRUPTED, f"stopped after {done_s:.1f} s of {self._plan.window_s:g} s; not a full window"
                )
            # Drawn for all batches up to the next check: Python's own code is cold after each batch, and slow.
            first = len(group) * pieces
            order = orders[first : first + pieces]
            begun = clock.now_s()
            over = begun + batch_s + check_s > end_s and bool(group or self._batches)
            if not over and begun < end_s:
                work.run_batch(order, first)
                returned = clock.now_s()
                work.settle()
                ended = clock.now_s()
                batch_s = max(ended - begun, FORGETTING * batch_s)
                self._run_batches += 1
                self._unsettled += ended - returned > UNSETTLED_SHARE * (ended - begun)
                group.append(Batch(self._us(begun), _us(ended - begun), 0))
                if ended > end_s:
                    break
                if len(group) < rhythm.batches_per_check:
                    continue
            if not group:
                break
            checking = clock.now_s()
            fault = self._check(orders[: len(group) * pieces])
            checked = clock.now_s()
            check_s = max(checked - checking, FORGETTING * check_s)
            self._check_s += checked - checking
            if fault is not None:
                return fault
            self._count(group, checked - checking)
            group, orders = [], work.draw(self._rng, rhythm.slots)
            self._progress(min(1.0, (checked - self._start_s) / self._plan.window_s))
            if over:
                break
        self._progress(1.0)
        return None

    def _us(self, at_s: float) -> int:
        return _us(at_s - self._start_s)

    def _count(self, group: Sequence[Batch], check_s: float) -> None:
        """All of the group, or nothing where its check ended too late."""
        last = Batch(group[-1].began_us, group[-1].busy_us, _us(check_s))
        if last.began_us + last.busy_us + last.check_us <= self._window_us:
            self._batches += [*group[:-1], last]

    def _check(self, orders: Sequence[Pair]) -> Fault | None:
        """None when the drawn pieces pass."""
        drawn = self._rng.choice(len(orders), size=min(checks_for(len(orders)), len(orders)), replace=False)
        for slot in (int(s) for s in drawn):
            self._samples += 1
            fault = self._work.check(slot, orders[slot], self._rng)
            if fault is not None:
                return Fault(fault.verdict, f"{fault.detail} (check {self._samples})")
        return None

    def _look_back(self) -> Fault | None:
        """What only the whole window shows."""
        assert self._armed is not None
        if not self._batches:
            return Fault(Verdict.ZERO_WORK, "no batch was finished and verified inside the window")
        if self._unsettled > UNSETTLED_BATCHES * self._run_batches:
            share = self._unsettled / self._run_batches
            detail = f"{share:.0%} of the batches went on after they were said to be done: a synchronisation is missing"
            return Fault(Verdict.NOT_SYNCHRONISED, detail)
        facts = self._work.facts(self._rng)
        if facts is not None and (fault := judge_shortcuts(facts.shortcuts, self._work.precision)):
            return fault
        if self._digest is not None and (digest := self._work.golden()) != self._digest:
            return Fault(
                Verdict.DIGEST_MISMATCH, f"a fixed product was {self._digest} before the window and {digest} after"
            )
        for count, what in (
            (self._conditions.ecc_uncorrected, "memory errors that were not mended"),
            (self._conditions.faults, "faults told by the driver"),
        ):
            if count:
                return Fault(Verdict.DEVICE_FAULT, f"{count} {what} inside the window")
        fault = self._work.closing()
        return fault or self._clock_bound_fault()

    def _clock_bound_fault(self) -> Fault | None:
        if self._work.counts != "flop":
            self._clock_bound = f"not checked: this workload counts {self._work.counts}"
            return None
        outcome = self._outcome(None)
        fastest = max(outcome.amount / self._plan.window_s, quantile(outcome.batch_rates, 0.5) or 0.0)
        self._clock_bound, fault = clock_bound(fastest, self._conditions.mean_clock_megahertz, self._flop_per_clock)
        return fault

    def _outcome(self, fault: Fault | None) -> WindowOutcome:
        pieces = 0 if self._armed is None else self._armed.rhythm.pieces_per_batch
        per_batch = self._work.amount_per_piece * pieces
        return WindowOutcome(
            verdict=Verdict.OK if fault is None else fault.verdict,
            detail="" if fault is None else fault.detail,
            amount=per_batch * len(self._batches),
            window_s=self._plan.window_s,
            start_s=self._start_s,
            elapsed_s=self._elapsed_s,
            warmup_s=self._warmup_s,
            steady=self._steady,
            batches=tuple(self._batches),
            pieces_per_batch=pieces,
            amount_per_batch=per_batch,
            samples=self._samples,
            check_s=self._check_s,
            pieces_per_check=1 if self._armed is None else self._armed.rhythm.slots,
            arming_s=0.0 if self._armed is None else self._armed.arming_s,
            digest=self._digest,
            clock_bound=self._clock_bound,
            conditions=self._conditions,
        )


def _us(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
