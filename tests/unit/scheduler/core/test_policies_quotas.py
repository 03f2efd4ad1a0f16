"""What a tenant may hold, borrow and take back, seen from the plan."""

from __future__ import annotations

import pytest

from scheduler.core.reasons import JobLimitReached, NoFit, QuotaReached, WaitingForVictims
from tests.fakes.cluster_table import ClusterTable, cluster, demand

# ---- maximum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "maximum", "wants", "started"),
    [
        (2, 4, {"devices": 2}, "a"),
        (2, 4, {"devices": 3}, ""),
        (2, 4, {"workers": 2}, "a"),
        (2, 4, {"workers": 3}, ""),
        (2, 4, {"workers": (1, 6)}, "a"),  # with what is left
        (4, 4, {"share": 0.001}, ""),
        (4, 4, {"devices": 0}, "a"),  # nothing is said of CPUs
        (5, 4, {"devices": 0}, "a"),  # nor where the maximum was lowered since
        (5, 4, {"devices": 1}, ""),
        (0, 0, {"devices": 1}, ""),
        (2, None, {"devices": 6}, "a"),
    ],
)
def test_nobody_starts_past_the_maximum(
    held: int, maximum: float | None, wants: dict[str, object], started: str
) -> None:
    table = cluster(nodes=1).tenant("t", maximum=maximum)
    if held:
        table.run("r", "n0", held)
    table.submit("a", **wants).expect(started=started)  # type: ignore[arg-type]


def test_an_elastic_job_takes_what_its_maximum_leaves() -> None:
    table = cluster(nodes=1).tenant("t", maximum=5).run("r", "n0", 2).submit("a", workers=(1, 8)).expect(started="a")
    assert len(table.placements("a")) == 3


def test_starts_of_one_pass_count_together() -> None:
    table = cluster(nodes=1).tenant("t", maximum=3)
    for name in "abcde":
        table.submit(name)
    table.expect(started="a b c", waiting="d e")
    assert table.last.reasons["d"] == QuotaReached("t", 3_000, 3_000, 1_000)


def test_a_job_that_is_too_large_for_its_quota_keeps_nothing_from_smaller_ones() -> None:
    table = (
        cluster(nodes=1).tenant("t", maximum=3).submit("a", devices=4, priority=9).submit("b", devices=3, limit=None)
    )
    table.expect(started="b", waiting="a")


def test_the_largest_alternative_counts() -> None:
    table = cluster(nodes=1).tenant("t", maximum=3).submit("a", demand(2), demand(4))
    table.expect(started="")
    assert isinstance(table.last.reasons["a"], QuotaReached)


def test_simulated_devices_count_apart() -> None:
    table = cluster(nodes=1).nodes(1, 8, "s", simulated=True).tenant("t", maximum=2).run("r", "n0", 2)
    table.submit("a", devices=2, simulated=True).submit("b").submit("c", simulated=True)
    table.expect(started="a", waiting="b c")
    assert table.last.reasons["b"] == QuotaReached("t", 2_000, 2_000, 1_000)
    assert table.last.reasons["c"] == QuotaReached("t", 2_000, 2_000, 1_000, simulated=True)


def test_another_tenants_quota_is_its_own() -> None:
    table = cluster(nodes=1).tenant("t", maximum=1).submit("a").submit("b").submit("c", tenant="u")
    table.expect(started="a c", waiting="b")


def test_what_is_leaving_still_counts_against_the_maximum() -> None:
    table = cluster(nodes=1).tenant("t", maximum=2).run("r", "n0", 2, stopping=True).submit("a")
    table.expect(started="", waiting="a")


def test_nobody_preempts_for_what_its_quota_would_refuse() -> None:
    table = cluster(nodes=1).tenant("t", maximum=2).run("r", "n0", 8, tenant="u")
    table.submit("a", devices=3, priority=9).expect(started="", preempted="")
    table.submit("b", devices=2, priority=8).expect(preempted="r")


def test_quota_is_kept_for_those_whose_victims_are_leaving() -> None:
    table = cluster(nodes=2).tenant("t", maximum=8).run("r", "n0", 8, tenant="u", stopping_for="a")
    table.run("s", "n1", 4, tenant="u", priority=9)
    table.submit("a", devices=8, priority=5).submit("b", devices=1).expect(started="", waiting="a b")
    assert isinstance(table.last.reasons["a"], WaitingForVictims)
    assert table.last.reasons["b"] == QuotaReached("t", 8_000, 8_000, 1_000)


# ---- jobs at a time ----------------------------------------------------------------------------------------------


def test_no_more_jobs_at_a_time_than_allowed() -> None:
    table = cluster(nodes=1).tenant("t", running=3).run("r", "n0", 1)
    table.submit("a").submit("b", devices=0).submit("c").submit("d", tenant="u").expect(started="d a b", waiting="c")
    assert table.last.reasons["c"] == JobLimitReached("t", 3, 3)


# ---- borrowing and reclaim ---------------------------------------------------------------------------------------

# Two nodes of 8; "lab" is guaranteed 8 and runs nothing yet, "bulk" holds all 16, of which 8 are guaranteed to it.


def lent_out(**facts: object) -> ClusterTable:
    table = cluster(nodes=2).tenant("lab", guaranteed=8).tenant("bulk", guaranteed=8)
    table.run("dear", "n0", 8, tenant="bulk", saved_ago=500.0, **facts)  # type: ignore[arg-type]
    return table.run("cheap", "n1", 8, tenant="bulk", saved_ago=5.0, **facts)  # type: ignore[arg-type]


def test_idle_quota_may_be_borrowed() -> None:
    table = cluster(nodes=1).tenant("lab", guaranteed=8)
    table.submit("a", devices=8, tenant="bulk").expect(started="a")


def test_what_was_borrowed_is_taken_back_from_the_job_that_loses_least() -> None:
    lent_out().submit("a", devices=8, tenant="lab").expect(started="", preempted="cheap")


@pytest.mark.parametrize(
    ("changes", "asks", "victims"),
    [
        ({}, {"devices": 8}, "cheap"),
        ({}, {"devices": 1}, "cheap"),  # gangs are not divisible
        ({"lab": 7}, {"devices": 8}, ""),  # not with the whole gang within its guarantee
        ({"lab": 0}, {"devices": 8}, ""),
        ({"bulk": 16}, {"devices": 8}, ""),  # nothing is borrowed
        ({"bulk": 15}, {"devices": 8}, "cheap"),
        ({}, {"workers": 9, "cpus": 0}, ""),
        ({}, {"workers": 2, "devices": 8}, ""),
        ({}, {"devices": 8, "tenant": "stranger"}, ""),
        ({}, {"devices": 8, "tenant": "bulk"}, ""),  # nobody reclaims from itself
        ({}, {"devices": 8, "priority": -1}, ""),  # only in the borrower's own class, or a higher
        ({}, {"devices": 8, "may_preempt": False}, ""),
        ({}, {"devices": 0, "cpus": 64}, ""),  # no CPUs are guaranteed
        ({}, {"devices": 8, "simulated": True}, ""),  # another ledger
    ],
)
def test_who_may_reclaim(changes: dict[str, float], asks: dict[str, object], victims: str) -> None:
    table = lent_out()
    for tenant, guaranteed in changes.items():
        table.tenant(tenant, guaranteed=guaranteed)
    table.submit("a", **{"tenant": "lab", **asks}).expect(started="", preempted=victims)  # type: ignore[arg-type]


def test_reclaim_ends_at_the_guarantee() -> None:
    # "bulk" holds 10 in jobs of 2 and is guaranteed 6: two of its jobs go, never a third.
    table = cluster(nodes=1, devices=10).tenant("lab", guaranteed=6).tenant("bulk", guaranteed=6)
    for i in range(5):
        table.run(f"r{i}", "n0", [2 * i, 2 * i + 1], tenant="bulk", saved_ago=float(i))
    table.submit("a", devices=4, tenant="lab").expect(preempted="r0 r1")
    table = cluster(nodes=1, devices=10).tenant("lab", guaranteed=6).tenant("bulk", guaranteed=6)
    for i in range(5):
        table.run(f"r{i}", "n0", [2 * i, 2 * i + 1], tenant="bulk", saved_ago=float(i))
    table.submit("a", devices=6, tenant="lab").expect(preempted="")
    assert isinstance(table.last.reasons["a"], NoFit)


def test_the_same_devices_are_not_reclaimed_twice() -> None:
    table = lent_out().submit("a", devices=8, tenant="lab").submit("b", devices=8, tenant="other")
    table.tenant("other", guaranteed=8).expect(preempted="cheap", waiting="a b")  # bulk then holds no more than its own
    table.apply().after(1.0).expect(preempted="", started="", waiting="a b")


def test_reclaim_never_leads_back() -> None:
    table = lent_out(ends_in=None).submit("a", devices=8, tenant="lab", limit=None)
    table.expect(preempted="cheap").apply().gone("cheap").submit("cheap", devices=8, tenant="bulk", limit=None)
    table.expect(started="a", preempted="", waiting="cheap").apply()
    for _ in range(5):
        table.after(100.0).expect(started="", preempted="", waiting="cheap").apply()


def test_what_was_reclaimed_is_not_borrowed_back_by_whom_fair_share_puts_first() -> None:
    """ "lab" has used much and "bulk" nothing, so that the victim stands before its preemptor; it must not get its
    devices back all the same, or they would take them from each other for ever."""
    table = cluster(nodes=1, devices=3).tenant("lab", guaranteed=1, used=0.9)
    table.submit("r", devices=3, tenant="bulk", limit=None).expect(started="r").apply()
    table.submit("a", devices=1, tenant="lab", limit=None).expect(preempted="r").apply().all_due_leave()
    table.expect(started="a", preempted="", waiting="r").apply().expect(started="", preempted="", waiting="r")


def test_a_lower_class_goes_whoever_it_belongs_to() -> None:
    table = cluster(nodes=1).tenant("bulk", guaranteed=8).run("r", "n0", 8, tenant="bulk", priority=0)
    table.submit("a", devices=8, tenant="lab", priority=1).expect(preempted="r")


def test_a_lower_class_goes_before_a_borrower_of_the_same() -> None:
    table = cluster(nodes=2).tenant("lab", guaranteed=8).run("low", "n0", 8, priority=-1, saved_ago=9.0, tenant="x")
    table.run("equal", "n1", 8, saved_ago=9.0, tenant="bulk").submit("a", devices=8, tenant="lab").expect(
        preempted="low"
    )
