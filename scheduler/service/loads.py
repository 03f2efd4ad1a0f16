"""What the gateways see of each version of each service, kept for as long as decisions look back. In memory alone:
after a restart it is seen anew, and until then nothing is scaled down or rolled back.

Several gateways may carry one service: what they report is added up. One that has not been heard of for STALE_S may
still carry requests (only the way from it to here may be broken), so while it is missing nothing shrinks; after
FORGET_S it does not count any more. Times are this service's clock's at the moment of hearing: gateways' clocks may
differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from scheduler.core.autoscaling import STABLE_S, History, Sample
from scheduler.core.rollout import Figures
from scheduler.ports import ServiceLoad

STALE_S = 10.0
FORGET_S = 300.0
VALID_S = 3.0
"""What a gateway said of a version is believed for so long after, where its newer reports do not name it."""
MOST_REPORTS = 1_200
"""Of one version: what is kept for the figures of a minute."""
COUNTED = ("arrivals", "answered", "errors", "within_slo", "refused", "hopeless")


NOTHING = Figures()


class LoadsReported:
    """Reports of gateways that wait for the service's loop: one event, however many they are. Reports that come before
    the loop has looked are merged into it, so its size is bounded by gateways times versions."""

    kind = "loads_reported"

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._taken = False
        self._loads: dict[tuple[str, str], ServiceLoad] = {}
        self._gateways: set[str] = set()

    def put(self, gateway: str, loads: Iterable[ServiceLoad]) -> bool:
        """False where the loop has looked already: then it is for a new event."""
        with self._lock:
            if self._taken:
                return False
            self._gateways.add(gateway)
            for load in loads:
                name = gateway, load.job_id
                before = self._loads.get(name)
                self._loads[name] = load if before is None else merged(before, load)
            return True

    def take(self) -> tuple[frozenset[str], Mapping[tuple[str, str], ServiceLoad]]:
        """Who reported, and by gateway and job what."""
        with self._lock:
            self._taken = True
            return frozenset(self._gateways), self._loads

    def __repr__(self) -> str:
        return f"LoadsReported(of {len(self._loads)} versions, by {sorted(self._gateways)})"


class LoadInbox:
    """Where gateways' reports come in, from any thread: one event of them waits for the loop at a time. `lock` may be
    entered again by the thread that holds it."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._waiting: LoadsReported | None = None

    def put(self, gateway: str, loads: Iterable[ServiceLoad], post: Callable[[LoadsReported], None]) -> None:
        with self._lock:
            if self._waiting is None or not self._waiting.put(gateway, loads):
                self._waiting = LoadsReported(self._lock)
                self._waiting.put(gateway, loads)
                post(self._waiting)


def merged(before: ServiceLoad, after: ServiceLoad) -> ServiceLoad:
    """Two windows of one gateway that follow one another, as one. Percentiles are the newer ones, or the worse where
    they say how late it was."""
    served = before.answered + after.answered
    counts = {name: getattr(before, name) + getattr(after, name) for name in COUNTED}
    service_s = after.service_s if after.service_s is not None else before.service_s
    if before.service_s is not None and after.service_s is not None and served:
        service_s = (before.service_s * before.answered + after.service_s * after.answered) / served
    cold = [each for each in (before.cold_start_s, after.cold_start_s) if each is not None]
    worst = [each for each in (before.p99_s, after.p99_s) if each is not None]
    return replace(
        after,
        window_s=before.window_s + after.window_s,
        **counts,
        service_s=service_s,
        p50_s=after.p50_s if after.p50_s is not None else before.p50_s,
        p95_s=after.p95_s if after.p95_s is not None else before.p95_s,
        p99_s=max(worst, default=None),
        cold_start_s=max(cold, default=None),
    )


@dataclass(slots=True)
class Seen:
    """Of one version. `used_s`: when its last request came. `newest` by gateway, with when it was heard. `step` and
    `rollout`: requests since the present step, and since the rollout, began."""

    history: History
    used_s: float
    newest: dict[str, tuple[float, ServiceLoad]] = field(default_factory=dict)
    reports: deque[tuple[float, ServiceLoad]] = field(default_factory=lambda: deque(maxlen=MOST_REPORTS))
    step: Figures = NOTHING
    rollout: Figures = NOTHING
    requests: int = 0
    cold_starts: int = 0
    last_cold_start_s: float | None = None

    def waiting(self, now_s: float) -> int:
        return sum(load.waiting for heard_s, load in self.newest.values() if heard_s > now_s - VALID_S)

    def recent(self, now_s: float, window_s: float = STABLE_S) -> list[ServiceLoad]:
        return [load for heard_s, load in self.reports if heard_s > now_s - window_s]


@dataclass(slots=True)
class LoadBook:
    started_s: float = 0.0
    seen: dict[str, Seen] = field(default_factory=dict)
    gateways: dict[str, float] = field(default_factory=dict)
    """When each was last heard of."""

    def of(self, job_id: str, now_s: float) -> Seen:
        """Made where nothing is known: then it counts as used now."""
        found = self.seen.get(job_id)
        if found is None:
            found = self.seen[job_id] = Seen(History(now_s), now_s)
        return found

    def take(
        self, gateways: Iterable[str], loads: Mapping[tuple[str, str], ServiceLoad], known: Container[str], now_s: float
    ) -> list[str]:
        """The jobs (of those that are `known`) that have something to do. That the others have nothing is remembered:
        what follows from it is a matter of time."""
        for gateway in gateways:
            self.gateways[gateway] = now_s
        for gateway in [name for name, heard_s in self.gateways.items() if heard_s < now_s - FORGET_S]:
            del self.gateways[gateway]
        touched: dict[str, None] = {}
        for (gateway, job_id), load in loads.items():
            busy = load.arrivals or load.waiting or load.in_flight or load.answered or load.errors or load.hopeless
            if not busy:
                if (seen := self.seen.get(job_id)) is not None:
                    seen.newest[gateway] = now_s, load
            elif job_id in known:
                self._take_one(gateway, load, now_s)
                touched[job_id] = None
        return list(touched)

    def _take_one(self, gateway: str, load: ServiceLoad, now_s: float) -> None:
        seen = self.of(load.job_id, now_s - load.window_s)
        seen.newest[gateway] = now_s, load
        if load.arrivals or load.answered or load.errors:
            seen.reports.append((now_s, load))
            seen.history.take(Sample(now_s, load.window_s, load.arrivals, load.answered, load.service_s, load.hopeless))
            new = Figures(load.answered, load.errors, max(0, load.answered - load.within_slo))
            seen.step, seen.rollout = seen.step.plus(new), seen.rollout.plus(new)
            seen.requests += load.arrivals
        if load.arrivals or load.waiting or load.in_flight:
            seen.used_s = max(seen.used_s, now_s - max(0.0, load.idle_s if not load.waiting else 0.0))
        if load.cold_start_s is not None:
            seen.cold_starts += 1
            seen.last_cold_start_s = load.cold_start_s

    def all_heard(self, job_id: str, now_s: float) -> bool:
        """No gateway that has carried it is missing, and there is one at all."""
        seen = self.seen.get(job_id)
        carriers: Sequence[str] = [name for name in (seen.newest if seen is not None else ()) if name in self.gateways]
        heard = [self.gateways[name] for name in carriers] or list(self.gateways.values())
        return bool(heard) and min(heard) > now_s - STALE_S

    def new_step(self, *job_ids: str, first: bool = False) -> None:
        """Requests are counted from 0 again; with `first` those of the rollout too."""
        for job_id in job_ids:
            if (seen := self.seen.get(job_id)) is not None:
                seen.step = Figures()
                if first:
                    seen.rollout = Figures()

    def figures(self, job_id: str) -> tuple[Figures, Figures]:
        """Of the step and of the rollout."""
        seen = self.seen.get(job_id)
        return (seen.step, seen.rollout) if seen is not None else (Figures(), Figures())

    def forget(self, job_id: str) -> None:
        self.seen.pop(job_id, None)
