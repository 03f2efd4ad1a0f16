"""Checks of idle devices: who is due, and which results mean something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.device_checks import (
    Came,
    CheckHistory,
    CheckSettings,
    IdleDevices,
    Part,
    PartResult,
    Verdict,
    chosen,
    next_due_s,
)

KIND = ("nvidia", "H100 SXM", None)
SETTINGS = CheckSettings(every_s=1_000.0, failures=2, likes=3, slow_share=0.9, at_once=8)


def result(came: str, rate: float | None = 100.0) -> PartResult:
    return PartResult(Part.PRODUCTS, Came(came), rate if came == "right" else None, "TFLOP/s", "why")


def with_likes(*rates: float, now_s: float = 0.0) -> CheckHistory:
    history = CheckHistory()
    for i, rate in enumerate(rates):
        history.judge(f"like{i}", KIND, result("right", rate), SETTINGS, now_s)
    return history


@pytest.mark.parametrize(
    ("story", "verdicts"),
    [
        ("wrong", "undecided"),
        ("wrong wrong", "undecided wrong"),
        ("wrong wrong wrong", "undecided wrong wrong"),
        ("wrong right wrong", "undecided fine undecided"),
        ("wrong unrun wrong", "undecided undecided wrong"),
        ("slow", "undecided"),
        ("slow slow", "undecided slow"),
        ("slow right slow", "undecided fine undecided"),
        ("slow wrong slow", "undecided undecided slow"),
        ("slow slow right", "undecided slow fine"),
        ("unrun unrun unrun", "undecided undecided undecided"),
    ],
)
def test_two_in_a_row(story: str, verdicts: str) -> None:
    history = with_likes(99.0, 100.0, 101.0)
    said = {
        "wrong": result("wrong"),
        "right": result("right"),
        "unrun": result("not run"),
        "slow": result("right", 80.0),
    }
    found = [history.judge("d", KIND, said[word], SETTINGS, 1.0).verdict for word in story.split()]
    assert " ".join(found) == verdicts


@pytest.mark.parametrize(
    ("rates", "kind", "now_s", "verdict"),
    [
        ((99.0, 100.0, 101.0), KIND, 1.0, Verdict.SLOW),
        ((99.0, 100.0), KIND, 1.0, Verdict.UNDECIDED),  # too few of its like
        ((99.0, 100.0, 101.0), ("nvidia", "A100", None), 1.0, Verdict.UNDECIDED),  # none of its like
        ((99.0, 100.0, 101.0), KIND, 3_001.0, Verdict.UNDECIDED),  # too long ago
        ((80.0, 80.0, 100.0), KIND, 1.0, Verdict.FINE),  # as fast as the most of them
    ],
)
def test_it_is_compared_with_its_like_of_late(
    rates: tuple[float, ...], kind: tuple[str, str, None], now_s: float, verdict: Verdict
) -> None:
    history = with_likes(*rates)
    for _ in range(2):
        judged = history.judge("d", kind, result("right", 80.0), SETTINGS, now_s)
    assert judged.verdict is verdict


def test_one_failure_is_enough_where_the_site_says_so() -> None:
    once = CheckSettings(failures=1)
    assert CheckHistory().judge("d", KIND, result("wrong"), once, 0.0).verdict is Verdict.WRONG


def test_what_was_mended_begins_anew() -> None:
    history = with_likes(100.0, 100.0, 100.0)
    history.judge("d", KIND, result("wrong"), SETTINGS, 0.0)
    assert history.suspects("d")
    history.forget(["d"])
    assert not history.suspects("d")
    assert history.judge("d", KIND, result("wrong"), SETTINGS, 0.0).verdict is Verdict.UNDECIDED


results = st.builds(result, st.sampled_from(["right", "wrong", "not run"]), st.one_of(st.none(), st.floats()))


@given(st.lists(st.tuples(st.sampled_from("abcde"), results), max_size=60))
def test_a_verdict_needs_its_signs(story: list[tuple[str, PartResult]]) -> None:
    """Whatever comes: nothing is wrong before so many wrong ones in a row, and what is right is never wrong."""
    history = CheckHistory()
    row: dict[str, int] = {}
    for device, each in story:
        judged = history.judge(device, KIND, each, SETTINGS, 0.0)
        if each.came is Came.WRONG:
            row[device] = row.get(device, 0) + 1
            assert (judged.verdict is Verdict.WRONG) == (row[device] >= SETTINGS.failures)
        elif each.came is Came.RIGHT:
            row.pop(device, None)
            assert judged.verdict is not Verdict.WRONG
        else:
            assert judged.verdict is Verdict.UNDECIDED


# ---- when ------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20), st.floats(600.0, 1e6), st.floats(0, 2e9))
def test_a_node_is_due_once_in_each_interval_whoever_asks(node: str, every_s: float, now_s: float) -> None:
    settings = CheckSettings(every_s=every_s)
    due_s = next_due_s(node, settings, now_s)
    assert now_s - 1e-3 < due_s <= now_s + every_s + 1e-3
    later_s = (now_s + due_s) / 2
    assert next_due_s(node, settings, later_s) == pytest.approx(due_s, abs=1e-2)


def test_nodes_are_spread_over_the_interval() -> None:
    settings = CheckSettings(every_s=100.0)
    tens = [int(next_due_s(f"n{i}", settings, 0.0) // 10) for i in range(1_000)]
    assert min(tens.count(ten) for ten in range(10)) > 50


def idle(node: str, due_s: float, count: int = 4) -> IdleDevices:
    return IdleDevices(node, KIND, tuple(range(count)), due_s)


@pytest.mark.parametrize(
    ("waiting", "running", "picked"),
    [
        ([idle("a", 5.0), idle("b", 4.0), idle("c", 6.0)], 0, "b a"),
        ([idle("a", 5.0), idle("b", 11.0)], 0, "a"),  # not due yet
        ([idle("a", 5.0)], 4, "a"),
        ([idle("a", 5.0)], 5, ""),
        ([idle("a", 5.0, 20)], 0, "a"),  # larger than all that may be: alone
        ([idle("a", 5.0, 20), idle("b", 6.0, 1)], 4, ""),  # the one that is due longest is not passed over
        ([idle("a", 5.0, 1), idle("a", 6.0, 1)], 0, "a"),  # a node once
    ],
)
def test_who_is_checked_now(waiting: list[IdleDevices], running: int, picked: str) -> None:
    assert " ".join(each.node for each in chosen(waiting, SETTINGS, running, 10.0)) == picked
