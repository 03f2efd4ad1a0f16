"""Idle devices are checked, give way to everybody, and what is found is acted upon and outlives the service."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.messages import Noted, Prepare, Stop
from scheduler.core.decisions import Policy
from scheduler.core.demand import Demand, NodeFacts
from scheduler.core.device_checks import CheckSettings, Part
from scheduler.core.jobs import shown
from scheduler.errors import Conflict
from scheduler.service.check_book import TENANT
from scheduler.service.health_book import CheckOrders, HealthSettings
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, World, spec

EVERY_S = 3_600.0
SETTINGS = CheckSettings(every_s=EVERY_S, idle_s=60.0, at_once=8, failures=2, likes=2)
DAY = 2 * EVERY_S


def world_of(*nodes: NodeFacts, policy: Policy | None = None, **given: Any) -> World:
    wanted = CheckSettings(**{**{name: getattr(SETTINGS, name) for name in CheckSettings.__slots__}, **given})
    orders = CheckOrders(wanted, ("python", "-m", "benchmarks", "check"), "/repo")
    return World(*(nodes or (node_facts("n1", 2),)), policy=policy, health=HealthSettings(checks=orders))


def checks(world: World) -> list[str]:
    """All that were ever placed, oldest first."""
    sent = [each for each in world.sent(Prepare) if each.spec.tenant == TENANT]
    return list(dict.fromkeys(each.key.job_id for each in sent))


def until_check(world: World, *, within_s: float = DAY) -> str:
    before = len(checks(world))
    while len(checks(world)) == before:
        assert within_s > 0, "nothing was checked"
        world.pass_time(30.0)
        within_s -= 30.0
    return checks(world)[-1]


def places(world: World, job: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(e.key.node, e.spec.device_indices) for e in world.sent(Prepare) if e.key.job_id == job]


def part(came: str = "right", rate: float | None = 100.0, why: str = "") -> dict[str, Any]:
    return {"came": came, "rate": rate, "unit": "TFLOP/s", "why": why}


def end(world: World, job: str, of: dict[str, dict[str, Any]], links: list[dict[str, Any]] | None = None) -> None:
    world.engine.exit(job, result=json.dumps({"check": 1, "devices": of, "links": links or []}))
    world.run()


def found(world: World, node: str = "n1") -> dict[tuple[int, str], dict[str, Any]]:
    return {(each["device"], each["rule"]): each for each in world.service.node(node, OPERATOR)["health"]}


# ---- who is checked, and when ----------------------------------------------------------------------------------------


def test_idle_devices_are_checked_once_in_an_interval() -> None:
    world = world_of()
    job = until_check(world)
    assert places(world, job) == [("n1", (0, 1))]
    (sent,) = [each for each in world.sent(Prepare) if each.key.job_id == job]
    assert sent.spec.argv == (
        *("python", "-m", "benchmarks", "check", "--worker", "--seconds", "3"),
        *("--part", "products", "--part", "memory", "--part", "links"),
    )
    assert (sent.spec.working_dir, sent.spec.kind) == ("/repo", "benchmark")
    end(world, job, {f"n1-dev{i}": {"products": part()} for i in (0, 1)})
    assert world.words(job) == "succeeded"
    world.pass_time(EVERY_S / 2 - 60)
    assert checks(world) == [job]
    until_check(world)
    assert found(world) == {}
    world.no_bugs()


def test_nobody_is_billed_for_a_check() -> None:
    world = world_of()
    job = until_check(world)

    def billed(of: Any) -> list[str]:
        sums = world.service.usage(OPERATOR, month=None, tenant=None, of=of)["sums"]
        return [each["name"] for each in sums]

    world.pass_time(5.0)
    assert billed("tenant") == []  # while it runs
    end(world, job, {f"n1-dev{i}": {"products": part()} for i in (0, 1)})
    (record,) = world.store.usage_records(job)
    assert (record.tenant, record.seconds > 0) == (TENANT, True)
    work = world.one()
    world.pass_time(5.0)
    world.engine.exit(work)
    world.run()
    assert billed("tenant") == ["studio"]
    assert billed("job") == [work]
    entries = world.service.usage_entries(OPERATOR, month=None, tenant=None, offset=0, limit=10)["entries"]
    assert [each["job_id"] for each in entries] == [work]
    world.no_bugs()


@pytest.mark.parametrize(
    "facts",
    [node_facts("n1", 2, simulated=True), node_facts("n1", 0)],
    ids=["simulated", "without devices"],
)
def test_what_is_simulated_is_never_checked(facts: NodeFacts) -> None:
    world = world_of(facts)
    world.pass_time(DAY)
    assert checks(world) == []


def test_cpu_devices_are_checked_where_the_site_wants_it_alone() -> None:
    facts = node_facts("n1", 1)
    cpus = replace(facts, devices=tuple(replace(device, vendor="cpu") for device in facts.devices))
    world = world_of(cpus)
    world.pass_time(DAY)
    assert checks(world) == []
    until_check(world_of(cpus, cpu=True))


def test_without_orders_nothing_is_checked() -> None:
    world = World(node_facts("n1", 2))
    world.pass_time(DAY)
    assert checks(world) == []


def test_busy_devices_and_those_that_were_busy_a_moment_ago_are_left_alone() -> None:
    world = world_of(idle_s=600.0)
    job = world.one(time_limit_s=10 * DAY)
    check = until_check(world)
    assert places(world, check) == [("n1", (1,))]
    end(world, check, {})
    world.pass_time(2 * EVERY_S)
    for each in checks(world):
        assert places(world, each) == [("n1", (1,))]
    world.engine.exit(job)
    before = len(checks(world))
    world.pass_time(540.0)
    assert all(0 not in indices for each in checks(world)[before:] for _, indices in places(world, each))


def test_drained_and_cordoned_nodes_are_not_checked() -> None:
    world = world_of()
    world.service.drain("n1", OPERATOR, reason="maintenance")
    world.pass_time(DAY)
    assert checks(world) == []


def test_no_more_devices_than_wanted_are_checked_at_a_time() -> None:
    world = world_of(*(node_facts(f"n{i}", 4) for i in range(6)), at_once=8, time_limit_s=DAY)
    most = 0
    for turn in range(int(2 * DAY / 30)):
        world.pass_time(30.0)
        live = {key.job_id: key for key in world.engine.live() if key.job_id in checks(world)}
        most = max(most, sum(len(places(world, job)[0][1]) for job in live))
        for job in list(live)[: turn % 60 == 0]:
            end(world, job, {})
    assert most == 8
    assert {places(world, job)[0][0] for job in checks(world)} == {f"n{i}" for i in range(6)}


def test_checks_are_listed_for_those_alone_who_ask_for_them() -> None:
    world = world_of()
    mine = world.one(devices=0, alternatives=(Demand(devices=0),))
    world.engine.exit(mine)
    check = until_check(world)

    def listed(tenant: str | None, states: list[str] | None = None) -> tuple[list[str], int | None]:
        answer = world.service.jobs(OPERATOR, tenant=tenant, states=states, limit=2)
        return [view["id"] for view in answer["jobs"]], answer["total"]

    assert listed(None, ["running"]) == ([], 0)
    assert listed(TENANT, ["running"]) == ([check], 1)
    for _ in range(3):
        end(world, checks(world)[-1], {})
        until_check(world)
    assert listed(None) == ([mine], 1)
    assert world.service.job("last", OPERATOR)["id"] == mine
    world.no_bugs()


# ---- giving way ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [90, 40, 0])
def test_a_check_gives_way_to_anybodys_work_and_counts_for_nothing(priority: int) -> None:
    """Also to a class that preempts nobody."""
    world = world_of(policy=Policy(non_preempting=frozenset({0})))
    check = until_check(world)
    job = world.submit(spec(devices=2, priority=priority))[0]
    assert [each.key.job_id for each in world.sent(Stop)] == [check]
    assert world.words(job, check) == "running cancelled"
    assert found(world) == {}
    world.engine.exit(job)
    world.pass_time(60.0)
    again = until_check(world)
    assert again != check
    world.no_bugs()


def test_a_check_that_finds_no_place_keeps_nobody_waiting() -> None:
    world = world_of()
    check = until_check(world)
    end(world, check, {})
    world.service.loop.state.checks.due_s.clear()
    world.service.loop.state.checks.due_s.update({f"n1-dev{i}": 0.0 for i in (0, 1)})
    world.service.loop.state.checks.look_s = 0.0
    world.once()  # ordered, and on its way
    job = world.one(devices=2)
    assert world.words(job) == "running"
    world.run()
    ended = world.store.recent_jobs(tenant=TENANT, states=None, limit=9)
    assert {shown(each.state) for each in ended} == {"succeeded", "cancelled"}
    world.no_bugs()


def test_a_class_that_preempts_nobody_still_preempts_no_work() -> None:
    world = world_of(node_facts("n1", 1), policy=Policy(non_preempting=frozenset({40})))
    low = world.one(priority=0)
    waits = world.one(priority=40)
    assert world.words(low, waits) == "running pending"


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_a_device_that_computes_wrongly_twice_is_given_nothing_new_until_an_operator_says_so() -> None:
    world = world_of()
    wrong = {"n1-dev0": {"products": part("wrong", None, "residual 3 is over 1e-3")}, "n1-dev1": {"products": part()}}
    end(world, until_check(world), wrong)
    assert found(world) == {}
    end(world, until_check(world, within_s=700.0), wrong)
    finding = found(world)[0, "check-wrong"]
    assert (finding["use"], finding["undone"], finding["lifts"]) == ("no_new_work", "", "operator")
    assert "residual 3" in finding["reason"]
    assert "2 times in a row" in finding["reason"]
    assert world.words(world.one(devices=2)) == "pending"
    world.restart()
    assert (0, "check-wrong") in found(world)
    world.service.resume("n1", OPERATOR)
    world.run()
    assert found(world) == {}
    world.restart()
    assert found(world) == {}
    world.no_bugs()


def test_one_failure_among_good_ones_is_nothing() -> None:
    world = world_of()
    for came in ("wrong", "right", "wrong", "right", "not run", "wrong"):
        end(world, until_check(world), {"n1-dev0": {"memory": part(came, why="7 of 9 elements differ")}})
        assert found(world) == {}


def test_what_cannot_be_run_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = world_of()
    for how in (
        "",
        "{",
        '{"check": 99}',
        '{"check": 1, "devices": 7}',
        json.dumps({"check": 1, "trouble": "no torch"}),
    ):
        world.engine.exit(until_check(world), code=1 if not how else 0, result=how or None, detail="no module torch")
        world.run()
    assert found(world) == {}
    assert "no torch" in caplog.text
    assert "no module torch" in caplog.text
    world.no_bugs()


def test_a_check_that_hangs_is_ended_and_not_repeated_at_once() -> None:
    world = world_of(time_limit_s=60.0)
    check = until_check(world)
    world.pass_time(90.0)
    assert world.words(check) == "failed"
    assert found(world) == {}
    world.pass_time(EVERY_S / 2 - 120.0)
    assert checks(world) == [check]


def test_a_device_says_nothing_of_others() -> None:
    world = world_of(node_facts("n1", 1), node_facts("n2", 1))
    lie = {f"{node}-dev0": {"products": part("wrong", None, "no")} for node in ("n1", "n2", "n9")}
    for _ in range(6):
        check = until_check(world)
        ((node, _),) = places(world, check)
        end(world, check, lie if node == "n1" else {"n2-dev0": {"products": part()}})
    assert found(world, "n1")
    assert not found(world, "n2")


def test_a_slow_device_is_flagged_and_cleared_by_a_good_check() -> None:
    world = world_of(node_facts("n1", 4), at_once=4)

    def result(slow: float) -> dict[str, dict[str, Any]]:
        return {f"n1-dev{i}": {"products": part(rate=slow if i == 3 else 100.0 + i)} for i in range(4)}

    end(world, until_check(world), result(60.0))
    assert found(world) == {}
    end(world, until_check(world), result(60.0))
    finding = found(world)[3, "check-slow"]
    assert finding["use"] == "schedulable"
    assert "59% of the 101 TFLOP/s" in finding["reason"]
    facts = world.service.loop.state.cluster.facts("n1")
    assert [device.doubtful for device in facts.devices] == [False, False, False, True]
    assert world.words(world.one(devices=3)) == "running"  # and it stands on the others
    ((_, devices),) = [(e.key.node, e.spec.device_indices) for e in world.sent(Prepare) if e.spec.tenant != TENANT]
    assert devices == (0, 1, 2)
    end(world, until_check(world), {"n1-dev3": {"products": part(rate=99.0)}})
    assert found(world) == {}
    world.no_bugs()


def test_a_wrong_link_keeps_both_ends_from_work_of_several_devices() -> None:
    world = world_of()
    link = [{"between": ["n1-dev0", "n1-dev1"], **part("wrong", None, "what arrived is not what was sent")}]
    for _ in range(2):
        end(world, until_check(world), {}, link)
    assert {key: each["use"] for key, each in found(world).items()} == {
        (0, "check-link-wrong"): "no_multi_device",
        (1, "check-link-wrong"): "no_multi_device",
    }
    pair, single = world.one(devices=2), world.one()
    assert world.words(pair, single) == "pending running"


# ---- the nights' flags -----------------------------------------------------------------------------------------------


def flag(device: str, rule: str = "slow-than-like", text: str = "12% slower than its like") -> dict[str, Any]:
    return {"device": device, "rule": rule, "text": text, "since_s": 5.0}


def test_flags_replace_those_of_before_and_name_what_is_not_known() -> None:
    world = world_of(node_facts("n1", 2), node_facts("n2", 1))
    said = world.service.flag_devices("night 1", [flag("n1-dev0"), flag("nobody"), flag("n2-dev0")], OPERATOR)
    assert said == {"run": "night 1", "taken": 2, "ignored": ["nobody"]}
    world.run()
    finding = found(world)[0, "slow-than-like"]
    assert (finding["use"], finding["reason"]) == ("schedulable", "12% slower than its like (night 1)")
    world.restart()
    assert (0, "slow-than-like") in found(world)
    assert (0, "slow-than-like") in found(world, "n2")
    world.engine.vanish("n2")
    world.run()
    world.service.flag_devices("night 2", [flag("n1-dev1", "slow-than-before")], OPERATOR)
    world.run()
    assert set(found(world)) == {(1, "slow-than-before")}
    world.engine.come_back("n2")
    world.run()
    assert found(world, "n2") == {}
    assert world.engine.noted["n2"]["nights"] == ()
    world.no_bugs()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["night", "restart", "vanish", "back", "resume", "wait"]),
            st.lists(st.sampled_from(["n1-dev0", "n1-dev1", "n2-dev0"]), max_size=3, unique=True),
        ),
        max_size=8,
    )
)
def test_what_the_service_shows_is_what_the_agents_keep(steps: list[tuple[str, list[str]]]) -> None:
    """Whatever dies in between: once all nodes are back, both say the same."""
    world = World(node_facts("n1", 2), node_facts("n2", 1), health=HealthSettings())
    for step, devices in steps:
        if step == "night":
            world.service.flag_devices("n", [flag(device) for device in devices], OPERATOR)
        elif step == "restart":
            world.restart()
        elif step == "vanish" and world.engine.nodes["n2"].reachable:
            world.engine.vanish("n2")
        elif step == "back":
            world.engine.come_back("n2")
        elif step == "resume" and "n2" in world.service.loop.state.cluster:
            with contextlib.suppress(Conflict):  # nothing is found there
                world.service.resume("n2", OPERATOR)
        world.run()
    world.engine.come_back("n2")
    world.run()
    for node in ("n1", "n2"):
        kept = {each.device for each in world.engine.noted.get(node, {}).get("nights", ())}
        assert {each["uuid"] for each in world.service.node(node, OPERATOR)["health"]} == kept
    world.no_bugs()


def test_the_agent_is_told_once() -> None:
    world = world_of()
    for _ in range(3):
        world.service.flag_devices("night", [flag("n1-dev0")], OPERATOR)
        world.run()
    assert len(world.sent(Noted)) == 1


def test_parts_can_be_chosen() -> None:
    world = world_of(parts=(Part.MEMORY,))
    job = until_check(world)
    (sent,) = [each for each in world.sent(Prepare) if each.key.job_id == job]
    assert sent.spec.argv is not None
    assert sent.spec.argv[-2:] == ("--part", "memory")
