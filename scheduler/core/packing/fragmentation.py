"""How much of what is idle the typical work could not use: per node, and for the cluster as one live figure.

Source of F: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent", USENIX ATC 2023. A shape strands all idle milli of a node where it asks for no device, accepts no model of it,
or finds too few CPUs or devices; otherwise it strands what is left on devices with less than the shape asks of one. F
is the mean over the typical shapes.

How it is computed: whether a shape fits a node depends only on the node's models, on how many of the shapes' CPU
levels are free, and on its largest remainder and count of wholly free devices. For each such combination and each level
of a device's remainder the part of the work to which that remainder is lost is tabled once; F is then one look-up a
device. The parts are integers, in 2**-32, so that equal states have equal values whatever the order of the devices,
and a decision is the same on every machine.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Ints, Milli
from scheduler.core.packing.rows import NodeKinds
from scheduler.core.packing.shapes import TypicalShapes

ONE = 1 << 32  # the weight 1


class Fragmentation:
    """F over typical shapes, for nodes of these kinds with at most `max_devices` devices."""

    __slots__ = ("_class_of_kind", "_cpu_levels", "_level_of", "_parts", "_room_of", "_rooms", "_shares")

    def __init__(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> None:
        typical = shapes.shapes
        cpus = np.array([each.shape.cpus_milli for each in typical], np.int64)
        gpu_milli = np.array([each.shape.gpu_milli for each in typical], np.int64)
        devices = np.array([each.shape.devices for each in typical], np.int64)
        weights = np.array([round(each.weight * ONE) for each in typical], np.int64)
        accepts = [tuple(each.shape.accepts(models) for each in typical) for models in kinds.models]
        classes = {accepted: number for number, accepted in enumerate(dict.fromkeys(accepts))}
        self._class_of_kind: Ints = np.array([classes[accepted] for accepted in accepts], np.int64)

        self._cpu_levels: Ints = np.array(sorted(set(cpus.tolist())), np.int64)
        levels = np.array(sorted({milli for milli in gpu_milli.tolist() if milli}), np.int64)
        self._level_of: Ints = np.searchsorted(levels, np.arange(WHOLE_DEVICE_MILLI + 1), side="right").astype(np.int64)
        # Rooms: first the levels of the largest remainder of a node without a free device, then counts of free ones.
        self._shares = int((levels < WHOLE_DEVICE_MILLI).sum())
        self._rooms = self._shares + max_devices + 1
        self._room_of: Ints = np.minimum(self._level_of, self._shares)

        rooms = np.arange(self._rooms)
        from_nothing = np.append(0, levels)
        largest = np.where(rooms <= self._shares, from_nothing[np.minimum(rooms, len(levels))], WHOLE_DEVICE_MILLI)
        whole = np.maximum(rooms - self._shares, 0)
        fits = (devices > 0) & (largest[:, None] >= gpu_milli)
        fits &= (gpu_milli < WHOLE_DEVICE_MILLI) | (whole[:, None] >= devices)  # [rooms, shapes]
        enough = np.append(np.iinfo(np.int64).min, self._cpu_levels)[:, None] >= cpus  # [CPU ranks, shapes]
        accepted = np.array(list(classes), np.bool_).reshape(len(classes), len(typical))
        served = accepted[:, None, None, :] & enough[:, None, :] & fits
        short = from_nothing[:, None] < gpu_milli  # [levels of a remainder, shapes]
        lost = ~served[:, :, :, None, :] | short
        self._parts: Ints = (lost @ weights).reshape(-1, len(levels) + 1)

    def stranded(self, kind: Ints, milli: Milli, cpus_milli: Ints) -> Ints:
        """F in 2**-32 milli: int64[...] for kind[...], milli[..., devices] (not below 0, 0 where absent) and CPUs."""
        levels = self._level_of.take(milli)
        room = self._room_of.take(milli.max(axis=-1, initial=0))
        room += (milli == WHOLE_DEVICE_MILLI).sum(axis=-1)
        cpu_rank = self._cpu_levels.searchsorted(cpus_milli, side="right")
        situation = self._class_of_kind.take(kind) * (len(self._cpu_levels) + 1) + cpu_rank
        situation = (situation * self._rooms + room) * self._parts.shape[1]
        levels += situation[..., None]
        parts = self._parts.take(levels)
        parts *= milli
        stranded: Ints = parts.sum(axis=-1)
        return stranded
