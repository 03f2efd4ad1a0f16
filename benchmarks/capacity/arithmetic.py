"""How much of each goal is achieved? The arithmetic between the inventory, the recorded results and the goals.

Pure: no clock, no files, no words of a language. Evidence keeps its type all the way (benchmarks.evidence): nominal,
measured, extrapolated and simulated stand beside one another and are never summed, and no goal is added to another.

For one goal: R_nom = sum of dense catalogue peaks of installed real cards that have one; measured R_sus = sum of what
verified cards of one shared window count; availability = nominal of verified cards / R_nom; efficiency = R_sus of
verified cards with a peak / their nominal; coverage = cards run / cards owned; R_lock = cards verified x the slowest of
them. A ratio without a denominator is None with a reason, never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from benchmarks.catalogue import card_figures, goal_precisions
from benchmarks.evidence import (
    FLOPS_PER_GFLOPS,
    FLOPS_PER_TFLOPS,
    Extrapolated,
    Measured,
    MeasuredOn,
    Nominal,
    Simulated,
    total,
)
from benchmarks.history.store import StoredResult, latest_by_device
from benchmarks.inventory import Device, Node
from benchmarks.protocol import Verdict, quantile, window_label
from scheduler.schema.model import Card, Goal

RateT = TypeVar("RateT", Nominal, Measured, Extrapolated, Simulated)


class WhyNone(StrEnum):
    """Why a ratio is undefined. Reports translate these."""

    NO_CARDS = "no_cards"
    NO_RATED_CARDS = "no_rated_cards"
    NO_WINDOW = "no_window"
    NOTHING_VERIFIED = "nothing_verified"
    NO_RATED_CARD_VERIFIED = "no_rated_card_verified"
    ENERGY_NOT_READ = "energy_not_read"


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
class Sum(Generic[RateT]):
    """A rate of one kind of evidence and how many devices stand behind it."""

    rate: RateT
    devices: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A number, or None with the reason. Shares are 0 to 1; R_lock is in PFlops."""

    value: float | None
    reason: WhyNone | None = None


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


@dataclass(frozen=True, slots=True)
class Window:
    """The shared window behind a measured figure."""

    run: str
    start_at_s: float | None
    window_s: float
    label: str
    precision: str
    protocol: str
    commit: str | None
    detection_probability: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class GoalCapacity:
    goal: Goal
    nominal: Sum[Nominal]
    measured: Sum[Measured]
    extrapolated: Sum[Extrapolated]
    simulated: Sum[Simulated]
    simulated_installed: int
    missing_pflops: float
    cards_owned: int
    cards_run: int
    availability: Ratio
    efficiency: Ratio
    coverage: Ratio
    lock_pflops: Ratio
    energy_joules: Ratio
    models: tuple[ModelRow, ...]
    exclusions: tuple[Exclusion, ...]
    unrated_cards: int
    window: Window | None


@dataclass(frozen=True, slots=True)
class CpuEntry:
    """One node's CPU devices, measured as a group. True, and never counted towards a goal."""

    node: str
    site: str
    model: str
    devices: int
    precision: str
    gflops: float
    verified: bool
    reason: str | None
    window_s: float | None
    label: str | None
    recorded_at_s: float


@dataclass(frozen=True, slots=True)
class UnratedDevices:
    """Real cards of a model for which no vendor peak is known: installed, measured if run, left out of efficiency."""

    model: str
    vendor: str
    site: str
    devices: int
    in_catalogue: bool


@dataclass(frozen=True, slots=True)
class _Owned:
    """An installed device with its node's facts."""

    device: Device
    node: Node
    peak: Nominal | None


def goal_capacity(
    goal: Goal, nodes: Sequence[Node], catalogue: Mapping[str, Card], results: Sequence[StoredResult]
) -> GoalCapacity:
    """One goal's figures. Results of devices that are not installed at the goal's sites play no part."""
    precisions = goal_precisions(goal.precision)
    here = [node for node in nodes if node.site in goal.sites]
    owned = {
        d.uuid: _Owned(d, n, _peak(catalogue, d.model, precisions))
        for n in here
        if not n.simulated
        for d in n.devices
        if not d.is_cpu
    }
    mine = [
        r for r in results if r.record.should_count() and r.record.precision in precisions and r.record.device in owned
    ]
    last = max(mine, key=lambda r: r.recorded_at_s, default=None)
    ran = {
        r.record.device: r
        for r in mine
        if last is not None and r.run == last.run and r.record.precision == last.record.precision
    }
    verified = {uuid: _measured(r) for uuid, r in ran.items() if r.record.verified}
    nominal = total(Nominal(0.0), (o.peak for o in owned.values() if o.peak is not None))
    measured = total(Measured(0.0, MeasuredOn.ACCELERATOR), verified.values())
    models = _model_rows(owned, verified, catalogue, precisions)
    simulated, simulated_installed = _simulated(here, results, precisions)
    assert measured.counts_towards_goal
    return GoalCapacity(
        goal=goal,
        nominal=Sum(nominal, sum(o.peak is not None for o in owned.values())),
        measured=Sum(measured, len(verified)),
        extrapolated=_extrapolated(owned, ran, models),
        simulated=simulated,
        simulated_installed=simulated_installed,
        missing_pflops=max(0.0, goal.goal_pflops - measured.pflops),
        cards_owned=len(owned),
        cards_run=len(ran),
        availability=_availability(owned, ran, verified),
        efficiency=_efficiency(owned, ran, verified),
        coverage=Ratio(len(ran) / len(owned)) if owned else Ratio(None, WhyNone.NO_CARDS),
        lock_pflops=_lock(owned, ran, verified),
        energy_joules=Ratio(None, WhyNone.ENERGY_NOT_READ),
        models=models,
        exclusions=_exclusions(owned, ran, mine),
        unrated_cards=sum(o.peak is None for o in owned.values()),
        window=_window(last, ran),
    )


def cpu_entries(nodes: Sequence[Node], results: Sequence[StoredResult]) -> tuple[CpuEntry, ...]:
    """The newest measured figure of each installed group of CPU devices."""
    installed = {d.uuid: n for n in nodes if not n.simulated for d in n.devices if d.is_cpu}
    mine = [
        r
        for r in results
        if r.record.evidence == "measured" and r.record.on == "cpu" and set(r.record.covers) <= set(installed)
    ]
    return tuple(
        CpuEntry(
            node=installed[r.record.covers[0]].name,
            site=installed[r.record.covers[0]].site,
            model=r.record.model,
            devices=len(r.record.covers),
            precision=r.record.precision,
            gflops=r.record.gflops or 0.0,
            verified=r.record.verified,
            reason=r.record.reason,
            window_s=r.record.window_s,
            label=None if r.record.window_s is None else window_label(r.record.window_s),
            recorded_at_s=r.recorded_at_s,
        )
        for r in latest_by_device(mine)
    )


def unrated_devices(nodes: Sequence[Node], catalogue: Mapping[str, Card]) -> tuple[UnratedDevices, ...]:
    """Installed real cards without a dense 16-bit peak, counted by model and site."""
    counts = Counter(
        (d.model, d.vendor, n.site)
        for n in nodes
        if not n.simulated
        for d in n.devices
        if not d.is_cpu and _peak(catalogue, d.model, ("bf16",)) is None
    )
    return tuple(
        UnratedDevices(model, vendor, site, count, model in catalogue)
        for (model, vendor, site), count in sorted(counts.items())
    )


# ---- the parts of one goal ---------------------------------------------------------------------------------------


def _peak(catalogue: Mapping[str, Card], model: str, precisions: Sequence[str]) -> Nominal | None:
    peaks = [card_figures(catalogue.get(model), p).peak_tflops for p in precisions]
    known = [p for p in peaks if p is not None]
    return Nominal(max(known) * FLOPS_PER_TFLOPS) if known else None


def _measured(result: StoredResult) -> Measured:
    rate = result.record.rate()
    assert isinstance(rate, Measured), result
    assert rate.counts_towards_goal, result
    return rate


def _model_rows(
    owned: Mapping[str, _Owned],
    verified: Mapping[str, Measured],
    catalogue: Mapping[str, Card],
    precisions: Sequence[str],
) -> tuple[ModelRow, ...]:
    rows = []
    for model, vendor in sorted({(o.device.model, o.device.vendor) for o in owned.values()}):
        members = [uuid for uuid, o in owned.items() if (o.device.model, o.device.vendor) == (model, vendor)]
        rates = [verified[uuid].gflops for uuid in members if uuid in verified]
        peak = _peak(catalogue, model, precisions)
        rows.append(
            ModelRow(
                model=model,
                vendor=vendor,
                installed=len(members),
                peak_tflops=None if peak is None else peak.flops / FLOPS_PER_TFLOPS,
                verified=len(rates),
                p5_gflops=quantile(rates, 0.05),
                p50_gflops=quantile(rates, 0.5),
                min_gflops=min(rates, default=None),
            )
        )
    return tuple(rows)


def _extrapolated(
    owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], models: Sequence[ModelRow]
) -> Sum[Extrapolated]:
    """Cards that were not run, at the median rate of verified cards of their model in the same window. A card that was
    run and failed is not among them: its rate is known, and it is zero."""
    medians = {(m.model, m.vendor): m.p50_gflops for m in models}
    rates = []
    for uuid, card in owned.items():
        median = medians[(card.device.model, card.device.vendor)]
        if uuid not in ran and median is not None:
            rates.append(Extrapolated(median * FLOPS_PER_GFLOPS))
    return Sum(total(Extrapolated(0.0), rates), len(rates))


def _simulated(
    here: Sequence[Node], results: Sequence[StoredResult], precisions: Sequence[str]
) -> tuple[Sum[Simulated], int]:
    installed = {d.uuid for n in here if n.simulated for d in n.devices}
    mine = [
        r
        for r in results
        if r.record.evidence == "simulated" and r.record.precision in precisions and r.record.device in installed
    ]
    # One figure a device: the newest, whichever 16-bit format it is in.
    newest = {r.record.device: r.record.rate() for r in sorted(mine, key=lambda r: r.recorded_at_s)}
    rates = [rate for rate in newest.values() if isinstance(rate, Simulated)]
    return Sum(total(Simulated(0.0), rates), len(rates)), len(installed)


def _why_unmeasured(
    owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> WhyNone | None:
    if not owned:
        return WhyNone.NO_CARDS
    if not ran:
        return WhyNone.NO_WINDOW
    return None if verified else WhyNone.NOTHING_VERIFIED


def _nominal_of(uuids: Sequence[str], owned: Mapping[str, _Owned]) -> Nominal:
    peaks = (owned[uuid].peak for uuid in uuids)
    return total(Nominal(0.0), (peak for peak in peaks if peak is not None))


def _availability(
    owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> Ratio:
    whole = _nominal_of(list(owned), owned)
    if not owned or not ran:
        return Ratio(None, _why_unmeasured(owned, ran, verified))
    if not whole.flops:
        return Ratio(None, WhyNone.NO_RATED_CARDS)
    return Ratio(_nominal_of(list(verified), owned).flops / whole.flops)


def _efficiency(
    owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> Ratio:
    if (why := _why_unmeasured(owned, ran, verified)) is not None:
        return Ratio(None, why)
    rated = [uuid for uuid in verified if owned[uuid].peak is not None]
    if not rated:
        return Ratio(None, WhyNone.NO_RATED_CARD_VERIFIED)
    achieved = total(Measured(0.0, MeasuredOn.ACCELERATOR), (verified[uuid] for uuid in rated))
    return Ratio(achieved.flops / _nominal_of(rated, owned).flops)


def _lock(owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]) -> Ratio:
    if (why := _why_unmeasured(owned, ran, verified)) is not None:
        return Ratio(None, why)
    return Ratio(len(verified) * min(rate.pflops for rate in verified.values()))


def _exclusions(
    owned: Mapping[str, _Owned], ran: Mapping[str, StoredResult], mine: Sequence[StoredResult]
) -> tuple[Exclusion, ...]:
    verified_before = {
        r.record.device: r.recorded_at_s for r in sorted(mine, key=lambda r: r.recorded_at_s) if r.record.verified
    }
    excluded = []
    for uuid, card in owned.items():
        result = ran.get(uuid)
        if result is not None and result.record.verified:
            continue
        if result is not None:
            why, detail = WhyExcluded(str(result.record.verdict)), result.record.reason
        else:
            was_run = any(r.record.device == uuid for r in mine)
            why, detail = (WhyExcluded.NOT_IN_WINDOW if was_run else WhyExcluded.NEVER_RUN), None
        excluded.append(Exclusion(uuid, card.node.name, card.device.model, why, detail, verified_before.get(uuid)))
    return tuple(excluded)


def _window(last: StoredResult | None, ran: Mapping[str, StoredResult]) -> Window | None:
    if last is None or last.record.window_s is None:
        return None
    starts = [r.record.window_start_s for r in ran.values() if r.record.window_start_s]
    chances = [
        r.record.detection_probability
        for r in ran.values()
        if r.record.verified and r.record.detection_probability is not None
    ]
    return Window(
        run=last.run,
        start_at_s=min(starts, default=None),
        window_s=last.record.window_s,
        label=window_label(last.record.window_s),
        precision=last.record.precision,
        protocol=last.record.protocol,
        commit=last.commit,
        detection_probability=min(chances, default=None),
        samples=sum(r.record.samples for r in ran.values()),
    )
