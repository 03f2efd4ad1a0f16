"""What runs, kept in NumPy columns as jobs come and go, so that a planning pass need not look at every job.

Two kinds of columns: one entry a job (its *slot*), and one a worker and a device slice (`HeldEntries`). Nodes are
numbered as their names are first seen, and the numbers never change: a node that leaves and joins again finds its
entries, and `view()` looks up the cluster's present rows only for what is new since the last one.

A job that goes leaves its slot to another, and its entries dead: they are dropped when most are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from operator import attrgetter

import numpy as np

from scheduler.core.claims import Claim
from scheduler.core.decisions import RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Placement
from scheduler.core.held_by_class import HeldByClass
from scheduler.core.held_entries import FIRST_CAPACITY, NODE, SLOT, HeldEntries
from scheduler.core.holdings import Holdings, SlotColumns
from scheduler.core.node_columns import ABSENT, Bools, Ints, NodeColumns

_Span = tuple[int, int, int, int]  # first slice, how many, first worker, how many
_figures = attrgetter("priority", "tenant", "started_s", "ends_by_s", "saved_s", "stopping", "simulated", "preemptions")
"""All that columns say of a job but for where it stands."""


class RunningColumns:
    """All running jobs. `add` and `remove` note what is so; a `view` brings the columns up to date, for all of it at
    once: several jobs come and go for each time that somebody looks."""

    __slots__ = (
        "_absent",
        "_by_class",
        "_class_of",
        "_free_slots",
        "_gone",
        "_in_use",
        "_jobs",
        "_node_names",
        "_node_of",
        "_nodes",
        "_row_of",
        "_running_of_class",
        "_shown",
        "_slices",
        "_slot_of",
        "_slots",
        "_spans",
        "_spans_apart",
        "_stopping_for",
        "_tenant_of",
        "_touched",
        "_touches",
        "_workers",
    )

    def __init__(self, running: Iterable[RunningJob] = ()) -> None:
        self._slot_of: dict[str, int] = {}
        self._jobs: list[RunningJob | None] = [None]  # by slot; the first is nobody's
        self._free_slots: list[int] = []
        self._running_of_class: dict[int, int] = {}  # how many; of those that have some
        # Where columns are not up to date: slots of jobs that are new or changed, with what the columns show there
        # (None: nothing), and slots that are shown and whose jobs are gone.
        self._shown: dict[int, RunningJob | None] = {}
        self._gone: list[int] = []
        self._slots = SlotColumns.dead(FIRST_CAPACITY)
        self._in_use = self._slots.first(1)
        # Where a job's entries stand: by slot, int64[slots, 4], where they are all together, as nearly all are; of the
        # others one span for each placement, in their order.
        self._spans: Ints = np.zeros((FIRST_CAPACITY, 4), np.int64)
        self._spans_apart: dict[int, list[_Span]] = {}
        self._by_class = HeldByClass()
        self._class_of: Ints = np.zeros(FIRST_CAPACITY, np.int64)  # by slot: its number there
        self._slices, self._workers = HeldEntries(), HeldEntries()
        self._node_of: dict[str, int] = {}
        self._node_names: list[str] = []
        self._tenant_of: dict[str, int] = {}
        self._stopping_for: dict[str, set[str]] = {}
        self._nodes: NodeColumns | None = None  # whose rows are looked up
        self._row_of: Ints = np.zeros(0, np.int64)  # by node number; -1 where it is not among those nodes
        # By row: when who runs there changed last, counted in times that columns were brought up to date.
        self._touched: Ints = np.zeros(0, np.int64)
        self._touches = 0
        self._absent: Bools = np.ones((1, 1), np.bool_)  # of those nodes, as HeldEntries.look_up() wants it
        for job in running:
            self.add(job)

    def __len__(self) -> int:
        return len(self._slot_of)

    def lowest_priority(self) -> int | None:
        """None: nothing runs."""
        return min(self._running_of_class, default=None)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._slot_of

    def get(self, job_id: str) -> RunningJob | None:
        slot = self._slot_of.get(job_id)
        return None if slot is None else self._jobs[slot]

    def jobs(self) -> tuple[RunningJob, ...]:
        """All of them, in the order they came."""
        return tuple(job for slot in self._slot_of.values() if (job := self._jobs[slot]) is not None)

    def stopping_for(self, job_id: str) -> tuple[str, ...]:
        """Ids of the jobs that leave so that this one may start, in the order of their names."""
        return tuple(sorted(self._stopping_for.get(job_id, ())))

    # ---- what comes and goes -------------------------------------------------------------------------------------

    def add(self, job: RunningJob) -> None:
        """It runs. What was said of it before is replaced."""
        slot, of_class = self._slot_of.get(job.job_id), self._running_of_class
        if slot is None:
            slot = self._slot_of[job.job_id] = self._new_slot()
            self._shown[slot] = None
        else:
            before = self._jobs[slot]
            assert before is not None, f"job {job.job_id}: slot {slot} is nobody's"
            self._shown.setdefault(slot, before)
            self._forget(before)
        of_class[job.priority] = of_class.get(job.priority, 0) + 1
        if job.stopping_for is not None:
            self._stopping_for.setdefault(job.stopping_for, set()).add(job.job_id)
        self._jobs[slot] = job

    def remove(self, job_id: str) -> RunningJob | None:
        """It holds nothing any more. What was known of it; None, and nothing happens, where it does not run."""
        slot = self._slot_of.pop(job_id, None)
        if slot is None:
            return None
        job, self._jobs[slot] = self._jobs[slot], None
        assert job is not None, f"job {job_id}: slot {slot} is nobody's"
        self._forget(job)
        if self._shown.pop(slot, job) is None:
            self._free_slots.append(slot)
        else:
            self._gone.append(slot)
        return job

    def _forget(self, job: RunningJob) -> None:
        """All that is known of it beside the columns."""
        left = self._running_of_class[job.priority] - 1
        if left:
            self._running_of_class[job.priority] = left
        else:
            del self._running_of_class[job.priority]
        if job.stopping_for is not None:
            others = self._stopping_for[job.stopping_for]
            others.remove(job.job_id)
            if not others:
                del self._stopping_for[job.stopping_for]

    # ---- as a pass sees it ---------------------------------------------------------------------------------------

    def view(self, nodes: NodeColumns, now_s: float) -> Holdings:
        """What runs on these nodes. Good until the next add(), remove() or view()."""
        try:
            return self._view(nodes, now_s)
        except BaseException:  # whatever it is (no memory, an interrupt), columns that are half told would stay so
            self._begin_anew()
            raise

    def _view(self, nodes: NodeColumns, now_s: float) -> Holdings:
        if self._shown or self._gone:
            self._bring_up_to_date()
        if nodes is not self._nodes:
            self._nodes, self._row_of = nodes, np.zeros(0, np.int64)
            self._touches += 1
            self._touched = np.full(len(nodes), self._touches)
            self._by_class.begin(len(nodes), nodes.max_devices)
            self._absent = np.pad(nodes.device_model == ABSENT, ((0, 1), (0, 1)), constant_values=True)
            self._slices.look_up_again()
            self._workers.look_up_again()
        # A slice is never new without its worker, but either may have been compacted without the other.
        if self._workers.looked_up < self._workers.size or self._slices.looked_up < self._slices.size:
            if len(self._row_of) < len(self._node_names):
                new = [nodes.row_of.get(name, -1) for name in self._node_names[len(self._row_of) :]]
                self._row_of = np.append(self._row_of, np.array(new, np.int64))
            self._by_class.move_slices(self._slices.look_up(self._row_of, self._absent), self._class_of, 1)
            workers = self._workers.look_up(self._row_of, None)
            self._by_class.move_workers(workers, self._class_of, 1)
            self._touch(workers[NODE])
        # Where there is no node or no device at all, not even the dead entries have a row to stand on.
        slices = self._slices.by_row[:, : self._slices.size if len(nodes) and nodes.max_devices else 0]
        workers = self._workers.by_row[:, : self._workers.size if len(nodes) else 0]
        return Holdings(
            self._slots_in_use(),
            Claim(*slices[NODE:], *workers[NODE:]),
            slices[SLOT],
            workers[SLOT],
            self._jobs,
            self._tenant_of,
            now_s=now_s,
            slices_on=self._slices.on if len(nodes) and nodes.max_devices else None,
            workers_on=self._workers.on if len(nodes) and nodes.max_devices else None,
            running=self,
            touched=self._touched,
            by_class=self._by_class,
        )

    def _slots_in_use(self) -> SlotColumns:
        """Those that were ever anybody's: made when there are more."""
        if len(self._in_use.alive) != len(self._jobs):
            self._in_use = self._slots.first(len(self._jobs))
        return self._in_use

    def _touch(self, rows: Ints) -> None:
        """Who runs there changes now."""
        if len(self._touched):
            self._touched[rows] = self._touches

    def _begin_anew(self) -> None:
        """The columns show nothing: the next view tells them of all jobs."""
        self._shown = dict.fromkeys(self._slot_of.values())
        self._gone = []
        self._free_slots = [slot for slot, job in enumerate(self._jobs) if slot and job is None]
        size = len(self._slots.alive)
        while size < len(self._jobs):
            size *= 2
        self._slots = SlotColumns.dead(size)
        self._in_use = self._slots.first(len(self._jobs))
        self._spans, self._class_of = np.zeros((size, 4), np.int64), np.zeros(size, np.int64)
        self._spans_apart = {}
        self._by_class = HeldByClass()
        self._slices, self._workers = HeldEntries(), HeldEntries()
        self._nodes = None

    # ---- what the columns are told -------------------------------------------------------------------------------

    def _bring_up_to_date(self) -> None:
        self._touches += 1
        going = self._without_gone()
        for slot, shown in self._shown.items():
            job = self._jobs[slot]
            assert job is not None, f"slot {slot} is nobody's"
            if shown is None:
                self._comes(slot, job)
                continue
            if _figures(shown) != _figures(job):
                self._changes(slot, job)
            if shown.placements is not job.placements and shown.placements != job.placements:
                going += self._stands_otherwise(slot, shown.placements, job.placements)
        self._shown.clear()
        if going:
            self._let_go(going)
        self._compact()

    def _without_gone(self) -> list[_Span]:
        """Slots of what is gone are free: where its entries stand."""
        gone, of = self._gone, self._slots
        spans: list[_Span] = []
        if gone:
            at = np.array(gone, np.int64)
            of.alive[at] = of.stopping[at] = False
            of.ends_s[at] = -math.inf
            of.milli[at] = of.cpus_milli[at] = 0
            for slot, span in zip(gone, self._spans.take(at, axis=0).tolist(), strict=True):
                spans += self._spans_apart.pop(slot, (span,))
            self._free_slots += gone
            gone.clear()
        return spans

    def _comes(self, slot: int, job: RunningJob) -> None:
        digest = hashlib.blake2b(job.job_id.encode(), digest_size=8).digest()
        self._slots.id_hash[slot] = int.from_bytes(digest, "little")
        held_milli, cpus_milli, span = self._hold(slot, job.placements)
        self._slots.milli[slot], self._slots.cpus_milli[slot] = held_milli, cpus_milli
        spans = self._spans
        spans[slot, 0], spans[slot, 1], spans[slot, 2], spans[slot, 3] = span
        self._class_of[slot] = self._by_class.number(job.priority)
        self._figure(slot, job)

    def _changes(self, slot: int, job: RunningJob) -> None:
        """Its figures are others, wherever it stands; its class may be, and with it that of all that it holds."""
        before, number = self._class_of.item(slot), self._by_class.number(job.priority)
        for at, slices, among, workers in self._spans_apart.get(slot, [tuple(self._spans[slot].tolist())]):
            held, standing = self._slices.by_row[:, at : at + slices], self._workers.by_row[:, among : among + workers]
            self._touch(standing[NODE])
            if number != before:
                for each, sign in ((before, -1), (number, 1)):
                    self._class_of[slot] = each
                    self._by_class.move_slices(held, self._class_of, sign)
                    self._by_class.move_workers(standing, self._class_of, sign)
        self._class_of[slot] = number
        self._figure(slot, job)

    def _figure(self, slot: int, job: RunningJob) -> None:
        """All that columns say of it but for where it stands: one by one, which up to some twenty jobs costs less than
        it does for all at once."""
        of = self._slots
        of.alive[slot] = True
        of.priority[slot] = job.priority
        of.tenant[slot] = self._tenant_of.setdefault(job.tenant, len(self._tenant_of))
        of.started_s[slot] = job.started_s
        of.ends_s[slot] = math.inf if job.ends_by_s is None else job.ends_by_s
        of.saved_s[slot] = job.saved_s
        of.stopping[slot] = job.stopping
        of.simulated[slot] = job.simulated
        of.preemptions[slot] = job.preemptions

    def _stands_otherwise(self, slot: int, before: tuple[Placement, ...], now: tuple[Placement, ...]) -> list[_Span]:
        """A service has more replicas, or fewer: the others keep their entries. Where those stand that go."""
        spans, held_milli, cpus_milli = self._spans_apart.get(slot), 0, 0
        if spans is None:
            spans = _one_by_one(self._spans[slot].tolist(), before)
        staying: list[_Span] = []
        going: list[_Span] = []
        for placement, span in zip(before, spans, strict=True):
            if len(staying) < len(now) and now[len(staying)] is placement:
                staying.append(span)
            else:
                going.append(span)
                held_milli -= (placement.share_milli or WHOLE_DEVICE_MILLI) * len(placement.devices)
                cpus_milli -= placement.cpus_milli
        for placement in now[len(staying) :]:
            more_milli, more_cpus_milli, span = self._hold(slot, (placement,))
            held_milli += more_milli
            cpus_milli += more_cpus_milli
            staying.append(span)
        self._slots.milli[slot] += held_milli
        self._slots.cpus_milli[slot] += cpus_milli
        self._spans_apart[slot] = staying
        return going

    def _let_go(self, spans: Sequence[_Span]) -> None:
        slices: list[int] = []
        workers: list[int] = []
        for at, held, among, standing in spans:
            slices += range(at, at + held)
            workers += range(among, among + standing)
        stood = self._workers.kill(workers)
        self._touch(stood[NODE])
        self._by_class.move_slices(self._slices.kill(slices), self._class_of, -1)
        self._by_class.move_workers(stood, self._class_of, -1)

    # ---- pieces --------------------------------------------------------------------------------------------------

    def _new_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        slot = len(self._jobs)
        self._jobs.append(None)
        if slot == len(self._slots.alive):
            self._spans = np.concatenate((self._spans, np.zeros_like(self._spans)))
            self._class_of = np.concatenate((self._class_of, np.zeros_like(self._class_of)))
            self._slots = self._slots.grown(2 * slot)
        return slot

    def _hold(self, slot: int, placements: tuple[Placement, ...]) -> tuple[int, int, _Span]:
        """It stands there: with so many thousandths of devices and of CPUs, and entries there."""
        if len(placements) == 1:
            place = placements[0]
            node, milli, devices = self._number_of(place.node), place.share_milli or WHOLE_DEVICE_MILLI, place.devices
            at = self._slices.append_alike(slot, node, devices, milli)
            among = self._workers.append_one(slot, node, place.cpus_milli, place.memory_bytes)
            return milli * len(devices), place.cpus_milli, (at, len(devices), among, 1)
        slices: list[tuple[int, int, int, int]] = []
        workers: list[tuple[int, int, int, int]] = []
        held_milli = cpus_milli = 0
        for place in placements:
            node, milli = self._number_of(place.node), place.share_milli or WHOLE_DEVICE_MILLI
            workers.append((slot, node, place.cpus_milli, place.memory_bytes))
            cpus_milli += place.cpus_milli
            held_milli += milli * len(place.devices)
            slices += [(slot, node, device, milli) for device in place.devices]
        span = self._slices.append(slices), len(slices), self._workers.append(workers), len(workers)
        return held_milli, cpus_milli, span

    def _number_of(self, name: str) -> int:
        node = self._node_of.get(name)
        if node is None:
            node = self._node_of[name] = len(self._node_names)
            self._node_names.append(name)
        return node

    def _compact(self) -> None:
        by_class = self._by_class
        for entries, first, forget in ((self._slices, 0, by_class.no_slices), (self._workers, 2, by_class.no_workers)):
            if not entries.mostly_dead():
                continue
            to = entries.compacted()
            forget()  # until they are looked up again
            self._spans[:, first] = to.take(self._spans[:, first])
            for slot, spans in self._spans_apart.items():
                firsts = to.take(np.array([span[first] for span in spans], np.int64)).tolist()
                self._spans_apart[slot] = [
                    (*span[:first], at, *span[first + 1 :]) for at, span in zip(firsts, spans, strict=True)
                ]


def _one_by_one(span: Sequence[int], placements: Sequence[Placement]) -> list[_Span]:
    """A span for each of these placements, whose entries stand together."""
    at, _, among, _ = span
    apart: list[_Span] = []
    for placement in placements:
        apart.append((at, len(placement.devices), among, 1))
        at, among = at + len(placement.devices), among + 1
    return apart
