"""Who has had how much: what a tenant holds and has held, as one number that tells whose turn it is.

The share is the *dominant* one: of devices, CPUs and memory, whichever a tenant has most of, relative to what there is.
Source: Ghodsi, Zaharia, Hindman, Konwinski, Shenker, Stoica, "Dominant Resource Fairness: Fair Allocation of Multiple
Resource Types", NSDI 2011; serving the tenant with the lowest dominant share over its weight is their progressive
filling, one job at a time.

The past counts, and fades: a tenant that computed all night waits behind one that did not, and a week later that is
forgotten. Source: Kay and Lauder, "A Fair Share Scheduler", Communications of the ACM 31(1), 1988; the half-life as in
Slurm's multifactor priority (Yoo, Jette, Grondona, "SLURM: Simple Linux Utility for Resource Management", JSSPP 2003).

Jobs that allow simulated devices have an account of their own with each tenant: to rehearse on simulated devices must
not cost anyone a turn on real ones.

Units: shares are fractions of the whole (0..1); times in seconds; devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, NodeFacts, Placement
from scheduler.core.quick import quick

_LN_2 = math.log(2.0)
Held = tuple[int, int, int]
"""Thousandths of devices and of CPUs, and bytes: an `Amount` in a ledger's own books, which change twice a job."""
FORGOTTEN = 1e-12  # an average below this is dropped: so do tenants that left, in the end


def account(tenant: str, simulated: bool) -> str:
    """The name of the account that a job's use is charged to: the tenant's own name for real devices. (No tenant's
    name holds a slash.)"""
    return f"{tenant}/simulated" if simulated else tenant


@quick
@dataclass(frozen=True, slots=True)
class Amount:
    """So much of each kind of resource that fairness looks at."""

    devices_milli: int = 0
    cpus_milli: int = 0
    memory_bytes: int = 0

    @staticmethod
    def of(placements: Sequence[Placement]) -> Amount:
        """What these workers hold."""
        if len(placements) == 1:
            one = placements[0]
            held_milli = one.share_milli or WHOLE_DEVICE_MILLI * len(one.devices)
            return Amount(held_milli, one.cpus_milli, one.memory_bytes)
        devices_milli = cpus_milli = memory_bytes = 0
        for placement in placements:
            devices_milli += placement.share_milli or WHOLE_DEVICE_MILLI * len(placement.devices)
            cpus_milli += placement.cpus_milli
            memory_bytes += placement.memory_bytes
        return Amount(devices_milli, cpus_milli, memory_bytes)

    @staticmethod
    def wanted(demand: Demand, workers: int) -> Amount:
        """What so many workers of this demand would hold."""
        return Amount(demand.milli * workers, demand.cpus_milli * workers, demand.memory_bytes * workers)

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.devices_milli + other.devices_milli,
            self.cpus_milli + other.cpus_milli,
            self.memory_bytes + other.memory_bytes,
        )

    def __sub__(self, other: Amount) -> Amount:
        return Amount(
            self.devices_milli - other.devices_milli,
            self.cpus_milli - other.cpus_milli,
            self.memory_bytes - other.memory_bytes,
        )


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Totals:
    """What an account's share is a share of: everything that its jobs may use. Real nodes for ordinary jobs; all nodes
    for those that allow simulated devices, since nothing keeps them off real ones.

    What is *installed* counts, schedulable or not. Were drained nodes left out, the same devices held for the same time
    would be charged higher on a day of maintenance than on another, and a tenant whose jobs still run on draining nodes
    could hold more than everything. A scale that all accounts share changes no order, so nothing is lost either.
    """

    real: Amount
    everything: Amount

    @staticmethod
    def of(nodes: Iterable[NodeFacts]) -> Totals:
        """One walk over all nodes: to be kept until a node joins, changes or leaves."""
        real = simulated = NOTHING
        for node in nodes:
            amount = Amount(len(node.devices) * WHOLE_DEVICE_MILLI, node.cpus_milli, node.memory_bytes)
            if node.simulated:
                simulated += amount
            else:
                real += amount
        return Totals(real, real + simulated)

    def whole(self, simulated: bool) -> Amount:
        return self.everything if simulated else self.real


def dominant_share(held: Amount, whole: Amount) -> float:
    """The largest of the shares of devices, CPUs and memory. A resource that there is none of counts nothing."""
    return share_of((held.devices_milli, held.cpus_milli, held.memory_bytes), whole)


def share_of(held: Held, whole: Amount) -> float:
    """The same of plain numbers."""
    devices_milli, cpus_milli, memory_bytes = held
    share = devices_milli / whole.devices_milli if whole.devices_milli else 0.0
    if whole.cpus_milli:
        of_cpus = cpus_milli / whole.cpus_milli
        if of_cpus > share:
            share = of_cpus
    if whole.memory_bytes:
        of_memory = memory_bytes / whole.memory_bytes
        if of_memory > share:
            share = of_memory
    return share


def standing(average: float, held: float, weight: float) -> float:
    """Whose turn it is: the lowest goes first.

    It is the decayed average as it will be one half-life from now if the account keeps what it holds. From the rule of
    `DecayedUsage`, a(t + d) = h + (a(t) - h) * 2^(-d / H), with d = H: h + (a - h) / 2 = (a + h) / 2.

    Why not the average alone: it does not move within a pass, so that the tenant that used least would be given all
    that is free. Why not what is held alone: it has no memory. Over the weight, as in the paper's weighted DRF: a
    tenant of weight 2 stands level with one of weight 1 at twice its share.
    """
    return (average + held) / 2 / weight


class DecayedUsage:
    """Each account's dominant share, averaged over the past with weights that halve every `half_life_s`:

        a(t) = (ln 2 / H) * integral over s < t of h(s) * 2^(-(t - s) / H) ds,   which solves   a' = (ln 2 / H)(h - a).

    While h is constant, a(t + d) = h + (a(t) - h) * 2^(-d / H) exactly. So call `advance` whenever what is held
    changes; calling it more often, or seldom, gives the same averages. Slurm decays a sum in fixed periods instead,
    and depends on them. The average of a tenant that always held half of the cluster is 0.5, whatever the half-life.

    `averages` and `at_s` are all there is to keep over a restart. Not thread-safe.
    """

    __slots__ = ("_averages", "_half_life_s", "at_s")

    def __init__(
        self, half_life_s: float, averages: Mapping[str, float] | None = None, at_s: float | None = None
    ) -> None:
        """`at_s`: the time that `averages` are of; None: of the first `advance`."""
        assert 0 < half_life_s < math.inf, half_life_s
        self._half_life_s = half_life_s
        self._averages = dict(averages or {})
        self.at_s = at_s

    @property
    def half_life_s(self) -> float:
        return self._half_life_s

    @property
    def averages(self) -> Mapping[str, float]:
        """Account -> average. A view: it changes with `advance`."""
        return self._averages

    def average(self, name: str) -> float:
        return self._averages.get(name, 0.0)

    def moved_in(self, elapsed_s: float) -> float:
        """How much of its way from its average to what it holds an account goes in that time: 1 - 2^(-d / H)."""
        # Without losing the digits of a short d.
        return -math.expm1(-_LN_2 * elapsed_s / self._half_life_s)

    def advance(self, now_s: float, held_share: Mapping[str, float]) -> None:
        """Since the last call each account held the dominant share given here (0 where it is not named).

        A clock that was set back counts no time, and goes on from there."""
        elapsed_s = 0.0 if self.at_s is None else max(0.0, now_s - self.at_s)
        self.at_s = now_s
        if not elapsed_s:
            return
        moved = self.moved_in(elapsed_s)
        averages = self._averages
        for name in averages.keys() | held_share.keys():
            average = averages.get(name, 0.0)
            average += (held_share.get(name, 0.0) - average) * moved
            if average > FORGOTTEN:
                averages[name] = average
            else:
                averages.pop(name, None)
