"""What earlier passes found out about jobs that wait and what still holds, as nothing has changed on their nodes.

Most of what waits has waited before, and most passes come because something happened elsewhere. For a shape of job two
costly questions have answers that time alone does not change as long as its nodes are as they were:
- when it could start first (`timeline.py`): that time stays the same until it has come;
- that nobody's going makes room (`preemption.py`): until somebody who was preempted before has run for long enough.

Nodes are as they were if no free row of theirs has a new stamp, no running job there is new, gone or changed, and the
pass has decided the same about them as the one before had. Where something is on its way out, or advance reservations
come into it, nothing is carried over. A cache of pure functions: it never changes an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from scheduler.core.arrays import Bools
from scheduler.core.decisions import Policy
from scheduler.core.holdings import Holdings
from scheduler.core.node_columns import NodeColumns
from scheduler.core.node_sets import NodeSets
from scheduler.core.placement import Pools
from scheduler.core.satisfiable import nearest_possible
from scheduler.core.timeline import Slot, Timeline
from scheduler.core.waiting import Shape

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")
_KEPT_SLOTS = 128  # each with what is free then
_KEPT = 1024
_MARGIN_S = 1.0  # sums of times are rounded


@dataclass(frozen=True, slots=True)
class NodesThen:
    """How some nodes were: `free_stamp`, `touched`: the latest changes of what is free there and of who runs there;
    `running`: whose columns; `decided`: what the pass had given away or promised of them, by identity."""

    running: object
    free_stamp: int
    touched: int
    decided: tuple[object, ...]

    def same_as(self, now: NodesThen) -> bool:
        return (
            self.running is now.running
            and self.free_stamp == now.free_stamp
            and self.touched == now.touched
            and len(self.decided) == len(now.decided)
            and all(one is other for one, other in zip(self.decided, now.decided, strict=True))
        )


def nodes_now(timeline: Timeline, nodes: Bools) -> NodesThen | None:
    """None: something is on its way out, or it cannot be told."""
    running = timeline.holdings.running
    if running is None or timeline.something_leaves_now(nodes):
        return None
    return NodesThen(running, *timeline.last_changes(nodes), timeline.decided(nodes))


class Carried:
    """Answers by question, over one version of the nodes."""

    __slots__ = ("_hopeless", "_nearest", "_slots", "node_sets")

    def __init__(self) -> None:
        self.node_sets = NodeSets()
        self._nearest: dict[Shape, str | None] = {}
        self._slots: dict[tuple[Shape, float], tuple[NodesThen, Slot]] = {}
        self._hopeless: dict[tuple[Shape, int], tuple[NodesThen, Policy, float]] = {}

    @staticmethod
    def of(pools: Pools) -> Carried:
        """The one that is kept with these pools, and so for as long as the same nodes may be given work."""
        found = pools.kept.get(Carried)
        if not isinstance(found, Carried):
            found = Carried()
            pools.keep(Carried, found)
        if len(found.node_sets) > _KEPT:
            found.node_sets = NodeSets()
        return found

    def nearest_possible(self, nodes: NodeColumns, shape: Shape) -> str | None:
        """As satisfiable.nearest_possible(), by shape: hashing demands is slow."""
        if shape not in self._nearest:
            nearest = nearest_possible(nodes, shape.alternatives, shape.workers_min, shape.constraints)
            _keep(self._nearest, shape, nearest, _KEPT)
        return self._nearest[shape]

    # ---- when it could start first -------------------------------------------------------------------------------

    def slot(self, shape: Shape, limit_s: float, nodes: NodesThen, now_s: float) -> Slot | None:
        """None: it must be looked for."""
        then, slot = self._slots.get((shape, limit_s), (None, None))
        if then is None or slot is None or slot.at_s <= now_s or nodes.decided or not then.same_as(nodes):
            return None
        return slot

    def found_slot(self, shape: Shape, limit_s: float, nodes: NodesThen, slot: Slot, now_s: float) -> None:
        if not nodes.decided and slot.at_s > now_s:
            _keep(self._slots, (shape, limit_s), (nodes, slot), _KEPT_SLOTS)

    # ---- that nobody's going makes room ----------------------------------------------------------------------------

    def hopeless_then(self, shape: Shape, priority: int, policy: Policy, now_s: float) -> NodesThen | None:
        """How the nodes were when that was found out. None: it is not known to be so still."""
        then, settings, until_s = self._hopeless.get((shape, priority), (None, None, -math.inf))
        return then if settings is policy and now_s < until_s else None

    def found_hopeless(
        self, shape: Shape, priority: int, nodes: NodesThen, policy: Policy, holdings: Holdings, now_s: float
    ) -> None:
        slots, rest_s = holdings.slots, policy.min_run_before_preemption_s
        resting = slots.started_s[slots.alive & (slots.preemptions > 0) & (slots.started_s > now_s - rest_s)]
        until_s = float(np.min(resting, initial=math.inf)) + rest_s - _MARGIN_S
        _keep(self._hopeless, (shape, priority), (nodes, policy, until_s), _KEPT)


def _keep(answers: dict[_Question, _Answer], question: _Question, answer: _Answer, most: int) -> None:
    if len(answers) >= most and question not in answers:
        del answers[next(iter(answers))]
    answers[question] = answer
