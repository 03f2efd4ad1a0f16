"""Who may wait, in which order, and who is turned away at once? The queue in front of one version's replicas.

Pure: time comes as an argument, a request is whatever has the fields of `Waiting`. Nothing here sends anything.

- Order: priority, then the earliest due time (EDF, Jackson 1955), then arrival.
- A request is let in if it is predicted to be answered when it is due. In front of it are the requests before it in the
  order, which leave at the replicas' rate (Little's law, see limits.py); what is more urgent and yet to come takes its
  part of that rate as well: the wait is divided by 1 - rho, rho being the part of the capacity that more urgent
  arrivals use (the priority queue of Cobham, "Priority assignment in waiting line problems", 1954). Its own service
  takes the usual time and twice the usual deviation (both as in Jacobson, "Congestion avoidance and control", 1988).
- One whose time has become too short meanwhile is dropped before it costs a replica anything.
- The queue is bounded: a full one lets its last go in favour of one of a higher priority.
- However many slots of a replica are held by requests below the version's own priority, a few of that priority are
  sent to it at once (`headroom`): an urgent request waits for no more than what is being computed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import exp
from typing import Generic, Protocol, TypeVar

HEADROOM = 4  # for every so many slots one more is there for the top class
SLACK = 0.04
LONGEST_SLACK_S = 0.01
WEIGHT = 0.1
RATE_WINDOW_S = 2.0
MOST_PRIORITIES = 32
BUSIEST = 0.95  # rho is held below 1: something of a lower class gets through in the end


class Waiting(Protocol):
    """`due_s`: when the answer is wanted. `order` is the queue's: (-priority, due_s, number)."""

    priority: int
    due_s: float
    order: tuple[int, float, int]


W = TypeVar("W", bound=Waiting)


class ServiceTime:
    """How long a replica has a request, and how far that varies. Seconds; 0 while nothing is known."""

    __slots__ = ("deviation_s", "mean_s")

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.deviation_s = 0.0

    def add(self, taken_s: float) -> None:
        if not self.mean_s:
            self.mean_s = taken_s
            return
        off_s = taken_s - self.mean_s
        self.mean_s += WEIGHT * off_s
        self.deviation_s += WEIGHT * (abs(off_s) - self.deviation_s)

    @property
    def likely_s(self) -> float:
        """What most requests take no longer than."""
        return self.mean_s + 2.0 * self.deviation_s


class ArrivalRates:
    """How many requests a second come at each priority: an exponentially weighted rate over RATE_WINDOW_S."""

    def __init__(self) -> None:
        self._rates: dict[int, tuple[float, float]] = {}  # priority -> (a second, as of)

    def note(self, priority: int, now_s: float) -> None:
        rate, at_s = self._rates.get(priority, (0.0, now_s))
        if len(self._rates) >= MOST_PRIORITIES and priority not in self._rates:
            del self._rates[min(self._rates, key=lambda one: self._rates[one][1])]
        self._rates[priority] = rate * exp((at_s - now_s) / RATE_WINDOW_S) + 1.0 / RATE_WINDOW_S, now_s

    def above(self, priority: int, now_s: float) -> float:
        return sum(
            rate * exp((at_s - now_s) / RATE_WINDOW_S)
            for higher, (rate, at_s) in self._rates.items()
            if higher > priority
        )


def headroom(slots: int) -> int:
    """How many of the top class a replica with `slots` takes besides what others hold of it. None where there are few:
    with one slot the next to go is the most urgent in any case."""
    return slots // HEADROOM if slots >= 4 else 0


def slack_s(timeout_s: float) -> float:
    """How much before a deadline the gateway means to have answered: the way back, and clocks that wait their turn."""
    return min(LONGEST_SLACK_S, SLACK * timeout_s)


class AdmissionQueue(Generic[W]):
    """What waits, in order. `rate_per_s` arguments: answers a second of all replicas together, None if unknown."""

    def __init__(self, *, max_waiting: int) -> None:
        self._times = (ServiceTime(), ServiceTime())
        self.arrivals = ArrivalRates()
        self._max_waiting = max_waiting
        self._queue: list[tuple[tuple[int, float, int], W]] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[W]:
        return (one for _, one in self._queue)

    def answered(self, taken_s: float, *, lower_class: bool) -> None:
        """A replica took so long. The top class is counted apart: replicas may serve it first."""
        self._times[lower_class].add(taken_s)

    def likely_s(self, *, lower_class: bool) -> float:
        """What a replica takes for a request of that class, most times. 0 while nothing is known."""
        own = self._times[lower_class]
        return own.likely_s if own.mean_s else self._times[not lower_class].likely_s

    def predicted_wait_s(self, priority: int, due_s: float, rate_per_s: float | None, now_s: float) -> float:
        """How long a request that comes now would wait for its slot, all being taken. 0 while nothing is known."""
        if not rate_per_s:
            return 0.0
        ahead = bisect_left(self._queue, (-priority, due_s, self._numbers + 1), key=lambda one: one[0])
        rho = min(BUSIEST, self.arrivals.above(priority, now_s) / rate_per_s)
        return (ahead + 1) / rate_per_s / (1.0 - rho)

    def in_time(self, wait_s: float, due_s: float, now_s: float, *, lower_class: bool) -> bool:
        """Whether a request that gets its slot in `wait_s` is likely answered when it is due."""
        return now_s + wait_s + self.likely_s(lower_class=lower_class) <= due_s

    def push(self, request: W) -> W | None:
        """Put it in. Answers with who has to leave because the queue is full: `request` itself, or one behind it of a
        lower priority; None where there was room."""
        self._numbers += 1
        request.order = (-request.priority, request.due_s, self._numbers)
        leaves: W | None = None
        if len(self._queue) >= self._max_waiting:
            if not self._queue or self._queue[-1][1].priority >= request.priority:
                return request
            leaves = self._queue.pop()[1]
        insort(self._queue, (request.order, request))
        return leaves

    def first(self) -> W | None:
        return self._queue[0][1] if self._queue else None

    def pop(self) -> W:
        return self._queue.pop(0)[1]

    def remove(self, request: W) -> bool:
        """It gave up. Whether it was there."""
        at = bisect_left(self._queue, request.order, key=lambda one: one[0])
        if at < len(self._queue) and self._queue[at][1] is request:
            del self._queue[at]
            return True
        return False

    def drop_hopeless(self, now_s: float, top_priority: int) -> list[W]:
        """Takes out, and answers with, those that could not be answered in time even if they were sent now. Only the
        front of each priority is looked at: behind it are later due times."""
        dropped: list[W] = []
        top_s, lower_s = self.likely_s(lower_class=False), self.likely_s(lower_class=True)
        at = 0
        while at < len(self._queue):
            order, request = self._queue[at]
            if now_s + (lower_s if request.priority < top_priority else top_s) > request.due_s:
                dropped.append(request)
                del self._queue[at]
            else:  # on to the next priority
                at = bisect_left(self._queue, order[0] + 1, lo=at, key=lambda one: one[0][0])
        return dropped
