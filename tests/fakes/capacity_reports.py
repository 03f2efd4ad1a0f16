"""Capacity reports for tests of what is written: one of a machine without accelerators, one of a site with everything
that a report can tell, and one of any size. All figures follow from the arguments; nothing is random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.capacity import CapacityReport, build
from benchmarks.capacity.audit import read_log
from benchmarks.evidence import EvidenceKind
from benchmarks.history.findings import ChangePoint, Estimate, Outlier, OutlierKind, Series
from benchmarks.history.store import OLDEST_FILE, History, HistoryStore, StoredResult
from benchmarks.inventory import Device, Node
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import CATALOGUE, GOALS, SITES, T0, cpu, failed, record, simulated, stored

PROVENANCE = {"host": "edge<1>", "cpu": "EPYC", "python": "3.11", "commit": "abc", "protocol": "1"}
DAY_S = 86_400.0
SUBNODE, EDGE = "dongyang-subnode", "edge-cloud"
ASCEND = {"model": "Ascend 910B", "vendor": "huawei"}


def devices(*uuids: str, model: str = "H100 SXM", vendor: str = "nvidia") -> tuple[Device, ...]:
    return tuple(Device(u, model, vendor, True) for u in uuids)


CPU_NODE = Node("host", SUBNODE, "ready", False, devices("c0", "c1", model="EPYC", vendor="cpu"))
SIM_NODES = (
    Node("sim-h100-0", SUBNODE, "ready", True, devices("s0", "s1")),
    Node("sim-910b-0", EDGE, "ready", True, devices("t0", model="Ascend 910B", vendor="huawei")),
)
SIM_RESULTS = (
    stored(simulated("s0", 790_000)),
    stored(simulated("s1", 800_000)),
    stored(simulated("t0", 304_300, model="Ascend 910B", vendor="huawei")),
)


def report(nodes: Sequence[Node], results: Sequence[StoredResult], **more: Any) -> CapacityReport:
    values: dict[str, Any] = {
        "goals": GOALS,
        "sites": SITES,
        "catalogue": CATALOGUE,
        "nodes": nodes,
        "history": History(tuple(results), 0),
        "generated_at_s": T0 + 60,
        "provenance": PROVENANCE,
    }
    return build(**(values | more))


def cpu_only(**more: Any) -> CapacityReport:
    """The demo's machine: CPU devices and simulated nodes."""
    return report((CPU_NODE, *SIM_NODES), (stored(cpu("c0", "c1")), *SIM_RESULTS), **more)


def measured(device: str, gflops: float, at_s: float, **more: Any) -> StoredResult:
    """A full record: a nightly window with energy, clocks and batch rates."""
    values: dict[str, Any] = {
        "window_s": 600.0,
        "window_start_s": at_s,
        "recorded_at_s": at_s + 640,
        "batches": 570,
        "samples": 570,
        "batch_gflops_p5": 0.985 * gflops,
        "batch_gflops_p50": 1.001 * gflops,
        "batch_gflops_p95": 1.012 * gflops,
        "clock_offset_s": 0.002,
        "energy_joules": 390_000.0,
        "energy_quality": "measured",
        "mean_power_watts": 650.0,
        "mean_clock_megahertz": 1_755.0,
        "flop": int(gflops * 1e9 * 600),
        "products_per_batch": 4,
        "protocol": "1",
    } | more
    at = values.pop("recorded_at_s")
    return stored(record(device, gflops, **values), run=f"night-{int(at_s // DAY_S)}", at_s=at)


def site_nodes(cards: int = 16) -> tuple[Node, ...]:
    racks = [
        Node(f"edge-{n}", SUBNODE, "ready", False, devices(*(f"GPU-{i:05d}" for i in range(8 * n, 8 * n + 8))))
        for n in range(math.ceil(cards / 8))
    ]
    domestic = Node("edge-npu", EDGE, "ready", False, devices(*(f"NPU-{i}" for i in range(4)), **ASCEND))
    return (*racks, domestic, CPU_NODE, *SIM_NODES)


def site_results(cards: int = 16, nights: int = 20, *, last_at_s: float = T0) -> list[StoredResult]:
    """Every night a little faster; in the last one a card wrong, one late and one not there."""
    results = []
    for night in range(nights):
        at_s = last_at_s - DAY_S * (nights - 1 - night)
        last = night == nights - 1
        for i in range(cards):
            name, rack = f"GPU-{i:05d}", f"R{i // 16:03d}"
            place = {"node": f"edge-{i // 8}", "rack": rack}
            rate = 780_000 + 900 * night + 1_200 * ((7 * i) % 11) - (60_000 if i == 5 else 0) + 300 * ((night * 5) % 3)
            if last and i == 0:
                wrong = failed(name, Verdict.WRONG_PRODUCT, "residual 3 | <b>over</b> the tolerance", window_s=600.0)
                results.append(stored(wrong, run=f"night-{int(at_s // DAY_S)}", at_s=at_s + 640))
            elif not (last and i == 1):
                results.append(measured(name, rate, at_s, **place))
        for i in range(3):
            results.append(measured(f"NPU-{i}", 300_000 + 500 * i, at_s, site=EDGE, node="edge-npu", **ASCEND))
    return [*results, stored(cpu("c0", "c1"), at_s=last_at_s + 700), *SIM_RESULTS]


def findings() -> dict[str, Any]:
    """What benchmarks.history may have found; made up."""
    card = Series(EvidenceKind.MEASURED, "gemm", "bf16", SUBNODE, "H100 SXM", "R000", "GPU-00005")
    rack = Series(EvidenceKind.MEASURED, "gemm", "bf16", SUBNODE, "H100 SXM", "R000")
    made_up = Series(EvidenceKind.SIMULATED, "gemm", "bf16", SUBNODE, "H100 SXM", "R001")
    return {
        "changes": (
            ChangePoint(card, T0 - 6 * DAY_S, 790_000.0, 734_000.0, "GFLOP/s", 0.0007, 13, 7),
            ChangePoint(rack, T0 - 9 * DAY_S, 780_000.0, 801_000.0, "GFLOP/s", 0.004, 10, 10),
            ChangePoint(made_up, T0 - 3 * DAY_S, 700_000.0, 640_000.0, "GFLOP/s", 0.002, 15, 5),
        ),
        "outliers": (Outlier(card, "edge-0", OutlierKind.SLOW_THAN_LIKE, T0, 738_000.0, 800_000.0, "GFLOP/s", -9.2),),
        "estimates": {"g400": Estimate(1.21, 1.18, 1.24, 0.95, 3, 4, 1, "stratified mean")},
    }


def full(**more: Any) -> CapacityReport:
    """A site with cards, nights, findings and an estimate."""
    values: dict[str, Any] = findings() | {"inventory_from": "kept", "inventory_at_s": T0, "generated_at_s": T0 + 9e4}
    return report(site_nodes(), site_results(), **(values | more))


def large(cards: int) -> CapacityReport:
    """`cards` accelerators, one night; a twentieth of them not run."""
    return report(site_nodes(cards), [r for r in site_results(cards, 1) if not r.record.device.endswith(("3", "33"))])


def one_file(directory: Path, results: Sequence[StoredResult]) -> HistoryStore:
    """A record in one file, as it was before there were months: short to change in a test."""
    store = HistoryStore(directory)
    store.append(results)
    months = store.files()
    whole = b"".join(path.read_bytes() for path in months)
    for path in months:
        path.unlink()
    (directory / OLDEST_FILE).write_bytes(whole)
    return store


def logged(home: Path, **more: Any) -> CapacityReport:
    """The full site's report, made from a log that was written under `home`/bench."""
    store = one_file(home / "bench", site_results())
    until_s = T0 + 9e4
    history, log = read_log(store.path, since_s=T0 - 30 * DAY_S, until_s=until_s)
    return full(history=history, log=log, generated_at_s=until_s, **more)
