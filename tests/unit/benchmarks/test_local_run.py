"""The devices of a job or a machine, run in this process: groups, failures while arming, starts that have passed."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import local_run, one_device
from benchmarks.cli import _answer, exit_code, exit_code_of, main
from benchmarks.job_devices import JobDevices
from benchmarks.local_run import Ran, RunOptions, devices_here, run_as_job, run_here
from benchmarks.protocol import Verdict
from benchmarks.raw_batches import from_line
from benchmarks.raw_requests import requests_from_line
from benchmarks.record import DeviceRecord
from benchmarks.starts import SystemClock
from benchmarks.suite import (
    PRECISIONS_OF,
    WORKLOADS,
    BadMeasurement,
    Measurement,
    asked,
    measurements,
    split_names,
    with_own_where_missing,
)
from benchmarks.workloads.devices import ComputeDevice, cpu
from benchmarks.workloads.simulated import CardFigures

FP32 = (Measurement("gemm", "fp32"),)
OPTIONS = RunOptions(window_s=0.3, measurements=FP32, seed=1, side=64)
CPU_JOB = JobDevices(("c0", "c1"), "EPYC", "cpu", "host", False, None)
GPU_JOB = JobDevices(("g0", "g1"), "H100 SXM", "nvidia", "edge-0", False, None)


def ran(job: JobDevices, options: RunOptions = OPTIONS) -> Ran:
    return run_as_job(
        job, CardFigures(None, None), options, stop=threading.Event(), progress=lambda device, share: None
    )


def run(job: JobDevices, options: RunOptions = OPTIONS) -> tuple[DeviceRecord, ...]:
    return ran(job, options).records


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


@pytest.mark.parametrize(("precision", "told"), [("fp4", "fp4"), ("fp8", "leave it out"), ("tf32", "A100 and later")])
def test_a_precision_that_this_device_has_not_is_no_failure_of_it(precision: str, told: str) -> None:
    (made,) = run(CPU_JOB, replace(OPTIONS, measurements=(Measurement("gemm", precision),)))
    assert (made.verdict, made.gflops, made.verified) == (Verdict.UNAVAILABLE, None, False)
    assert told in (made.reason or "")


def test_each_measurement_has_a_window_and_a_raw_line_of_its_own() -> None:
    asked = (Measurement("gemm", "fp64"), Measurement("gemm", "int8"))
    for window_s in (0.5, 2.0, 4.0):  # on a busy machine no batch may fit into a short one
        made = ran(CPU_JOB, replace(OPTIONS, window_s=window_s, measurements=asked, run="night"))
        if all(r.verified for r in made.records):
            break
    assert [(r.workload, r.precision) for r in made.records] == [("gemm", "fp64"), ("gemm", "int8")]
    assert all(r.verified for r in made.records), made.records
    for record, line in zip(made.records, made.raw_lines, strict=True):
        raw = from_line(line)
        assert (raw.run, raw.precision, raw.flop) == ("night", record.precision, record.flop)
    starts = [r.window_start_s or 0 for r in made.records]
    assert starts[1] >= starts[0] + 0.5


def test_serving_runs_in_a_jobs_window_as_everything_else_does() -> None:
    asked_for = (Measurement("serving", "bf16"),)
    for window_s in (1.0, 4.0, 8.0):  # on a busy machine no batch may fit into a short one
        made = ran(CPU_JOB, replace(OPTIONS, window_s=window_s, measurements=asked_for, run="night"))
        (record,) = made.records
        if record.verified:
            break
    assert (record.workload, record.precision, record.verdict) == ("serving", "bf16", Verdict.OK), record.reason
    assert (record.unit, record.gflops, record.shape) == ("requests/s", None, (2, 128, 64))
    raw = requests_from_line(made.raw_lines[0])
    assert (raw.run, raw.per_s, raw.batches) == ("night", record.value, record.batches)


def test_a_stop_between_windows_is_an_interruption() -> None:
    """The first window is whole and counts; the second was never begun."""
    stop = threading.Event()

    def progress(device: str, share: float) -> None:
        if share == 1.0:
            stop.set()

    options = replace(OPTIONS, window_s=1.0, measurements=(Measurement("gemm", "fp64"), Measurement("gemm", "fp32")))
    made = run_here(options, stop=stop, progress=progress)
    assert len(made.records) == len(devices_here())
    assert made.not_begun == 1
    answer = _answer(options, made, with_library=True)
    assert (answer.provenance["interrupted"], answer.provenance["windows_not_begun"]) == (True, 1)
    assert exit_code_of(answer) == 130


def test_a_disk_without_room_loses_the_raw_batches_and_not_the_answer() -> None:
    result = CliRunner().invoke(main, ["run", "--window", "0.3", "--raw", "/dev/full", "-o", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["devices"]
    assert "--raw: /dev/full could not be written: No space left on device" in result.stderr


def test_a_device_that_hangs_is_given_up_and_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins = (cpu(1), cpu(1))
    monkeypatch.setattr(local_run, "accelerators", lambda: stand_ins)
    released = threading.Event()
    real = one_device.run_window

    def hanging(*args: Any, **more: Any) -> Any:
        if threading.current_thread().name == "bench-0":
            released.wait(60)
        return real(*args, **more)

    monkeypatch.setattr(one_device, "run_window", hanging)
    try:
        made = run(GPU_JOB, replace(OPTIONS, patience_s=0.5))
    finally:
        released.set()
    assert (made[0].verdict, made[0].gflops) == (Verdict.DEVICE_ERROR, 0.0)
    assert "did not come back" in (made[0].reason or "")
    assert made[1].verdict in (Verdict.OK, Verdict.LATE_START, Verdict.ZERO_WORK)
    for thread in threading.enumerate():
        if thread.name == "bench-0":
            thread.join(30)


def test_this_machine_is_run_with_what_it_has() -> None:
    progress: list[float] = []
    made = run_here(OPTIONS, stop=threading.Event(), progress=lambda device, share: progress.append(share)).records
    assert made
    assert all(r.verified for r in made), made
    assert progress[-1] == 1.0


def test_names_of_workloads_and_precisions() -> None:
    assert measurements((), ()) == (Measurement("gemm", None),)
    assert measurements(split_names(["gemm,bandwidth:fp64,gemm"]), ("bf16", "fp8", "bf16")) == (
        Measurement("gemm", "bf16"),
        Measurement("gemm", "fp8"),
        Measurement("bandwidth", "fp64"),
    )
    assert measurements(("bandwidth",), ("fp64",)) == (Measurement("bandwidth", "fp64"),)
    for given in ((("gemn",), ()), (("gemm",), ("fp4",))):
        with pytest.raises(BadMeasurement, match="there are"):
            measurements(*given)


@pytest.mark.parametrize(
    ("workloads", "precisions", "told"),
    [
        (
            ("bandwidth",),
            ("bf16",),
            "bandwidth is measured in fp64, fp32, not in bf16; leave it out, or say bandwidth:fp32",
        ),
        (("gemm", "bandwidth"), ("bf16", "fp8"), "bandwidth is measured in fp64, fp32, not in bf16, fp8"),
        (("collective",), ("fp64",), "collective is measured in fp32, not in fp64"),
        (("training",), ("int8",), "training is measured in fp32, tf32, bf16, not in int8"),
        (("serving",), ("fp64",), "serving is measured in fp32, tf32, bf16, fp16, not in fp64"),
        (("bandwidth:bf16",), (), "bandwidth is measured in fp64, fp32, not in bf16"),
        (("gemm:",), (), "gemm is measured in fp64, fp32"),
        (("attention",), ("bf16", "fp8"), "precision fp8 would measure nothing: none of attention is measured in it"),
        (("bandwidth:fp64",), ("bf16",), "precision bf16 would measure nothing: each workload names its own"),
    ],
)
def test_a_pair_that_there_is_not_is_refused_with_what_there_is(
    workloads: tuple[str, ...], precisions: tuple[str, ...], told: str
) -> None:
    with pytest.raises(BadMeasurement) as refused:
        measurements(workloads, precisions)
    assert str(refused.value).startswith(told)


def test_a_pair_that_is_left_out_beside_others_is_told() -> None:
    told = asked(("gemm", "attention"), ("bf16", "fp8"))
    assert told.measurements == (
        Measurement("gemm", "bf16"),
        Measurement("gemm", "fp8"),
        Measurement("attention", "bf16"),
    )
    assert told.left_out == ("attention in fp8: it is measured in fp64, fp32, bf16, fp16",)


def test_a_night_measures_what_does_not_have_its_precision_in_its_own() -> None:
    names = with_own_where_missing(("gemm", "bandwidth", "serving"), "bf16")
    assert names == ("gemm", "bandwidth:fp32", "serving")
    assert measurements(names, ("bf16",)) == (
        Measurement("gemm", "bf16"),
        Measurement("bandwidth", "fp32"),
        Measurement("serving", "bf16"),
    )
    assert with_own_where_missing(("gemm", "bandwidth"), None) == ("gemm", "bandwidth")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_workload_has_what_it_is_measured_in_by_itself(workload: str) -> None:
    assert {Measurement(workload).precision_or(own) for own in ("fp32", "bf16")} <= set(PRECISIONS_OF[workload])


@pytest.mark.parametrize("window_s", [0.0, -1.0, 5000.0])
def test_a_window_that_cannot_be_is_refused(window_s: float) -> None:
    with pytest.raises(ValueError, match="window"):
        RunOptions(window_s=window_s)


def test_the_clock_waits_until_the_moment_and_not_before() -> None:
    clock = SystemClock()
    at_s = clock.now_s() + 0.05
    clock.sleep_until(at_s)
    assert 0 <= clock.now_s() - at_s < 5.0
