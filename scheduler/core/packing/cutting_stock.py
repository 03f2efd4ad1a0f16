"""What a part of a device is worth to the typical work: the prices of the best possible packing of it.

The cutting-stock problem asks for the fewest devices from which a given mix of shares can be cut; the dual of its
linear relaxation prices each size in devices, so that no way to cut one device is worth more than 1. What is left of a
device is then worth the best that can be cut from it. Solved by column generation: Gilmore and Gomory, "A linear
programming approach to the cutting-stock problem", Operations Research 9(6), 1961.

Units: sizes in thousandths of a device, counted in hundredths rounded up; prices in devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from scheduler.core.demand import WHOLE_DEVICE_MILLI

Floats = npt.NDArray[np.float64]

_CELL_MILLI = 10
_CELLS = WHOLE_DEVICE_MILLI // _CELL_MILLI
_MOST_SIZES = 40
_BETTER = 1e-9
_MOST_STEPS = 2_000  # far above what is needed: it ends a cycle among degenerate bases


@dataclass(frozen=True, slots=True)
class CutPrices:
    """`of_size`: devices for one share of that size. `worth`, float64[1001]: devices that what is left is worth, by its
    milli; rises from 0 to 1."""

    of_size: Mapping[int, float]
    worth: Floats


def cut_prices(demand: Mapping[int, float]) -> CutPrices:
    """Prices for this many shares of each size (1..1000 milli). Without any, what is left is worth itself.

    Only the 40 sizes that ask for most are cut exactly; a rarer one has the price of what it could be cut from.
    """
    return _cut_prices(tuple(sorted((size, count) for size, count in demand.items() if count > 0)))


@lru_cache(maxsize=16)  # nodes join and leave more often than the typical work changes
def _cut_prices(demand: tuple[tuple[int, float], ...]) -> CutPrices:
    asked: dict[int, float] = {}
    for size, count in demand:
        cell = -(-size // _CELL_MILLI)
        asked[cell] = asked.get(cell, 0.0) + count
    if not asked:
        return CutPrices({}, np.arange(WHOLE_DEVICE_MILLI + 1) / WHOLE_DEVICE_MILLI)
    exact = sorted(sorted(asked, key=lambda cell: (-cell * asked[cell], cell))[:_MOST_SIZES])
    cells = np.array(exact, np.int64)
    wanted = np.array([asked[cell] for cell in exact], np.float64)
    prices = _duals(cells, wanted / wanted.sum())
    best, _ = _knapsack(cells, prices)
    by_cell = np.minimum(best / max(best[-1], _BETTER), 1.0)
    by_cell[-1] = 1.0
    price_of = {cell: float(by_cell[cell]) for cell in asked} | dict(zip(exact, prices.tolist(), strict=True))
    worth = by_cell.repeat(_CELL_MILLI)[: WHOLE_DEVICE_MILLI + 1]
    worth.flags.writeable = False
    return CutPrices({size: price_of[-(-size // _CELL_MILLI)] for size, _ in demand}, worth)


def _duals(cells: npt.NDArray[np.int64], wanted: Floats) -> Floats:
    """The revised simplex method over ways to cut a device, one column each; it starts from ways with one size only."""
    copies = (_CELLS // cells).astype(np.float64)
    basis: Floats = np.diag(copies)
    amounts: Floats = wanted / copies
    prices: Floats = 1.0 / copies
    for _ in range(_MOST_STEPS):
        best, choice = _knapsack(cells, prices)
        if best[-1] <= 1 + _BETTER:
            break
        way = _way(cells, choice)
        entering = np.linalg.solve(basis, way)
        positive = entering > _BETTER
        ratios = np.where(positive, amounts / np.where(positive, entering, 1.0), np.inf)
        leaving = int(ratios.argmin())
        basis[:, leaving] = way
        amounts = _solved(basis, wanted)
        prices = _solved(basis.T, np.ones(len(cells)))
    return prices


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Amounts and prices are never below zero but for rounding."""
    solution: Floats = np.asarray(np.linalg.solve(matrix, right), np.float64)
    solution[solution < 0] = 0.0
    return solution


def _knapsack(cells: npt.NDArray[np.int64], prices: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The most that can be cut from 0..100 cells, and the size (by place) to cut first; -1: leave one cell over."""
    sizes = list(enumerate(zip(cells.tolist(), prices.tolist(), strict=True)))
    best, choice = [0.0], [-1]
    for level in range(1, _CELLS + 1):  # in lists: of few sizes, arrays would cost more than what they hold
        most, first = 0.0, -1
        for place, (size, price) in sizes:
            if size <= level and price + best[level - size] > most:
                most, first = price + best[level - size], place
        if most <= best[-1] + _BETTER / 10:
            most, first = best[-1], -1
        best.append(most)
        choice.append(first)
    return np.array(best), np.array(choice)


def _way(cells: npt.NDArray[np.int64], choice: npt.NDArray[np.int64]) -> Floats:
    way = np.zeros(len(cells))
    level = _CELLS
    while level > 0:
        first = int(choice[level])
        if first < 0:
            level -= 1
        else:
            way[first] += 1
            level -= int(cells[first])
    return way
