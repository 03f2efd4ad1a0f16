"""What does the gateway answer? An ASGI application: requests to services, and a few doors of its own.

    ANY /v1/services/NAME/REST       bearer token; goes to /REST of a replica of the service NAME
    ANY /PATH with a service's Host  bearer token; goes to /PATH of a replica of that service
    PUT /-/routes                    control token; replaces the routing table
    GET /-/loads?after=N&wait_s=S    control token; what was seen since (reports.py), a long poll
    GET /-/metrics                   control token, or a bearer token (a tenant sees its own services)
    GET /-/metrics/prometheus        the same as Prometheus text; also for `Accept: text/plain` at /-/metrics
    GET /-/health                    anybody

Request headers: `X-Suanli-Timeout-Ms` is the deadline (without it the service's SLO says when the answer is wanted, and
30 s is the end); `X-Suanli-Priority` lets a caller step back behind others of the same service (never ahead of the
service's own priority). Errors are {"error": {"message", "field", "type"}}; 429 and 503 carry Retry-After. What a
simulated replica answers carries `X-Suanli-Simulated: 1`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from scheduler.errors import BadInput, NotFound, SuanliError, Superseded, Unauthenticated, Unavailable
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
    send_text,
)
from scheduler.gateway.directory import DATA_PREFIX, ServiceDirectory, Tokens
from scheduler.gateway.dispatch import Dispatcher
from scheduler.gateway.fast_heads import FastHeads
from scheduler.gateway.fast_request import FastPath
from scheduler.gateway.reports import LoadReports, may_see, prometheus_text, service_json
from scheduler.gateway.requests import BODY_LIMIT_BYTES, BodyBudget
from scheduler.gateway.routing import MAX_WAITING, Site
from scheduler.gateway.table import EPOCH_HEADER, TABLE_LIMIT_BYTES, load_table, save_table, table_from_json
from scheduler.gateway.watching import ReplicaWatch
from scheduler.ports import Clock, Principal, Route

TABLE_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.02
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger(__name__)


def create_gateway_app(
    tokens: Tokens,
    control_token: str,
    clock: Clock,
    *,
    table_path: Path | None = None,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
    max_waiting: int = MAX_WAITING,
    seed: int | None = None,
    node: str = "",
    site: str = "",
) -> GatewayApp:
    """The application, with the table that `table_path` remembers. Run it with `scheduler.gateway.run.run_gateway`.

    `node` and `site` say where it runs: replicas of that node are reached over their Unix sockets, those of that site
    come first. An empty `control_token` is refused: it would let everybody in.
    """
    if not control_token:
        raise BadInput("the gateway needs a control token", field="control_token")
    watch = ReplicaWatch()
    at = Site(
        random.Random(seed),
        node=node,
        site=site,
        max_waiting=max_waiting,
        suspect=watch.idle_lost,
        appeared=watch.appeared,
    )
    return GatewayApp(tokens, control_token, clock, table_path, body_limit_bytes, at, watch)


class GatewayApp:
    def __init__(
        self,
        tokens: Tokens,
        control_token: str,
        clock: Clock,
        table_path: Path | None,
        body_limit_bytes: int,
        at: Site,
        watch: ReplicaWatch,
    ) -> None:
        self._control_token = control_token.encode()
        self._clock = clock
        self._table_path = table_path
        self._watch = watch
        self._at = at
        self._directory = ServiceDirectory(tokens, at)
        self._dispatcher = Dispatcher(BodyBudget(body_limit_bytes), watch.suspect)
        self.fast = FastPath(FastHeads(self._directory, body_limit_bytes), watch.suspect)
        self._reports = LoadReports(self._directory, clock)
        at.attention = self._reports.attention
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
            path: bytes = scope.get("raw_path") or scope["path"].encode()
            host = (header(scope, "host") or "").encode("latin-1")
            if path.startswith(DATA_PREFIX) or self._directory.is_hosted(host, path):
                await self._serve(path, host, scope, receive, send)
            else:
                await self._admin(scope["path"], scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._restore()
        looking = asyncio.ensure_future(self._look())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        looking.cancel()
        self._watch.close()
        self._directory.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _look(self) -> None:
        """What nobody else would notice: deadlines that come, requests that became hopeless, replicas gone silent."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            try:
                self.fast.look(now_s)
                for version in list(self._at.busy):
                    if len(version.queue):
                        version.hand_out(now_s)
                    elif not version.in_flight:
                        self._at.busy.discard(version)
                    self._watch.look(version, now_s)
            except Exception:  # a fault of ours must not end all looking
                log.exception("looking after requests and replicas failed")

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
        self._directory.install(routes)
        self.fast.heads.forget()
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
        return {"services": len(self._directory), "problem": self._problem}

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

    async def _serve(self, path: bytes, host: bytes, scope: Message, receive: Receive, send: Send) -> None:
        try:
            service, target = self._directory.service_of(bearer(scope), host, path)
        except SuanliError as error:
            await send_error(send, error)
            return
        if query := scope.get("query_string"):
            target += b"?" + query
        await self._dispatcher.dispatch(service, target, scope, receive, send)

    # ---- the gateway's own doors ---------------------------------------------------------------------------------

    async def _admin(self, path: str, scope: Message, receive: Receive, send: Send) -> None:
        try:
            answer: dict[str, object]
            match scope["method"], path:
                case "GET", "/-/health":
                    answer = self._health()
                case "GET", "/-/metrics" | "/-/metrics/prometheus":
                    holds_control = self._holds_control_token(scope)
                    sees = None if holds_control else self._directory.authenticate(bearer(scope))
                    if path.endswith("prometheus") or (header(scope, "accept") or "").startswith("text/plain"):
                        seen = [service for service in self._directory if may_see(service, sees)]
                        await send_text(send, 200, prometheus_text(seen), PROMETHEUS)
                        return
                    answer = self._metrics(sees)
                case "GET", "/-/loads":
                    if not self._holds_control_token(scope):
                        raise Unauthenticated("loads are the service's alone: its control token is needed")
                    answer = await self._reports.next(*_poll(scope["query_string"]))
                case "PUT", "/-/routes":
                    if not self._holds_control_token(scope):
                        raise Unauthenticated("the routing table is the service's alone: its control token is needed")
                    answer = await self._put_routes(scope, receive)
                case _:
                    raise NotFound(f"nothing at {path[:100]}; services are at {DATA_PREFIX.decode()}NAME/")
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
            "services": len(self._directory),
            "table_at_s": self._table_at_s,
            "up_s": round(self._clock.now_s() - self._started_s, 3),
            "problem": self._problem,
        }

    def _metrics(self, sees: Principal | None) -> dict[str, object]:
        """Durations in milliseconds, of all requests since the gateway knows the service."""
        return {
            "schema": "suanli/gateway-metrics/1",
            "at_s": self._clock.now_s(),
            "services": [service_json(service) for service in self._directory if may_see(service, sees)],
        }


def _poll(query: bytes) -> tuple[int, float]:
    """`after` and `wait_s` of GET /-/loads. Raises BadInput."""
    given = dict(urllib.parse.parse_qsl(query.decode("latin-1")))
    after, wait_s = given.get("after", "0"), given.get("wait_s", "1")
    if not after.isdecimal() or len(after) > 15:
        raise BadInput("after must be the number of the loads that were received last", field="after")
    try:
        seconds = float(wait_s)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise BadInput("wait_s must be from 0 to 60", field="wait_s")
    return int(after), seconds
