"""Who must go, asked of the search itself: against trying every set of jobs, and rule by rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.arrays import Bools, Ints
from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.demand import Constraints, Level
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang, Where
from scheduler.core.holdings import Holdings
from scheduler.core.placement import fits
from scheduler.core.preemption import Victims, choose_victims, permitted
from scheduler.core.running_columns import RunningColumns
from scheduler.core.victim_bound import LeastLoss, least_loss
from scheduler.core.victim_losses import Losses
from scheduler.core.victim_search import VictimSearch
from tests.fakes.examples import examples
from tests.fakes.held_table import NOW_S, HeldTable, full_table, held, random_ask, random_table, wants

PROPERTY = settings(max_examples=examples(100), deadline=None)


def free_soon(table: HeldTable, view: Holdings) -> FreeColumns:
    """What is free once what is leaving has left."""
    free = table.state.free.copy()
    free.give(view.of(view.slots.alive & (view.leaves_s <= NOW_S)))
    return free


def chosen(
    table: HeldTable,
    job: PendingJob,
    *,
    reclaims: Mapping[str, int] | None = None,
    where: Where | None = None,
    harm: Callable[[FreeColumns, Ints], float] | None = None,
    **policy: object,
) -> Victims | None:
    view = table.view()
    return choose_victims(
        table.pools,
        free_soon(table, view),
        view,
        job,
        Policy(**policy),  # type: ignore[arg-type]
        now_s=NOW_S,
        reclaimable_milli=reclaims or {},
        where=where or {},
        harm=harm,
    )


def who(table: HeldTable, job: PendingJob, **more: object) -> str:
    """Ids of the victims in one string, "" for none."""
    victims = chosen(table, job, **more)  # type: ignore[arg-type]
    return "" if victims is None else " ".join(sorted(table.view().ids(victims.which)))


# ---- against trying every set ------------------------------------------------------------------------------------


def least_of_all(free: FreeColumns, view: Holdings, table: HeldTable, job: PendingJob, allowed: Bools) -> float | None:
    losses, jobs = Losses(view, NOW_S), np.flatnonzero(allowed).tolist()
    best: float | None = None
    for count in range(1, len(jobs) + 1):
        for some in combinations(jobs, count):
            which = np.zeros(len(view), np.bool_)
            which[list(some)] = True
            loss = losses.of(which)
            if (best is None or loss < best) and makes_room(free, view, table, job, which):
                best = loss
    return best


def makes_room(free: FreeColumns, view: Holdings, table: HeldTable, job: PendingJob, which: Bools) -> bool:
    free = free.copy()
    free.give(view.of(which))
    return fits(table.pools, free, job.alternatives, job.workers_min)


@PROPERTY
@given(st.integers(0, 2**32), st.booleans())
def test_victims_are_permitted_make_room_and_are_all_needed(seed: int, full: bool) -> None:
    random = Random(seed)
    table = full_table(random) if full else random_table(random, jobs=10, nodes=2)
    job = replace(random_ask(random), priority=random.randint(1, 3))
    view = table.view()
    free = free_soon(table, view)
    if makes_room(free, view, table, job, np.zeros(len(view), np.bool_)):
        return
    allowed = permitted(view, job, Policy(), Losses(view, NOW_S), NOW_S)
    assert set(view.ids(allowed)) == {
        running.job_id
        for running in table.running.jobs()
        if running.priority < job.priority
        and not running.stopping
        and (running.ends_by_s is None or running.ends_by_s > NOW_S)
    }
    best = least_of_all(free, view, table, job, allowed)
    victims = chosen(table, job)
    assert (victims is None) == (best is None)
    if victims is None or best is None:
        return
    assert not (victims.which & ~allowed).any()
    assert makes_room(free, view, table, job, victims.which)
    for slot in np.flatnonzero(victims.which).tolist():
        less = victims.which.copy()
        less[slot] = False
        assert not makes_room(free, view, table, job, less)
    assert victims.loss_device_s * 1e6 >= best
    bound = least_loss(Gang(table.pools, job.alternatives, job.workers_min), free, view, allowed, Losses(view, NOW_S))
    assert bound is None or bound.all_workers <= best
    assert bound is None or bound.for_one is None or bound.all_workers <= bound.for_one.least <= best
    left = victims.free.copy()
    left.take(victims.fit.claim)
    assert (left.milli >= -1).all()


@PROPERTY
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_jobs_of_one_device_each_lose_as_little_as_can_be(seed: int, devices: int, workers: int) -> None:
    random = Random(seed)
    table = held(2, 4)
    for i in range(8):
        if random.random() < 0.9:
            table.run(
                f"r{i}", f"n{i % 2}", [i // 2], saved_ago=float(random.randint(0, 9)), priority=random.choice([0, 0, 9])
            )
    job, view = wants(devices, workers=workers, priority=5), table.view()
    if makes_room(table.state.free, view, table, job, np.zeros(len(view), np.bool_)):
        return
    best = least_of_all(table.state.free, view, table, job, view.slots.alive & (view.slots.priority < 5))
    victims = chosen(table, job)
    assert (None if victims is None else round(victims.loss_device_s * 1e6)) == best


class ByColumns(VictimSearch):
    """Which never takes the short way."""

    def _where_the_bound_is_met(self, bound: LeastLoss) -> list[Bools]:
        return []

    def _on_whole_nodes(self, near: Bools) -> list[Bools]:
        return []


def test_the_short_way_of_a_single_worker_leads_where_the_long_one_does() -> None:
    met = above = 0
    for seed in range(120):
        wide = seed % 2 == 0  # most jobs hold more than is asked for, so that they lose more than a part of them does
        random = Random(seed)
        table = held(3, 4, cpus=8)
        for i in range(14):
            node, share = f"n{i % 3}", random.choice([0, 0, 0.5])
            free = table.state.free.milli[i % 3] >= (500 if share else 1000)
            devices = np.flatnonzero(free).tolist()[
                : 1 if share else random.choice([2, 2, 3] if wide else [0, 1, 1, 2, 4])
            ]
            if devices or not share:
                saved = [1, 2, 3, 5, 7, 11] if wide else [0, 1, 2, 3, 3]
                saved_ago, priority = float(random.choice(saved)), random.choice([0, 0, 1, 9])
                more = {"share": share, "cpus": random.choice([0, 1, 1]), "priority": priority}
                table.run(f"r{i}", node, devices, saved_ago=saved_ago, **more)  # type: ignore[arg-type]
        job, view = wants(1 if wide else random.randint(1, 4), priority=5, cpus=random.choice([1, 6])), table.view()
        free, losses = free_soon(table, view), Losses(view, NOW_S)
        gang = Gang(table.pools, job.alternatives, 1)
        allowed = permitted(view, job, Policy(), losses, NOW_S)
        bound = least_loss(gang, free, view, allowed, losses)
        assert bound is not None
        if bound.all_workers == math.inf:
            continue
        short = VictimSearch(gang, free, view, allowed, losses, bound)
        found = short._where_the_bound_is_met(bound)
        met += bool(found)
        above += bool(found) and losses.of(found[0]) > bound.all_workers
        of_short, of_long = short.answers(), ByColumns(gang, free, view, allowed, losses, bound).answers()
        least = min(map(losses.of, of_long), default=0.0)
        assert [a.tobytes() for a in of_short if losses.of(a) == least] == [
            a.tobytes() for a in of_long if losses.of(a) == least
        ]
    assert met > 20
    assert above > 5


def test_the_short_way_of_whole_nodes_leads_where_the_long_one_does() -> None:
    met = 0
    for seed in range(120):
        random = Random(seed)
        table = held(5, 4, cpus=8)
        for i in range(8):
            some = random.sample(range(5), random.choice([1, 1, 1, 2]))
            count, share = random.choice([0, 2, 4, 4, 4] if seed % 2 else [4]), random.choice([0, 0, 0, 0.5])
            if all((table.state.free.milli[row, : max(1, count)] >= (500 if share else 1000)).all() for row in some):
                saved_ago, priority = float(random.choice([0, 1, 2, 3, 3])), random.choice([0, 0, 0, 1, 9])
                more = {"share": share, "cpus": random.choice([0, 1, 1]), "priority": priority}
                for row in some:
                    table.run(f"r{i}", f"n{row}", count, saved_ago=saved_ago, **more)  # type: ignore[arg-type]
        job, view = wants(4, workers=random.choice([2, 2, 3]), priority=5, cpus=random.choice([1, 6])), table.view()
        free, losses = free_soon(table, view), Losses(view, NOW_S)
        gang = Gang(table.pools, job.alternatives, job.workers_min)
        allowed = permitted(view, job, Policy(), losses, NOW_S)
        bound = least_loss(gang, free, view, allowed, losses)
        assert bound is not None
        if not 0 < bound.all_workers < math.inf:
            continue
        short = VictimSearch(gang, free, view, allowed, losses, bound)
        found = short._on_whole_nodes(bound.nodes_near())
        met += bool(found)
        of_long = ByColumns(gang, free, view, allowed, losses, bound).answers()
        assert [a.tobytes() for a in short.answers()] == [a.tobytes() for a in of_long]
    assert met > 20


@PROPERTY
@given(st.integers(0, 2**32))
def test_victims_do_not_depend_on_the_order_of_coming(seed: int) -> None:
    random = Random(seed)
    table = full_table(random)
    job = replace(random_ask(random), priority=3)
    first = who(table, job)
    jobs = list(table.running.jobs())
    random.shuffle(jobs)
    again = RunningColumns()
    for each in jobs:
        again.add(replace(each, job_id="passing"))
        again.add(each)
        again.remove("passing")
    table.running = again
    assert who(table, job) == first


# ---- who may go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "goes"), [(4, True), (5, False), (6, False)])
def test_only_a_lower_class_goes(theirs: int, goes: bool) -> None:
    table = held().run("r", devices=8, priority=theirs)
    assert who(table, wants(8, priority=5)) == ("r" if goes else "")


@pytest.mark.parametrize(
    ("preemptions", "started_ago", "goes"), [(0, 1.0, True), (1, 9.9, False), (1, 10.0, True), (3, 9.9, False)]
)
def test_who_was_preempted_before_has_some_time_in_peace(preemptions: int, started_ago: float, goes: bool) -> None:
    table = held().run("r", devices=8, started_ago=started_ago, preemptions=preemptions)
    assert who(table, wants(8), min_run_before_preemption_s=10.0) == ("r" if goes else "")


def test_who_is_leaving_is_no_victim() -> None:
    table = held().run("leaves", devices=4, stopping=True).run("over", devices=[4], ends_in=-1.0)
    table.run("r", devices=[5, 6, 7])
    assert who(table, wants(8)) == "r"


# Three tenants run jobs of the asking class: "rich" and "poor" hold more than their guarantee, "even" does not.


def borrowers() -> HeldTable:
    table = held()
    for i in range(4):
        table.run(f"rich{i}", devices=[i], tenant="rich", priority=5, saved_ago=10.0 + i)
    table.run("poor", devices=[4, 5], tenant="poor", priority=5, saved_ago=20.0)
    return table.run("even", devices=[6, 7], tenant="even", priority=5, saved_ago=1.0)


@pytest.mark.parametrize(
    ("devices", "over", "victims"),
    [
        (2, {"rich": 2000}, "rich0 rich1"),
        (2, {"rich": 1001}, "rich0 rich1"),  # still over by a thousandth before the second went
        (2, {"rich": 1000}, ""),
        (2, {}, ""),
        (2, {"poor": 1}, "poor"),
        (3, {"rich": 1000, "poor": 500}, "poor rich0"),
        (2, {"rich": 5000, "poor": 5000, "nobody": 9000}, "rich0 rich1"),
        (2, {"me": 9000, "rich": -5}, ""),
        (6, {"rich": 4000, "poor": 2000}, "poor rich0 rich1 rich2 rich3"),
    ],
)
def test_borrowers_give_back_what_is_over_their_guarantee(devices: int, over: dict[str, int], victims: str) -> None:
    assert who(borrowers(), wants(devices, priority=5), reclaims=over) == victims


def test_nothing_is_reclaimed_from_a_higher_class_and_lower_ones_still_go() -> None:
    table = held().run("high", devices=4, tenant="rich", priority=6).run("low", devices=[4, 5], tenant="even")
    table.run("mine", devices=[6, 7], tenant="me", priority=5)
    over = {"rich": 9000, "me": 9000}
    assert who(table, wants(2, priority=5), reclaims=over) == "low"
    assert who(table, wants(4, priority=5), reclaims=over) == ""


@pytest.mark.parametrize(("simulated", "goes"), [(True, "s"), (False, "")])
def test_each_ledger_is_reclaimed_by_its_own(simulated: bool, goes: str) -> None:
    table = held(simulated=True).run("s", devices=8, tenant="rich", priority=5, simulated=simulated)
    assert who(table, wants(8, priority=5, simulated=True), reclaims={"rich": 8000}) == goes


def test_who_holds_no_device_borrows_none() -> None:
    table = held(cpus=64).run("cpu", devices=0, cpus=60, tenant="rich", priority=5)
    table.run("r", devices=[0], tenant="rich", priority=5)
    assert who(table, wants(1, cpus=30, priority=5), reclaims={"rich": 1000}) == ""


# ---- which of them -----------------------------------------------------------------------------------------------


def test_least_loss_first() -> None:
    table = held(nodes=3).run("old", "n0", 8, saved_ago=500.0).run("new", "n1", 8, saved_ago=20.0)
    table.run("half", "n2", 4, saved_ago=30.0).run("rest", "n2", [4, 5, 6, 7], saved_ago=5.0)
    assert who(table, wants(8)) == "half rest"
    assert who(table, wants(4)) == "rest"
    assert who(table, wants(8, workers=2)) == "half new rest"


@pytest.mark.parametrize(
    ("where", "victims"),
    [
        ({}, "a d"),
        ({"constraints": Constraints(within=Level.NODE)}, "c d"),
        ({"constraints": Constraints(within=Level.RACK)}, "a b"),
        ({"constraints": Constraints(one_per=Level.NODE)}, "a d"),
        ({"excluded": np.array([True, False, False])}, "b d"),
        ({"only": np.array([True, True, False])}, "a b"),
        ({"only": np.array([True, False, False])}, ""),
    ],
)
def test_the_whole_gang_must_stand_as_it_may(where: Where, victims: str) -> None:
    # Racks x (n0, n1) and y (m0); each node has two devices, but only m0 two jobs that may go.
    table = held(nodes=2, devices=2, rack="x").nodes(1, 2, "m", rack="y")
    table.run("a", "n0", [0], saved_ago=1.0).run("h0", "n0", [1], priority=99)
    table.run("b", "n1", [0], saved_ago=5.0).run("h1", "n1", [1], priority=99)
    table.run("d", "m0", [0], saved_ago=2.0).run("c", "m0", [1], saved_ago=30.0)
    assert who(table, wants(1, workers=2), where=where) == victims


@pytest.mark.parametrize(("sign", "victims"), [(1, "b"), (-1, "a")])
def test_of_equal_losses_the_lesser_harm(sign: int, victims: str) -> None:
    # Both lose 24 device-seconds; once the gang stands, "a" leaves a device of n0 idle, and "b" none.
    table = held(nodes=2, devices=4).run("a", "n0", 4, saved_ago=6.0).run("b", "n1", 3, saved_ago=8.0)
    table.run("h", "n1", [3], priority=99)
    assert who(table, wants(3), harm=lambda there, rows: sign * float(there.whole[rows == 0].item())) == victims


def test_harm_comes_after_loss() -> None:
    table = held(nodes=2, devices=4).run("a", "n0", 4, saved_ago=6.0).run("b", "n1", 4, saved_ago=7.0)
    assert who(table, wants(3), harm=lambda there, rows: float(there.whole[rows == 0].item())) == "a"


def test_of_equal_losses_fewer_jobs_then_lower_classes() -> None:
    table = held(nodes=2, devices=2).run("one", "n0", 2, saved_ago=10.0, priority=1)
    table.run("two", "n1", [0], saved_ago=10.0).run("three", "n1", [1], saved_ago=10.0)
    assert who(table, wants(2)) == "one"
    table.nodes(1, 2, "m").run("low", "m0", 2, saved_ago=10.0, priority=0)
    assert who(table, wants(2)) == "low"


def test_a_gang_among_the_victims_counts_once() -> None:
    table = held(nodes=3)
    for node in ("n0", "n1"):
        table.run("gang", node, 8, saved_ago=10.0)
    table.run("r", "n2", 8, saved_ago=19.0)
    assert who(table, wants(8, workers=2)) == "gang"
    assert who(table, wants(8)) == "r"


def test_hundreds_of_victims_are_found_and_all_are_needed() -> None:
    table, random = held(nodes=60), Random(4)
    for i in range(60):
        for device in range(8):
            table.run(f"r{i}-{device}", f"n{i}", [device], saved_ago=float(random.randint(1, 1000)))
    victims = chosen(table, wants(8, workers=40))
    assert victims is not None
    assert int(victims.which.sum()) == 320
    lost: list[float] = [0.0] * 60
    for job in table.running.jobs():
        lost[int(job.placements[0].node[1:])] += NOW_S - job.saved_s
    assert victims.loss_device_s == pytest.approx(sum(sorted(lost)[:40]))
