"""Victims were looked for in vain: for whom else need nobody look in this pass?

For who asks for as much or more on the same devices, and may ask no more to go: where a smaller gang finds no room even
with all gone that may go, a larger one does not. Within a pass what is free only becomes less, until the next
preemption: then it is another question.

Only for gangs whose workers fit exactly where the nodes' capacities add up to them: without constraints, alternatives
or nodes kept from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.core.arrays import Bools
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """So many workers of this demand on these nodes (bool[nodes]) and devices (bool[nodes, max_devices]; None: all of
    them), if jobs below `reach` may go, after so many preemptions. Nodes and devices are the same only if they are one
    object."""

    nodes: Bools
    devices: Bools | None
    demand: Demand
    workers: int
    reach: int
    preemptions: int

    def is_covered_by(self, other: Sought) -> bool:
        """Whether this finds no room where that one finds none."""
        mine, less = self.demand, other.demand
        return (
            self.workers >= other.workers
            and self.reach <= other.reach
            and mine.cpus_milli >= less.cpus_milli
            and mine.memory_bytes >= less.memory_bytes
            and mine.devices >= less.devices
            and (mine.share_milli or mine.devices * WHOLE_DEVICE_MILLI) >= less.share_milli
            and self.preemptions == other.preemptions
            and self.nodes is other.nodes
            and self.devices is other.devices
        )


class InVain:
    """Of one pass."""

    __slots__ = ("_sought",)

    def __init__(self) -> None:
        self._sought: list[Sought] = []

    def add(self, sought: Sought) -> None:
        self._sought.append(sought)

    def covers(self, sought: Sought) -> bool:
        return any(sought.is_covered_by(other) for other in self._sought)
