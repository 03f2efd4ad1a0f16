"""Device records and sites for tests of history, cluster runs and capacity: short to write, valid as they come."""

from __future__ import annotations

from typing import Any

from benchmarks.history.store import StoredResult
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from scheduler.schema.model import Card, Goal, Site

T0 = 1_800_000_000.0


def record(device: str = "gpu-0", gflops: float = 800_000.0, **more: Any) -> DeviceRecord:
    """A verified accelerator's record of a 4 s window, unless told otherwise."""
    values: dict[str, Any] = {
        "device": device,
        "covers": (device,),
        "node": "edge-0",
        "site": "dongyang-subnode",
        "model": "H100 SXM",
        "vendor": "nvidia",
        "evidence": "measured",
        "on": "accelerator",
        "workload": "gemm",
        "precision": "bf16",
        "gflops": gflops,
        "verified": True,
        "verdict": Verdict.OK,
        "reason": None,
        "window_s": 4.0,
        "window_start_s": T0,
        "samples": 100,
        "detection_probability": 0.03,
    }
    return DeviceRecord(**(values | more))


def failed(device: str, verdict: Verdict, reason: str, **more: Any) -> DeviceRecord:
    return record(device, 0.0, verified=False, verdict=verdict, reason=reason, **more)


def simulated(device: str, gflops: float | None = 780_000.0, **more: Any) -> DeviceRecord:
    values: dict[str, Any] = {
        "evidence": "simulated",
        "on": "nothing",
        "gflops": gflops,
        "verified": False,
        "reason": "no product was run: the device is simulated",
        "samples": 0,
        "detection_probability": None,
    }
    return record(device, **(values | more))


def cpu(*uuids: str, gflops: float = 120.0, **more: Any) -> DeviceRecord:
    values: dict[str, Any] = {
        "covers": uuids or ("cpu-edge-0-0", "cpu-edge-0-1"),
        "on": "cpu",
        "model": "EPYC",
        "vendor": "cpu",
        "precision": "fp32",
        "gflops": gflops,
    }
    return record("cpu-edge-0-0 +1", **(values | more))


def stored(record: DeviceRecord, *, run: str = "run-1", at_s: float = T0 + 10) -> StoredResult:
    return StoredResult(run, at_s, "abc123", record)


def card(model: str, peak: float | None, vendor: str = "nvidia", **achieved: float) -> Card:
    return Card(
        model=model,
        vendor=vendor,
        memory_bytes=80 * 10**9,
        peak_tflops={"fp16_bf16": peak},
        memory_bandwidth_tbps=None,
        achieved_tflops=achieved,
        confidence="high",
        source="a test",
    )


CATALOGUE = {
    c.model: c
    for c in (
        card("H100 SXM", 1000.0, bf16=800.0),
        card("A100", 300.0),
        card("Ascend 910B", None, "huawei", bf16=304.3),
        card("Unknown One", None, "nobody"),
    )
}
SITES = {
    "dongyang-subnode": Site("dongyang-subnode", "Dongyang sub-node", "东阳子节点"),
    "edge-cloud": Site("edge-cloud", "Edge-cloud service", "边缘云算力服务"),
}


def goal(name: str = "g700", pflops: float = 700.0, *sites: str, is_context: bool = False) -> Goal:
    return Goal(
        name=name,
        title_en=f"Goal {name}",
        title_zh=f"目标 {name}",
        sites=sites or ("dongyang-subnode",),
        goal_pflops=pflops,
        precision="dense 16-bit",
        due="2029-03-15",
        source="the plan",
        is_context=is_context,
    )


GOALS = (goal(), goal("g400", 400.0, "edge-cloud"), goal("city-900", 900.0, *SITES, is_context=True))
