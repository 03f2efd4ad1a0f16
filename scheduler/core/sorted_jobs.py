"""In which order do alike jobs stand, by turn and by age, and how are they kept so as they come and go?"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

from scheduler.core.decisions import PendingJob

Place = tuple[float, int, str]


def turn(job: PendingJob) -> Place:
    """The place of a job among those of its account and class: the earliest deadline, then the first submitted."""
    return (math.inf if job.deadline_s is None else job.deadline_s, job.seq, job.job_id)


def age(job: PendingJob) -> Place:
    """The place of a job among those that wait too long."""
    return (job.submitted_s, job.seq, job.job_id)


def _comes_after(job: PendingJob, other: PendingJob) -> bool:
    """Whether it is the later of the two in either order, as nearly every job is that comes."""
    return job.seq > other.seq and job.submitted_s >= other.submitted_s and job.deadline_s is None


_SHIFTED = 64  # so near to the front what stands before is moved up; beyond, moving all behind it down is as fast
_GONE = PendingJob("", 0, "", 0, 0.0, 1, 1, (), None)


class SortedJobs:
    """Jobs in the order of `key`. Jobs come at the end and go at the front, most of the time: either is cheap, in an
    array of any size, as what is gone at the front is cut off only when it is longer than what is left."""

    __slots__ = ("_key", "items", "start")

    def __init__(self, key: Callable[[PendingJob], Place]) -> None:
        self.items: list[PendingJob] = []
        self.start = 0
        self._key = key

    def __len__(self) -> int:
        return len(self.items) - self.start

    def __iter__(self) -> Iterator[PendingJob]:
        for i in range(self.start, len(self.items)):
            yield self.items[i]

    def add(self, job: PendingJob) -> None:
        items = self.items
        if len(items) == self.start or _comes_after(job, items[-1]):
            items.append(job)
        else:
            items.insert(bisect_left(items, self._key(job), self.start, key=self._key), job)

    def remove(self, job: PendingJob) -> None:
        items, start = self.items, self.start
        if items[start] is job:
            items[start] = _GONE
            self.start = start + 1
        else:
            at = bisect_left(items, self._key(job), start, key=self._key)
            assert items[at] is job, f"not in line: {job}"
            if at - start > _SHIFTED:
                del items[at]
            else:
                items[start + 1 : at + 1] = items[start:at]
                items[start] = _GONE
                self.start = start + 1
        if 2 * self.start > len(items):
            del items[: self.start]
            self.start = 0
