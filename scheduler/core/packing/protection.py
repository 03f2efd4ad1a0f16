"""What it costs the work still to come when a placement uses up what only some nodes have: room for gangs on one node,
and device models that part of the work insists on.

The rule is Littlewood's ("Forecasting and control of passenger bookings", AGIFORS 1972): a scarce place is worth the
probability that it will be asked for. Demand still to come is taken in proportion to the work that idle devices can
still take. For a gang shape its number is Poisson, and the price of a slot is the probability that it reaches the slots
there are (by the normal approximation); for a set of models its volume is normal, and the price of a device of them is
the probability that it exceeds what they can take.

All is in whole numbers and a function of what is free alone: equal clusters have equal prices. Prices move in
twentieths, so that most placements change none.

Units: CPUs in thousandths, memory in bytes, prices in twentieths of a device.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from copy import copy

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Bools, Ints
from scheduler.core.packing.rows import Ask, NodeKinds
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.packing.worth import ONE, Floats, Worth

_TINY = 1e-9
PRICE_ONE = 20  # a price of 1
SUBSTEPS = 2  # scores count half steps: the odd half is the policy's own, for what matters least
_MOST_GANGS = 60
_KEPT_PRICES = 64  # of one set of nodes
_MANY_SLOTS = 48  # products; above it columns are faster
_FREE = 1 << 40  # slots where a shape asks for nothing


def _deviations(probability: float) -> float:
    """How many standard deviations above its mean a normal variable is with that probability, or more."""
    low, high = -10.0, 10.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(middle / math.sqrt(2)) > probability else (low, middle)
    return low


# A probability rounds to k twentieths or less from the k-th of these, counted from the right, upwards.
_ROUNDED_DOWN = [_deviations((k - 0.5) / PRICE_ONE) for k in range(PRICE_ONE, 0, -1)]


def _tail(deviations: float) -> int:
    """The probability, in twentieths, that a normal variable is so many standard deviations above its mean, or more."""
    return PRICE_ONE - bisect_right(_ROUNDED_DOWN, deviations)


Priced = tuple[tuple[int, ...], tuple[int, ...]]
"""Prices of gang shapes, and on nodes of each kind."""
_Insisting = tuple[float, float, list[int]]
"""Of work that insists on some models: its part of all work, the size of its lumps, and the kinds that have them."""
_Numbers = tuple[float, float, list[tuple[int, float]]]
"""Of a gang shape: its number for each device's worth of work, the root of that, and of nodes by kind and idle devices
the slots of each."""

_Gang = tuple[int, int, int, list[int]]
"""What one asks for of devices, CPUs and memory, and by kind 1 where it is served."""
_Slot = tuple[int, int, int, int, list[int]]
"""Of a gang shape with a price: the price of a slot, and the rest as `_Gang`."""
_AsLists = tuple[list[_Numbers], list[_Insisting], list[_Gang]]


class Prices:
    """`content`: of each device of a slot, for each gang shape; and of a device on nodes of each kind. In twentieths.
    `slots`: of the gang shapes with a price. `nothing`: no device has one. `tolled`: what others keep by ask, as long
    as prices are these."""

    __slots__ = ("_columns", "any_kind", "content", "nothing", "slots", "tolled")

    def __init__(self, content: Priced, gangs: Sequence[_Gang]) -> None:
        self.content = content
        self.any_kind = any(content[1])
        self.slots: list[_Slot] = [
            (price * gang[0], *gang) for price, gang in zip(content[0], gangs, strict=True) if price
        ]
        self.nothing = not (self.slots or self.any_kind)
        self.tolled: dict[Ask, dict[int, int]] = {}
        self._columns: _SlotColumns | None = None

    def columns(self) -> _SlotColumns:
        """`slots` as columns, made when first asked for: few prices are asked of many nodes."""
        if self._columns is None:
            self._columns = _SlotColumns(self.slots)
        return self._columns


class _SlotColumns:
    """Of each gang shape with a price, in order, `of_slot`: the price of a slot; `asked`: what it asks for of
    `resources` (0: devices, 1: CPUs, 2: memory; those that any asks for), int64[resources, gangs, 1], and `divisor`,
    the same but at least 1; `accepted`, int64[gangs, kinds]. Gangs stand in rows, nodes in columns, as there are few
    gangs and often a single node."""

    __slots__ = ("accepted", "asked", "divisor", "of_slot", "resources", "some_ask_nothing")

    def __init__(self, slots: Sequence[_Slot]) -> None:
        asked = np.array([slot[1:4] for slot in slots], np.int64).T[:, :, None]
        self.resources: Ints = np.flatnonzero(asked.any(axis=(1, 2)))
        self.asked: Ints = asked.take(self.resources, axis=0)
        self.divisor: Ints = np.maximum(self.asked, 1)
        self.some_ask_nothing = bool((self.asked == 0).any())
        self.accepted: Ints = np.array([slot[4] for slot in slots], np.int64)
        self.of_slot: Ints = np.array([[slot[0]] for slot in slots], np.int64)


class Protection:
    """For this typical work on nodes of these kinds, and a policy whose scores count in steps of `step` devices.

    `matters`: some of the work asks for gangs or insists on models. `of_gangs_alone`: none of it insists on models.
    `smallest_gang`: devices of the smallest.
    """

    def __init__(self, shapes: TypicalShapes, kinds: NodeKinds, worth: Worth, max_devices: int, step: float) -> None:
        self._worth: list[int] = worth.by_milli.tolist()
        self._mean: list[float] = worth.mean[:, 0].tolist()
        self._steps = 1 / (step * PRICE_ONE)
        asking = shapes.wanting_devices()
        volume = sum(each.count * each.shape.milli for each in asking.shapes) / WHOLE_DEVICE_MILLI
        counts = {each.shape: each.count for each in asking.shapes if each.shape.devices > 1}
        gangs = list(counts)[:_MOST_GANGS]  # the most frequent stand first
        wanted: Ints = np.array([gang.devices for gang in gangs], np.int64)
        cpus: Ints = np.array([gang.cpus_milli for gang in gangs], np.int64)
        memory: Ints = np.array([gang.memory_bytes for gang in gangs], np.int64)
        self._asked: Ints = np.stack((wanted, cpus, memory))[:, :, None]
        self._per_device: Floats = np.array([_as_hard(gang, counts) / volume for gang in gangs], np.float64)
        of_models = [[gang.accepts(models) for gang in gangs] for models in kinds.models]
        accepted: Bools = np.array(of_models, np.bool_).reshape(len(kinds.models), len(gangs))
        self._accepted: Ints = accepted.T.astype(np.int64)
        self._root: Floats = np.sqrt(self._per_device)
        self._many_slots = False
        self._as_lists: _AsLists | None = None
        hosts = accepted & (kinds.largest_cpus_milli[:, None] >= cpus)
        hosts &= kinds.largest_memory_bytes[:, None] >= memory
        each_idle = np.arange(max_devices + 1)[:, None] // np.maximum(wanted, 1)
        slots = hosts[:, None, :] * each_idle
        self._slots: Floats = slots.reshape(len(kinds.models) * (max_devices + 1), len(gangs)).astype(np.float64)

        insisting: dict[frozenset[str], list[tuple[float, float]]] = {}
        for each in asking.shapes:
            if each.shape.models is not None:
                devices = each.shape.milli / WHOLE_DEVICE_MILLI
                insisting.setdefault(each.shape.models, []).append((each.count, devices))
        sets = sorted(insisting, key=sorted)
        sums = [sum(count * devices for count, devices in insisting[models]) for models in sets]
        squares = [sum(count * devices**2 for count, devices in insisting[models]) for models in sets]
        self._part: Floats = np.array([each / volume for each in sums], np.float64)
        self._lumps: Floats = np.array([square / each for square, each in zip(squares, sums, strict=True)], np.float64)
        inside = [[not models.isdisjoint(of_kind) for of_kind in kinds.models] for models in sets]
        self._inside: Ints = np.array(inside, np.int64).reshape(len(sets), len(kinds.models))
        self._nothing: list[int] = [0] * len(kinds.models)
        self.matters = bool(gangs or sets)
        self.of_gangs_alone = not sets
        self.smallest_gang = min((gang.devices for gang in gangs), default=0)

    def on(self, kinds: Bools) -> Protection:
        """What of it has a say on nodes of these kinds, bool[kinds]: its prices are the same there, and made sooner.
        (Of other nodes, what it says is not to be used.) Where there is one kind alone, what a device of it is worth
        to those who insist on it is the same on all of its nodes: it says nothing of which to take, and is left out."""
        gangs = self._accepted[:, kinds].any(axis=1)
        sets = self._inside[:, kinds].any(axis=1) & (np.count_nonzero(kinds) > 1)
        if gangs.all() and sets.all():
            return self
        part = copy(self)
        part._as_lists = None
        part._asked, part._accepted = self._asked[:, gangs], self._accepted[gangs]
        part._per_device, part._root, part._slots = self._per_device[gangs], self._root[gangs], self._slots[:, gangs]
        part._part, part._lumps, part._inside = self._part[sets], self._lumps[sets], self._inside[sets]
        part.of_gangs_alone = not sets.any()
        part.smallest_gang = int(part._asked[0].min(initial=_FREE))
        return part

    def to_come(self, milli: Iterable[int], cpus_milli: int, memory_bytes: int) -> int:
        """How much work a node can still take: what is left of its devices is worth, or what its CPUs and memory feed;
        in 2**-20 devices."""
        idle = sum(self._worth[left] for left in milli if left > 0)
        cpus, memory = self._mean
        return min(idle, int(max(1, cpus_milli) / cpus * ONE), int(max(1, memory_bytes) / memory * ONE))

    def prices(self, nodes_by_idle: Sequence[float], to_come: Sequence[int], before: dict[Priced, Prices]) -> Prices:
        """From how many nodes there are of each kind with so many idle devices (kinds in turn, each by 0 to
        max_devices), and how much work those of each kind can still take together, in 2**-20 devices. `before`: those
        that are known. (It is asked after each placement, of a few numbers: over columns it took three times as
        long.)"""
        if self._as_lists is None:
            self._as_lists = self._in_lists()
        numbers, insisting, gangs = self._as_lists
        coming = sum(to_come) / ONE
        spread = math.sqrt(coming) + _TINY
        if self._many_slots:
            columns = np.array(nodes_by_idle, np.float64) @ self._slots
            deviations = (columns - (self._per_device * coming + 0.5)) / (self._root * spread)
            tails = PRICE_ONE - np.array(_ROUNDED_DOWN).searchsorted(deviations, side="right")
            of_gang: list[int] = (tails * (columns > 0)).tolist()
        else:
            of_gang = []
            for per_device, root, each_idle in numbers:
                slots = sum([nodes_by_idle[place] * each for place, each in each_idle])
                of_gang.append(_tail((slots - (per_device * coming + 0.5)) / (root * spread)) if slots > 0 else 0)
        of_kind = self._nothing
        if insisting:
            of_kind = of_kind.copy()
            for part, lumps, inside in insisting:
                expected = part * coming
                available = sum([to_come[kind] for kind in inside]) / ONE
                missing = _tail((available - expected) / (math.sqrt(expected * lumps) + _TINY))
                if missing:
                    for kind in inside:
                        of_kind[kind] += missing
        content = (tuple(of_gang), tuple(of_kind))
        prices = before.get(content)
        if prices is None:
            if len(before) >= _KEPT_PRICES:
                before.clear()
            prices = before[content] = Prices(content, gangs)
        return prices

    def _in_lists(self) -> _AsLists:
        numbers = []
        for gang, (per_device, root) in enumerate(zip(self._per_device.tolist(), self._root.tolist(), strict=True)):
            each_idle = enumerate(self._slots[:, gang].tolist())
            numbers.append((per_device, root, [(place, each) for place, each in each_idle if each]))
        self._many_slots = sum(len(each_idle) for _, _, each_idle in numbers) > _MANY_SLOTS
        inside = [np.flatnonzero(kinds).tolist() for kinds in self._inside]
        insisting = list(zip(self._part.tolist(), self._lumps.tolist(), inside, strict=True))
        asked = zip(*self._asked[:, :, 0].tolist(), self._accepted.tolist(), strict=True)
        return numbers, insisting, list(asked)

    def kind_tolls(self, prices: Prices, ask: Ask) -> Ints:
        """What the devices that one worker of the ask takes are worth to work that insists on nodes of each kind:
        int64[kinds], in steps."""
        return self._in_steps(np.array(prices.content[1], np.float64) * (ask.milli / WHOLE_DEVICE_MILLI))

    def gang_tolls(self, prices: Prices, ask: Ask, states: Ints, opened: int) -> Ints:
        """What the gang slots are worth that one worker of the ask takes from nodes, int64[4, nodes], that have, before
        it came, this kind, idle devices, CPUs and memory, if `opened` of the devices are idle no more: int64[nodes], in
        steps. Of several shapes the dearest counts."""
        gangs = prices.columns()
        taken = np.array([[opened], [ask.cpus_milli], [ask.memory_bytes]])
        has = np.concatenate((states[1:], states[1:] - taken), axis=1).take(gangs.resources, axis=0)
        slots = has[:, None, :] // gangs.divisor
        if gangs.some_ask_nothing:
            slots = np.where(gangs.asked > 0, slots, _FREE)
        slots = slots.min(axis=0)
        np.maximum(slots, 0, out=slots)
        nodes = states.shape[1]
        lost = slots[:, :nodes] - slots[:, nodes:]
        lost *= gangs.accepted.take(states[0], axis=1)
        lost *= gangs.of_slot
        return self._in_steps(np.maximum(lost.max(axis=0), 0).astype(np.float64))

    def toll(self, prices: Prices, ask: Ask, state: Sequence[int], opened: int) -> int:
        """The sum of both for one node, in steps."""
        kind, idle, cpus_milli, memory_bytes = state
        toll = 0
        if prices.any_kind and ask.milli:
            toll = math.floor(prices.content[1][kind] * (ask.milli / WHOLE_DEVICE_MILLI) * self._steps + 0.5)
        if idle < self.smallest_gang:
            return toll
        lost = 0
        for price, devices, cpus, memory, served in prices.slots:
            if served[kind]:
                before, after = idle // devices, (idle - opened) // devices
                if cpus:
                    before, after = min(before, cpus_milli // cpus), min(after, (cpus_milli - ask.cpus_milli) // cpus)
                if memory:
                    left = memory_bytes - ask.memory_bytes
                    before, after = min(before, memory_bytes // memory), min(after, left // memory)
                lost = max(lost, (max(before, 0) - max(after, 0)) * price)
        return toll + math.floor(lost * self._steps + 0.5)

    def _in_steps(self, twentieths: Floats) -> Ints:
        steps: Ints = np.floor(twentieths * self._steps + 0.5).astype(np.int64)
        return steps


def _as_hard(gang: Shape, counts: dict[Shape, float]) -> float:
    """How many slots of this shape the gangs take that are as hard to place or harder."""
    return math.fsum(
        count * max(1, other.devices // gang.devices)
        for other, count in counts.items()
        if other.devices >= gang.devices
        and other.cpus_milli >= gang.cpus_milli
        and other.memory_bytes >= gang.memory_bytes
        and (gang.models is None or (other.models is not None and other.models <= gang.models))
    )
