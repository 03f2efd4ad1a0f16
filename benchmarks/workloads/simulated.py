"""What would a simulated card report? A made-up figure near the published ones; no product is run, and it says so.

Peak times an efficiency drawn around the share that somebody measured and published for this card; where the vendor's
peak is not known but an achieved figure is, that figure with the same spread; where neither is, `unavailable`. The draw
is seeded by the device's uuid, so a card keeps its figure. The evidence is always `simulated`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord

# Spread of equal cards around their mean, as fleets of one model show; and what is assumed where no share is published.
SPREAD = 0.015
ASSUMED_SHARE = 0.75
NO_PRODUCT = "no product was run: the device is simulated"


@dataclass(frozen=True, slots=True)
class CardFigures:
    """What the catalogue says of a model in one precision, dense, in TFlops; None where nothing is known."""

    peak_tflops: float | None
    achieved_tflops: float | None


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    uuid: str
    node: str | None
    site: str | None
    model: str
    vendor: str


def simulated_record(
    device: SimulatedDevice, card: CardFigures, *, precision: str, seed: int, window_s: float | None = None
) -> DeviceRecord:
    """The simulated answer of one device. `gflops` None and verdict `unavailable` where nothing is known."""
    gflops, basis = _figure(card, random.Random(f"{seed}/{device.uuid}/{precision}"))
    known = gflops is not None
    return DeviceRecord(
        device=device.uuid,
        covers=(device.uuid,),
        node=device.node,
        site=device.site,
        model=device.model,
        vendor=device.vendor,
        evidence="simulated",
        on="nothing",
        workload="gemm",
        precision=precision,
        gflops=gflops,
        verified=False,
        verdict=Verdict.OK if known else Verdict.UNAVAILABLE,
        reason=NO_PRODUCT
        if known
        else f"neither a peak nor an achieved figure in {precision} is known for {device.model}",
        window_s=window_s,
        seed=seed,
        basis=basis,
    )


def _figure(card: CardFigures, rng: random.Random) -> tuple[float | None, str | None]:
    peak, achieved = card.peak_tflops, card.achieved_tflops
    wobble = rng.gauss(1.0, SPREAD)
    if peak is not None:
        share = ASSUMED_SHARE if achieved is None else min(1.0, achieved / peak)
        efficiency = min(1.0, max(0.0, share * wobble))
        told = "assumed" if achieved is None else "published"
        return peak * efficiency * 1e3, f"peak {peak:g} TFlops x {efficiency:.3f} ({told} share {share:.3f})"
    if achieved is not None:
        return max(
            0.0, achieved * wobble
        ) * 1e3, f"published achieved {achieved:g} TFlops x {wobble:.3f}; no vendor peak"
    return None, None
