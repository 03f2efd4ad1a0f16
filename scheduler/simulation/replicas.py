"""How many replicas a simulated service wants, and how well those that it had answered.

The rule: as many as keep each one busy `busy_target` of the time at the rate of the step that begins, within the
service's bounds. It sees the step's rate when the step begins, no sooner and no later.

How long a request waits with c replicas that serve mu a second each, when requests come at random with rate lambda, is
the M/M/c queue's answer: it waits at all with Erlang's C(c, lambda / mu), and then longer than t with probability
exp(-(c mu - lambda) t). Source: Erlang, "Solution of some problems in the theory of probabilities of significance in
automatic telephone exchanges", Elektroteknikeren 13, 1917; Gross, Shortle, Thompson, Harris, "Fundamentals of Queueing
Theory", 4th ed., Wiley 2008, section 2.3. A request is within its SLO if its wait and its service time together are.
Where the replicas cannot keep up (lambda >= c mu) the queue grows without bound, and nothing of that step counts as
within the SLO. Batching is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scheduler.simulation.workload import RequestTrace, SimService

_ROUNDING = 1e-9


def replicas_for(service: SimService, per_s: float) -> int:
    """How many are wanted at that rate."""
    busy = per_s * service.service_time_s / service.busy_target
    return max(service.spec.workers_min, min(service.spec.workers_max, math.ceil(busy - _ROUNDING)))


def scaling_steps(service: SimService) -> Iterator[tuple[float, int]]:
    """(Time, replicas wanted from then on), where that changes."""
    before = None
    for at_s, per_s in zip(service.requests.t_s, service.requests.per_s, strict=True):
        wanted = max(1, replicas_for(service, per_s)) if before is None else replicas_for(service, per_s)
        if wanted != before:
            yield at_s, wanted
        before = wanted


def erlang_c(servers: int, offered: float) -> float:
    """The probability that a request waits: `offered` = lambda / mu, in erlangs, below `servers`.

    By the recursion of Erlang's B, which does not overflow: B(0) = 1, B(k) = a B(k-1) / (k + a B(k-1))."""
    assert 0 <= offered < servers, (servers, offered)
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


@dataclass(frozen=True, slots=True)
class Answering:
    """So many requests met that many replicas. `waits`: the probability to wait; `rate_per_s`: at which waits decay."""

    requests: float
    service_time_s: float
    waits: float
    rate_per_s: float

    @staticmethod
    def of(requests: float, per_s: float, replicas: int, service_time_s: float) -> Answering:
        offered = per_s * service_time_s
        if offered >= replicas:
            return Answering(requests, service_time_s, 1.0, 0.0)
        rate_per_s = replicas / service_time_s - per_s
        return Answering(requests, service_time_s, erlang_c(replicas, offered), rate_per_s)

    def later_than(self, seconds: float) -> float:
        """The part of the requests that take longer than that."""
        if seconds < self.service_time_s:
            return 1.0
        return self.waits * math.exp(-self.rate_per_s * (seconds - self.service_time_s))


def quantile_s(answers: Sequence[Answering], q: float) -> float | None:
    """The time within which that part of all requests is answered; None where too many are never."""
    total = math.fsum(each.requests for each in answers)
    if total <= 0:
        return None
    allowed = (1 - q) * total

    def late(seconds: float) -> float:
        return math.fsum(each.requests * each.later_than(seconds) for each in answers)

    high = max(each.service_time_s for each in answers)
    if math.fsum(each.requests for each in answers if each.rate_per_s <= 0) > allowed:
        return None
    low = 0.0
    while late(high) > allowed:
        low, high = high, 2 * high
        if high > 1e9:
            return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if late(middle) > allowed else (low, middle)
    return high


def steps_between(
    trace: RequestTrace, replicas: Sequence[tuple[float, int]]
) -> Iterator[tuple[float, float, float, int]]:
    """(From, to, requests a second, replicas): the trace cut where the replicas change."""
    changes = sorted({*trace.t_s, *(t for t, _ in replicas if trace.t_s[0] <= t < trace.end_s), trace.end_s})
    rate = there = 0
    for begin_s, end_s in pairwise(changes):
        while rate + 1 < len(trace.t_s) and trace.t_s[rate + 1] <= begin_s:
            rate += 1
        while there < len(replicas) and replicas[there][0] <= begin_s:
            there += 1
        yield begin_s, end_s, trace.per_s[rate], replicas[there - 1][1] if there else 0
