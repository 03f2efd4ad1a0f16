"""A window against a bare loop, on a clock that only work moves: there the cost is what was put in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import harness as harness_module
from benchmarks.card_facts import shipped_cards
from benchmarks.cli import main
from benchmarks.harness import HarnessCost, cases_of_cost, measure_cost
from benchmarks.protocol import Shape
from benchmarks.workloads.devices import cpu
from tests.fakes.small_work import Break, ManualClock, SmallProducts


def cost_of(monkeypatch: pytest.MonkeyPatch, fault: Break | None = None, **more: float) -> HarnessCost:
    clock = ManualClock()
    monkeypatch.setattr(harness_module, "make_work", lambda *a, **k: SmallProducts(clock, fault, **more))  # type: ignore[arg-type]
    return measure_cost(cpu(1), "fp32", clock, window_s=20.0, rounds=3, with_best=False)


def test_verification_stays_below_what_it_may_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(monkeypatch, check_s=0.005)
    cases = {case.case: case for case in cases_of_cost(cost)}
    assert cases["verified_over_bare"].ok is True
    assert 0.99 < cost.ratio < 1.0
    assert 0.002 < (cases["verification_share"].value or 0) < 0.006
    assert cases["windows_valid"].value == 3


def test_a_window_that_does_not_count_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(monkeypatch, lambda w, order, slot: None)
    cases = {case.case: case for case in cases_of_cost(cost)}
    assert (cases["verified_over_bare"].value, cases["verified_over_bare"].ok) == (None, False)
    assert cases["windows_valid"].value == 0
    assert not cost.is_valid


def test_the_verb_says_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness_module, "CPU_SHAPES", (Shape(64, 64, 64),))
    done = CliRunner().invoke(main, ["harness", "--window", "0.3", "--rounds", "1", "-o", "json"])
    answer = json.loads(done.stdout)
    assert {"verified_over_bare", "bare_gflops", "arming_s"} <= {c["case"] for c in answer["cases"]}
    assert set(answer["peers"]) == {"bare-loop", "best-of-shapes"}
    assert answer["peers"]["best-of-shapes"]["gflops"] > 0


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["run", "--workloads", "gemn"], "no workload is called 'gemn'; there are gemm"),
        (["run", "--precision", "bf16,fp4"], "no precision is called 'fp4'"),
        (["run", "--precision", "fp8"], "leave it out of --precision"),
        (["run", "--window", "0"], "--window"),
        (["run", "--window", "5000"], "--window"),
        (["harness", "--precision", "tf32"], "A100 and later"),
        (["run", "--workloads", "attention", "--precision", "int8"], "attention is measured in"),
    ],
)
def test_what_there_is_not_is_said(argv: list[str], told: str) -> None:
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == 2
    assert told in done.stderr


def test_flop_per_clock_times_a_possible_clock_is_the_peak() -> None:
    cards = shipped_cards()
    known = {model: facts for model, facts in cards.items() if facts.flop_per_clock}
    assert {"A100 SXM 80GB", "H100 SXM", "H200 SXM", "MI300X"} <= set(known)
    for model, facts in known.items():
        for precision, per_clock in facts.flop_per_clock.items():
            if precision in facts.peak_tflops:
                gigahertz = facts.peak_tflops[precision] * 1e3 / per_clock
                assert 1.2 < gigahertz < 2.6, (model, precision, gigahertz)


def test_a_catalogue_that_is_not_there_knows_nothing(tmp_path: Path) -> None:
    assert shipped_cards(tmp_path / "none.csv") == {}


def test_rounds_that_differ_by_more_than_what_is_asked_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(monkeypatch)
    restless = replace(
        cost, rounds=tuple(replace(r, bare=r.bare * f) for r, f in zip(cost.rounds, (0.9, 1.0, 1.1), strict=True))
    )
    assert (cost.holds, restless.holds) == (True, None)
    assert restless.accounted == cost.accounted > 0.99
    slow = replace(cost, rounds=tuple(replace(r, bare=r.bare * 1.1) for r in cost.rounds))
    assert slow.holds is False
