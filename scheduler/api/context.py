"""What every route needs: the service, the parser of jobs, the rooms for blocking calls, and who is asking."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from scheduler.api.door import PRINCIPAL
from scheduler.api.rooms import Rooms
from scheduler.core.jobs import JobSpec
from scheduler.errors import BadInput, Forbidden, NotFound
from scheduler.ports import Json, Principal, ServiceControl

_JOB_ID = re.compile(r"last|[0-9]{1,18}(\.[0-9]{1,9})?")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

# Documents the scheme in OpenAPI; the door has looked at the token before any route is reached.
bearer = HTTPBearer(auto_error=False, description="`suanli up` makes an operator token, `suanli token create` others")


@dataclass(frozen=True, slots=True)
class ApiContext:
    control: ServiceControl
    parse_job: Callable[[Mapping[str, Any], Principal], JobSpec]
    site: Json
    version: str
    rooms: Rooms


async def context_of(request: Request) -> ApiContext:
    context = request.app.state.context
    assert isinstance(context, ApiContext)
    return context


async def caller_of(request: Request) -> Principal:
    principal = request.scope[PRINCIPAL]
    assert isinstance(principal, Principal)
    return principal


async def submitter_of(request: Request) -> Principal:
    """Whoever may change jobs: everyone but viewers."""
    principal = await caller_of(request)
    if principal.role == "viewer":
        raise Forbidden(f"{principal.name} is a viewer: it may look, not submit or cancel; use a tenant's token")
    return principal


async def operator_of(request: Request) -> Principal:
    principal = await caller_of(request)
    if principal.role != "operator":
        raise Forbidden(f"{principal.name} is a {principal.role}: nodes are drained, resumed and reserved by operators")
    return principal


async def overseer_of(request: Request) -> Principal:
    """Whoever sees the whole site: operators and viewers."""
    principal = await caller_of(request)
    if principal.role == "tenant":
        raise Forbidden(f"{principal.name} is a tenant: the state of the service is for operators and viewers")
    return principal


async def job_id_of(
    job_id: Annotated[str, Path(description="a number such as 7, a task of an array such as 7.3, or `last`")],
) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise BadInput(f"{job_id[:80]!r} is no job id: a number (7), a task of an array (7.3) or `last`", field="id")
    return job_id


async def node_of(node: Annotated[str, Path(description="a node's name, as in /v1/nodes")]) -> str:
    if not _NODE.fullmatch(node):
        raise NotFound(f"there is no node {node[:80]!r}; `suanli nodes` lists them", field="node")
    return node


Context = Annotated[ApiContext, Depends(context_of)]
Caller = Annotated[Principal, Depends(caller_of)]
Submitter = Annotated[Principal, Depends(submitter_of)]
Operator = Annotated[Principal, Depends(operator_of)]
Overseer = Annotated[Principal, Depends(overseer_of)]
JobId = Annotated[str, Depends(job_id_of)]
NodeName = Annotated[str, Depends(node_of)]
