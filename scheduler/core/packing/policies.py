"""The packing policies, side by side: how good each would find it to place a worker on each of some nodes.

A policy is made ready once for the typical work and the kinds of nodes (`PackingPolicy.prepare`), and then rates rows
that have room for an ask (`Rater.rate`): an integer score each, higher wins, and, where the ask is for a share, how
much the device to cut it from has left. Scores are integers below 2**40 in size, so that ties are exact; the caller
breaks them by its fixed node order. A rating depends on the content of the rows only, and not on which others are
rated, so it may be kept until the row changes; a policy that is not `stable` is asked anew each time.

Units: devices and CPUs in thousandths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Ints, Milli
from scheduler.core.packing.few_states import FewStates
from scheduler.core.packing.fragmentation import ONE, Fragmentation
from scheduler.core.packing.outcomes import outcomes
from scheduler.core.packing.protection import SUBSTEPS, Protection
from scheduler.core.packing.rows import Ask, NodeKinds, NodeRows
from scheduler.core.packing.shapes import TypicalShapes
from scheduler.core.packing.worth import Worth

_NODE_CPUS_MILLI, _NODE_GPU_MILLI = 128_000, 8_000  # the published scores' unit of a node
NO_ROOM = -(1 << 41)  # below every score
_STEP = 0.04  # devices' worth that make a difference to the default policy
_TYPICAL = 0.95  # the part of the work that FGD looks at


@dataclass(frozen=True, slots=True)
class Rating:
    """Of each row, in order. `device_milli` is 0 where the ask is for no share.

    A policy with a protection, asked for a share, rates apart what would open an idle device: `opening` are those
    scores, and `scores` and `device_milli` are of the other devices; NO_ROOM where there is none.
    """

    scores: Ints
    device_milli: Milli
    opening: Ints | None = None


class Rater(Protocol):
    """`protection`: what is to be taken off its scores as the cluster's prices are; None where it has none. `few`:
    rates a few nodes sooner, to the same numbers; None where nothing does."""

    @property
    def stable(self) -> bool: ...
    @property
    def protection(self) -> Protection | None: ...
    @property
    def few(self) -> FewStates | None: ...

    def rate(self, rows: NodeRows, ask: Ask) -> Rating: ...


class PackingPolicy(Protocol):
    @property
    def name(self) -> str: ...

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater: ...


# ---- without knowledge of the typical work -----------------------------------------------------------------------


def _tightest(rows: NodeRows, ask: Ask) -> Milli:
    """What the fullest device that still takes the share has left; 0 where no share is asked for."""
    if not ask.share_milli:
        return np.zeros(len(rows), np.int32)
    usable = rows.usable_milli
    tightest: Milli = np.where(usable >= ask.share_milli, usable, WHOLE_DEVICE_MILLI).min(axis=1)
    return tightest


def _idle_milli(rows: NodeRows) -> Ints:
    idle: Ints = rows.milli.sum(axis=1, dtype=np.int64)
    return idle


@dataclass(frozen=True, slots=True)
class Random:
    """Any node with room, each as likely as the others, and any of its devices with enough left.

    Chance is a hash of everything that is free and of the ask: equal clusters are dealt equal cards, so a decision can
    be replayed, and every placement changes the next.
    """

    name: str = "random"
    stable: bool = False
    protection: None = None
    few: None = None

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        return self

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        count, width = rows.milli.shape
        places = np.arange(count * (width + 1)).astype(np.uint64).reshape(count, width + 1)
        left = np.append(rows.milli, rows.cpus_milli[:, None], axis=1).astype(np.uint64)
        salt = np.bitwise_xor.reduce(_mixed(_mixed(places) + left), axis=None)
        salt += np.uint64(ask.cpus_milli * (2 * WHOLE_DEVICE_MILLI) + ask.milli)
        dealt = (_mixed(_mixed(places) + salt) >> np.uint64(24)).astype(np.int64)
        scores = dealt[:, width]
        if not ask.share_milli:
            return Rating(scores, np.zeros(count, np.int32))
        chosen = np.where(rows.usable_milli >= ask.share_milli, dealt[:, :width], -1).argmax(axis=1)
        return Rating(scores, rows.usable_milli[np.arange(count), chosen])


def _mixed(values: np.typing.NDArray[np.uint64]) -> np.typing.NDArray[np.uint64]:
    """Each value's bits stirred (the finaliser of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)  # wraps, as it is meant to
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class BestFit:
    """The node with least left, CPUs and devices weighed alike; of its devices the tightest.

    Source: the form in which Weng et al. (ATC 2023) compare it with FGD.
    """

    name: str = "best-fit"
    stable: bool = True
    protection: None = None
    few: None = None

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        return self

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        cpus = (rows.cpus_milli - ask.cpus_milli) / (2 * _NODE_CPUS_MILLI)
        devices = (_idle_milli(rows) - ask.milli) / (2 * _NODE_GPU_MILLI)
        return Rating((100 * (1 - cpus - devices)).astype(np.int64), _tightest(rows, ask))


@dataclass(frozen=True, slots=True)
class DotProduct:
    """The node whose free resources are least aligned with the ask; of its devices the tightest.

    Source: after Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM 2014, in the inverted form in
    which Weng et al. (ATC 2023) compare it with FGD.
    """

    name: str = "dot-product"
    stable: bool = True
    protection: None = None
    few: None = None

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        return self

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        cpus = rows.cpus_milli * (ask.cpus_milli / _NODE_CPUS_MILLI**2)
        devices = _idle_milli(rows) * (ask.milli / _NODE_GPU_MILLI**2)
        return Rating((100 * (1 - (cpus + devices) / 2)).astype(np.int64), _tightest(rows, ask))


@dataclass(frozen=True, slots=True)
class GpuPacking:
    """Devices in use before idle devices, and idle devices of nodes in use before idle nodes; of devices in use the
    tightest, by tenths.

    Source: the baseline of that name in Weng et al. (ATC 2023); three bands of scores: at most 100, 50 and 33.
    """

    name: str = "gpu-packing"
    stable: bool = True
    protection: None = None
    few: None = None

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        return self

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        tightest = _tightest(rows, ask)
        if not ask.milli:
            return Rating(np.zeros(len(tightest), np.int64), tightest)
        whole = (rows.milli == WHOLE_DEVICE_MILLI).sum(axis=1)
        idle_node = np.maximum(100 // 3 - whole, whole)
        opened = max(1, ask.devices)
        idle_devices = max(100 // 2 - opened, 100 // 3)
        used_device = 100 - tightest // 100
        scores = np.where(tightest % WHOLE_DEVICE_MILLI > 0, used_device, idle_devices)
        return Rating(np.where(whole == rows.device_count, idle_node, scores), tightest)


# ---- with the typical work in mind -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fgd:
    """Fragmentation gradient descent: the placement after which typical work could use most of what is idle.

    Score 100 sigmoid((F_before - F_after) / 1000 milli), truncated: the coarse steps matter, since they leave many ties
    to the fixed node order. Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
    Fragmentation Gradient Descent", USENIX ATC 2023.
    """

    name: str = "fgd"

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        return _FgdRater(Fragmentation(shapes.without_memory().covering(_TYPICAL), kinds, max_devices))


@dataclass(frozen=True, slots=True)
class _FgdRater:
    fragmentation: Fragmentation
    stable: bool = True
    protection: None = None
    few: None = None

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        states = outcomes(rows, ask)
        stranded = self.fragmentation.stranded(states.kind, states.milli, states.cpus_milli)
        more = states.gain(stranded) / (ONE * WHOLE_DEVICE_MILLI)
        return Rating(*states.best((100 / (1 + np.exp(more))).astype(np.int64)))


@dataclass(frozen=True, slots=True)
class Default:
    """The placement that costs the cluster least of its worth to the typical work (`worth.py`), and least of what only
    some nodes can give (`protection.py`), each in steps of 0.04 of a device; of equals one that opens no idle device.

    Where no typical work is known it is the best fit.
    """

    name: str = "default"

    def prepare(self, shapes: TypicalShapes, kinds: NodeKinds, max_devices: int) -> Rater:
        if not any(each.shape.devices for each in shapes.shapes):
            return BestFit()
        worth = Worth(shapes, kinds)
        protection = Protection(shapes, kinds, worth, max_devices, _STEP)
        matters = protection.matters
        few = FewStates(worth, step=_STEP, substeps=SUBSTEPS, no_room=NO_ROOM, apart=matters)
        return _DefaultRater(worth, protection if matters else None, few)


@dataclass(frozen=True, slots=True)
class _DefaultRater:
    worth: Worth
    protection: Protection | None
    few: FewStates
    stable: bool = True

    def rate(self, rows: NodeRows, ask: Ask) -> Rating:
        states = outcomes(rows, ask)
        worth = self.worth.of(states.kind, states.milli, states.cpus_milli, states.memory_bytes)
        scores = np.floor(states.gain(worth) / _STEP + 0.5).astype(np.int64)
        scores *= SUBSTEPS
        if not ask.share_milli:
            return Rating(*states.best(scores))
        opens = states.device_milli == WHOLE_DEVICE_MILLI
        scores -= opens  # the odd half step
        if self.protection is None:
            return Rating(*states.best(scores))
        opening = np.full(len(rows), NO_ROOM)
        opening[states.row[opens]] = scores[opens]
        scores[opens] = NO_ROOM
        return Rating(*states.best(scores), opening)


PACKINGS: Mapping[str, PackingPolicy] = {
    policy.name: policy for policy in (Default(), Fgd(), BestFit(), DotProduct(), GpuPacking(), Random())
}


def packing_named(name: str) -> PackingPolicy:
    """Raises ValueError, listing the known names, for any other."""
    policy = PACKINGS.get(name)
    if policy is None:
        raise ValueError(f"packing policy {name!r} is unknown; there are: {', '.join(PACKINGS)}")
    return policy
