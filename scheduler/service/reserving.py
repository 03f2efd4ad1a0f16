"""Advance reservations: which nodes are kept free when, and for whom.

A reservation that comes again (`every_s`) is one record; what the planner is told is its present or next time. One
that is over is dropped, from memory and store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.decisions import AdvanceReservation
from scheduler.core.jobs import JobSpec
from scheduler.errors import BadInput, Conflict, NotFound
from scheduler.ports import Reservation, ReservationRequest
from scheduler.service.endings import duration_text
from scheduler.service.outcome import Outcome, Unreserve
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

MOST_RESERVATIONS = 1_000
# Words of `suanli reserve`.
RESERVED_NAMES = ("list", "cancel")


def window(reservation: Reservation, now_s: float) -> tuple[float, float] | None:
    """When it holds now or next: from and until. None: it is over."""
    start_s, end_s, every_s = reservation.start_s, reservation.end_s, reservation.every_s
    if now_s >= end_s and every_s is not None:
        turns = math.floor((now_s - end_s) / every_s) + 1
        start_s, end_s = start_s + turns * every_s, end_s + turns * every_s
    return (start_s, end_s) if end_s > now_s else None


def refresh(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Tell the planner what is reserved from now on; a change is worth a pass."""
    upcoming: list[AdvanceReservation] = []
    for reservation in list(state.reservations.values()):
        when = window(reservation, now_s)
        if when is None:
            del state.reservations[reservation.name]
            out.reservations.append(Unreserve(reservation.name))
            continue
        start_s, end_s = when
        upcoming.append(AdvanceReservation(reservation.name, reservation.nodes, start_s, end_s, reservation.reason))
        state.timers.add(Timer(start_s if start_s > now_s else end_s, "reservation", reservation.name))
        if state.policy_at_s < start_s <= now_s:
            state.needs_plan = True  # it begins: what belongs to it may start
    state.policy_at_s = now_s
    upcoming.sort(key=lambda each: (each.start_s, each.name))
    if tuple(upcoming) != state.policy.reservations:
        state.policy = replace(state.policy, reservations=tuple(upcoming))
        state.needs_plan = True


# ---- requests ----------------------------------------------------------------------------------------------------


def reserve(state: ServiceState, out: Outcome, reservation: Reservation, now_s: float) -> None:
    """Raises Conflict where the name or a node is taken at that time, BadInput for a time that is none."""
    check_times(reservation.start_s, reservation.end_s, reservation.every_s, now_s)
    if reservation.name in RESERVED_NAMES:
        raise BadInput(f"{reservation.name!r} is a word of `suanli reserve`; choose another name", field="name")
    if reservation.name in state.reservations:
        raise Conflict(f"there is a reservation {reservation.name} already; cancel it first, or choose another name")
    if len(state.reservations) >= MOST_RESERVATIONS:
        raise Conflict(f"there are {MOST_RESERVATIONS} reservations already; cancel some")
    for other in state.reservations.values():
        shared = sorted(set(other.nodes) & set(reservation.nodes))
        if shared and _meet(other, reservation, now_s):
            raise Conflict(
                f"node {shared[0]} is reserved for {other.name} at that time; choose another time or other nodes",
                field="nodes",
            )
    state.reservations[reservation.name] = reservation
    out.reservations.append(reservation)


def unreserve(state: ServiceState, out: Outcome, name: str) -> None:
    if state.reservations.pop(name, None) is None:
        known = ", ".join(sorted(state.reservations)[:20]) or "none"
        raise NotFound(f"there is no reservation {name}; there are: {known}", field="name")
    state.timers.drop("reservation", name)
    out.reservations.append(Unreserve(name))


def check_times(start_s: float, end_s: float, every_s: float | None, now_s: float) -> None:
    if not end_s > start_s:
        raise BadInput("a reservation ends after it starts", field="end_s")
    if end_s <= now_s:
        raise BadInput("the reservation would be over already", field="start_s")
    if every_s is not None and every_s < end_s - start_s:
        raise BadInput(
            f"it lasts {duration_text(end_s - start_s)} and cannot come again every {duration_text(every_s)}",
            field="every_s",
        )


def check_job(state: ServiceState, spec: JobSpec) -> None:
    """Raises BadInput for a job that names a reservation which there is not, or in which it can never run."""
    if spec.reservation is None:
        return
    found = state.reservations.get(spec.reservation)
    if found is None:
        known = ", ".join(sorted(state.reservations)[:20]) or "none"
        raise BadInput(f"there is no reservation {spec.reservation}; there are: {known}", field="reservation")
    lasts_s = found.end_s - found.start_s
    if spec.time_limit_s is None or spec.time_limit_s > lasts_s:
        limit = "no time limit" if spec.time_limit_s is None else f"a time_limit of {duration_text(spec.time_limit_s)}"
        raise BadInput(
            f"reservation {found.name} lasts {duration_text(lasts_s)}, and the job has {limit}: it must be over with "
            "the reservation",
            field="reservation",
        )


def _meet(one: Reservation, other: Reservation, now_s: float) -> bool:
    """Whether the two ever hold at the same time from now on."""
    return any(a[0] < b[1] and b[0] < a[1] for a in _times(one, other, now_s) for b in _times(other, one, now_s))


def _times(reservation: Reservation, beside: Reservation, now_s: float) -> Iterable[tuple[float, float]]:
    """Its times that could meet one of `beside`: those around the first of `beside`, and its own next."""
    mine, theirs = window(reservation, now_s), window(beside, now_s)
    if mine is None or theirs is None:
        return
    yield mine
    every_s = reservation.every_s
    if every_s is None:
        return
    lasts_s = mine[1] - mine[0]
    first = max(0, math.floor((theirs[0] - mine[0] - lasts_s) / every_s))
    last = math.ceil((theirs[1] - mine[0]) / every_s)
    # Two that both come again meet within one round of the shorter, or never (all rounds are days).
    for turn in range(first, min(last, first + 64) + 1):
        yield mine[0] + turn * every_s, mine[1] + turn * every_s


# ---- choosing nodes ----------------------------------------------------------------------------------------------


def chosen_nodes(state: ServiceState, wanted: ReservationRequest) -> tuple[str, ...]:
    """The nodes that are named, or `count` of those that carry the device and are free of other reservations then:
    first those whose jobs are over soonest. Raises Conflict where there are too few."""
    if wanted.nodes:
        return tuple(dict.fromkeys(wanted.nodes))
    carrying = [
        facts
        for facts in state.cluster.nodes.facts
        if any(wanted.device is None or device.model == wanted.device for device in facts.devices)
    ]
    probe = Reservation(wanted.name, (), wanted.start_s, wanted.end_s, "", "", 0.0, wanted.every_s)
    taken = {
        node for other in state.reservations.values() if _meet(other, probe, state.policy_at_s) for node in other.nodes
    }
    free = sorted(
        (facts.name for facts in carrying if facts.name not in taken), key=lambda name: (_busy_until(state, name), name)
    )
    if len(free) < wanted.count:
        what = f" with {wanted.device}" if wanted.device else " with devices"
        raise Conflict(
            f"{len(free)} nodes{what} are free of other reservations then, and {wanted.count} are asked for",
            field="count",
        )
    return tuple(sorted(free[: wanted.count]))


def _busy_until(state: ServiceState, node: str) -> float:
    ends = [
        math.inf if job.ends_by_s is None else job.ends_by_s
        for job_id in state.cluster.jobs_on(node)
        if (job := state.queue.running_job(job_id)) is not None
    ]
    return max(ends, default=0.0)


def running_past(state: ServiceState, reservation: Reservation, start_s: float) -> list[str]:
    """Jobs on its nodes that may still run when it starts: nothing ends them for it."""
    found: dict[str, None] = {}
    for node in reservation.nodes:
        for job_id in state.cluster.jobs_on(node):
            job = state.queue.running_job(job_id)
            if job is not None and (job.ends_by_s is None or job.ends_by_s > start_s):
                found[job_id] = None
    return list(found)
