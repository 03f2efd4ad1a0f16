"""How long does a replay take, and how does that grow? As `suanli simulate run` on configs/dongyang-10k.yaml.

The workload is configs/workloads/thirty-days.yaml with the first so many of its jobs, and its services as long as these
come: so that a larger case is a longer time of the same site, as somebody who asks about a longer time would have it.
The cluster and its jobs are invented; what is true of the figures is how long the simulator takes on this machine. A
case is run once: it is seconds long, and its parts are averaged by their number.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.planner.answer import Bound, cases_of, code_of, planner_provenance
from benchmarks.planner.timing import growth_exponent, reference_step_s
from benchmarks.provenance import CHECKOUT
from benchmarks.record import BENCH_SCHEMA

SIZES = {"replay_1k_s": 1_000, "replay_10k_s": 10_000, "replay_100k_s": 100_000}
QUICK_SIZES = {"replay_1k_s": 1_000, "replay_10k_s": 10_000}
PASS_EVERY_S = 300.0
_LIMIT_S = 3_600.0

BOUNDS: Mapping[str, Bound] = {
    "replay_1k_s": Bound("s"),
    "replay_10k_s": Bound("s"),
    "replay_100k_s": Bound("s", must=60),
    "jobs_per_s": Bound("jobs/s", better="higher"),
    "growth_exponent": Bound("power of jobs"),
    "peak_memory_mib": Bound("MiB"),
}
"""Every case, in the order in which they are told. Names are stable."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class SimulatorAnswer:
    """`partial`: it was interrupted, and cases are missing."""

    provenance: Mapping[str, Any]
    values: Mapping[str, float]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    partial: bool = False

    def ok(self, case: str) -> bool | None:
        return BOUNDS[case].met(self.values[case], BOUNDS[case].must)

    @property
    def exit_code(self) -> int:
        return code_of(BOUNDS, self.values, partial=self.partial)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": {**self.provenance, "details": {name: dict(each) for name, each in self.details.items()}},
            "cases": cases_of(BOUNDS, self.values),
            "peers": {},
        }
        return document | {"partial": True} if self.partial else document


def run_simulator(*, seed: int, quick: bool, progress: Progress) -> SimulatorAnswer:
    """Each size in a process of its own, so that its peak of memory is its own. Ctrl-C keeps those that are done."""
    sizes = QUICK_SIZES if quick else SIZES
    about = planner_provenance(seed=seed, quick=quick, reference_step_s=reference_step_s())
    about["of"] = "the simulator itself; cluster and jobs are invented, and no device was measured"
    values: dict[str, float] = {}
    details: dict[str, Mapping[str, Any]] = {}
    partial = False
    try:
        for number, (case, jobs) in enumerate(sizes.items()):
            progress(case, number / len(sizes))
            told = _in_a_process(jobs, seed)
            values[case], details[case] = told["wall_s"], told
    except KeyboardInterrupt:
        partial = True
    if details:
        largest = list(details.values())[-1]
        values["jobs_per_s"] = round(largest["jobs"] / largest["wall_s"], 1)
        values["peak_memory_mib"] = largest["peak_mib"]
    if len(details) > 1:
        grown = {each["jobs"]: each["wall_s"] for each in details.values()}
        values["growth_exponent"] = round(growth_exponent(grown), 3)
    return SimulatorAnswer(about, values, details, partial)


def _in_a_process(jobs: int, seed: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulator.cases", str(jobs), str(seed)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"a replay of {jobs} jobs failed: {done.stderr.strip()[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measure(jobs: int, seed: int) -> dict[str, Any]:
    """Reading the files, drawing the work, replaying it and measuring the run: all that the command does."""
    import resource

    from scheduler.schema.cluster_file import load_cluster
    from scheduler.schema.load import shipped_config
    from scheduler.simulation.whatif import Question, Way, answer
    from scheduler.simulation.workloads.reading import read_workload

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    cluster = load_cluster(shipped_config("dongyang-10k.yaml"))
    workload = read_workload(shipped_config("workloads/thirty-days.yaml"), cluster, seed)
    kept = workload.jobs[:jobs]
    span_s = kept[-1].submit_s
    services = tuple(
        replace(each, requests=cut) for each in workload.services if (cut := each.requests.until(span_s)) is not None
    )
    workload = replace(workload, jobs=kept, services=services, span_s=span_s)
    question = Question(cluster, workload, (Way("default", cluster.policy),), seed, PASS_EVERY_S)
    document = answer(question, clock=time.perf_counter, progress=lambda name, now_s, ended: None, about={})
    run = document["runs"][0]
    return {
        "jobs": len(kept),
        "wall_s": round(time.perf_counter() - wall_s, 3),
        "cpu_s": round(time.process_time() - cpu_s, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "passes": run["passes"],
        "pass_ms": round(1000 * run["planning"]["elapsed_s"] / max(1, run["passes"]), 2),
        "virtual_days": round(span_s / 86_400, 2),
        "used_while_arriving": run["utilisation"]["mean_while_arriving"],
        "pass_every_s": PASS_EVERY_S,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
