"""What else was measured, beside the products that goals are counted in? Each workload in its own quantity.

Bandwidth, training steps, attention, collectives, requests served: whatever a run recorded under another name than the
goals' workload, also one that this version has never heard of. Figures for their own sake: none of them is in any
total of FLOP/s, and they are not added to one another. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.capacity.windows import GOAL_WORKLOAD
from benchmarks.history.store import StoredResult, latest_by_device
from benchmarks.inventory import Node


@dataclass(frozen=True, slots=True)
class OtherWorkload:
    """Newest verified figures of installed real devices of one model at one site, in `unit`. `on`: accelerator, cpu."""

    workload: str
    precision: str
    site: str
    model: str
    on: str
    devices: int
    lowest: float
    median: float
    highest: float
    unit: str
    recorded_at_s: float


def other_workloads(nodes: Sequence[Node], results: Sequence[StoredResult]) -> tuple[OtherWorkload, ...]:
    """By workload, precision, site and model. What was not verified is no figure, and is not in it."""
    sites = {d.uuid: node.site for node in nodes if not node.simulated for d in node.devices}
    mine = [
        r
        for r in results
        if r.record.workload != GOAL_WORKLOAD
        and r.record.evidence == "measured"
        and r.record.verified
        and sites.keys() >= set(r.record.covers)
    ]
    groups: dict[tuple[str, str, str, str, str, str], list[tuple[float, StoredResult]]] = {}
    for result in latest_by_device(mine):
        record = result.record
        rate, unit = (record.value, record.unit) if record.unit else (record.gflops, "GFLOP/s")
        if rate:
            key = (record.workload, record.precision, sites[record.covers[0]], record.model, record.on, unit)
            groups.setdefault(key, []).append((rate, result))
    return tuple(
        OtherWorkload(
            *(workload, precision, site, model, on),
            devices=sum(len(result.record.covers) for _, result in found),
            lowest=min(rate for rate, _ in found),
            median=statistics.median(rate for rate, _ in found),
            highest=max(rate for rate, _ in found),
            unit=unit,
            recorded_at_s=max(result.recorded_at_s for _, result in found),
        )
        for (workload, precision, site, model, on, unit), found in sorted(groups.items())
    )
