"""What the service answers, and what the fake that stands for it in tests of the API and the CLI answers: one shape,
the one that the API's models document, and one that the CLI can show."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scheduler.api import models, site_models
from scheduler.api.health_routes import FlagsAnswer
from scheduler.cli import nodes as nodes_verb
from scheduler.cli import queue as queue_verb
from scheduler.cli.render import plain
from scheduler.core.demand import Demand
from scheduler.core.jobs import Recurrence
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from scheduler.ports import Principal, ServiceControl
from tests.fakes.control_views import node_view, worker_view
from tests.fakes.fake_control import FakeControl
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, STUDIO, World, spec

HOSPITAL = Principal("zhao", "hospital", "tenant", "normal")


class FakeSide:
    """The fake, with one job that runs, one that waits and one that has ended, as the service would have them."""

    def __init__(self) -> None:
        control = FakeControl()
        control.node_views = {"n1": node_view("n1", devices=4, simulated=True)}
        self.ended, self.running, self.waiting = (control.submit([spec()], STUDIO)["jobs"][0]["id"] for _ in range(3))
        control.set_state(
            self.ended, "failed", cause="exit code", detail="worker 0 ended with 3", ended_s=1.0, attempt=1
        )
        control.set_state(self.running, "running", attempt=1, workers=[worker_view(node="n1", simulated=True)])
        self.control: ServiceControl = control


class RealSide:
    """The service on a fake engine and store."""

    def __init__(self) -> None:
        about = {
            "version": "0.1.0",
            "service_pid": 1,
            "api": "http://127.0.0.1:1",
            "gateway": None,
            "ray_address": None,
            "store": "sqlite://",
        }
        world = World(node_facts("n1", simulated=True), status_extra=about)
        whole_node = replace(spec(), alternatives=(Demand(devices=4, simulated=True),))
        (self.ended,) = world.submit(whole_node)
        world.engine.exit(self.ended, code=3)
        world.run()
        (self.running,) = world.submit(whole_node)
        (self.waiting,) = world.submit(whole_node)
        self.world = world
        self.control: ServiceControl = world.service


Side = FakeSide | RealSide


@pytest.fixture(params=[FakeSide, RealSide], ids=["fake", "real"])
def side(request: pytest.FixtureRequest) -> Side:
    made: Callable[[], Side] = request.param
    return made()


def checked(model: Any, answer: Any) -> Any:
    """The answer, as JSON would carry it, if it has exactly the documented fields."""
    carried = json.dumps(answer, allow_nan=False)
    model.model_validate_json(carried, strict=True)
    return json.loads(carried)


def test_lists_and_details_of_jobs(side: Side) -> None:
    listed = checked(models.JobsAnswer, side.control.jobs(OPERATOR, tenant=None, states=None, limit=10))
    assert [view["state"] for view in listed["jobs"]] == ["running", "pending", "failed"]
    for job_id in (side.running, side.waiting, side.ended):
        assert checked(models.JobAnswer, side.control.job(job_id, OPERATOR))["id"] == job_id
        assert checked(models.WhyAnswer, side.control.why(job_id, OPERATOR))["text"]
        checked(models.JobViewAnswer, side.control.wait(job_id, OPERATOR, timeout_s=0.0))


def test_submitting_dry_runs_and_cancelling(side: Side) -> None:
    job = spec()
    if isinstance(side, RealSide):
        job = side.world.store.job(side.waiting).spec  # type: ignore[union-attr]
    checked(models.DryRunAnswer, side.control.dry_run(job, OPERATOR))
    submitted = checked(models.JobsAnswer, side.control.submit([job], OPERATOR))
    assert [view["state"] for view in submitted["jobs"]] == ["pending"]
    checked(models.JobViewAnswer, side.control.cancel(side.waiting, OPERATOR, reason="r"))
    with pytest.raises(Conflict, match="has ended already"):
        side.control.cancel(side.ended, OPERATOR, reason="again")


def test_cancelling_many(side: Side) -> None:
    ids = [side.waiting, side.ended, "99", side.running, side.waiting]
    answer = checked(models.CancelJobsAnswer, {"schema": "x"} | side.control.cancel_jobs(ids, OPERATOR, reason="r"))
    assert [row["id"] for row in answer["jobs"]] == ids[:4]
    assert (answer["cancelled"], answer["stopping"], answer["failed"]) == (1, 1, 2)
    assert [row["error"] and row["error"]["type"] for row in answer["jobs"]] == [None, "conflict", "not_found", None]
    assert [row["state"] for row in answer["jobs"]] == ["cancelled", None, None, "running"]


def test_holding_releasing_and_requeueing(side: Side) -> None:
    ids = [side.waiting, side.running, "99"]
    held = checked(models.ChangeJobsAnswer, {"schema": "x"} | side.control.hold_jobs(ids, STUDIO, reason="data"))
    assert [row["error"] and row["error"]["type"] for row in held["jobs"]] == [None, "conflict", "not_found"]
    assert (held["changed"], held["failed"], held["jobs"][0]["detail"]) == (1, 2, "held")
    view = checked(models.JobAnswer, side.control.job(side.waiting, OPERATOR))
    assert (view["reason"]["text"], view["held"]["by_operator"]) == ("held by li: data", False)
    released = checked(models.ChangeJobsAnswer, {"schema": "x"} | side.control.release_jobs(ids[:1], OPERATOR))
    assert (released["changed"], released["jobs"][0]["state"]) == (1, "pending")
    assert side.control.job(side.waiting, OPERATOR)["held"] is None
    taken = side.control.requeue_jobs([side.running, side.ended, side.waiting], OPERATOR, reason="fan", hold=False)
    rows = checked(models.ChangeJobsAnswer, {"schema": "x"} | taken)["jobs"]
    assert [row["error"] and row["error"]["type"] for row in rows] == [None, None, "conflict"]
    assert (rows[0]["state"], rows[0]["new"]) == ("preempting", None)
    assert side.control.job(rows[1]["new"], OPERATOR)["state"] == "pending"
    assert taken["changed"] == 2


def test_schedules(side: Side) -> None:
    nightly = spec(name="nightly", schedule=Recurrence("0 2 * * *", "Asia/Shanghai"))
    nightly = replace(nightly, alternatives=(Demand(simulated=True),))
    made = checked(models.JobsAnswer, side.control.submit([nightly], STUDIO))
    assert (made["jobs"], made["schedules"][0]["state"]) == ([], "active")
    with pytest.raises(Conflict, match="has a schedule nightly already"):
        side.control.submit([nightly], STUDIO)
    listed = checked(models.SchedulesAnswer, {"schema": "x"} | side.control.schedules(OPERATOR))["schedules"]
    assert [(view["name"], view["tenant"], view["cron"]) for view in listed] == [("nightly", "studio", "0 2 * * *")]
    assert side.control.schedules(HOSPITAL) == {"schedules": []}
    detail = side.control.schedule("nightly", STUDIO, tenant=None)
    assert len(checked(models.ScheduleDetailAnswer, {"schema": "x"} | detail)["upcoming_s"]) >= 2
    paused = side.control.pause_schedule("nightly", OPERATOR, tenant="studio", reason="fans")
    assert checked(models.ScheduleAnswer, {"schema": "x"} | paused)["paused"]["reason"] == "fans"
    with pytest.raises(Forbidden):
        side.control.resume_schedule("nightly", STUDIO, tenant=None)
    resumed = checked(
        models.ScheduleAnswer, {"schema": "x"} | side.control.resume_schedule("nightly", OPERATOR, tenant=None)
    )
    assert (resumed["state"], resumed["paused"]) == ("active", None)
    checked(models.ScheduleAnswer, {"schema": "x"} | side.control.delete_schedule("nightly", STUDIO, tenant=None))
    with pytest.raises(NotFound, match="there is no schedule nightly"):
        side.control.schedule("nightly", OPERATOR, tenant=None)


def test_the_site(side: Side) -> None:
    checked(site_models.NodesAnswer, side.control.nodes(OPERATOR))
    checked(site_models.StatusAnswer, side.control.status(OPERATOR))
    checked(site_models.TenantsAnswer, side.control.tenants(OPERATOR))
    assert checked(site_models.NodeAnswer, side.control.node("n1", OPERATOR))["drain"] is None
    with pytest.raises(NotFound):
        side.control.node("nowhere", OPERATOR)
    flag = {"device": "nobody", "rule": "slow-than-like", "text": "slow", "since_s": 0.0}
    assert checked(FlagsAnswer, side.control.flag_devices("night", [flag], OPERATOR))["ignored"] == ["nobody"]
    drained = side.control.drain("n1", OPERATOR, reason="fan", deadline_in_s=60.0)
    shown = checked(site_models.NodeAnswer, drained)["drain"]
    assert shown["deadline_s"] - shown["at_s"] == pytest.approx(60.0)
    again = checked(site_models.NodeAnswer, side.control.drain("n1", OPERATOR, reason="fan"))
    assert again["state"] in ("draining", "drained")
    assert checked(site_models.NodeAnswer, side.control.resume("n1", OPERATOR))["state"] == "ready"


def test_every_device(side: Side) -> None:
    answer = checked(site_models.DevicesAnswer, {"schema": "x"} | side.control.devices(OPERATOR))
    assert [(row["node"], row["index"], row["simulated"]) for row in answer["devices"]] == [
        ("n1", index, True) for index in range(4)
    ]
    named = checked(site_models.DevicesAnswer, {"schema": "x"} | side.control.devices(OPERATOR, fields=["faults"]))
    assert (named["fields"], named["devices"][0]["values"]) == (["faults"], [None])
    assert set(named["devices"][0]["unavailable"]) == {"faults"}
    assert side.control.devices(OPERATOR, site="nowhere")["devices"] == []
    assert len(side.control.devices(OPERATOR, node="n1", model="H100 SXM")["devices"]) == 4
    with pytest.raises(BadInput, match="no reading called 'heat'"):
        side.control.devices(OPERATOR, fields=["heat"])
    with pytest.raises(NotFound):
        side.control.devices(OPERATOR, node="nowhere")


def test_others_jobs_are_not_there(side: Side) -> None:
    for job_id in (side.running, "last", "99"):
        with pytest.raises(NotFound):
            side.control.job(job_id, HOSPITAL)


def test_the_cli_can_show_them_and_says_what_is_simulated(side: Side) -> None:
    views = side.control.jobs(OPERATOR, tenant=None, states=None, limit=10)["jobs"]
    queue = plain(queue_verb.table_of(views, now_s=views[0]["submitted_s"] + 5))
    running = next(line for line in queue.splitlines() if line.startswith(side.running))
    assert "(simulated)" in running
    assert "n1:" in running
    nodes = plain(nodes_verb.nodes_table(side.control.nodes(OPERATOR)["nodes"]))
    assert "4 x H100 SXM (simulated)" in nodes
