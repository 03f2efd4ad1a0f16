"""Run the window on the devices of this process: this machine's, or those of the Suanli job that we are.

Every device gets a thread of its own and they all share one start and one window. As a job (SUANLI_* variables) the
devices are the job's: a CPU job's devices are worked as one group, with as many threads as it has devices; a simulated
job's devices get simulated figures and no product is run.
"""

from __future__ import annotations

import platform
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.protocol import PRECISIONS, Verdict, WindowPlan, run_window
from benchmarks.record import DeviceRecord, WhichDevice, failed_record, measured_record
from benchmarks.workloads.devices import ComputeDevice, accelerators, cpu, library_text
from benchmarks.workloads.gemm import make_gemm
from benchmarks.workloads.simulated import CardFigures, SimulatedDevice, simulated_record

# A window's own warm-up: a tenth of it, at least half a second. Steadiness is asked for from 600 s on (protocol).
WARMUP_SHARE = 0.1
LEAST_WARMUP_S = 0.5


class BadJobEnvironment(ValueError):
    """The SUANLI_* variables do not describe a job's devices. The message names the variable."""


class SystemClock:
    """Epoch seconds that never run backwards: the wall clock read once, then the monotonic one."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.perf_counter()

    def now_s(self) -> float:
        return self._offset_s + time.perf_counter()

    def sleep_until(self, at_s: float) -> None:
        while (left_s := at_s - self.now_s()) > 0:
            time.sleep(left_s if left_s > 0.01 else left_s / 2)


@dataclass(frozen=True, slots=True)
class JobDevices:
    """What the node told this job of its devices."""

    uuids: tuple[str, ...]
    model: str
    vendor: str
    node: str | None
    simulated: bool
    result_file: str | None

    @property
    def is_cpu(self) -> bool:
        return self.vendor.lower() == "cpu"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`precision` None: each device's own (fp32 on a CPU, bf16 on an accelerator). `start_at_s` None: when warm."""

    window_s: float
    precision: str | None = None
    start_at_s: float | None = None
    seed: int | None = None
    side: int | None = None


def job_devices(environment: Mapping[str, str]) -> JobDevices:
    """The devices of the job that we run in. Raises BadJobEnvironment outside one."""
    uuids = tuple(u for u in environment.get("SUANLI_DEVICES", "").split(",") if u)
    if not uuids:
        raise BadJobEnvironment("SUANLI_DEVICES is empty: --worker is for jobs that Suanli started; use --local here")
    simulated = environment.get("SUANLI_SIMULATED", "")
    if simulated not in ("0", "1"):
        raise BadJobEnvironment(f"SUANLI_SIMULATED must be 0 or 1, not {simulated!r}")
    return JobDevices(
        uuids=uuids,
        model=environment.get("SUANLI_DEVICE_MODEL") or "unknown",
        vendor=environment.get("SUANLI_DEVICE_VENDOR") or "unknown",
        node=environment.get("SUANLI_NODE") or None,
        simulated=simulated == "1",
        result_file=environment.get("SUANLI_RESULT_FILE") or None,
    )


def run_as_job(
    job: JobDevices,
    card: CardFigures,
    options: RunOptions,
    *,
    stop: threading.Event,
    progress: Callable[[str, float], None],
) -> list[DeviceRecord]:
    """One record a device, or one for the group of a CPU job's devices."""
    if job.simulated:
        return [
            simulated_record(
                SimulatedDevice(uuid, job.node, None, job.model, job.vendor),
                card,
                precision=options.precision or "bf16",
                seed=options.seed or 0,
                window_s=options.window_s,
            )
            for uuid in job.uuids
        ]
    if job.is_cpu:
        which = WhichDevice(group_name(job.uuids), job.uuids, job.node, None, job.model, job.vendor, on="cpu")
        return _run_all([(cpu(len(job.uuids)), which)], options, stop, progress)
    seen = accelerators()
    named = [WhichDevice(uuid, (uuid,), job.node, None, job.model, job.vendor, on="accelerator") for uuid in job.uuids]
    if len(seen) != len(named):
        reason = (
            f"{library_text()} sees {len(seen)} accelerators of the {len(named)} given to this job; "
            "check the driver, and that torch is built for this vendor"
        )
        return [
            failed_record(
                w,
                precision=options.precision or "bf16",
                verdict=Verdict.DEVICE_ERROR,
                reason=reason,
                window_s=options.window_s,
            )
            for w in named
        ]
    return _run_all(list(zip(seen, named, strict=True)), options, stop, progress)


def group_name(uuids: Sequence[str]) -> str:
    """One name for the CPU devices of one job: `cpu-0 +3` for four."""
    return uuids[0] if len(uuids) == 1 else f"{uuids[0]} +{len(uuids) - 1}"


def run_here(
    options: RunOptions, *, stop: threading.Event, progress: Callable[[str, float], None]
) -> list[DeviceRecord]:
    """All accelerators of this machine; its CPU where it has none."""
    found: Sequence[ComputeDevice] = accelerators() or (cpu(),)
    node = platform.node() or None
    return _run_all(
        [
            (d, WhichDevice(d.uuid, (d.uuid,), node, None, d.model, d.vendor, on="cpu" if d.is_cpu else "accelerator"))
            for d in found
        ],
        options,
        stop,
        progress,
    )


def _run_all(
    devices: Sequence[tuple[ComputeDevice, WhichDevice]],
    options: RunOptions,
    stop: threading.Event,
    progress: Callable[[str, float], None],
) -> list[DeviceRecord]:
    """Arm all, agree on one start, run all. A device that fails to arm does not hold up the others."""
    clock = SystemClock()
    seed = options.seed if options.seed is not None else secrets.randbits(48)
    records: list[DeviceRecord | None] = [None] * len(devices)
    start = _SharedStart(clock, len(devices), options)

    def work(place: int) -> None:
        device, which = devices[place]
        precision = options.precision or device.default_precision
        try:
            records[place] = _run_one(device, which, precision, seed + place, options, clock, start, stop, progress)
        except Exception as error:  # arming failed: no memory, no such precision, a lost device; it counts zero
            start.give_up()
            first_line = (str(error).strip().splitlines() or ["no message"])[0]
            records[place] = failed_record(
                which,
                precision=precision,
                verdict=Verdict.DEVICE_ERROR,
                reason=f"{type(error).__name__}: {first_line}",
                window_s=options.window_s,
            )

    threads = [threading.Thread(target=work, args=(i,), name=f"bench-{i}") for i in range(len(devices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join(0.2)
            except KeyboardInterrupt:
                stop.set()  # every window ends between two batches and leaves its partial record
    return [r for r in records if r is not None]


def _run_one(
    device: ComputeDevice,
    which: WhichDevice,
    precision: str,
    seed: int,
    options: RunOptions,
    clock: SystemClock,
    start: _SharedStart,
    stop: threading.Event,
    progress: Callable[[str, float], None],
) -> DeviceRecord:
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision} is not one of {', '.join(PRECISIONS)}")
    progress(which.device, 0.0)
    workload = make_gemm(device, precision, seed=seed, side=options.side)
    plan = WindowPlan(
        window_s=options.window_s,
        seed=seed,
        start_at_s=start.agreed_s(),
        warmup_s=max(LEAST_WARMUP_S, WARMUP_SHARE * options.window_s),
    )
    outcome = run_window(workload, clock, plan, stop=stop.is_set, progress=lambda share: progress(which.device, share))
    shape = workload.shape
    return measured_record(
        which,
        outcome,
        shape=(shape.m, shape.n, shape.k),
        precision=precision,
        products_per_batch=workload.products_per_batch,
        threads=device.threads,
        library=library_text(),
        seed=seed,
    )


class _SharedStart:
    """One start for all devices of this process: the announced one, or some time after the last has armed.

    A single device without an announced start begins when it is warm.
    """

    def __init__(self, clock: SystemClock, devices: int, options: RunOptions) -> None:
        self._clock = clock
        self._options = options
        self._single = devices == 1
        self._waiting = devices
        self._start_s: float | None = None
        self._changed = threading.Condition()

    def agreed_s(self) -> float | None:
        """Blocks until every device has armed or given up."""
        if self._options.start_at_s is not None or self._single:
            return self._options.start_at_s
        with self._changed:
            self._arrive()
            while self._start_s is None:
                self._changed.wait()
            return self._start_s

    def give_up(self) -> None:
        with self._changed:
            if self._start_s is None:
                self._arrive()

    def _arrive(self) -> None:
        self._waiting -= 1
        if self._waiting <= 0 and self._start_s is None:
            warmup_s = max(2.0, WARMUP_SHARE * self._options.window_s)
            self._start_s = self._clock.now_s() + warmup_s
            self._changed.notify_all()
