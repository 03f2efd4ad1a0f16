"""Random clusters, queues and stories: what must hold of every plan, and from plan to plan.

Every plan made by a table is checked against `core.invariants`.
"""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace
from typing import assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan
from scheduler.core.demand import Level
from scheduler.core.plan import plan
from scheduler.core.queue import Queue
from scheduler.core.reasons import BehindReservation
from scheduler.core.what_if import Change
from tests.fakes.cluster_table import ClusterTable, cluster
from tests.fakes.examples import examples
from tests.fakes.random_stories import Job, Step, jobs, limits, plan_and_apply, steps, submit, tables

PROPERTY = settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
STORY = settings(PROPERTY, max_examples=examples(20))


def said(made: Plan) -> dict[str, object]:
    """All of a plan, to be compared."""
    found = {each.name: getattr(made, each.name) for each in fields(made) if each.compare}
    return found | {"reasons": dict(made.reasons), "expected_start_s": dict(made.expected_start_s)}


def seen(table: ClusterTable) -> tuple[object, ...]:
    """All that a pass might have changed by mistake."""
    free = table.state.free
    return (
        free.milli.tolist(),
        free.whole.tolist(),
        free.cpus_milli.tolist(),
        free.memory_bytes.tolist(),
        free.stamps.tolist(),
        table.state.schedulable.tolist(),
        sorted(table.kept.pending, key=lambda job: job.seq),
        sorted(table.kept.running, key=lambda job: job.job_id),
        [(kind.key, len(kind)) for kind in table.kept.waiting.kinds()],
        dict(table.kept.usage),
        dict(table.kept.elastic),
        dict(table.kept.shrinking),
    )


def rebuilt(table: ClusterTable) -> ClusterState:
    """The same cluster, made at once from what it is now: no cache of it has seen anything."""
    old = table.state
    new = ClusterState([old.facts(name) for name in old.node_names])
    for job_id in sorted(old.holders):
        new.take(job_id, old.held(job_id))
    for name, reason in old.unschedulable.items():
        new.set_schedulable(name, reason)
    new.set_shapes(old.shapes)
    return new


def left(state: ClusterState) -> tuple[object, ...]:
    """What is free, and who holds the rest."""
    free = state.free
    columns = [each.tolist() for each in (free.milli, free.whole, free.cpus_milli, free.memory_bytes)]
    return columns, state.holders, {name: state.jobs_on(name) for name in state.node_names}


# ---- every plan --------------------------------------------------------------------------------------------------


@settings(PROPERTY, max_examples=examples(60))
@given(tables(), st.lists(steps(), max_size=12))
def test_the_invariants_hold_after_every_step(table: ClusterTable, story: list[Step]) -> None:
    plan_and_apply(table)  # checks
    for step in story:
        step(table)
        table.plan()
    for _ in range(2):
        table.plan()
        table.apply().all_due_leave().after(10.0)


@PROPERTY
@given(tables())
def test_equal_inputs_make_equal_plans_and_change_nothing(table: ClusterTable) -> None:
    before = seen(table)
    first = table.plan()
    again = plan(table.state.copy(), table.queue, table.settings, now_s=table.now_s)
    assert said(first) == said(again)
    assert seen(table) == before


@STORY
@given(tables(), st.lists(steps(), max_size=12))
def test_what_is_kept_over_a_story_plans_as_what_is_made_anew(table: ClusterTable, story: list[Step]) -> None:
    """Queue, running columns, pools, scores and every other cache: none of them changes an answer."""
    plan_and_apply(table)
    for step in story:
        step(table)
        kept = table.plan()
        assert said(kept) == said(plan(table.state, table.queue, table.settings, now_s=table.now_s))
        assert said(kept) == said(plan(rebuilt(table), table.queue, table.settings, now_s=table.now_s))


@STORY
@given(tables(), st.lists(steps(), max_size=6))
def test_what_a_plan_leaves_free_is_what_its_starts_leave(table: ClusterTable, story: list[Step]) -> None:
    plan_and_apply(table)
    for step in story:
        step(table)
        planned = table.plan()
        before, one_by_one, at_once = (table.state.copy() for _ in range(3))
        assert planned.free_after is not None
        at_once.take_over(planned.free_after)
        for start in planned.starts:
            one_by_one.take(start.job_id, start.placements)
            at_once.enter(start.job_id, start.placements)
        assert left(at_once) == left(one_by_one)
        started = [start.job_id for start in planned.starts]
        at_once.give_back(*started)  # in one step, too
        assert left(at_once) == left(before)


@PROPERTY
@given(tables(), st.lists(steps(), max_size=4), st.randoms(use_true_random=False))
def test_the_order_in_which_the_queue_is_told_does_not_matter(
    table: ClusterTable, story: list[Step], shuffle: random.Random
) -> None:
    for step in story:
        step(table)
    pending, running = list(table.pending.values()), list(table.running.values())
    shuffle.shuffle(pending)
    shuffle.shuffle(running)
    queue = Queue(pending, running, usage=table.kept.usage)
    queue.owed.update(table.kept.owed)
    queue.owed.update(table.kept.owed)  # what has happened is not in the jobs
    assert said(plan(table.state, queue, table.settings, now_s=table.now_s)) == said(table.plan())


@PROPERTY
@given(tables(), st.lists(steps(), max_size=3))
def test_explain_agrees_with_the_plan_and_changes_nothing(table: ClusterTable, story: list[Step]) -> None:
    for step in story:
        step(table)
    made = table.plan()
    before = seen(table)
    for job_id in list(table.pending)[:4]:
        answer = table.explain(job_id)
        assert answer.reason == made.reasons.get(job_id)
        if answer.reason is None:
            assert answer.placements == table.placements(job_id)
        if job_id in made.expected_start_s:
            assert answer.expected_start_s == made.expected_start_s[job_id]
        preempts = {preempt.for_job: preempt.victims for preempt in made.preemptions}
        assert set(answer.preempts) == set(preempts.get(job_id, ()))
    assert seen(table) == before
    assert said(table.plan()) == said(made)


@settings(PROPERTY, max_examples=examples(25))
@given(tables(), st.lists(steps(), max_size=3))
def test_each_change_that_explain_names_would_start_the_job(table: ClusterTable, story: list[Step]) -> None:
    for step in story:
        step(table)
    table.plan()
    for job_id in list(table.last.reasons)[:6]:
        job = table.pending[job_id]
        for change in table.explain(job_id).changes:
            drained = dict(table.state.unschedulable)
            changed = as_changed(table, job, change)
            if changed is None:
                continue
            table.wait(changed)
            starts = plan(table.state, table.kept, table.settings, now_s=table.now_s).starts
            started = any(start.job_id == job_id for start in starts)
            if change.kind == "resume":  # jobs ahead of it see the node too
                started |= any(place.node in drained for start in starts for place in start.placements)
            assert started, (change, job)
            table.wait(job)
            for name, reason in drained.items():
                table.unschedulable(name, reason)


def as_changed(table: ClusterTable, job: PendingJob, change: Change) -> PendingJob | None:
    """The job, or the table, as the change says. None: it is not for the job's owner to make."""
    demand = job.alternatives[0]
    number = next((float(word) for word in change.text.split() if word.replace(".", "").isdigit()), 0.0)
    match change.kind:
        case "workers":
            return replace(job, workers_min=int(number), workers_max=int(number))
        case "device":
            model = change.text.removeprefix("with device ").removesuffix(" it would start now")
            return replace(job, alternatives=(replace(demand, model=model, vendor=None),))
        case "devices":
            return replace(job, alternatives=(replace(demand, devices=int(number)),))
        case "pin" if "labels" in change.text:
            return replace(job, alternatives=(replace(demand, node_labels=(), device_labels=()),))
        case "pin":
            return replace(job, alternatives=(replace(demand, node=None, site=None),))
        case "time_limit":
            scale = {"h": 3600.0, "min": 60.0, "s": 1.0}[change.text.split()[5]]
            return replace(job, time_limit_s=number * scale)
        case "constraint" if "within a" in change.text:
            level = Level(change.text.split()[3])
            return replace(job, constraints=replace(job.constraints, within=level))
        case "constraint":
            what = change.text.split("`")[1]
            return replace(job, constraints=replace(job.constraints, **{what: () if what == "apart_from" else None}))
        case "resume":
            for name in list(table.state.unschedulable):
                if f"node {name} " in change.text or "drained nodes" in change.text:
                    table.unschedulable(name, None)
            return job
        case "reclaim":
            return None
        case _:
            assert_never(change.kind)


@PROPERTY
@given(tables(tenants="t"))
def test_everything_that_can_start_has_started(table: ClusterTable) -> None:
    """A second pass right after the first one is carried out starts nothing more: but for what was only in the way of a
    promise, which may be made elsewhere the second time."""
    first = table.plan()
    table.apply()
    for start in table.plan().starts:
        assert isinstance(first.reasons[start.job_id], BehindReservation), first.reasons[start.job_id]


@PROPERTY
@given(tables(), st.integers(1, 6))
def test_a_pass_that_is_broken_off_begins_as_the_whole_one(table: ClusterTable, most_workers: int) -> None:
    whole = table.plan()
    part = plan(table.state, table.kept, table.settings, now_s=table.now_s, most_workers=most_workers)
    starting = [len(start.placements) for start in part.starts]
    assert part.starts == whole.starts[: len(part.starts)]
    assert part.preemptions == whole.preemptions[: len(part.preemptions)]
    if part.partial:
        assert sum(starting[:-1]) < most_workers <= sum(starting)
        assert not part.resizes
        # What a job lacks is counted in the end, when more has started: the kind of reason is the same.
        for job_id, reason in part.reasons.items():
            assert type(reason) is type(whole.reasons[job_id])
    else:
        assert said(part) == said(whole)


# ---- from plan to plan -------------------------------------------------------------------------------------------


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 20)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), limits), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2), limits), max_size=4),
    st.integers(0, 3),
    st.sampled_from(["easy", "conservative", "none"]),
)
def test_backfill_never_delays_the_first_blocked_job(
    busy: list[tuple[int, int]],
    first_jobs: list[tuple[int, int, float | None]],
    later_jobs: list[tuple[int, int, float | None]],
    seed: int,
    backfill: str,
) -> None:
    """However the jobs behind it start, then and in later passes, the first waiting job's promise never moves later."""
    table = cluster(nodes=3, devices=4).policy(tie_seed=seed, backfill=backfill)
    for i, (devices, ends_in) in enumerate(busy):
        node = f"n{i % 3}"
        idle = [use.index for use in table.state.device_use(node) if not use.used_milli][:devices]
        if idle:
            table.run(f"r{i}", node, idle, ends_in=10.0 * ends_in)
    for i, (workers, devices, limit) in enumerate(first_jobs):
        table.submit(f"j{i}", workers=workers, devices=devices, limit=limit)
    table.plan()
    first = next((job_id for job_id in table.pending if job_id in table.last.reasons), None)
    if first is None or first not in table.last.expected_start_s:
        return
    promised_s = table.last.expected_start_s[first]
    for i, (workers, devices, limit) in enumerate(later_jobs):
        table.submit(f"late{i}", workers=workers, devices=devices, limit=limit)
    table.apply()
    for _ in range(300):
        if first not in table.pending:
            break
        table.all_due_leave().plan()
        table.apply()
        assert table.last.expected_start_s.get(first, table.now_s) <= promised_s
        next_s = min((job.ends_by_s or math.inf for job in table.running.values()), default=table.now_s)
        table.after(min(30.0, next_s - table.now_s))
    assert first in table.running or first not in table.pending


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 12)), min_size=2, max_size=12),
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 12)), max_size=5),
)
def test_conservative_backfill_keeps_every_promise(early: list[tuple[int, int]], late: list[tuple[int, int]]) -> None:
    """Whatever comes behind, on one node, where promises cannot be traded for others: nobody starts later than first
    promised, unless one ahead of it started sooner than that had been promised."""
    table = cluster(nodes=1).policy(backfill="conservative")
    for i, (devices, limit) in enumerate(early):
        table.submit(f"e{i}", devices=devices, limit=10.0 * limit)
    promised_s = dict(table.plan().expected_start_s)
    for i, (devices, limit) in enumerate(late):
        table.submit(f"l{i}", devices=devices, limit=10.0 * limit)
    sooner = math.inf  # the first in the queue that started before its promise
    while table.pending:
        plan_and_apply(table)
        for start in table.last.starts:
            seq, wait_until_s = table.asked[start.job_id].seq, promised_s.get(start.job_id, math.inf)
            assert table.now_s <= wait_until_s or sooner < seq
            if table.now_s < wait_until_s < math.inf:
                sooner = min(sooner, seq)
        next_s = min((job.ends_by_s or math.inf for job in table.running.values()), default=table.now_s)
        table.after(next_s - table.now_s).all_due_leave()


@PROPERTY
@given(tables(constrained=False), st.lists(jobs(constrained=False), min_size=1, max_size=4))
def test_once_its_victims_have_left_the_preemptor_starts(table: ClusterTable, later: list[Job]) -> None:
    """Unless one that is not of a lower class started instead."""
    table.plan()
    table.apply()
    for job in later:
        submit(table.after(1.0), job)
    made = table.plan()
    table.apply()
    for job_id in [job_id for job_id, job in table.running.items() if job.stopping]:
        table.gone(job_id, requeued=True)
    classes = {job_id: job.priority for job_id, job in table.pending.items()}
    started = {start.job_id for start in table.plan().starts}
    for preempt in made.preemptions:
        before = {job_id for job_id in started if classes[job_id] >= classes[preempt.for_job]}
        assert before, (preempt, started, table.last.reasons.get(preempt.for_job))


@settings(PROPERTY, max_examples=examples(25))
@given(tables(), st.lists(jobs(), min_size=1, max_size=5))
def test_preemptions_end(table: ClusterTable, later: list[Job]) -> None:
    """In a story without new submissions: no two jobs take the same devices from each other for ever."""
    plan_and_apply(table)
    for job in later:
        submit(table, job)
    table.policy(reservations=())
    quiet = 0
    for _ in range(60):
        plan_and_apply(table)
        quiet = 0 if table.last.preemptions or table.last.resizes else quiet + 1
        if quiet == 3:
            return
        for job_id in [job_id for job_id, job in table.running.items() if job.stopping]:
            table.gone(job_id, requeued=True)
        table.after(0.5)
    pytest.fail(f"still preempting: {table.last.preemptions} {table.last.resizes}")


@settings(PROPERTY, max_examples=examples(15))
@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([5.0, 20.0, 35.0])), min_size=6, max_size=20),
    st.integers(2, 4),
    st.sampled_from(["easy", "conservative"]),
)
def test_nothing_starves(stream: list[tuple[int, float]], devices: int, backfill: str) -> None:
    """A job of a tenant that has used much, against a steady stream of one that has used nothing: it waits until
    it is starved, and then no longer than what runs."""
    table = cluster(nodes=1, devices=4).tenant("heavy", used=0.9).policy(starve_after_s=60.0, backfill=backfill)
    table.run("r", "n0", 3, ends_in=20.0, tenant="light").submit("big", devices=devices, limit=50.0, tenant="heavy")
    submitted_s = table.now_s
    for i in range(40):
        wanted, limit = stream[i % len(stream)]
        table.submit(f"s{i}", devices=wanted, limit=limit, tenant="light")
        plan_and_apply(table)
        if "big" not in table.pending:
            break
        table.after(5.0).all_due_leave()
    assert "big" in table.running
    assert table.now_s - submitted_s <= 60.0 + 35.0 + 5.0
