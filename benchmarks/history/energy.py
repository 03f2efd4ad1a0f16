"""Where does a series of nights break in two? The energy statistic of E-divisive, for many series at once.

Source: D. S. Matteson and N. A. James, "A nonparametric approach for multiple change point analysis of multivariate
data", Journal of the American Statistical Association 109 (505), 2014, 334-345 (arXiv:1306.4933), sections 2.1 and 3.1.
For X = z_1..z_tau (a of them) and Y = z_(tau+1)..z_kappa (b of them) and 0 < alpha < 2:

    E(X, Y) = 2/(ab) sum |x - y|^alpha - 2/(a(a-1)) sum_(i<k) |x_i - x_k|^alpha - 2/(b(b-1)) sum_(j<k) |y_j - y_k|^alpha
    Q(X, Y) = ab/(a+b) E(X, Y)

and the estimate is the (tau, kappa) of the largest Q. kappa may end before the series does, so that a level that comes
and goes is not hidden by what follows it.

All sums are read off one table of prefix sums of the distances, S[i, j] = sum of d[:i, :j]: for every (tau, kappa) Q is
c1 S[tau, kappa] + c2 S[tau, tau] + c3 S[kappa, kappa] with coefficients that depend on the sizes alone. So a series of
n nights costs O(n^2), and series of one length are done together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

# Nights on either side of a change, at least. Fewer than two have no distances of their own; three are the least of
# which the middle one can outvote a bad night.
MIN_NIGHTS = 3
# Prefix sums of so many bytes are worked on at once: they stay in a core's cache.
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The best split of each series: `q` is the statistic, `tau` the first night of the new level, `kappa` the end of
    the stretch that it was compared with (exclusive). q is -inf where a series is too short to be split."""

    q: Floats
    tau: Whole
    kappa: Whole


def best_splits(series: Floats, *, alpha: float = 1.0, min_nights: int = MIN_NIGHTS) -> Splits:
    """`series`: m rows of n nights, finite. Raises ValueError for alpha outside (0, 2) or min_nights under 2."""
    if not 0.0 < alpha < 2.0:
        raise ValueError(f"alpha lies between 0 and 2, not {alpha}")
    if min_nights < 2:
        raise ValueError(f"a segment has at least two nights, not {min_nights}")
    m, n = series.shape
    q = np.full(m, -math.inf)
    tau, kappa = np.zeros(m, np.intp), np.zeros(m, np.intp)
    if n < 2 * min_nights or not m:
        return Splits(q, tau, kappa)
    weights = _weights(n, min_nights)
    step = max(8, _CHUNK_BYTES // (8 * n * n))
    for first in range(0, m, step):
        part = slice(first, first + step)
        q[part], tau[part], kappa[part] = _of_chunk(series[part], weights, alpha, min_nights)
    return Splits(q, tau, kappa)


def _of_chunk(series: Floats, weights: tuple[_Weights, ...], alpha: float, least: int) -> tuple[Floats, Whole, Whole]:
    """Some series, laid out (night, night, series): every step is an addition over many series side by side."""
    nights = np.ascontiguousarray(series.T)
    n, m = nights.shape
    sums = np.abs(nights[:, None, :] - nights[None, :, :])
    if alpha != 1.0:
        np.power(sums, alpha, out=sums)
    for i in range(1, n):
        sums[i] += sums[i - 1]
    for j in range(1, n):
        sums[:, j] += sums[:, j - 1]
    # sums[i, j] is S[i + 1, j + 1].
    diagonal = np.ascontiguousarray(sums[np.arange(n), np.arange(n)])
    best, best_tau = np.full(m, -math.inf), np.zeros(m, np.intp)
    rows = np.empty((n, m))
    other = np.empty((n, m))
    for place, weight in enumerate(weights):
        tau = least + place
        found = _at(tau, sums, diagonal, weight, least, rows, other).max(axis=0)
        better = found > best
        best_tau[better] = tau
        np.maximum(best, found, out=best)
    best_kappa = np.zeros(m, np.intp)
    for tau in np.unique(best_tau):
        mine = np.flatnonzero(best_tau == tau)
        found = _at(
            tau, sums[tau - 1 : tau, :, mine], diagonal[:, mine], weights[tau - least], least, rows, other, single=True
        )
        best_kappa[mine] = found.argmax(axis=0) + tau + least
    return best, best_tau, best_kappa


def _at(
    tau: int,
    sums: Floats,
    diagonal: Floats,
    weight: _Weights,
    least: int,
    rows: Floats,
    other: Floats,
    *,
    single: bool = False,
) -> Floats:
    """Q at one tau for every kappa (rows) and series (columns). `rows` and `other` are room to work in."""
    m = diagonal.shape[1]
    ends = slice(tau + least - 1, None)
    cross = sums[0 if single else tau - 1, ends]
    found, more = rows[: len(cross), :m], other[: len(cross), :m]
    np.multiply(cross, weight.cross, out=found)
    np.multiply(diagonal[ends], weight.whole, out=more)
    found += more
    np.multiply(diagonal[tau - 1], weight.before, out=more)
    found += more
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """Coefficients of S[tau, kappa], S[tau, tau] and S[kappa, kappa] at one tau, a column over kappa."""

    cross: Floats
    before: Floats
    whole: Floats


@lru_cache(maxsize=512)
def _weights(n: int, least: int) -> tuple[_Weights, ...]:
    """Of tau = least .. n - least, each for kappa = tau + least .. n."""
    answer = []
    for tau in range(least, n - least + 1):
        a, b = float(tau), np.arange(least, n - tau + 1, dtype=np.float64)[:, None]
        share = a * b / (a + b)
        between, in_x, in_y = 2.0 / (a * b), 1.0 / (a * (a - 1.0)), 1.0 / (b * (b - 1.0))
        answer.append(
            _Weights(
                cross=share * (between + 2.0 * in_y),
                before=-share * (between + in_x + in_y),
                whole=-share * in_y,
            )
        )
    return tuple(answer)


def normal_scores(series: Floats) -> Floats:
    """Each row's van der Waerden scores: the normal quantile of its mid-rank over n + 1; equal values share the mean of
    their ranks."""
    n = series.shape[1]
    return _quantiles(n)[np.rint(2.0 * _mid_ranks(series)).astype(np.intp)]


@lru_cache(maxsize=512)
def _quantiles(n: int) -> Floats:
    """Of rank r/2 over n + 1, at place r: mid-ranks are whole or half. Places 0 and 1 stand for no rank."""
    normal = NormalDist()
    return np.array([0.0, 0.0, *(normal.inv_cdf(place / 2.0 / (n + 1.0)) for place in range(2, 2 * n + 1))])


def _mid_ranks(series: Floats) -> Floats:
    """1 to n in each row."""
    m, n = series.shape
    order = np.argsort(series, axis=1, kind="stable")
    in_order = np.take_along_axis(series, order, axis=1)
    place = np.broadcast_to(np.arange(1.0, n + 1.0), (m, n)).copy()
    tied = np.zeros((m, n), bool)
    np.equal(in_order[:, 1:], in_order[:, :-1], out=tied[:, 1:])
    for row in np.flatnonzero(tied.any(axis=1)):
        starts = np.flatnonzero(~tied[row])
        for begin, end in zip(starts, [*starts[1:], n], strict=True):
            place[row, begin:end] = (begin + 1 + end) / 2.0
    answer = np.empty((m, n))
    np.put_along_axis(answer, order, place, axis=1)
    return answer
