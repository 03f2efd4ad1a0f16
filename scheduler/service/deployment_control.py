"""Services as the API asks for them: rights, which one is meant, the request, the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scheduler.core.jobs import Job, JobKind, JobSpec
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound
from scheduler.ports import Clock, Json, Principal, Store
from scheduler.service import deployment_requests, deployment_views
from scheduler.service.loop import ServiceLoop
from scheduler.service.outcome import ScaleRequested, ServiceDeleteRequested, ServiceRollbackRequested
from scheduler.service.rights import may_change
from scheduler.service.state import ServiceState

Key = tuple[str, str]
AT_ONCE = 50
"""Services whose views are made while everything else waits."""


class DeploymentControl:
    """`submit` is how jobs are submitted. `loop` is asked for anew each time."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        loop: Callable[[], ServiceLoop],
        submit: Callable[[JobSpec, Principal], Sequence[Job]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._submit = submit

    def deploy(self, spec: JobSpec, by: Principal) -> Json:
        may_change(by)
        if spec.kind is not JobKind.INFERENCE:
            raise BadInput(f"a service is of kind inference, and this is of kind {spec.kind.value}", field="kind")
        if spec.waits_for:
            raise BadInput("a service's version waits for no other job", field="after")
        (job,) = self._submit(replace(spec, deployed=True), by)
        return {**self._view((spec.tenant, spec.name)), "deployed_job": job.id}

    def all(self, by: Principal) -> Json:
        tenant, now_s = by.tenant if by.role == "tenant" else None, self._clock.now_s()
        keys = self._loop().call(lambda state: deployment_views.keys(state, tenant=tenant))
        views: list[Json] = []
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            views += self._loop().call(lambda state: deployment_views.service_views(state, some, now_s))  # noqa: B023
        return {"services": views}

    def one(self, name: str, by: Principal, tenant: str | None) -> Json:
        return self._view(self._key(name, by, tenant))

    def roll_back(self, name: str, by: Principal, tenant: str | None, to: int | None) -> Json:
        may_change(by)
        key = self._deployed(name, by, tenant)
        self._loop().request(ServiceRollbackRequested(key, to, by.name))
        return self._view(key)

    def delete(self, name: str, by: Principal, tenant: str | None) -> Json:
        may_change(by)
        key = self._deployed(name, by, tenant)
        was = self._view(key)
        self._loop().request(ServiceDeleteRequested(key, by.name))
        return was

    def scale(self, name: str, by: Principal, tenant: str | None, replicas: int | None) -> Json:
        may_change(by)
        key = self._key(name, by, tenant)

        def ask(state: ServiceState) -> str | None:
            return deployment_views.serving_job(state, key)

        job_id = self._loop().call(ask)
        if job_id is None:
            raise Conflict(f"service {key[1]} has no version that serves: deploy one, or go back to one")
        self._loop().request(ScaleRequested(job_id, replicas, by.name))
        return self._view(key)

    def _key(self, name: str, by: Principal, tenant: str | None) -> Key:
        if by.role == "tenant":
            if tenant not in (None, by.tenant):
                raise Forbidden(f"your token is of tenant {by.tenant}; it sees nothing of {tenant}", field="tenant")
            tenant = by.tenant
        return self._loop().call(lambda state: deployment_requests.key_of(state, name, tenant))

    def _deployed(self, name: str, by: Principal, tenant: str | None) -> Key:
        """Not a plain job, which `suanli cancel` ends and which has no version to go back to."""
        key = self._key(name, by, tenant)
        job_id = self._loop().call(
            lambda state: None if key in state.deployed else deployment_views.serving_job(state, key)
        )
        if job_id is not None:
            raise Conflict(f"{key[1]} is a plain job ({job_id}), without versions: suanli cancel {job_id} ends it")
        return key

    def _view(self, key: Key) -> Json:
        now_s = self._clock.now_s()

        def ask(state: ServiceState) -> Json | None:
            return deployment_views.service_view(state, key, now_s)

        view = self._loop().call(ask)
        if view is None:
            raise NotFound(f"there is no service {key[1]} any more", field="name")
        ids = [version["job"] for version in view["versions"]]
        kept = self._store.events_named(ids, deployment_views.DECISIONS)
        return {**view, "decisions": deployment_views.decision_views(view, kept)}
