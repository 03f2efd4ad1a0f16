"""How a job moves from state to state: one pure function for each thing that happens in the world.

Each returns a new Job, or the same object when nothing changes, so that a caller can tell whether there is anything to
commit. What cannot happen raises ImpossibleTransition, which is a bug in the caller; an ended job never comes back.
What merely happens twice (events may be delivered twice) changes nothing: a worker's phase only moves forward.

Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scheduler.core.demand import Placement
from scheduler.core.jobs import (
    LIVE_STATES,
    Cancelled,
    EndCause,
    Failed,
    Hold,
    Job,
    JobKind,
    JobSpec,
    JobState,
    Pending,
    Running,
    Starting,
    Stopping,
    Succeeded,
    WorkerPhase,
    WorkerRun,
)
from scheduler.core.quick import replaced
from scheduler.core.reasons import NotConsidered, Reason, WaitingForJobs

_NOT_CONSIDERED = NotConsidered()
_RUNNING = WorkerPhase.RUNNING  # to look up an enumeration's member costs as much as to make a small object


class ImpossibleTransition(AssertionError):
    """A job was told to do what its state does not allow: `job_id`, `state` as it was, `tried`, and why not."""

    def __init__(self, job: Job, tried: str, why: str = "") -> None:
        super().__init__(
            f"job {job.id} is {job.state.kind} and cannot {tried}{': ' + why if why else ''} ({job.state})"
        )
        self.job_id = job.id
        self.state = job.state
        self.tried = tried


# ---- waiting -----------------------------------------------------------------------------------------------------


def submitted(job_id: str, seq: int, spec: JobSpec, *, submitted_s: float, array_index: int | None = None) -> Job:
    """A new job. One that comes `after` others waits for those, any other to be looked at."""
    reason: Reason = WaitingForJobs(spec.waits_for) if spec.waits_for else _NOT_CONSIDERED
    return Job(job_id, seq, spec, submitted_s, Pending(reason, submitted_s), 0, 0, None, array_index)


def wait(job: Job, reason: Reason, now_s: float, not_before_s: float = 0.0) -> Job:
    """It goes on waiting, for this reason. `since_s` stays the time it began to wait: `now_s` only names the moment."""
    match job.state:
        case Pending() as state:
            if state.reason == reason and state.not_before_s == not_before_s:
                return job
            return replaced(job, state=replace(state, reason=reason, not_before_s=not_before_s))
        case _:
            raise ImpossibleTransition(job, "wait", f"at {now_s}")


def hold(job: Job, hold: Hold) -> Job:
    """It is not to start until it is released; in place of a hold that there was. One that is being stopped waits held
    if it waits again."""
    if not isinstance(job.state, Pending | Stopping):
        raise ImpossibleTransition(job, "be held")
    return job if job.held == hold else replaced(job, held=hold)


def release(job: Job) -> Job:
    """Nobody holds it any more."""
    if not isinstance(job.state, LIVE_STATES):
        raise ImpossibleTransition(job, "be released")
    return job if job.held is None else replaced(job, held=None)


def place(job: Job, placements: Sequence[Placement], now_s: float) -> Job:
    """It gets its devices: a new attempt starts."""
    _may_start(job, len(placements))
    attempt = job.attempts + 1
    workers = tuple(WorkerRun(placement, attempt) for placement in placements)
    return replaced(job, state=Starting(workers, now_s), attempts=attempt)


def began(job: Job, placements: Sequence[Placement], now_s: float) -> Job:
    """`place`, every worker started, and `run` in one step, where nothing lies between: in virtual time."""
    _may_start(job, len(placements))
    attempt = job.attempts + 1
    workers: tuple[WorkerRun, ...]
    if len(placements) == 1:  # of nearly all: without a list
        workers = (WorkerRun(placements[0], attempt, _RUNNING, None, now_s),)
    else:
        workers = tuple([WorkerRun(each, attempt, _RUNNING, None, now_s) for each in placements])
    first_s = now_s if job.first_started_s is None else job.first_started_s
    return replaced(job, state=Running(workers, now_s), attempts=attempt, first_started_s=first_s)


def _may_start(job: Job, workers: int) -> None:
    if not isinstance(job.state, Pending):
        raise ImpossibleTransition(job, "start")
    if job.held is not None:
        raise ImpossibleTransition(job, "start", f"it is held by {job.held.by}")
    if not job.spec.workers_min <= workers <= job.spec.workers_max:
        raise ImpossibleTransition(
            job, "start", f"{workers} workers, not {job.spec.workers_min} to {job.spec.workers_max}"
        )


# ---- workers -----------------------------------------------------------------------------------------------------


def worker_run(job: Job, worker: int) -> WorkerRun | None:
    """The worker's run in the job's present attempt; None where it has none."""
    match job.state:
        case Starting() | Running() | Stopping():
            return next((run for run in job.state.workers if run.placement.worker == worker), None)
        case _:
            return None


def is_current(job: Job, worker: int, attempt: int) -> bool:
    """Whether news of that attempt's worker is still news: the job is on its nodes and that is the worker's attempt."""
    run = worker_run(job, worker)
    return run is not None and run.attempt == attempt


def worker_prepared(job: Job, worker: int) -> Job:
    """Its node has checked it and waits for the rest of the gang."""
    return _advance(job, worker, WorkerPhase.PREPARED, "have a worker prepared", lambda run: run)


def worker_started(job: Job, worker: int, at_s: float, *, heard_s: float | None = None) -> Job:
    """Its process runs since `at_s`, by its node's clock; the service heard of it at `heard_s`, by its own."""
    return _advance(
        job,
        worker,
        WorkerPhase.RUNNING,
        "have a worker started",
        lambda run: replaced(run, started_s=at_s, start_heard_s=heard_s),
    )


def worker_set_right(job: Job, worker: int, *, heard_s: float | None) -> Job:
    """When the service would have heard of its start, by its present clock; None: not known by that clock."""
    if not isinstance(job.state, Starting | Running | Stopping):
        return job
    run = worker_run(job, worker)
    if run is None or run.start_heard_s == heard_s:
        return job
    return _with_run(job, replaced(run, start_heard_s=heard_s))


def worker_ready(
    job: Job, worker: int, address: str, at_s: float, *, heard_s: float | None = None, unix_path: str | None = None
) -> Job:
    """A replica answers at `address` (host:port), and at `unix_path` on its node. Times as in `worker_started`."""

    def ready(run: WorkerRun) -> WorkerRun:
        if run.started_s is None:
            run = replaced(run, started_s=at_s, start_heard_s=heard_s)
        return replaced(run, address=address, unix_path=unix_path)

    return _advance(job, worker, WorkerPhase.READY, "have a replica ready", ready)


def worker_exited(job: Job, worker: int, exit_code: int | None) -> Job:
    """Its process is gone. A negative code is a signal's number; None where nobody saw the end."""
    return _advance(
        job,
        worker,
        WorkerPhase.EXITED,
        "have a worker exit",
        lambda run: replaced(run, exit_code=exit_code, address=None, unix_path=None),
    )


def restart_replica(job: Job, worker: int, *, place: Placement | None = None) -> Job:
    """A replica that exited is told to start again, alone, under a new attempt number; elsewhere where `place` is
    given. The service stays as it is: its other replicas go on answering."""
    tried = f"restart replica {worker}"
    if job.spec.kind is not JobKind.INFERENCE:
        raise ImpossibleTransition(job, tried, "only an inference service has replicas")
    if not isinstance(job.state, Starting | Running):
        raise ImpossibleTransition(job, tried)
    run = worker_run(job, worker)
    if run is None or run.phase is not WorkerPhase.EXITED:
        raise ImpossibleTransition(job, tried, "that replica has not exited")
    if place is not None and place.worker != worker:
        raise ImpossibleTransition(job, tried, f"the placement is of worker {place.worker}")
    attempt = job.attempts + 1
    again = WorkerRun(place or run.placement, attempt, replaces=run.replaces)
    return replaced(_with_run(job, again), attempts=attempt)


def every_worker_started(job: Job) -> bool:
    """Whether no worker is still on its way: each one's process has run, also where it is over already."""
    unstarted = (WorkerPhase.ASSIGNED, WorkerPhase.PREPARED)
    return isinstance(job.state, Starting | Running) and all(run.phase not in unstarted for run in job.state.workers)


def run(job: Job, now_s: float) -> Job:
    """All workers have started: the job runs. The first time it ever did is kept."""
    if not isinstance(job.state, Starting):
        raise ImpossibleTransition(job, "run")
    if not every_worker_started(job):
        raise ImpossibleTransition(job, "run", "not every worker has started")
    first_s = now_s if job.first_started_s is None else job.first_started_s
    return replaced(job, state=Running(job.state.workers, now_s), first_started_s=first_s)


# ---- ends --------------------------------------------------------------------------------------------------------


def stop(job: Job, cause: EndCause, by: str, detail: str, now_s: float) -> Job:
    """It is asked to go. While it goes, only an operator's cancel changes what it goes for."""
    match job.state:
        case Starting(workers=workers) | Running(workers=workers):
            return replaced(job, state=Stopping(workers, now_s, cause, by, detail))
        case Stopping() as state if cause is EndCause.CANCELLED:
            return (
                job if state.cause is cause else replaced(job, state=replace(state, cause=cause, by=by, detail=detail))
            )
        case _:
            raise ImpossibleTransition(job, f"be stopped ({cause})")


def count_failure(job: Job) -> Job:
    """This attempt's end was the job's own doing and uses up a retry. Ask `NOT_THE_JOBS_FAULT` first."""
    if not isinstance(job.state, Starting | Running | Stopping):
        raise ImpossibleTransition(job, "have failed an attempt")
    return replaced(job, failures=job.failures + 1)


def forgive_failures(job: Job) -> Job:
    """A replica of it served for a while: what failed before is no crash loop any more."""
    return replaced(job, failures=0)


def requeue(
    job: Job, reason: Reason, now_s: float, *, not_before_s: float = 0.0, resume_from: str | None = None
) -> Job:
    """This attempt is over and the job waits again: Requeued, BackingOff or WaitingForLease, as `reason` says.

    `resume_from` is the attempt's checkpoint; without one the last stays. Counting the failure is `count_failure`.
    """
    match job.state:
        case Stopping(cause=EndCause.CANCELLED):
            raise ImpossibleTransition(job, "be requeued", "it was cancelled")
        case Starting() | Running() | Stopping():
            kept = job.resume_from if resume_from is None else resume_from
            return replaced(job, state=Pending(reason, now_s, not_before_s), resume_from=kept)
        case _:
            raise ImpossibleTransition(job, "be requeued")


def succeed(job: Job, now_s: float) -> Job:
    """Every worker ended with exit code 0; also where it was being stopped and finished first."""
    match job.state:
        case Starting(workers=workers) | Running(workers=workers) | Stopping(workers=workers):
            failed = [each.placement.worker for each in workers if each.exit_code != 0]
            if failed:
                raise ImpossibleTransition(job, "succeed", f"workers {failed} did not end with exit code 0")
            return replaced(job, state=Succeeded(now_s))
        case _:
            raise ImpossibleTransition(job, "succeed")


def fail(job: Job, cause: EndCause, detail: str, now_s: float) -> Job:
    """It is over, and not tried again. Counting the failure is `count_failure`."""
    if not isinstance(job.state, LIVE_STATES):
        raise ImpossibleTransition(job, f"fail ({cause})")
    return replaced(job, state=Failed(now_s, cause, detail))


def cancel(job: Job, by: str, detail: str, now_s: float) -> Job:
    """It is over because someone said so. One whose workers live is stopped first."""
    match job.state:
        case Pending():
            return replaced(job, state=Cancelled(now_s, by, detail))
        case Starting(workers=workers) | Running(workers=workers) | Stopping(workers=workers):
            living = [each.placement.worker for each in workers if each.phase is not WorkerPhase.EXITED]
            if living:
                raise ImpossibleTransition(job, "be cancelled", f"workers {living} live: stop it first")
            return replaced(job, state=Cancelled(now_s, by, detail))
        case _:
            raise ImpossibleTransition(job, "be cancelled")


# ---- pieces ------------------------------------------------------------------------------------------------------

_PHASES = list(WorkerPhase)  # in the order in which a worker goes through them


def _advance(job: Job, worker: int, phase: WorkerPhase, tried: str, change: Callable[[WorkerRun], WorkerRun]) -> Job:
    if not isinstance(job.state, Starting | Running | Stopping):
        raise ImpossibleTransition(job, tried)
    run = worker_run(job, worker)
    if run is None:
        raise ImpossibleTransition(job, tried, f"it has no worker {worker}")
    if _PHASES.index(run.phase) >= _PHASES.index(phase):
        return job  # heard before
    return _with_run(job, replaced(change(run), phase=phase))


def _with_run(job: Job, run: WorkerRun) -> Job:
    state = job.state
    assert isinstance(state, Starting | Running | Stopping)
    workers = tuple(run if old.placement.worker == run.placement.worker else old for old in state.workers)
    changed: JobState = replace(state, workers=workers)
    return replaced(job, state=changed)
