"""What others than a node's agent hold against its devices: the nights' flags and the checks, by source.

All that a source holds against a node is one word, and the newest counts. It is kept by the store and by the node's
agent. The store has it first (a command goes out when what follows from the same events is committed), so no agent ever
knows a newer one: where the two differ, the agent was away, and is told when it is greeted. A word therefore stays in
the store also when the agent is known to have it, and when it is that nothing is held any more; it is two small rows a
node at most. Without it the next service would have to believe an agent that has missed it.

Words are the store's from the first one on: what an agent keeps of which the store has none counts as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from node_agent.health.rules import NIGHTS, SOURCES, Rule
from node_agent.health.verdicts import SEVERITY, Finding, Jobs
from node_agent.messages import Noted
from scheduler.ports import HealthNotes
from scheduler.service.outcome import FlagsReported, Outcome
from scheduler.service.state import ServiceState

log = logging.getLogger(__name__)

MOST_FINDINGS = 512
"""Of one source against one node: far above three rules for each device of the largest nodes."""
LONGEST_REASON = 750
"""Characters. The API takes 500 for a flag's sentence, and 200 for the name of its measurements."""


def take_in(state: ServiceState, notes: Sequence[HealthNotes]) -> None:
    """What the service before this one held against the nodes, whether they are there or not."""
    book = state.health
    book.noted |= {each.key: each.findings for each in notes}
    for node in sorted({each.node for each in notes}):
        book.compose(node)


def note(state: ServiceState, out: Outcome, node: str, source: str, findings: Sequence[Finding]) -> None:
    """All that this source holds against the node's devices from now on; its agent is to keep it."""
    new = _bounded(node, source, findings)
    if new == state.health.held_by(node, source):
        return
    _say(state, out, node, source, new)
    out.send(node, Noted(state.epoch, node, source, new))
    state.health.compose(node)


def forget(state: ServiceState, out: Outcome, node: str) -> None:
    """An operator's word: nothing of it holds any more. Its agent hears that in words of their own (`Mended`)."""
    for source in SOURCES:
        _say(state, out, node, source, ())


def remind(state: ServiceState, out: Outcome, node: str) -> None:
    """An agent that was greeted has said what it has kept: what it has missed since is told again."""
    book = state.health
    for source in SOURCES:
        said = book.noted.get((node, source))
        if said is not None and said != book.kept.get((node, source), ()):
            out.send(node, Noted(state.epoch, node, source, said))
    if node in book.found:
        book.unsettled = True  # which devices it is about, only the facts say that came with the greeting


def told(rule: Rule, uuid: str, reason: str, since_s: float) -> Finding:
    """A finding of somebody other than the agent."""
    return Finding(uuid, rule.name, rule.use, rule.jobs, rule.lifts, reason, rule.advice.value, since_s)


def flagged(state: ServiceState, out: Outcome, event: FlagsReported, now_s: float) -> None:
    """What was made of the nights' measurements: in place of all that was flagged before."""
    book = state.health
    # A node that has not come since this service started is known by what is held against its devices alone.
    node_of = {finding.device: node for (node, _), findings in book.noted.items() for finding in findings}
    node_of |= {
        device.uuid: name
        for name, status in state.nodes.items()
        if status.facts is not None
        for device in status.facts.devices
    }
    by_node: dict[str, dict[tuple[str, str], Finding]] = {}
    for flag in event.flags:
        node, rule = node_of.get(flag.device), book.settings.rules.get(flag.rule)
        if node is None:
            event.ignored.append(flag.device)
        elif rule is not None and rule.enabled:
            finding = told(rule, flag.device, f"{flag.text} ({event.run})", min(flag.since_s, now_s))
            by_node.setdefault(node, {})[flag.device, flag.rule] = finding
    flagged_before = {node for node, source in book.noted if source == NIGHTS}
    for node in sorted({*state.nodes, *by_node, *flagged_before}):
        found = by_node.get(node, {})
        note(state, out, node, NIGHTS, tuple(found[key] for key in sorted(found)))


def _say(state: ServiceState, out: Outcome, node: str, source: str, findings: tuple[Finding, ...]) -> None:
    state.health.noted[node, source] = findings
    out.note(HealthNotes(node, source, findings))


def _bounded(node: str, source: str, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst of them, the older ones first among equals, in the order in which they came."""
    kept = list(findings)
    if len(kept) > MOST_FINDINGS:
        log.warning(
            "node %s: %s hold %d things against it; the worst %d are kept", node, source, len(kept), MOST_FINDINGS
        )
        by_rank = sorted(range(len(kept)), key=lambda at: _rank(kept[at]), reverse=True)
        kept = [kept[at] for at in sorted(by_rank[:MOST_FINDINGS])]
    return tuple(
        each if len(each.reason) <= LONGEST_REASON else replace(each, reason=f"{each.reason[: LONGEST_REASON - 1]}…")
        for each in kept
    )


def _rank(finding: Finding) -> tuple[int, bool, float]:
    return SEVERITY[finding.use], finding.jobs is Jobs.MOVE, -finding.since_s
