"""Peers, each in a process of its own with a cluster of its own: `python -m benchmarks.system.dispatch.peers NAME N`.

Each runs the same command as the service's stamped array, `date`, which says when it ran: a peer's own waiting may be
slower than its starting, and would be timed with it. What is printed is PeerFigures as JSON, on the last line.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.provenance import CHECKOUT
from benchmarks.system.dispatch.answer import PeerFigures
from benchmarks.system.dispatch.cases import STAMP
from node_agent.execution.ports import free_port

STARTS = 20
SLOW_STARTS = 5  # of what takes seconds each
LIMIT_S = 600.0
WORKERS = 2


def run_peer(name: str, tasks: int) -> PeerFigures:
    """In a child process; one that is not installed, or fails, is skipped and says why."""
    package = PACKAGES[name]
    if importlib.util.find_spec(package) is None:
        return PeerFigures(name, skipped=f"{package} is not installed: pip install 'suanli[peers]'")
    with tempfile.TemporaryDirectory(prefix="peer-") as home:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SUANLI_"))} | {"HOME": home}
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.system.dispatch.peers", name, str(tasks)],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = child.communicate(timeout=LIMIT_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return PeerFigures(name, skipped=f"it had not ended after {LIMIT_S:g} s")
            raise
        if child.returncode:
            said = (err.strip().splitlines() or ["it said nothing"])[-1]
            return PeerFigures(name, skipped=f"it failed: {said[:300]}")
        told = json.loads(out.strip().splitlines()[-1])
        return PeerFigures(**{**told, "start_ms": tuple(told["start_ms"])})


# ---- Ray -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own_ray(*, dashboard: bool) -> Iterator[Mapping[str, Any]]:
    """A Ray of its own, in this process's session: it ends with the block and joins nobody else's."""
    ray: Any = importlib.import_module("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temporary:
        told = ray.init(
            address="local",
            num_cpus=WORKERS,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            dashboard_port=free_port("127.0.0.1"),
            _temp_dir=temporary,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        try:
            yield told.address_info
        finally:
            ray.shutdown()


def ray_job_submit(tasks: int) -> PeerFigures:
    """`ray job submit` by its SDK, without the second that its command line takes to start."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    starts = []
    with _own_ray(dashboard=True) as told:
        client = JobSubmissionClient(f"http://{told['webui_url']}")
        for number in range(-1, SLOW_STARTS):  # the first one warms up
            before_s = time.time()
            job = client.submit_job(entrypoint=" ".join(STAMP))
            _until(lambda: client.get_job_status(job).is_terminal())  # noqa: B023
            if client.get_job_status(job) is not JobStatus.SUCCEEDED:
                raise RuntimeError(f"the job failed: {client.get_job_logs(job)[-200:]}")
            _until(lambda: _stamps_in(client.get_job_logs(job)))  # noqa: B023
            if number >= 0:
                starts.append(1e3 * (_stamps_in(client.get_job_logs(job))[-1] - before_s))
    return PeerFigures(
        "ray-job-submit",
        _version("ray"),
        tuple(starts),
        notes="through its SDK, a warm cluster; jobs one at a time, so no array",
    )


def ray_tasks(tasks: int) -> PeerFigures:
    """A task that runs the command as a child: Ray's own way to start a process."""
    import ray

    with _own_ray(dashboard=False):
        remote = ray.remote(_stamp)
        ray.get([remote.remote() for _ in range(2 * WORKERS)])
        starts = []
        for _ in range(STARTS):
            before_s = time.time()
            starts.append(1e3 * (ray.get(remote.remote()) - before_s))
        before_s = time.time()
        last_s = max(ray.get([remote.remote() for _ in range(tasks)]))
    return PeerFigures(
        "ray-tasks",
        _version("ray"),
        tuple(starts),
        tasks / (last_s - before_s),
        notes="warm workers; nothing is kept on a disk, and an answer is lost with its driver",
    )


# ---- Dask ----------------------------------------------------------------------------------------------------------


def dask(tasks: int) -> PeerFigures:
    distributed: Any = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather([client.submit(_stamp, pure=False) for _ in range(2 * WORKERS)])
        starts = []
        for _ in range(STARTS):
            before_s = time.time()
            starts.append(1e3 * (client.submit(_stamp, pure=False).result() - before_s))
        before_s = time.time()
        last_s = max(client.gather([client.submit(_stamp, pure=False) for _ in range(tasks)]))
    return PeerFigures(
        "dask",
        _version("distributed"),
        tuple(starts),
        tasks / (last_s - before_s),
        notes="warm workers; nothing is kept on a disk",
    )


# ---- HyperQueue ----------------------------------------------------------------------------------------------------


def hyperqueue(tasks: int) -> PeerFigures:
    """Server and worker live in this process, as its wheel has it. Its waiting looks once a second: stamps tell."""
    hq: Any = importlib.import_module("hyperqueue")
    config = importlib.import_module("hyperqueue.cluster").WorkerConfig(cores=WORKERS)
    with tempfile.TemporaryDirectory(prefix="hq-") as directory:
        place = Path(directory)
        cluster = hq.LocalCluster(server_dir=str(place / "server"))
        cluster.start_worker(config)
        client = cluster.client()

        def submit(count: int, name: str) -> tuple[float, list[float]]:
            job = hq.Job(place / name)
            (place / name).mkdir()
            for number in range(count):
                job.program(list(STAMP), stdout=str(place / name / f"{number}.out"), stderr=None)
            before_s = time.time()
            client.wait_for_jobs([client.submit(job)])
            return before_s, [float((place / name / f"{number}.out").read_text()) for number in range(count)]

        submit(2 * WORKERS, "warm")
        starts = []
        for number in range(STARTS):
            before_s, stamps = submit(1, f"one-{number}")
            starts.append(1e3 * (stamps[0] - before_s))
        before_s, stamps = submit(tasks, "array")
        cluster.stop()
    return PeerFigures(
        "hyperqueue",
        _version("hyperqueue"),
        tuple(starts),
        tasks / (max(stamps) - before_s),
        notes="server and worker in one process; without a journal, so nothing of a job is kept on a disk",
    )


# ---- what they share -----------------------------------------------------------------------------------------------


def _stamp() -> float:
    return float(subprocess.run(STAMP, capture_output=True, check=True).stdout)


def _stamps_in(text: str) -> list[float]:
    return [float(line) for line in text.splitlines() if re.fullmatch(r"\d+\.\d+", line.strip())]


def _until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"it had not ended after {LIMIT_S:g} s")
        time.sleep(0.05)


def _version(package: str) -> str:
    return importlib.metadata.version(package)


PEERS: Mapping[str, Callable[[int], PeerFigures]] = {
    "ray-job-submit": ray_job_submit,
    "ray-tasks": ray_tasks,
    "dask": dask,
    "hyperqueue": hyperqueue,
}
PACKAGES = {"ray-job-submit": "ray", "ray-tasks": "ray", "dask": "distributed", "hyperqueue": "hyperqueue"}


def main(name: str, tasks: int) -> None:
    if shutil.which(STAMP[0]) is None:
        raise SystemExit(f"{STAMP[0]} is not there")
    print(json.dumps(asdict(PEERS[name](tasks))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
