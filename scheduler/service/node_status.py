"""What does the service know of one node, and how fresh is it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scheduler.core.demand import NodeFacts


@dataclass(slots=True)
class NodeStatus:
    """`facts` is None for a node that a job stands on and that was not heard of since this service started.

    `heard_s` is the last sign of life, `renewed_s` when its lease was last renewed. `silent_since_s` is the later of
    the two while the node is away without proof that its processes are gone: its lease may run from then on.
    `contact_s` is the last sign of life that this service had itself, `before_s` the last one at an earlier moment than
    the present news: a run that was believed alive then did live. `lived_s` is the same as the engine knows it, who
    knows how old the news is; where it says nothing, None.
    """

    name: str
    heard_s: float
    renewed_s: float = 0.0
    silent_since_s: float | None = None
    facts: NodeFacts | None = None
    up: bool = False
    notes: tuple[str, ...] = ()
    shares: Literal["mps", "advisory"] = "advisory"
    agent_pid: int | None = None
    detail: str = ""
    contact_s: float | None = None
    before_s: float | None = None
    lived_s: float | None = None

    def heard(self, now_s: float) -> None:
        """A sign of life."""
        if self.contact_s is not None and self.contact_s < now_s:
            self.heard_before(self.contact_s)
        self.heard_s = self.contact_s = now_s

    def heard_before(self, at_s: float) -> None:
        self.before_s = at_s if self.before_s is None else max(self.before_s, at_s)
