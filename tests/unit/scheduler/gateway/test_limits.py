"""How many a replica is given: it finds the knee of what the replica can do, and finds it again when that changes."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.gateway.limits import CEILING, InFlightLimit
from scheduler.gateway.rates import TokenBucket


def settled(*, batch: int, first_s: float, each_s: float, answers: int = 3000, seed: int = 1) -> float:
    """The limit, averaged over the second half, where requests always wait. `batch` of them are taken at once."""
    limit, rng, now_s, number = InFlightLimit(), random.Random(seed), 0.0, 0
    queue: list[tuple[float, int]] = []
    levels: list[int] = []
    held = 0
    while len(levels) < answers:
        while held < limit.limit:
            held += 1
            number += 1
            heapq.heappush(queue, (now_s, number * 1000 + held))
        running = [heapq.heappop(queue) for _ in range(min(batch, len(queue)))]
        now_s += (first_s + each_s * len(running)) * rng.uniform(0.95, 1.05)
        for sent_s, key in running:
            held -= 1
            limit.answered(key % 1000, now_s - sent_s + 0.0002, waiting=True, fed=True)
            levels.append(limit.limit)
    late = levels[answers // 2 :]
    return sum(late) / len(late)


@pytest.mark.parametrize(
    ("batch", "first_s", "each_s", "least", "most"),
    [
        (1, 0.0, 0.01, 1, 1.5),  # in turn
        (8, 0.01, 0.0005, 7.5, 10),  # a batch
        (64, 0.05, 0.0, 60, 64),  # all at once, however many
        (1, 0.0, 0.00002, 32, 64),  # in turn, and so quickly that nobody minds
    ],
)
def test_the_knee_is_found(batch: int, first_s: float, each_s: float, least: float, most: float) -> None:
    assert least <= settled(batch=batch, first_s=first_s, each_s=each_s) <= most


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1e4), st.booleans()), max_size=300))
def test_whatever_is_measured_the_limit_is_one_that_can_be_held(told: list[tuple[int, float, bool]]) -> None:
    limit = InFlightLimit()
    for held, taken_s, waiting in told:
        limit.answered(held, taken_s, waiting=waiting, fed=not waiting)
        assert 1 <= limit.limit <= CEILING
        rate = limit.rate_per_s()
        assert rate is None or rate > 0


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_a_bucket_never_gives_more_than_its_rate_and_a_second_at_once(rate: float, pauses_s: list[float]) -> None:
    bucket, now_s, given_out = TokenBucket(rate, 0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = bucket.take(now_s)
        given_out += wait_s == 0.0
        assert 0.0 <= wait_s <= 1.0 / rate
        assert given_out <= max(1.0, rate) + rate * now_s + 1e-6


def test_a_bucket_that_says_when_is_right() -> None:
    bucket = TokenBucket(2.0, 0.0)
    assert [bucket.take(0.0) for _ in range(2)] == [0.0, 0.0]
    wait_s = bucket.take(0.0)
    assert wait_s == 0.5
    assert bucket.take(wait_s) == 0.0
    bucket.change_rate(1.0, 10.0)
    assert [bucket.take(10.0) for _ in range(2)] == [0.0, 1.0]
