"""Run windows on the devices of this process: this machine's, or those of the Suanli job that we are.

What is to be measured is done one after the other; for each of it every device gets a thread of its own and they all
share one start and one window. As a job the devices are the job's: a CPU job's devices are worked as one group, with as
many threads as it has devices; a simulated job's devices get simulated figures and no product is run.
"""

from __future__ import annotations

import platform
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.card_facts import CardFacts
from benchmarks.job_devices import JobDevices, group_name
from benchmarks.meeting import MeetingFailed
from benchmarks.one_device import OneDevice, Told
from benchmarks.protocol import LONGEST_WINDOW_S, Fault, Verdict
from benchmarks.record import DeviceRecord, WhichDevice, failed_record
from benchmarks.starts import Gathering, OwnStarts, Starts, SystemClock
from benchmarks.suite import Measurement
from benchmarks.watching import Watches, open_watches
from benchmarks.work import DeviceWatch, Unwatched
from benchmarks.workloads.devices import ComputeDevice, accelerators, cpu, library_text
from benchmarks.workloads.simulated import CardFigures, SimulatedDevice, simulated_record

# A device that has not come back so long after its window's end is given up: its driver hangs.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`start_at_s` None: when warm. `seed` None: drawn, and recorded. `cards`: the catalogue's, by model.

    `run` names the run in the raw lines. `side` sets the products' size, for trials. `left_out`: what was named beside
    `measurements` and is not among them, a sentence each.
    """

    window_s: float
    measurements: tuple[Measurement, ...] = (Measurement(),)
    start_at_s: float | None = None
    seed: int | None = None
    side: int | None = None
    run: str = field(default_factory=lambda: f"local-{secrets.token_hex(6)}")
    best_shape: bool = False
    cards: Mapping[str, CardFacts] = field(default_factory=dict)
    patience_s: float = PATIENCE_S
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.window_s <= LONGEST_WINDOW_S:
            raise ValueError(f"a window lasts some seconds, at most {LONGEST_WINDOW_S:g}, not {self.window_s:g}")


@dataclass(frozen=True, slots=True)
class Ran:
    """Records, and the line of raw batches of each that had a window, in the same order as they were made.
    `not_begun`: so many of the measurements had not, when it was stopped."""

    records: tuple[DeviceRecord, ...]
    raw_lines: tuple[str, ...] = ()
    not_begun: int = 0


Progress = Callable[[str, float], None]


def run_as_job(
    job: JobDevices,
    card: CardFigures,
    options: RunOptions,
    *,
    stop: threading.Event,
    progress: Progress,
    starts: Starts | None = None,
) -> Ran:
    """One record a device and measurement, or one for the group of a CPU job's devices."""
    if job.simulated:
        return Ran(tuple(_simulated(job, card, options)))
    if job.is_cpu:
        which = WhichDevice(group_name(job.uuids), job.uuids, job.node, None, job.model, job.vendor, on="cpu")
        return _run_all([(cpu(len(job.uuids)), which)], options, stop, progress, starts)
    seen = accelerators()
    named = [WhichDevice(uuid, (uuid,), job.node, None, job.model, job.vendor, on="accelerator") for uuid in job.uuids]
    if len(seen) != len(named):
        reason = (
            f"{library_text()} sees {len(seen)} accelerators of the {len(named)} given to this job; "
            "check the driver, and that torch is built for this vendor"
        )
        return Ran(
            tuple(
                _failed(w, m, m.precision or "bf16", Fault(Verdict.DEVICE_ERROR, reason), options)
                for m in options.measurements
                for w in named
            )
        )
    return _run_all(list(zip(seen, named, strict=True)), options, stop, progress, starts)


def run_here(options: RunOptions, *, stop: threading.Event, progress: Progress) -> Ran:
    """All accelerators of this machine; its CPU where it has none."""
    node = platform.node() or None
    return _run_all(
        [
            (d, WhichDevice(d.uuid, (d.uuid,), node, None, d.model, d.vendor, on="cpu" if d.is_cpu else "accelerator"))
            for d in devices_here()
        ],
        options,
        stop,
        progress,
        None,
    )


def devices_here() -> Sequence[ComputeDevice]:
    return accelerators() or (cpu(),)


def _simulated(job: JobDevices, card: CardFigures, options: RunOptions) -> list[DeviceRecord]:
    """GEMM alone is made up: of nothing else is it published what such a card reaches."""
    return [
        simulated_record(
            SimulatedDevice(uuid, job.node, None, job.model, job.vendor),
            card,
            precision=measurement.precision or "bf16",
            seed=options.seed or 0,
            window_s=options.window_s,
        )
        for measurement in options.measurements
        if measurement.workload == "gemm"
        for uuid in job.uuids
    ]


def _run_all(
    devices: Sequence[tuple[ComputeDevice, WhichDevice]],
    options: RunOptions,
    stop: threading.Event,
    progress: Progress,
    starts: Starts | None,
) -> Ran:
    clock = SystemClock()
    seed = options.seed if options.seed is not None else secrets.randbits(48)
    opened = open_watches(devices[0][0].vendor)
    if isinstance(opened, Watches):
        models = opened.models()
        devices = [(d, replace(w, model=models.get(d.uuid, w.model))) for d, w in devices]
    records: list[DeviceRecord] = []
    lines: list[str] = []
    hung: set[str] = set()
    not_begun = 0
    try:
        for place, measurement in enumerate(options.measurements):
            if stop.is_set():
                not_begun += 1
                continue
            parties = [(list(devices), _of_node(devices))] if measurement.is_of_node else [([d], d[1]) for d in devices]
            own = OwnStarts(clock, len(parties), options.window_s, options.start_at_s)
            told = Told(measurement, options, clock, seed + 1000 * place, stop, progress)
            ran, late = _run_one_measurement(parties, told, starts or own, opened, hung)
            hung |= late
            records += ran.records
            lines += ran.raw_lines
    finally:
        if isinstance(opened, Watches):
            opened.close()
    return Ran(tuple(records), tuple(lines), not_begun)


Party = tuple[Sequence[tuple[ComputeDevice, WhichDevice]], WhichDevice]


def _run_one_measurement(
    parties: Sequence[Party], told: Told, starts: Starts, opened: Watches | str, hung: set[str]
) -> tuple[Ran, set[str]]:
    """Arm all, agree on one start, run all. A device that fails to arm does not hold up the others, and one that does
    not come back is left behind: its thread is, too."""
    gathering = Gathering(len(parties), starts)
    runs = []
    for place, (members, which) in enumerate(parties):
        computing = [device for device, _ in members]
        one = OneDevice(computing, which, told, place, gathering, _watch(opened, computing))
        if which.device in hung:
            one.refuse(Fault(Verdict.DEVICE_ERROR, "it did not come back from an earlier window"))
        runs.append(one)
    threads = [threading.Thread(target=run.run, name=f"bench-{i}", daemon=True) for i, run in enumerate(runs)]
    for thread in threads:
        thread.start()
    late: set[str] = set()
    for thread, run in zip(threads, runs, strict=True):
        while thread.is_alive() and run.device not in late:
            try:
                thread.join(0.2)
            except KeyboardInterrupt:
                told.stop.set()  # every window ends between two batches and leaves its partial record
            if run.is_overdue():
                late.add(run.device)
                run.give_up()
    try:
        after = starts.over()
    except MeetingFailed:
        after = None  # the windows were run; of the clocks it is known what was known before
    answers = [run.answer(after) for run in runs]
    return Ran(tuple(record for record, _ in answers), tuple(line for _, line in answers if line)), late


def _watch(opened: Watches | str, computing: Sequence[ComputeDevice]) -> DeviceWatch:
    if isinstance(opened, str):
        return Unwatched(opened)
    if len(computing) > 1:
        return Unwatched("several devices work together: their counters are not told apart")
    return opened.of(computing[0].uuid)


def _of_node(devices: Sequence[tuple[ComputeDevice, WhichDevice]]) -> WhichDevice:
    covers = tuple(uuid for _, which in devices for uuid in which.covers)
    return replace(devices[0][1], device=group_name(covers), covers=covers)


def _failed(
    which: WhichDevice, measurement: Measurement, precision: str, fault: Fault, options: RunOptions
) -> DeviceRecord:
    return failed_record(
        which,
        precision=precision,
        verdict=fault.verdict,
        reason=fault.detail,
        window_s=options.window_s,
        workload=measurement.workload,
    )
