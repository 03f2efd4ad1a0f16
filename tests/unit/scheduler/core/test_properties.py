"""Random clusters and queues: what must hold of every plan, and of every story of plans."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.decisions import Policy
from scheduler.core.demand import Demand
from scheduler.core.order import in_order
from scheduler.core.plan import plan
from tests.fakes.cluster_table import ClusterTable, cluster, demand

PROPERTY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

demands = st.builds(
    demand,
    st.integers(0, 4),
    share=st.sampled_from([0, 0, 0, 0.25, 0.6]),
    cpus=st.sampled_from([0, 1, 3]),
    memory_gib=st.sampled_from([0, 2]),
    model=st.sampled_from([None, None, "H100 SXM", "A100"]),
    vendor=st.sampled_from([None, None, "nvidia"]),
    simulated=st.booleans(),
    node=st.sampled_from([None, None, None, "n0"]),
    site=st.sampled_from([None, None, None, "south"]),
)
limits = st.sampled_from([None, 5.0, 20.0, 60.0, 200.0])
submissions = st.tuples(
    st.lists(demands, min_size=1, max_size=2),
    st.integers(1, 4),  # workers at least
    st.integers(0, 2),  # and so many more at most
    st.integers(0, 3),  # priority
    limits,
)
settings_of = st.builds(
    Policy, tie_seed=st.integers(0, 9), preemption=st.booleans(), backfill=st.sampled_from([True, True, False])
)


@st.composite
def tables(draw: st.DrawFn) -> ClusterTable:
    table = cluster(nodes=draw(st.integers(0, 2)), devices=4, cpus=8, memory_gib=8)
    table.nodes(draw(st.integers(0, 2)), 3, "a", model="A100", site="south", cpus=4, memory_gib=8)
    table.nodes(draw(st.integers(0, 1)), 2, "m", model=["A100", "H100 SXM"], cpus=4, memory_gib=8)
    table.nodes(draw(st.integers(0, 2)), 4, "s", simulated=True, cpus=8, memory_gib=8)
    table.settings = draw(settings_of)
    submit_all(table, draw(st.lists(submissions, max_size=8)))
    return table


def submit_all(table: ClusterTable, jobs: list[tuple[list[Demand], int, int, int, float | None]]) -> None:
    for alternatives, least, more, priority, limit in jobs:
        name = f"j{len(table.pending) + len(table.running) + round(table.now_s)}-{table._seq}"
        table.submit(name, *alternatives, workers=(least, least + more), priority=priority, limit=limit)


@PROPERTY
@given(tables(), st.lists(submissions, max_size=6), st.data())
def test_the_invariants_hold_after_every_step(
    table: ClusterTable, later: list[tuple[list[Demand], int, int, int, float | None]], data: st.DataObject
) -> None:
    table.plan()  # checks
    table.apply()
    names = table.state.node_names
    if names and data.draw(st.booleans()):
        table.unschedulable(data.draw(st.sampled_from(names)), "draining: test")
    submit_all(table.after(3.0), later)
    for _ in range(4):
        table.plan()
        table.apply()
        leaving = sorted(
            job_id
            for job_id, job in table.running.items()
            if job.stopping or (job.ends_by_s is not None and job.ends_by_s <= table.now_s)
        )
        for job_id in leaving:
            if data.draw(st.booleans()):
                table.gone(job_id)
        table.after(10.0)


@PROPERTY
@given(tables())
def test_equal_inputs_make_equal_plans_and_change_nothing(table: ClusterTable) -> None:
    before = table.state.free.milli.tolist(), table.state.free.cpus_milli.tolist(), table.state.schedulable.tolist()
    first = table.plan()
    again = plan(table.state.copy(), table.queue, table.settings, now_s=table.now_s)
    assert (first.starts, first.preemptions) == (again.starts, again.preemptions)
    assert first.reasons == again.reasons
    assert first.expected_start_s == again.expected_start_s
    after = table.state.free.milli.tolist(), table.state.free.cpus_milli.tolist(), table.state.schedulable.tolist()
    assert before == after


@PROPERTY
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_queue_is_given_does_not_matter(table: ClusterTable, shuffle: object) -> None:
    first = table.plan()
    jobs = list(table.pending.items())
    shuffle.shuffle(jobs)  # type: ignore[attr-defined]
    table.pending = dict(jobs)
    assert table.plan().starts == first.starts


@PROPERTY
@given(tables())
def test_everything_that_can_start_has_started(table: ClusterTable) -> None:
    """A second pass right after the first one is carried out starts nothing more."""
    table.plan()
    table.apply()
    assert table.plan().starts == ()


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 20)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), limits), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_backfill_never_delays_the_first_blocked_job(
    busy: list[tuple[int, int]], jobs: list[tuple[int, int, float | None]], seed: int
) -> None:
    """However the jobs behind it start, the first waiting job's promise is not later after them than before."""
    table = cluster(nodes=3, devices=4).policy(tie_seed=seed)
    for i, (devices, ends_in) in enumerate(busy):
        node = f"n{i % 3}"
        idle = [use.index for use in table.state.device_use(node) if not use.used_milli][:devices]
        if idle:
            table.run(f"r{i}", node, idle, ends_in=10.0 * ends_in)
    for i, (workers, devices, limit) in enumerate(jobs):
        table.submit(f"j{i}", workers=workers, devices=devices, limit=limit)
    table.plan()
    first = next((job_id for job_id in table.pending if job_id in table.last.reasons), None)
    if first is None or first not in table.last.expected_start_s:
        return
    promised_s = table.last.expected_start_s[first]
    table.apply()
    assert table.plan().expected_start_s[first] <= promised_s


@PROPERTY
@given(tables())
def test_explain_agrees_with_the_plan(table: ClusterTable) -> None:
    made = table.plan()
    for job_id in list(table.pending)[:3]:
        assert table.explain(job_id).reason == made.reasons.get(job_id)


@PROPERTY
@given(tables(), st.lists(submissions, min_size=1, max_size=4))
def test_once_its_victims_have_left_the_preemptor_starts(
    table: ClusterTable, later: list[tuple[list[Demand], int, int, int, float | None]]
) -> None:
    """Unless a job before it in the order started instead."""
    table.plan()
    table.apply()
    submit_all(table.after(3.0), later)
    made = table.plan()
    table.apply()
    for job_id in [job_id for job_id, job in table.running.items() if job.stopping]:
        table.gone(job_id, requeued=True)
    line = [job.job_id for job in in_order(table.queue.pending)]
    started = {start.job_id for start in table.plan().starts}
    for preempt in made.preemptions:
        ahead = line[: line.index(preempt.for_job)]
        assert preempt.for_job in started or started & set(ahead), (preempt, started)
