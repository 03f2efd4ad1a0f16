"""What running jobs hold, and when it comes free, as one planning pass sees it: columns, no loop over jobs.

It answers what needs every running job at once: what would be free if these jobs were gone (preemption), and what will
be free at a time (`timeline.py`, for reservations). It is a view of `running_columns.py`, made for nothing and good
until the next job comes or goes.

Jobs are numbered by *slot*. Slot 0 is nobody's, and so are those of jobs that went: not `alive`, holding nothing, and
gone already, so that what is left of them delays nothing. Times are epoch seconds; infinity stands for "no limit".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from scheduler.core.arrays import Bools, Ints, Milli, distinct
from scheduler.core.claims import Claim
from scheduler.core.decisions import RunningJob
from scheduler.core.held_by_class import HeldByClass
from scheduler.core.part import Part
from scheduler.core.quick import quick

Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
On = Callable[[Bools], Ints]
"""Which of a claim's entries stand on these nodes (bool[nodes]): their positions."""


@quick
@dataclass(frozen=True, slots=True)
class SlotColumns:
    """One entry a slot. `tenant` numbers names; `milli` and `cpus_milli` are what the job holds on all its nodes;
    `id_hash` orders jobs that are equal in all else, the same way whatever order they came in."""

    alive: Bools
    priority: Ints
    tenant: Ints
    started_s: Floats
    ends_s: Floats
    saved_s: Floats
    stopping: Bools
    simulated: Bools
    preemptions: Ints
    milli: Ints
    cpus_milli: Ints
    id_hash: Hashes

    @staticmethod
    def dead(capacity: int) -> SlotColumns:
        """That many, all dead."""
        return SlotColumns(
            alive=np.zeros(capacity, np.bool_),
            priority=np.zeros(capacity, np.int64),
            tenant=np.full(capacity, -1, np.int64),
            started_s=np.zeros(capacity),
            ends_s=np.full(capacity, -math.inf),
            saved_s=np.zeros(capacity),
            stopping=np.zeros(capacity, np.bool_),
            simulated=np.zeros(capacity, np.bool_),
            preemptions=np.zeros(capacity, np.int64),
            milli=np.zeros(capacity, np.int64),
            cpus_milli=np.zeros(capacity, np.int64),
            id_hash=np.zeros(capacity, np.uint64),
        )

    def first(self, count: int) -> SlotColumns:
        """The first so many of them: the same columns."""
        return SlotColumns(*[getattr(self, field.name)[:count] for field in fields(SlotColumns)])

    def grown(self, capacity: int) -> SlotColumns:
        """These, and dead ones behind them."""
        grown, count = SlotColumns.dead(capacity), len(self.alive)
        for field in fields(SlotColumns):
            getattr(grown, field.name)[:count] = getattr(self, field.name)
        return grown


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Who stands where: one *pair* a job and node that it has workers on. `slices` and `workers` are positions in the
    holdings' claim, with the pair that each belongs to beside them."""

    job: Ints
    row: Ints
    slices: Ints
    slice_pair: Ints
    workers: Ints
    worker_pair: Ints

    def __len__(self) -> int:
        return len(self.job)

    def of(self, which: Bools) -> Standing:
        """Only those jobs (bool[slots])."""
        kept = which[self.job]
        number = np.cumsum(kept) - 1
        slices, workers = kept[self.slice_pair], kept[self.worker_pair]
        return Standing(
            self.job[kept],
            self.row[kept],
            self.slices[slices],
            number[self.slice_pair[slices]],
            self.workers[workers],
            number[self.worker_pair[workers]],
        )


class Holdings:
    """Slices and workers of all running jobs (`claim`), with the slot of their job beside each.

    `leaves_s` is this view's own: when each job is gone, at the soonest now. A job that is stopping, or past its
    limit, is on its way out: what it holds is coming.
    """

    __slots__ = (
        "_by_class",
        "_jobs",
        "_parts",
        "_slices_on",
        "_tenants",
        "_touched",
        "_workers_on",
        "claim",
        "leaves_s",
        "running",
        "slice_job",
        "slots",
        "worker_job",
    )

    def __init__(
        self,
        slots: SlotColumns,
        claim: Claim,
        slice_job: Ints,
        worker_job: Ints,
        jobs: Sequence[RunningJob | None],
        tenants: Mapping[str, int],
        *,
        now_s: float,
        slices_on: On | None = None,
        workers_on: On | None = None,
        running: object = None,
        touched: Ints | None = None,
        by_class: HeldByClass | None = None,
    ) -> None:
        """`slices_on`, `workers_on`: where it is known already who stands on some nodes. `running`, `touched`: whose
        columns these are, and when who runs on each row changed last (int64[nodes]). `by_class`: what is known of
        these by class."""
        self.slots = slots
        self.claim = claim
        self.slice_job = slice_job
        self.worker_job = worker_job
        self.leaves_s: Floats = np.maximum(np.where(slots.stopping, now_s, slots.ends_s), now_s)
        self._jobs = jobs
        self._tenants = tenants
        self._slices_on, self._workers_on = slices_on, workers_on
        self._parts: dict[Part | tuple[type, bytes], Holdings] = {}
        self._by_class = by_class
        self.running = running
        self._touched = touched

    def __len__(self) -> int:
        """How many slots there are, dead ones among them: the length of every bool[slots]."""
        return len(self.leaves_s)

    def on(self, nodes: Bools) -> Holdings:
        """The same slots with what they hold on these nodes alone; when they leave is one column for both. (Dead
        entries may be among them.)"""
        if np.count_nonzero(nodes) == len(nodes):
            return self
        key = (Holdings, nodes.tobytes())
        there = self._parts.get(key)
        if there is None:
            slices, workers = self.slices_on(nodes), self.workers_on(nodes)
            there = self._parts[key] = self._only(slices, workers, taken_from(self.claim, slices, workers))
        return there

    def within(self, part: Part) -> Holdings:
        """As on(), with nodes numbered as they are in the part. (Dead entries stand on its first.)"""
        inside = self._parts.get(part)
        if inside is None:
            claim = self.claim
            slices, workers = self.slices_on(part.nodes), self.workers_on(part.nodes)
            claim = Claim(
                part.row_of(claim.rows.take(slices)),
                claim.devices.take(slices),
                claim.milli.take(slices),
                part.row_of(claim.worker_rows.take(workers)),
                claim.cpus_milli.take(workers),
                claim.memory_bytes.take(workers),
            )
            inside = self._parts[part] = self._only(slices, workers, claim)
        return inside

    def slices_on(self, nodes: Bools) -> Ints:
        """Positions of the slices that stand there. (Dead ones may be among them.)"""
        return np.flatnonzero(nodes[self.claim.rows]) if self._slices_on is None else self._slices_on(nodes)

    def workers_on(self, nodes: Bools) -> Ints:
        """The same of workers."""
        return np.flatnonzero(nodes[self.claim.worker_rows]) if self._workers_on is None else self._workers_on(nodes)

    def _only(self, slices: Ints, workers: Ints, claim: Claim) -> Holdings:
        """The same slots with these entries alone, which are that claim."""
        only = Holdings.__new__(Holdings)  # leaves_s is to be the same column
        only.slots, only.leaves_s, only._jobs, only._tenants = self.slots, self.leaves_s, self._jobs, self._tenants
        only.running, only._touched = self.running, self._touched
        only.claim = claim
        only.slice_job, only.worker_job = self.slice_job.take(slices), self.worker_job.take(workers)
        only._slices_on, only._workers_on, only._parts, only._by_class = None, None, {}, None
        return only

    def lowest_on(self, nodes: Bools) -> int | None:
        """The lowest class that holds anything on these nodes; None where nobody does."""
        assert self._by_class is not None, "it is known of all that runs alone"
        return self._by_class.lowest(nodes)

    def below(self, reach: int, rows: Ints | None = None) -> Milli:
        """int32[rows, max_devices]: thousandths of each device of these rows (None: of all) that jobs of a class below
        `reach` hold."""
        assert self._by_class is not None, "it is known of all that runs alone"
        return self._by_class.below(reach, rows)

    def last_touch(self, nodes: Bools) -> int:
        """A number that is the same for the same `running` as long as nobody on these nodes came, went or changed."""
        assert self._touched is not None, "it is not known"
        return int(self._touched.max(initial=-1, where=nodes))

    def job(self, slot: int) -> RunningJob:
        job = self._jobs[slot]
        assert job is not None, f"slot {slot} is nobody's"
        return job

    def ids(self, which: Bools) -> tuple[str, ...]:
        """Ids of these jobs, the longest running first, and of those that started together by name."""
        jobs = [self.job(slot) for slot in np.flatnonzero(which).tolist()]
        return tuple(job.job_id for job in sorted(jobs, key=lambda job: (job.started_s, job.job_id)))

    def tenant_number(self, name: str) -> int:
        """What `slots.tenant` says for that tenant; -1, and so no job's, for one that runs nothing."""
        return self._tenants.get(name, -1)

    def of(self, which: Bools) -> Claim:
        """What the jobs with True in `which` (bool[slots]) hold together."""
        return taken_from(self.claim, np.flatnonzero(which[self.slice_job]), np.flatnonzero(which[self.worker_job]))

    def standing_on(self, nodes: Bools) -> Bools:
        """bool[slots]: those with a worker on any of these nodes."""
        standing = np.zeros(len(self), np.bool_)
        standing[self.worker_job[nodes[self.claim.worker_rows]]] = True
        return standing & self.slots.alive

    def nodes_of(self, which: Bools, count: int) -> Bools:
        """bool[count]: the nodes that these jobs stand on."""
        nodes = np.zeros(count, np.bool_)
        nodes[self.claim.worker_rows[which[self.worker_job]]] = True
        return nodes

    def standing(self, which: Bools, nodes: Bools) -> Standing:
        """Where those jobs (bool[slots]) stand, of those nodes."""
        claim, span = self.claim, len(nodes)
        workers = np.flatnonzero(which[self.worker_job] & nodes[claim.worker_rows])
        slices = np.flatnonzero(which[self.slice_job] & nodes[claim.rows])
        job, row = self.worker_job[workers], claim.worker_rows[workers]
        # Most jobs have a single worker, so that the job says it all; the others are told apart by search.
        single = np.bincount(job, minlength=len(self))[job] == 1
        singles = int(single.sum())
        pair_of_job = np.full(len(self), -1, np.int64)
        pair_of_job[job[single]] = np.arange(singles)
        keys, _ = distinct((job * span + row)[~single])

        def pair_of(jobs: Ints, rows: Ints) -> Ints:
            pair: Ints = pair_of_job[jobs]
            several = np.flatnonzero(pair < 0)
            pair[several] = singles + np.searchsorted(keys, jobs[several] * span + rows[several])
            return pair

        return Standing(
            np.append(job[single], keys // span),
            np.append(row[single], keys % span),
            slices,
            pair_of(self.slice_job[slices], claim.rows[slices]),
            workers,
            pair_of(job, row),
        )


def taken_from(claim: Claim, slices: Ints, workers: Ints) -> Claim:
    """The entries of the claim at these positions."""
    return Claim(
        claim.rows.take(slices),
        claim.devices.take(slices),
        claim.milli.take(slices),
        claim.worker_rows.take(workers),
        claim.cpus_milli.take(workers),
        claim.memory_bytes.take(workers),
    )
