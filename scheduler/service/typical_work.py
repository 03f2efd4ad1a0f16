"""What kinds of work does this site typically see? What packing keeps room for, learnt from what is submitted.

Each submitted job counts with its smallest gang, by the first of its alternatives, and fades. After a restart the
newest jobs of the store are looked through again; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.jobs import Job
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.service.check_book import is_check
from scheduler.service.planner_words import MOST_SHAPES
from scheduler.service.state import ServiceState

# So many of the newest jobs tell after a restart what is typical.
LOOKED_BACK_JOBS = 2_000
# New shapes make the planner score all nodes anew: not with every job that comes.
TELL_EVERY_S = 600.0


def saw(state: ServiceState, jobs: Iterable[Job]) -> None:
    """These were submitted, oldest first."""
    for job in jobs:
        if is_check(job.spec):
            continue
        shape = Shape.of(job.spec.alternatives[0])
        state.work.saw(shape, now_s=job.submitted_s, workers=max(1, job.spec.workers_min))


def tell(state: ServiceState, now_s: float) -> None:
    """Tell the cluster what is typical: as soon as anything is known, and then now and again."""
    if state.cluster.shapes.shapes and now_s - state.work_told_s < TELL_EVERY_S:
        return
    state.work_told_s = now_s
    typical = state.work.typical(now_s=now_s).shapes[:MOST_SHAPES]
    state.cluster.set_shapes(TypicalShapes.of_counts({each.shape: each.count for each in typical}))
