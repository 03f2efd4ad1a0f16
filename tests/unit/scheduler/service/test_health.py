"""What agents find, as the planner, the jobs and the operators meet it: within the budget, and over restarts."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.health.verdicts import NODE, Finding, Jobs, Lifts, Use
from node_agent.messages import Mended, Prepare, Stop
from scheduler.core.demand import Barred, Demand
from scheduler.core.health_budget import Budget
from scheduler.errors import Conflict
from scheduler.service.health_book import HealthSettings
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, service_spec, spec


def wrong(
    device: str,
    use: Use = Use.CORDONED,
    jobs: Jobs = Jobs.KEEP,
    *,
    since_s: float = 0.0,
    rule: str = "fallen-off-bus",
) -> Finding:
    return Finding(device, rule, use, jobs, Lifts.RESET, "XID 79", "restart the node", since_s)


def uuid(world: World, node: str, index: int) -> str:
    return world.engine.nodes[node].facts.devices[index].uuid


def view(world: World, node: str = "n1") -> dict[str, Any]:
    return world.service.node(node, OPERATOR)


def devices_of(world: World, job: str) -> set[tuple[str, int]]:
    """Where its last attempt was sent to."""
    sent = [command for command in world.sent(Prepare) if command.key.job_id == job]
    last = max(command.key.attempt for command in sent)
    return {(each.key.node, i) for each in sent if each.key.attempt == last for i in each.spec.device_indices}


def why(world: World, job: str) -> str:
    return str(world.view(job)["reason"]["text"])


# ---- what the planner makes of it ------------------------------------------------------------------------------------


def test_a_cordoned_device_gets_nothing_new_and_says_why(make: Make) -> None:
    world = make(node_facts("n1", 2))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    one, two = world.one(), world.one()
    assert devices_of(world, one) == {("n1", 1)}
    assert world.words(two) == "pending"
    assert "1 unhealthy" in why(world, two)
    (finding,) = view(world)["health"]
    assert (finding["device"], finding["use"], finding["undone"]) == (0, "cordoned", "")
    assert view(world)["state"] == "ready"
    world.engine.find("n1")
    world.run()
    assert devices_of(world, two) == {("n1", 0)}
    assert view(world)["health"] == []
    world.no_bugs()


def test_what_wants_several_devices_keeps_away_from_a_bad_link_and_single_ones_do_not(make: Make) -> None:
    world = make(node_facts("n1", 2))
    world.engine.find("n1", wrong(uuid(world, "n1", 0), Use.NO_MULTI_DEVICE))
    world.run()
    pair = world.one(devices=2)
    gang = world.one(workers=2)
    assert world.words(pair, gang) == "pending pending"
    single = world.one()
    assert devices_of(world, single) == {("n1", 0)}
    assert "unhealthy" in why(world, pair)


def test_a_node_is_cordoned_as_a_whole(make: Make) -> None:
    world = make(node_facts("n1", 2))
    world.engine.find("n1", wrong(NODE))
    world.run()
    job = world.one(alternatives=(Demand(devices=0),))
    assert world.words(job) == "pending"
    assert view(world)["state"] == "cordoned"
    assert "unhealthy" in why(world, job)
    world.engine.find("n1")
    world.run()
    assert world.words(job) != "pending"


def test_why_names_what_is_unhealthy_and_what_to_do_about_it(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2, model="A"), node_facts("n3", 1, simulated=True))
    world.engine.find("n1", wrong(uuid(world, "n1", 1)))
    world.engine.find("n2", wrong(uuid(world, "n2", 0)))
    world.engine.find("n3", wrong(uuid(world, "n3", 0)))
    world.run()
    pair = world.one(alternatives=(Demand(devices=2, node="n1"),))
    told = str(world.service.why(pair, OPERATOR)["text"]).splitlines()
    assert [line for line in told if line.startswith("  unhealthy")] == [
        "  unhealthy     device 1 of node n1: XID 79; restart the node"
    ]
    assert "  could start   when what is unhealthy is mended, or enough of what is in the way ends" in told

    world.engine.find("n1", wrong(NODE))
    world.run()
    assert "  unhealthy     node n1: XID 79; restart the node" in str(world.service.why(pair, OPERATOR)["text"])


def test_a_job_that_could_run_were_all_well_is_taken_and_waits(make: Make) -> None:
    world = make(node_facts("n1", 1))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    job = world.one()
    assert world.words(job) == "pending"


# ---- what becomes of jobs --------------------------------------------------------------------------------------------


def test_a_job_is_moved_off_and_has_used_up_no_retry(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one(saves=True)
    world.engine.saves.add(job)
    ((node, _),) = devices_of(world, job)
    world.engine.find(node, wrong(uuid(world, node, 0), jobs=Jobs.MOVE))
    world.run()
    (stop,) = world.sent(Stop)
    assert (stop.key.job_id, stop.checkpoint, stop.cause) == (job, True, "device unhealthy")
    world.pass_time(1)
    ((other, _),) = devices_of(world, job)
    assert other != node
    assert (world.job(job).failures, world.job(job).attempts) == (0, 2)
    world.no_bugs()


def test_a_job_that_may_stay_runs_to_its_end(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.pass_time(60)
    assert world.sent(Stop) == []
    world.engine.exit(job)
    world.run()
    assert world.words(job) == "succeeded"


def test_a_contained_fault_takes_the_job_back_once_and_keeps_the_device(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.pass_time(5)
    hit = wrong(uuid(world, "n1", 0), Use.SCHEDULABLE, Jobs.REQUEUE, since_s=world.clock.now_s())
    world.engine.find("n1", hit)
    world.pass_time(5)
    assert (world.job(job).attempts, world.job(job).failures, world.words(job)) == (2, 0, "running")
    world.restart()  # told again, of what was before the attempt that runs now
    world.pass_time(5)
    assert (world.job(job).attempts, len(world.sent(Stop))) == (2, 1)


def test_a_job_that_dies_of_its_device_has_used_up_no_retry(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    ((node, _),) = devices_of(world, job)
    world.pass_time(5)
    world.engine.find(node, wrong(uuid(world, node, 0), since_s=world.clock.now_s()))
    world.run()
    world.engine.exit(job, 1)
    world.pass_time(1)
    assert (world.job(job).failures, world.words(job)) == (0, "running")
    assert devices_of(world, job) == {("n2" if node == "n1" else "n1", 0)}


def test_a_job_that_fails_beside_a_device_that_was_bad_before_fails_by_itself(make: Make) -> None:
    world = make(node_facts("n1", 2))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    job = world.one()
    world.engine.exit(job, 1)
    world.run()
    assert world.words(job) == "failed"


def test_a_replica_is_replaced_and_then_goes(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(service_spec(workers=1))
    world.engine.ready(job, 0)
    world.run()
    ((node, _),) = devices_of(world, job)
    world.engine.find(node, wrong(uuid(world, node, 0)))
    world.run()
    assert world.sent(Stop) == []
    world.engine.ready(job, 1)
    world.run()
    world.pass_time(1)
    assert {key.node for key in world.engine.live(job)} == {"n1", "n2"} - {node}
    world.no_bugs()


def test_a_replica_on_a_dead_device_starts_again_elsewhere_at_once(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(service_spec(workers=1))
    world.engine.ready(job, 0)
    world.run()
    ((node, _),) = devices_of(world, job)
    world.engine.find(node, wrong(uuid(world, node, 0), jobs=Jobs.MOVE))
    world.run()
    world.pass_time(1)
    assert {key.node for key in world.engine.live(job)} == {"n1", "n2"} - {node}
    assert world.job(job).failures == 0
    world.no_bugs()


# ---- budget, and what is only told -----------------------------------------------------------------------------------


def test_beyond_the_budget_it_is_told_and_nothing_is_done(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    ((first, _),) = devices_of(world, job)
    second = "n2" if first == "n1" else "n1"
    world.engine.find(second, wrong(uuid(world, second, 0)))
    world.run()
    world.engine.find(first, wrong(uuid(world, first, 0), jobs=Jobs.MOVE))  # worse: it takes the other's place
    world.run()
    undone = {name: view(world, name)["health"][0]["undone"] for name in (first, second)}
    assert undone == {first: "", second: "the budget of health for such devices is spent"}
    world.pass_time(1)
    assert devices_of(world, job) == {(second, 0)}


def test_an_operators_drain_makes_room_in_the_budget(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    for name in ("n1", "n2"):
        world.engine.find(name, wrong(uuid(world, name, 0)))
    world.run()
    assert [bool(view(world, name)["health"][0]["undone"]) for name in ("n1", "n2")] == [False, True]
    world.service.drain("n1", OPERATOR, reason="swap")
    world.run()
    assert [bool(view(world, name)["health"][0]["undone"]) for name in ("n1", "n2")] == [False, False]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (HealthSettings(report_only=True), "health only reports here"),
        (HealthSettings(only_told=frozenset({"fallen-off-bus"})), "rule fallen-off-bus only reports here"),
    ],
)
def test_what_is_only_told_does_nothing(make: Make, told: HealthSettings, said: str) -> None:
    world = make(node_facts("n1", 1), health=told)
    world.engine.find("n1", wrong(uuid(world, "n1", 0), jobs=Jobs.MOVE), wrong(NODE, jobs=Jobs.MOVE))
    world.run()
    job = world.one()
    assert devices_of(world, job) == {("n1", 0)}
    assert {each["undone"] for each in view(world)["health"]} == {said}
    world.engine.exit(job, 1)
    world.run()
    assert world.words(job) == "failed"  # by itself: nothing was done about the device


# ---- restarts and operators ------------------------------------------------------------------------------------------


def test_a_service_that_starts_again_knows_before_it_starts_anything(make: Make) -> None:
    world = make(node_facts("n1", 2))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    world.restart()
    job = world.one()
    assert devices_of(world, job) == {("n1", 1)}
    world.no_bugs()


def test_a_job_on_a_bad_device_is_kept_over_a_restart(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    world.restart()
    assert world.words(job) == "running"
    assert world.used_milli() == 1_000
    world.no_bugs()


def test_an_operators_word_goes_to_the_agent(make: Make) -> None:
    world = make(node_facts("n1", 1))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    job = world.one()
    world.service.resume("n1", OPERATOR)
    world.run()
    assert [command.node for command in world.sent(Mended)] == ["n1"]
    assert devices_of(world, job) == {("n1", 0)}
    with pytest.raises(Conflict, match="nothing is found wrong"):
        world.service.resume("n1", OPERATOR)


def test_resuming_a_drained_node_says_that_it_is_mended_too(make: Make) -> None:
    world = make(node_facts("n1", 1))
    world.engine.find("n1", wrong(uuid(world, "n1", 0)))
    world.run()
    world.service.drain("n1", OPERATOR, reason="swap")
    world.run()
    world.service.resume("n1", OPERATOR)
    world.run()
    assert (view(world)["drain"], view(world)["health"], view(world)["state"]) == (None, [], "ready")


# ---- whatever arrives ------------------------------------------------------------------------------------------------

NODES = {"n1": 2, "n2": 2, "n3": 1, "n4": 0}
findings = st.builds(
    lambda index, use, jobs, rule: (index, use, jobs, rule),
    st.none() | st.integers(0, 1),
    st.sampled_from(Use),
    st.sampled_from(Jobs),
    st.sampled_from(["a", "b", "told"]),
)
steps = st.one_of(
    st.tuples(st.just("find"), st.sampled_from(sorted(NODES)), st.lists(findings, max_size=3)),
    st.tuples(st.sampled_from(["drain", "resume"]), st.sampled_from(sorted(NODES)), st.none()),
    st.tuples(st.sampled_from(["submit", "exit", "restart", "wait"]), st.none(), st.none()),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=12))
def test_health_never_takes_out_more_than_the_budget(story: list[tuple[str, Any, Any]]) -> None:
    told = HealthSettings(Budget(share=0.0, nodes=1), only_told=frozenset({"told"}))
    world = World(*(node_facts(name, count) for name, count in NODES.items()), health=told)
    for what, node, said in story:
        told_before = len(world.engine.sent)
        if what == "find":
            there = world.engine.nodes[node].facts.devices
            wanted = [
                wrong(NODE if index is None else there[index].uuid, use, do, rule=rule, since_s=world.clock.now_s())
                for index, use, do, rule in said
                if index is None or index < len(there)
            ]
            world.engine.find(node, *wanted)
        elif what == "drain":
            world.service.drain(node, OPERATOR, reason="x")
        elif what == "resume":
            with contextlib.suppress(Conflict):
                world.service.resume(node, OPERATOR)
        elif what == "submit":
            world.submit(spec(retries=1), spec(workers=2), service_spec(devices=1))
        elif what == "exit":
            for key in world.engine.live()[:1]:
                world.engine.end(key, "exit", 1)
        elif what == "restart":
            world.restart()
        elif what == "wait":
            world.pass_time(5)
        world.run()
        world.no_bugs()
        state = world.service.loop.state
        out = {
            (name, device.index)
            for name in NODES
            if name in state.cluster and name not in state.drains
            for device in state.cluster.facts(name).devices
            if device.barred or state.health.on(name).whole is not None
        }
        assert len(out) <= 2, out
        for name, command in world.engine.sent[told_before:]:
            if isinstance(command, Prepare) and what != "restart":  # (what is on its way is told again then)
                devices = {device.index: device for device in state.cluster.facts(name).devices}
                assert all(devices[index].barred is not Barred.ALL for index in command.spec.device_indices)
                linked = command.spec.world_size > 1 and command.spec.kind == "training"
                assert not linked or all(not devices[index].barred for index in command.spec.device_indices)
                assert state.health.on(name).whole is None
        for acted in state.health.acted.values():
            assert acted.whole is None or acted.whole.rule != "told"
            assert all(finding.rule != "told" for _, finding in acted.barred.values())
