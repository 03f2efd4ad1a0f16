"""When the faults are over and everything has come to rest: did each job become what it should, and does the bill agree
with what ran?
"""

from __future__ import annotations

from scheduler.core.jobs import Cancelled, EndCause, Failed, Job, Succeeded
from scheduler.core.usage_records import UsageRecord
from scheduler.service import deployments
from scheduler.service.dispatch import is_service
from scheduler.service.state import ServiceState
from scheduler.simulation.faults.story import Serve, Submit
from scheduler.simulation.faults.truth import WHOLE_MILLI, TrueRun, Truth, Violation
from scheduler.simulation.virtual_store import Kept

CLOCKS_S = 0.1  # hops between process, launcher and agent


class Expectations:
    """What each job was made to do, and what was done to it."""

    def __init__(self) -> None:
        self.what: dict[str, Submit | Serve] = {}
        """By the name that its program goes by."""
        self.cancelled: set[str] = set()
        """Jobs that somebody asked to cancel, whatever the answer was."""
        self.refused: set[str] = set()
        """By the name of its program: nonsense that was refused, and must never be found in the store."""
        self.killed_by_device: dict[str, int] = {}
        """By job: how many of its processes a failing device took along."""


def check_jobs(kept: Kept, truth: Truth, expected: Expectations, own_failures: dict[str, int]) -> None:
    """Raises Violation for a job that has not ended, or not as it should."""
    for job in kept.jobs.values():
        _check_job(job, kept, truth, expected, own_failures.get(job.id, 0))


def _check_job(job: Job, kept: Kept, truth: Truth, expected: Expectations, failures: int) -> None:
    what = expected.what[job.spec.name]
    if job.spec.name in expected.refused:
        raise Violation("nonsense_refused", f"job {job.id} was refused, and is kept all the same: {job.state.kind}")
    match job.state:
        case Succeeded():
            _check_success(job, truth)
        case Cancelled():
            if job.id not in expected.cancelled and not (job.spec.deployed and job.state.by == deployments.BY):
                raise Violation("ends_rightly", f"job {job.id} was cancelled, and nobody asked for that")
        case Failed(cause=cause, detail=detail):
            if not _may_fail(job, cause, kept, what, failures + expected.killed_by_device.get(job.id, 0)):
                raise Violation("ends_rightly", f"job {job.id} failed by no fault of its own: {cause.value}: {detail}")
        case _:
            raise Violation("everything_ends", f"job {job.id} is {job.state.kind} still: {job.state}")


def _may_fail(job: Job, cause: EndCause, kept: Kept, what: Submit | Serve, failures: int) -> bool:
    match cause:
        case EndCause.EXIT_CODE | EndCause.SIGNAL:
            return failures > job.spec.retries or (isinstance(what, Serve) and what.lasts_s is not None)
        case EndCause.TIME_LIMIT:
            # A short limit may be over while a node that cannot be heard of knows that the job has ended.
            return isinstance(what, Submit) and (what.work_s > what.time_limit_s - 10.0 or what.time_limit_s < 60.0)
        case EndCause.DEPENDENCY_FAILED:
            return any(not isinstance(kept.jobs[before].state, Succeeded) for before in job.spec.after)
        case _:
            return False


def _check_success(job: Job, truth: Truth) -> None:
    """Every worker of its last attempt really went to its end by itself, with 0."""
    if is_service(job):
        raise Violation("ends_rightly", f"job {job.id} is a service and succeeded")
    runs = [run for run in truth.runs if run.key.job_id == job.id and run.key.attempt == job.attempts]
    size = max((run.spec.world_size for run in runs), default=0)
    well = {run.key.worker for run in runs if run.exit_code == 0}
    if not runs or len(well) != size:
        raise Violation(
            "true_success",
            f"job {job.id} succeeded with attempt {job.attempts}, of which {len(well)} of {size} ended well",
        )


# ---- the bill ------------------------------------------------------------------------------------------------------


def check_bill(kept: Kept, truth: Truth) -> None:
    """One record a run at most, and one for each run of an attempt that succeeded; none says more than ran; where the
    end was seen it says exactly what ran.
    """
    runs = {(run.key.job_id, run.key.attempt, run.key.worker): run for run in truth.runs}
    for key, record in kept.usage_records.items():
        run = runs.get(key)
        if run is None:
            raise Violation("bill", f"a record of a run that never was: {record}")
        _check_record(record, run)
    for key, run in runs.items():
        job = kept.jobs[run.key.job_id]
        if isinstance(job.state, Succeeded) and run.key.attempt == job.attempts:  # so each of its ends was heard of
            billed = kept.usage_records.get(key)
            if billed is None or billed.end != "seen":
                raise Violation("bill", f"a job succeeded, and no seen end of {run.key} is billed: {billed}")
    billed_s = sum(record.device_seconds for record in kept.usage_records.values())
    ran_s = sum(_device_seconds(run) for run in truth.runs)
    if billed_s > ran_s + CLOCKS_S * len(kept.usage_records):
        raise Violation("bill", f"{billed_s:.3f} device-seconds are billed and {ran_s:.3f} ran")


def _check_record(record: UsageRecord, run: TrueRun) -> None:
    assert run.ended_s is not None, run
    ran_s = run.ended_s - run.began_s
    if record.node != run.key.node or record.devices != run.spec.device_indices:
        raise Violation("bill", f"{record} is not where it ran: {run.key}, devices {run.spec.device_indices}")
    if record.seconds > ran_s + CLOCKS_S:
        raise Violation("bill", f"{record.seconds:.3f} s are billed, and it ran for {ran_s:.3f} s: {record}")
    if record.end == "seen" and record.seconds < ran_s - CLOCKS_S:
        raise Violation(
            "bill", f"only {record.seconds:.3f} s of {ran_s:.3f} s are billed of a run that was seen: {record}"
        )


def _device_seconds(run: TrueRun) -> float:
    assert run.ended_s is not None, run
    milli = run.spec.share_milli or WHOLE_MILLI * len(run.spec.device_indices)
    return milli * (run.ended_s - run.began_s) / WHOLE_MILLI


# ---- nothing is left -----------------------------------------------------------------------------------------------


def check_nothing_left(state: ServiceState) -> None:
    """In the service's memory, of jobs that have ended."""
    named = {
        "jobs": state.jobs,
        "waiting": state.queue.pending,
        "running": state.queue.running,
        "parked": state.parked,
        "services": state.services,
        "scaled": state.scaled,
        "restarts": state.restarts,
        "asked": state.asked,
        "leaving": state.leaving,
        "fenced": state.fenced,
        "prepared": state.prepared,
        "released": state.released,
        "began": state.began,
        "own ends": state.own_ends,
        "unheard": state.unheard,
        "limits": state.limits,
        "dependents": state.dependents,
        "unseen ends": state.unseen_ends,
        "floors": state.floors,
        "making room": state.making_room,
        "loads": state.loads.seen,
        "routes": state.routes,
        "rollouts": state.rollouts,
        "strays": {node: keys for node, keys in state.strays.items() if keys},
    }
    for name, left in named.items():
        if left:
            raise Violation("nothing_left", f"{name} of jobs that have all ended: {left}")
    if state.cluster.holders:
        raise Violation("nothing_left", f"devices are still held by {sorted(state.cluster.holders)}")
