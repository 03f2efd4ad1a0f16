"""How does the service steer a gateway that may be away? A thread that keeps sending the newest table until it arrives.

Only the newest table counts: one that was never sent is replaced, not queued. A table that has arrived is sent again
now and then, so that a gateway that came back without its file is right again within `refresh_s`.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from scheduler.errors import Conflict
from scheduler.gateway.table import EPOCH_HEADER, table_to_json
from scheduler.ports import Route

RETRY_S = 0.25
REFRESH_S = 5.0
TIMEOUT_S = 5.0
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
    """ports.GatewayControl over HTTP. `base_url` as in client.json; `ca_file` for a gateway with TLS of our own CA."""

    def __init__(
        self,
        base_url: str,
        control_token: str,
        *,
        ca_file: Path | None = None,
        retry_s: float = RETRY_S,
        refresh_s: float = REFRESH_S,
    ) -> None:
        url = urllib.parse.urlsplit(base_url)
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise ValueError(f"gateway URL {base_url!r} must be http://HOST:PORT or https://HOST:PORT")
        self._base_url = base_url
        self._host, self._port = url.hostname, url.port
        self._path = url.path.rstrip("/") + "/-/routes"
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
        self._thread = threading.Thread(target=self._run, name="gateway-control", daemon=True)
        self._thread.start()

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
        """End the thread."""
        self.tell_to_end()
        self._thread.join(TIMEOUT_S + 1.0)

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

    def _put(self, table: bytes, epoch: int) -> str | None:
        """None when it arrived, else what was wrong."""
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
            if self._tls is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        )
        try:
            headers = {
                "Authorization": f"Bearer {self._control_token}",
                "Content-Type": "application/json",
                EPOCH_HEADER: str(epoch),
            }
            connection.request("PUT", self._path, body=table, headers=headers)
            response = connection.getresponse()
            text = response.read(300).decode("utf-8", "replace")
            self._replaced = response.status == Conflict.http_status
            return None if response.status == 200 else f"HTTP {response.status}: {text}"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
