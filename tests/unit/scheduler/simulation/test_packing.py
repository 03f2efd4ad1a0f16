"""The packing experiment: what arrives, what is counted, and (where the full trace is there) the published figures."""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from scheduler.core.packing.policies import PACKINGS
from scheduler.core.packing.rows import Ask
from scheduler.core.packing.shapes import Shape
from scheduler.simulation.openb import OpenbNode, OpenbPod, read_nodes, read_pods
from scheduler.simulation.packing import LEVELS, AllocationCurve, PackedNodes, PackingExperiment, PackingRun

ROOT = Path(__file__).resolve().parents[4]
SLICE = ROOT / "tests" / "data" / "openb"
FULL = ROOT.parent / "shared" / "data" / "openb"
full_trace = pytest.mark.skipif(not FULL.is_dir(), reason="the full openb trace is not beside the checkout")

WHOLE, HALF, CPU = Shape(1000, 1, 1000), Shape(1000, 1, 500), Shape(1000)


def experiment(devices: int, *pods: Shape) -> PackingExperiment:
    """One node with these devices and no lack of CPUs."""
    node = OpenbNode("n0", 10**6, 2**40, devices, "G2")
    return PackingExperiment([node], [OpenbPod(f"p{i:03}", shape) for i, shape in enumerate(pods)])


def run(of: PackingExperiment, policy: str = "best-fit", seed: int = 0, arrived_to: float = 1.3) -> PackingRun:
    ticks = count()
    return of.run(PACKINGS[policy], seed, clock=lambda: float(next(ticks)), arrived_to=arrived_to)


def sliced() -> PackingExperiment:
    return PackingExperiment(read_nodes(SLICE / "nodes.csv"), read_pods(SLICE / "pods.csv"))


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_clones_follow_all_originals_up_to_the_last_that_does_not_exceed_the_limit() -> None:
    of = experiment(10, *[WHOLE] * 4, *[HALF] * 4)
    arrivals = of.arrivals(np.random.default_rng(1), 1.3)
    assert Counter(arrivals[:8]) == {WHOLE: 4, HALF: 4}
    assert 12_000 < sum(shape.milli for shape in arrivals) <= 13_000
    assert len(arrivals) > 8


def test_too_many_pods_are_thinned_out_at_random() -> None:
    of = experiment(10, *[WHOLE] * 50)
    assert len(of.arrivals(np.random.default_rng(1), 1.3)) == 13
    assert len(of.arrivals(np.random.default_rng(1), 0.55)) == 5


def test_a_seed_gives_one_order_and_another_seed_another() -> None:
    of = sliced()
    first, again, other = (of.arrivals(np.random.default_rng(seed), 1.3) for seed in (1, 1, 2))
    assert first == again != other


def test_the_order_in_the_file_is_nothing_to_it() -> None:
    of = sliced()
    turned = PackingExperiment(of.nodes, list(reversed(of.pods)))
    assert run(of, seed=3).allocated_pct == run(turned, seed=3).allocated_pct


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_dropped_for_good() -> None:
    of = run(experiment(10, *[WHOLE] * 10))
    assert (of.placements, of.failed, of.partial) == (10, 3, False)
    assert of.allocated_pct == {80: 80.0, 90: 90.0, 100: 100.0, 110: 100.0, 120: 100.0, 130: 100.0}
    assert of.fragmentation == 0.0
    assert (of.arrived_pct, of.final_allocated_pct) == (130.0, 100.0)


def test_only_levels_that_were_reached_are_reported() -> None:
    assert list(run(experiment(10, *[WHOLE] * 10), arrived_to=1.0).allocated_pct) == [80, 90, 100]
    assert list(run(experiment(10, *[WHOLE] * 10), arrived_to=0.5).allocated_pct) == []
    assert list(run(sliced(), arrived_to=1.0).allocated_pct) == [80, 90, 100]
    half = run(experiment(10, *[WHOLE] * 10), arrived_to=0.5)
    assert (half.arrived_pct, half.final_allocated_pct) == (50.0, 50.0)


def test_a_level_is_the_mean_over_the_arrivals_that_round_to_it() -> None:
    curve = AllocationCurve(100_000)
    for arrived, allocated in ((79_000, 70_000), (700, 71_000), (300, 72_000), (499, 73_000), (501, 74_000)):
        curve.add(arrived, allocated)
    assert curve.at(LEVELS, finished=True) == {80: 72.0}
    assert curve.at((81,), finished=False) == {}


def test_an_interrupt_keeps_what_was_computed_and_says_so() -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    of = experiment(1000, *[WHOLE] * 1000)
    cut = of.run(PACKINGS["best-fit"], 0, clock=lambda: 0.0, progress=interrupt)
    assert cut.partial
    assert 0 < cut.placements < 1000
    assert cut.allocated_pct == {}
    assert cut.placements_per_s == 0.0


def test_progress_ends_with_all() -> None:
    seen: list[tuple[int, int]] = []
    experiment(10, *[WHOLE] * 10).run(
        PACKINGS["fgd"], 0, clock=lambda: 0.0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, 13)
    assert seen[-1] == (13, 13)


def test_models_are_kept_to() -> None:
    nodes = [OpenbNode("a", 10**6, 2**40, 2, "T4"), OpenbNode("b", 10**6, 2**40, 2, "G2")]
    on_t4 = Shape(1000, 1, 1000, frozenset({"T4", "P100"}))
    of = PackingExperiment(nodes, [OpenbPod(f"p{i}", on_t4) for i in range(4)])
    assert run(of, arrived_to=1.0).placements == 2
    on_both = Shape(1000, 1, 1000, frozenset({"T4", "G2"}))
    of = PackingExperiment(nodes, [OpenbPod(f"p{i}", on_both) for i in range(4)])
    assert run(of, arrived_to=1.0).placements == 4


@pytest.mark.parametrize("policy", sorted(PACKINGS))
def test_every_policy_runs_the_slice_the_same_way_twice(policy: str) -> None:
    first, again = run(sliced(), policy, seed=5), run(sliced(), policy, seed=5)
    assert first == again
    assert first.placements + first.failed == len(sliced().arrivals(np.random.default_rng(5), 1.3))
    assert all(first.allocated_pct[a] <= first.allocated_pct[b] for a, b in pairwise(LEVELS))


def test_nodes_refuse_to_be_over_committed() -> None:
    nodes = PackedNodes([OpenbNode("a", 4000, 2**30, 2, "T4")])
    ask = Ask(rows=np.ones(1, np.bool_), share_milli=600, cpus_milli=1000)
    nodes.take(0, (0,), ask)
    with pytest.raises(AssertionError, match="over-committed by 200"):
        nodes.take(0, (0,), ask)
    with pytest.raises(AssertionError, match="short of CPUs"):
        nodes.take(0, (), Ask(rows=np.ones(1, np.bool_), cpus_milli=9000))


# ---- the published figures -------------------------------------------------------------------------------------------

POLICY_OF = {
    "01-Random": "random",
    "02-DotProd": "dot-product",
    "04-GpuPacking": "gpu-packing",
    "05-BestFit": "best-fit",
    "06-FGD": "fgd",
}
TRACES = ("default", "gpushare100", "cpu250")


def published(trace: str) -> dict[str, dict[int, float]]:
    with (FULL / "published_allocation.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["workload"] == trace and row["policy"] in POLICY_OF]
    titles = {80: "allocated_pct_at_arrived_80"} | {level: f"at_{level}" for level in LEVELS[1:]}
    return {POLICY_OF[row["policy"]]: {level: float(row[title]) for level, title in titles.items()} for row in rows}


@cache
def trace(name: str) -> PackingExperiment:
    return PackingExperiment(
        read_nodes(FULL / "openb_node_list_gpu_node.csv"), read_pods(FULL / f"openb_pod_list_{name}.csv")
    )


@full_trace
@pytest.mark.parametrize("policy", ["fgd", "best-fit"])
def test_one_seed_of_the_full_trace_comes_close_to_the_published_figures(policy: str) -> None:
    found, wanted = run(trace("default"), policy, seed=1).allocated_pct, published("default")[policy]
    assert found == pytest.approx(wanted, abs=0.8)


@full_trace
def test_our_own_policy_allocates_more_than_fgd_on_one_seed() -> None:
    found, wanted = run(trace("default"), "default", seed=1).allocated_pct, published("default")["fgd"]
    assert found[100] > wanted[100]
    assert found[130] > wanted[130]


@full_trace
@pytest.mark.nightly
@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("policy", sorted(POLICY_OF.values()))
def test_ten_seeds_reproduce_the_published_figures(name: str, policy: str) -> None:
    runs = [run(trace(name), policy, seed=seed).allocated_pct for seed in range(10)]
    means = {level: fmean(each[level] for each in runs) for level in LEVELS}
    assert means == pytest.approx(published(name)[policy], abs=0.5)


@full_trace
@pytest.mark.nightly
@pytest.mark.parametrize("name", TRACES)
def test_ten_seeds_of_our_own_policy_allocate_more_than_published_fgd(name: str) -> None:
    runs = [run(trace(name), "default", seed=seed).allocated_pct for seed in range(10)]
    means = {level: fmean(each[level] for each in runs) for level in LEVELS}
    fgd = published(name)["fgd"]
    assert means[100] > fgd[100]
    assert means[130] > fgd[130]
    assert all(means[level] > fgd[level] - 0.1 for level in LEVELS)
