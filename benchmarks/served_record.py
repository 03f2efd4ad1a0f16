"""What does a serving window's outcome become? Requests a second in a record, how long they waited, and its raw line.

The record's figure is `value` in `requests/s`; `gflops` stays None, so that it is in no sum of FLOP/s and in no goal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.measured import Setting, measured_record
from benchmarks.raw_batches import sha256_of
from benchmarks.raw_requests import RawRequests, requests_line
from benchmarks.record import DeviceRecord, WhichDevice
from benchmarks.served import Served
from benchmarks.serving_window import LOAD_SHARE, ServedOutcome, ServingWork


def served_record(
    which: WhichDevice, work: ServingWork, outcome: ServedOutcome, setting: Setting
) -> tuple[DeviceRecord, str]:
    """The record and its raw line."""
    record, _ = measured_record(which, work, outcome, setting)
    times = np.array([(b.began_us, b.busy_us, b.check_us) for b in outcome.batches], np.uint32).reshape(-1, 3)
    raw = RawRequests(
        run=setting.run,
        device=record.device,
        workload=record.workload,
        precision=record.precision,
        window_start_s=outcome.start_s,
        window_s=outcome.window_s,
        seed=outcome.arrivals_seed,
        offered_per_s=outcome.offered_per_s,
        began_us=times[:, 0],
        busy_us=times[:, 1],
        check_us=times[:, 2],
        sizes=np.array(outcome.sizes, np.uint32),
    )
    line = requests_line(raw)
    return replace(record, serving=_served(work, outcome, raw), raw_sha256=sha256_of(line)), line


def _served(work: ServingWork, outcome: ServedOutcome, raw: RawRequests) -> Served:
    p50, p95, p99 = raw.quantiles_ms(0.5, 0.95, 0.99)
    spent_us = sum(batch.busy_us + batch.check_us for batch in outcome.batches)
    return Served(
        came=raw.came(),
        answered=outcome.amount,
        capacity_per_s=outcome.capacity_per_s,
        load_share=LOAD_SHARE,
        offered_per_s=outcome.offered_per_s,
        largest_batch=work.largest_batch,
        mean_batch=outcome.amount / len(outcome.sizes) if outcome.sizes else None,
        busy_share=spent_us / 1e6 / outcome.window_s,
        flop_per_request=work.flop_per_request,
        arrivals_seed=outcome.arrivals_seed,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
    )
