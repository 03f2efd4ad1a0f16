"""What ran where for how long: the records that a bill is made of, and how they are summed. Pure.

The rules:

- One record for each run (job, attempt, worker). A later, better account of the same run replaces it, so no second is
  counted twice; which of two is the better one, `accounted` decides.
- `from_s` and `to_s` are the start and the end of the run's process, by its node's own clock; `end` is then "seen".
  A run that never had a process has no record.
- Where nobody saw the end (the node was lost; nobody knows how it ended), `to_s` is the last moment at which the node
  was heard of while the run was believed alive, never later than the truth, and `end` is "unseen". That moment is by
  the service's clock, and the two clocks may differ: so what is counted from `from_s` on is the time that passed, by
  the service's clock, between its hearing of the start and its last hearing of the node.
- `from_s` <= `to_s`, always.
- What the run made its devices do (`use`) is told by its node, once, when it has ended. A later account that does not
  know it any more leaves it as it was.

What runs still has no record. Simulated devices are summed apart: no figure holds both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

WHOLE_DEVICE_MILLI = 1000


@dataclass(frozen=True, slots=True)
class MeteredUse:
    """What a run made its whole devices do, all together (memory: the one that held most), over `metered_s` of its
    time. None: it could not be read. `joules_at_least`: a counter was set back meanwhile, so it was that or more.
    `simulated`: a simulated device made the readings up."""

    devices: int
    metered_s: float
    joules: float | None
    joules_at_least: bool
    mean_watts: float | None
    peak_memory_bytes: float | None
    mean_utilisation_percent: float | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Achieved:
    """What a benchmark's result says that its devices did, those of one workload, precision and evidence added up.

    `on` is the evidence: figures of an accelerator, of a CPU and of simulated devices never add up. `gflops` is what
    counts: a device that was not verified is in it with 0; None where nothing could be run. `verified` of `devices`
    were.
    """

    workload: str
    precision: str
    on: Literal["accelerator", "cpu", "simulated"]
    gflops: float | None
    devices: int
    verified: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One run of one worker. `devices` are indices on `node`; `share_milli` is 0 for whole devices. `cause`: why the
    run ended, in the words of core.jobs.EndCause or of who stopped it. Times are epoch seconds.

    `name` is the job's. `site` and `models` (of each of `devices`) are the node's as it was known when the run ended;
    None and () where it was not. `achieved`: of a benchmark that left a result.
    """

    job_id: str
    attempt: int
    worker: int
    tenant: str
    priority_class: str
    kind: str
    node: str
    devices: tuple[int, ...]
    share_milli: int
    cpus_milli: int
    memory_bytes: int
    simulated: bool
    from_s: float
    to_s: float
    end: Literal["seen", "unseen"]
    cause: str
    name: str = ""
    site: str | None = None
    models: tuple[str, ...] = ()
    use: MeteredUse | None = None
    achieved: tuple[Achieved, ...] = ()

    def __post_init__(self) -> None:
        assert self.from_s <= self.to_s, self
        assert len(self.models) in (0, len(self.devices)), self

    @property
    def key(self) -> tuple[str, int, int]:
        return self.job_id, self.attempt, self.worker

    @property
    def seconds(self) -> float:
        return self.to_s - self.from_s

    @property
    def devices_milli(self) -> int:
        """Thousandths of devices that it held."""
        return self.share_milli or WHOLE_DEVICE_MILLI * len(self.devices)

    @property
    def device_seconds(self) -> float:
        return self.devices_milli * self.seconds / WHOLE_DEVICE_MILLI

    @property
    def unmetered_s(self) -> float:
        """Of its time that which no energy reading covers: an agent that was restarted, a counter that cannot be
        read, a share of a device."""
        metered_s = 0.0 if self.use is None or self.use.joules is None else self.use.metered_s
        return max(0.0, self.seconds - metered_s)


@dataclass(frozen=True, slots=True)
class SeenLate:
    """How a run really ended that had been given up: told by its node when that came back, of a run that is nobody's
    any more. It mends the record that says the end was not seen; where there is no such record it says nothing.
    `models`: of the node's devices, by index."""

    job_id: str
    attempt: int
    worker: int
    node: str
    from_s: float
    to_s: float
    cause: str
    site: str | None = None
    models: tuple[tuple[int, str], ...] = ()
    use: MeteredUse | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.job_id, self.attempt, self.worker


UsageEntry = UsageRecord | SeenLate


def accounted(known: UsageRecord | None, entry: UsageEntry) -> UsageRecord | None:
    """What is to be kept of a run when `entry` comes and `known` is there.

    A seen end is better than an unseen one; of two unseen ones the later, as neither is later than the truth.
    """
    if isinstance(entry, SeenLate):
        # The node, too: a job of that number may have run there for another store.
        if known is None or known.end == "seen" or known.node != entry.node:
            return known
        return replace(
            known,
            from_s=entry.from_s,
            to_s=max(entry.from_s, entry.to_s),
            end="seen",
            cause=entry.cause,
            site=known.site if known.site is not None else entry.site,
            models=known.models or models_of(known.devices, entry.models),
            use=entry.use or known.use,
        )
    if known is None:
        return entry
    if entry.end == "seen" or (known.end != "seen" and known.to_s <= entry.to_s):
        return replace(
            entry,
            site=entry.site if entry.site is not None else known.site,
            models=entry.models or (known.models if known.devices == entry.devices else ()),
            use=entry.use or known.use,
            achieved=entry.achieved or known.achieved,
        )
    return known


def models_of(devices: tuple[int, ...], by_index: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """The model of each of these devices; () unless all are known."""
    known = dict(by_index)
    found = tuple(known[index] for index in devices if index in known)
    return found if len(found) == len(devices) else ()


@dataclass(frozen=True, slots=True)
class UsageSum:
    """One tenant's runs, on real or on simulated devices. `unseen_device_seconds` of `device_seconds` are of runs whose
    end nobody saw."""

    tenant: str
    simulated: bool
    runs: int
    device_seconds: float
    unseen_device_seconds: float


def by_tenant(
    records: Iterable[UsageRecord], *, from_s: float = -math.inf, to_s: float = math.inf
) -> tuple[UsageSum, ...]:
    """Sums, by tenant and then real before simulated; of each record what lies between `from_s` and `to_s`, so that the
    sums of two periods are the sum of both. A run with no time in between counts in none."""
    shares: dict[tuple[str, bool], list[tuple[float, bool]]] = {}
    for record in records:
        seconds = min(record.to_s, to_s) - max(record.from_s, from_s)
        if seconds > 0:
            used = record.devices_milli * seconds / WHOLE_DEVICE_MILLI
            shares.setdefault((record.tenant, record.simulated), []).append((used, record.end == "unseen"))
    return tuple(
        UsageSum(
            tenant,
            simulated,
            len(used),
            math.fsum(each for each, _ in used),
            math.fsum(each for each, unseen in used if unseen),
        )
        for (tenant, simulated), used in sorted(shares.items())
    )
