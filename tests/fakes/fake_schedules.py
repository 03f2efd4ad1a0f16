"""Recurring jobs, as a service without a planner keeps them: no time ever comes."""

from __future__ import annotations

from scheduler.core.jobs import JobSpec
from scheduler.errors import Conflict, Forbidden, NotFound
from scheduler.ports import Json, Principal
from tests.fakes.control_views import schedule_view


class FakeSchedules:
    """The part of FakeControl that knows them."""

    scheduled: dict[tuple[str, str], Json]

    def make_schedule(self, spec: JobSpec, by: Principal) -> Json:
        key = (spec.tenant, spec.name)
        if key in self.scheduled:
            raise Conflict(f"tenant {spec.tenant} has a schedule {spec.name} already", field="name")
        when = spec.schedule
        assert when is not None
        self.scheduled[key] = schedule_view(
            spec.name,
            tenant=spec.tenant,
            kind=spec.kind.value,
            priority_class=spec.priority_class,
            by=by.name,
            **{"cron": when.cron, "zone": when.zone, "misfire": when.misfire.value},
        )
        return self.scheduled[key]

    def schedules(self, by: Principal) -> Json:
        return {"schedules": [v for v in self.scheduled.values() if by.role != "tenant" or v["tenant"] == by.tenant]}

    def schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        view = self._scheduled(name, by, tenant)
        next_s = view["next_s"] or 1_800_000_000.0
        return view | {"spec": {"command": ["true"], "working_dir": "/w"}, "upcoming_s": [next_s, next_s + 86_400.0]}

    def pause_schedule(self, name: str, by: Principal, *, tenant: str | None, reason: str) -> Json:
        view = self._scheduled(name, by, tenant)
        held = {"by": by.name, "reason": reason, "at_s": 1_750_000_000.0, "by_operator": by.role == "operator"}
        view |= {"state": "paused", "paused": held, "next_s": None}
        return view

    def resume_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        view = self._scheduled(name, by, tenant)
        if view["paused"] is None:
            raise Conflict(f"schedule {name} is not paused")
        if view["paused"]["by_operator"] and by.role != "operator":
            raise Forbidden(f"schedule {name} is paused by an operator")
        view |= {"state": "active", "paused": None, "next_s": 1_800_000_000.0}
        return view

    def delete_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        view = self._scheduled(name, by, tenant)
        return self.scheduled.pop((view["tenant"], view["name"]))

    def _scheduled(self, name: str, by: Principal, tenant: str | None) -> Json:
        found = [v for v in self.schedules(by)["schedules"] if v["name"] == name and tenant in (None, v["tenant"])]
        if not found:
            raise NotFound(f"there is no schedule {name}", field="name")
        if len(found) > 1:
            raise Conflict(f"several tenants have a schedule {name}: say whose")
        return found[0]
