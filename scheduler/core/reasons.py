"""Why a job does not run, in types with numbers; `text()` is the one place that turns them into words.

Each reason is a frozen dataclass with a literal `kind`, so that stores and APIs can tell them apart. Matches over
`Reason` end in `assert_never`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never


@dataclass(frozen=True, slots=True)
class NotConsidered:
    """Submitted, and no planning pass has looked at it yet."""

    kind: Literal["not_considered"] = "not_considered"


@dataclass(frozen=True, slots=True)
class WaitingForJobs:
    """`after:` names jobs that have not succeeded yet."""

    jobs: tuple[str, ...]
    kind: Literal["waiting_for_jobs"] = "waiting_for_jobs"


@dataclass(frozen=True, slots=True)
class Held:
    """It is not considered until it is released: `by` said so, and why."""

    by: str
    reason: str
    kind: Literal["held"] = "held"


@dataclass(frozen=True, slots=True)
class ArrayLimit:
    """A task whose array runs no more than `maximum` at a time: `running` of its tasks run, and with those that are
    next to start `taken` of these places are taken."""

    running: int
    taken: int
    maximum: int
    kind: Literal["array_limit"] = "array_limit"


@dataclass(frozen=True, slots=True)
class NoFit:
    """No node set can take the whole gang now. `nodes_by_reason` counts nodes, most frequent first.

    `wanted_workers` is the gang's minimum, `placeable_workers` how many would fit now.
    """

    demand: str
    wanted_workers: int
    placeable_workers: int
    nodes_by_reason: tuple[tuple[str, int], ...]
    kind: Literal["no_fit"] = "no_fit"


@dataclass(frozen=True, slots=True)
class BehindReservation:
    """It would fit, but would delay `ahead`, which is first in the same pool."""

    ahead: str
    kind: Literal["behind_reservation"] = "behind_reservation"


@dataclass(frozen=True, slots=True)
class WaitingForVictims:
    """Preemption was asked; the victims are saving their work."""

    victims: tuple[str, ...]
    kind: Literal["waiting_for_victims"] = "waiting_for_victims"


@dataclass(frozen=True, slots=True)
class BackingOff:
    """A retry waits until `until_s` (epoch seconds); `cause` names the failure."""

    until_s: float
    cause: str
    kind: Literal["backing_off"] = "backing_off"


@dataclass(frozen=True, slots=True)
class WaitingForLease:
    """The last attempt's node went silent; it is fenced off only when its lease has run out, at `until_s`."""

    node: str
    until_s: float
    kind: Literal["waiting_for_lease"] = "waiting_for_lease"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No node of the cluster could ever take it, even empty. `nearest` is the closest possible demand in words."""

    demand: str
    nearest: str
    kind: Literal["unsatisfiable"] = "unsatisfiable"


@dataclass(frozen=True, slots=True)
class Requeued:
    """It ran and was taken back (`cause`: preempted by job 7, node lost, ...); it is next considered at once."""

    cause: str
    kind: Literal["requeued"] = "requeued"


@dataclass(frozen=True, slots=True)
class QuotaReached:
    """The tenant may not hold more: `used_milli` of `maximum_milli` thousandths of devices, and it wants more."""

    tenant: str
    used_milli: int
    maximum_milli: int
    wanted_milli: int
    simulated: bool = False
    kind: Literal["quota_reached"] = "quota_reached"


@dataclass(frozen=True, slots=True)
class JobLimitReached:
    """The tenant runs as many jobs at a time as it may."""

    tenant: str
    running: int
    maximum: int
    kind: Literal["job_limit_reached"] = "job_limit_reached"


@dataclass(frozen=True, slots=True)
class NodesReserved:
    """It would fit, but on nodes that are reserved (`name`) from `start_s`, before it would be over."""

    name: str
    start_s: float
    end_s: float
    kind: Literal["nodes_reserved"] = "nodes_reserved"


@dataclass(frozen=True, slots=True)
class WaitingForReservation:
    """It belongs to the reservation `name`, which begins at `start_s`; None: there is none of that name (any more)."""

    name: str
    start_s: float | None
    kind: Literal["waiting_for_reservation"] = "waiting_for_reservation"


@dataclass(frozen=True, slots=True)
class ReservationTooShort:
    """It belongs to the reservation `name`, but would not be over when that ends, at `end_s`."""

    name: str
    end_s: float
    kind: Literal["reservation_too_short"] = "reservation_too_short"


Reason = (
    NotConsidered
    | WaitingForJobs
    | Held
    | ArrayLimit
    | NoFit
    | BehindReservation
    | WaitingForVictims
    | BackingOff
    | WaitingForLease
    | Unsatisfiable
    | Requeued
    | QuotaReached
    | JobLimitReached
    | NodesReserved
    | WaitingForReservation
    | ReservationTooShort
)


def text(reason: Reason, *, now_s: float) -> str:
    """One line for the REASON column."""
    match reason:
        case NotConsidered():
            return "not looked at yet"
        case WaitingForJobs(jobs=jobs):
            return f"waits for job {', '.join(jobs)}"
        case Held(by=by, reason=why):
            return f"held by {by}: {why}"
        case ArrayLimit():
            also = "" if reason.running == reason.taken else f", and {reason.taken - reason.running} are next"
            return f"{reason.running} of at most {reason.maximum} tasks of its array run at a time{also}"
        case NoFit():
            counts = "; ".join(
                f"{count} {'node' if count == 1 else 'nodes'}: {why}" for why, count in reason.nodes_by_reason
            )
            return f"{reason.placeable_workers} of {reason.wanted_workers} workers fit ({counts or 'no nodes'})"
        case BehindReservation(ahead=ahead):
            return f"would delay job {ahead}, which is first for these devices"
        case WaitingForVictims(victims=victims):
            return f"preempting job {', '.join(victims)}"
        case BackingOff():
            return f"retries in {max(0.0, reason.until_s - now_s):.0f} s after: {reason.cause}"
        case WaitingForLease():
            return f"node {reason.node} is silent; its lease ends in {max(0.0, reason.until_s - now_s):.0f} s"
        case Unsatisfiable():
            return f"no node can ever take {reason.demand}; nearest: {reason.nearest}"
        case Requeued(cause=cause):
            return f"requeued: {cause}"
        case QuotaReached():
            kind = "simulated devices" if reason.simulated else "devices"
            return (
                f"tenant {reason.tenant} holds {reason.used_milli / 1000:g} of at most {reason.maximum_milli / 1000:g} "
                f"{kind}; this needs {reason.wanted_milli / 1000:g} more"
            )
        case JobLimitReached():
            return f"tenant {reason.tenant} runs {reason.running} jobs, as many as it may at a time"
        case NodesReserved():
            return f"its nodes are reserved for {reason.name} in {max(0.0, reason.start_s - now_s):.0f} s"
        case WaitingForReservation(name=name, start_s=start_s):
            if start_s is None:
                return f"there is no reservation {name}"
            return f"reservation {name} begins in {max(0.0, start_s - now_s):.0f} s"
        case ReservationTooShort():
            left_s = max(0.0, reason.end_s - now_s)
            return f"reservation {reason.name} ends in {left_s:.0f} s, before this would be over"
        case _:
            assert_never(reason)
