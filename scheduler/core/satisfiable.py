"""Could the cluster ever take this demand, were it empty and every node up? If not: what comes nearest, in words.

Drained and silent nodes count as existing. The answer depends on the nodes alone, so a pass asks once a demand.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from scheduler.core.demand import Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import Bools, NodeColumns
from scheduler.core.placement import Pools, capacity, how_many


def demand_text(alternatives: Sequence[Demand], workers: int) -> str:
    """`4 workers of 8 x H100 SXM or 8 x A100 on node gpu-3`, `1 worker of 2 CPUs and no device`: for messages."""
    kinds = " or ".join(
        dict.fromkeys(demand.device_text() + _beside(demand) + _where(demand) for demand in alternatives)
    )
    return f"{_workers(workers)} of {kinds}"


def nearest_possible(nodes: NodeColumns, alternatives: Sequence[Demand], workers: int) -> str | None:
    """None if the empty cluster could take `workers` workers; otherwise the nearest demand that it could take."""
    pools = Pools(nodes, np.ones(len(nodes), np.bool_), np.arange(len(nodes)))
    empty = FreeColumns.empty(nodes)
    possible = how_many(pools, empty, alternatives, workers)
    if possible >= workers:
        return None
    if not len(nodes):
        return "nothing: the cluster has no nodes"
    if possible > 0:
        return demand_text(alternatives, possible)
    return _nearest_worker(pools, empty, alternatives[0])


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
        name = Demand(vendor=demand.vendor, model=demand.model, devices=most).device_text()
        return f"{name} a worker (the most that one node has)"
    cpus = int(nodes.cpus_milli[fits_devices].max())
    if cpus < demand.cpus_milli:
        return f"{cpus / 1000:g} CPUs a worker (the most that one such node has)"
    memory = int(nodes.memory_bytes[fits_devices & (nodes.cpus_milli >= demand.cpus_milli)].max())
    return f"{memory / 2**30:.1f} GiB of memory a worker (the most that one such node has)"


def _nearest_kind(nodes: NodeColumns, demand: Demand) -> str:
    """No node serves the demand's kind of device in its place and reality: the nearest kind that one does."""
    allowed = [
        facts
        for facts in nodes.facts
        if (demand.simulated or not facts.simulated)
        and demand.node in (None, facts.name)
        and demand.site in (None, facts.site)
    ]
    match: Bools = np.any(nodes.device_match(demand), axis=1)
    if not demand.simulated and bool((match & nodes.simulated).any()):
        return f"{demand.device_text()} with simulated: true (only simulated nodes have it)"
    elsewhere = next((facts for facts, has in zip(nodes.facts, match.tolist(), strict=True) if has), None)
    if elsewhere is not None:
        return f"{demand.device_text()} on node {elsewhere.name} at site {elsewhere.site}"
    if not allowed:
        return "the same with simulated: true (every such node is simulated)"
    models = sorted({device.model for facts in allowed for device in facts.devices})
    if not models:
        return "a demand without devices (no such node has any)"
    if demand.model is None:
        return f"vendor {_closest(demand.vendor or '', (d.vendor for f in allowed for d in f.devices))}"
    same_vendor = {d.model for f in allowed for d in f.devices if demand.vendor in (None, d.vendor)}
    model = _closest(demand.model, same_vendor or models)
    most = max(sum(device.model == model for device in facts.devices) for facts in allowed)
    devices = min(demand.devices, most)
    return Demand(model=model, devices=devices, share_milli=demand.share_milli).device_text()


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
    return "".join(f" {pin}" for pin in pins)
