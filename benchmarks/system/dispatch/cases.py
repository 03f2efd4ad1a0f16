"""The cases that go through the running service, over its HTTP API as any client would.

The stamps of processes are the launcher's, taken when it forks and when it hears of the end; the client's are taken on
this side of the connection. Both must be of one clock: the node has to be this machine, which `here` sees to.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from benchmarks.system.dispatch.answer import percentile
from scheduler.errors import Conflict, Unavailable

ENDED = frozenset({"succeeded", "failed", "cancelled"})
# A task takes so little that a thousand stand beside each other on one device: what is timed is the way there.
TINY = {"share": 0.001, "cpus": 0.001}
NO_OP = ("/bin/true",)
STAMP = ("/bin/date", "+%s.%N")
LONGEST_S = 120.0

Progress = Callable[[str, float], None]


class LogText(Protocol):
    @property
    def data(self) -> bytes: ...


class Client(Protocol):
    """The HTTP API, as scheduler.cli.client.Client offers it. All raise scheduler.errors.SuanliError."""

    def get(self, path: str, /, **query: Any) -> dict[str, Any]: ...

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]: ...

    def wait_for_job(self, job_id: str, *, timeout_s: float | None = None) -> dict[str, Any]: ...

    def read_log(self, job_id: str, /) -> LogText: ...


@dataclass(frozen=True, slots=True)
class Here:
    """The node that is this machine. `devices`: how many it has."""

    name: str
    devices: int


@dataclass(slots=True)
class Measured:
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def here(client: Client) -> Here:
    """Raises Unavailable where no node of the service is this machine, and Conflict where it has work."""
    addresses = _own_addresses()
    found = [
        node
        for node in client.get("/v1/nodes")["nodes"]
        if not node["simulated"] and node["state"] == "ready" and node["address"] in addresses and node["devices"]
    ]
    if not found:
        raise Unavailable(
            "no ready node of the service is this machine, whose clock the stamps are compared with; run this on a "
            "machine that carries a node (`suanli up`, `suanli node join`)"
        )
    node = found[0]
    busy = [job for device in node["devices"] for job in device["jobs"]]
    if busy:
        raise Conflict(
            f"node {node['name']} has work (job {busy[0]}), which would be timed with it; wait for it or cancel it"
        )
    return Here(str(node["name"]), len(node["devices"]))


def _own_addresses() -> set[str]:
    found = {"127.0.0.1", "::1", "localhost", socket.gethostname()}
    for host in (socket.gethostname(), socket.getfqdn()):
        try:
            found |= {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except OSError:
            continue
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:  # no packet is sent: the kernel only says by which address it would go
            probe.connect(("192.0.2.1", 9))
            found.add(str(probe.getsockname()[0]))
        except OSError:
            pass
    return found


# ---- one at a time -------------------------------------------------------------------------------------------------


def one_at_a_time(client: Client, node: Here, jobs: int, measured: Measured, progress: Progress) -> None:
    acknowledged, starts, visible = [], [], []
    for number in range(-5, jobs):  # the first few warm up
        before_s = time.time()
        job_id = _submit(client, {"job": _job(node, NO_OP, TINY)})[0]
        answered_s = time.time()
        _await(client, job_id)
        shown_s = time.time()
        used = _usage(client, job_id)
        if number >= 0:
            acknowledged.append(1e3 * (answered_s - before_s))
            starts.append(1e3 * (used["from_s"] - before_s))
            visible.append(1e3 * (shown_s - used["to_s"]))
            progress("one at a time", (number + 1) / jobs)
    measured.values["acknowledged_p50_ms"] = round(percentile(acknowledged, 50), 3)
    measured.values["start_p50_ms"] = round(percentile(starts, 50), 3)
    measured.values["start_p99_ms"] = round(percentile(starts, 99), 3)
    measured.values["exit_visible_p50_ms"] = round(percentile(visible, 50), 3)
    measured.details["one_at_a_time"] = {
        "jobs": jobs,
        "acknowledged_p99_ms": round(percentile(acknowledged, 99), 3),
        "start_min_ms": round(min(starts), 3),
        "start_max_ms": round(max(starts), 3),
        "exit_visible_p99_ms": round(percentile(visible, 99), 3),
    }


def one_after_the_other(client: Client, node: Here, jobs: int, measured: Measured, progress: Progress) -> None:
    """Each takes all devices of the node, so that the next one waits for it."""
    whole = {"count": node.devices, "cpus": 0.001}
    ids = _submit(client, {"jobs": [_job(node, NO_OP, whole)] * (jobs + 1)})
    used = []
    for number, job_id in enumerate(ids):
        _await(client, job_id)
        used.append(_usage(client, job_id))
        progress("one after the other", (number + 1) / len(ids))
    used.sort(key=lambda each: float(each["from_s"]))
    gaps = [1e3 * (after["from_s"] - before["to_s"]) for before, after in pairwise(used)]
    measured.values["next_start_p50_ms"] = round(percentile(gaps, 50), 3)
    measured.details["one_after_the_other"] = {
        "jobs": len(ids),
        "next_start_p99_ms": round(percentile(gaps, 99), 3),
        "next_start_min_ms": round(min(gaps), 3),
    }


# ---- many at once --------------------------------------------------------------------------------------------------


def array(client: Client, node: Here, tasks: int, measured: Measured, progress: Progress) -> None:
    progress("an array", 0.0)
    wall_s, ids = _all(client, {"job": _job(node, NO_OP, TINY) | {"array": tasks}})
    measured.values["array_per_s"] = round(tasks / wall_s, 1)
    runs = [len(client.get(f"/v1/jobs/{job_id}")["usage"]) for job_id in ids]
    measured.values["array_not_once"] = float(sum(count != 1 for count in runs) + tasks - len(ids))
    measured.details["array"] = {"tasks": tasks, "wall_s": round(wall_s, 3)}


def bulk(client: Client, node: Here, jobs: int, measured: Measured, progress: Progress) -> None:
    progress("many jobs", 0.0)
    wall_s, ids = _all(client, {"jobs": [_job(node, NO_OP, TINY)] * jobs})
    measured.values["bulk_per_s"] = round(len(ids) / wall_s, 1)
    measured.details["bulk"] = {"jobs": jobs, "wall_s": round(wall_s, 3)}


def stamped_array(client: Client, node: Here, tasks: int, measured: Measured, progress: Progress) -> None:
    """By what the tasks themselves wrote, as of peers."""
    progress("a stamped array", 0.0)
    before_s = time.time()
    _, ids = _all(client, {"job": _job(node, STAMP, TINY) | {"array": tasks}})
    last_s = max(float(client.read_log(job_id).data) for job_id in ids)
    measured.values["array_stamped_per_s"] = round(tasks / (last_s - before_s), 1)


def _all(client: Client, body: Mapping[str, Any]) -> tuple[float, Sequence[str]]:
    """Seconds from before the submission until the last end is shown."""
    before_s = time.perf_counter()
    ids = _submit(client, body)
    for job_id in reversed(ids):  # the last one first: after it few are left to ask for
        _await(client, job_id)
        if job_id == ids[-1]:
            _until_none_lives(client, set(ids))
            break
    return time.perf_counter() - before_s, ids


def _until_none_lives(client: Client, ids: set[str]) -> None:
    until_s = time.monotonic() + LONGEST_S
    while True:
        lives = client.get("/v1/jobs", state="pending,starting,running,preempting", limit=10_000)["jobs"]
        left = [job["id"] for job in lives if job["id"] in ids]
        if not left:
            return
        if time.monotonic() > until_s:
            raise Unavailable(f"job {left[0]} and {len(left) - 1} more have not ended within {LONGEST_S:g} s")
        _await(client, left[-1])


# ---- asking --------------------------------------------------------------------------------------------------------


def _job(node: Here, command: Sequence[str], resources: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "bench-dispatch",
        "kind": "batch",
        "command": list(command),
        "working_dir": "/",
        "resources": {**resources, "node": node.name},
        "time_limit": "5m",
    }


def _submit(client: Client, body: Mapping[str, Any]) -> list[str]:
    return [str(job["id"]) for job in client.post("/v1/jobs", body)["jobs"]]


def _await(client: Client, job_id: str) -> None:
    view = client.wait_for_job(job_id, timeout_s=LONGEST_S)
    if view["state"] not in ENDED:
        raise Unavailable(f"job {job_id} has not ended within {LONGEST_S:g} s: it is {view['state']}")
    if view["state"] != "succeeded":
        raise Unavailable(f"job {job_id} of the benchmark {view['state']}: {view['detail']}")


def _usage(client: Client, job_id: str) -> dict[str, Any]:
    (used,) = client.get(f"/v1/jobs/{job_id}")["usage"]
    return dict(used)


# ---- for reference -------------------------------------------------------------------------------------------------


def bare(processes: int, measured: Measured, progress: Progress) -> None:
    """What fork, exec and wait cost here with nothing around them."""
    progress("bare processes", 0.0)
    before_s = time.perf_counter()
    for _ in range(processes):
        pid = os.posix_spawn(NO_OP[0], NO_OP, {})
        os.waitpid(pid, 0)
    measured.values["bare_per_s"] = round(processes / (time.perf_counter() - before_s), 1)
