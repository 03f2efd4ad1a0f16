"""The answer to "why does my job wait?"."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import PendingJob
from scheduler.core.demand import Demand, Level
from scheduler.core.explain import TenantUse, explain, nearest_possible
from scheduler.core.reasons import (
    BehindReservation,
    NodesReserved,
    NoFit,
    QuotaReached,
    Unsatisfiable,
    WaitingForVictims,
    text,
)
from scheduler.core.waiting_reasons import WaitingReasons
from scheduler.core.what_if import Change
from tests.fakes.cluster_table import NOW_S, cluster, demand, node_facts


def test_a_job_that_would_start() -> None:
    answer = cluster(nodes=1).submit("a", devices=2).explain("a")
    assert answer.reason is None
    assert [p.node for p in answer.placements] == ["n0"]
    assert answer.expected_start_s == NOW_S


def test_who_is_in_the_way_and_until_when() -> None:
    table = cluster(nodes=2).nodes(1, 8, "a", model="A100")
    table.run("low", "n0", 5, ends_in=30.0).run("high", "n1", 5, priority=7, ends_in=60.0).run("far", "a0", 6)
    table.run("cpu", "n0", [], cpus=1)
    answer = table.submit("j", model="H100 SXM", devices=8, may_preempt=False).explain("j")
    assert isinstance(answer.reason, NoFit)
    assert answer.nodes_by_reason == (("3 of 8 devices free", 2), ("model differs", 1))
    assert answer.blocked_by == ("high", "low")
    assert answer.expected_start_s == NOW_S + 30.0
    assert answer.suggestions == ()


def test_at_most_twenty_are_named() -> None:
    table = cluster(nodes=4)
    for i in range(32):
        table.run(f"r{i:02d}", f"n{i // 8}", [i % 8])
    assert len(table.submit("a").explain("a").blocked_by) == 20


@pytest.mark.parametrize(
    ("asks", "suggestion"),
    [
        ({"workers": 8, "model": "H100 SXM"}, "with 6 workers it would start now"),
        ({"devices": 7, "model": "H100 SXM"}, "with device A100 it would start now"),
        ({"devices": 8, "node": "n0"}, "with no node or site named it would start now"),
        ({"devices": 8, "model": "H100 SXM"}, "with 4 devices a worker it would start now"),
        ({"devices": 2, "model": "H100 SXM", "limit": 500.0}, None),
    ],
)
def test_a_small_change_that_would_start_it_now(asks: dict[str, object], suggestion: str | None) -> None:
    table = cluster(nodes=1).nodes(1, 8, "a", model="A100").nodes(2, 8, "s", model="910B", simulated=True)
    table.nodes(1, 8, "z", model="910B").run("z", "z0", 1).run("r", "n0", 2)
    answer = table.submit("j", **asks).explain("j")
    if suggestion is None:
        assert answer.suggestions == ()
    else:
        assert suggestion in answer.suggestions


def test_a_shorter_time_limit_would_slip_past_the_promise() -> None:
    table = cluster(nodes=1).run("r", "n0", 6, ends_in=100.0).submit("first", devices=8)
    answer = table.submit("j", devices=2, limit=None).explain("j")
    assert answer.reason == BehindReservation("first")
    assert answer.blocked_by[0] == "first"
    assert "with time_limit up to 100 s it would start now, by backfill" in answer.suggestions
    assert answer.expected_start_s == NOW_S + 200.0


@pytest.mark.parametrize(
    ("asks", "change"),
    [
        ({"workers": 12}, Change("workers", "with 8 workers it would start now")),
        ({"labels": {"disk": "nvme"}, "devices": 2}, Change("pin", "with no labels asked for it would start now")),
        ({"site": "south", "devices": 2}, Change("pin", "with no node or site named it would start now")),
        (
            {"workers": 2, "devices": 4, "within": Level.NODE},
            Change("constraint", "with within a rack it would start now"),
        ),
        (
            {"workers": 3, "devices": 2, "one_per": Level.NODE},
            Change("constraint", "with no `one_per` it would start now"),
        ),
        (
            {"apart_from": ("web",), "devices": 2},
            Change("constraint", "with no `apart_from` it would start now"),
        ),
        (
            {"workers": 3, "devices": 3},
            Change("resume", "if node n2 (draining: fan) were resumed it would start now"),
        ),
    ],
)
def test_each_kind_of_small_change(asks: dict[str, object], change: Change) -> None:
    """n0 and n1, of one rack, have 4 of 8 devices free and the tenant's "web" on them; n2 is drained; a0 is at south,
    labelled nvme, and full."""
    table = cluster(nodes=2, rack="r0").nodes(1, 8, "a", site="south", labels={"disk": "nvme"})
    table.run("full", "a0", 8, ends_in=None)
    table.state.add_node(node_facts("n2"))
    table.unschedulable("n2", "draining: fan")
    for i in range(2):
        table.run(f"w{i}", f"n{i}", 4, name="web", ends_in=None)
    answer = table.submit("j", may_preempt=False, limit=None, **asks).explain("j")  # type: ignore[arg-type]
    assert change in answer.changes
    assert change.text in answer.suggestions
    assert answer.suggestions == tuple(each.text for each in answer.changes)


def test_what_others_borrowed_is_named() -> None:
    table = cluster(nodes=2).tenant("lab", guaranteed=4).tenant("bulk", guaranteed=4).tenant("t", maximum=12)
    table.run("a", "n0", 8, tenant="bulk", ends_in=None).run("b", "n1", 4, tenant="lab").run("c", "n1", [4, 5, 6, 7])
    answer = table.submit("j", devices=8).explain("j")
    assert answer.quota == TenantUse("t", 4_000, 0, 12_000, 4_000, simulated=False)
    assert answer.borrowers == (TenantUse("bulk", 8_000, 4_000, None, 4_000, simulated=False),)
    assert sorted(answer.blocked_by) == ["a", "b", "c"]
    assert Change("reclaim", "if tenant bulk's borrowed 8 devices were reclaimed it would start now") in answer.changes


def test_a_quota_is_the_reason_and_no_other_demand_would_help() -> None:
    answer = cluster(nodes=1).tenant("t", maximum=2).run("r", "n0", 1).submit("j", devices=2).explain("j")
    assert answer.reason == QuotaReached("t", 1_000, 2_000, 2_000)
    assert answer.changes == ()
    assert answer.quota is not None
    assert (answer.quota.used_milli, answer.quota.maximum_milli) == (1_000, 2_000)


def test_a_reservation_is_the_reason() -> None:
    table = cluster(nodes=1).reserve("night", "n0", 30.0, 60.0).submit("j", limit=100.0)
    answer = table.explain("j")
    assert answer.reason == NodesReserved("night", NOW_S + 30.0, NOW_S + 90.0)
    assert answer.expected_start_s == NOW_S + 90.0
    assert "with time_limit up to 30 s it would start now, by backfill" in answer.suggestions
    assert text(answer.reason, now_s=NOW_S) == "its nodes are reserved for night in 30 s"


@pytest.mark.parametrize("job_id", [f"t{i}" for i in range(6)])
def test_any_job_of_an_array_can_be_asked_for(job_id: str) -> None:
    table = cluster(nodes=1).run("r", "n0", 4, ends_in=50.0)
    for i in range(6):
        table.submit(f"t{i}", devices=2, limit=80.0)
    made = table.plan()
    answer = table.explain(job_id)
    assert (answer.reason is None) == (job_id in ("t0", "t1"))
    assert answer.reason == made.reasons.get(job_id)
    assert answer.expected_start_s == {"t2": NOW_S + 50.0, "t3": NOW_S + 50.0, "t4": NOW_S + 80.0}.get(
        job_id, NOW_S if answer.reason is None else answer.expected_start_s
    )


def test_victims_are_named() -> None:
    answer = cluster(nodes=1).run("r", "n0", 8).submit("a", priority=9).explain("a")
    assert answer.reason == WaitingForVictims(("r",))
    assert answer.preempts == ("r",)


def test_the_answer_is_that_of_the_plan() -> None:
    table = cluster(nodes=2).run("r", "n0", 4, ends_in=40.0)
    for i in range(12):
        table.submit(f"j{i}", devices=1 + i % 5, limit=30.0 + i)
    made = table.plan()
    for job_id in table.pending:
        answer = table.explain(job_id)
        assert answer.reason == made.reasons.get(job_id)
        if job_id in made.expected_start_s:
            assert answer.expected_start_s == made.expected_start_s[job_id]


def test_kinds_of_reasons_are_kept_without_the_pass() -> None:
    table = cluster(nodes=2).run("r", "n0", 4, ends_in=40.0).run("victim", "n1", 8)
    for i in range(12):
        table.submit(f"j{i}", devices=1 + i % 5, limit=30.0 + i, priority=i % 2)
    made = table.plan()
    assert isinstance(made.reasons, WaitingReasons)
    kept = made.reasons.without_counts()
    reasons = {job_id: made.reasons.get(job_id) for job_id in (*table.pending, "unheard-of")}
    assert {job_id: kept.kind_of(job_id) for job_id in reasons} == {
        job_id: None if reason is None else reason.kind for job_id, reason in reasons.items()
    }
    assert {"no_fit", "waiting_for_victims", None} <= {kept.kind_of(job_id) for job_id in reasons}


def test_a_dry_run_of_a_job_that_is_not_in_the_queue() -> None:
    table = cluster(nodes=1).submit("a", devices=8)
    job = PendingJob("new", 99, "t", 0, NOW_S, 1, 1, (demand(8),), 60.0)
    answer = explain(table.state, table.kept, table.settings, job, now_s=NOW_S)
    assert isinstance(answer.reason, NoFit)
    assert [job.job_id for job in table.kept.pending] == ["a"]


@pytest.mark.parametrize(
    ("wants", "workers", "nearest"),
    [
        (demand(8), 3, None),
        (demand(1), 24, None),
        (demand(8), 5, "4 workers of 8 x any device"),
        (demand(9), 1, "8 x any device a worker (the most that one node has)"),
        (demand(1, model="H100 PCIe"), 1, "1 x H100 SXM"),
        (demand(16, model="H100 SX"), 1, "8 x H100 SXM"),
        (demand(1, vendor="nvida"), 1, "vendor nvidia"),
        (demand(1, share=0.5, model="A10"), 1, "0.5 of A100"),
        (demand(1, node="n7"), 1, "node n1 (there is no node n7)"),
        (demand(1, site="nort"), 1, "site north (no node is at site nort)"),
        (demand(1, cpus=65), 1, "64 CPUs a worker (the most that one such node has)"),
        (demand(1, memory_gib=600), 1, "512.0 GiB of memory a worker (the most that one such node has)"),
        (demand(2, model="910B"), 1, "2 x 910B with simulated: true (only simulated nodes have it)"),
        (demand(2, model="910B", simulated=True), 4, None),
        (demand(1, model="A100", site="north"), 1, "1 x A100 on node a0 at site south"),
    ],
)
def test_the_nearest_possible_demand(wants: Demand, workers: int, nearest: str | None) -> None:
    table = cluster(nodes=2).nodes(1, 8, "a", model="A100", site="south").nodes(1, 8, "b", site="south")
    table.nodes(1, 8, "s", model="910B", vendor="huawei", simulated=True)
    table.run("r", "n0", 8).unschedulable("n1", "down")  # neither what is busy nor what is down counts
    assert nearest_possible(table.state, (wants,), workers) == nearest


def test_nothing_is_possible_without_nodes() -> None:
    assert nearest_possible(cluster(nodes=0).state, (demand(),), 1) == "nothing: the cluster has no nodes"


def test_unsatisfiable_in_words() -> None:
    answer = cluster(nodes=2).submit("a", devices=9, model="H100 SXM", priority=9).explain("a")
    assert isinstance(answer.reason, Unsatisfiable)
    assert answer.expected_start_s is None
    assert text(answer.reason, now_s=NOW_S) == (
        "no node can ever take 1 worker of 9 x H100 SXM; nearest: 8 x H100 SXM a worker (the most that one node has)"
    )


def test_a_task_deep_in_an_array_is_expected_behind_the_tasks_before_it() -> None:
    """It was told the end of the tasks that run, as if nobody stood between."""
    table = cluster(nodes=1, devices=2).run("r", "n0", 2, ends_in=100.0)
    for i in range(80):
        table.submit(f"t{i}", limit=50.0)
    expected = {i: table.explain(f"t{i}").expected_start_s for i in (0, 1, 2, 11, 60, 79)}
    start = table.now_s + 100.0
    assert {i: at_s for i, at_s in expected.items() if i < 60} == {0: start, 1: start, 2: start + 50, 11: start + 250}
    assert expected[60] == start + 30 * 50
    assert expected[79] is None  # too many to go through


def test_without_backfill_nothing_smaller_helps_behind_a_job_that_waits_for_a_part_of_the_pool() -> None:
    """It was told that it would start with one device, which is free, and did not."""
    table = cluster(1, 3, prefix="a", site="south").nodes(1, 1, prefix="g", site="north").policy(backfill="none")
    table.run("r1", "a0", 3).submit("j1", devices=1, site="south").submit("j2", devices=2)
    table.plan()
    assert table.explain("j2").changes == ()
    table.submit("j3", devices=1)
    assert table.plan().starts == ()
