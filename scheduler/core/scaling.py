"""Which workers of a service that wants fewer give their devices back, and which elastic job may go on larger?

A service is scaled down by stopping single replicas; the others go on. An elastic gang can change its size only by a
checkpoint and a new start, so it is asked to only where that is worth it: on devices that nobody waits for, when it has
run long enough since its last start, and if it then has all its workers or at least a quarter more (a hysteresis, as in
Pollux: Qiao et al., "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning", OSDI 2021, which
restarts jobs only where the gain outweighs the restart). It shrinks without a rule of its own: a preempted elastic job
starts again at once with what is left, if that is its minimum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from operator import attrgetter

import numpy as np

from scheduler.core.arrays import ABSENT
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import Policy, Release, RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Level, Placement

_WORTH_A_RESTART = 1.25


def releases(cluster: ClusterState, shrinking: Iterable[RunningJob]) -> tuple[Release, ...]:
    """For each of these running jobs the workers that are too many, by worker number."""
    found = []
    for job in sorted(shrinking, key=lambda job: job.job_id):
        assert job.workers_wanted is not None, job
        if not job.stopping:
            going = _surplus(cluster, job, len(job.placements) - job.workers_wanted)
            found.append(Release(job.job_id, tuple(sorted(going))))
    return tuple(found)


def _surplus(cluster: ClusterState, job: RunningJob, count: int) -> list[int]:
    """The workers to stop, one after the other: where `spread` is asked for, from the domain with most of them; then
    from the node that is nearest to being empty, so that whole nodes come free; then the newest."""
    spread = job.constraints.spread
    # By domain and node, the newest last: those go one by one.
    left: defaultdict[tuple[str, str], list[Placement]] = defaultdict(list)
    for placement in sorted(job.placements, key=attrgetter("worker")):
        domain = "" if spread is None else _domain(cluster, placement, spread)
        left[domain, placement.node].append(placement)
    crowd: dict[str, int] = {}
    for (domain, _), there in left.items():
        crowd[domain] = crowd.get(domain, 0) + len(there)
    taken = _used_milli(cluster, {node for _, node in left})
    going: list[int] = []
    for _ in range(count):
        _, _, worker, worst = max(
            [(crowd[key[0]], -taken[key[1]], there[-1].worker, key) for key, there in left.items()]
        )
        domain, node = worst
        taken[node] -= _milli(left[worst].pop())
        crowd[domain] -= 1
        if not left[worst]:
            del left[worst]
        going.append(worker)
    return going


def _used_milli(cluster: ClusterState, names: Collection[str]) -> dict[str, int]:
    """Thousandths that are taken of all devices of each of these nodes; 0 for one that is not here."""
    row_of = cluster.nodes.row_of
    here = [name for name in names if name in row_of]
    rows = np.array([row_of[name] for name in here], np.int64)
    there = cluster.nodes.device_model.take(rows, axis=0) != ABSENT
    used = ((WHOLE_DEVICE_MILLI - cluster.free.milli.take(rows, axis=0)) * there).sum(axis=1).tolist()
    return dict.fromkeys(names, 0) | dict(zip(here, used, strict=True))


def _milli(placement: Placement) -> int:
    return placement.share_milli or WHOLE_DEVICE_MILLI * len(placement.devices)


def _domain(cluster: ClusterState, placement: Placement, spread: Level) -> str:
    """What `spread` counts in."""
    if placement.node not in cluster or spread is Level.NODE:
        return placement.node
    facts = cluster.facts(placement.node)
    if spread is Level.SITE:
        return facts.site
    if spread is Level.RACK:
        return facts.rack or placement.node
    islands = {device.island for device in facts.devices if device.index in placement.devices}
    return "+".join(sorted(island or placement.node for island in islands)) or placement.node


def may_grow(job: RunningJob, policy: Policy, now_s: float) -> bool:
    """Whether it ran long enough since its start to be worth a restart."""
    return not job.stopping and now_s - job.started_s >= policy.min_run_before_growth_s


def worth_growing_to(job: RunningJob, workers: int) -> bool:
    """Whether a restart with `workers` of them pays."""
    assert job.workers_max is not None, job
    return workers > len(job.placements) and (
        workers >= job.workers_max or workers >= math.ceil(_WORTH_A_RESTART * len(job.placements))
    )
