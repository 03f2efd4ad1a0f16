"""Many jobs cancelled at one request: in one step, with one commit, and nothing started in between."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.messages import Prepare, Stop
from scheduler.core.jobs import LIVE_STATES
from scheduler.errors import SuanliError
from scheduler.service import planning
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, Make, World, service_spec, spec


def row(answer: dict[str, Any], job_id: str) -> dict[str, Any]:
    return next(each for each in answer["jobs"] if each["id"] == job_id)


def errors(answer: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["error"]["type"] for each in answer["jobs"] if each["error"] is not None}


def test_an_array_goes_at_once_and_none_of_its_tasks_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit(spec(array_size=200))
    world.engine.exit("1.0")
    world.run()
    assert len(world.sent(Prepare)) == 5
    passes: list[int] = []
    once = planning._pass

    def counted(*args: Any) -> None:
        passes.append(1)
        once(*args)

    monkeypatch.setattr(planning, "_pass", counted)
    before = world.store.commits
    answer = world.service.cancel_jobs(["1"], OPERATOR, reason="a mistake")
    assert (answer["cancelled"], answer["stopping"], answer["failed"]) == (195, 4, 0)
    assert answer["jobs"] == [
        {
            **{"id": "1", "name": "job", "tasks": 200, "cancelled": 195, "stopping": 4, "ended": 1},
            **{"state": None, "cause": None, "detail": None, "error": None},
        }
    ]
    assert world.store.commits == before + 1
    assert len(passes) <= 1
    assert len(world.sent(Stop)) == 4
    world.run()
    assert len(world.sent(Prepare)) == 5
    assert world.events("1.199") == "submitted cancelled"


def test_what_waits_besides_takes_the_places_only_afterwards(world: World) -> None:
    world.submit(spec(array_size=8))
    (other,) = world.submit(spec(devices=4))
    world.service.cancel_jobs(["1"], OPERATOR, reason="")
    assert world.words("1.0", "1.7", other) == "running cancelled pending"
    world.run()
    assert world.words("1.0", "1.7", other) == "cancelled cancelled running"


def test_each_id_is_answered_and_none_stops_the_others(world: World) -> None:
    running, ended, waiting = world.one(devices=4), world.one(devices=4), world.one(devices=4)
    world.submit(spec(array_size=2, devices=4))
    world.service.cancel_jobs([ended, "4.1"], OPERATOR, reason="")
    answer = world.service.cancel_jobs([ended, "99", running, waiting, "x", "4.1", "4.2", "4"], OPERATOR, reason="no")
    assert errors(answer) == {
        **{ended: "conflict", "99": "not_found", "x": "bad_input", "4.1": "conflict", "4.2": "not_found"}
    }
    assert row(answer, ended)["error"]["message"] == (
        f"job {ended} has ended already (cancelled); there is nothing to cancel"
    )
    assert (answer["cancelled"], answer["stopping"], answer["failed"]) == (2, 1, 5)
    assert {key: row(answer, waiting)[key] for key in ("state", "cause", "detail", "ended")} == {
        **{"state": "cancelled", "cause": "cancelled", "detail": "by wang: no", "ended": 0}
    }
    assert (row(answer, running)["state"], row(answer, running)["cause"]) == ("running", "cancelled")
    assert (row(answer, "4")["cancelled"], row(answer, "4")["ended"]) == (1, 1)
    again = world.service.cancel_jobs(["4"], OPERATOR, reason="")
    assert again["jobs"][0]["error"]["message"] == "every task of array 4 has ended already; there is nothing to cancel"


def test_a_job_that_is_meant_twice_counts_once(world: World) -> None:
    world.submit(spec(array_size=3, devices=4))
    answer = world.service.cancel_jobs(["1", "1.2", "1.2"], OPERATOR, reason="")
    assert [each["id"] for each in answer["jobs"]] == ["1", "1.2"]
    assert (answer["cancelled"], answer["stopping"], row(answer, "1.2")["cancelled"]) == (2, 1, 1)
    assert world.events("1.2") == "submitted cancelled"


def test_tenants_reach_their_own_jobs_alone(world: World) -> None:
    mine, others = world.submit(spec(tenant="studio"), spec(tenant="hospital"))
    world.submit(spec(tenant="hospital", array_size=2))
    answer = world.service.cancel_jobs([mine, others, "3", "3.1"], STUDIO, reason="")
    assert errors(answer) == {others: "not_found", "3": "not_found", "3.1": "not_found"}
    assert {each["name"] for each in answer["jobs"] if each["error"]} == {None}
    assert world.words(others, "3.0", "3.1") == "running running running"
    assert errors(world.service.cancel_jobs([others, "3"], HOSPITAL, reason="")) == {}


def test_those_that_wait_for_them_fail_and_services_go(world: World) -> None:
    (service,) = world.submit(service_spec())
    world.submit(spec(array_size=2, devices=4))
    after = world.one(after=("2.0",))
    answer = world.service.cancel_jobs(["2", service], OPERATOR, reason="")
    assert errors(answer) == {}
    world.run()
    assert world.words("2.0", "2.1", after) == "cancelled cancelled failed"
    assert row(answer, service)["stopping"] + row(answer, service)["cancelled"] == 1


def test_when_the_store_is_away_it_is_said_and_done_later(world: World) -> None:
    world.submit(spec(array_size=20))
    world.store.kept.full = True
    with pytest.raises(SuanliError, match="carried out when the store is back"):
        world.service.cancel_jobs(["1"], OPERATOR, reason="")
    world.store.kept.full = False
    world.run()
    assert world.words("1.0", "1.4", "1.19") == "cancelled cancelled cancelled"


def test_five_thousand_tasks_on_many_nodes(make: Make) -> None:
    world = make(*(node_facts(f"n{i}", 4) for i in range(3)), max_live_jobs=6_000)
    world.submit(spec(array_size=5000))
    answer = world.service.cancel_jobs(["1"], OPERATOR, reason="")
    assert (answer["cancelled"], answer["stopping"]) == (4988, 12)
    world.run()
    assert not [job for job in world.store.live_jobs() if isinstance(job.state, LIVE_STATES)]
