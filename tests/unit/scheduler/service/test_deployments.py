"""A service's new version takes over in steps, or is given up by itself; either survives a kill at any moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.core.jobs import Autoscale, Canary
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from tests.fakes.fake_engine import node_facts
from tests.fakes.loads import load
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, service_spec, spec

STEPS = Canary((10, 50, 100), step_s=60.0, min_requests=20, ready_within_s=300.0)


def deploy(world: World, **given: Any) -> str:
    job = str(world.service.deploy_service(service_spec(**{"workers": 1, **given}), OPERATOR)["deployed_job"])
    world.run()
    return job


def answer(world: World, job: str, replicas: int = 1) -> None:
    for worker in range(replicas):
        world.engine.ready(job, worker)
    world.run()


def weights(world: World) -> dict[int, int]:
    return {route.version: route.weight for route in world.gateway.tables[-1] if route.service == "svc"}


def states(world: World) -> list[str]:
    return [version["state"] for version in reversed(show(world)["versions"])]


def show(world: World) -> dict[str, Any]:
    return world.service.service("svc", OPERATOR, tenant=None)


def serve(world: World, seconds: float = 30.0, *, gateway: str = "g", **of: dict[str, Any]) -> None:
    """So long, one report in ten seconds: `serve(world, v1={"arrivals": 100})`; `v1` is the job 1."""
    for _ in range(round(seconds / 10)):
        world.service.take_loads(gateway, [load(name[1:], window_s=10.0, **told) for name, told in of.items()])
        world.run().pass_time(10)


@pytest.fixture
def second(world: World) -> World:
    """Version 1 (job 1) serves, and version 2 (job 2) has been deployed."""
    answer(world, deploy(world))
    deploy(world, canary=STEPS)
    return world


# ---- taking over -------------------------------------------------------------------------------------------------


def test_a_first_version_is_live_at_once_and_a_later_one_takes_over_step_by_step(second: World) -> None:
    world = second
    assert (weights(world), states(world)) == ({1: 1000, 2: 0}, ["live", "starting"])
    answer(world, "2")
    assert (weights(world), states(world)) == ({1: 900, 2: 100}, ["live", "canary"])
    good = {"v1": {"arrivals": 90}, "v2": {"arrivals": 10}}
    serve(world, 50, **good)
    assert weights(world) == {1: 900, 2: 100}  # the step is not over
    serve(world, 20, **good)
    assert weights(world) == {1: 500, 2: 500}
    serve(world, 70, **good)
    assert weights(world) == {1: 0, 2: 1000}
    assert world.words("1") == "running"  # ready to go back to
    serve(world, 70, v2={"arrivals": 100})
    assert (weights(world)[2], states(world)) == (1000, ["stopped", "live"])
    assert show(world)["version"] == 2
    assert len(world.engine.live("1")) == 0
    assert world.words("1") == "running"  # without replicas: kept to go back to
    world.run()
    assert weights(world) == {2: 1000}
    assert [row["event"] for row in show(world)["decisions"] if row["version"] == 2][::-1] == [
        *("rollout_began", "rollout_step", "rollout_step", "rollout_step", "promoted"),
    ]


def test_a_plain_job_becomes_version_1_of_the_service_that_is_deployed(world: World) -> None:
    (plain,) = world.submit(service_spec())
    answer(world, plain)
    assert show(world)["deployed"] is False
    new = deploy(world)
    assert [(v["number"], v["job"], v["state"]) for v in show(world)["versions"]] == [
        (2, new, "starting"),
        (1, plain, "live"),
    ]
    answer(world, new)
    world.pass_time(700)  # nobody asks anything: after a while it takes over all the same
    assert states(world) == ["stopped", "live"]


def test_a_step_with_too_few_requests_is_prolonged_and_not_for_ever(second: World) -> None:
    answer(second, "2")
    serve(second, 300, v1={"arrivals": 50}, v2={"arrivals": 0})
    assert weights(second) == {1: 900, 2: 100}
    serve(second, 310, v1={"arrivals": 50}, v2={"arrivals": 0})
    assert weights(second) == {1: 500, 2: 500}


def test_the_next_step_waits_for_the_replicas_that_it_needs(make: Make) -> None:
    world = make(node_facts("n1", 8))
    scaled = {"workers_min": 1, "workers_max": 4, "autoscale": Autoscale()}
    deploy(world, **scaled)
    world.service.scale_service("svc", OPERATOR, tenant=None, replicas=4)
    world.run()
    answer(world, "1", 4)
    deploy(world, canary=STEPS, **scaled)
    answer(world, "2", 1)
    assert weights(world) == {1: 900, 2: 100}
    assert world.job("2").workers_wanted == 2  # half the requests: half of the replicas of version 1
    serve(world, 70, v1={"arrivals": 90}, v2={"arrivals": 10})
    assert weights(world) == {1: 900, 2: 100}
    world.engine.ready("2", 1)
    world.run()
    assert weights(world) == {1: 500, 2: 500}
    assert world.job("2").workers_wanted == 4


# ---- given up ----------------------------------------------------------------------------------------------------


def test_one_with_more_errors_is_given_up_with_its_figures(second: World) -> None:
    answer(second, "2")
    serve(second, 20, v1={"arrivals": 90, "errors": 1}, v2={"arrivals": 10, "answered": 4, "errors": 6})
    assert (weights(second), states(second)) == ({1: 1000}, ["live", "rolled back"])
    why = show(second)["versions"][0]["why"]
    assert why.startswith("errors: ")
    assert "of the new version" in why
    (event,) = [each for each in show(second)["decisions"] if each["event"] == "rolled_back"]
    detail = event["detail"]
    assert (detail["what"], detail["new"]["errors"] >= 6, detail["chance"] < detail["limit"]) == ("errors", True, True)
    assert len(second.engine.live("2")) == 0
    assert second.gateway.addresses("svc") == [second.view("1")["workers"][0]["address"]]


def test_one_that_breaks_the_slo_which_the_old_one_holds_is_given_up(world: World) -> None:
    answer(world, deploy(world, slo_p99_ms=50.0))
    answer(world, deploy(world, slo_p99_ms=50.0, canary=STEPS))
    serve(world, 40, v1={"arrivals": 900}, v2={"arrivals": 100, "within_slo": 90})
    assert states(world) == ["live", "rolled back"]
    assert "late answers" in show(world)["versions"][0]["why"]


def test_where_the_old_version_is_no_better_the_new_one_may_go_on(world: World) -> None:
    answer(world, deploy(world, slo_p99_ms=50.0))
    answer(world, deploy(world, slo_p99_ms=50.0, canary=STEPS))
    for _ in range(7):
        serve(world, 10, v1={"arrivals": 900, "within_slo": 800}, v2={"arrivals": 100, "within_slo": 89})
    assert weights(world) == {1: 500, 2: 500}


def test_one_whose_job_fails_is_given_up(second: World) -> None:
    for _ in range(4):  # its retries
        second.engine.exit("2", 1)
        second.run().pass_time(30)
    assert (weights(second), states(second)) == ({1: 1000}, ["live", "failed"])
    assert "exit code" in show(second)["versions"][0]["why"]


def test_one_that_never_answers_is_given_up_in_time(second: World) -> None:
    second.pass_time(290)
    assert states(second) == ["live", "starting"]
    second.pass_time(20)
    assert states(second) == ["live", "rolled back"]
    assert "0 of 1 replicas answer" in show(second)["versions"][0]["why"]


def test_the_old_version_keeps_its_replicas_while_the_new_one_takes_over(make: Make) -> None:
    """And so there is nothing to scale back when the new one is given up."""
    world = make(node_facts("n1", 8))
    scaled = {"workers_min": 1, "workers_max": 4, "autoscale": Autoscale(down_after_s=20.0)}
    deploy(world, **scaled)
    world.service.scale_service("svc", OPERATOR, tenant=None, replicas=3)
    world.run()
    answer(world, "1", 3)
    world.service.scale_service("svc", OPERATOR, tenant=None, replicas=None)
    deploy(world, canary=STEPS, **scaled)
    answer(world, "2", 1)
    serve(world, 60, v1={"arrivals": 5}, v2={"arrivals": 1})
    assert (len(world.engine.live("1")), world.job("1").workers_wanted) == (3, 3)


# ---- going back --------------------------------------------------------------------------------------------------


def test_back_to_the_version_before(second: World) -> None:
    answer(second, "2")
    serve(second, 220, v1={"arrivals": 90}, v2={"arrivals": 90})
    assert states(second) == ["stopped", "live"]
    second.service.rollback_service("svc", OPERATOR, tenant=None, to=None)
    second.run()
    assert (weights(second)[2], show(second)["state"]) == (1000, "rolling back")  # until version 1 answers
    second.engine.ready("1", 0)
    second.run()
    assert (weights(second)[1], states(second)) == (1000, ["live", "rolled back"])
    second.run()
    assert len(second.engine.live("2")) == 0


def test_a_rollout_can_be_given_up_by_hand(second: World) -> None:
    answer(second, "2")
    second.service.rollback_service("svc", OPERATOR, tenant=None, to=None)
    second.run()
    assert (states(second), show(second)["versions"][0]["why"]) == (["live", "rolled back"], "rolled back by wang")


def test_what_cannot_be(second: World) -> None:
    service = second.service
    with pytest.raises(Conflict, match="version 2 of service svc is being rolled out"):
        service.deploy_service(service_spec(), OPERATOR)
    with pytest.raises(Conflict, match="deployed service of tenant studio"):
        service.submit([service_spec()], OPERATOR)
    answer(second, "2")
    service.rollback_service("svc", OPERATOR, tenant=None, to=None)
    with pytest.raises(NotFound, match="has no version 7; it has 1, 2"):
        service.rollback_service("svc", OPERATOR, tenant=None, to=7)
    with pytest.raises(Conflict, match="version 1 of service svc is the live one already"):
        service.rollback_service("svc", OPERATOR, tenant=None, to=1)
    with pytest.raises(Conflict, match="no version that was live before"):
        service.rollback_service("svc", OPERATOR, tenant=None, to=None)
    with pytest.raises(NotFound, match="there is no service other; there are: svc"):
        service.service("other", OPERATOR, tenant=None)
    with pytest.raises(NotFound, match="there is no service svc"):
        service.service("svc", HOSPITAL, tenant=None)
    with pytest.raises(Forbidden, match="it sees nothing of hospital"):
        service.service("svc", STUDIO, tenant="hospital")
    with pytest.raises(Forbidden, match="viewer"):
        service.deploy_service(service_spec(name="x"), VIEWER)
    with pytest.raises(BadInput, match="of kind training"):
        service.deploy_service(spec(), OPERATOR)
    with pytest.raises(BadInput, match="suanli service deploy"):
        service.submit([service_spec(name="x", canary=STEPS)], OPERATOR)
    (plain,) = second.submit(service_spec(name="plain"))
    with pytest.raises(Conflict, match=f"suanli cancel {plain} ends it"):
        service.delete_service("plain", OPERATOR, tenant=None)


def test_delete_ends_all_its_jobs_and_the_name_is_free_again(second: World) -> None:
    second.engine.stubborn.add("1")
    second.service.delete_service("svc", OPERATOR, tenant=None)
    assert show(second)["state"] == "deleting"
    with pytest.raises(Conflict, match="is being deleted"):
        second.service.deploy_service(service_spec(), OPERATOR)
    for key in second.engine.live():
        second.engine.end(key, "exit", 0)
    second.run().pass_time(1)
    assert (second.words("1", "2"), second.store.deployed()) == ("cancelled cancelled", [])
    deploy(second)
    assert states(second) == ["live"]


def test_old_versions_are_kept_for_a_while(world: World) -> None:
    for number in range(1, 9):
        answer(world, deploy(world, canary=Canary((100,), 1.0, 0)))
        world.pass_time(10)
        assert states(world)[-1] == "live", number
    assert states(world) == ["gone", "gone", *["stopped"] * 5, "live"]
    assert world.words("1", "2", "3") == "cancelled cancelled running"


def test_two_tenants_may_have_a_service_of_one_name(world: World) -> None:
    deploy(world)
    deploy(world, tenant="hospital")
    with pytest.raises(Conflict, match="tenants hospital, studio have a service svc each"):
        show(world)
    assert world.service.service("svc", HOSPITAL, tenant=None)["tenant"] == "hospital"
    assert len(world.service.services(STUDIO)["services"]) == 1


def test_a_job_says_which_version_it_is(second: World) -> None:
    answer(second, "2")
    assert second.view("2")["version"] == {"number": 2, "weight_milli": 100, "state": "canary"}
    (training,) = second.submit(spec())
    assert second.view(training)["version"] is None


# ---- kill -9 -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def story(world: World, *, bad: bool) -> None:
    """Version 1 serves; version 2 takes over, or (`bad`) is given up; version 3 is deployed after it."""
    told = {"arrivals": 30, "answered": 10, "errors": 20} if bad else {"arrivals": 30}
    for _ in range(40):
        for key in world.engine.live():
            if key not in world.ready_told:  # type: ignore[attr-defined]
                world.ready_told.add(key)  # type: ignore[attr-defined]
                world.engine.ready(key.job_id, key.worker)
        world.run()
        world.service.take_loads("g", [load("1", arrivals=90, window_s=10.0), load("2", window_s=10.0, **told)])
        world.run().pass_time(10)


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(1, 14))
def test_killed_at_any_write_the_rollout_ends_as_it_would_have(make: Make, write: int, after: bool, bad: bool) -> None:
    """The `write`-th write from the deployment on does (`after`) or does not reach the disk, and the service dies."""
    world = make(node_facts("n1", 4))
    world.ready_told = set()  # type: ignore[attr-defined]
    answer(world, deploy(world))
    world.ready_told.update(world.engine.live())  # type: ignore[attr-defined]
    left = write

    def hook(what: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed(what)

    if after:
        world.store.after_write = hook
    else:
        world.store.before_write = hook
    deployed = False
    for _ in range(3):
        try:
            if not deployed:
                world.service.deploy_service(service_spec(workers=1, canary=replace(STEPS, steps=(50, 100))), OPERATOR)
                deployed = True
            story(world, bad=bad)
            break
        except Killed:
            world.store.before_write = world.store.after_write = None
            world.engine.disconnect()
            world.start_service().run()
            deployed = deployed or world.store.job("2") is not None
    assert states(world) == (["live", "rolled back"] if bad else ["stopped", "live"])
    live, other = ("1", "2") if bad else ("2", "1")
    world.pass_time(30)
    assert (len(world.engine.live(live)), len(world.engine.live(other))) == (1, 0)
    assert weights(world) == {int(live): 1000}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(1, 8))
def test_killed_at_any_write_a_deletion_is_carried_through(make: Make, write: int, after: bool) -> None:
    """No service comes back because its record went before its job."""
    world = make(node_facts("n1", 4))
    answer(world, deploy(world))
    left = write

    def hook(what: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed(what)

    if after:
        world.store.after_write = hook
    else:
        world.store.before_write = hook
    for _ in range(2):
        try:
            if world.words("1") == "running" and world.store.deployed() and not world.store.deployed()[0].deleted:
                world.service.delete_service("svc", OPERATOR, tenant=None)
            world.run().pass_time(30)
            break
        except Killed:
            world.store.before_write = world.store.after_write = None
            world.engine.disconnect()
            world.start_service().run()
    assert (world.words("1"), world.store.deployed(), world.engine.live()) == ("cancelled", [], [])
