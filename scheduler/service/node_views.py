"""What the API shows of nodes, as JSON-able dictionaries.

In two steps, as there may be more than a thousand: `node_seat` is what only the thread that owns the state can say, and
no more; what is built of it is built by whoever asked. Most of an answer are devices, of which the facts never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.core.demand import WHOLE_DEVICE_MILLI, NodeFacts, Placement
from scheduler.ports import Drain, Json, Readings
from scheduler.service import draining, health
from scheduler.service.job_facts import workers_of
from scheduler.service.node_status import NodeStatus
from scheduler.service.overuse import OVERUSE_FIELDS, SharedDevice, overuse_notes
from scheduler.service.state import ServiceState
from scheduler.service.views import node_word, upcoming


@dataclass(frozen=True, slots=True)
class NodeSeat:
    """A node as it was at one moment. `held`: (job, whether it may be seen, place) of each worker there; `shared`: its
    devices that are held in parts alone, by runs that have all begun."""

    facts: NodeFacts
    word: str
    notes: tuple[str, ...]
    shares: str
    held: tuple[tuple[str, bool, Placement], ...]
    shared: tuple[SharedDevice, ...]
    cpus_free_milli: int
    memory_free_bytes: int
    drain: Json | None
    health: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Booked:
    """A reservation's present or next time on its nodes."""

    nodes: frozenset[str]
    view: Json


def node_seats(state: ServiceState, tenant: str | None = None) -> list[NodeSeat]:
    """By name, of nodes that were heard of. `tenant`: whose jobs alone may be seen."""
    known = sorted((status for status in state.nodes.values() if status.facts is not None), key=lambda s: s.name)
    return [node_seat(state, status, tenant) for status in known]


def node_seat(state: ServiceState, status: NodeStatus, tenant: str | None = None) -> NodeSeat:
    facts = status.facts
    assert facts is not None, status
    notes = status.notes
    if not status.up and status.detail:
        notes = (*notes, status.detail)
    if strays := state.strays.get(status.name):
        notes = (*notes, f"{len(strays)} processes of earlier attempts are being stopped")
    there = state.cluster.placements_on(status.name)
    drain = state.drains.get(status.name)
    return NodeSeat(
        facts=facts,
        word=node_word(state, status),
        notes=notes,
        shares=status.shares,
        held=tuple((job_id, tenant is None or _is_of(state, job_id, tenant), place) for job_id, place in there),
        shared=_shared_devices(state, facts, there) if any(place.share_milli for _, place in there) else (),
        cpus_free_milli=state.cluster.free_cpus_milli(status.name),
        memory_free_bytes=state.cluster.free_memory_bytes(status.name),
        drain=None if drain is None else _drain_view(state, drain, tenant),
        health=health.views(state, status.name) if status.name in state.health.found else (),
    )


def booked(state: ServiceState, now_s: float) -> list[Booked]:
    """The next one first."""
    return [
        Booked(
            frozenset(each.nodes),
            {"name": each.name, "start_s": start_s, "end_s": end_s, "reason": each.reason},
        )
        for each, (start_s, end_s) in upcoming(state, now_s)
    ]


def node_view(seat: NodeSeat, reservations: Iterable[Booked], readings: Readings) -> Json:
    """Without the readings, of which it looks at those that say whether devices are used beyond their shares."""
    facts = seat.facts
    used, jobs = _use(seat)
    notes = list(seat.notes)
    if seat.shared:
        notes += overuse_notes(seat.shared, readings.node(facts.name, OVERUSE_FIELDS), held=seat.shares == "mps")
    return {
        "name": facts.name,
        "site": facts.site,
        "state": seat.word,
        "simulated": facts.simulated,
        "address": facts.address,
        "devices": [
            {
                "index": device.index,
                "uuid": device.uuid,
                "model": device.model,
                "vendor": device.vendor,
                "memory_bytes": device.memory_bytes,
                "simulated": device.simulated,
                "used_milli": used.get(device.index, 0),
                "jobs": list(jobs.get(device.index, ())),
                "island": device.island,
                "mig_profile": device.mig_profile,
                "labels": dict(device.labels),
            }
            for device in facts.devices
        ],
        "cpus_milli": facts.cpus_milli,
        "cpus_free_milli": seat.cpus_free_milli,
        "memory_bytes": facts.memory_bytes,
        "memory_free_bytes": seat.memory_free_bytes,
        "notes": notes,
        "shares": seat.shares,
        "drain": seat.drain,
        "health": list(seat.health),
        "readings": {},
        "rack": facts.rack,
        "labels": dict(facts.labels),
        "reservations": [each.view for each in reservations if facts.name in each.nodes],
    }


def _use(seat: NodeSeat) -> tuple[dict[int, int], dict[int, dict[str, None]]]:
    """Thousandths that are taken of each device, and the jobs on it that may be seen, each once."""
    used: dict[int, int] = {}
    jobs: dict[int, dict[str, None]] = {}
    for job_id, is_seen, place in seat.held:
        for index in place.devices:
            used[index] = used.get(index, 0) + (place.share_milli or WHOLE_DEVICE_MILLI)
            if is_seen:
                jobs.setdefault(index, {})[job_id] = None
    return used, jobs


def _is_of(state: ServiceState, job_id: str, tenant: str) -> bool:
    """Whose jobs the other devices carry is not a tenant's business; that they are taken is."""
    job = state.jobs.get(job_id)
    return job is not None and job.spec.tenant == tenant


def _drain_view(state: ServiceState, drain: Drain, tenant: str | None) -> Json:
    return {
        "reason": drain.reason,
        "by": drain.by,
        "at_s": drain.at_s,
        "deadline_s": drain.deadline_s,
        "left": [each for each in draining.left_view(state, drain.node) if tenant in (None, each["tenant"])],
    }


def _shared_devices(
    state: ServiceState, facts: NodeFacts, there: Sequence[tuple[str, Placement]]
) -> tuple[SharedDevice, ...]:
    shared = []
    for device in facts.devices:
        places = [place for _, place in there if device.index in place.devices]
        runs = [
            run
            for job_id in dict.fromkeys(job_id for job_id, place in there if device.index in place.devices)
            for run in workers_of(state.jobs[job_id])
            if run.placement.node == facts.name and device.index in run.placement.devices
        ]
        began_s = [run.started_s for run in runs if run.started_s is not None]
        if began_s and len(began_s) == len(runs) and all(run.placement.share_milli for run in runs):
            used_milli = sum(place.share_milli or WHOLE_DEVICE_MILLI for place in places)
            shared.append(SharedDevice(device.index, device.uuid, used_milli, len(runs), max(began_s)))
    return tuple(shared)
