"""Which windows are one night: several precisions of it, and nothing that would put two windows into one median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.evidence import EvidenceKind
from benchmarks.history.analysis import analysed, flags
from benchmarks.history.columns import Columns, columns_of
from benchmarks.history.findings import OutlierKind
from benchmarks.history.nights import Nights, card_nights
from benchmarks.history.store import StoredResult
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord

Window = tuple[float, str, str]
"""Hours since the first, workload, precision."""


def recorded(windows: Sequence[Window], *, cards: int = 10, slow: Sequence[int] = ()) -> Columns:
    """A window each; card c0 does 30% less in those of `slow`."""
    return columns_of(
        StoredResult(
            f"run-{at}",
            hours * 3600.0,
            None,
            DeviceRecord(
                device=f"c{card}",
                covers=(f"c{card}",),
                node="n",
                site="here",
                model="m",
                vendor="v",
                evidence="measured",
                on="accelerator",
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
        for card in range(cards)
    )


def nights_of(windows: Sequence[Window]) -> Nights:
    return card_nights(recorded(windows), EvidenceKind.MEASURED, window_s=600.0)


def test_the_precisions_of_one_night_are_one_night() -> None:
    nights = nights_of([(0, "gemm", "bf16"), (0.3, "gemm", "fp8"), (24, "gemm", "bf16"), (24.3, "gemm", "fp8")])
    assert nights.runs == ("run-1", "run-3")
    assert nights.values.shape == (20, 2)
    assert not np.isnan(nights.values).any()


def test_the_same_again_is_a_night_of_its_own_and_so_is_another_precision_the_next_night() -> None:
    assert nights_of([(0, "gemm", "bf16"), (1, "gemm", "bf16")]).runs == ("run-0", "run-1")
    assert nights_of([(0, "gemm", "bf16"), (24, "gemm", "fp8")]).runs == ("run-0", "run-1")


def test_a_card_that_is_slow_in_the_first_of_two_precisions_is_told_to_health() -> None:
    """The last window is of fp8, in which nothing is wrong."""
    windows = [
        (24.0 * night + late, "gemm", name) for night in range(8) for late, name in ((0.0, "bf16"), (0.3, "fp8"))
    ]
    (found,) = analysed(recorded(windows, slow=[len(windows) - 2]))
    assert (found.nights, found.cards, found.run) == (8, 20, "run-15")
    assert {(o.series.device, o.series.precision, o.kind) for o in found.outliers} == {
        ("c0", "bf16", OutlierKind.SLOW_THAN_LIKE),
        ("c0", "bf16", OutlierKind.SLOW_THAN_BEFORE),
    }
    assert {entry["device"] for entry in flags([found], {"c0": "n"})} == {"c0"}
