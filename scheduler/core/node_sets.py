"""Which sets of nodes have a node in common?

The nodes that serve a shape of job are one object for as long as they are the same, so two sets need be compared once.
Each has a bit of its own, so that whether it meets any of several is one operation.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools


class NodeSet:
    """bool[nodes] and its bit; the bits of those sets that it was compared with, and of those that it meets."""

    __slots__ = ("bit", "compared", "meets", "nodes")

    def __init__(self, nodes: Bools, bit: int) -> None:
        self.nodes = nodes
        self.bit = bit
        self.compared = self.meets = 0


class NodeSets:
    """By the identity of the nodes, which are kept, and are not to be changed later."""

    __slots__ = ("_by_bit", "_known")

    def __init__(self) -> None:
        self._known: dict[int, NodeSet] = {}
        self._by_bit: list[NodeSet] = []

    def __len__(self) -> int:
        return len(self._by_bit)

    def of(self, nodes: Bools) -> NodeSet:
        known = self._known.get(id(nodes))
        if known is None:
            known = self._known[id(nodes)] = NodeSet(nodes, 1 << len(self._by_bit))
            self._by_bit.append(known)
        return known

    def meeting(self, nodes: Bools, among: int) -> int:
        """The bits of those sets, among these, that have a node in common with them."""
        known = self.of(nodes)
        new = among & ~known.compared
        known.compared |= new
        while new:
            other = self._by_bit[new.bit_length() - 1]
            new ^= other.bit
            if np.count_nonzero(nodes & other.nodes):
                known.meets |= other.bit
        return known.meets & among
