"""What can happen to the service, and what follows from it: the events that `machine.step` takes and its Outcome.

An Outcome is not performed by who makes it: the loop commits `changes`, `results`, `drains` and the like first, and
only then sends `commands`, acknowledges events, publishes `routes` and answers whoever waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from node_agent.messages import Command, RunKey
from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.rollout import Deployed
from scheduler.core.usage_records import UsageEntry
from scheduler.errors import SuanliError
from scheduler.ports import (
    Change,
    Drain,
    HealthNotes,
    NodeDown,
    NodeUp,
    Reservation,
    Route,
    RunEvent,
    Schedule,
    ServedDay,
    Usage,
)
from scheduler.service.loads import LoadsReported

# ---- events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """Jobs that the store has taken. `ended` says of the jobs they wait for (`after`) and that have ended before:
    did they succeed? Those that are neither there nor alive are unknown, which only a damaged store can bring about.
    """

    jobs: tuple[Job, ...]
    ended: Mapping[str, bool] = field(default_factory=dict)
    kind: Literal["jobs_submitted"] = "jobs_submitted"


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Raises Conflict when the job has ended (its id is not among the live ones)."""

    job_id: str
    by: str
    reason: str
    kind: Literal["cancel_requested"] = "cancel_requested"


@dataclass(frozen=True, slots=True)
class CancelJobsRequested:
    """All of them in one step; those that have ended are passed over. `became` is for who asks: the step puts the
    others there as it leaves them, cancelled or being stopped.
    """

    job_ids: tuple[str, ...]
    by: str
    reason: str
    became: dict[str, Job] = field(default_factory=dict)
    kind: Literal["cancel_jobs_requested"] = "cancel_jobs_requested"


@dataclass(frozen=True, slots=True)
class HoldRequested:
    """These jobs are not to start until they are released. `became` and `refused` are for who asks: the step puts each
    job there as it leaves it, or why it is left as it was."""

    job_ids: tuple[str, ...]
    hold: Hold
    became: dict[str, Job] = field(default_factory=dict)
    refused: dict[str, SuanliError] = field(default_factory=dict)
    kind: Literal["hold_requested"] = "hold_requested"


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """`by_operator`: only then is a hold of an operator's released. Otherwise as HoldRequested."""

    job_ids: tuple[str, ...]
    by: str
    by_operator: bool
    became: dict[str, Job] = field(default_factory=dict)
    refused: dict[str, SuanliError] = field(default_factory=dict)
    kind: Literal["release_requested"] = "release_requested"


@dataclass(frozen=True, slots=True)
class RequeueRequested:
    """These jobs are to save their work, go, and wait again; with `hold` until they are released. Otherwise as
    HoldRequested."""

    job_ids: tuple[str, ...]
    by: str
    reason: str
    hold: Hold | None
    became: dict[str, Job] = field(default_factory=dict)
    refused: dict[str, SuanliError] = field(default_factory=dict)
    kind: Literal["requeue_requested"] = "requeue_requested"


@dataclass(frozen=True, slots=True)
class ScaleRequested:
    """A service is to have so many replicas, whatever its load; None: as its load says. Raises Conflict or BadInput,
    see `scaling.scale`."""

    job_id: str
    replicas: int | None
    by: str
    kind: Literal["scale_requested"] = "scale_requested"


@dataclass(frozen=True, slots=True)
class ServiceRollbackRequested:
    """`key`: tenant and name. Raises NotFound and Conflict, see `deployment_requests.roll_back`."""

    key: tuple[str, str]
    to: int | None
    by: str
    kind: Literal["service_rollback_requested"] = "service_rollback_requested"


@dataclass(frozen=True, slots=True)
class ServiceDeleteRequested:
    key: tuple[str, str]
    by: str
    kind: Literal["service_delete_requested"] = "service_delete_requested"


@dataclass(frozen=True, slots=True)
class ReserveRequested:
    """Raises Conflict where its name or its nodes are taken."""

    reservation: Reservation
    kind: Literal["reserve_requested"] = "reserve_requested"


@dataclass(frozen=True, slots=True)
class UnreserveRequested:
    name: str
    kind: Literal["unreserve_requested"] = "unreserve_requested"


@dataclass(frozen=True, slots=True)
class ScheduleRequested:
    """A job is to be submitted again and again. `next_s` of the schedule is still to be found. Raises as
    `recurring.schedule` says."""

    schedule: Schedule
    kind: Literal["schedule_requested"] = "schedule_requested"


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """`key`: tenant and name. Raises NotFound, Forbidden."""

    key: tuple[str, str]
    hold: Hold
    kind: Literal["pause_requested"] = "pause_requested"


@dataclass(frozen=True, slots=True)
class UnpauseRequested:
    key: tuple[str, str]
    by_operator: bool
    kind: Literal["unpause_requested"] = "unpause_requested"


@dataclass(frozen=True, slots=True)
class UnscheduleRequested:
    key: tuple[str, str]
    by_operator: bool
    kind: Literal["unschedule_requested"] = "unschedule_requested"


@dataclass(frozen=True, slots=True)
class ScheduleFired:
    """The store has taken what a schedule submitted for the time `due_s`: the first event after that."""

    key: tuple[str, str]
    due_s: float | None
    jobs: tuple[Job, ...]
    kind: Literal["schedule_fired"] = "schedule_fired"


@dataclass(frozen=True, slots=True)
class DrainRequested:
    drain: Drain
    kind: Literal["drain_requested"] = "drain_requested"


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    node: str
    kind: Literal["resume_requested"] = "resume_requested"


@dataclass(frozen=True, slots=True)
class Flag:
    """A device that was slow in the nights' measurements: `rule` as in health.rules, `text` the sentence."""

    device: str
    rule: str
    text: str
    since_s: float


@dataclass(frozen=True, slots=True)
class FlagsReported:
    """All that is flagged after the measurements `run`. `ignored` is for who asks: devices that no node has."""

    run: str
    flags: tuple[Flag, ...]
    ignored: list[str] = field(default_factory=list)
    kind: Literal["flags_reported"] = "flags_reported"


@dataclass(frozen=True, slots=True)
class CloseDownRequested:
    """The site is about to be taken down: start nothing more, let what runs save its work and go back to the queue."""

    by: str
    kind: Literal["close_down_requested"] = "close_down_requested"


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: timers that are due fire."""

    kind: Literal["tick"] = "tick"


@dataclass(frozen=True, slots=True)
class SupersededBy:
    """The store, or a node, obeys a service of this higher epoch: this one must not act any more."""

    epoch: int
    kind: Literal["superseded_by"] = "superseded_by"


Event = (
    JobsSubmitted
    | CancelRequested
    | CancelJobsRequested
    | HoldRequested
    | ReleaseRequested
    | RequeueRequested
    | ScaleRequested
    | ServiceRollbackRequested
    | ServiceDeleteRequested
    | LoadsReported
    | ReserveRequested
    | UnreserveRequested
    | ScheduleRequested
    | PauseRequested
    | UnpauseRequested
    | UnscheduleRequested
    | ScheduleFired
    | DrainRequested
    | ResumeRequested
    | FlagsReported
    | CloseDownRequested
    | NodeUp
    | NodeDown
    | RunEvent
    | SupersededBy
    | Tick
)

# ---- what follows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """The JSON text that a worker left."""

    job_id: str
    attempt: int
    worker: int
    text: str


@dataclass(frozen=True, slots=True)
class Undrain:
    node: str


@dataclass(frozen=True, slots=True)
class Unreserve:
    name: str


@dataclass(frozen=True, slots=True)
class Unschedule:
    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class Undeploy:
    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class Served:
    """How many requests services have answered on these days, so far."""

    days: tuple[ServedDay, ...]


@dataclass(frozen=True, slots=True)
class Firing:
    """`due` has its time now: its job is to be submitted, and its next time is `next_s`, both or neither."""

    due: Schedule
    next_s: float | None
    at_s: float


@dataclass(frozen=True, slots=True)
class CheckOrdered:
    """Checks of idle devices are to be submitted, by nobody but the service itself."""

    specs: tuple[JobSpec, ...]
    at_s: float


@dataclass(slots=True)
class Outcome:
    """Grows while events are stepped through; performed as a whole. `routes` is None when they did not change, `usage`
    and `served` when they need not be kept now."""

    changes: list[Change] = field(default_factory=list)
    commands: dict[str, list[Command]] = field(default_factory=dict)
    acks: dict[str, int] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    drains: list[Drain | Undrain] = field(default_factory=list)
    notes: dict[tuple[str, str], HealthNotes] = field(default_factory=dict)
    reservations: list[Reservation | Unreserve] = field(default_factory=list)
    schedules: list[Schedule | Unschedule | Firing] = field(default_factory=list)
    deployed: list[Deployed | Undeploy] = field(default_factory=list)
    checks: list[CheckOrdered] = field(default_factory=list)
    usage: Usage | None = None
    served: Served | None = None
    usage_records: list[UsageEntry] = field(default_factory=list)
    routes: tuple[Route, ...] | None = None

    def send(self, node: str, command: Command) -> None:
        """Commands to one node keep their order."""
        self.commands.setdefault(node, []).append(command)

    def unsay(self, node: str) -> None:
        """What was to be sent there was decided before the newest news of that node: that it went, or took stock of its
        runs without it. The comparison with its runs says again whatever is still to be done."""
        self.commands.pop(node, None)

    def note(self, notes: HealthNotes) -> None:
        """The newest under a key is what is kept of it."""
        self.notes[notes.key] = notes

    def ack(self, agent: str, seq: int) -> None:
        self.acks[agent] = max(seq, self.acks.get(agent, 0))

    def keep_result(self, key: RunKey, text: str) -> None:
        self.results.append(Result(key.job_id, key.attempt, key.worker, text))

    def must_be_kept(self) -> bool:
        """Is there anything to commit?"""
        rest = self.results or self.drains or self.reservations or self.schedules or self.deployed or self.checks
        return bool(self.changes or self.usage_records or self.notes or rest)
