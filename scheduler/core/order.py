"""In which order waiting jobs are considered: priority class first, then (a hook) fair share, then submission.

Source: multifactor job priority as in Slurm's priority/multifactor plugin (Yoo, Jette, Grondona: "SLURM: Simple Linux
Utility for Resource Management", JSSPP 2003), reduced to a strict lexicographic order so that an operator can predict
it: a class never waits for a lower one, and nothing but age decides within a class and a share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scheduler.core.decisions import PendingJob

FairShare = Callable[[str], float]
"""A tenant's standing between its jobs' class and their age: lower goes first (its decayed use over its weight)."""


def in_order(pending: Sequence[PendingJob], fair_share: FairShare | None = None) -> list[PendingJob]:
    """The jobs, first to be considered first. Without `fair_share` tenants are not told apart."""
    count = len(pending)
    seq = np.fromiter((job.seq for job in pending), np.int64, count)
    priority = np.fromiter((job.priority for job in pending), np.int64, count)
    keys: tuple[np.ndarray, ...] = (seq, -priority)
    if fair_share is not None:
        standing = {tenant: fair_share(tenant) for tenant in sorted({job.tenant for job in pending})}
        keys = (seq, np.fromiter((standing[job.tenant] for job in pending), np.float64, count), -priority)
    return [pending[i] for i in np.lexsort(keys).tolist()]
