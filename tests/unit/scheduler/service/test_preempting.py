"""A victim is asked to save, goes, and resumes from what it saved; its devices are the preemptor's once it has gone."""

from __future__ import annotations

from node_agent.attempts import ProcessExited
from node_agent.messages import Prepare, Stop
from scheduler.core.jobs import Pending
from scheduler.core.reasons import Requeued
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, spec


def test_a_victim_saves_goes_and_resumes_from_its_checkpoint(world: World) -> None:
    victim = world.one(devices=4, priority=0, saves=True)
    world.engine.stubborn.add(victim)
    world.engine.saves.add(victim)
    world.pass_time(100)
    urgent = world.one(devices=4, priority=90)
    (stop,) = world.sent(Stop)
    assert (stop.key.job_id, stop.checkpoint, stop.grace_s, stop.cause) == (victim, True, 30.0, "preempted")
    assert world.words(victim, urgent) == "preempting pending"
    assert world.view(urgent)["reason"]["kind"] == "waiting_for_victims"
    assert world.view(urgent)["reason"]["victims"] == (victim,)
    world.pass_time(60)
    assert world.words(victim, urgent) == "pending running"
    state = world.job(victim).state
    assert isinstance(state, Pending)
    assert state.reason == Requeued(f"preempted by job {urgent}")
    assert world.job(victim).resume_from == f"/ck/{victim}/attempt-1"
    assert world.job(victim).failures == 0
    world.engine.exit(urgent)
    world.run()
    assert world.words(victim, urgent) == "running succeeded"
    newest = world.sent(Prepare)[-1]
    assert (newest.key.attempt, newest.spec.resume_from) == (2, f"/ck/{victim}/attempt-1")


def test_a_checkpoint_that_only_the_end_tells_of_is_resumed_from(world: World) -> None:
    job = world.one(saves=True, retries=1)
    (key,) = world.engine.live(job)
    world.engine._step(key, ProcessExited(99, "exit", 1, "", world.clock.now_s(), None, "/ck/elsewhere"))
    world.run().pass_time(1)
    assert world.sent(Prepare)[-1].spec.resume_from == "/ck/elsewhere"


def test_a_victim_without_a_checkpoint_is_terminated_and_starts_over(world: World) -> None:
    victim = world.one(devices=4, priority=0)
    urgent = world.one(devices=1, priority=90)
    (stop,) = world.sent(Stop)
    assert not stop.checkpoint
    assert world.words(victim, urgent) == "pending running"
    assert world.job(victim).resume_from is None


def test_a_victim_that_had_finished_by_itself_has_succeeded(world: World) -> None:
    victim = world.one(devices=4, priority=0)
    urgent = spec(priority=90)
    world.engine.exit(victim)  # its end is on the way while the preemption is decided
    early = list(world.service.loop._events)
    world.service.loop._events.clear()
    world.service.submit([urgent], OPERATOR)
    world.once()
    assert world.words(victim) == "preempting"
    for event in early:
        world.service.loop.post(event)
    world.run()
    assert world.words(victim) == "succeeded"


def test_devices_are_given_to_the_preemptor_only_when_the_victim_is_gone(make: Make) -> None:
    world = make(node_facts("n1", 1))
    victim = world.one(priority=0)
    world.engine.stubborn.add(victim)
    urgent = world.one(priority=90)
    assert world.words(victim, urgent) == "preempting pending"
    assert [key.job_id for key in world.engine.launched] == [victim]
    assert world.pass_time(11).words(victim, urgent) == "pending running"
