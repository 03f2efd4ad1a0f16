"""Jobs and requests drawn from what a workload file describes; equal files and seeds give equal work.

Arrivals are a Poisson process whose rate follows the hour and the day of the week, drawn by thinning: Lewis and
Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", Naval Research Logistics Quarterly 26(3), 1979.
Durations are lognormal or Pareto with a cap, since run times of real clusters have heavy tails (Jeon et al., "Analysis
of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads", USENIX ATC 2019). Each stream draws from a
generator of its own, so that one that is added or taken away changes no other.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from scheduler.core.demand import Demand
from scheduler.core.jobs import Checkpoint, JobKind, JobSpec
from scheduler.schema.workload_model import Durations, RequestRate, Rhythm, ServiceAsk, Stream
from scheduler.simulation.workload import COMMAND, RequestTrace, SimJob, SimService, usual_limit_s

DAY_S = 86_400.0
_LEAST_S = 1.0
_WEEKDAYS = 5

Floats = NDArray[np.float64]


def rhythm_at(rhythm: Rhythm, t_s: Floats) -> Floats:
    """The factor on the mean rate at those times. Time 0 is a Monday, 00:00."""
    hour = t_s / 3_600.0
    factor: Floats = 1 + rhythm.swing * np.cos(2 * np.pi * (hour - rhythm.peak_hour) / 24)
    weekend = (t_s // DAY_S) % 7 >= _WEEKDAYS
    return np.where(weekend, factor * rhythm.weekend, factor)


def jobs_of(stream: Stream, span_s: float, seed: int) -> list[SimJob]:
    """All that come within the span, in the order of their coming."""
    rng = np.random.default_rng([seed, zlib.crc32(stream.name.encode())])
    submit_s = _arrivals(rng, stream, span_s)
    count = len(submit_s)
    duration_s = _durations(rng, stream.durations, count)
    weights = np.array([ask.weight for ask in stream.asks])
    asked = rng.choice(len(stream.asks), count, p=weights / weights.sum())
    saving = stream.saving
    saves = (rng.random(count) < (0 if saving is None else saving.part)).tolist()
    # With its smallest gang a job takes longer in proportion, and its limit must leave room for that.
    most = np.array([ask.workers_max for ask in stream.asks])[asked]
    least = np.array([ask.workers_min for ask in stream.asks])[asked]
    longest_s = (duration_s * most / least).tolist()
    always_saves = [ask.workers_min < ask.workers_max for ask in stream.asks]
    specs: dict[tuple[int, float, bool], JobSpec] = {}  # jobs that differ in nothing else share one
    alternatives = [(ask.demand,) for ask in stream.asks]
    # Of those that save: how often, and for how long.
    every_s, save_s = (None, 0.0) if saving is None else (saving.every_s, saving.save_s)
    jobs = []
    for at_s, lasts_s, which, at_most_s, has_checkpoint in zip(
        submit_s.tolist(), duration_s.tolist(), asked.tolist(), longest_s, saves, strict=True
    ):
        key = (which, usual_limit_s(at_most_s), has_checkpoint or always_saves[which])
        spec = specs.get(key)
        if spec is None:
            spec = specs[key] = _spec_of(stream, which, alternatives[which], key[1], key[2])
        if key[2]:
            jobs.append(SimJob(spec, at_s, lasts_s, every_s, save_s))
        else:
            jobs.append(SimJob(spec, at_s, lasts_s))
    return jobs


def _spec_of(stream: Stream, which: int, alternatives: tuple[Demand, ...], limit_s: float, saves: bool) -> JobSpec:
    ask = stream.asks[which]
    grace_s = 0.0 if stream.saving is None else stream.saving.grace_s
    return JobSpec(
        name=stream.name,
        tenant=stream.tenant,
        kind=stream.kind,
        priority_class=stream.priority_class,
        priority=stream.priority,
        command=COMMAND,
        model=None,
        workers_min=ask.workers_min,
        workers_max=ask.workers_max,
        alternatives=alternatives,
        time_limit_s=limit_s,
        checkpoint=Checkpoint("/checkpoint", grace_s) if saves else None,
        constraints=ask.constraints,
    )


def _arrivals(rng: np.random.Generator, stream: Stream, span_s: float) -> Floats:
    rhythm = stream.rhythm
    most = (1 + rhythm.swing) * max(1.0, rhythm.weekend)
    candidates = rng.poisson(stream.per_day / DAY_S * span_s * most)
    at_s = np.sort(rng.random(candidates) * span_s)
    taken: Floats = at_s[rng.random(candidates) * most < rhythm_at(rhythm, at_s)]
    return np.round(taken, 3)


def _durations(rng: np.random.Generator, law: Durations, count: int) -> Floats:
    drawn: Floats = np.full(count, law.scale_s, dtype=np.float64)
    match law.law:
        case "lognormal":
            drawn = drawn * rng.lognormal(0.0, law.spread, count)
        case "pareto":
            drawn = drawn * (1 + rng.pareto(law.spread, count))
        case "fixed":
            pass
    clipped: Floats = np.asarray(np.round(np.clip(drawn, _LEAST_S, law.most_s), 3), np.float64)
    return clipped


def requests_of(rate: RequestRate, span_s: float) -> RequestTrace:
    """The generated trace: the rhythm's rate at the middle of each step."""
    begin_s = np.arange(0.0, span_s, rate.step_s)
    middle_s = np.minimum(begin_s + rate.step_s / 2, span_s)
    per_s = rate.mean_per_s * rhythm_at(rate.rhythm, middle_s)
    return RequestTrace(tuple(begin_s.tolist()), tuple(np.round(per_s, 6).tolist()), span_s)


def service_of(ask: ServiceAsk, requests: RequestTrace) -> SimService:
    spec = JobSpec(
        name=ask.name,
        tenant=ask.tenant,
        kind=JobKind.INFERENCE,
        priority_class=ask.priority_class,
        priority=ask.priority,
        command=COMMAND,
        model=None,
        workers_min=ask.replicas_min,
        workers_max=ask.replicas_max,
        alternatives=(ask.demand,),
        time_limit_s=None,
        slo_p99_ms=ask.slo_p99_ms,
    )
    return SimService(spec, requests, ask.service_time_s, ask.busy_target)
