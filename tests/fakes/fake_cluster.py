"""A cluster behind the HTTP API as a benchmark sees it: nodes, jobs with results, a clock that only sleeps move.

Jobs run when the clock passes the start that their command names. What a node's worker answers is set by the test;
simulated nodes answer with the real simulated workload, from the figures in their command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.record import DeviceRecord
from benchmarks.workloads.simulated import CardFigures, SimulatedDevice, simulated_record
from scheduler.errors import NotFound

Worker = Callable[[dict[str, Any], dict[str, Any]], Any]  # (node, job file) -> what it leaves as its result


class FakeTimer:
    def __init__(self, now_s: float = 1_000.0) -> None:
        self.time_s = now_s

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


def device(uuid: str, model: str = "H100 SXM", vendor: str = "nvidia", **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "model": model, "vendor": vendor, "used_milli": 0, "jobs": [], "simulated": False} | more


def node(name: str, *devices: dict[str, Any], site: str = "dongyang-subnode", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "site": site,
        "state": "ready",
        "simulated": False,
        "devices": list(devices),
        "cpus_free_milli": 64_000,
    } | more


def flag(job: Mapping[str, Any], name: str) -> str | None:
    command = list(job["command"])
    return command[command.index(name) + 1] if name in command else None


def simulated_worker(its_node: dict[str, Any], job: dict[str, Any]) -> Any:
    peak, achieved = flag(job, "--card-peak-tflops"), flag(job, "--card-achieved-tflops")
    card = CardFigures(float(peak) if peak else None, float(achieved) if achieved else None)
    window_s = float(flag(job, "--window") or 0)
    return {
        "devices": [
            simulated_record(
                SimulatedDevice(d["uuid"], None, None, d["model"], d["vendor"]),
                card,
                precision=flag(job, "--precision") or "bf16",
                seed=0,
                window_s=window_s,
            ).to_json()
            for d in its_node["devices"]
        ]
    }


class FakeCluster:
    """ClusterClient over dictionaries. `workers` says by node what a job there leaves; None: it fails."""

    def __init__(
        self,
        *nodes: dict[str, Any],
        workers: Mapping[str, Worker | None],
        config: Mapping[str, Any] | None = None,
        timer: FakeTimer | None = None,
        never_start: tuple[str, ...] = (),
        interrupt_at_s: float | None = None,
    ) -> None:
        self.nodes = {n["name"]: n for n in nodes}
        self.jobs: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.timer = timer or FakeTimer()
        self._workers = workers
        self._config = dict(config or {"sites": [], "goals": [], "catalogue": []})
        self._never_start = never_start
        self._interrupt_at_s = interrupt_at_s

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        if path == "/v1/nodes":
            return {"nodes": list(self.nodes.values())}
        if path == "/v1/config":
            return self._config
        if path.startswith("/v1/jobs/"):
            return self._view(path.rsplit("/", 1)[1])
        raise NotFound(path)

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]:
        if path == "/v1/jobs":
            self.jobs.append(dict(body["job"]))
            return {"jobs": [{"id": str(len(self.jobs)), "state": "pending"}]}
        job_id = path.split("/")[3]
        assert path.endswith("/cancel"), path
        self.cancelled.append(job_id)
        return self._view(job_id)

    def _view(self, job_id: str) -> dict[str, Any]:
        if self._interrupt_at_s is not None and self.timer.time_s >= self._interrupt_at_s:
            self._interrupt_at_s = None
            raise KeyboardInterrupt
        job = self.jobs[int(job_id) - 1]
        its_node = self.nodes[job["resources"]["node"]]
        view: dict[str, Any] = {"id": job_id, "state": "pending", "attempt": 0, "results": [], "reason": None}
        if its_node["name"] in self._never_start:
            return view | {
                "reason": {"kind": "no_fit", "text": "no device is free"},
                "state": "cancelled" if job_id in self.cancelled else "pending",
            }
        end_s = float(flag(job, "--start-at") or 0) + float(flag(job, "--window") or 0)
        if self.timer.time_s < end_s and job_id not in self.cancelled:
            return view | {"state": "running", "attempt": 1}
        worker = self._workers.get(its_node["name"])
        if worker is None:
            return view | {"state": "failed", "attempt": 1, "cause": "exit code", "detail": "worker 0 ended with 137"}
        left = worker(its_node, job)
        return view | {
            "state": "cancelled" if job_id in self.cancelled else "succeeded",
            "attempt": 1,
            "results": [{"attempt": 1, "worker": 0, "result": left}],
        }


def as_result(*records: DeviceRecord) -> Worker:
    """A worker that leaves these records whatever it is asked."""
    return lambda its_node, job: {"devices": [r.to_json() for r in records]}
