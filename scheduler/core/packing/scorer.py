"""Which node, by a packing policy, a worker goes to; fast enough to ask once for every worker of a busy cluster.

A score depends only on the ask and on the node's state: its kind, and what is left of its devices, CPUs and memory. So
states are numbered, each row holds the number of its own, and an ask's scores are kept by state: only states that were
never met before are rated, and a column of scores, one a row, is mended only where a row's number changed. A row's
number is looked up again only when its stamp has changed. All of it is a cache of a pure function: it never changes an
answer.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Bools, Ints, Milli
from scheduler.core.packing.node_states import NO_STATE, NodeStates
from scheduler.core.packing.policies import NO_ROOM, PackingPolicy, Rater, Rating
from scheduler.core.packing.protection import Prices
from scheduler.core.packing.rows import Ask, Free, NodeKinds, NodeRows, with_room_for
from scheduler.core.packing.shapes import TypicalShapes

_UNKNOWN = 2 * NO_ROOM
_UNSET = int(np.iinfo(np.int64).min)
_KEPT_ASKS = 256
_MOST_TOLLED = 1024  # states, of one ask at one time's prices
_FEW_ROWS = 16  # one by one; more are worth columns
_FEW_MENDED = 12  # the same
_FEW_MOVES = 64  # that are worth looking through for those that matter
_FEW_STATES = 8  # that are rated one by one
_NEVER = -1
_NOWHERE = -1


@dataclass(slots=True)
class _ByRow:
    """Of `rows` (None: all), in order: `keys`, score and node order in one number. Scores, scores of opening an idle
    device, and what the device has left: by the numbers in `states`, one a row, or as `keys` where that is None.
    `kept`: where it comes from."""

    rows: Ints | None
    keys: Ints
    scores: Ints
    opening: Ints
    device_milli: Milli
    states: Ints | None
    kept: _Kept | None

    def scores_of(self, places: Ints) -> tuple[Ints, Ints]:
        at = places if self.states is None else self.states.take(places)
        return self.scores.take(at), self.opening.take(at)

    def device_of(self, place: int) -> int:
        return int(self.device_milli[place if self.states is None else self.states[place]])

    def rows_of(self, places: Ints) -> Ints:
        return places if self.rows is None else self.rows.take(places)

    def place_of(self, row: int) -> int:
        return row if self.rows is None else int(self.rows.searchsorted(row))


@dataclass(slots=True)
class _Kept:
    """What is known for one ask. Of the `rows` that serve it (None: all), in order: `states`, the numbers that `keys`
    are for, and `keys`, score and node order in one number, before protection; `tolled`: after it, at these `prices`,
    or _UNSET; `order`: the node order. `places`: of each row its place among these, _NOWHERE for others. `moves`: of
    the states, are known. By state: its rating."""

    rows: Ints | None
    places: Sequence[int]
    order: Ints
    states: Ints
    keys: Ints
    tolled: Ints
    generation: int
    moves: int = _NEVER
    prices: Prices | None = None
    scores: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    opening: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    device_milli: Milli = field(default_factory=lambda: np.zeros(0, np.int32))

    def by_row(self) -> _ByRow:
        return _ByRow(self.rows, self.keys, self.scores, self.opening, self.device_milli, self.states, self)

    def make_room(self, states: int) -> None:
        missing = states - len(self.scores)
        if missing > 0:
            more = np.full(missing + states // 2, _UNKNOWN)
            self.scores = np.append(self.scores, more)
            self.opening = np.append(self.opening, more)
            self.device_milli = np.append(self.device_milli, np.zeros(len(more), np.int32))


class Scorer:
    """The choices of one policy over one set of nodes. `tie_rank`, int64[nodes], is a permutation: of nodes with equal
    scores the lower wins."""

    __slots__ = ("_kept", "_kinds", "_least_key", "_order", "_rater", "_shift", "_states", "_together")

    def __init__(
        self, policy: PackingPolicy, kinds: NodeKinds, shapes: TypicalShapes, tie_rank: Ints, max_devices: int
    ) -> None:
        count = len(tie_rank)
        assert count == len(kinds.kind), (count, len(kinds.kind))
        self._kinds = kinds
        self._rater: Rater = policy.prepare(shapes, kinds, max_devices)
        self._states = NodeStates(kinds, self._rater.protection, max_devices)
        self._shift = max(1, count.bit_length())
        self._order: Ints = count - 1 - tie_rank
        self._least_key = (NO_ROOM // 2) << self._shift
        self._kept: dict[Ask, _Kept] = {}
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
        if not self._keeps(ask):
            return self._best_rated_anew(free, ask, candidates)
        kept = self._up_to_date(free, ask)
        keys = kept.keys
        if candidates is not None:
            here = candidates if kept.rows is None else candidates.take(kept.rows)
            keys = np.where(here, keys, self._least_key - 1)
        if not len(keys):
            return None
        place = int(keys.argmax())
        highest: int = keys.item(place)
        if highest < self._least_key:
            return None
        if self._rater.protection is not None and not self._states.nothing_scarce(ask, kept.states.item(place)):
            place = self._least_tolled(ask, kept, keys, place, highest)
        return place if kept.rows is None else kept.rows.item(place)

    def _best_rated_anew(self, free: Free, ask: Ask, candidates: Bools | None) -> int | None:
        """The same for an ask of which nothing is kept."""
        rating = self._by_row(free, ask)
        fits = rating.keys >= self._least_key
        places = (fits if candidates is None else fits & candidates).nonzero()[0]
        return places.item(self._tolled_keys(ask, rating, places).argmax()) if len(places) else None

    def _least_tolled(self, ask: Ask, kept: _Kept, keys: Ints, place: int, highest: int) -> int:
        """The place whose key is highest once protection has taken off what it does; `place` has the highest before.
        It only ever takes off: only those can win that stand above what is left of the highest."""
        tolled = self._states.prices(ask).tolled.setdefault(ask, {})
        if len(tolled) > _MOST_TOLLED:
            tolled.clear()
        best = self._tolled_key(ask, kept, tolled, place)
        if best == highest:
            return place
        places = (keys >= max(best, self._least_key)).nonzero()[0]
        if len(places) > _FEW_ROWS:
            return places.item(self._tolled_keys(ask, kept.by_row(), places).argmax())
        for other in places.tolist():
            key = self._tolled_key(ask, kept, tolled, other)
            if key > best:
                best, place = key, other
        return place

    def _tolled_key(self, ask: Ask, kept: _Kept, tolled: dict[int, int], place: int) -> int:
        """The key less what protection takes off. `tolled`: scores by state, as they are at these prices."""
        state: int = kept.states.item(place)
        score = tolled.get(state)
        if score is None:
            score = kept.scores.item(state) - self._states.toll(ask, state, 0 if ask.share_milli else ask.devices)
            opening: int = kept.opening.item(state)
            if ask.share_milli and opening > NO_ROOM // 2:
                opening -= self._states.toll(ask, state, 1)
            tolled[state] = score = max(score, opening)
        key: int = (score << self._shift) + kept.order.item(place)
        return key

    def _tolled_keys(self, ask: Ask, rating: _ByRow, places: Ints) -> Ints:
        """The keys of these, which have room, less what protection takes off."""
        kept = rating.kept
        if kept is None or self._rater.protection is None:
            return self._tolled_anew(ask, rating, places)
        prices = self._states.prices(ask)
        if kept.prices is not prices:
            kept.prices = prices
            kept.tolled.fill(_UNSET)
        keys = kept.tolled.take(places)
        unset = (keys == _UNSET).nonzero()[0]
        if not len(unset):
            return keys
        these = places.take(unset)
        if len(unset) <= _FEW_ROWS:
            tolled = prices.tolled.setdefault(ask, {})
            keys[unset] = kept.tolled[these] = [self._tolled_key(ask, kept, tolled, place) for place in these.tolist()]
        else:
            keys[unset] = kept.tolled[these] = self._tolled_anew(ask, rating, these)
        return keys

    def _tolled_anew(self, ask: Ask, rating: _ByRow, places: Ints) -> Ints:
        rows = rating.rows_of(places)
        scores, opening = self._tolled(ask, self._states.of_row.take(rows), *rating.scores_of(places))
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
        rating = self._by_row(free, ask)
        places = (rating.keys >= self._least_key).nonzero()[0]
        rows = rating.rows_of(places)
        scores, fits = np.zeros(len(self._order), np.int64), np.zeros(len(self._order), np.bool_)
        fits[rows] = True
        scores[rows] = self._tolled_keys(ask, rating, places) >> self._shift
        return scores, fits

    # ---- by row ----------------------------------------------------------------------------------------------------

    def _by_row(self, free: Free, ask: Ask) -> _ByRow:
        """Ratings of the rows that serve the ask as they are now, before protection."""
        if not self._keeps(ask):
            self._states.refresh(free)
            scores, opening, device_milli = self._rated(free, ask, np.arange(len(self._order)))
            keys = (np.maximum(scores, opening) << self._shift) + self._order
            return _ByRow(None, keys, scores, opening, device_milli, None, None)
        return self._up_to_date(free, ask).by_row()

    def _up_to_date(self, free: Free, ask: Ask) -> _Kept:
        """What is kept for the ask, as the rows are now."""
        self._states.refresh(free)
        kept = self._kept_for(ask)
        self._mend(kept, free, ask)
        return kept

    def _mend(self, kept: _Kept, free: Free, ask: Ask) -> None:
        """Bring what is kept up to date."""
        states = self._states
        moved = states.moved_since(kept.moves)
        kept.moves = states.moves
        if moved is not None and len(moved) <= _FEW_MOVES:
            if not moved:
                return
            places = kept.places
            here = {row for row in moved if places[row] != _NOWHERE}
            if len(here) <= _FEW_MENDED:
                if here:
                    self._mend_few(kept, free, ask, here)
                return
        now = states.of_row if kept.rows is None else states.of_row.take(kept.rows)
        changed = (kept.states != now).nonzero()[0]
        if len(changed):
            self._mend_many(kept, free, ask, changed, now.take(changed))

    def _mend_few(self, kept: _Kept, free: Free, ask: Ask, rows: Iterable[int]) -> None:
        """These rows, among which are all that are in another state."""
        states, score_of = self._states.numbers, kept.scores.item
        unknown = {states[row]: row for row in rows if score_of(states[row]) == _UNKNOWN}
        if unknown:
            self._rate(kept, free, ask, list(unknown), list(unknown.values()))
        for row in rows:
            place, state = kept.places[row], states[row]
            kept.states[place] = state
            key = max(score_of(state), kept.opening.item(state)) << self._shift
            kept.keys[place] = key + kept.order.item(place)
            kept.tolled[place] = _UNSET

    def _mend_many(self, kept: _Kept, free: Free, ask: Ask, changed: Ints, states: Ints) -> None:
        kept.states[changed] = states
        self._learn(kept, free, ask, states, changed if kept.rows is None else kept.rows.take(changed))
        keys = np.maximum(kept.scores.take(states), kept.opening.take(states))
        keys <<= self._shift
        keys += kept.order.take(changed)
        kept.keys[changed] = keys
        kept.tolled[changed] = _UNSET

    def _device_milli(self, free: Free, row: int, ask: Ask) -> int:
        """What the device has left that a share would be cut from."""
        rating = self._by_row(free, ask)
        place = rating.place_of(row)
        scores, opening = rating.scores_of(np.array([place]))
        if self._rater.protection is not None:
            scores, opening = self._tolled(ask, self._states.of_row.take(np.array([row])), scores, opening)
        return rating.device_of(place) if scores.item() >= opening.item() else WHOLE_DEVICE_MILLI

    def _keeps(self, ask: Ask) -> bool:
        return ask.usable is None and self._rater.stable

    def _tolled(self, ask: Ask, states: Ints, scores: Ints, opening: Ints) -> tuple[Ints, Ints]:
        """Scores of these states less what protection takes off."""
        if self._rater.protection is None:
            return scores, opening
        if not ask.share_milli:
            return scores - self._states.tolls(ask, states, ask.devices), opening
        return scores - self._states.tolls(ask, states, 0), opening - self._states.tolls(ask, states, 1)

    # ---- by state --------------------------------------------------------------------------------------------------

    def _kept_for(self, ask: Ask) -> _Kept:
        kept = self._kept.get(ask)
        if kept is None or kept.generation != self._states.generation:
            while len(self._kept) >= _KEPT_ASKS:
                del self._kept[next(iter(self._kept))]
            rows = None if ask.everywhere else ask.rows.nonzero()[0]
            order = self._order if rows is None else self._order.take(rows)
            nothing = np.full(len(order), self._least_key - 1)
            states, tolled = np.full(len(order), NO_STATE), np.full(len(order), _UNSET)
            places: Sequence[int] = range(len(order))
            if rows is not None:
                place_of = np.full(len(self._order), _NOWHERE)
                place_of[rows] = np.arange(len(rows))
                places = place_of.tolist()
            kept = _Kept(rows, places, order, states, nothing, tolled, self._states.generation)
            self._kept[ask] = kept
        kept.make_room(self._states.count)
        return kept

    def _learn(self, kept: _Kept, free: Free, ask: Ask, states: Ints, rows: Ints) -> None:
        """Rate each of these states that was never rated, once, by any of these rows that is in it."""
        unknown = (kept.scores.take(states) == _UNKNOWN).nonzero()[0]
        if len(unknown):
            row_in = dict(zip(states.take(unknown).tolist(), rows.take(unknown).tolist(), strict=True))
            self._rate(kept, free, ask, list(row_in), list(row_in.values()))

    def _rate(self, kept: _Kept, free: Free, ask: Ask, states: list[int], rows: list[int]) -> None:
        """Rate each of these states, by a row that is in it."""
        few = self._rater.few
        if few is not None and len(states) <= _FEW_STATES:
            rated = few.rate([self._states.states[state] for state in states], ask)
            for state, (score, opening, device_milli) in zip(states, rated, strict=True):
                kept.scores[state], kept.opening[state], kept.device_milli[state] = score, opening, device_milli
            return
        found = self._rated(free, ask, np.array(rows))
        kept.scores[states], kept.opening[states], kept.device_milli[states] = found

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
