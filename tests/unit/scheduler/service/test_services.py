"""Inference services: replicas start, answer, fall and come back one by one, and the gateway hears of each."""

from __future__ import annotations

import hashlib
import hmac

from node_agent.messages import Prepare, Stop
from scheduler.core.jobs import EndCause, Failed
from scheduler.service.endings import MOST_UNSTARTED
from scheduler.service.replicas import SERVED_WELL_S
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, SECRET, Make, World, service_spec, spec


def up(world: World, replicas: int = 2, **given: object) -> str:
    """A service with all its replicas ready."""
    (job,) = world.submit(service_spec(workers=replicas, **given))
    for worker in range(replicas):
        world.engine.ready(job, worker)
    world.run()
    return job


def test_replicas_start_alone_and_are_routed_when_ready(world: World) -> None:
    (job,) = world.submit(service_spec(workers=2, slo_p99_ms=50.0))
    prepares = world.sent(Prepare)
    assert [prepare.release for prepare in prepares] == [True, True]
    secret = hmac.new(SECRET, f"suanli replica {job}".encode(), hashlib.sha256).hexdigest()
    for prepare in prepares:
        assert (prepare.spec.world_size, prepare.spec.lease_bound, prepare.spec.serves) == (1, False, True)
        assert dict(prepare.spec.env)["SUANLI_REPLICA_SECRET"] == secret
    assert world.words(job) == "running"
    assert world.gateway.addresses("svc") == []
    address = world.engine.ready(job, 1)
    world.run()
    assert world.gateway.addresses("svc") == [address]
    (route,) = world.gateway.tables[-1]
    assert (route.tenant, route.priority, route.slo_p99_ms, route.secret) == ("studio", 40, 50.0, secret)
    assert not route.replicas[0].simulated
    published = len(world.gateway.tables)
    world.pass_time(30)
    assert len(world.gateway.tables) == published  # nothing new, nothing published


def test_a_replica_that_ends_is_started_again_alone_at_its_place(world: World) -> None:
    job = up(world)
    before = world.engine.places[job, 1, 1]
    world.engine.exit(job, 1, worker=1)
    world.run()
    assert len(world.gateway.addresses("svc")) == 1
    assert world.words(job) == "running"
    assert world.sent(Stop) == []
    world.pass_time(1)
    assert world.engine.places[job, 2, 1] == before
    world.engine.ready(job, 1)
    world.run()
    assert len(world.gateway.addresses("svc")) == 2
    assert [worker["attempt"] for worker in world.view(job)["workers"]] == [1, 2]
    assert world.view(job)["failures"] == 1


def test_a_service_that_does_not_come_up_uses_up_its_retries(world: World) -> None:
    """A model that cannot be loaded is not started again for ever."""
    (job,) = world.submit(service_spec(workers=1, retries=2))
    for wait_s in (1.0, 2.0):
        world.engine.exit(job, 1, worker=0)
        world.run()
        assert world.engine.live(job) == []
        assert len(world.pass_time(wait_s).engine.live(job)) == 1
    world.engine.exit(job, 4, worker=0)
    world.run()
    state = world.job(job).state
    assert isinstance(state, Failed)
    assert state.cause is EndCause.EXIT_CODE
    assert world.gateway.tables[-1] == ()


def test_a_replica_that_answered_comes_back_however_often_it_ends(world: World) -> None:
    """One process that is killed must not take the others of its service with it, retries or none."""
    job = up(world, retries=0)
    for wait_s in (1.0, 2.0, 4.0):
        world.engine.exit(job, 0, worker=0)  # a service that ends, even well, has failed
        world.run()
        assert len(world.gateway.addresses("svc")) == 1
        assert len(world.pass_time(wait_s - 0.5).engine.live(job)) == 1
        assert len(world.pass_time(0.5).engine.live(job)) == 2
    world.engine.exit(job, 1, worker=0)  # it does not even come up any more, and the other answers
    world.run()
    assert world.words(job) == "running"
    assert world.view(job)["failures"] == 4


def test_back_off_begins_anew_after_a_replica_has_served_for_a_while(world: World) -> None:
    job = up(world, retries=0)
    for _ in range(3):
        world.engine.exit(job, 1, worker=0)
        world.run().pass_time(SERVED_WELL_S)
        world.engine.ready(job, 0)
        world.run()
    assert world.view(job)["failures"] == 3
    world.pass_time(SERVED_WELL_S)
    world.engine.exit(job, 1, worker=0)
    world.run()
    assert world.view(job)["failures"] == 1
    assert len(world.pass_time(1.0).engine.live(job)) == 2


def test_a_service_of_which_nothing_ever_starts_fails_in_the_end(world: World) -> None:
    world.engine.refuses["n1"] = "exec format error"
    (job,) = world.submit(service_spec(workers=2))
    for wait_s in (1, 2, 4, 8, 16, 32, *[60] * (MOST_UNSTARTED - 8)):
        assert world.pass_time(wait_s).words(job) == "starting"
    state = world.pass_time(60).job(job).state
    assert isinstance(state, Failed)
    assert state.cause is EndCause.UNKNOWN
    assert "exec format error. 15 attempts in a row ended before they had started" in state.detail
    assert world.used_milli() == 0


def test_a_replica_that_never_comes_back_does_not_end_those_that_serve(world: World) -> None:
    job = up(world)
    world.engine.refuses["n1"] = "busy"
    world.engine.exit(job, 1, worker=1)
    world.run().pass_time(300)
    assert world.words(job) == "running"
    assert len(world.gateway.addresses("svc")) == 1
    tried = world.view(job)["attempt"]
    assert world.pass_time(300).view(job)["attempt"] - tried == 5  # once a minute, no oftener
    world.engine.refuses.clear()
    world.pass_time(60)
    assert len(world.engine.live(job)) == 2


def test_a_service_that_is_cancelled_leaves_the_gateway_before_it_stops(world: World) -> None:
    job = up(world)
    world.engine.stubborn.add(job)
    world.service.cancel(job, OPERATOR, reason="")
    assert world.gateway.addresses("svc") == []
    assert len(world.engine.live(job)) == 2
    assert world.pass_time(11).words(job) == "cancelled"


def test_replicas_of_a_dead_node_get_another_place(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    job = up(world, 2)
    dead = world.view(job)["workers"][1]["node"]
    world.engine.vanish(dead, proof=True)
    world.run()
    assert world.words(job) == "running"
    nodes = {worker["node"] for worker in world.view(job)["workers"]}
    assert dead not in nodes
    assert len(nodes) == 2
    assert len(world.engine.live(job)) == 2
    assert world.view(job)["failures"] == 0
    assert world.used_milli() == 2000


def test_replicas_of_a_silent_node_keep_their_routes_until_its_lease_is_over(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, 1)
    world.engine.vanish(world.view(job)["workers"][0]["node"])
    world.run()
    assert len(world.gateway.addresses("svc")) == 1
    assert world.pass_time(59).view(job)["attempt"] == 1
    assert world.pass_time(10).view(job)["attempt"] == 2
    assert world.gateway.addresses("svc") == []


def test_a_replica_waits_for_room_when_its_node_is_dead_and_the_rest_is_full(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, 2)
    world.engine.vanish("n2", proof=True)
    world.run()
    assert len(world.engine.live(job)) == 1
    world.engine.add(node_facts("n3", 1))
    world.run()
    assert len(world.engine.live(job)) == 2


def test_a_preempted_service_comes_back_whole(world: World) -> None:
    job = up(world, 4)
    urgent = world.submit(spec(devices=1, priority=90))[0]
    assert world.words(job, urgent) == "pending running"
    assert world.gateway.addresses("svc") == []
    world.engine.exit(urgent)
    world.run()
    assert world.words(job) == "running"
    assert len(world.engine.live(job)) == 4


def test_routes_survive_a_restart_of_the_service(world: World) -> None:
    job = up(world)
    addresses = world.gateway.addresses("svc")
    world.kill_service()
    world.gateway.tables.clear()
    world.start_service()  # before any node was heard of
    assert world.gateway.addresses("svc") == addresses
    world.run()
    assert world.gateway.addresses("svc") == addresses
    assert len(world.engine.live(job)) == 2


def test_a_replica_that_fell_while_the_service_was_away_comes_back(world: World) -> None:
    job = up(world)
    world.kill_service()
    world.engine.exit(job, 1, worker=0)
    world.start_service().run().pass_time(1)
    assert len(world.engine.live(job)) == 2
    assert world.view(job)["failures"] == 1
