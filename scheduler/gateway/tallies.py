"""What was counted of one version, and what of it the service is told? Counts per class, and windows between reports.

A class is the priority that a request had. Times are seconds here, milliseconds in JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.gateway.metrics import LogHistogram
from scheduler.ports import ServiceLoad

MOST_CLASSES = 16
OTHER_CLASSES = -1  # requests of any further priority are counted under this


@dataclass(slots=True)
class ClassCounts:
    """`answers` by HTTP status given to the caller, `refused` by reason. `within_slo` out of `latency.count`."""

    requests: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    within_slo: int = 0
    service_total_s: float = 0.0
    latency: LogHistogram = field(default_factory=LogHistogram)
    queued: LogHistogram = field(default_factory=LogHistogram)


class Tally:
    """`errors`: answers of 5xx that came from a replica, and replicas that failed a request."""

    def __init__(self, now_s: float) -> None:
        self.classes: dict[int, ClassCounts] = {}
        self.arrivals = 0
        self.errors = 0
        self.hopeless = 0
        self.refusals = 0
        self.retries = 0
        self.last_arrival_s = now_s
        self.cold_starts = LogHistogram()
        self._longest_cold_s: float | None = None
        self._since_s = now_s
        self._told = _Told()

    def of(self, priority: int) -> ClassCounts:
        counts = self.classes.get(priority)
        if counts is None:
            if len(self.classes) >= MOST_CLASSES:
                return self.classes.setdefault(OTHER_CLASSES, ClassCounts())
            counts = self.classes[priority] = ClassCounts()
        return counts

    def answered(
        self, counts: ClassCounts, status: int, latency_s: float, queued_s: float, service_s: float, slo_s: float | None
    ) -> None:
        """A replica's answer went to the caller."""
        counts.answers[status] = counts.answers.get(status, 0) + 1
        counts.latency.add(latency_s)
        counts.queued.add(queued_s)
        counts.service_total_s += service_s
        if status >= 500:
            self.errors += 1
        if slo_s is None or latency_s <= slo_s:
            counts.within_slo += 1

    def refused(self, counts: ClassCounts, reason: str, status: int | None) -> None:
        """`status` None: nobody hears an answer."""
        counts.refused[reason] = counts.refused.get(reason, 0) + 1
        if status is not None:
            counts.answers[status] = counts.answers.get(status, 0) + 1
        self.refusals += 1
        if reason in HOPELESS:
            self.hopeless += 1
        elif reason in REPLICAS_FAULT:
            self.errors += 1

    def cold_started(self, waited_s: float) -> None:
        """The first request that waited for a first replica got it."""
        self.cold_starts.add(waited_s)
        self._longest_cold_s = max(waited_s, self._longest_cold_s or 0.0)

    def window(
        self, tenant: str, service: str, job_id: str, *, at_s: float, now_s: float, in_flight: int, waiting: int
    ) -> ServiceLoad | None:
        """What happened since the last window; None when that is nothing, and nothing was in the one before."""
        told, new = self._told, _Told()
        new.arrivals, new.errors, new.hopeless, new.refused = self.arrivals, self.errors, self.hopeless, self.refusals
        for counts in self.classes.values():
            new.answered += counts.latency.count
            new.within_slo += counts.within_slo
            new.service_total_s += counts.service_total_s
        quiet = new.arrivals == told.arrivals and new.answered == told.answered and not in_flight and not waiting
        if quiet and new.refused == told.refused and told.quiet:
            self._since_s = now_s
            return None
        new.quiet = quiet
        answered = new.answered - told.answered
        p50_s = p95_s = p99_s = None
        if answered:
            new.buckets = LogHistogram.together([counts.latency for counts in self.classes.values()])
            latest = new.buckets if told.buckets is None else new.buckets.since(told.buckets)
            p50_s, p95_s, p99_s = latest.quantile_s(0.50), latest.quantile_s(0.95), latest.quantile_s(0.99)
        else:
            new.buckets = told.buckets
        load = ServiceLoad(
            tenant=tenant,
            service=service,
            job_id=job_id,
            at_s=at_s,
            window_s=now_s - self._since_s,
            arrivals=new.arrivals - told.arrivals,
            answered=answered,
            errors=new.errors - told.errors,
            within_slo=new.within_slo - told.within_slo,
            refused=new.refused - told.refused,
            hopeless=new.hopeless - told.hopeless,
            in_flight=in_flight,
            waiting=waiting,
            service_s=(new.service_total_s - told.service_total_s) / answered if answered else None,
            p50_s=p50_s,
            p95_s=p95_s,
            p99_s=p99_s,
            idle_s=now_s - self.last_arrival_s,
            cold_start_s=self._longest_cold_s,
        )
        self._told, self._since_s, self._longest_cold_s = new, now_s, None
        return load


HOPELESS = frozenset(("hopeless", "queued too long"))
REPLICAS_FAULT = frozenset(("replica failed", "broken off", "timeout"))


@dataclass(slots=True)
class _Told:
    """The counts as they were at the end of a window."""

    arrivals: int = 0
    answered: int = 0
    errors: int = 0
    hopeless: int = 0
    refused: int = 0
    within_slo: int = 0
    service_total_s: float = 0.0
    buckets: LogHistogram | None = None
    quiet: bool = True
