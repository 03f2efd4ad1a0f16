"""The figures of a simulated run, from its journal: use, waiting, completion, fairness, energy. All of them simulated.

- Means over time are exact integrals of step functions (`series.py`); quantiles are exact, of all jobs, by linear
  interpolation between order statistics (Hyndman and Fan's type 7, "Sample Quantiles in Statistical Packages", The
  American Statistician 50(4), 1996).
- Wait: from submission to the first start. Completion: from submission to the end. Slowdown: completion over the time
  that the job takes by itself, of which at least ten seconds count, so that a job of a second that waited a minute does
  not outweigh all (Feitelson, Rudolph, Schwiegelshohn, Sevcik, Wong, "Theory and Practice in Parallel Job Scheduling",
  JSSPP 1997).
- Fairness: Jain's index (sum x)^2 / (n sum x^2) of x = dominant share over weight, averaged over the time in which the
  tenant had jobs waiting, over tenants that had any (Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and
  Discrimination for Resource Allocation in Shared Computer Systems", DEC-TR-301, 1984). A tenant that wants nothing
  more is not treated badly by having little, so its other hours do not count.
- Energy: a device's power in use for the part of it that is held, its idle power for the rest, where these are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from scheduler.core.arrays import Ints
from scheduler.core.decisions import Policy
from scheduler.simulation.job_times import JobTimes, by_name, quantiles
from scheduler.simulation.journal import Became, JobRecord, Journal
from scheduler.simulation.replicas import Answering, quantile_s, steps_between
from scheduler.simulation.series import Floats, Steps, bin_edges
from scheduler.simulation.workload import SimService

MOST_BINS = 500
JOULES_A_KWH = 3.6e6

Json = dict[str, object]
_NONE: Floats = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Group:
    """Devices that are measured together: one model at one site. Watts are of one device; None: not known."""

    site: str
    model: str
    devices: int
    busy_watts: float | None = None
    idle_watts: float | None = None


@dataclass(frozen=True)
class Measured:
    """What is measured: the journal of a run, on these groups of devices, over work that came until `span_s`. What many
    figures begin with is worked out once: a journal of a month has hundreds of thousands of entries."""

    journal: Journal
    groups: Sequence[Group]
    policy: Policy
    services: Sequence[SimService]
    span_s: float
    classes: Sequence[str]

    @property
    def end_s(self) -> float:
        return self.journal.end_s

    @property
    def edges_s(self) -> Floats:
        return bin_edges(self.end_s, MOST_BINS)

    @cached_property
    def held_changes(self) -> Floats:
        """The journal's `held`, an entry a row."""
        return _table(self.journal.held, 3)

    @cached_property
    def held_in(self) -> Ints:
        """The group of each of these."""
        return self.held_changes[:, 2].astype(np.int64)

    @cached_property
    def came(self) -> Sequence[JobRecord]:
        """Jobs that had come when the run ended."""
        end_s = self.end_s
        return [
            record
            for record in self.journal.jobs
            if record.became is not Became.WAITING or record.attempts > 0 or record.job.submit_s <= end_s
        ]

    @cached_property
    def taken(self) -> Sequence[JobRecord]:
        """Of those, the ones that were not refused."""
        return [record for record in self.came if record.became is not Became.REFUSED]

    @cached_property
    def times(self) -> JobTimes:
        return JobTimes.of(self.taken)


def _table(entries: Sequence[Sequence[float]], width: int) -> Floats:
    """An entry a row. Number by number: NumPy looks at each tuple of a list twice, and at each number as if it might be
    anything."""
    return np.fromiter(chain.from_iterable(entries), np.float64, width * len(entries)).reshape(-1, width)


# ---- use -------------------------------------------------------------------------------------------------------------


def held(run: Measured, groups: Iterable[int]) -> Steps:
    """Devices held in these groups."""
    asked = np.zeros(len(run.groups), np.bool_)
    asked[list(groups)] = True
    mine = run.held_changes[asked[run.held_in]]
    return Steps(mine[:, 0], mine[:, 1] / 1000)


def utilisation(run: Measured) -> Json:
    """`mean` and the parts: over the whole run. `mean_while_arriving`: until the last arrival."""
    everything = held(run, range(len(run.groups)))
    devices = sum(group.devices for group in run.groups)
    edges = run.edges_s
    arriving_s = min(run.span_s, run.end_s)
    wait_s, jobs, milli = _table(run.journal.waits, 3).T
    run_s, running = _table(run.journal.runs, 2).T
    return {
        "mean": _share(everything.mean(0, run.end_s), devices),
        "mean_while_arriving": _share(everything.mean(0, arriving_s or run.end_s), devices),
        "peak": _share(everything.peak(run.end_s), devices),
        "by_site": _used_by(run, lambda group: group.site),
        "by_model": _used_by(run, lambda group: group.model),
        "series": {
            "t_s": _rounded(edges[:-1]),
            "used": _rounded(np.minimum(everything.means(edges) / devices, 1.0), 6),
            "waiting_devices": _rounded(Steps(wait_s, milli / 1000).means(edges)),
            "waiting_jobs": _rounded(Steps(wait_s, jobs).means(edges)),
            "running_jobs": _rounded(Steps(run_s, running).means(edges)),
        },
    }


def _used_by(run: Measured, name: Callable[[Group], str]) -> Json:
    names = dict.fromkeys(name(group) for group in run.groups)
    found: Json = {}
    for each in names:
        mine = [i for i, group in enumerate(run.groups) if name(group) == each]
        found[each] = _share(held(run, mine).mean(0, run.end_s), sum(run.groups[i].devices for i in mine))
    return found


def _share(part: float, whole: float) -> float:
    return round(min(1.0, part / whole), 6) if whole else 0.0


def _rounded(values: Floats, digits: int = 3) -> list[float]:
    return [max(0.0, value) for value in np.round(values, digits).tolist()]


def fragmentation(run: Measured) -> Json:
    samples = run.journal.fragmentation
    known = [share for _, share in samples if share is not None]
    return {
        "mean": round(math.fsum(known) / len(known), 6) if known else None,
        "series": {
            "t_s": [round(t, 3) for t, _ in samples],
            "share": [None if share is None else round(share, 6) for _, share in samples],
        },
    }


def energy(run: Measured) -> Json:
    """Of devices whose power is known. `kwh` None: of none."""
    by_model: dict[str, float] = {}
    unknown = without_idle = 0
    for i, group in enumerate(run.groups):
        if group.busy_watts is None:
            unknown += group.devices
            continue
        busy_device_s = held(run, [i]).mean(0, run.end_s) * run.end_s
        joules = busy_device_s * group.busy_watts
        if group.idle_watts is None:
            without_idle += group.devices
        else:
            joules += (group.devices * run.end_s - busy_device_s) * group.idle_watts
        by_model[group.model] = by_model.get(group.model, 0.0) + joules / JOULES_A_KWH
    basis = "board power while in use, by the part of a device that is held"
    if without_idle:
        basis += f"; idle power of {without_idle} devices is not known and not counted"
    if unknown:
        basis += f"; {unknown} devices without a vendor's figure are left out"
    kwh = round(math.fsum(by_model.values()), 3) if by_model else None
    return {
        "kwh": kwh,
        "by_model": {model: round(each, 3) for model, each in by_model.items()},
        "unknown_devices": unknown,
        "idle_unknown_devices": without_idle,
        "basis": basis,
    }


# ---- jobs ------------------------------------------------------------------------------------------------------------


def counts(run: Measured) -> Json:
    became = [record.became for record in run.journal.jobs]
    return {
        "submitted": len(run.came),
        **{each.value: became.count(each) for each in Became if each is not Became.WAITING},
        "waiting": len(_waiting(run)),
        "refused_reasons": _reasons(r for r in run.journal.jobs if r.became is Became.REFUSED),
        "waiting_reasons": _reasons(_waiting(run)),
    }


def _waiting(run: Measured) -> list[JobRecord]:
    return [record for record in run.taken if record.became is Became.WAITING]


def _reasons(records: Iterable[JobRecord]) -> list[Json]:
    found: dict[str, int] = {}
    for record in records:
        found[record.reason] = found.get(record.reason, 0) + 1
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [{"reason": reason, "jobs": jobs} for reason, jobs in ranked[:10]]


def makespan_s(run: Measured) -> float | None:
    """When the last job had ended; None where one has not."""
    ended = [record.ended_s for record in run.journal.jobs if record.became is not Became.REFUSED]
    if not ended or any(at_s is None for at_s in ended):
        return None
    return round(max(at_s for at_s in ended if at_s is not None), 3)


def grouped(run: Measured, value: Floats) -> Json:
    """Of all jobs that came and were taken: together, by class (highest first) and by tenant (by name)."""
    by_class, by_tenant = by_name(value, run.times.classes), by_name(value, run.times.tenants)
    return {
        "all": quantiles(value),
        "by_class": {name: quantiles(by_class[name]) for name in run.classes if name in by_class},
        "by_tenant": {name: quantiles(by_tenant[name]) for name in sorted(by_tenant)},
    }


def preemptions(run: Measured) -> Json:
    gone = run.journal.preempted
    classes = [each.priority_class for each in gone]
    by_class = {name: classes.count(name) for name in run.classes}
    return {
        "count": len(gone),
        "work_lost_device_s": round(math.fsum(each.lost_device_s for each in gone), 3),
        "saving_device_s": round(math.fsum(each.saving_device_s for each in gone), 3),
        "by_class": {name: count for name, count in by_class.items() if count},
        "resizes": run.journal.resizes,
    }


def fairness(run: Measured) -> Json:
    tenants = run.journal.tenants
    names = sorted({*tenants, *(record.job.spec.tenant for record in run.journal.jobs)})
    waits = by_name(run.times.wait_s, run.times.tenants)
    device_s = {name: tenants[name].device_s if name in tenants else 0.0 for name in names}
    total = math.fsum(device_s.values())
    shares = [
        time.share_s / time.backlogged_s / run.policy.tenant(name).weight
        for name, time in sorted(tenants.items())
        if time.backlogged_s > 0
    ]
    return {
        "jain": jain(shares),
        "basis": "Jain's index of dominant share over weight, while jobs of the tenant wait",
        "tenants": [
            {
                "tenant": name,
                "weight": run.policy.tenant(name).weight,
                "device_s": round(device_s[name], 3),
                "share": _share(device_s[name], total),
                "wait_p95_s": quantiles(waits.get(name, _NONE))["p95"],
            }
            for name in names
        ],
    }


def jain(shares: Sequence[float]) -> float | None:
    """1: all equal; 1/n: one has everything. None for fewer than two, or where nobody has anything."""
    squares = math.fsum(x * x for x in shares)
    if len(shares) < 2 or squares <= 0:
        return None
    return round(math.fsum(shares) ** 2 / (len(shares) * squares), 6)


# ---- services --------------------------------------------------------------------------------------------------------


def services(run: Measured) -> list[Json]:
    return [_service(run, service, i) for i, service in enumerate(run.services)]


def _service(run: Measured, service: SimService, number: int) -> Json:
    record, spec = run.journal.services[number], service.spec
    slo_s = math.inf if spec.slo_p99_ms is None else spec.slo_p99_ms / 1000
    begin_s, until_s = service.requests.t_s[0], min(service.requests.end_s, run.end_s)
    steps = [
        (begin, min(end, until_s), per_s, replicas)
        for begin, end, per_s, replicas in steps_between(service.requests, record.replicas)
        if begin < until_s
    ]
    known: dict[tuple[float, int], Answering] = {}
    parts: list[tuple[float, float, float, float, int]] = []  # begin, end, requests, of these in time, replicas
    answers: dict[tuple[float, int], float] = {}
    for begin, end, per_s, replicas in steps:
        key = (per_s, replicas)
        if key not in known:
            known[key] = Answering.of(1.0, per_s, replicas, service.service_time_s)
        requests = per_s * (end - begin)
        answers[key] = answers.get(key, 0.0) + requests
        parts.append((begin, end, requests, requests * (1 - known[key].later_than(slo_s)), replicas))
    all_answers = [
        Answering(n, a.service_time_s, a.waits, a.rate_per_s) for k, n in answers.items() for a in [known[k]]
    ]
    requests = math.fsum(part[2] for part in parts)
    p99_s = quantile_s(all_answers, 0.99)
    lasted_s = until_s - begin_s
    replica_s = math.fsum((end - begin) * replicas for begin, end, _, _, replicas in parts)
    return {
        "name": spec.name,
        "tenant": spec.tenant,
        "priority_class": spec.priority_class,
        "slo_p99_ms": spec.slo_p99_ms,
        "requests": round(requests, 3),
        "attained": round(math.fsum(part[3] for part in parts) / requests, 6) if requests else 1.0,
        "p99_ms": None if p99_s is None else round(1000 * p99_s, 3),
        "replicas_mean": round(replica_s / lasted_s, 3) if lasted_s > 0 else 0.0,
        "refused": record.refused or None,
        "series": _service_series(run, parts),
    }


def _service_series(run: Measured, parts: Sequence[tuple[float, float, float, float, int]]) -> Json:
    edges = run.edges_s

    def steps_of(value: Callable[[tuple[float, float, float, float, int]], float]) -> Floats:
        times = [t for part in parts for t in (part[0], part[1])]
        deltas = [d for part in parts for each in [value(part)] for d in (each, -each)]
        return Steps(times, deltas).means(edges)

    rate = steps_of(lambda part: part[2] / (part[1] - part[0]))
    in_time = steps_of(lambda part: part[3] / (part[1] - part[0]))
    return {
        "t_s": _rounded(edges[:-1]),
        "attained": [
            None if per_s <= 1e-9 else round(min(1.0, max(0.0, good / per_s)), 6)
            for per_s, good in zip(rate.tolist(), in_time.tolist(), strict=True)
        ],
        "replicas": _rounded(steps_of(lambda part: part[4])),
        "requests_per_s": _rounded(rate),
    }


def measured(run: Measured) -> Mapping[str, object]:
    """All of it, in the document's shape."""
    return {
        "jobs": counts(run),
        "makespan_s": makespan_s(run),
        "utilisation": utilisation(run),
        "wait_s": grouped(run, run.times.wait_s),
        "completion_s": grouped(run, run.times.completion_s),
        "slowdown": grouped(run, run.times.slowdown),
        "services": services(run),
        "preemptions": preemptions(run),
        "fragmentation": fragmentation(run),
        "fairness": fairness(run),
        "energy": energy(run),
    }
