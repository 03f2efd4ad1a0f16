"""A window against a bare loop, on a clock that only work moves: there the cost is what was put in."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import harness as harness_module
from benchmarks.card_facts import shipped_cards
from benchmarks.cli import main
from benchmarks.harness import HarnessCost, cases_of_cost, measure_cost
from benchmarks.protocol import Fault, Shape
from benchmarks.turns import faster_half, jackknife
from benchmarks.work import Generator, Pair
from benchmarks.workloads.devices import cpu
from tests.fakes.small_work import PIECE_S, SHAPE, Break, ManualClock, SmallProducts


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


def restless(cost: HarnessCost, factors: Sequence[float]) -> HarnessCost:
    """The same windows, had the bare loop's turns taken so many times as long, one after the other."""
    of = cycle(factors)
    return replace(
        cost,
        rounds=tuple(
            replace(r, stretches=tuple(replace(s, bare_s=s.bare_s * next(of)) for s in r.stretches))
            for r in cost.rounds
        ),
    )


def test_a_machine_that_moves_by_more_than_what_is_asked_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(monkeypatch, check_s=0.001)
    assert (cost.holds, restless(cost, (0.4, 1.6)).holds) == (True, None)
    assert restless(cost, (0.97, 0.97)).holds is False  # and a miss stays a miss
    assert restless(cost, (0.9, 1.0)).holds is False
    few = replace(cost, rounds=tuple(replace(r, stretches=r.stretches[:2]) for r in cost.rounds))
    assert few.holds is None


def test_all_stretches_together_are_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(monkeypatch, check_s=0.001)
    for one in cost.rounds:
        assert sum(s.window_s for s in one.stretches) == pytest.approx(20.0)
        assert sum(s.counted for s in one.stretches) == len(one.outcome.batches)
        assert all(s.bare > 0 for s in one.stretches)
    counted = sum(r.outcome.counted for r in cost.rounds) / 60.0
    assert cost.ratio == pytest.approx(counted / (SHAPE.flop / PIECE_S))


def test_the_bare_loop_never_takes_time_or_outputs_from_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given as many outputs again, uses all of them, and comes between two batches, never right after a check."""
    told: list[tuple[str, int]] = []

    class Noted(SmallProducts):
        def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
            told.append(("batch", first_slot))
            super().run_batch(order, first_slot)

        def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
            told.append(("check", slot))
            return super().check(slot, pair, rng)

    clock = ManualClock()
    monkeypatch.setattr(harness_module, "make_work", lambda *a, **k: Noted(clock, check_s=0.001))
    cost = measure_cost(cpu(1), "fp32", clock, window_s=20.0, rounds=2, with_best=False)
    slots = cost.armed.rhythm.slots
    assert slots > 4
    assert {slot for what, slot in told if what == "batch"} == set(range(2 * slots))
    assert all(slot < slots for what, slot in told if what == "check")
    after_a_check = [b for a, b in pairwise(told) if a[0] == "check" and b[1] >= slots]
    assert len(after_a_check) == 1  # when it warmed up, behind arming
    assert cost.is_valid
    assert cost.ratio > 0.99  # the clock stood still while it ran


def test_outputs_that_stay_in_a_cache_are_a_case_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cached(SmallProducts):
        """A fifth faster where the batch before went to the same place."""

        last = -1

        def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
            self.clock.time_s -= 0.2 * self.piece_s * len(order) * (first_slot == self.last)
            self.last = first_slot
            super().run_batch(order, first_slot)

    clock = ManualClock()
    monkeypatch.setattr(harness_module, "make_work", lambda *a, **k: Cached(clock, check_s=0.001))
    cost = measure_cost(cpu(1), "fp32", clock, window_s=20.0, rounds=2, with_best=False)
    cases = {case.case: case for case in cases_of_cost(cost)}
    assert cases["verified_over_bare"].ok is True
    assert cases["verified_over_cache_hot_bare"].value == pytest.approx(0.8 * cost.ratio, rel=0.03)
    assert cases["verified_over_cache_hot_bare"].ok is None


def test_a_window_whose_batches_are_slower_than_bare_ones_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slowed(SmallProducts):
        """Slower where it writes to the window's outputs."""

        def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
            self.clock.time_s += 0.03 * self.piece_s * len(order) * (first_slot < self.own)
            super().run_batch(order, first_slot)

        @property
        def own(self) -> int:
            return len(self.c) // 2

    clock = ManualClock()
    monkeypatch.setattr(harness_module, "make_work", lambda *a, **k: Slowed(clock, check_s=0.001))
    cost = measure_cost(cpu(1), "fp32", clock, window_s=20.0, rounds=2, with_best=False)
    cases = {case.case: case for case in cases_of_cost(cost)}
    assert (cases["verified_over_bare"].ok, cases["verified_over_bare_accounted"].ok) == (False, False)
    assert cases["batches_over_bare"].value == pytest.approx(1 / 1.03, rel=0.002)


def test_what_makes_fewer_than_half_longer_does_not_move_the_faster_half() -> None:
    values = [1.0 + 0.001 * (i % 7) for i in range(100)]
    mean, error = faster_half(values)
    assert faster_half([*values[:-40], *[9.0] * 40])[0] == pytest.approx(mean, abs=0.003)
    assert 0 < error < 0.001
    assert faster_half([1.0, 3.0]) == (2.0, math.inf)
    assert math.isnan(faster_half([])[0])


def test_a_slow_batch_after_each_check_is_no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    class Evicted(SmallProducts):
        checked = False

        def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
            self.clock.time_s += 0.5 * self.piece_s * self.checked
            self.checked = False
            super().run_batch(order, first_slot)

        def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
            self.checked = True
            return super().check(slot, pair, rng)

    clock = ManualClock()
    monkeypatch.setattr(harness_module, "make_work", lambda *a, **k: Evicted(clock, check_s=0.001))
    cost = measure_cost(cpu(1), "fp32", clock, window_s=20.0, rounds=3, with_best=False)
    assert cost.holds is False
    assert cost.accounted_holds is False
    assert cost.accounted[0] == pytest.approx(cost.ratio, abs=0.005)


def test_the_jackknife_is_the_standard_error_where_that_is_known() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 3.0]
    assert jackknife(statistics.fmean, values) == pytest.approx(statistics.stdev(values) / math.sqrt(5))
    assert jackknife(statistics.fmean, values[:1]) == math.inf
