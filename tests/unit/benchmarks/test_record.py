"""Records go to JSON and back, and a record that contradicts itself is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.evidence import Measured, MeasuredOn, Simulated
from benchmarks.protocol import Verdict
from benchmarks.record import BadRecord, DeviceRecord, cases_of, device_record, is_invalid
from tests.fakes.bench_records import cpu, failed, record, simulated

EACH = (record(), failed("gpu-1", Verdict.WRONG_PRODUCT, "residual"), cpu(), simulated("s"), simulated("t", None))


@pytest.mark.parametrize("one", EACH)
def test_a_record_survives_json(one: DeviceRecord) -> None:
    assert device_record(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gflops": "many"}, "gflops"),
        ({"gflops": float("nan")}, "gflops"),
        ({"gflops": -1.0}, "gflops"),
        ({"evidence": "nominal"}, "evidence"),
        ({"evidence": "simulated"}, "contradict"),
        ({"on": "nothing"}, "contradict"),
        ({"verdict": "fine"}, "verdict"),
        ({"verdict": "late_start"}, "verified"),
        ({"verified": False}, "gflops is not 0"),
        ({"verified": 1}, "verified"),
        ({"covers": []}, "covers"),
        ({"covers": [1]}, "covers"),
        ({"shape": [1, 2]}, "shape"),
        ({"samples": -1}, "samples"),
        ({"model": None}, "model"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRecord, match=told):
        device_record(record().to_json() | change)


def test_a_newer_writers_field_is_left_aside() -> None:
    assert device_record(record().to_json() | {"added_later": 1}) == record()


def test_the_rate_has_the_evidence_of_its_record() -> None:
    assert record(gflops=1.0).rate() == Measured(1e9, MeasuredOn.ACCELERATOR)
    assert cpu(gflops=1.0).rate() == Measured(1e9, MeasuredOn.CPU)
    assert simulated("s", 1.0).rate() == Simulated(1e9)
    assert simulated("s", None).rate() is None
    assert [r.should_count() for r in EACH] == [True, True, False, False, False]


def test_what_a_card_cannot_do_is_no_failure_of_it() -> None:
    cannot = failed("gpu-1", Verdict.UNAVAILABLE, "fp8 is measured on NVIDIA cards", precision="fp8")
    assert [is_invalid(r) for r in (*EACH, cannot)] == [False, True, False, False, False, False]
    cases = {c.case: c.value for c in cases_of([record(), record("gpu-1"), cannot])}
    assert (cases["devices_invalid"], cases["measured_accelerators"]) == (0, 2)


def test_several_precisions_are_never_added() -> None:
    made = [record(gflops=1e6), record(gflops=2e6, precision="fp8"), record(gflops=3e6, precision="int8")]
    made.append(record(gflops=None, workload="bandwidth", precision="fp32", value=4000.0, unit="GB/s"))
    cases = {c.case: (c.value, c.unit) for c in cases_of(made)}
    assert cases["measured_accelerator_pflops"] == (1.0, "PFlops")
    assert cases["accelerator_gemm_fp8"] == (2e6, "GFLOP/s")
    assert cases["accelerator_bandwidth_fp32"] == (4000.0, "GB/s")
    assert cases["measured_accelerators"] == (1, "devices")


def test_cases_keep_evidence_apart_and_are_null_where_nothing_was_run() -> None:
    cases = {c.case: c for c in cases_of(EACH, not_covered=3)}
    assert {name: c.value for name, c in cases.items()} == {
        "measured_accelerator_pflops": 0.8,
        "measured_accelerators": 2,
        "cpu_gflops": 120.0,
        "simulated_pflops": 0.78,
        "simulated_devices": 2,
        "devices_verified": 3,
        "devices_invalid": 1,
        "devices_not_covered": 3,
        "detection_probability_min": 0.03,
    }
    assert (cases["devices_invalid"].must, cases["devices_invalid"].ok) == (0, False)
    nothing = {c.case: c.value for c in cases_of([])}
    assert [nothing[n] for n in ("measured_accelerator_pflops", "cpu_gflops", "simulated_pflops")] == [None] * 3
