"""What does a window's outcome become? A record, and the line of raw batches that the record's figure follows from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.evidence import FLOPS_PER_GFLOPS
from benchmarks.protocol import (
    Verdict,
    WindowOutcome,
    clock_bound,
    detection_over_window,
    detection_probability,
    quantile,
)
from benchmarks.raw_batches import RawBatches, sha256_of, to_line
from benchmarks.record import DeviceRecord, WhichDevice
from benchmarks.work import Work

# The share of spoilt products for which the chance of being found out is published beside the per-product one.
PUBLISHED_CORRUPT_SHARE = 0.01
# By what a workload counts: the unit of its figure, and how many of what is counted make one of it.
UNITS = {"flop": (None, FLOPS_PER_GFLOPS), "bytes": ("GB/s", 1e9), "requests": ("requests/s", 1.0)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a record says beside the window: with what it was measured."""

    run: str
    seed: int
    threads: int | None
    library: str
    runtime: str | None = None


def measured_record(
    which: WhichDevice, work: Work, outcome: WindowOutcome, setting: Setting
) -> tuple[DeviceRecord, str]:
    """The record and its raw line. `gflops` has the whole window as its denominator, `observed_gflops` time used."""
    ok = outcome.verdict is Verdict.OK
    flop = work.counts == "flop"
    rates = [rate / FLOPS_PER_GFLOPS for rate in outcome.batch_rates]
    spent_s = min(outcome.elapsed_s, outcome.window_s)
    conditions = outcome.conditions
    # Freivalds' odds are those of products; what other workloads' samples can see has no such formula.
    is_product = work.name == "gemm" and outcome.samples > 0
    unit, size = UNITS[work.counts]
    figure = outcome.counted / outcome.window_s / size
    record = DeviceRecord(
        device=which.device,
        covers=which.covers,
        node=which.node,
        site=which.site,
        model=which.model,
        vendor=which.vendor,
        evidence="measured",
        on=which.on,
        workload=work.name,
        precision=work.precision,
        gflops=figure if flop else (None if ok else 0.0),
        value=None if flop or not ok else figure,
        unit=unit,
        verified=ok,
        verdict=outcome.verdict,
        reason=None if ok else outcome.detail,
        observed_gflops=outcome.amount / spent_s / FLOPS_PER_GFLOPS if flop and spent_s > 0 else None,
        shape=work.shape,
        flop=outcome.amount if flop else 0,
        window_s=outcome.window_s,
        window_start_s=outcome.start_s,
        elapsed_s=outcome.elapsed_s,
        warmup_s=outcome.warmup_s,
        steady=outcome.steady,
        batches=len(outcome.batches),
        products=outcome.products,
        products_per_batch=outcome.pieces_per_batch or None,
        samples=outcome.samples,
        detection_probability=detection_probability(outcome.pieces_per_check) if is_product else None,
        detection_probability_one_percent=(
            detection_over_window(outcome.samples, PUBLISHED_CORRUPT_SHARE) if is_product else None
        ),
        check_share=outcome.check_s / outcome.elapsed_s if outcome.elapsed_s > 0 else None,
        batch_gflops_p5=quantile(rates, 0.05) if flop else None,
        batch_gflops_p50=quantile(rates, 0.5) if flop else None,
        batch_gflops_p95=quantile(rates, 0.95) if flop else None,
        threads=setting.threads,
        library=setting.library,
        seed=setting.seed,
        driver=conditions.driver,
        runtime=setting.runtime,
        clock_bound=outcome.clock_bound,
        mean_clock_megahertz=conditions.mean_clock_megahertz,
        energy_joules=conditions.energy_joules,
        energy_quality=conditions.energy_quality,
        mean_power_watts=conditions.mean_power_watts,
        peak_temperature_celsius=conditions.peak_temperature_celsius,
        held_back_share=conditions.held_back_share,
        ecc_uncorrected=conditions.ecc_uncorrected,
        faults=conditions.faults,
        digest=outcome.digest,
        arming_s=outcome.arming_s,
    )
    line = to_line(raw_batches(record, outcome, setting.run))
    return replace(record, raw_sha256=sha256_of(line)), line


def raw_batches(record: DeviceRecord, outcome: WindowOutcome, run: str) -> RawBatches:
    times = np.array([(b.began_us, b.busy_us, b.check_us) for b in outcome.batches], np.uint32).reshape(-1, 3)
    return RawBatches(
        run=run,
        device=record.device,
        workload=record.workload,
        precision=record.precision,
        window_start_s=outcome.start_s,
        window_s=outcome.window_s,
        flop_per_batch=outcome.amount_per_batch,
        began_us=times[:, 0],
        busy_us=times[:, 1],
        check_us=times[:, 2],
    )


def voided(record: DeviceRecord, verdict: Verdict, reason: str) -> DeviceRecord:
    """The record of a window that was found out not to count. What was verified in it stays told."""
    return replace(
        record, verified=False, verdict=verdict, reason=reason, value=None, gflops=0.0, mfu=None, best_shape_gflops=None
    )


def held_to_clock(record: DeviceRecord, flop_per_clock: float | None) -> DeviceRecord:
    """The record with its clock bound, where the one who measured did not know the card's FLOP per clock."""
    if record.gflops is None or not record.verified:
        return record
    fastest = max(record.gflops, record.batch_gflops_p50 or 0.0) * FLOPS_PER_GFLOPS
    said, fault = clock_bound(fastest, record.mean_clock_megahertz, flop_per_clock)
    record = replace(record, clock_bound=said)
    return record if fault is None else voided(record, fault.verdict, fault.detail)
