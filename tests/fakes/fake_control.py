"""A service without a planner: ServiceControl over a dictionary of views, for whoever stands before it (API, CLI).

It keeps the rules of the port: tenants see and touch only their own jobs, `last` is the newest visible job, ended jobs
cannot be cancelled, `wait` returns when the job has ended. Tests move jobs along with `set_state` and `write_log`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from node_agent.messages import LogChunk
from scheduler.core.demand import Demand
from scheduler.core.jobs import Canary, JobKind, JobSpec, Misfire, Recurrence
from scheduler.core.usage_book import By, ModelRate
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound, SuanliError, type_word
from scheduler.ports import Json, Principal, ReservationRequest, WriteFigures
from scheduler.schema.job_models import CanaryShape
from scheduler.service.device_views import known_fields
from scheduler.service.pass_times import PassTimes
from scheduler.service.tallies import Tallies
from tests.fakes import usage_site
from tests.fakes.control_views import FRAGMENTATION, device_row, drain_left, job_view, node_view, tenant_view
from tests.fakes.fake_readings import FakeReadings
from tests.fakes.fake_schedules import FakeSchedules
from tests.fakes.fake_services import FakeServices
from tests.fakes.service_views import DECISION, SERVICE_COUNTS

ENDED = ("succeeded", "failed", "cancelled")
OPERATOR = Principal("olga", "site", "operator", "emergency")
TENANT = Principal("film", "film-studio", "tenant", "production")
OTHER_TENANT = Principal("drones", "drone-operator", "tenant", "low-altitude")
VIEWER = Principal("vera", "site", "viewer", "normal")


def parse_job(mapping: Mapping[str, Any], principal: Principal) -> JobSpec:
    """Enough of a parser for tests of the doors: a name and a command, and one field that is wrong."""
    if not isinstance(mapping.get("name"), str):
        raise BadInput("name: a text is expected", field="name")
    if mapping.get("time_limit") == "never":
        raise BadInput("time_limit: expected a duration such as 2h30m; got 'never'", field="time_limit")
    return JobSpec(
        name=mapping["name"],
        tenant=principal.tenant,
        kind=JobKind(mapping.get("kind", "batch")),
        priority_class=principal.max_priority_class,
        priority=100,
        command=tuple(mapping.get("command", ("true",))),
        model=None,
        workers_min=mapping.get("workers", 1),
        workers_max=mapping.get("workers", 1),
        alternatives=(Demand(),),
        time_limit_s=60.0,
        after=tuple(mapping.get("after", ())),
        schedule=_recurrence(mapping.get("schedule")),
        canary=_canary(mapping.get("canary")),
    )


def _canary(written: Any) -> Canary | None:
    if written is None:
        return None
    shape = CanaryShape.model_validate(written)
    return Canary(shape.steps, shape.step, shape.min_requests)


def _recurrence(written: Any) -> Recurrence | None:
    match written:
        case None:
            return None
        case str():
            return Recurrence(written, "Asia/Shanghai")
        case _:
            return Recurrence(written["cron"], written.get("zone", "UTC"), Misfire(written.get("misfire", "once")))


class FakeControl(FakeServices, FakeSchedules):
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.reset()

    def reset(self) -> None:
        """An empty service with one node."""
        self.views: dict[str, Json] = {}
        self.specs: dict[str, JobSpec] = {}
        self.used: dict[str, list[Json]] = {}
        """By job: its usage records."""
        self.usage_store = usage_site.filled()
        self.node_views: dict[str, Json] = {"edge-0": node_view()}
        self.reserved: dict[str, Json] = {}
        self.scheduled: dict[tuple[str, str], Json] = {}
        self.serving: dict[tuple[str, str], Json] = {}
        self.decisions: list[Json] = [DECISION]
        self.logs: dict[tuple[str, int, int, str], bytes] = {}
        self.cuts: dict[tuple[str, int, int, str], tuple[int, int]] = {}
        """By log: after how many bytes it was cut, and how many were lost there."""
        self.broken: Exception | None = None  # raised by the next call of `jobs`
        self.waiting = 0
        self.waits_begun = 0
        self.cancels: list[list[str]] = []
        self.on_look: list[Callable[[Json], None]] = []
        """What happens to a node's view each time that it alone is looked at, one after the other."""

    # -- what tests do to it ---------------------------------------------------------------------------------------

    def put(self, view: Json) -> Json:
        with self._changed:
            self.views[view["id"]] = view
            self._changed.notify_all()
        return view

    def set_state(self, job_id: str, state: str, **more: Any) -> None:
        with self._changed:
            self.views[job_id] |= {"state": state, "reason": None} | more
            self._changed.notify_all()

    def write_log(self, job_id: str, data: bytes, *, worker: int = 0, attempt: int = 1, stream: str = "stdout") -> None:
        key = (job_id, attempt, worker, stream)
        self.logs[key] = self.logs.get(key, b"") + data

    # -- ServiceControl --------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec], by: Principal) -> Json:
        views: list[Json] = []
        if specs[0].schedule is not None:
            return {"jobs": views, "schedules": [self.make_schedule(specs[0], by)]}
        with self._changed:
            for spec in specs:
                job_id = str(1 + max((int(known.partition(".")[0]) for known in self.views), default=0))
                self.specs[job_id] = spec
                self.views[job_id] = job_view(
                    job_id,
                    name=spec.name,
                    tenant=spec.tenant,
                    kind=spec.kind.value,
                    priority_class=spec.priority_class,
                    workers_min=spec.workers_min,
                    workers_max=spec.workers_max,
                    after=list(spec.after),
                )
                views.append(self.views[job_id])
        return {"jobs": views}

    def dry_run(self, spec: JobSpec, by: Principal) -> Json:
        placements = [
            {"worker": worker, "node": "edge-0", "devices": [worker], "share_milli": 0, "simulated": False}
            for worker in range(spec.workers_min)
        ]
        if spec.workers_min > 2:
            reason = {"kind": "no_fit", "text": f"2 of {spec.workers_min} workers fit (1 node: 0 devices free)"}
            return {
                "would_start": False,
                "placements": [],
                "reason": reason,
                "preempts": [],
                "est_start_s": time.time() + 630.0,
                "suggestions": ["ask for 2 workers"],
            }
        nothing: Json = {"reason": None, "preempts": [], "est_start_s": None, "suggestions": []}
        return {"would_start": True, "placements": placements, **nothing}

    def jobs(self, by: Principal, *, tenant: str | None, states: Sequence[str] | None, limit: int) -> Json:
        if self.broken is not None:
            raise self.broken
        found = [view for view in self._visible(by) if tenant in (None, view["tenant"])]
        found = [view for view in found if states is None or view["state"] in states]
        live = [view for view in found if view["state"] not in ENDED]
        ended = [view for view in reversed(found) if view["state"] in ENDED]
        return {"jobs": (live + ended)[:limit], "total": None if ended and len(found) > limit else len(found)}

    def job(self, job_id: str, by: Principal) -> Json:
        view = self._view(job_id, by)
        event = {"seq": 1, "at_s": view["submitted_s"], "event": "submitted", "state": "pending", "detail": {"by": "x"}}
        used = self.used.get(view["id"], [])
        return view | {"spec": {"command": ["true"]}, "events": [event], "results": [], "usage": used}

    def usage(self, by: Principal, *, month: str | None, tenant: str | None, of: By) -> Json:
        return usage_site.control(self.usage_store).sums(by, month, tenant, of)

    def usage_entries(self, by: Principal, *, month: str | None, tenant: str | None, offset: int, limit: int) -> Json:
        return usage_site.control(self.usage_store).entries(by, month, tenant, offset, limit)

    def close_usage(self, by: Principal, *, month: str, rates: Sequence[ModelRate]) -> Json:
        return usage_site.control(self.usage_store).close(by, month, rates)

    def why(self, job_id: str, by: Principal) -> Json:
        view = self._view(job_id, by)
        return {
            "job": view,
            "reason": view["reason"],
            "nodes_by_reason": [["0 of 2 devices free", 1]],
            "blocked_by": [],
            "est_start_s": view["est_start_s"],
            "quota": None,
            "borrowers": [],
            "preempts": [],
            "changes": [],
            "text": f"job {view['id']} ({view['name']}) is {view['state']}\n  1 node: 0 of 2 devices free\n",
        }

    def wait(self, job_id: str, by: Principal, *, timeout_s: float) -> Json:
        view = self._view(job_id, by)
        with self._changed:
            self.waiting += 1
            self.waits_begun += 1
            self._changed.wait_for(lambda: view["state"] in ENDED, timeout=timeout_s)
            self.waiting -= 1
        return view

    def cancel(self, job_id: str, by: Principal, *, reason: str) -> Json:
        view = self._view(job_id, by)
        if view["state"] in ENDED:
            raise Conflict(f"job {view['id']} has ended already ({view['state']})")
        self.set_state(
            view["id"], "cancelled", cause="cancelled", detail=f"by {by.name}: {reason}", ended_s=time.time()
        )
        return view

    def cancel_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        self.cancels.append(list(ids))
        rows = [self._cancel_row(job_id, by, reason) for job_id in dict.fromkeys(ids)]
        counts = {word: sum(row[word] for row in rows) for word in ("cancelled", "stopping")}
        return {**counts, "failed": sum(row["error"] is not None for row in rows), "jobs": rows}

    def _cancel_row(self, job_id: str, by: Principal, reason: str) -> Json:
        """Jobs with workers are stopped, the others end at once."""
        row: Json = {"id": job_id, "name": None, "tasks": None, "cancelled": 0, "stopping": 0, "ended": 0}
        row |= {"state": None, "cause": None, "detail": None, "error": None}
        array = [view for view in self._visible(by) if view["id"].startswith(f"{job_id}.")]
        try:
            views = array or [self._view(job_id, by)]
            live = [view for view in views if view["state"] not in ENDED]
            row |= {"name": views[0]["name"], "tasks": len(array) or None, "ended": len(views) - len(live)}
            if not live:
                raise Conflict(f"job {job_id} has ended already ({views[0]['state']})")
        except SuanliError as error:
            return row | {"error": {"message": error.message, "field": error.field, "type": type_word(error)}}
        for view in live:
            detail = f"by {by.name}: {reason}"
            state = view["state"] if view["workers"] else "cancelled"
            self.set_state(view["id"], state, cause="cancelled", detail=detail)
            row["stopping" if view["workers"] else "cancelled"] += 1
            row |= {} if array else {"state": state, "cause": "cancelled", "detail": detail}
        return row

    def hold_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        held = {"by": by.name, "reason": reason, "at_s": time.time(), "by_operator": by.role == "operator"}
        waits = {"kind": "held", "text": f"held by {by.name}: {reason}", "by": by.name, "reason": reason}

        def hold(view: Json) -> str:
            if view["state"] != "pending":
                raise Conflict(f"job {view['id']} is {view['state']}, and a hold keeps only what waits")
            view |= {"held": held, "reason": waits}
            return "held"

        return self._change(ids, by, hold)

    def release_jobs(self, ids: Sequence[str], by: Principal) -> Json:
        def release(view: Json) -> str:
            if view["held"] is None:
                raise Conflict(f"job {view['id']} is not held")
            if view["held"]["by_operator"] and by.role != "operator":
                raise Forbidden(f"job {view['id']} is held by an operator")
            view |= {"held": None, "reason": {"kind": "not_considered", "text": "not looked at yet"}}
            return "released"

        return self._change(ids, by, release)

    def requeue_jobs(self, ids: Sequence[str], by: Principal, *, reason: str, hold: bool) -> Json:
        def requeue(view: Json) -> str:
            if view["state"] == "pending":
                raise Conflict(f"job {view['id']} waits already")
            self.set_state(view["id"], "preempting", cause="requeued", detail=reason)
            return "asked to save and go, and to wait again" + (" (held)" if hold else "")

        return self._change(ids, by, requeue, anew=True)

    def _change(self, ids: Sequence[str], by: Principal, change: Callable[[Json], str], *, anew: bool = False) -> Json:
        """Single jobs alone."""
        rows = []
        for job_id in dict.fromkeys(ids):
            row: Json = {"id": job_id, "name": None, "tasks": None, "changed": 0, "left": 0, "ended": 0, "state": None}
            row |= {"new": None, "detail": None, "error": None}
            try:
                view = self._view(job_id, by)
                row["name"] = view["name"]
                if view["state"] in ENDED:
                    row["ended"] = 1
                    if not anew:
                        raise Conflict(f"job {job_id} has ended already ({view['state']})")
                    new = str(1 + max(int(known.partition(".")[0]) for known in self.views))
                    self.put(job_view(new, name=view["name"], tenant=view["tenant"]))
                    row |= {"new": new, "detail": f"has ended; it is submitted anew as job {new}"}
                    continue
                row |= {"detail": change(view), "changed": 1, "state": view["state"]}
            except SuanliError as error:
                row["error"] = {"message": error.message, "field": error.field, "type": type_word(error)}
            finally:
                rows.append(row)
        changed = sum(row["changed"] or bool(row["new"]) for row in rows)
        failed = sum(row["error"] is not None for row in rows)
        return {"changed": changed, "failed": failed, "jobs": rows}

    def scale(self, job_id: str, by: Principal, *, replicas: int | None) -> Json:
        view = self._view(job_id, by)
        view["pinned"] = replicas is not None
        if replicas is None:
            return view
        if view["kind"] != "inference":
            raise Conflict(
                f"job {view['id']} is of kind {view['kind']}: only an inference service has replicas to scale"
            )
        if not view["workers_min"] <= replicas <= view["workers_max"]:
            bounds = f"{view['workers_min']} to {view['workers_max']}"
            raise BadInput(f"job {view['id']} may have {bounds} replicas, not {replicas}", field="replicas")
        view["workers_wanted"] = replicas
        return view

    def reservations(self, by: Principal) -> Json:
        return {"reservations": sorted(self.reserved.values(), key=lambda view: view["start_s"])}

    def reserve(self, wanted: ReservationRequest, by: Principal) -> Json:
        if wanted.name in self.reserved:
            raise Conflict(f"there is a reservation {wanted.name} already")
        nodes = wanted.nodes or tuple(self.node_views)[: wanted.count]
        for node in nodes:
            self._node(node)
        now_s = time.time()
        view: Json = {
            "name": wanted.name,
            "nodes": list(nodes),
            "state": "active" if wanted.start_s <= now_s else "upcoming",
            "start_s": wanted.start_s,
            "end_s": wanted.end_s,
            "every_s": wanted.every_s,
            "reason": wanted.reason,
            "by": by.name,
            "made_s": now_s,
            "tenants": list(wanted.tenants),
            "jobs": [],
            "waiting": [],
            "running_past_start": [],
        }
        self.reserved[wanted.name] = view
        return view

    def cancel_reservation(self, name: str, by: Principal) -> Json:
        if name not in self.reserved:
            raise NotFound(f"there is no reservation {name}", field="name")
        return self.reserved.pop(name)

    def tenants(self, by: Principal) -> Json:
        found = [tenant_view(), tenant_view("hospital")]
        return {
            "tenants": [view for view in found if by.role != "tenant" or view["name"] == by.tenant],
            "half_life_s": 604_800.0,
        }

    def nodes(self, by: Principal, *, readings: bool = True) -> Json:
        shown = [view if readings else {**view, "readings": {}} for view in self.node_views.values()]
        return {"nodes": shown, "fragmentation": FRAGMENTATION}

    def devices(
        self,
        by: Principal,
        *,
        site: str | None = None,
        node: str | None = None,
        model: str | None = None,
        fields: Sequence[str] | None = None,
    ) -> Json:
        """Of the nodes as their views have them; none is unhealthy, and who holds a device is a tenant's as its job."""
        asked = known_fields(fields)
        views = [self._node(node)] if node is not None else list(self.node_views.values())
        read = FakeReadings({view["name"]: view["readings"] for view in views})
        rows = [
            device_row(view, device, read.rows([view["name"]], asked)[view["name"]].get(device["uuid"]), asked)
            for view in views
            for device in view["devices"]
            if (site is None or view["site"] == site) and (model is None or device["model"] == model)
        ]
        for row in rows:
            held = [self.views[entry["id"]] for entry in row["jobs"] if entry["id"] in self.views]
            tenants = {view["id"]: view["tenant"] for view in held}
            row["jobs"] = [
                entry | {"tenant": tenants.get(entry["id"], "")}
                for entry in row["jobs"]
                if by.role != "tenant" or tenants.get(entry["id"]) == by.tenant
            ]
        return {"at_s": time.time(), "fields": list(asked), "devices": rows, "truncated": False}

    def node(self, node: str, by: Principal) -> Json:
        if self.on_look:
            self.on_look.pop(0)(self._node(node))
        return self._node(node)

    def drain(self, node: str, by: Principal, *, reason: str, deadline_in_s: float | None = None) -> Json:
        view = self._node(node)
        left = [drain_left(job) for device in view["devices"] for job in device["jobs"]]
        now_s = time.time()
        view |= {
            "state": "draining" if left else "drained",
            "drain": {
                "reason": reason,
                "by": by.name,
                "at_s": now_s,
                "deadline_s": None if deadline_in_s is None else now_s + deadline_in_s,
                "left": left,
            },
        }
        return view

    def resume(self, node: str, by: Principal) -> Json:
        view = self._node(node)
        if view["drain"] is None:
            raise Conflict(f"node {node} is not drained")
        view |= {"state": "ready", "drain": None}
        return view

    def flag_devices(self, run: str, flags: Sequence[Json], by: Principal) -> Json:
        self.flagged = (run, list(flags))
        known = {device["uuid"] for view in self.node_views.values() for device in view["devices"]}
        ignored = sorted({flag["device"] for flag in flags} - known)
        return {"run": run, "taken": sum(flag["device"] in known for flag in flags), "ignored": ignored}

    def close_down(self, by: Principal) -> Json:
        running = [view for view in self.views.values() if view["state"] in ("starting", "running", "preempting")]
        return {"running": len(running)}

    def read_log(
        self, job_id: str, by: Principal, *, worker: int, attempt: int | None, stream: str, offset: int, limit: int
    ) -> LogChunk:
        view = self._view(job_id, by)
        wanted = attempt if attempt is not None else view["attempt"]
        data = self.logs.get((view["id"], wanted, worker, stream))
        if data is None:
            raise NotFound(f"job {view['id']} has no {stream} of worker {worker} in attempt {wanted}")
        cut = self.cuts.get((view["id"], wanted, worker, stream))
        over = view["state"] in ENDED or wanted < view["attempt"]
        if cut is not None and offset >= cut[0]:  # what is kept of it stands `lost` bytes further on
            after, lost = cut
            skipped = max(0, after + lost - offset)
            start = max(offset, after + lost) - lost
            piece = data[start : start + limit]
            following = start + lost + len(piece)
            return LogChunk(piece, following, over and following >= len(data) + lost, skipped if piece else 0)
        piece = data[offset : min(offset + limit, cut[0] if cut else len(data))]
        return LogChunk(piece, offset + len(piece), over and cut is None and offset + len(piece) >= len(data))

    def cut_log(self, job_id: str, *, after: int, lost: int, rest: bytes) -> None:
        """Of worker 0's log: `lost` bytes after the first `after` are gone, and `rest` follows them."""
        name = (job_id, self.views[job_id]["attempt"], 0, "stdout")
        self.logs[name] = self.logs[name][:after] + rest
        self.cuts[name] = (after, lost)

    def status(self, by: Principal) -> Json:
        counts: dict[str, int] = {}
        for view in self.views.values():
            if view["state"] in ENDED:
                continue
            counts[view["state"]] = counts.get(view["state"], 0) + 1
        return {
            "version": "0.1.0",
            "service_pid": 4711,
            "api": "http://127.0.0.1:1",
            "gateway": "http://127.0.0.1:2",
            "ray_address": "127.0.0.1:3",
            "epoch": 5,
            "agents": [{"node": "edge-0", "pid": 11, "launcher_pid": 12, "nodes": ["edge-0"]}],
            "jobs": counts,
            "nodes": {"ready": 1, "draining": 0, "drained": 0, "down": 0},
            "devices": {"real": {"total": 8, "used_milli": 2_500}, "simulated": {"total": 0, "used_milli": 0}},
            "dispatch": Tallies().figures(),
            "services": dict(SERVICE_COUNTS),
            "writes": {of: asdict(WriteFigures()) for of in ("commits", "submissions")},
            "fragmentation": FRAGMENTATION,
            "store": "sqlite:///store.db",
            "loop": {"bugs": 0, "store_error": None, "backlog": 0, "pass_s": PassTimes().figures()},
        }

    # -- rules -----------------------------------------------------------------------------------------------------

    def _visible(self, by: Principal) -> list[Json]:
        return [view for view in self.views.values() if by.role != "tenant" or view["tenant"] == by.tenant]

    def _view(self, job_id: str, by: Principal) -> Json:
        visible = self._visible(by)
        if job_id == "last":
            if not visible:
                raise NotFound("there is no job yet")
            return visible[-1]
        for view in visible:
            if view["id"] == job_id:
                return view
        raise NotFound(f"there is no job {job_id}", field="id")

    def _node(self, name: str) -> Json:
        if name not in self.node_views:
            raise NotFound(f"there is no node {name}; `suanli nodes` lists them", field="node")
        return self.node_views[name]
