"""Bounds, verdicts, exit codes, and the one shape of a benchmark's answer."""

from __future__ import annotations

import json

import pytest

from benchmarks.planner.answer import BOUNDS, Figure, PlannerAnswer, planner_provenance


@pytest.mark.parametrize(
    ("case", "value", "ok", "reaches_aim"),
    [
        ("arrival_p99_ms", 0.2, True, True),
        ("arrival_p99_ms", 1.0, True, False),
        ("arrival_p99_ms", 1.01, False, False),
        ("arrival_p50_ms", 99.0, None, None),
        ("fill_openb_placements_per_s", 50_000.0, True, True),
        ("fill_openb_placements_per_s", 10_000.0, True, False),
        ("fill_openb_placements_per_s", 9_999.0, False, False),
        ("explain_ms", 100.0, True, None),
        ("memory_mib", 501.0, False, False),
        ("scaling_arrival_exponent", 1.0, True, None),
        ("scaling_arrival_exponent", 1.2, False, None),
    ],
)
def test_a_figure_against_its_bounds(case: str, value: float, ok: bool | None, reaches_aim: bool | None) -> None:
    figure = Figure(case, value, 1)
    assert (figure.ok, figure.reaches_aim) == (ok, reaches_aim)


def test_what_the_issue_demands() -> None:
    demanded = {case: (bound.must, bound.aim) for case, bound in BOUNDS.items() if bound.must is not None}
    assert demanded == {
        "arrival_p99_ms": (1, 0.2),
        "fill_openb_placements_per_s": (10_000, 50_000),
        "pass_100k_pending_ms": (50, 10),
        "gang_1250x8_ms": (10, 2),
        "preemption_10k_running_ms": (20, 5),
        "preemption_gang_10k_running_ms": (20, 5),
        "memory_mib": (500, 200),
        "explain_ms": (100, None),
        "scaling_arrival_exponent": (1, None),
        "scaling_pass_exponent": (1, None),
        "scaling_gang_exponent": (1, None),
        "scaling_preemption_exponent": (1, None),
    }


GOOD, BAD, FREE = (
    Figure("gang_1250x8_ms", 2.5, 50),
    Figure("gang_1250x8_ms", 11.0, 50),
    Figure("arrival_p50_ms", 9.0, 9),
)


@pytest.mark.parametrize(
    ("figures", "partial", "code"),
    [([GOOD, FREE], False, 0), ([GOOD, BAD], False, 1), ([FREE], False, 0), ([], True, 130), ([BAD], True, 130)],
)
def test_the_exit_code(figures: list[Figure], partial: bool, code: int) -> None:
    assert PlannerAnswer({}, figures, partial).exit_code == code


def test_the_answer_has_the_shape_of_all_benchmarks() -> None:
    answer = PlannerAnswer({"seed": 3}, [Figure("gang_1250x8_ms", 2.5, 50, {"workers": 1_250}), FREE]).to_json()
    assert json.loads(json.dumps(answer)) == {
        "schema": "suanli/bench/1",
        "provenance": {
            "seed": 3,
            "repeats": {"gang_1250x8_ms": 50, "arrival_p50_ms": 9},
            "details": {"gang_1250x8_ms": {"workers": 1_250}},
        },
        "cases": [
            {"case": "gang_1250x8_ms", "value": 2.5, "unit": "ms", "must": 10, "aim": 2, "ok": True},
            {"case": "arrival_p50_ms", "value": 9.0, "unit": "ms", "must": None, "aim": None, "ok": None},
        ],
        "peers": {},
    }
    assert PlannerAnswer({}, [], partial=True).to_json()["partial"] is True


def test_provenance_says_that_no_device_was_measured() -> None:
    about = planner_provenance(seed=1, quick=True, reference_step_s=5e-7)
    assert (about["evidence"], about["on"], about["devices_measured"]) == ("measured", "cpu", 0)
    assert "no device was measured" in about["of"]
    assert (about["seed"], about["label"], about["threads"], about["torch"]) == (1, "quick", 1, None)
    assert about["reference_step_us"] == 0.5
    assert {"host", "os", "cpu", "cores", "python", "library", "commit", "generated_at", "collector"} <= about.keys()
