"""Could the cluster ever take this demand, were it empty and every node up? If not: what comes nearest, in words.

Drained and silent nodes and barred devices count as existing, and what runs as gone (also siblings). The answer depends
on the nodes alone and is kept with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand, Labels, Level, NodeFacts
from scheduler.core.free_columns import FreeColumns
from scheduler.core.group_choice import with_constraints
from scheduler.core.node_columns import NodeColumns
from scheduler.core.placement import Pools, capacity, how_many


def demand_text(alternatives: Sequence[Demand], workers: int, constraints: Constraints = UNCONSTRAINED) -> str:
    """`4 workers of 8 x H100 SXM or 8 x A100 on node gpu-3, all in one rack`, `1 worker of 2 CPUs and no device`: for
    messages."""
    kinds = " or ".join(
        dict.fromkeys(demand.device_text() + _beside(demand) + _where(demand) for demand in alternatives)
    )
    return f"{_workers(workers)} of {kinds}{_together(constraints, workers)}"


def nearest_possible(
    nodes: NodeColumns, alternatives: Sequence[Demand], workers: int, constraints: Constraints = UNCONSTRAINED
) -> str | None:
    """None if the empty cluster could take `workers` workers; otherwise the nearest demand that it could take."""
    nodes = nodes.as_sound()
    question = (nearest_possible, tuple(alternatives), workers, constraints)
    if question in nodes.answers:
        known = nodes.answers[question]
        assert known is None or isinstance(known, str)
        return known
    answer = _nearest(nodes, alternatives, workers, constraints)
    nodes.remember(question, answer)
    return answer


def _nearest(nodes: NodeColumns, alternatives: Sequence[Demand], workers: int, constraints: Constraints) -> str | None:
    pools = Pools(nodes, np.ones(len(nodes), np.bool_), np.arange(len(nodes)))
    empty = FreeColumns.empty(nodes)
    possible = how_many(pools, empty, alternatives, workers, constraints=constraints)
    if possible >= workers:
        return None
    if not len(nodes):
        return "nothing: the cluster has no nodes"
    if not with_constraints(constraints):
        return demand_text(alternatives, possible) if possible else _nearest_worker(pools, empty, alternatives[0])
    unconstrained = how_many(pools, empty, alternatives, workers)
    if unconstrained < workers and unconstrained == possible:  # the constraints are not what is in the way
        return demand_text(alternatives, possible) if possible else _nearest_worker(pools, empty, alternatives[0])
    return _nearest_constrained(pools, empty, alternatives, possible, constraints)


def _nearest_constrained(
    pools: Pools, empty: FreeColumns, alternatives: Sequence[Demand], possible: int, constraints: Constraints
) -> str:
    """Of a gang that its constraints keep out: what they let stand together; of a worker larger than any island, what
    an island takes."""
    demand = alternatives[0]
    if not possible:
        for devices in range(demand.devices - 1, 0, -1):
            smaller = replace(demand, devices=devices)
            if how_many(pools, empty, (smaller,), 1, constraints=constraints):
                return f"{smaller.device_text()} a worker (the most that one island has)"
        return demand_text(alternatives, 1)
    if constraints.within is not None and constraints.one_per is None and demand.devices and len(alternatives) == 1:
        all_together = replace(demand, devices=demand.devices * possible).device_text()
        return f"{all_together} in one {constraints.within} ({_workers(possible)})"
    return demand_text(alternatives, possible, constraints)


def _nearest_worker(pools: Pools, empty: FreeColumns, demand: Demand) -> str:
    """For a demand of which not one worker would fit: the closest thing to it that a node has."""
    nodes = pools.nodes
    if demand.node is not None and demand.node not in nodes.row_of:
        return f"node {_closest(demand.node, nodes.row_of)} (there is no node {demand.node})"
    if demand.site is not None and demand.site not in {facts.site for facts in nodes.facts}:
        return f"site {_closest(demand.site, (f.site for f in nodes.facts))} (no node is at site {demand.site})"
    pool = nodes.pool(demand)
    if not pool.nodes.any():
        return _nearest_kind(nodes, demand)
    here = pool.nodes
    wants_devices = bool(demand.devices or demand.share_milli)
    fits_devices = capacity(pool, empty, _only_devices(demand), 1) > 0 if wants_devices else here
    if not fits_devices.any():
        most = int(empty.whole_of(pool.devices)[here].max())
        name = replace(demand, devices=most).device_text()
        return f"{name} a worker (the most that one node has)"
    cpus = int(nodes.cpus_milli[fits_devices].max())
    if cpus < demand.cpus_milli:
        return f"{cpus / 1000:g} CPUs a worker (the most that one such node has)"
    memory = int(nodes.memory_bytes[fits_devices & (nodes.cpus_milli >= demand.cpus_milli)].max())
    return f"{memory / 2**30:.1f} GiB of memory a worker (the most that one such node has)"


def _nearest_kind(nodes: NodeColumns, demand: Demand) -> str:
    """No node serves the demand's kind of device in its place and reality: the nearest kind that one does."""
    unlabelled = replace(demand, node_labels=(), device_labels=())
    if nodes.pool(unlabelled).nodes.any():
        return _nearest_labels(nodes, demand)
    demand = unlabelled
    if not demand.simulated and nodes.pool(replace(demand, simulated=True)).nodes.any():
        return f"{demand.device_text()} with simulated: true (only simulated nodes have it)"
    elsewhere = np.flatnonzero(nodes.pool(replace(demand, node=None, site=None, only=())).nodes)
    if elsewhere.size:
        facts = nodes.facts[int(elsewhere[0])]
        return f"{demand.device_text()} on node {facts.name} at site {facts.site}"
    place = nodes.pool(Demand(devices=0, simulated=demand.simulated, node=demand.node, site=demand.site))
    allowed = [nodes.facts[row] for row in np.flatnonzero(place.nodes).tolist()]
    if not allowed:
        return "the same with simulated: true (every such node is simulated)"
    profile = _nearest_profile(allowed, demand)
    if profile is not None:
        return profile
    devices = [device for facts in allowed for device in facts.devices if device.mig_profile == demand.mig_profile]
    if not devices:
        return "a demand without devices (no such node has any)"
    if demand.model is None:
        return f"vendor {_closest(demand.vendor or '', (device.vendor for device in devices))}"
    same_vendor = {device.model for device in devices if demand.vendor in (None, device.vendor)}
    model = _closest(demand.model, same_vendor or {device.model for device in devices})
    most = max(sum(device.model == model for device in facts.devices) for facts in allowed)
    return replace(demand, vendor=None, model=model, devices=min(demand.devices, most)).device_text()


def _nearest_labels(nodes: NodeColumns, demand: Demand) -> str:
    """All is well but for labels: the values that there are of the first one that is not, or the demand without it."""
    of_node = not nodes.pool(replace(demand, device_labels=())).nodes.any()
    wanted = demand.node_labels if of_node else demand.device_labels
    serves = nodes.pool(replace(demand, node_labels=(), device_labels=()))
    some = [nodes.facts[row] for row in np.flatnonzero(serves.nodes).tolist()]
    carried = {label for facts in some for label in (facts.labels if of_node else _labels_of_devices(facts))}
    what = "node" if of_node else "device"
    for name, value in wanted:
        if (name, value) not in carried:
            values = [other for key, other in carried if key == name]
            instead = f"with {name}={_closest(value, values)}" if values else f"without label {name}"
            return f"the same {instead} (no such {what} is labelled {name}={value})"
    return f"the same with fewer labels (no such {what} has all of them)"


def _labels_of_devices(facts: NodeFacts) -> Labels:
    return tuple(label for device in facts.devices for label in device.labels)


def _nearest_profile(allowed: Sequence[NodeFacts], demand: Demand) -> str | None:
    """Where the model and vendor are there, but not as the MIG instances, or the whole devices, that are asked for."""
    kind = [
        device
        for facts in allowed
        for device in facts.devices
        if demand.vendor in (None, device.vendor) and demand.model in (None, device.model)
    ]
    profiles = {device.mig_profile for device in kind}
    named = [profile for profile in profiles if profile is not None]
    if not kind or demand.mig_profile in profiles:
        return None
    nearest = _closest(demand.mig_profile or "", named) if named else None
    return replace(demand, mig_profile=nearest, devices=min(demand.devices, 1)).device_text()


def _closest(name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return close[0] if close else names[0]


def _only_devices(demand: Demand) -> Demand:
    return Demand(devices=demand.devices, share_milli=demand.share_milli, cpus_milli=0)


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _beside(demand: Demand) -> str:
    """CPUs and memory beside a device, where they are more than a worker's usual one CPU."""
    if not (demand.devices or demand.share_milli):
        return ""
    parts = [f"{demand.cpus_milli / 1000:g} CPUs"] if demand.cpus_milli > 1000 else []
    parts += [f"{demand.memory_bytes / 2**30:.3g} GiB"] if demand.memory_bytes else []
    return f" with {' and '.join(parts)}" if parts else ""


def _where(demand: Demand) -> str:
    pins = [f"on node {demand.node}"] if demand.node is not None else []
    pins += [f"at site {demand.site}"] if demand.site is not None else []
    pins += [f"with {name}={value}" for name, value in (*demand.node_labels, *demand.device_labels)]
    return "".join(f" {pin}" for pin in pins)


def _together(constraints: Constraints, workers: int) -> str:
    if workers == 1 and constraints.within is not Level.ISLAND:
        return ""
    said = [f"all in one {constraints.within}"] if constraints.within is not None else []
    said += [f"at most one in each {constraints.one_per}"] if constraints.one_per is not None else []
    return "".join(f", {each}" for each in said)
