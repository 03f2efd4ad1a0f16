"""Services with versions, as a service without a planner keeps them."""

from __future__ import annotations

from scheduler.core.jobs import Canary, JobSpec
from scheduler.errors import Conflict, NotFound
from scheduler.ports import Json, Principal
from tests.fakes.service_views import rollout_view, service_view, version_view


class FakeServices:
    """The part of FakeControl that knows them."""

    serving: dict[tuple[str, str], Json]
    decisions: list[Json]

    def deploy_service(self, spec: JobSpec, by: Principal) -> Json:
        key = spec.tenant, spec.name
        before = self.serving.get(key)
        versions = [] if before is None else before["versions"]
        number = len(versions) + 1
        version = version_view(number, f"{100 + number}", state="live" if before is None else "starting")
        view = service_view(spec.name, tenant=spec.tenant, versions=[version, *versions])
        if before is not None:
            canary = spec.canary or Canary()
            rollout = rollout_view(number, number - 1, canary.steps, step_s=canary.step_s)
            view |= {"state": "rolling out", "version": number - 1, "rollout": rollout}
        self.serving[key] = view
        return {**view, "deployed_job": version["job"], "decisions": self.decisions}

    def services(self, by: Principal) -> Json:
        return {"services": [v for v in self.serving.values() if by.role != "tenant" or v["tenant"] == by.tenant]}

    def service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return {**self._served(name, by, tenant), "decisions": self.decisions}

    def rollback_service(self, name: str, by: Principal, *, tenant: str | None, to: int | None) -> Json:
        view = self._served(name, by, tenant)
        if to is not None and to not in [version["number"] for version in view["versions"]]:
            raise NotFound(f"service {name} has no version {to}", field="to")
        view |= {"state": "serving", "rollout": None, "version": to or 1}
        return {**view, "decisions": self.decisions}

    def delete_service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        view = self._served(name, by, tenant)
        return {**self.serving.pop((view["tenant"], view["name"])), "decisions": self.decisions}

    def scale_service(self, name: str, by: Principal, *, tenant: str | None, replicas: int | None) -> Json:
        view = self._served(name, by, tenant)
        view["autoscaling"] |= {"pinned": replicas is not None, "wanted": replicas or 1}
        return {**view, "decisions": self.decisions}

    def _served(self, name: str, by: Principal, tenant: str | None) -> Json:
        found = [v for v in self.services(by)["services"] if v["name"] == name and tenant in (None, v["tenant"])]
        if not found:
            raise NotFound(f"there is no service {name}", field="name")
        if len(found) > 1:
            raise Conflict(f"several tenants have a service {name}: say whose")
        return found[0]
