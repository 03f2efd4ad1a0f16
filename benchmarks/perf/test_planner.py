"""What one planning pass costs at 1,250 nodes x 8 devices. Run: `pytest benchmarks/perf/test_planner.py`.

Only shapes are asserted (what started, who would go), never a time: machines differ. Figures are of this planner on the
machine that runs it, and of no accelerator.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, Queue, RunningJob
from scheduler.core.demand import Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.plan import plan

NODES, DEVICES, GIB = 1_250, 8, 2**30
NOW_S = 10_000.0


@dataclass(frozen=True, slots=True)
class Fleet:
    cluster: ClusterState
    running: tuple[RunningJob, ...]

    def plan(self, *pending: PendingJob) -> Plan:
        return plan(self.cluster, Queue(pending, self.running), Policy(), now_s=NOW_S)


def node(index: int) -> NodeFacts:
    name = f"n{index:05d}"
    devices = tuple(DeviceFacts(i, f"{name}-{i}", "H100 SXM", "nvidia", 80 * GIB, False) for i in range(DEVICES))
    return NodeFacts(name, "site", "127.0.0.1", devices, 128_000, 1024 * GIB, False)


def fleet(nodes: int, busy: float) -> Fleet:
    """Each device held with probability `busy` by a job of its own, of priority 0 to 2, ending within 2 h."""
    rng = random.Random(7)
    cluster = ClusterState(node(i) for i in range(nodes))
    running: list[RunningJob] = []
    for name in cluster.node_names:
        for device in range(DEVICES):
            if rng.random() < busy:
                job_id = f"r{len(running)}"
                placement = Placement(0, name, (device,), 0, 1000, GIB, 0)
                cluster.take(job_id, [placement])
                saved_s = NOW_S - 3_600 * rng.random()
                ends_by_s = NOW_S + 7_200 * rng.random()
                running.append(RunningJob(job_id, "t", rng.randrange(3), saved_s, ends_by_s, saved_s, (placement,)))
    return Fleet(cluster, tuple(running))


def job(workers: int = 1, priority: int = 0, **wants: int) -> PendingJob:
    return PendingJob("p", 1, "t", priority, NOW_S, workers, workers, (Demand(**wants),), 600.0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nearly_full() -> Fleet:
    return fleet(NODES, 0.92)


@pytest.fixture(scope="module")
def empty() -> Fleet:
    return fleet(NODES, 0.0)


ROUNDS, FEW = 100, 10


def measured(benchmark: BenchmarkFixture, on: Fleet, asks: PendingJob, rounds: int) -> Plan:
    pedantic: Callable[..., Plan] = benchmark.pedantic
    return pedantic(on.plan, (asks,), rounds=rounds, warmup_rounds=1)


@pytest.mark.parametrize(
    "wants", [{"devices": 1}, {"devices": 2}, {"devices": 0, "share_milli": 250}, {"devices": 0}], ids=str
)
def test_one_arrival_on_a_nearly_full_cluster(
    benchmark: BenchmarkFixture, nearly_full: Fleet, wants: dict[str, int]
) -> None:
    made = measured(benchmark, nearly_full, job(**wants), ROUNDS)
    assert len(made.starts) == 1


def test_one_arrival_that_must_wait(benchmark: BenchmarkFixture, nearly_full: Fleet) -> None:
    made = measured(benchmark, nearly_full, job(devices=8), FEW)
    assert made.expected_start_s["p"] > NOW_S


def test_one_arrival_that_preempts(benchmark: BenchmarkFixture, nearly_full: Fleet) -> None:
    made = measured(benchmark, nearly_full, job(devices=8, priority=9), FEW)
    assert made.preemptions[0].victims


def test_a_gang_of_every_node(benchmark: BenchmarkFixture, empty: Fleet) -> None:
    made = measured(benchmark, empty, job(workers=NODES, devices=8), FEW)
    assert len(made.starts[0].placements) == NODES


@pytest.mark.parametrize("nodes", [125, 1_250])
def test_one_arrival_by_size_of_cluster(benchmark: BenchmarkFixture, nodes: int) -> None:
    made = measured(benchmark, fleet(nodes, 0.9), job(devices=1), ROUNDS)
    assert len(made.starts) == 1
