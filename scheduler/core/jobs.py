"""What a job is, and what it can be doing: the spec as submitted, the state as a type, and the job that holds both.

A state carries exactly what is true in it. `shown()` gives the seven words an operator sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, assert_never

from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand, Placement
from scheduler.core.quick import quick
from scheduler.core.reasons import Reason


class JobKind(StrEnum):
    TRAINING = "training"
    INFERENCE = "inference"
    BATCH = "batch"
    BENCHMARK = "benchmark"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """`path/to/file.py:Class`, served by node_agent.serving. `path` is relative to working_dir or absolute."""

    path: str
    class_name: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a job saves its work, and how long it may take to do so when asked to go.

    `signal` is the name of the one by which it is asked. `kill_wait_s` is what it has between SIGTERM and SIGKILL,
    within the grace.
    """

    dir: str
    grace_s: float
    signal: str = "SIGUSR1"
    kill_wait_s: float = 5.0


class Misfire(StrEnum):
    """What becomes of a recurring job's time that passed while nobody could submit it (the service was away)."""

    ONCE = "once"  # it is submitted once, late, however many times have passed
    SKIP = "skip"  # it is left out, and the next time is waited for


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When a job is submitted again and again: `cron` is an expression of five fields, in the time zone `zone`."""

    cron: str
    zone: str
    misfire: Misfire = Misfire.ONCE


@dataclass(frozen=True, slots=True)
class Probe:
    """How a node asks a replica whether it is well. `path` None: a connection is enough. `timeout_s`: within this it is
    to be ready, or to answer; `failures`: so many bad answers in a row end it (liveness alone)."""

    path: str | None
    interval_s: float
    timeout_s: float
    status: int = 200
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Serving:
    """What a replica is: the `port` that it listens on (None: the node chooses one), how it is asked whether it is
    well, and how the requests of a model become batches. None: as the node, or the model, has it."""

    port: int | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    batch_max: int | None = None
    batch_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Autoscale:
    """How a service is scaled by its load, see `core.autoscaling`: replicas that take `concurrency` requests at a time,
    none of them after `idle_s` without a request where its minimum is 0, fewer only after `down_after_s`."""

    idle_s: float = 600.0
    concurrency: int = 1
    down_after_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Canary:
    """How a new version of a service takes over: it is given these parts of the requests (per cent, rising to 100),
    each for `step_s` at least and until `min_requests` have been answered. It is given up where it is not ready, or
    its replicas for the next step are not, within `ready_within_s`."""

    steps: tuple[int, ...] = (100,)
    step_s: float = 60.0
    min_requests: int = 50
    ready_within_s: float = 600.0


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as its owner wrote it, validated. Times in seconds; `priority` is the class's number, higher first.

    Exactly one of `command` (argv) and `model` is set. `workers_min == workers_max` unless the job is elastic; for
    inference they count replicas. `time_limit_s` is None for inference alone. `array_size` is 0 for no array;
    `array_limit`: so many of its tasks may run at a time, None for as many as fit. `after` holds ids of jobs that must
    succeed first, `after_any` of jobs that must have ended, however they did. `tenant`, `priority_class` and `priority`
    come from the token's rights and the configuration, never from the job file alone. At most one of `deadline_after_s`
    (seconds from its submission) and `deadline_at_s` (epoch seconds) is set; `Job.deadline_s` is what they come to.
    `reservation` names the advance reservation in which alone it may run. `workers_min` is 0 for a service that may be
    scaled to nothing. With `schedule` it is no job itself but says what is submitted again and again.

    Of services alone: with `autoscale` their load says how many replicas they have. `hosts` are names under which the
    gateway knows them too. `deployed`: it is a version of a service (`core.rollout`), which takes over as `canary`
    says.
    """

    name: str
    tenant: str
    kind: JobKind
    priority_class: str
    priority: int
    command: tuple[str, ...] | None
    model: ModelRef | None
    workers_min: int
    workers_max: int
    alternatives: tuple[Demand, ...]
    time_limit_s: float | None
    retries: int = 0
    checkpoint: Checkpoint | None = None
    slo_p99_ms: float | None = None
    env: tuple[tuple[str, str], ...] = field(default=())
    working_dir: str | None = None
    array_size: int = 0
    array_limit: int | None = None
    after: tuple[str, ...] = field(default=())
    after_any: tuple[str, ...] = field(default=())
    deadline_after_s: float | None = None
    deadline_at_s: float | None = None
    constraints: Constraints = UNCONSTRAINED
    reservation: str | None = None
    schedule: Recurrence | None = None
    serving: Serving | None = None
    autoscale: Autoscale | None = None
    canary: Canary | None = None
    hosts: tuple[str, ...] = ()
    deployed: bool = False

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Jobs that must have ended first, each once."""
        return tuple(dict.fromkeys((*self.after, *self.after_any))) if self.after_any else self.after


# ---- why an attempt or a job ended -------------------------------------------------------------------------------


class EndCause(StrEnum):
    """Why an attempt ended. Only SUCCEEDED is a success; the words are shown to operators."""

    SUCCEEDED = "succeeded"
    EXIT_CODE = "exit code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    RESIZED = "resized"
    SITE_DOWN = "site taken down"
    REQUEUED = "requeued"
    DRAINED = "node drained"
    UNHEALTHY = "device unhealthy"
    NODE_LOST = "node lost"
    PREPARE_FAILED = "prepare failed"
    GANG_PEER = "gang peer ended"
    LEASE_LAPSED = "lease lapsed"
    UNKNOWN = "unknown"
    DEPENDENCY_FAILED = "dependency failed"


# Ends that are not the job's own fault: they do not use up its retries.
NOT_THE_JOBS_FAULT = frozenset(
    {
        EndCause.PREEMPTED,
        EndCause.RESIZED,
        EndCause.SITE_DOWN,
        EndCause.REQUEUED,
        EndCause.DRAINED,
        EndCause.UNHEALTHY,
        EndCause.NODE_LOST,
        EndCause.LEASE_LAPSED,
        EndCause.UNKNOWN,
    }
)


# ---- states ------------------------------------------------------------------------------------------------------


class WorkerPhase(StrEnum):
    ASSIGNED = "assigned"  # told (or about to be told) to its node
    PREPARED = "prepared"  # checked there, not started: waits for the rest of its gang
    RUNNING = "running"
    READY = "ready"  # a replica that answers
    EXITED = "exited"


@quick
@dataclass(frozen=True, slots=True)
class WorkerRun:
    """One worker of the current attempt. Replicas are restarted one by one, so each carries its own attempt number."""

    placement: Placement
    attempt: int
    phase: WorkerPhase = WorkerPhase.ASSIGNED
    address: str | None = None  # host:port, of a replica that is ready
    started_s: float | None = None
    exit_code: int | None = None  # negative: the signal's number; None: not ended, or unknown
    start_heard_s: float | None = None  # when the service heard that it had started, by its own clock
    replaces: int | None = None  # the replica that is to go when this one is ready: its node is drained
    unix_path: str | None = None  # a socket on its node on which it answers too, of a replica that is ready


@quick
@dataclass(frozen=True, slots=True)
class Pending:
    reason: Reason
    since_s: float
    not_before_s: float = 0.0
    kind: Literal["pending"] = "pending"


@quick
@dataclass(frozen=True, slots=True)
class Starting:
    """Devices are taken and the nodes were told; not every worker runs yet."""

    workers: tuple[WorkerRun, ...]
    since_s: float
    kind: Literal["starting"] = "starting"


@quick
@dataclass(frozen=True, slots=True)
class Running:
    workers: tuple[WorkerRun, ...]
    since_s: float
    kind: Literal["running"] = "running"


@quick
@dataclass(frozen=True, slots=True)
class Stopping:
    """Being asked to go: checkpoint, SIGTERM, SIGKILL. What it becomes when the last worker is gone depends on `cause`:
    PREEMPTED, RESIZED and the like requeue it, CANCELLED cancels, the rest fail or retry.

    `by` names the preemptor job, the operator, or the worker that brought the gang down.
    """

    workers: tuple[WorkerRun, ...]
    since_s: float
    cause: EndCause
    by: str
    detail: str = ""
    kind: Literal["stopping"] = "stopping"


@dataclass(frozen=True, slots=True)
class Succeeded:
    at_s: float
    kind: Literal["succeeded"] = "succeeded"


@dataclass(frozen=True, slots=True)
class Failed:
    at_s: float
    cause: EndCause
    detail: str  # a sentence for the operator: which worker, which node, what to do
    kind: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Cancelled:
    at_s: float
    by: str
    detail: str
    kind: Literal["cancelled"] = "cancelled"


JobState = Pending | Starting | Running | Stopping | Succeeded | Failed | Cancelled
LIVE_STATES = (Pending, Starting, Running, Stopping)
ON_NODES = (Starting, Running, Stopping)


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody wants a job not to start: who, why, and since when. An operator's is not a tenant's to release."""

    by: str
    reason: str
    at_s: float
    by_operator: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job. `id` is `N`, or `N.I` for task I of an array; `seq` is its place in submission order.

    `attempts` counts attempts so far (the newest attempt's number); `failures` counts those that used up a retry.
    `resume_from` is the checkpoint directory of the attempt to resume from, None before the first checkpoint.
    `preemptions` counts how often it had to make room for another job. `workers_wanted`: how many replicas a service
    was last scaled to; None: as many as its job file allows. `pinned`: a person said so, and its load changes nothing.
    `held`: while it waits it is not considered, whatever else
    it waits for.
    """

    id: str
    seq: int
    spec: JobSpec
    submitted_s: float
    state: JobState
    attempts: int = 0
    failures: int = 0
    resume_from: str | None = None
    array_index: int | None = None
    first_started_s: float | None = None
    preemptions: int = 0
    workers_wanted: int | None = None
    held: Hold | None = None
    pinned: bool = False

    @property
    def deadline_s(self) -> float | None:
        """Epoch seconds; None for a job without a deadline."""
        if self.spec.deadline_after_s is not None:
            return self.submitted_s + self.spec.deadline_after_s
        return self.spec.deadline_at_s


def shown(state: JobState) -> str:
    """The state's word for operators: pending, starting, running, preempting, succeeded, failed, cancelled."""
    match state:
        case Stopping(
            cause=EndCause.PREEMPTED | EndCause.RESIZED | EndCause.REQUEUED | EndCause.DRAINED | EndCause.UNHEALTHY
        ):
            return "preempting"
        case Stopping():
            return "running"
        case Pending() | Starting() | Running() | Succeeded() | Failed() | Cancelled():
            return state.kind
        case _:
            assert_never(state)
