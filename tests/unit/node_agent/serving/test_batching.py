"""What runs together, what each call gets, how large a batch may be, and that nobody waits for company in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.serving.batching import (
    BATCH_OF_SLO,
    Answered,
    BatchLaw,
    BatchSettings,
    Failed,
    Outcome,
    run_batch,
    take_batch,
)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([], 0),
        ([1], 1),
        ([1] * 40, 32),
        ([30, 2, 1], 2),
        ([30, 3, 1], 1),
        ([50, 1], 1),
        ([32], 1),
    ],
)
def test_a_batch_takes_as_many_whole_calls_as_fit(sizes: list[int], taken: int) -> None:
    assert take_batch(sizes, 32) == taken


def double(batch: list[object]) -> object:
    """A model with moods: `boom` raises, `exit` leaves, `many` answers too much, and `alone` hates company."""
    if "boom" in batch:
        raise ValueError("boom happened\nwith a second line")
    if "exit" in batch:
        raise SystemExit(3)
    if "alone" in batch and len(batch) > 1:
        raise ValueError("not alone")
    if "many" in batch:
        return [*batch, "one too many"]
    if "text" in batch:
        return "text"
    return [value * 2 for value in batch]  # type: ignore[operator]


COUNT = "predict answered 2 outputs for 1 inputs; it must answer one for each"


@pytest.mark.parametrize(
    ("calls", "outcomes"),
    [
        ([[1]], [Answered([2])]),
        ([[1, 2], [3], [4, 5]], [Answered([2, 4]), Answered([6]), Answered([8, 10])]),
        ([["boom"]], [Failed("ValueError: boom happened")]),
        ([[1], ["boom"], [3]], [Answered([2]), Failed("ValueError: boom happened"), Answered([6])]),
        ([[1], ["exit"]], [Answered([2]), Failed("SystemExit: 3")]),
        ([[1], ["many"]], [Answered([2]), Failed(COUNT)]),
        ([["alone"], [1]], [Answered(["alonealone"]), Answered([2])]),
        ([["text"]], [Failed("predict answered a str; it must answer a list, one output an input")]),
    ],
)
def test_only_the_guilty_call_fails(calls: list[list[object]], outcomes: list[Outcome]) -> None:
    assert run_batch(double, calls) == outcomes


# ---- the law ---------------------------------------------------------------------------------------------------------

SECONDS = st.floats(1e-6, 2.0)
SETTINGS = st.builds(
    BatchSettings,
    max_batch=st.integers(1, 64),
    max_wait_s=st.floats(0.0, 0.1),
    slo_s=st.none() | st.floats(0.001, 10.0),
)
HISTORY = st.lists(st.tuples(st.integers(1, 64), SECONDS, st.integers(0, 200)), max_size=60)


def after(settings: BatchSettings, history: list[tuple[int, float, int]]) -> BatchLaw:
    law = BatchLaw(settings)
    for size, seconds, waiting in history:
        law.finished(min(size, law.limit), seconds, waiting)
    return law


@given(SETTINGS, HISTORY)
def test_the_limit_stays_between_one_and_what_the_tenant_allows(
    settings: BatchSettings, history: list[tuple[int, float, int]]
) -> None:
    assert 1 <= after(settings, history).limit <= settings.max_batch


@given(SETTINGS, HISTORY, st.integers(1, 300), SECONDS)
def test_nobody_is_held_back_longer_than_was_allowed(
    settings: BatchSettings, history: list[tuple[int, float, int]], waiting: int, waited_s: float
) -> None:
    law = after(settings, history)
    held_s = law.hold_s(waiting, waited_s)
    assert 0.0 <= held_s <= max(0.0, settings.max_wait_s - waited_s)
    if waiting >= law.limit:
        assert held_s == 0.0


@given(SETTINGS, HISTORY)
def test_a_lone_caller_is_never_held_back_once_it_is_known_to_be_alone(
    settings: BatchSettings, history: list[tuple[int, float, int]]
) -> None:
    law = BatchLaw(settings)
    assert law.hold_s(1, 0.0) == 0.0  # nobody knows yet, and it starts at once
    for size, seconds, waiting in history:
        law.finished(min(size, law.limit), seconds, waiting)
    for _ in range(30):
        law.finished(1, 0.001, 0)
    assert law.hold_s(1, 0.0) == 0.0


@given(st.integers(2, 64), st.floats(0.01, 1.0))
def test_the_limit_finds_what_the_slo_allows(most: int, slo_s: float) -> None:
    """A model that takes a millisecond an input: the limit comes to within a tenth of what fits."""
    law = BatchLaw(BatchSettings(max_batch=most, slo_s=slo_s))
    fits = min(most, max(1, int(slo_s * BATCH_OF_SLO / 0.001)))
    for _ in range(300):
        law.finished(law.limit, 0.001 * law.limit, 100)
    assert int(fits * 0.9) - 1 <= law.limit <= fits + 1


def test_company_that_is_expected_is_waited_for() -> None:
    law = BatchLaw(BatchSettings(max_wait_s=0.005))
    for _ in range(20):
        law.finished(16, 0.004, 0)
    assert law.hold_s(1, 0.0) == pytest.approx(0.002)  # no longer than half a batch
    assert law.hold_s(1, 0.0015) == pytest.approx(0.0005)
    assert law.hold_s(16, 0.0) == 0.0  # all are here
    for _ in range(20):
        law.finished(16, 0.1, 0)
    assert law.hold_s(1, 0.0) == 0.005  # the tenant's word


def test_a_full_batch_within_its_part_of_the_slo_makes_room_for_one_more_and_a_late_one_for_a_tenth_less() -> None:
    law = BatchLaw(BatchSettings(max_batch=32, slo_s=0.1))
    assert law.limit == 1
    law.finished(1, 0.001, 5)
    assert law.limit == 2
    law.finished(1, 0.001, 0)  # it was not full: it shows nothing
    assert law.limit == 2
    for _ in range(40):
        law.finished(law.limit, 0.001, 5)
    assert law.limit == 32
    law.finished(32, 0.05, 5)
    assert law.limit == 28
