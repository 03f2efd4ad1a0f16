"""How well does the autoscaler hold an SLO, and how often does it change its mind? On a simulated queue, in virtual
time.

`python -m scheduler.simulation.autoscaling` prints one line a trace. One first-come queue in front of all replicas,
each of which serves one request at a time; arrivals are Poisson of the trace's rate (thinning: Lewis and Shedler
1979), services exponential or of equal length. A new replica answers `start_s` after it was asked for; one too many
ends when it is free. Reports come every `report_s`, as a gateway's do. Requests are never refused here: a queue that
grows shows in the attainment. Simulated figures: nothing in them is measured.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.core.autoscaling import History, Sample, Scaling, decide, needed

Rate = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests a second over `long_s`; `most` bounds the rate from above."""

    rate: Rate
    most: float
    long_s: float
    starts_with: int


@dataclass(frozen=True, slots=True)
class Figures:
    """`turns`: changes down after up or the other way round. `replica_s` in all, and what the law would have asked for
    with the true rate at each moment (`ideal_s`). `first_new_s`: from the first report that could show the step to the
    decision, None where there is none."""

    requests: int
    within_slo: float
    changes: int
    turns: int
    replica_s: float
    ideal_s: float
    most: int
    shortest_down_after_up_s: float
    decided_s: tuple[float, ...]


def run(
    trace: Trace,
    scaling: Scaling,
    *,
    service_s: float,
    seed: int,
    start_s: float = 2.0,
    report_s: float = 0.5,
    even: bool = False,
) -> Figures:
    """`even`: every service takes the same time."""
    rng = random.Random(seed)
    arrivals = _arrivals(trace, rng)
    free: list[float] = [0.0] * trace.starts_with  # when each replica can take its next request
    history, wanted, queue = History(0.0), trace.starts_with, deque[float]()
    changes: list[tuple[float, int, int]] = []
    within = requests = answered = came = 0
    busy_s = replica_s = ideal_s = 0.0
    at = next(arrivals, None)
    now_s = last_s = 0.0
    while now_s < trace.long_s:
        now_s += report_s
        while at is not None and at <= now_s:
            queue.append(at)
            came += 1
            at = next(arrivals, None)
        while queue and free and max(free[0], queue[0]) <= now_s:
            came_s = queue.popleft()
            begin_s = max(heapq.heappop(free), came_s)
            took_s = service_s if even else rng.expovariate(1 / service_s)
            heapq.heappush(free, begin_s + took_s)
            requests, answered, busy_s = requests + 1, answered + 1, busy_s + took_s
            last_s = came_s
            within += begin_s + took_s - came_s <= (math.inf if scaling.slo_s is None else scaling.slo_s)
        history.take(Sample(now_s, report_s, came, answered, busy_s / answered if answered else None))
        came, answered, busy_s = 0, 0, 0.0
        ready = sum(each <= now_s + start_s for each in free)
        made = decide(
            history, scaling, now_s=now_s, current=wanted, ready=ready, waiting=len(queue), idle_s=now_s - last_s
        )
        if made is not None:
            changes.append((now_s, made.before, made.wanted))
            for _ in range(made.wanted - wanted):
                heapq.heappush(free, now_s + start_s)
            for _ in range(wanted - made.wanted):
                heapq.heappop(free)
            wanted = made.wanted
        replica_s += wanted * report_s
        true = max(scaling.low, min(scaling.high, needed(trace.rate(now_s), service_s, scaling)))
        ideal_s += true * report_s
    requests += len(queue)
    return Figures(
        requests,
        within / max(1, requests),
        len(changes),
        sum((a[2] > a[1]) != (b[2] > b[1]) for a, b in itertools.pairwise(changes)),
        replica_s,
        ideal_s,
        max((after for _, _, after in changes), default=trace.starts_with),
        _soonest_down(changes),
        tuple(at_s for at_s, _, _ in changes),
    )


def _soonest_down(changes: list[tuple[float, int, int]]) -> float:
    """The shortest time from a change up to a later change down; infinite where there is none."""
    soonest, up_s = math.inf, -math.inf
    for at_s, before, after in changes:
        if after > before:
            up_s = at_s
        else:
            soonest = min(soonest, at_s - up_s)
    return soonest


def _arrivals(trace: Trace, rng: random.Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += rng.expovariate(trace.most)
        if at_s > trace.long_s:
            return
        if rng.random() * trace.most <= trace.rate(at_s):
            yield at_s


TRACES: Mapping[str, Trace] = {
    "steady": Trace(lambda _: 40.0, 40.0, 1800.0, 4),
    "step": Trace(lambda s: 20.0 if s < 600 else 200.0, 200.0, 1200.0, 3),
    "step and back": Trace(lambda s: 200.0 if 600 <= s < 900 else 20.0, 200.0, 1800.0, 3),
    "ramp": Trace(lambda s: 20.0 + 0.15 * s, 200.0, 1200.0, 3),
    "day": Trace(lambda s: 110.0 - 90.0 * math.cos(2 * math.pi * s / 3600), 200.0, 3600.0, 3),
    "noise": Trace(lambda s: 60.0 * (0.6 + 0.8 * random.Random(int(s / 5)).random()), 84.0, 1800.0, 6),
    "bursts": Trace(lambda s: 150.0 if s % 300 < 20 else 20.0, 150.0, 1800.0, 3),
    "seldom": Trace(lambda _: 0.001, 0.001, 14_400.0, 0),
}


def main() -> None:
    scaling = Scaling(1, 40, slo_s=0.4, down_after_s=120.0)
    sparse = Scaling(0, 4, slo_s=None, idle_s=600.0)
    print(
        "simulated: 50 ms a request (exponential), SLO 400 ms, a replica answers 2 s after it is asked for, seeds 0-4"
    )
    print(f"{'trace':15} {'requests':>9} {'within SLO':>10} {'changes':>8} {'turns':>6} {'replicas':>9} {'ideal':>7}")
    for name, trace in TRACES.items():
        runs = [run(trace, sparse if name == "seldom" else scaling, service_s=0.05, seed=seed) for seed in range(5)]
        requests = sum(each.requests for each in runs)
        within = sum(each.within_slo * each.requests for each in runs) / requests
        mean = trace.long_s * len(runs)
        print(
            f"{name:15} {requests:9} {within:10.2%} {sum(r.changes for r in runs) / 5:8.1f}"
            f" {sum(r.turns for r in runs) / 5:6.1f} {sum(r.replica_s for r in runs) / mean:9.2f}"
            f" {sum(r.ideal_s for r in runs) / mean:7.2f}"
        )


if __name__ == "__main__":
    main()
