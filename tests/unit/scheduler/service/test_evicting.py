"""Many services on few cards: one that is woken gets the room of those that nobody asks."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.jobs import Autoscale
from tests.fakes.fake_engine import node_facts
from tests.fakes.loads import load
from tests.fakes.service_world import Make, World, service_spec


def many(world: World, count: int, **given: object) -> list[str]:
    """So many services that may have no replica, and have none."""
    specs = [
        service_spec(name=f"m{number}", workers_min=0, workers_max=2, autoscale=Autoscale(), **given)
        for number in range(count)
    ]
    return world.submit(*specs)


def wake(world: World, job: str, *, ready: bool = True) -> None:
    world.service.take_loads("g", [load(job, arrivals=1, answered=0, waiting=1)])
    world.run()
    if ready and world.engine.live(job):
        world.engine.ready(job, world.engine.live(job)[0].worker)
        world.run()
        world.service.take_loads("g", [load(job, arrivals=1)])
        world.run()


def awake(world: World) -> list[str]:
    return sorted({key.job_id for key in world.engine.live()}, key=int)


def test_the_least_recently_used_makes_room(make: Make) -> None:
    world = make(node_facts("n1", 2))
    a, b, c = many(world, 3)
    wake(world, a)
    world.pass_time(20)
    wake(world, b)
    world.pass_time(20)
    assert awake(world) == [a, b]
    wake(world, c)
    assert awake(world) == [b, c]
    (event,) = [event for event in world.store.job_events(a) if event.detail.get("why") == "evicted"]
    assert (event.detail["replicas"], event.detail["for_job"]) == (0, c)
    assert event.detail["detail"].startswith("no request for 40 s, and job 3 (m2) needs its room")
    world.pass_time(20)
    wake(world, a)
    assert awake(world) == [a, c]


def test_one_that_was_asked_a_moment_ago_keeps_its_room(make: Make) -> None:
    world = make(node_facts("n1", 1))
    a, b = many(world, 2)
    wake(world, a)
    world.pass_time(5)
    wake(world, b)
    assert awake(world) == [a]
    for _ in range(4):  # the gateway goes on telling that somebody waits
        world.pass_time(3)
        wake(world, b)
    assert awake(world) == [b]


def test_only_as_many_go_as_are_needed(make: Make) -> None:
    """And of these the least recently used, on whatever node their going makes room."""
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    small = many(world, 4)
    (large,) = many(world, 1, devices=2)
    for job in small:
        wake(world, job)
        world.pass_time(5)
    world.pass_time(30)
    wake(world, large)
    gone = [job for job in small if job not in awake(world)]
    assert gone == small[:2]
    assert large in awake(world)


def test_nobody_goes_where_it_would_not_help(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 1))
    (training,) = world.submit(service_spec(name="fixed", workers=1, devices=1))
    (a,) = many(world, 1)
    (large,) = many(world, 1, devices=2)
    wake(world, a)
    world.pass_time(60)
    place = world.engine.places[training, 1, 0][0]
    wake(world, large, ready=False)
    expected = [training, a, large] if place == "n2" else [training, a]
    assert set(awake(world)) <= set(expected)
    if place == "n1":  # neither node can have two free devices
        assert a in awake(world)


def test_a_service_with_a_minimum_is_left_alone_and_nothing_else_is_preempted(make: Make) -> None:
    world = make(node_facts("n1", 2))
    (steady,) = world.submit(service_spec(name="steady", workers=1))
    a, b = many(world, 2)
    wake(world, a)
    world.pass_time(60)
    wake(world, b)
    assert awake(world) == [steady, b]


def test_an_idle_service_goes_before_best_effort_work_is_preempted(make: Make) -> None:
    from tests.fakes.service_world import spec

    world = make(node_facts("n1", 2))
    gang = world.submit(spec(priority=0, saves=True))[0]
    a, b = many(world, 2)
    wake(world, a)
    world.pass_time(60)
    wake(world, b)
    assert world.words(gang) == "running"
    assert awake(world) == sorted([gang, b], key=int)


def test_one_of_a_higher_class_is_left_alone_for_longer(make: Make) -> None:
    world = make(node_facts("n1", 1))
    (urgent,) = many(world, 1, priority=90)
    (other,) = world.submit(service_spec(name="other", workers_min=0, workers_max=1, autoscale=Autoscale()))
    wake(world, urgent)
    world.pass_time(30)
    wake(world, other)
    assert awake(world) == [urgent]
    world.pass_time(40)
    wake(world, other)
    assert awake(world) == [other]


def test_where_its_quota_is_the_limit_one_of_its_own_tenant_goes(make: Make) -> None:
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": TenantPolicy(maximum_milli=1_000)}))
    a, b = many(world, 2)
    (other,) = many(world, 1, tenant="hospital")
    wake(world, other)
    world.pass_time(20)
    wake(world, a)
    world.pass_time(20)
    wake(world, b)
    assert set(awake(world)) == {other, b}


def test_a_thousand_services_on_four_cards(make: Make) -> None:
    """Each is called once or more, in turn: all are answered, and never more than four are there."""
    world = make(node_facts("n1", 4), max_live_jobs=2_000)
    jobs = many(world, 1_000)
    assert awake(world) == []
    assert len(world.gateway.tables[-1]) == 1_000
    commits = world.store.commits
    for job in jobs[::25]:
        wake(world, job)
        assert job in awake(world)
        assert len(awake(world)) <= 4
        world.pass_time(4)
    assert world.store.commits - commits < 600


@pytest.mark.parametrize("restart", [False, True])
def test_a_restart_in_between_changes_nothing(make: Make, restart: bool) -> None:
    world = make(node_facts("n1", 1))
    a, b = many(world, 2)
    wake(world, a)
    world.pass_time(20)
    if restart:
        world.restart()
        world.pass_time(20)
    world.engine.stubborn.add(a)  # it takes its time to go
    wake(world, b, ready=False)
    if restart:
        world.restart()
    world.pass_time(30)
    wake(world, b)
    assert awake(world) == [b]
