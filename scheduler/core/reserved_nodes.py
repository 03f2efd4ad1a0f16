"""Whose are these nodes at that time? Advance reservations, as one planning pass sees them.

From its start to its end a reservation's nodes belong to the jobs that name it and to nobody else; before its start
only jobs that are over by then may start there. (Source: the advance reservations of Maui; Jackson, Snell and Clement,
"Core algorithms of the Maui scheduler", JSSPP 2001.) A job that names one runs on its nodes and within its time alone.

Times are epoch seconds. A reservation that has begun holds also against a job that would be over at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools
from scheduler.core.decisions import AdvanceReservation
from scheduler.core.node_columns import NodeColumns


@dataclass(frozen=True, slots=True, eq=False)
class ReservedRows:
    """One reservation and its nodes: bool[nodes]. `from_s` is its start, or -inf where it has begun."""

    reservation: AdvanceReservation
    rows: Bools
    from_s: float

    def held_against(self, start_s: float, end_s: float) -> bool:
        """Whether a job that runs from the one time to the other, and does not name it, must keep off its nodes."""
        return start_s < self.reservation.end_s and (end_s > self.from_s or math.isinf(end_s))

    def latest_start_s(self, limit_s: float) -> float:
        """When such a job of that length starts at the latest so as to be over before; it keeps off from then on."""
        return latest_start_s(self.from_s, limit_s)


@dataclass(frozen=True, slots=True)
class Window:
    """Times from `since_s` to `until_s`, both included, and the nodes that a job starting then must keep off."""

    since_s: float
    until_s: float
    blocked: Bools | None


class ReservedNodes:
    """All reservations that are not over. Nothing of it changes within a pass."""

    __slots__ = ("_of",)

    def __init__(self, reserved: Iterable[ReservedRows] = ()) -> None:
        self._of = {each.reservation.name: each for each in reserved}

    @staticmethod
    def of(reservations: Iterable[AdvanceReservation], nodes: NodeColumns, *, now_s: float) -> ReservedNodes:
        """Those that are not over. Nodes that are not here count from when they join."""
        reserved = []
        for reservation in reservations:
            if reservation.end_s > now_s:
                rows = np.zeros(len(nodes), np.bool_)
                rows[[nodes.row_of[name] for name in reservation.nodes if name in nodes.row_of]] = True
                from_s = reservation.start_s if reservation.start_s > now_s else -math.inf
                reserved.append(ReservedRows(reservation, rows, from_s))
        return ReservedNodes(reserved)

    def __len__(self) -> int:
        return len(self._of)

    def get(self, name: str) -> AdvanceReservation | None:
        """None: there is none of that name, or it is over."""
        found = self._of.get(name)
        return None if found is None else found.reservation

    def rows(self, name: str) -> Bools:
        """bool[nodes]: the nodes of that reservation. Raises KeyError where get() gives None."""
        return self._of[name].rows

    def admits(self, name: str, start_s: float, end_s: float) -> bool:
        """Whether a job that names it may run from the one time to the other."""
        found = self.get(name)
        return found is not None and found.start_s <= start_s and end_s <= found.end_s

    def held_against(self, start_s: float, end_s: float, *, exempt: str | None = None) -> tuple[ReservedRows, ...]:
        """Reservations that keep such a job off their nodes, but for the one that it names."""
        if not self._of:
            return ()
        return tuple(each for name, each in self._of.items() if name != exempt and each.held_against(start_s, end_s))

    def blocked(self, start_s: float, end_s: float, *, exempt: str | None = None) -> Bools | None:
        """bool[nodes]: those that such a job must keep off; None where that is none."""
        return any_row(self.held_against(start_s, end_s, exempt=exempt))

    def windows(self, now_s: float, limit_s: float, *, exempt: str | None = None) -> Iterator[Window]:
        """From `now_s` on, in order: when a job of that length may start, and off which nodes it must then keep.

        For a job that names a reservation: within its time alone, and off all nodes but its own.
        """
        first_s, last_s, foreign = now_s, math.inf, None
        if exempt is not None:
            own = self._of.get(exempt)
            if own is None:
                return
            first_s = max(now_s, own.reservation.start_s)
            last_s = latest_start_s(own.reservation.end_s, limit_s)
            foreign = ~own.rows
        others = [(each, each.latest_start_s(limit_s)) for name, each in self._of.items() if name != exempt]
        edges = {first_s, *(each.reservation.end_s for each, _ in others)}
        edges |= {math.nextafter(latest_s, math.inf) for _, latest_s in others}
        starts = sorted(edge for edge in edges if first_s <= edge <= last_s)
        for i, since_s in enumerate(starts):
            until_s = last_s if i + 1 == len(starts) else math.nextafter(starts[i + 1], -math.inf)
            blocked = any_row([each for each, latest_s in others if latest_s < since_s < each.reservation.end_s])
            if foreign is not None:
                blocked = foreign if blocked is None else foreign | blocked
            yield Window(since_s, until_s, blocked)


NOTHING_RESERVED = ReservedNodes()


def any_row(reserved: Sequence[ReservedRows]) -> Bools | None:
    """bool[nodes]: the nodes of any of these; None where there is none."""
    if not reserved:
        return None
    rows = reserved[0].rows
    for more in reserved[1:]:
        rows = rows | more.rows
    return rows


def latest_start_s(by_s: float, limit_s: float) -> float:
    """When something of that length must start at the latest to be over by then."""
    latest_s = by_s - limit_s
    while latest_s + limit_s > by_s:  # sums are rounded
        latest_s = math.nextafter(latest_s, -math.inf)
    return latest_s
