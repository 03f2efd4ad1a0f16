"""A node is emptied: jobs end or, at the deadline, save and move; a replica goes when its replacement answers."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.messages import Prepare, Stop
from scheduler.core.demand import Demand
from scheduler.core.jobs import Pending, Running
from scheduler.errors import Conflict
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, STUDIO, Make, World, service_spec, spec


def drain(world: World, node: str = "n1", **given: Any) -> dict[str, Any]:
    shown = world.service.drain(node, OPERATOR, reason="fan", **given)
    world.run()
    return shown


def left(world: World, node: str = "n1", by: Any = OPERATOR) -> dict[str, str]:
    (view,) = [view for view in world.service.nodes(by)["nodes"] if view["name"] == node]
    return {each["job"]: each["doing"] for each in view["drain"]["left"]}


def node_state(world: World, node: str = "n1") -> str:
    (view,) = [view for view in world.service.nodes(OPERATOR)["nodes"] if view["name"] == node]
    return str(view["state"])


def nodes_of(world: World, job: str) -> list[str]:
    return sorted(key.node for key in world.engine.live(job))


def up(world: World, *nodes: str, **given: Any) -> str:
    """A service with a ready replica on each of these nodes, which are kept free for them."""
    (job,) = world.submit(service_spec(workers=len(nodes), **given))
    for worker in range(len(nodes)):
        world.engine.ready(job, worker)
    world.run()
    assert nodes_of(world, job) == sorted(nodes)
    return job


# ---- jobs --------------------------------------------------------------------------------------------------------


def test_jobs_run_to_their_end_where_there_is_time(make: Make) -> None:
    world = make(node_facts("n1"), node_facts("n2"))
    job = world.one(alternatives=(Demand(node="n1"),))
    shown = drain(world, deadline_in_s=1_800.0)
    assert shown["drain"]["deadline_s"] == world.clock.now_s() + 1_800
    assert left(world) == {job: "running"}
    world.pass_time(1_700)
    assert world.sent(Stop) == []
    world.engine.exit(job)
    world.run()
    assert (world.words(job), node_state(world), left(world)) == ("succeeded", "drained", {})


def test_at_the_deadline_what_is_left_saves_moves_and_has_used_up_no_retry(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    saves = world.one(saves=True)
    world.engine.saves.add(saves)
    plain = world.one()
    assert nodes_of(world, saves) == ["n1"]
    drain(world, deadline_in_s=60.0)
    world.engine.stubborn.add(saves)  # it has saved, and takes its time to go
    world.pass_time(59)
    assert world.words(saves) == "running"
    world.pass_time(1)
    (stop,) = world.sent(Stop)
    assert (stop.key.job_id, stop.checkpoint, stop.cause) == (saves, True, "node drained")
    assert world.words(saves) == "preempting"
    assert left(world) == {saves: "saving"}
    world.engine.end(next(iter(world.engine.live(saves))), "signal", 9)
    world.run()
    job = world.job(saves)
    assert isinstance(job.state, Pending)
    assert (job.failures, job.preemptions, job.resume_from) == (0, 0, f"/ck/{saves}/attempt-1")
    assert node_state(world) == "drained"
    world.engine.exit(plain)
    world.run()
    assert nodes_of(world, saves) == ["n2"]
    assert world.view(saves)["attempt"] == 2
    assert "node n1 is drained: fan" in str(world.store.job_events(saves))


def test_a_gang_with_one_worker_there_goes_as_a_whole(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    gang = world.one(workers=2, saves=True)
    away = next(node for node in ("n1", "n2", "n3") if node not in nodes_of(world, gang))
    drained = nodes_of(world, gang)[0]
    drain(world, drained, deadline_in_s=5.0)
    world.pass_time(5).pass_time(40)
    assert drained not in nodes_of(world, gang)
    assert away in nodes_of(world, gang)
    assert world.view(gang)["failures"] == 0


def test_without_a_deadline_nothing_is_ever_stopped(world: World) -> None:
    job = world.one()
    drain(world)
    world.pass_time(3_000)
    assert (world.words(job), world.sent(Stop)) == ("running", [])


def test_the_newest_word_on_the_deadline_counts_and_resume_takes_it_away(make: Make) -> None:
    world = make()
    job = world.one()
    drain(world, deadline_in_s=10.0)
    drain(world, deadline_in_s=100.0)
    world.pass_time(50)
    assert world.sent(Stop) == []
    drain(world)
    world.pass_time(100)
    drain(world, deadline_in_s=10.0)
    world.service.resume("n1", OPERATOR)
    world.pass_time(50)
    assert (world.words(job), world.sent(Stop), node_state(world)) == ("running", [], "ready")
    with pytest.raises(Conflict, match="not drained"):
        world.service.resume("n1", OPERATOR)


@pytest.mark.parametrize("away_s", [5.0, 100.0])
def test_a_deadline_survives_a_restart_also_when_it_was_over_meanwhile(make: Make, away_s: float) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one(saves=True)
    drain(world, deadline_in_s=50.0)
    world.kill_service()
    world.clock.advance(away_s)
    world.start_service().run()
    world.pass_time(50).pass_time(40)
    assert nodes_of(world, job) == ["n2"]
    assert world.view(job)["failures"] == 0


def test_a_node_that_was_away_at_the_deadline_is_emptied_when_it_is_back(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    drain(world, deadline_in_s=10.0)
    world.engine.vanish("n1")
    world.run()
    world.pass_time(30)
    world.engine.come_back("n1")
    world.run()
    world.pass_time(2).pass_time(30)
    assert nodes_of(world, job) == ["n2"]


# ---- services ----------------------------------------------------------------------------------------------------


def test_a_replica_is_replaced_before_it_goes_and_the_service_never_has_fewer(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    job = up(world, "n1", "n2")
    drain(world)
    assert nodes_of(world, job) == ["n1", "n2", "n3"]
    assert left(world) == {job: "being replaced"}
    assert len(world.gateway.addresses("svc")) == 2
    world.pass_time(60)
    assert (world.sent(Stop), world.words(job)) == ([], "running")
    (worker,) = [run.placement.worker for run in running(world, job).workers if run.replaces is not None]
    new = world.engine.ready(job, worker)
    world.run()
    (stop,) = world.sent(Stop)
    assert stop.key.node == "n1"
    assert new in world.gateway.addresses("svc")
    assert len(world.gateway.addresses("svc")) == 2
    assert all(len(table[0].replicas) >= 2 for table in world.gateway.tables[3:])
    world.run()
    assert nodes_of(world, job) == ["n2", "n3"]
    assert node_state(world) == "drained"
    assert [run.replaces for run in running(world, job).workers] == [None, None]
    assert world.view(job)["failures"] == 0
    world.pass_time(120)
    assert nodes_of(world, job) == ["n2", "n3"]


def running(world: World, job: str) -> Running:
    state = world.job(job).state
    assert isinstance(state, Running), state
    return state


def test_a_replica_without_a_place_to_go_serves_on_until_there_is_one(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    other = world.one()
    drain(world)
    assert left(world) == {job: "waiting for a place elsewhere"}
    world.pass_time(100)
    assert len(world.gateway.addresses("svc")) == 1
    world.engine.exit(other)
    world.run()
    assert left(world) == {job: "being replaced"}
    world.engine.ready(job, 1)
    world.run()
    assert nodes_of(world, job) == ["n2"]


def test_at_the_deadline_it_goes_without_one_and_comes_up_when_there_is_a_place(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1", retries=0)
    other = world.one()
    drain(world, deadline_in_s=20.0)
    world.pass_time(21)
    assert (nodes_of(world, job), world.words(job), node_state(world)) == ([], "running", "draining")
    world.engine.exit(other)
    world.run()
    assert (nodes_of(world, job), node_state(world)) == (["n2"], "drained")
    assert world.view(job)["failures"] == 0


def test_at_the_deadline_a_replacement_that_still_comes_up_is_kept(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    drain(world, deadline_in_s=20.0)
    world.pass_time(21)
    assert nodes_of(world, job) == ["n2"]
    assert len(world.sent(Prepare)) == 2
    world.engine.ready(job, 1)
    world.run()
    assert len(world.gateway.addresses("svc")) == 1
    assert [run.replaces for run in running(world, job).workers] == [None]


def test_a_node_that_is_taken_back_keeps_its_replica(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    other = world.one()
    drain(world)
    world.service.resume("n1", OPERATOR)
    world.engine.exit(other)
    world.run()
    world.pass_time(60)
    assert nodes_of(world, job) == ["n1"]


@pytest.mark.parametrize("when", ["asked", "placed", "ready"])
def test_a_replacement_survives_a_restart_of_the_service(make: Make, when: str) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    other = world.one() if when == "asked" else None
    drain(world)
    if when == "ready":
        world.engine.deaf.add("n1")  # it is not told to go before the service dies
        world.engine.ready(job, 1)
        world.run()
        world.engine.deaf.clear()
    world.restart()
    if other is not None:
        world.engine.exit(other)
        world.run()
    if when != "ready":
        world.engine.ready(job, 1)
    world.run()
    world.pass_time(30)
    assert nodes_of(world, job) == ["n2"]
    assert len(world.gateway.addresses("svc")) == 1
    assert [run.replaces for run in running(world, job).workers] == [None]


def test_a_replica_that_falls_while_it_is_replaced_is_not_started_again(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    job = up(world, "n1")
    drain(world)
    world.engine.exit(job, 1, worker=0)
    world.run()
    world.pass_time(60)
    assert nodes_of(world, job) == ["n2"]
    world.engine.ready(job, 1)
    world.run()
    assert len(world.gateway.addresses("svc")) == 1
    assert world.view(job)["failures"] == 0  # what fell was on its way out


def test_a_replacement_that_falls_comes_up_again_and_the_old_one_serves_on(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    drain(world)
    world.engine.exit(job, 1, worker=1)
    world.run()
    assert len(world.gateway.addresses("svc")) == 1
    world.pass_time(5)
    assert nodes_of(world, job) == ["n1", "n2"]
    world.engine.ready(job, 1)
    world.run()
    assert nodes_of(world, job) == ["n2"]


def test_where_the_replacement_stands_may_be_drained_too(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    job = up(world, "n1")
    drain(world, "n1")
    assert nodes_of(world, job) == ["n1", "n2"]
    drain(world, "n2")
    assert nodes_of(world, job) == ["n1", "n2", "n3"]
    for _ in range(3):
        for key in world.engine.live(job):
            if key.node == "n3":
                world.engine.ready(job, key.worker)
        world.run().pass_time(20)
    assert nodes_of(world, job) == ["n3"]
    assert (node_state(world, "n1"), node_state(world, "n2")) == ("drained", "drained")


def test_a_service_that_is_scaled_meanwhile_ends_with_as_many_as_it_is_to_have(make: Make) -> None:
    world = make(*(node_facts(f"n{n}", 1) for n in range(1, 6)))
    (job,) = world.submit(service_spec(workers_min=1, workers_max=4, workers=2))
    for key in world.engine.live(job):
        world.engine.ready(job, key.worker)
    world.run()
    drained = nodes_of(world, job)[0]
    drain(world, drained)
    for replicas in (3, 1):
        world.service.scale(job, OPERATOR, replicas=replicas)
        world.run()
        for _ in range(3):
            for key in world.engine.live(job):
                world.engine.ready(job, key.worker)
            world.run().pass_time(20)
        assert len(nodes_of(world, job)) == replicas
        assert drained not in nodes_of(world, job)


def test_a_cancelled_service_goes_with_its_replacement(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, "n1")
    drain(world)
    assert nodes_of(world, job) == ["n1", "n2"]
    world.service.cancel(job, OPERATOR, reason="")
    world.run()
    assert (nodes_of(world, job), world.words(job)) == ([], "cancelled")


def test_a_tenant_sees_of_a_drained_node_its_own_jobs_alone(make: Make) -> None:
    world = make(node_facts("n1", 4))
    mine, other = world.submit(spec(tenant="studio"), spec(tenant="hospital"))
    drain(world)
    assert left(world) == {mine: "running", other: "running"}
    assert left(world, by=STUDIO) == {mine: "running"}
