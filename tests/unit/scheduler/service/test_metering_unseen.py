"""What is written down of a run whose end nobody saw: never more than the truth, and mended once the node tells."""

from __future__ import annotations

import pytest

from node_agent.messages import Exited
from scheduler.ports import NodeDown, RunEvent
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, spec
from tests.fakes.used_by_runs import used


def test_a_node_that_is_lost_with_proof(make: Make) -> None:
    """Nothing was heard of its last 20 s but that it answered."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(100)
    world.engine.vanish(lost.node, proof=True)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_100.0, "unseen", "node lost")]
    assert world.words(job) == "running"


def test_a_node_of_which_nobody_knows_when_it_last_answered(make: Make) -> None:
    """Then the last event of it counts: the start of another job there."""
    world = make(node_facts("n1", 2))
    job = world.one()
    world.pass_time(50)
    world.one()
    world.pass_time(50)
    world.engine.die_unnoticed("n1")
    world.service.loop.post(NodeDown("n1", "gone", True))
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_050.0, "unseen", "node lost")]


def test_a_silent_node_that_comes_back_and_tells(make: Make) -> None:
    """Its run was given up; its lease lapsed at 1,060 s and the launcher stopped it. The record is mended, not added
    to."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(10)
    world.engine.vanish(lost.node)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_010.0, "unseen", "node lost")]
    world.pass_time(200)
    assert world.words(job) == "running"
    ended_s = world.engine.lived[lost].to_s
    assert ended_s is not None
    world.engine.come_back(lost.node)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, ended_s, "seen", "lease")]
    world.engine.exit(job)
    world.run()
    assert [line[0] for line in used(world, job)] == ["1.0", "2.0"]


def test_a_job_that_has_ended_meanwhile_is_mended_too(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(10)
    world.engine.vanish("n1")
    world.run()
    world.service.cancel(job, OPERATOR, reason="")
    world.run().restart().pass_time(100)
    assert world.words(job) == "cancelled"
    world.engine.come_back("n1")
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, world.engine.lived[lost].to_s, "seen", "lease")]


def test_a_node_that_is_back_in_time_with_its_run(make: Make) -> None:
    """The job goes on; what was written when it was given up is replaced when it ends."""
    world = make(node_facts("n1", 1))
    job = world.one()
    world.pass_time(10)
    world.engine.vanish("n1")
    world.run().pass_time(20)
    assert used(world, job) == [("1.0", 1_000.0, 1_010.0, "unseen", "node lost")]
    world.engine.come_back("n1")
    world.run()
    assert world.words(job) == "running"
    world.pass_time(30)
    world.engine.exit(job)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_060.0, "seen", "succeeded")]


def test_a_start_that_nobody_heard_of_before_the_node_went_silent(make: Make) -> None:
    """The record comes with the node, and is whole: it knows what the run held."""
    world = make(node_facts("n1", 1))
    world.service.submit([spec(devices=1)], OPERATOR)
    world.once()  # the command goes out, and its answers are not looked at
    (key,) = world.engine.live("1")
    world.engine.nodes["n1"].events.clear()
    world.service.loop._events.clear()
    world.engine.vanish("n1")
    world.run()
    assert used(world, "1") == []
    world.pass_time(120)
    world.engine.come_back("n1")
    world.run()
    assert used(world, "1")[0] == ("1.0", 1_000.0, world.engine.lived[key].to_s, "seen", "lease")
    assert world.store.usage_records("1")[0].devices == (0,)
    assert world.service.loop._steps.state.unheard == {}


def test_an_end_that_even_the_node_did_not_see(make: Make) -> None:
    """Until 1,070 s its node knows it to have lived: so much is billed, whatever was heard of the node. When it ended
    after that, nobody knows."""
    world = make(node_facts("n1", 2))
    job = world.one()
    world.pass_time(40)
    world.one()
    world.pass_time(60)
    world.engine.exit(job, 0, how="unknown", known_s=1_070.0)
    world.run()
    assert used(world, job)[0] == ("1.0", 1_000.0, 1_070.0, "unseen", "unknown")


def test_an_end_of_which_the_node_knows_no_life_at_all_costs_nothing(world: World) -> None:
    """Its launcher died before it could write down that it lived, and its clock was set back since."""
    job = world.one()
    world.pass_time(60)
    world.engine.exit(job, 0, how="unknown", known_s=400.0)
    world.run()
    assert used(world, job)[0] == ("1.0", 1_000.0, 1_000.0, "unseen", "unknown")


def test_a_node_that_comes_back_without_its_records(make: Make) -> None:
    world = make(node_facts("n1", 2))
    job = world.one()
    world.pass_time(40)
    world.one()
    world.pass_time(60)
    world.engine.die_unnoticed("n1")
    world.pass_time(100)
    world.engine.come_back("n1")
    world.run()
    assert used(world, job)[0] == ("1.0", 1_000.0, 1_040.0, "unseen", "unknown")


def test_what_is_heard_at_the_same_moment_as_the_news_proves_nothing(make: Make) -> None:
    """Another's end is heard as the node tells that it has no record of this run: the hearing before that counts."""
    world = make(node_facts("n1", 3))
    job = world.one()
    world.pass_time(40)
    other = world.one()
    world.pass_time(60)
    world.engine.exit(other)
    world.engine.die_unnoticed("n1")
    world.engine.come_back("n1")
    world.run()
    assert world.words(other) == "succeeded"
    assert used(world, job)[0] == ("1.0", 1_000.0, 1_040.0, "unseen", "unknown")


def test_no_run_outlives_what_its_node_says_of_it(make: Make) -> None:
    world = make(node_facts("n1", 2))
    job = world.one()
    (key,) = world.engine.live(job)
    world.pass_time(40)
    world.one()
    world.pass_time(1)
    said = Exited(key, "unknown", None, None, "", 1_020.0, started_s=1_000.0)
    world.service.loop.post(RunEvent(said, "n1", 0))
    world.run()
    assert used(world, job)[0] == ("1.0", 1_000.0, 1_020.0, "unseen", "unknown")


def test_a_hearing_from_the_future_counts_up_to_now(make: Make) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    world.pass_time(10)
    world.engine.die_unnoticed("n1")
    world.service.loop.post(NodeDown("n1", "gone", True, heard_s=9e9))
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_010.0, "unseen", "node lost")]


def test_late_news_that_nobody_saw_the_end_mends_nothing(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(10)
    world.engine.vanish(lost.node)
    world.run().pass_time(20)
    world.engine.end(lost, "unknown", None)
    world.pass_time(100)
    world.engine.come_back(lost.node)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_010.0, "unseen", "node lost")]


def test_a_gang_whose_lost_worker_tells_before_the_others_have_gone(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(spec(workers=2))
    world.engine.stubborn.add(job)
    (lost,) = [key for key in world.engine.live(job) if key.worker == 0]
    world.pass_time(10)
    world.engine.vanish(lost.node)
    world.run().pass_time(2)
    world.engine.end(lost, "exit", 0)
    world.engine.come_back(lost.node)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_012.0, "seen", "succeeded")]
    world.pass_time(10)
    assert [line[0] for line in used(world, job)] == ["1.0", "1.1"]


@pytest.mark.parametrize("proof", [True, False])
def test_a_start_that_never_was_is_forgotten_with_its_node(make: Make, proof: bool) -> None:
    world = make(node_facts("n1", 1))
    world.engine.silent_starts = True
    job = world.one()
    world.engine.vanish("n1")
    world.run()
    unheard = world.service.loop._steps.state.unheard
    assert [key.job_id for key in unheard] == [job]
    if proof:
        world.engine.vanish("n1", proof=True)
    else:
        world.engine.die_unnoticed("n1")
        world.engine.come_back("n1")
    world.run()
    assert (unheard, used(world, job)) == ({}, [])


@pytest.mark.parametrize("ahead_s", [-500.0, 500.0])
def test_clocks_that_differ(make: Make, ahead_s: float) -> None:
    """The node's clock is ahead or behind: what is billed is time that passed, never the difference of two clocks."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    world.engine.clock = Ahead(world.clock, ahead_s)
    world.pass_time(20)  # leases are renewed by the new clock
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(30)
    world.engine.vanish(lost.node, proof=True)
    world.run()
    start_s = 1_020 + ahead_s
    assert used(world, job) == [("1.0", start_s, start_s + 30, "unseen", "node lost")]


class Ahead(FakeClock):
    def __init__(self, clock: FakeClock, ahead_s: float) -> None:
        self._clock = clock
        self._ahead_s = ahead_s

    def now_s(self) -> float:
        return self._clock.now_s() + self._ahead_s
