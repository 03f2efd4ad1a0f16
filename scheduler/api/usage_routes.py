"""/v1/usage: what months came to, their entries, and closing them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from scheduler.api.answers import answer, encoded
from scheduler.api.context import Caller, Context, Operator, bearer
from scheduler.api.usage_models import MONTH, By, CloseUsageRequest, UsageAnswer, UsageEntriesAnswer
from scheduler.core.usage_book import ModelRate

MAX_ENTRIES = 20_000

router = APIRouter(prefix="/v1/usage", tags=["usage"], dependencies=[Depends(bearer)])
MonthName = Annotated[str | None, Query(pattern=MONTH, description="YYYY-MM; none: this month")]
TenantName = Annotated[str | None, Query(max_length=100)]


@router.get("", response_model=UsageAnswer)
async def usage(
    by: Caller,
    context: Context,
    month: MonthName = None,
    tenant: TenantName = None,
    of: Annotated[By, Query(description="what is summed by")] = "tenant",
) -> Response:
    """What a month came to. A tenant sees its own usage alone. A closed month is answered as it was closed."""

    def work() -> bytes:
        return encoded("usage", context.control.usage(by, month=month, tenant=tenant, of=of))

    return answer(await context.rooms.commands.call(work))


@router.get("/entries", response_model=UsageEntriesAnswer)
async def entries(
    by: Caller,
    context: Context,
    month: MonthName = None,
    tenant: TenantName = None,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = MAX_ENTRIES,
) -> Response:
    """The entries of a month's book: each run's part of it, what services answered, and corrections."""

    def work() -> bytes:
        found = context.control.usage_entries(by, month=month, tenant=tenant, offset=offset, limit=limit)
        return encoded("usage-entries", found)

    return answer(await context.rooms.commands.call(work))


@router.post("/close", response_model=UsageAnswer)
async def close(request: CloseUsageRequest, by: Operator, context: Context) -> Response:
    """Close a month that is over: it never changes any more. What comes to be known of it later is a correction in the
    month that is open then."""
    rates = [ModelRate(**rate.model_dump()) for rate in request.rates]

    def work() -> bytes:
        return encoded("usage", context.control.close_usage(by, month=request.month, rates=rates))

    return answer(await context.rooms.commands.call(work))
