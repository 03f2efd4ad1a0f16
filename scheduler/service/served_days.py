"""The requests that services answered on the last days, as the service has them in memory: see served.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.ports import ServedDay

DayKey = tuple[str, str, str, bool]


@dataclass(slots=True)
class ServedDays:
    """Sums by day, tenant, service and whether simulated; which of them changed since they were last kept, and when
    that was. Days are those of `zone`."""

    zone: str = "UTC"
    days: dict[DayKey, ServedDay] = field(default_factory=dict)
    unkept: set[DayKey] = field(default_factory=set)
    kept_s: float = 0.0
