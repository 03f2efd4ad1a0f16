"""A packing policy as the planner asks it: by demand, over the rows that the search has left.

The policies of `core.packing` know asks; an ask is made once for each kind of demand and version of the nodes, and
kept, since scores are kept under it. For the score alone, CPUs and memory count rounded down to a power of two: demands
that differ in little share their scores, which are then seldom out of date. Whether a node has room is the search's
answer, exact, and comes as `candidates`.
"""

from __future__ import annotations

from scheduler.core.demand import Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import Bools, Ints, NodeColumns, Pool
from scheduler.core.packing.policies import packing_named
from scheduler.core.packing.rows import Ask, NodeKinds
from scheduler.core.packing.scorer import Scorer
from scheduler.core.packing.shapes import TypicalShapes

_KEPT_ASKS = 256


class PackingChoice:
    """One policy's choices over one version of the nodes. Raises ValueError for a policy that does not exist."""

    __slots__ = ("_alike", "_asks", "_nodes", "_recent", "_scorer")

    def __init__(self, name: str, nodes: NodeColumns, shapes: TypicalShapes, tie_rank: Ints) -> None:
        self._nodes = nodes
        self._scorer = Scorer(packing_named(name), NodeKinds.of(nodes), shapes, tie_rank, nodes.max_devices)
        self._asks: dict[Demand, Ask] = {}
        # By identity, since hashing demands is slow; what was asked for is kept: its id is not given to another.
        self._recent: dict[int, tuple[Demand, Ask]] = {}
        # With the pool itself, whose id is in the key, so that no other gets it.
        self._alike: dict[tuple[int, ...], tuple[Pool, Ask]] = {}

    def best(self, free: FreeColumns, demand: Demand, candidates: Bools, workers: int) -> int:
        """The row, one of the candidates, for so many workers. Each candidate has room for them."""
        row = self._scorer.best(free, self._ask(demand), candidates, workers)
        assert row is not None, f"no candidate has room for {workers} of {demand}"
        return row

    def first_choice(self, free: FreeColumns, demand: Demand) -> int | None:
        """The row that suits one worker best of all that have room for as little as scores look at; None: none has."""
        return self._scorer.best(free, self._ask(demand))

    def devices(self, free: FreeColumns, row: int, demand: Demand) -> tuple[int, ...]:
        """The device of that row for one worker's share."""
        return self._scorer.devices(free, row, self._ask(demand))

    def _ask(self, demand: Demand) -> Ask:
        recent = self._recent.get(id(demand))
        if recent is not None:
            return recent[1]
        ask = self._asks.get(demand)
        if ask is None:
            if len(self._asks) >= _KEPT_ASKS:
                del self._asks[next(iter(self._asks))]
            ask = self._asks[demand] = self._made(demand)
        if len(self._recent) >= _KEPT_ASKS:
            self._recent.clear()
        self._recent[id(demand)] = (demand, ask)
        return ask

    def _made(self, demand: Demand) -> Ask:
        """Demands that the same nodes serve share a pool, and so an ask where they want about as much."""
        pool = self._nodes.pool(demand)
        cpus_milli, memory_bytes = _rounded_cpus(demand.cpus_milli), _power_of_two(demand.memory_bytes)
        key = (id(pool), demand.devices, demand.share_milli, cpus_milli, memory_bytes)
        found = self._alike.get(key)
        if found is None:
            if len(self._alike) >= _KEPT_ASKS:
                del self._alike[next(iter(self._alike))]
            ask = Ask(
                rows=pool.nodes,
                devices=demand.devices,
                share_milli=demand.share_milli,
                cpus_milli=cpus_milli,
                memory_bytes=memory_bytes,
                usable=pool.devices,
            )
            found = self._alike[key] = (pool, ask)
        return found[1]


def _rounded_cpus(cpus_milli: int) -> int:
    """Whole CPUs by powers of two, less than one as it is."""
    return _power_of_two(cpus_milli // 1000) * 1000 or cpus_milli


def _power_of_two(amount: int) -> int:
    """The largest that is not above it; 0 for 0."""
    return 1 << amount.bit_length() >> 1
