"""What is told of every device: its place, what health makes of it, whose it is, what it reads; as far as asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from node_agent.devices.source import Quantity
from node_agent.health.verdicts import Finding, Jobs, Lifts, Use
from scheduler.core.demand import Demand
from scheduler.core.health_budget import Budget
from scheduler.errors import BadInput, NotFound
from scheduler.ports import NoReadings, Principal
from scheduler.service import device_views
from scheduler.service.device_views import DEFAULT_FIELDS, SILENT_DEVICE, SILENT_NODE
from scheduler.service.health_book import HealthSettings
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, World

WATTS = {"value": 412.5, "unit": "watts", "at_s": 7.0, "quality": "measured"}


def rows(world: World, by: Principal = OPERATOR, **asked: Any) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = world.service.devices(by, **asked)["devices"]
    return shown


def test_a_row_is_where_a_device_is_and_what_it_reads() -> None:
    facts = replace(node_facts("n1", 2), rack="r7")
    world = World(facts, node_facts("n2", 1))
    world.engine.shown_readings = {"n1": {"n1-dev0": {"power_watts": WATTS, "faults": {"unavailable": "lost"}}}}
    answer = world.service.devices(OPERATOR, fields=["power_watts", "faults", "power_watts"])
    assert (answer["fields"], answer["truncated"]) == (["power_watts", "faults"], False)
    assert answer["at_s"] == world.clock.now_s()
    first, second, third = answer["devices"]
    assert first == {
        "node": "n1",
        "site": "site",
        "rack": "r7",
        "index": 0,
        "uuid": "n1-dev0",
        "model": "H100 SXM",
        "vendor": "NVIDIA",
        "simulated": False,
        "node_state": "ready",
        "use": "schedulable",
        "reason": "",
        "jobs": [],
        "quality": "measured",
        "read_at_s": 7.0,
        "values": [412.5, None],
        "unavailable": {"faults": "lost"},
    }
    assert (second["values"], set(second["unavailable"].values())) == ([None, None], {SILENT_DEVICE})
    assert (third["read_at_s"], set(third["unavailable"].values())) == (None, {SILENT_NODE})


def test_what_is_asked_for_is_what_is_shown() -> None:
    world = World(node_facts("n1", 1), replace(node_facts("n2", 2, model="A100 SXM"), site="other"))
    assert world.service.devices(OPERATOR)["fields"] == list(DEFAULT_FIELDS)
    assert [row["node"] for row in rows(world)] == ["n1", "n2", "n2"]
    assert [row["node"] for row in rows(world, site="other")] == ["n2", "n2"]
    assert [row["node"] for row in rows(world, node="n1")] == ["n1"]
    assert [row["index"] for row in rows(world, model="a100 sxm")] == [0, 1]
    assert rows(world, site="other", node="n1") == []
    with pytest.raises(NotFound, match="there is no node n9; nodes: n1, n2"):
        rows(world, node="n9")
    with pytest.raises(BadInput, match=r"no reading called 'power'; there are clock.*power_watts") as failed:
        rows(world, fields=["faults", "power"])
    assert failed.value.field == "fields"


def test_a_tenant_sees_its_own_jobs_alone() -> None:
    world = World(node_facts("n1", 1))
    shares = [world.one(alternatives=(Demand(devices=0, share_milli=250),)) for _ in range(2)]
    assert rows(world)[0]["jobs"] == [{"id": job, "tenant": "studio", "share_milli": 250} for job in shares]
    assert rows(world, STUDIO)[0]["jobs"] == rows(world)[0]["jobs"]
    assert rows(world, HOSPITAL)[0]["jobs"] == []


def test_workers_of_one_job_on_a_device_are_one_entry() -> None:
    world = World(node_facts("n1", 1))
    job = world.one(alternatives=(Demand(devices=0, share_milli=300),), workers_min=2, workers_max=2)
    assert rows(world)[0]["jobs"] == [{"id": job, "tenant": "studio", "share_milli": 600}]


def wrong(device: str, use: Use, reason: str) -> Finding:
    return Finding(device, "rule", use, Jobs.KEEP, Lifts.RESET, reason, "restart the node", 0.0)


@pytest.mark.parametrize("use", [Use.NO_MULTI_DEVICE, Use.NO_NEW_WORK, Use.CORDONED])
def test_what_health_does_is_told_with_its_reason(use: Use) -> None:
    world = World(node_facts("n1", 2))
    world.engine.find("n1", wrong("n1-dev1", use, "XID 79"), wrong("n1-dev1", Use.SCHEDULABLE, "warm"))
    world.run()
    assert [(row["use"], row["reason"]) for row in rows(world)] == [("schedulable", ""), (use.value, "XID 79")]
    assert [row["node_state"] for row in rows(world)] == ["ready", "ready"]


def test_a_node_as_a_whole_is_told_for_each_device() -> None:
    world = World(node_facts("n1", 2))
    world.engine.find("n1", wrong("", Use.CORDONED, "2 of 8 devices"), wrong("n1-dev1", Use.NO_NEW_WORK, "warm"))
    world.run()
    assert {(row["node_state"], row["use"], row["reason"]) for row in rows(world)} == {
        ("cordoned", "cordoned", "2 of 8 devices")
    }


def test_what_is_only_told_has_its_reason_and_keeps_nothing_back() -> None:
    settings = HealthSettings(budget=Budget(), report_only=True)
    world = World(node_facts("n1", 1), health=settings)
    world.engine.find("n1", wrong("n1-dev0", Use.SCHEDULABLE, "warm"), wrong("n1-dev0", Use.CORDONED, "XID 79"))
    world.run()
    assert [(row["use"], row["reason"]) for row in rows(world)] == [("schedulable", "XID 79")]


def test_beyond_so_many_the_rest_is_left_out() -> None:
    world = World(node_facts("n1", 3), node_facts("n2", 3))
    seats = world.service.loop.call(device_views.seats)
    for most, truncated in ((6, False), (5, True), (3, True), (2, True)):
        shown = device_views.devices_view(seats, NoReadings(), [Quantity.FAULTS.value], at_s=1.0, most=most)
        assert (len(shown["devices"]), shown["truncated"]) == (min(most, 6), truncated)
