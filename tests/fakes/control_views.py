"""What the service says of jobs, workers, nodes, devices, schedules and tenants: JSON as tests want it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scheduler.ports import Json, ReadingRow

GIB = 1024**3
FRAGMENTATION = {
    "real": {"idle_milli": 3_500, "stranded_milli": 420, "share": 0.12},
    "simulated": {"idle_milli": 0, "stranded_milli": 0, "share": None},
}


def worker_view(worker: int = 0, node: str = "edge-0", devices: Sequence[int] = (0,), **more: Any) -> Json:
    return {
        "worker": worker,
        "attempt": 1,
        "node": node,
        "devices": list(devices),
        "share_milli": 0,
        "phase": "running",
        "address": None,
        "exit_code": None,
        "simulated": False,
        "share_by": None,
    } | more


def job_view(job_id: str = "1", **more: Any) -> Json:
    return {
        "id": job_id,
        "seq": int(job_id.partition(".")[0]),
        "name": "a-job",
        "tenant": "film-studio",
        "kind": "batch",
        "priority_class": "normal",
        "state": "pending",
        "reason": {"kind": "not_considered", "text": "not looked at yet"},
        "est_start_s": None,
        "submitted_s": time.time(),
        "started_s": None,
        "ended_s": None,
        "attempt": 0,
        "failures": 0,
        "workers_min": 1,
        "workers_max": 1,
        "demand": "1 x any device",
        "workers": [],
        "simulated": None,
        "resume_from": None,
        "cause": None,
        "detail": None,
        "array_index": None,
        "array_limit": None,
        "after": [],
        "after_any": [],
        "time_limit_s": 60.0,
        "deadline_s": None,
        "constraints": {"within": None, "spread": None, "one_per": None, "apart_from": []},
        "reservation": None,
        "preemptions": 0,
        "workers_wanted": None,
        "pinned": False,
        "version": None,
        "held": None,
    } | more


def node_view(name: str = "edge-0", *, devices: int = 2, simulated: bool = False, **more: Any) -> Json:
    model = "H100 SXM"
    return {
        "name": name,
        "site": "dongyang-subnode",
        "state": "ready",
        "simulated": simulated,
        "address": "127.0.0.1",
        "devices": [
            {
                "index": i,
                "uuid": f"{name}-{i}",
                "model": model,
                "vendor": "nvidia",
                "memory_bytes": 80 * GIB,
                "simulated": simulated,
                "used_milli": 0,
                "jobs": [],
                "island": None,
                "mig_profile": None,
                "labels": {},
            }
            for i in range(devices)
        ],
        "cpus_milli": 16_000,
        "cpus_free_milli": 12_000,
        "memory_bytes": 128 * GIB,
        "memory_free_bytes": 100 * GIB,
        "notes": [],
        "shares": "advisory",
        "drain": None,
        "health": [],
        "readings": {},
        "rack": None,
        "labels": {},
        "reservations": [],
    } | more


def device_row(view: Json, device: Json, row: ReadingRow | None, fields: Sequence[str]) -> Json:
    """A device of a node's view, as the list of all devices has it."""
    read = row or ReadingRow([None] * len(fields), dict.fromkeys(fields, "not heard"), None, None)
    return {
        "node": view["name"],
        "site": view["site"],
        "rack": view["rack"],
        **{name: device[name] for name in ("index", "uuid", "model", "vendor", "simulated")},
        "node_state": view["state"],
        "use": "schedulable",
        "reason": "",
        "jobs": [{"id": job, "tenant": "", "share_milli": 1000} for job in device["jobs"]],
        **read._asdict(),
    }


def drain_left(job: str, doing: str = "running", **more: Any) -> Json:
    """A job that is still on a drained node."""
    named = {"job": job, "name": "train", "tenant": "film-studio", "kind": "training", "workers": [0], "doing": doing}
    return named | more


def schedule_view(name: str = "nightly", **more: Any) -> Json:
    return {
        "name": name,
        "tenant": "film-studio",
        "kind": "batch",
        "priority_class": "normal",
        "state": "active",
        "cron": "0 2 * * *",
        "zone": "Asia/Shanghai",
        "misfire": "once",
        "next_s": 1_800_000_000.0,
        "paused": None,
        "runs": 0,
        "last_job": None,
        "last_s": None,
        "last_is_live": False,
        "skips": 0,
        "skipped_s": None,
        "skipped_why": "",
        "by": "olga",
        "made_s": 1_700_000_000.0,
    } | more


def tenant_view(name: str = "film-studio", **more: Any) -> Json:
    real = {
        "held_milli": 6_500,
        "borrowed_milli": 2_500,
        "queued_milli": 8_000,
        "held_share": 0.5,
        "usage": 0.125,
        "standing": 0.15625,
    }
    return {
        "name": name,
        "weight": 2.0,
        "guaranteed_milli": 4_000,
        "maximum_milli": 8_000,
        "max_running_jobs": 3,
        "max_queued_jobs": None,
        "max_queued_milli": 64_000,
        "running_jobs": 2,
        "queued_jobs": 5,
        "real": real,
        "simulated": None,
    } | more
