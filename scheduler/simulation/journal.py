"""What happened in a simulated run, written down as it happens and measured afterwards (`measures.py`).

A change of what is held or waits is one entry (time, by how much, where); nothing is summed while the run goes on, so
that a run that is interrupted between any two entries still measures right. Times in seconds of virtual time, devices
in thousandths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from scheduler.simulation.workload import SimJob


class Became(StrEnum):
    """What a job has come to."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ENDED_AT_LIMIT = "ended_at_limit"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(slots=True)
class JobRecord:
    """One job of the workload. `ended_s`: None until it has ended for good. `device_s`: held over all its attempts."""

    job: SimJob
    became: Became = Became.WAITING
    first_start_s: float | None = None
    ended_s: float | None = None
    attempts: int = 0
    preemptions: int = 0
    device_s: float = 0.0
    reason: str = ""
    """Why it was refused, or the kind of reason for which it still waits."""


@dataclass(frozen=True, slots=True)
class Preempted:
    """One victim went. `lost_device_s`: what it had computed since its last save, and must compute again;
    `saving_device_s`: what it held while it saved."""

    t_s: float
    job_id: str
    priority_class: str
    lost_device_s: float
    saving_device_s: float


@dataclass(slots=True)
class ServiceRecord:
    """`replicas`: (time, how many answer from then on). `refused`: why it was not taken."""

    replicas: list[tuple[float, int]] = field(default_factory=list)
    refused: str = ""


@dataclass(slots=True)
class TenantTime:
    """`backlogged_s`: how long it had jobs waiting; `share_s`: its dominant share, summed over that time."""

    backlogged_s: float = 0.0
    share_s: float = 0.0
    device_s: float = 0.0


@dataclass(slots=True)
class Journal:
    """`held`: (time, thousandths more or less, group of nodes). `waits`: (time, jobs, thousandths that they ask for).
    `runs`: (time, jobs). `fragmentation`: (time, stranded share of what is idle; None where nothing is)."""

    jobs: list[JobRecord] = field(default_factory=list)
    services: list[ServiceRecord] = field(default_factory=list)
    held: list[tuple[float, int, int]] = field(default_factory=list)
    waits: list[tuple[float, int, int]] = field(default_factory=list)
    runs: list[tuple[float, int]] = field(default_factory=list)
    preempted: list[Preempted] = field(default_factory=list)
    resizes: int = 0
    fragmentation: list[tuple[float, float | None]] = field(default_factory=list)
    tenants: dict[str, TenantTime] = field(default_factory=dict)
    passes: int = 0
    end_s: float = 0.0
    partial: bool = False
