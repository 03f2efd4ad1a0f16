"""Who must go for a more urgent job, who need not, and who gets what comes free."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import Preempt
from scheduler.core.reasons import NoFit, Unsatisfiable, WaitingForVictims
from tests.fakes.cluster_table import NOW_S, cluster, demand


@pytest.mark.parametrize(("own", "theirs", "victims"), [(5, 4, "r"), (5, 5, ""), (5, 6, "")])
def test_only_a_lower_priority_goes(own: int, theirs: int, victims: str) -> None:
    table = cluster(nodes=1).run("r", "n0", 8, priority=theirs).submit("a", devices=8, priority=own)
    table.expect(started="", preempted=victims)


def test_the_preemptor_waits_for_its_victims_and_says_so() -> None:
    table = cluster(nodes=1).run("r", "n0", 8).submit("a", devices=2, priority=9)
    table.expect(preempted="r")
    assert table.last.preemptions == (Preempt("a", ("r",)),)
    assert table.last.reasons["a"] == WaitingForVictims(("r",))


def test_nobody_goes_where_the_whole_gang_would_not_fit() -> None:
    table = cluster(nodes=2).run("low", "n0", 8).run("high", "n1", 8, priority=9)
    table.submit("a", workers=2, devices=8, priority=5).expect(started="", preempted="")
    assert isinstance(table.last.reasons["a"], NoFit)


@pytest.mark.parametrize(
    "change",
    [
        {"may_preempt": False},
        {"policy": {"preemption": False}},
        {"policy": {"non_preempting": frozenset({9})}},
        {"policy": {"min_run_before_preemption_s": 11.0}},
    ],
)
def test_preemption_can_be_off(change: dict[str, object]) -> None:
    table = cluster(nodes=1).run("r", "n0", 8, started_ago=10.0, preempted=1)
    settings = change.pop("policy", {})
    assert isinstance(settings, dict)
    table.policy(**settings).submit("a", devices=8, priority=9, **change).expect(started="", preempted="")


def test_a_job_that_was_preempted_before_and_has_run_long_enough_may_go() -> None:
    table = cluster(nodes=1).policy(min_run_before_preemption_s=10.0).run("r", "n0", 8, started_ago=10.0, preempted=1)
    table.submit("a", devices=8, priority=9).expect(preempted="r")


def test_an_unsatisfiable_job_preempts_nobody() -> None:
    table = cluster(nodes=1).run("r", "n0", 8).submit("a", devices=9, priority=9).expect(preempted="")
    assert isinstance(table.last.reasons["a"], Unsatisfiable)


# ---- the least loss ----------------------------------------------------------------------------------------------


def test_the_most_recently_saved_goes() -> None:
    table = cluster(nodes=2).run("old", "n0", 8, saved_ago=500.0).run("new", "n1", 8, saved_ago=20.0)
    table.submit("a", devices=8, priority=9).expect(preempted="new")


def test_loss_counts_devices() -> None:
    # 8 devices x 30 s are more than 1 device x 100 s.
    table = cluster(nodes=2).run("wide", "n0", 8, saved_ago=30.0).run("r", "n1", 7, priority=9)
    table.run("narrow", "n1", [7], saved_ago=100.0).submit("a", devices=1, priority=5).expect(preempted="narrow")


def test_one_dear_victim_against_two_that_cost_more_together() -> None:
    # The cheapest-first answer would take both halves of n1 (60 + 60 s a device) before it came to n0 (100 s).
    table = cluster(nodes=2).run("whole", "n0", 8, saved_ago=100.0)
    table.run("half1", "n1", [0, 1, 2, 3], saved_ago=150.0).run("half2", "n1", [4, 5, 6, 7], saved_ago=150.0)
    table.submit("a", devices=8, priority=9).expect(preempted="whole")


def test_few_devices_of_one_node_against_a_wide_cheap_job() -> None:
    table = cluster(nodes=1).run("big", "n0", [0, 1, 2, 3], saved_ago=25.0)
    for i in range(4, 8):
        table.run(f"r{i}", "n0", [i], saved_ago=60.0)
    table.submit("a", devices=4, priority=9).expect(preempted="big")


def test_victims_that_are_not_needed_stay() -> None:
    table = cluster(nodes=2)
    for i in range(8):
        table.run(f"r{i}", "n0", [i], saved_ago=float(i)).run(f"s{i}", "n1", [i], saved_ago=10.0 + i)
    table.submit("a", devices=3, priority=9).expect(preempted="r0 r1 r2")


def test_the_cheapest_job_of_a_node_stays_where_it_is_of_no_use() -> None:
    table = cluster(nodes=1).run("high", "n0", [0, 1, 2], priority=9).run("small", "n0", [3], saved_ago=1.0)
    table.run("large", "n0", [4, 5, 6, 7], saved_ago=5.0)
    table.submit("a", devices=4, priority=5).expect(preempted="large")


def test_free_devices_count() -> None:
    table = cluster(nodes=2).run("r", "n0", [0, 1], saved_ago=1.0).run("s", "n1", 8, saved_ago=1.0)
    table.submit("a", devices=8, priority=9).expect(preempted="r")


def test_a_gang_victim_counts_once_wherever_it_stands() -> None:
    table = cluster(nodes=2).run("gang", "n0", 8, saved_ago=10.0).run("gang", "n1", 8, saved_ago=10.0)
    table.submit("a", workers=2, devices=8, priority=9).expect(preempted="gang")


def test_equal_losses_take_the_lowest_class() -> None:
    table = cluster(nodes=2).run("mid", "n0", 8, priority=3).run("low", "n1", 8, priority=1)
    table.submit("a", devices=8, priority=9).expect(preempted="low")


def test_shares_cpus_and_alternatives_can_be_won_too() -> None:
    table = cluster(nodes=1, devices=1).run("r", "n0", [0], share=0.8).submit("a", share=0.3, priority=9)
    table.expect(preempted="r")
    table = cluster(nodes=1, devices=0).run("r", "n0", [], cpus=60).submit("a", devices=0, cpus=32, priority=9)
    table.expect(preempted="r")
    table = cluster(nodes=1).nodes(1, 8, "a", model="A100").run("h", "n0", 8, priority=9).run("x", "a0", 8)
    table.submit("a", demand(8, model="H100 SXM"), demand(8, model="A100"), priority=5).expect(preempted="x")


def test_a_victim_never_goes_twice_in_one_pass() -> None:
    table = cluster(nodes=2).run("r", "n0", 8).run("s", "n1", 8, saved_ago=50.0)
    table.submit("a", devices=8, priority=9).submit("b", devices=8, priority=9).expect(preempted="r s")
    assert table.last.preemptions == (Preempt("a", ("r",)), Preempt("b", ("s",)))


def test_what_a_victim_leaves_over_serves_the_next_without_a_new_one() -> None:
    table = cluster(nodes=2).run("r", "n0", 8).run("s", "n1", 8, saved_ago=50.0)
    table.submit("a", devices=4, priority=9).submit("b", devices=4, priority=9).expect(preempted="r")


# ---- waiting for them --------------------------------------------------------------------------------------------


def test_no_second_preemption_while_victims_are_leaving() -> None:
    table = cluster(nodes=2).run("r", "n0", 8, stopping_for="a").run("s", "n1", 8)
    table.submit("a", devices=8, priority=9).expect(started="", preempted="")
    assert table.last.reasons["a"] == WaitingForVictims(("r",))


def test_another_jobs_leaving_also_counts_as_coming() -> None:
    table = cluster(nodes=2).run("cancelled", "n0", 8, stopping=True).run("s", "n1", 8)
    table.submit("a", devices=8, priority=9).expect(started="", preempted="")
    assert isinstance(table.last.reasons["a"], NoFit)
    assert table.last.expected_start_s["a"] == NOW_S


def test_more_go_where_those_that_leave_are_not_enough() -> None:
    table = cluster(nodes=2).run("r", "n0", 8, stopping_for="a").run("s", "n1", 8)
    table.submit("a", workers=2, devices=8, priority=9).expect(preempted="s")
    assert table.last.reasons["a"] == WaitingForVictims(("r", "s"))


def test_the_free_part_of_the_promise_is_kept_from_later_jobs() -> None:
    # "a" takes 8 of n0: 4 are free already, 4 belong to its victim. Nobody else gets the 4, however short.
    table = cluster(nodes=1).run("r", "n0", [0, 1, 2, 3], stopping_for="a")
    table.submit("a", devices=8, priority=9).submit("b", devices=1, priority=5, limit=0.001)
    table.expect(started="", waiting="a b")


def test_what_the_promise_does_not_need_is_not_kept() -> None:
    table = cluster(nodes=1).run("r", "n0", [0, 1, 2, 3], stopping_for="a")
    table.submit("a", devices=6, priority=9).submit("b", devices=1).submit("c", devices=1).submit("d", devices=1)
    table.expect(started="b c", waiting="a d")


def test_no_ping_pong() -> None:
    table = cluster(nodes=1, devices=4)
    table.run("r0", "n0", [0, 1], ends_in=900.0).run("r1", "n0", [2, 3], ends_in=900.0)
    table.submit("a", devices=4, priority=9, limit=60.0).expect(preempted="r0 r1").apply()
    # r0 leaves first and waits again: it must not get its two devices back.
    table.after(1.0).gone("r0", requeued=True).expect(started="", preempted="", waiting="a r0").apply()
    table.after(1.0).gone("r1", requeued=True).expect(started="a", preempted="", waiting="r0 r1").apply()
    table.after(1.0).expect(started="", preempted="").apply()
    table.after(60.0).gone("a").expect(started="r0 r1")


def test_a_more_urgent_job_may_take_what_was_promised() -> None:
    table = cluster(nodes=1).run("r", "n0", [0, 1, 2, 3], stopping_for="a")
    table.submit("a", devices=8, priority=5).submit("top", devices=4, priority=9).expect(started="top", waiting="a")
