"""Made-up nights of made-up cards, to ask of the analysis what it finds and what it makes up. Everything is simulated.

A card has a level of its own (spread 1.5% among equal cards, as benchmarks.workloads.simulated assumes), every night
its own noise, its model's nights a common one (a warm week, a busy network), and some nights are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.evidence import EvidenceKind
from benchmarks.history.columns import GFLOPS, About
from benchmarks.history.energy import Floats
from benchmarks.history.findings import Series
from benchmarks.history.nights import Nights
from benchmarks.workloads.simulated import SPREAD

DAY_S = 86_400.0
Noise = Literal["normal", "heavy", "drifting"]


@dataclass(frozen=True, slots=True)
class Fleet:
    """`noise_sd`: of one card from night to night, relative. `common_sd`: of all cards of a model together.

    `noise`: normal; heavy, Student's t with 4 degrees of freedom; drifting, each night half like the one before
    (AR(1) with 0.5). All have the same standard deviation.
    """

    cards: int = 10_000
    nights: int = 90
    models: int = 4
    cards_a_rack: int = 32
    noise: Noise = "normal"
    noise_sd: float = 0.005
    common_sd: float = 0.003
    missing: float = 0.05


def made_up(fleet: Fleet, *, seed: int) -> Nights:
    rng = np.random.default_rng(seed)
    model = np.arange(fleet.cards) * fleet.models // fleet.cards
    level = 100_000.0 * (1.0 + model) * (1.0 + SPREAD * rng.standard_normal(fleet.cards))
    common = fleet.common_sd * rng.standard_normal((fleet.models, fleet.nights))
    values: Floats = level[:, None] * (1.0 + common[model] + fleet.noise_sd * _noise(fleet, rng))
    values[rng.random(values.shape) < fleet.missing] = np.nan
    abouts = [
        About("made-up", f"model-{m}", f"rack-{r}", "", "nothing", GFLOPS, "", "", "", "1")
        for m, r in zip(model.tolist(), (np.arange(fleet.cards) // fleet.cards_a_rack).tolist(), strict=True)
    ]
    series = tuple(
        Series(EvidenceKind.SIMULATED, "gemm", "bf16", about.site, about.model, about.rack, f"card-{i}")
        for i, about in enumerate(abouts)
    )
    return Nights(
        EvidenceKind.SIMULATED,
        1.8e9 + DAY_S * np.arange(fleet.nights, dtype=np.float64),
        tuple(f"night-{t}" for t in range(fleet.nights)),
        series,
        tuple(abouts),
        (GFLOPS,) * fleet.cards,
        values,
    )


def first_nights(nights: Nights, count: int) -> Nights:
    """As it was known after so many nights."""
    return Nights(
        nights.evidence,
        nights.at_s[:count],
        nights.runs[:count],
        nights.series,
        nights.about,
        nights.units,
        nights.values[:, :count],
    )


def _noise(fleet: Fleet, rng: np.random.Generator) -> Floats:
    shape = (fleet.cards, fleet.nights)
    if fleet.noise == "heavy":
        heavy: Floats = rng.standard_t(4, shape) / np.sqrt(2.0)
        return heavy
    noise = rng.standard_normal(shape)
    if fleet.noise == "drifting":
        for t in range(1, fleet.nights):
            noise[:, t] = 0.5 * noise[:, t - 1] + np.sqrt(0.75) * noise[:, t]
    return noise
