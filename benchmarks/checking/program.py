"""`python -m benchmarks check --worker`: check the devices of the Suanli job that this is, and leave what came of it.

Each part of each device comes out right (with a rate), wrong (with what was wrong), or was not run (with the reason):
only what was computed and is provably not what it must be is wrong. Asked to stop it does so between two batches (a
process that is killed in a driver's call may leave a card that hangs): somebody wants the devices, so there is no
result, and nothing is concluded.

All devices are checked side by side; links after that, one after the other. Needs no Ray; without torch NumPy checks
the CPU. On simulated devices nothing is run and nothing is said.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.checking.copies import can_reach, copy_rate, pairs
from benchmarks.checking.triad import Stop, Wrong, triad
from benchmarks.job_devices import JobDevices
from benchmarks.protocol import Verdict, WindowPlan
from benchmarks.starts import SystemClock
from benchmarks.suite import Measurement, make_work
from benchmarks.window import run_window
from benchmarks.workloads.devices import ComputeDevice, accelerators, cpu, library_text, torch_or_none

VERSION = 1
PARTS = ("products", "memory", "links")
WARM_S = 0.5
RIGHT, WRONG, NOT_RUN = "right", "wrong", "not run"
# Of a window's verdicts, those that say that what was computed is not what it must be.
_WRONG = (Verdict.WRONG_PRODUCT, Verdict.NOT_FINITE)

Result = dict[str, Any]
Check = Callable[[ComputeDevice, float, Stop], Result]


def check_devices(job: JobDevices, parts: Sequence[str], seconds: float, stop: Stop) -> Result:
    """The result, as the service reads it (scheduler/service/check_results.py). `seconds`: of each part. Where `stop`
    says so it ends early, and what it gives is not to be told."""
    if job.simulated:
        return {"check": VERSION, "simulated": True, "trouble": "simulated devices are not checked", "devices": {}}
    found = (cpu(len(job.uuids)),) if job.is_cpu else accelerators()
    named = {job.uuids[0] if job.is_cpu else uuid: device for uuid, device in zip(job.uuids, found, strict=False)}
    if not job.is_cpu and len(found) != len(job.uuids):
        trouble = f"{library_text()} sees {len(found)} accelerators of the {len(job.uuids)} given to this job"
        return {"check": VERSION, "trouble": trouble, "devices": {}}
    return {"check": VERSION, "library": library_text(), **run_parts(named, parts, seconds, stop, CHECKS)}


def run_parts(
    named: Mapping[str, ComputeDevice], parts: Sequence[str], seconds: float, stop: Stop, checks: Mapping[str, Check]
) -> Result:
    """By uuid what came of each of its parts, and the links."""
    results: dict[str, dict[str, Result]] = {uuid: {} for uuid in named}

    def of_one(uuid: str, device: ComputeDevice) -> None:
        for part in parts:
            if part in checks and not stop():
                results[uuid][part] = _came(lambda part=part: checks[part](device, seconds, stop))  # type: ignore[misc]

    threads = [threading.Thread(target=of_one, args=each, name=f"check-{each[0]}") for each in named.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    links, skipped = _links(named, seconds, stop) if "links" in parts else ([], "not asked for")
    return {"devices": results, "links": links, "links_skipped": skipped}


def _links(named: Mapping[str, ComputeDevice], seconds: float, stop: Stop) -> tuple[list[Result], str]:
    torch, uuids, devices = torch_or_none(), list(named), list(named.values())
    why = can_reach(torch, devices)
    if why:
        return [], why
    links = []
    each_s = seconds / len(devices)
    for one, other in pairs(len(devices)):
        if stop():
            break
        came = _came(
            lambda one=one, other=other: _rated(  # type: ignore[misc]
                copy_rate(torch, devices[one], devices[other], each_s, stop) / 1e9, "GB/s"
            )
        )
        links.append({"between": [uuids[one], uuids[other]], **came})
    return links, ""


def _products(device: ComputeDevice, seconds: float, stop: Stop) -> Result:
    """Products whose drawn samples are verified by Freivalds' method (benchmarks/protocol.py)."""
    seed = secrets.randbits(48)
    work = make_work(Measurement(), [device], seed=seed)
    plan = WindowPlan(window_s=seconds, seed=seed, warmup_s=WARM_S)
    outcome = run_window(work, SystemClock(), plan, stop=stop)
    if outcome.verdict in _WRONG:
        return {"came": WRONG, "why": outcome.detail}
    if outcome.verdict is not Verdict.OK:
        return {"came": NOT_RUN, "why": outcome.detail or outcome.verdict.value}
    return _rated(median(outcome.batch_rates) / 1e12, f"TFLOP/s {device.default_precision}")


def _memory(device: ComputeDevice, seconds: float, stop: Stop) -> Result:
    return _rated(triad(torch_or_none(), device, seconds, stop) / 1e9, "GB/s")


CHECKS: Mapping[str, Check] = {"products": _products, "memory": _memory}


def _rated(rate: float, unit: str) -> Result:
    return {"came": RIGHT, "rate": rate, "unit": unit}


def _came(run: Callable[[], Result]) -> Result:
    try:
        return run()
    except Wrong as error:
        return {"came": WRONG, "why": str(error)}
    except Exception as error:  # a device's library raises whatever it likes; that proves nothing of the device
        lines = str(error).strip().splitlines()
        return {"came": NOT_RUN, "why": f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"}
