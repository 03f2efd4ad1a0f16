"""What one planning pass costs at 1,250 nodes x 8 devices. Run: `make bench`, or `pytest benchmarks/perf`.

Only shapes are asserted (what started, who would go), never a time: machines differ. Beside each figure stands, as
`extra_info["reference_steps"]`, how many steps of a fixed NumPy loop (`benchmarks.planner.timing.reference_loop`) the
same machine makes in that time, in the same run: ratios are what to compare. Figures are of this planner on the machine
that runs it, and of no accelerator. The sites are those of `suanli bench planner`, which judges them against bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.planner.cases import URGENT, WHOLE_NODE
from benchmarks.planner.fleets import (
    CLASSES,
    GIB,
    Backlog,
    Site,
    backlog_site,
    empty_site,
    mixed_site,
    one_device_site,
    waiting,
)
from benchmarks.planner.openb import ONE_DEVICE, made_up, shapes
from benchmarks.planner.timing import REFERENCE_STEPS, reference_loop, reference_step_s
from scheduler.core.decisions import PendingJob, Plan
from scheduler.core.demand import Demand
from scheduler.core.explain import Explanation, explain

NODES, PENDING, SEED = 1_250, 100_000, 0
ROUNDS, FEW = 100, 10


class Timed:
    """pytest-benchmark's fixture, and the reference step of this run."""

    def __init__(self, benchmark: BenchmarkFixture, step_s: float) -> None:
        self._benchmark = benchmark
        self._step_s = step_s

    def __call__(
        self, call: Callable[[], Plan], *, rounds: int = FEW, setup: Callable[[], object] | None = None
    ) -> Plan:
        """The last answer. `setup` is called before each round and not timed."""
        pedantic: Callable[..., Plan] = self._benchmark.pedantic
        made = pedantic(call, setup=setup, rounds=rounds, warmup_rounds=1)
        self.relate()
        return made

    def relate(self) -> None:
        self._benchmark.extra_info["reference_step_us"] = round(self._step_s * 1e6, 4)
        if self._benchmark.stats is not None:  # --benchmark-disable: called once, not timed
            steps = self._benchmark.stats.stats.median / self._step_s
            self._benchmark.extra_info["reference_steps"] = round(steps, 1)


@pytest.fixture(scope="module")
def step_s() -> float:
    return reference_step_s()


@pytest.fixture
def timed(benchmark: BenchmarkFixture, step_s: float) -> Timed:
    return Timed(benchmark, step_s)


@pytest.fixture(scope="module")
def nearly_full() -> Site:
    return mixed_site(NODES, 0.92, seed=SEED)


@pytest.fixture(scope="module")
def busy() -> Site:
    """Every device held by a job of its own, of one of three classes."""
    return one_device_site(NODES, seed=SEED, priorities=CLASSES)


@pytest.fixture(scope="module")
def long_queue() -> tuple[Site, Backlog]:
    return backlog_site(NODES, PENDING, seed=SEED)


def with_one(site: Site, job: PendingJob) -> Callable[[], Plan]:
    """A pass over the site with this job alone waiting, as the service makes one: the job comes, and goes again."""

    def arrive() -> Plan:
        site.queue.submit(job)
        made = site.plan()
        site.queue.withdraw(job.job_id)
        return made

    return arrive


def test_the_reference_loop(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["steps"] = REFERENCE_STEPS
    assert benchmark(reference_loop) == reference_loop()


@pytest.mark.parametrize(
    "wants", [{"devices": 1}, {"devices": 2}, {"devices": 0, "share_milli": 250}, {"devices": 0}], ids=str
)
def test_one_arrival_on_a_nearly_full_cluster(timed: Timed, nearly_full: Site, wants: dict[str, int]) -> None:
    job = waiting("p", (Demand(cpus_milli=4_000, memory_bytes=32 * GIB, **wants),))  # type: ignore[arg-type]
    made = timed(with_one(nearly_full, job), rounds=ROUNDS, setup=nearly_full.replace_one)
    assert len(made.starts) == 1


def test_one_arrival_that_must_wait(timed: Timed, busy: Site) -> None:
    job = waiting("p", (WHOLE_NODE,))
    made = timed(with_one(busy, job), rounds=ROUNDS, setup=busy.replace_one)
    assert made.expected_start_s["p"] > busy.now_s


@pytest.mark.parametrize("workers", [1, 16])
def test_one_arrival_that_preempts(timed: Timed, busy: Site, workers: int) -> None:
    job = waiting("p", (WHOLE_NODE,), workers=workers, priority=URGENT)
    made = timed(with_one(busy, job), setup=busy.replace_one)
    assert len(made.preemptions[0].victims) == 8 * workers


def test_a_gang_of_every_node(timed: Timed) -> None:
    site = empty_site(NODES, seed=SEED)
    made = timed(with_one(site, waiting("p", (WHOLE_NODE,), workers=NODES)))
    assert len(made.starts[0].placements) == NODES


def test_filling_the_openb_cluster(timed: Timed) -> None:
    site = Site(made_up().nodes, seed=SEED, shapes=shapes())
    for number in range(made_up().devices):
        site.queue.submit(waiting(f"f{number}", (ONE_DEVICE,), seq=number))
    assert len(timed(site.plan, rounds=3).starts) == 6_212


def test_a_pass_over_a_long_queue(timed: Timed, long_queue: tuple[Site, Backlog]) -> None:
    site, coming = long_queue

    def change() -> None:
        site.end_one()
        site.queue.submit(coming.next(site.now_s))

    made = timed(site.plan, setup=change)
    assert len(made.starts) + len(made.reasons) == len(site.queue.waiting)


def test_why_the_last_of_a_long_queue_waits(
    benchmark: BenchmarkFixture, step_s: float, long_queue: tuple[Site, Backlog]
) -> None:
    site, _ = long_queue
    job = min(site.queue.pending, key=lambda job: (job.priority, -job.seq))
    ask = partial(explain, site.cluster, site.queue, site.policy, job, now_s=site.now_s)
    call: Callable[..., Explanation] = benchmark.pedantic
    told = call(ask, rounds=3, warmup_rounds=1)
    Timed(benchmark, step_s).relate()
    assert told.reason is not None


@pytest.mark.parametrize("nodes", [125, 1_250])
def test_one_arrival_by_size_of_cluster(timed: Timed, nodes: int) -> None:
    site = mixed_site(nodes, 0.9, seed=SEED)
    job = waiting("p", (Demand(devices=1, cpus_milli=4_000),))
    made = timed(with_one(site, job), rounds=ROUNDS, setup=site.replace_one)
    assert len(made.starts) == 1
