"""The HTTP API as an ASGI application: routes, one error shape, and the door before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from scheduler.api import (
    docs_page,
    health_routes,
    job_routes,
    reservation_routes,
    schedule_routes,
    service_routes,
    site_routes,
    usage_routes,
)
from scheduler.api.answers import failure, failure_of, field_path
from scheduler.api.context import ApiContext
from scheduler.api.door import Door
from scheduler.api.models import ErrorAnswer
from scheduler.api.rooms import Rooms
from scheduler.core.jobs import JobSpec
from scheduler.errors import SuanliError
from scheduler.ports import Json, Principal, ServiceControl
from scheduler.tokens import TokenTable

MAX_WAITS = 64  # long polls at once; more get 429
_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}
_WORDS = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    control: ServiceControl,
    tokens: TokenTable,
    parse_job: Callable[[Mapping[str, Any], Principal], JobSpec],
    site_json: Json,
    *,
    version: str,
    max_waits: int = MAX_WAITS,
) -> FastAPI:
    """The application around a running service. `parse_job` turns a job file's mapping into a spec or raises BadInput
    with the field; `site_json` is what GET /v1/config answers. It never closes `control`."""
    rooms = Rooms(max_waits=max_waits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        rooms.close()

    app = FastAPI(
        title="Suanli",
        version=version,
        description="Submit jobs to the site's accelerators, ask why one waits, and look after the nodes.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_ERRORS,
        lifespan=lifespan,
    )
    app.state.context = ApiContext(control, parse_job, site_json, version, rooms)
    app.include_router(site_routes.open_router)
    app.include_router(job_routes.router)
    app.include_router(site_routes.router)
    app.include_router(health_routes.router)
    app.include_router(reservation_routes.router)
    app.include_router(schedule_routes.router)
    app.include_router(service_routes.router)
    app.include_router(usage_routes.router)
    app.add_middleware(Door, principal_of=tokens.principal, version=version)
    app.add_exception_handler(SuanliError, _on_suanli_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_http_error)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        headers = {"Content-Security-Policy": docs_page.CONTENT_SECURITY_POLICY}
        return HTMLResponse(docs_page.page(app.openapi()), headers=headers)

    return app


async def _on_suanli_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SuanliError)
    return failure_of(error)


async def _on_bad_request(_request: Request, error: Exception) -> Response:
    """What is wrong in the request itself, in our shape: the first complaint with its field, and how many there are."""
    assert isinstance(error, RequestValidationError)
    complaints = error.errors()
    first = complaints[0]
    if first["type"] == "json_invalid":
        message = f"the request body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return failure(422, message, word="bad_input")
    field = field_path(first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ")
    if field is None and first["type"] == "missing":
        message = "a JSON body is expected, with the header Content-Type: application/json"
    else:
        message = f"{field}: {said}" if field else said
    if len(complaints) > 1:
        message += f" (and {len(complaints) - 1} more)"
    return failure(422, message, word="bad_input", field=field)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path[:200]}; /docs lists what there is"
    elif error.status_code == 405:
        message = f"{request.method} is not possible at {request.url.path[:200]}; /docs says what is"
    else:
        message = str(error.detail)
    response = failure(error.status_code, message, word=_WORDS.get(error.status_code, "bad_input"))
    if error.headers:
        response.headers.update(error.headers)
    return response
