"""Devices that nobody uses are checked now and again: who is due, how a check is ordered, and what follows from it.

A check is a job like any other, of a tenant of its own and below every priority class: whoever wants its devices gets
them at once, and a check that had to go counts for nothing. One that is not placed at once, or comes back from where it
was, is withdrawn: its devices are wanted. What it finds is a finding like those of the agents (rules `check-*`).

Simulated devices are not checked: nothing that they said would be true. CPU devices only where the site wants it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping

from node_agent.health.rules import CHECKS
from node_agent.health.verdicts import Finding
from node_agent.messages import Exited
from scheduler.core import transitions
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Barred, Demand, DeviceFacts
from scheduler.core.device_checks import (
    CheckSettings,
    IdleDevices,
    Judged,
    Kind,
    Part,
    PartResult,
    Verdict,
    chosen,
    next_due_s,
)
from scheduler.core.jobs import EndCause, Job, JobKind, JobSpec, Pending, WorkerRun
from scheduler.service import health_notes
from scheduler.service.check_book import NAME, PRIORITY, TENANT, devices_of, is_check
from scheduler.service.check_results import read_result
from scheduler.service.health_book import CheckOrders
from scheduler.service.outcome import CheckOrdered, Outcome
from scheduler.service.state import ServiceState

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
AGAIN_S = 600.0
"""A doubt is settled, and a check that had to go is tried again, after so long at the soonest."""
NO_PLACE_S = 3_600.0
"""One that found no place is tried again after so long: something keeps its node from it (a reservation, CPUs)."""
BY = "health"


# ---- who is due ----------------------------------------------------------------------------------------------------


def order(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Order checks of devices that are due. Looked at now and then: idleness is counted in minutes."""
    orders, book = state.health.settings.checks, state.checks
    if orders is None or state.superseded_by is not None or state.closing_down or now_s < book.look_s:
        return
    book.look_s = now_s + LOOK_EVERY_S
    idle = list(_idle(state, orders.settings, now_s))
    running = [state.jobs[job_id] for job_id in book.jobs if job_id in state.jobs]
    checked = sum(devices_of(job) for job in running)
    busy = {demand.node for job in running for demand in job.spec.alternatives}
    picked = chosen([each for each in idle if each.node not in busy], orders.settings, checked, now_s)
    if not picked:
        return
    for each in picked:  # whatever becomes of it: one that cannot even begin is not tried again and again
        _set_due(state, each.node, each.indices, next_due_s(each.node, orders.settings, now_s))
    out.checks.append(CheckOrdered(tuple(_spec(each, orders) for each in picked), now_s))


def _idle(state: ServiceState, settings: CheckSettings, now_s: float) -> Iterator[IdleDevices]:
    """Devices that have been idle for long enough and may be given work, by node and kind, where one is due."""
    book, cluster = state.checks, state.cluster
    idle_s: dict[str, float] = {}
    free = cluster.free.milli.tolist()
    for name, row in cluster.nodes.row_of.items():
        status = state.nodes.get(name)
        if status is None or not status.up or name in state.drains or state.health.on(name).whole is not None:
            continue
        left = free[row]
        devices = [
            device
            for device in cluster.facts(name).devices
            if left[device.index] == WHOLE_DEVICE_MILLI and _is_checked(device, settings)
        ]
        if not devices:
            continue
        for device in devices:
            idle_s[device.uuid] = min(now_s, book.idle_s.get(device.uuid, now_s))
            if device.uuid not in book.due_s:
                book.due_s[device.uuid] = next_due_s(name, settings, now_s)
        if min(book.due_s[device.uuid] for device in devices) <= now_s:
            ready = [device for device in devices if now_s - idle_s[device.uuid] >= settings.idle_s]
            yield from _by_kind(name, ready, book.due_s)
    book.idle_s = idle_s


def _is_checked(device: DeviceFacts, settings: CheckSettings) -> bool:
    return (
        not device.simulated
        and device.barred is not Barred.ALL
        and (settings.cpu or device.vendor not in ("cpu", "CPU"))
    )


def _by_kind(node: str, devices: Iterable[DeviceFacts], due_s: Mapping[str, float]) -> Iterator[IdleDevices]:
    """One whose links are not trusted is checked alone."""
    groups: dict[tuple[Kind, int | None], list[DeviceFacts]] = {}
    for device in devices:
        alone = device.index if device.barred is not Barred.NOTHING else None
        groups.setdefault((_kind(device), alone), []).append(device)
    for (kind, _), group in groups.items():
        indices = tuple(sorted(device.index for device in group))
        yield IdleDevices(node, kind, indices, min(due_s[device.uuid] for device in group))


def _kind(device: DeviceFacts) -> Kind:
    return device.vendor, device.model, device.mig_profile


def _spec(idle: IdleDevices, orders: CheckOrders) -> JobSpec:
    vendor, model, profile = idle.kind
    settings = orders.settings
    told = (
        *("--worker", "--seconds", f"{settings.measure_s:g}"),
        *(word for part in settings.parts for word in ("--part", part.value)),
    )
    return JobSpec(
        name=NAME,
        tenant=TENANT,
        kind=JobKind.BENCHMARK,
        priority_class=NAME,
        priority=PRIORITY,
        command=(*orders.command, *told),
        model=None,
        workers_min=1,
        workers_max=1,
        alternatives=(
            Demand(
                vendor=vendor,
                model=model,
                mig_profile=profile,
                devices=len(idle.indices),
                node=idle.node,
                only=idle.indices,
            ),
        ),
        time_limit_s=settings.time_limit_s,
        working_dir=orders.working_dir,
    )


def _set_due(state: ServiceState, node: str, indices: Collection[int], due_s: float) -> None:
    if node in state.cluster:
        uuids = [device.uuid for device in state.cluster.facts(node).devices if device.index in indices]
        state.checks.due_s.update(dict.fromkeys(uuids, due_s))


# ---- the jobs ------------------------------------------------------------------------------------------------------


def saw(state: ServiceState, job: Job) -> None:
    """A job was submitted, or is known from before."""
    if is_check(job.spec):
        state.checks.jobs.add(job.id)


def withdraw(state: ServiceState, out: Outcome, now_s: float, *, also_new: bool) -> None:
    """Checks that wait are called off: those that came back before anything is planned; after a plan (`also_new`) those
    that found no place too, and nobody is kept waiting by them."""
    for job_id in sorted(state.checks.jobs):
        job = state.jobs.get(job_id)
        if job is None:
            state.checks.jobs.discard(job_id)
        elif isinstance(job.state, Pending) and (also_new or job.attempts):
            why = "its devices are wanted for work" if job.attempts else "its devices are not idle any more"
            for demand in job.spec.alternatives:
                again_s = AGAIN_S if job.attempts else NO_PLACE_S
                _set_due(state, demand.node or "", demand.only, now_s + again_s)
            state.put(out, transitions.cancel(job, BY, why, now_s), "cancelled", now_s, {"by": BY, "reason": why})
            state.checks.jobs.discard(job_id)


def ended(state: ServiceState, out: Outcome, job: Job, run: WorkerRun, said: Exited, now_s: float) -> None:
    """A check's run has ended: what it found counts, unless it had to go."""
    orders, book = state.health.settings.checks, state.checks
    facts = state.nodes[run.placement.node].facts
    if orders is None or facts is None or not is_check(job.spec):
        return
    if said.asked not in (None, EndCause.TIME_LIMIT.value):
        return  # it had to go
    settings = orders.settings
    devices = {device.uuid: device for device in facts.devices if device.index in run.placement.devices}
    result = read_result(said.result or "", devices) if said.how == "exit" else None
    if result is None or said.result is None or (result.trouble and not any(result.parts.values())):
        why = result.trouble if result is not None and said.result is not None else said.detail or said.how
        log.warning("devices of node %s could not be checked (job %s): %s", facts.name, job.id, why)
        _due_again(state, facts.name, devices, settings, now_s)
        return
    held = {(each.device, each.rule): each for each in state.health.held_by(facts.name, CHECKS)}
    for uuid, parts in result.parts.items():
        for part in parts:
            judged = book.history.judge(uuid, _kind(devices[uuid]), part, settings, now_s)
            if judged.verdict is Verdict.UNDECIDED and judged.reason:
                log.info("device %s of node %s, %s: %s", uuid, facts.name, part.part, judged.reason)
            _hold(state, held, uuid, part, judged, now_s)
    _due_again(state, facts.name, devices, settings, now_s)
    health_notes.note(state, out, facts.name, CHECKS, tuple(held[key] for key in sorted(held)))


def _due_again(state: ServiceState, node: str, devices: Iterable[str], settings: CheckSettings, now_s: float) -> None:
    book = state.checks
    for uuid in devices:
        # Half an interval at least: the time of its node may be near.
        due_s = next_due_s(node, settings, now_s + settings.every_s / 2)
        book.due_s[uuid] = now_s + min(AGAIN_S, settings.every_s) if book.history.suspects(uuid) else due_s


_RULE_OF = {Part.PRODUCTS: "check-wrong", Part.MEMORY: "check-wrong", Part.LINKS: "check-link-wrong"}
_SLOW = "check-slow"


def _hold(
    state: ServiceState,
    held: dict[tuple[str, str], Finding],
    uuid: str,
    part: PartResult,
    judged: Judged,
    now_s: float,
) -> None:
    """What is held against the device after this part. What was wrong stays until an operator says otherwise; of what
    is slow each part has its say, and the newest reason stands."""
    match judged.verdict:
        case Verdict.WRONG:
            _put(state, held, uuid, _RULE_OF[part.part], judged.reason, now_s)
        case Verdict.SLOW:
            _put(state, held, uuid, _SLOW, judged.reason, now_s)
        case Verdict.FINE:
            before = held.get((uuid, _SLOW))
            if before is not None and before.reason.startswith(f"{part.part}:"):
                del held[uuid, _SLOW]
        case Verdict.UNDECIDED:
            pass


def _put(
    state: ServiceState, held: dict[tuple[str, str], Finding], uuid: str, name: str, reason: str, now_s: float
) -> None:
    rule = state.health.settings.rules.get(name)
    if rule is None or not rule.enabled:
        return
    before = held.get((uuid, name))
    held[uuid, name] = health_notes.told(rule, uuid, reason, now_s if before is None else before.since_s)


def forgive(state: ServiceState, node: str) -> None:
    """An operator says that the node is mended: its devices are checked as soon as they are idle, and begin anew."""
    status = state.nodes.get(node)
    if status is None or status.facts is None or state.health.settings.checks is None:
        return
    uuids = [device.uuid for device in status.facts.devices]
    state.checks.history.forget(uuids)
    state.checks.due_s.update(dict.fromkeys(uuids, 0.0))
