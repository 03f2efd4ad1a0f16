"""How many requests has each service answered, by day? What gateways report is added up and kept, once every while.

A request counts on the day on which the report of it was heard, in the site's time zone: reports come every second or
so. A gateway's report that was never heard (it died first), one of a version that has gone meanwhile, and what was
heard in the last KEEP_EVERY_S before a crash of the service are missing; nothing is counted that did not come. A
version of which some replica stands on simulated devices is counted as simulated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.months import day_at
from scheduler.ports import ServedDay, ServiceLoad, Store
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome, Served
from scheduler.service.served_days import ServedDays
from scheduler.service.state import ServiceState

KEEP_EVERY_S = 30.0
REMEMBERED_S = 8 * 86_400.0
"""A clock may be set back by so much, and the sum of a day still goes on where it was."""


def restored(store: Store, zone: str, now_s: float) -> ServedDays:
    days = store.served_days(day_at(now_s - REMEMBERED_S, zone), day_at(now_s + REMEMBERED_S, zone))
    return ServedDays(zone, {day.key: day for day in days})


def note(state: ServiceState, loads: Iterable[ServiceLoad], now_s: float) -> None:
    for load in loads:
        job = state.jobs.get(load.job_id)
        if job is None or not (load.arrivals or load.answered or load.errors):
            continue
        runs = workers_of(job)
        simulated = any(state.simulated(job, run.placement) for run in runs) or (
            not runs and any(demand.simulated for demand in job.spec.alternatives)
        )
        fresh = ServedDay(day_at(now_s, state.served.zone), job.spec.tenant, job.spec.name, simulated)
        before = state.served.days.get(fresh.key, fresh)
        state.served.days[fresh.key] = replace(
            before,
            requests=before.requests + load.arrivals,
            answered=before.answered + load.answered,
            within_slo=before.within_slo + load.within_slo,
            errors=before.errors + load.errors,
        )
        state.served.unkept.add(fresh.key)


def keep(state: ServiceState, out: Outcome, now_s: float) -> None:
    served = state.served
    if served.unkept and not served.kept_s <= now_s < served.kept_s + KEEP_EVERY_S:
        out.served = Served(unkept(state))
        served.kept_s = now_s
        served.unkept.clear()
        oldest = day_at(now_s - REMEMBERED_S, served.zone)
        for key in [key for key in served.days if key[0] < oldest]:
            del served.days[key]


def unkept(state: ServiceState) -> tuple[ServedDay, ...]:
    return tuple(state.served.days[key] for key in sorted(state.served.unkept))
