"""What nodes would look like after a worker was placed on them, for each device that it could be given.

A node may offer several outcomes: a share can go to any device with enough left. Devices with equally much left give
equal outcomes and are tried once. Units: devices and CPUs in thousandths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Ints, Milli
from scheduler.core.packing.rows import Ask, NodeRows

_Number = TypeVar("_Number", np.int64, np.float64)
_TIGHTNESS_BITS = 10  # WHOLE_DEVICE_MILLI < 1 << 10


@dataclass(frozen=True, slots=True)
class Outcomes:
    """States of nodes: first, for each of the rows in turn, how it is, then how each may become.

    `kind`, int64[states], is the kind of the node; `milli`, int32[states, max_devices], `cpus_milli` and
    `memory_bytes`, int64[states], what is left there. `row`, int64[outcomes], says for each of the later states which
    of the rows it is an outcome of; it rises and names each row at least once. `device_milli`, int32[outcomes], is what
    the device has before that the share is cut from (0 where no share is asked for).
    """

    kind: Ints
    milli: Milli
    cpus_milli: Ints
    memory_bytes: Ints
    row: Ints
    device_milli: Milli

    def gain(self, values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """Of each outcome, how much more its state is worth than the one before it: `values` are of all states."""
        rows = len(values) - len(self.row)
        gained: npt.NDArray[_Number] = values[rows:] - values.take(self.row)
        return gained

    def best(self, scores: Ints) -> tuple[Ints, Milli]:
        """For each row the highest of its outcomes' scores and the `device_milli` that gives it, the tightest of
        equals. Scores must be below 2**50 in size."""
        if len(self.row) + len(self.row) == len(self.kind):
            return scores, self.device_milli
        starts = np.append(True, self.row[1:] != self.row[:-1]).nonzero()[0]
        ranked = (scores << _TIGHTNESS_BITS) + (WHOLE_DEVICE_MILLI - self.device_milli)
        ranked = np.maximum.reduceat(ranked, starts)
        tightness = ranked & ((1 << _TIGHTNESS_BITS) - 1)
        return ranked >> _TIGHTNESS_BITS, (WHOLE_DEVICE_MILLI - tightness).astype(np.int32)


def outcomes(rows: NodeRows, ask: Ask) -> Outcomes:
    """All outcomes of placing one worker of the ask on each of these rows, which have room for it."""
    count, width = rows.milli.shape
    each = np.arange(count)
    if not ask.share_milli:
        state = np.concatenate((each, each))
        row, device_milli = each, np.zeros(count, np.int32)
        milli = rows.milli.take(state, axis=0)
        if ask.devices and rows.usable_milli is rows.milli:
            milli[count:, width - ask.devices :] = 0
        elif ask.devices:
            idle = rows.usable_milli == WHOLE_DEVICE_MILLI
            milli[count:][idle & (np.cumsum(idle, axis=1) <= ask.devices)] = 0
    else:
        options = rows.usable_milli >= ask.share_milli
        if rows.usable_milli is rows.milli:
            options[:, 1:] &= rows.milli[:, 1:] != rows.milli[:, :-1]
        row, device = options.nonzero()
        state = np.concatenate((each, row))
        milli = rows.milli.take(state, axis=0)
        place = np.arange(count * width, milli.size, width) + device
        device_milli = milli.take(place)
        milli.reshape(-1)[place] = device_milli - ask.share_milli
    cpus_milli = rows.cpus_milli.take(state)
    cpus_milli[count:] -= ask.cpus_milli
    memory_bytes = rows.memory_bytes.take(state)
    memory_bytes[count:] -= ask.memory_bytes
    return Outcomes(rows.kind.take(state), milli, cpus_milli, memory_bytes, row, device_milli)
