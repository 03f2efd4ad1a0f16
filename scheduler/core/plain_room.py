"""What fits where, said by plain loops over facts and placements: for `invariants.py` alone.

The planner answers the same questions over columns (`placement.py`, `topology.py`); what is here shares no arithmetic
with them, so that a mistake of theirs is seen. Slow on purpose. Units: thousandths of devices and CPUs, bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scheduler.core.cluster import ClusterState
from scheduler.core.demand import (
    WHOLE_DEVICE_MILLI,
    Barred,
    Constraints,
    Demand,
    DeviceFacts,
    Level,
    NodeFacts,
    Placement,
)

Domain = tuple[str, ...]
"""One island, node, rack or site, by name."""

_UNBOUNDED = 10**9


@dataclass(slots=True)
class Room:
    """Free thousandths of each device, CPUs and bytes of each node, by name (below zero: it came back smaller)."""

    devices: dict[tuple[str, int], int] = field(default_factory=dict)
    cpus: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(cluster: ClusterState) -> Room:
        """What the books leave: from the facts and the placements, not from the free columns."""
        room = Room()
        for name in cluster.node_names:
            facts = cluster.facts(name)
            room.cpus[name] = facts.cpus_milli
            room.memory[name] = facts.memory_bytes
            for device in facts.devices:
                room.devices[name, device.index] = WHOLE_DEVICE_MILLI
        for job_id in cluster.holders:
            room.take(cluster.held(job_id))
        return room

    @staticmethod
    def only(placements: Iterable[Placement]) -> Room:
        """Nothing but what these hold."""
        room = Room()
        for placement in placements:
            room.cpus.setdefault(placement.node, 0)
            room.memory.setdefault(placement.node, 0)
            for device in placement.devices:
                room.devices.setdefault((placement.node, device), 0)
        room.give(placements)
        return room

    def copy(self) -> Room:
        return Room(dict(self.devices), dict(self.cpus), dict(self.memory))

    def take(self, placements: Iterable[Placement]) -> None:
        self._add(placements, -1)

    def give(self, placements: Iterable[Placement]) -> None:
        self._add(placements, +1)

    def _add(self, placements: Iterable[Placement], sign: int) -> None:
        for placement in placements:
            if placement.node not in self.cpus:
                continue
            self.cpus[placement.node] += sign * placement.cpus_milli
            self.memory[placement.node] += sign * placement.memory_bytes
            for device in placement.devices:
                if (placement.node, device) in self.devices:
                    self.devices[placement.node, device] += sign * (placement.share_milli or WHOLE_DEVICE_MILLI)

    def workers(self, node: NodeFacts, demand: Demand, island: Domain | None = None) -> int:
        """How many workers of the demand find room on the node; with `island`, on its devices of that island alone."""
        if node.name not in self.cpus or not node_serves(node, demand):
            return 0
        limits = [_UNBOUNDED]
        if demand.milli:
            free = [
                self.devices.get((node.name, device.index), 0)
                for device in node.devices
                if device_serves(device, demand) and island in (None, island_of(node, device))
            ]
            if demand.devices:
                limits.append(sum(milli == WHOLE_DEVICE_MILLI for milli in free) // demand.devices)
            else:
                limits.append(sum(max(0, milli) // demand.share_milli for milli in free))
        elif island not in (None, own_island(node)):
            return 0
        if demand.cpus_milli:
            limits.append(max(0, self.cpus[node.name]) // demand.cpus_milli)
        if demand.memory_bytes:
            limits.append(max(0, self.memory[node.name]) // demand.memory_bytes)
        return min(limits)


# ---- what serves what --------------------------------------------------------------------------------------------


def node_serves(node: NodeFacts, demand: Demand) -> bool:
    return (
        (demand.simulated or not node.simulated)
        and demand.node in (None, node.name)
        and demand.site in (None, node.site)
        and set(demand.node_labels) <= set(node.labels)
    )


def device_serves(device: DeviceFacts, demand: Demand) -> bool:
    return (
        demand.model in (None, device.model)
        and demand.vendor in (None, device.vendor)
        and demand.mig_profile == device.mig_profile
        and set(demand.device_labels) <= set(device.labels)
        and (not demand.only or device.index in demand.only)
        and not _is_kept_off(device, demand)
    )


def _is_kept_off(device: DeviceFacts, demand: Demand) -> bool:
    talks = demand.linked or demand.devices > 1
    return device.barred == Barred.ALL or (device.barred == Barred.LINKED and talks)


def serves(node: NodeFacts, demand: Demand) -> bool:
    """Whether the node, empty, would take a worker of it by its kind; sizes are not looked at."""
    return node_serves(node, demand) and (
        not demand.milli or any(device_serves(device, demand) for device in node.devices)
    )


def mismatch(node: NodeFacts, demand: Demand, placement: Placement) -> str | None:
    """What of the placement is not what the demand says; None where all is."""
    devices = {device.index: device for device in node.devices}
    count = demand.devices or (1 if demand.share_milli else 0)
    checks = {
        "node": node_serves(node, demand),
        "number of devices": len(set(placement.devices)) == len(placement.devices) == count,
        "devices that exist": all(index in devices for index in placement.devices),
        "kind of device": all(device_serves(devices[i], demand) for i in placement.devices if i in devices),
        "share": placement.share_milli == demand.share_milli,
        "cpus": placement.cpus_milli == demand.cpus_milli,
        "memory": placement.memory_bytes == demand.memory_bytes,
    }
    return next((what for what, holds in checks.items() if not holds), None)


# ---- what is near what -------------------------------------------------------------------------------------------


def island_of(node: NodeFacts, device: DeviceFacts) -> Domain:
    return ("own", node.name) if device.island is None else ("island", device.island)


def own_island(node: NodeFacts) -> Domain:
    """Where work without devices stands: in the one island of the node's devices, or else in one of its own."""
    islands = {island_of(node, device) for device in node.devices}
    return islands.pop() if len(islands) == 1 else ("own", node.name)


def domain_of(node: NodeFacts, level: Level) -> Domain:
    """For the levels that a whole node belongs to."""
    match level:
        case Level.SITE:
            return ("site", node.site)
        case Level.RACK:
            return ("node", node.name) if node.rack is None else ("rack", node.site, node.rack)
        case Level.NODE | Level.ISLAND:
            return ("node", node.name)


def domains_at(node: NodeFacts, level: Level, devices: Iterable[int]) -> set[Domain]:
    """In which domains of the level a worker with these devices stands: several only where it spans islands."""
    if level is not Level.ISLAND:
        return {domain_of(node, level)}
    held = set(devices)
    return {island_of(node, device) for device in node.devices if device.index in held} or {own_island(node)}


def sibling_domains(node: NodeFacts, level: Level) -> set[Domain]:
    """In which domains a sibling counts of which only the node is known: in each island of a node that has several."""
    if level is not Level.ISLAND:
        return {domain_of(node, level)}
    return {own_island(node)} | {island_of(node, device) for device in node.devices}


# ---- how many fit ------------------------------------------------------------------------------------------------


def most_workers(
    room: Room,
    nodes: Sequence[NodeFacts],
    alternatives: Sequence[Demand],
    constraints: Constraints,
    siblings: Sequence[NodeFacts],
) -> int:
    """So many workers or fewer find room on these nodes: exact for one alternative (but see `is_exact`)."""
    best = 0
    for within, inside in _scopes(nodes, constraints, siblings):
        island = within if constraints.within is Level.ISLAND else None
        if constraints.one_per is None:
            count = sum(room.workers(node, demand, island) for node in inside for demand in alternatives)
        else:
            taken = {each for node in siblings for each in sibling_domains(node, constraints.one_per)}
            count = len(_open_domains(room, inside, alternatives, constraints.one_per, island) - taken)
        best = max(best, count)
    return best


def is_exact(room: Room, nodes: Sequence[NodeFacts], alternatives: Sequence[Demand], constraints: Constraints) -> bool:
    """Whether `most_workers` is exact: one alternative, and no islands that compete for the CPUs of their node."""
    if len(alternatives) != 1:
        return False
    if constraints.one_per is not Level.ISLAND:
        return True
    (demand,) = alternatives
    for node in nodes:
        islands = {island_of(node, device) for device in node.devices}
        lean = Demand(devices=0, cpus_milli=demand.cpus_milli, memory_bytes=demand.memory_bytes, simulated=True)
        if len(islands) > 1 and room.workers(node, lean) < len(islands):
            return False
    return True


def _scopes(
    nodes: Sequence[NodeFacts], constraints: Constraints, siblings: Sequence[NodeFacts]
) -> Iterator[tuple[Domain | None, list[NodeFacts]]]:
    """Each domain inside which all workers must stand, and its nodes; once all nodes where there is no such wish."""
    level = constraints.within
    if level is None:
        yield None, list(nodes)
        return
    scopes: dict[Domain, list[NodeFacts]] = {}
    for node in nodes:
        for domain in sibling_domains(node, level):
            scopes.setdefault(domain, []).append(node)
    among = {domain for node in siblings for domain in sibling_domains(node, level)}
    for domain, inside in scopes.items():
        if not siblings or domain in among:
            yield domain, inside


def _open_domains(
    room: Room, nodes: Iterable[NodeFacts], alternatives: Sequence[Demand], level: Level, island: Domain | None
) -> set[Domain]:
    """Domains of the level that have room for a worker (in that island, if one is named)."""
    found: set[Domain] = set()
    for node in nodes:
        for demand in alternatives:
            if level is not Level.ISLAND:
                if room.workers(node, demand, island):
                    found.add(domain_of(node, level))
                continue
            for domain in sibling_domains(node, level):
                if island in (None, domain) and room.workers(node, demand, domain):
                    found.add(domain)
    return found
