"""How much of what is idle could typical work not use? One figure for the cluster, kept ready to be asked often.

F of `fragmentation.py`, over the typical shapes that want devices: work without devices would strand every idle device,
also those of an empty cluster.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.node_columns import Bools, Ints, Milli
from scheduler.core.packing.fragmentation import ONE, Fragmentation
from scheduler.core.packing.rows import Free, NodeKinds
from scheduler.core.packing.shapes import TypicalShapes


class Stranding:
    """F over these shapes for nodes of these kinds. `known`: whether there is typical work to speak of."""

    __slots__ = ("_fragmentation", "_kinds", "known")

    def __init__(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> None:
        wanting = shapes.wanting_devices()
        self.known = bool(wanting.shapes)
        self._kinds = kinds
        self._fragmentation = Fragmentation(wanting, kinds, max_devices) if self.known else None

    def milli(self, free: Free, rows: Bools | None = None) -> float:
        """Expected stranded thousandths of devices, over these nodes (all by default); 0 where no work is known."""
        kind, milli, cpus_milli = self._kinds.kind, free.milli, free.cpus_milli
        if rows is not None:
            kind, milli, cpus_milli = kind[rows], milli[rows], cpus_milli[rows]
        return self._stranded(kind, milli, cpus_milli)

    def milli_on(self, rows: Ints, there: Free) -> float:
        """The same of these rows, if that is what is free there: row i of it is rows[i]."""
        return self._stranded(self._kinds.kind.take(rows), there.milli, there.cpus_milli)

    def _stranded(self, kind: Ints, milli: Milli, cpus_milli: Ints) -> float:
        if self._fragmentation is None:
            return 0.0
        return int(self._fragmentation.stranded(kind, np.maximum(milli, 0), cpus_milli).sum()) / ONE


def stranded_share(shapes: TypicalShapes, kinds: NodeKinds, free: Free) -> float:
    """Of all that is idle on devices, the part that a typical worker which wants a device could not use: 0..1; 0 where
    nothing is idle or nothing typical is known."""
    idle = int(np.maximum(free.milli, 0).sum(dtype=np.int64))
    return min(1.0, Stranding(shapes, kinds, free.milli.shape[1]).milli(free) / idle) if idle else 0.0
