"""A site as its API tells of it, for whoever only reads: devices, jobs, services, status, over plain HTTP on loopback.

No service behind it and no framework before it: it starts in a millisecond, can be taken away and brought back on the
same port, and holds as many devices as one likes. It keeps what was asked (`asked`) and what was ordered (`posted`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.control_views import job_view, node_view, worker_view
from tests.fakes.live_api import write_private
from tests.fakes.service_views import service_view

Json = dict[str, Any]
FIELDS = (
    "utilisation_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_watts",
    "temperature_celsius",
    "clock_megahertz",
    "energy_joules",
    "ecc_uncorrected_volatile",
    "faults",
)
GIB = 1024**3
VALUES: Mapping[str, float] = {
    "utilisation_percent": 97.0,
    "memory_used_bytes": 61.2 * GIB,
    "memory_total_bytes": 80.0 * GIB,
    "power_watts": 612.0,
    "temperature_celsius": 61.0,
    "clock_megahertz": 1755.0,
    "energy_joules": 123_456_789.0,
    "ecc_uncorrected_volatile": 0.0,
    "faults": 0.0,
}


def told_device(node: str = "edge-0", index: int = 0, *, silent: Mapping[str, str] | None = None, **more: Any) -> Json:
    """A busy and healthy card; `silent`: fields it has none of, with the reason. `values` by field, to change some."""
    why = dict(silent or {})
    values = {**VALUES, **more.pop("values", {})}
    return {
        "node": node,
        "site": "dongyang-subnode",
        "rack": None,
        "index": index,
        "uuid": f"{node}-{index}",
        "model": "H100 SXM",
        "vendor": "nvidia",
        "simulated": False,
        "node_state": "ready",
        "use": "schedulable",
        "reason": "",
        "jobs": [],
        "quality": "measured",
        "read_at_s": 1_800_000_000.0,
        "told": {field: None if field in why else values.get(field) for field in (*FIELDS, *values)},
        "unavailable": why,
    } | more


class DeviceSite:
    """What it answers stands in public fields; `gone` takes it off the network, `back` brings it back."""

    def __init__(self) -> None:
        self.devices: list[Json] = [told_device()]
        self.jobs: list[Json] = []
        self.services: list[Json] = []
        self.nodes: dict[str, Json] = {}
        self.refused: dict[str, tuple[int, str, str]] = {}
        """By path: status, type and message of the failure that it answers."""
        self.truncated = False
        self.at_s = 1_800_000_001.0
        self.asked: list[str] = []
        self.posted: list[tuple[str, Json]] = []
        self.answered = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self._ready: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def back(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._answer(self, None)

            def do_POST(self) -> None:
                site._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def gone(self) -> None:
        """Nothing answers any more: connections that are open are answered with 503, and new ones refused."""
        assert self._server is not None
        assert self._thread is not None
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def freeze(self, path: str, query: Mapping[str, str]) -> int:
        """Answer always what it would answer now, without making it again: for the measuring of who asks. Its size."""
        self._ready[path] = json.dumps(self._found(path, query, None)).encode()
        return len(self._ready[path])

    def _answer(self, handler: BaseHTTPRequestHandler, body: Json | None) -> None:
        url = urlsplit(handler.path)
        status, document = 200, self._ready.get(url.path)
        if self._server is None:
            status, document = 503, _failure("unavailable", "the service is going away")
        elif url.path in self.refused:
            status, word, message = self.refused[url.path]
            document = _failure(word, message)
        elif document is None:
            found = self._found(url.path, {key: one[0] for key, one in parse_qs(url.query).items()}, body)
            status, document = found.pop("status", 200), json.dumps(found).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(document)))
        if self._server is None:
            handler.send_header("Connection", "close")
        handler.end_headers()
        with self.answered:
            self.asked.append(handler.path)
            self.answered.notify_all()
        handler.wfile.write(document)

    def _found(self, path: str, query: Mapping[str, str], body: Json | None) -> Json:
        parts = [unquote(part) for part in path.split("/")[2:]]
        if body is not None:
            self.posted.append((path, body))
            return self._ordered(parts, body)
        match parts:
            case ["devices"]:
                return self._listing(query)
            case ["jobs"]:
                return {"jobs": self.jobs, "schedules": [], "total": len(self.jobs)}
            case ["jobs", name]:
                job = next(job for job in self.jobs if job["id"] == name)
                return job | {"spec": {"command": ["true"]}, "events": [], "results": [], "usage": []}
            case ["jobs", name, "why"]:
                job = next(job for job in self.jobs if job["id"] == name)
                return {"job": job, "text": f"job {name} is {job['state']}\n  1 node: 0 of 2 devices free\n"}
            case ["services"]:
                return {"services": self.services}
            case ["services", name]:
                return next(each for each in self.services if each["name"] == name) | {"decisions": []}
            case ["nodes", name]:
                return self.nodes.get(name) or node_view(name)
            case ["status"]:
                return self._status()
            case _:
                return {"status": 404, "error": {"type": "not_found", "message": f"nothing at {path}", "field": None}}

    def _listing(self, query: Mapping[str, str]) -> Json:
        fields = query["fields"].split(",") if "fields" in query else list(FIELDS)
        wanted = {key: query[key] for key in ("site", "node", "model") if key in query}
        devices = []
        for told in self.devices:
            if any(told[key] != value for key, value in wanted.items()):
                continue
            values = [told["told"].get(field) for field in fields]
            silent = {field: why for field, why in told["unavailable"].items() if field in fields}
            shown = {key: value for key, value in told.items() if key != "told"}
            devices.append(shown | {"values": values, "unavailable": silent})
        return {"at_s": self.at_s, "fields": fields, "devices": devices, "truncated": self.truncated}

    def _status(self) -> Json:
        states: dict[str, str] = {told["node"]: told["node_state"] for told in self.devices}
        return {
            "version": "0.1.0",
            "jobs": _counted(job["state"] for job in self.jobs),
            "nodes": _counted(states.values()),
            "services": {"live_jobs": len(self.services)},
            "loop": {"store_error": None},
        }

    def _ordered(self, parts: list[str], body: Json) -> Json:
        match parts:
            case ["jobs", "cancel"]:
                rows = []
                for job in self.jobs:
                    if job["id"] in body["ids"]:
                        job |= {"state": "cancelled", "reason": None}
                        row = {"id": job["id"], "name": job["name"], "tasks": None, "state": "cancelled"}
                        rows.append(row | {"cause": "cancelled", "detail": body["reason"], "error": None})
                return {"jobs": rows, "cancelled": len(rows), "stopping": 0, "failed": 0}
            case ["nodes", node, "drain"]:
                for told in self.devices:
                    if told["node"] == node:
                        told["node_state"] = "draining"
                drain = {"reason": body["reason"], "by": "olga", "at_s": self.at_s, "deadline_s": None, "left": []}
                return node_view(node, state="draining", drain=drain)
            case _:
                return {"status": 404, "error": {"type": "not_found", "message": "no such order", "field": None}}


def _failure(word: str, message: str) -> bytes:
    return json.dumps({"error": {"type": word, "message": message, "field": None}}).encode()


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


@contextmanager
def device_site(home: Path) -> Iterator[DeviceSite]:
    """Served while the block lasts; `home` is an instance's home that knows it."""
    site = DeviceSite()
    site.back()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(home / "operator.token", "suanli_" + "A" * 43 + "\n")
    known = {"api": site.url, "gateway": None, "token_file": str(home / "operator.token"), "ca_file": None}
    write_private(home / "client.json", json.dumps(known))
    try:
        yield site
    finally:
        if site._server is not None:
            site.gone()


def large_site(site: DeviceSite, *, nodes: int = 1_250, each: int = 8, jobs: int = 10_000) -> None:
    """A full one: real cards but for every tenth node, some of them unwell, and a long queue."""
    site.devices = []
    for row in range(nodes):
        simulated = row % 10 == 9
        name = f"{'sim' if simulated else 'dy'}-h100-{row:04}"
        for index in range(each):
            seed = row * each + index
            values = {"utilisation_percent": float(seed * 7 % 101), "power_watts": 200.0 + seed * 13 % 500}
            told = told_device(name, index, values=values, rack=f"rack-{row // 16}", simulated=simulated)
            told |= {"quality": "simulated" if simulated else "measured"}
            if seed % 5:
                told["jobs"] = [{"id": str(1 + seed), "tenant": "film-studio", "share_milli": 0}]
            if seed % 997 == 0:
                told |= {"use": "cordoned", "reason": "XID 79; restart the node (fallen-off-bus)"}
            site.devices.append(told)
    for number in range(1, jobs + 1):
        running = number <= jobs // 4
        workers = [worker_view(0, f"dy-h100-{number % nodes:04}", range(8))] if running else []
        more: Json = {"state": "running", "reason": None} if running else {}
        named = job_view(
            str(number), name=f"训练-{number}" if number % 3 else f"train-{number}", workers=workers, **more
        )
        site.jobs.append(named | {"submitted_s": time.time() - number})
    site.services = [service_view(f"detect-{number}") for number in range(20)]
