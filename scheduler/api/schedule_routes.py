"""/v1/schedules: jobs that are submitted again and again. POST /v1/jobs of a job with a `schedule` makes one."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import Caller, Context, Submitter, bearer
from scheduler.api.models import PauseRequest, ScheduleAnswer, ScheduleDetailAnswer, SchedulesAnswer
from scheduler.errors import NotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], dependencies=[Depends(bearer)])


async def name_of(name: Annotated[str, Path(description="its job's name, as in /v1/schedules")]) -> str:
    if not _NAME.fullmatch(name):
        raise NotFound(f"there is no schedule {name[:80]!r}; `suanli schedules` lists them", field="name")
    return name


Name = Annotated[str, Depends(name_of)]
Tenant = Annotated[
    str | None, Query(max_length=100, description="whose it is, where several tenants have one of that name")
]


@router.get("", response_model=SchedulesAnswer)
async def schedules(by: Caller, context: Context) -> Response:
    """The next one first; a tenant sees its own alone."""
    return answer(await context.rooms.commands.call(lambda: encoded("schedules", context.control.schedules(by))))


@router.get("/{name}", response_model=ScheduleDetailAnswer)
async def schedule(name: Name, by: Caller, context: Context, tenant: Tenant = None) -> Response:
    """One of them with what it submits, and its next times."""

    def work() -> bytes:
        return encoded("schedule", context.control.schedule(name, by, tenant=tenant))

    return answer(await context.rooms.commands.call(work))


@router.post("/{name}/pause", response_model=ScheduleAnswer)
async def pause(name: Name, request: PauseRequest, by: Submitter, context: Context, tenant: Tenant = None) -> Response:
    """Let its times pass without submitting anything. What an operator pauses only operators resume."""

    def work() -> bytes:
        return encoded("schedule", context.control.pause_schedule(name, by, tenant=tenant, reason=request.reason))

    return answer(await context.rooms.commands.call(work))


@router.post("/{name}/resume", response_model=ScheduleAnswer)
async def resume(name: Name, by: Submitter, context: Context, tenant: Tenant = None) -> Response:
    """Go on with its next time. Those that passed while it was paused are not made up for."""

    def work() -> bytes:
        return encoded("schedule", context.control.resume_schedule(name, by, tenant=tenant))

    return answer(await context.rooms.commands.call(work))


@router.delete("/{name}", response_model=ScheduleAnswer)
async def delete(name: Name, by: Submitter, context: Context, tenant: Tenant = None) -> Response:
    """Submit nothing more by it. Jobs that it has submitted stay as they are."""

    def work() -> bytes:
        return encoded("schedule", context.control.delete_schedule(name, by, tenant=tenant))

    return answer(await context.rooms.commands.call(work))
