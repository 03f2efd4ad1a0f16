"""The checks can fail: each rule against a plan that breaks it, and that only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.core.decisions import Plan, Preempt, Release, Resize, Start
from scheduler.core.demand import Level, Placement
from scheduler.core.invariants import check
from scheduler.core.reasons import (
    BehindReservation,
    JobLimitReached,
    NodesReserved,
    NoFit,
    QuotaReached,
    Reason,
    ReservationTooShort,
    WaitingForReservation,
    WaitingForVictims,
)
from tests.fakes.cluster_table import NOW_S, ClusterTable, cluster, demand

Table = Callable[[], ClusterTable]
NO_FIT = NoFit("x", 1, 0, ())


def at(node: str, *devices: int, worker: int = 0, share_milli: int = 0, cpus_milli: int = 1000) -> Placement:
    return Placement(worker, node, devices, share_milli, cpus_milli, 0, 0)


def starts(**placements: list[Placement]) -> Plan:
    return Plan(starts=tuple(Start(job_id, tuple(places)) for job_id, places in placements.items()))


def waits(made: Plan | None = None, /, **reasons: Reason) -> Plan:
    return replace(made or Plan(), reasons=reasons)


def preempts(victims: str, made: Plan | None = None, job_id: str = "a") -> Plan:
    ids = tuple(victims.split())
    return replace(made or Plan(), preemptions=(Preempt(job_id, ids),), reasons={job_id: WaitingForVictims(ids)})


def one() -> ClusterTable:
    return cluster(nodes=1, devices=4, cpus=8)


def full(**facts: object) -> ClusterTable:
    return cluster(nodes=1, devices=4).run("r", "n0", 4, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "made", "complaint"),
    [
        # ---- starts
        (one().submit("a"), starts(a=[at("n0", 0)], b=[at("n0", 1)]), "starts but does not wait"),
        (one().submit("a", workers=2), starts(a=[at("n0", 0)]), "partial gang"),
        (one().submit("a"), starts(a=[at("n0", 0), at("n0", 1, worker=1)]), "partial gang"),
        (one().submit("a", workers=2), starts(a=[at("n0", 0), at("n0", 1)]), "workers are numbered"),
        (one().submit("a"), starts(a=[at("n7", 0)]), "is not here"),
        (one().unschedulable("n0", "down").submit("a"), starts(a=[at("n0", 0)]), "which is down"),
        (one().submit("a", devices=2), starts(a=[at("n0", 0)]), "number of devices"),
        (one().submit("a", devices=2), starts(a=[at("n0", 0, 0)]), "number of devices"),
        (one().submit("a"), starts(a=[at("n0", 9)]), "devices that exist"),
        (one().submit("a", model="A100"), starts(a=[at("n0", 0)]), "kind of device"),
        (one().submit("a", mig="1g"), starts(a=[at("n0", 0)]), "kind of device"),
        (one().submit("a", device_labels={"x": "y"}), starts(a=[at("n0", 0)]), "kind of device"),
        (one().submit("a", labels={"x": "y"}), starts(a=[at("n0", 0)]), "meet .*: node"),
        (one().submit("a", site="south"), starts(a=[at("n0", 0)]), "meet .*: node"),
        (cluster(simulated=True).submit("a"), starts(a=[at("n0", 0)]), "meet .*: node"),
        (one().submit("a", share=0.5), starts(a=[at("n0", 0, share_milli=400)]), "share"),
        (one().submit("a", cpus=2), starts(a=[at("n0", 0)]), "cpus"),
        # ---- room
        (full().submit("a"), starts(a=[at("n0", 0)]), "device 0 of node n0 holds 2000"),
        (
            one().submit("a", share=0.6).submit("b", share=0.6),
            starts(a=[at("n0", 1, share_milli=600)], b=[at("n0", 1, share_milli=600)]),
            "device 1 of node n0 holds 1200",
        ),
        (one().submit("a", cpus=9), starts(a=[at("n0", 0, cpus_milli=9000)]), "1000 milli-CPUs over"),
        # ---- constraints
        (
            cluster(nodes=2).submit("a", workers=2, within=Level.NODE),
            starts(a=[at("n0", 0), at("n1", 0, worker=1)]),
            "not within one node",
        ),
        (
            cluster(nodes=1, island=["x"] * 4 + ["y"] * 4).submit("a", devices=2, within=Level.ISLAND),
            starts(a=[at("n0", 3, 4)]),
            "not within one island",
        ),
        (
            cluster(nodes=2).submit("a", within=Level.NODE, beside=("n1",)),
            starts(a=[at("n0", 0)]),
            "not in the node of its siblings",
        ),
        (
            cluster(nodes=2, rack="r").submit("a", workers=2, one_per=Level.RACK),
            starts(a=[at("n0", 0), at("n1", 0, worker=1)]),
            "more than one worker",
        ),
        (
            cluster(nodes=1).submit("a", one_per=Level.NODE, beside=("n0",)),
            starts(a=[at("n0", 0)]),
            "more than one worker",
        ),
        (one().run("r", name="w").submit("a", apart_from=("w",)), starts(a=[at("n0", 1)]), "to be apart"),
        (one().run("r", apart_from=("w",)).submit("a", name="w"), starts(a=[at("n0", 1)]), "to be apart"),
        (
            one().submit("a", name="w").submit("b", apart_from=("w",)),
            starts(a=[at("n0", 1)], b=[at("n0", 2)]),
            "to be apart",
        ),
        # ---- reservations
        (one().reserve("x", "n0", 99.0, 9.0).submit("a"), starts(a=[at("n0", 0)]), "reserved"),
        (one().reserve("x", "n0", 0.0, 9.0).submit("a", limit=0.0), starts(a=[at("n0", 0)]), "reserved"),
        (one().submit("a", reservation="x"), starts(a=[at("n0", 0)]), "there is no reservation x"),
        (
            one().reserve("x", "n0", 1.0, 500.0).submit("a", reservation="x"),
            starts(a=[at("n0", 0)]),
            "is not within",
        ),
        (
            one().reserve("x", "n0", 0.0, 99.0).submit("a", reservation="x"),
            starts(a=[at("n0", 0)]),
            "is not within",
        ),
        (
            cluster(nodes=2).reserve("x", "n1", 0.0, 500.0).submit("a", reservation="x"),
            starts(a=[at("n0", 0)]),
            "is not within",
        ),
        # ---- quotas
        (one().tenant("t", maximum=1).run("r").submit("a"), starts(a=[at("n0", 1)]), "of at most 1000 thousandths"),
        (
            one().tenant("t", maximum=1).submit("a").submit("b"),
            starts(a=[at("n0", 1)], b=[at("n0", 2)]),
            "of at most 1000 thousandths",
        ),
        (one().tenant("t", running=1).run("r").submit("a"), starts(a=[at("n0", 1)]), "of at most 1 jobs"),
        (
            full(tenant="u").tenant("t", maximum=1).submit("a", devices=2, priority=1),
            preempts("r"),
            "of at most 1000 thousandths",
        ),
        # ---- reasons
        (full().submit("a"), Plan(), "reasons are for"),
        (one().submit("a"), waits(starts(a=[at("n0", 0)]), a=NO_FIT), "reasons are for"),
        (full().submit("a"), waits(Plan(expected_start_s={"z": NOW_S}), a=NO_FIT), "do not wait, but are expected"),
        (full().submit("a"), waits(a=QuotaReached("t", 4000, 5000, 1000)), "it is within its maximum"),
        (
            full().tenant("t", maximum=4).submit("a"),
            waits(a=QuotaReached("t", 3500, 4000, 1000)),
            "it is within its maximum",
        ),
        (full().submit("a"), waits(a=JobLimitReached("t", 1, 1)), "its tenant runs fewer"),
        (full().submit("a"), waits(a=BehindReservation("r")), "what is ahead of it does not wait"),
        (full().submit("a"), waits(a=BehindReservation("a")), "what is ahead of it does not wait"),
        (full().submit("a"), waits(a=WaitingForVictims(("r",))), "its victims are not leaving"),
        (full().submit("a"), waits(a=NodesReserved("x", 0.0, 0.0)), "nothing is reserved by that name"),
        (
            full().reserve("x", "n0", -1.0, 500.0).submit("a", reservation="x"),
            waits(a=WaitingForReservation("x", None)),
            "its reservation has begun",
        ),
        (
            full().reserve("x", "n0", -1.0, 500.0).submit("a", reservation="x"),
            waits(a=ReservationTooShort("x", 0.0)),
            "it would be over in time",
        ),
        # ---- order
        (one().submit("a"), waits(a=NO_FIT), "fits, but waits"),
        (
            one().submit("a", priority=1, devices=4).submit("b", devices=4),
            waits(starts(b=[at("n0", 0, 1, 2, 3)]), a=NO_FIT),
            "job b started on",
        ),
        (
            one().submit("a", devices=4).submit("b", devices=4),
            waits(starts(b=[at("n0", 0, 1, 2, 3)]), a=NO_FIT),
            "job b started on",
        ),
        (
            one().submit("a", devices=4).submit("b", devices=4, due_in=1.0),
            waits(starts(a=[at("n0", 0, 1, 2, 3)]), b=NO_FIT),
            "job a started on",
        ),
        (
            one().policy(starve_after_s=50.0).submit("a", devices=4, waited=51.0, tenant="u").submit("b", devices=4),
            waits(starts(b=[at("n0", 0, 1, 2, 3)]), a=NO_FIT),
            "job b started on",
        ),
        (
            one()
            .submit("z", devices=9)
            .submit("a", devices=3, priority=1, limit=50.0)
            .submit("b", devices=3, limit=50.0),
            waits(starts(b=[at("n0", 0, 1, 2)]), z=NO_FIT, a=BehindReservation("z")),  # as long: no backfill
            "job b started on",
        ),
        # ---- promises
        (
            full(ends_in=50.0).submit("a"),
            waits(Plan(expected_start_s={"a": NOW_S + 49.0}), a=NO_FIT),
            "there is no room for it then",
        ),
        (full().submit("a"), waits(Plan(expected_start_s={"a": NOW_S - 1.0}), a=NO_FIT), "is expected to start at 999"),
        (
            full(ends_in=50.0).reserve("x", "n0", 60.0, 10.0).submit("a", limit=11.0),
            waits(Plan(expected_start_s={"a": NOW_S + 50.0}), a=NO_FIT),
            "there is no room for it then",
        ),
        (
            cluster(nodes=1).run("r", "n0", 4, ends_in=50.0).submit("a", devices=8, priority=1).submit("b"),
            waits(replace(starts(b=[at("n0", 4)]), expected_start_s={"a": NOW_S + 50.0}), a=NO_FIT),
            "there is no room for it then",  # backfill delayed it
        ),
        # ---- victims
        (full().submit("a", priority=1), replace(preempts("r"), reasons={"a": NO_FIT}), "preempts .* but waits for"),
        (full().submit("a", priority=1), preempts("q"), "does not run|are not leaving"),
        (full().submit("a", priority=1), preempts("r r"), "a victim twice"),
        (full(priority=2).submit("a", priority=1), preempts("r"), "has priority 2"),
        (full().submit("a"), preempts("r"), "of its own class"),
        (full(stopping=True).submit("a", priority=1), preempts("r"), "is stopping already"),
        (full(ends_in=0.0).submit("a", priority=1), preempts("r"), "leaves anyway"),
        (
            full(preempted=1).policy(min_run_before_preemption_s=5.0).submit("a", priority=1),
            preempts("r"),
            "was preempted 1 times",
        ),
        (full().submit("a", priority=1, may_preempt=False), preempts("r"), "may not preempt"),
        (full().policy(preemption=False).submit("a", priority=1), preempts("r"), "nobody may"),
        (full().policy(non_preempting=frozenset({1})).submit("a", priority=1), preempts("r"), "may not preempt"),
        (full().submit("a", priority=1, devices=8), preempts("r"), "makes no room for the whole"),
        (full().submit("a", priority=1, reservation="x"), preempts("r"), "before its reservation"),
        (
            full(tenant="u").tenant("t", guaranteed=3).submit("a", devices=4),
            preempts("r"),
            "of 3000 guaranteed thousandths",
        ),
        (full().tenant("t", guaranteed=8).submit("a", devices=4), preempts("r"), "of its own tenant"),
        (
            full(tenant="u", simulated=True).tenant("t", guaranteed=4).submit("a", devices=4),
            preempts("r"),
            "of another ledger",
        ),
        (
            full(tenant="u").tenant("t", guaranteed=4).tenant("u", guaranteed=4).submit("a", devices=4),
            preempts("r"),
            "which is within its guarantee",
        ),
        (
            one()
            .run("r", "n0", [0, 1], tenant="u")
            .run("s", "n0", [2, 3], tenant="u")
            .tenant("t", guaranteed=4)
            .tenant("u", guaranteed=2)
            .submit("a", devices=4),
            preempts("r s"),
            "which is within its guarantee",
        ),
        # ---- releases and growth
        (full(workers_wanted=0), Plan(), "release workers"),
        (full(), Plan(releases=(Release("r", (0,)),)), "release workers"),
        (full(workers_wanted=0), Plan(releases=(Release("r", (1,)),)), "of \\[0\\]: 0 wanted"),
        (full(workers_wanted=0), Plan(releases=(Release("r", ()),)), "of \\[0\\]: 0 wanted"),
        (one().run("r"), Plan(resizes=(Resize("r", 2),)), "cannot grow"),
    ],
)
def test_a_plan_that_breaks_a_rule(table: ClusterTable, made: Plan, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(table.state, table.kept, made, table.settings, table.now_s)


@pytest.mark.parametrize(
    ("change", "workers", "complaint"),
    [
        ({}, 4, None),
        ({}, 5, "from 1 of at most 4"),
        ({}, 1, "from 1 of at most 4"),
        ({"stopping": True}, 4, "leaves, and is to grow"),
        ({"started_ago": 9.0}, 4, "ran 9.0 s"),
        ({"maximum": 3}, 4, "past its tenant's 3000"),
        ({"waits": 8}, 4, "0 find room that nobody waits for"),
        ({"busy": True}, 4, "2 find room"),
    ],
)
def test_growth(change: dict[str, object], workers: int, complaint: str | None) -> None:
    table = one().policy(min_run_before_growth_s=10.0)
    given = dict(change)
    if "maximum" in given:
        table.tenant("t", maximum=given.pop("maximum"))  # type: ignore[arg-type]
    if "waits" in given:
        table.submit("a", devices=given.pop("waits"))
    if given.pop("busy", False):
        table.run("b", "n0", [3])
    facts = {"started_ago": 10.0, "workers_max": 4, "alternatives": (demand(1),), **given}
    table.run("r", "n0", [0], **facts)  # type: ignore[arg-type]
    made = Plan(resizes=(Resize("r", workers),), reasons={"a": NO_FIT} if "waits" in change else {})
    if complaint is None:
        check(table.state, table.kept, made, table.settings, table.now_s)
    else:
        with pytest.raises(AssertionError, match=complaint):
            check(table.state, table.kept, made, table.settings, table.now_s)


def test_backfill_that_is_over_in_time_is_no_breach() -> None:
    table = one().run("r", "n0", 2, ends_in=50.0).submit("z", devices=4, priority=2)
    table.submit("a", devices=2, priority=1, limit=60.0).submit("b", devices=2, limit=50.0)
    made = waits(starts(b=[at("n0", 2, 3)]), z=NO_FIT, a=BehindReservation("z"))
    check(table.state, table.kept, replace(made, expected_start_s={"z": NOW_S + 50.0}), table.settings, table.now_s)
