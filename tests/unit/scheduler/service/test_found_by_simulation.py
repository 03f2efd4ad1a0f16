"""What the fault simulation found in the service, each as a story that once ended badly. Clocks start at 1,000 s."""

from __future__ import annotations

import pytest

from node_agent.messages import NODES_FAULT, Prepare, Stop
from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.demand import Demand
from scheduler.core.jobs import EndCause, Failed, Pending, Running
from scheduler.core.reasons import BackingOff, WaitingForLease
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import LEASE_S, Make, World, service_spec, spec

NO_DEVICE = (NODES_FAULT, "node n1 has no device 0 any more")


def failed_for(world: World, job: str) -> EndCause | None:
    state = world.job(job).state
    return state.cause if isinstance(state, Failed) else None


# ---- a node that cannot do what it said that it can ------------------------------------------------------------------


def test_a_device_that_has_gone_costs_an_attempt_and_not_the_job(world: World) -> None:
    """The job was told to mend `node` in its file, and had failed."""
    world.engine.bad_checks["n1"] = NO_DEVICE
    job = world.one()
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, BackingOff)
    assert "no device 0 any more" in state.reason.cause
    assert (world.job(job).attempts, world.job(job).failures) == (1, 0)
    assert world.engine.nodes["n1"].runs == {}  # forgotten there, too
    world.engine.bad_checks.clear()
    assert world.pass_time(0.5).words(job) == "pending"
    assert world.pass_time(0.5).words(job) == "running"
    assert (world.job(job).attempts, world.job(job).failures) == (2, 0)


def test_after_nine_minutes_of_attempts_that_no_node_could_start_it_is_given_up(world: World) -> None:
    world.engine.bad_checks["n1"] = NO_DEVICE
    job = world.one(retries=9)
    for wait_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * 7):
        assert world.pass_time(wait_s - 0.5).words(job) == "pending"
        assert world.pass_time(0.5).words(job) == "pending"
    assert world.job(job).attempts == 14
    state = world.pass_time(60).job(job).state
    assert isinstance(state, Failed)
    assert state.cause is EndCause.UNKNOWN
    assert "no device 0 any more. 15 attempts in a row ended before they had started" in state.detail
    assert world.used_milli() == 0


def test_one_node_at_fault_ends_the_attempt_of_the_whole_gang(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    world.engine.bad_checks["n1"] = NO_DEVICE
    (job,) = world.submit(spec(workers=2))
    assert world.words(job) == "pending"
    assert world.engine.launched == []
    assert (world.job(job).attempts, world.used_milli()) == (1, 0)
    world.engine.bad_checks.clear()
    assert world.pass_time(1).words(job) == "running"


def test_what_the_job_file_has_wrong_is_still_the_jobs_own_fault(world: World) -> None:
    world.engine.bad_checks["n1"] = ("command", "not found")
    job = world.one(retries=9)
    assert failed_for(world, job) is EndCause.PREPARE_FAILED
    assert world.job(job).attempts == 1


# ---- replicas that live on where nobody hears of them ----------------------------------------------------------------


def test_a_replica_is_not_started_beside_its_own_earlier_run(make: Make) -> None:
    """Its node was silent for longer than the lease, which binds no replica. When the node came back the replica was
    started at its old place at once, on the devices of the run that was still being stopped there."""
    world = make(node_facts("n1", 1))
    (job,) = world.submit(service_spec())
    world.engine.ready(job)
    world.engine.stubborn.add(job)
    (first,) = world.engine.live(job)
    world.run().engine.vanish("n1")
    world.run().pass_time(LEASE_S + 10)
    assert world.gateway.addresses("svc") == []
    assert world.engine.live(job) == [first]
    world.engine.come_back("n1")
    world.run()
    assert [stop.key for stop in world.sent(Stop)] == [first]
    assert world.engine.live(job) == [first]
    assert world.engine.launched == [first]
    world.pass_time(20)
    (again,) = world.engine.live(job)
    assert (again.attempt, again.node, world.words(job)) == (2, "n1", "running")


@pytest.mark.parametrize("spare", [False, True])
def test_a_replica_is_not_started_again_on_devices_that_its_node_no_longer_lists(make: Make, spare: bool) -> None:
    """It was sent there again and again: its place was its own, and nobody looked whether it was still there."""
    world = make(node_facts("n1", 2))
    (job,) = world.submit(service_spec(workers=2))
    (ends,) = [key for key in world.engine.live(job) if world.engine.places[job, 1, key.worker][1] == (1,)]
    (stays,) = [key for key in world.engine.live(job) if key != ends]
    world.engine.end(ends, "exit", 1)
    world.engine.nodes["n1"].facts = node_facts("n1", 1)
    world.engine.come_back("n1")
    if spare:
        world.engine.add(node_facts("n2", 1))
    world.run().pass_time(10)
    later = [(prepare.key.node, prepare.key.worker) for prepare in world.sent(Prepare) if prepare.key.attempt > 1]
    assert later == ([("n2", ends.worker)] if spare else [])
    assert world.words(job) == "running"
    assert stays in world.engine.live(job)
    if not spare:  # until the device is mended
        world.engine.come_back("n1")
        world.engine.nodes["n1"].facts = node_facts("n1", 2)
        world.engine.come_back("n1")
        world.run().pass_time(1)
        assert len(world.engine.live(job)) == 2


# ---- a head whose clock was set --------------------------------------------------------------------------------------


class NodesClock(FakeClock):
    """The nodes' own, which nobody sets; `set_head` sets the other one."""

    def __init__(self, head: FakeClock) -> None:
        self._head = head
        self._head_ahead_s = 0.0

    def now_s(self) -> float:
        return self._head.now_s() - self._head_ahead_s

    def set_head(self, by_s: float) -> None:
        self._head.advance(by_s)
        self._head_ahead_s += by_s


@pytest.mark.parametrize(
    ("workers", "set_by_s"),
    [
        pytest.param(1, 0.0, id="nobody sets it"),
        pytest.param(1, 7_200.0, id="ahead: every running job was ended at once"),
        pytest.param(2, 7_200.0, id="ahead, a gang"),
        pytest.param(1, -7_200.0, id="back: the job went on for two hours more"),
        pytest.param(2, -7_200.0, id="back to before the gang began"),
    ],
)
def test_a_time_limit_counts_by_the_nodes_clock_after_a_restart(make: Make, workers: int, set_by_s: float) -> None:
    world = make(node_facts("n1", 2))
    world.clock.advance(100_000)
    nodes = world.engine.clock = NodesClock(world.clock)
    world.run()
    job = world.one(workers=workers, time_limit_s=3_600.0)
    world.pass_time(600)
    world.kill_service()
    nodes.set_head(set_by_s)
    world.start_service().run()
    assert world.words(job) == "running"
    assert world.sent(Stop) == []
    world.pass_time(2_990)
    assert world.words(job) == "running"
    world.pass_time(10)
    assert failed_for(world, job) is EndCause.TIME_LIMIT


def test_what_was_set_right_stays_right_over_another_restart(make: Make) -> None:
    world = make(node_facts("n1", 2))
    nodes = world.engine.clock = NodesClock(world.clock)
    job = world.one(time_limit_s=3_600.0)
    world.pass_time(600).kill_service()
    nodes.set_head(7_200.0)
    world.start_service().run().pass_time(600)
    world.restart().pass_time(2_390)
    assert world.words(job) == "running"
    assert failed_for(world.pass_time(10), job) is EndCause.TIME_LIMIT


def test_a_service_runs_since_it_came_up_whenever_its_replicas_were_started_again(world: World) -> None:
    """What the planner is told of its age is its own, not that of the replica that was started last."""
    (job,) = world.submit(service_spec(workers=2))
    world.pass_time(600)
    world.engine.exit(job, 1, worker=1)
    world.run().pass_time(300)
    assert len(world.engine.live(job)) == 2
    world.engine.come_back("n1")  # it is greeted, as it is every 300 s
    world.run()
    state = world.service.loop._steps.state.jobs[job].state
    assert isinstance(state, Running)
    assert state.since_s == 1_000.0


def test_a_moment_between_two_clocks_moves_nothing(make: Make) -> None:
    """What a message needs on its way is no clock that was set."""
    world = make(node_facts("n1", 1))
    nodes = world.engine.clock = NodesClock(world.clock)
    job = world.one()
    began = world.job(job).state
    assert isinstance(began, Running)
    world.pass_time(600).kill_service()
    nodes.set_head(0.5)
    world.start_service().run()
    now = world.service.loop._steps.state.jobs[job].state
    assert isinstance(now, Running)
    assert now.since_s == began.since_s


# ---- a time limit that is over while nobody hears of the job ---------------------------------------------------------


def away(make: Make, **given: object) -> tuple[World, str]:
    """A job with a limit of 100 s ran for 50 s. The service was killed, and the next one, at 1,200 s, does not hear of
    the node yet."""
    world = make(node_facts("n1", 1))
    world.engine.ignores_lease.add("1")
    job = world.one(time_limit_s=100.0, **given)
    world.pass_time(50).kill_service()
    world.engine.nodes["n1"].reachable = False
    world.clock.advance(150)
    world.start_service().run()
    return world, job


def test_nothing_is_ended_by_a_time_limit_while_its_node_is_away(make: Make) -> None:
    world, job = away(make)
    world.pass_time(10)
    assert world.words(job) == "running"
    assert world.sent(Stop) == []
    world.engine.come_back("n1")
    world.run().pass_time(1)
    assert [stop.cause for stop in world.sent(Stop)] == ["time limit"]
    assert failed_for(world, job) is EndCause.TIME_LIMIT


@pytest.mark.parametrize(
    ("code", "retries", "words", "failures"),
    [(0, 0, "succeeded", 0), (3, 1, "pending", 1), (3, 0, "failed", 1)],
)
def test_a_job_that_had_ended_by_itself_before_is_judged_by_that(
    make: Make, code: int, retries: int, words: str, failures: int
) -> None:
    """It had failed by its time limit, which is not tried again."""
    world, job = away(make, retries=retries)
    world.engine.exit(job, code)
    world.pass_time(10)
    assert world.words(job) == "running"
    world.engine.come_back("n1")
    world.run()
    assert (world.words(job), world.job(job).failures) == (words, failures)
    assert failed_for(world, job) in (None, EndCause.EXIT_CODE)
    if words == "pending":
        assert world.pass_time(1).words(job) == "running"
        assert world.job(job).attempts == 2


@pytest.mark.parametrize(
    ("code", "retries", "words", "failures"),
    [(0, 0, "succeeded", 0), (3, 1, "pending", 1), (3, 0, "failed", 1)],
)
def test_so_is_one_whose_end_crosses_the_word_that_its_time_is_over(
    make: Make, code: int, retries: int, words: str, failures: int
) -> None:
    """Nobody has noticed yet that the node does not answer: it counts as up, and the stop is lost on its way."""
    world = make(node_facts("n1", 1))
    job = world.one(time_limit_s=100.0, retries=retries)
    world.pass_time(90)
    world.engine.nodes["n1"].reachable = False
    world.engine.exit(job, code)
    world.pass_time(10)
    assert [stop.cause for stop in world.sent(Stop)] == ["time limit"]
    assert world.words(job) == "running"
    world.engine.come_back("n1")
    world.run()
    assert (world.words(job), world.job(job).failures) == (words, failures)


def test_a_node_that_is_given_up_takes_its_job_with_it_whatever_its_time_limit(make: Make) -> None:
    world, job = away(make)
    world.pass_time(LEASE_S)
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, WaitingForLease)


# ---- a job that counted as lost, and whose devices another was given -------------------------------------------------


def lost_and_replaced(make: Make, **given: object) -> tuple[World, str, str]:
    """The studio may hold one device. Its first job's node fell silent, and its second job began elsewhere."""
    policy = Policy(tenants={"studio": TenantPolicy(maximum_milli=1_000)})
    world = make(node_facts("n1", 1), node_facts("n2", 1), policy=policy)
    lost = world.one(**given)
    (key,) = world.engine.live(lost)
    world.engine.vanish(key.node)
    second = world.run().one()
    assert world.words(lost, second) == "pending running"
    world.pass_time(20)
    return world, lost, second


@pytest.mark.parametrize("saves", [False, True])
def test_a_job_that_counted_as_lost_does_not_come_back_beyond_its_tenants_quota(make: Make, saves: bool) -> None:
    """It was put back as if it had never been away, and the tenant held two devices. Now its run is stopped; it may
    save its work, and the job goes on from there when there is room again."""
    world, lost, second = lost_and_replaced(make, saves=saves)
    world.engine.saves.add(lost)
    (stray,) = world.engine.live(lost)
    world.engine.come_back(stray.node)
    world.run()
    assert world.words(lost, second) == "pending running"
    (stop,) = world.sent(Stop)
    assert (stop.key, stop.checkpoint) == (stray, saves)
    assert world.engine.live(lost) == []
    assert world.used_milli() == 1_000
    world.engine.exit(second)
    world.run()
    assert world.words(lost, second) == "running succeeded"
    (run,) = world.engine.live(lost)
    assert (run.attempt, world.job(lost).failures) == (2, 0)
    assert world.engine.nodes[run.node].specs[run].resume_from == (f"/ck/{lost}/attempt-1" if saves else None)


def test_of_two_that_were_lost_together_as_many_come_back_as_there_is_room_for(make: Make) -> None:
    world = make(
        node_facts("n1", 2), node_facts("n2", 1), policy=Policy(tenants={"studio": TenantPolicy(maximum_milli=2_000)})
    )
    on_n1 = Demand(devices=1, node="n1")
    lost = [world.one(alternatives=(on_n1,)), world.one(alternatives=(on_n1,))]
    world.engine.vanish("n1")
    second = world.run().one()
    assert world.words(*lost, second) == "pending pending running"
    world.engine.come_back("n1")
    world.run()
    assert sorted(world.words(*lost).split()) == ["pending", "running"]
    assert len(world.sent(Stop)) == 1
    world.engine.exit(second)
    assert world.run().words(*lost) == "running running"


def test_nor_beyond_the_jobs_that_its_tenant_may_run_at_a_time(make: Make) -> None:
    policy = Policy(tenants={"studio": TenantPolicy(max_running_jobs=1)})
    world = make(node_facts("n1", 1), node_facts("n2", 1), policy=policy)
    lost = world.one()
    (key,) = world.engine.live(lost)
    world.engine.vanish(key.node)
    second = world.run().one()
    world.engine.come_back(key.node)
    world.run()
    assert world.words(lost, second) == "pending running"
    assert [stop.key for stop in world.sent(Stop)] == [key]


def test_where_its_tenants_quota_has_room_it_goes_on(make: Make) -> None:
    world, lost, second = lost_and_replaced(make)
    world.engine.exit(second)
    world.run()
    (key,) = world.engine.live(lost)
    world.engine.come_back(key.node)
    world.run()
    assert world.words(lost) == "running"
    assert world.sent(Stop) == []
    assert world.engine.live(lost) == [key]


def test_a_run_that_is_being_stopped_is_not_taken_back_by_the_next_silence(make: Make) -> None:
    """Its tenant has room again when its node, which was silent once more, is back: but the run has been told to go."""
    world, lost, second = lost_and_replaced(make)
    world.engine.stubborn.add(lost)
    (stray,) = world.engine.live(lost)
    world.engine.come_back(stray.node)
    world.run()
    assert world.engine.live(lost) == [stray]
    world.engine.vanish(stray.node)
    world.engine.exit(second)
    world.run().pass_time(1)
    world.engine.come_back(stray.node)
    world.run()
    assert world.words(lost) == "pending"
    world.pass_time(20)
    assert world.words(lost) == "running"
    assert (world.job(lost).attempts, world.job(lost).failures) == (2, 0)


# ---- several news of a node at once -------------------------------------------------------------------------------


def test_what_earlier_news_of_a_node_led_to_is_not_sent_after_later_news(make: Make) -> None:
    """While the store took nothing a node was greeted, went, and came back. All of it was looked at in one batch: by
    the greeting a job was prepared again, by the going it was lost, by the return its next attempt was started, and
    both commands went out together. (Seed 24553; the engine fails the test where two attempts run at once.)"""
    world = make(node_facts("n1", 1))
    first, second = world.submit(spec(retries=1), spec())
    world.store.full = True
    world.engine.exit(first, 1)
    world.run()  # the second is placed, which is not committed
    world.engine.come_back("n1")
    world.engine.vanish("n1")
    world.engine.come_back("n1")
    world.store.full = False
    world.run()
    assert world.words(second) == "running"
    assert len(world.engine.live(second)) == 1
    assert [key.job_id for key in world.engine.launched].count(second) == 1
