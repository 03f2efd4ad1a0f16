"""What is done to a simulated site: a setup, and steps at times. A story is all there is to chance in a run.

The same story gives the same run, so a failing one can be shortened step by step and told to people. How the network
behaves otherwise is drawn from the setup's seed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Direction = Literal["to", "from", "both"]
Tampering = Literal["lose", "delay", "double"]
Nonsense = Literal["never_fits", "foreign_tenant", "past_deadline", "unknown_dependency", "unknown_job", "beyond_quota"]

# ---- what people do ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """A job: `workers` of `devices` (or of `share_milli` of one device) each, which works for `work_s` and then exits
    with 0, but in its first `fails` attempts with 1. `saves_every_s` None: it keeps no checkpoint. `save_s`: how long
    one takes. `stubborn`: SIGTERM does not end it; `leaves_with`: what a job that saves exits with when it is asked to
    go. `after`: it waits for the job that was acknowledged so many before it; 0: for none.
    """

    workers: int = 1
    workers_max: int = 0
    devices: int = 1
    share_milli: int = 0
    work_s: float = 30.0
    fails: int = 0
    retries: int = 0
    saves_every_s: float | None = None
    save_s: float = 1.0
    grace_s: float = 10.0
    stubborn: bool = False
    leaves_with: int = 1
    priority_class: str = "normal"
    tenant: str = "studio"
    time_limit_s: float = 600.0
    array: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Serve:
    """A service of so many replicas, each ready `ready_s` after its start and over `lasts_s` after it, if ever."""

    replicas: int = 1
    replicas_max: int = 2
    share_milli: int = 500
    ready_s: float = 2.0
    lasts_s: float | None = None
    priority_class: str = "normal"
    tenant: str = "studio"


@dataclass(frozen=True, slots=True)
class Deploy:
    """The next version of service `svc-NUMBER`: so much of its answers are errors, and it takes over in such steps."""

    number: int
    errors_milli: int = 0
    replicas: int = 1
    replicas_max: int = 2
    steps: tuple[int, ...] = (50, 100)
    step_s: float = 5.0


@dataclass(frozen=True, slots=True)
class GoBack:
    """That service, to the version before."""

    number: int


@dataclass(frozen=True, slots=True)
class Undeploy:
    number: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nobody asks that service for so long."""

    number: int
    for_s: float


@dataclass(frozen=True, slots=True)
class SubmitNonsense:
    kind: Nonsense


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job that was acknowledged so many before the newest."""

    back: int


@dataclass(frozen=True, slots=True)
class Scale:
    back: int
    replicas: int


@dataclass(frozen=True, slots=True)
class DrainNode:
    node: str
    for_s: float


# ---- what breaks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KillService:
    """kill -9 at the `point`-th next place where it could strike: around each write to the store, before each command,
    acknowledgement and table of routes. Another one starts `down_s` later."""

    point: int
    down_s: float


@dataclass(frozen=True, slots=True)
class FreezeService:
    """It stops for `for_s` (SIGSTOP, a stuck machine), and another one is started after `other_after_s`. When it goes
    on it does not know of the other."""

    for_s: float
    other_after_s: float


@dataclass(frozen=True, slots=True)
class RefuseWrites:
    """The store takes nothing for `for_s`."""

    for_s: float


@dataclass(frozen=True, slots=True)
class FailWrites:
    """The next `count` writes fail, each alone."""

    count: int


@dataclass(frozen=True, slots=True)
class CrashAgent:
    node: str


@dataclass(frozen=True, slots=True)
class CrashLauncher:
    node: str


@dataclass(frozen=True, slots=True)
class KillNode:
    """The power goes: every process there is gone, and of what was not synced to the disk `torn_bytes` survive."""

    node: str
    down_s: float
    torn_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CutOff:
    """No message passes in this direction; the jobs there go on. `agent_dies`: Ray, which believed the node dead, has
    ended the agent by the time it is back."""

    node: str
    for_s: float
    direction: Direction = "both"
    agent_dies: bool = False


@dataclass(frozen=True, slots=True)
class Tamper:
    """With the next `count` messages of that direction."""

    node: str
    direction: Direction
    how: Tampering
    count: int = 1
    by_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Weather:
    """For a while each message is lost, delayed or doubled with this chance."""

    for_s: float
    lose: float
    delay: float
    double: float
    by_s: float = 3.0


@dataclass(frozen=True, slots=True)
class JumpClock:
    """Somebody sets the wall clock of `host` (a node, or "head")."""

    host: str
    by_s: float


@dataclass(frozen=True, slots=True)
class BreakDevice:
    """Its node does not list it any more, and what uses it is killed; mended after `for_s`."""

    node: str
    device: int
    for_s: float


@dataclass(frozen=True, slots=True)
class SilenceGateway:
    """It serves on, and what it reports does not arrive."""

    for_s: float


@dataclass(frozen=True, slots=True)
class RepeatExit:
    """The service hears of the newest ends again, `later_s` later, as if for the first time."""

    count: int
    later_s: float


What = (
    Submit
    | Serve
    | SubmitNonsense
    | Cancel
    | Scale
    | DrainNode
    | KillService
    | FreezeService
    | RefuseWrites
    | FailWrites
    | CrashAgent
    | CrashLauncher
    | KillNode
    | CutOff
    | Tamper
    | Weather
    | JumpClock
    | BreakDevice
    | RepeatExit
    | Deploy
    | GoBack
    | Undeploy
    | Quiet
    | SilenceGateway
)


@dataclass(frozen=True, slots=True)
class Step:
    """`number` is its place in the whole story of its seed, which it keeps when the story is shortened. `at_s` counts
    from the beginning."""

    number: int
    at_s: float
    what: What


@dataclass(frozen=True, slots=True)
class Setup:
    """`devices` of each node, n1.. in order."""

    seed: int
    devices: tuple[int, ...]
    lease_s: float
    quota_studio: int | None = None
    limit_studio_jobs: int | None = None
    faults_until_s: float = 300.0
    tells_health: bool = False
    """A device that breaks stays listed, and its agent says at once that it is lost; else it is gone from the list."""

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"n{i + 1}" for i in range(len(self.devices)))


@dataclass(frozen=True, slots=True)
class Story:
    setup: Setup
    steps: tuple[Step, ...]


def told(what: What) -> str:
    """`cut_off node=n1 for_s=20.0`: its name and what differs from the defaults."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(what).__name__).lstrip("_")
    parts = [name]
    for each in fields(what):
        value = getattr(what, each.name)
        if value != each.default:
            parts.append(f"{each.name}={value}")
    return " ".join(parts)
