"""How much memory does a site take that is busy and has a long queue? Asked in a fresh process, which is what it needs.

`python -m benchmarks.planner.memory NODES PENDING SEED` builds the site, makes one pass and prints what the process
held before and after, in bytes. The generators' own objects are gone by then; what counts is the growth.

Resident memory is the proportional set size where the kernel tells it (shared libraries counted by share), else the
resident set size.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MIB = 2**20
_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """`kind`: "pss" or "rss". `built_bytes`: with the site in place, before the pass. Counts say what was built."""

    kind: str
    baseline_bytes: int
    built_bytes: int
    planned_bytes: int
    devices: int
    pending: int
    running: int

    @property
    def growth_mib(self) -> float:
        return (max(self.built_bytes, self.planned_bytes) - self.baseline_bytes) / MIB


def measure_in_child(nodes: int, pending: int, seed: int) -> MemoryUse:
    """Raises RuntimeError with what the process said last if it failed."""
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.planner.memory", str(nodes), str(pending), str(seed)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if said.returncode:
        last = said.stderr.strip().splitlines()[-1:] or [f"exit code {said.returncode}"]
        raise RuntimeError(f"the process whose memory is measured failed: {last[0]}")
    return MemoryUse(**json.loads(said.stdout))


def measure_here(nodes: int, pending: int, seed: int) -> MemoryUse:
    """For a process that does nothing else."""
    from benchmarks.planner.fleets import backlog_site, empty_site

    empty_site(1, seed=seed).plan()  # everything is imported and has run once
    gc.collect()
    kind, baseline_bytes = resident_bytes()
    site, _ = backlog_site(nodes, pending, seed=seed)
    gc.collect()
    _, built_bytes = resident_bytes()
    made = site.plan()
    _, planned_bytes = resident_bytes()
    assert len(made.reasons) == pending, (len(made.reasons), pending)
    return MemoryUse(
        kind=kind,
        baseline_bytes=baseline_bytes,
        built_bytes=built_bytes,
        planned_bytes=planned_bytes,
        devices=sum(len(facts.devices) for facts in site.cluster.nodes.facts),
        pending=len(site.queue.waiting),
        running=len(site.queue.holding),
    )


def resident_bytes() -> tuple[str, int]:
    """What this process holds in memory now, and which measure that is."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return "pss", int(line.split()[1]) * 1024
    except OSError:  # not every kernel or container shows it
        pass
    with open("/proc/self/statm", encoding="ascii") as file:
        return "rss", int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    json.dump(asdict(measure_here(*map(int, sys.argv[1:]))), sys.stdout)
