"""Records go to JSON and back, and a record that contradicts itself is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.evidence import Measured, MeasuredOn, Simulated
from benchmarks.protocol import Verdict, WindowOutcome
from benchmarks.record import BadRecord, DeviceRecord, WhichDevice, cases_of, device_record, measured_record
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


def test_the_whole_window_is_the_denominator_of_what_counts() -> None:
    outcome = WindowOutcome(Verdict.OK, "", 10**12, 10.0, 1_000.0, 10.01, 0.5, None, 3, 6, 3, (4e11, 5e11, 6e11), 0.1)
    which = WhichDevice("d", ("d",), None, None, "m", "v", on="cpu")
    made = measured_record(
        which, outcome, shape=(1, 1, 1), precision="fp32", products_per_batch=2, threads=1, library="x", seed=1
    )
    assert (made.gflops, made.batch_gflops_p50, made.verified) == (100.0, 500.0, True)


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
