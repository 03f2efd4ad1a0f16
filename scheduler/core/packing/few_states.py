"""The default policy's rating of a few nodes, in plain Python: what `policies.py` says of them over columns, number for
number.

Most questions find one or two nodes in a state that was not rated for the ask yet, since somebody has just started or
ended there. For so few the columns are a hundred operations over arrays of one entry. What a state is worth does not
depend on who asks, and what becomes of a node is often met later: so worth is kept by state.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import math

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.packing.rows import Ask
from scheduler.core.packing.worth import Worth

State = tuple[int, ...]
"""Of a node: its kind, CPUs, memory, and what each device has left, rising."""
_Outcome = tuple[int, State]
"""What the device has left that a share is cut from (0: no share is asked for), and the state after that."""
_Rated = tuple[int, int, int]
_KEPT = 1 << 16


class FewStates:
    """For one typical work. `step`: devices' worth that make a difference, each of so many `substeps`; `no_room`: the
    score of what cannot be done. `apart`: what opens an idle device for a share is rated apart."""

    __slots__ = ("_apart", "_known", "_no_room", "_step", "_substeps", "_worth")

    def __init__(self, worth: Worth, *, step: float, substeps: int, no_room: int, apart: bool) -> None:
        self._worth = worth
        self._step = step
        self._substeps = substeps
        self._no_room = no_room
        self._apart = apart
        self._known: dict[State, float] = {}

    def rate(self, state: State, ask: Ask) -> _Rated:
        """Of a node in this state, which has room for the ask, as all of its devices serve it: score, score of opening
        an idle device, and what the device has left that a share is cut from."""
        best = opening = self._no_room
        best_milli = WHOLE_DEVICE_MILLI if ask.share_milli else 0
        before = self._worth_of(state)
        for milli, then in _outcomes(state, ask):  # the tightest device first: the first of equals is taken
            score = math.floor((self._worth_of(then) - before) / self._step + 0.5) * self._substeps
            if milli == WHOLE_DEVICE_MILLI:
                score -= 1  # the odd half step
                if self._apart:
                    opening = score
                    continue
            if score > best:
                best, best_milli = score, milli
        return best, opening, best_milli

    def _worth_of(self, state: State) -> float:
        worth = self._known.get(state)
        if worth is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            worth = self._known[state] = self._worth.of_one(state)
        return worth


def has_room(state: State, ask: Ask) -> bool:
    """Whether a node in this state has, if all of its devices serve the ask."""
    _, cpus_milli, memory_bytes, *left = state
    if cpus_milli < ask.cpus_milli or memory_bytes < ask.memory_bytes:
        return False
    if ask.devices:
        return ask.devices <= len(left) and left[-ask.devices] == WHOLE_DEVICE_MILLI
    return not ask.share_milli or max(left, default=0) >= ask.share_milli


def _outcomes(state: State, ask: Ask) -> list[_Outcome]:
    """How the node may become, by the device that a share is cut from, the tightest first."""
    kind, cpus_milli, memory_bytes, *left = state
    cpus_milli, memory_bytes = cpus_milli - ask.cpus_milli, memory_bytes - ask.memory_bytes
    if not ask.share_milli:
        return [(0, (kind, cpus_milli, memory_bytes, *[0] * ask.devices, *left[: len(left) - ask.devices]))]
    outcomes: list[_Outcome] = []
    for device, milli in enumerate(left):
        if milli >= ask.share_milli and (not device or milli != left[device - 1]):
            then = sorted([*left[:device], milli - ask.share_milli, *left[device + 1 :]])
            outcomes.append((milli, (kind, cpus_milli, memory_bytes, *then)))
    return outcomes
