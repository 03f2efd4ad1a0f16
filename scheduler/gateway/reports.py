"""What has the gateway seen? Figures of every version, as JSON for people, as Prometheus text, and as loads that the
service decides by.

JSON has durations in milliseconds, Prometheus text in seconds; both since the gateway knows the version. Loads are
windows (ports.ServiceLoad), each told once: whoever asks says which one it had last, and is given that one's successor,
or, where the answer was lost on its way, the same one again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypeVar

from scheduler.gateway.directory import ServiceDirectory
from scheduler.gateway.metrics import LogHistogram
from scheduler.gateway.routing import Version
from scheduler.gateway.tallies import ClassCounts
from scheduler.gateway.versions import Service
from scheduler.ports import Clock, Principal, ServiceLoad

LONGEST_WAIT_S = 30.0
SHORTEST_WINDOW_S = 0.1  # however much needs attention
K = TypeVar("K", int, str)
QUANTILES = (0.5, 0.95, 0.99)


class LoadReports:
    """The windows since the last one, by long poll. `attention()` answers a poll that waits at once."""

    def __init__(self, directory: ServiceDirectory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._number = 0
        self._last: Sequence[ServiceLoad] = ()
        self._wanted = asyncio.Event()
        self._told_s = 0.0

    def attention(self) -> None:
        self._wanted.set()

    async def next(self, after: int, wait_s: float) -> dict[str, object]:
        """{"number", "loads": [...]}; `after` is the number that was received last, 0 for none."""
        if after == self._number - 1 and self._number:
            return self._answer()
        began_s = time.monotonic()
        if not self._wanted.is_set():
            try:
                async with asyncio.timeout(min(LONGEST_WAIT_S, wait_s)):
                    await self._wanted.wait()
            except TimeoutError:
                pass
        # Something that needs attention all the time must not be told all the time.
        too_soon_s = min(wait_s - (time.monotonic() - began_s), self._told_s + SHORTEST_WINDOW_S - time.monotonic())
        if too_soon_s > 0:
            await asyncio.sleep(too_soon_s)
        self._wanted.clear()
        self._told_s = now_s = time.monotonic()
        self._last = [load for version in self._directory.versions() if (load := self._window(version, now_s))]
        self._number += 1
        return self._answer()

    def _window(self, version: Version, now_s: float) -> ServiceLoad | None:
        return version.tally.window(
            version.tenant,
            version.service,
            version.job_id,
            at_s=self._clock.now_s(),
            now_s=now_s,
            in_flight=version.in_flight,
            waiting=len(version.queue),
        )

    def _answer(self) -> dict[str, object]:
        return {"number": self._number, "loads": [asdict(load) for load in self._last]}


def may_see(service: Service, sees: Principal | None) -> bool:
    return sees is None or sees.role != "tenant" or sees.tenant == service.tenant


def service_json(service: Service) -> dict[str, object]:
    """One service, all versions and classes together, then each."""
    classes = [counts for version in service.versions for counts in version.tally.classes.values()]
    slos = [version.slo_s for version in service.versions if version.slo_s is not None]
    return {
        "service": service.name,
        "tenant": service.tenant,
        **_figures(classes),
        "in_flight": sum(version.in_flight for version in service.versions),
        "waiting": sum(len(version.queue) for version in service.versions),
        "retries": sum(version.tally.retries for version in service.versions),
        "slo_p99_ms": slos[0] * 1e3 if slos else None,
        "replicas": [one for version in service.versions for one in _replicas(version)],
        "versions": [
            {
                "version": version.number,
                "job_id": version.job_id,
                "weight": version.weight,
                "in_flight": version.in_flight,
                "waiting": len(version.queue),
                "errors": version.tally.errors,
                "cold_start_ms": version.tally.cold_starts.summary_ms(),
                **_figures(list(version.tally.classes.values())),
                "classes": [
                    {"priority": priority, **_figures([counts])}
                    for priority, counts in sorted(version.tally.classes.items(), reverse=True)
                ],
            }
            for version in service.versions
        ],
    }


def _figures(several: Sequence[ClassCounts]) -> dict[str, object]:
    """`slo_attainment`: the part of the answers that were within the SLO, None where there were none."""
    answered = sum(counts.latency.count for counts in several)
    service_s = sum(counts.service_total_s for counts in several)
    within = sum(counts.within_slo for counts in several)
    return {
        "requests": sum(counts.requests for counts in several),
        "answers": {str(status): n for status, n in sorted(_added(counts.answers for counts in several).items())},
        "refused": dict(sorted(_added(counts.refused for counts in several).items())),
        "latency_ms": _together([counts.latency for counts in several]).summary_ms(),
        "queued_ms": _together([counts.queued for counts in several]).summary_ms(),
        "service_ms": round(service_s / answered * 1e3, 4) if answered else None,
        "slo_attainment": round(within / answered, 6) if answered else None,
    }


def _replicas(version: Version) -> list[dict[str, object]]:
    return [
        {
            "job_id": state.replica.job_id,
            "worker": state.replica.worker,
            "attempt": state.replica.attempt,
            "address": state.replica.address,
            "simulated": state.replica.simulated,
            "node": state.replica.node,
            "site": state.replica.site,
            "version": version.number,
            "in_flight": state.outstanding,
            "limit": state.limit.limit,
            "reachable": state.out is None,
            "out": state.out,
        }
        for state in version.replicas
    ]


def prometheus_text(services: Iterable[Service]) -> str:
    """Of each version and class: requests, answers by status, refusals by reason, latency and queue time as summaries,
    service time, answers within the SLO; of each version what is in flight and waits."""
    families: dict[str, tuple[str, str, list[str]]] = {
        "requests_total": ("counter", "Requests that came.", []),
        "answers_total": ("counter", "Answers given to callers, by HTTP status.", []),
        "refused_total": ("counter", "Requests that no replica answered, by reason.", []),
        "within_slo_total": ("counter", "Answers of replicas within the service's SLO.", []),
        "retries_total": ("counter", "Requests that were sent to a second replica.", []),
        "latency_seconds": ("summary", "From a request's head to its answer, of those that a replica answered.", []),
        "queued_seconds": ("summary", "What such a request waited for a replica.", []),
        "service_seconds_total": ("counter", "How long replicas had such requests, added up.", []),
        "cold_start_seconds": ("summary", "What the first requests waited for a first replica.", []),
        "in_flight": ("gauge", "Requests that replicas have now.", []),
        "waiting": ("gauge", "Requests that wait for a replica now.", []),
        "replicas": ("gauge", "Replicas, by whether they are asked.", []),
    }

    def put(family: str, labels: str, value: float, suffix: str = "") -> None:
        families[family][2].append(f"suanli_gateway_{family}{suffix}{{{labels}}} {value:.9g}")

    def put_summary(family: str, labels: str, histogram: LogHistogram) -> None:
        for q in QUANTILES:
            value_s = histogram.quantile_s(q)
            if value_s is not None:
                put(family, f'{labels},quantile="{q}"', value_s)
        put(family, labels, histogram.total_s, "_sum")
        put(family, labels, histogram.count, "_count")

    for service in services:
        for version in service.versions:
            of = f'tenant="{_label(service.tenant)}",service="{_label(service.name)}",version="{version.number}"'
            put("retries_total", of, version.tally.retries)
            put("in_flight", of, version.in_flight)
            put("waiting", of, len(version.queue))
            reachable = sum(state.out is None for state in version.replicas)
            put("replicas", f'{of},state="asked"', reachable)
            put("replicas", f'{of},state="out"', len(version.replicas) - reachable)
            put_summary("cold_start_seconds", of, version.tally.cold_starts)
            for priority, counts in sorted(version.tally.classes.items()):
                labels = f'{of},priority="{priority}"'
                put("requests_total", labels, counts.requests)
                put("within_slo_total", labels, counts.within_slo)
                put("service_seconds_total", labels, counts.service_total_s)
                for status, number in sorted(counts.answers.items()):
                    put("answers_total", f'{labels},code="{status}"', number)
                for reason, number in sorted(counts.refused.items()):
                    put("refused_total", f'{labels},reason="{reason}"', number)
                put_summary("latency_seconds", labels, counts.latency)
                put_summary("queued_seconds", labels, counts.queued)
    lines = []
    for family, (kind, what, samples) in families.items():
        lines += [f"# HELP suanli_gateway_{family} {what}", f"# TYPE suanli_gateway_{family} {kind}", *samples]
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _together(several: Sequence[LogHistogram]) -> LogHistogram:
    return LogHistogram.together(several) if several else LogHistogram()


def _added(several: Iterable[dict[K, int]]) -> dict[K, int]:
    total: dict[K, int] = {}
    for one in several:
        for key, number in one.items():
            total[key] = total.get(key, 0) + number
    return total
