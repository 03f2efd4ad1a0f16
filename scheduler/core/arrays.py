"""Kinds of NumPy columns, and the few operations on them that NumPy lacks or does not do without side effects."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Milli = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

ABSENT = -1  # in a device matrix: the node has no such device


def distinct(values: Ints) -> tuple[Ints, Ints]:
    """The different values in order, and how often each comes. (NumPy's own loads a module at its first call, and the
    planner reads no file.)"""
    ordered = values.copy()
    ordered.sort()
    is_first = np.empty(len(ordered), np.bool_)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    first = is_first.nonzero()[0]
    counts = np.empty(len(first), np.int64)
    np.subtract(first[1:], first[:-1], out=counts[:-1])
    counts[-1:] = len(ordered) - first[-1:]
    return ordered.take(first), counts


def widened(matrix: Milli, width: int) -> Milli:
    """The matrix with columns of ABSENT added on the right up to `width`."""
    missing = width - matrix.shape[1]
    if missing <= 0:
        return matrix
    return np.pad(matrix, ((0, 0), (0, missing)), constant_values=ABSENT)


@cache
def _ones(width: int) -> npt.NDArray[np.float32]:
    return np.ones(width, np.float32)


def count_true(which: Bools) -> Ints:
    """How many are True in each row: int64[rows]."""
    if which.shape[1] == 8 and which.flags.c_contiguous:  # as most nodes have devices: a row is one number
        bits: Ints = np.bitwise_count(which.view(np.uint64)[:, 0]).astype(np.int64)
        return bits
    # A product with ones: over such short rows it takes a tenth of the time of a sum.
    counts: Ints = (which.astype(np.float32) @ _ones(which.shape[1])).astype(np.int64)
    return counts


def any_true(which: Bools) -> Bools:
    """Whether any is True in each row: bool[rows]."""
    if which.shape[1] == 8 and which.flags.c_contiguous:  # as most nodes have devices: a row is one number
        found: Bools = which.view(np.uint64)[:, 0] != 0
        return found
    return count_true(which) > 0


def sum_rows(values: Milli) -> Ints:
    """The sum of each row, which must be below 2**24: int64[rows]."""
    sums: Ints = (values.astype(np.float32) @ _ones(values.shape[1])).astype(np.int64)
    return sums
