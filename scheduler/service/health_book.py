"""What health has found on the nodes, by their agents' word, and what is done about it.

What agents find is not stored: they keep it and say it again whenever they are greeted, so a service that starts knows
it before it starts anything. (A copy in the store would have to be reconciled with what they say, and theirs would
count.) What the service itself finds, or is told by those who compare nights, it gives the agents to keep likewise
(`messages.Noted`): by source, all that it holds against a node. Of that the store has the newest word, since the agent
may be away when it is said (`health_notes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node_agent.health.rules import DEFAULT_RULES, SOURCES, Rule
from node_agent.health.verdicts import Finding
from scheduler.core.demand import Barred
from scheduler.core.device_checks import CheckSettings
from scheduler.core.health_budget import Budget, Target


@dataclass(frozen=True, slots=True)
class CheckOrders:
    """How idle devices are checked, and the program that does it, as each node has it."""

    settings: CheckSettings
    command: tuple[str, ...]
    working_dir: str | None = None


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What the site lets health do. `report_only`: nothing but tell; `only_told`: rules of which that holds. `rules`:
    what is made of what the service finds itself. `checks` None: idle devices are not checked."""

    budget: Budget = field(default_factory=Budget)
    report_only: bool = False
    only_told: frozenset[str] = frozenset()
    rules: Mapping[str, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    checks: CheckOrders | None = None

    def is_only_told(self, finding: Finding) -> bool:
        return self.report_only or finding.rule in self.only_told


@dataclass(frozen=True, slots=True)
class Acted:
    """What is done on one node. `whole`: the finding for which the node as a whole is given nothing; `barred`: by
    index, what each device is kept from, and for which finding; `doubtful`: those that others are taken before."""

    whole: Finding | None = None
    barred: Mapping[int, tuple[Barred, Finding]] = field(default_factory=dict)
    doubtful: frozenset[int] = frozenset()


NOTHING = Acted()


@dataclass(slots=True)
class HealthBook:
    """`found` by node, nodes without findings left out: what its agent has found itself (`own`), and what others have,
    by node and source: as this service said it last (`noted`), or else as the agent has kept it (`kept`). `out`: what
    is taken out now. `unsettled`: something of this has changed, and what is to be done about it was not looked at yet.
    """

    settings: HealthSettings = field(default_factory=HealthSettings)
    found: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    own: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    noted: dict[tuple[str, str], tuple[Finding, ...]] = field(default_factory=dict)
    kept: dict[tuple[str, str], tuple[Finding, ...]] = field(default_factory=dict)
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

    def held_by(self, node: str, source: str) -> tuple[Finding, ...]:
        """What that source holds against the node's devices."""
        return self.noted.get((node, source), self.kept.get((node, source), ()))

    def take(self, node: str, findings: Iterable[Finding]) -> None:
        """All that the agent says of its node now."""
        told = tuple(findings)
        for source, rules in SOURCES.items():
            self.kept[node, source] = tuple(finding for finding in told if finding.rule in rules)
        self.own[node] = tuple(finding for finding in told if finding.rule not in _OTHERS)
        self.compose(node)

    def compose(self, node: str) -> None:
        found = (*self.own.get(node, ()), *(each for source in SOURCES for each in self.held_by(node, source)))
        if found == self.found.get(node, ()):
            return
        if found:
            self.found[node] = found
        else:
            del self.found[node]
        self.unsettled = True


_OTHERS = frozenset().union(*SOURCES.values())
