"""Who may do what, what is refused at the door, and the shapes of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.core.demand import Demand
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound, Overloaded, SuanliError, Unavailable
from scheduler.service.views import ended_view
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, service_spec, spec

VIEW_FIELDS = {
    *("id", "seq", "name", "tenant", "kind", "priority_class", "state", "reason", "est_start_s", "submitted_s"),
    *("started_s", "ended_s", "attempt", "failures", "workers_min", "workers_max", "demand", "workers", "simulated"),
    *("resume_from", "cause", "detail", "array_index", "array_limit", "after", "after_any", "time_limit_s"),
    *("deadline_s", "constraints", "reservation", "preemptions", "workers_wanted", "pinned", "version", "held"),
}


# ---- rights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s, job: s.submit([spec()], VIEWER), Forbidden),
        (lambda s, job: s.dry_run(spec(), VIEWER), Forbidden),
        (lambda s, job: s.cancel(job, VIEWER, reason=""), Forbidden),
        (lambda s, job: s.cancel_jobs([job], VIEWER, reason=""), Forbidden),
        (lambda s, job: s.hold_jobs([job], VIEWER, reason="x"), Forbidden),
        (lambda s, job: s.release_jobs([job], VIEWER), Forbidden),
        (lambda s, job: s.requeue_jobs([job], VIEWER, reason="x", hold=False), Forbidden),
        (lambda s, job: s.drain("n1", VIEWER, reason="x"), Forbidden),
        (lambda s, job: s.drain("n1", STUDIO, reason="x"), Forbidden),
        (lambda s, job: s.resume("n1", STUDIO), Forbidden),
        (lambda s, job: s.submit([spec(tenant="hospital")], STUDIO), Forbidden),
        (lambda s, job: s.jobs(STUDIO, tenant="hospital", states=None, limit=9), Forbidden),
        (lambda s, job: s.job(job, HOSPITAL), NotFound),
        (lambda s, job: s.why(job, HOSPITAL), NotFound),
        (lambda s, job: s.wait(job, HOSPITAL, timeout_s=0), NotFound),
        (lambda s, job: s.cancel(job, HOSPITAL, reason=""), NotFound),
        (lambda s, job: s.job("last", HOSPITAL), NotFound),
        (lambda s, job: s.submit([spec(tenant="hospital", after=(job,))], HOSPITAL), BadInput),
        (lambda s, job: s.drain("n7", OPERATOR, reason="x"), NotFound),
        (lambda s, job: s.resume("n1", OPERATOR), Conflict),
        (lambda s, job: s.job("99", OPERATOR), NotFound),
        (lambda s, job: s.job("nonsense", OPERATOR), NotFound),
    ],
)
def test_what_is_not_allowed(world: World, call: Callable[..., object], error: type[SuanliError]) -> None:
    job = world.one()
    before = world.store.commits
    with pytest.raises(error):
        call(world.service, job)
    assert world.run().words(job) == "running"
    assert world.store.commits == before


def test_viewers_and_owners_see_and_owners_may_cancel(world: World) -> None:
    job = world.submit(spec(), by=STUDIO)[0]
    assert world.service.job("last", VIEWER)["id"] == job == world.service.job("last", STUDIO)["id"]
    assert world.service.cancel(job, STUDIO, reason="")["id"] == job


def test_tenants_see_their_own_jobs_only(world: World) -> None:
    mine, others = world.submit(spec(tenant="hospital"), spec(tenant="studio"))
    assert [view["id"] for view in world.service.jobs(HOSPITAL, tenant=None, states=None, limit=9)["jobs"]] == [mine]
    (node,) = world.service.nodes(HOSPITAL)["nodes"]
    assert [device["jobs"] for device in node["devices"] if device["used_milli"]] == [[mine], []]
    (node,) = world.service.nodes(VIEWER)["nodes"]
    assert [device["jobs"] for device in node["devices"] if device["used_milli"]] == [[mine], [others]]


# ---- refused at the door -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"alternatives": (Demand(devices=9),)}, "this cluster can never take 1 worker of 9 x any device; the nearest"),
        ({"alternatives": (Demand(devices=9),)}, "the nearest possible is 4 x any device a worker"),
        ({"alternatives": (Demand(model="H200"),)}, "the nearest possible is 1 x H100 SXM"),
        ({"workers": 9}, "the nearest possible is 4 workers"),
        ({"after": ("77",)}, "there is no job 77 to run after"),
    ],
)
def test_submissions_that_can_never_run(world: World, given: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        world.service.submit([spec(), spec(**given)], OPERATOR)
    assert caught.value.field in ("resources", "after")
    assert world.store.live_jobs() == []
    with pytest.raises(BadInput, match=says):
        world.service.dry_run(spec(**given), OPERATOR)


def test_a_drained_or_silent_node_still_counts_as_one_that_could_take_it(make: Make) -> None:
    world = make(node_facts("n1", 4))
    world.engine.vanish("n1")
    world.run()
    job = world.one(devices=4)
    assert "down" in world.view(job)["reason"]["text"]


def test_too_many_live_jobs(make: Make) -> None:
    world = make(max_live_jobs=5)
    world.submit(spec(array_size=5))
    with pytest.raises(Overloaded, match="at most 5"):
        world.service.submit([spec()], OPERATOR)
    world.engine.exit("1.0")
    world.run()
    assert world.submit(spec()) == ["2"]


# ---- answers -----------------------------------------------------------------------------------------------------


def test_every_view_has_the_agreed_fields_and_is_json(world: World) -> None:
    running, waiting = world.one(devices=4), world.one(devices=4)
    ended = world.one()
    world.service.cancel(ended, OPERATOR, reason="no")
    (service,) = world.submit(service_spec())
    for job in (running, waiting, ended, service):
        view = world.service.wait(job, OPERATOR, timeout_s=0)
        assert set(view) == VIEW_FIELDS
        detail = world.service.job(job, OPERATOR)
        assert sorted(set(detail) - set(view)) == ["events", "results", "spec", "usage"]
        json.dumps([detail, world.service.why(job, OPERATOR)])
    json.dumps([world.service.nodes(OPERATOR), world.service.status(OPERATOR)])
    listed = world.service.jobs(OPERATOR, tenant=None, states=None, limit=9)["jobs"]
    assert [view["id"] for view in listed] == [running, waiting, service, ended]
    assert [
        view["id"] for view in world.service.jobs(OPERATOR, tenant=None, states=["cancelled"], limit=9)["jobs"]
    ] == [ended]
    assert len(world.service.jobs(OPERATOR, tenant=None, states=None, limit=2)["jobs"]) == 2


@pytest.mark.parametrize(
    ("states", "limit", "shown", "total"),
    [
        (None, 9, 5, 5),
        (None, 5, 5, 5),
        (None, 4, 4, None),  # ended ones go on
        (None, 3, 3, None),
        (["pending", "running"], 2, 2, 3),
        (["pending", "running"], 3, 3, 3),
        (["cancelled"], 1, 1, None),
    ],
)
def test_a_listing_says_how_many_there_are(
    world: World, states: list[str] | None, limit: int, shown: int, total: int | None
) -> None:
    jobs = [world.one(devices=4) for _ in range(5)]
    world.service.cancel_jobs(jobs[3:], OPERATOR, reason="")
    answer = world.service.jobs(OPERATOR, tenant=None, states=states, limit=limit)
    assert (len(answer["jobs"]), answer["total"]) == (shown, total)


def test_nodes_show_what_is_used_and_by_whom(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("sim-0", 1, simulated=True))
    job = world.one(alternatives=(Demand(devices=0, share_milli=250, node="n1", cpus_milli=3000, memory_bytes=2**30),))
    real, simulated = world.service.nodes(OPERATOR)["nodes"]
    assert [(device["used_milli"], device["jobs"]) for device in real["devices"]] == [(250, [job]), (0, [])]
    assert (real["cpus_free_milli"], real["memory_free_bytes"]) == (61_000, 511 * 2**30)
    assert (real["state"], real["simulated"], simulated["simulated"]) == ("ready", False, True)
    world.engine.vanish("sim-0")
    world.run()
    down = world.service.nodes(OPERATOR)["nodes"][1]
    assert (down["state"], down["notes"]) == ("down", ["its agent does not answer"])


def test_simulated_devices_are_marked_wherever_a_job_is_shown(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("sim-0", 1, simulated=True))
    real = world.one()
    there = world.one(alternatives=(Demand(simulated=True, node="sim-0"),))
    refused = world.one(alternatives=(Demand(node="n1"),))
    assert world.view(real)["simulated"] is False
    assert world.view(there)["simulated"] is True
    assert world.view(there)["workers"][0]["simulated"] is True
    assert world.view(refused)["simulated"] is None
    assert "simulated" in world.service.why(there, OPERATOR)["text"]


def test_an_ended_job_still_says_where_it_ran_and_that_it_was_simulated(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("sim-0", 2, simulated=True))
    real = world.one(retries=1)
    gang = world.one(workers=2, alternatives=(Demand(simulated=True, node="sim-0"),))
    never = world.one(alternatives=(Demand(node="n1"),))
    world.service.cancel(never, OPERATOR, reason="")
    world.engine.exit(real, 1)
    world.run().pass_time(1)
    for job, workers in ((real, 1), (gang, 2)):
        for worker in range(workers):
            world.engine.exit(job, worker=worker)
    world.run()
    world.restart()
    assert world.words(real, gang, never) == "succeeded succeeded cancelled"
    listed = {view["id"]: view for view in world.service.jobs(OPERATOR, tenant=None, states=None, limit=9)["jobs"]}
    for job in (real, gang, never):
        view = world.view(job)
        assert {name: view[name] for name in VIEW_FIELDS} == listed[job]
    places = {
        job: [(w["worker"], w["attempt"], w["node"], w["devices"], w["phase"]) for w in listed[job]["workers"]]
        for job in listed
    }
    assert places == {
        real: [(0, 2, "n1", [0], "exited")],
        gang: [(0, 1, "sim-0", [0], "exited"), (1, 1, "sim-0", [1], "exited")],
        never: [],
    }
    assert [listed[job]["simulated"] for job in (real, gang, never)] == [False, True, None]
    assert [worker["simulated"] for worker in listed[gang]["workers"]] == [True, True]
    assert "it ran on simulated devices" in world.service.why(gang, OPERATOR)["text"]
    assert "simulated" not in world.service.why(real, OPERATOR)["text"]


def test_a_job_that_once_ran_on_simulated_devices_stays_marked(make: Make) -> None:
    world = make(node_facts("sim-0", 1, simulated=True), node_facts("n1", 1))
    world.service.drain("n1", OPERATOR, reason="")
    job = world.one(retries=1, alternatives=(Demand(simulated=True), Demand()))
    world.engine.exit(job, 1)
    world.service.drain("sim-0", OPERATOR, reason="")
    world.service.resume("n1", OPERATOR)
    world.run().pass_time(1)
    world.engine.exit(job)
    world.run()
    view = world.view(job)
    assert (view["state"], [worker["simulated"] for worker in view["workers"]]) == ("succeeded", [False])
    assert view["simulated"] is True


def test_places_that_were_written_without_saying_so_count_as_simulated_where_they_may_be() -> None:
    world = World(node_facts("sim-0", 1, simulated=True))
    job = world.one(alternatives=(Demand(simulated=True),))
    world.engine.exit(job)
    world.run()
    events = [
        replace(event, detail={"attempt": 1, "nodes": {"0": "sim-0"}})
        for event in world.store.job_events(job)
        if event.event == "placed"
    ]
    assert ended_view(world.job(job), events)["simulated"] is True


def test_a_submission_that_is_stored_is_heard_of_whatever_goes_wrong_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("scheduler.service.views.submitted_view", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.service.submit([spec()], OPERATOR)
    assert world.run().words("1") == "running"


def test_a_store_that_fails_between_two_steps_of_a_submission_leaves_nothing_unheard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking up the jobs to wait for came after the commit: when it failed the job was stored, and heard of only at
    the next restart."""
    first = world.one()
    asked: list[str] = []
    real = world.store.job

    def second_fails(job_id: str) -> object:
        asked.append(job_id)
        if len(asked) == 2:
            raise Unavailable("the store cannot be read now")
        return real(job_id)

    monkeypatch.setattr(world.store, "job", second_fails)
    with pytest.raises(Unavailable):
        world.service.submit([spec(after=(first,))], OPERATOR)
    monkeypatch.undo()
    stored = [job.id for job in world.store.live_jobs()]
    world.run()
    assert sorted(world.service.loop._state.jobs) == stored == [first]


def test_why_a_job_waits(world: World) -> None:
    running = world.one(devices=3, time_limit_s=600.0)
    waiting = world.one(devices=2, time_limit_s=60.0)
    answer = world.service.why(waiting, OPERATOR)
    assert answer["reason"]["kind"] == "no_fit"
    assert answer["blocked_by"] == [running]
    assert answer["est_start_s"] == pytest.approx(world.clock.now_s() + 600)
    text = answer["text"]
    assert f"job {waiting} (job) is pending: 0 of 1 workers fit" in text
    assert "asks for      1 worker, each 2 x any device" in text
    assert f"in the way    job {running}" in text
    assert "could start   in about 10 min, by time limits" in text
    assert "try           with 1 device a worker it would start now" in text


def test_why_of_a_running_and_of_an_ended_job(world: World) -> None:
    job = world.one()
    assert "worker 0 on n1, devices" in world.service.why(job, OPERATOR)["text"]
    world.engine.exit(job, 3, detail="boom")
    world.run()
    answer = world.service.why(job, OPERATOR)
    assert answer["text"].startswith(f"job {job} (job) has failed (exit code)")
    assert "exited with code 3: boom" in answer["text"]


def test_dry_run_says_where_or_why_not_and_keeps_nothing(world: World) -> None:
    answer = world.service.dry_run(spec(devices=2), OPERATOR)
    assert (answer["would_start"], answer["reason"], answer["preempts"]) == (True, None, [])
    assert [place["node"] for place in answer["placements"]] == ["n1"]
    victim = world.one(devices=4, priority=0)
    answer = world.service.dry_run(spec(devices=2, priority=90), OPERATOR)
    assert (answer["would_start"], answer["preempts"]) == (False, [victim])
    assert answer["reason"]["kind"] == "waiting_for_victims"
    assert world.service.dry_run(spec(priority=0), OPERATOR)["reason"]["kind"] == "no_fit"
    assert len(world.store.live_jobs()) == 1


def test_logs_are_read_where_the_attempt_ran(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one(retries=1)
    waiting = world.submit(spec(devices=1), spec(devices=1))[1]
    (first,) = world.engine.live(job)
    world.engine.exit(job, 1)
    world.run()

    def read(name: str, attempt: int | None = None, worker: int = 0) -> str:
        chunk = world.service.read_log(
            name, OPERATOR, worker=worker, attempt=attempt, stream="stdout", offset=0, limit=1000
        )
        return chunk.data.decode()

    assert read(job) == f"stdout of {job} attempt 1 worker 0 on {first.node}\n"
    assert world.words(waiting) == "running"
    world.engine.exit(waiting)
    world.run().pass_time(2)
    (second,) = world.engine.live(job)
    assert read(job) == f"stdout of {job} attempt 2 worker 0 on {second.node}\n"
    assert read(job, attempt=1) == f"stdout of {job} attempt 1 worker 0 on {first.node}\n"
    for name, given in ((job, {"attempt": 3}), (job, {"worker": 1})):
        with pytest.raises(NotFound):
            read(name, **given)
    unstarted = world.one(devices=1, after=(job,))
    with pytest.raises(NotFound, match="has not started"):
        read(unstarted)


def test_an_array_is_named_by_its_tasks(world: World) -> None:
    world.submit(spec(array_size=3))
    with pytest.raises(NotFound, match=r"1 is an array: name one of its tasks, 1\.0 to 1\.2"):
        world.service.job("1", OPERATOR)
    assert world.service.job("last", OPERATOR)["id"] == "1.2"


def test_status_counts_live_jobs_by_state(world: World) -> None:
    world.submit(spec(array_size=6))
    status = world.service.status(OPERATOR)
    assert status["jobs"] == {"running": 4, "pending": 2}
    assert (status["version"], status["epoch"], status["agents"][0]["node"]) == ("test", 1, "n1")


def test_environment_values_are_not_shown(world: World) -> None:
    job = world.one(env=(("TOKEN", "very-secret"),))
    assert "very-secret" not in json.dumps(world.service.job(job, VIEWER))
    assert world.service.job(job, VIEWER)["spec"]["env"] == ["TOKEN"]
