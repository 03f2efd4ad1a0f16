"""What a scorer keeps of one ask: which rows it looks at, how each state was rated, and a column of keys to choose by.

Keys are of the rows that serve the ask alone: these are some tens of more than a thousand, and a column of them is soon
gone through.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scheduler.core.node_columns import Bools, Ints
from scheduler.core.packing.node_states import PricedNodes
from scheduler.core.packing.rows import NodeKinds

_NEVER = -1

Rated = tuple[int, int, int, int]
"""Of a state: the better of both scores as keys have it, the score, the score of opening an idle device, and what the
device has left that a share is cut from."""


@dataclass(frozen=True, slots=True)
class Served:
    """The rows that serve an ask, rising: `rows`, int64[places], the same as a list, and where among them each stands;
    `orders`, int64[places]: their node order, as keys have it; and which kinds of nodes they are."""

    rows: Ints
    listed: list[int]
    place_of: dict[int, int]
    orders: Ints
    kinds: list[int]

    @staticmethod
    def by(serves: Bools, orders: Ints, kinds: NodeKinds) -> Served:
        """`serves`, bool[nodes]; `orders` of all nodes."""
        rows = serves.nonzero()[0]
        listed: list[int] = rows.tolist()
        place_of = {row: place for place, row in enumerate(listed)}
        return Served(rows, listed, place_of, orders.take(rows), sorted(set(kinds.kind.take(rows).tolist())))


@dataclass(slots=True)
class Kept:
    """`keys`, int64[places]: score and node order in one number, before protection, as the states were after so many
    `moves`, of each kind as often as `seen`. By state: `rated`. `priced`: what of protection concerns those rows."""

    served: Served
    priced: PricedNodes | None
    generation: int
    moves: int = _NEVER
    keys: Ints = field(init=False)
    seen: list[int] = field(init=False)
    rated: dict[int, Rated] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = np.zeros(len(self.served.rows), np.int64)  # none is looked at before it was mended
        self.seen = [_NEVER] * len(self.served.kinds)
