"""One window, with everything that can go wrong put into it on purpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.measured import Setting, measured_record, raw_batches
from benchmarks.protocol import (
    Conditions,
    Fault,
    Verdict,
    WindowOutcome,
    WindowPlan,
    detection_probability,
    quantile,
)
from benchmarks.raw_batches import from_line, sha256_of
from benchmarks.record import WhichDevice
from benchmarks.window import run_window
from benchmarks.work import Pair
from tests.fakes.small_work import SHAPE, SIDE, Break, ManualClock, SmallProducts, ToldWatch


def window(
    fault: Break | None = None,
    *,
    window_s: float = 10.0,
    seed: int = 1,
    start_at_s: float | None = None,
    ramp_at_s: float | None = None,
    oversleeps_s: float = 0.0,
    conditions: Conditions | None = None,
    flop_per_clock: float | None = None,
    **more: Any,
) -> WindowOutcome:
    clock = ManualClock(oversleeps_s=oversleeps_s)
    work = SmallProducts(clock, fault, **more)
    return run_window(
        work,
        clock,
        WindowPlan(window_s, seed, start_at_s, ramp_at_s=ramp_at_s),
        watch=None if conditions is None else ToldWatch(conditions),
        flop_per_clock=flop_per_clock,
    )


# ---- what counts ---------------------------------------------------------------------------------------------------


def test_a_sound_window_counts_every_verified_product_over_the_whole_window() -> None:
    outcome = window(window_s=10.0)
    assert outcome.verdict is Verdict.OK, outcome.detail
    assert 398 <= outcome.products <= 400  # 25 ms each
    assert outcome.amount == outcome.products * SHAPE.flop
    assert outcome.counted == outcome.amount
    assert quantile(outcome.batch_rates, 0.5) == pytest.approx(SHAPE.flop / 0.025, rel=1e-3)
    assert len(outcome.digest or "") == 64
    assert outcome.conditions.note == "nobody was asked to watch this device"
    assert (outcome.clock_bound or "").startswith("not checked: ")


def test_what_a_batch_costs_decides_how_many_share_a_check() -> None:
    """Checks take 0.4% of a window; the short ones are checked at least eight times."""
    dear = window(window_s=60.0, check_s=0.005)
    assert dear.verdict is Verdict.OK
    assert 0.002 < dear.check_s / 60.0 < 0.006
    assert window(window_s=2.0, check_s=0.05).samples >= 6
    assert window(window_s=60.0).samples > 1000


def test_a_batch_that_ends_after_the_window_does_not_count() -> None:
    outcome = window(window_s=1.0, piece_s=0.4)
    assert (outcome.verdict, outcome.products) == (Verdict.OK, 2)


def test_the_figure_can_be_computed_again_from_the_raw_line() -> None:
    clock = ManualClock()
    work = SmallProducts(clock, check_s=0.0031)
    outcome = run_window(work, clock, WindowPlan(7.0, 3))
    which = WhichDevice("d", ("d",), None, None, "m", "v", on="cpu")
    record, line = measured_record(which, work, outcome, Setting("run", 3, 1, "numpy"))
    raw = from_line(line)
    assert raw.flop == record.flop == outcome.amount
    assert record.gflops == pytest.approx(raw.flop / raw.window_s / 1e9, rel=1e-12)
    assert raw.batches == record.batches
    assert record.batch_gflops_p50 == pytest.approx(float(np.median(raw.rates_flops)) / 1e9)
    assert record.raw_sha256 == sha256_of(line)
    assert raw_batches(record, outcome, "run").run == "run"
    assert record.detection_probability == detection_probability(outcome.pieces_per_check)


# ---- what is injected, and what it must lead to --------------------------------------------------------------------


def one_element(size: float) -> Break:
    def spoil(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
        w.multiply(order, slot)
        for c in w.c[slot : slot + len(order)]:
            c[3, 5] += size

    return spoil


def no_product(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    """Returns at once, the results of earlier batches still in place."""


def same_operands(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    w.multiply([(0, 0)] * len(order), slot)


def half_precision(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    for place, (a, b) in enumerate(order, slot):
        w.c[place][:] = w.a[a].astype(np.float16) @ w.b[b].astype(np.float16)


def brain_float(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    w.multiply(order, slot)
    for c in w.c[slot : slot + len(order)]:
        c.view(np.uint32)[:] &= np.uint32(0xFFFF0000)


def tf32(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    """Operands cut to ten bits of mantissa, as TF32 does."""

    def cut(m: np.ndarray) -> np.ndarray:
        return (m.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    for place, (a, b) in enumerate(order, slot):
        w.c[place][:] = cut(w.a[a]) @ cut(w.b[b])


def not_a_number(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    w.multiply(order, slot)
    for c in w.c:
        c[0, 0] = math.nan


def infinite(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    w.multiply(order, slot)
    for c in w.c:
        c[-1, -1] = math.inf


def lost(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
    raise RuntimeError("device lost\nlong trace")


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (one_element(1.0), Verdict.WRONG_PRODUCT),
        (one_element(0.01), Verdict.WRONG_PRODUCT),
        (no_product, Verdict.WRONG_PRODUCT),
        (same_operands, Verdict.WRONG_PRODUCT),
        (half_precision, Verdict.WRONG_DTYPE),
        (brain_float, Verdict.WRONG_DTYPE),
        (tf32, Verdict.TF32_ON),
        (not_a_number, Verdict.NOT_FINITE),
        (infinite, Verdict.NOT_FINITE),
        (lost, Verdict.DEVICE_ERROR),
    ],
)
@pytest.mark.parametrize("from_batch", [4, 60])
def test_a_fault_makes_the_device_count_zero(fault: Break, verdict: Verdict, from_batch: int) -> None:
    outcome = window(fault, fault_from=from_batch)
    assert (outcome.verdict, outcome.counted) == (verdict, 0), outcome.detail
    assert outcome.detail
    assert "\n" not in outcome.detail


@pytest.mark.parametrize(
    ("broken", "verdict", "told"),
    [
        ({"constant": True}, Verdict.CONSTANT_INPUTS, "spread 0"),
        ({"dtype": "float16"}, Verdict.WRONG_DTYPE, "float16; fp32 is float32"),
        ({"dtype": "float16/float32"}, Verdict.WRONG_DTYPE, "float16/float32"),
        ({"shortcuts": ("tf32",)}, Verdict.TF32_ON, "may use TF32"),
        ({"unsettled_s": 0.02}, Verdict.NOT_SYNCHRONISED, "synchronisation is missing"),
        ({"digests": ("aa", "bb")}, Verdict.DIGEST_MISMATCH, "aa before the window and bb after"),
        ({"last_word": Fault(Verdict.WRONG_PRODUCT, "no fall")}, Verdict.WRONG_PRODUCT, "no fall"),
        ({"conditions": Conditions(ecc_uncorrected=2, faults=0)}, Verdict.DEVICE_FAULT, "2 memory errors"),
        ({"conditions": Conditions(ecc_uncorrected=0, faults=1)}, Verdict.DEVICE_FAULT, "1 faults told"),
        (
            {"conditions": Conditions(mean_clock_megahertz=1.0), "flop_per_clock": 0.5},
            Verdict.OVER_CLOCK_BOUND,
            "mean of 1 MHz",
        ),
    ],
)
def test_what_is_seen_outside_the_products_makes_it_count_zero(
    broken: dict[str, Any], verdict: Verdict, told: str
) -> None:
    outcome = window(**broken)
    assert (outcome.verdict, outcome.counted) == (verdict, 0), outcome.detail
    assert told in outcome.detail


def test_a_rate_that_its_clock_allows_is_said_to_be() -> None:
    outcome = window(conditions=Conditions(mean_clock_megahertz=1.0), flop_per_clock=2.0)
    assert (outcome.verdict, outcome.clock_bound) == (Verdict.OK, "ok")


def test_a_hiccup_of_the_machine_is_no_missing_synchronisation() -> None:
    class Hiccup(SmallProducts):
        def settle(self) -> None:
            self.clock.time_s += 0.5 if self.batches == 30 else 0.0

    clock = ManualClock()
    assert run_window(Hiccup(clock), clock, WindowPlan(10.0, 1)).verdict is Verdict.OK


def test_a_window_without_a_finished_batch_is_zero_work() -> None:
    outcome = window(window_s=1.0, piece_s=1.5)
    assert (outcome.verdict, outcome.counted) == (Verdict.ZERO_WORK, 0)


@pytest.mark.parametrize(("oversleeps_s", "verdict"), [(0.0, Verdict.OK), (0.2, Verdict.OK), (0.3, Verdict.LATE_START)])
def test_a_late_start_counts_zero(oversleeps_s: float, verdict: Verdict) -> None:
    outcome = window(start_at_s=1_002.0, oversleeps_s=oversleeps_s)
    assert outcome.verdict is verdict
    if verdict is Verdict.OK:
        assert outcome.start_s == 1_002.0  # the announced start, not the device's own


def test_arming_past_the_announced_start_is_a_late_start() -> None:
    assert window(start_at_s=999.0).verdict is Verdict.LATE_START


def test_an_armed_device_rests_until_its_rack_begins() -> None:
    outcome = window(start_at_s=1_030.0, ramp_at_s=1_025.0)
    assert outcome.verdict is Verdict.OK
    assert 4.9 <= outcome.warmup_s <= 5.0


def test_a_stop_leaves_what_was_verified_and_says_so() -> None:
    clock = ManualClock()
    outcome = run_window(SmallProducts(clock), clock, WindowPlan(10.0, 1), stop=lambda: clock.time_s > 1_003.0)
    assert outcome.verdict is Verdict.INTERRUPTED
    assert outcome.amount > 0
    assert outcome.counted == 0
    assert "of 10 s; not a full window" in outcome.detail


def test_the_seed_alone_decides_what_is_drawn() -> None:
    drawn: dict[int, list[Sequence[Pair]]] = {}

    def note(seed: int) -> Break:
        def work(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
            drawn.setdefault(seed, []).append(list(order))
            w.multiply(order, slot)

        return work

    window(note(1), seed=1)
    first = drawn.pop(1)
    window(note(1), seed=1)
    window(note(2), seed=2)
    assert drawn[1] == first
    assert drawn[2] != first


def test_the_published_odds_are_what_is_seen() -> None:
    """One of four products spoilt in one batch: found about as often as published, over 300 seeds."""

    def spoil_one(w: SmallProducts, order: Sequence[Pair], slot: int) -> None:
        w.multiply(order, slot)
        if w.batches == 90:  # some 66 of arming and warming up before the window
            w.c[slot + 2 % len(order)][1, 1] += 1.0

    found = sum(
        window(spoil_one, seed=s, window_s=0.5, piece_s=0.002).verdict is Verdict.WRONG_PRODUCT for s in range(300)
    )
    # Every row of C but one is right, so one element meets both sign vectors and is seen by either: nearly always.
    assert 300 * detection_probability(4) * 0.7 < found < 300 * 0.25 * 1.4


def test_a_long_window_warms_until_it_is_steady() -> None:
    clock = ManualClock()
    outcome = run_window(SmallProducts(clock, piece_s=5.0), clock, WindowPlan(600.0, 1))
    assert outcome.steady is True
    assert 60 <= outcome.warmup_s <= 80
    assert SIDE == 24
