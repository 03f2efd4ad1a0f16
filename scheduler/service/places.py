"""Where did a job's workers run? Written into the events that place them, and read back once the job has ended.

A job's state forgets its places when it ends; the events do not. So an ended job can still say where it ran, and
nothing that ran on simulated devices is ever shown as if it had run on real ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.jobs import Job, WorkerPhase, WorkerRun
from scheduler.ports import Json, StoredEvent
from scheduler.service.state import ServiceState

PLACING = ("placed", "replica_restarted", "replica_added")
"""The events that say where workers are to run."""


def places_detail(state: ServiceState, job: Job, runs: Sequence[WorkerRun]) -> Json:
    """By worker (JSON's keys are texts): node, devices, share of a device where it is one, and whether simulated."""
    detail: Json = {
        "nodes": {str(run.placement.worker): run.placement.node for run in runs},
        "devices": {str(run.placement.worker): list(run.placement.devices) for run in runs},
        "simulated": {str(run.placement.worker): state.simulated(job, run.placement) for run in runs},
    }
    shares = {str(run.placement.worker): run.placement.share_milli for run in runs if run.placement.share_milli}
    return {**detail, "share_milli": shares} if shares else detail


def last_places(job: Job, events: Sequence[StoredEvent]) -> tuple[list[Json], bool | None]:
    """Worker views of the last attempt by these events (those of PLACING, oldest first), and whether any attempt ran
    on simulated devices; None where the job was never placed."""
    workers: dict[int, Json] = {}
    simulated: bool | None = None
    for event in events:
        if event.event == "placed":
            workers = {}
        for worker, node in event.detail["nodes"].items():
            view = _worker(job, event, worker, node)
            workers[view["worker"]] = view
            simulated = bool(simulated) or view["simulated"]
    return [workers[number] for number in sorted(workers)], simulated


def _worker(job: Job, event: StoredEvent, worker: str, node: str) -> Json:
    # An event that does not say is of a time before events said it: then what may have been simulated counts as such.
    guess = any(demand.simulated for demand in job.spec.alternatives)
    return {
        "worker": int(worker),
        "attempt": event.detail["attempt"],
        "node": node,
        "devices": list(event.detail.get("devices", {}).get(worker, ())),
        "share_milli": event.detail.get("share_milli", {}).get(worker, 0),
        "phase": WorkerPhase.EXITED.value,
        "address": None,
        "exit_code": None,
        "simulated": bool(event.detail.get("simulated", {}).get(worker, guess)),
        "share_by": None,
    }
