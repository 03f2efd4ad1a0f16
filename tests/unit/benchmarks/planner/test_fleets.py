"""Synthetic sites: seeded, consistent, and as full as they were asked to be."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.planner.fleets import (
    DEVICES,
    GIB,
    Arrivals,
    Site,
    backlog_site,
    empty_site,
    grid,
    mixed_site,
    one_device_site,
    sixty_demands,
    typical_shapes,
    waiting,
)
from scheduler.core.demand import Demand
from scheduler.core.invariants import check

NODES = 24


def books(site: Site) -> tuple[object, ...]:
    """What runs, what waits, and what is free."""
    running = tuple(sorted((job.job_id, job.tenant, job.priority, job.placements) for job in site.queue.running))
    return running, tuple(sorted(job.job_id for job in site.queue.pending)), site.cluster.free.milli.tolist()


def assert_books_agree(site: Site) -> None:
    running = site.queue.running
    assert site.cluster.holders == {job.job_id for job in running}
    assert site.held_milli == sum(job.milli for job in running)
    idle = int(site.cluster.free.milli.clip(min=0).sum())
    assert site.held_milli == site.capacity_milli - idle


def test_a_grid_has_its_devices_racks_islands_and_several_models() -> None:
    nodes = grid(20)
    assert {len(facts.devices) for facts in nodes} == {DEVICES}
    assert len({facts.rack for facts in nodes}) == 3
    assert len({device.island for facts in nodes for device in facts.devices}) == 20
    models = Counter(facts.devices[0].model for facts in nodes)
    assert models == {"H100 SXM": 12, "A100 SXM": 6, "Ascend 910B": 2}
    assert not any(facts.simulated for facts in nodes)  # the planner treats simulated nodes differently


@pytest.mark.parametrize("level", [0.6, 0.8, 0.95])
def test_a_mixed_site_is_as_full_as_asked(level: float) -> None:
    site = mixed_site(NODES, level, seed=1)
    assert level - 0.2 < site.level <= level  # the last to end may have been a large gang
    assert_books_agree(site)


def test_a_mixed_site_has_every_sort_of_job() -> None:
    jobs = mixed_site(100, 1.0, seed=2).queue.running
    sorts = {(len(job.placements), len(job.placements[0].devices), job.placements[0].share_milli) for job in jobs}
    assert sorts >= {
        (1, 1, 0),
        (1, 2, 0),
        (1, 4, 0),
        (1, 8, 0),
        (1, 1, 250),
        (1, 1, 500),
        (1, 0, 0),
        (2, 8, 0),
        (4, 8, 0),
    }
    assert {job.priority for job in jobs} == {0}


def test_equal_seeds_give_equal_sites_and_others_do_not() -> None:
    first, again, other = (books(mixed_site(NODES, 0.8, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_arrivals_are_seeded_too() -> None:
    first, again, other = (Arrivals(seed) for seed in (5, 5, 6))
    drawn = [[each.next(1.0) for _ in range(30)] for each in (first, again, other)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert {job.priority for job in drawn[0]} == {0}


def test_equal_demands_of_arrivals_are_one_object() -> None:
    coming = Arrivals(7)
    seen: dict[tuple[Demand, ...], int] = {}
    for _ in range(300):
        alternatives = coming.next(1.0).alternatives
        assert seen.setdefault(alternatives, id(alternatives)) == id(alternatives)


def test_on_a_full_site_every_device_has_a_job_of_its_own() -> None:
    site = one_device_site(3, seed=0, priorities=(0, 1, 2))
    assert (len(site.queue.running), site.level) == (3 * DEVICES, 1.0)
    assert {job.priority for job in site.queue.running} == {0, 1, 2}
    assert_books_agree(site)


def test_sixty_demands_are_sixty_and_all_want_devices() -> None:
    demands = sixty_demands()
    assert len(set(demands)) == len(demands) == 60
    assert all(demand.milli for _, demand in demands)


def test_a_backlog_waits_and_cannot_preempt() -> None:
    site, coming = backlog_site(4, 500, seed=0)
    jobs = site.queue.pending
    assert len(jobs) == 500
    assert len({job.tenant for job in jobs}) > 3
    assert {job.priority for job in jobs} == {0, 1, 2}
    assert min(job.priority for job in site.queue.running) >= max(job.priority for job in jobs)
    made = site.plan()
    assert not made.starts
    assert not made.preemptions
    assert len(made.reasons) == 500
    assert coming.next(site.now_s).job_id not in {job.job_id for job in jobs}
    assert len({job.alternatives for job in jobs}) <= 60


def test_a_plan_is_carried_out_and_ended() -> None:
    site = empty_site(2, seed=0)
    site.queue.submit(waiting("a", (Demand(devices=8, cpus_milli=8_000, memory_bytes=GIB),), workers=2))
    site.queue.submit(waiting("b", (Demand(devices=0),), seq=2))
    site.queue.submit(waiting("c", (Demand(devices=1),), seq=3))
    made = site.plan()
    check(site.cluster, site.queue, made, site.policy, now_s=site.now_s)
    assert {job.job_id for job in site.carry_out(made)} == {"a", "b"}
    assert ([job.job_id for job in site.queue.pending], site.level) == (["c"], 1.0)
    ended = site.end_one()
    assert ended is not None
    assert (ended.job_id, site.level) == ("a", 0.0)
    assert site.end_one() is None
    assert site.end_one(with_devices=False) is not None
    assert_books_agree(site)


def test_a_job_that_is_replaced_leaves_the_level_as_it_is() -> None:
    site = mixed_site(NODES, 0.7, seed=0)
    before, level = {job.job_id for job in site.queue.running}, site.level
    site.replace_one()
    after = {job.job_id for job in site.queue.running}
    assert (len(before - after), after - before, site.level) == (1, {"x1"}, level)
    assert_books_agree(site)


def test_typical_shapes_are_those_of_the_arrivals() -> None:
    shapes = {each.shape for each in typical_shapes(0).shapes}
    assert {(shape.devices, shape.gpu_milli) for shape in shapes} == {
        (1, 1000), (2, 1000), (4, 1000), (8, 1000), (1, 250), (1, 500), (0, 0)
    }  # fmt: skip
    assert typical_shapes.__wrapped__(0) == typical_shapes(0)
