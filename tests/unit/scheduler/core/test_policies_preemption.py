"""Who may be preempted by whom, when again, and for whom what comes free is kept."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import Preempt
from scheduler.core.demand import Level
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.reasons import BehindReservation, NoFit, WaitingForVictims
from tests.fakes.cluster_table import cluster


@pytest.mark.parametrize(
    ("preempted", "ran_s", "victims"),
    [(0, 0.0, "r"), (1, 599.0, ""), (1, 600.0, "r"), (3, 100.0, ""), (3, 601.0, "r")],
)
def test_who_was_preempted_before_runs_its_minimum_first(preempted: int, ran_s: float, victims: str) -> None:
    table = cluster(nodes=1).policy(min_run_before_preemption_s=600.0)
    table.run("r", "n0", 8, preempted=preempted, started_ago=ran_s, ends_in=None)
    table.submit("a", devices=8, priority=9).expect(started="", preempted=victims)


def test_the_minimum_counts_from_the_last_start() -> None:
    table = cluster(nodes=1, devices=2).policy(min_run_before_preemption_s=60.0)
    table.submit("low", devices=2, limit=None).plan()
    table.apply().after(1.0).submit("one", devices=2, priority=5, limit=10.0).expect(preempted="low").apply()
    table.all_due_leave().expect(started="one", waiting="low").apply().after(10.0).all_due_leave()
    table.expect(started="low").apply().after(59.0).submit("two", devices=2, priority=5, limit=10.0)
    table.expect(preempted="", waiting="two").after(1.0).expect(preempted="low", waiting="two")


@pytest.mark.parametrize(
    ("job", "victims"),
    [
        ({"priority": 5}, ""),  # of a class whose jobs never preempt
        ({"priority": 5, "holds_slo": True}, "low"),  # a replica that its service needs does
        ({"priority": 5, "holds_slo": True, "may_preempt": False}, ""),
        ({"priority": 0, "holds_slo": True}, ""),  # and still only lower classes
        ({"priority": 6}, "low"),
    ],
)
def test_replicas_that_hold_an_slo_go_over_best_effort(job: dict[str, object], victims: str) -> None:
    table = cluster(nodes=1).policy(non_preempting=frozenset({5})).run("low", "n0", 8)
    table.submit("a", devices=4, limit=None, **job).expect(started="", preempted=victims)  # type: ignore[arg-type]


def test_of_equal_losses_the_one_that_leaves_the_least_harm_goes() -> None:
    """Whole nodes are what is asked for: the victim beside free devices goes, so that a node comes free."""
    table = cluster(nodes=2)
    table.state.set_shapes(TypicalShapes.of_counts({Shape(1_000, 8, 1_000): 1.0}))
    table.run("r0", "n0", [0, 1, 2, 3], priority=9, ends_in=None).run("r1", "n0", [4, 5, 6, 7], saved_ago=10.0)
    table.run("r2", "n1", [0, 1], saved_ago=10.0, priority=9, ends_in=None).run(
        "r3", "n1", [4, 5, 6, 7], saved_ago=10.0
    )
    table.submit("a", devices=4, priority=5).expect(preempted="r1")


@pytest.mark.parametrize(
    ("within", "one_per", "victims"),
    [(None, None, "near far"), (Level.RACK, None, "near other"), (None, Level.RACK, "near far")],
)
def test_the_whole_gang_fits_as_its_constraints_say(within: Level | None, one_per: Level | None, victims: str) -> None:
    """r0: two nodes; r1: one. `other` in r0 is the dearest."""
    table = cluster(nodes=2, rack="r0").nodes(1, 8, "m", rack="r1")
    table.run("near", "n0", 8, saved_ago=5.0).run("other", "n1", 8, saved_ago=50.0).run("far", "m0", 8, saved_ago=9.0)
    table.submit("a", workers=2, devices=8, priority=9, within=within, one_per=one_per).expect(preempted=victims)


def test_nobody_goes_where_constraints_leave_no_place() -> None:
    table = cluster(nodes=1, rack="r0").nodes(1, 8, "m", rack="r1").run("r", "n0", 8).run("s", "m0", 8)
    table.submit("a", workers=2, devices=8, priority=9, within=Level.RACK).expect(preempted="", started="")


def test_what_comes_free_is_kept_from_those_behind() -> None:
    table = cluster(nodes=1, devices=4).run("r0", "n0", [0, 1]).run("r1", "n0", [2, 3])
    table.submit("a", devices=4, priority=9).expect(preempted="r0 r1").apply().gone("r0")
    table.submit("b", devices=1, priority=8, limit=0.1).expect(started="", preempted="", waiting="a b")
    assert table.last.reasons["a"] == WaitingForVictims(("r1",))
    assert table.last.reasons["b"] == BehindReservation("a")


def test_a_victim_that_comes_back_does_not_take_its_place_again() -> None:
    table = cluster(nodes=1, devices=2).submit("low", devices=2, limit=None)
    table.plan()
    table.apply().submit("high", devices=2, priority=9, limit=50.0).expect(preempted="low").apply().after(1.0)
    table.all_due_leave().expect(started="high", preempted="", waiting="low").apply()
    for _ in range(5):
        table.after(10.0).all_due_leave().plan()
        assert not table.last.preemptions
        table.apply()
    assert "low" in table.running


def test_two_preemptors_do_not_share_a_victim_and_both_start() -> None:
    table = cluster(nodes=2).run("r", "n0", 8).run("s", "n1", 8)
    table.submit("a", devices=8, priority=9).submit("b", devices=8, priority=8).expect(preempted="r s").apply()
    assert {preempt.for_job for preempt in table.last.preemptions} == {"a", "b"}
    table.gone("r").gone("s").expect(started="a b")


def test_a_job_that_could_start_after_a_preemption_is_not_preempted_for_again() -> None:
    table = cluster(nodes=1).run("r", "n0", 8).submit("a", devices=3, priority=9).submit("b", devices=3, priority=9)
    table.submit("c", devices=3, priority=9).expect(preempted="r", waiting="a b c")
    assert table.last.preemptions == (Preempt("a", ("r",)),)
    assert isinstance(table.last.reasons["c"], NoFit)


def test_a_job_past_its_time_limit_is_not_preempted() -> None:
    table = cluster(nodes=2).run("late", "n0", 8, ends_in=-1.0).run("r", "n1", 8)
    table.submit("a", devices=8, priority=9).expect(preempted="", started="", waiting="a")
    table.submit("b", devices=8, priority=9).expect(preempted="r")


def test_devices_on_a_drained_node_are_not_taken() -> None:
    table = cluster(nodes=2).unschedulable("n0", "draining: fan").run("r", "n0", 8).run("s", "n1", 8, saved_ago=900.0)
    table.submit("a", devices=8, priority=9).expect(preempted="s")
