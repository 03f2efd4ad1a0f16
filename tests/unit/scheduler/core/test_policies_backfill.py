"""EASY, conservative and no backfill, side by side."""

from __future__ import annotations

import pytest

from scheduler.core.reasons import BehindReservation
from scheduler.core.waiting_reasons import WaitingReasons
from tests.fakes.cluster_table import NOW_S, ClusterTable, cluster


def busy(backfill: str, **policy: object) -> ClusterTable:
    """One node, 8 devices; 6 are busy for 100 s more. "first" wants 7, "second" all 8, each for 100 s."""
    table = cluster(nodes=1).policy(backfill=backfill, **policy).run("r", "n0", 6, ends_in=100.0)
    return table.submit("first", devices=7, limit=100.0).submit("second", devices=8, limit=100.0)


@pytest.mark.parametrize(
    ("backfill", "limit", "devices", "started"),
    [
        ("easy", 100.0, 2, True),  # over before anything promised
        ("conservative", 100.0, 2, True),
        ("none", 100.0, 2, False),
        ("easy", None, 1, True),  # beside "first", in the way of "second" alone
        ("conservative", None, 1, False),
        ("none", None, 1, False),
        ("conservative", 200.0, 1, True),  # beside "first", and over when "second" is promised to start
        ("conservative", 201.0, 1, False),
        ("easy", 101.0, 2, False),  # in the way of "first"
        ("conservative", 101.0, 2, False),
    ],
)
def test_what_may_pass_the_blocked_jobs(backfill: str, limit: float | None, devices: int, started: bool) -> None:
    table = busy(backfill).submit("next", devices=devices, limit=limit).expect(started="next" if started else "")
    assert table.last.expected_start_s["first"] == NOW_S + 100.0
    if not started:
        assert table.last.expected_start_s["second"] == NOW_S + 200.0
        behind = "second" if backfill == "conservative" and devices == 1 else "first"
        assert table.last.reasons["next"] == BehindReservation(behind)


@pytest.mark.parametrize(("depth", "started"), [(1, True), (2, False), (3, False)])
def test_promises_are_made_down_to_the_depth(depth: int, started: bool) -> None:
    table = busy("conservative", reservation_depth=depth).submit("next", limit=None)
    table.expect(started="next" if started else "")


def test_a_hole_before_a_promise_is_used_when_it_comes() -> None:
    # Promises are made one behind the other, never too early; what fits before them starts when it can all the same.
    table = cluster(nodes=1).policy(backfill="conservative").run("r", "n0", 4, ends_in=100.0)
    table.run("s", "n0", [4, 5], ends_in=10.0).submit("first", devices=8, limit=50.0)
    table.submit("small", devices=4, limit=90.0).submit("late", devices=3, limit=91.0).expect(started="")
    assert table.last.expected_start_s["first"] == NOW_S + 100.0
    table.after(10.0).all_due_leave().expect(started="small", waiting="first late")
    assert table.last.expected_start_s["first"] == NOW_S + 100.0


def test_each_job_of_an_array_has_its_own_promise() -> None:
    table = cluster(nodes=1).policy(backfill="conservative").run("r", "n0", 8, ends_in=100.0)
    for i in range(60):
        table.submit(f"t{i}", devices=4, limit=10.0)
    table.expect(started="")
    expected = [table.last.expected_start_s[f"t{i}"] - NOW_S for i in range(60)]
    assert expected == [100.0 + 10.0 * (i // 2) for i in range(60)]


@pytest.mark.parametrize("backfill", ["easy", "conservative", "none"])
def test_another_pool_is_never_blocked(backfill: str) -> None:
    table = busy(backfill).nodes(1, 8, "a", model="A100")
    table.withdraw("first").withdraw("second").submit("first", devices=8, model="H100 SXM", priority=9)
    table.submit("a", model="A100", limit=None).submit("c", devices=0, node="a0", limit=None)
    table.expect(started="a c", waiting="first")


def test_without_backfill_what_shares_nodes_with_a_closed_pool_is_closed_too() -> None:
    """ "any" could take H100s and A100s; while it waits behind "first", nobody passes it on A100s either."""
    table = cluster(nodes=1).nodes(1, 8, "a", model="A100").policy(backfill="none").run("r", "n0", 8)
    table.submit("first", devices=8, model="H100 SXM").submit("any", devices=1).submit("a", model="A100")
    table.expect(started="", waiting="first any a")


def test_a_promise_is_kept_when_jobs_end_early() -> None:
    table = busy("conservative").submit("third", devices=2, limit=150.0)
    table.expect(started="")
    assert table.last.expected_start_s["third"] == NOW_S + 300.0
    table.after(10.0).gone("r").expect(started="first", waiting="second third").apply()
    assert table.last.expected_start_s["second"] == NOW_S + 110.0
    assert table.last.expected_start_s["third"] <= NOW_S + 300.0


def test_a_starved_job_takes_over_the_promise() -> None:
    table = cluster(nodes=1).policy(starve_after_s=500.0).tenant("greedy", used=0.9).run("r", "n0", 8, ends_in=100.0)
    table.submit("modest", devices=8, tenant="modest").submit("old", devices=8, tenant="greedy", waited=501.0)
    table.expect(started="")
    assert table.last.expected_start_s == {"old": NOW_S + 100.0, "modest": NOW_S + 200.0}


def test_beyond_its_depth_conservative_backfill_promises_nothing_and_says_so_once_for_all_alike() -> None:
    """A mutant that took each of them for promised survived: every job of a long queue would have been looked at."""
    table = cluster(nodes=1).policy(backfill="conservative", reservation_depth=2).run("r", "n0", 8, ends_in=100.0)
    for name in "abcdef":
        table.submit(name, devices=8, limit=50.0)
    made = table.plan()
    assert sorted(made.expected_start_s)[:2] == ["a", "b"]
    assert made.reasons["c"] is made.reasons["f"]
    assert isinstance(made.reasons, WaitingReasons)
    assert len(made.reasons._of_job) == 2
