"""What does watching cost? A node: CPU and memory, for eight made-up cards at 1 Hz, through the real pynvml. And the
service: what all nodes of a site tell it (`ingestion.py`).

The sampler runs as it does on a node, in a process of its own, over a driver library that answers at once
(`nvml_stub.c`): so the figures are Suanli's own cost, and what a real driver takes for its answers comes on top. The
time of processes is the kernel's (schedstat); that of the agent's side is this whole process's, which meanwhile does
nothing else but hear the sampler and look its readings up as often as the service asks for them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.planner.answer import Bound, cases_of, code_of
from benchmarks.provenance import provenance
from benchmarks.record import BENCH_SCHEMA
from benchmarks.telemetry.ingestion import EVERY_S, NODES, ingestion
from benchmarks.telemetry.stub import StubCards, build
from node_agent.devices.collector import CollectedDevices
from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.source import Group

CARDS = 8
SETTLE_S = 3.0
LOOK_UP_S = 2.0
ROUNDS = 200
INGESTION_S = 20.0
MIB = 1 << 20

BOUNDS: Mapping[str, Bound] = {
    "sampling_core_percent": Bound("% of a core", must=1, aim=0.5),
    "sampler_core_percent": Bound("% of a core"),
    "agent_core_percent": Bound("% of a core"),
    "sampler_memory_mib": Bound("MiB", must=60, aim=30),
    "sampler_own_memory_mib": Bound("MiB"),
    "fast_round_ms": Bound("ms"),
    "full_round_ms": Bound("ms"),
    "driver_calls_per_fast_round": Bound("calls"),
    "open_s": Bound("s"),
    "ingestion_core_percent": Bound("% of a core", must=10, aim=3),
    "ingestion_bytes_per_s": Bound("bytes/s"),
    "ingestion_batches_per_s": Bound("batches/s", better="higher"),
    "ingestion_memory_mib": Bound("MiB"),
    "ingestion_columns_mib": Bound("MiB"),
    "ingestion_look_ms": Bound("ms"),
    "ingestion_ratio": Bound("times", better="higher"),
}
"""Every case, in the order in which they are told. Names are stable."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class TelemetryAnswer:
    """`partial`: it was interrupted, and cases are missing. `peers`: figures under the names of our cases."""

    provenance: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    partial: bool = False
    peers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def ok(self, case: str) -> bool | None:
        return BOUNDS[case].met(self.values[case], BOUNDS[case].must)

    @property
    def exit_code(self) -> int:
        return code_of(BOUNDS, self.values, partial=self.partial)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": dict(self.provenance),
            "cases": cases_of(BOUNDS, self.values),
            "peers": {name: dict(figures) for name, figures in self.peers.items()},
        }
        return document | {"partial": True} if self.partial else document


def run_telemetry(
    *,
    window_s: float,
    settle_s: float = SETTLE_S,
    nodes: int = NODES,
    every_s: float = EVERY_S,
    progress: Progress = lambda what, share: None,
) -> TelemetryAnswer:
    """`nodes`: how many tell the service of their readings, every `every_s`. Raises stub.CompilerMissing where the
    library cannot be built, DeviceSourceError where pynvml is missing, and ingestion.SendersTooSlow."""
    about = provenance(window_s=window_s, with_library=False) | {
        "cards": CARDS,
        "driver": "a stub that answers at once",
        "nodes_told_of": nodes,
        "told_every_s": every_s,
    }
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="suanli-telemetry-") as directory:
        cards = StubCards(Path(directory), build(Path(directory)), CARDS)
        try:
            values |= _rounds(cards)
            progress("sampling", 0.1)
            values |= _sampling(cards, window_s, settle_s, progress)
            progress("readings of a site", 0.5)
            told, peer = ingestion(
                window_s=min(window_s, INGESTION_S), nodes=nodes, every_s=every_s, settle_s=2 * settle_s
            )
            values |= told
        except KeyboardInterrupt:
            return TelemetryAnswer(about, values, partial=True)
        finally:
            cards.close()
    return TelemetryAnswer(about, values, peers={"dicts_by_node": peer})


def _rounds(cards: StubCards) -> dict[str, float]:
    """The calls of a round, in this process: CPU time, the mean of many."""
    os.environ |= {name: value for name, value in cards.environment().items() if name == "NVML_STUB"}
    source = NvmlDevices(library=str(cards.library))
    try:
        source.enumerate()
        source.read(0.0)
        before = cards.calls
        source.read(1.0, (Group.FAST,))
        calls = cards.calls - before
        spent_ms = {}
        for case, groups in (("fast_round_ms", (Group.FAST,)), ("full_round_ms", None)):
            begun_s = time.process_time()
            for number in range(ROUNDS):
                source.read(float(number), groups)
            spent_ms[case] = (time.process_time() - begun_s) / ROUNDS * 1e3
    finally:
        source.close()
    return spent_ms | {"driver_calls_per_fast_round": float(calls)}


def _sampling(cards: StubCards, window_s: float, settle_s: float, progress: Progress) -> dict[str, float]:
    begun_s = time.monotonic()
    source = CollectedDevices("nvml", "nvidia", variables=cards.environment(), kernel_log="")
    open_s = time.monotonic() - begun_s
    try:
        time.sleep(settle_s)
        pid = source.state.pid
        assert pid is not None, source.state
        from_s, sampler_s, agent_s = time.monotonic(), _cpu_s(pid), time.process_time()
        while (passed_s := time.monotonic() - from_s) < window_s:
            progress("sampling", 0.1 + 0.4 * passed_s / window_s)
            source.read(time.time())
            time.sleep(min(LOOK_UP_S, max(0.01, window_s - passed_s)))
        passed_s = time.monotonic() - from_s
        sampler = 100.0 * (_cpu_s(pid) - sampler_s) / passed_s
        agent = 100.0 * (time.process_time() - agent_s) / passed_s
        whole, own = _memory_bytes(pid)
    finally:
        source.close()
    return {
        "sampling_core_percent": sampler + agent,
        "sampler_core_percent": sampler,
        "agent_core_percent": agent,
        "sampler_memory_mib": whole / MIB,
        "sampler_own_memory_mib": own / MIB,
        "open_s": open_s,
    }


def _cpu_s(pid: int) -> float:
    """What the kernel counts of all its threads, in nanoseconds where it does (schedstat), else in ticks."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_bytes(pid: int) -> tuple[int, int]:
    """(resident in all, what nobody else maps)."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1}
    return kib["Rss"] * 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) * 1024
