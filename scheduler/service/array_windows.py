"""Arrays with a limit: which of their tasks the planner may look at, so that no more than so many ever run at a time.

A task that could start takes one of the array's places before it joins the queue, and keeps it until it has ended or
waits for something else (a back-off, to be released). The others stand in a line of their own, by number. Since all
tasks of an array ask for the same, it makes no difference which of them the queue holds.

What runs has a place in any case, and so has a task of which an old run may still live on a silent node: where there is
none left (after a restart, or when such a run is found), the last task that only waits in the queue gives up its own.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from scheduler.core.jobs import Job
from scheduler.core.reasons import ArrayLimit


@dataclass(slots=True)
class _Window:
    limit: int
    held: dict[str, int] = field(default_factory=dict)
    """Who has a place for as long as it lasts: by id, its place in submission order."""
    queued: dict[str, int] = field(default_factory=dict)
    """Who has a place and is in the queue."""
    waiting: dict[str, int] = field(default_factory=dict)
    line: list[tuple[int, str]] = field(default_factory=list)
    """Those that wait, and some that do so no more: a heap."""

    def leave(self, job_id: str) -> None:
        for places in (self.held, self.queued, self.waiting):
            places.pop(job_id, None)

    @property
    def taken(self) -> int:
        return len(self.held) + len(self.queued)

    def wait(self, job_id: str, seq: int) -> None:
        self.waiting[job_id] = seq
        heapq.heappush(self.line, (seq, job_id))


@dataclass(slots=True)
class ArrayWindows:
    """Whoever owns it says of each task what became of it (`settle`) and hears whose turn that makes it."""

    _windows: dict[str, _Window] = field(default_factory=dict)

    def settle(self, job: Job, *, could_start: bool, may_run: bool) -> tuple[bool, list[str]]:
        """Of a task whose state has changed: may it be in the queue, and which others' turn that changes.

        `could_start`: it waits for nothing but its place. `may_run`: it runs, or an old run of it may live on. Of the
        others named some may join the queue now, and one may have to leave it (`reason` tells).
        """
        limit = job.spec.array_limit
        if limit is None or job.array_index is None:
            return could_start, []
        array = job.id.partition(".")[0]
        window = self._windows.setdefault(array, _Window(limit))
        waits = could_start and job.id in window.waiting
        changed: list[str] = []
        may = False
        if not waits:
            window.leave(job.id)  # its own place is then free for itself first
        if may_run:
            window.held[job.id] = job.seq
            if window.taken > window.limit and window.queued:
                changed.append(self._give_up_last(window))
        elif could_start and not waits:
            may = window.taken < window.limit
            if may:
                window.queued[job.id] = job.seq
            else:
                window.wait(job.id, job.seq)
        while window.taken < window.limit and (next_id := self._next(window)) is not None:
            changed.append(next_id)
        if not (window.held or window.queued or window.waiting):
            del self._windows[array]
        return may, changed

    def reason(self, job: Job) -> ArrayLimit | None:
        """Why a task waits that has no place; None for any other job."""
        window = self._windows.get(job.id.partition(".")[0])
        if window is None or job.id not in window.waiting:
            return None
        return ArrayLimit(len(window.held), window.taken, window.limit)

    def in_the_way(self, job: Job) -> tuple[str, ...]:
        """The tasks that have the places, those that run first."""
        window = self._windows.get(job.id.partition(".")[0])
        return () if window is None else (*window.held, *window.queued)

    def _next(self, window: _Window) -> str | None:
        """The first that waits takes a place."""
        while window.line:
            seq, job_id = heapq.heappop(window.line)
            if window.waiting.get(job_id) == seq:
                del window.waiting[job_id]
                window.queued[job_id] = seq
                return job_id
        return None

    def _give_up_last(self, window: _Window) -> str:
        last = max(window.queued, key=window.queued.__getitem__)
        window.wait(last, window.queued.pop(last))
        return last
