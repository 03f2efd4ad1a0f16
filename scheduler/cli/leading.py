"""The life of a service among others on the same store: it stands by until it may lead, leads, and stands down.

A standby listens on its own API door and answers 503 there, naming the leader. A leader that finds that another one
leads stops acting and starts over as a standby: the same process id, everything else new, so whoever watches over the
process sees it live on.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

import uvicorn

from scheduler.service.control import Service
from scheduler.store.leadership import Leadership

log = logging.getLogger(__name__)

LEADER_HEADER = "Suanli-Leader"
LOOKS_EVERY_S = 0.5
STANDS_DOWN_WITHIN_S = 10.0

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Door:
    """Where the API listens. `url` is how others find it."""

    url: str
    host: str
    port: int
    cert_file: str | None = None
    key_file: str | None = None

    def server(self, app: Any) -> uvicorn.Server:
        return uvicorn.Server(
            uvicorn.Config(
                app,
                host=self.host,
                port=self.port,
                loop="uvloop",
                http="httptools",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
                ssl_certfile=self.cert_file,
                ssl_keyfile=self.key_file,
            )
        )


# ---- standing by -------------------------------------------------------------------------------------------------


class StandbyApp:
    """Answers everything with 503 and who leads."""

    def __init__(self, leader: Callable[[], tuple[int, str]]) -> None:
        self._leader = leader

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})
        if scope["type"] != "http":
            return
        epoch, leader = self._leader()
        where = f"the service is at {leader} (epoch {epoch})" if leader else "which service leads is not known yet"
        said: dict[str, Any] = {
            "error": {"message": f"this is a standby; {where}", "field": None, "type": "unavailable"},
            "leader": leader or None,
            "epoch": epoch,
        }
        if scope["path"] == "/v1/health":
            said = {"schema": "suanli/health/1", "status": "standby", **said}
        body = json.dumps(said).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"2"),
            (b"cache-control", b"no-store"),
        ]
        if leader:
            headers.append((LEADER_HEADER.lower().encode(), leader.encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def may_lead(door: Door, leadership: Leadership) -> bool:
    """Returns True when this service may lead, at once or after standing by; False when it was told to stop. Raises
    Unavailable where the store cannot be asked at all."""
    if leadership.try_now():
        return True
    stop, leads = threading.Event(), threading.Event()
    server = door.server(StandbyApp(leadership.leader))

    def wait() -> None:
        if leadership.wait(stop):
            leads.set()
        server.should_exit = True

    log.warning("another service leads on this store; this one stands by at %s", door.url)
    waiting = threading.Thread(target=wait, name="standby", daemon=True)
    waiting.start()
    try:
        server.run()  # until `wait` ends it, or a signal, which is raised again once the door is closed
    finally:
        stop.set()
        waiting.join(timeout=10)
    return leads.is_set()


# ---- leading -----------------------------------------------------------------------------------------------------


class _StandDown:
    """Said once, from whatever thread finds out first."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._server: uvicorn.Server | None = None
        self._once = threading.Lock()

    def ends(self, server: uvicorn.Server) -> None:
        with self._once:
            self._server = server
            server.should_exit |= self.wanted.is_set()

    def want(self, why: str) -> None:
        with self._once:
            if self.wanted.is_set():
                return
            self.wanted.set()
            log.error("this service stands down: %s", why)
            if self._server is not None:
                self._server.should_exit = True
        # Nothing that hangs (a database, a node, a client) may keep a replaced service from standing down.
        timer = threading.Timer(STANDS_DOWN_WITHIN_S, start_over)
        timer.daemon = True
        timer.start()


def lead(door: Door, leadership: Leadership, service: Service, app: Any, *, started: Callable[[], None]) -> bool:
    """Start the service and serve its API. Returns False when it was told to stop, True when another service leads:
    then this one has stopped acting. `started` is called once the service runs."""
    stand_down = _StandDown()
    leadership.keep(lambda: service.epoch if service.started else None, stand_down.want)
    service.start()
    started()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOKS_EVERY_S):
            if service.superseded_by is not None:
                stand_down.want(f"a service of epoch {service.superseded_by} has taken over")
                return

    watching = threading.Thread(target=watch, name="watch-epoch", daemon=True)
    watching.start()
    server = door.server(app)
    stand_down.ends(server)
    try:
        server.run()
    finally:
        ended.set()
        service.close()
        leadership.close()  # before anything that takes time: a standby may take over now
    return stand_down.wanted.is_set()


def end_on_sigterm() -> None:
    """SIGTERM ends the process as SystemExit does, so that what was opened is closed. uvicorn raises the signal that
    ended it once more, which by default would end the process on the spot."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)


def start_over() -> NoReturn:
    """This very process from its beginning."""
    log.warning("starting over, as a standby")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own argv, no shell
