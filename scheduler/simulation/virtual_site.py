"""A site in virtual time: what waits and runs, kept as the live service keeps it, and told to the planner the same way.

Jobs are `core.jobs.Job`s, moved by `core.transitions`, and what the planner is told of them are the service's own words
(`service.planner_words`): so a replay and the live service give the planner the same questions. What is left out is
what a node does between being told and having a process: an attempt runs from the moment it is placed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

from scheduler.core import transitions
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import Policy, Start
from scheduler.core.demand import WHOLE_DEVICE_MILLI, NodeFacts, Placement
from scheduler.core.jobs import EndCause, Job, Pending, Running, Stopping, WorkerPhase, WorkerRun
from scheduler.core.packing.shapes import Shape, ShapeHistory, TypicalShapes
from scheduler.core.queue import Queue
from scheduler.core.quick import replaced
from scheduler.core.quotas import submission_limit
from scheduler.core.reasons import Requeued
from scheduler.service.planner_words import (
    MOST_SHAPES,
    WORK_HALF_LIFE_S,
    nodes_beside,
    pending_job,
    pending_replica,
    replica_name,
    running_job,
)
from scheduler.simulation.asks import Ask, Asks
from scheduler.simulation.journal import Became, Journal, Preempted
from scheduler.simulation.tenant_time import Holds, TenantTimes

_EPSILON_S = 1e-9
_RUNNING = Became.RUNNING  # looked up once, as each start needs it


@dataclass(slots=True)
class Live:
    """A job that has not ended. `left`: worker-seconds of work still to do (of a service: nothing). `number`: in the
    workload, of jobs or of services. `since_s`: when its present attempt began. `awaits`: number of the event that
    will end it, in the replay's calendar; 0: none."""

    job: Job
    number: int
    ask: Ask
    left: float = 0.0
    since_s: float = 0.0
    awaits: int = 0
    milli: int = 0
    groups: dict[int, int] = field(default_factory=dict)
    """Thousandths held, by the group of nodes where."""
    failed_once: bool = False
    serves: bool = False


class VirtualSite:
    """`group_of`: the group by which a node's use is measured. Not thread-safe."""

    def __init__(
        self,
        nodes: Sequence[NodeFacts],
        policy: Policy,
        *,
        half_life_s: float,
        group_of: Callable[[NodeFacts], int],
        journal: Journal,
    ) -> None:
        self._cluster = ClusterState(nodes)
        self._gone: list[str] = []  # jobs whose devices are to be given back before anybody looks at the cluster
        self.queue = Queue()
        self.policy = policy
        self.journal = journal
        self.live: dict[str, Live] = {}
        self.asked: dict[str, tuple[str, int]] = {}
        """Single replicas in the queue: their name there -> (service, worker)."""
        self.needs_plan = False
        self._times = TenantTimes(half_life_s, self._holding_of, journal.tenants)
        self.asks = Asks(self._cluster, self._times.of)
        self._work = ShapeHistory(WORK_HALF_LIFE_S)
        self._seen: dict[Ask, int] = {}
        self._work_told_s: float | None = None
        self._seq = 0
        self._group = {facts.name: group_of(facts) for facts in nodes}

    @property
    def cluster(self) -> ClusterState:
        """As it is now."""
        if self._gone:
            self._cluster.give_back(*self._gone)
            self._gone.clear()
        return self._cluster

    # ---- time ----------------------------------------------------------------------------------------------------

    def settle(self, now_s: float) -> None:
        """The end: count what is not yet."""
        self._times.averages(now_s)

    def tell_usage(self, now_s: float) -> None:
        """Before a pass: whose turn it is."""
        averages = self._times.averages(now_s)
        self.queue.usage.clear()
        self.queue.usage.update(averages)

    def _holding_of(self, tenant: str, simulated: bool) -> Holds | None:
        held = self.queue.held
        share = held.share(tenant, simulated, self._cluster.totals)
        if share is None:
            return None
        return share, 0.0 if simulated else held.used_milli(tenant, simulated) / 1000

    def tell_work(self, now_s: float, every_s: float) -> None:
        """What is typical, as soon as anything is known and then now and again. What came since the last time counts as
        if it came now: hours, where the history forgets over days."""
        told_s = self._work_told_s
        if told_s is not None and self.cluster.shapes.shapes and now_s - told_s < every_s:
            return
        self._work_told_s = now_s
        seen: dict[Shape, int] = {}
        for ask, workers in self._seen.items():
            seen[ask.shape] = seen.get(ask.shape, 0) + workers
        for shape, workers in seen.items():
            self._work.saw(shape, now_s=now_s, workers=workers)
        self._seen.clear()
        typical = self._work.typical(now_s=now_s).shapes[:MOST_SHAPES]
        self.cluster.set_shapes(TypicalShapes.of_counts({each.shape: each.count for each in typical}))

    # ---- waiting -------------------------------------------------------------------------------------------------

    def refusal(self, ask: Ask) -> str | None:
        """Why the service would not take such a job, in its words; None: it is taken."""
        if ask.impossible is not None:
            return ask.impossible
        spec, asked = ask.spec, ask.milli
        limits = self.policy.tenant(spec.tenant)
        if limits.maximum_milli is not None and asked > limits.maximum_milli:
            return (
                f"needs {asked / 1000:g} devices at once, and tenant {spec.tenant} may hold at most "
                f"{limits.maximum_milli / 1000:g}"
            )
        if limits.max_queued_jobs is None and limits.max_queued_milli is None:
            return None
        waiting = self.queue.waiting
        refused = submission_limit(
            spec.tenant,
            limits,
            queued_jobs=waiting.queued_jobs(spec.tenant),
            queued_milli=waiting.queued_milli(spec.tenant, False),
            new_jobs=1,
            new_milli=asked,
        )
        return None if refused is None else f"tenant {spec.tenant} has as much waiting as its limits allow"

    def submit(self, live: Live, now_s: float) -> None:
        """A job or service that came."""
        self._seen[live.ask] = self._seen.get(live.ask, 0) + max(1, live.job.spec.workers_min)
        self.live[live.job.id] = live
        self._wait(live, now_s)

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _wait(self, live: Live, now_s: float) -> None:
        self.queue.submit(pending_job(live.job))
        self._times.waits(live.ask.waits_on, 1, now_s)
        self.needs_plan = True
        if not live.serves:
            self.journal.waits.append((now_s, 1, live.ask.milli))

    def _waits_no_more(self, live: Live, now_s: float) -> None:
        self.queue.withdraw(live.job.id)
        self._times.waits(live.ask.waits_on, -1, now_s)
        if not live.serves:
            self.journal.waits.append((now_s, -1, -live.ask.milli))

    # ---- running -------------------------------------------------------------------------------------------------

    def start(self, start: Start, now_s: float) -> Live:
        """The gang runs from now on. (What a pass starts is out of the free columns by then.)"""
        live = self.live[start.job_id]
        self._waits_no_more(live, now_s)
        live.job = job = transitions.began(live.job, start.placements, now_s)
        live.since_s = now_s
        self._times.holding_changes(live.ask.holds_on, now_s)
        self.cluster.enter(job.id, start.placements)
        self.queue.run(running_job(job))
        self._holds_more(live, start.placements, now_s)
        if live.serves:
            self._answers(live, now_s)
        else:
            record = self.journal.jobs[live.number]
            record.attempts += 1
            record.became = _RUNNING
            if record.first_start_s is None:
                record.first_start_s = now_s
            self.journal.runs.append((now_s, 1))
        return live

    def ask_to_go(self, live: Live, cause: EndCause, by: str, now_s: float) -> None:
        """It saves its work, if it can, and holds its devices until it `goes`."""
        if live.serves:
            self._forget_asked(live.job.id, ())
        live.job = transitions.stop(live.job, cause, by, "", now_s)
        self.queue.run(running_job(live.job))

    def goes(self, live: Live, now_s: float, *, asked_s: float) -> None:
        """It was asked to go at `asked_s`, has gone, and waits to go on."""
        state = live.job.state
        assert isinstance(state, Stopping), live.job
        preempted = state.cause is EndCause.PREEMPTED
        if not live.serves:
            lost_s = self._count_work(live, asked_s)
            if preempted:
                self.journal.jobs[live.number].preemptions += 1
                lost, saving = lost_s * live.milli / 1000, (now_s - asked_s) * live.milli / 1000
                name = live.job.spec.priority_class
                self.journal.preempted.append(Preempted(now_s, live.job.id, name, lost, saving))
            else:
                self.journal.resizes += 1
        elif preempted:
            self.journal.preempted.append(Preempted(now_s, live.job.id, live.job.spec.priority_class, 0.0, 0.0))
        self._requeue(live, now_s, preemptions=live.job.preemptions + preempted)

    def fails(self, live: Live, now_s: float) -> bool:
        """Its attempt failed. True: it is tried again, as it has retries."""
        live.failed_once = True
        self._count_work(live, now_s, saves=False)
        if live.job.failures >= live.job.spec.retries:
            self.ends(live, Became.FAILED, now_s)
            return False
        live.job = transitions.count_failure(live.job)
        self._requeue(live, now_s, preemptions=live.job.preemptions)
        return True

    def ends(self, live: Live, became: Became, now_s: float) -> None:
        """For good."""
        if isinstance(live.job.state, Pending):  # a service whose requests are over before it had a place
            self._waits_no_more(live, now_s)
        else:
            self._let_go(live, now_s)
        del self.live[live.job.id]
        if live.serves:
            self.journal.services[live.number].replicas.append((now_s, 0))
            self._forget_asked(live.job.id, ())
        else:
            record = self.journal.jobs[live.number]
            record.became, record.ended_s = became, now_s

    def _count_work(self, live: Live, until_s: float, *, saves: bool = True) -> float:
        """What the attempt did until then is done, but for what no save holds: returns that, in seconds."""
        sim = self.journal.jobs[live.number].job
        ran_s = until_s - live.since_s
        kept_s = 0.0
        checkpoint = live.job.spec.checkpoint
        if checkpoint is not None:
            if saves and sim.save_s <= checkpoint.grace_s:
                kept_s = ran_s
            elif sim.checkpoint_every_s is not None:
                kept_s = ran_s // sim.checkpoint_every_s * sim.checkpoint_every_s
        assert isinstance(live.job.state, Running | Stopping)
        live.left = max(_EPSILON_S, live.left - kept_s * len(live.job.state.workers))
        return ran_s - kept_s

    def _requeue(self, live: Live, now_s: float, *, preemptions: int) -> None:
        self._let_go(live, now_s)
        live.job = replaced(transitions.requeue(live.job, Requeued(""), now_s), preemptions=preemptions)
        if live.serves:
            self.journal.services[live.number].replicas.append((now_s, 0))
        else:
            self.journal.jobs[live.number].became = Became.WAITING
        self._wait(live, now_s)

    # ---- what is held --------------------------------------------------------------------------------------------

    def _holds_more(self, live: Live, placements: Sequence[Placement], now_s: float) -> None:
        """These beside what it holds."""
        held, groups = self.journal.held, live.groups
        for place in placements:
            milli, group = _milli(place), self._group[place.node]
            held.append((now_s, milli, group))
            groups[group] = groups.get(group, 0) + milli
            live.milli += milli

    def _holds_less(self, live: Live, placements: Sequence[Placement], now_s: float) -> None:
        """Without these, which it held."""
        held, groups = self.journal.held, live.groups
        for place in placements:
            milli, group = _milli(place), self._group[place.node]
            held.append((now_s, -milli, group))
            groups[group] -= milli
            live.milli -= milli

    def _holds_nothing(self, live: Live, now_s: float) -> None:
        held = self.journal.held
        for group, milli in live.groups.items():
            if milli:
                held.append((now_s, -milli, group))
        live.groups.clear()
        live.milli = 0

    def _let_go(self, live: Live, now_s: float) -> None:
        state = live.job.state
        assert isinstance(state, Running | Stopping), live.job
        if not live.serves:
            self.journal.runs.append((now_s, -1))
            self.journal.jobs[live.number].device_s += (now_s - live.since_s) * live.milli / 1000
        self._times.holding_changes(live.ask.holds_on, now_s)
        self._gone.append(live.job.id)
        self.queue.end(live.job.id)
        self._holds_nothing(live, now_s)
        self.needs_plan = True

    # ---- services ------------------------------------------------------------------------------------------------

    def _answers(self, live: Live, now_s: float) -> None:
        state = live.job.state
        assert isinstance(state, Running), live.job
        self.journal.services[live.number].replicas.append((now_s, len(state.workers)))

    def scale(self, live: Live, replicas: int) -> None:
        """So many replicas are wanted. Those that are missing are asked for one by one, as the service does."""
        live.job = replaced(live.job, workers_wanted=replicas)
        if isinstance(live.job.state, Running):
            self.queue.run(running_job(live.job))
            self._ask_replicas(live)
        elif not isinstance(live.job.state, Stopping):
            self.queue.submit(pending_job(live.job))
        self.needs_plan = True

    def _ask_replicas(self, live: Live) -> None:
        job = live.job
        assert isinstance(job.state, Running), job
        missing = (job.workers_wanted or 0) - len(job.state.workers)
        if missing <= 0:
            self._forget_asked(job.id, ())
            return
        there = {run.placement.worker for run in job.state.workers}
        beside = nodes_beside(job.state.workers)
        wanted = islice((number for number in range(job.spec.workers_max) if number not in there), missing)
        names = {replica_name(job.id, worker): worker for worker in wanted}
        self._forget_asked(job.id, names)
        for name, worker in names.items():
            self.asked[name] = (job.id, worker)
            self.queue.submit(pending_replica(job, worker, beside))
            self.needs_plan = True

    def _forget_asked(self, service: str, but: Collection[str]) -> None:
        for name in [name for name, (of, _) in self.asked.items() if of == service and name not in but]:
            del self.asked[name]
            self.queue.withdraw(name)

    def add_replicas(self, service: str, starts: Sequence[Start], now_s: float) -> None:
        """Replicas that the service asked for, and that have a place now: all of a pass at once."""
        live = self.live[service]
        job, state = live.job, live.job.state
        assert isinstance(state, Running), job
        runs = []
        for number, start in enumerate(starts, job.attempts + 1):
            _, worker = self.asked.pop(start.job_id)
            self.queue.withdraw(start.job_id)
            (place,) = start.placements
            runs.append(WorkerRun(replaced(place, worker=worker), number, WorkerPhase.RUNNING, started_s=now_s))
        self._times.holding_changes(live.ask.holds_on, now_s)
        self.cluster.enter(service, [run.placement for run in runs])
        self._holds_more(live, [run.placement for run in runs], now_s)
        live.job = replaced(job, attempts=job.attempts + len(runs) - 1)
        self._replicas_are(live, (*state.workers, *runs), now_s)

    def release(self, live: Live, workers: Sequence[int], now_s: float) -> None:
        """These replicas go at once."""
        state = live.job.state
        assert isinstance(state, Running), live.job
        self._times.holding_changes(live.ask.holds_on, now_s)
        self.cluster.give_back_workers(live.job.id, workers)
        gone = [run.placement for run in state.workers if run.placement.worker in workers]
        self._holds_less(live, gone, now_s)
        self._replicas_are(live, tuple([run for run in state.workers if run.placement.worker not in workers]), now_s)

    def _replicas_are(self, live: Live, workers: tuple[WorkerRun, ...], now_s: float) -> None:
        state = live.job.state
        assert isinstance(state, Running), live.job
        live.job = replaced(live.job, state=Running(workers, state.since_s), attempts=live.job.attempts + 1)
        if workers:
            self.queue.run(running_job(live.job))
        else:
            self.queue.end(live.job.id)
        self._answers(live, now_s)
        self._ask_replicas(live)
        self.needs_plan = True


def _milli(place: Placement) -> int:
    return place.share_milli or WHOLE_DEVICE_MILLI * len(place.devices)
