"""What runs, in columns kept as jobs come and go: they say what the jobs themselves say, whatever happened before."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.arrays import Bools
from scheduler.core.decisions import RunningJob
from scheduler.core.demand import Placement
from scheduler.core.held_entries import HeldEntries
from scheduler.core.holdings import Holdings
from scheduler.core.node_columns import NodeColumns
from scheduler.core.running_columns import RunningColumns
from tests.fakes.examples import examples
from tests.fakes.held_table import NOW_S, HeldTable, held


def told(view: Holdings, nodes: NodeColumns) -> dict[str, tuple[object, ...]]:
    """Of each job in the view: its figures, its slices and its workers, the way a loop over jobs would say them."""
    found: dict[str, tuple[object, ...]] = {}
    for slot in np.flatnonzero(view.slots.alive).tolist():
        claim, slots = view.claim, view.slots
        slices = [
            (nodes.facts[row].name, device, milli)
            for job, row, device, milli in zip(
                view.slice_job.tolist(), claim.rows.tolist(), claim.devices.tolist(), claim.milli.tolist(), strict=True
            )
            if job == slot
        ]
        workers = [
            (nodes.facts[row].name, cpus, memory)
            for job, row, cpus, memory in zip(
                view.worker_job.tolist(),
                claim.worker_rows.tolist(),
                claim.cpus_milli.tolist(),
                claim.memory_bytes.tolist(),
                strict=True,
            )
            if job == slot
        ]
        figures = (
            int(slots.priority[slot]),
            float(slots.started_s[slot]),
            float(slots.ends_s[slot]),
            float(slots.saved_s[slot]),
            bool(slots.stopping[slot]),
            bool(slots.simulated[slot]),
            int(slots.preemptions[slot]),
            int(slots.milli[slot]),
            int(slots.cpus_milli[slot]),
            float(view.leaves_s[slot]),
        )
        found[view.job(slot).job_id] = (*figures, sorted(slices), sorted(workers))
    return found


def expected(jobs: list[RunningJob], nodes: NodeColumns, now_s: float) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for job in jobs:
        here = [p for p in job.placements if p.node in nodes.row_of]
        ends_s = math.inf if job.ends_by_s is None else job.ends_by_s
        found[job.job_id] = (
            job.priority,
            job.started_s,
            ends_s,
            job.saved_s,
            job.stopping,
            job.simulated,
            job.preemptions,
            job.milli,
            sum(p.cpus_milli for p in job.placements),
            now_s if job.stopping else max(now_s, ends_s),
            sorted(
                (p.node, device, p.share_milli or 1000)
                for p in here
                for device in p.devices
                if device < len(nodes.facts[nodes.row_of[p.node]].devices)
            ),
            sorted((p.node, p.cpus_milli, p.memory_bytes) for p in here),
        )
    return found


@cache
def each_alone(count: int) -> list[Bools]:
    """The same objects whenever they are asked for, as a pass has them."""
    return [np.arange(count) == row for row in range(count)]


def told_by_class(view: Holdings, nodes: NodeColumns) -> object:
    """Of each node the lowest class there, and what those below some classes hold of each device."""
    return [view.lowest_on(one) for one in each_alone(len(nodes))], [
        view.below(reach).tolist() for reach in (0, 1, 2, 9)
    ]


def expected_by_class(jobs: list[RunningJob], nodes: NodeColumns) -> object:
    lowest: list[int | None] = [None] * len(nodes)
    below = np.zeros((10, len(nodes), nodes.max_devices), np.int64)
    for job in jobs:
        for place in job.placements:
            row = nodes.row_of.get(place.node)
            if row is not None:
                before = lowest[row]
                lowest[row] = job.priority if before is None else min(before, job.priority)
                for device in range(len(nodes.facts[row].devices)):
                    held = device in place.devices
                    below[job.priority + 1 :, row, device] += held * (place.share_milli or 1000)
    return lowest, below[[0, 1, 2, 9]].tolist()


def drawn(random: Random, number: int) -> RunningJob:
    """Not necessarily on nodes and devices that are there: columns are told what others found out."""
    share = random.choice([0, 0, 250])
    placements = tuple(
        Placement(
            worker,
            f"n{random.randrange(6)}",
            tuple(random.sample(range(9), 1 if share else random.randrange(5))),
            share,
            random.randrange(4) * 1000,
            random.randrange(3),
            0,
        )
        for worker in range(random.choice([1, 1, 1, 4]))
    )
    return RunningJob(
        f"j{number}",
        random.choice("tuv"),
        random.randrange(3),
        NOW_S - 5,
        random.choice([None, NOW_S - 1, NOW_S + 7]),
        NOW_S - random.randrange(5),
        placements,
        stopping=random.random() < 0.2,
        simulated=random.random() < 0.2,
        preemptions=random.randrange(2),
    )


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_columns_say_what_the_jobs_say_after_any_story(seed: int, many: bool) -> None:
    random = Random(seed)
    table = held(random.randint(0, 3), random.choice([0, 4, 8]))
    running = RunningColumns()
    jobs: dict[str, RunningJob] = {}

    def says_what_the_jobs_say() -> None:
        view, nodes, there = running.view(table.state.nodes, NOW_S), table.state.nodes, list(jobs.values())
        assert told(view, nodes) == expected(there, nodes, NOW_S)
        assert told_by_class(view, nodes) == expected_by_class(there, nodes)

    for step in range(400 if many else 40):
        act = random.random()
        if act < 0.5 or not jobs:
            job = drawn(random, random.randrange(30) if act < 0.1 else step)  # some replace another
            jobs[job.job_id] = job
            running.add(job)
        elif act < 0.6:
            job = replace(random.choice(list(jobs.values())), saved_s=NOW_S, stopping=random.random() < 0.5)
            job = replace(job, priority=random.choice([job.priority, random.randrange(3)]))
            jobs[job.job_id] = job
            running.add(job)
        elif act < 0.7:  # a service that has more replicas, or fewer
            job = random.choice(list(jobs.values()))
            places = [*job.placements, *drawn(random, step).placements]
            if random.random() < 0.3:
                del places[random.randrange(len(places))]
            job = replace(job, placements=tuple(places))
            jobs[job.job_id] = job
            running.add(job)
        elif act < 0.95:
            gone = random.choice(list(jobs))
            assert running.remove(gone) == jobs.pop(gone)
        elif random.random() < 0.5:
            facts = held(devices=random.choice([2, 8])).state.facts("n0")
            table.state.add_node(replace(facts, name=f"n{random.randrange(6)}"))  # new, or with more devices or fewer
        else:
            name = f"n{random.randrange(6)}"
            if name in table.state:
                table.state.remove_node(name)
        assert running.lowest_priority() == min([job.priority for job in jobs.values()], default=None)
        if random.random() < 0.1:
            says_what_the_jobs_say()
    says_what_the_jobs_say()
    assert set(running.jobs()) == set(jobs.values())
    assert len(running) == len(jobs)


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 2**32))
def test_a_view_that_breaks_off_leaves_nothing_half_told(seed: int) -> None:
    """No memory, or an interrupt, at any operation on the entries."""
    random = Random(seed)
    table, running = held(3), RunningColumns()
    jobs: dict[str, RunningJob] = {}
    for step in range(60):
        act = random.random()
        if act < 0.6 or not jobs:
            job = drawn(random, random.randrange(40))
            jobs[job.job_id] = job
            running.add(job)
        else:
            gone = random.choice(list(jobs))
            assert running.remove(gone) == jobs.pop(gone)
        if random.random() < 0.3:
            with pytest.MonkeyPatch.context() as scarce, contextlib.suppress(MemoryError):
                scarce.setattr(HeldEntries, *_fails_at(random))
                running.view(table.state.nodes, NOW_S)
        if random.random() < 0.2 or step == 59:
            view, nodes, there = running.view(table.state.nodes, NOW_S), table.state.nodes, list(jobs.values())
            assert told(view, nodes) == expected(there, nodes, NOW_S)
            assert told_by_class(view, nodes) == expected_by_class(there, nodes)


def _fails_at(random: Random) -> tuple[str, Callable[..., object]]:
    """A method of the entries, and in its place one whose n-th call is the last that is made."""
    name = random.choice(["append", "append_alike", "append_one", "kill", "look_up", "compacted"])
    really, left = getattr(HeldEntries, name), random.randrange(4)

    def method(entries: HeldEntries, *arguments: object) -> object:
        nonlocal left
        left -= 1
        done = really(entries, *arguments) if left >= 0 or random.random() < 0.5 else None
        if left < 0:
            raise MemoryError
        return done

    return name, method


def test_what_is_dropped_leaves_room() -> None:
    # 20,000 jobs come and go, ten at a time: the columns stay as small as ten jobs.
    running, nodes = RunningColumns(), held().state.nodes
    for i in range(20_000):
        running.add(RunningJob(f"j{i}", "t", 0, 0.0, None, 0.0, (Placement(0, "n0", (0,), 0, 0, 0, 0),)))
        if i >= 10:
            running.remove(f"j{i - 10}")
        if i % 7 == 0:
            view = running.view(nodes, NOW_S)
    assert len(view) < 100  # what is gone leaves when somebody looks
    assert len(view.claim.rows) < 3_000


def test_who_stays_is_still_seen_where_the_dead_are_dropped_and_nobody_comes() -> None:
    # Eight slices a worker: those are mostly dead, and dropped, long before the workers are.
    table = held(nodes=2).run("stays", "n1", [0, 1])
    gone = Placement(0, "n0", tuple(range(8)), 0, 0, 0, 0)
    for i in range(200):
        table.running.add(RunningJob(f"j{i}", "t", 0, 0.0, None, 0.0, (gone,)))
    table.view()
    for i in range(200):
        table.running.remove(f"j{i}")
        assert table.view().below(9)[1].sum() == 2_000
        assert table.view().claim.milli.sum() == 2_000 + 8_000 * (199 - i)


def test_a_service_without_replicas_outlives_that_the_dead_are_dropped() -> None:
    running, place = RunningColumns(), Placement(0, "n0", (0, 1), 0, 1000, 0, 0)
    service, nodes = RunningJob("s", "t", 0, 0.0, None, 0.0, (place, place)), held().state.nodes
    running.add(service)
    running.view(nodes, NOW_S)
    running.add(replace(service, placements=()))
    for i in range(3_000):
        running.add(RunningJob(f"j{i}", "t", 0, 0.0, None, 0.0, (place,)))
        running.view(nodes, NOW_S)
        running.remove(f"j{i}")
    running.add(replace(service, placements=(place,)))
    assert told(running.view(nodes, NOW_S), nodes) == expected(list(running.jobs()), nodes, NOW_S)


def test_what_comes_and_goes_between_two_looks_leaves_no_trace() -> None:
    table = held(nodes=2).run("stays", "n1", [0, 1])
    slots, touched = len(table.view()), table.view().last_touch(np.array([True, True]))
    for i in range(100):
        table.running.add(RunningJob(f"j{i}", "t", 0, 0.0, None, 0.0, (Placement(0, "n0", (0,), 0, 0, 0, 0),)))
        table.running.remove(f"j{i}")
    assert len(table.view()) == slots + 1  # all had the same
    assert len(table.view().claim.worker_rows) == 1
    assert table.view().last_touch(np.array([True, True])) == touched


def test_a_node_that_comes_back_finds_its_jobs() -> None:
    table = held(nodes=2).run("r", "n1", [3])
    facts = table.state.facts("n1")
    table.state.remove_node("n1")
    assert not table.view().claim.milli.any()
    table.state.remove_node("n0")
    table.state.add_node(facts)  # now the first row
    view = table.view()
    assert [(r, d) for r, d, m in zip(*map(np.ndarray.tolist, view_slices(table)), strict=True) if m] == [(0, 3)]
    assert view.slots.milli.sum() == 1000


def view_slices(table: HeldTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    claim = table.view().claim
    return claim.rows, claim.devices, claim.milli


def test_who_leaves_for_whom() -> None:
    table = held().run("a", devices=[0]).run("b", devices=[1]).run("c", devices=[2])
    for job_id in "ab":
        job = table.running.get(job_id)
        assert job is not None
        table.running.add(replace(job, stopping=True, stopping_for="top"))
        table.running.add(replace(job, stopping=True, stopping_for="top", saved_s=3.0))
    assert table.running.stopping_for("top") == ("a", "b")
    table.running.remove("a")
    b = table.running.get("b")
    assert b is not None
    table.running.add(replace(b, stopping_for=None))
    assert table.running.stopping_for("top") == ()


def test_ids_do_not_depend_on_the_order_of_coming() -> None:
    jobs = [RunningJob(f"j{i}", "t", 0, float(i % 2), None, 0.0, ()) for i in range(6)]
    first, second = RunningColumns(jobs), RunningColumns(reversed(jobs))
    nodes = held().state.nodes
    ids = [columns.view(nodes, NOW_S) for columns in (first, second)]
    every = [view.ids(view.slots.alive) for view in ids]
    assert every[0] == every[1]
    assert {every[0].index(f"j{i}") < 3 for i in (0, 2, 4)} == {True}


def test_where_a_job_stands() -> None:
    table = held(nodes=3).run("gang", "n0", [0, 1]).run("gang", "n0", [2]).run("gang", "n2", [0]).run("one", "n0", [5])
    view = table.view()
    pairs = view.standing(view.slots.alive, np.array([True, False, True]))
    names = [(view.job(job).job_id, row) for job, row in zip(pairs.job.tolist(), pairs.row.tolist(), strict=True)]
    assert sorted(names) == [("gang", 0), ("gang", 2), ("one", 0)]
    devices = [
        (*names[pair], device)
        for pair, device in zip(pairs.slice_pair.tolist(), view.claim.devices[pairs.slices].tolist(), strict=True)
    ]
    assert sorted(devices) == [("gang", 0, 0), ("gang", 0, 1), ("gang", 0, 2), ("gang", 2, 0), ("one", 0, 5)]
    on_n2 = view.standing_on(np.array([False, False, True]))
    assert view.ids(on_n2) == ("gang",)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_node_is_touched_whenever_who_runs_there_changes(seed: int) -> None:
    random = Random(seed)
    table = held(6, 8)
    running = RunningColumns()
    jobs: dict[str, RunningJob] = {}

    def there(node: str) -> list[tuple[RunningJob, tuple[Placement, ...]]]:
        """Who runs there, without where else."""
        found = []
        for job in jobs.values():
            if here := tuple(p for p in job.placements if p.node == node):
                found.append((replace(job, placements=()), here))
        return found

    def touched(row: int) -> int:
        return running.view(table.state.nodes, NOW_S).last_touch(np.arange(6) == row)

    for step in range(60):
        before = [(there(f"n{row}"), touched(row)) for row in range(6)]
        act, some = random.random(), random.choice(list(jobs)) if jobs else ""
        if act < 0.4 or not jobs:
            job = jobs[f"j{step}"] = drawn(random, step)
            running.add(job)
        elif act < 0.6:
            job = jobs[some] = replace(jobs[some], saved_s=NOW_S - random.randrange(3))
            running.add(job)
        elif act < 0.8:
            places = [*jobs[some].placements, *drawn(random, step).placements]
            del places[random.randrange(len(places))]
            job = jobs[some] = replace(jobs[some], placements=tuple(places))
            running.add(job)
        else:
            running.remove(some)
            del jobs[some]
        for row, (stood, number) in enumerate(before):
            if there(f"n{row}") != stood:
                assert touched(row) > number
