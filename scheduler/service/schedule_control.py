"""Recurring jobs as the API asks for them: rights, which one is meant, the request, the answer."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.core.jobs import Hold, JobSpec
from scheduler.errors import Forbidden
from scheduler.ports import Clock, Json, Principal, Schedule
from scheduler.service import recurring, recurring_views
from scheduler.service.loop import ServiceLoop
from scheduler.service.outcome import PauseRequested, ScheduleRequested, UnpauseRequested, UnscheduleRequested
from scheduler.service.rights import may_change
from scheduler.service.state import ServiceState


class ScheduleControl:
    """`loop` is asked for anew each time."""

    def __init__(self, clock: Clock, loop: Callable[[], ServiceLoop]) -> None:
        self._clock = clock
        self._loop = loop

    def make(self, spec: JobSpec, by: Principal) -> Json:
        """Of a spec that `by` may submit."""
        made = Schedule(spec.tenant, spec.name, spec, by.name, by.role == "operator", self._clock.now_s(), None)
        self._loop().request(ScheduleRequested(made))
        return self._view(made.key)

    def all(self, by: Principal) -> Json:
        tenant = by.tenant if by.role == "tenant" else None
        return {"schedules": self._loop().call(lambda state: recurring_views.schedule_views(state, tenant=tenant))}

    def one(self, name: str, by: Principal, tenant: str | None) -> Json:
        key, now_s = self._key(name, by, tenant), self._clock.now_s()

        def ask(state: ServiceState) -> Json:
            return recurring_views.schedule_detail(state, recurring.known(state, key), now_s)

        return self._loop().call(ask)

    def pause(self, name: str, by: Principal, tenant: str | None, reason: str) -> Json:
        may_change(by)
        key = self._key(name, by, tenant)
        self._loop().request(PauseRequested(key, Hold(by.name, reason, self._clock.now_s(), by.role == "operator")))
        return self._view(key)

    def resume(self, name: str, by: Principal, tenant: str | None) -> Json:
        may_change(by)
        key = self._key(name, by, tenant)
        self._loop().request(UnpauseRequested(key, by.role == "operator"))
        return self._view(key)

    def delete(self, name: str, by: Principal, tenant: str | None) -> Json:
        may_change(by)
        key = self._key(name, by, tenant)
        was = self._view(key)
        self._loop().request(UnscheduleRequested(key, by.role == "operator"))
        return was

    def _key(self, name: str, by: Principal, tenant: str | None) -> tuple[str, str]:
        if by.role == "tenant":
            if tenant not in (None, by.tenant):
                raise Forbidden(f"your token is of tenant {by.tenant}; it sees nothing of {tenant}", field="tenant")
            tenant = by.tenant
        return self._loop().call(lambda state: recurring.key_of(state, name, tenant))

    def _view(self, key: tuple[str, str]) -> Json:
        return self._loop().call(lambda state: recurring_views.schedule_view(state, recurring.known(state, key)))
