"""The queue's rules, on any requests; and what they come to in virtual time, against the figures that are promised."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.gateway.admission import AdmissionQueue
from tests.unit.scheduler.gateway.admission_world import Stream, World


@dataclass
class Waits:
    priority: int
    due_s: float
    order: tuple[int, float, int] = (0, 0.0, 0)


REQUESTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=40)


def filled(requests: list[tuple[int, int]], *, max_waiting: int = 1000) -> tuple[AdmissionQueue[Waits], list[Waits]]:
    queue: AdmissionQueue[Waits] = AdmissionQueue(max_waiting=max_waiting)
    for priority, due in requests:
        queue.push(Waits(priority, float(due)))
    return queue, list(queue)


@given(REQUESTS)
def test_the_most_urgent_goes_first_then_the_earliest_due(requests: list[tuple[int, int]]) -> None:
    queue, held = filled(requests)
    assert [(one.priority, one.due_s) for one in held] == sorted(requests, key=lambda one: (-one[0], one[1]))
    assert [queue.pop() for _ in range(len(queue))] == held


@given(REQUESTS, st.integers(1, 8))
def test_a_full_queue_loses_its_last_only_to_a_higher_priority(requests: list[tuple[int, int]], most: int) -> None:
    queue: AdmissionQueue[Waits] = AdmissionQueue(max_waiting=most)
    for priority, due in requests:
        before, new = list(queue), Waits(priority, float(due))
        leaves = queue.push(new)
        assert len(queue) <= most
        if leaves is None:
            assert len(before) < most
        elif leaves is not new:
            assert leaves is before[-1]
            assert leaves.priority < priority
        else:
            assert before[-1].priority >= priority
            assert list(queue) == before


@given(REQUESTS, st.data())
def test_who_gives_up_is_taken_out_and_nobody_else(requests: list[tuple[int, int]], data: st.DataObject) -> None:
    queue, held = filled(requests)
    if held:
        one = data.draw(st.sampled_from(held))
        assert queue.remove(one)
        assert not queue.remove(one)
        held.remove(one)
    assert list(queue) == held


@given(REQUESTS, st.integers(0, 50), st.integers(1, 10))
def test_what_cannot_be_in_time_is_dropped_and_what_can_stays(
    requests: list[tuple[int, int]], now: int, takes: int
) -> None:
    queue, held = filled(requests)
    queue.answered(float(takes), lower_class=True)
    dropped = queue.drop_hopeless(float(now), top_priority=3)
    assert all(now + takes > one.due_s for one in dropped)
    assert list(queue) == [one for one in held if now + takes <= one.due_s]


@given(REQUESTS, st.integers(0, 3), st.integers(0, 50))
def test_more_in_front_never_means_a_shorter_wait(requests: list[tuple[int, int]], priority: int, due: int) -> None:
    queue, _ = filled(requests)
    before_s = queue.predicted_wait_s(priority, float(due), 100.0, 0.0)
    queue.push(Waits(priority, float(due)))
    assert queue.predicted_wait_s(priority, float(due), 100.0, 0.0) > before_s
    for _ in range(50):
        queue.arrivals.note(4, 0.0)
    assert queue.predicted_wait_s(priority, float(due), 100.0, 0.0) > before_s


def test_urgent_beside_ordinary_at_half_again_the_capacity() -> None:
    """About 100/s of capacity in turns of 10 ms: 30/s urgent within 100 ms, beside 120/s that want 500 ms."""
    urgent, ordinary = Stream(30, 0.1, 800), Stream(120, 0.5, 300)
    fates = World([urgent, ordinary]).run(60)
    assert fates[urgent].within == fates[urgent].offered
    assert fates[ordinary].within / fates[ordinary].offered > 0.5
    assert fates[ordinary].late <= 0.001 * fates[ordinary].offered


@pytest.mark.parametrize("slo_s", [0.05, 0.2])
def test_overload_costs_no_goodput_and_every_answer_is_in_time(slo_s: float) -> None:
    answered = {}
    for rate in (90, 150, 300):
        stream = Stream(rate, slo_s, 5)
        fate = World([stream]).run(30)[stream]
        assert fate.late <= 0.001 * fate.offered
        assert fate.within + fate.late + fate.refused == fate.offered
        answered[rate] = fate.within
    assert answered[300] > 0.9 * max(answered.values())


@pytest.mark.parametrize(("first_s", "each_s", "rate"), [(0.02, 0.001, 1000), (0.002, 0.0001, 6000)])
def test_urgent_beside_saturating_others_waits_for_one_batch_more(first_s: float, each_s: float, rate: float) -> None:
    """On shared replicas that batch up to 16 and, having more than one batch, go by the priority that they are told."""
    urgent, others = Stream(20, 1.0, 800), Stream(rate, 5.0, 100)
    alone = World([urgent], batch=16, first_s=first_s, each_s=each_s).run(100)[urgent].quantile_s(0.99)
    world = World([urgent, others], batch=16, first_s=first_s, each_s=each_s)
    for server in world.servers.values():
        server.by_priority = True
    beside = world.run(4)[urgent].quantile_s(0.99)
    assert beside <= (alone + first_s + 16 * each_s) * 1.05  # service times vary by 3%
