"""How does the service steer a gateway that may be away, and hear what it sees? Two threads for each gateway: one keeps
sending the newest table until it arrives, one asks for loads by long polls where somebody wants them.

Only the newest table counts: one that was never sent is replaced, not queued. A table that has arrived is sent again
now and then, so that a gateway that came back without its file is right again within `refresh_s`.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

from scheduler.errors import BadInput, Conflict
from scheduler.gateway.loads_json import loads_from_json
from scheduler.gateway.table import EPOCH_HEADER, table_to_json
from scheduler.ports import Route, ServiceLoad

RETRY_S = 0.25
REFRESH_S = 5.0
TIMEOUT_S = 5.0
LOADS_WAIT_S = 1.0
LARGEST_LOADS_BYTES = 64 << 20
log = logging.getLogger(__name__)


class EveryGateway:
    """ports.GatewayControl for several: each is sent every table, and none waits for another."""

    def __init__(self, controls: Sequence[HttpGatewayControl]) -> None:
        self._controls = tuple(controls)

    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        for control in self._controls:
            control.publish(routes, epoch=epoch)

    def close(self) -> None:
        for control in self._controls:
            control.tell_to_end()
        for control in self._controls:
            control.close()


class HttpGatewayControl:
    """ports.GatewayControl over HTTP. `base_url` as in client.json; `ca_file` for a gateway with TLS of our own CA.

    `on_loads` is called from a thread with what the gateway saw of each version since the last call: every
    `loads_wait_s`, or at once when something needs attention. What it raises is logged, and the next loads come.
    """

    def __init__(
        self,
        base_url: str,
        control_token: str,
        *,
        ca_file: Path | None = None,
        retry_s: float = RETRY_S,
        refresh_s: float = REFRESH_S,
        on_loads: Callable[[Sequence[ServiceLoad]], None] | None = None,
        loads_wait_s: float = LOADS_WAIT_S,
    ) -> None:
        url = urllib.parse.urlsplit(base_url)
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise ValueError(f"gateway URL {base_url!r} must be http://HOST:PORT or https://HOST:PORT")
        self._base_url = base_url
        self._host, self._port = url.hostname, url.port
        self._path = url.path.rstrip("/") + "/-"
        self._tls = ssl.create_default_context(cafile=ca_file) if url.scheme == "https" else None
        self._control_token = control_token
        self._retry_s = retry_s
        self._refresh_s = refresh_s
        self._changed = threading.Condition()
        self._newest: tuple[bytes, int] | None = None  # with the epoch that speaks
        self._number = 0  # of the newest table
        self._arrived = 0  # number of the last table that the gateway has
        self._replaced = False  # the gateway obeys a service of a higher epoch
        self._closed = False
        self._loads_wait_s = loads_wait_s
        self._thread = threading.Thread(target=self._run, name="gateway-control", daemon=True)
        self._thread.start()
        self._listener: threading.Thread | None = None
        if on_loads is not None:
            self._listener = threading.Thread(target=self._listen, args=(on_loads,), name="gateway-loads", daemon=True)
            self._listener.start()

    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        """Hand the table over and return at once."""
        table = table_to_json(routes)
        with self._changed:
            self._newest = table, epoch
            self._number += 1
            self._changed.notify_all()

    def wait_arrived(self, timeout_s: float) -> bool:
        """Whether the newest table has reached the gateway, after waiting for it at most `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._arrived == self._number, timeout_s)

    def tell_to_end(self) -> None:
        """A table that has not arrived stays unsent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads. A poll that waits is not waited for longer than it lasts."""
        self.tell_to_end()
        self._thread.join(TIMEOUT_S + 1.0)
        if self._listener is not None:
            self._listener.join(TIMEOUT_S + self._loads_wait_s + 1.0)

    def _run(self) -> None:
        last_problem: str | None = None
        while True:
            with self._changed:
                if last_problem is not None and not self._closed:
                    self._changed.wait(self._refresh_s if self._replaced else self._retry_s)
                elif self._arrived == self._number and not self._closed:
                    self._changed.wait(self._refresh_s if self._newest is not None else None)
                if self._closed:
                    return
                newest, number = self._newest, self._number
            if newest is None:
                continue
            problem = self._put(*newest)
            if problem is None:
                with self._changed:
                    self._arrived = number
                    self._changed.notify_all()
            elif problem != last_problem:  # once for each new problem, not four times a second
                log.warning("gateway %s did not take the routing table: %s; retrying", self._base_url, problem)
            last_problem = problem

    def _listen(self, on_loads: Callable[[Sequence[ServiceLoad]], None]) -> None:
        """Long polls, one after the other, over one connection while it holds."""
        connection: http.client.HTTPConnection | None = None
        number = 0
        last_problem: str | None = None
        while not self._closed:
            try:
                if connection is None:
                    connection = self._connection(TIMEOUT_S + self._loads_wait_s)
                target = f"{self._path}/loads?after={number}&wait_s={self._loads_wait_s}"
                connection.request("GET", target, headers={"Authorization": f"Bearer {self._control_token}"})
                response = connection.getresponse()
                text = response.read(LARGEST_LOADS_BYTES)
                if response.status != 200:
                    raise BadInput(f"HTTP {response.status}: {text[:300].decode('utf-8', 'replace')}")
                number, loads = loads_from_json(text)
            except (OSError, http.client.HTTPException, BadInput) as error:
                if connection is not None:
                    connection.close()
                connection, number = None, 0
                problem = f"{type(error).__name__}: {error}"
                if problem != last_problem and not self._closed:
                    log.warning("gateway %s did not tell its loads: %s; retrying", self._base_url, problem)
                last_problem = problem
                with self._changed:
                    if not self._closed:
                        self._changed.wait(self._retry_s)
                continue
            last_problem = None
            try:
                on_loads(loads)
            except Exception:  # whoever listens must not end the listening
                log.exception("loads of gateway %s were not taken", self._base_url)
        if connection is not None:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)

    def _put(self, table: bytes, epoch: int) -> str | None:
        """None when it arrived, else what was wrong."""
        connection = self._connection(TIMEOUT_S)
        try:
            headers = {
                "Authorization": f"Bearer {self._control_token}",
                "Content-Type": "application/json",
                EPOCH_HEADER: str(epoch),
            }
            connection.request("PUT", f"{self._path}/routes", body=table, headers=headers)
            response = connection.getresponse()
            text = response.read(300).decode("utf-8", "replace")
            self._replaced = response.status == Conflict.http_status
            return None if response.status == 200 else f"HTTP {response.status}: {text}"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
