"""When does each rack begin to draw power? One after the other, so that no site's load jumps at once.

Ten thousand cards that begin to work within the same second are a step of some megawatts. Warm-up is therefore begun
rack by rack, one a second, well before the shared start: at the start itself all are warm and the load does not change.
Nodes that are in no rack are taken together up to RACK_CARDS cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RACK_CARDS = 72
STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Placed:
    node: str
    rack: str | None
    cards: int


def ramp(nodes: Sequence[Placed], step_s: float = STEP_S) -> dict[str, float]:
    """Seconds after the first rack, by node; racks in the order of their names, those without one last."""
    racks: dict[str, list[Placed]] = {}
    loose = 0
    for node in sorted(nodes, key=lambda n: (n.rack is None, n.rack or "", n.node)):
        if node.rack is not None:
            racks.setdefault(f"rack {node.rack}", []).append(node)
            continue
        racks.setdefault(f"loose {loose // RACK_CARDS}", []).append(node)
        loose += node.cards
    return {node.node: place * step_s for place, members in enumerate(racks.values()) for node in members}
