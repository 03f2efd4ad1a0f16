"""Checks of idle devices, as the service remembers them: which run, what is due, what was measured of late.

Nothing of this survives a restart, and nothing of it must: devices are due again by the clock, rates are measured
again, and what was found is kept by the agents.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.core.device_checks import CheckHistory
from scheduler.core.jobs import Job, JobSpec
from scheduler.core.usage_records import UsageRecord

TENANT = "suanli"
"""Whose jobs checks are: nobody's who computes here."""
NAME = "device-check"
PRIORITY = -1
"""Below every class, so that they give way to everybody."""


@dataclass(slots=True)
class CheckBook:
    """By uuid: `idle_s`, since when a device has been idle; `due_s`, when it is to be checked next. `jobs`: checks that
    have not ended. `look_s`: when it is next looked at who is due."""

    history: CheckHistory = field(default_factory=CheckHistory)
    idle_s: dict[str, float] = field(default_factory=dict)
    due_s: dict[str, float] = field(default_factory=dict)
    jobs: set[str] = field(default_factory=set)
    look_s: float = 0.0


def is_check(spec: JobSpec) -> bool:
    return spec.tenant == TENANT and spec.name == NAME


def is_checks_record(record: UsageRecord) -> bool:
    """Whether a check wrote it. Its class is no site's, so no job of a tenant's can pass for one."""
    return record.tenant == TENANT and record.priority_class == NAME


def devices_of(job: Job) -> int:
    return sum(demand.devices for demand in job.spec.alternatives)
