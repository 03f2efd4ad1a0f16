"""/v1/reservations: nodes kept free for a time, for maintenance or for jobs that name the reservation."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import Caller, Context, Operator, bearer
from scheduler.api.site_models import ReservationAnswer, ReservationsAnswer, ReserveRequest
from scheduler.errors import NotFound
from scheduler.ports import ReservationRequest

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

router = APIRouter(prefix="/v1/reservations", tags=["reservations"], dependencies=[Depends(bearer)])


async def name_of(name: Annotated[str, Path(description="a reservation's name, as in /v1/reservations")]) -> str:
    if not _NAME.fullmatch(name):
        raise NotFound(f"there is no reservation {name[:80]!r}; `suanli reserve list` lists them", field="name")
    return name


@router.get("", response_model=ReservationsAnswer)
async def reservations(by: Caller, context: Context) -> Response:
    """Those that are active or to come, the next one first."""
    return answer(await context.rooms.commands.call(lambda: encoded("reservations", context.control.reservations(by))))


@router.post("", status_code=201, response_model=ReservationAnswer)
async def reserve(request: ReserveRequest, by: Operator, context: Context) -> Response:
    """Keep nodes free for a time. Nothing that runs is ended for it; `running_past_start` names such jobs."""
    wanted = ReservationRequest(
        name=request.name,
        nodes=tuple(request.nodes or ()),
        count=request.count or 0,
        device=request.device,
        start_s=request.start_s,
        end_s=request.end_s,
        reason=request.reason,
        every_s=request.every_s,
        tenants=tuple(dict.fromkeys(request.tenants)),
    )

    def work() -> bytes:
        return encoded("reservation", context.control.reserve(wanted, by))

    return answer(await context.rooms.commands.call(work), status=201)


@router.delete("/{name}", response_model=ReservationAnswer)
async def cancel(name: Annotated[str, Depends(name_of)], by: Operator, context: Context) -> Response:
    """Take a reservation back; jobs that name it wait until there is one of that name again."""

    def work() -> bytes:
        return encoded("reservation", context.control.cancel_reservation(name, by))

    return answer(await context.rooms.commands.call(work))
