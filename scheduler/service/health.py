"""From what agents find to what the planner, the jobs and the operators make of it.

A finding that keeps a device (or a node) from work is done within the fleet's budget (`core.health_budget`), and not at
all where the site only wants to be told. What is done becomes a fact of the node: no new work (or none whose devices
talk to each other) on that device, or nothing at all on that node. What runs there goes on, or is asked to save its
work and goes back to the queue, as the finding says; replicas get a replacement. None of it uses up a retry.

Lifting is the agents' business: it ends when they no longer find it. An operator's word (`resume`) is handed to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from node_agent.health.rules import DEFAULT_RULES, Signal
from node_agent.health.verdicts import NODE, SEVERITY, Finding, Jobs, Use
from node_agent.messages import Mended, Stop
from scheduler.core.demand import Barred, Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.health_budget import Target, Wish, granted
from scheduler.core.jobs import EndCause, Job, Running, Starting, WorkerRun
from scheduler.ports import Json
from scheduler.service import dispatch, health_notes
from scheduler.service.endings import stop
from scheduler.service.health_book import NOTHING, Acted, HealthBook
from scheduler.service.job_facts import alive, serves
from scheduler.service.outcome import Outcome
from scheduler.service.state import ServiceState

BY = "health"
# What an earlier run of the same device cannot be blamed for: clocks of one node, read by two processes.
SAME_TIME_S = 1.0


def heard(state: ServiceState, node: str, findings: Sequence[Finding]) -> None:
    """All that is found on the node now, by its agent's word."""
    state.health.take(node, findings)


def settle(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Do what is to be done about what was found since the last time, and take back what is not found any more."""
    book = state.health
    if not book.unsettled:
        return
    book.unsettled = False
    known = {name: status.facts for name, status in state.nodes.items() if status.facts is not None}
    wishes = [wish for node, facts in known.items() for wish in _wishes(book, node, facts)]
    book.out = granted(wishes, known, book.settings.budget, out=book.out, drained=state.drains.keys())
    changed = {node for node, _ in book.out} | book.acted.keys() | book.found.keys()
    told: list[NodeFacts] = []
    for node in sorted(changed):
        facts = known.get(node)
        acted = NOTHING if facts is None else _acted(book, facts)
        if acted == book.on(node):
            continue
        if acted == NOTHING:
            book.acted.pop(node, None)
        else:
            book.acted[node] = acted
        if facts is not None:
            told.append(facts)
    _tell_planner(state, told)
    for node in sorted(book.found):
        if state.is_up(node):
            _see_to_jobs(state, out, node, now_s)


def planners_facts(state: ServiceState, facts: NodeFacts) -> NodeFacts:
    """The node as the planner is to know it."""
    acted = state.health.on(facts.name)
    barred, doubtful = acted.barred, acted.doubtful
    if not (barred or doubtful):
        return facts
    devices = [
        replace(
            device,
            barred=barred[device.index][0] if device.index in barred else device.barred,
            doubtful=device.index in doubtful,
        )
        for device in facts.devices
    ]
    return replace(facts, devices=tuple(devices))


def _tell_planner(state: ServiceState, changed: Sequence[NodeFacts]) -> None:
    wanted = [planners_facts(state, facts) for facts in changed if facts.name in state.cluster]
    differ = [facts for facts in wanted if state.cluster.facts(facts.name) != facts]
    if differ:
        state.cluster.add_nodes(differ)
    for facts in changed:
        state.set_schedulable(facts.name)


# ---- what is wanted ----------------------------------------------------------------------------------------------


def _wishes(book: HealthBook, node: str, facts: NodeFacts) -> Iterator[Wish]:
    worst: dict[Target, Finding] = {}
    for target, finding in _acting(book, node, facts):
        if target not in worst or _rank(finding) > _rank(worst[target]):
            worst[target] = finding
    for target, finding in worst.items():
        yield Wish(target, _rank(finding)[0], finding.since_s)


def _acting(book: HealthBook, node: str, facts: NodeFacts) -> Iterator[tuple[Target, Finding]]:
    """Findings that keep something from work, if there is room for them."""
    index_of = {device.uuid: device.index for device in facts.devices}
    for finding in book.found.get(node, ()):
        if finding.use is Use.SCHEDULABLE or book.settings.is_only_told(finding):
            continue
        if finding.device == NODE:
            yield (node, None), finding
        elif finding.device in index_of:
            yield (node, index_of[finding.device]), finding


def _rank(finding: Finding) -> tuple[int, float]:
    """Worse is higher; of two as bad, that which moves the jobs, and then the older one."""
    return 2 * SEVERITY[finding.use] + (finding.jobs is Jobs.MOVE), -finding.since_s


def _acted(book: HealthBook, facts: NodeFacts) -> Acted:
    whole: Finding | None = None
    barred: dict[int, tuple[Barred, Finding]] = {}
    for (node, index), finding in sorted(
        _acting(book, facts.name, facts), key=lambda pair: _rank(pair[1]), reverse=True
    ):
        if (node, index) not in book.out:
            continue
        if index is None:
            whole = whole or finding
        elif index not in barred:
            linked = finding.use is Use.NO_MULTI_DEVICE
            barred[index] = (Barred.LINKED if linked else Barred.ALL, finding)
    doubtful = frozenset(_doubtful(book, facts)) - barred.keys()
    if len(doubtful) == len(facts.devices):
        doubtful = frozenset()  # there is no choice
    return Acted(whole, barred, doubtful) if whole is not None or barred or doubtful else NOTHING


_HOT_OR_SLOW = frozenset({Signal.TOLD, Signal.TOO_HOT, Signal.THROTTLED})


def _doubtful(book: HealthBook, facts: NodeFacts) -> Iterator[int]:
    """Devices that are hot or slow and are given work all the same: what has a choice is given others."""
    uuids = {
        finding.device
        for finding in book.found.get(facts.name, ())
        if finding.rule in DEFAULT_RULES
        and DEFAULT_RULES[finding.rule].signal in _HOT_OR_SLOW
        and not book.settings.is_only_told(finding)
    }
    return (device.index for device in facts.devices if device.uuid in uuids)


# ---- what becomes of the jobs ------------------------------------------------------------------------------------


def _see_to_jobs(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    for job_id in sorted(state.cluster.jobs_on(node)):
        job = state.jobs.get(job_id)
        if job is None or not isinstance(job.state, Starting | Running):
            continue
        for run in alive(job):
            finding = _drives_out(state, run) if run.placement.node == node else None
            if finding is None:
                continue
            if serves(job):
                if (job.id, run.placement.worker) not in state.leaving:
                    out.send(node, stop_command(state, job, run))
                continue
            stop(state, out, job, EndCause.UNHEALTHY, by=BY, detail=sentence(state, node, finding), now_s=now_s)
            break


def _drives_out(state: ServiceState, run: WorkerRun) -> Finding | None:
    """The finding for which what runs there is to go."""
    for finding in _about(state, run.placement):
        if finding.jobs is Jobs.MOVE and _is_done(state, run.placement.node, finding):
            return finding
        # It was hit if it ran then; the attempt after it was not.
        was_hit = finding.jobs is Jobs.REQUEUE and run.started_s is not None and run.started_s <= finding.since_s
        if was_hit and not state.health.settings.is_only_told(finding):
            return finding
    return None


def must_go(state: ServiceState, run: WorkerRun) -> bool:
    """Whether a replica that lives there still is to be told (again) to go at once."""
    return _drives_out(state, run) is not None


def stop_command(state: ServiceState, job: Job, run: WorkerRun) -> Stop:
    return Stop(state.epoch, dispatch.key_of(job, run), False, dispatch.grace_s(job), EndCause.UNHEALTHY.value)


def blamed(state: ServiceState, run: WorkerRun) -> str | None:
    """A run has ended badly by itself: the sentence for it where its device is what is to blame, and not the job.

    Only for what is done about (nothing new goes there) or what happened while it ran: else it could go round for ever.
    """
    for finding in _about(state, run.placement):
        if run.started_s is None or finding.since_s < run.started_s - SAME_TIME_S:
            continue
        if state.health.settings.is_only_told(finding):
            continue
        out_of_use = finding.use is Use.CORDONED and _is_done(state, run.placement.node, finding)
        if out_of_use or finding.jobs is Jobs.REQUEUE:
            return sentence(state, run.placement.node, finding)
    return None


def takes(state: ServiceState, place: Placement) -> bool:
    """Whether a replica may start again at this place."""
    return state.health.on(place.node).whole is None and all(
        state.health.keeps_from(place.node, index) is None for index in place.devices
    )


def to_leave(state: ServiceState, run: WorkerRun) -> bool:
    """Whether a replica is to be replaced, since its device waits to be mended: it has no end to wait for."""
    place = run.placement
    acted = state.health.on(place.node)
    findings = [acted.whole] if acted.whole is not None else []
    findings += [acted.barred[index][1] for index in place.devices if index in acted.barred]
    return any(finding.use is Use.CORDONED for finding in findings)


def _about(state: ServiceState, place: Placement) -> Iterator[Finding]:
    """Findings on the node as a whole and on the devices of the place."""
    found = state.health.found.get(place.node)
    status = state.nodes.get(place.node)
    if not found or status is None or status.facts is None:
        return
    held = set(place.devices)
    uuids = {device.uuid for device in status.facts.devices if device.index in held}
    for finding in found:
        if finding.device == NODE or finding.device in uuids:
            yield finding


def _is_done(state: ServiceState, node: str, finding: Finding) -> bool:
    """Whether what it wants is done, within the budget."""
    return finding.use is not Use.SCHEDULABLE and _undone(state, node, finding) == ""


# ---- operators ---------------------------------------------------------------------------------------------------


def mended(state: ServiceState, out: Outcome, node: str) -> bool:
    """An operator says that what was found there is mended. False: nothing is found there.

    It holds from now on. Of what the agent has found itself, one that has not heard of it says otherwise the next time
    that it is greeted; what others hold against the node is forgotten for good.
    """
    if node not in state.health.found:
        return False
    out.send(node, Mended(state.epoch, node))
    health_notes.forget(state, out, node)
    heard(state, node, ())
    return True


def sentence(state: ServiceState, node: str, finding: Finding) -> str:
    """`device 3 of node n1 is unhealthy: XID 79 (...); restart the node`"""
    return f"{_subject(state, node, finding)} is unhealthy: {finding.reason}"


def keeping_off(state: ServiceState, alternatives: Sequence[Demand]) -> list[str]:
    """What keeps such work from nodes and devices that it could use, a sentence each, with what to do about it."""
    said = []
    for node, acted in sorted(state.health.acted.items()):
        status = state.nodes.get(node)
        if status is None or status.facts is None:
            continue
        facts = status.facts
        wanted = [demand for demand in alternatives if _asks_for(demand, facts)]
        if acted.whole is not None and wanted:
            said.append(_with_advice(state, node, acted.whole))
        elif acted.whole is None:
            devices = {device.index: device for device in facts.devices}
            said += [
                _with_advice(state, node, finding)
                for index, (barred, finding) in sorted(acted.barred.items())
                if index in devices and any(_is_kept_off(each, devices[index], barred) for each in wanted)
            ]
    return said


def _asks_for(demand: Demand, facts: NodeFacts) -> bool:
    """Whether it may land on that node at all."""
    return (
        demand.node in (None, facts.name)
        and demand.site in (None, facts.site)
        and (demand.simulated or not facts.simulated)
        and (not demand.milli or any(_is_wanted(demand, device) for device in facts.devices))
    )


def _is_wanted(demand: Demand, device: DeviceFacts) -> bool:
    return (
        bool(demand.milli)
        and demand.vendor in (None, device.vendor)
        and demand.model in (None, device.model)
        and demand.mig_profile == device.mig_profile
        and (not demand.only or device.index in demand.only)
    )


def _is_kept_off(demand: Demand, device: DeviceFacts, barred: Barred) -> bool:
    return barred >= demand.kept_off and _is_wanted(demand, device)


def _with_advice(state: ServiceState, node: str, finding: Finding) -> str:
    return f"{_subject(state, node, finding)}: {finding.reason}; {finding.advice}"


def _subject(state: ServiceState, node: str, finding: Finding) -> str:
    index = _index(state, node, finding)
    if finding.device == NODE:
        return f"node {node}"
    return f"device {finding.device if index is None else index} of node {node}"


def _index(state: ServiceState, node: str, finding: Finding) -> int | None:
    status = state.nodes.get(node)
    if status is None or status.facts is None:
        return None
    return next((device.index for device in status.facts.devices if device.uuid == finding.device), None)


def _undone(state: ServiceState, node: str, finding: Finding) -> str:
    """Why nothing is done about it; empty where something is."""
    settings = state.health.settings
    if settings.report_only:
        return "health only reports here"
    if finding.rule in settings.only_told:
        return f"rule {finding.rule} only reports here"
    index = None if finding.device == NODE else _index(state, node, finding)
    if finding.device != NODE and index is None:
        return "the node no longer has this device"
    if (node, index) not in state.health.out:
        return "the budget of health for such devices is spent"
    return ""


def views(state: ServiceState, node: str) -> list[Json]:
    """What is found on a node, worst first, and whether anything is done about it."""
    found = sorted(state.health.found.get(node, ()), key=lambda each: (*_rank(each), each.device), reverse=True)
    return [
        {
            "device": _index(state, node, finding),
            "uuid": finding.device or None,
            "rule": finding.rule,
            "use": finding.use.value,
            "jobs": finding.jobs.value,
            "lifts": finding.lifts.value,
            "reason": finding.reason,
            "advice": finding.advice,
            "since_s": finding.since_s,
            "undone": _undone(state, node, finding) if finding.use is not Use.SCHEDULABLE else "",
        }
        for finding in found
    ]
