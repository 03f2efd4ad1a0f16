"""Which windows are one night: several precisions of it, and nothing that would put two windows into one median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence import EvidenceKind
from benchmarks.history.analysis import analysed, flags
from benchmarks.history.columns import Columns, columns_of
from benchmarks.history.findings import OutlierKind
from benchmarks.history.nights import Nights, card_nights
from benchmarks.history.store import StoredResult
from benchmarks.history.which_night import night_of
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord

Window = tuple[float, str, str]
"""Hours since the first, workload, precision."""


# 15 January 2027, 01:00 in UTC+8: thirteen hours of its night are gone, eleven are left.
ONE_OCLOCK_S = 1_799_946_000.0


def recorded(
    windows: Sequence[Window], *, cards: int | Sequence[int] = 10, slow: Sequence[int] = (), evidence: Any = "measured"
) -> Columns:
    """A window each, of so many cards (a list: each window's); card c0 does 30% less in those of `slow`."""
    of_each = [cards] * len(windows) if isinstance(cards, int) else cards
    return columns_of(
        StoredResult(
            f"run-{at}",
            ONE_OCLOCK_S + hours * 3600.0,
            None,
            DeviceRecord(
                device=f"c{card}",
                covers=(f"c{card}",),
                node="n",
                site="here",
                model="m",
                vendor="v",
                evidence=evidence,
                on="accelerator" if evidence == "measured" else "nothing",
                workload=workload,
                precision=precision,
                gflops=(1000.0 + card) * (0.7 if at in slow and card == 0 else 1.0),
                verified=True,
                verdict=Verdict.OK,
                reason=None,
                window_s=600.0,
            ),
        )
        for at, (hours, workload, precision) in enumerate(windows)
        for card in range(of_each[at])
    )


def nights_of(windows: Sequence[Window], **more: Any) -> Nights:
    return card_nights(recorded(windows, **more), EvidenceKind.MEASURED, window_s=600.0)


def test_the_precisions_of_one_night_are_one_night() -> None:
    nights = nights_of([(0, "gemm", "bf16"), (0.3, "gemm", "fp8"), (24, "gemm", "bf16"), (24.3, "gemm", "fp8")])
    assert nights.runs == ("run-1", "run-3")
    assert nights.values.shape == (20, 2)
    assert not np.isnan(nights.values).any()


@pytest.mark.parametrize(
    ("hours", "nights"),
    [
        ((0, 1), ["run-1"]),  # of equals the newest stands
        ((-12, 10.5), ["run-1"]),  # 13:00 the day before and 11:30: from noon to noon
        ((10.5, 11.5), ["run-0", "run-1"]),  # 11:30 and 12:30
        ((-2, 2), ["run-1"]),  # 23:00 and 03:00: a night goes over midnight
        ((0, 24), ["run-0", "run-1"]),
    ],
)
def test_a_night_is_from_noon_to_noon_however_often_the_same_was_run_in_it(
    hours: tuple[float, float], nights: list[str]
) -> None:
    made = nights_of([(each, "gemm", "bf16") for each in hours])
    assert list(made.runs) == nights
    assert made.values.shape == (10, len(nights))


def test_of_several_windows_in_a_night_the_one_with_most_cards_stands_and_no_other_is_mixed_in() -> None:
    """Cards of one column shared their window: what only a smaller one had is missing that night."""
    windows = [(0.0, "gemm", "bf16"), (1.0, "gemm", "bf16"), (24.0, "gemm", "bf16")]
    nights = nights_of(windows, cards=[10, 4, 12], slow=[1])
    assert nights.runs == ("run-0", "run-2")
    assert nights.values[:, 0].tolist()[:3] == [1000.0, 1001.0, 1002.0]  # the slow figure was of the small window
    assert np.isnan(nights.values[10:, 0]).all()
    assert len(nights.cards.series) == 12


def test_each_workload_and_precision_of_a_night_has_a_window_of_its_own() -> None:
    windows = [(0.0, "gemm", "bf16"), (0.5, "gemm", "fp8"), (1.0, "gemm", "bf16"), (1.5, "bandwidth", "fp32")]
    nights = nights_of(windows, cards=[10, 10, 4, 10])
    assert nights.runs == ("run-3",)
    assert nights.values.shape == (30, 1)
    assert nights.at_s.tolist() == [ONE_OCLOCK_S + 1.5 * 3600.0]


def test_a_card_that_was_written_twice_in_one_window_is_one_card() -> None:
    twice = recorded([(0.0, "gemm", "bf16")], cards=3)
    twice = replace(twice, run=np.tile(twice.run, 4), who=np.tile(twice.who, 4), under=np.tile(twice.under, 4))
    twice = replace(twice, rate=np.tile(twice.rate, 4))
    other = recorded([(0.0, "gemm", "bf16"), (1.0, "gemm", "bf16")], cards=[3, 4])
    assert card_nights(twice, EvidenceKind.MEASURED, window_s=600.0).values.shape == (3, 1)
    assert card_nights(other, EvidenceKind.MEASURED, window_s=600.0).runs == ("run-1",)


@given(st.lists(st.tuples(st.floats(-40.0, 40.0), st.sampled_from(["bf16", "fp8"]), st.integers(1, 6)), min_size=1))
def test_no_two_columns_are_of_one_night_and_none_mixes_windows(drawn: list[tuple[float, str, int]]) -> None:
    windows = [(hours, "gemm", precision) for hours, precision, _ in drawn]
    nights = nights_of(windows, cards=[cards for _, _, cards in drawn])
    numbers = [night_of(at_s) for at_s in nights.at_s]
    assert numbers == sorted({night_of(ONE_OCLOCK_S + hours * 3600.0) for hours, _, _ in drawn})
    for precision in ("bf16", "fp8"):
        mine = [row for row, one in enumerate(nights.series) if one.precision == precision]
        for column, number in enumerate(numbers):
            run = [n for h, p, n in drawn if p == precision and night_of(ONE_OCLOCK_S + h * 3600.0) == number]
            assert (~np.isnan(nights.values[mine, column])).sum() == max(run, default=0)


def test_cards_are_counted_once_and_series_each() -> None:
    """Two precisions of ten cards are twenty series, and the groups of both precisions the same groups."""
    windows = [(24.0 * n, "gemm", precision) for n in range(3) for precision in ("bf16", "fp8")]
    (found,) = analysed(recorded(windows))
    assert (found.nights, found.cards, found.groups, found.series) == (3, 10, 2, 24)


def test_a_card_that_is_slow_in_the_first_of_two_precisions_is_told_to_health() -> None:
    """The last window is of fp8, in which nothing is wrong."""
    windows = [
        (24.0 * night + late, "gemm", name) for night in range(8) for late, name in ((0.0, "bf16"), (0.3, "fp8"))
    ]
    (found,) = analysed(recorded(windows, slow=[len(windows) - 2]))
    assert (found.nights, found.cards, found.run) == (8, 10, "run-15")
    assert {(o.series.device, o.series.precision, o.kind) for o in found.outliers} == {
        ("c0", "bf16", OutlierKind.SLOW_THAN_LIKE),
        ("c0", "bf16", OutlierKind.SLOW_THAN_BEFORE),
    }
    assert {entry["device"] for entry in flags([found], {"c0": "n"})} == {"c0"}
