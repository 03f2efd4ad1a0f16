"""What gateways report changes how many replicas a service has: at once upwards, slowly downwards, to nothing and
back."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.jobs import Autoscale
from scheduler.errors import Conflict
from tests.fakes.fake_engine import node_facts
from tests.fakes.loads import load
from tests.fakes.service_world import OPERATOR, Make, World, service_spec, spec


@pytest.fixture
def wide(make: Make) -> World:
    """Sixteen devices on two nodes."""
    return make(node_facts("n1", 8), node_facts("n2", 8))


def scaled(world: World, low: int = 1, high: int = 8, *, idle_s: float = 60.0, **given: Any) -> str:
    (job,) = world.submit(
        service_spec(workers_min=low, workers_max=high, autoscale=Autoscale(idle_s=idle_s, down_after_s=40.0), **given)
    )
    answer(world, job)
    return job


def answer(world: World, job: str) -> None:
    """All its replicas that run are ready."""
    told = world.__dict__.setdefault("told_ready", set())
    for key in world.engine.live(job):
        if key not in told:
            told.add(key)
            world.engine.ready(job, key.worker)
    world.run()


def report(world: World, job: str, gateway: str = "g", **told: Any) -> None:
    world.service.take_loads(gateway, [load(job, **told)])
    world.run()


def steady(world: World, job: str, per_s: int, seconds: float, *, gateway: str = "g", **told: Any) -> None:
    """A report each second."""
    for _ in range(round(seconds)):
        world.clock.advance(1)
        world.engine.tick()
        report(world, job, gateway, arrivals=per_s, window_s=1.0, service_s=0.1, **told)
        answer(world, job)


def wanted(world: World, job: str) -> int | None:
    return world.job(job).workers_wanted


def test_it_begins_with_as_few_as_it_may_have(wide: World) -> None:
    job = scaled(wide, 2, 8)
    assert (wanted(wide, job), len(wide.engine.live(job))) == (2, 2)
    assert wide.events(job).split()[:2] == ["submitted", "registered"]


def test_a_step_is_answered_in_the_batch_that_hears_of_it(wide: World) -> None:
    """No timer comes first: the report, the decision, the plan and the command to the node are one batch."""
    job = scaled(wide)
    steady(wide, job, 1, 30)
    before = len(wide.engine.launched)
    wide.service.take_loads("g", [load(job, arrivals=30, window_s=0.5, service_s=0.1)])
    wide.once()
    assert (wanted(wide, job) or 0) > 1
    assert len(wide.engine.launched) > before
    (decided,) = [event for event in wide.store.job_events(job) if event.event == "scaled"]
    assert (decided.detail["why"], decided.detail["by"], decided.detail["before"]) == ("step", "autoscaling", 1)
    assert decided.detail["rate_per_s"] > 10


def test_loads_that_change_nothing_are_not_committed(wide: World) -> None:
    job = scaled(wide)
    steady(wide, job, 1, 10)
    before = wide.store.commits
    steady(wide, job, 1, 20)
    assert wide.store.commits == before


def test_down_is_slow_and_no_change_down_follows_one_up_too_soon(wide: World) -> None:
    job = scaled(wide)
    steady(wide, job, 1, 20)
    steady(wide, job, 40, 20)
    high = wanted(wide, job) or 0
    assert high >= 5
    steady(wide, job, 1, 39)
    assert wanted(wide, job) == high
    steady(wide, job, 1, 160)
    assert wanted(wide, job) == 1
    assert len(wide.engine.live(job)) == 1


def test_nothing_shrinks_while_a_gateway_that_carries_it_is_not_heard_of(wide: World) -> None:
    job = scaled(wide)
    steady(wide, job, 40, 30, gateway="east")
    report(wide, job, "west", arrivals=1)
    high = wanted(wide, job) or 0
    assert high > 1
    steady(wide, job, 1, 200, gateway="east")  # west is silent: it may carry the rest
    assert wanted(wide, job) == high
    steady(wide, job, 1, 250, gateway="east")  # it is gone for good
    assert wanted(wide, job) == 1


def test_loads_of_several_gateways_are_added_up(wide: World) -> None:
    one, two = scaled(wide, name="one"), scaled(wide, name="two")
    for _ in range(30):
        wide.clock.advance(1)
        told: dict[str, Any] = {"window_s": 1.0, "service_s": 0.1}
        wide.service.take_loads("east", [load(one, arrivals=20, **told), load(two, arrivals=20, **told)])
        wide.service.take_loads("west", [load(one, arrivals=20, **told)])
        wide.run()
    assert (wanted(wide, one) or 0) > (wanted(wide, two) or 0) > 1


def test_to_nothing_when_nobody_asks_and_back_at_the_first_request(world: World) -> None:
    job = scaled(world, 0, 4)
    assert (world.words(job), world.engine.live(job)) == ("running", [])
    (route,) = world.gateway.tables[-1]
    assert (route.wakes, route.replicas) == (True, ())
    report(world, job, arrivals=1, answered=0, waiting=1)
    assert len(world.engine.live(job)) == 1
    answer(world, job)
    assert len(world.gateway.addresses("svc")) == 1
    report(world, job, arrivals=1, cold_start_s=1.5)
    for _ in range(5):
        world.pass_time(10)
        world.service.take_loads("g", [])
    assert len(world.engine.live(job)) == 1
    for _ in range(3):
        world.service.take_loads("g", [])  # idle services need not be named
        world.pass_time(10)
    assert (world.engine.live(job), world.used_milli()) == ([], 0)
    (version,) = world.service.service("svc", OPERATOR, tenant=None)["versions"]
    assert (version["cold_starts"], version["last_cold_start_s"]) == (1, 1.5)


def test_not_to_nothing_while_gateways_are_silent(world: World) -> None:
    job = scaled(world, 0, 4)
    report(world, job, arrivals=1, answered=0, waiting=1)
    answer(world, job)
    world.pass_time(200)
    assert len(world.engine.live(job)) == 1


def test_one_that_waits_for_another_job_does_not_run_before(world: World) -> None:
    first = world.one()
    (job,) = world.submit(service_spec(workers_min=0, workers_max=4, autoscale=Autoscale(), after=(first,)))
    assert world.words(job) == "pending"
    world.engine.exit(first)
    world.run()
    assert (world.words(job), len(world.engine.live(job))) == ("running", 1)


def test_many_that_wait_for_a_first_replica_do_not_ask_for_ever_more(world: World) -> None:
    """What one takes is not known yet, and it is still loading."""
    job = scaled(world, 0, 4)
    for _ in range(60):
        world.clock.advance(1)
        world.engine.tick()
        report(world, job, arrivals=10, answered=0, waiting=200)
    assert wanted(world, job) == 1


def test_by_hand_it_stays_so_until_auto(wide: World) -> None:
    job = scaled(wide)
    wide.service.scale(job, OPERATOR, replicas=3)
    wide.run()
    answer(wide, job)
    steady(wide, job, 70, 30)
    assert (wanted(wide, job), wide.view(job)["pinned"]) == (3, True)
    wide.restart()
    steady(wide, job, 70, 30)
    assert (wanted(wide, job), wide.view(job)["pinned"]) == (3, True)
    wide.service.scale(job, OPERATOR, replicas=None)
    wide.run()
    steady(wide, job, 70, 30)
    assert (wanted(wide, job), wide.view(job)["pinned"]) == (8, False)
    with pytest.raises(Conflict, match="is scaled by its load already"):
        wide.service.scale(job, OPERATOR, replicas=None)
    (plain,) = wide.submit(service_spec(name="plain"))
    with pytest.raises(Conflict, match="is not scaled by its load: its job file would say so"):
        wide.service.scale(plain, OPERATOR, replicas=None)


def test_a_plain_service_is_left_alone(world: World) -> None:
    (job,) = world.submit(service_spec(workers_min=1, workers_max=4))
    assert len(world.engine.live(job)) == 4
    answer(world, job)
    steady(world, job, 1, 200)
    assert (len(world.engine.live(job)), wanted(world, job)) == (4, None)


def test_after_a_restart_it_is_what_it_was_and_goes_on(wide: World) -> None:
    job = scaled(wide)
    steady(wide, job, 40, 20)
    high = wanted(wide, job)
    wide.restart()
    assert wanted(wide, job) == high
    steady(wide, job, 1, 30)
    assert wanted(wide, job) == high  # nothing is known yet of how long it has been so
    steady(wide, job, 1, 160)
    assert wanted(wide, job) == 1


@pytest.mark.parametrize("slo", [100.0, None])
def test_a_replica_that_the_slo_needs_preempts_best_effort_training_which_saves(make: Make, slo: float | None) -> None:
    """Also where its own class asks nobody to go."""
    from scheduler.core.decisions import Policy

    world = make(node_facts("n1", 4), policy=Policy(non_preempting=frozenset({0, 40})))
    job = scaled(world, 1, 4, slo_p99_ms=slo)
    gang = world.one(workers=3, priority=0, saves=True)
    world.engine.saves.add(gang)
    assert world.words(gang) == "running"
    steady(world, job, 1, 20)
    steady(world, job, 18, 10)
    assert (wanted(world, job) or 0) > 1
    if slo is None:
        assert (world.words(gang), len(world.engine.live(job))) == ("running", 1)
        return
    assert world.words(gang) == "pending"
    assert len(world.engine.live(job)) > 1
    assert world.job(gang).resume_from == f"/ck/{gang}/attempt-1"
    assert world.job(gang).preemptions == 1


def test_job_starts_and_loads_do_not_wait_for_one_another(world: World) -> None:
    """A thousand reports that nobody has looked at are one event."""
    job = scaled(world, 0, 4)
    for number in range(1_000):
        world.service.take_loads("g", [load(job, arrivals=1, waiting=number % 3)])
    assert world.service.loop.backlog() == 1
    other = world.one()
    assert world.words(other) == "running"
    seen = world.service.service("svc", OPERATOR, tenant=None)["versions"][0]
    assert seen["requests"] == 1_000


def test_loads_of_jobs_that_are_none_of_ours_are_passed_over(world: World) -> None:
    training = world.submit(spec())[0]
    world.service.take_loads("g", [load("77", arrivals=5), load(training, arrivals=5)])
    world.run()
    world.no_bugs()
