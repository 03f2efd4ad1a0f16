"""One device through one measurement: arm, wait for the others, run the window, tell. In a thread of its own.

A CPU's cores are one device here, and so are the devices of a node that work together. Whatever goes wrong becomes the
device's record, and nobody else's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.arming import Armed, arm
from benchmarks.best_shape import ACCELERATOR_SHAPES, CPU_SHAPES, best_of_shapes
from benchmarks.card_facts import CardFacts
from benchmarks.measured import Setting, measured_record, voided
from benchmarks.meeting import MeetingFailed
from benchmarks.protocol import Fault, Shape, Verdict, WindowPlan
from benchmarks.record import DeviceRecord, WhichDevice, failed_record
from benchmarks.served_record import served_record
from benchmarks.serving_window import arm_serving, is_serving, run_serving
from benchmarks.starts import LEAST_WARMUP_S, WARMUP_SHARE, Gathering, Start
from benchmarks.suite import Measurement, make_work
from benchmarks.window import error_text, run_window
from benchmarks.work import Clock, DeviceWatch, Work
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, library_text, runtime_text, torch_or_none

if TYPE_CHECKING:
    from benchmarks.local_run import RunOptions


# Operands of 8192^3 in the slowest precision are drawn, and a kernel chosen, in far less.
ARMING_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Told:
    """What all devices of one measurement have in common."""

    measurement: Measurement
    options: RunOptions
    clock: Clock
    seed: int
    stop: threading.Event
    progress: Callable[[str, float], None]


class OneDevice:
    """`computing`: the device, or all those of a node that work together."""

    def __init__(
        self,
        computing: Sequence[ComputeDevice],
        which: WhichDevice,
        told: Told,
        place: int,
        gathering: Gathering,
        watch: DeviceWatch,
    ) -> None:
        self._computing = computing
        self._which = which
        self._told = told
        self._seed = told.seed + place
        self._gathering = gathering
        self._watch = watch
        self._precision = told.measurement.precision_on(computing[0])
        self._record: DeviceRecord | None = None
        self._line: str | None = None
        self._refused: Fault | None = None
        self._due_s: float | None = None
        self._arrived = False
        self._arriving = threading.Lock()
        self._start: Start | None = None

    @property
    def device(self) -> str:
        return self._which.device

    def refuse(self, fault: Fault) -> None:
        """It is not to be run at all."""
        self._refused = fault

    def is_overdue(self) -> bool:
        """Whether its window should long have been over."""
        return self._record is None and self._due_s is not None and self._told.clock.now_s() > self._due_s

    def run(self) -> None:
        try:
            self._record, self._line = self._run()
        except UnsupportedPrecision as error:
            self._record = self._failed(Fault(Verdict.UNAVAILABLE, str(error)))
        except MeetingFailed as error:
            verdict = Verdict.INTERRUPTED if self._told.stop.is_set() else Verdict.DEVICE_ERROR
            self._record = self._failed(Fault(verdict, str(error)))
        except Exception as error:  # arming failed: no memory, a lost device; it counts zero
            self._record = self._failed(Fault(Verdict.DEVICE_ERROR, error_text(error)))
        finally:
            self.give_up()

    def give_up(self) -> None:
        """The others need not wait for it any longer. Without effect once it has armed."""
        with self._arriving:
            if self._arrived:
                return
            self._arrived = True
        self._gathering.give_up()

    def answer(self, after: Start | None) -> tuple[DeviceRecord, str | None]:
        """`after`: what was found of the clocks when all windows were over."""
        record = self._record
        if record is None:
            return self._failed(Fault(Verdict.DEVICE_ERROR, "it did not come back: its driver hangs")), None
        if after is None or after.offset_s is None or self._start is None or self._start.offset_s is None:
            return record, self._line
        later = abs(after.offset_s) > abs(self._start.offset_s)
        known = after if later else self._start
        record = replace(record, clock_offset_s=known.offset_s, clock_uncertainty_s=known.uncertainty_s)
        if after.fault is not None and record.verified:
            record = voided(record, after.fault.verdict, after.fault.detail)
        return record, self._line

    def _run(self) -> tuple[DeviceRecord, str | None]:
        told, options = self._told, self._told.options
        if self._refused is not None:
            return self._failed(self._refused), None
        told.progress(self.device, 0.0)
        self._due_s = told.clock.now_s() + ARMING_LIMIT_S + options.patience_s
        plan = WindowPlan(
            window_s=options.window_s,
            seed=self._seed,
            warmup_s=max(LEAST_WARMUP_S, WARMUP_SHARE * options.window_s),
        )
        work = make_work(told.measurement, self._computing, seed=self._seed, side=options.side)
        try:
            rng = np.random.default_rng(self._seed ^ 0x5EED)
            armed = arm_serving(work, told.clock, plan, rng) if is_serving(work) else arm(work, told.clock, plan, rng)
            self._due_s = None
            with self._arriving:
                if self._arrived:  # it was given up while it armed
                    return self._failed(Fault(Verdict.DEVICE_ERROR, "it armed too late for the others")), None
                self._arrived = True
            start = self._start = self._gathering.wait()
            if start.fault is not None:
                return self._failed(start.fault), None
            self._due_s = self._latest_end_s(start, plan)
            record, line = self._windowed(
                work, armed, start.clock, replace(plan, start_at_s=start.at_s, ramp_at_s=start.ramp_at_s)
            )
            self._due_s = None
            record = replace(record, clock_offset_s=start.offset_s, clock_uncertainty_s=start.uncertainty_s)
            return self._with_more(record), line
        finally:
            _close(work)

    def _windowed(self, work: Work, armed: Armed, clock: Clock, plan: WindowPlan) -> tuple[DeviceRecord, str]:
        told = self._told
        more: Any = {
            "armed": armed,
            "watch": self._watch,
            "flop_per_clock": self._card().flop_per_clock.get(self._precision),
            "stop": told.stop.is_set,
            "progress": lambda share: told.progress(self.device, share),
        }
        if is_serving(work):
            return served_record(self._which, work, run_serving(work, clock, plan, **more), self._setting())
        return measured_record(self._which, work, run_window(work, clock, plan, **more), self._setting())

    def _latest_end_s(self, start: Start, plan: WindowPlan) -> float:
        """By this machine's clock."""
        begins_s = self._told.clock.now_s() + (start.offset_s or 0.0)
        if start.at_s is None:
            begins_s += plan.warmup_s + plan.warmup_limit_s
        else:
            begins_s = max(begins_s, start.at_s + (start.offset_s or 0.0))
        return begins_s + plan.window_s + self._told.options.patience_s

    def _with_more(self, record: DeviceRecord) -> DeviceRecord:
        """MFU, and the best of several shapes where it was asked for."""
        peak = self._card().peak_tflops.get(record.precision)
        if record.workload == "training" and record.gflops and peak is not None:
            record = replace(record, mfu=record.gflops / 1e3 / peak)
        if not (self._told.options.best_shape and record.workload == "gemm" and record.verified):
            return record
        best = best_of_shapes(
            lambda shape: shaped(self._computing[0], self._precision, shape, self._seed),
            CPU_SHAPES if self._computing[0].is_cpu else ACCELERATOR_SHAPES,
            self._told.clock,
        )
        if best is None:
            return record
        return replace(record, best_shape=(best.shape.m, best.shape.n, best.shape.k), best_shape_gflops=best.gflops)

    def _setting(self) -> Setting:
        first = self._computing[0]
        options = self._told.options
        return Setting(options.run, self._seed, first.threads, library_text(), runtime_text(first))

    def _card(self) -> CardFacts:
        return self._told.options.cards.get(self._which.model, CardFacts())

    def _failed(self, fault: Fault) -> DeviceRecord:
        return failed_record(
            self._which,
            precision=self._precision,
            verdict=fault.verdict,
            reason=fault.detail,
            window_s=self._told.options.window_s,
            workload=self._told.measurement.workload,
        )


def shaped(device: ComputeDevice, precision: str, shape: Shape, seed: int) -> Work:
    """GEMM of one shape. Raises UnsupportedPrecision."""
    from benchmarks.workloads.gemm import torch_gemm
    from benchmarks.workloads.numpy_floor import numpy_gemm

    torch = torch_or_none()
    if torch is None:
        return numpy_gemm(precision, seed=seed, shape=shape)
    return torch_gemm(torch, device, precision, seed=seed, shape=shape)


def _close(work: Work) -> None:
    close = getattr(work, "close", None)
    if close is not None:
        close()
