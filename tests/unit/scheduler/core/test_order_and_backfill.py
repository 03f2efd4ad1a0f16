"""Strict order, one promise a pool, and what may slip past it."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import PendingJob
from scheduler.core.order import in_order
from scheduler.core.reasons import BehindReservation, NoFit, Unsatisfiable
from tests.fakes.cluster_table import NOW_S, cluster, demand

# ---- order -------------------------------------------------------------------------------------------------------


def test_higher_priority_first_then_first_come() -> None:
    table = cluster(nodes=1, devices=2)
    table.submit("late-low").submit("urgent", priority=9).submit("low").submit("mid", priority=5)
    table.expect(started="urgent mid", waiting="late-low low")


def test_fair_share_comes_between_class_and_age() -> None:
    def job(job_id: str, seq: int, tenant: str, priority: int) -> PendingJob:
        return PendingJob(job_id, seq, tenant, priority, 0.0, 1, 1, (demand(),), None)

    jobs = [job("a", 1, "greedy", 0), job("b", 2, "modest", 0), job("c", 3, "greedy", 5)]
    used = {"greedy": 0.9, "modest": 0.1}
    assert [j.job_id for j in in_order(jobs)] == ["c", "a", "b"]
    assert [j.job_id for j in in_order(jobs, usage=used)] == ["c", "b", "a"]
    assert in_order([]) == []


# ---- pools -------------------------------------------------------------------------------------------------------


def test_a_job_blocked_on_one_pool_never_blocks_another() -> None:
    table = cluster(nodes=1, devices=8).nodes(1, 8, "a", model="A100").run("r", "n0", 8)
    table.submit("h", model="H100 SXM", priority=9).submit("a", model="A100", limit=None)
    table.submit("c", devices=0, limit=None)
    table.expect(started="a c", waiting="h")


def test_an_unsatisfiable_job_blocks_nobody() -> None:
    table = cluster(nodes=1).submit("huge", devices=9, priority=9).submit("a", devices=8, limit=None)
    table.expect(started="a", waiting="huge")
    assert isinstance(table.last.reasons["huge"], Unsatisfiable)


def test_a_job_that_only_drained_nodes_could_take_blocks_nobody() -> None:
    table = cluster(nodes=2).unschedulable("n1", "draining: fan")
    table.submit("both", workers=2, devices=8, priority=9).submit("a", devices=8, limit=None)
    table.expect(started="a", waiting="both")


# ---- backfill ----------------------------------------------------------------------------------------------------

# One node, 8 devices; 6 are busy for 100 s more; "first" wants all 8 and is promised them at +100 s.


@pytest.mark.parametrize(
    ("limit", "devices", "starts"),
    [(100.0, 2, True), (99.0, 1, True), (101.0, 1, False), (None, 1, False), (10.0, 3, False)],
)
def test_only_what_is_over_by_then_slips_past(limit: float | None, devices: int, starts: bool) -> None:
    table = cluster(nodes=1).run("r", "n0", 6, ends_in=100.0).submit("first", devices=8, limit=500.0)
    table.submit("next", devices=devices, limit=limit)
    table.expect(started="next" if starts else "")
    assert table.last.expected_start_s["first"] == NOW_S + 100.0
    if not starts and devices < 3:
        assert table.last.reasons["next"] == BehindReservation("first")


def test_what_the_promise_does_not_need_is_free_for_all() -> None:
    # n0 comes free first and is promised; n1 has room that nobody waits for.
    table = cluster(nodes=2).run("r0", "n0", 8, ends_in=50.0).run("r1", "n1", 5, ends_in=900.0)
    table.submit("first", devices=8).submit("long", devices=3, limit=None)
    table.expect(started="long", waiting="first")


def test_extra_devices_at_the_promised_time_may_be_used_past_it() -> None:
    # At +100 s the node has 8 free and "first" takes 6: two are extra, whoever holds them and for how long.
    table = cluster(nodes=1).run("r", "n0", 6, ends_in=100.0).submit("first", devices=6)
    table.submit("a", limit=None).submit("b", limit=None).submit("c", limit=None)
    table.expect(started="a b", waiting="first c")


def test_long_jobs_use_up_what_is_extra_and_short_ones_do_not() -> None:
    # Four CPUs are free now, two are extra at +100 s: one short and two long jobs start, a third long one would delay.
    table = cluster(nodes=1, devices=0, cpus=8).run("r", "n0", 0, cpus=4, ends_in=100.0)
    table.submit("first", devices=0, cpus=6).submit("short", devices=0, limit=50.0)
    for name in "abc":
        table.submit(name, devices=0, limit=None)
    table.expect(started="short a b", waiting="first c")
    assert table.last.reasons["c"] == BehindReservation("first")


def test_only_the_first_blocked_job_of_a_pool_has_a_promise() -> None:
    table = cluster(nodes=1).run("r", "n0", 6, ends_in=100.0)
    table.submit("first", devices=7, limit=100.0).submit("second", devices=8, limit=100.0)
    table.submit("small", devices=1, limit=None)  # in the way of "second" alone
    table.expect(started="small", waiting="first second")
    assert table.last.expected_start_s["first"] == NOW_S + 100.0


def test_without_backfill_nothing_passes_the_first_blocked_job_of_its_pool() -> None:
    table = cluster(nodes=1).nodes(1, 8, "a", model="A100").policy(backfill="none").run("r", "n0", 6)
    table.submit("first", devices=8, model="H100 SXM").submit("short", model="H100 SXM", limit=1.0)
    table.submit("other", model="A100").submit("cpu", devices=0)
    table.expect(started="other cpu", waiting="first short")
    assert table.last.reasons["short"] == BehindReservation("first")


def test_a_wait_without_end_lets_bounded_jobs_by_and_no_others() -> None:
    table = cluster(nodes=1).run("service", "n0", 1, ends_in=None).submit("first", devices=8)
    table.submit("forever", limit=None).submit("short", limit=1e6)
    table.expect(started="short", waiting="first forever")
    assert "first" not in table.last.expected_start_s


def test_backfill_delays_no_promise_from_pass_to_pass() -> None:
    table = cluster(nodes=2)
    for i in range(8):
        table.run(f"r{i}", "n0", [i], ends_in=10.0 * (i + 1)).run(f"s{i}", "n1", [i], ends_in=200.0)
    table.submit("first", devices=8, limit=1000.0)
    for i in range(6):
        table.submit(f"small{i}", limit=5.0 + 20.0 * i)
    promised_s = table.plan().expected_start_s["first"]
    assert promised_s == NOW_S + 80.0
    while "first" in table.pending:
        table.apply().after(10.0)
        for job_id in [j for j, job in table.running.items() if (job.ends_by_s or 0) <= table.now_s]:
            table.gone(job_id)
        table.plan()
        if "first" in table.last.expected_start_s:
            assert table.last.expected_start_s["first"] <= promised_s
        else:
            assert table.now_s <= promised_s
            table.apply()


# ---- estimates ---------------------------------------------------------------------------------------------------


def test_later_jobs_are_expected_behind_earlier_ones() -> None:
    table = cluster(nodes=1).run("r", "n0", 8, ends_in=100.0)
    for name in "abc":
        table.submit(name, devices=8, limit=50.0)
    table.expect(started="")
    assert table.last.expected_start_s == {"a": NOW_S + 100, "b": NOW_S + 150, "c": NOW_S + 200}


def test_a_job_past_its_limit_is_expected_to_be_gone_now() -> None:
    table = cluster(nodes=1).run("r", "n0", 8, ends_in=-5.0, priority=0).submit("a", devices=8, priority=9)
    table.expect(started="", preempted="")
    assert table.last.expected_start_s["a"] == NOW_S


# ---- reasons -----------------------------------------------------------------------------------------------------


def test_reason_counts_nodes() -> None:
    table = cluster(nodes=3).nodes(2, 8, "a", model="A100").nodes(1, 8, "s", simulated=True)
    table.nodes(1, 8, "h", model="910B", vendor="huawei").nodes(1, 0, "c").nodes(1, 8, "o", site="south")
    table.run("r0", "n0", 5).run("r1", "n1", 5).unschedulable("n2", "draining: fan")
    table.submit("a", model="H100 SXM", vendor="nvidia", devices=8, site="north")
    reason = table.reason("a")
    assert isinstance(reason, NoFit)
    assert dict(reason.nodes_by_reason) == {
        "3 of 8 devices free": 2,
        "model differs": 2,
        "draining": 1,
        "simulated, which the demand does not allow": 1,
        "vendor differs": 1,
        "no devices": 1,
        "other site": 1,
    }
    assert (reason.wanted_workers, reason.placeable_workers) == (1, 0)


@pytest.mark.parametrize(
    ("wants", "word"),
    [
        ({"cpus": 60, "share": 0.1}, "under 60 CPUs free"),
        ({"memory_gib": 33, "share": 0.1}, "under 33 GiB free"),
        ({"share": 0.5}, "0 of 8 devices have 0.5 free"),
        ({"node": "n0", "devices": 8}, "0 of 8 devices free"),
    ],
)
def test_reason_names_what_is_short(wants: dict[str, object], word: str) -> None:
    table = cluster(nodes=1)
    for i in range(8):
        table.run(f"r{i}", "n0", [i], share=0.6, memory_gib=60)
    reason = table.submit("a", **wants).reason("a")
    assert isinstance(reason, NoFit)
    assert reason.nodes_by_reason == ((word, 1),)


def test_partial_gang_says_how_many_would_fit() -> None:
    reason = cluster(nodes=2).run("r", "n0", 6).submit("a", workers=6, devices=2).reason("a")
    assert isinstance(reason, NoFit)
    assert (reason.wanted_workers, reason.placeable_workers) == (6, 5)


def test_identical_jobs_share_one_reason() -> None:
    table = cluster(nodes=1).run("r", "n0", 8)
    for i in range(50):
        table.submit(f"j{i}", devices=2)
    table.expect(started=0)
    assert len({id(reason) for reason in table.last.reasons.values()}) == 1


def test_an_unknown_packing_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="worst-fit"):
        cluster().policy(packing="worst-fit").submit("a").plan()
