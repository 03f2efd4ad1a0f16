"""Which sets of nodes have a node in common?

The nodes that serve a shape of job are one object for as long as they are the same, so two sets need be compared once.
Each has a bit of its own, and the bits of all that it meets: whether it meets any of several is one operation.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools


class NodeSet:
    """bool[nodes], its bit, and the bits of all sets so far that have a node in common with it."""

    __slots__ = ("bit", "meets", "nodes")

    def __init__(self, nodes: Bools, bit: int) -> None:
        self.nodes = nodes
        self.bit = bit
        self.meets = bit if np.count_nonzero(nodes) else 0


class NodeSets:
    """By the identity of the nodes, which are kept, and are not to be changed later."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, NodeSet] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, nodes: Bools) -> NodeSet:
        known = self._known.get(id(nodes))
        if known is None:
            known = NodeSet(nodes, 1 << len(self._known))
            for other in self._known.values():
                if np.count_nonzero(nodes & other.nodes):
                    other.meets |= known.bit
                    known.meets |= other.bit
            self._known[id(nodes)] = known
        return known
