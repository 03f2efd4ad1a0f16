"""What the API shows of recurring jobs, as JSON-able dictionaries. Shapes are documented in api/models.py."""

from __future__ import annotations

from scheduler.ports import Json, Schedule
from scheduler.service import recurring, views
from scheduler.service.state import ServiceState

_UPCOMING = 5


def schedule_views(state: ServiceState, *, tenant: str | None) -> list[Json]:
    """Those of `tenant` (None: of all), the next one first; those without a next time last."""
    shown = [found for found in state.schedules.values() if tenant in (None, found.tenant)]
    shown.sort(key=lambda found: (found.next_s is None, found.next_s or 0.0, found.key))
    return [schedule_view(state, found) for found in shown]


def schedule_view(state: ServiceState, schedule: Schedule) -> Json:
    recurrence = schedule.spec.schedule
    assert recurrence is not None, schedule
    return {
        "name": schedule.name,
        "tenant": schedule.tenant,
        "kind": schedule.spec.kind.value,
        "priority_class": schedule.spec.priority_class,
        "state": "paused" if schedule.paused is not None else "active" if schedule.next_s is not None else "over",
        "cron": recurrence.cron,
        "zone": recurrence.zone,
        "misfire": recurrence.misfire.value,
        "next_s": schedule.next_s,
        "paused": views.hold_json(schedule.paused),
        "runs": schedule.runs,
        "last_job": schedule.last_job,
        "last_s": schedule.last_s,
        "last_is_live": recurring.is_running(state, schedule),
        "skips": schedule.skips,
        "skipped_s": schedule.skipped_s,
        "skipped_why": schedule.skipped_why,
        "by": schedule.by,
        "made_s": schedule.made_s,
    }


def schedule_detail(state: ServiceState, schedule: Schedule, now_s: float) -> Json:
    """With what is submitted, and the next times (of a paused one: as if it were resumed now)."""
    return {
        **schedule_view(state, schedule),
        "spec": views.spec_view(schedule.spec),
        "upcoming_s": recurring.upcoming(state, schedule, now_s, _UPCOMING),
    }
