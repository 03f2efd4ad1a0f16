"""Two attempts of a job never write at once, however often a node goes and comes: the fake engine fails a test in which
an attempt starts while another lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from node_agent.attempts import ProcessExited
from node_agent.messages import Command, Exited, RunKey, RunReport, Stop
from scheduler.core.jobs import Pending
from scheduler.core.reasons import BackingOff, WaitingForLease
from scheduler.ports import NodeUp, RunEvent
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import LEASE_S, OPERATOR, Make, World, spec

PLAIN_WAIT_S = LEASE_S + 10 + 5


def waiting_gang(make: Make, **given: object) -> tuple[World, str, RunKey]:
    """A gang of two whose worker on a node fell silent at 1,000 s; the other's end is known. A third node is free.
    Also the run that may still live."""
    world = make(*(node_facts(name, 1) for name in ("n1", "n2", "n3")))
    (job,) = world.submit(spec(workers=2, **given))
    world.engine.stubborn.add(job)
    (lost,) = [key for key in world.engine.live(job) if key.worker == 0]
    world.engine.vanish(lost.node)
    world.run().pass_time(11 if not given.get("saves") else 31)
    assert world.engine.live(job) == [lost]
    return world, job, lost


def waits_until_s(world: World, job: str) -> float:
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, WaitingForLease)
    assert state.reason.until_s == state.not_before_s
    return state.not_before_s


def lose_stops(world: World) -> Callable[[], None]:
    """Every Stop is lost on its way until the answer is called."""
    real = world.engine.send

    def send(node: str, commands: Sequence[Command]) -> None:
        real(node, [command for command in commands if not isinstance(command, Stop)])

    world.engine.send = send  # type: ignore[method-assign]
    return lambda: setattr(world.engine, "send", real)


def test_a_second_silence_starts_the_wait_anew(make: Make) -> None:
    """The node came back at +50 s, which renewed its lease, and went silent again before it could be told to stop the
    run: the job still started at +75 s, beside a run that lived until +110 s and more."""
    world, job, lost = waiting_gang(make)
    assert waits_until_s(world, job) == 1_000 + PLAIN_WAIT_S
    world.pass_time(39)  # +50 s
    stops_arrive = lose_stops(world)
    world.engine.come_back(lost.node)
    world.run()
    assert waits_until_s(world, job) == 1_050 + PLAIN_WAIT_S
    world.engine.vanish(lost.node)
    world.run()
    stops_arrive()
    assert waits_until_s(world, job) == 1_050 + PLAIN_WAIT_S
    assert world.pass_time(PLAIN_WAIT_S - 1).words(job) == "pending"
    assert world.pass_time(1).words(job) == "running"
    assert world.job(job).attempts == 2


def test_the_wait_does_not_end_by_the_clock_while_the_run_is_known_to_live(make: Make) -> None:
    """Back at +70 s the node is told to stop the run, which takes its 10 s; the wait was to end at +75 s."""
    world, job, lost = waiting_gang(make)
    world.pass_time(59)
    world.engine.come_back(lost.node)
    world.run().pass_time(6)
    assert world.engine.live(job) == [lost]
    assert world.words(job) == "pending"
    world.pass_time(5)
    assert world.words(job) == "running"
    assert world.job(job).attempts == 2


def test_a_run_that_never_dies_is_waited_for_as_long_as_its_node_answers(make: Make) -> None:
    world, job, lost = waiting_gang(make)
    world.pass_time(20)
    lose_stops(world)
    world.engine.come_back(lost.node)
    world.run()
    assert world.pass_time(500).words(job) == "pending"
    assert world.engine.live(job) == [lost]
    world.engine.end(lost, "signal", 9)
    assert world.run().words(job) == "running"


def test_a_node_that_answered_for_a_while_is_waited_for_from_its_last_renewal_on(make: Make) -> None:
    world, job, lost = waiting_gang(make)
    world.pass_time(20)
    lose_stops(world)
    world.engine.come_back(lost.node)
    world.run().pass_time(45)
    assert waits_until_s(world, job) == 1_031 + PLAIN_WAIT_S
    world.engine.vanish(lost.node)
    world.run()
    renewed_s = waits_until_s(world, job) - PLAIN_WAIT_S
    assert world.clock.now_s() - LEASE_S / 4 <= renewed_s <= world.clock.now_s()
    assert world.pass_time(PLAIN_WAIT_S - 16).words(job) == "pending"
    assert world.pass_time(16).words(job) == "running"


def test_a_gang_whose_lost_worker_is_back_and_being_stopped_waits_for_it(make: Make) -> None:
    """The node was back when the gang's last other worker ended, so nothing seemed to be in doubt any more."""
    world = make(*(node_facts(name, 1) for name in ("n1", "n2", "n3")))
    (job,) = world.submit(spec(workers=2))
    world.engine.stubborn.add(job)
    (lost,) = [key for key in world.engine.live(job) if key.worker == 0]
    world.engine.vanish(lost.node)
    world.run().pass_time(2)
    world.engine.come_back(lost.node)
    world.run().pass_time(8.5)
    assert world.engine.live(job) == [lost]
    assert world.words(job) == "pending"
    assert world.pass_time(2).words(job) == "running"


def test_a_run_found_on_a_node_holds_up_its_job_whatever_that_waits_for(make: Make) -> None:
    """A service that restarted knows of no lease to wait for; then the node turns up with a run of the last attempt."""
    world, job, lost = waiting_gang(make)
    world.kill_service()
    state = world.job(job).state
    assert isinstance(state, Pending)
    world.engine.nodes[lost.node].lease_until_s += 1_000
    world.engine.nodes[lost.node].reachable = True
    stops_arrive = lose_stops(world)
    world.start_service().run()
    assert waits_until_s(world, job) == world.clock.now_s() + PLAIN_WAIT_S
    assert world.pass_time(PLAIN_WAIT_S + 20).words(job) == "pending"
    stops_arrive()
    world.engine.end(lost, "signal", 9)
    assert world.run().words(job) == "running"


# ---- times ---------------------------------------------------------------------------------------------------------


def test_after_a_restart_a_whole_lease_is_waited(make: Make) -> None:
    world, job, _ = waiting_gang(make)
    world.pass_time(50)
    world.restart()
    until_s = world.clock.now_s() + PLAIN_WAIT_S
    assert waits_until_s(world, job) == until_s
    assert world.pass_time(PLAIN_WAIT_S - 1).words(job) == "pending"
    assert world.pass_time(1).words(job) == "running"


@pytest.mark.parametrize("jump_s", [-900.0, 86_400.0])
def test_a_clock_that_was_set_between_two_services_fences_all_the_same(make: Make, jump_s: float) -> None:
    world, job, _ = waiting_gang(make)
    world.kill_service()
    world.clock.advance(jump_s)
    for node in world.engine.nodes.values():
        node.lease_until_s += jump_s
    world.start_service().run()
    assert waits_until_s(world, job) == world.clock.now_s() + PLAIN_WAIT_S
    assert world.pass_time(PLAIN_WAIT_S).words(job) == "running"


def test_a_back_off_is_not_prolonged_by_a_clock_that_was_set_back(world: World) -> None:
    job = world.one(retries=1)
    world.engine.exit(job, 1)
    world.run().kill_service()
    world.clock.advance(-900)
    world.start_service().run()
    state = world.job(job).state
    assert isinstance(state, Pending)
    assert isinstance(state.reason, BackingOff)
    assert state.not_before_s == state.reason.until_s == world.clock.now_s() + 60
    assert world.pass_time(60).words(job) == "running"


def test_time_that_stands_still_makes_nothing_happen(make: Make) -> None:
    world, waiting, _ = waiting_gang(make)
    failing = world.one(retries=3)
    world.engine.exit(failing, 1)
    world.run()
    commits, sent = world.store.commits, len(world.engine.sent)
    for _ in range(30):
        world.once()
    assert (world.store.commits, len(world.engine.sent)) == (commits, sent)
    assert world.words(waiting, failing) == "pending pending"
    assert world.pass_time(1).words(failing) == "running"


def test_a_lease_counts_from_when_its_renewal_was_sent_and_not_from_when_it_was_decided(world: World) -> None:
    world.service.submit([spec()], OPERATOR)
    world.clock.advance(LEASE_S / 2)  # a renewal is due: it is decided together with the job's start
    world.store.full = True
    world.once()
    world.clock.advance(10)
    world.store.full = False
    world.once()
    assert world.service.loop._state.nodes["n1"].renewed_s == world.clock.now_s()


# ---- work that was saved ---------------------------------------------------------------------------------------------


def test_work_saved_by_a_run_that_was_given_up_is_resumed_from(make: Make) -> None:
    """A silent node's run saves as its lease lapses; the news comes with the node, when its job waits already."""
    world, job, lost = waiting_gang(make, saves=True)
    assert world.job(job).resume_from is None
    saved = f"/ck/{job}/attempt-1"
    end = ProcessExited(99, "lease", None, "", world.clock.now_s(), None, saved)
    world.engine._step(lost, end)
    world.engine.come_back(lost.node)
    world.run()
    assert world.words(job) == "running"
    assert world.job(job).resume_from == saved
    assert {world.engine.nodes[key.node].specs[key].resume_from for key in world.engine.live(job)} == {saved}


@pytest.mark.parametrize(("present", "resumes_from"), [(None, 1), ("attempt-1", 1), ("attempt-2", 2)])
def test_late_news_of_saved_work_never_goes_back(world: World, present: str | None, resumes_from: int) -> None:
    job = world.one(saves=True, retries=5)
    for attempt in (1, 2):
        (key,) = world.engine.live(job)
        saved = f"/ck/{job}/{present}" if present == f"attempt-{attempt}" else None
        world.engine._step(key, ProcessExited(99, "exit", 1, "", world.clock.now_s(), None, saved))
        world.run()
        if attempt == 1:
            world.pass_time(1)
    assert world.words(job) == "pending"
    late = Exited(RunKey(job, 1, 0, "n1"), "lease", None, None, "", 0.0, None, f"/ck/{job}/attempt-1")
    seq = world.engine.nodes["n1"].last_seq
    for _ in range(2):
        world.service.loop.post(RunEvent(late, "n1", seq))
        world.run()
    assert world.job(job).resume_from == f"/ck/{job}/attempt-{resumes_from}"
    assert world.events(job).count("checkpointed") == (1 if present is None else 0)


def test_news_of_an_older_run_does_not_end_a_wait_from_before_the_restart(make: Make) -> None:
    """A service that was restarted waited for the lease of n2, and no longer knew for which run. Then n1 came back,
    spoke of a run of the attempt before, and had it stopped: the third attempt started beside the second."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (first,) = world.engine.live(job)
    world.engine.vanish(first.node)
    world.run().pass_time(PLAIN_WAIT_S)
    (second,) = world.engine.live(job)
    assert (second.attempt, second.node != first.node) == (2, True)
    world.engine.vanish(second.node)
    world.run().restart()
    until_s = waits_until_s(world, job)
    world.engine.nodes[first.node].runs.clear()
    world.engine.come_back(first.node)
    report = RunReport(first, "running", 99, None, None, 1_000.0)
    world.service.loop.post(NodeUp(node_facts(first.node, 1), (report,), (), 1, None))
    world.run()
    assert waits_until_s(world, job) == until_s
    assert world.engine.live(job) == [second]  # the fake engine fails the test where a third attempt starts beside it
    world.pass_time(until_s - world.clock.now_s())
    assert [key.attempt for key in world.engine.live(job)] == [3]
