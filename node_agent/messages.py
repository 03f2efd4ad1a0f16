"""What the service and a node's agent say to each other: frozen dataclasses, and nothing of either side's insides.

The service sends commands, the agent answers with events. Every command carries the service's `epoch`; agent and
launcher refuse an epoch lower than the highest they have seen (`Refused`), so that a service that was replaced cannot
act any more. Events carry a number that grows by one on each agent; the service acknowledges by asking for what comes
after the last number that it has committed, so an event may come twice but is never lost while the agent lives.

A worker's run is named by (job_id, attempt, worker). Times are epoch seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from node_agent.health.verdicts import Finding

# What a job is asked to save with, and how long it has between SIGTERM and SIGKILL, where its file says nothing.
CHECKPOINT_SIGNAL = "SIGUSR1"
KILL_WAIT_S = 5.0
# For so long a run's logs are kept after its end, where the site says nothing.
LOG_KEEP_S = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class RunKey:
    """Names one process run: worker `worker` of attempt `attempt` of job `job_id`, on node `node`."""

    job_id: str
    attempt: int
    worker: int
    node: str


# ---- service -> agent --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """How a replica is asked whether it is well: GET `path` (None: a connection alone), every `interval_s`; the good
    answer is `status`. Ready: it must be so within `timeout_s` of its start. Alive: each answer must come within
    `timeout_s`, and after `failures` bad ones in a row the replica is ended.
    """

    path: str | None = None
    interval_s: float = 1.0
    timeout_s: float = 600.0
    status: int = 200
    failures: int = 3


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """What a replica is, beyond any other run. `port` None: one that the node chooses. `batch_*` and `slo_ms` are for
    node_agent.serving; None: its own defaults, or the model's. `liveness` of a model: its `timeout_s` is the longest
    that one turn of the model may take.
    """

    port: int | None = None
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None
    batch_max: int | None = None
    batch_wait_s: float | None = None
    slo_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything a node needs to start one worker.

    `argv` is what to run (never a shell string); for a served model it is None and `model_path`/`model_class` say what
    node_agent.serving is to load. `env` is the job's own environment: nothing of the agent's is inherited except PATH,
    LANG, HOME and TZ. `device_indices` are positions in the node's device list; the agent turns them into the vendor's
    visibility variable. `lease_bound` is True for training, batch and benchmark jobs, which stop when the lease lapses.

    `unix_user` is the account that the tenant's processes run as where the agent runs as root; None: the agent's own.
    `checkpoint_signal` is the name of the signal by which the job is asked to save. Of each of the run's two logs at
    most about `log_cap_bytes` are kept (0: all), for `log_keep_s` after its end.
    """

    argv: tuple[str, ...] | None
    model_path: str | None
    model_class: str | None
    env: tuple[tuple[str, str], ...]
    working_dir: str | None
    checkpoint_dir: str | None
    resume_from: str | None
    device_indices: tuple[int, ...]
    share_milli: int
    cpus_milli: int
    memory_bytes: int
    world_size: int
    grace_s: float
    lease_bound: bool
    serves: bool
    job_name: str
    tenant: str
    kind: str
    unix_user: str | None = None
    checkpoint_signal: str = CHECKPOINT_SIGNAL
    log_cap_bytes: int = 0
    log_keep_s: float = LOG_KEEP_S
    serving: ServingSpec | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Check that the worker could start (command, working_dir, checkpoint dir, model class) and reserve its ports.

    Answered by Prepared or PrepareFailed. `release=True` starts it at once when the check passes (a job of one worker),
    which is answered by Started.
    """

    epoch: int
    key: RunKey
    spec: LaunchSpec
    release: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Start a prepared worker. `master_addr`/`master_port` are worker 0's, for torch.distributed."""

    epoch: int
    key: RunKey
    master_addr: str
    master_port: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a run. With `checkpoint=True`: `checkpoint_signal` asks; SIGTERM follows its acknowledgement, or comes
    `kill_wait_s` before the end of `grace_s`; SIGKILL `kill_wait_s` after SIGTERM, and never after `grace_s`.

    Without: SIGTERM, then SIGKILL after `grace_s`. A run that was only prepared is forgotten. Always ends in Exited.
    """

    epoch: int
    key: RunKey
    checkpoint: bool
    grace_s: float
    cause: str
    checkpoint_signal: str = CHECKPOINT_SIGNAL
    kill_wait_s: float = KILL_WAIT_S


@dataclass(frozen=True, slots=True)
class RenewLease:
    """The service lives: lease-bound runs may go on until `lease_s` after the node's clock stood at `stamp_s`.

    `stamp_s` is what the service last heard of that clock (`AgentHello.clock_s`, `EventBatch.clock_s`), filled in by
    who carries the command out. A renewal that was long on its way therefore extends nothing beyond what the service,
    which counts from when it sent it, believes.
    """

    epoch: int
    lease_s: float
    stamp_s: float | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """The service has committed this run's end: the agent and launcher may drop their record of it."""

    epoch: int
    key: RunKey


@dataclass(frozen=True, slots=True)
class Mended:
    """An operator says that what was found wrong on this node is mended: nothing of it is held against it any more."""

    epoch: int
    node: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What others have found of this node's devices: all that `source` (see health.rules.SOURCES) holds against it now.

    The agent keeps it and tells it with its own findings, so that it outlives the service.
    """

    epoch: int
    node: str
    source: str
    findings: tuple[Finding, ...]


Command = Prepare | Release | Stop | RenewLease | Forget | Mended | Noted
KEYLESS = (RenewLease, Mended, Noted)
"""Commands that are about no run."""


# ---- agent -> service --------------------------------------------------------------------------------------------


NODES_FAULT = "node"


@dataclass(frozen=True, slots=True)
class Prepared:
    key: RunKey
    address: str
    master_port: int  # a port free at this moment on this node, for worker 0 of a gang
    kind: Literal["prepared"] = "prepared"


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """`field` is the job-file field at fault (command, working_dir, checkpoint.dir, model, resources), or NODES_FAULT
    when the node could not find out or does not have (any more) what it said it has; `detail` is a sentence.
    """

    key: RunKey
    field: str
    detail: str
    kind: Literal["prepare_failed"] = "prepare_failed"


@dataclass(frozen=True, slots=True)
class Started:
    key: RunKey
    pid: int
    at_s: float
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Ready:
    """A replica answers at `address` (host:port), and on the socket `unix_path` of its node where it says so."""

    key: RunKey
    address: str
    at_s: float
    unix_path: str | None = None
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """The run acknowledged a checkpoint that was asked for (it touched SUANLI_CHECKPOINT_ACK)."""

    key: RunKey
    at_s: float
    kind: Literal["checkpointed"] = "checkpointed"


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What a run made its whole devices do, all together (memory: the one that held most), over `metered_s`.

    None: it could not be read. `joules_at_least`: a counter was set back meanwhile. See node_agent/metering.py.
    """

    devices: int
    metered_s: float
    joules: float | None
    joules_at_least: bool
    mean_watts: float | None
    peak_memory_bytes: float | None
    mean_utilisation_percent: float | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Exited:
    """The run is over. `how` says how it is known:

    - "exit": `code` is the exit code; 126 without a Started: the command could not be executed;
    - "signal": `code` is the signal's number;
    - "out_of_memory": killed for memory (by the kernel or by the agent's watcher); "lease": stopped by the launcher;
    - "unknown": nobody saw the end (`code` is None). Never guessed.

    `asked` is the cause of the Stop that led here, if one did. `detail` is a sentence with the tail of stderr.
    `result` is the JSON text that the run left in SUANLI_RESULT_FILE (at most 256 KiB), if any.
    """

    key: RunKey
    how: Literal["exit", "signal", "out_of_memory", "lease", "unknown", "never_started"]
    code: int | None
    asked: str | None
    detail: str
    at_s: float
    result: str | None = None
    checkpoint_dir: str | None = None  # this attempt's checkpoint directory, when something was saved in it
    started_s: float | None = None  # when its process began, by the clock of `at_s`; None: no process is known
    kind: Literal["exited"] = "exited"
    use: DeviceUse | None = None  # of its devices, where they were metered


@dataclass(frozen=True, slots=True)
class Refused:
    """A command carried an epoch lower than `epoch`, the highest seen here."""

    key: RunKey | None
    epoch: int
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """What is found wrong on a node has changed: all of it as it is now. Told again in NodeReport."""

    node: str
    findings: tuple[Finding, ...]
    at_s: float
    key: None = None
    kind: Literal["health_changed"] = "health_changed"


Event = Prepared | PrepareFailed | Started | Ready | Checkpointed | Exited | Refused | HealthChanged


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Answer of an agent's long poll: events in order. `incarnation` changes when the agent lost its event numbers.

    `session` is the one that the last `hello` opened, `heard` the number of the last batch of commands taken in it:
    what was sent and stays unheard is found out by another `hello`. `clock_s` is the node's clock (CLOCK_BOOTTIME) as
    it answered.
    """

    incarnation: str
    events: tuple[NumberedEvent, ...]
    session: int = 0
    heard: int = 0
    clock_s: float = 0.0


# ---- reports -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """`island` names the devices that this one reaches over NVLink or the like; `mig_profile` is set for an instance of
    a partitioned card. None: not known, or none.
    """

    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool
    island: str | None = None
    mig_profile: str | None = None
    labels: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node as its agent sees it. `notes` are sentences for `suanli nodes` (single-user mode, no cgroup, ...).

    `shares` says what holds a job to its share of a device: an MPS daemon, or nothing. `findings`: what is wrong
    with it and its devices.
    """

    name: str
    site: str
    address: str
    devices: tuple[DeviceReport, ...]
    cpus_milli: int
    memory_bytes: int
    simulated: bool
    labels: tuple[tuple[str, str], ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    rack: str | None = None
    shares: Literal["mps", "advisory"] = "advisory"
    findings: tuple[Finding, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run that an agent knows of, for a service that restarts: what it did last. `started_s`: as in Exited.
    `ran_s`: for how long it has run, by a clock that nobody can set.
    """

    key: RunKey
    phase: Literal["prepared", "running", "ready", "stopping", "exited"]
    pid: int | None
    address: str | None
    exited: Exited | None
    started_s: float | None = None
    ran_s: float | None = None
    unix_path: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """Where an agent takes commands and polls beside Ray's calls, and the key that both show (see node_agent.lane)."""

    host: str
    port: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgentHello:
    """An agent's answer to a service that (re)connects. One agent process may stand for several (simulated) nodes.

    It opens `session`: from the moment at which `runs` was taken stock of, commands of any other session are not taken,
    so nothing that was sent before can change what is told here. `clock_s`: as in EventBatch.
    """

    incarnation: str
    pid: int
    launcher_pid: int
    nodes: tuple[NodeReport, ...]
    runs: tuple[RunReport, ...]
    last_seq: int
    session: int = 0
    clock_s: float = 0.0
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a worker's log from `offset`; `end` is True when the run is over and nothing follows.

    `skipped`: so many bytes after `offset` were not kept, for the log had grown over its cap; `data` follows them.
    """

    data: bytes
    next_offset: int
    end: bool
    skipped: int = 0
