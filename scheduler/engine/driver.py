"""This process as a driver of Ray: join the cluster, see who is in it, notice when the way into it is lost.

All of it blocks and is to be called from one thread after another, never at once.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import ray

from scheduler.engine.leaving import MARKS, mark_of
from scheduler.errors import Unavailable

NAMESPACE = "suanli"
PORT_WITHIN_S = 30.0

Row = dict[str, Any]
"""What `ray.nodes()` says of one machine."""


class RayDriver:
    def __init__(self, address: str) -> None:
        self._address = address
        self._own_node = ""

    def connect(self, closing: threading.Event) -> None:
        """Join the cluster that `up` started. Waits for its port first: Ray itself would wait minutes."""
        host, port = self._address.rsplit(":", 1)
        deadline = time.monotonic() + PORT_WITHIN_S
        while not closing.is_set():
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"Ray's head does not answer at {self._address}; see ray.log") from None
                time.sleep(0.05)
        try:
            ray.init(
                address=self._address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=False,
            )
            self._own_node = ray.get_runtime_context().get_node_id()
        except BaseException:
            ray.shutdown()
            raise

    def nodes(self) -> list[Row]:
        """Waits while the GCS is being started again."""
        rows: list[Row] = ray.nodes()  # type: ignore[no-untyped-call]
        return rows

    def is_in(self, rows: list[Row]) -> bool:
        """Whether the raylet lives through which this driver is joined. A driver whose raylet died is told of no more
        than that, and must join again.
        """
        return any(row["NodeID"] == self._own_node and row["Alive"] for row in rows)

    def has_left(self, ray_node_id: str) -> bool:
        """Whether the node said, when its last process had ended, that it left."""
        from ray.experimental.internal_kv import internal_kv_get_gcs_client

        client = internal_kv_get_gcs_client()  # type: ignore[no-untyped-call]
        return client is not None and client.internal_kv_get(mark_of(ray_node_id), MARKS) is not None

    def disconnect(self) -> None:
        ray.shutdown()
