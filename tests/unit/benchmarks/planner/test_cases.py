"""Every case, on sites so small that only its shape is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from benchmarks.planner.answer import BOUNDS, Figure
from benchmarks.planner.cases import CASES, FULL, QUICK, Bench, Sizes
from benchmarks.planner.memory import measure_in_child, resident_bytes
from benchmarks.planner.openb import fleet_of
from benchmarks.planner.run import run_planner


@dataclass(frozen=True)
class Row:
    name: str
    devices: int
    model: str = "T4"
    cpus_milli: int = 64_000
    memory_bytes: int = 2**38


TINY = Bench(
    seed=1,
    sizes=Sizes(
        nodes=12,
        pending=200,
        urgent_workers=2,
        arrivals_a_level=10,
        fills=1,
        passes=3,
        gangs=2,
        preemptions=2,
        explanations=1,
        scaling_nodes=(4, 8),
        scaling_pending=100,
        scaling_arrivals=5,
        scaling_repeats=2,
    ),
    openb=fleet_of([Row("a", 8), Row("b", 2), Row("c", 1)], "test"),
)


def test_every_bound_has_its_case_and_every_case_its_bound() -> None:
    assert sorted(name for names in CASES.values() for name in names) == sorted(BOUNDS)


def test_sizes_are_those_of_the_issue() -> None:
    for sizes in (FULL, QUICK):
        assert (sizes.nodes, sizes.pending) == (1_250, 100_000)
    assert FULL.scaling_nodes == (125, 1_250, 12_500)
    assert FULL.arrivals_a_level * 5 >= 2_000


@pytest.mark.parametrize("run", CASES, ids=lambda run: run.__name__)
def test_a_case_answers_its_figures(run: Callable[[Bench], Sequence[Figure]]) -> None:
    shares: list[float] = []
    figures = run(Bench(TINY.seed, TINY.sizes, TINY.openb, shares.append))
    optional = {"arrival_waits_p99_ms"}  # so few arrivals may all start
    assert {figure.case for figure in figures} | optional == set(CASES[run]) | optional
    assert all(math.isfinite(figure.value) and figure.repeats > 0 for figure in figures)
    assert all(figure.value > 0 for figure in figures if "exponent" not in figure.case)
    assert (shares[-1], shares) == (1.0, sorted(shares))


def test_only_what_is_wanted_is_answered_in_the_order_of_bounds() -> None:
    answer = run_planner(TINY, wanted=["gang_1250x8_ms", "arrival_p50_ms"])
    assert [figure.case for figure in answer.figures] == ["arrival_p50_ms", "gang_1250x8_ms"]
    assert not answer.partial


def test_a_name_that_is_no_case_is_refused() -> None:
    with pytest.raises(KeyError):
        run_planner(TINY, wanted=["arrival"])


def test_an_interrupt_keeps_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(bench: Bench) -> Sequence[Figure]:
        raise KeyboardInterrupt

    done = (Figure("gang_1250x8_ms", 1.0, 1),)
    monkeypatch.setattr(
        "benchmarks.planner.run.CASES", {lambda bench: done: ("gang_1250x8_ms",), interrupted: ("memory_mib",)}
    )
    answer = run_planner(TINY)
    assert (tuple(answer.figures), answer.partial, answer.exit_code) == (done, True, 130)


def test_progress_rises_over_all_cases() -> None:
    heard: list[tuple[str, float]] = []
    run_planner(TINY, wanted=["gang_1250x8_ms", "preemption_10k_running_ms"], progress=lambda *said: heard.append(said))
    shares = [share for _, share in heard]
    assert (shares, shares[0], shares[-1]) == (sorted(shares), 0.0, 1.0)
    assert {what for what, _ in heard} == {"gang_1250x8_ms", "preemption_10k_running_ms"}


def test_a_case_that_would_not_be_what_it_says_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gang that starts in part, a cluster that is not filled: no figure is better than a wrong one."""
    monkeypatch.setattr("benchmarks.planner.fleets.Site.plan", lambda site: type("Nothing", (), {"starts": ()})())
    with pytest.raises(AssertionError, match="devices were filled"):
        run_planner(TINY, wanted=["fill_openb_placements_per_s"])


def test_memory_is_of_a_process_of_its_own() -> None:
    use = measure_in_child(nodes=4, pending=50, seed=0)
    assert (use.devices, use.pending, use.running) == (32, 50, 32)
    assert use.kind in ("pss", "rss")
    assert use.baseline_bytes > 2**20


def test_a_failed_child_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"memory is measured failed: .*Error"):
        measure_in_child(nodes=1, pending=-1, seed=0)


def test_resident_memory_grows_with_what_is_kept() -> None:
    _, before = resident_bytes()
    kept = b"x" * 2**25
    assert resident_bytes()[1] - before > len(kept) // 2
