"""How much does a site do when only some of its cards can be run? A stratified sample, and the total with its interval.

What is sampled is a unit: a card, or a node whose cards run together. Strata are site, model and rack; where fewer
units are asked for than there are strata, racks are joined, then models of a site are what is left. Every stratum that
can be afforded gets a unit, a second one before others get a third, and the rest goes in proportion to its cards, or,
where the spread of earlier nights is known, to cards x spread (J. Neyman, "On the two different aspects of the
representative method", J. R. Stat. Soc. 97, 1934). Which units of a stratum: a seeded draw without replacement.

The total (W. G. Cochran, "Sampling Techniques", 3rd ed., 1977, ch. 5): with N_h cards in stratum h, and a mean rate per
card y_h over its n_h sampled units of M_h, T = sum N_h y_h and Var T = sum N_h^2 (1 - n_h/M_h) s_h^2 / n_h, where 1 -
n_h/M_h is the finite-population correction; a stratum that was run entirely adds no variance. A stratum with one
sampled unit of several has no spread of its own: that of all sampled units of its model at its site stands in for it
(collapsed strata; it holds the differences between strata, too, so it errs on the wide side), else that of its model,
else relative to the mean of all. Degrees of freedom by Satterthwaite's rule over the sources of spread; the interval is
t-based.

Extrapolated, whatever its interval: it says what the site would have done if the rest is like the sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmarks.evidence import FLOPS_PER_GFLOPS, FLOPS_PER_PFLOPS
from benchmarks.history.findings import Estimate

CONFIDENCE = 0.95
GFLOPS_IN_PFLOPS = FLOPS_PER_GFLOPS / FLOPS_PER_PFLOPS


class CannotEstimate(ValueError):
    """The sample does not carry an interval. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A card, or a node of `cards` cards that run together."""

    name: str
    site: str
    model: str
    rack: str = ""
    cards: int = 1


Stratum = tuple[str, str, str]


def strata_of(units: Sequence[Unit], at_most: int) -> dict[Stratum, tuple[Unit, ...]]:
    """By site, model and rack, joined until there are no more than `at_most` (or no more to join)."""
    for with_rack in (True, False):
        found: dict[Stratum, list[Unit]] = {}
        for unit in units:
            found.setdefault((unit.site, unit.model, unit.rack if with_rack else ""), []).append(unit)
        if len(found) <= at_most:
            break
    return {stratum: tuple(found[stratum]) for stratum in sorted(found)}


def choose(
    units: Sequence[Unit], wanted: int, *, seed: int, spread: Mapping[Stratum, float] | None = None
) -> tuple[Unit, ...]:
    """About `wanted` units, all where there are no more. `spread`: the standard deviation per card of earlier nights,
    by stratum (a rack's or a model's); a stratum without one counts with the mean of the others.

    Raises CannotEstimate where fewer are wanted than there are models at sites: some would not be seen at all.
    """
    if wanted >= len(units):
        return tuple(units)
    strata = strata_of(units, wanted)
    if len(strata) > wanted:
        raise CannotEstimate(
            f"{wanted} of {len(units)} were asked for, and there are {len(strata)} models at sites; ask for "
            f"{len(strata)} or more, so that each is seen"
        )
    sizes = _allocated({h: len(mine) for h, mine in strata.items()}, _weights(strata, spread), wanted)
    rng = np.random.default_rng(seed)
    chosen: list[Unit] = []
    for stratum, mine in strata.items():
        drawn = rng.choice(len(mine), size=sizes[stratum], replace=False)
        chosen += [mine[i] for i in sorted(drawn.tolist())]
    return tuple(chosen)


def _weights(strata: Mapping[Stratum, Sequence[Unit]], spread: Mapping[Stratum, float] | None) -> dict[Stratum, float]:
    cards = {h: float(sum(unit.cards for unit in mine)) for h, mine in strata.items()}
    known = {h: spread.get(h, spread.get((h[0], h[1], ""))) for h in strata} if spread else {}
    positive = [value for value in known.values() if value is not None and value > 0]
    if not positive:
        return cards
    mean = sum(positive) / len(positive)
    return {h: cards[h] * (value if (value := known.get(h)) is not None and value > 0 else mean) for h in strata}


def _allocated(there: Mapping[Stratum, int], weights: Mapping[Stratum, float], wanted: int) -> dict[Stratum, int]:
    """One each, a second each as far as it goes (the heaviest first), then by weight (largest remainders), never more
    than are there."""
    given = dict.fromkeys(there, 1)
    left = wanted - len(given)
    for stratum in sorted(there, key=lambda h: (-weights[h], h)):
        if left and there[stratum] > 1:
            given[stratum] += 1
            left -= 1
    while left > 0:
        open_ = [h for h in there if given[h] < there[h]]
        whole = sum(weights[h] for h in open_)
        # Whoever is furthest below its share of all gets the next ones; a stratum that is full leaves the rest to
        # others.
        total = sum(given[h] for h in open_) + left
        wants = {h: max(0.0, total * weights[h] / whole - given[h]) for h in open_}
        asked = sum(wants.values())
        step = {h: min(there[h] - given[h], int(left * wants[h] / asked)) for h in open_} if asked > 0 else {}
        if not any(step.values()):
            step = {max(open_, key=lambda h: (wants[h], h)): 1}
        for h, more in step.items():
            given[h] += more
            left -= more
    return given


# ---- the estimate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Spread:
    """A variance per card, over units, with its degrees of freedom. Strata with the same source share it."""

    source: str
    variance: float
    freedom: int


def estimate(units: Sequence[Unit], gflops: Mapping[str, float], *, confidence: float = CONFIDENCE) -> Estimate:
    """`units`: all there are. `gflops`: of each unit that was run, by name, the sum over its cards (0 where it failed).

    Raises CannotEstimate where a model at a site was not sampled at all, or no two units of anything were.
    """
    sampled = [unit for unit in units if unit.name in gflops]
    if not sampled:
        raise CannotEstimate("no card was run; there is nothing to extrapolate from")
    strata = _seen_strata(units, sampled)
    per_card = {unit.name: gflops[unit.name] / unit.cards for unit in sampled}
    total, terms = 0.0, []
    collapsed = 0
    for stratum, mine in strata.items():
        ran = [per_card[unit.name] for unit in mine if unit.name in per_card]
        cards = sum(unit.cards for unit in mine)
        mean = sum(ran) / len(ran)
        total += cards * mean
        if len(ran) == len(mine):
            continue
        collapsed += len(ran) == 1
        spread = _spread(stratum, strata, per_card, mean)
        terms.append((spread, cards**2 * (1.0 - len(ran) / len(mine)) / len(ran)))
    by_source: dict[str, tuple[_Spread, float]] = {}
    for spread, weight in terms:
        by_source[spread.source] = (spread, by_source.get(spread.source, (spread, 0.0))[1] + weight)
    parts = [(weight * spread.variance, spread.freedom) for spread, weight in by_source.values()]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts) if variance > 0 else math.inf
    half = t_quantile(0.5 + confidence / 2.0, freedom) * math.sqrt(variance)
    joined = "" if all(unit.rack in ("", h[2]) for h, mine in strata.items() for unit in mine) else ", racks joined"
    told = f"; spread of {collapsed} strata with one unit taken from its model (collapsed)" if collapsed else ""
    return Estimate(
        pflops=total * GFLOPS_IN_PFLOPS,
        low_pflops=max(0.0, total - half) * GFLOPS_IN_PFLOPS,
        high_pflops=(total + half) * GFLOPS_IN_PFLOPS,
        confidence=confidence,
        sampled=sum(unit.cards for unit in sampled),
        cards=sum(unit.cards for unit in units),
        strata=len(strata),
        method=f"stratified by site, model and rack{joined}; t interval with {freedom:.0f} degrees of freedom and "
        f"finite-population correction{told}; extrapolated",
    )


def _seen_strata(units: Sequence[Unit], sampled: Sequence[Unit]) -> dict[Stratum, tuple[Unit, ...]]:
    """Racks where each rack was seen, else models at sites. Whether racks are joined is one choice for all."""
    for at_most in (len(units), 0):
        strata = strata_of(units, at_most)
        names = {unit.name for unit in sampled}
        unseen = [h for h, mine in strata.items() if not any(unit.name in names for unit in mine)]
        if not unseen:
            return strata
    site, model, _ = unseen[0]
    raise CannotEstimate(f"no {model} at {site} was run; nothing says what its cards do")


def _spread(
    stratum: Stratum, strata: Mapping[Stratum, Sequence[Unit]], per_card: Mapping[str, float], mean: float
) -> _Spread:
    def ran(wanted: Sequence[Stratum]) -> list[float]:
        return [per_card[unit.name] for h in wanted for unit in strata[h] if unit.name in per_card]

    site, model, _ = stratum
    for source, wanted in (
        (str(stratum), [stratum]),
        (f"{site}/{model}", [h for h in strata if h[:2] == (site, model)]),
        (model, [h for h in strata if h[1] == model]),
    ):
        values = ran(wanted)
        if len(values) > 1:
            return _Spread(source, float(np.var(values, ddof=1)), len(values) - 1)
    # A model of which one unit was run: how widely units of other models spread around their models' means.
    ratios: list[float] = []
    freedom = 0
    for other in sorted({h[1] for h in strata}):
        values = ran([h for h in strata if h[1] == other])
        middle = sum(values) / len(values) if values else 0.0
        if len(values) > 1 and middle > 0:
            ratios += [value / middle - 1.0 for value in values]
            freedom += len(values) - 1
    if not freedom:
        raise CannotEstimate("of no model were two units run; a spread cannot be told, nor an interval. Run more")
    return _Spread(f"all/{model}", mean**2 * sum(ratio**2 for ratio in ratios) / freedom, freedom)


def t_quantile(p: float, freedom: float) -> float:
    """Of Student's t. Exact for 1 and 2 degrees of freedom, else by bisection of the distribution function, which is
    integrated (midpoint rule in the angle atan(t / sqrt(freedom))); the normal's from 1,000 on."""
    if freedom >= 1_000:
        return NormalDist().inv_cdf(p)
    freedom = max(1.0, freedom)
    # With t = sqrt(v) tan(x), P(T <= t) = 1/2 + integral of cos(x)^(v-1) from 0 to x, over the whole integral.
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2.0) - math.lgamma((freedom + 1.0) / 2.0))
    low, high = 0.0, math.pi / 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        at = (np.arange(2_000) + 0.5) * middle / 2_000
        share = float(np.sum(np.cos(at) ** (freedom - 1.0))) * middle / 2_000 / whole
        if 0.5 + share < p:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2.0)
