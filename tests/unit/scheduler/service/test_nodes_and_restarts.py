"""Nodes that go silent, die and come back, and a service that is killed: nothing is lost, nothing runs twice."""

from __future__ import annotations

import pytest

from node_agent.messages import Prepare, Release, RenewLease, Stop
from scheduler.core.jobs import Pending, Running
from scheduler.core.reasons import Requeued, WaitingForLease
from tests.fakes.fake_engine import node_facts
from tests.fakes.fake_store import FakeStore, Kept
from tests.fakes.service_world import LEASE_S, OPERATOR, Make, World, spec

# ---- nodes -------------------------------------------------------------------------------------------------------


def test_a_dead_nodes_job_is_requeued_at_once(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.engine.vanish(key.node, proof=True)
    world.run()
    assert world.words(job) == "running"
    assert world.engine.live(job)[0].node != key.node
    assert (world.job(job).attempts, world.job(job).failures) == (2, 0)


def test_a_silent_nodes_job_waits_for_lease_grace_and_margin(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one(saves=True)  # grace 30 s
    (key,) = world.engine.live(job)
    world.engine.vanish(key.node)
    world.run()
    state = world.job(job).state
    assert isinstance(state, Pending)
    until_s = world.clock.now_s() + LEASE_S + 30 + 5
    assert state.reason == WaitingForLease(key.node, until_s)
    assert state.not_before_s == until_s
    assert world.pass_time(94).words(job) == "pending"
    assert world.pass_time(1).words(job) == "running"
    assert world.engine.live(job)[-1].attempt == 2


def test_a_node_that_comes_back_in_time_keeps_its_job(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.engine.vanish(key.node)
    world.run().pass_time(20)
    world.engine.come_back(key.node)
    world.run()
    assert isinstance(world.job(job).state, Running)
    assert world.engine.live(job) == [key]
    world.engine.exit(job)
    world.run()
    assert world.words(job) == "succeeded"
    assert world.job(job).attempts == 1


def test_a_node_that_comes_back_without_the_run_ends_the_wait(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.engine.vanish("n1")
    world.run()
    world.engine.nodes["n1"].runs.clear()
    world.engine.come_back("n1")
    world.run()
    assert world.words(job) == "running"
    assert world.job(job).attempts == 2


def test_proof_of_death_ends_the_wait(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.engine.vanish(key.node)
    assert world.run().words(job) == "pending"
    world.engine.vanish(key.node, proof=True)
    assert world.run().words(job) == "running"


def test_the_rest_of_a_gang_is_stopped_and_the_whole_waits_for_the_lease(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one(workers=2)
    world.engine.stubborn.add(job)
    world.engine.vanish("n2")
    world.run()
    assert [stop.key.node for stop in world.sent(Stop)] == ["n1"]
    assert world.words(job) == "running"  # until its last worker that can be heard is gone
    world.pass_time(11)
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, WaitingForLease)
    # Its run on n2 lives. It is stopped when the node is back, and the wait is over as soon as it has ended.
    world.engine.come_back("n2")
    world.run()
    assert [stop.key.node for stop in world.sent(Stop)] == ["n1", "n2"]
    assert world.words(job) == "pending"
    assert world.service.nodes(OPERATOR)["nodes"][1]["notes"] == ["1 processes of earlier attempts are being stopped"]
    world.engine.stubborn.clear()
    world.pass_time(11)
    assert world.words(job) == "running"
    assert world.job(job).attempts == 2


def test_nothing_starts_beside_an_earlier_attempt(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.engine.stubborn.add(job)
    world.engine.ignores_lease.add(job)
    world.engine.vanish(key.node)
    world.run().pass_time(80)  # the lease is over: attempt 2 runs on the other node
    (other,) = [each for each in world.engine.live(job) if each.attempt == 2]
    assert other.node != key.node
    waiting = world.one()
    world.engine.come_back(key.node)
    world.run()
    assert world.words(job, waiting) == "running pending"  # the engine would fail the test if its device were given
    world.pass_time(15)
    assert world.words(job, waiting) == "running running"


def test_cancelling_while_a_node_is_silent_ends_the_job_and_later_its_run(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.engine.vanish("n1")
    world.run()
    world.service.cancel(job, OPERATOR, reason="")
    assert world.words(job) == "cancelled"
    world.engine.come_back("n1")
    world.run()
    assert world.engine.live(job) == []
    assert world.words(world.one()) == "running"


def test_what_was_decided_before_a_nodes_return_was_looked_at_is_not_sent(make: Make) -> None:
    """Found by the torture test: a job was placed, its command waited for a full disk, and meanwhile its node went and
    came back. The command started the run after the node had taken stock without it: it was believed gone, and was
    started a second time beside itself."""
    world = make(node_facts("n1", 2))
    world.service.submit([spec()], OPERATOR)
    world.store.full = True
    world.once()  # placed, and not committed
    world.engine.vanish("n1")
    world.engine.come_back("n1")
    world.store.full = False
    world.run()
    assert world.words("1") == "running"
    assert len(world.engine.launched) == 1


def test_a_new_node_takes_what_waits_and_first_gets_its_lease(make: Make) -> None:
    world = make(node_facts("n1", 1))
    first, second = world.submit(spec(), spec())
    assert world.words(first, second) == "running pending"
    world.engine.add(node_facts("n2", 1))
    world.run()
    assert world.words(second) == "running"
    to_n2 = [command for node, command in world.engine.sent if node == "n2"]
    assert isinstance(to_n2[0], RenewLease)


# ---- restarts ----------------------------------------------------------------------------------------------------


def test_a_restart_in_the_middle_of_everything_changes_nothing(make: Make) -> None:
    world = make(node_facts("n1", 4), node_facts("n2", 4))
    gang = world.one(workers=2, devices=2)
    alone = world.one()
    waiting = world.one(workers=2, devices=4)
    launched = list(world.engine.launched)
    world.restart()
    assert world.words(gang, alone, waiting) == "running running pending"
    assert world.engine.launched == launched
    assert world.used_milli() == 5000
    for worker in (0, 1):
        world.engine.exit(gang, worker=worker)
    world.engine.exit(alone)
    world.run()
    assert world.words(gang, alone, waiting) == "succeeded succeeded running"


def test_what_ended_while_the_service_was_away_is_heard_of(world: World) -> None:
    well, badly = world.submit(spec(), spec())
    world.kill_service()
    world.engine.exit(well, result="{}")
    world.engine.exit(badly, 9)
    world.start_service().run()
    assert world.words(well, badly) == "succeeded failed"
    assert world.store.results(well) == {(1, 0): "{}"}
    assert world.engine.nodes["n1"].runs == {}  # forgotten, as it was committed


def test_a_job_acknowledged_just_before_the_kill_runs_afterwards(world: World) -> None:
    (job,) = [view["id"] for view in world.service.submit([spec()], OPERATOR)["jobs"]]
    assert world.engine.launched == []
    world.restart()
    assert world.words(job) == "running"


def test_a_job_after_another_still_waits_after_a_restart(world: World) -> None:
    first = world.one()
    second = world.one(after=(first,))
    world.restart()
    assert world.words(first, second) == "running pending"
    world.engine.exit(first)
    assert world.run().words(first, second) == "succeeded running"


def test_a_dependency_that_ended_before_the_kill_is_looked_up(world: World) -> None:
    first = world.one()
    world.engine.exit(first)
    world.run()
    (job,) = [view["id"] for view in world.service.submit([spec(after=(first,))], OPERATOR)["jobs"]]
    assert world.restart().words(job) == "running"


def test_a_job_that_waits_for_jobs_that_are_done_is_set_free_by_a_restart(world: World) -> None:
    """The end of the first and the release of the second are one commit; a bug between them must not last for ever."""
    first = world.one()
    second = world.one(after=(first,))
    still_waiting = world.job(second)
    world.engine.exit(first)
    world.run().kill_service()
    world.engine.nodes["n1"].lose_everything()
    world.store._jobs[second] = still_waiting
    world.start_service().run()
    assert world.words(first, second) == "succeeded running"


def test_a_submission_is_not_refused_for_want_of_a_node_not_heard_of_yet(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 4))
    big = world.one(devices=4)
    world.kill_service()
    world.engine.nodes["n2"].reachable = False
    world.start_service().run()
    assert world.words(big, world.one(devices=4)) == "running pending"


def test_back_off_and_preemption_survive_a_restart(world: World) -> None:
    retrying = world.one(retries=1)
    world.engine.exit(retrying, 1)
    world.run()
    victim = world.one(devices=4, priority=0, saves=True)
    world.engine.stubborn.add(victim)
    world.engine.saves.add(victim)
    urgent = world.one(devices=4, priority=90)
    assert world.words(retrying, victim, urgent) == "pending preempting pending"
    world.restart()
    assert world.words(retrying, victim, urgent) == "pending preempting pending"
    world.pass_time(60)
    assert world.words(victim, urgent) == "pending running"
    assert world.job(victim).resume_from == f"/ck/{victim}/attempt-1"


def test_a_gang_killed_between_release_and_start_meets_where_it_was_told(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    real_send = world.engine.send
    world.service.submit([spec(workers=2)], OPERATOR)
    sent: list[str] = []

    def send(node: str, commands: list[object]) -> None:
        """The service is killed when it has released the first of the two."""
        if any(isinstance(command, Release) for command in commands):
            sent.append(node)
            if len(sent) > 1:
                return
        real_send(node, commands)  # type: ignore[arg-type]

    world.engine.send = send  # type: ignore[method-assign, assignment]
    world.run()
    assert len(world.engine.launched) == 1
    world.engine.send = real_send  # type: ignore[method-assign]
    world.restart()
    assert world.words("1") == "running"
    assert len(world.engine.launched) == 2
    assert len(set(world.engine.masters.values())) == 1


def test_a_kill_between_commit_and_command_starts_the_job_after_all(world: World) -> None:
    world.service.submit([spec()], OPERATOR)
    real_send = world.engine.send
    world.engine.send = lambda node, commands: None  # type: ignore[method-assign]
    world.run()
    assert world.words("1") == "starting"
    world.engine.send = real_send  # type: ignore[method-assign]
    assert world.restart().words("1") == "running"
    assert len(world.engine.launched) == 1


def test_a_kill_before_the_commit_starts_nothing(world: World) -> None:
    world.service.submit([spec()], OPERATOR)
    world.store.full = True
    world.run()
    assert world.sent(Prepare) == []
    world.kill_service()
    world.store.full = False
    world.start_service().run()
    assert world.words("1") == "running"
    assert len(world.engine.launched) == 1


def test_a_node_not_heard_of_after_a_restart_counts_as_silent(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.kill_service()
    world.engine.die_unnoticed(key.node)
    world.start_service().run()
    assert world.pass_time(29).words(job) == "running"
    world.pass_time(1)
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, WaitingForLease)
    assert world.pass_time(LEASE_S + 10 + 5).words(job) == "running"
    assert world.job(job).attempts == 2


def test_a_node_that_lost_its_records_ends_its_runs_unseen(world: World) -> None:
    job = world.one()
    world.kill_service()
    world.engine.nodes["n1"].runs.clear()
    world.start_service().run()
    assert world.words(job) == "pending"
    assert "no record" in world.view(job)["reason"]["text"]
    assert world.pass_time(1).words(job) == "running"


def test_runs_that_no_job_owns_are_stopped(world: World) -> None:
    job = world.one()
    world.kill_service()
    world.store = FakeStore(Kept(epoch=5))  # somebody put an empty store in its place
    world.start_service().run()
    assert world.engine.live(job) == []
    assert world.sent(Stop)[-1].cause == "not the current attempt"
    assert world.engine.nodes["n1"].runs == {}


def test_epochs_grow_and_a_superseded_service_stops_acting(world: World) -> None:
    job = world.one()
    old = world.service
    old_loop = old.loop
    world.start_service().run()  # a second one, while the first still lives
    second_epoch = world.sent(RenewLease)[-1].epoch
    assert second_epoch > 1
    commits = world.store.commits
    old_loop.post(_refused(second_epoch))
    old_loop.run_once()
    with pytest.raises(Exception, match="taken over"):
        old.cancel(job, OPERATOR, reason="")
    with pytest.raises(Exception, match="taken over"):
        old.submit([spec()], OPERATOR)
    assert world.store.commits == commits
    assert world.words(job) == "running"


def _refused(epoch: int) -> object:
    from node_agent.messages import Refused
    from scheduler.ports import RunEvent

    return RunEvent(Refused(None, epoch), "n1", 1)


def test_requeued_says_why(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.engine.vanish("n1", proof=True)
    world.run()
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert state.reason == Requeued("node n1 was lost")
