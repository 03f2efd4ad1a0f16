"""Which running jobs must go so that a more urgent gang fits, at the least loss?

Rules: only jobs of a lower priority, that have run for the policy's minimum, and that are not leaving already; and
only if the whole gang then fits, else nobody goes. Loss is what the victims would have to do again: device-seconds
since each one's last checkpoint: the rework of checkpoint-and-restart theory (Young, "A first order approximation to
the optimum checkpoint interval", CACM 17(9), 1974), times the devices that have to do it.

The exact minimum is a covering problem (NP-hard), so three greedy answers are made over columns and the cheapest is
taken after dropping every victim that it can do without:
- node by node: on each node its cheapest jobs go until a worker fits, by loss and, in a second try, by loss per device;
  then the cheapest nodes are chosen until the gang fits;
- over all: jobs go in the order of their loss until the gang fits (this one finds an answer wherever there is one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.holdings import Floats, Holdings
from scheduler.core.node_columns import Bools, Ints, distinct
from scheduler.core.placement import Fit, Pools, capacity, fits, place

_PRUNE_CHECKS = 256  # fit checks spent on dropping victims of one answer: bounds a search, not its correctness
_ROUNDS = 64  # jobs that may go from one node in the node-by-node search


@dataclass(frozen=True, slots=True)
class Victims:
    """Who goes (bool[running jobs]), what is free without them, and where the gang would then stand."""

    which: Bools
    free: FreeColumns
    fit: Fit


def choose_victims(
    pools: Pools, free: FreeColumns, holdings: Holdings, job: PendingJob, policy: Policy, *, now_s: float
) -> Victims | None:
    """The victims for `job`, or None if no set of permitted ones makes room for its smallest gang.

    `free` is what is free now, counting what is on its way out, less what is promised to others.
    """
    allowed = _allowed(holdings, job, policy, now_s) & holdings.standing_on(pools.nodes_of(job.alternatives))
    if not allowed.any():
        return None
    search = _Search(pools, free, holdings, job, allowed, now_s)
    if not search.enough(allowed):
        return None
    answers = [search.by_node(search.loss), search.by_node(search.loss_per_device), search.over_all()]
    best = min((search.pruned(answer) for answer in answers if answer is not None), key=search.cost)
    after = search.without(best)
    fit = place(pools, after, job.alternatives, wanted=job.workers_min, at_least=job.workers_min)
    assert fit is not None, f"job {job.job_id}: victims {np.flatnonzero(best)} no longer make room"
    return Victims(best, after, fit)


def _allowed(holdings: Holdings, job: PendingJob, policy: Policy, now_s: float) -> Bools:
    youngest_s = now_s - policy.min_run_before_preemption_s
    may_go = [running.priority < job.priority and running.started_s <= youngest_s for running in holdings.jobs]
    return np.array(may_go, np.bool_) & (holdings.leaves_s > now_s)


class _Search:
    """One search for one preemptor: the columns it needs, made once."""

    def __init__(
        self, pools: Pools, free: FreeColumns, holdings: Holdings, job: PendingJob, allowed: Bools, now_s: float
    ) -> None:
        self.pools = pools
        self.free = free
        self.holdings = holdings
        self.alternatives: Sequence[Demand] = job.alternatives
        self.workers = job.workers_min
        self.allowed = allowed
        count = len(holdings.jobs)
        milli = np.bincount(holdings.slice_job, holdings.claim.milli, count)
        devices = milli / WHOLE_DEVICE_MILLI
        cpus = np.bincount(holdings.worker_job, holdings.claim.cpus_milli, count) / 1000
        unsaved_s = np.maximum(now_s - np.array([running.saved_s for running in holdings.jobs]), 0.0)
        self.loss: Floats = devices * unsaved_s
        self.loss_per_device: Floats = unsaved_s
        self.priority: Ints = np.array([running.priority for running in holdings.jobs], np.int64)
        started_s = np.array([running.started_s for running in holdings.jobs])
        # Equal losses: the one that costs fewest CPU-seconds, the lowest class, the newest.
        self.tie: Ints = np.empty(count, np.int64)
        self.tie[np.lexsort((np.arange(count), -started_s, self.priority, cpus * unsaved_s))] = np.arange(count)

    # ---- answers -------------------------------------------------------------------------------------------------

    def over_all(self) -> Bools:
        """The shortest run of jobs, cheapest first, without which the gang fits; only those on its nodes."""
        order = np.flatnonzero(self.allowed)
        order = order[np.lexsort((self.tie[order], self.loss[order]))]
        low, high = 1, len(order)
        while low < high:
            middle = (low + high) // 2
            if self.enough(self._only(order[:middle])):
                high = middle
            else:
                low = middle + 1
        return self._where_it_stands(self._only(order[:high]))

    def by_node(self, metric: Floats) -> Bools | None:
        """Evict on each node by `metric` until workers fit there; take the nodes where that is cheapest."""
        pair_job, pair_row, pair_of_slice, pair_of_worker = self._pairs()
        order = np.lexsort((self.tie[pair_job], metric[pair_job], pair_row))
        sorted_rows = pair_row[order]
        starts = np.searchsorted(sorted_rows, sorted_rows)
        turn = np.empty(len(order), np.int64)  # each pair's place among those of its node
        turn[order] = np.arange(len(order)) - starts
        options: list[tuple[float, int, int, int]] = []  # cost so far per worker, row, turns, workers gained
        free = self.free.copy()
        have = self._workers_by_node(free)
        spent = np.zeros(len(have))
        options += [(0.0, row, -1, int(have[row])) for row in np.flatnonzero(have).tolist()]
        allowed_slices = np.flatnonzero(pair_of_slice >= 0)
        allowed_workers = np.flatnonzero(pair_of_worker >= 0)
        for now in range(min(_ROUNDS, int(turn.max(initial=-1)) + 1)):
            going = turn == now
            slices = allowed_slices[going[pair_of_slice[allowed_slices]]]
            workers = allowed_workers[going[pair_of_worker[allowed_workers]]]
            free.give(self.holdings.claim.where(_mask(slices, pair_of_slice), _mask(workers, pair_of_worker)))
            np.add.at(spent, pair_row[going], self.loss[pair_job[going]])
            then = self._workers_by_node(free)
            for row in np.flatnonzero(then > have).tolist():
                options.append((float(spent[row] / then[row]), row, now, int(then[row] - have[row])))
            have = np.maximum(have, then)
        return self._cheapest(options, pair_job, pair_row, turn)

    def _cheapest(
        self, options: list[tuple[float, int, int, int]], pair_job: Ints, pair_row: Ints, turn: Ints
    ) -> Bools | None:
        gained = 0
        until: dict[int, int] = {}
        for _, row, now, gain in sorted(options, key=lambda o: (o[0], int(self.pools.tie_rank[o[1]]), o[2])):
            until[row] = max(until.get(row, -1), now)
            gained += gain
            if gained >= self.workers:
                break
        last = np.full(len(self.pools.nodes), -1, np.int64)
        for row, now in until.items():
            last[row] = now
        victims = self._only(pair_job[turn <= last[pair_row]])
        return victims if self.enough(victims) else None

    def pruned(self, victims: Bools) -> Bools:
        """The same less every victim, dearest first, that the gang can do without."""
        kept = victims.copy()
        free = self.without(kept)
        dearest_first = np.flatnonzero(kept)
        dearest_first = dearest_first[np.lexsort((self.tie[dearest_first], self.loss[dearest_first]))][::-1]
        for job in dearest_first[:_PRUNE_CHECKS].tolist():
            claim = self.holdings.of(self._only(np.array([job])))
            free.take(claim)
            if fits(self.pools, free, self.alternatives, self.workers):
                kept[job] = False
            else:
                free.give(claim)
        return kept

    def cost(self, victims: Bools) -> tuple[float, int, int, list[int]]:
        """Least loss, then fewest jobs, then the lowest classes; the last makes it a total order."""
        return (
            float(self.loss[victims].sum()),
            int(victims.sum()),
            int(self.priority[victims].sum()),
            np.flatnonzero(victims).tolist(),
        )

    # ---- pieces --------------------------------------------------------------------------------------------------

    def without(self, victims: Bools) -> FreeColumns:
        free = self.free.copy()
        free.give(self.holdings.of(victims))
        return free

    def enough(self, victims: Bools) -> bool:
        return fits(self.pools, self.without(victims), self.alternatives, self.workers)

    def _only(self, jobs: Ints) -> Bools:
        which = np.zeros(len(self.holdings.jobs), np.bool_)
        which[jobs] = True
        return which

    def _where_it_stands(self, victims: Bools) -> Bools:
        """Those of the victims that have a worker on a node where the gang would stand."""
        after = self.without(victims)
        fit = place(self.pools, after, self.alternatives, wanted=self.workers, at_least=self.workers)
        assert fit is not None
        nodes = np.zeros(len(self.pools.nodes), np.bool_)
        nodes[fit.claim.worker_rows] = True
        return victims & self.holdings.standing_on(nodes)

    def _workers_by_node(self, free: FreeColumns) -> Ints:
        """For each node, how many workers it could take under the alternative that suits it best."""
        best: Ints = np.zeros(len(self.pools.nodes), np.int64)
        for demand in self.alternatives:
            for part in self.pools.of(demand):
                best = np.maximum(best, capacity(part, free, demand, self.workers))
        return best

    def _pairs(self) -> tuple[Ints, Ints, Ints, Ints]:
        """(job, node) pairs of the permitted victims, and for each slice and worker its pair's index, or -1."""
        width = len(self.pools.nodes)
        held = self.holdings
        key_of_worker = held.worker_job * width + held.claim.worker_rows
        pairs, _ = distinct(key_of_worker[self.allowed[held.worker_job]])
        return (
            pairs // width,
            pairs % width,
            _index_in(pairs, held.slice_job * width + held.claim.rows),
            _index_in(pairs, key_of_worker),
        )


def _index_in(pairs: Ints, keys: Ints) -> Ints:
    at = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
    return np.where(pairs[at] == keys, at, -1)


def _mask(chosen: Ints, like: Ints) -> Bools:
    mask = np.zeros(len(like), np.bool_)
    mask[chosen] = True
    return mask
