"""Sets of running jobs that make room for a gang if they go: a few good answers, found over columns.

The exact minimum is a covering problem (NP-hard), so greedy answers are made, and every victim that one can do without
is dropped from it, dearest first (`victim_pruning.py`):
- over all: jobs go in the order of their loss until the gang fits; this one finds an answer wherever there is one;
- node by node: on each node its cheapest jobs go until workers fit there, by their loss, by their loss for each device,
  and, where jobs stand on several nodes, by the part of it that falls to the node; then the cheapest nodes are chosen
  until the gang fits (`victim_by_node.py`).

For whole devices a lower bound of the loss (`victim_bound.py`) says which nodes need looking at, and when to stop.
"""

from __future__ import annotations

import math

import numpy as np

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang
from scheduler.core.holdings import Floats, Holdings, Standing, taken_from
from scheduler.core.release_order import ReleaseOrder, Releases
from scheduler.core.victim_bound import LeastForOne, LeastLoss
from scheduler.core.victim_by_node import (
    Options,
    cheapest_victims,
    options_by_node,
    victims_of_one,
    victims_of_whole_nodes,
)
from scheduler.core.victim_losses import Losses
from scheduler.core.victim_pruning import pruned

_TIES = 8  # answers of equal loss
_FEW = 256  # victims that are worth starting from when most of them may stay


class VictimSearch:
    """One search for one preemptor. `allowed`: bool[slots], those that may go."""

    def __init__(
        self,
        gang: Gang,
        free: FreeColumns,
        holdings: Holdings,
        allowed: Bools,
        losses: Losses,
        bound: LeastLoss | None,
    ) -> None:
        """`bound`: what least_loss() says of the same."""
        self.gang = gang
        self._bound = bound
        self.losses = losses
        self._free = free
        self.holdings = holdings
        self._allowed = allowed.copy()
        self._known: dict[bytes, Bools] = {}
        self._fits = False if bound is not None and bound.all_workers > 0 else None
        self._usable = gang.nodes()

    def answers(self) -> list[Bools]:
        """bool[slots] of each that was found, none with a victim that it could do without. None at all: there is no
        answer."""
        bound = self._bound
        if bound is None:
            return self._with_over_all(self._usable, [])
        if bound.all_workers == math.inf:
            return []
        if self.gang.workers == 1 and self.gang.counted_by_node:
            found = self._where_the_bound_is_met(bound)
            if found:
                return found
        near = bound.nodes_near()
        if self.gang.workers > 1 and self.gang.counted_by_node:
            found = self._on_whole_nodes(near)
            if found:
                return found
        found = self._node_by_node(near, enough=bound.all_workers)
        if found and min(map(self.losses.of, found)) <= bound.all_workers:
            return found
        return self._with_over_all(near, found, bound)

    def _with_over_all(self, seen: Bools, found: list[Bools], bound: LeastLoss | None = None) -> list[Bools]:
        """The same with the answer over all, those of nodes that were not `seen` and could still do better, and the one
        left over where all jobs of the nodes in question go first, and then the dearest stay."""
        over_all = self._over_all()
        if over_all is None:
            return found
        found = [*found, over_all]
        best = min(map(self.losses.of, found))
        self._allowed &= self.losses.work <= best  # a job that alone costs more is in no better answer
        if bound is not None:
            seen, before = bound.nodes_within(best) & self._usable, seen
        if bound is None or (seen & ~before).any():
            found += self._node_by_node(seen)
        in_question = np.zeros(len(self._usable), np.bool_)
        for answer in found:
            in_question |= self.holdings.nodes_of(answer, len(in_question))
        all_there = self._allowed & self.holdings.standing_on(in_question & self._usable)
        if all_there.sum() <= _FEW and self.gang.fits(self.without(all_there)):
            found.append(self._pruned(all_there))
        return _distinct(found)

    def without(self, victims: Bools) -> FreeColumns:
        free = self._free.copy()
        free.give(self.holdings.of(victims))
        return free

    def _pruned(self, victims: Bools) -> Bools:
        """Different searches often come to the same victims: they are pruned once. A single one is needed, unless the
        gang fits as it is; and so are all that lose something where nothing could lose less."""
        if np.count_nonzero(victims) == 1 and not self._fits_already():
            return victims
        if self._nothing_loses_less(victims):
            return victims
        key = victims.tobytes()
        if key not in self._known:
            self._known[key] = pruned(self.gang, self.without(victims), self.holdings, victims, self.losses)
        return self._known[key]

    def _nothing_loses_less(self, victims: Bools) -> bool:
        """They meet the bound, and each of them loses something."""
        work = self.losses.work[victims]
        return self._bound is not None and float(work.sum()) <= self._bound.all_workers and bool(work.all())

    def _fits_already(self) -> bool:
        if self._fits is None:
            self._fits = self.gang.fits(self._free)
        return self._fits

    # ---- over all ------------------------------------------------------------------------------------------------

    def _over_all(self) -> Bools | None:
        """The shortest run of jobs, cheapest first, without which the gang fits; only those where it would stand."""
        held = self.holdings
        cheapest_first = self.losses.cheapest_first(np.flatnonzero(self._allowed), self.losses.work)
        rank = np.full(len(held), math.inf)
        rank[cheapest_first] = np.arange(len(cheapest_first))
        slices = np.flatnonzero(self._allowed[held.slice_job])
        workers = np.flatnonzero(self._allowed[held.worker_job])
        releases = Releases(
            taken_from(held.claim, slices, workers), rank[held.slice_job[slices]], rank[held.worker_job[workers]]
        )
        point = ReleaseOrder(self._free, releases).first(self.gang)
        if point is None:
            return None
        nodes = np.zeros(len(self.gang.pools.nodes), np.bool_)
        nodes[point.fit.claim.worker_rows] = True
        return self._pruned((rank <= point.key) & held.standing_on(nodes))

    # ---- node by node --------------------------------------------------------------------------------------------

    def _where_the_bound_is_met(self, bound: LeastLoss) -> list[Bools]:
        """For a single worker: the answers on the nodes that could lose so little, where their jobs, cheapest first, do
        lose no more: what _node_by_node() comes to, without columns. Empty: it must be looked for."""
        closer = bound.for_one
        if closer is None or not bound.all_workers:
            return []
        rows = np.flatnonzero(closer.first_on == closer.least)
        if closer.least > bound.all_workers:
            return self._the_only_one(closer, rows)
        met: list[tuple[int, int, Ints]] = []
        for row in rows.tolist():
            going = self._going_on(row)
            if going is None or float(self.losses.work[going].sum()) > bound.all_workers:
                continue
            if len(rows) > 1 and not self.losses.work.item(going[-1]):
                return []  # whether it still goes where others lose as much hangs on the others' turns
            met.append((len(going), self.gang.pools.tie_rank.item(row), going))
        if not met:
            return []
        fewest_first = sorted(met, key=lambda each: each[:2])[:_TIES]
        return _distinct([self._only(going) for *_, going in (min(met, key=lambda each: each[1]), *fewest_first)])

    def _the_only_one(self, closer: LeastForOne, rows: Ints) -> list[Bools]:
        """The job on those rows that alone makes room for as little as it takes, if nobody else's going does: every
        search comes to it."""
        going = self._going_on(rows.item(0))
        if going is None or len(going) > 1 or self.losses.work.item(going[0]) > closer.least:
            return []
        slices = np.flatnonzero(self.holdings.slice_job == going[0])
        its_own = np.zeros(closer.part.shape, np.bool_)
        its_own[self.holdings.claim.rows.take(slices), self.holdings.claim.devices.take(slices)] = True
        return [] if closer.without(rows, its_own) <= closer.least else [self._only(going)]

    def _going_on(self, row: int) -> Ints | None:
        """Who goes there if its jobs go cheapest first for each device, until the worker fits; None: it does not."""
        there = self.holdings.worker_job[self.holdings.claim.worker_rows == row]
        jobs = distinct(there[self._allowed[there]])[0]
        cheapest_each = self.losses.cheapest_first(jobs, self.losses.each)
        return victims_of_one(self.gang, self._free, self.holdings, row, cheapest_each)

    def _only(self, going: Ints) -> Bools:
        """Those alone, less whom the gang can do without."""
        victims = np.zeros(len(self.holdings), np.bool_)
        victims[going] = True
        return self._pruned(victims)

    def _on_whole_nodes(self, near: Bools) -> list[Bools]:
        """For workers that take whole nodes: what _node_by_node() comes to, in one go, if it meets the bound."""
        victims = victims_of_whole_nodes(self.gang, self._free, self.holdings, self._allowed, near, self.losses)
        return [] if victims is None or not victims.any() or not self._nothing_loses_less(victims) else [victims]

    def _node_by_node(self, nodes: Bools, *, enough: float = 0.0) -> list[Bools]:
        """Answers on these nodes alone; no more after one that loses something, but not more than is `enough`."""
        standing, rows = self.holdings.standing(self._allowed, nodes), np.flatnonzero(nodes)
        jobs = np.flatnonzero(np.bincount(standing.job, minlength=1))
        loss = self.losses.work[standing.job]

        def options(order: Ints, loss: Floats) -> Options:
            return options_by_node(self.gang, self._free, self.holdings, standing, rows, order, loss)

        cheapest_each = self.losses.cheapest_first(jobs, self.losses.each)
        tried = [options(cheapest_each, loss)]
        found = self._by_node(standing, tried[0])
        if found and 0 < self.losses.of(found[0]) <= enough:
            return _distinct(found)
        tried.append(options(self.losses.cheapest_first(jobs, self.losses.work), loss))
        found += self._by_node(standing, tried[1])
        if len(standing) > len(jobs):
            tried.append(options(cheapest_each, self._shares(standing)))
            found += self._by_node(standing, tried[2])
        if self.gang.workers == 1:
            return _distinct(found)
        best = Options.merged(tried)
        return _distinct([*found, *self._by_node(standing, best), *self._by_node(standing, best, marginal=False)])

    def _by_node(self, standing: Standing, options: Options, *, marginal: bool = True) -> list[Bools]:
        """The answer, if there is one (the nodes that are cheapest may not do together), and some that cost as much."""
        victims = cheapest_victims(self.gang, standing, options, len(self.holdings), marginal=marginal)
        if victims is None or not (self.gang.counted_by_node or self.gang.fits(self.without(victims))):
            return []
        return [self._pruned(victims), *self._ties(standing, options)]

    def _ties(self, standing: Standing, options: Options) -> list[Bools]:
        """For a single worker: answers on other nodes that cost the same, fewest jobs first, so that there is a choice.
        (Jobs without devices lose nothing, and so do jobs that saved this moment.)"""
        tied = np.flatnonzero(options.spent == options.spent.min())
        if self.gang.workers > 1 or len(tied) == 1:
            return []
        rows = options.row[tied]
        found = []
        for row in rows[np.lexsort((self.gang.pools.tie_rank[rows], options.turn[tied]))][:_TIES].tolist():
            victims = cheapest_victims(self.gang, standing, options.on(row), len(self.holdings))
            if victims is not None and (self.gang.counted_by_node or self.gang.fits(self.without(victims))):
                found.append(self._pruned(victims))
        return found

    def _shares(self, standing: Standing) -> Floats:
        """For each pair the part of the job's loss that falls to that node, by its devices there."""
        milli = np.bincount(standing.slice_pair, self.holdings.claim.milli[standing.slices], len(standing))
        held = np.maximum(self.holdings.slots.milli[standing.job], 1)
        shares: Floats = self.losses.work[standing.job] * milli / held
        return shares


def _distinct(answers: list[Bools]) -> list[Bools]:
    return [one for i, one in enumerate(answers) if not any(bool((one == other).all()) for other in answers[:i])]
