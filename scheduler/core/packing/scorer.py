"""Which node, by a packing policy, a worker goes to; fast enough to ask once for every worker of a busy cluster.

A score depends only on the ask and on the node's state: its kind, and what is left of its devices, CPUs and memory. So
states are numbered, each row holds the number of its own, and an ask's scores are kept by state: only states that were
never met before are rated, and a column of scores, one for each row that serves the ask, is mended only where a row's
number changed (`node_states.py`, `kept_scores.py`). All of it is a cache of a pure function: it never changes an
answer.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import distinct
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Bools, Ints, Milli
from scheduler.core.packing.few_states import has_room
from scheduler.core.packing.kept_scores import Kept, Rated, Served
from scheduler.core.packing.node_states import NO_STATE, NodeStates, PricedNodes
from scheduler.core.packing.policies import NO_ROOM, PackingPolicy, Rater, Rating
from scheduler.core.packing.rows import Ask, Free, NodeKinds, NodeRows, with_room_for
from scheduler.core.packing.shapes import TypicalShapes

_KEPT_ASKS = 256
_MOST_TOLLED = 1024  # states, of one ask at one time's prices
_FEW_ROWS = 16  # one by one; more are worth columns
_FEW_MOVES = 256  # the same
_FEW_STATES = 8  # whose ratings and tolls are worked out one by one


@dataclass(frozen=True, slots=True)
class _ByRow:
    """Of all rows, in order: `keys`, score and node order in one number, scores, scores of opening an idle device, and
    what the device has left. What is said of a row without room means nothing but for its key."""

    keys: Ints
    scores: Ints
    opening: Ints
    device_milli: Milli


class Scorer:
    """The choices of one policy over one set of nodes. `tie_rank`, int64[nodes], is a permutation: of nodes with equal
    scores the lower wins."""

    __slots__ = (
        "_kept",
        "_kinds",
        "_least_key",
        "_nowhere",
        "_order",
        "_orders",
        "_rater",
        "_served",
        "_shift",
        "_stable",
        "_states",
        "_together",
    )

    def __init__(
        self, policy: PackingPolicy, kinds: NodeKinds, shapes: TypicalShapes, tie_rank: Ints, max_devices: int
    ) -> None:
        count = len(tie_rank)
        assert count == len(kinds.kind), (count, len(kinds.kind))
        self._kinds = kinds
        self._rater: Rater = policy.prepare(shapes, kinds, max_devices)
        self._stable = self._rater.stable
        self._states = NodeStates(kinds, self._rater.protection, max_devices)
        self._shift = max(1, count.bit_length())
        self._order: Ints = count - 1 - tie_rank
        self._orders: list[int] = self._order.tolist()
        self._least_key = (NO_ROOM // 2) << self._shift
        self._nowhere: Rated = (NO_ROOM << self._shift, NO_ROOM, NO_ROOM, 0)
        self._served: dict[bytes, Served] = {}
        self._kept: dict[Ask, Kept] = {}
        self._together: dict[tuple[Ask, int], Ask] = {}

    def best(self, free: Free, ask: Ask, candidates: Bools | None = None, workers: int = 1) -> int | None:
        """The row for so many workers of this ask together, among the candidates (all by default); None where none has
        room. For several workers that share devices the first one's score decides among the rows with room for all."""
        if not len(self._order):
            return None
        if workers > 1:
            if ask.share_milli:
                room = with_room_for(free, ask, workers)
                candidates = room if candidates is None else room & candidates
            else:
                ask = self._as_one(ask, workers)
        if not self._stable or ask.usable is not None:
            return self._best_rated_anew(free, ask, candidates)
        states = self._states
        states.refresh(free)
        kept = self._kept.get(ask)
        if kept is None or kept.generation != states.generation:
            kept = self._keep(ask)
        priced = kept.priced
        if priced is not None and ask.devices and not states.any_with(priced, ask.devices):
            return None
        if kept.moves != states.moves:
            self._mend(kept, free, ask)
        keys, served = kept.keys, kept.served
        if not len(keys):
            return None
        if candidates is not None:
            keys = np.where(candidates.take(served.rows), keys, self._least_key - 1)
        place = int(keys.argmax())
        highest: int = keys.item(place)
        if highest < self._least_key:
            return None
        row = served.listed[place]
        if priced is None or states.idle[states.numbers[row]] < priced.scarce_from:
            return row
        return self._least_tolled(ask, kept, priced, keys, row, highest)

    def _best_rated_anew(self, free: Free, ask: Ask, candidates: Bools | None) -> int | None:
        """The same for an ask of which nothing is kept."""
        rating = self._rated_anew(free, ask)
        fits = rating.keys >= self._least_key
        rows = (fits if candidates is None else fits & candidates).nonzero()[0]
        return rows.item(self._tolled_keys(ask, rating, rows).argmax()) if len(rows) else None

    def _least_tolled(self, ask: Ask, kept: Kept, priced: PricedNodes, keys: Ints, row: int, highest: int) -> int:
        """The row whose key is highest once protection has taken off what it does; `row` has the highest before. It
        only ever takes off: only those can win that stand above what is left of the highest."""
        prices = self._states.prices(priced)
        if prices.nothing:
            return row
        tolled = prices.tolled.setdefault(ask, {})
        if len(tolled) > _MOST_TOLLED:
            tolled.clear()
        numbers, orders = self._states.numbers, self._orders
        best = self._tolled_score(ask, kept, priced, tolled, numbers[row]) + orders[row]
        if best == highest:
            return row
        places = (keys >= max(best, self._least_key)).nonzero()[0]
        if len(places) > _FEW_ROWS:
            return self._least_tolled_of(kept.served.rows.take(places), ask, kept, priced, tolled)
        listed = kept.served.listed
        for place in places.tolist():
            other = listed[place]
            score = tolled.get(numbers[other])
            if score is None:
                score = self._tolled_score(ask, kept, priced, tolled, numbers[other])
            if score + orders[other] > best:
                best, row = score + orders[other], other
        return row

    def _least_tolled_of(self, rows: Ints, ask: Ask, kept: Kept, priced: PricedNodes, tolled: dict[int, int]) -> int:
        """The same of many rows, by the states that they are in."""
        of_rows = self._states.of_row.take(rows)
        states, _ = distinct(of_rows)
        listed = states.tolist()
        unknown = [state for state in listed if state not in tolled]
        if len(unknown) <= _FEW_STATES:
            for state in unknown:
                self._tolled_score(ask, kept, priced, tolled, state)
        else:
            rated = np.array([kept.rated[state] for state in unknown], np.int64)
            scores, opening = self._less_tolls(ask, np.array(unknown), rated[:, 1], rated[:, 2])
            tolled.update(zip(unknown, (np.maximum(scores, opening) << self._shift).tolist(), strict=True))
        keys = np.array([tolled[state] for state in listed]).take(states.searchsorted(of_rows))
        keys += self._order.take(rows)
        return rows.item(keys.argmax())

    def _tolled_score(self, ask: Ask, kept: Kept, priced: PricedNodes, tolled: dict[int, int], state: int) -> int:
        """The score less what protection takes off, as keys have it. `tolled`: by state, as they are at these
        prices."""
        found = tolled.get(state)
        if found is None:
            _, score, opening, _ = kept.rated[state]
            score -= self._states.toll(priced, ask, state, 0 if ask.share_milli else ask.devices)
            if ask.share_milli and opening > NO_ROOM // 2:
                opening -= self._states.toll(priced, ask, state, 1)
            found = tolled[state] = max(score, opening) << self._shift
        return found

    def _tolled_keys(self, ask: Ask, rating: _ByRow, rows: Ints) -> Ints:
        """The keys of these, which have room, less what protection takes off."""
        scores, opening = self._tolled(ask, rows, rating)
        keys = np.maximum(scores, opening)
        keys <<= self._shift
        keys += self._order.take(rows)
        return keys

    def devices(self, free: Free, row: int, ask: Ask) -> tuple[int, ...]:
        """Indices of the devices that one worker of the ask gets on that row, which must have room for it: the first
        wholly free ones, or the policy's choice for a share."""
        if not ask.milli:
            return ()
        wanted, count = WHOLE_DEVICE_MILLI, ask.devices
        if ask.share_milli:
            wanted, count = self._device_milli(free, row, ask), 1
        left: list[int] = free.milli[row].tolist()
        usable = None if ask.usable is None else ask.usable[row].tolist()
        found = [i for i, milli in enumerate(left) if milli == wanted and (usable is None or usable[i])][:count]
        assert len(found) == count, f"row {row} with {left} left has no room for {ask}"
        return tuple(found)

    def scores(self, free: Free, ask: Ask) -> tuple[Ints, Bools]:
        """Each row's score (0 where it has no room) and whether it has room, as best() sees them."""
        rating = self._ratings(free, ask)
        rows = (rating.keys >= self._least_key).nonzero()[0]
        scores, fits = np.zeros(len(self._order), np.int64), np.zeros(len(self._order), np.bool_)
        fits[rows] = True
        scores[rows] = self._tolled_keys(ask, rating, rows) >> self._shift
        return scores, fits

    # ---- by row ----------------------------------------------------------------------------------------------------

    def _ratings(self, free: Free, ask: Ask) -> _ByRow:
        """Of the rows as they are now, before protection."""
        if not self._keeps(ask):
            return self._rated_anew(free, ask)
        self._states.refresh(free)
        return self._by_row(self._up_to_date(free, ask))

    def _rated_anew(self, free: Free, ask: Ask) -> _ByRow:
        self._states.refresh(free)
        scores, opening, device_milli = self._rated(free, ask, np.arange(len(self._order)))
        keys = (np.maximum(scores, opening) << self._shift) + self._order
        return _ByRow(keys, scores, opening, device_milli)

    def _by_row(self, kept: Kept) -> _ByRow:
        scores, opening = np.full((2, self._states.count), NO_ROOM)
        device_milli = np.zeros(self._states.count, np.int32)
        if kept.rated:
            states = list(kept.rated)
            _, scores[states], opening[states], device_milli[states] = zip(*kept.rated.values(), strict=True)
        of_row = self._states.of_row
        keys = np.full(len(of_row), self._least_key - 1)
        keys[kept.served.rows] = kept.keys
        return _ByRow(keys, scores.take(of_row), opening.take(of_row), device_milli.take(of_row))

    def _up_to_date(self, free: Free, ask: Ask) -> Kept:
        """What is kept for the ask, as the rows are now, whose states have numbers."""
        kept = self._kept.get(ask)
        if kept is None or kept.generation != self._states.generation:
            kept = self._keep(ask)
        if kept.moves != self._states.moves:
            self._mend(kept, free, ask)
        return kept

    def _mend(self, kept: Kept, free: Free, ask: Ask) -> None:
        """The keys of the rows that have moved to another state."""
        states, served = self._states, kept.served
        moved = states.moved_since(served.kinds, kept.seen)
        kept.moves = states.moves
        if moved is None or len(moved) > _FEW_MOVES:
            self._mend_all(kept, free, ask)
            return
        numbers, rated, place_of, keys, orders = states.numbers, kept.rated, served.place_of, kept.keys, self._orders
        unknown: dict[int, int] = {}
        left: list[int] = []
        for row in set(moved):
            place = place_of.get(row)
            if place is None:
                continue
            found = rated.get(numbers[row])
            if found is None:
                unknown[numbers[row]] = row
                left.append(row)
            else:
                keys[place] = found[0] + orders[row]
        if unknown:
            self._rate(kept, free, ask, unknown)
            for row in left:
                keys[place_of[row]] = rated[numbers[row]][0] + orders[row]

    def _mend_all(self, kept: Kept, free: Free, ask: Ask) -> None:
        """The keys of all rows that serve the ask."""
        rows = kept.served.rows
        states = self._states.of_row.take(rows)
        row_in = np.full(self._states.count, NO_STATE)
        row_in[states] = rows
        met = (row_in != NO_STATE).nonzero()[0]
        row_of = dict(zip(met.tolist(), row_in.take(met).tolist(), strict=True))
        unknown = {state: row for state, row in row_of.items() if state not in kept.rated}
        if unknown:
            self._rate(kept, free, ask, unknown)
        scores = np.zeros(self._states.count, np.int64)
        scores[met] = [kept.rated[state][0] for state in row_of]
        kept.keys = scores.take(states)
        kept.keys += kept.served.orders

    def _device_milli(self, free: Free, row: int, ask: Ask) -> int:
        """What the device has left that a share would be cut from."""
        self._states.refresh(free)
        if self._keeps(ask):
            state = self._states.numbers[row]
            kept = self._up_to_date(free, ask)
            _, score, opening, device_milli = kept.rated[state]
            if kept.priced is not None and self._states.idle[state] >= kept.priced.scarce_from:
                score -= self._states.toll(kept.priced, ask, state, 0)
                opening -= self._states.toll(kept.priced, ask, state, 1)
            return device_milli if score >= opening else WHOLE_DEVICE_MILLI
        rating = self._rated_anew(free, ask)
        scores, openings = self._tolled(ask, np.array([row]), rating)
        return rating.device_milli.item(row) if scores.item() >= openings.item() else WHOLE_DEVICE_MILLI

    def _keeps(self, ask: Ask) -> bool:
        return ask.usable is None and self._stable

    def _tolled(self, ask: Ask, rows: Ints, rating: _ByRow) -> tuple[Ints, Ints]:
        """Scores of these rows less what protection takes off."""
        scores, opening = rating.scores.take(rows), rating.opening.take(rows)
        if self._rater.protection is None:
            return scores, opening
        return self._less_tolls(ask, self._states.of_row.take(rows), scores, opening)

    def _less_tolls(self, ask: Ask, states: Ints, scores: Ints, opening: Ints) -> tuple[Ints, Ints]:
        if not ask.share_milli:
            return scores - self._states.tolls(ask, states, ask.devices), opening
        return scores - self._states.tolls(ask, states, 0), opening - self._states.tolls(ask, states, 1)

    # ---- by state --------------------------------------------------------------------------------------------------

    def _keep(self, ask: Ask) -> Kept:
        """What is to be known for the ask: nothing yet."""
        while len(self._kept) >= _KEPT_ASKS:
            del self._kept[next(iter(self._kept))]
        key = ask.rows.tobytes()  # most asks are served by the same rows as others
        served = self._served.get(key)
        if served is None:
            if len(self._served) >= _KEPT_ASKS:
                self._served.clear()
            served = self._served[key] = Served.by(ask.rows, self._order, self._kinds)
        priced = None if self._rater.protection is None else self._states.priced(ask)
        kept = self._kept[ask] = Kept(served, priced, self._states.generation)
        return kept

    def _rate(self, kept: Kept, free: Free, ask: Ask, unknown: Mapping[int, int]) -> None:
        """Rate each of these states, by a row that is in it."""
        states, rated = self._states.states, kept.rated
        with_room: list[int] = []
        for number in unknown:
            if has_room(states[number], ask):
                with_room.append(number)
            else:
                rated[number] = self._nowhere
        few, shift = self._rater.few, self._shift
        if few is not None and len(with_room) <= _FEW_STATES:
            for number in with_room:
                score, opening, device_milli = few.rate(states[number], ask)
                rated[number] = (max(score, opening) << shift, score, opening, device_milli)
        elif with_room:
            columns = self._rated(free, ask, np.array([unknown[number] for number in with_room]))
            ratings = zip(with_room, *[column.tolist() for column in columns], strict=True)
            for number, score, opening, device_milli in ratings:
                rated[number] = (max(score, opening) << shift, score, opening, device_milli)

    def _rated(self, free: Free, ask: Ask, rows: Ints) -> tuple[Ints, Ints, Milli]:
        """Scores, scores of opening an idle device, and devices; NO_ROOM where the ask is not served or has no room."""
        scores, opening = np.full((2, len(rows)), NO_ROOM)
        device_milli = np.zeros(len(rows), np.int32)
        room = NodeRows.with_room(free, self._kinds, ask, rows)
        if len(room):
            rating: Rating = self._rater.rate(room, ask)
            scores[room.place], device_milli[room.place] = rating.scores, rating.device_milli
            if rating.opening is not None:
                opening[room.place] = rating.opening
        return scores, opening, device_milli

    def _as_one(self, ask: Ask, workers: int) -> Ask:
        """So many workers on one node, as if they were one."""
        found = self._together.get((ask, workers))
        if found is None:
            if len(self._together) >= _KEPT_ASKS:
                self._together.clear()
            found = self._together[ask, workers] = Ask(
                rows=ask.rows,
                devices=ask.devices * workers,
                cpus_milli=ask.cpus_milli * workers,
                memory_bytes=ask.memory_bytes * workers,
                usable=ask.usable,
            )
        return found
