"""What must hold, whatever happens: the site is looked at from outside, where the service cannot see.

The processes that really ran are written down as they start and end, and what was committed as it becomes durable; both
are compared with what was promised. A broken promise is a `Violation`, and ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node_agent.launcher.records import LaunchOrder
from node_agent.messages import LaunchSpec, RunKey
from scheduler.core.jobs import ON_NODES, Cancelled, Failed, Job, Succeeded
from scheduler.ports import Change
from scheduler.service.dispatch import is_service
from scheduler.simulation.faults.machine import Machine
from scheduler.simulation.faults.programs import SharedFiles
from scheduler.simulation.virtual_store import Kept

WHOLE_MILLI = 1000


class Violation(Exception):
    """`promise` is the short name of what was broken."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.text = text


@dataclass(slots=True)
class TrueRun:
    """A process that really ran. Times are true times; `exit_code` only where it went by itself."""

    key: RunKey
    spec: LaunchSpec
    pid: int
    began_s: float
    ended_s: float | None = None
    exit_code: int | None = None


class Truth:
    """Implements machine.Witness. Raises Violation at the moment at which a promise is broken."""

    def __init__(
        self,
        kept: Kept,
        files: SharedFiles,
        now_s: Callable[[], float],
        quotas: Mapping[str, tuple[int | None, int | None]],
    ) -> None:
        """`quotas`: by tenant, (thousandths of devices that it may hold, jobs that it may run)."""
        self._kept = kept
        self._files = files
        self._now_s = now_s
        self._quotas = quotas
        self.say: Callable[[str], None] = lambda text: None
        self.runs: list[TrueRun] = []
        self.acknowledged: dict[str, None] = {}
        """Ids of jobs, in the order in which they were acknowledged."""
        self._alive: dict[tuple[str, int], TrueRun] = {}
        self._started: set[RunKey] = set()
        self._ended: dict[str, Job] = {}
        self._partial_since_s: dict[tuple[str, int], float] = {}

    # ---- what really runs ------------------------------------------------------------------------------------------

    def alive(self) -> list[TrueRun]:
        return list(self._alive.values())

    def process_started(self, machine: Machine, pid: int, key: RunKey, spec: LaunchSpec, order: LaunchOrder) -> None:
        run = TrueRun(key, spec, pid, self._now_s())
        self.say(f"node {machine.name}: process of {_named(key)} starts on devices {spec.device_indices}")
        self.runs.append(run)
        self._alive[machine.name, pid] = run
        name = RunKey(key.job_id, key.attempt, key.worker, "")
        if name in self._started:
            raise Violation("runs_once", f"{_named(key)} was started twice")
        self._started.add(name)
        job = self._kept.jobs.get(key.job_id)
        if job is None or job.attempts < key.attempt:
            known = "no such job" if job is None else f"attempt {job.attempts}"
            raise Violation("committed_first", f"{_named(key)} runs, and the store knows of {known}")
        others = [each for each in self._alive.values() if each is not run and each.key.job_id == key.job_id]
        if spec.lease_bound:
            older = [each for each in others if each.key.attempt != key.attempt]
            if older:
                raise Violation("one_writer", f"{_named(key)} starts while {_named(older[0].key)} still runs")
        resumed = dict(order.env).get("SUANLI_RESUME_FROM")
        if resumed is not None and resumed not in self._files.whole:
            raise Violation("whole_checkpoint", f"{_named(key)} is to go on from {resumed}, which holds none")
        self._check_devices(machine.name, run)

    def _check_devices(self, node: str, newest: TrueRun) -> None:
        used: dict[int, int] = {}
        for run in self._alive.values():
            if run.key.node == node:
                for device in run.spec.device_indices:
                    used[device] = used.get(device, 0) + (run.spec.share_milli or WHOLE_MILLI)
        over = {device: milli for device, milli in used.items() if milli > WHOLE_MILLI}
        if over:
            there = ", ".join(_named(run.key) for run in self._alive.values() if run.key.node == node)
            raise Violation(
                "one_owner", f"devices {over} of {node} are given out twice as {_named(newest.key)} starts ({there})"
            )

    def process_ended(self, machine: Machine, pid: int, exit_code: int | None) -> None:
        run = self._alive.pop((machine.name, pid), None)
        if run is not None:
            self.say(f"node {machine.name}: process of {_named(run.key)} ends ({exit_code})")
            run.ended_s, run.exit_code = self._now_s(), exit_code

    def check_gangs(self, longest_s: float) -> None:
        """A gang whose workers do not all run is on its way up or down, and that takes not for ever."""
        now_s = self._now_s()
        running: dict[tuple[str, int], int] = {}
        for run in self._alive.values():
            if run.spec.world_size > 1:
                gang = (run.key.job_id, run.key.attempt)
                running[gang] = running.get(gang, 0) + 1
        sizes = {(run.key.job_id, run.key.attempt): run.spec.world_size for run in self._alive.values()}
        partial = {gang for gang, count in running.items() if count < sizes[gang]}
        self._partial_since_s = {gang: self._partial_since_s.get(gang, now_s) for gang in partial}
        for (job_id, attempt), since_s in self._partial_since_s.items():
            if now_s - since_s > longest_s:
                raise Violation(
                    "whole_gang", f"job {job_id} attempt {attempt} has run in part for {now_s - since_s:.0f} s"
                )

    # ---- what is committed -----------------------------------------------------------------------------------------

    def committed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            job = self._kept.jobs[change.job.id]
            before = self._ended.get(job.id)
            if before is not None and before != job:
                raise Violation("ends_once", f"job {job.id} had {before.state.kind} and is {job.state.kind} again")
            if isinstance(job.state, Succeeded | Failed | Cancelled):
                self._ended[job.id] = job
            if isinstance(job.state, ON_NODES) and not is_service(job):
                count = len(job.state.workers)
                if not job.spec.workers_min <= count <= job.spec.workers_max:
                    raise Violation("whole_gang", f"job {job.id} is {job.state.kind} with {count} workers")
        self._check_quotas()

    def _check_quotas(self) -> None:
        for tenant, (most_milli, most_jobs) in self._quotas.items():
            on_nodes = [
                job
                for job in self._kept.jobs.values()
                if job.spec.tenant == tenant and isinstance(job.state, ON_NODES) and job.state.workers
            ]
            if most_jobs is not None and len(on_nodes) > most_jobs:
                raise Violation("quota", f"tenant {tenant} runs {len(on_nodes)} jobs of {most_jobs}")
            held = sum(
                run.placement.share_milli or WHOLE_MILLI * len(run.placement.devices)
                for job in on_nodes
                if isinstance(job.state, ON_NODES)
                for run in job.state.workers
            )
            if most_milli is not None and held > most_milli:
                raise Violation("quota", f"tenant {tenant} holds {held} thousandths of devices of {most_milli}")

    def check_acknowledged(self) -> None:
        for job_id in self.acknowledged:
            if job_id not in self._kept.jobs:
                raise Violation("acknowledged", f"job {job_id} was acknowledged, and the store does not know it")


def _named(key: RunKey) -> str:
    return f"job {key.job_id} attempt {key.attempt} worker {key.worker} on {key.node}"
