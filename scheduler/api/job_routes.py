"""/v1/jobs: submit, list, look, wait, cancel, read logs."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import ApiContext, Caller, Context, JobId, Submitter, bearer
from scheduler.api.models import (
    CancelJobsAnswer,
    CancelJobsRequest,
    CancelRequest,
    ChangeJobsAnswer,
    DryRunAnswer,
    DryRunRequest,
    HoldRequest,
    JobAnswer,
    JobsAnswer,
    JobStateWord,
    JobViewAnswer,
    ReleaseRequest,
    RequeueRequest,
    ScaleRequest,
    SubmitRequest,
    WhyAnswer,
)
from scheduler.core.jobs import JobSpec
from scheduler.errors import BadInput, SuanliError
from scheduler.ports import Json, Principal

MAX_JOBS_LISTED = 10_000
MAX_WAIT_S = 60.0
MAX_LOG_BYTES = 1024 * 1024
# A long poll asks the service in slices, so that a client that went away, or a service that stops, is noticed.
WAIT_SLICE_S = 2.0
STATES: tuple[str, ...] = get_args(JobStateWord)
ENDED = frozenset({"succeeded", "failed", "cancelled"})

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(bearer)])


@router.post("", status_code=201, response_model=JobsAnswer)
async def submit(request: SubmitRequest, by: Submitter, context: Context) -> Response:
    """Accept jobs: all of them or none. The answer comes only when they are durable."""

    def work() -> bytes:
        return encoded("jobs", context.control.submit(_specs(request, by, context), by))

    return answer(await context.rooms.submissions.call(work), status=201)


@router.post("/dry-run", response_model=DryRunAnswer)
async def dry_run(request: DryRunRequest, by: Submitter, context: Context) -> Response:
    """Check a job and say where it would run now, or why not. Nothing is kept."""

    def work() -> bytes:
        return encoded("dry-run", context.control.dry_run(context.parse_job(request.job, by), by))

    return answer(await context.rooms.commands.call(work))


@router.post("/cancel", response_model=CancelJobsAnswer)
async def cancel_jobs(request: CancelJobsRequest, by: Submitter, context: Context) -> Response:
    """End jobs, all in one step: nothing starts in between. What cannot be cancelled is said of its id."""

    def work() -> bytes:
        return encoded("cancel-jobs", context.control.cancel_jobs(request.ids, by, reason=request.reason))

    return answer(await context.rooms.commands.call(work))


@router.post("/hold", response_model=ChangeJobsAnswer)
async def hold(request: HoldRequest, by: Submitter, context: Context) -> Response:
    """What waits is not to start until it is released. What runs is left as it is, which is said of its id."""

    def work() -> bytes:
        return encoded("hold", context.control.hold_jobs(request.ids, by, reason=request.reason))

    return answer(await context.rooms.commands.call(work))


@router.post("/release", response_model=ChangeJobsAnswer)
async def release(request: ReleaseRequest, by: Submitter, context: Context) -> Response:
    """What is held may start again. What an operator holds only operators release."""

    def work() -> bytes:
        return encoded("release", context.control.release_jobs(request.ids, by))

    return answer(await context.rooms.commands.call(work))


@router.post("/requeue", response_model=ChangeJobsAnswer)
async def requeue(request: RequeueRequest, by: Submitter, context: Context) -> Response:
    """What runs saves its work, goes and waits again, without using up a retry; what has ended is submitted anew."""

    def work() -> bytes:
        done = context.control.requeue_jobs(request.ids, by, reason=request.reason, hold=request.hold)
        return encoded("requeue", done)

    return answer(await context.rooms.commands.call(work))


@router.get("", response_model=JobsAnswer)
async def jobs(
    by: Caller,
    context: Context,
    state: Annotated[list[str] | None, Query(description="states to show, repeated or separated by commas")] = None,
    tenant: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_JOBS_LISTED)] = 1000,
) -> Response:
    """Live jobs in queue order, then ended ones, newest first."""
    states = [word for part in state or () for word in part.split(",") if word]
    for word in states:
        if word not in STATES:
            raise BadInput(f"{word[:80]!r} is no state of a job: one of {', '.join(STATES)}", field="state")

    def work() -> bytes:
        return encoded("jobs", context.control.jobs(by, tenant=tenant, states=states or None, limit=limit))

    return answer(await context.rooms.commands.call(work))


@router.get("/{job_id}", response_model=JobAnswer)
async def job(job_id: JobId, by: Caller, context: Context) -> Response:
    """One job with its spec, its events and its results."""
    return answer(await context.rooms.commands.call(lambda: encoded("job", context.control.job(job_id, by))))


@router.get("/{job_id}/why", response_model=WhyAnswer)
async def why(job_id: JobId, by: Caller, context: Context) -> Response:
    """Why a job does not run, or where it runs."""
    return answer(await context.rooms.commands.call(lambda: encoded("why", context.control.why(job_id, by))))


@router.get("/{job_id}/wait", response_model=JobViewAnswer)
async def wait(
    job_id: JobId,
    by: Caller,
    context: Context,
    request: Request,
    timeout_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 30.0,
) -> Response:
    """The job as soon as it has ended, or as it is after `timeout_s`."""
    until_s = time.monotonic() + timeout_s
    with context.rooms.one_wait():
        while True:
            slice_s = max(0.0, min(WAIT_SLICE_S, until_s - time.monotonic()))
            view = await context.rooms.waits.call(lambda: context.control.wait(job_id, by, timeout_s=slice_s))  # noqa: B023
            if view["state"] in ENDED or time.monotonic() >= until_s or await request.is_disconnected():
                return answer(encoded("wait", view))
            job_id = view["id"]  # `last` stays the job that it was at first


@router.post("/{job_id}/cancel", response_model=JobViewAnswer)
async def cancel(job_id: JobId, by: Submitter, context: Context, request: CancelRequest | None = None) -> Response:
    """End a job: its processes are asked to go, and killed when their grace is over."""
    reason = request.reason if request is not None else ""

    def work() -> bytes:
        return encoded("cancel", context.control.cancel(job_id, by, reason=reason))

    return answer(await context.rooms.commands.call(work))


@router.post("/{job_id}/scale", response_model=JobViewAnswer)
async def scale(job_id: JobId, request: ScaleRequest, by: Submitter, context: Context) -> Response:
    """Give a service more replicas, or fewer. Those that are too many are told to go; new ones wait in the queue."""

    def work() -> bytes:
        return encoded("scale", context.control.scale(job_id, by, replicas=request.replicas))

    return answer(await context.rooms.commands.call(work))


@router.get(
    "/{job_id}/log",
    response_class=Response,
    responses={
        200: {
            "description": "octets from `offset`; X-Next-Offset says where to go on, X-End: 1 that nothing follows,"
            " X-Skipped how many octets before these were not kept, as the log had grown over its cap",
            "content": {"application/octet-stream": {}},
        }
    },
)
async def log(
    job_id: JobId,
    by: Caller,
    context: Context,
    worker: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    stream: Literal["stdout", "stderr"] = "stdout",
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_BYTES)] = 256 * 1024,
) -> Response:
    """A chunk of a worker's output; ask again from X-Next-Offset for what follows. Without `attempt`: the newest."""
    chunk = await context.rooms.logs.call(
        lambda: context.control.read_log(
            job_id, by, worker=worker, attempt=attempt, stream=stream, offset=offset, limit=limit
        )
    )
    headers = {
        "X-Next-Offset": str(chunk.next_offset),
        "X-End": "1" if chunk.end else "0",
        "X-Skipped": str(chunk.skipped),
    }
    return Response(chunk.data, media_type="application/octet-stream", headers=headers)


def _specs(request: SubmitRequest, by: Principal, context: ApiContext) -> list[JobSpec]:
    specs = []
    mappings: list[dict[str, Any]] | list[Json] = request.mappings()
    for index, mapping in enumerate(mappings):
        try:
            specs.append(context.parse_job(mapping, by))
        except SuanliError as error:
            if request.jobs is not None and len(mappings) > 1:
                where = f"jobs[{index}]"
                error.message = f"job {index + 1} of {len(mappings)}: {error.message}"
                error.field = f"{where}.{error.field}" if error.field else where
            raise
    return specs
