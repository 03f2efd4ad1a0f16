"""What running jobs hold, and when it comes free: the running part of the queue turned into columns once a pass.

It answers what needs every running job at once without a loop over them: what would be free if these jobs were gone
(preemption), and what will be free at a time (`timeline.py`, for reservations).

Times are epoch seconds; infinity stands for "no limit".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scheduler.core.decisions import RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import Claim
from scheduler.core.node_columns import ABSENT, Bools, Ints, NodeColumns

Floats = npt.NDArray[np.float64]


class Holdings:
    """Slices and workers of all running jobs, with the index of their job in `jobs` beside them."""

    __slots__ = ("claim", "jobs", "leaves_s", "slice_job", "worker_job")

    def __init__(self, nodes: NodeColumns, running: Sequence[RunningJob], *, now_s: float) -> None:
        self.jobs = running
        slices: list[int] = []  # four numbers a slice, three a worker: flat lists become arrays fastest
        workers: list[int] = []
        row_of = nodes.row_of
        for index, job in enumerate(running):
            for placement in job.placements:
                row = row_of.get(placement.node)
                if row is None:
                    continue
                workers += (index, row, placement.cpus_milli, placement.memory_bytes)
                milli = placement.share_milli or WHOLE_DEVICE_MILLI
                for device in placement.devices:
                    slices += (index, row, device, milli)
        by_slice = np.array(slices, np.int64).reshape(-1, 4)
        by_slice = by_slice[by_slice[:, 2] < nodes.max_devices]
        by_slice = by_slice[nodes.device_model[by_slice[:, 1], by_slice[:, 2]] != ABSENT]
        by_worker = np.array(workers, np.int64).reshape(-1, 4)
        self.slice_job: Ints = by_slice[:, 0]
        self.worker_job: Ints = by_worker[:, 0]
        self.claim = Claim(by_slice[:, 1], by_slice[:, 2], by_slice[:, 3], *by_worker[:, 1:].T)
        # A job that is stopping, or past its limit, is on its way out: what it holds is coming.
        ends = [now_s if job.stopping else math.inf if job.ends_by_s is None else job.ends_by_s for job in running]
        self.leaves_s: Floats = np.maximum(np.array(ends, np.float64), now_s)

    def of(self, which: Bools) -> Claim:
        """What the jobs with True in `which` (bool[jobs]) hold together."""
        return self.claim.where(which[self.slice_job], which[self.worker_job])

    def standing_on(self, nodes: Bools) -> Bools:
        """bool[jobs]: those with a worker on any of these nodes."""
        standing = np.zeros(len(self.jobs), np.bool_)
        standing[self.worker_job[nodes[self.claim.worker_rows]]] = True
        return standing
