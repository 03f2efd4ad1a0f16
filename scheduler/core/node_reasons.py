"""Why each node cannot take a worker now, in one word or number a node, counted: "212 nodes: model differs".

A node has one reason: the first that would have to go away, in the order place, reality, labels, kind of device,
drained or down, reserved, devices, CPUs, memory. Where a job has alternatives a node is named by the one that came
closest to fitting.

A pass asks this once for each class of jobs that waits, so what follows from the nodes alone is kept with them, and
what follows from which of them may be given work is kept with the pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from scheduler.core.arrays import ABSENT, Bools, Ints, Milli, count_true
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, Labels
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns
from scheduler.core.pools import Pools

NOT_NAMED = "not the named node"
OTHER_SITE = "other site"
SIMULATED = "simulated, which the demand does not allow"
NO_DEVICE = "no devices"
VENDOR = "vendor differs"
MODEL = "model differs"
ONLY_MIG = "only MIG instances"
RESERVED = "reserved"

_Codes = npt.NDArray[np.int8]

# How close to fitting a node came: the higher, the closer. A node's code is the lowest of those that apply.
_NOT_NAMED, _OTHER_SITE, _SIMULATED, _NODE_LABEL, _NO_DEVICE, _VENDOR, _MODEL, _PROFILE, _DEVICE_LABEL = range(9)
_UNSCHEDULABLE, _EXCLUDED, _DEVICES, _CPUS, _MEMORY, _FITS = range(9, 15)
_SAME_WORD: Final = {
    _NOT_NAMED: NOT_NAMED,
    _OTHER_SITE: OTHER_SITE,
    _SIMULATED: SIMULATED,
    _NO_DEVICE: NO_DEVICE,
    _VENDOR: VENDOR,
    _MODEL: MODEL,
}


def nodes_by_reason(
    pools: Pools,
    free: FreeColumns,
    alternatives: Sequence[Demand],
    unschedulable: Mapping[str, str],
    *,
    excluded: Bools | None = None,
    excluded_word: str = RESERVED,
) -> tuple[tuple[str, int], ...]:
    """(reason, number of nodes), most frequent first; nodes that could take a worker are left out.

    Reasons are the words above, "lacks label K=V", "no MIG P instances", "no device with label K=V", "draining" or
    "down" (what stands before the colon in `unschedulable`), `excluded_word` for the nodes of `excluded` (bool[nodes]),
    "K of N devices free", or for a share "0 of N devices have S free" (with ", U unhealthy" where devices are barred
    from such work); "under C CPUs free", "under M GiB free".
    """
    closest: _Codes | None = None
    which: Ints | None = None  # the alternative that came closest; None: the first everywhere
    for i, demand in enumerate(alternatives):
        code = _codes(pools, free, demand, excluded)
        if closest is None:
            closest = code
            continue
        which = np.zeros(len(code), np.int64) if which is None else which
        which[code > closest] = i
        closest = np.maximum(closest, code)
    if closest is None:
        return ()
    counts: dict[str, int] = {}
    tally = np.bincount(closest, minlength=_FITS + 1).tolist()
    for step, word in _SAME_WORD.items():
        _add(counts, word, tally[step])
    _add(counts, excluded_word, tally[_EXCLUDED])
    if tally[_UNSCHEDULABLE]:
        for row in np.flatnonzero(closest == _UNSCHEDULABLE).tolist():
            _add(counts, unschedulable.get(pools.nodes.names[row], "not schedulable").split(":")[0], 1)
    for i, demand in enumerate(alternatives):
        mine = closest if which is None else closest[which == i]
        rows = None if which is None else np.flatnonzero(which == i)
        if which is not None:
            tally = np.bincount(mine, minlength=_FITS + 1).tolist()
        _add(counts, f"under {demand.cpus_milli / 1000:g} CPUs free", tally[_CPUS])
        _add(counts, f"under {demand.memory_bytes / 2**30:.3g} GiB free", tally[_MEMORY])
        _add(counts, f"no MIG {demand.mig_profile} instances" if demand.mig_profile else ONLY_MIG, tally[_PROFILE])
        for step in (_NODE_LABEL, _DEVICE_LABEL, _DEVICES):
            if not tally[step]:
                continue
            at = np.flatnonzero(mine == step)
            at = at if rows is None else rows[at]
            for word, count in _words(pools, free, demand, step, at):
                _add(counts, word, count)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What follows from the nodes, and in a pass from which of them may be given work: `codes`, int8[nodes]; `devices`:
    which devices serve the demand, or None for all of the nodes that do; `matching`, int32[nodes]: how many."""

    codes: _Codes
    devices: Bools | None
    matching: Milli


def _codes(pools: Pools, free: FreeColumns, demand: Demand, excluded: Bools | None) -> _Codes:
    known = _known(pools, demand)
    code = known.codes
    if excluded is not None:
        code = np.minimum(code, _unless(excluded, _EXCLUDED))
    if demand.devices:
        code = np.minimum(code, _unless(free.whole_of(known.devices) < demand.devices, _DEVICES))
    elif demand.share_milli:
        enough = free.milli >= demand.share_milli
        idle = count_true(enough if known.devices is None else enough & known.devices)
        code = np.minimum(code, _unless(idle == 0, _DEVICES))
    if demand.cpus_milli:
        code = np.minimum(code, _unless(free.cpus_milli < demand.cpus_milli, _CPUS))
    if demand.memory_bytes:
        code = np.minimum(code, _unless(free.memory_bytes < demand.memory_bytes, _MEMORY))
    return code


def _unless(which: Bools, code: int) -> _Codes:
    """That code where True, _FITS elsewhere."""
    codes: _Codes = which.view(np.int8) * np.int8(code - _FITS)
    codes += np.int8(_FITS)
    return codes


def _known(pools: Pools, demand: Demand) -> _Known:
    """Of the pass; made from what is kept with the nodes, for all demands that differ in size alone."""
    found = pools.kept.get((_Known, demand))
    if not isinstance(found, _Known):
        wants = bool(demand.devices or demand.share_milli)
        linked = demand.linked or demand.devices > 1
        kind = replace(demand, devices=int(wants), share_milli=0, cpus_milli=0, memory_bytes=0, linked=linked)
        of_nodes = pools.nodes.answers.get((_Known, kind))
        if not isinstance(of_nodes, _Known):
            of_nodes = _of_nodes(pools.nodes, kind)
            pools.nodes.remember((_Known, kind), of_nodes)
        codes = np.minimum(of_nodes.codes, _unless(~pools.schedulable, _UNSCHEDULABLE))
        found = replace(of_nodes, codes=codes)
        pools.keep((_Known, demand), found)
    return found


def _of_nodes(nodes: NodeColumns, demand: Demand) -> _Known:
    code = np.full(len(nodes), _FITS, np.int8)
    matching = np.zeros(len(nodes), np.int32)
    if demand.devices:
        matching = count_true(nodes.device_match(demand)).astype(np.int32)
        code[matching == 0] = _DEVICE_LABEL
        kind = Demand(vendor=demand.vendor, model=demand.model, mig_profile=demand.mig_profile)
        code[~nodes.device_match(kind).any(axis=1)] = _PROFILE
        code[~nodes.kind_match(demand.vendor, demand.model).any(axis=1)] = _MODEL
        code[~nodes.kind_match(demand.vendor, None).any(axis=1)] = _VENDOR
        code[nodes.device_count == 0] = _NO_DEVICE
    if demand.node_labels:
        code[~nodes.label_match(demand.node_labels, nodes.node_labels)] = _NODE_LABEL
    if not demand.simulated:
        code[nodes.simulated] = _SIMULATED
    if demand.site is not None:
        code[nodes.site != nodes.numbers.sites.known(demand.site)] = _OTHER_SITE
    if demand.node is not None:
        code[np.arange(len(nodes)) != nodes.row_of.get(demand.node, -1)] = _NOT_NAMED
    return _Known(code, nodes.pool(demand).devices, matching)


def _words(pools: Pools, free: FreeColumns, demand: Demand, step: int, rows: Ints) -> list[tuple[str, int]]:
    """For reasons whose words differ from node to node: of these nodes, how many have which."""
    nodes = pools.nodes
    if step == _DEVICES:
        return _device_words(nodes, _known(pools, demand), free, demand, rows)
    if step == _NODE_LABEL:
        return _label_words("lacks label", demand.node_labels, nodes, nodes.node_labels[rows][:, None])
    kind = nodes.device_match(replace(demand, device_labels=()))[rows]
    carried = np.where(kind, nodes.device_labels[rows], ABSENT)
    return _label_words("no device with label", demand.device_labels, nodes, carried)


def _label_words(phrase: str, wanted: Labels, nodes: NodeColumns, carried: Ints | Milli) -> list[tuple[str, int]]:
    """By the first label that none of the carriers in a row (numbers of their sets of labels) has; or all together."""
    words: list[tuple[str, int]] = []
    left = np.ones(len(carried), np.bool_)
    for label in wanted:
        lacking = left & ~nodes.label_match((label,), carried).any(axis=1)
        words.append((f"{phrase} {label[0]}={label[1]}", int(lacking.sum())))
        left &= ~lacking
    together = ", ".join(f"{name}={value}" for name, value in wanted)
    words.append((f"{phrase} {together}", int(left.sum())))
    return words


def _device_words(
    nodes: NodeColumns, known: _Known, free: FreeColumns, demand: Demand, rows: Ints
) -> list[tuple[str, int]]:
    if demand.share_milli:
        have = np.zeros(len(rows), np.int64)
    elif known.devices is None:
        have = free.whole[rows]
    else:
        have = count_true((free.milli[rows] == WHOLE_DEVICE_MILLI) & known.devices[rows])
    most = free.milli.shape[1] + 1
    barred: Milli = np.zeros(len(rows), np.int32)
    if nodes.any_barred and known.devices is not None:
        barred = known.matching[rows] - count_true(known.devices[rows]).astype(np.int32)
    tally = np.bincount((have * most + known.matching[rows]) * most + barred)
    words = []
    for found in np.flatnonzero(tally).tolist():
        pair, unhealthy = divmod(found, most)
        idle, of = divmod(pair, most)
        what = f"have {demand.share_milli / WHOLE_DEVICE_MILLI:g} free" if demand.share_milli else "free"
        kept = f", {unhealthy} unhealthy" if unhealthy else ""
        words.append((f"{idle} of {of} devices {what}{kept}", int(tally[found])))
    return words


def _add(counts: dict[str, int], word: str, count: int) -> None:
    if count:
        counts[word] = counts.get(word, 0) + count
