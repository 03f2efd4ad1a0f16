"""Which nodes are run when not all can be, and what do they say of the rest? Between the inventory and `sampling.py`.

Nodes are drawn, not cards: the cards of a node run together. A node that is busy or down is not drawn, and belongs to
what is estimated. Real nodes only, where there are any; else the simulated ones, and what comes of them is simulated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.history.findings import Estimate
from benchmarks.history.sampling import Unit, choose, estimate
from benchmarks.inventory import parse_nodes
from benchmarks.record import DeviceRecord


def units_of(answer: Mapping[str, Any]) -> tuple[tuple[Unit, ...], frozenset[str], bool]:
    """GET /v1/nodes as units, the names of those that could run now, and whether they are simulated."""
    nodes = [node for node in parse_nodes(answer) if any(not d.is_cpu for d in node.devices)]
    simulated = all(node.simulated for node in nodes)
    mine = [node for node in nodes if node.simulated == simulated]
    units = tuple(
        Unit(
            node.name,
            node.site,
            next(d.model for d in node.devices if not d.is_cpu),
            node.rack or "",
            sum(not d.is_cpu for d in node.devices),
        )
        for node in mine
    )
    return units, frozenset(node.name for node in mine if node.free), simulated


def drawn(units: Sequence[Unit], able: frozenset[str], cards: int, *, seed: int) -> tuple[Unit, ...]:
    """Nodes of about so many cards, of those that can run. Raises CannotEstimate."""
    there = [unit for unit in units if unit.name in able]
    if not there:
        return ()
    mean = sum(unit.cards for unit in there) / len(there)
    return choose(there, max(1, math.ceil(cards / mean)), seed=seed)


def estimated(units: Sequence[Unit], records: Sequence[DeviceRecord]) -> Estimate:
    """The total over all cards of `units` from what the records of one precision count. A card that failed counts 0; of
    a node of which some cards were busy, those that ran stand for it. Raises CannotEstimate."""
    by_node: dict[str, list[float]] = {}
    for record in records:
        if record.node is not None and record.on != "cpu" and record.unit is None:
            by_node.setdefault(record.node, []).append(record.gflops or 0.0)
    cards = {unit.name: unit.cards for unit in units}
    ran = {name: sum(rates) / len(rates) * cards[name] for name, rates in by_node.items() if name in cards}
    return estimate(units, ran)
