"""What does it cost to ask nights for change points and outliers? Everything here is simulated. Run: `make bench`."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.history.analysis import Findings, findings_of
from benchmarks.history.synthetic import Fleet, made_up

CARDS, NIGHTS, WINDOW_S = 400, 90, 600.0
SLOWED, SLOWER, SINCE = 20, 0.9, 60


def test_400_cards_over_90_nights(benchmark: BenchmarkFixture) -> None:
    """Twenty cards have been 10% slower since night 60."""
    nights = made_up(Fleet(cards=CARDS, nights=NIGHTS), seed=7)
    nights.values[:SLOWED, SINCE:] *= SLOWER
    call: Callable[..., Findings] = benchmark.pedantic
    found = call(findings_of, (nights, WINDOW_S), rounds=7, warmup_rounds=1)
    assert {f"card-{number}" for number in range(SLOWED)} <= {change.series.device for change in found.changes}
