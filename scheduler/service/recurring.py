"""Jobs that are submitted again and again: when their time has come, and when it is left out.

A time is left out where the last job has not ended (two would pile up), where it was missed and the schedule says to
skip such times, and where the job would be refused as any submission would. Otherwise the submission and the next time
are written together (`Firing`), so that a service that is killed neither submits twice nor forgets. Times never go
back: after a clock that was set back the next one is still later than the last.

Operators' pauses are theirs to end, as their holds are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduler.core.jobs import Misfire
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound, SuanliError
from scheduler.ports import Principal, Role, Schedule, task_ids
from scheduler.service.admission import Admission
from scheduler.service.outcome import (
    Firing,
    Outcome,
    PauseRequested,
    ScheduleFired,
    ScheduleRequested,
    UnpauseRequested,
    Unschedule,
    UnscheduleRequested,
)
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

MOST_SCHEDULES = 1_000
# A service that is restarted, or a store that takes nothing for a moment, misses nothing yet.
MISSED_AFTER_S = 60.0

Key = tuple[str, str]


# ---- requests ----------------------------------------------------------------------------------------------------


def schedule(state: ServiceState, out: Outcome, event: ScheduleRequested, now_s: float) -> None:
    """Raises Conflict where the tenant has one of that name, BadInput and Forbidden as a submission would."""
    new = event.schedule
    if new.key in state.schedules:
        raise Conflict(
            f"tenant {new.tenant} has a schedule {new.name} already: delete it first (suanli schedules delete"
            f" {new.name}), or give the job another name",
            field="name",
        )
    if len(state.schedules) >= MOST_SCHEDULES:
        raise Conflict(f"there are {MOST_SCHEDULES} schedules already; delete some")
    Admission(state, max_live_jobs=state.most_live_jobs, now_s=now_s).check([new.spec], _owner(new))
    new = replace(new, next_s=_next_s(state, new, now_s))
    if new.next_s is None:
        raise BadInput("the time of this schedule never comes", field="schedule")
    _keep(state, out, new)


def pause(state: ServiceState, out: Outcome, event: PauseRequested) -> None:
    found = known(state, event.key)
    _may_change(found, event.hold.by_operator)
    _keep(state, out, replace(found, paused=event.hold, next_s=None))


def unpause(state: ServiceState, out: Outcome, event: UnpauseRequested, now_s: float) -> None:
    """Times that passed meanwhile are not made up for."""
    found = known(state, event.key)
    if found.paused is None:
        raise Conflict(f"schedule {found.name} is not paused")
    _may_change(found, event.by_operator)
    _keep(state, out, replace(found, paused=None, next_s=_next_s(state, found, now_s)))


def unschedule(state: ServiceState, out: Outcome, event: UnscheduleRequested) -> None:
    """Its jobs stay as they are."""
    found = known(state, event.key)
    _may_change(found, event.by_operator)
    del state.schedules[found.key]
    state.timers.drop("schedule", subject_of(found.key))
    out.schedules.append(Unschedule(*found.key))


def known(state: ServiceState, key: Key) -> Schedule:
    found = state.schedules.get(key)
    if found is None:
        raise NotFound(f"tenant {key[0]} has no schedule {key[1]}; `suanli schedules` lists them", field="name")
    return found


def key_of(state: ServiceState, name: str, tenant: str | None) -> Key:
    """Tenant and name of the schedule that is meant; without `tenant` the name must be that of one alone."""
    found = [key for key in state.schedules if key[1] == name and tenant in (None, key[0])]
    if len(found) == 1:
        return found[0]
    if found:
        raise Conflict(f"tenants {', '.join(sorted(key[0] for key in found))} have a schedule {name} each: say whose")
    names = sorted(key[1] for key in state.schedules if tenant in (None, key[0]))
    raise NotFound(f"there is no schedule {name}; there are: {', '.join(names[:20]) or 'none'}", field="name")


def _may_change(schedule: Schedule, by_operator: bool) -> None:
    held = schedule.paused
    if held is not None and held.by_operator and not by_operator:
        raise Forbidden(
            f"schedule {schedule.name} is paused by the operator {held.by} ({held.reason}): only operators change that"
        )


# ---- time --------------------------------------------------------------------------------------------------------


def take_in(state: ServiceState, schedules: Sequence[Schedule]) -> None:
    """What the last service left. Times that have passed since are looked at with the first tick."""
    for found in schedules:
        state.schedules[found.key] = found
        _set_timer(state, found)


def fire(state: ServiceState, out: Outcome, subject: str, now_s: float) -> None:
    """The time of this schedule has come, or came while nobody looked."""
    tenant, _, name = subject.partition("/")
    found = state.schedules.get((tenant, name))
    if found is None or found.next_s is None or found.next_s > now_s:
        return
    if state.closing_down or state.superseded_by is not None:
        return  # whoever starts next finds it missed
    why = _left_out(state, found, found.next_s, now_s)
    next_s = _next_s(state, found, now_s)
    if why is not None:
        left_out = replace(found, next_s=next_s, skips=found.skips + 1, skipped_s=found.next_s, skipped_why=why)
        _keep(state, out, left_out)
        return
    after = replace(found, next_s=next_s, runs=found.runs + 1, last_s=found.next_s)
    state.schedules[found.key] = after
    _set_timer(state, after)
    out.schedules.append(Firing(found, next_s, now_s))


def fired(state: ServiceState, event: ScheduleFired) -> None:
    """The store has given the job its number."""
    found = state.schedules.get(event.key)
    if found is not None and event.jobs and found.last_s == event.due_s:  # not another one of that name
        state.schedules[event.key] = replace(found, last_job=event.jobs[0].id.partition(".")[0])


def _left_out(state: ServiceState, schedule: Schedule, due_s: float, now_s: float) -> str | None:
    """Why nothing is submitted for this time."""
    recurrence = schedule.spec.schedule
    assert recurrence is not None, schedule
    if recurrence.misfire is Misfire.SKIP and now_s - due_s > MISSED_AFTER_S:
        return "nobody was there to submit it in time, and it is not to be made up for (misfire: skip)"
    if state.policy.tenants and schedule.tenant not in state.policy.tenants:
        return f"there is no tenant {schedule.tenant} any more"
    if is_running(state, schedule):
        return f"job {schedule.last_job}, the last one, had not ended"
    try:
        admission = Admission(state, max_live_jobs=state.most_live_jobs, now_s=now_s)
        admission.admit([schedule.job_spec()], _owner(schedule))
    except SuanliError as error:
        return f"it was refused: {error.message}"
    return None


def is_running(state: ServiceState, schedule: Schedule) -> bool:
    """Has the last job, or a task of it, not ended?"""
    last = schedule.last_job
    return last is not None and any(job_id in state.jobs for job_id in task_ids(last, schedule.spec))


def upcoming(state: ServiceState, schedule: Schedule, now_s: float, count: int) -> list[float]:
    """Its next times; of a paused one those that it would have if it were resumed now."""
    found: list[float] = []
    next_s = schedule.next_s if schedule.paused is None else _next_s(state, schedule, now_s)
    while next_s is not None and len(found) < count:
        found.append(next_s)
        next_s = _next_s(state, schedule, next_s)
    return found


def _next_s(state: ServiceState, schedule: Schedule, after_s: float) -> float | None:
    recurrence = schedule.spec.schedule
    assert recurrence is not None, schedule
    return state.next_time(recurrence.cron, recurrence.zone, after_s)


# ---- pieces ------------------------------------------------------------------------------------------------------


def subject_of(key: Key) -> str:
    """What its timer is called. A tenant's name has no slash."""
    return "/".join(key)


def _keep(state: ServiceState, out: Outcome, schedule: Schedule) -> None:
    state.schedules[schedule.key] = schedule
    _set_timer(state, schedule)
    out.schedules.append(schedule)


def _set_timer(state: ServiceState, schedule: Schedule) -> None:
    if schedule.next_s is None:
        state.timers.drop("schedule", subject_of(schedule.key))
    else:
        state.timers.add(Timer(schedule.next_s, "schedule", subject_of(schedule.key)))


def _owner(schedule: Schedule) -> Principal:
    """Whoever made it, as far as submissions ask."""
    role: Role = "operator" if schedule.by_operator else "tenant"
    return Principal(schedule.by, schedule.tenant, role, schedule.spec.priority_class)
