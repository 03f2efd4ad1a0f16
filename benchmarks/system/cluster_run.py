"""How is a whole cluster measured in one shared window? Benchmark jobs through the HTTP API, one a node, one start.

Nodes are listed, one job is submitted for the free whole devices of each ready node, all with the same absolute start;
their results come back through the API. Devices in use are left alone and reported as not covered. What a worker says
of itself is not believed where the service knows better: node, site, model and whether a device is simulated are the
service's words, and a result that contradicts them counts zero.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import benchmarks
from benchmarks.inventory import Device, Node, parse_nodes
from benchmarks.local_run import group_name
from benchmarks.protocol import NIGHTLY_WINDOW_S, Verdict
from benchmarks.record import DeviceRecord, WhichDevice, device_record, failed_record
from benchmarks.workloads.simulated import CardFigures
from scheduler.errors import SuanliError, Unavailable

# Between submit and the shared start: process start, library import, allocation, warm-up.
SMOKE_LEAD_S = 12.0
NIGHTLY_LEAD_S = 120.0
# Beyond the end of the window, for the last check and the result's way back.
TAIL_S = 60.0
POLL_S = 0.5
ENDED = ("succeeded", "failed", "cancelled")


class ClusterClient(Protocol):
    """The HTTP API, as scheduler.cli.client.Client offers it. Both raise scheduler.errors.SuanliError."""

    def get(self, path: str, /, **query: Any) -> dict[str, Any]: ...

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]: ...


class Timer(Protocol):
    def now_s(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallTimer:
    def now_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is asked for. `nodes` empty: all. `precision` None: each device's own. `lead_s` None: by the window."""

    window_s: float
    precision: str | None = None
    nodes: tuple[str, ...] = ()
    lead_s: float | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "benchmarks", "run", "--worker")
    working_dir: str = str(Path(benchmarks.__path__[0]).resolve().parent)

    @property
    def lead(self) -> float:
        if self.lead_s is not None:
            return self.lead_s
        return SMOKE_LEAD_S if self.window_s < NIGHTLY_WINDOW_S else NIGHTLY_LEAD_S


@dataclass(frozen=True, slots=True)
class NotCovered:
    """Devices of one node that were not measured, and why."""

    node: str
    site: str
    devices: tuple[str, ...]
    reason: str
    simulated: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "site": self.site,
            "devices": list(self.devices),
            "reason": self.reason,
            "simulated": self.simulated,
        }


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    run: str
    start_at_s: float
    records: tuple[DeviceRecord, ...]
    not_covered: tuple[NotCovered, ...]
    interrupted: bool


class UnknownNode(ValueError):
    """A node was named that the service does not have. The message lists those it has."""


@dataclass(frozen=True, slots=True)
class _Submitted:
    node: Node
    devices: tuple[Device, ...]
    job_id: str


def run_cluster(
    client: ClusterClient,
    plan: RunPlan,
    cards: Mapping[str, CardFigures],
    *,
    timer: Timer | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> ClusterAnswer:
    """Submit, wait, collect. Ctrl-C cancels what still runs and returns what is there, marked interrupted.

    `cards` gives the catalogue's figures by model, for simulated devices. Raises UnknownNode, and SuanliError where
    the service cannot be asked at all; a single job that fails is a record that says so.
    """
    timer = timer or WallTimer()
    nodes = _chosen(parse_nodes(client.get("/v1/nodes")), plan.nodes)
    not_covered = [_left_alone(node) for node in nodes if len(node.free) < len(node.devices)]
    start_at_s = timer.now_s() + plan.lead
    run = f"{int(start_at_s)}-{secrets.token_hex(3)}"
    jobs: list[_Submitted] = []
    records: list[DeviceRecord] = []
    interrupted = False
    try:
        for node in (n for n in nodes if n.free):
            answer = client.post("/v1/jobs", {"job": _job(node, plan, cards, start_at_s, run)})
            jobs.append(_Submitted(node, node.free, str(answer["jobs"][0]["id"])))
        views = _wait(client, jobs, plan, start_at_s, timer, progress)
    except KeyboardInterrupt:
        interrupted = True
        views = _cancelled(client, jobs, timer)
    except SuanliError:
        with contextlib.suppress(SuanliError):  # the first failure is the one to tell
            _cancelled(client, jobs, timer)
        raise
    for job in jobs:
        view = views.get(job.job_id)
        if view is not None and not view.get("attempt") and not view.get("results"):
            not_covered.append(_never_started(job, view))
        else:
            records += _collected(job, view, plan)
    return ClusterAnswer(run, start_at_s, tuple(records), tuple(not_covered), interrupted)


def _chosen(nodes: Sequence[Node], names: Sequence[str]) -> tuple[Node, ...]:
    known = {node.name: node for node in nodes}
    for name in names:
        if name not in known:
            raise UnknownNode(f"no node is called {name}; there are {', '.join(sorted(known)) or 'none'}")
    return tuple(known[name] for name in names) if names else tuple(nodes)


def _left_alone(node: Node) -> NotCovered:
    if node.state == "ready":
        busy = tuple(d.uuid for d in node.devices if not d.free)
        return NotCovered(node.name, node.site, busy, "in use; not disturbed", node.simulated)
    everything = tuple(d.uuid for d in node.devices)
    return NotCovered(node.name, node.site, everything, f"the node is {node.state}", node.simulated)


def _never_started(job: _Submitted, view: Mapping[str, Any]) -> NotCovered:
    """Its devices were taken by others before its turn came: they are not disturbed, and not covered."""
    why = (view.get("reason") or {}).get("text") or view.get("detail") or "no reason was given"
    uuids = tuple(d.uuid for d in job.devices)
    reason = f"job {job.job_id} did not start in time: {why}"
    return NotCovered(job.node.name, job.node.site, uuids, reason, job.node.simulated)


def _job(node: Node, plan: RunPlan, cards: Mapping[str, CardFigures], start_at_s: float, run: str) -> dict[str, Any]:
    """The job file of one node's worker, pinned to the node and to its free whole devices."""
    command = [*plan.command, "--window", f"{plan.window_s:g}", "--start-at", f"{start_at_s:.3f}"]
    if plan.precision:
        command += ["--precision", plan.precision]
    if node.simulated:
        card = cards.get(node.free[0].model, CardFigures(None, None))
        if card.peak_tflops is not None:
            command += ["--card-peak-tflops", f"{card.peak_tflops:g}"]
        if card.achieved_tflops is not None:
            command += ["--card-achieved-tflops", f"{card.achieved_tflops:g}"]
    cpus = max(1, min(len(node.free), node.cpus_free_milli // 1000))
    return {
        "name": f"bench-{run}",
        "kind": "benchmark",
        "command": command,
        "working_dir": plan.working_dir,
        "resources": {
            "device": "any",
            "count": len(node.free),
            "cpus": cpus,
            "node": node.name,
            "simulated": node.simulated,
        },
        "time_limit": plan.lead + plan.window_s + TAIL_S,
    }


def _wait(
    client: ClusterClient,
    jobs: Sequence[_Submitted],
    plan: RunPlan,
    start_at_s: float,
    timer: Timer,
    progress: Callable[[str, float], None],
) -> dict[str, dict[str, Any]]:
    """Views of the jobs that ended in time. A job that waits for its devices past the window is cancelled: its window
    is over, and running later would measure another one."""
    views: dict[str, dict[str, Any]] = {}
    deadline_s = start_at_s + plan.window_s + TAIL_S
    begun_s = timer.now_s()
    whole_s = max(start_at_s + plan.window_s - begun_s, 1e-3)
    while len(views) < len(jobs):
        now_s = timer.now_s()
        for job in jobs:
            if job.job_id in views:
                continue
            try:
                view = client.get(f"/v1/jobs/{job.job_id}")
            except Unavailable:  # the service restarts; jobs go on without it, so do we until the deadline
                if now_s > deadline_s:
                    raise
                break
            if view["state"] in ENDED:
                views[job.job_id] = view
            elif now_s > deadline_s or (view["state"] == "pending" and now_s > start_at_s + plan.window_s):
                client.post(f"/v1/jobs/{job.job_id}/cancel", {"reason": "its benchmark window is over"})
                views[job.job_id] = view
        phase = "waiting for the shared start" if now_s < start_at_s else "measuring"
        progress(f"{phase}; {len(views)} of {len(jobs)} nodes done", min(1.0, (now_s - begun_s) / whole_s))
        if len(views) < len(jobs):
            timer.sleep(POLL_S)
    return views


def _cancelled(client: ClusterClient, jobs: Sequence[_Submitted], timer: Timer) -> dict[str, dict[str, Any]]:
    """Cancel what runs and give it a few seconds to leave its partial results."""
    for job in jobs:
        if client.get(f"/v1/jobs/{job.job_id}")["state"] not in ENDED:
            client.post(f"/v1/jobs/{job.job_id}/cancel", {"reason": "the benchmark was interrupted"})
    until_s = timer.now_s() + 10.0
    views: dict[str, dict[str, Any]] = {}
    while len(views) < len(jobs) and timer.now_s() < until_s:
        for job in jobs:
            view = client.get(f"/v1/jobs/{job.job_id}")
            if view["state"] in ENDED:
                views[job.job_id] = view
        timer.sleep(POLL_S / 5)
    return views


def _collected(job: _Submitted, view: Mapping[str, Any] | None, plan: RunPlan) -> list[DeviceRecord]:
    """The job's records under the service's names, or one failure for every device that it should have measured."""
    try:
        document = _result(view)
        if document is None:
            return _failures(job, plan, _why_nothing(job.job_id, view))
        reported = [device_record(d) for d in document["devices"]]
    except (ValueError, KeyError, TypeError) as error:
        return _failures(job, plan, f"the result of job {job.job_id} cannot be read: {error}")
    known = {d.uuid: d for d in job.node.devices}
    records: list[DeviceRecord] = []
    covered: set[str] = set()
    for record in reported:
        if not set(record.covers) <= set(known) or set(record.covers) & covered:
            continue  # no devices of this node, or devices reported twice
        covered |= set(record.covers)
        records.append(_as_known(record, job.node, [known[uuid] for uuid in record.covers], plan))
    # As many as it was given; which of the free ones these were is the scheduler's choice.
    short = len(job.devices) - len(covered)
    missing = replace(job, devices=tuple(d for d in job.devices if d.uuid not in covered)[: max(0, short)])
    return records + _failures(missing, plan, f"the result of job {job.job_id} leaves this device out")


def _as_known(record: DeviceRecord, node: Node, devices: Sequence[Device], plan: RunPlan) -> DeviceRecord:
    """The record with the service's facts in place of the worker's words."""
    device = devices[0]
    if (record.evidence == "simulated") != node.simulated:
        what = "simulated" if node.simulated else "real"
        return _failure(node, devices, record.precision, plan, f"reported as {record.evidence}, but it is {what}")
    if len(devices) > 1 and not device.is_cpu:
        return _failure(node, devices, record.precision, plan, "several accelerators were reported as one")
    if record.verified and record.window_s != plan.window_s:
        return _failure(
            node, devices, record.precision, plan, f"ran a window of {record.window_s} s, not the one asked"
        )
    on = record.on if node.simulated else ("cpu" if device.is_cpu else "accelerator")
    name = group_name(record.covers)
    return replace(record, device=name, node=node.name, site=node.site, model=device.model, vendor=device.vendor, on=on)


def _failures(job: _Submitted, plan: RunPlan, reason: str) -> list[DeviceRecord]:
    """A group of CPU devices fails as a group; accelerators one by one."""
    if not job.devices:
        return []
    precision = plan.precision or ("fp32" if job.devices[0].is_cpu else "bf16")
    if job.devices[0].is_cpu:
        return [_failure(job.node, job.devices, precision, plan, reason)]
    return [_failure(job.node, (d,), precision, plan, reason) for d in job.devices]


def _failure(node: Node, devices: Sequence[Device], precision: str, plan: RunPlan, reason: str) -> DeviceRecord:
    uuids = tuple(d.uuid for d in devices)
    first = devices[0]
    record = failed_record(
        WhichDevice(
            group_name(uuids),
            uuids,
            node.name,
            node.site,
            first.model,
            first.vendor,
            on="cpu" if first.is_cpu else "accelerator",
        ),
        precision=precision,
        verdict=Verdict.NO_RESULT,
        reason=reason,
        window_s=plan.window_s,
    )
    if node.simulated:
        return replace(record, evidence="simulated", on="nothing", gflops=None)
    return record


def _result(view: Mapping[str, Any] | None) -> Any:
    """What worker 0 of the newest attempt left, as parsed JSON where it is JSON; None where it left nothing.

    `results` is [{"attempt", "worker", "result"}], or {"ATTEMPT/WORKER": text}.
    """
    results = (view or {}).get("results") or ()
    if isinstance(results, Mapping):
        keyed = [(*(int(part) for part in key.split("/")), value) for key, value in results.items()]
    else:
        keyed = [(int(r["attempt"]), int(r["worker"]), r["result"]) for r in results]
    of_worker_0 = {attempt: value for attempt, worker, value in keyed if worker == 0}
    newest = of_worker_0[max(of_worker_0)] if of_worker_0 else None
    return json.loads(newest) if isinstance(newest, str) else newest


def _why_nothing(job_id: str, view: Mapping[str, Any] | None) -> str:
    if view is None:
        return f"job {job_id} was stopped before it left a result"
    cause = view.get("detail") or view.get("cause") or "no result was left"
    return f"job {job_id} {view['state']}: {str(cause).strip().splitlines()[0]}"
