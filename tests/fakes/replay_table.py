"""A workload and a cluster in one chain of calls, for replays that read like tables:

replaying(nodes=2, devices=4).job(at=0, lasts=100, devices=4).job(at=10, lasts=50, devices=8).run()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scheduler.core.decisions import Policy
from scheduler.core.demand import Demand, NodeFacts
from scheduler.core.jobs import Checkpoint, JobKind, JobSpec, Running
from scheduler.simulation.journal import JobRecord, Journal
from scheduler.simulation.measures import Group, Measured, measured
from scheduler.simulation.replay import Replay, ReplaySettings
from scheduler.simulation.virtual_site import Live
from scheduler.simulation.workload import RequestTrace, SimJob, SimService, Workload
from tests.fakes.cluster_table import node_facts

PRIORITIES = {"urgent": 90, "normal": 40, "best-effort": 0}


@dataclass
class Replayed:
    """`placed`: (time, job, attempt, nodes in order) of every start, in the order of starts."""

    journal: Journal
    figures: dict[str, Any]
    replay: Replay
    placed: list[tuple[float, str, int, tuple[str, ...]]]

    def job(self, number: int) -> JobRecord:
        return self.journal.jobs[number]

    def starts(self) -> list[float | None]:
        return [record.first_start_s for record in self.journal.jobs]

    def ends(self) -> list[float | None]:
        return [record.ended_s for record in self.journal.jobs]

    def words(self) -> str:
        return " ".join(record.became.value for record in self.journal.jobs)


@dataclass(slots=True)
class Watched(Replay):
    """Notes where what starts stands."""

    placed: list[tuple[float, str, int, tuple[str, ...]]] = field(default_factory=list)

    def _ends_when(self, live: Live) -> None:
        Replay._ends_when(self, live)
        state = live.job.state
        assert isinstance(state, Running), live.job
        nodes = tuple(sorted(run.placement.node for run in state.workers))
        self.placed.append((self.now_s, live.job.id, live.job.attempts, nodes))


@dataclass
class ReplayTable:
    nodes: list[NodeFacts]
    groups: list[Group]
    jobs: list[SimJob] = field(default_factory=list)
    services: list[SimService] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)
    settings: ReplaySettings = field(default_factory=ReplaySettings)

    def job(
        self,
        at: float = 0.0,
        lasts: float = 100.0,
        *,
        devices: int = 1,
        share: float = 0.0,
        workers: int | tuple[int, int] = 1,
        name: str = "normal",
        tenant: str = "t",
        limit: float | None = None,
        saves: bool = False,
        grace: float = 30.0,
        every: float | None = None,
        save: float = 0.0,
        fails: float | None = None,
        retries: int = 0,
    ) -> ReplayTable:
        """`name` is of a class: urgent, normal, best-effort."""
        least, most = (workers, workers) if isinstance(workers, int) else workers
        spec = JobSpec(
            name=f"job-{len(self.jobs)}",
            tenant=tenant,
            kind=JobKind.TRAINING,
            priority_class=name,
            priority=PRIORITIES[name],
            command=("true",),
            model=None,
            workers_min=least,
            workers_max=most,
            alternatives=(Demand(devices=0 if share else devices, share_milli=round(share * 1000)),),
            time_limit_s=10 * lasts if limit is None else limit,
            checkpoint=Checkpoint("/ck", grace) if saves else None,
            retries=retries,
        )
        self.jobs.append(SimJob(spec, at, lasts, every, save, fails))
        return self

    def service(
        self,
        *rates: float,
        step: float = 100.0,
        replicas: tuple[int, int] = (1, 8),
        takes: float = 0.1,
        slo: float = 200,
    ) -> ReplayTable:
        """A request rate for each step."""
        spec = JobSpec(
            name="svc",
            tenant="t",
            kind=JobKind.INFERENCE,
            priority_class="urgent",
            priority=PRIORITIES["urgent"],
            command=("true",),
            model=None,
            workers_min=replicas[0],
            workers_max=replicas[1],
            alternatives=(Demand(devices=1),),
            time_limit_s=None,
            slo_p99_ms=slo,
        )
        trace = RequestTrace(tuple(i * step for i in range(len(rates))), rates, len(rates) * step)
        self.services.append(SimService(spec, trace, takes, 0.5))
        return self

    def run(self, progress: Callable[[float, int], None] = lambda now_s, ended: None) -> Replayed:
        jobs = tuple(sorted(self.jobs, key=lambda job: job.submit_s))
        span_s = max([job.submit_s for job in jobs] + [service.requests.end_s for service in self.services])
        workload = Workload("table", jobs, tuple(self.services), span_s)
        replay = Watched(self.nodes, self.policy, workload, lambda facts: 0, self.settings, progress=progress)
        journal = replay.run()
        run = Measured(journal, self.groups, self.policy, self.services, span_s, tuple(PRIORITIES))
        return Replayed(journal, dict(measured(run)), replay, replay.placed)


def replaying(
    nodes: int = 1, devices: int = 4, *, busy_watts: float | None = None, idle_watts: float | None = None, **policy: Any
) -> ReplayTable:
    facts = [node_facts(f"n{i}", devices) for i in range(nodes)]
    group = Group("north", "H100 SXM", nodes * devices, busy_watts, idle_watts)
    return ReplayTable(facts, [group], policy=Policy(**policy))
