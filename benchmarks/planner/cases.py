"""The planner's hot paths, one function a case: build a site, time single calls, say what was seen.

Each function answers the figures that come from one kind of site. `CASES` lists them with the figures' names, whose
bounds are in `answer.py`. Sizes are the issue's own (1,250 nodes x 8 devices) unless a test asks for small ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.planner.answer import Figure
from benchmarks.planner.fleets import (
    CLASSES,
    Arrivals,
    Backlog,
    Site,
    backlog_site,
    empty_site,
    mixed_site,
    one_device_site,
    sixty_demands,
    waiting,
)
from benchmarks.planner.memory import MIB, measure_in_child
from benchmarks.planner.openb import ONE_DEVICE, OpenbColumns, OpenbFleet, made_up, shapes
from benchmarks.planner.timing import Elapsed, Samples, growth_exponent, in_ms, repeated, timed
from scheduler.core.decisions import PendingJob
from scheduler.core.demand import Demand
from scheduler.core.explain import explain
from scheduler.core.order import in_order
from scheduler.core.packing.policies import packing_named
from scheduler.core.packing.rows import Ask, NodeKinds
from scheduler.core.packing.scorer import Scorer

LEVELS = (0.60, 0.70, 0.80, 0.90, 0.95)
WHOLE_NODE = Demand(devices=8, cpus_milli=64_000)
URGENT = 9
ONCE = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the sites are, and how often what is timed."""

    nodes: int = 1_250
    pending: int = 100_000
    urgent_workers: int = 16
    arrivals_a_level: int = 500
    fills: int = 5
    passes: int = 30
    gangs: int = 50
    preemptions: int = 40
    explanations: int = 5
    scaling_nodes: tuple[int, ...] = (125, 1_250, 12_500)
    scaling_pending: int = 20_000
    scaling_arrivals: int = 200
    scaling_repeats: int = 10


FULL = Sizes()
QUICK = Sizes(
    arrivals_a_level=100,
    fills=2,
    passes=8,
    gangs=10,
    preemptions=8,
    explanations=2,
    scaling_nodes=(125, 1_250),
    scaling_pending=5_000,
    scaling_arrivals=60,
    scaling_repeats=5,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a case is told. `each` hears how far the case is, 0 to 1."""

    seed: int = 0
    sizes: Sizes = FULL
    openb: OpenbFleet = field(default_factory=made_up)
    each: Callable[[float], None] = lambda share: None


# ---- one arrival -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """How long plan() took by what became of the arrival, and with the updates before and after it."""

    started: list[Elapsed] = field(default_factory=list)
    waits: list[Elapsed] = field(default_factory=list)
    with_updates: list[Elapsed] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)

    @property
    def all(self) -> list[Elapsed]:
        return self.started + self.waits


def _arrive(site: Site, arrivals: Arrivals, count: int, level: float, seen: _Seen, *, warmup: int) -> None:
    """So many arrivals, one after the other, each carried out before the next: a job that starts takes its devices, and
    old ones end until the level is reached again. One that must wait is withdrawn, and an old job ends as well."""
    for number in range(-warmup, count):
        job = arrivals.next(site.now_s)
        site.now_s += 0.05
        _, submitted = timed(partial(site.queue.submit, job))
        made, planned = timed(site.plan)
        started, carried_out = timed(partial(site.carry_out, made))
        if not started:
            site.queue.withdraw(job.job_id)
        elif not started[0].milli:
            site.end_one(with_devices=False)
        if started:
            site.end_down_to(level)
        else:
            site.end_one()
        if number >= 0:
            (seen.started if started else seen.waits).append(planned)
            seen.with_updates.append(submitted + planned + carried_out)
            seen.levels.append(site.level)


def arrivals(bench: Bench) -> Sequence[Figure]:
    """One job arrives on a cluster that is 60 to 95% full; nobody else waits."""
    seen = _Seen()
    by_level: dict[str, object] = {}
    for number, level in enumerate(LEVELS):
        site = mixed_site(bench.sizes.nodes, level, seed=bench.seed)
        here = _Seen()
        coming = Arrivals(bench.seed, prefix=f"a{number}-")
        _arrive(site, coming, bench.sizes.arrivals_a_level, level, here, warmup=bench.sizes.arrivals_a_level // 10)
        by_level[f"at {level:.0%}"] = Samples.of(here.all).told() | {
            "waited": len(here.waits),
            "mean_level": round(statistics.fmean(here.levels), 4),
        }
        seen.started += here.started
        seen.waits += here.waits
        seen.with_updates += here.with_updates
        bench.each((number + 1) / len(LEVELS))
    every = Samples.of(seen.all)
    figures = [
        Figure("arrival_p99_ms", in_ms(every.p99_s), len(every), every.told() | by_level),
        Figure("arrival_p50_ms", in_ms(every.p50_s), len(every)),
    ]
    for case, calls in (
        ("arrival_started_p99_ms", seen.started),
        ("arrival_waits_p99_ms", seen.waits),
        ("arrival_with_updates_p99_ms", seen.with_updates),
    ):
        if calls:
            samples = Samples.of(calls)
            figures.append(Figure(case, in_ms(samples.p99_s), len(samples), samples.told()))
    return figures


# ---- filling a cluster -------------------------------------------------------------------------------------------


def fill(bench: Bench) -> Sequence[Figure]:
    """One-device jobs, as many as the openb cluster has devices, in one pass of the default policy; each time on a
    cluster that the planner has not seen before."""
    fleet, calls = bench.openb, []
    jobs = [waiting(f"f{i}", (ONE_DEVICE,), seq=i) for i in range(fleet.devices)]
    for number in range(bench.sizes.fills + 1):
        site = Site(fleet.nodes, seed=bench.seed, shapes=shapes())
        for job in jobs:
            site.queue.submit(job)
        made, elapsed = timed(site.plan)
        assert len(made.starts) == fleet.devices, f"{len(made.starts)} of {fleet.devices} devices were filled"
        if number:  # the first is the warm-up
            calls.append(elapsed)
        bench.each((number + 1) / (bench.sizes.fills + 1))
    seen = Samples.of(calls)
    details = {"cluster": fleet.origin, "nodes": len(fleet.nodes), "placements": fleet.devices, "pass": seen.told()}
    return [Figure("fill_openb_placements_per_s", round(fleet.devices / seen.p50_s, 1), len(seen), details)]


def fill_packing(bench: Bench) -> Sequence[Figure]:
    """The same through the packing policy alone, as the packing experiment asks it."""
    fleet = bench.openb
    nodes = Site(fleet.nodes, seed=bench.seed, shapes=shapes()).cluster.nodes
    kinds, tie_rank = NodeKinds.of(nodes), nodes.tie_rank(bench.seed)

    def fill_it() -> int:
        free, placed = OpenbColumns(fleet.nodes), 0
        ask = Ask(kinds.device_count > 0, 1, 0, ONE_DEVICE.cpus_milli, ONE_DEVICE.memory_bytes)
        scorer = Scorer(packing_named("default"), kinds, shapes(), tie_rank, nodes.max_devices)
        while (row := scorer.best(free, ask)) is not None:
            free.take(row, scorer.devices(free, row, ask), ask)
            placed += 1
        return placed

    assert fill_it() == fleet.devices, "the policy alone does not fill the cluster"
    seen = repeated(fill_it, bench.sizes.fills, warmup=0, each=bench.each)
    return [Figure("fill_openb_packing_per_s", round(fleet.devices / seen.p50_s, 1), len(seen), {"fill": seen.told()})]


# ---- a long queue ------------------------------------------------------------------------------------------------


def long_queue(bench: Bench) -> Sequence[Figure]:
    """A pass over many waiting jobs of sixty distinct demands on a full cluster: the first, one after a job ended and
    another came, and one where nothing changed."""
    site, coming = backlog_site(bench.sizes.nodes, bench.sizes.pending, seed=bench.seed)
    made, first = timed(site.plan)
    assert not made.starts, f"{len(made.starts)} jobs started on a full cluster"
    assert not made.preemptions, f"{len(made.preemptions)} jobs may preempt"
    unchanged = repeated(site.plan, bench.sizes.passes, each=lambda share: bench.each(share / 2))
    changed, started = _passes(site, coming, bench.sizes.passes, lambda share: bench.each(0.5 + share / 2))
    details = changed.told() | {
        "pending": len(site.queue.waiting),
        "demands": len(sixty_demands()),
        "kinds": len(list(site.queue.waiting.kinds())),
        "running": len(site.queue.holding),
        "started_a_pass": round(started / len(changed), 2),
    }
    return [
        Figure("pass_100k_pending_ms", in_ms(changed.p50_s), len(changed), details),
        Figure("pass_100k_unchanged_ms", in_ms(unchanged.p50_s), len(unchanged), unchanged.told()),
        Figure("pass_100k_first_ms", in_ms(first.wall_s), 1, {"cpu_ms": in_ms(first.cpu_s)}),
    ]


def _passes(site: Site, coming: Backlog, count: int, each: Callable[[float], None]) -> tuple[Samples, int]:
    """Passes, before each of which a job has ended and another has come, and how many jobs they started."""
    calls, started = [], 0
    for number in range(-1, count):
        site.now_s += 1.0
        site.end_one()
        site.queue.submit(coming.next(site.now_s))
        made, elapsed = timed(site.plan)
        starts = site.carry_out(made)
        if number >= 0:
            calls.append(elapsed)
            started += len(starts)
        each((number + 2) / (count + 1))
    return Samples.of(calls), started


def explanations(bench: Bench) -> Sequence[Figure]:
    """The whole answer to why a job waits: for the first, the middle and the last of a long queue on a full cluster."""
    site, _ = backlog_site(bench.sizes.nodes, bench.sizes.pending, seed=bench.seed)
    held = site.queue.held.shares(site.cluster.totals)
    line = in_order(site.queue.pending, site.policy, site.queue.usage, held, site.now_s)
    asked = {"head": line[0], "middle": line[len(line) // 2], "last": line[-1]}
    figures = []
    for number, (place, job) in enumerate(asked.items()):
        seen = repeated(partial(_explain, site, job), bench.sizes.explanations)
        figures.append(Figure(f"explain_{place}_ms", in_ms(seen.p50_s), len(seen), seen.told()))
        bench.each((number + 1) / len(asked))
    slowest = max(figures, key=lambda figure: figure.value)
    return [Figure("explain_ms", slowest.value, slowest.repeats, {"of": slowest.case}), *figures]


def _explain(site: Site, job: PendingJob) -> None:
    answer = explain(site.cluster, site.queue, site.policy, job, now_s=site.now_s)
    assert answer.reason is not None, f"{job.job_id} would start on a full cluster"


# ---- large gangs and preemption ----------------------------------------------------------------------------------


def gang(bench: Bench) -> Sequence[Figure]:
    """A gang with a worker of eight devices on every node of an empty cluster."""
    seen, first = _gangs(bench.sizes.nodes, bench.sizes.gangs, bench)
    details = seen.told() | {"first_ms": in_ms(first.wall_s), "workers": bench.sizes.nodes}
    return [Figure("gang_1250x8_ms", in_ms(seen.p50_s), len(seen), details)]


def _gangs(nodes: int, repeats: int, bench: Bench) -> tuple[Samples, Elapsed]:
    site = empty_site(nodes, seed=bench.seed)
    site.queue.submit(waiting("gang", (WHOLE_NODE,), workers=nodes))
    made, first = timed(site.plan)
    assert [len(start.placements) for start in made.starts] == [nodes], "the gang does not start whole"
    return repeated(site.plan, repeats, each=bench.each), first


def preemption(bench: Bench) -> Sequence[Figure]:
    """An urgent job, and an urgent gang, whose room must be made among jobs of one device each."""
    site = one_device_site(bench.sizes.nodes, seed=bench.seed, priorities=CLASSES)
    figures = []
    for number, (case, workers) in enumerate(
        (("preemption_10k_running_ms", 1), ("preemption_gang_10k_running_ms", bench.sizes.urgent_workers))
    ):
        seen = _preemptions(site, workers, bench.sizes.preemptions)
        details = seen.told() | {"running": len(site.queue.holding), "workers": workers}
        figures.append(Figure(case, in_ms(seen.p50_s), len(seen), details))
        bench.each((number + 1) / 2)
    return figures


def _preemptions(site: Site, workers: int, repeats: int) -> Samples:
    """A running job is replaced before each, so that nothing is as the last pass left it; nobody is really stopped."""
    site.queue.submit(waiting("urgent", (WHOLE_NODE,), workers=workers, priority=URGENT))
    wanted, calls = workers * WHOLE_NODE.devices, []
    for number in range(-2, repeats):
        site.replace_one()
        made, elapsed = timed(site.plan)
        victims = [len(preempt.victims) for preempt in made.preemptions]
        assert victims == [wanted], f"{victims} victims for {wanted} devices"
        if number >= 0:
            calls.append(elapsed)
    site.queue.withdraw("urgent")
    return Samples.of(calls)


# ---- memory ------------------------------------------------------------------------------------------------------


def memory(bench: Bench) -> Sequence[Figure]:
    """Every device held by a job of its own, and a long queue: what the process grows by, with a pass over it."""
    use = measure_in_child(bench.sizes.nodes, bench.sizes.pending, bench.seed)
    bench.each(1.0)
    details = {
        "kind": use.kind,
        "baseline_mib": round(use.baseline_bytes / MIB, 1),
        "built_mib": round((use.built_bytes - use.baseline_bytes) / MIB, 1),
        "devices": use.devices,
        "pending": use.pending,
        "running": use.running,
    }
    return [Figure("memory_mib", round(use.growth_mib, 1), ONCE, details)]


# ---- growth with the nodes ---------------------------------------------------------------------------------------


def scaling_arrival(bench: Bench) -> Sequence[Figure]:
    """One arrival on a cluster that is 90% full."""

    def samples(nodes: int) -> Samples:
        seen = _Seen()
        site = mixed_site(nodes, 0.9, seed=bench.seed)
        _arrive(site, Arrivals(bench.seed), bench.sizes.scaling_arrivals, 0.9, seen, warmup=20)
        return Samples.of(seen.all)

    return _growth("scaling_arrival_exponent", samples, bench)


def scaling_pass(bench: Bench) -> Sequence[Figure]:
    """A pass over as long a queue on each, a job on every device."""

    def samples(nodes: int) -> Samples:
        site, coming = backlog_site(nodes, bench.sizes.scaling_pending, seed=bench.seed)
        seen, _ = _passes(site, coming, bench.sizes.scaling_repeats, lambda share: None)
        return seen

    return _growth("scaling_pass_exponent", samples, bench)


def scaling_gang(bench: Bench) -> Sequence[Figure]:
    """A gang with a worker on every node: it grows with the cluster."""

    def samples(nodes: int) -> Samples:
        quiet = Bench(bench.seed, bench.sizes, bench.openb)
        return _gangs(nodes, bench.sizes.scaling_repeats, quiet)[0]

    return _growth("scaling_gang_exponent", samples, bench)


def scaling_preemption(bench: Bench) -> Sequence[Figure]:
    """Room for an urgent eight-device job, among as many running jobs as there are devices."""

    def samples(nodes: int) -> Samples:
        site = one_device_site(nodes, seed=bench.seed, priorities=CLASSES)
        return _preemptions(site, 1, bench.sizes.scaling_repeats)

    return _growth("scaling_preemption_exponent", samples, bench)


def _growth(case: str, samples: Callable[[int], Samples], bench: Bench) -> Sequence[Figure]:
    """From medians of the thread's own time: where others share the core, the wall clock hits long calls only."""
    by_nodes: dict[int, float] = {}
    details: dict[str, object] = {}
    for number, nodes in enumerate(bench.sizes.scaling_nodes):
        seen = samples(nodes)
        by_nodes[nodes] = seen.quantile_s(0.5, cpu=True)
        details[f"{nodes} nodes"] = seen.told()
        bench.each((number + 1) / len(bench.sizes.scaling_nodes))
    details["last_step"] = round(growth_exponent(dict(list(by_nodes.items())[-2:])), 3)
    return [Figure(case, round(growth_exponent(by_nodes), 3), len(by_nodes), details)]


CASES: Mapping[Callable[[Bench], Sequence[Figure]], tuple[str, ...]] = {
    arrivals: (
        "arrival_p99_ms",
        "arrival_p50_ms",
        "arrival_started_p99_ms",
        "arrival_waits_p99_ms",
        "arrival_with_updates_p99_ms",
    ),
    fill: ("fill_openb_placements_per_s",),
    fill_packing: ("fill_openb_packing_per_s",),
    long_queue: ("pass_100k_pending_ms", "pass_100k_unchanged_ms", "pass_100k_first_ms"),
    gang: ("gang_1250x8_ms",),
    preemption: ("preemption_10k_running_ms", "preemption_gang_10k_running_ms"),
    memory: ("memory_mib",),
    explanations: ("explain_ms", "explain_head_ms", "explain_middle_ms", "explain_last_ms"),
    scaling_arrival: ("scaling_arrival_exponent",),
    scaling_pass: ("scaling_pass_exponent",),
    scaling_gang: ("scaling_gang_exponent",),
    scaling_preemption: ("scaling_preemption_exponent",),
}
"""Which function answers which figures."""
