"""What health has found on the nodes, by their agents' word, and what is done about it.

Nothing here is stored: agents keep what they have found and say it again whenever they are greeted, so a service that
starts knows it before it starts anything. (A copy in the store would have to be reconciled with what they say, and
theirs would count.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.health.verdicts import Finding
from scheduler.core.demand import Barred
from scheduler.core.health_budget import Budget, Target


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What the site lets health do. `report_only`: nothing but tell; `only_told`: rules of which that holds."""

    budget: Budget = field(default_factory=Budget)
    report_only: bool = False
    only_told: frozenset[str] = frozenset()

    def is_only_told(self, finding: Finding) -> bool:
        return self.report_only or finding.rule in self.only_told


@dataclass(frozen=True, slots=True)
class Acted:
    """What is done on one node. `whole`: the finding for which the node as a whole is given nothing; `barred`: by
    index, what each device is kept from, and for which finding."""

    whole: Finding | None = None
    barred: Mapping[int, tuple[Barred, Finding]] = field(default_factory=dict)


NOTHING = Acted()


@dataclass(slots=True)
class HealthBook:
    """`found` by node, nodes without findings left out. `out`: what is taken out now. `unsettled`: something of this
    has changed, and what is to be done about it was not looked at yet."""

    settings: HealthSettings = field(default_factory=HealthSettings)
    found: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    acted: dict[str, Acted] = field(default_factory=dict)
    out: frozenset[Target] = frozenset()
    unsettled: bool = False

    def on(self, node: str) -> Acted:
        return self.acted.get(node, NOTHING)

    def keeps_from(self, node: str, index: int) -> Finding | None:
        """The finding for which the device is given nothing new at all."""
        acted = self.on(node)
        if acted.whole is not None:
            return acted.whole
        barred = acted.barred.get(index)
        return barred[1] if barred is not None and barred[0] is Barred.ALL else None
