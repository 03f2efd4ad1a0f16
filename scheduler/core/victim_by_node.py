"""On each node its jobs go one after the other until workers fit there: which nodes are cheapest for a whole gang?

Jobs go from all nodes at once, one a node and *turn*, so that the work is some operations over columns a turn and not a
node. What a node can do after some turns is an *option*: so many workers for such a loss. Options of several orders in
which jobs may go compete with each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang
from scheduler.core.holdings import Floats, Holdings, Standing, taken_from
from scheduler.core.victim_losses import Losses

_TURNS = 64  # jobs that may go from one node


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """After `turn` of its jobs went in that order (-1: none) `spent` is lost and `workers` fit on `row`. By row and
    then by workers, each more than the one before for no less. `turn_of`: of each order, when each pair of the standing
    goes."""

    row: Ints
    order: Ints
    turn: Ints
    workers: Ints
    spent: Floats
    turn_of: tuple[Ints, ...]

    def on(self, row: int) -> Options:
        """Those of one node."""
        here = self.row == row
        return Options(
            self.row[here], self.order[here], self.turn[here], self.workers[here], self.spent[here], self.turn_of
        )

    @staticmethod
    def merged(several: Sequence[Options]) -> Options:
        """The best of them, whatever their order."""
        shift = np.cumsum([0, *(len(options.turn_of) for options in several)])
        row = np.concatenate([options.row for options in several])
        order = np.concatenate([options.order + shift[i] for i, options in enumerate(several)])
        turn = np.concatenate([options.turn for options in several])
        workers = np.concatenate([options.workers for options in several])
        spent = np.concatenate([options.spent for options in several])
        by_row = np.lexsort((turn, -workers, spent, row))
        so_far = np.maximum.accumulate(row[by_row] * (int(workers.max(initial=0)) + 1) + workers[by_row])
        kept = by_row[np.append(True, so_far[1:] > so_far[:-1])[: len(by_row)]]
        turn_of = tuple(turn_of for options in several for turn_of in options.turn_of)
        return Options(row[kept], order[kept], turn[kept], workers[kept], spent[kept], turn_of)


def options_by_node(
    gang: Gang, free: FreeColumns, holdings: Holdings, standing: Standing, rows: Ints, jobs: Ints, loss: Floats
) -> Options:
    """What those rows can do if these jobs (slots) go in this order. `loss`: what each pair of `standing` costs."""
    turns = _Turns.of(standing, jobs, len(holdings))
    left = free.on(rows)  # everything here is by position in `rows`
    local = np.zeros(len(gang.pools.nodes), np.int64)
    local[rows] = np.arange(len(rows))
    have = gang.some_on(rows, left)
    spent = np.zeros(len(rows))
    for_one = np.where(have > 0, 0.0, math.inf)  # what it costs to fit one worker
    at = np.flatnonzero(have)
    found = [(rows[at], np.full(len(at), -1), have[at], spent[at])]
    for turn in range(_TURNS):
        going, slices, workers = turns.at(turn)
        wanted = (have < gang.workers) & (spent < _enough_spent(gang, for_one))
        here = local[standing.row[going]]
        if not wanted[here].any():
            break
        gone = taken_from(holdings.claim, standing.slices[slices], standing.workers[workers])
        rows_there, workers_there = local.take(gone.rows), local.take(gone.worker_rows)
        left.give(Claim(rows_there, gone.devices, gone.milli, workers_there, gone.cpus_milli, gone.memory_bytes))
        spent[here] += loss[going]
        then = gang.some_on(rows, left)
        at = np.flatnonzero((then > have) & wanted)
        found.append((rows[at], np.full(len(at), turn), then[at], spent[at]))
        for_one[at] = np.minimum(for_one[at], spent[at])
        have = np.maximum(have, then)
    row, after, fitting, cost = (np.concatenate(column) for column in zip(*found, strict=True))
    by_row = np.argsort(row * (_TURNS + 2) + after)
    order = np.zeros(len(row), np.int64)
    return Options(row[by_row], order, after[by_row], fitting[by_row], cost[by_row], (turns.of_pair,))


def cheapest_victims(
    gang: Gang, standing: Standing, options: Options, slots: int, *, marginal: bool = True
) -> Bools | None:
    """bool[slots]: who goes where the nodes are taken by what a worker costs there: on an average or, if that is more
    and `marginal` is asked for, one worker more than there would be. Where all must stand within one domain, the domain
    where that is cheapest. None: there is no room."""
    nodes, within = gang.pools.nodes, gang.constraints.within
    row = options.row
    if gang.workers == 1 and within is None:
        return _cheapest_for_one(gang, standing, options, slots)
    tie_rank, domain = gang.pools.tie_rank[row], np.zeros(len(row), np.int64)
    if within is not None:
        domain = _by_first(nodes.topology.rows.domains[within][row], tie_rank)
    cost = _for_a_worker(options) if marginal else options.spent / options.workers
    order = np.lexsort((options.workers, tie_rank, cost, domain))
    # What an option adds to those of its node that were taken before it: they stand by node and workers.
    by_row = order[np.argsort(_small(row[order]), kind="stable")]
    best = np.maximum.accumulate(by_row)
    before = np.append(-1, best[:-1])[: len(best)]
    fresh = (before < 0) | (row[before] != row[by_row])
    gained, paid = np.empty(len(order), np.int64), np.empty(len(order))
    gained[by_row] = options.workers[best] - np.where(fresh, 0, options.workers[before])
    paid[by_row] = options.spent[best] - np.where(fresh, 0.0, options.spent[before])
    filled, bill = np.cumsum(gained[order]), np.cumsum(paid[order])
    begin = np.searchsorted(domain[order], domain[order])  # where the option's domain begins
    filled -= np.where(begin > 0, filled[begin - 1], 0)
    bill -= np.where(begin > 0, bill[begin - 1], 0.0)
    enough = np.flatnonzero(filled >= gang.workers)
    if not enough.size:
        return None
    first = enough[np.append(True, begin[enough[1:]] != begin[enough[:-1]])]  # of each domain
    end = int(first[np.argmin(bill[first])])
    taken = order[int(begin[end]) : end + 1]
    chosen = np.full(len(nodes), -1, np.int64)
    np.maximum.at(chosen, row[taken], taken)
    option = chosen[standing.row]
    victims = np.zeros(slots, np.bool_)
    for number, turn_of in enumerate(options.turn_of):
        mine = (option >= 0) & (options.order[option] == number) & (turn_of <= options.turn[option])
        victims[standing.job[mine]] = True
    return victims


def _by_first(domain: Ints, rank: Ints) -> Ints:
    """Other numbers for the domains: the first rank in each. Their own tell which the cluster knew first, and a cluster
    that is read anew would decide otherwise."""
    first = np.full(int(domain.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, domain, rank)
    return first[domain]


def _cheapest_for_one(gang: Gang, standing: Standing, options: Options, slots: int) -> Bools | None:
    """The same for a single worker that may stand anywhere: no node has more than one option."""
    if not len(options.row):
        return None
    best = int(np.lexsort((gang.pools.tie_rank.take(options.row), options.spent))[0])
    turn_of = options.turn_of[options.order.item(best)]
    victims = np.zeros(slots, np.bool_)
    going = (standing.row == options.row.item(best)) & (turn_of <= options.turn.item(best))
    victims[standing.job[going]] = True
    return victims


def victims_of_one(gang: Gang, free: FreeColumns, holdings: Holdings, row: int, jobs: Ints) -> Ints | None:
    """The first so many of these jobs (slots) without which one worker of whole devices fits on this row; None where it
    does not even without them all. A node has few jobs: they are gone through one by one."""
    demand, claim = gang.alternatives[0], holdings.claim
    here = [part for part in gang.pools.of(demand) if part.nodes.item(row)]
    if not here or not gang.usable(here[0].nodes).item(row):
        return None
    usable = here[0].devices
    serves = np.ones(free.milli.shape[1], np.bool_) if usable is None else usable[row]
    milli = free.milli[row].astype(np.int64)
    cpus_milli, memory_bytes = free.cpus_milli.item(row), free.memory_bytes.item(row)
    slices, workers = np.flatnonzero(claim.rows == row), np.flatnonzero(claim.worker_rows == row)
    slice_job, worker_job = holdings.slice_job.take(slices), holdings.worker_job.take(workers)
    devices, held_milli = claim.devices.take(slices), claim.milli.take(slices)
    held_cpus_milli, held_memory_bytes = claim.cpus_milli.take(workers), claim.memory_bytes.take(workers)
    for count, job in enumerate(jobs[:_TURNS].tolist(), 1):
        of_slices, of_workers = slice_job == job, worker_job == job
        np.add.at(milli, devices[of_slices], held_milli[of_slices])
        cpus_milli += int(held_cpus_milli[of_workers].sum())
        memory_bytes += int(held_memory_bytes[of_workers].sum())
        if cpus_milli < demand.cpus_milli or memory_bytes < demand.memory_bytes:
            continue
        if np.count_nonzero((milli == WHOLE_DEVICE_MILLI) & serves) >= demand.devices:
            return jobs[:count]
    return None


def victims_of_whole_nodes(
    gang: Gang, free: FreeColumns, holdings: Holdings, allowed: Bools, near: Bools, losses: Losses
) -> Bools | None:
    """cheapest_victims() for workers that take whole nodes: bool[slots]. All of `allowed` go who stand on the cheapest
    nodes of those, whatever their order. None where it matters after all, or where these nodes are too few. `near`:
    nodes all of whose devices come free if all of `allowed` go."""
    demand, claim, span = gang.alternatives[0], holdings.claim, len(near)
    if demand.devices != free.milli.shape[1]:
        return None
    slices = np.flatnonzero(allowed.take(holdings.slice_job) & near.take(claim.rows))
    workers = np.flatnonzero(allowed.take(holdings.worker_job) & near.take(claim.worker_rows))
    with_device = distinct(holdings.slice_job.take(slices) * span + claim.rows.take(slices))[0]
    rows = claim.worker_rows.take(workers)
    pairs = distinct(holdings.worker_job.take(workers) * span + rows)[0]
    job, row = pairs // span, pairs % span
    if len(with_device) < len(pairs) or np.bincount(row, minlength=1).max() > _TURNS:
        return None  # who holds no device there may stay if it is the turn of others first
    cpus_milli = free.cpus_milli + np.bincount(rows, claim.cpus_milli.take(workers), span)
    memory_bytes = free.memory_bytes + np.bincount(rows, claim.memory_bytes.take(workers), span)
    serve = np.flatnonzero(near & (cpus_milli >= demand.cpus_milli) & (memory_bytes >= demand.memory_bytes))
    if len(serve) < gang.workers:
        return None
    spent = np.bincount(row, losses.work.take(job), span)
    chosen = np.zeros(span, np.bool_)
    cheapest_first = np.lexsort((gang.pools.tie_rank.take(serve), spent.take(serve)))
    chosen[serve.take(cheapest_first[: gang.workers])] = True
    victims = np.zeros(len(holdings), np.bool_)
    victims[job[chosen.take(row)]] = True
    return victims


def _for_a_worker(options: Options) -> Floats:
    """The greater of what a worker costs on an average and what one more than with the option before it does."""
    row, workers, spent = options.row, options.workers, options.spent
    average: Floats = spent / workers
    later = np.flatnonzero(row[1:] == row[:-1]) + 1
    average[later] = np.maximum(
        average[later], (spent[later] - spent[later - 1]) / (workers[later] - workers[later - 1])
    )
    return average


@dataclass(frozen=True, slots=True, eq=False)
class _Turns:
    """When each pair of a standing goes (`of_pair`); and pairs, slices and workers, one turn after the other, with
    where each turn ends."""

    of_pair: Ints
    grouped: tuple[Ints, Ints, Ints]
    ends: tuple[Ints, Ints, Ints]

    @staticmethod
    def of(standing: Standing, order: Ints, slots: int) -> _Turns:
        rank = np.zeros(slots, np.int64)
        rank[order] = np.arange(len(order))
        by_rank = np.argsort(_small(rank[standing.job]), kind="stable")
        by_row = by_rank[np.argsort(_small(standing.row[by_rank]), kind="stable")]
        row = standing.row[by_row]
        number = np.arange(len(row))
        first = np.append(True, row[1:] != row[:-1])[: len(row)]
        turn = np.empty(len(row), np.int64)
        turn[by_row] = np.minimum(number - np.maximum.accumulate(np.where(first, number, 0)), _TURNS)
        turns = (turn, turn[standing.slice_pair], turn[standing.worker_pair])
        pairs, slices, workers = (np.argsort(_small(each), kind="stable") for each in turns)
        ends = (np.append(0, np.cumsum(np.bincount(each, minlength=_TURNS + 1))) for each in turns)
        return _Turns(turn, (pairs, slices, workers), (next(ends), next(ends), next(ends)))

    def at(self, turn: int) -> tuple[Ints, Ints, Ints]:
        """Pairs, and positions in the standing's slices and workers, that go in this turn."""
        pairs, slices, workers = (
            each[ends[turn] : ends[turn + 1]] for each, ends in zip(self.grouped, self.ends, strict=True)
        )
        return pairs, slices, workers


def _enough_spent(gang: Gang, for_one: Floats) -> float:
    """A loss for which there is an answer, one worker a node: nodes that cost as much need no further look."""
    if gang.workers > len(for_one) or not gang.counted_by_node:
        return math.inf
    return float(np.partition(for_one, gang.workers - 1)[: gang.workers].sum())


def _small(numbers: Ints) -> npt.NDArray[np.unsignedinteger]:
    """The same in a type that NumPy sorts fastest, by radix, where they are small enough."""
    return numbers.astype(np.uint16 if numbers.max(initial=0) < 1 << 16 else np.uint64)
