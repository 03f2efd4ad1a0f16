"""/v1/nodes, /v1/devices, /v1/tenants, /v1/status, /v1/config, /v1/health and /metrics: the site around the jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from node_agent import exporter
from scheduler.api.answers import answer, encoded, encoded_large
from scheduler.api.context import Caller, Context, NodeName, Operator, Overseer, bearer
from scheduler.api.metrics import prometheus_text
from scheduler.api.site_models import (
    CloseDownAnswer,
    ConfigAnswer,
    DevicesAnswer,
    DrainRequest,
    HealthAnswer,
    NodeAnswer,
    NodesAnswer,
    StatusAnswer,
    TenantsAnswer,
)

router = APIRouter(dependencies=[Depends(bearer)])
open_router = APIRouter()
PROMETHEUS = "text/plain; version=0.0.4"


@open_router.get("/v1/health", response_model=HealthAnswer, tags=["service"])
async def health(context: Context) -> Response:
    """The API answers. Needs no token."""
    return answer(encoded("health", {"status": "ok", "version": context.version}))


@router.get("/v1/nodes", response_model=NodesAnswer, tags=["nodes"])
async def nodes(
    by: Caller,
    context: Context,
    readings: Annotated[bool, Query(description="false: leave the readings empty, which are most of it")] = True,
) -> Response:
    """Nodes with their devices, what is free on them, and the last readings."""

    def work() -> bytes:
        return encoded_large("nodes", context.control.nodes(by, readings=readings))

    return answer(await context.rooms.commands.call(work))


@router.get("/v1/nodes/{node}", response_model=NodeAnswer, tags=["nodes"])
async def node(node: NodeName, by: Caller, context: Context) -> Response:
    """One node, as in the list of them."""
    return answer(await context.rooms.commands.call(lambda: encoded("node", context.control.node(node, by))))


@router.get("/v1/devices", response_model=DevicesAnswer, tags=["nodes"])
async def devices(
    by: Caller,
    context: Context,
    site: Annotated[str | None, Query(max_length=100)] = None,
    node: Annotated[str | None, Query(max_length=253)] = None,
    model: Annotated[str | None, Query(max_length=100, description="as the catalogue has it")] = None,
    fields: Annotated[
        list[str] | None, Query(description="quantities to show, repeated or separated by commas; none: the usual ones")
    ] = None,
) -> Response:
    """Every device: where it is, whether it may be used, whose jobs it has, and its last readings."""
    asked = [word for part in fields or () for word in part.split(",") if word]

    def work() -> bytes:
        shown = context.control.devices(by, site=site, node=node, model=model, fields=asked or None)
        return encoded_large("devices", shown)

    return answer(await context.rooms.commands.call(work))


@router.post("/v1/nodes/{node}/drain", response_model=NodeAnswer, tags=["nodes"])
async def drain(node: NodeName, request: DrainRequest, by: Operator, context: Context) -> Response:
    """Empty a node: nothing new starts there, jobs end or (at the deadline) save their work and move, replicas of
    services are replaced elsewhere first."""

    def work() -> bytes:
        shown = context.control.drain(node, by, reason=request.reason, deadline_in_s=request.deadline_in_s)
        return encoded("drain", shown)

    return answer(await context.rooms.commands.call(work))


@router.post("/v1/nodes/{node}/resume", response_model=NodeAnswer, tags=["nodes"])
async def resume(node: NodeName, by: Operator, context: Context) -> Response:
    """Take a drained node back into use."""
    return answer(await context.rooms.commands.call(lambda: encoded("resume", context.control.resume(node, by))))


@router.get("/v1/tenants", response_model=TenantsAnswer, tags=["tenants"])
async def tenants(by: Caller, context: Context) -> Response:
    """What each tenant may hold, holds and has held: the one whose turn is next first. A tenant sees itself alone."""
    return answer(await context.rooms.commands.call(lambda: encoded("tenants", context.control.tenants(by))))


@router.get("/v1/status", response_model=StatusAnswer, tags=["service"])
async def status(by: Overseer, context: Context) -> Response:
    """Processes, addresses and counts of the running service."""
    return answer(await context.rooms.commands.call(lambda: encoded("status", context.control.status(by))))


@router.post("/v1/close-down", response_model=CloseDownAnswer, tags=["service"])
async def close_down(by: Operator, context: Context) -> Response:
    """Before the site is taken down: start nothing more, and let what runs save its work and go back to the queue."""
    return answer(await context.rooms.commands.call(lambda: encoded("close-down", context.control.close_down(by))))


@router.get("/v1/config", response_model=ConfigAnswer, tags=["service"])
async def config(_by: Caller, context: Context) -> Response:
    """The names that job files may use here."""
    return answer(encoded("config", context.site))


@router.get("/metrics", response_class=Response, tags=["service"])
async def metrics(by: Overseer, context: Context) -> Response:
    """Counts for Prometheus, in its text format."""

    def work() -> str:
        services = context.control.services(by)["services"]
        return prometheus_text(context.control.status(by), context.control.tenants(by)["tenants"], services)

    return Response(await context.rooms.commands.call(work), media_type=PROMETHEUS)


@router.get("/metrics/devices", response_class=Response, tags=["service"])
async def device_metrics(by: Overseer, context: Context) -> Response:
    """The last readings of all devices for Prometheus. Apart from /metrics, as there may be very many."""

    def work() -> str:
        nodes = context.control.nodes(by)["nodes"]
        models = {device["uuid"]: device["model"] for node in nodes for device in node["devices"]}
        return exporter.render({node["name"]: node["readings"] for node in nodes}, models)

    return Response(await context.rooms.commands.call(work), media_type=PROMETHEUS)
