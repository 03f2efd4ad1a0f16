"""How much of each goal is achieved? The arithmetic between the inventory, the recorded results and the goals.

Pure: no clock, no files, no words of a language. Evidence keeps its type all the way (benchmarks.evidence): nominal,
measured, extrapolated and simulated stand beside one another and are never summed, and no goal is added to another.

For one goal: R_nom = sum of dense catalogue peaks of installed real cards that have one; measured R_sus = sum of what
verified cards of one shared window count; availability = nominal of verified cards / R_nom; efficiency = R_sus of
verified cards with a peak / their nominal; coverage = cards run / cards owned; R_lock = cards verified x the slowest of
them. A ratio without a denominator is None with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from benchmarks.capacity.cards import (
    CardFigure,
    CardsMissing,
    Exclusion,
    ModelRow,
    OwnedCard,
    card_figures_of,
    cards_missing,
    exclusions,
    model_rows,
    owned_cards,
)
from benchmarks.capacity.interval import Energy, Interval, energy_of, interval_of
from benchmarks.capacity.trend import NightRange, Trend, night_range, trend
from benchmarks.capacity.windows import (
    GOAL_WORKLOAD,
    Night,
    Window,
    accepted_nights,
    shared_windows,
    standing,
    window_facts,
)
from benchmarks.catalogue import goal_precisions
from benchmarks.evidence import (
    FLOPS_PER_GFLOPS,
    Extrapolated,
    Measured,
    MeasuredOn,
    Nominal,
    Simulated,
    total,
)
from benchmarks.history.findings import Estimate
from benchmarks.history.store import StoredResult, latest_by_device
from benchmarks.inventory import Node
from benchmarks.protocol import Verdict, window_label
from scheduler.schema.model import Card, Goal

RateT = TypeVar("RateT", Nominal, Measured, Extrapolated, Simulated)


class WhyNone(StrEnum):
    """Why a ratio is undefined, or a figure not there. Reports translate these."""

    NO_CARDS = "no_cards"
    NO_RATED_CARDS = "no_rated_cards"
    NO_WINDOW = "no_window"
    NOTHING_VERIFIED = "nothing_verified"
    NO_RATED_CARD_VERIFIED = "no_rated_card_verified"
    ENERGY_NOT_READ = "energy_not_read"
    ALL_RUN = "all_run"
    NO_EQUAL_CARD = "no_equal_card"


@dataclass(frozen=True, slots=True)
class Sum(Generic[RateT]):
    """A rate of one kind of evidence and how many devices stand behind it. `why_none`: nothing does, so there is no
    such figure. A window in which every card failed is another thing: it was measured, and came to 0."""

    rate: RateT
    devices: int
    why_none: WhyNone | None = None

    @property
    def pflops(self) -> float | None:
        return None if self.why_none is not None else self.rate.pflops


@dataclass(frozen=True, slots=True)
class Ratio:
    """A number, or None with the reason. Shares are 0 to 1; R_lock is in PFlops."""

    value: float | None
    reason: WhyNone | None = None


@dataclass(frozen=True, slots=True)
class GoalCapacity:
    """`estimate` is extrapolated: the whole from a sample, with its interval. `nights` are accepted ones, in order."""

    goal: Goal
    nominal: Sum[Nominal]
    measured: Sum[Measured]
    extrapolated: Sum[Extrapolated]
    simulated: Sum[Simulated]
    simulated_installed: int
    interval: Interval | None
    estimate: Estimate | None
    missing_pflops: float
    missing_cards: tuple[CardsMissing, ...]
    cards_owned: int
    cards_run: int
    availability: Ratio
    efficiency: Ratio
    coverage: Ratio
    lock_pflops: Ratio
    energy_joules: Ratio
    gflops_per_watt: Ratio
    energy: Energy | None
    models: tuple[ModelRow, ...]
    cards: tuple[CardFigure, ...]
    exclusions: tuple[Exclusion, ...]
    unrated_cards: int
    window: Window | None
    nights: tuple[Night, ...]
    night_range: NightRange | None
    trend: Trend


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
    verdict: Verdict
    reason: str | None
    window_s: float | None
    label: str | None
    recorded_at_s: float


def goal_capacity(
    goal: Goal,
    nodes: Sequence[Node],
    catalogue: Mapping[str, Card],
    results: Sequence[StoredResult],
    *,
    estimate: Estimate | None = None,
) -> GoalCapacity:
    """One goal's figures. Devices that are not installed at the goal's sites play no part except in the nights
    before: cards that have been replaced were measured all the same."""
    precisions = goal_precisions(goal.precision)
    here = [node for node in nodes if node.site in goal.sites]
    owned = owned_cards(here, catalogue, precisions)
    comparable = comparable_results(results, precisions)
    mine = [r for r in comparable if r.record.device in owned]
    shared, passed_over = standing(shared_windows(mine), precisions)
    ran = {} if shared is None else shared.results
    verified = {uuid: _measured(r) for uuid, r in ran.items() if r.record.verified}
    nominal = total(Nominal(0.0), (o.peak for o in owned.values() if o.peak is not None))
    measured = total(Measured(0.0, MeasuredOn.ACCELERATOR), verified.values())
    models = model_rows(owned, verified)
    simulated, simulated_installed = _simulated(here, results, precisions)
    missing_pflops = max(0.0, goal.goal_pflops - measured.pflops)
    of_sites = [r for r in comparable if r.record.device in owned or r.record.site in goal.sites]
    nights = () if shared is None else accepted_nights(shared_windows(of_sites), shared.precision)
    energy = None if shared is None else energy_of(ran, shared.window_s)
    assert measured.counts_towards_goal
    return GoalCapacity(
        goal=goal,
        nominal=_nominal(nominal, owned),
        measured=Sum(measured, len(verified), None if ran else _why_unmeasured(owned, ran, verified)),
        extrapolated=_extrapolated(owned, ran, models),
        simulated=simulated,
        simulated_installed=simulated_installed,
        interval=None if shared is None or not shared.window_s else interval_of(ran, shared.window_s),
        estimate=estimate,
        missing_pflops=missing_pflops,
        missing_cards=cards_missing(models, missing_pflops),
        cards_owned=len(owned),
        cards_run=len(ran),
        availability=_availability(owned, ran, verified),
        efficiency=_efficiency(owned, ran, verified),
        coverage=Ratio(len(ran) / len(owned)) if owned else Ratio(None, WhyNone.NO_CARDS),
        lock_pflops=_lock(owned, ran, verified),
        energy_joules=_of_energy(None if energy is None else energy.joules, owned, ran),
        gflops_per_watt=_of_energy(None if energy is None else energy.gflops_per_watt, owned, ran),
        energy=energy,
        models=models,
        cards=card_figures_of(owned, ran, models),
        exclusions=exclusions(owned, ran, mine),
        unrated_cards=sum(o.peak is None for o in owned.values()),
        window=window_facts(shared, passed_over),
        nights=nights,
        night_range=night_range(nights),
        trend=trend(nights, goal_pflops=goal.goal_pflops, due=goal.due, achieved_pflops=measured.pflops),
    )


def comparable_results(results: Sequence[StoredResult], precisions: Sequence[str]) -> list[StoredResult]:
    """Those that a goal in these precisions may rest on, whoever's they are."""
    return [
        r
        for r in results
        if r.record.should_count() and r.record.precision in precisions and r.record.workload == GOAL_WORKLOAD
    ]


def cpu_entries(nodes: Sequence[Node], results: Sequence[StoredResult]) -> tuple[CpuEntry, ...]:
    """The newest measured figure of each installed group of CPU devices. A run that was interrupted tells nothing of
    them: it takes no other's place."""
    installed = {d.uuid: n for n in nodes if not n.simulated for d in n.devices if d.is_cpu}
    mine = [
        r
        for r in results
        if r.record.evidence == "measured"
        and r.record.on == "cpu"
        and r.record.workload == GOAL_WORKLOAD
        and installed.keys() >= set(r.record.covers)
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
            verdict=r.record.verdict,
            reason=r.record.reason,
            window_s=r.record.window_s,
            label=None if r.record.window_s is None else window_label(r.record.window_s),
            recorded_at_s=r.recorded_at_s,
        )
        for r in _newest_whole(mine)
    )


def _newest_whole(results: Sequence[StoredResult]) -> list[StoredResult]:
    """The newest of every device and precision; one that was interrupted where there is no other."""
    whole = latest_by_device([r for r in results if r.record.verdict is not Verdict.INTERRUPTED])
    told = {(uuid, r.record.precision) for r in whole for uuid in r.record.covers}
    broken = latest_by_device([r for r in results if r.record.verdict is Verdict.INTERRUPTED])
    return [*whole, *(r for r in broken if not told & {(uuid, r.record.precision) for uuid in r.record.covers})]


# ---- the parts of one goal ---------------------------------------------------------------------------------------


def _measured(result: StoredResult) -> Measured:
    rate = result.record.rate()
    assert isinstance(rate, Measured), result
    assert rate.counts_towards_goal, result
    return rate


def _extrapolated(
    owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], models: Sequence[ModelRow]
) -> Sum[Extrapolated]:
    """Cards that were not run, at the median rate of verified cards of their model in the same window. A card that was
    run and failed is not among them: its rate is known, and it is zero."""
    medians = {(m.model, m.vendor): m.p50_gflops for m in models}
    rates = []
    for uuid, card in owned.items():
        median = medians[(card.device.model, card.device.vendor)]
        if uuid not in ran and median is not None:
            rates.append(Extrapolated(median * FLOPS_PER_GFLOPS))
    why = None
    if not rates:
        why = WhyNone.NO_CARDS if not owned else WhyNone.NO_WINDOW if not ran else WhyNone.NO_EQUAL_CARD
        why = WhyNone.ALL_RUN if owned and len(ran) == len(owned) else why
    return Sum(total(Extrapolated(0.0), rates), len(rates), why)


def _nominal(nominal: Nominal, owned: Mapping[str, OwnedCard]) -> Sum[Nominal]:
    rated = sum(card.peak is not None for card in owned.values())
    why = None if rated else WhyNone.NO_RATED_CARDS if owned else WhyNone.NO_CARDS
    return Sum(nominal, rated, why)


def _simulated(
    here: Sequence[Node], results: Sequence[StoredResult], precisions: Sequence[str]
) -> tuple[Sum[Simulated], int]:
    installed = {d.uuid for n in here if n.simulated for d in n.devices}
    mine = [
        r
        for r in results
        if r.record.evidence == "simulated"
        and r.record.workload == GOAL_WORKLOAD
        and r.record.precision in precisions
        and r.record.device in installed
    ]
    # One figure a device: the newest, whichever 16-bit format it is in.
    newest = {r.record.device: r.record.rate() for r in sorted(mine, key=lambda r: r.recorded_at_s)}
    rates = [rate for rate in newest.values() if isinstance(rate, Simulated)]
    why = None if rates else WhyNone.NO_WINDOW if installed else WhyNone.NO_CARDS
    return Sum(total(Simulated(0.0), rates), len(rates), why), len(installed)


def _of_energy(value: float | None, owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult]) -> Ratio:
    if value is not None:
        return Ratio(value)
    why = WhyNone.NO_CARDS if not owned else WhyNone.NO_WINDOW if not ran else WhyNone.ENERGY_NOT_READ
    return Ratio(None, why)


def _why_unmeasured(
    owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> WhyNone | None:
    if not owned:
        return WhyNone.NO_CARDS
    if not ran:
        return WhyNone.NO_WINDOW
    return None if verified else WhyNone.NOTHING_VERIFIED


def _nominal_of(uuids: Sequence[str], owned: Mapping[str, OwnedCard]) -> Nominal:
    peaks = (owned[uuid].peak for uuid in uuids)
    return total(Nominal(0.0), (peak for peak in peaks if peak is not None))


def _availability(
    owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> Ratio:
    whole = _nominal_of(list(owned), owned)
    if not owned or not ran:
        return Ratio(None, _why_unmeasured(owned, ran, verified))
    if not whole.flops:
        return Ratio(None, WhyNone.NO_RATED_CARDS)
    return Ratio(_nominal_of(list(verified), owned).flops / whole.flops)


def _efficiency(
    owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]
) -> Ratio:
    if (why := _why_unmeasured(owned, ran, verified)) is not None:
        return Ratio(None, why)
    rated = [uuid for uuid in verified if owned[uuid].peak is not None]
    if not rated:
        return Ratio(None, WhyNone.NO_RATED_CARD_VERIFIED)
    achieved = total(Measured(0.0, MeasuredOn.ACCELERATOR), (verified[uuid] for uuid in rated))
    return Ratio(achieved.flops / _nominal_of(rated, owned).flops)


def _lock(owned: Mapping[str, OwnedCard], ran: Mapping[str, StoredResult], verified: Mapping[str, Measured]) -> Ratio:
    if (why := _why_unmeasured(owned, ran, verified)) is not None:
        return Ratio(None, why)
    return Ratio(len(verified) * min(rate.pflops for rate in verified.values()))
