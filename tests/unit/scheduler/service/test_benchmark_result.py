"""What a benchmark's result says that it achieved, and what it cannot say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.protocol import Verdict
from benchmarks.record import Answer, DeviceRecord
from scheduler.core.usage_records import Achieved
from scheduler.service.benchmark_result import achieved


def device(**given: Any) -> dict[str, Any]:
    base = DeviceRecord(
        device="d",
        covers=("d",),
        node=None,
        site=None,
        model="H100 SXM",
        vendor="NVIDIA",
        evidence="measured",
        on="accelerator",
        workload="gemm",
        precision="bf16",
        gflops=600_000.0,
        verified=True,
        verdict=Verdict.OK,
        reason=None,
    )
    return base.to_json() | given


def told(*devices: Any, simulated: bool = False) -> tuple[Achieved, ...]:
    answer = Answer({}, (), ()).to_json() | {"devices": list(devices)}
    return achieved(json.dumps(answer), simulated=simulated)


def test_devices_of_one_kind_are_added_up() -> None:
    assert told(device(), device(gflops=500_000.0)) == (Achieved("gemm", "bf16", "accelerator", 1_100_000.0, 2, 2),)


def test_one_that_was_not_verified_counts_zero() -> None:
    bad = device(verified=False, gflops=0.0)
    assert told(device(), bad, bad | {"gflops": 9e9}) == (Achieved("gemm", "bf16", "accelerator", 600_000.0, 3, 1),)


def test_what_was_not_run_is_not_zero() -> None:
    assert told(device(verified=False, gflops=None)) == (Achieved("gemm", "bf16", "accelerator", None, 1, 0),)


def test_evidence_workloads_and_precisions_are_kept_apart() -> None:
    cpu = device(on="cpu", precision="fp32", gflops=80.0, covers=["c0", "c1"])
    made_up = device(evidence="simulated", on="nothing", verified=False, gflops=7.0)
    other = device(workload="attention", gflops=1.0)
    assert told(cpu, made_up, other, device()) == (
        Achieved("attention", "bf16", "accelerator", 1.0, 1, 1),
        Achieved("gemm", "bf16", "accelerator", 600_000.0, 1, 1),
        Achieved("gemm", "bf16", "simulated", 7.0, 1, 0),
        Achieved("gemm", "fp32", "cpu", 80.0, 2, 2),
    )


def test_what_ran_on_simulated_devices_is_simulated_whatever_it_says() -> None:
    assert told(device(), simulated=True) == (Achieved("gemm", "bf16", "simulated", 600_000.0, 1, 1),)


@pytest.mark.parametrize(
    "bad",
    [
        device(gflops="many"),
        device(gflops=-1.0),
        device(gflops=float("inf")),
        device(gflops=True),
        device(evidence="hoped"),
        device(on=None),
        device(verified="yes"),
        device(precision=""),
        device(workload=None),
        "nothing",
    ],
)
def test_half_of_a_result_is_none(bad: Any) -> None:
    assert told(device(), bad) == ()


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "7", '{"schema": "suanli/bench/1"}', "[" * 100_000])
def test_what_is_no_result_says_nothing(text: str) -> None:
    assert achieved(text, simulated=False) == ()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_whatever_stands_there_it_does_not_raise(value: Any) -> None:
    assert told(value) == ()
    assert told(device(covers=value)) != ()
