"""What waits, kept in order as it changes, so that no pass has to sort it.

Most waiting jobs are alike: tasks of an array, the same run with another seed. Jobs that differ in nothing that
planning looks at but their place in line form one `Kind`, and what a pass finds out about its first holds for all of
them. What the search for a place depends on is the kind's `Shape`; kinds of several tenants and classes share one. Both
are interned: equal ones are the same object, compared and hashed by identity, since hashing demands is slow.

A job's name matters for planning only where an `apart_from` mentions it. Names are numerous, so they are part of a
shape only then: the line counts who is mentioned, by waiting jobs (seen here) and by running ones (told by
`keep_apart`), and regroups the jobs of a name when it is first mentioned and when it no longer is.

Adding and removing a job costs a binary search and the move of a few pointers. Not thread-safe.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.core.decisions import PendingJob
from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand
from scheduler.core.fair_share import account
from scheduler.core.quotas import is_simulated, worker_milli
from scheduler.core.sorted_jobs import SortedJobs, age, turn

_KEPT_SHAPES = 4_096  # shapes that nothing waits with are kept up to here: the next array may have one of them again
_RECENT = 1_024  # tuples of alternatives that are recognised by identity


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What a search for a place depends on. One object for equal ones; `number` is never given twice by one line.

    `tenant` is set where the job's `apart_from`, or the mention of its name in another's, makes it matter; `name` only
    in the latter case; `service` where constraints count its replicas. `constraints` is UNCONSTRAINED itself where it
    equals it. `worker_milli` is the largest of the alternatives', `simulated` whether any allows it. `pool_key` is the
    same for shapes that the same nodes and devices serve, whatever their size.
    """

    number: int
    alternatives: tuple[Demand, ...]
    workers_min: int
    workers_max: int
    constraints: Constraints
    reservation: str | None
    beside: tuple[str, ...]
    tenant: str | None
    name: str | None
    worker_milli: int
    simulated: bool
    pool_key: frozenset[tuple[object, ...]]
    service: str | None = None


Entry = tuple[float, int, str, tuple[PendingJob, "Kind"], int]
"""One of a kind: its place, by which it is ordered among others (when, seq, id), then the job and its kind, then its
position among those of its kind."""


class Kind:
    """Waiting jobs that differ in nothing but seq, submitted_s and deadline_s (and in names that nobody mentions).

    `wanted_milli`: what the smallest gang of one job asks for, in thousandths of devices. `key` is equal for equal
    kinds of one line, also later, after there was no such job in between (unless thousands of other shapes came
    meanwhile), and never for different ones. `account`: which fair-share account its jobs charge. `oldest_s`: when the
    oldest of them was submitted; infinity where there is none.
    """

    __slots__ = (
        "_by_age",
        "_by_turn",
        "_first",
        "account",
        "holds_slo",
        "key",
        "may_preempt",
        "oldest_s",
        "priority",
        "shape",
        "tenant",
        "time_limit_s",
        "wanted_milli",
    )

    def __init__(self, shape: Shape, job: PendingJob) -> None:
        """The kind that `job` is of, without it."""
        self.shape = shape
        self.tenant = job.tenant
        self.priority = job.priority
        self.time_limit_s = job.time_limit_s
        self.may_preempt = job.may_preempt
        self.holds_slo = job.holds_slo
        self.wanted_milli = shape.workers_min * shape.worker_milli
        self.account = account(job.tenant, shape.simulated)
        self.key = _kind_key(shape, job)
        self._by_turn = SortedJobs(turn)
        self._by_age = SortedJobs(age)
        self._first: Entry | None = None
        self.oldest_s = math.inf

    def __len__(self) -> int:
        return len(self._by_turn.items) - self._by_turn.start

    def __iter__(self) -> Iterator[PendingJob]:
        """In the order of their turn."""
        return iter(self._by_turn)

    def first(self) -> Entry | None:
        """The one whose turn is first. It is kept until jobs come or go: each pass asks all kinds."""
        if self._first is None:
            self._first = self.in_turn(0)
        return self._first

    def in_turn(self, position: int) -> Entry | None:
        """By deadline, then submission. None past the last."""
        items, at = self._by_turn.items, self._by_turn.start + position
        if at >= len(items):
            return None
        job = items[at]
        due_s = math.inf if job.deadline_s is None else job.deadline_s
        return (due_s, job.seq, job.job_id, (job, self), position)  # as turn(), without a call

    def by_age(self, position: int) -> Entry | None:
        """The first submitted first. None past the last."""
        items, at = self._by_age.items, self._by_age.start + position
        if at >= len(items):
            return None
        job = items[at]
        return (job.submitted_s, job.seq, job.job_id, (job, self), position)  # as age(), without a call

    def add(self, job: PendingJob) -> None:
        """For the line alone, as is `remove`: it keeps the books."""
        self._by_turn.add(job)
        self._by_age.add(job)
        self._changed()

    def remove(self, job: PendingJob) -> None:
        self._by_turn.remove(job)
        self._by_age.remove(job)
        self._changed()

    def _changed(self) -> None:
        by_age = self._by_age
        self._first = None
        self.oldest_s = by_age.items[by_age.start].submitted_s if by_age.start < len(by_age.items) else math.inf

    def __repr__(self) -> str:
        return f"Kind({self.key}, {len(self)} jobs)"


class WaitingLine:
    """All waiting jobs, by id, and grouped into kinds."""

    __slots__ = (
        "_alternatives",
        "_by_class",
        "_idle",
        "_jobs",
        "_kind_of",
        "_kinds",
        "_mentions",
        "_named",
        "_next_number",
        "_queued_jobs",
        "_queued_milli",
        "_recent",
        "_shapes",
    )

    def __init__(self, jobs: Iterable[PendingJob] = ()) -> None:
        self._jobs: dict[str, PendingJob] = {}
        self._kind_of: dict[str, Kind] = {}
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._by_class: dict[int, dict[Kind, None]] = {}  # the same kinds, in the same order
        self._idle: dict[tuple[object, ...], Kind] = {}  # without a job, kept for the next of them
        self._shapes: dict[tuple[object, ...], Shape] = {}
        self._alternatives: dict[tuple[Demand, ...], tuple[tuple[Demand, ...], int]] = {}
        # By identity. The tuple seen is kept with its answer, so that its id is not given to another.
        self._recent: dict[int, tuple[tuple[Demand, ...], tuple[tuple[Demand, ...], int]]] = {}
        self._next_number = 0
        self._queued_jobs: dict[str, int] = {}
        self._queued_milli: dict[str, int] = {}  # by account
        self._mentions: dict[tuple[str, str], int] = {}
        # (tenant, name) -> ids in order of coming. None: never needed so far, and memory for each job.
        self._named: dict[tuple[str, str], dict[str, None]] | None = None
        for job in jobs:
            self.add(job)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def add(self, job: PendingJob) -> None:
        """The job waits. One of its id that waits already is replaced."""
        if job.job_id in self._jobs:
            self.remove(job.job_id)
        if job.constraints.apart_from:
            self.keep_apart(job.tenant, job.constraints.apart_from)
        self._jobs[job.job_id] = job
        if self._named is not None and job.name:
            self._named.setdefault((job.tenant, job.name), {})[job.job_id] = None
        self._group(job)
        self._queued_jobs[job.tenant] = self._queued_jobs.get(job.tenant, 0) + 1

    def remove(self, job_id: str) -> PendingJob:
        """The job does not wait any more. Raises KeyError if it does not wait."""
        job = self._jobs.pop(job_id)
        self._ungroup(job)
        if self._named is not None and job.name:
            same = self._named[job.tenant, job.name]
            del same[job_id]
            if not same:
                del self._named[job.tenant, job.name]
        left = self._queued_jobs[job.tenant] - 1
        if left:
            self._queued_jobs[job.tenant] = left
        else:
            del self._queued_jobs[job.tenant]
        if job.constraints.apart_from:
            self.forget_apart(job.tenant, job.constraints.apart_from)
        return job

    def get(self, job_id: str) -> PendingJob | None:
        return self._jobs.get(job_id)

    def job(self, job_id: str) -> PendingJob:
        """Raises KeyError if it does not wait."""
        return self._jobs[job_id]

    def kind_of(self, job_id: str) -> Kind:
        """Raises KeyError if the job does not wait."""
        return self._kind_of[job_id]

    def kinds(self) -> Iterable[Kind]:
        """All that have a job, in the order in which they came up. A view: not to be held while jobs come or go."""
        return self._kinds.values()

    def by_class(self) -> Mapping[int, Collection[Kind]]:
        """The same by their priority. A view too."""
        return self._by_class

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[PendingJob]:
        """In the order in which they came."""
        return iter(self._jobs.values())

    def queued_jobs(self, tenant: str) -> int:
        """How many jobs of the tenant wait, for its limit."""
        return self._queued_jobs.get(tenant, 0)

    def queued_milli(self, tenant: str, simulated: bool) -> int:
        """What the smallest gangs of the tenant's waiting jobs ask for, in thousandths of devices."""
        return self._queued_milli.get(account(tenant, simulated), 0)

    # ---- who is kept apart from whom -----------------------------------------------------------------------------

    def keep_apart(self, tenant: str, names: Iterable[str]) -> None:
        """One more job of the tenant wants to be apart from jobs of these names. To be told of each running one."""
        for name in names:
            mentioned = (tenant, name)
            self._mentions[mentioned] = self._mentions.get(mentioned, 0) + 1
            if self._mentions[mentioned] == 1:
                self._regroup(mentioned)

    def forget_apart(self, tenant: str, names: Iterable[str]) -> None:
        """One job that wanted so is gone. Raises KeyError where none was told of."""
        for name in names:
            mentioned = (tenant, name)
            self._mentions[mentioned] -= 1
            if not self._mentions[mentioned]:
                del self._mentions[mentioned]
                self._regroup(mentioned)

    def _regroup(self, mentioned: tuple[str, str]) -> None:
        if self._named is None:
            self._named = {}
            for job in self._jobs.values():
                if job.name:
                    self._named.setdefault((job.tenant, job.name), {})[job.job_id] = None
        for job_id in self._named.get(mentioned, ()):
            self._ungroup(self._jobs[job_id])
            self._group(self._jobs[job_id])

    # ---- kinds and shapes ----------------------------------------------------------------------------------------

    def shape_of(self, job: PendingJob) -> Shape:
        """The shape of a job as things are now, whether it waits or not."""
        recent = self._recent.get(id(job.alternatives))
        alternatives, number = self._intern(job.alternatives) if recent is None else recent[1]
        constraints = job.constraints
        free = constraints is UNCONSTRAINED or constraints.are_none
        name = job.name if self._mentions and (job.tenant, job.name) in self._mentions else None
        tenant = job.tenant if name is not None or constraints.apart_from else None
        key = (
            number,
            job.workers_min,
            job.workers_max,
            None if free else constraints,
            job.reservation,
            job.beside,
            tenant,
            name,
            None if free else job.service,
        )
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(
                number=self._new_number(),
                alternatives=alternatives,
                workers_min=job.workers_min,
                workers_max=job.workers_max,
                constraints=UNCONSTRAINED if free else constraints,
                reservation=job.reservation,
                beside=job.beside,
                tenant=tenant,
                name=name,
                worker_milli=worker_milli(alternatives),
                simulated=is_simulated(alternatives),
                pool_key=frozenset(map(_served_by, alternatives)),
                service=key[-1],
            )
        return shape

    def _intern(self, alternatives: tuple[Demand, ...]) -> tuple[tuple[Demand, ...], int]:
        """The first tuple that came equal to this one, and its number."""
        interned = self._alternatives.get(alternatives)
        if interned is None:
            interned = self._alternatives[alternatives] = (alternatives, self._new_number())
        # Tasks of one array share the tuple itself. Where each job has its own, remembering it is cheap and in vain.
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[id(alternatives)] = (alternatives, interned)
        return interned

    def _new_number(self) -> int:
        self._next_number += 1
        return self._next_number

    def _group(self, job: PendingJob) -> None:
        shape = self.shape_of(job)
        key = _kind_key(shape, job)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._idle.pop(key) if key in self._idle else Kind(shape, job)
            self._by_class.setdefault(kind.priority, {})[kind] = None
            if max(len(self._shapes) - 2 * len(self._kinds), len(self._idle)) > _KEPT_SHAPES:
                self._forget_unused()
        kind.add(job)
        self._kind_of[job.job_id] = kind
        if kind.wanted_milli:
            self._queued_milli[kind.account] = self._queued_milli.get(kind.account, 0) + kind.wanted_milli

    def _ungroup(self, job: PendingJob) -> None:
        kind = self._kind_of.pop(job.job_id)
        kind.remove(job)
        if not kind:
            self._idle[kind.key] = self._kinds.pop(kind.key)
            same = self._by_class[kind.priority]
            del same[kind]
            if not same:
                del self._by_class[kind.priority]
        if kind.wanted_milli:
            self._queued_milli[kind.account] -= kind.wanted_milli
            if not self._queued_milli[kind.account]:
                del self._queued_milli[kind.account]

    def _forget_unused(self) -> None:
        used = {kind.shape for kind in self._kinds.values()}
        self._shapes = {key: shape for key, shape in self._shapes.items() if shape in used}
        wanted = {shape.alternatives for shape in used}
        self._alternatives = {key: interned for key, interned in self._alternatives.items() if key in wanted}
        self._recent.clear()
        self._idle.clear()


def _served_by(demand: Demand) -> tuple[object, ...]:
    """All that says which nodes and devices serve the demand."""
    return (
        demand.vendor,
        demand.model,
        bool(demand.milli),
        demand.simulated,
        demand.node,
        demand.site,
        demand.mig_profile,
        demand.node_labels,
        demand.device_labels,
    )


def _kind_key(shape: Shape, job: PendingJob) -> tuple[object, ...]:
    return (shape.number, job.tenant, job.priority, job.time_limit_s, job.may_preempt, job.holds_slo)
