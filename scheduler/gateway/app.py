"""What does the gateway answer? An ASGI application: requests to services, and a few doors of its own.

    ANY /v1/services/NAME/REST   bearer token; goes to /REST of a replica of the service NAME
    PUT /-/routes                control token; replaces the routing table
    GET /-/metrics               control token, or a bearer token (a tenant sees its own services)
    GET /-/health                anybody

A tenant's token reaches its own tenant's services; an operator's all, its own tenant's first where a name is taken
twice. Request headers: `X-Suanli-Timeout-Ms` is the deadline (30 s without); `X-Suanli-Priority` lets a caller step
back behind others of the same service (never ahead of the service's own priority). Errors are
{"error": {"message", "field", "type"}}; 429 and 503 carry Retry-After. What a simulated replica answers carries
`X-Suanli-Simulated: 1`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scheduler.errors import BadInput, Forbidden, NotFound, SuanliError, Superseded, Unauthenticated, Unavailable
from scheduler.gateway.asgi import (
    BodyTooLarge,
    CallerGone,
    Message,
    Receive,
    Send,
    bearer,
    header,
    read_body,
    send_error,
    send_json,
)
from scheduler.gateway.dispatch import BODY_LIMIT_BYTES, BodyBudget, Dispatcher
from scheduler.gateway.routing import MAX_WAITING, Service
from scheduler.gateway.table import EPOCH_HEADER, TABLE_LIMIT_BYTES, load_table, save_table, table_from_json
from scheduler.ports import Clock, Principal, Route

DATA_PREFIX = "/v1/services/"
TABLE_TIMEOUT_S = 10.0
log = logging.getLogger(__name__)


class Tokens(Protocol):
    """scheduler.tokens.TokenTable, as far as the gateway needs it."""

    def principal(self, token: str) -> Principal | None: ...


def create_gateway_app(
    tokens: Tokens,
    control_token: str,
    clock: Clock,
    *,
    table_path: Path | None = None,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
    max_waiting: int = MAX_WAITING,
    seed: int | None = None,
) -> GatewayApp:
    """The application, with the table that `table_path` remembers. Run it with `scheduler.gateway.run.run_gateway`.

    An empty `control_token` is refused: it would let everybody in.
    """
    if not control_token:
        raise BadInput("the gateway needs a control token", field="control_token")
    return GatewayApp(tokens, control_token, clock, table_path, body_limit_bytes, max_waiting, random.Random(seed))


class GatewayApp:
    def __init__(
        self,
        tokens: Tokens,
        control_token: str,
        clock: Clock,
        table_path: Path | None,
        body_limit_bytes: int,
        max_waiting: int,
        rng: random.Random,
    ) -> None:
        self._tokens = tokens
        self._control_token = control_token.encode()
        self._clock = clock
        self._table_path = table_path
        self._max_waiting = max_waiting
        self._rng = rng
        self._services: dict[tuple[str, str], Service] = {}
        self._by_name: dict[str, list[Service]] = {}
        self._dispatcher = Dispatcher(BodyBudget(body_limit_bytes))
        self._installing = asyncio.Lock()
        self._kept: bytes | None = None  # the table as the file holds it
        self._epoch = 0  # the highest of those that sent tables
        self._table_at_s: float | None = None
        self._problem: str | None = None
        self._started_s = clock.now_s()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
        elif kind == "http":
            path: str = scope["path"]
            if path.startswith(DATA_PREFIX):
                await self._serve(scope, receive, send)
            else:
                await self._admin(path, scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._restore()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for service in self._services.values():
            service.close()
        await send({"type": "lifespan.shutdown.complete"})

    # ---- the routing table ---------------------------------------------------------------------------------------

    def _restore(self) -> None:
        if self._table_path is None:
            return
        try:
            routes = load_table(self._table_path)
        except (Unavailable, BadInput) as error:
            # Serving starts empty rather than not at all: the service sends the table again.
            self._problem = f"the kept routing table was not used: {error.message}"
            log.warning("%s", self._problem)
            return
        self.install(routes)

    def install(self, routes: Sequence[Route]) -> None:
        """Make `routes` the whole table. Requests in flight finish where they are."""
        grouped: dict[tuple[str, str], list[Route]] = {}
        for route in routes:
            grouped.setdefault((route.tenant, route.service), []).append(route)
        for key in self._services.keys() - grouped.keys():
            self._services.pop(key).close()
        for key, same in grouped.items():
            service = self._services.get(key)
            if service is None:
                service = self._services[key] = Service(key[0], key[1], self._rng, max_waiting=self._max_waiting)
            service.update(same)
        self._by_name = {}
        for service in self._services.values():
            self._by_name.setdefault(service.name, []).append(service)
        self._table_at_s = self._clock.now_s()

    async def _put_routes(self, scope: Message, receive: Receive) -> dict[str, object]:
        try:
            async with asyncio.timeout(TABLE_TIMEOUT_S):
                text = await read_body(receive, TABLE_LIMIT_BYTES)
        except (BodyTooLarge, CallerGone, TimeoutError) as error:
            raise BadInput(f"the routing table did not arrive whole within {TABLE_TIMEOUT_S:.0f} s") from error
        async with self._installing:
            routes = table_from_json(text)
            self._check_epoch(scope)
            self.install(routes)
            if self._table_path is not None and text != self._kept:
                try:
                    await asyncio.to_thread(save_table, self._table_path, text)
                    self._kept, self._problem = text, None
                except Unavailable as error:
                    # The table is in use; only a restart of the gateway before the next one would miss it.
                    self._problem = error.message
                    log.warning("%s", error.message)
        return {"services": len(self._services), "problem": self._problem}

    def _check_epoch(self, scope: Message) -> None:
        """A service that was replaced, and does not know it yet, must not bring back the table of its time. The epoch
        is not kept over a restart: whoever speaks first is believed then until a higher one speaks, within seconds."""
        said = header(scope, EPOCH_HEADER) or "0"
        if not said.isdecimal() or len(said) > 18:
            raise BadInput(f"{EPOCH_HEADER} must be a whole number", field=EPOCH_HEADER)
        epoch = int(said)
        if epoch < self._epoch:
            raise Superseded(self._epoch)
        self._epoch = epoch

    # ---- requests to services ------------------------------------------------------------------------------------

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticate(scope)
            if principal.role == "viewer":
                raise Forbidden("a viewer's token cannot call services")
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            parts = raw.split(b"/", 4)
            if len(parts) < 4:  # an encoded slash where a plain one belongs
                raise NotFound("there is nothing here; services are at /v1/services/NAME/...")
            raw_name, rest = parts[3], parts[4:]
            service = self._find(urllib.parse.unquote(raw_name.decode("latin-1")), principal)
            target = b"/" + (rest[0] if rest else b"")
            if query := scope.get("query_string"):
                target += b"?" + query
        except SuanliError as error:
            await send_error(send, error)
            return
        await self._dispatcher.dispatch(service, target, scope, receive, send)

    def _authenticate(self, scope: Message) -> Principal:
        token = bearer(scope)
        if token is None:
            raise Unauthenticated("a bearer token is needed: Authorization: Bearer TOKEN")
        principal = self._tokens.principal(token.decode("latin-1"))
        if principal is None:
            raise Unauthenticated("the bearer token is not known here")
        return principal

    def _find(self, name: str, principal: Principal) -> Service:
        own = self._services.get((principal.tenant, name))
        if own is not None:
            return own
        others = self._by_name.get(name, ()) if principal.role == "operator" else ()
        if len(others) > 1:
            tenants = ", ".join(sorted(service.tenant for service in others))
            raise BadInput(f"service {name} exists for several tenants ({tenants}): use a token of one of them")
        if not others:
            raise NotFound(f"no service {name} here; `suanli queue` shows the jobs that serve")
        return others[0]

    # ---- the gateway's own doors ---------------------------------------------------------------------------------

    async def _admin(self, path: str, scope: Message, receive: Receive, send: Send) -> None:
        try:
            answer: dict[str, object]
            match scope["method"], path:
                case "GET", "/-/health":
                    answer = self._health()
                case "GET", "/-/metrics":
                    sees = None if self._holds_control_token(scope) else self._authenticate(scope)
                    answer = self._metrics(sees)
                case "PUT", "/-/routes":
                    if not self._holds_control_token(scope):
                        raise Unauthenticated("the routing table is the service's alone: its control token is needed")
                    answer = await self._put_routes(scope, receive)
                case _:
                    raise NotFound(f"nothing at {path[:100]}; services are at {DATA_PREFIX}NAME/")
        except SuanliError as error:
            await send_error(send, error)
            return
        await send_json(send, 200, answer)

    def _holds_control_token(self, scope: Message) -> bool:
        return hmac.compare_digest(bearer(scope) or b"", self._control_token)

    def _health(self) -> dict[str, object]:
        """`table_at_s`: when the table in use was taken over, null before the first one."""
        return {
            "ok": True,
            "services": len(self._services),
            "table_at_s": self._table_at_s,
            "up_s": round(self._clock.now_s() - self._started_s, 3),
            "problem": self._problem,
        }

    def _metrics(self, sees: Principal | None) -> dict[str, object]:
        """Durations in milliseconds, of all requests since the gateway knows the service."""
        now_s = asyncio.get_running_loop().time()
        return {
            "schema": "suanli/gateway-metrics/1",
            "at_s": self._clock.now_s(),
            "services": [
                {
                    "service": service.name,
                    "tenant": service.tenant,
                    "requests": service.counts.requests,
                    "in_flight": service.in_flight,
                    "waiting": service.waiting,
                    "retries": service.counts.retries,
                    "answers": {str(status): n for status, n in sorted(service.counts.answers.items())},
                    "refused": dict(sorted(service.counts.refused.items())),
                    "latency_ms": service.counts.latency.summary_ms(),
                    "queued_ms": service.counts.queued.summary_ms(),
                    "slo_p99_ms": service.slo_p99_ms,
                    "replicas": [
                        {
                            "job_id": state.replica.job_id,
                            "worker": state.replica.worker,
                            "attempt": state.replica.attempt,
                            "address": state.replica.address,
                            "simulated": state.replica.simulated,
                            "in_flight": state.outstanding,
                            "reachable": state.avoid_until_s <= now_s,
                        }
                        for state in service.replicas
                    ],
                }
                for service in self._services.values()
                if sees is None or sees.role != "tenant" or sees.tenant == service.tenant
            ],
        }
