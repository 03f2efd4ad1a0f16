"""/v1/services: inference services and their versions, as an operator sees them. (Requests to a service go to the
gateway, which has an address of its own.)"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import Caller, Context, Submitter, bearer
from scheduler.api.models import ScaleRequest
from scheduler.api.service_models import DeployRequest, RollbackRequest, ServiceAnswer, ServicesAnswer
from scheduler.errors import NotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

router = APIRouter(prefix="/v1/services", tags=["services"], dependencies=[Depends(bearer)])


async def name_of(name: Annotated[str, Path(description="its job's name, as in /v1/services")]) -> str:
    if not _NAME.fullmatch(name):
        raise NotFound(f"there is no service {name[:80]!r}; `suanli service list` lists them", field="name")
    return name


Name = Annotated[str, Depends(name_of)]
Tenant = Annotated[
    str | None, Query(max_length=100, description="whose it is, where several tenants have one of that name")
]


@router.post("", status_code=201, response_model=ServiceAnswer)
async def deploy(request: DeployRequest, by: Submitter, context: Context) -> Response:
    """A new version of the service that the job names. It takes over step by step, or is given up by itself."""

    def work() -> bytes:
        spec = context.parse_job(request.job, by)
        return encoded("service", context.control.deploy_service(spec, by))

    return answer(await context.rooms.submissions.call(work), status=201)


@router.get("", response_model=ServicesAnswer)
async def services(by: Caller, context: Context) -> Response:
    """By tenant and name; a tenant sees its own alone."""
    return answer(await context.rooms.commands.call(lambda: encoded("services", context.control.services(by))))


@router.get("/{name}", response_model=ServiceAnswer)
async def service(name: Name, by: Caller, context: Context, tenant: Tenant = None) -> Response:
    """One of them: its versions, what they had to do in the last minute, and what was decided."""

    def work() -> bytes:
        return encoded("service", context.control.service(name, by, tenant=tenant))

    return answer(await context.rooms.commands.call(work))


@router.post("/{name}/rollback", response_model=ServiceAnswer)
async def rollback(
    name: Name, request: RollbackRequest, by: Submitter, context: Context, tenant: Tenant = None
) -> Response:
    """Back to an earlier version, as soon as it answers."""

    def work() -> bytes:
        return encoded("service", context.control.rollback_service(name, by, tenant=tenant, to=request.to))

    return answer(await context.rooms.commands.call(work))


@router.post("/{name}/scale", response_model=ServiceAnswer)
async def scale(name: Name, request: ScaleRequest, by: Submitter, context: Context, tenant: Tenant = None) -> Response:
    """So many replicas for its live version, whatever its load; null: as its load says again."""

    def work() -> bytes:
        return encoded("service", context.control.scale_service(name, by, tenant=tenant, replicas=request.replicas))

    return answer(await context.rooms.commands.call(work))


@router.delete("/{name}", response_model=ServiceAnswer)
async def delete(name: Name, by: Submitter, context: Context, tenant: Tenant = None) -> Response:
    """Stop all its versions for good. The answer is the service as it was."""

    def work() -> bytes:
        return encoded("service", context.control.delete_service(name, by, tenant=tenant))

    return answer(await context.rooms.commands.call(work))
