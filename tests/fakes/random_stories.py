"""Random clusters, queues and stories, for property tests of the planner.

A table comes with all that policies look at: islands, racks, sites, labels, MIG instances, simulated nodes, mixed
models, tenants with quotas, reservations. A story is a list of steps, each called with the table. Small on purpose:
what a planner does wrong it does wrong with three nodes too, and the failing example can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st

from scheduler.core.decisions import Policy
from scheduler.core.demand import Level
from scheduler.core.packing.shapes import Shape, TypicalShapes
from tests.fakes.cluster_table import ClusterTable, cluster, demand, node_facts

Job = dict[str, object]
Step = Callable[[ClusterTable], object]

PACKINGS = ["default", "default", "fgd", "best-fit", "dot-product", "gpu-packing"]
TYPICAL = TypicalShapes.of_counts({Shape(1_000, 1, 1_000): 3.0, Shape(1_000, 1, 250): 2.0, Shape(3_000, 4, 1_000): 1.0})

# One wish at a time, and mostly none: nodes that have all of several are rare, and so would be jobs that start.
KINDS: list[dict[str, object]] = [
    *([{}] * 8),
    {"model": "H100 SXM"},
    {"model": "A100"},
    {"vendor": "nvidia"},
    {"simulated": True},
    {"simulated": True, "model": "H100 SXM"},
    {"node": "n0"},
    {"site": "south"},
    {"mig": "1g.10gb"},
    {"labels": {"disk": "ssd"}},
    {"device_labels": {"link": "fast"}},
]
CONSTRAINTS: list[dict[str, object]] = [
    *([{}] * 8),
    *({"within": level} for level in Level),
    *({"one_per": level} for level in Level),
    *({"spread": level} for level in Level),
    {"within": Level.RACK, "one_per": Level.NODE},
    {"within": Level.SITE, "spread": Level.RACK},
    {"within": Level.ISLAND, "one_per": Level.NODE},
    {"within": Level.NODE, "one_per": Level.ISLAND, "beside": ("n0",)},
    {"one_per": Level.NODE, "beside": ("n0",)},
    {"spread": Level.ISLAND, "beside": ("n1", "a0", "gone")},
    {"name": "web", "apart_from": ("web",)},
    {"name": "web"},
    {"name": "db", "apart_from": ("web",)},
    {"reservation": "night"},
    {"reservation": "night"},
]

demands = st.builds(
    lambda devices, share, cpus, memory_gib, kind: demand(
        devices, share=share, cpus=cpus, memory_gib=memory_gib, **kind
    ),
    st.sampled_from([1, 1, 2, 2, 3, 4, 0]),
    st.sampled_from([0, 0, 0, 0, 0.25, 0.6]),
    st.sampled_from([1, 1, 0, 3]),
    st.sampled_from([0, 0, 2]),
    st.sampled_from(KINDS),
)
limits = st.sampled_from([None, 5.0, 20.0, 60.0, 200.0])


@st.composite
def jobs(draw: st.DrawFn, *, tenants: str = "tuv", constrained: bool = True, lowest: int = 0) -> Job:
    """Arguments of ClusterTable.submit(), but for the id and the alternatives, which stand under "alternatives"."""
    least = draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
    job: Job = {
        "alternatives": draw(st.lists(demands, min_size=1, max_size=2)),
        "workers": (least, least + draw(st.sampled_from([0, 0, 0, 1, 2]))),
        "priority": draw(st.integers(lowest, 2)),
        "limit": draw(limits),
        "tenant": draw(st.sampled_from(tenants)),
        "may_preempt": draw(st.sampled_from([True, True, True, False])),
        "holds_slo": draw(st.sampled_from([False, False, False, True])),
        "due_in": draw(st.sampled_from([None, None, None, 50.0, 10.0])),
        "waited": draw(st.sampled_from([0.0, 0.0, 5.0, 100.0])),
    }
    return job | draw(st.sampled_from(CONSTRAINTS)) if constrained else job


def submit(table: ClusterTable, job: Job) -> None:
    given = dict(job)
    alternatives = given.pop("alternatives")
    table.submit(f"j{table._seq}", *alternatives, **given)  # type: ignore[misc, arg-type]


policies = st.builds(
    Policy,
    tie_seed=st.integers(0, 9),
    packing=st.sampled_from(PACKINGS),
    preemption=st.sampled_from([True, True, False]),
    backfill=st.sampled_from(["easy", "easy", "conservative", "none"]),
    min_run_before_preemption_s=st.sampled_from([0.0, 0.0, 15.0]),
    non_preempting=st.sampled_from([frozenset(), frozenset(), frozenset({1})]),
    starve_after_s=st.sampled_from([86_400.0, 30.0]),
    reservation_depth=st.sampled_from([64, 2]),
    min_run_before_growth_s=st.sampled_from([600.0, 10.0]),
)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterTable:
    """Nodes of several kinds, nothing running, and a policy without tenants and reservations."""
    islands = draw(st.sampled_from([None, None, ["x", "x", "y", "y"], "z"]))
    racks = [draw(st.sampled_from([None, "r0", "r1"])) for _ in range(2)]
    table = cluster(nodes=0)
    for i in range(draw(st.sampled_from([1, 2, 2, 0]))):
        labels = {"disk": "ssd"} if draw(st.booleans()) else {}
        table.state.add_node(node_facts(f"n{i}", 4, cpus=8, memory_gib=8, rack=racks[i], island=islands, labels=labels))
    fast = {"link": "fast"} if draw(st.booleans()) else {}
    table.nodes(
        draw(st.integers(0, 2)),
        3,
        "a",
        model="A100",
        site="south",
        cpus=4,
        memory_gib=8,
        device_labels=fast,
        rack=racks[0],
    )
    table.nodes(draw(st.integers(0, 1)), 2, "m", model=["A100", "H100 SXM"], cpus=4, memory_gib=8)
    if draw(st.booleans()):
        table.nodes(1, 4, "g", mig=[None, "1g.10gb", "1g.10gb", "1g.10gb"], cpus=8, memory_gib=8, rack=racks[1])
    table.nodes(draw(st.integers(0, 2)), 4, "s", simulated=True, cpus=8, memory_gib=8)
    table.settings = draw(policies)
    if draw(st.booleans()):
        table.state.set_shapes(TYPICAL)
    return table


@st.composite
def tables(draw: st.DrawFn, *, tenants: str = "tuv", constrained: bool = True, most_jobs: int = 8) -> ClusterTable:
    """A cluster, tenants' quotas, reservations, jobs that run already, and waiting ones."""
    table = draw(clusters())
    for i in range(draw(st.integers(0, 5))):
        devices, limit = draw(st.sampled_from([4, 2, 1, 3])), draw(st.sampled_from([None, 200.0, 20.0]))
        elastic = draw(st.sampled_from([0, 0, 1]))
        tenant = draw(st.sampled_from(tenants))
        table.submit(f"r{i}", devices=devices, limit=limit, workers=(1, 1 + elastic), tenant=tenant, simulated=i == 4)
    plan_and_apply(table.after(draw(st.sampled_from([0.0, 30.0]))))
    if len(tenants) > 1:
        for name in tenants:
            if draw(st.booleans()):
                guaranteed = draw(st.integers(0, 4))
                table.tenant(
                    name,
                    weight=draw(st.sampled_from([1.0, 2.0])),
                    guaranteed=guaranteed,
                    maximum=draw(st.sampled_from([None, None, guaranteed + 1, guaranteed + 4])),
                    running=draw(st.sampled_from([None, None, None, 2])),
                    used=draw(st.sampled_from([0.0, 0.1, 0.5])),
                )
    if constrained and draw(st.booleans()):
        starts_in, lasts = draw(st.sampled_from([-5.0, 0.0, 12.0, 40.0])), draw(st.sampled_from([10.0, 60.0]))
        table.reserve("night", draw(st.sampled_from(["n0", "n0 a0", "a0 n1 s0", "gone"])), starts_in, lasts)
    if constrained and draw(st.sampled_from([False, False, True])):
        table.reserve("repair", draw(st.sampled_from(["n0", "a1 m0"])), draw(st.sampled_from([3.0, 30.0])), 20.0)
    for job in draw(st.lists(jobs(tenants=tenants, constrained=constrained), max_size=most_jobs)):
        submit(table, job)
    return table


# ---- stories -----------------------------------------------------------------------------------------------------


def plan_and_apply(table: ClusterTable) -> None:
    table.plan()
    table.apply()


def one_leaves(table: ClusterTable, which: int) -> None:
    """One that is due to leave, or else any that runs."""
    ids = table.due() or sorted(table.running)
    if ids:
        job_id = ids[which % len(ids)]
        table.gone(job_id, requeued=table.running[job_id].stopping)


def one_saves(table: ClusterTable, which: int) -> None:
    if table.running:
        job_id = sorted(table.running)[which % len(table.running)]
        table._runs(replace(table.running[job_id], saved_s=table.now_s))


def one_shrinks(table: ClusterTable, which: int) -> None:
    if table.running:
        job = table.running[sorted(table.running)[which % len(table.running)]]
        if not job.stopping and len(job.placements) > 1:
            table.scale(job.job_id, len(job.placements) - 1)


def drain(table: ClusterTable, which: int) -> None:
    """Or resume: what is drained is given work again."""
    names = table.state.node_names
    if names:
        name = names[which % len(names)]
        table.unschedulable(name, None if table.state.unschedulable_reason(name) else "draining: test")


def rejoin(table: ClusterTable, which: int) -> None:
    """A node leaves and comes back: its row moves, what runs on it is still there."""
    names = table.state.node_names
    if names:
        facts = table.state.facts(names[which % len(names)])
        table.state.remove_node(facts.name)
        table.state.add_node(facts)


def withdraw(table: ClusterTable, which: int) -> None:
    if table.pending:
        table.withdraw(sorted(table.pending)[which % len(table.pending)])


def nobody_waits(table: ClusterTable, which: int) -> None:
    """And one that runs leaves: what is idle then may let an elastic job grow."""
    for job_id in sorted(table.pending):
        table.withdraw(job_id)
    one_leaves(table, which)
    passes(table, 20.0)


def _step(do: Callable[[ClusterTable, int], object]) -> st.SearchStrategy[Step]:
    return st.builds(_Named, st.just(do), st.integers(0, 7))


class _Named:
    """A step that says what it is where an example fails."""

    def __init__(self, do: Callable[..., object], argument: object) -> None:
        self.do, self.argument = do, argument

    def __call__(self, table: ClusterTable) -> object:
        return self.do(table, self.argument)

    def __repr__(self) -> str:
        return f"{self.do.__name__}({self.argument})"


def passes(table: ClusterTable, seconds: float) -> None:
    table.after(seconds)
    plan_and_apply(table)


def all_due_leave(table: ClusterTable, _: int) -> None:
    table.all_due_leave()


def steps(*, tenants: str = "tuv", constrained: bool = True) -> st.SearchStrategy[Step]:
    submits = st.builds(_Named, st.just(submit), jobs(tenants=tenants, constrained=constrained))
    time = st.builds(_Named, st.just(passes), st.sampled_from([0.0, 1.0, 5.0, 20.0]))
    return st.one_of(
        submits,
        submits,
        time,
        time,
        _step(all_due_leave),
        _step(one_leaves),
        _step(one_saves),
        _step(one_shrinks),
        _step(drain),
        _step(rejoin),
        _step(withdraw),
        _step(nobody_waits),
    )
