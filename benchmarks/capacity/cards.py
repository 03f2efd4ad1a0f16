"""What is known of each card and model under a goal: who counts, who does not and why, how rates are spread, and how
many more cards of each model would close the gap.

Pure. Rates are GFLOP/s of the window that stands; a card without a verified figure there is an exclusion with a reason
and the time of its last verified figure, never a zero in a quantile.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from benchmarks.catalogue import card_figures
from benchmarks.evidence import FLOPS_PER_TFLOPS, Measured, Nominal
from benchmarks.history.store import StoredResult
from benchmarks.inventory import Device, Node
from benchmarks.protocol import Verdict
from scheduler.schema.model import Card

GFLOPS_PER_PFLOPS = 1e6
BINS = 24


class WhyExcluded(StrEnum):
    """Why an installed card adds nothing to the measured figure. The verdicts of the protocol, and two of our own."""

    NEVER_RUN = "never_run"
    NOT_IN_WINDOW = "not_in_window"
    LATE_START = str(Verdict.LATE_START)
    ZERO_WORK = str(Verdict.ZERO_WORK)
    NOT_FINITE = str(Verdict.NOT_FINITE)
    WRONG_PRODUCT = str(Verdict.WRONG_PRODUCT)
    INTERRUPTED = str(Verdict.INTERRUPTED)
    DEVICE_ERROR = str(Verdict.DEVICE_ERROR)
    UNAVAILABLE = str(Verdict.UNAVAILABLE)
    NO_RESULT = str(Verdict.NO_RESULT)
    WRONG_DTYPE = str(Verdict.WRONG_DTYPE)
    TF32_ON = str(Verdict.TF32_ON)
    NOT_SYNCHRONISED = str(Verdict.NOT_SYNCHRONISED)
    CONSTANT_INPUTS = str(Verdict.CONSTANT_INPUTS)
    CLOCK_SKEW = str(Verdict.CLOCK_SKEW)
    OVER_CLOCK_BOUND = str(Verdict.OVER_CLOCK_BOUND)
    DIGEST_MISMATCH = str(Verdict.DIGEST_MISMATCH)
    DEVICE_FAULT = str(Verdict.DEVICE_FAULT)


@dataclass(frozen=True, slots=True)
class OwnedCard:
    """An installed real accelerator with its node's facts. `peak` None: no vendor peak is known."""

    device: Device
    node: Node
    peak: Nominal | None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """`last_verified_at_s`: when this card was last verified in an earlier window, None if never."""

    uuid: str
    node: str
    model: str
    why: WhyExcluded
    detail: str | None
    last_verified_at_s: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How many verified cards fall into each of equal bins from `low` to `high` GFLOP/s."""

    low_gflops: float
    high_gflops: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """Installed real cards of one model under one goal. Quantiles are over verified cards, in GFLOP/s."""

    model: str
    vendor: str
    installed: int
    peak_tflops: float | None
    verified: int
    p5_gflops: float | None
    p50_gflops: float | None
    min_gflops: float | None
    p95_gflops: float | None
    max_gflops: float | None
    spread: Spread | None


@dataclass(frozen=True, slots=True)
class CardFigure:
    """A verified card. `of_median`: its rate over the median of its model in the same window."""

    uuid: str
    node: str
    model: str
    rack: str | None
    gflops: float
    of_median: float
    mean_clock_megahertz: float | None
    mean_power_watts: float | None


@dataclass(frozen=True, slots=True)
class CardsMissing:
    """What is missing to the goal in cards of one model, each at the median that this model was measured at."""

    model: str
    vendor: str
    gflops_each: float
    cards: int


@dataclass(frozen=True, slots=True)
class UnratedDevices:
    """Real cards of a model for which no vendor peak is known: installed, measured if run, left out of efficiency."""

    model: str
    vendor: str
    site: str
    devices: int
    in_catalogue: bool


def peak_of(catalogue: Mapping[str, Card], model: str, precisions: Sequence[str]) -> Nominal | None:
    peaks = [card_figures(catalogue.get(model), p).peak_tflops for p in precisions]
    known = [p for p in peaks if p is not None]
    return Nominal(max(known) * FLOPS_PER_TFLOPS) if known else None


def owned_cards(
    nodes: Sequence[Node], catalogue: Mapping[str, Card], precisions: Sequence[str]
) -> dict[str, OwnedCard]:
    peaks: dict[str, Nominal | None] = {}
    owned = {}
    for node in nodes:
        if node.simulated:
            continue
        for device in node.devices:
            if device.is_cpu:
                continue
            if device.model not in peaks:
                peaks[device.model] = peak_of(catalogue, device.model, precisions)
            owned[device.uuid] = OwnedCard(device, node, peaks[device.model])
    return owned


def model_rows(owned: Mapping[str, OwnedCard], verified: Mapping[str, Measured]) -> tuple[ModelRow, ...]:
    members: dict[tuple[str, str], list[str]] = {}
    for uuid, card in owned.items():
        members.setdefault((card.device.model, card.device.vendor), []).append(uuid)
    rows = []
    for (model, vendor), uuids in sorted(members.items()):
        rates = [verified[uuid].gflops for uuid in uuids if uuid in verified]
        peak = owned[uuids[0]].peak
        quantiles = [float(q) for q in np.quantile(rates, (0.0, 0.05, 0.5, 0.95, 1.0))] if rates else [None] * 5
        rows.append(
            ModelRow(
                model=model,
                vendor=vendor,
                installed=len(uuids),
                peak_tflops=None if peak is None else peak.flops / FLOPS_PER_TFLOPS,
                verified=len(rates),
                min_gflops=quantiles[0],
                p5_gflops=quantiles[1],
                p50_gflops=quantiles[2],
                p95_gflops=quantiles[3],
                max_gflops=quantiles[4],
                spread=_spread(rates),
            )
        )
    return tuple(rows)


def _spread(rates: Sequence[float]) -> Spread | None:
    if not rates:
        return None
    low, high = min(rates), max(rates)
    if high - low < 1e-3 * high:  # all alike: a bin of one part in a thousand would show noise as shape
        low, high = 0.9995 * (low + high) / 2, 1.0005 * (low + high) / 2
    counts, _ = np.histogram(rates, bins=BINS, range=(low, high))
    return Spread(low, high, tuple(int(c) for c in counts))


def card_figures_of(
    owned: Mapping[str, OwnedCard], results: Mapping[str, StoredResult], models: Sequence[ModelRow]
) -> tuple[CardFigure, ...]:
    """Verified cards, the slowest of its model first."""
    medians = {(m.model, m.vendor): m.p50_gflops for m in models}
    figures = []
    for uuid, result in results.items():
        record, card = result.record, owned[uuid]
        median = medians[(card.device.model, card.device.vendor)]
        if record.verified and record.gflops is not None and median:
            figures.append(
                CardFigure(
                    uuid=uuid,
                    node=card.node.name,
                    model=card.device.model,
                    rack=record.rack,
                    gflops=record.gflops,
                    of_median=record.gflops / median,
                    mean_clock_megahertz=record.mean_clock_megahertz,
                    mean_power_watts=record.mean_power_watts,
                )
            )
    return tuple(sorted(figures, key=lambda c: (c.of_median, c.uuid)))


def cards_missing(models: Sequence[ModelRow], missing_pflops: float) -> tuple[CardsMissing, ...]:
    """Each row alone would close the gap; rows are alternatives and are not added."""
    if missing_pflops <= 0:
        return ()
    return tuple(
        CardsMissing(m.model, m.vendor, m.p50_gflops, math.ceil(missing_pflops * GFLOPS_PER_PFLOPS / m.p50_gflops))
        for m in models
        if m.p50_gflops
    )


def exclusions(
    owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], mine: Sequence[StoredResult]
) -> tuple[Exclusion, ...]:
    verified_before: dict[str, float] = {}
    was_run = set()
    for result in mine:
        was_run.add(result.record.device)
        if result.record.verified:
            before = verified_before.get(result.record.device, 0.0)
            verified_before[result.record.device] = max(before, result.recorded_at_s)
    excluded = []
    for uuid, card in owned.items():
        result_here = ran.get(uuid)
        if result_here is None:
            why, detail = (WhyExcluded.NOT_IN_WINDOW if uuid in was_run else WhyExcluded.NEVER_RUN), None
        elif result_here.record.verified:
            continue
        else:
            why, detail = WhyExcluded(str(result_here.record.verdict)), result_here.record.reason
        excluded.append(Exclusion(uuid, card.node.name, card.device.model, why, detail, verified_before.get(uuid)))
    return tuple(excluded)


def unrated_devices(nodes: Sequence[Node], catalogue: Mapping[str, Card]) -> tuple[UnratedDevices, ...]:
    """Installed real cards without a dense 16-bit peak, counted by model and site."""
    peaks: dict[str, bool] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    for node in nodes:
        if node.simulated:
            continue
        for device in node.devices:
            if device.is_cpu:
                continue
            if device.model not in peaks:
                peaks[device.model] = peak_of(catalogue, device.model, ("bf16",)) is not None
            if not peaks[device.model]:
                counts[(device.model, device.vendor, node.site)] += 1
    return tuple(
        UnratedDevices(model, vendor, site, count, model in catalogue)
        for (model, vendor, site), count in sorted(counts.items())
    )
