"""Which measured rate does each model of device have? From the history of benchmarks, for PFlops-hours.

The newest run before a moment in which devices of the model were verified at a 16-bit precision; where there is none,
the first after it: a card that was measured late did not compute any less before. The rate is the median of that run's
devices. Figures of CPUs are left out: they are no rate of an accelerator.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scheduler.core.usage_book import ModelRate

if TYPE_CHECKING:
    from benchmarks.history.store import StoredResult

On = Literal["accelerator", "simulated"]
_STEP = Decimal("0.000001")  # GFLOP/s


def rates_in(directory: Path, before_s: float) -> list[ModelRate]:
    """`directory`: the instance's `bench`."""
    from benchmarks.history.store import HistoryStore

    return measured_rates(HistoryStore(directory).read().results, before_s)


def measured_rates(results: Iterable[StoredResult], before_s: float) -> list[ModelRate]:
    """By model, those of real devices before those of simulated ones."""
    found: dict[tuple[str, On], dict[str, list[StoredResult]]] = {}
    for result in results:
        if (on := _on(result)) is not None:
            found.setdefault((result.record.model, on), {}).setdefault(result.run, []).append(result)
    return [_rate(model, on, runs, before_s) for (model, on), runs in sorted(found.items())]


def _on(result: StoredResult) -> On | None:
    """None for what gives no rate."""
    from benchmarks.catalogue import SIXTEEN_BIT

    record = result.record
    if record.workload != "gemm" or record.precision not in SIXTEEN_BIT or not record.gflops:
        return None
    if record.evidence == "simulated":
        return "simulated"
    return "accelerator" if record.on == "accelerator" and record.verified else None


def _rate(model: str, on: On, runs: dict[str, list[StoredResult]], before_s: float) -> ModelRate:
    at_s = {run: max(result.recorded_at_s for result in results) for run, results in runs.items()}
    before = [run for run in runs if at_s[run] < before_s]
    run = max(before, key=lambda r: (at_s[r], r)) if before else min(runs, key=lambda r: (at_s[r], r))
    precision = min(result.record.precision for result in runs[run])  # bf16 before fp16, where a run has both
    chosen = [result.record for result in runs[run] if result.record.precision == precision]
    middle = statistics.median(Decimal(repr(record.gflops)) for record in chosen)
    return ModelRate(model, format(middle.quantize(_STEP), "f"), precision, on, run, at_s[run], len(chosen))
