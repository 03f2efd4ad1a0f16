"""The devices of a job or a machine, run in this process: groups, failures while arming, starts that have passed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from benchmarks import local_run
from benchmarks.cli import exit_code
from benchmarks.local_run import JobDevices, RunOptions, SystemClock, run_as_job, run_here
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from benchmarks.workloads.devices import ComputeDevice, cpu
from benchmarks.workloads.simulated import CardFigures

OPTIONS = RunOptions(window_s=0.3, precision="fp32", seed=1, side=64)
CPU_JOB = JobDevices(("c0", "c1"), "EPYC", "cpu", "host", False, None)
GPU_JOB = JobDevices(("g0", "g1"), "H100 SXM", "nvidia", "edge-0", False, None)


def run(job: JobDevices, options: RunOptions = OPTIONS) -> list[DeviceRecord]:
    return run_as_job(
        job, CardFigures(None, None), options, stop=threading.Event(), progress=lambda device, share: None
    )


def test_a_cpu_jobs_devices_are_one_group_of_that_many_threads() -> None:
    for window_s in (0.3, 1.0, 3.0):  # on a busy machine no batch may fit into a short one
        (made,) = run(CPU_JOB, replace(OPTIONS, window_s=window_s))
        assert (made.device, made.covers, made.threads, made.on) == ("c0 +1", ("c0", "c1"), 2, "cpu")
        if made.verified:
            break
    assert made.verified, made.reason


def test_an_announced_start_that_has_passed_counts_zero() -> None:
    (made,) = run(CPU_JOB, replace(OPTIONS, start_at_s=time.time() - 1))
    assert (made.verdict, made.gflops, made.verified) == (Verdict.LATE_START, 0.0, False)


def test_accelerators_that_the_library_does_not_see_count_zero_and_fail_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_run, "accelerators", tuple)
    made = run(GPU_JOB)
    assert [(r.device, r.verdict, r.gflops, r.on) for r in made] == [
        ("g0", Verdict.DEVICE_ERROR, 0.0, "accelerator"),
        ("g1", Verdict.DEVICE_ERROR, 0.0, "accelerator"),
    ]
    assert "sees 0 accelerators of the 2" in (made[0].reason or "")
    assert exit_code(made) == 1


def test_devices_of_one_process_share_one_start_and_one_that_cannot_arm_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two stand-ins that compute on the CPU, and one of a kind that this machine's torch does not have."""
    stand_ins = (cpu(1), ComputeDevice("npu", 0, "n", "m", "Huawei"), cpu(1))
    monkeypatch.setattr(local_run, "accelerators", lambda: stand_ins)
    made = run(replace(GPU_JOB, uuids=("g0", "g1", "g2")), replace(OPTIONS, window_s=0.5))
    assert [r.device for r in made] == ["g0", "g1", "g2"]
    assert (made[1].verdict, made[1].gflops, made[1].verified) == (Verdict.DEVICE_ERROR, 0.0, False)
    assert made[0].window_start_s == made[2].window_start_s
    assert {made[0].verdict, made[2].verdict} <= {Verdict.OK, Verdict.LATE_START}


def test_a_precision_that_nothing_here_knows_counts_zero_with_the_reason() -> None:
    (made,) = run(CPU_JOB, replace(OPTIONS, precision="fp4"))
    assert (made.verdict, "fp4" in (made.reason or "")) == (Verdict.DEVICE_ERROR, True)


def test_this_machine_is_run_with_what_it_has() -> None:
    progress: list[float] = []
    made = run_here(OPTIONS, stop=threading.Event(), progress=lambda device, share: progress.append(share))
    assert made
    assert all(r.verified for r in made), made
    assert progress[-1] == 1.0


def test_the_clock_waits_until_the_moment_and_not_before() -> None:
    clock = SystemClock()
    at_s = clock.now_s() + 0.05
    clock.sleep_until(at_s)
    assert 0 <= clock.now_s() - at_s < 5.0
