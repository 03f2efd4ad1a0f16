"""When a gang could start, what is promised to those that wait, and what advance reservations keep."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.claims import Claim
from scheduler.core.decisions import AdvanceReservation, PendingJob
from scheduler.core.demand import Constraints, Level, Placement
from scheduler.core.first_for_one import FreeOnOne
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Where
from scheduler.core.part import Part
from scheduler.core.placement import fits, place
from scheduler.core.reservations import Promise, Promises
from scheduler.core.reserved_nodes import ReservedNodes
from scheduler.core.timeline import Slot, Timeline
from tests.fakes.examples import examples
from tests.fakes.held_table import NOW_S, HeldTable, held, random_ask, random_table, wants

PROPERTY = settings(max_examples=examples(60), deadline=None)
Occupied = list[tuple[Claim, float, float]]  # from, until


def first(table: HeldTable, job: PendingJob, *reservations: AdvanceReservation, **more: object) -> Slot | None:
    reserved = ReservedNodes.of(reservations, table.state.nodes, now_s=NOW_S)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S, reserved=reserved)
    limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
    return timeline.first_slot(
        table.pools,
        job.alternatives,
        job.workers_min,
        limit_s=limit_s,
        exempt=job.reservation,
        **more,  # type: ignore[arg-type]
    )


def in_s(slot: Slot | None) -> float | None:
    return None if slot is None else slot.at_s - NOW_S


def free_in(slot: Slot, table: HeldTable) -> tuple[Ints, FreeColumns]:
    """The slot's nodes; and the columns as they are now with what is free in it on these."""
    rows, _ = distinct(slot.fit.claim.worker_rows)
    return rows, table.state.free.with_rows(rows, slot.free.on(rows))


# ---- the first slot ----------------------------------------------------------------------------------------------


def test_a_gang_starts_when_the_last_of_its_devices_comes_free() -> None:
    table = held(nodes=2)
    for i in range(8):
        table.run(f"r{i}", "n0", [i], ends_in=10.0 * (i + 1)).run(f"s{i}", "n1", [i], ends_in=45.0)
    assert in_s(first(table, wants(8))) == 45
    assert in_s(first(table, wants(4))) == 40
    assert in_s(first(table, wants(4, workers=3))) == 45
    assert in_s(first(table, wants(4, workers=4))) == 80
    assert in_s(first(table, wants(1, workers=9))) == 45
    assert first(table, wants(8, workers=3)) is None


@pytest.mark.parametrize(("ends_in", "at"), [(None, math.inf), (-5.0, 0.0), (7.0, 7.0)])
def test_limits_say_when(ends_in: float | None, at: float) -> None:
    assert in_s(first(held().run("r", devices=8, ends_in=ends_in), wants(1))) == at


def test_all_that_share_a_device_must_be_over() -> None:
    table = held(devices=1).run("a", share=0.5, ends_in=10.0).run("b", share=0.4, ends_in=30.0)
    assert in_s(first(table, wants(1))) == 30
    assert in_s(first(table, wants(share=0.6))) == 10


@pytest.mark.parametrize(("wanted", "at"), [({"cpus": 60}, 20.0), ({"memory_gib": 400}, 30.0), ({}, 10.0)])
def test_cpus_and_memory_are_waited_for_too(wanted: dict[str, float], at: float) -> None:
    table = held(devices=1, cpus=64).run("d", devices=1, ends_in=10.0)
    table.run("c", devices=0, cpus=32, ends_in=20.0).run("m", devices=0, memory_gib=200, ends_in=30.0)
    assert in_s(first(table, wants(1, **wanted))) == at  # type: ignore[arg-type]


def test_a_device_that_somebody_unknown_holds_never_comes() -> None:
    table = held(devices=2).run("r", devices=[0], ends_in=5.0)
    table.state.take("unknown", [Placement(0, "n0", (1,), 0, 0, 0, 0)])
    assert in_s(first(table, wants(1))) == 5
    assert first(table, wants(2)) is None


@pytest.mark.parametrize(
    ("constraints", "at"),
    [
        (Constraints(), 10.0),
        (Constraints(one_per=Level.NODE), 20.0),
        (Constraints(within=Level.NODE), 30.0),
        (Constraints(within=Level.NODE, one_per=Level.NODE), None),
    ],
)
def test_constraints_are_waited_for(constraints: Constraints, at: float | None) -> None:
    table = held(nodes=2, devices=2).run("a", "n0", [0], ends_in=5.0).run("b", "n0", [1], ends_in=30.0)
    table.run("c", "n1", [0], ends_in=20.0).run("d", "n1", [1], ends_in=40.0)
    if at == 10.0:
        table.gone("c").run("c", "n1", [0], ends_in=10.0)
    assert in_s(first(table, wants(1, workers=2), where={"constraints": constraints})) == at


@pytest.mark.parametrize(("key", "at"), [("excluded", 20.0), ("only", 10.0)])
def test_nodes_may_be_named(key: str, at: float) -> None:
    table = held(nodes=2).run("a", "n0", 8, ends_in=10.0).run("b", "n1", 8, ends_in=20.0)
    assert in_s(first(table, wants(8), where={key: np.array([True, False])})) == at


def test_what_is_evicted_is_free_now() -> None:
    table = held(nodes=2).run("a", "n0", 8, ends_in=10.0).run("b", "n1", 8, ends_in=20.0)
    timeline = Timeline(table.state.free, view := table.view(), now_s=NOW_S)
    job = wants(8, workers=2)
    assert in_s(timeline.first_slot(table.pools, job.alternatives, 2)) == 20
    everywhere = np.ones(2, np.bool_)
    leaving = [timeline.something_leaves_now(everywhere)]
    timeline.evict(view.slots.alive & (view.leaves_s == NOW_S + 20))
    leaving.append(timeline.something_leaves_now(everywhere))
    assert leaving == [False, True]
    assert timeline.now().whole.tolist() == [0, 8]
    assert in_s(timeline.first_slot(table.pools, job.alternatives, 2)) == 10


@pytest.mark.parametrize(("wanted", "devices"), [(1, [3]), (2, [3, 4]), (4, [2, 3, 4, 5]), (5, [0, 2, 3, 4, 5])])
def test_a_promise_takes_the_devices_that_come_free_last(wanted: int, devices: list[int]) -> None:
    # 0 and 1 are free already, 2 and 5 come at +10 s, 3 and 4 at +20 s, and the CPUs too.
    table = held(devices=6).run("a", devices=[2, 5], ends_in=10.0).run("b", devices=[3, 4], ends_in=20.0)
    table.run("cpus", devices=0, cpus=62, ends_in=20.0)
    slot = first(table, wants(wanted, cpus=50))
    assert slot is not None
    assert in_s(slot) == 20
    assert slot.fit.claim.devices.tolist() == devices


def test_each_worker_of_a_promise_has_devices_of_its_own() -> None:
    table = held(nodes=2, devices=6).run("a", "n0", [2, 3, 4, 5], ends_in=20.0).run("b", "n1", [1, 2], ends_in=20.0)
    slot = first(table, wants(2, workers=5))
    assert slot is not None
    _, free = free_in(slot, table)
    free.take(slot.fit.claim)
    left = {name: np.flatnonzero(free.milli[row] == 1000).tolist() for name, row in table.state.nodes.row_of.items()}
    assert sorted(map(len, left.values())) == [0, 2]
    assert all(set(free) <= {"n0": {0, 1}, "n1": {0, 3, 4, 5}}[name] for name, free in left.items())


# ---- against a search that tries every time ----------------------------------------------------------------------


def free_at(table: HeldTable, occupied: Occupied, time_s: float, limit_s: float = math.inf) -> FreeColumns:
    """What is free from then on for a job of that length, one placement after the other."""
    free = table.state.free.copy()
    for claim, from_s, until_s in occupied:
        if until_s > time_s and (from_s < time_s + limit_s or math.isinf(time_s)):
            free.take(claim)
    for job in table.running.jobs():
        ends_s = NOW_S if job.stopping else math.inf if job.ends_by_s is None else job.ends_by_s
        if max(NOW_S, ends_s) <= time_s:
            for placement in job.placements:
                free.give(Claim.of(table.state.nodes, [placement]))
    return free


def count_workers(table: HeldTable, free: FreeColumns, job: PendingJob, blocked: Bools) -> int:
    """For one alternative: how many workers find room, node by node."""
    (asked,) = job.alternatives
    total = 0
    for row, facts in enumerate(table.state.nodes.facts):
        if blocked[row] or (facts.simulated and not asked.simulated):
            continue
        milli = [int(free.milli[row, d.index]) for d in facts.devices if asked.model is None or d.model == asked.model]
        if (asked.devices or asked.share_milli) and not milli:
            continue
        room = job.workers_min
        if asked.devices:
            room = milli.count(1000) // asked.devices
        elif asked.share_milli:
            room = sum(max(0, each) // asked.share_milli for each in milli)
        if asked.cpus_milli:
            room = min(room, int(free.cpus_milli[row]) // asked.cpus_milli)
        if asked.memory_bytes:
            room = min(room, int(free.memory_bytes[row]) // asked.memory_bytes)
        total += max(0, room)
    return total


def first_by_trying(
    table: HeldTable, job: PendingJob, occupied: Occupied, reservations: list[AdvanceReservation], where: Where
) -> float | None:
    limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
    times = {NOW_S, math.inf} | {until_s for *_, until_s in occupied} | {r.end_s for r in reservations}
    times |= {r.start_s for r in reservations} | {job.ends_by_s or NOW_S for job in table.running.jobs()}
    for time_s in sorted(time_s for time_s in times if time_s >= NOW_S):
        blocked = np.zeros(len(table.state.nodes), np.bool_)
        inside = job.reservation is None
        for reservation in reservations:
            rows = [table.state.nodes.row_of[name] for name in reservation.nodes]
            if reservation.name == job.reservation:
                inside = reservation.start_s <= time_s and time_s + limit_s <= reservation.end_s
                others = np.ones(len(blocked), np.bool_)
                others[rows] = False
                blocked |= others
            elif time_s < reservation.end_s and not (
                time_s + limit_s <= reservation.start_s and reservation.start_s > NOW_S
            ):
                blocked[rows] = True
        free = free_at(table, occupied, time_s, limit_s)
        told: Where = {**where, "excluded": blocked}
        there = fits(table.pools, free, job.alternatives, job.workers_min, **told)
        if len(job.alternatives) == 1 and not where:
            assert there == (count_workers(table, free, job, blocked) >= job.workers_min)
        if inside and there:
            return time_s
    return None


def some_occupied(random: Random, table: HeldTable, timeline: Timeline) -> Occupied:
    """Promises on devices that are busy or not, one placed after the other."""
    occupied: Occupied = []
    for _ in range(random.randrange(4)):
        job = random_ask(random)
        slot = timeline.first_slot(table.pools, job.alternatives, job.workers_min)
        if slot is not None:
            until_s = slot.at_s + random.choice([0.5, 3.0, math.inf])
            from_s = random.choice([slot.at_s, -math.inf])
            timeline.occupy(slot.fit.claim, from_s=from_s, until_s=until_s)
            occupied.append((slot.fit.claim, from_s, until_s))
    return occupied


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_free_now_is_the_same_whoever_keeps_what_starts(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=14)
    free = table.state.free.copy()
    kept = Timeline(table.state.free, table.view(), now_s=NOW_S, started=free)
    alone = Timeline(table.state.free, table.view(), now_s=NOW_S)
    for _ in range(12):
        job, act = random_ask(random), random.random()
        slot = alone.first_slot(table.pools, job.alternatives, job.workers_min)
        if act < 0.2:
            which = np.array([random.random() < 0.1 for _ in range(len(alone.holdings))]) & alone.holdings.slots.alive
            kept.evict(which)
            alone.evict(which)
        elif slot is not None and act < 0.5:
            for each in (kept, alone):
                each.occupy(slot.fit.claim, from_s=slot.at_s, until_s=slot.at_s + 3)
        elif slot is not None and slot.at_s == NOW_S:
            until_s = NOW_S + random.choice([0, 2, math.inf])
            free.take(slot.fit.claim)
            for each in (kept, alone):
                each.occupy(slot.fit.claim, until_s=until_s)
        if random.random() < 0.5:
            one, other = kept.now(), alone.now()
            assert (one.milli == other.milli).all()
            assert (one.whole == other.whole).all()
            assert (one.cpus_milli == other.cpus_milli).all()
            assert (one.memory_bytes == other.memory_bytes).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_what_was_asked_before_changes_no_answer(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=14)
    asked = Timeline(table.state.free, table.view(), now_s=NOW_S)
    jobs = [random_ask(random) for _ in range(3)]
    occupied: Occupied = []
    for _ in range(4):
        occupied += some_occupied(random, table, asked)
        anew = Timeline(table.state.free, table.view(), now_s=NOW_S)
        for claim, from_s, until_s in occupied:
            anew.occupy(claim, from_s=from_s, until_s=until_s)
        for job in jobs:
            slots = [each.first_slot(table.pools, job.alternatives, job.workers_min) for each in (asked, anew)]
            assert in_s(slots[0]) == in_s(slots[1])
            if slots[0] is not None and slots[1] is not None:
                assert slots[0].fit.placements == slots[1].fit.placements
                (_, one), (_, other) = (free_in(slot, table) for slot in slots if slot is not None)
                assert (one.milli == other.milli).all()
                assert (one.cpus_milli == other.cpus_milli).all()
                assert (one.memory_bytes == other.memory_bytes).all()


@PROPERTY
@given(st.integers(0, 2**32))
def test_devices_that_could_be_free_are_those_that_are_with_all_below_gone(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=14)
    view = table.view()
    timeline, jobs = Timeline(table.state.free, view, now_s=NOW_S), [random_ask(random) for _ in range(3)]
    pools = table.pools
    parts = [Part(pools, pools.nodes_of(job.alternatives)) for job in jobs]
    for _ in range(4):
        some_occupied(random, table, timeline)
        if random.random() < 0.3:
            timeline.evict(view.slots.alive & (np.arange(len(view)) == random.randrange(len(view))))
        for job, its_part in zip(jobs, parts, strict=True):
            below = view.slots.alive & (view.slots.priority < job.priority) & (view.leaves_s > NOW_S)
            free = timeline.now().copy()
            free.give(view.of(below))
            nodes = its_part.nodes
            for part in (None, its_part):
                for reach, then in ((job.priority, free), (None, timeline.now())):
                    could = timeline.could_be_free(nodes, part, reach)
                    assert ((could[nodes] if part is None else could) == (then.milli[nodes] == 1000)).all()


@PROPERTY
@given(st.integers(0, 2**32))
def test_what_is_free_now_is_the_same_whenever_it_was_asked_before(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=14)
    timelines = [Timeline(table.state.free, table.view(), now_s=NOW_S) for _ in range(2)]
    nodes = np.eye(len(table.state.nodes), dtype=np.bool_)
    for _ in range(4):
        step, victim = random.randrange(2**32), random.randrange(len(timelines[0].holdings))
        evicts = random.random() < 0.6
        for timeline in timelines:
            some_occupied(Random(step), table, timeline)
            if evicts:
                timeline.evict(timeline.holdings.slots.alive & (np.arange(len(timeline.holdings)) == victim))
        if random.random() < 0.7:
            timelines[0].now()
        if random.random() < 0.7:
            timelines[0].something_leaves_now(nodes[0])
    one, other = (timeline.now() for timeline in timelines)
    for column in ("milli", "whole", "cpus_milli", "memory_bytes"):
        assert (getattr(one, column) == getattr(other, column)).all()
    leaving = [[timeline.something_leaves_now(node) for node in nodes] for timeline in timelines]
    assert leaving[0] == leaving[1]


@PROPERTY
@given(st.integers(0, 2**32))
def test_the_first_slot_is_the_first_of_all_times_at_which_the_gang_fits(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=14)
    names = table.state.node_names
    reservations = [
        AdvanceReservation(
            f"x{i}",
            tuple(random.sample(names, random.randint(1, len(names)))),
            NOW_S + (start := random.randint(-3, 6)),
            NOW_S + max(1, start + random.randint(1, 5)),
        )
        for i in range(random.choice([0, 0, 1, 2]))
    ]
    reserved = ReservedNodes.of(reservations, table.state.nodes, now_s=NOW_S)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S, reserved=reserved)
    occupied = some_occupied(random, table, timeline)
    constraints = random.choice([None, None, Constraints(within=Level.NODE), Constraints(one_per=Level.NODE)])
    where: Where = {} if constraints is None else {"constraints": constraints}
    for _ in range(3):
        job = random_ask(random)
        if constraints is not None:
            job = replace(job, alternatives=job.alternatives[:1])  # those that mix are placed greedily
        limit_s = random.choice([None, 1.0, 2.5])
        name = random.choice([None, None, "x0"])
        job = replace(job, time_limit_s=limit_s, reservation=name if reservations else None)
        slot = timeline.first_slot(
            table.pools,
            job.alternatives,
            job.workers_min,
            limit_s=math.inf if limit_s is None else limit_s,
            exempt=job.reservation,
            where=where,
        )
        if len(job.alternatives) > 1:
            if slot is not None:  # no estimate is too early
                then = free_at(table, occupied, slot.at_s, math.inf if limit_s is None else limit_s)
                assert fits(table.pools, then, job.alternatives, job.workers_min)
            continue
        wanted = first_by_trying(table, job, occupied, reservations, where)
        assert (None if slot is None else slot.at_s) == wanted
        if slot is not None:
            then = free_at(table, occupied, slot.at_s, math.inf if limit_s is None else limit_s)
            rows, free = free_in(slot, table)
            assert (free.milli == then.milli)[rows].all()
            assert (free.whole == then.whole)[rows].all()
            assert (free.cpus_milli == then.cpus_milli)[rows].all()
            assert (free.memory_bytes == then.memory_bytes)[rows].all()
            again = Claim.of(table.state.nodes, slot.fit.placements)
            assert sorted(zip(again.rows, again.devices, strict=True)) == sorted(
                zip(slot.fit.claim.rows, slot.fit.claim.devices, strict=True)
            )
            then.take(again)
            assert (then.milli[again.rows, again.devices] >= 0).all()


@PROPERTY
@given(st.integers(0, 2**32))
def test_what_is_read_off_for_one_worker_is_what_the_search_finds(seed: int) -> None:
    random = Random(seed)
    table = random_table(random, jobs=20)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S)
    some_occupied(random, table, timeline)
    read_off = 0
    for devices in (1, 1, 2, 3):
        model, memory_gib = random.choice([None, "H100 SXM", "A100"]), random.choice([0, 0, 3])
        job = wants(devices, cpus=random.choice([0, 1, 2]), memory_gib=memory_gib, model=model)
        limit_s = random.choice([math.inf, 2.5])
        slots = []
        for short in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                if not short:
                    patch.setattr("scheduler.core.timeline.asks_for_one", lambda gang: False)
                slots.append(timeline.first_slot(table.pools, job.alternatives, 1, limit_s=limit_s))
        one, other = slots
        assert in_s(one) == in_s(other)
        if one is None or other is None:
            continue
        read_off += isinstance(one.free, FreeOnOne)
        assert not isinstance(other.free, FreeOnOne)
        assert one.fit.placements == other.fit.placements
        assert one.fit.claim.worker_rows.tolist() == other.fit.claim.worker_rows.tolist()
        assert one.fit.claim.devices.tolist() == other.fit.claim.devices.tolist()
        (rows, free), (_, wanted) = free_in(one, table), free_in(other, table)
        assert (free.milli == wanted.milli)[rows].all()
        assert (free.whole == wanted.whole)[rows].all()
        assert (free.cpus_milli == wanted.cpus_milli)[rows].all()
        assert (free.memory_bytes == wanted.memory_bytes)[rows].all()
        after, wanted = (Promise("p", slot.at_s, slot.free, slot.fit.claim).after for slot in (one, other))
        for column in ("milli", "whole", "cpus_milli", "memory_bytes"):
            assert getattr(after, column).tolist() == getattr(wanted, column).tolist(), column
        timeline.occupy(one.fit.claim, from_s=one.at_s, until_s=one.at_s + random.choice([1.5, math.inf]))
    event(f"{read_off} read off")


def usable(free: FreeColumns) -> tuple[Ints, Ints, Ints]:
    """Nothing and less than nothing are the same."""
    return np.maximum(free.milli, 0), np.maximum(free.cpus_milli, 0), np.maximum(free.memory_bytes, 0)


# ---- promises ----------------------------------------------------------------------------------------------------


def naive_free_until(
    free: FreeColumns, promises: list[tuple[float, FreeColumns, Ints]], blocked: Bools | None, end_s: float
) -> FreeColumns:
    for start_s, after, rows in promises:
        if end_s > start_s or math.isinf(end_s):
            free = free.copy()
            free.milli[rows] = np.minimum(free.milli[rows], after.milli[rows])
            free.cpus_milli[rows] = np.minimum(free.cpus_milli[rows], after.cpus_milli[rows])
            free.memory_bytes[rows] = np.minimum(free.memory_bytes[rows], after.memory_bytes[rows])
    if blocked is not None:
        free = free.copy()
        free.milli[blocked] = np.minimum(free.milli[blocked], 0)
        free.cpus_milli[blocked] = np.minimum(free.cpus_milli[blocked], 0)
        free.memory_bytes[blocked] = np.minimum(free.memory_bytes[blocked], 0)
    return free


@PROPERTY
@given(st.integers(0, 2**32))
def test_what_is_open_is_the_least_under_all_promises_heeded(seed: int) -> None:
    # Promises, starts and questions in any order, against columns that are made anew for each question.
    random = Random(seed)
    table = random_table(random, jobs=10)
    names = table.state.node_names
    reservations = [AdvanceReservation("x", tuple(random.sample(names, 1)), NOW_S + random.randint(-2, 4), NOW_S + 6)]
    reserved = ReservedNodes.of(reservations * random.randrange(2), table.state.nodes, now_s=NOW_S)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S, reserved=reserved)
    promises = Promises(table.state.free.copy(), reserved)
    free = table.state.free.copy()
    made: list[tuple[float, FreeColumns, Ints]] = []
    ends = [NOW_S, NOW_S + 1, NOW_S + 3, NOW_S + 6, NOW_S + 50, math.inf]
    parts = [np.array([random.random() < 0.5 for _ in names]) for _ in range(2)]
    for step in range(25):
        job, end_s = random_ask(random), random.choice(ends)
        exempt = random.choice([None, None, "x"])
        act = random.random()
        if act < 0.25:
            slot = timeline.first_slot(table.pools, job.alternatives, job.workers_min)
            if slot is not None:
                start_s = random.choice([slot.at_s, -math.inf])
                promises.add(Promise(f"p{step}", start_s, slot.free, slot.fit.claim))
                _, after = free_in(slot, table)
                after.take(slot.fit.claim)
                made.append((start_s, after, slot.fit.claim.worker_rows))
                timeline.occupy(slot.fit.claim, until_s=slot.at_s + 5)
        elif act < 0.5:
            here = promises.free_until(end_s, exempt=exempt)
            fit = place(table.pools, here, job.alternatives, wanted=job.workers_min, at_least=job.workers_min)
            if fit is not None:
                promises.start(fit.claim, end_s=end_s)
                timeline.occupy(fit.claim, until_s=end_s)
                free.take(fit.claim)
                for start_s, after, _ in made:
                    if end_s > start_s or math.isinf(end_s):
                        after.take(fit.claim)
        blocked = reserved.blocked(NOW_S, end_s, exempt=exempt)
        found, wanted = promises.free_until(end_s, exempt=exempt), naive_free_until(free, made, blocked, end_s)
        assert (found.whole == (found.milli == 1000).sum(axis=1)).all()
        for one, other in zip(usable(found), usable(wanted), strict=True):
            assert (one == other).all()
        assert len(promises.heeded(end_s)) == sum(end_s > at or math.isinf(end_s) for at, _, _ in made)
        anew = Promises(table.state.free, reserved)
        for promise in promises.promises:
            anew.add(promise)
        assert [promises.heeded(end_s, nodes) for nodes in parts] == [anew.heeded(end_s, nodes) for nodes in parts]


def test_a_promise_made_after_another_never_delays_it() -> None:
    table = held(nodes=2).run("a", "n0", 8, ends_in=10.0).run("b", "n1", 8, ends_in=20.0)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S)
    found = []
    for devices in (8, 8, 4, 4, 8):
        slot = timeline.first_slot(table.pools, wants(devices).alternatives, 1)
        assert slot is not None
        timeline.occupy(slot.fit.claim, until_s=slot.at_s + 100)
        found.append(in_s(slot))
    assert found == [10, 20, 110, 110, 120]


def test_what_is_over_before_a_promise_may_have_its_devices() -> None:
    # 2. Of eight devices two come free at +10 s and four at +20 s, when five are promised. Four for 10 s fit at +10 s:
    # they were told +30 s, started at +10 s all the same, and delayed what had been told +10 s behind them.
    table = held().run("e0", devices=2, ends_in=10.0).run("e1", devices=[2, 3, 4, 5], ends_in=20.0)
    timeline = Timeline(table.state.free, table.view(), now_s=NOW_S)
    found = []
    for devices in (5, 4, 3):
        slot = timeline.first_slot(table.pools, wants(devices).alternatives, 1, limit_s=10.0)
        assert slot is not None
        timeline.occupy(slot.fit.claim, from_s=slot.at_s, until_s=slot.at_s + 10)
        found.append(in_s(slot))
    assert found == [20, 10, 20]


# ---- advance reservations ----------------------------------------------------------------------------------------

# One node; "night" has it from +50 s to +80 s.
NIGHT = AdvanceReservation("night", ("n0",), NOW_S + 50, NOW_S + 80)


@pytest.mark.parametrize(
    ("limit", "named", "at"),
    [(50.0, None, 0.0), (51.0, None, 80.0), (None, None, 80.0), (30.0, "night", 50.0), (31.0, "night", None)],
)
def test_only_what_is_over_by_then_starts_before_a_reservation(
    limit: float | None, named: str | None, at: float | None
) -> None:
    job = replace(wants(1, limit=limit), reservation=named)
    assert in_s(first(held(), job, NIGHT)) == at


def test_a_moment_too_late_is_too_late() -> None:
    # 1. The first time after 1,010 s, plus 40 s, is rounded to 1,050 s: it looked as if the job were over by then.
    table = held().run("r", devices=8, ends_in=20.0)
    assert in_s(first(table, wants(8, limit=30.0), NIGHT)) == 20
    assert in_s(first(table, wants(8, limit=40.0), NIGHT)) == 80


def test_other_nodes_are_used_meanwhile() -> None:
    table = held(nodes=2).run("r", "n1", 8, ends_in=60.0)
    assert in_s(first(table, wants(8, limit=70.0), NIGHT)) == 60
    assert in_s(first(table, wants(8, workers=2, limit=70.0), NIGHT)) == 80


def test_a_reservation_that_is_over_or_unknown_keeps_nothing() -> None:
    reserved = ReservedNodes.of([NIGHT], held().state.nodes, now_s=NOW_S + 80)
    assert len(reserved) == 0
    assert reserved.get("night") is None
    assert reserved.blocked(NOW_S, math.inf) is None
    assert first(held(), replace(wants(1), reservation="day"), NIGHT) is None


@pytest.mark.parametrize(
    ("start", "end", "exempt", "blocked"),
    [
        (0.0, 50.0, None, False),
        (0.0, 50.1, None, True),
        (79.9, 79.9, None, True),
        (80.0, 90.0, None, False),
        (60.0, 70.0, "night", False),
        (0.0, math.inf, None, True),
    ],
)
def test_who_must_keep_off(start: float, end: float, exempt: str | None, blocked: bool) -> None:
    reserved = ReservedNodes.of([NIGHT], held(nodes=2).state.nodes, now_s=NOW_S)
    rows = reserved.blocked(NOW_S + start, NOW_S + end, exempt=exempt)
    assert ([] if rows is None else rows.tolist()) == ([True, False] if blocked else [])


def test_one_that_has_begun_holds_against_every_other_job() -> None:
    reserved = ReservedNodes.of([NIGHT], held().state.nodes, now_s=NOW_S + 50)
    assert reserved.blocked(NOW_S + 50, NOW_S + 50) is not None
    assert reserved.admits("night", NOW_S + 50, NOW_S + 80)
    assert not reserved.admits("night", NOW_S + 50, NOW_S + 81)
