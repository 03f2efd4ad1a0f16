"""How often is so large a statistic seen where nothing changed? The permutation test of E-divisive, done once for all.

The paper tests a split against the splits of the same values in permuted order: R permutations give no p-value under
1/(R + 1), so with its R = 199 nothing could ever pass control of false discoveries over 10,000 series, and R = 10^6 for
each of them would take days. On normal scores (ranks put through the normal quantile) the permuted values are the same
for every series of n nights: one permutation distribution serves them all, exactly and whatever the noise is like, as
long as no two nights are equal (ties make the statistic smaller: conservative).

`null_table.json` holds that distribution for a grid of n: the statistic that is reached with chance p, from
PERMUTATIONS seeded draws each (`python -m benchmarks.history.nulls` draws them again). Between two n the larger n is
interpolated in log n. Beyond the rarest entry the tail falls off as between the last decade's ends: energy statistics
have exponential tails (weighted sums of chi-squares), and those of bounded scores fall faster, so this errs on the side
of larger p. No p is below the chance of the very arrangement that was seen, a! b! c! / n!."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.history.energy import MIN_NIGHTS, Floats, Whole, best_splits, normal_scores

TABLE = Path(__file__).with_name("null_table.json")
SCHEMA = "suanli/energy-null/1"
NIGHTS = (6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 37, 45, 55, 70, 90, 120, 180)
LONGEST = NIGHTS[-1]
PERMUTATIONS = 200_000
SEED = 20_140_301
CHANCES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
# With fewer nights there are too few arrangements for a tail beyond the rarest entry.
_TAIL_FROM_NIGHTS = 14
_SAME = 1e-3


def p_values(q: Floats, tau: Whole, kappa: Whole, nights: int) -> Floats:
    """The permutation p-value of each split of a series of `nights`, 1 where it could not be split (q is -inf).

    Raises ValueError for more nights than the table knows.
    """
    if nights < 2 * MIN_NIGHTS:
        return np.ones(len(q))
    reached = _reached(nights)
    # Few arrangements leave steps: of equal entries the first, which is the largest chance, stands for all.
    distinct = np.concatenate([[True], np.diff(reached) > _SAME])
    steps, logs = reached[distinct], np.log(np.array(CHANCES))[distinct]
    answer = np.interp(q, [min(0.0, steps[0]) - 1.0, *steps], [0.0, *logs])
    if nights >= _TAIL_FROM_NIGHTS:
        decade = CHANCES.index(1e-3)
        slope = math.log(CHANCES[-1] / CHANCES[decade]) / (reached[-1] - reached[decade])
        answer = np.where(q > reached[-1], logs[-1] + slope * (q - reached[-1]), answer)
    fewest = _log_factorial(tau) + _log_factorial(kappa - tau) + _log_factorial(nights - kappa)
    fewest = fewest - math.lgamma(nights + 1.0)
    return np.exp(np.where(np.isfinite(q), np.maximum(answer, fewest), 0.0))


def _log_factorial(of: Whole) -> Floats:
    return np.array([math.lgamma(each + 1.0) for each in range(int(of.max(initial=0)) + 1)])[of]


@lru_cache(maxsize=512)
def _reached(nights: int) -> Floats:
    """The statistic at each of CHANCES, ascending."""
    if nights > LONGEST:
        raise ValueError(f"the table of the energy statistic ends at {LONGEST} nights; {nights} were given")
    table = _table()
    known = np.log(np.array(NIGHTS, dtype=np.float64))
    rows = np.array([table[n] for n in NIGHTS])
    at = math.log(nights)
    return np.maximum.accumulate(np.array([np.interp(at, known, rows[:, i]) for i in range(len(CHANCES))]))


@lru_cache(maxsize=1)
def _table() -> dict[int, tuple[float, ...]]:
    document = json.loads(TABLE.read_text(encoding="utf-8"))
    assert document["schema"] == SCHEMA, document["schema"]
    assert tuple(document["chances"]) == CHANCES, "the table is of other chances; draw it again"
    return {int(n): tuple(row) for n, row in document["reached"].items()}


# ---- drawing it --------------------------------------------------------------------------------------------------


def drawn(nights: int, permutations: int, rng: np.random.Generator) -> Floats:
    """The statistic of so many permuted series of `nights`."""
    scores = normal_scores(np.arange(float(nights))[None, :])[0]
    found = []
    while permutations > 0:
        rows = min(permutations, 10_000)
        found.append(best_splits(rng.permuted(np.broadcast_to(scores, (rows, nights)), axis=1)).q)
        permutations -= rows
    return np.concatenate(found)


def reached_by(q: Floats) -> list[float]:
    """The statistic reached with each of CHANCES: the k-th largest with k = chance x number, rounded down."""
    falling = np.sort(q)[::-1]
    return [round(float(falling[max(0, math.floor(chance * len(q)) - 1)]), 4) for chance in CHANCES]


def main(only: Sequence[int]) -> None:
    """Draw the rows named (all where none is) and keep the others."""
    try:
        reached = dict(json.loads(TABLE.read_text(encoding="utf-8"))["reached"])
    except FileNotFoundError:
        reached = {}
    for nights in only or NIGHTS:
        reached[str(nights)] = reached_by(drawn(nights, PERMUTATIONS, np.random.default_rng([SEED, nights])))
        print(f"{nights} nights: {reached[str(nights)]}", file=sys.stderr)
    document = {
        "schema": SCHEMA,
        "alpha": 1.0,
        "min_nights": MIN_NIGHTS,
        "permutations": PERMUTATIONS,
        "seed": SEED,
        "chances": list(CHANCES),
        "reached": {str(n): reached[str(n)] for n in NIGHTS if str(n) in reached},
    }
    TABLE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
