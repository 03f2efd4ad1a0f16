"""Advance reservations: which nodes are kept free when, and for whom.

A reservation that comes again (`every_s`) is one record; what the planner is told is its present or next time. One
that is over is dropped, from memory and store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scheduler.core.decisions import AdvanceReservation
from scheduler.core.demand import NodeFacts
from scheduler.core.jobs import JobSpec
from scheduler.core.node_columns import NodeColumns
from scheduler.core.satisfiable import demand_text, nearest_possible
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from scheduler.ports import Principal, Reservation, ReservationRequest
from scheduler.service.endings import duration_text
from scheduler.service.outcome import Outcome, Unreserve
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

MOST_RESERVATIONS = 1_000
# Words of `suanli reserve`.
RESERVED_NAMES = ("list", "cancel")
_MOST_NAMED = 8


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
    """Raises Conflict where the name or a node is taken at that time, BadInput for a time or a tenant that is none."""
    check_times(reservation.start_s, reservation.end_s, reservation.every_s, now_s)
    _check_tenants(state, reservation.tenants)
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


def _check_tenants(state: ServiceState, tenants: Sequence[str]) -> None:
    known = state.policy.tenants
    for tenant in tenants if known else ():  # a policy that names no tenant says nothing of which there are
        if tenant not in known:
            raise BadInput(f"there is no tenant {tenant}; there are: {', '.join(sorted(known)[:20])}", field="tenants")


# ---- jobs that name one ------------------------------------------------------------------------------------------


def check_job(state: ServiceState, spec: JobSpec, by: Principal) -> None:
    """Raises BadInput for a job that names a reservation which there is not, or whose time is too short for it, and
    Forbidden for one of a tenant that it is not for. Operators may name any, for whomever they submit."""
    if spec.reservation is None:
        return
    found = state.reservations.get(spec.reservation)
    if found is None:
        known = ", ".join(sorted(state.reservations)[:20]) or "none"
        raise BadInput(f"there is no reservation {spec.reservation}; there are: {known}", field="reservation")
    if by.role != "operator" and spec.tenant not in found.tenants:
        raise Forbidden(f"{_whose(found)}; tenant {spec.tenant} cannot submit to it", field="reservation")
    lasts_s = found.end_s - found.start_s
    if spec.time_limit_s is None or spec.time_limit_s > lasts_s:
        limit = "no time limit" if spec.time_limit_s is None else f"a time_limit of {duration_text(spec.time_limit_s)}"
        raise BadInput(
            f"reservation {found.name} lasts {duration_text(lasts_s)}, and the job has {limit}: it must be over with "
            "the reservation",
            field="reservation",
        )


def _whose(reservation: Reservation) -> str:
    if not reservation.tenants:
        return f"reservation {reservation.name} is for operators' jobs alone"
    what = "tenant" if len(reservation.tenants) == 1 else "tenants"
    return f"reservation {reservation.name} is for {what} {', '.join(reservation.tenants)}"


class ReservedFit:
    """Could the nodes of a reservation ever take this job, empty and up? For all jobs of one submission: they ask it of
    the same nodes again and again."""

    def __init__(self, state: ServiceState) -> None:
        self._state = state
        self._columns: dict[str, NodeColumns | None] = {}

    def check(self, spec: JobSpec) -> None:
        """Raises BadInput, which says what these nodes have. A node that is not there (yet) could be anything."""
        found = None if spec.reservation is None else self._state.reservations.get(spec.reservation)
        if found is None:
            return
        if found.name not in self._columns:
            self._columns[found.name] = self._columns_of(found)
        nodes, workers = self._columns[found.name], max(1, spec.workers_min)
        if nodes is None or nearest_possible(nodes, spec.alternatives, workers, spec.constraints) is None:
            return
        raise BadInput(
            f"the nodes of reservation {found.name} can never take "
            f"{demand_text(spec.alternatives, workers, spec.constraints)}: {_what_they_have(nodes.facts)}",
            field="reservation",
        )

    def _columns_of(self, reservation: Reservation) -> NodeColumns | None:
        all_nodes = self._state.cluster.nodes
        if any(name not in all_nodes.row_of for name in reservation.nodes):
            return None
        return NodeColumns().with_nodes([all_nodes.facts[all_nodes.row_of[name]] for name in reservation.nodes])


def _what_they_have(nodes: Sequence[NodeFacts]) -> str:
    """`n0, n1 have 8 x H100 SXM, 64 CPUs, 512 GiB each; a0 has no device, 8 CPUs, 32 GiB`."""
    alike: dict[str, list[str]] = {}
    for facts in nodes:
        alike.setdefault(_equipment(facts), []).append(facts.name)
    told = []
    for equipment, names in alike.items():
        named = ", ".join(names[:_MOST_NAMED]) + (
            f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        )
        told.append(f"{named} {'has' if len(names) == 1 else 'have'} {equipment}{'' if len(names) == 1 else ' each'}")
    return "; ".join(told[:_MOST_NAMED]) + (
        f"; and {len(told) - _MOST_NAMED} other kinds of nodes" if len(told) > _MOST_NAMED else ""
    )


def _equipment(facts: NodeFacts) -> str:
    counts: dict[str, int] = {}
    for device in facts.devices:
        what = f"MIG {device.mig_profile} of {device.model}" if device.mig_profile else device.model
        what += " (simulated)" if device.simulated else ""
        counts[what] = counts.get(what, 0) + 1
    devices = ", ".join(f"{count} x {what}" for what, count in counts.items()) or "no device"
    site = "" if facts.devices or not facts.simulated else " (simulated)"
    return f"{devices}{site}, {facts.cpus_milli / 1000:g} CPUs, {facts.memory_bytes / 2**30:.0f} GiB"


# ---- times -------------------------------------------------------------------------------------------------------


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
