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


def test_the_cheapest_domain_goes_though_another_has_the_cheaper_single_jobs() -> None:
    """r0 costs 10 + 40, r1 30 + 35: taking jobs one by one, cheapest first, would fill r1."""
    table = cluster(nodes=2, rack="r0").nodes(2, 8, "m", rack="r1")
    table.run("a", "n0", 8, saved_ago=10.0).run("b", "n1", 8, saved_ago=40.0)
    table.run("c", "m0", 8, saved_ago=30.0).run("d", "m1", 8, saved_ago=35.0)
    table.submit("x", workers=2, devices=8, priority=9, within=Level.RACK).expect(preempted="a b")


def test_one_per_rack_takes_the_dearer_node_of_another_rack() -> None:
    table = cluster(nodes=2, rack="r0").nodes(1, 8, "m", rack="r1")
    table.run("near", "n0", 8, saved_ago=5.0).run("other", "n1", 8, saved_ago=6.0).run("far", "m0", 8, saved_ago=50.0)
    table.submit("a", workers=2, devices=8, priority=9, one_per=Level.RACK).expect(preempted="near far")


@pytest.mark.parametrize(
    ("first", "second", "goes"),
    [
        ({"cpus": 30, "saved_ago": 100.0}, {"cpus": 30, "saved_ago": 10.0}, "second"),  # less work of CPUs
        ({"cpus": 30, "saved_ago": 10.0}, {"cpus": 33, "saved_ago": 10.0}, "first"),
        ({"priority": 2}, {"priority": 1}, "second"),  # the lower class
        ({"started_ago": 50.0}, {"started_ago": 20.0}, "second"),  # the newer
        ({"started_ago": 20.0}, {"started_ago": 50.0}, "first"),
    ],
)
def test_ties_between_equal_losses_of_devices(first: dict[str, object], second: dict[str, object], goes: str) -> None:
    """Two jobs on a node without devices, each of which would make room alone."""
    table = cluster(nodes=1, devices=0, cpus=64)
    table.run("first", "n0", [], **{"cpus": 31, **first}).run("second", "n0", [], **{"cpus": 31, **second})  # type: ignore[arg-type]
    table.submit("a", devices=0, cpus=20, priority=9).expect(preempted=goes)


@pytest.mark.parametrize(("left", "right", "goes"), [(1, 2, "x left"), (2, 1, "x right")])
def test_ties_are_broken_also_among_those_that_do_not_lose_least(left: int, right: int, goes: str) -> None:
    table = cluster(nodes=1, devices=3).run("x", "n0", [0], saved_ago=1.0)
    table.run("left", "n0", [1], saved_ago=9.0, priority=left).run("right", "n0", [2], saved_ago=9.0, priority=right)
    table.submit("a", devices=2, priority=9).expect(preempted=goes)


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


def test_what_victims_left_goes_to_the_job_they_went_for_also_past_one_ahead_of_it() -> None:
    """An operator saw it: the larger job ahead was promised the freed node for half an hour later, and nobody ran."""
    table = cluster(nodes=4).tenant("alpha", guaranteed=24).tenant("beta", guaranteed=24)
    for i in range(4):
        table.run(f"a{i}", f"n{i}", 8, tenant="alpha", ends_in=1_700.0 + i)
    table.submit("large", workers=2, devices=8, tenant="beta", limit=1_800.0)
    table.submit("small", devices=8, tenant="beta", limit=1_800.0)
    made = table.plan()
    assert [preempt.for_job for preempt in made.preemptions] == ["small"]
    (victim,) = made.preemptions[0].victims
    table.apply().gone(victim, requeued=True)
    table.expect(started="small")


def test_of_a_borrower_any_job_may_go_that_holds_what_is_asked_for() -> None:
    """Its cheapest ones stand on other devices; the borrowed part of what it holds is not tied to them."""
    table = cluster(nodes=2, model="A100", prefix="a").nodes(2, 8, "h", model="H100 SXM")
    table.tenant("alpha", guaranteed=16).tenant("beta", guaranteed=16)
    for i, node in enumerate(["a0", "a1", "h0", "h1"]):
        table.run(f"r{node}", node, 8, tenant="alpha", saved_ago=10.0 if i < 2 else 5_000.0, ends_in=None)
    table.submit("x", devices=8, model="H100 SXM", workers=2, tenant="beta").expect(preempted="rh0 rh1")


def test_a_tenant_of_whom_only_this_plan_has_something_is_no_borrower_yet() -> None:
    # Tenants are numbered as they come, and no column is as long as the last number once its jobs are gone.
    table = cluster(nodes=1).tenant("a", guaranteed=8, used=0.5)
    table.run("z1", "n0", [0, 1], tenant="z", ends_in=None).run("c1", "n0", [2, 3], tenant="c", ends_in=None)
    table.submit("w", devices=8, priority=-1).expect(started="").gone("c1").expect(started="")
    table.run("z2", "n0", [2, 3], tenant="z", ends_in=None).expect(started="")
    table.submit("c2", devices=2, tenant="c").submit("a1", devices=4, tenant="a").expect(started="c2", preempted="z2")
