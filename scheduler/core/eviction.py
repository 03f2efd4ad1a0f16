"""Which idle services give up their replicas so that one that was woken can be placed?

The least recently used one whose going makes room; where none does alone, the least recently used ones together, and of
those no more than are needed. A service that had a request a moment ago is left alone, and one of a higher class than
the woken one for longer. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

KEPT_S = 10.0
"""A service whose last request is no longer ago than this keeps its replicas."""
KEPT_HIGHER_S = 60.0
"""The same for one of a higher class than the one that asks."""


MOST_ALONE = 64
"""So many are tried alone."""


@dataclass(frozen=True, slots=True)
class IdleService:
    """One that may have no replica at all, and has some. `used_s`: when its last request came."""

    job_id: str
    priority: int
    used_s: float


def choose(
    idle: Sequence[IdleService], priority: int, now_s: float, makes_room: Callable[[Sequence[str]], bool]
) -> tuple[str, ...] | None:
    """The jobs whose replicas are to go, for one of class `priority`; None where not even all together help.

    `makes_room(jobs)`: whether what is asked for could be placed without these. It must not turn false as jobs are
    added.
    """
    candidates = [
        each
        for each in sorted(idle, key=lambda each: (each.used_s, each.job_id))
        if now_s - each.used_s >= (KEPT_HIGHER_S if each.priority > priority else KEPT_S)
    ]
    for each in candidates[:MOST_ALONE]:
        if makes_room([each.job_id]):
            return (each.job_id,)
    names = [each.job_id for each in candidates]
    if not names or not makes_room(names):
        return None
    low, high = 1, len(names)  # the shortest beginning of the line that makes room
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if makes_room(names[:middle]) else (middle + 1, high)
    chosen = names[:low]
    for name in reversed(chosen[:]):  # the most recently used stay where they can
        rest = [other for other in chosen if other != name]
        if rest and makes_room(rest):
            chosen = rest
    return tuple(chosen)
