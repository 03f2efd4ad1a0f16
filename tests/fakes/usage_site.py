"""A month's usage for tests of whatever shows it: a store with runs on real and on simulated devices, in Dongyang's
time. `filled()` is October and November 2026; `bench_history` writes measured rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.history.store import HistoryStore, StoredResult
from benchmarks.protocol import Verdict
from benchmarks.record import DeviceRecord
from scheduler.core.jobs import JobKind
from scheduler.core.usage_records import MeteredUse, UsageRecord
from scheduler.months import month_named
from scheduler.ports import ServedDay
from scheduler.service.usage_control import UsageControl
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_store import FakeStore
from tests.fakes.service_world import spec

ZONE = "Asia/Shanghai"
OCTOBER_S = month_named("2026-10", ZONE).from_ms / 1000
NOVEMBER_S = month_named("2026-11", ZONE).from_ms / 1000
NOW_S = NOVEMBER_S + 10 * 86_400.0
HOUR_S = 3600.0


TENANTS = ("film-studio", "hospital", "lab", "magnet-factory")


class QuietLoop:
    """In which nothing runs, of a site with TENANTS."""

    def call(self, ask: Callable[[Any], Any]) -> Any:
        return ask(SimpleNamespace(jobs={}, nodes={}, policy=SimpleNamespace(tenants=dict.fromkeys(TENANTS))))


def control(store: FakeStore, now_s: float = NOW_S) -> UsageControl:
    return UsageControl(store, FakeClock(now_s), QuietLoop, ZONE)  # type: ignore[arg-type,return-value]


def run(job_id: str, from_s: float, hours: float, **given: Any) -> UsageRecord:
    """On two H100 of one node, metered but for the first 20 s, unless told otherwise."""
    seconds = hours * HOUR_S
    base = UsageRecord(
        job_id=job_id,
        attempt=1,
        worker=0,
        tenant="magnet-factory",
        priority_class="normal",
        kind="training",
        node="edge-0",
        devices=(0, 1),
        share_milli=0,
        cpus_milli=8_000,
        memory_bytes=0,
        simulated=False,
        from_s=from_s,
        to_s=from_s + seconds,
        end="seen",
        cause="succeeded",
        name="coercivity",
        site="dongyang",
        models=("H100 SXM", "H100 SXM"),
        use=MeteredUse(2, seconds - 20, 1_250.0 * (seconds - 20), False, 1_250.0, 70 * 2.0**30, 92.0, False),
    )
    return replace(base, **given)


def filled() -> FakeStore:
    store = FakeStore()
    store.submit([spec()] * 9, at_s=0.0, by="x")
    share = {"devices": (3,), "models": ("H100 SXM",), "share_milli": 250, "use": None}
    serving = {
        "kind": JobKind.INFERENCE.value,
        "tenant": "hospital",
        "priority_class": "public-safety",
        "name": "ct-scan",
    }
    store.commit(
        (),
        [
            run("1", OCTOBER_S + HOUR_S, 100.0),
            run("2", NOVEMBER_S - HOUR_S, 3.0, tenant="film-studio", name="render", kind="batch"),
            run("3", NOVEMBER_S + HOUR_S, 10.0, node="edge-1", site="hengdian", models=("910B", "910B"), use=None),
            run("4", NOVEMBER_S + HOUR_S, 24.5, **share, **serving),
            run(
                "5",
                NOVEMBER_S,
                7.0,
                simulated=True,
                node="sim-0",
                tenant="film-studio",
                models=("SIM-1", "SIM-1"),
                use=None,
            ),
            run(
                "6",
                NOVEMBER_S + 5.5,
                0.25,
                end="unseen",
                cause="node lost",
                use=None,
                tenant="film-studio",
                name="=cut",
            ),
            run("7", NOVEMBER_S + 86_400.0 + 1 / 3, 1 / 7, tenant="film-studio"),
        ],
    )
    store.set_served(
        [
            ServedDay("2026-10-31", "hospital", "ct-scan", False, 1_000, 990, 985, 2),
            ServedDay("2026-11-01", "hospital", "ct-scan", False, 120_000, 119_500, 119_000, 4),
            ServedDay("2026-11-02", "hospital", "ct-scan", False, 34_567, 34_567, 34_560, 0),
        ]
    )
    return store


def measured(model: str, gflops: float, **given: Any) -> StoredResult:
    at_s, name = given.pop("at_s", OCTOBER_S), given.pop("run", "night-1")
    record = DeviceRecord(
        device=given.pop("device", f"{model}-0"),
        covers=("u",),
        node="edge-0",
        site="dongyang",
        model=model,
        vendor="NVIDIA",
        evidence="measured",
        on="accelerator",
        workload="gemm",
        precision="bf16",
        gflops=gflops,
        verified=True,
        verdict=Verdict.OK,
        reason=None,
    )
    return StoredResult(name, at_s, None, replace(record, **given))


def bench_history(home: Path) -> None:
    """H100: 612,000 GFLOP/s, the median of three; the simulated card 400,000; the 910B was never run."""
    HistoryStore(home / "bench").append(
        [
            measured("H100 SXM", 500_000.0, at_s=OCTOBER_S - 9e6, run="older"),
            *(measured("H100 SXM", rate, device=f"d{rate}") for rate in (612_000.0, 611_000.5, 640_000.0)),
            measured("H100 SXM", 9e9, at_s=NOW_S + 9e6, run="later"),
            measured("910B", 0.0, verified=False, verdict=Verdict.WRONG_PRODUCT),
            measured("SIM-1", 400_000.0, evidence="simulated", on="nothing", verified=False, verdict=Verdict.OK),
            measured("Xeon", 900.0, on="cpu"),
        ]
    )
