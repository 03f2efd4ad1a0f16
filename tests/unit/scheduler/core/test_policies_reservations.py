"""Nodes kept for a time: maintenance, the nightly benchmark; and what may still start there before."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest

from scheduler.core.decisions import AdvanceReservation
from scheduler.core.reasons import NodesReserved, NoFit, ReservationTooShort, WaitingForReservation
from scheduler.core.reserved_nodes import ReservedNodes
from tests.fakes.cluster_table import NOW_S, cluster

# One node, reserved as "night" from +100 s to +200 s.


@pytest.mark.parametrize(
    ("limit", "started"),
    [(99.0, "a"), (100.0, "a"), (100.5, ""), (500.0, ""), (None, "")],
)
def test_before_it_begins_only_what_is_over_by_then_starts(limit: float | None, started: str) -> None:
    table = cluster(nodes=1).reserve("night", "n0", 100.0, 100.0).submit("a", limit=limit).expect(started=started)
    if not started:
        assert table.last.reasons["a"] == NodesReserved("night", NOW_S + 100.0, NOW_S + 200.0)
        assert table.last.expected_start_s["a"] == NOW_S + 200.0


@pytest.mark.parametrize("limit", [0.001, 10.0, None])
@pytest.mark.parametrize("began_ago", [0.0, 10.0])
def test_once_it_has_begun_nobody_else_starts(limit: float | None, began_ago: float) -> None:
    cluster(nodes=1).reserve("night", "n0", -began_ago, 100.0).submit("a", limit=limit).expect(started="")


def test_afterwards_the_nodes_are_everybodys() -> None:
    cluster(nodes=1).reserve("night", "n0", -100.0, 100.0).submit("a", limit=None).expect(started="a")


def test_other_nodes_are_not_touched() -> None:
    table = (
        cluster(nodes=2).reserve("night", "n0", 0.0, 100.0).submit("a", devices=8, limit=None).submit("b", devices=8)
    )
    assert list(table.expect(started="a", waiting="b").where("a")) == ["n1"]


@pytest.mark.parametrize(
    ("starts_in", "lasts", "limit", "reason"),
    [
        (0.0, 100.0, 100.0, None),
        (-50.0, 100.0, 50.0, None),
        (-50.0, 100.0, 51.0, ReservationTooShort("night", NOW_S + 50.0)),
        (0.0, 100.0, None, ReservationTooShort("night", NOW_S + 100.0)),
        (30.0, 100.0, 10.0, WaitingForReservation("night", NOW_S + 30.0)),
        (-100.0, 100.0, 10.0, WaitingForReservation("night", None)),  # over
    ],
)
def test_a_job_that_names_it_runs_in_its_time_alone(
    starts_in: float, lasts: float, limit: float | None, reason: object
) -> None:
    table = cluster(nodes=2).reserve("night", "n0", starts_in, lasts)
    table.submit("a", reservation="night", limit=limit).expect(started="" if reason else "a")
    assert table.last.reasons.get("a") == reason


def test_a_job_that_names_it_runs_on_its_nodes_alone() -> None:
    table = cluster(nodes=3).reserve("night", "n0 n2", 0.0, 1e6)
    table.submit("a", reservation="night", workers=2, devices=8).submit("b", reservation="night", devices=8)
    table.expect(started="a", waiting="b")
    assert sorted(table.where("a")) == ["n0", "n2"]
    assert isinstance(table.last.reasons["b"], NoFit)


def test_two_reservations_keep_each_others_jobs_out() -> None:
    table = cluster(nodes=1).reserve("night", "n0", 0.0, 1e3).reserve("repair", "n0", 50.0, 100.0)
    table.submit("a", reservation="night", limit=60.0).submit("b", reservation="night", limit=50.0)
    table.expect(started="b", waiting="a")
    assert table.last.reasons["a"] == NodesReserved("repair", NOW_S + 50.0, NOW_S + 150.0)


def test_a_job_of_a_reservation_keeps_nothing_from_others_before_it_begins() -> None:
    table = cluster(nodes=1).reserve("night", "n0", 100.0, 100.0)
    table.submit("a", reservation="night", devices=8, priority=9).submit("b", devices=8, limit=100.0)
    table.expect(started="b", waiting="a")


def test_nobody_is_preempted_on_nodes_that_are_reserved_from_the_preemptor() -> None:
    table = cluster(nodes=2).reserve("night", "n0", 50.0, 100.0).run("r", "n0", 8).run("s", "n1", 8, saved_ago=500.0)
    table.submit("a", devices=8, priority=9, limit=200.0).expect(preempted="s")
    table = cluster(nodes=1).reserve("night", "n0", 50.0, 100.0).run("r", "n0", 8)
    table.submit("a", devices=8, priority=9, limit=200.0).expect(preempted="")


def test_a_promise_avoids_the_time_of_a_reservation() -> None:
    # Free at +20 s, reserved from +50 to +150: a job of 40 s can start at +150, one of 30 s at +20.
    table = cluster(nodes=1).reserve("night", "n0", 50.0, 100.0).run("r", "n0", 8, ends_in=20.0)
    table.submit("a", devices=8, limit=40.0).expect(started="")
    assert table.last.expected_start_s["a"] == NOW_S + 150.0
    table = cluster(nodes=1).reserve("night", "n0", 50.0, 100.0).run("r", "n0", 8, ends_in=20.0)
    table.submit("a", devices=8, limit=30.0).expect(started="")
    assert table.last.expected_start_s["a"] == NOW_S + 20.0


@pytest.mark.parametrize("seed", range(40))
def test_windows_hold_to_the_last_digit(seed: int) -> None:
    """Times are epoch seconds with fractions: where a window says that a job may start, it is over in time."""
    random = Random(seed)
    now_s = 1.7e9 + random.random()
    table = cluster(nodes=2)
    reservations = []
    for i in range(3):
        start_s = now_s + 1_000 * random.random()
        reservations.append(AdvanceReservation(f"x{i}", ("n0",), start_s, start_s + 100 * random.random()))
    reserved = ReservedNodes.of(reservations, table.state.nodes, now_s=now_s)
    for limit_s in (random.random(), 100 * random.random(), 0.1, 333.3):
        windows = list(reserved.windows(now_s, limit_s))
        assert windows[0].since_s == now_s
        assert windows[-1].until_s == math.inf
        for window, following in pairwise(windows):
            assert window.since_s <= window.until_s < following.since_s
            assert math.nextafter(window.until_s, math.inf) == following.since_s
        for window in windows:
            for at_s in (window.since_s, window.until_s):
                if window.blocked is None and at_s < math.inf:
                    assert not reserved.held_against(at_s, at_s + limit_s)


def test_a_reservation_of_nodes_that_are_not_here_keeps_nothing() -> None:
    table = cluster(nodes=1).reserve("night", "elsewhere", 0.0, 100.0).submit("a", limit=None)
    table.submit("b", reservation="night", limit=1.0).expect(started="a", waiting="b")


def test_a_reservation_over_a_part_of_a_gangs_nodes_keeps_the_gang() -> None:
    table = cluster(nodes=2).reserve("night", "n1", 50.0, 10.0)
    table.submit("wide", workers=2, devices=8, limit=60.0).submit("narrow", devices=8, limit=60.0)
    table.plan()
    assert table.last.expected_start_s["wide"] == NOW_S + 60.0


def test_what_runs_when_it_begins_is_not_stopped() -> None:
    table = cluster(nodes=1).run("r", "n0", 8, ends_in=None).reserve("night", "n0", 0.0, 100.0)
    table.submit("a", reservation="night", limit=10.0).expect(started="", preempted="", waiting="a")


def test_those_of_a_reservation_preempt_by_class_alone() -> None:
    table = cluster(nodes=1).run("r", "n0", 8, ends_in=None).reserve("night", "n0", 0.0, 100.0)
    table.submit("a", reservation="night", limit=10.0, priority=1).expect(preempted="r")


@pytest.mark.parametrize("asked", [("long", "short"), ("short", "long")])
def test_jobs_of_one_shape_are_told_each_what_it_must_heed_whoever_is_asked_about_first(asked: tuple[str, str]) -> None:
    table = (
        cluster(nodes=2)
        .run("full", "n0", 8, ends_in=20.0)
        .run("some", "n1", 3, ends_in=500.0)
        .reserve("repair", "n1", 30.0, 20.0)
        .submit("first", devices=8, limit=None)
        .submit("long", devices=8, limit=None, tenant="u")
        .submit("short", devices=8, limit=20.0, tenant="v")
    )
    reasons = table.plan().reasons
    said = {job: reasons[job] for job in asked}
    assert isinstance(said["long"], NoFit)
    assert isinstance(said["short"], NoFit)
    assert dict(said["long"].nodes_by_reason)["reserved"] == 1
    assert dict(said["short"].nodes_by_reason) == {"0 of 8 devices free": 1, "5 of 8 devices free": 1}
