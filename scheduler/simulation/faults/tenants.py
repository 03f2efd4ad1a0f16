"""What people ask of the simulated service: jobs, nonsense, cancellations, scaling, drains; and what was promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from scheduler.core.demand import Demand
from scheduler.core.jobs import Autoscale, Canary, Checkpoint, JobKind, JobSpec
from scheduler.errors import SuanliError
from scheduler.ports import Json, Principal
from scheduler.service.control import Service
from scheduler.simulation.faults.story import (
    Cancel,
    Deploy,
    GoBack,
    Nonsense,
    Scale,
    Serve,
    Step,
    Submit,
    SubmitNonsense,
    Undeploy,
)
from scheduler.simulation.faults.truth import Truth, Violation
from scheduler.simulation.faults.verdict import Expectations

PRIORITY_CLASSES = {"best-effort": 0, "normal": 40, "urgent": 90}
OPERATOR = Principal("wang", "site", "operator", "urgent")
STUDIO = Principal("li", "studio", "tenant", "urgent")


class Tenants:
    """`devices`: of each node."""

    def __init__(self, devices: Sequence[int]) -> None:
        self._devices = devices
        self.expected = Expectations()
        self.errors_milli: dict[str, int] = {}
        """By job of a deployed version."""

    def program_of(self, name: str) -> Submit | Serve:
        return self.expected.what[name]

    def ask(self, service: Service, step: Step, truth: Truth) -> None:
        what = step.what
        match what:
            case Submit() | Serve():
                self._submit(service, step.number, what, truth)
            case SubmitNonsense(kind=kind):
                self._submit_nonsense(service, step.number, kind)
            case Cancel(back=back):
                if (job_id := _newest(truth, back)) is not None:
                    self.cancel(service, job_id)
            case Scale(back=back, replicas=replicas):
                if (job_id := _newest(truth, back)) is not None:
                    _refusable(lambda: service.scale(job_id, OPERATOR, replicas=replicas))
            case Deploy():
                self._deploy(service, what, truth)
            case GoBack(number=number):
                _refusable(lambda: service.rollback_service(f"svc-{number}", OPERATOR, tenant=None, to=None))
            case Undeploy(number=number):
                _refusable(lambda: service.delete_service(f"svc-{number}", OPERATOR, tenant=None))
            case _:
                raise AssertionError(f"nobody asks for {what}")

    def _deploy(self, service: Service, what: Deploy, truth: Truth) -> None:
        name = f"svc-{what.number}"
        program = self.expected.what.setdefault(name, Serve(what.replicas, what.replicas_max, share_milli=250))
        assert isinstance(program, Serve), name
        spec = replace(
            serve_spec(name, replace(program, replicas=what.replicas, replicas_max=what.replicas_max)),
            autoscale=Autoscale(idle_s=20.0, down_after_s=20.0),
            canary=Canary(what.steps, what.step_s, 20, 60.0),
        )
        answer = _refusable(lambda: service.deploy_service(spec, OPERATOR))
        if answer is not None:
            truth.acknowledged[answer["deployed_job"]] = None
            self.errors_milli[answer["deployed_job"]] = what.errors_milli

    def _submit(self, service: Service, number: int, what: Submit | Serve, truth: Truth) -> None:
        name = f"job-{number}"
        after = _newest(truth, what.after - 1) if isinstance(what, Submit) and what.after else None
        self.expected.what[name] = what
        spec = serve_spec(name, what) if isinstance(what, Serve) else job_spec(name, what, after)
        answer = _refusable(lambda: service.submit([spec], OPERATOR))
        if answer is not None:
            truth.acknowledged |= dict.fromkeys(view["id"] for view in answer["jobs"])

    def cancel(self, service: Service, job_id: str) -> None:
        self.expected.cancelled.add(job_id)
        _refusable(lambda: service.cancel(job_id, OPERATOR, reason="asked for"))

    def drain(self, service: Service, node: str) -> None:
        _refusable(lambda: service.drain(node, OPERATOR, reason="new fans"))

    def resume(self, service: Service, node: str) -> None:
        _refusable(lambda: service.resume(node, OPERATOR))

    def _submit_nonsense(self, service: Service, number: int, kind: Nonsense) -> None:
        """What must be refused, in words, and change nothing."""
        name, plain = f"job-{number}", Submit()
        self.expected.what[name] = plain
        match kind:
            case "never_fits":
                spec = job_spec(name, Submit(devices=max(self._devices) + 1), None)
                refused = _is_refused(lambda: service.submit([spec], OPERATOR))
                # Before all nodes have been heard of it cannot know; then it may take it, and says why it waits.
                if not refused:
                    self.expected.cancelled.add(_last(service))
                    service.cancel(_last(service), OPERATOR, reason="it never fits")
                return
            case "foreign_tenant":
                spec = job_spec(name, Submit(tenant="hospital"), None)
                refused = _is_refused(lambda: service.submit([spec], STUDIO))
            case "past_deadline":
                spec = job_spec(name, plain, None, deadline_at_s=1.0)
                refused = _is_refused(lambda: service.submit([spec], OPERATOR))
            case "unknown_dependency":
                spec = job_spec(name, plain, "999999")
                refused = _is_refused(lambda: service.submit([spec], OPERATOR))
            case "unknown_job":
                refused = _is_refused(lambda: service.cancel("999999", OPERATOR, reason=""))
            case "beyond_quota":
                spec = job_spec(name, Submit(workers=500), None)
                refused = _is_refused(lambda: service.submit([spec], OPERATOR))
                if not refused:
                    self.expected.cancelled.add(_last(service))
                    service.cancel(_last(service), OPERATOR, reason="it never fits")
                return
            case _:
                assert_never(kind)
        self.expected.refused.add(name)
        if not refused:
            raise Violation("nonsense_refused", f"{kind} was not refused")


def _last(service: Service) -> str:
    found = service.job("last", OPERATOR)["id"]
    assert isinstance(found, str)
    return found


def _newest(truth: Truth, back: int) -> str | None:
    """The id of the job that was acknowledged so many before the newest."""
    ids = list(truth.acknowledged)
    return ids[-1 - back] if 0 <= back < len(ids) else None


def _refusable(ask: Callable[[], Json]) -> Json | None:
    """None: the service said no, in its own words."""
    try:
        return ask()
    except SuanliError as error:
        if not error.message:
            raise Violation("said_why", "a request was refused without a word") from error
        return None


def _is_refused(ask: Callable[[], Json]) -> bool:
    return _refusable(ask) is None


def job_spec(name: str, what: Submit, after: str | None, *, deadline_at_s: float | None = None) -> JobSpec:
    saves = what.saves_every_s is not None
    return JobSpec(
        name=name,
        tenant=what.tenant,
        kind=JobKind.TRAINING,
        priority_class=what.priority_class,
        priority=PRIORITY_CLASSES[what.priority_class],
        command=("train",),
        model=None,
        workers_min=what.workers,
        workers_max=max(what.workers, what.workers_max),
        alternatives=(Demand(devices=0 if what.share_milli else what.devices, share_milli=what.share_milli),),
        time_limit_s=what.time_limit_s,
        retries=what.retries,
        checkpoint=Checkpoint("/ck", what.grace_s) if saves else None,
        array_size=what.array,
        after=() if after is None else (after,),
        deadline_at_s=deadline_at_s,
    )


def serve_spec(name: str, what: Serve) -> JobSpec:
    return JobSpec(
        name=name,
        tenant=what.tenant,
        kind=JobKind.INFERENCE,
        priority_class=what.priority_class,
        priority=PRIORITY_CLASSES[what.priority_class],
        command=("serve",),
        model=None,
        workers_min=what.replicas,
        workers_max=max(1, what.replicas_max),
        alternatives=(Demand(devices=0 if what.share_milli else 1, share_milli=what.share_milli),),
        time_limit_s=None,
        retries=2,
        slo_p99_ms=100.0,
    )
