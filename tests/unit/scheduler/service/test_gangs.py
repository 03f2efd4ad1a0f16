"""A gang is prepared everywhere, released together, and fails, retries and ends as a whole."""

from __future__ import annotations

from node_agent.messages import Prepare, Release, Stop
from scheduler.core.jobs import EndCause, Failed, Stopping
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import Make, World, gang


def test_a_gang_is_released_together_with_worker_0s_address(make: Make) -> None:
    world, job = gang(make)
    assert [prepare.release for prepare in world.sent(Prepare)] == [False, False]
    releases = world.sent(Release)
    assert len(releases) == 2
    assert {(r.master_addr, r.master_port) for r in releases} == {(releases[0].master_addr, releases[0].master_port)}
    (first,) = [r.key for r in releases if r.key.worker == 0]
    assert releases[0].master_addr == f"addr-{first.node}"
    assert world.words(job) == "running"
    assert world.events(job) == "submitted placed released started"
    world.engine.exit(job, worker=0)
    assert world.run().words(job) == "running"
    assert world.store.job_events(job)[-1].detail == {"worker": 0, "attempt": 1, "exit_code": 0, "cause": "succeeded"}
    world.engine.exit(job, worker=1)
    assert world.run().words(job) == "succeeded"


def test_no_worker_of_a_gang_is_released_before_all_are_prepared(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    world.engine.nodes["n2"].reachable = False  # takes commands and answers nothing yet
    world.one(workers=2, devices=2)
    assert len(world.sent(Prepare)) == 2
    assert world.sent(Release) == []
    assert world.engine.launched == []


def test_the_first_bad_end_brings_the_gang_down_and_the_whole_of_it_retries(make: Make) -> None:
    world, job = gang(make, retries=1)
    world.engine.stubborn.add(job)
    world.engine.exit(job, 5, worker=1)
    world.run()
    state = world.job(job).state
    assert isinstance(state, Stopping)
    assert (state.cause, state.by) == (EndCause.EXIT_CODE, "worker 1")
    (stop,) = world.sent(Stop)
    assert (stop.key.worker, stop.cause, stop.checkpoint) == (0, "gang peer ended", False)
    assert world.used_milli() == 4000  # until its last worker is gone
    assert world.pass_time(10).words(job) == "pending"  # the grace is over: SIGKILL
    assert world.pass_time(1).words(job) == "running"
    assert (world.job(job).attempts, world.job(job).failures) == (2, 1)
    world.engine.stubborn.clear()
    world.engine.exit(job, 6, worker=0)
    world.run()
    failed = world.job(job).state
    assert isinstance(failed, Failed)
    assert "worker 0" in failed.detail
    assert "exited with code 6" in failed.detail


def test_a_worker_that_cannot_start_fails_the_gang_before_any_starts(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    world.engine.bad_checks["n2"] = ("working_dir", "/w does not exist")
    job = world.one(workers=2, devices=2, retries=5, working_dir="/w")
    state = world.job(job).state
    assert isinstance(state, Failed)
    assert state.cause is EndCause.PREPARE_FAILED
    assert "node n2: working_dir: /w does not exist" in state.detail
    assert world.engine.launched == []
    assert world.job(job).attempts == 1
    assert world.used_milli() == 0


def test_one_worker_that_cannot_start_fails_at_once(world: World) -> None:
    world.engine.bad_checks["n1"] = ("command", "no such program: trian")
    job = world.one(retries=5)
    assert world.words(job) == "failed"
    assert world.view(job)["cause"] == "prepare failed"
