"""The running service, as the API sees it: scheduler.ports.ServiceControl over the loop and the store.

Rights are checked here and in the parts that it hands questions to: viewers change nothing, tenants see and touch their
own jobs alone (others' are NotFound), operators everything. A submission is durable before the loop hears of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from node_agent.messages import LogChunk
from scheduler.core import transitions
from scheduler.core.decisions import Policy
from scheduler.core.explain import explain
from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.usage_book import By, ModelRate
from scheduler.errors import BadInput, Conflict, Forbidden, Overloaded, Superseded, Unavailable
from scheduler.ports import (
    Clock,
    Drain,
    Engine,
    GatewayControl,
    Json,
    NextTime,
    Principal,
    ReservationRequest,
    ServiceLoad,
    Store,
    no_time,
    task_ids,
)
from scheduler.service import (
    cancelling,
    fairness,
    served,
    tenants,
    views,
)
from scheduler.service.admission import Admission
from scheduler.service.deployment_control import DeploymentControl
from scheduler.service.dispatch import RunSettings
from scheduler.service.health_book import HealthSettings
from scheduler.service.job_changes import JobChanges
from scheduler.service.job_facts import ended_well, workers_of
from scheduler.service.job_looks import JobLooks
from scheduler.service.loop import CAPACITY, ServiceLoop
from scheduler.service.named_jobs import live_ids, meant_by
from scheduler.service.outcome import (
    CancelJobsRequested,
    CancelRequested,
    CloseDownRequested,
    DrainRequested,
    Flag,
    FlagsReported,
    ResumeRequested,
    ScaleRequested,
)
from scheduler.service.planner_words import pending_job
from scheduler.service.recovery import DEFAULT_HALF_LIFE_S, recover
from scheduler.service.reservation_control import ReservationControl
from scheduler.service.rights import may_change, may_see, must_be_operator
from scheduler.service.schedule_control import ScheduleControl
from scheduler.service.site_looks import SiteLooks
from scheduler.service.state import ServiceState
from scheduler.service.submissions import Submissions, Wanted
from scheduler.service.usage_control import UsageControl
from scheduler.service.why import dry_run_view

log = logging.getLogger(__name__)

MAX_LIVE_JOBS = 100_000
_DRY_RUN_ID = "dry-run"


class Service:
    """Implements scheduler.ports.ServiceControl. `start` before anything else; `close` leaves agents and jobs alone.

    `lease_s`: how long runs go on without hearing of this service. `secret`: the same at every start; the secrets that
    replicas ask for are derived from it. `status_extra`: what the composer knows (version, addresses, store's URL) and
    `status` is to show. `half_life_s`: after so long, what a tenant used counts half. `next_time`: when recurring jobs
    come next. `request_rates`: by tenant, how many requests a second its callers may send. `run_settings`: what nodes
    are told of every run. `zone`: the time zone of the bill's months and days.
    `found_at`: where its API is, for services that it replaces and that wait to replace it.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        gateway: GatewayControl,
        clock: Clock,
        *,
        policy: Policy,
        priority_classes: Mapping[str, int],
        lease_s: float,
        secret: bytes,
        status_extra: Json,
        max_live_jobs: int = MAX_LIVE_JOBS,
        half_life_s: float = DEFAULT_HALF_LIFE_S,
        next_time: NextTime = no_time,
        run_settings: RunSettings | None = None,
        health: HealthSettings | None = None,
        found_at: str = "",
        request_rates: Mapping[str, float] | None = None,
        zone: str = "UTC",
    ) -> None:
        self._store = store
        self._engine = engine
        self._gateway = gateway
        self._clock = clock
        self._policy = policy
        self._priority_classes = dict(priority_classes)
        self._lease_s = lease_s
        self._secret = secret
        self._max_live_jobs = max_live_jobs
        self._half_life_s = half_life_s
        self._next_time = next_time
        self._run_settings = run_settings
        self._health = health
        self._found_at = found_at
        self._request_rates = dict(request_rates or {})
        self._zone = zone
        self._loop: ServiceLoop | None = None
        self._jobs = JobLooks(store, engine, clock, lambda: self.loop)
        self._site = SiteLooks(store, engine, clock, lambda: self.loop, status_extra)
        self._reservations = ReservationControl(clock, lambda: self.loop)
        self._usage = UsageControl(store, clock, lambda: self.loop, zone)
        self._submissions = Submissions(store, clock, lambda: self.loop, max_live_jobs=max_live_jobs)
        self._schedules = ScheduleControl(clock, lambda: self.loop)
        self._deployments = DeploymentControl(
            store, clock, lambda: self.loop, lambda spec, by: self._submit([spec], by)
        )
        self._changes = JobChanges(
            store,
            clock,
            lambda: self.loop,
            lambda spec, by, held: self._submit([spec], by, held),
            self._priority_classes,
        )

    @property
    def started(self) -> bool:
        """What the store holds was taken over; until then there is no `loop`."""
        return self._loop is not None

    @property
    def loop(self) -> ServiceLoop:
        if self._loop is None:
            raise Unavailable("the service has not started yet; try again in a moment")
        return self._loop

    @property
    def superseded_by(self) -> int | None:
        """The epoch of the service that took over from this one, once this one knows of it. From any thread."""
        return None if self._loop is None else self._loop.superseded_by

    @property
    def epoch(self) -> int:
        return self.loop.state.epoch

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, *, thread: bool = True) -> None:
        """Take over from the store, connect the engine, run. Without `thread` someone else calls `loop.run_once`."""
        epoch = self._store.next_epoch(self._found_at)
        state, first = recover(
            self._store,
            epoch=epoch,
            lease_s=self._lease_s,
            secret=self._secret,
            policy=self._policy,
            now_s=self._clock.now_s(),
            half_life_s=self._half_life_s,
            most_live_jobs=self._max_live_jobs,
            next_time=self._next_time,
            run_settings=self._run_settings,
            request_rates=self._request_rates,
            health=self._health,
            zone=self._zone,
        )
        loop = ServiceLoop(state, self._store, self._engine, self._gateway, self._clock)
        loop.perform_first(first)
        self._loop = loop
        self._engine.start(epoch, loop.post)
        if thread:
            loop.start()

    def close(self) -> None:
        """Stop deciding. The engine, the gateway and the store are closed by who opened them."""
        if self._loop is None:
            return
        self._loop.close()
        state = self._loop.call_closed(lambda state: state)
        try:
            self._store.set_usage(fairness.snapshot(state, self._clock.now_s()))
            self._store.set_served(served.unkept(state))
        except (Unavailable, Superseded) as error:  # the last minute of what tenants used is forgotten, no more
            log.warning("what tenants used since %.0f is not kept: %s", state.usage_kept_s, error.message)

    # -- submitting ------------------------------------------------------------------------------------------------

    def take_loads(self, gateway: str, loads: Sequence[ServiceLoad]) -> None:
        """What a gateway (any name, always the same) has seen since it last said so. From any thread; never blocks.
        Before the service has started, and after it was closed, it is dropped: gateways report again."""
        if self._loop is not None:
            self._loop.post_loads(gateway, loads)

    def submit(self, specs: Sequence[JobSpec], by: Principal) -> Json:
        if any(spec.canary is not None for spec in specs):
            raise BadInput("canary is for a new version of a service: suanli service deploy FILE", field="canary")
        if any(spec.schedule is not None for spec in specs):
            if len(specs) > 1:
                raise BadInput("a job with a schedule is submitted by itself, not among others", field="schedule")
            may_change(by)
            return {"jobs": [], "schedules": [self._schedules.make(self._accepted(specs[0], by), by)]}
        jobs = self._submit(specs, by)
        return {"jobs": [views.submitted_view(job) for job in jobs]}

    def _submit(self, specs: Sequence[JobSpec], by: Principal, held: Hold | None = None) -> Sequence[Job]:
        may_change(by)
        wanted = [self._accepted(spec, by) for spec in specs]
        if self.loop.backlog() > CAPACITY // 2:
            raise Overloaded("the service is behind with what its nodes report; submit again in some seconds")
        return self._submissions.submit(Wanted(tuple(wanted), by, held))

    def dry_run(self, spec: JobSpec, by: Principal) -> Json:
        may_change(by)
        wanted = self._accepted(spec, by)

        def ask(state: ServiceState) -> Json:
            now_s = self._clock.now_s()
            Admission(state, max_live_jobs=self._max_live_jobs, now_s=now_s).admit([wanted], by)
            job = replace(pending_job(_unsubmitted(wanted, now_s)), job_id=_DRY_RUN_ID)
            answer = explain(state.cluster, state.queue, state.policy, job, now_s=now_s)
            return dry_run_view(answer, state, now_s)

        return self.loop.call(ask)

    def _accepted(self, spec: JobSpec, by: Principal) -> JobSpec:
        if spec.tenant != by.tenant and by.role != "operator":
            raise Forbidden(f"your token is of tenant {by.tenant}; it cannot submit for {spec.tenant}", field="tenant")
        if self._priority_classes.get(spec.priority_class, spec.priority) != spec.priority:
            raise BadInput(f"priority class {spec.priority_class} has another priority here", field="priority_class")
        if not spec.waits_for:
            return spec
        after = self._to_wait_for(spec.after, by, "after")
        return replace(spec, after=after, after_any=self._to_wait_for(spec.after_any, by, "after_any"))

    def _to_wait_for(self, ids: Sequence[str], by: Principal, field: str) -> tuple[str, ...]:
        """Jobs that there are and that `by` may see; an array is waited for whole."""
        found: list[str] = []
        for before in ids:
            job = self._store.job(before)
            array = self._store.job(f"{before}.0") if job is None else None
            if (named := job or array) is None or not may_see(named, by):
                raise BadInput(f"there is no job {before} to run after", field=field)
            found += [before] if array is None else task_ids(before, array.spec)
        return tuple(dict.fromkeys(found))

    # -- looking ---------------------------------------------------------------------------------------------------

    def jobs(self, by: Principal, *, tenant: str | None, states: Sequence[str] | None, limit: int) -> Json:
        return self._jobs.all(by, tenant=tenant, states=states, limit=limit)

    def job(self, job_id: str, by: Principal) -> Json:
        return self._jobs.one(job_id, by)

    def why(self, job_id: str, by: Principal) -> Json:
        return self._jobs.why(job_id, by)

    def wait(self, job_id: str, by: Principal, *, timeout_s: float) -> Json:
        return self._jobs.wait(job_id, by, timeout_s=timeout_s)

    def read_log(
        self, job_id: str, by: Principal, *, worker: int, attempt: int | None, stream: str, offset: int, limit: int
    ) -> LogChunk:
        return self._jobs.read_log(
            job_id, by, worker=worker, attempt=attempt, stream=stream, offset=offset, limit=limit
        )

    # -- changing --------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, by: Principal, *, reason: str) -> Json:
        may_change(by)
        job = self._jobs.find(job_id, by)
        if ended_well(job) is not None:
            raise Conflict(f"job {job.id} has ended already ({views.word(job)}); there is nothing to cancel")
        self.loop.request(CancelRequested(job.id, by.name, reason))
        return self._jobs.view(job)

    def cancel_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        may_change(by)
        wanted = meant_by(self.loop, self._store, ids, lambda job: may_see(job, by))
        asked = CancelJobsRequested(live_ids(wanted), by.name, reason)
        if asked.job_ids:
            self.loop.request(asked)
        return cancelling.answer(wanted, asked.became)

    def hold_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        return self._changes.hold(ids, by, reason)

    def release_jobs(self, ids: Sequence[str], by: Principal) -> Json:
        return self._changes.release(ids, by)

    def requeue_jobs(self, ids: Sequence[str], by: Principal, *, reason: str, hold: bool) -> Json:
        return self._changes.requeue(ids, by, reason, hold)

    # -- services --------------------------------------------------------------------------------------------------

    def deploy_service(self, spec: JobSpec, by: Principal) -> Json:
        return self._deployments.deploy(spec, by)

    def services(self, by: Principal) -> Json:
        return self._deployments.all(by)

    def service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return self._deployments.one(name, by, tenant)

    def rollback_service(self, name: str, by: Principal, *, tenant: str | None, to: int | None) -> Json:
        return self._deployments.roll_back(name, by, tenant, to)

    def delete_service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return self._deployments.delete(name, by, tenant)

    def scale_service(self, name: str, by: Principal, *, tenant: str | None, replicas: int | None) -> Json:
        return self._deployments.scale(name, by, tenant, replicas)

    def scale(self, job_id: str, by: Principal, *, replicas: int | None) -> Json:
        may_change(by)
        job = self._jobs.find(job_id, by)
        self.loop.request(ScaleRequested(job.id, replicas, by.name))
        return self._jobs.view(job)

    def drain(self, node: str, by: Principal, *, reason: str, deadline_in_s: float | None = None) -> Json:
        must_be_operator(by, "drain nodes")
        now_s = self._clock.now_s()
        deadline_s = None if deadline_in_s is None else now_s + deadline_in_s
        self.loop.request(DrainRequested(Drain(node, reason, by.name, now_s, deadline_s)))
        return self.node(node, by)

    def resume(self, node: str, by: Principal) -> Json:
        must_be_operator(by, "resume nodes")
        self.loop.request(ResumeRequested(node))
        return self.node(node, by)

    def flag_devices(self, run: str, flags: Sequence[Json], by: Principal) -> Json:
        must_be_operator(by, "flag devices")
        named = tuple(Flag(each["device"], each["rule"], each["text"], each["since_s"]) for each in flags)
        event = FlagsReported(run, named)
        self.loop.request(event)
        ignored = sorted(set(event.ignored))
        return {"run": run, "taken": len(named) - len(event.ignored), "ignored": ignored}

    # -- reservations ----------------------------------------------------------------------------------------------

    def reservations(self, by: Principal) -> Json:
        return self._reservations.all(by)

    def reserve(self, wanted: ReservationRequest, by: Principal) -> Json:
        return self._reservations.make(wanted, by)

    def cancel_reservation(self, name: str, by: Principal) -> Json:
        return self._reservations.cancel(name, by)

    # -- schedules -------------------------------------------------------------------------------------------------

    def schedules(self, by: Principal) -> Json:
        return self._schedules.all(by)

    def schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return self._schedules.one(name, by, tenant)

    def pause_schedule(self, name: str, by: Principal, *, tenant: str | None, reason: str) -> Json:
        return self._schedules.pause(name, by, tenant, reason)

    def resume_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return self._schedules.resume(name, by, tenant)

    def delete_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        return self._schedules.delete(name, by, tenant)

    def close_down(self, by: Principal) -> Json:
        must_be_operator(by, "take the site down")
        self.loop.request(CloseDownRequested(by.name))
        return {"running": self.loop.call(lambda state: sum(bool(workers_of(job)) for job in state.jobs.values()))}

    # -- the site --------------------------------------------------------------------------------------------------

    def nodes(self, by: Principal, *, readings: bool = True) -> Json:
        return self._site.nodes(by, readings=readings)

    def node(self, node: str, by: Principal) -> Json:
        return self._site.node(node, by)

    def devices(
        self,
        by: Principal,
        *,
        site: str | None = None,
        node: str | None = None,
        model: str | None = None,
        fields: Sequence[str] | None = None,
    ) -> Json:
        return self._site.devices(by, site=site, node=node, model=model, fields=fields)

    def tenants(self, by: Principal) -> Json:
        tenant = by.tenant if by.role == "tenant" else None
        return self.loop.call(lambda state: tenants.tenants_view(state, self._clock.now_s(), tenant=tenant))

    def usage(self, by: Principal, *, month: str | None, tenant: str | None, of: By) -> Json:
        return self._usage.sums(by, month, tenant, of)

    def usage_entries(self, by: Principal, *, month: str | None, tenant: str | None, offset: int, limit: int) -> Json:
        return self._usage.entries(by, month, tenant, offset, limit)

    def close_usage(self, by: Principal, *, month: str, rates: Sequence[ModelRate]) -> Json:
        return self._usage.close(by, month, rates)

    def status(self, by: Principal) -> Json:
        return self._site.status(by)


def _unsubmitted(spec: JobSpec, now_s: float) -> Job:
    """A job as it would be, last in submission order."""
    return transitions.submitted(_DRY_RUN_ID, 2**62, spec, submitted_s=now_s)
