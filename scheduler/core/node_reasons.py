"""Why each node cannot take a worker now, in one word or number a node, counted: "212 nodes: model differs".

A node has one reason: the first that would have to go away, in the order place, reality, kind of device, drained or
down, devices, CPUs, memory. Where a job has alternatives a node is named by the one that came closest to fitting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import ABSENT, Ints, NodeColumns, distinct
from scheduler.core.placement import Pools, capacity

NOT_NAMED = "not the named node"
OTHER_SITE = "other site"
SIMULATED = "simulated, which the demand does not allow"
NO_DEVICE = "no devices"
VENDOR = "vendor differs"
MODEL = "model differs"

# How close to fitting a node came: the higher, the closer.
_STATIC = (NOT_NAMED, OTHER_SITE, SIMULATED, NO_DEVICE, VENDOR, MODEL)
_UNSCHEDULABLE, _DEVICES, _CPUS, _MEMORY, _FITS = range(len(_STATIC), len(_STATIC) + 5)
_FREE_KEY = 4096  # more than any node has devices


def nodes_by_reason(
    pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], unschedulable: Mapping[str, str]
) -> tuple[tuple[str, int], ...]:
    """(reason, number of nodes), most frequent first; nodes that could take a worker are left out.

    Reasons are the words above, "draining" or "down" (what stands before the colon in `unschedulable`),
    "K of N devices free", or for a share "0 of N devices have S free"; "under C CPUs free", "under M GiB free".
    """
    nodes = pools.nodes
    closest = np.full(len(nodes), -1, np.int64)
    which = np.zeros(len(nodes), np.int64)
    for i, demand in enumerate(alternatives):
        code = _codes(pools, free, demand)
        which[code > closest] = i
        closest = np.maximum(closest, code)
    counts: dict[str, int] = {}
    for step, word in enumerate(_STATIC):
        _add(counts, word, int((closest == step).sum()))
    for row in np.flatnonzero(closest == _UNSCHEDULABLE).tolist():
        _add(counts, unschedulable.get(nodes.facts[row].name, "not schedulable").split(":")[0], 1)
    for i, demand in enumerate(alternatives):
        mine = which == i
        _add(counts, f"under {demand.cpus_milli / 1000:g} CPUs free", int(((closest == _CPUS) & mine).sum()))
        _add(counts, f"under {demand.memory_bytes / 2**30:.3g} GiB free", int(((closest == _MEMORY) & mine).sum()))
        for word, count in _device_words(nodes, free, demand, np.flatnonzero((closest == _DEVICES) & (which == i))):
            _add(counts, word, count)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _codes(pools: Pools, free: FreeColumns, demand: Demand) -> Ints:
    nodes = pools.nodes
    code = np.full(len(nodes), _FITS, np.int64)
    pool = nodes.pool(demand)
    if demand.memory_bytes:
        code[free.memory_bytes < demand.memory_bytes] = _MEMORY
    if demand.cpus_milli:
        code[free.cpus_milli < demand.cpus_milli] = _CPUS
    if demand.devices or demand.share_milli:
        devices_only = Demand(devices=demand.devices, share_milli=demand.share_milli, cpus_milli=0)
        code[capacity(pool, free, devices_only, 1) == 0] = _DEVICES
    code[~pools.schedulable] = _UNSCHEDULABLE
    if demand.devices or demand.share_milli:
        code[~nodes.device_match(demand).any(axis=1)] = _STATIC.index(VENDOR if demand.model is None else MODEL)
        if demand.vendor is not None:
            vendor = nodes.device_match(Demand(vendor=demand.vendor)).any(axis=1)
            code[~vendor] = _STATIC.index(VENDOR)
        code[nodes.device_count == 0] = _STATIC.index(NO_DEVICE)
    if not demand.simulated:
        code[nodes.simulated] = _STATIC.index(SIMULATED)
    if demand.site is not None:
        code[nodes.site != nodes.sites.known(demand.site)] = _STATIC.index(OTHER_SITE)
    if demand.node is not None:
        code[np.arange(len(nodes)) != nodes.row_of.get(demand.node, -1)] = _STATIC.index(NOT_NAMED)
    return code


def _device_words(nodes: NodeColumns, free: FreeColumns, demand: Demand, rows: Ints) -> list[tuple[str, int]]:
    if not rows.size:
        return []
    match = nodes.device_match(demand)[rows]
    needed = demand.share_milli or WHOLE_DEVICE_MILLI
    idle = ((free.milli[rows] >= needed) & match & (free.milli[rows] != ABSENT)).sum(axis=1)
    pairs, counts = distinct(idle * _FREE_KEY + match.sum(axis=1))
    words = []
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        have, of = divmod(pair, _FREE_KEY)
        what = f"have {demand.share_milli / WHOLE_DEVICE_MILLI:g} free" if demand.share_milli else "free"
        words.append((f"{have} of {of} devices {what}", count))
    return words


def _add(counts: dict[str, int], word: str, count: int) -> None:
    if count:
        counts[word] = counts.get(word, 0) + count
