"""A service is given more replicas or fewer, down to none, and nothing but that changes."""

from __future__ import annotations

import pytest

from node_agent.messages import Stop
from scheduler.core.demand import Constraints, Level
from scheduler.core.jobs import Running
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, service_spec


def up(world: World, replicas: int = 4, **given: object) -> str:
    """A service of 0 to 4 replicas, of which so many were asked for, all ready."""
    (job,) = world.submit(service_spec(workers_min=0, workers_max=4, **given))
    scaled(world, job, replicas)
    world.engine.sent.clear()
    return job


def scaled(world: World, job: str, replicas: int) -> None:
    """All that it can come to at once."""
    world.service.scale(job, OPERATOR, replicas=replicas)
    world.run()
    answer(world, job)


def answer(world: World, job: str) -> None:
    for worker in numbers(world, job, "running"):
        world.engine.ready(job, worker)
    world.run()


def numbers(world: World, job: str, *phases: str) -> list[int]:
    return [w["worker"] for w in world.view(job)["workers"] if not phases or w["phase"] in phases]


def test_fewer_replicas_go_for_good_and_the_others_go_on(world: World) -> None:
    job = up(world)
    before = {key: world.engine.places[key.job_id, key.attempt, key.worker] for key in world.engine.live(job)}
    scaled(world, job, 1)
    (left,) = world.engine.live(job)
    assert left in before
    assert [command.cause for command in world.sent(Stop)] == ["scaled down"] * 3
    assert (world.words(job), world.used_milli()) == ("running", 1000)
    assert len(world.gateway.addresses("svc")) == 1
    view = world.view(job)
    assert (view["workers_wanted"], view["failures"], len(view["workers"])) == (1, 0, 1)
    assert world.pass_time(300).engine.live(job) == [left]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("wish", ["one_per", "spread"])
def test_added_replicas_keep_to_the_job_files_wishes_also_among_each_other(make: Make, wish: str, first: int) -> None:
    """They were placed one by one as if the others of the same pass were not there: two came to stand on one node."""
    world = make(*(node_facts(f"n{i}", 4) for i in range(3)))
    job = up(world, first, constraints=Constraints(**{wish: Level.NODE}))
    scaled(world, job, 3)
    assert sorted(worker["node"] for worker in world.view(job)["workers"]) == ["n0", "n1", "n2"]


def test_a_replica_leaves_the_gateway_before_it_is_told_to_go(world: World) -> None:
    job = up(world, 2)
    world.engine.stubborn.add(job)
    scaled(world, job, 1)
    assert len(world.gateway.addresses("svc")) == 1
    assert len(world.engine.live(job)) == 2
    assert world.used_milli() == 2000  # it holds its device until it has gone
    assert world.pass_time(11).used_milli() == 1000


def test_more_replicas_wait_in_the_queue_one_by_one(make: Make) -> None:
    world = make(node_facts("n1", 2))
    job = up(world, 1)
    (batch,) = [world.one()]
    assert world.words(job, batch) == "running running"
    scaled(world, job, 3)
    assert numbers(world, job) == [0]
    text = world.service.why(job, OPERATOR)["text"]
    assert "replica 1 waits: 0 of 1 workers fit" in text
    assert "replica 2 waits: " in text
    world.engine.exit(batch)
    world.run()
    assert numbers(world, job) == [0, 1]
    assert "replica_added" in world.events(job)
    world.engine.add(node_facts("n2", 1))
    world.run()
    assert [w["node"] for w in world.view(job)["workers"]] == ["n1", "n1", "n2"]
    answer(world, job)
    assert len(world.gateway.addresses("svc")) == 3
    log = world.service.read_log(job, STUDIO, worker=2, attempt=None, stream="stdout", offset=0, limit=99)
    assert log.data.endswith(b"worker 2 on n2\n")


def test_down_to_none_and_up_again(world: World) -> None:
    job = up(world, 2)
    scaled(world, job, 0)
    assert (world.words(job), world.used_milli(), world.gateway.addresses("svc")) == ("running", 0, [])
    assert isinstance(world.job(job).state, Running)
    assert world.restart().pass_time(300).used_milli() == 0
    scaled(world, job, 3)
    assert (numbers(world, job, "ready"), world.used_milli()) == ([0, 1, 2], 3000)
    world.service.cancel(job, OPERATOR, reason="")
    assert world.run().words(job) == "cancelled"


def test_a_service_without_replicas_does_not_hold_up_the_taking_down_of_the_site(world: World) -> None:
    job = up(world, 0)
    assert world.service.close_down(OPERATOR) == {"running": 0}
    assert world.restart().words(job) == "running"
    scaled(world, job, 1)
    assert numbers(world, job, "ready") == [0]


def test_a_service_without_replicas_can_be_cancelled(world: World) -> None:
    job = up(world, 0)
    world.service.cancel(job, OPERATOR, reason="")
    assert world.run().words(job) == "cancelled"


def test_a_service_that_waits_is_scaled_too(make: Make) -> None:
    world = make(node_facts("n1", 4))
    other = world.one(devices=4)
    job = up(world, 2)
    assert world.words(job) == "pending"
    scaled(world, job, 0)
    world.engine.exit(other)
    assert world.run().used_milli() == 0
    scaled(world, job, 1)
    assert numbers(world, job) == [0]


def test_what_was_asked_for_last_counts_whatever_still_goes(world: World) -> None:
    job = up(world, 4)
    world.engine.stubborn.add(job)
    scaled(world, job, 1)
    scaled(world, job, 4)
    assert len(world.engine.live(job)) == 4  # three go, and keep their devices and numbers until they have
    world.pass_time(11)
    answer(world, job)
    assert numbers(world, job, "ready") == [0, 1, 2, 3]
    assert len(world.gateway.addresses("svc")) == 4


def test_replicas_that_are_down_go_first(world: World) -> None:
    job = up(world, 3, retries=9)
    world.engine.exit(job, 1, worker=1)
    world.run()
    scaled(world, job, 2)
    assert numbers(world, job, "ready") == [0, 2]
    assert world.sent(Stop) == []
    assert world.pass_time(120).view(job)["attempt"] == 1  # nothing was started again


def test_one_that_ends_while_it_goes_is_not_started_again(world: World) -> None:
    job = up(world, 2, retries=9)
    world.engine.stubborn.add(job)
    scaled(world, job, 1)
    (going,) = [command.key for command in world.sent(Stop)]
    world.engine.end(going, "exit", 1)
    world.run().pass_time(120)
    assert (len(world.engine.live(job)), world.view(job)["failures"]) == (1, 0)


@pytest.mark.parametrize("node_first", [True, False])
def test_a_restart_of_the_service_in_between_loses_nothing(make: Make, node_first: bool) -> None:
    world = make(node_facts("n1", 4))
    job = up(world, 4)
    world.engine.stubborn.add(job)
    scaled(world, job, 1)
    world.kill_service()
    if node_first:
        world.clock.advance(11)
        world.engine.tick()
    world.start_service().run().pass_time(11)
    assert len(world.engine.live(job)) == 1
    assert (world.used_milli(), world.view(job)["workers_wanted"]) == (1000, 1)


def test_a_node_that_was_away_hears_again_who_is_to_go(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = up(world, 2)
    world.engine.deaf |= {"n1", "n2"}
    scaled(world, job, 1)
    (going,) = [command.key for command in world.sent(Stop)]
    world.engine.deaf.clear()
    world.engine.vanish(going.node)
    world.run()
    world.engine.come_back(going.node)
    assert going not in world.run().engine.live(job)
    assert world.pass_time(120).used_milli() == 1000


def test_a_node_that_dies_takes_those_that_went_with_it(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1), node_facts("n3", 1))
    job = up(world, 2)
    world.engine.stubborn.add(job)
    scaled(world, job, 1)
    (going,) = [command.key for command in world.sent(Stop)]
    world.engine.vanish(going.node, proof=True)
    assert len(world.run().view(job)["workers"]) == 1


@pytest.mark.parametrize(
    ("by", "replicas", "error", "said"),
    [
        (OPERATOR, 5, BadInput, "0 to 4 replicas by its job file"),
        (VIEWER, 1, Forbidden, "viewer"),
        (HOSPITAL, 1, NotFound, "there is no job"),
    ],
)
def test_who_may_scale_to_what(world: World, by: object, replicas: int, error: type[Exception], said: str) -> None:
    job = up(world, 2)
    with pytest.raises(error, match=said):
        world.service.scale(job, by, replicas=replicas)  # type: ignore[arg-type]
    assert world.view(job)["workers_wanted"] == 2


def test_only_living_services_are_scaled(world: World) -> None:
    batch = world.one()
    with pytest.raises(Conflict, match="only an inference service has replicas"):
        world.service.scale(batch, OPERATOR, replicas=1)
    job = up(world, 1)
    world.engine.stubborn.add(job)
    world.service.cancel(job, OPERATOR, reason="")
    with pytest.raises(Conflict, match="is being stopped"):
        world.service.scale(job, OPERATOR, replicas=2)
    world.pass_time(11)
    with pytest.raises(Conflict, match="has ended already"):
        world.service.scale(job, OPERATOR, replicas=2)


def test_a_service_that_was_never_scaled_is_left_as_it_started(make: Make) -> None:
    world = make(node_facts("n1", 1))
    (job,) = world.submit(service_spec(workers_min=1, workers_max=2))
    world.engine.add(node_facts("n2", 1))
    assert world.run().pass_time(120).used_milli() == 1000
    assert world.view(job)["workers_wanted"] is None
