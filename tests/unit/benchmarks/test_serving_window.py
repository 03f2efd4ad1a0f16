"""A window of serving: what counts, how long requests are said to have waited, and all that can go wrong in it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measured import Setting
from benchmarks.protocol import Conditions, Fault, Verdict, WindowPlan
from benchmarks.raw_batches import sha256_of
from benchmarks.raw_requests import Arrivals, RawRequests, is_requests_line, requests_from_line, requests_line
from benchmarks.record import BadRecord, DeviceRecord, WhichDevice, cases_of, device_record
from benchmarks.served_record import served_record
from benchmarks.serving_window import LOAD_SHARE, ServedOutcome, run_serving
from benchmarks.work import Pair
from tests.fakes.small_serving import BATCH, TINY, Break, TimedServing
from tests.fakes.small_work import ManualClock, ToldWatch

WHICH = WhichDevice("d", ("d",), None, None, "m", "v", on="accelerator")


def served(
    fault: Break | None = None,
    *,
    window_s: float = 5.0,
    seed: int = 1,
    start_at_s: float | None = None,
    oversleeps_s: float = 0.0,
    conditions: Conditions | None = None,
    flop_per_clock: float | None = None,
    **more: Any,
) -> tuple[ServedOutcome, TimedServing]:
    clock = ManualClock(oversleeps_s=oversleeps_s)
    work = TimedServing(clock, fault, **more)
    outcome = run_serving(
        work,
        clock,
        WindowPlan(window_s, seed, start_at_s),
        watch=None if conditions is None else ToldWatch(conditions),
        flop_per_clock=flop_per_clock,
    )
    return outcome, work


def recorded(outcome: ServedOutcome, work: TimedServing) -> tuple[DeviceRecord, RawRequests]:
    record, line = served_record(WHICH, work, outcome, Setting("run", 1, 1, "numpy"))
    assert record.raw_sha256 == sha256_of(line)
    return record, requests_from_line(line)


# ---- what counts ---------------------------------------------------------------------------------------------------


def test_requests_come_at_a_share_of_the_capacity_and_all_are_answered() -> None:
    outcome, work = served(window_s=20.0)
    assert outcome.verdict is Verdict.OK, outcome.detail
    assert outcome.capacity_per_s == pytest.approx(400.0)
    assert outcome.offered_per_s == pytest.approx(LOAD_SHARE * 400.0)
    record, raw = recorded(outcome, work)
    assert (record.verified, record.unit, record.gflops, record.flop) == (True, "requests/s", None, 0)
    assert record.value == outcome.amount / 20.0
    assert record.value == pytest.approx(280.0, rel=0.05)  # sqrt(5600) of 5600 is 1.3%
    assert outcome.amount <= record.samples <= outcome.amount + BATCH  # every answer was checked
    assert record.serving is not None
    assert record.serving.came - record.serving.answered <= 3 * BATCH
    assert 1 < (record.serving.mean_batch or 0) < BATCH
    assert 4.0 <= (record.serving.latency_p50_ms or 0) < (record.serving.latency_p99_ms or 0) < 100.0
    assert raw.answered == outcome.amount


def test_nobody_waits_less_than_a_batch_of_one_takes() -> None:
    _, raw = recorded(*served())
    assert raw.latencies_us().min() >= 4_000


def test_a_stall_is_charged_to_all_whom_it_delays() -> None:
    def stall(w: TimedServing, order: Sequence[Pair]) -> None:
        w.clock.time_s += 0.5 if w.batches == 200 else 0.0
        w.answer(order)

    even, stalled = (recorded(*served(fault, window_s=10.0))[0].serving for fault in (None, stall))
    assert even is not None
    assert stalled is not None
    assert even.latency_p99_ms is not None
    assert stalled.latency_p95_ms is not None
    # Half a second of 280 requests/s are 140 of 2,800 that wait 250 ms in the mean, and those behind them.
    assert stalled.latency_p95_ms > 100 > even.latency_p99_ms


def test_a_device_that_becomes_slow_answers_less_and_its_queue_is_told() -> None:
    record, _ = recorded(*served(slow_from=60, slower=3.0))
    assert record.verified
    assert record.serving is not None
    assert (record.value or 0) < 0.6 * record.serving.offered_per_s
    assert record.serving.latency_p99_ms is None  # so many were not answered inside the window
    assert record.serving.answered < record.serving.came


def test_answers_after_the_windows_end_do_not_count() -> None:
    outcome, work = served(window_s=0.2, base_s=0.150)  # a batch takes 152 to 158 ms
    assert outcome.verdict is Verdict.OK, outcome.detail
    assert len(outcome.batches) == 1
    batch = outcome.batches[0]
    assert batch.began_us + batch.busy_us + batch.check_us <= 200_000
    assert len(work.sizes) > len(outcome.batches)


def test_a_batch_whose_check_ends_after_the_window_does_not_count() -> None:
    with_check, _ = served(window_s=0.3, base_s=0.100, check_s=0.1)
    without, _ = served(window_s=0.3, base_s=0.100)
    assert len(with_check.batches) < len(without.batches)


def test_checks_are_part_of_the_capacity() -> None:
    outcome, _ = served(check_s=0.010)
    assert outcome.capacity_per_s == pytest.approx(200.0)


def test_the_seed_decides_when_requests_come_and_what_they_ask() -> None:
    def drawn(seed: int) -> tuple[tuple[int, ...], int]:
        outcome, _ = served(seed=seed, window_s=1.0)
        return outcome.sizes, outcome.arrivals_seed

    assert drawn(1) == drawn(1)
    assert drawn(1)[0] != drawn(2)[0]


# ---- what is injected, and what it must lead to ----------------------------------------------------------------------


def no_work(w: TimedServing, order: Sequence[Pair]) -> None:
    """The answers of earlier batches are still in place."""


def zeros(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answers[:] = 0.0


def one_input_for_all(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answer([(0, 0)] * len(order))


def one_score(size: float) -> Break:
    def spoil(w: TimedServing, order: Sequence[Pair]) -> None:
        w.answer(order)
        w.answers[len(order) - 1, 3] += size

    return spoil


def swapped(w: TimedServing, order: Sequence[Pair]) -> None:
    """Each gets the answer of another request."""
    w.answer(order)
    w.answers[: len(order)] = np.roll(w.answers[: len(order)], 1, axis=0)
    if len({which for which, _ in order}) == 1:
        w.answers[0] = w.answers[0] + 1.0


def brain_float(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answer(order)
    w.answers.view(np.uint32)[:] &= np.uint32(0xFFFF0000)


def another_type(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answer(order)
    w._answered_as = "float16"


def tf32(w: TimedServing, order: Sequence[Pair]) -> None:
    """Weights cut to ten bits of mantissa, as TF32 does."""
    sound = w._drawn
    w._drawn = [(m.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for m in sound]
    w.answer(order)
    w._drawn = sound


def a_weight_flips(w: TimedServing, order: Sequence[Pair]) -> None:
    w._drawn[0][0, 0] = 10.0
    w.answer(order)


def not_a_number(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answer(order)
    w.answers[0, 0] = math.nan


def infinite(w: TimedServing, order: Sequence[Pair]) -> None:
    w.answer(order)
    w.answers[0, -1] = math.inf


def lost(w: TimedServing, order: Sequence[Pair]) -> None:
    raise RuntimeError("device lost\nlong trace")


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (no_work, Verdict.WRONG_PRODUCT),
        (zeros, Verdict.WRONG_PRODUCT),
        (one_input_for_all, Verdict.WRONG_PRODUCT),
        (one_score(1.0), Verdict.WRONG_PRODUCT),
        (one_score(0.001), Verdict.WRONG_PRODUCT),
        (swapped, Verdict.WRONG_PRODUCT),
        (a_weight_flips, Verdict.WRONG_PRODUCT),
        (brain_float, Verdict.WRONG_DTYPE),
        (another_type, Verdict.WRONG_DTYPE),
        (tf32, Verdict.TF32_ON),
        (not_a_number, Verdict.NOT_FINITE),
        (infinite, Verdict.NOT_FINITE),
        (lost, Verdict.DEVICE_ERROR),
    ],
)
@pytest.mark.parametrize("from_batch", [80, 300])
def test_a_fault_makes_the_device_count_zero(fault: Break, verdict: Verdict, from_batch: int) -> None:
    outcome, work = served(fault, fault_from=from_batch)
    assert (outcome.verdict, outcome.counted) == (verdict, 0), outcome.detail
    assert "\n" not in outcome.detail
    record, _ = recorded(outcome, work)
    assert (record.verified, record.value, record.gflops) == (False, None, 0.0)
    assert record.unit == "requests/s"


@pytest.mark.parametrize(
    ("broken", "verdict", "told"),
    [
        ({"constant": True}, Verdict.CONSTANT_INPUTS, "spread 0"),
        ({"twice": True}, Verdict.CONSTANT_INPUTS, "equal"),
        ({"type_of_inputs": np.float16}, Verdict.WRONG_DTYPE, "float16/float32; fp32 is float32"),
        ({"shortcuts": ("tf32",)}, Verdict.TF32_ON, "may use TF32"),
        ({"unsettled_s": 0.02}, Verdict.NOT_SYNCHRONISED, "synchronisation is missing"),
        ({"last_word": Fault(Verdict.WRONG_PRODUCT, "no")}, Verdict.WRONG_PRODUCT, "no"),
        ({"conditions": Conditions(ecc_uncorrected=2, faults=0)}, Verdict.DEVICE_FAULT, "2 memory errors"),
        ({"conditions": Conditions(ecc_uncorrected=0, faults=1)}, Verdict.DEVICE_FAULT, "1 faults told"),
        (
            {"conditions": Conditions(mean_clock_megahertz=1.0), "flop_per_clock": 0.5},
            Verdict.OVER_CLOCK_BOUND,
            "mean of 1 MHz",
        ),
    ],
)
def test_what_is_seen_outside_the_answers_makes_it_count_zero(
    broken: dict[str, Any], verdict: Verdict, told: str
) -> None:
    outcome, _ = served(**broken)
    assert (outcome.verdict, outcome.counted) == (verdict, 0), outcome.detail
    assert told in outcome.detail


def test_a_rate_that_its_clock_allows_is_said_to_be() -> None:
    outcome, _ = served(conditions=Conditions(mean_clock_megahertz=1000.0), flop_per_clock=1000.0)
    assert (outcome.verdict, outcome.clock_bound) == (Verdict.OK, "ok")


def test_a_window_without_an_answer_is_zero_work() -> None:
    outcome, _ = served(window_s=0.1, base_s=0.2)
    assert (outcome.verdict, outcome.counted) == (Verdict.ZERO_WORK, 0)


@pytest.mark.parametrize(("oversleeps_s", "verdict"), [(0.0, Verdict.OK), (0.3, Verdict.LATE_START)])
def test_a_late_start_counts_zero(oversleeps_s: float, verdict: Verdict) -> None:
    outcome, _ = served(start_at_s=1_004.0, oversleeps_s=oversleeps_s)
    assert outcome.verdict is verdict, outcome.detail
    if verdict is Verdict.OK:
        assert outcome.start_s == 1_004.0


def test_a_stop_leaves_what_was_verified_and_says_so() -> None:
    clock = ManualClock()
    work = TimedServing(clock)
    outcome = run_serving(work, clock, WindowPlan(10.0, 1), stop=lambda: clock.time_s > 1_003.0)
    assert outcome.verdict is Verdict.INTERRUPTED
    assert outcome.amount > 0
    assert outcome.counted == 0
    assert "of 10 s; not a full window" in outcome.detail
    assert recorded(outcome, work)[0].serving is not None


# ---- the record, and the line that it follows from -------------------------------------------------------------------


def test_the_record_is_read_back_and_its_figures_follow_from_the_line() -> None:
    record, raw = recorded(*served())
    assert device_record(json.loads(json.dumps(record.to_json()))) == record
    assert record.serving is not None
    assert raw.per_s == record.value
    assert raw.came() == record.serving.came
    waits = [record.serving.latency_p50_ms, record.serving.latency_p95_ms, record.serving.latency_p99_ms]
    assert raw.quantiles_ms(0.5, 0.95, 0.99) == waits
    assert raw.gives_quantiles(waits, (0.5, 0.95, 0.99))
    assert not raw.gives_quantiles([1.0, *waits[1:]], (0.5, 0.95, 0.99))
    flop = record.serving.flop_per_request
    assert flop == TINY.flop == 8 * (2 * (16 * 16 * 13) + 4 * 16 * 8) + 2 * 16 * 16


def test_requests_a_second_are_in_no_sum_of_flop() -> None:
    record, _ = recorded(*served())
    cases = {case.case: (case.value, case.unit) for case in cases_of([record])}
    assert cases["measured_accelerator_pflops"] == (None, "PFlops")
    assert cases["accelerator_serving_fp32"] == (record.value, "requests/s")
    assert record.serving is not None
    assert cases["accelerator_serving_fp32_p99_ms"] == (record.serving.latency_p99_ms, "ms, on the slowest device")
    assert record.rate() is None


@pytest.mark.parametrize(
    "spoil",
    [
        {"latency_p50_ms": "fast"},
        {"came": None},
        {"came": 1.5},
        {"offered_per_s": -1.0},
        {"busy_share": math.nan},
    ],
)
def test_a_record_whose_waits_cannot_be_is_refused(spoil: dict[str, Any]) -> None:
    record, _ = recorded(*served(window_s=1.0))
    told = record.to_json()
    told["serving"] = {**told["serving"], **spoil}
    with pytest.raises(BadRecord, match="serving"):
        device_record(told)


@pytest.mark.parametrize(
    "spoil",
    [
        {"schema": "suanli/bench-batches/1"},
        {"batches": -1},
        {"batches": 10**9},
        {"offered_per_s": 0},
        {"offered_per_s": 1e12},
        {"window_s": 0},
        {"seed": -1},
        {"sizes": "no base64"},
        {"sizes": None},
    ],
)
def test_a_line_that_cannot_be_is_refused(spoil: dict[str, Any]) -> None:
    _, raw = recorded(*served(window_s=1.0))
    line = requests_line(raw)
    assert is_requests_line(line)
    with pytest.raises(BadRecord):
        requests_from_line(json.dumps(json.loads(line) | spoil))


@given(st.integers(0, 2**48), st.floats(0.5, 1e5))
def test_arrivals_are_the_same_however_they_are_asked_for(seed: int, per_s: float) -> None:
    one, other = Arrivals(seed, per_s), Arrivals(seed, per_s)
    whole = one.first(9_000).copy()
    assert (np.diff(whole) >= 0).all()
    at_us = int(whole[5_000])
    assert other.come_by(at_us) == int(np.searchsorted(whole, at_us, side="right"))
    assert other.due_us(8_999) == whole[8_999]


def test_arrivals_are_a_poisson_process() -> None:
    due_s = Arrivals(3, 250.0).first(40_000) / 1e6
    gaps = np.diff(due_s)
    assert gaps.mean() == pytest.approx(1 / 250, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 250, rel=0.03)
    counts = np.bincount(due_s.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("per_s", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(per_s: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Arrivals(1, per_s)
