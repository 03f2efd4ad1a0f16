"""How many replicas does a service need for the load that it has, and when is that worth a change?

**How many** (`needed`). Requests come at rate l and keep a replica busy for S seconds each, so a = l S requests are in
service on average (Little's law; Little, "A Proof for the Queuing Formula L = lW", Operations Research 9(3), 1961).
With c places (replicas times the requests that each takes at a time) a request has to wait with Erlang's probability
C(c, a), and longer than t with C(c, a) exp(-(c - a) t / S) (Erlang 1917; Gans, Koole and Mandelbaum, "Telephone Call
Centers", M&SOM 5(2), 2003, section 4.1). Wanted is the least c for which at most 1 % wait longer than the SLO leaves
after service, t = SLO - 2 S: services of twice the mean time still meet it. Where the SLO leaves nothing, or little,
this is the square-root rule c = a + b sqrt(a) (Halfin and Whitt, "Heavy-Traffic Limits for Queues with Many
Exponential Servers", Operations Research 29(3), 1981). M/M/c errs on the safe side: service times of a model vary less
than exponential ones. No more than 80 % of the places are to be busy on average, since an SLO that is long beside S
would ask for nearly none to be free. Without an SLO at most 20 % of the requests are to wait at all.

**When** (`decide`). Two time scales, as Knative's autoscaler has (stable window 60 s, panic window a tenth of it),
with two differences. A step up is believed as soon as, in any of some short windows, the rate is *surely* above what
the present replicas can take: N requests in w seconds speak for a rate of at least (N - 3 sqrt(N)) / w, the lower
bound of three standard deviations of a Poisson count. So a step at a high rate is believed within half a second, and
noise is not. And more requests in the queues than the present replicas can serve within the SLO count as arrivals too:
they are to be gone in some seconds. Down goes slowly: to the most that was wanted at any time in the last
`down_after_s`, as the Kubernetes autoscaler's stabilisation window has it. Hence after each change upwards nothing
goes down for that long: a service that flaps faster is not possible.

To nothing (where `low` is 0): when no request came for `idle_s`. From nothing: at the first request.

Pure. Times are seconds of one clock, the caller's.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

MISSES = 0.01
"""Of all requests, how many may wait longer than the SLO leaves: it is one for the 99th percentile."""
WAITS_WITHOUT_SLO = 0.2
MOST_BUSY = 0.8
SERVICE_TAIL = 2.0
"""A service that takes this many times the mean is still to meet the SLO."""
STABLE_S = 60.0
PANIC_WINDOWS_S = (0.5, 1.0, 2.0, 6.0)
SURE_SIGMAS = 3.0
PATIENCE_WITHOUT_SLO = 4.0
"""In times of service."""
DRAIN_S = 4.0
"""What waits too long is to be gone in this time, about two starts of a replica: faster would overshoot."""
FEEDBACK_EVERY_S = 10.0
"""After a change, so long passes before requests that were turned away are taken for a sign that it was too small."""
DOWN_EVERY_S = 30.0
RECENT_S = 15.0
"""What is asked for on the way down is the more of what this window and the stable one say: that one lags behind."""

Why = Literal["wake", "step", "backlog", "rate", "turned away", "less", "idle", "bounds"]


def erlang_c(servers: int, load: float) -> float:
    """The probability that a request has to wait where `load` Erlangs meet so many servers; 1 where they are too few.

    By the recursion of Erlang's B, which does not overflow."""
    if load <= 0.0:
        return 0.0
    if servers <= load:
        return 1.0
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = load * blocked / (server + load * blocked)
    return blocked / (1.0 - (load / servers) * (1.0 - blocked))


def servers_for(load: float, service_s: float, patience_s: float, misses: float, *, at_most: int) -> int:
    """The least number of servers of which at most MOST_BUSY are busy on average and with which at most the part
    `misses` of the requests waits longer than `patience_s`; `at_most` where that is more."""
    if load <= 0.0:
        return 0
    blocked = 1.0
    for servers in range(1, at_most):
        blocked = load * blocked / (servers + load * blocked)
        if load > MOST_BUSY * servers:
            continue
        waits = blocked / (1.0 - (load / servers) * (1.0 - blocked))
        if waits * math.exp(-(servers - load) * patience_s / service_s) <= misses:
            return servers
    return at_most


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a service may have and is to keep. `concurrency`: requests that one replica serves at a time without each
    taking longer (its batch, say). `slo_s`: the 99th percentile that it is held to; None: none."""

    low: int
    high: int
    slo_s: float | None
    concurrency: int = 1
    idle_s: float = 600.0
    down_after_s: float = 120.0

    def __post_init__(self) -> None:
        assert 0 <= self.low <= self.high, self
        assert self.concurrency >= 1, self


def needed(rate_per_s: float, service_s: float, scaling: Scaling) -> int:
    """Replicas for a steady load, whatever the bounds say, but for one more than `high` at most."""
    if rate_per_s <= 0.0 or service_s <= 0.0:
        return 0
    places = scaling.concurrency
    at_most = (scaling.high + 1) * places
    load = rate_per_s * service_s
    if scaling.slo_s is None:
        found = servers_for(load, service_s, 0.0, WAITS_WITHOUT_SLO, at_most=at_most)
    else:
        found = servers_for(load, service_s, _patience_s(scaling, service_s), MISSES, at_most=at_most)
    return -(-found // places)


def _patience_s(scaling: Scaling, service_s: float) -> float:
    """How long a request may wait."""
    if scaling.slo_s is None:
        return PATIENCE_WITHOUT_SLO * service_s
    return max(0.0, scaling.slo_s - SERVICE_TAIL * service_s)


@dataclass(frozen=True, slots=True)
class Sample:
    """What all gateways, or one of them, saw in the `window_s` before `at_s`."""

    at_s: float
    window_s: float
    arrivals: int
    answered: int = 0
    service_s: float | None = None
    hopeless: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """From `before` replicas to `wanted`, and the figures that say why: `rate_per_s` over `window_s`, `service_s` a
    request, hence `load` requests in service; `waiting` in the gateways' queues."""

    before: int
    wanted: int
    why: Why
    rate_per_s: float
    window_s: float
    service_s: float | None
    load: float | None
    waiting: int

    @property
    def text(self) -> str:
        service = "" if self.service_s is None else f", {self.service_s * 1000:.3g} ms each"
        seen = f"{self.rate_per_s:,.4g} requests/s over {self.window_s:g} s{service}"
        waits = f", {self.waiting} waiting" if self.waiting else ""
        said = {
            "wake": "a request came and there was no replica",
            "step": f"the load has risen: {seen}{waits}",
            "backlog": f"requests wait: {seen}{waits}",
            "rate": f"the load is higher: {seen}",
            "turned away": f"requests could not be answered in time: {seen}{waits}",
            "less": f"the load has been lower for long enough: {seen}",
            "idle": "no request came for its idle time",
            "bounds": "the bounds of its job file",
        }
        return said[self.why]


@dataclass(slots=True)
class History:
    """What was seen and wanted of late. `known_s`: since when anything is known. It forgets by itself."""

    known_s: float
    samples: deque[Sample] = field(default_factory=deque)
    service_s: float | None = None
    """The last that was known, for when nothing is answered."""
    asked: deque[tuple[float, int]] = field(default_factory=deque)
    """What was wanted when, but for what more was wanted after."""
    changed_s: float = -math.inf

    def ask(self, now_s: float, wanted: int) -> None:
        while self.asked and self.asked[-1][1] <= wanted:
            self.asked.pop()
        self.asked.append((now_s, wanted))

    def most_asked(self, since_s: float) -> int:
        """The most that was wanted at any time from then on."""
        while len(self.asked) > 1 and self.asked[0][0] < since_s:
            self.asked.popleft()
        return self.asked[0][1] if self.asked else 0

    def take(self, sample: Sample) -> None:
        self.samples.append(sample)
        while self.samples and self.samples[0].at_s < sample.at_s - STABLE_S:
            self.samples.popleft()

    def count(self, now_s: float, window_s: float) -> float:
        """Arrivals in the last `window_s`; a sample that reaches back beyond them counts in part."""
        since_s, total = now_s - window_s, 0.0
        for sample in reversed(self.samples):
            if sample.at_s <= since_s:
                break
            inside_s = min(sample.window_s, sample.at_s - since_s)
            total += sample.arrivals if sample.window_s <= 0 else sample.arrivals * inside_s / sample.window_s
        return total

    def time_of_service(self, now_s: float) -> float | None:
        """The mean over the stable window: over a shorter one its own noise would move replicas. Where nothing was
        answered of late, the last that was known."""
        answered, busy_s = 0, 0.0
        for sample in self.samples:
            if sample.at_s > now_s - STABLE_S and sample.service_s is not None:
                answered += sample.answered
                busy_s += sample.answered * sample.service_s
        if answered:
            self.service_s = busy_s / answered
        return self.service_s


def decide(
    history: History,
    scaling: Scaling,
    *,
    now_s: float,
    current: int,
    ready: int,
    waiting: int,
    idle_s: float,
    may_shrink: bool = True,
) -> Decision | None:
    """The change that is due now, or None. `current` is what is wanted so far, `ready` how many of those answer;
    `idle_s`: since the last request. `may_shrink`: False while not all gateways are heard of. Changes `history`, which
    remembers what was wanted."""
    service_s = history.time_of_service(now_s)
    known_s = max(0.0, now_s - history.known_s)
    stable_s = min(STABLE_S, max(known_s, PANIC_WINDOWS_S[0]))
    rate = history.count(now_s, stable_s) / stable_s

    def decision(wanted: int, why: Why, rate_per_s: float = rate, window_s: float = stable_s) -> Decision | None:
        wanted = max(scaling.low, min(scaling.high, wanted))
        history.ask(now_s, wanted)
        if wanted == current:
            return None
        history.changed_s = now_s
        load = None if service_s is None else rate_per_s * service_s
        return Decision(current, wanted, why, rate_per_s, window_s, service_s, load, waiting)

    if not scaling.low <= current <= scaling.high:
        return decision(current, "bounds")
    short_s = PANIC_WINDOWS_S[-1]
    if current == 0:
        if waiting == 0 and history.count(now_s, short_s) <= 0:
            return None
        return decision(1, "wake")
    if scaling.low == 0 and waiting == 0 and idle_s >= scaling.idle_s and may_shrink:
        return decision(0, "idle")

    # While replicas are still on their way, what waits was counted already when they were asked for.
    queued = waiting if ready >= current else 0
    sudden = _sudden(history, scaling, now_s, service_s, current, queued)
    if sudden is not None:
        return decision(sudden.wanted, sudden.why, sudden.rate_per_s, sudden.window_s)
    if service_s is None:
        return None  # nothing was ever answered: nobody knows what a replica can take
    steady = needed(rate, service_s, scaling)
    if needed(_at_least(rate, stable_s), service_s, scaling) > current:
        return decision(steady, "rate")
    hopeless = sum(each.hopeless for each in history.samples if each.at_s > now_s - short_s)
    turned_away = hopeless > MISSES * max(1.0, history.count(now_s, short_s))
    rested = now_s - history.changed_s >= FEEDBACK_EVERY_S
    if turned_away and ready >= current and current < scaling.high and rested:
        return decision(current + max(1, current // 10), "turned away")

    lately_s = min(RECENT_S, stable_s)
    lately = needed(history.count(now_s, lately_s) / lately_s, service_s, scaling)
    history.ask(now_s, min(max(steady, lately, 1), current))
    long_known = known_s >= scaling.down_after_s and now_s - history.changed_s >= min(
        DOWN_EVERY_S, scaling.down_after_s
    )
    if not may_shrink or turned_away or not long_known:
        return None
    most = max(scaling.low, history.most_asked(now_s - scaling.down_after_s))
    return decision(most, "less") if most < current else None


@dataclass(frozen=True, slots=True)
class _Sudden:
    wanted: int
    why: Why
    rate_per_s: float
    window_s: float


def _at_least(rate_per_s: float, window_s: float) -> float:
    """What a count of that many in so long surely speaks for."""
    count = rate_per_s * window_s
    return max(0.0, count - SURE_SIGMAS * math.sqrt(count)) / window_s


def _sudden(
    history: History, scaling: Scaling, now_s: float, service_s: float | None, current: int, waiting: int
) -> _Sudden | None:
    """What the last moments ask for, if that is surely more than there is.

    Without a time of service nobody knows what a replica takes: then one more, while requests wait."""
    if service_s is None:
        more = waiting > current * scaling.concurrency and now_s - history.changed_s >= FEEDBACK_EVERY_S
        rate = history.count(now_s, PANIC_WINDOWS_S[-1]) / PANIC_WINDOWS_S[-1]
        return _Sudden(current + 1, "backlog", rate, PANIC_WINDOWS_S[-1]) if more and current < scaling.high else None
    if current >= scaling.high:
        return None
    in_time = current * scaling.concurrency * _patience_s(scaling, service_s) / service_s
    late = max(0.0, waiting - in_time) / max(DRAIN_S, 4 * service_s)
    found: _Sudden | None = None
    for window_s in PANIC_WINDOWS_S:
        if window_s > now_s - history.known_s and window_s != PANIC_WINDOWS_S[0]:
            break
        rate = history.count(now_s, window_s) / window_s
        sure = _at_least(rate, window_s)
        if needed(sure + late, service_s, scaling) <= current:
            continue
        asked = needed(rate + late, service_s, scaling)
        if found is None or asked > found.wanted:
            why: Why = "step" if needed(sure, service_s, scaling) > current else "backlog"
            found = _Sudden(asked, why, rate, window_s)
    return found
