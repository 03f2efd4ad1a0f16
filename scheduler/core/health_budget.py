"""How much may health take out at a time? The worst first, and never more of a pool than its budget.

A bad rule, or a bad driver on all nodes, must not empty the site: beyond the budget what health wants is told and not
done. A pool here is all devices of one vendor and model, real and simulated apart. What an operator has drained is out
by the operator's word and takes nothing from the budget; nodes that are away count as installed.

Whoever is worse takes the place of who is less so: the answer follows from what is wanted now, and of equals those that
are out already stay out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from scheduler.core.demand import DeviceFacts, NodeFacts

Target = tuple[str, int | None]
"""A node and one of its devices by index, or None for all of it."""
PoolKey = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Budget:
    """Of each pool at most this share of its devices (0 to 1), but always as many as its `nodes` largest nodes have."""

    share: float = 0.02
    nodes: int = 1

    def __post_init__(self) -> None:
        assert 0.0 <= self.share <= 1.0, self
        assert self.nodes >= 0, self


@dataclass(frozen=True, slots=True)
class Wish:
    """Health wants this out. `severity`: the higher, the worse; `since_s`: of two as bad the older one goes first."""

    target: Target
    severity: int
    since_s: float


def pool_of(device: DeviceFacts) -> PoolKey:
    return device.vendor, device.model, device.simulated


def allowances(nodes: Iterable[NodeFacts], budget: Budget) -> Mapping[PoolKey, int]:
    """How many devices of each pool may be out at a time."""
    total: Counter[PoolKey] = Counter()
    by_node: dict[PoolKey, list[int]] = {}
    for node in nodes:
        here = Counter(pool_of(device) for device in node.devices)
        total += here
        for pool, count in here.items():
            by_node.setdefault(pool, []).append(count)
    return {
        pool: max(int(budget.share * count + 1e-9), sum(sorted(by_node[pool], reverse=True)[: budget.nodes]))
        for pool, count in total.items()
    }


def granted(
    wishes: Iterable[Wish],
    nodes: Mapping[str, NodeFacts],
    budget: Budget,
    *,
    out: Collection[Target] = (),
    drained: Collection[str] = (),
) -> frozenset[Target]:
    """Which of them are done. `out`: what is already; `drained`: nodes that operators have taken out. What is wanted of
    a node or device that is not there costs nothing and is granted."""
    left = dict(allowances(nodes.values(), budget))
    taken: set[tuple[str, int]] = set()
    done: set[Target] = set()
    for wish in sorted(wishes, key=lambda each: _turn(each, each.target in out)):
        name, index = wish.target
        node = nodes.get(name)
        devices = [] if node is None or name in drained else node.devices
        new = [device for device in devices if index in (None, device.index) and (name, device.index) not in taken]
        costs = Counter(pool_of(device) for device in new)
        if all(left[pool] >= cost for pool, cost in costs.items()):
            for pool, cost in costs.items():
                left[pool] -= cost
            taken.update((name, device.index) for device in new)
            done.add(wish.target)
    return frozenset(done)


def _turn(wish: Wish, is_out: bool) -> tuple[int, bool, float, str, int]:
    name, index = wish.target
    return -wish.severity, not is_out, wish.since_s, name, -1 if index is None else index
