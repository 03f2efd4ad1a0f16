"""How what follows from events gets into the store: together if it can be, else one by one.

A store that cannot take anything now (Unavailable) or obeys another service (Superseded) says so, and the caller sees
to that. Any other failure is a bug in what was to be stored, and must cost no more than the job that it is about: then
each piece is written alone, and those that fail are set aside.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import assert_never

from node_agent.messages import Command, Forget, Prepare, Release
from scheduler.core.rollout import Deployed
from scheduler.core.usage_records import SeenLate, UsageEntry, UsageRecord
from scheduler.errors import SuanliError, Superseded, Unavailable
from scheduler.ports import Change, Drain, HealthNotes, Reservation, Schedule, Store, Usage
from scheduler.service.outcome import (
    CheckOrdered,
    Firing,
    JobsSubmitted,
    Outcome,
    Result,
    ScheduleFired,
    Served,
    Undeploy,
    Undrain,
    Unreserve,
    Unschedule,
)

log = logging.getLogger(__name__)

HEALTH = "health"
"""Who submits checks."""


@dataclass(frozen=True, slots=True)
class Billed:
    """A change of a job, and what its runs used that ended at that moment: kept together or not at all."""

    change: Change
    used: tuple[UsageEntry, ...]


Unfired = (
    Result
    | Drain
    | Undrain
    | HealthNotes
    | Reservation
    | Unreserve
    | Schedule
    | Unschedule
    | Deployed
    | Undeploy
    | Usage
    | Served
    | UsageEntry
    | Change
    | Billed
)
Piece = Unfired | Firing | CheckOrdered


@dataclass(slots=True)
class Keeping:
    """One outcome on its way into the store; `keep` again after Unavailable goes on where it was."""

    out: Outcome
    one_by_one: deque[Piece] | None = None
    """What is left to be written, once writing it together has failed."""
    set_aside: set[str] = field(default_factory=set)
    """Jobs whose newest state could not be stored."""
    unbilled: set[str] = field(default_factory=set)
    """Of these, the ones of which usage records could not be stored."""
    bugs: int = 0
    """How many pieces were set aside."""
    fired: dict[int, ScheduleFired] = field(default_factory=dict)
    """What schedules have submitted, by the identity of the Firing, which lives as long as the outcome."""
    ordered: dict[int, JobsSubmitted] = field(default_factory=dict)
    """Likewise the checks that were submitted."""

    def keep(self, store: Store) -> None:
        """The changes go last: all the rest may be written twice without harm, so that a retry may repeat it. (What a
        schedule submits the store takes once, and what is submitted here is noted.)

        Together, changes and usage records are one transaction. One by one, a job's first change and its records are:
        where these cannot be stored its later changes are not tried, so that no job ends unbilled.
        """
        if self.one_by_one is None:
            out = self.out
            usage = () if out.usage is None else (out.usage,)
            served = () if out.served is None else (out.served,)
            first: tuple[Piece, ...] = (
                *out.results,
                *out.drains,
                *out.reservations,
                *out.schedules,
                *out.checks,
                *out.deployed,
                *usage,
                *served,
            )
            try:
                for piece in first:
                    self._write(store, piece)
                store.set_health_notes(tuple(out.notes.values()))
                if out.changes or out.usage_records:
                    store.commit(out.changes, out.usage_records)
                return
            except (Unavailable, Superseded):
                raise
            except Exception as error:
                log.error("a commit of %d changes failed (%r); each is tried alone now", len(self.out.changes), error)
                self.one_by_one = deque((*first, *out.notes.values(), *_by_job(out)))
        while self.one_by_one:
            piece = self.one_by_one[0]
            try:
                if not (isinstance(piece, Change) and piece.job.id in self.unbilled):
                    self._write(store, piece)
            except (Unavailable, Superseded):
                raise
            except Exception:
                self._set_aside(piece)
            self.one_by_one.popleft()

    def _write(self, store: Store, piece: Piece) -> None:
        if isinstance(piece, CheckOrdered):
            if id(piece) not in self.ordered:
                jobs = store.submit(piece.specs, at_s=piece.at_s, by=HEALTH)
                self.ordered[id(piece)] = JobsSubmitted(tuple(jobs))
        elif not isinstance(piece, Firing):
            _write(store, piece)
        elif id(piece) not in self.fired:
            jobs = store.submit_scheduled(piece.due, piece.next_s, at_s=piece.at_s)
            self.fired[id(piece)] = ScheduleFired(piece.due.key, piece.due.next_s, tuple(jobs))

    def _set_aside(self, piece: Piece) -> None:
        self.bugs += 1
        match piece:
            case Billed(change=change):
                self._set_change_aside(change)
                self.unbilled.add(change.job.id)
            case Change():
                self._set_change_aside(piece)
            case Result(job_id=job_id, worker=worker):
                log.exception("job %s: the result of worker %s cannot be stored and is lost", job_id, worker)
            case Drain(node=node) | Undrain(node=node):
                log.exception("node %s: what was said of its drain is forgotten when the service restarts", node)
            case HealthNotes(node=node, source=source):
                log.exception("node %s: what %s hold against it is as before when the service restarts", node, source)
            case Reservation(name=name) | Unreserve(name=name):
                log.exception("reservation %s: what was said of it is forgotten when the service restarts", name)
            case Schedule(name=name) | Unschedule(name=name) | Firing(due=Schedule(name=name)):
                log.exception("schedule %s: what was decided of it is forgotten when the service restarts", name)
            case Deployed(name=name) | Undeploy(name=name):
                log.exception("service %s: what was decided of it is forgotten when the service restarts", name)
            case UsageRecord(job_id=job_id) | SeenLate(job_id=job_id):
                log.exception(
                    "job %s: how long it ran cannot be stored; its node is asked again after a restart", job_id
                )
                self.set_aside.add(job_id)
            case CheckOrdered():
                log.exception("checks of idle devices cannot be submitted; they are tried again later")
            case Usage():
                log.exception("what tenants have used is known here alone until it can be stored")
            case Served():
                log.exception("how many requests services have answered is known here alone until it can be stored")
            case _:
                assert_never(piece)

    def _set_change_aside(self, change: Change) -> None:
        said = "job %s: its change (%s) cannot be stored; it is known here alone until the service restarts"
        log.exception(said, change.job.id, change.event)
        self.set_aside.add(change.job.id)

    def may_be_sent(self, command: Command) -> bool:
        """No run is started or forgotten of which the store does not know. To stop one does no harm."""
        return not (isinstance(command, Prepare | Release | Forget) and command.key.job_id in self.set_aside)

    def answer(self) -> SuanliError | None:
        """For those who asked for something in it: what went wrong, if anything did."""
        if not self.bugs:
            return None
        jobs = f" (job {', '.join(sorted(self.set_aside)[:10])})" if self.set_aside else ""
        return SuanliError(f"not all that was decided at that moment could be stored{jobs}; look at the service's log")


def _by_job(out: Outcome) -> list[Piece]:
    """The changes in their order, each job's first with its usage records; then records of jobs that did not change."""
    used: dict[str, list[UsageEntry]] = {}
    for entry in out.usage_records:
        used.setdefault(entry.job_id, []).append(entry)
    pieces: list[Piece] = []
    for change in out.changes:
        entries = used.pop(change.job.id, None)
        pieces.append(change if entries is None else Billed(change, tuple(entries)))
    return [*pieces, *(entry for entries in used.values() for entry in entries)]


def _write(store: Store, piece: Unfired) -> None:
    match piece:
        case Result():
            store.set_result(piece.job_id, piece.attempt, piece.worker, piece.text)
        case Drain():
            store.set_drain(piece)
        case Undrain():
            store.clear_drain(piece.node)
        case HealthNotes():
            store.set_health_notes([piece])
        case Reservation():
            store.set_reservation(piece)
        case Unreserve():
            store.clear_reservation(piece.name)
        case Schedule():
            store.set_schedule(piece)
        case Unschedule():
            store.clear_schedule(piece.tenant, piece.name)
        case Deployed():
            store.set_deployed(piece)
        case Undeploy():
            store.clear_deployed(piece.tenant, piece.name)
        case Usage():
            store.set_usage(piece)
        case Served():
            store.set_served(piece.days)
        case UsageRecord() | SeenLate():
            store.commit((), [piece])
        case Billed():
            store.commit([piece.change], piece.used)
        case Change():
            store.commit([piece])
        case _:
            assert_never(piece)
