"""Replay a workload through the live planner in virtual time: what would this cluster have done with that work?

A loop over events in the order of time: work comes, attempts end, victims have saved and go, services want more or
fewer replicas. All events of one moment are taken before the planner is asked once, as the live service does; what the
planner decides may make new events. `core.plan` decides everything; nothing here knows a policy.

A pass is left out only where it could change nothing: nobody waits and no elastic job could grow, or all that happened
since the last one is that jobs came whose like were found blocked in it, behind those. (What time alone changes, a job
that may be preempted again or that has starved, is looked at every `LOOK_AGAIN_S`; the live service looks every 30 s.)

Deterministic: equal inputs give equal journals. Reference for the method, discrete-event simulation by next-event
time advance: Law, "Simulation Modeling and Analysis", 5th ed., McGraw-Hill 2015, chapter 1.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from scheduler.core import transitions
from scheduler.core.decisions import Policy, Start
from scheduler.core.demand import NodeFacts
from scheduler.core.jobs import EndCause, Running, Stopping
from scheduler.core.plan import plan
from scheduler.core.waiting_reasons import WaitingReasons
from scheduler.simulation.collecting import rarely_collecting
from scheduler.simulation.journal import Became, JobRecord, Journal, ServiceRecord
from scheduler.simulation.replicas import scaling_steps
from scheduler.simulation.virtual_site import Live, VirtualSite
from scheduler.simulation.workload import Workload

LOOK_AGAIN_S = 600.0
TELL_WORK_EVERY_S = 6 * 3_600.0
FRAGMENTATION_SAMPLES = 200
_PROGRESS_EVERY = 512

# Events of one moment, in the order in which they are taken: what ends makes room before anything is asked for.
_ENDS, _LIMIT, _FAILS, _GOES, _SCALES, _LEAVES, _PASSES = range(7)  # up to _GOES, of one attempt of a job
_Event = tuple[float, int, int, Live | int, int]
"""When, what, its place among those pushed, then whose attempt it is of; or which service, and with how many replicas
from then on."""
_NOBODY = -1
_SUCCEEDED = Became.SUCCEEDED  # looked up once, as nearly each job needs it

Progress = Callable[[float, int], None]


def no_progress(now_s: float, ended: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """`pass_every_s`: passes at most so often; 0: whenever something happened. `until_s`: stop then; None: when all
    has ended, or nothing more can happen."""

    pass_every_s: float = 0.0
    until_s: float | None = None
    half_life_s: float = 7 * 86_400.0


@dataclass(slots=True)
class Replay:
    """One run. `group_of`: the group by which a node's use is measured. `clock`: for how long the passes took, which
    decides nothing; `planning_s` adds it up."""

    nodes: Sequence[NodeFacts]
    policy: Policy
    workload: Workload
    group_of: Callable[[NodeFacts], int]
    settings: ReplaySettings = field(default_factory=ReplaySettings)
    progress: Progress = no_progress
    clock: Callable[[], float] = float
    planning_s: float = 0.0
    journal: Journal = field(init=False)
    site: VirtualSite = field(init=False)
    now_s: float = 0.0
    _heap: list[_Event] = field(default_factory=list)
    _order: int = 0
    _next_job: int = 0
    _next_service: int = 0
    _planned_s: float = -math.inf
    _reasons: WaitingReasons | None = None  # of the last pass
    _freed: bool = True
    _pass_is_due: bool = False
    _ended: int = 0

    def __post_init__(self) -> None:
        self.journal = Journal(
            jobs=[JobRecord(job) for job in self.workload.jobs],
            services=[ServiceRecord() for _ in self.workload.services],
        )
        self.site = VirtualSite(
            self.nodes,
            self.policy,
            half_life_s=self.settings.half_life_s,
            group_of=self.group_of,
            journal=self.journal,
        )

    def run(self) -> Journal:
        """To the end. KeyboardInterrupt ends it early with what happened until then, marked partial."""
        with rarely_collecting():
            try:
                self._loop()
            except KeyboardInterrupt:
                self.journal.partial = True
        self.site.settle(self.now_s)
        self.journal.end_s = self.now_s
        self._say_reasons()
        return self.journal

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        for number, service in enumerate(self.workload.services):
            for at_s, replicas in scaling_steps(service):
                self._push(at_s, _SCALES, number, replicas)
            self._push(service.requests.end_s, _LEAVES, number)
        sample_every_s = max(60.0, self.workload.span_s / FRAGMENTATION_SAMPLES)
        sample_s, steps = sample_every_s, 0
        until_s = math.inf if self.settings.until_s is None else self.settings.until_s
        while True:
            next_s = self._next_s()
            if next_s == math.inf:
                return
            if next_s > until_s:
                self.now_s = until_s
                return
            if next_s >= sample_s:
                self.journal.fragmentation.append((self.now_s, self.site.cluster.fragmentation().share))
                sample_s = (next_s // sample_every_s + 1) * sample_every_s
            self.now_s = next_s
            self._events()
            if not self._pass_is_due:
                self._plan()
            steps += 1
            if steps % _PROGRESS_EVERY == 0:
                self.progress(self.now_s, self._ended)

    def _next_s(self) -> float:
        """When something happens next; infinity: never."""
        jobs, heap = self.workload.jobs, self._heap
        next_s = jobs[self._next_job].submit_s if self._next_job < len(jobs) else math.inf
        while heap and _is_old_news(heap[0]):
            heappop(heap)
        if heap and heap[0][0] < next_s:
            next_s = heap[0][0]
        if self._pass_is_due:  # which is an event itself
            return next_s
        look_s = self._planned_s + LOOK_AGAIN_S
        if look_s < next_s < math.inf and (self.site.queue.waiting or self.site.queue.elastic):
            next_s = max(self.now_s, look_s)
        return next_s

    def _events(self) -> None:
        """All of this moment."""
        now_s, heap = self.now_s, self._heap
        while heap and heap[0][0] <= now_s:
            event = heappop(heap)
            if not _is_old_news(event):
                _, what, _, whose, replicas = event
                if isinstance(whose, Live):
                    self._befalls(whose, what)
                elif what == _PASSES:
                    self._pass_is_due = False
                elif what == _SCALES:
                    self._scales(whose, replicas)
                else:
                    self._leaves(whose)
        jobs = self.workload.jobs
        while self._next_job < len(jobs) and jobs[self._next_job].submit_s <= now_s:
            self._arrives(self._next_job)
            self._next_job += 1

    def _befalls(self, live: Live, what: int) -> None:
        """What its attempt awaited has come."""
        live.awaits = 0
        self._freed = True
        if what == _GOES:
            assert isinstance(live.job.state, Stopping)
            self.site.goes(live, self.now_s, asked_s=live.job.state.since_s)
        elif what == _FAILS:
            self._ended += not self.site.fails(live, self.now_s)
        else:
            self.site.ends(live, _SUCCEEDED if what == _ENDS else Became.ENDED_AT_LIMIT, self.now_s)
            self._ended += 1

    def _leaves(self, number: int) -> None:
        live = self.site.live.get(f"service-{number}")
        if live is not None:
            live.awaits = 0
            self.site.ends(live, Became.SUCCEEDED, self.now_s)
            self._freed = True

    # ---- what comes ----------------------------------------------------------------------------------------------

    def _arrives(self, number: int) -> None:
        record = self.journal.jobs[number]
        sim = record.job
        ask = self.site.asks.of(sim.spec)
        job = transitions.submitted(str(number + 1), self.site.next_seq(), sim.spec, submitted_s=self.now_s)
        refusal = self.site.refusal(ask)
        if refusal is not None:
            record.became, record.reason = Became.REFUSED, refusal
            self._ended += 1
            return
        needed = self.site.needs_plan
        self.site.submit(Live(job, number, ask, sim.duration_s * sim.spec.workers_max), self.now_s)
        if not needed and not self._freed and self._is_behind_its_like(job.id):
            self.site.needs_plan = False

    def _is_behind_its_like(self, job_id: str) -> bool:
        """Whether the last pass found jobs blocked that differ from this one in nothing but that they came before."""
        return self._reasons is not None and self._reasons.answers_like_of(job_id)

    def _scales(self, number: int, replicas: int) -> None:
        live = self.site.live.get(f"service-{number}")
        if live is not None:
            self.site.scale(live, replicas)
            return
        service = self.workload.services[number]
        job = transitions.submitted(f"service-{number}", self.site.next_seq(), service.spec, submitted_s=self.now_s)
        ask = self.site.asks.of(service.spec)
        refusal = self.site.refusal(ask)
        if refusal is None:
            live = Live(job, number, ask, serves=True)
            self.site.submit(live, self.now_s)
            self.site.scale(live, replicas)
        else:
            self.journal.services[number].refused = refusal

    # ---- what is decided -----------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """A pass, now or as soon as one may be; until then it is due, and nothing is asked."""
        site = self.site
        queue = site.queue
        if self.now_s - self._planned_s >= LOOK_AGAIN_S:
            site.needs_plan = True
        if not site.needs_plan:
            return
        if not (queue.waiting or queue.elastic or queue.shrinking):
            site.needs_plan = False
            return
        if self.now_s < self._planned_s + self.settings.pass_every_s:
            self._push(self._planned_s + self.settings.pass_every_s, _PASSES, _NOBODY)
            self._pass_is_due = True
            return
        self._pass()

    def _pass(self) -> None:
        site, now_s = self.site, self.now_s
        site.needs_plan = self._freed = False
        self._planned_s = now_s
        site.tell_usage(now_s)
        site.tell_work(now_s, TELL_WORK_EVERY_S)
        began_s = self.clock()
        planned = plan(site.cluster, site.queue, self.policy, now_s=now_s, only_decisions=True)
        self.planning_s += self.clock() - began_s
        reasons = planned.reasons
        self._reasons = reasons.without_counts() if isinstance(reasons, WaitingReasons) else None
        self.journal.passes += 1
        if planned.starts:
            assert planned.free_after is not None
            site.cluster.take_over(planned.free_after)
        replicas: dict[str, list[Start]] = {}
        for start in planned.starts:
            if start.job_id in site.asked:
                replicas.setdefault(site.asked[start.job_id][0], []).append(start)
            else:
                self._ends_when(site.start(start, now_s))
        for service, starts in replicas.items():
            site.add_replicas(service, starts, now_s)
        for preemption in planned.preemptions:
            for victim in preemption.victims:
                self._stop(victim, EndCause.PREEMPTED, preemption.for_job)
        for resize in planned.resizes:
            self._stop(resize.job_id, EndCause.RESIZED, "the planner")
        for release in planned.releases:
            site.release(site.live[release.job_id], release.workers, now_s)
            self._freed = True

    def _ends_when(self, live: Live) -> None:
        """When and how the attempt that has begun will end, unless it is asked to go before."""
        if live.serves:
            return
        assert isinstance(live.job.state, Running), live.job
        sim = self.journal.jobs[live.number].job
        after_s, what = live.left / len(live.job.state.workers), _ENDS
        limit_s = sim.spec.time_limit_s
        if limit_s is not None and limit_s < after_s:
            after_s, what = limit_s, _LIMIT
        if sim.fails_after_s is not None and not live.failed_once and sim.fails_after_s < after_s:
            after_s, what = sim.fails_after_s, _FAILS
        live.awaits = self._push(self.now_s + after_s, what, live)

    def _stop(self, job_id: str, cause: EndCause, by: str) -> None:
        live = self.site.live[job_id]
        checkpoint = live.job.spec.checkpoint
        after_s = 0.0
        if checkpoint is not None and not live.serves:
            after_s = min(self.journal.jobs[live.number].job.save_s, checkpoint.grace_s)
        self.site.ask_to_go(live, cause, by, self.now_s)
        live.awaits = self._push(self.now_s + after_s, _GOES, live)

    def _push(self, at_s: float, what: int, whose: Live | int, replicas: int = 0) -> int:
        self._order += 1
        heappush(self._heap, (at_s, what, self._order, whose, replicas))
        return self._order

    # ---- the end -------------------------------------------------------------------------------------------------

    def _say_reasons(self) -> None:
        """Why those that still wait do."""
        for live in self.site.live.values():
            record = None if live.serves else self.journal.jobs[live.number]
            if record is not None and record.became is Became.WAITING:
                kind = None if self._reasons is None else self._reasons.kind_of(live.job.id)
                record.reason = "not considered yet" if kind is None else kind.replace("_", " ")


def _is_old_news(event: _Event) -> bool:
    """Of an attempt that awaits something else by now, as it was asked to go before it ended, or nothing more."""
    whose = event[3]
    return isinstance(whose, Live) and whose.awaits != event[2]
