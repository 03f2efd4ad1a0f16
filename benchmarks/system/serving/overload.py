"""What happens when more comes than can be done? Open loops against a model that takes 10 ms, one at a time.

Latencies count from when a request was due, so that waiting anywhere is charged. A class's deadline goes with each of
its requests (`X-Suanli-Timeout-Ms`); what may wait steps back behind the rest of its service (`X-Suanli-Priority`).
"""

from __future__ import annotations

from benchmarks.system.serving.answer import SLO_ORDINARY_MS, SLO_URGENT_MS
from benchmarks.system.serving.bench import MODELS, ONE, Bench, in_words
from benchmarks.system.serving.models.batch_ms import BATCH_S
from benchmarks.system.serving.site import Service
from benchmarks.workloads.http_mix import ClassResult, Mix, RequestClass, mix_elsewhere, mix_running

URGENT_PER_S = 30.0
ORDINARY_PER_S = 120.0
NIGHTLY_URGENT_S = 340.0  # 10,200 urgent requests
CAPACITY_CLIENTS = 8
CAPACITY_S = 5.0
SETTLE_S = 2.0

LOW_ALTITUDE_PER_S = 20.0
SATURATING_CLIENTS = 32
ORDINARY = ("X-Suanli-Priority", "300")
BEST_EFFORT = ("X-Suanli-Priority", "100")


def overload(bench: Bench) -> None:
    service = _ten_ms(bench, "bench-overload", "low-altitude")
    try:
        capacity = _capacity(bench, service)
        duration_s = NIGHTLY_URGENT_S if bench.plan.nightly else bench.plan.duration_s
        bench.progress("1.5 x overload, urgent beside ordinary", 0.0)
        urgent = _class(service, "urgent", URGENT_PER_S, SLO_URGENT_MS)
        ordinary = _class(service, "ordinary", ORDINARY_PER_S, SLO_ORDINARY_MS, ORDINARY)
        found = mix_elsewhere(_mix(bench, duration_s, urgent, ordinary))
    finally:
        service.cancel()
    measured = bench.measured
    measured.values["overload_capacity_per_s"] = capacity
    bench.share("overload_urgent_within_slo", found["urgent"].within)
    if (p99_ms := found["urgent"].load.p99_ms) is not None:
        measured.values["overload_urgent_p99_ms"] = round(p99_ms, 3)
    bench.share("overload_ordinary_goodput", found["ordinary"].within)
    measured.details["overload"] = {
        "duration_s": duration_s,
        "times_capacity": round((URGENT_PER_S + ORDINARY_PER_S) / capacity, 3),
        "generator": found["urgent"].load.generator,
        **{name: in_words(result) for name, result in found.items()},
    }


def flood(bench: Bench) -> None:
    """Goodput at about what there is, and at three times that."""
    service = _ten_ms(bench, "bench-flood", "normal")
    try:
        capacity = _capacity(bench, service)
        found: dict[float, ClassResult] = {}
        for times in (0.9, 1.2, 3.0):
            bench.progress(f"{times:g} x capacity", 0.0)
            each = _class(service, "all", times * capacity, SLO_ORDINARY_MS)
            found[times] = mix_elsewhere(_mix(bench, bench.plan.open_loop_s, each))["all"]
    finally:
        service.cancel()
    measured = bench.measured
    peak = max(found[0.9].good_per_s, found[1.2].good_per_s)
    measured.values["flood_peak_goodput_per_s"] = round(peak, 2)
    if peak:
        measured.values["flood_goodput_of_peak"] = round(found[3.0].good_per_s / peak, 4)
    if (p99_ms := found[3.0].load.p99_ms) is not None:
        measured.values["flood_admitted_p99_ms"] = round(p99_ms, 3)
    measured.values["flood_unexplained"] = float(found[3.0].unexplained)
    measured.details["flood"] = {
        "capacity_per_s": capacity,
        **{
            f"{times:g}_x": in_words(result) | {"good_per_s": round(result.good_per_s, 2)}
            for times, result in found.items()
        },
    }


# ---- low-altitude beside best-effort -------------------------------------------------------------------------------


def low_altitude(bench: Bench) -> None:
    """Its p99 alone; on a replica of its own while another service is saturated; on a replica that both share."""
    own = _batch(bench, "bench-low-altitude", "low-altitude")
    other = _batch(bench, "bench-best-effort", "best-effort")
    try:
        for service in (own, other):
            service.wait_until_it_answers(ONE)
        flying = _class(own, "low-altitude", LOW_ALTITUDE_PER_S, None)
        bench.progress("low-altitude alone", 0.0)
        alone = mix_elsewhere(_mix(bench, bench.plan.open_loop_s, flying))["low-altitude"]
        bench.progress("low-altitude, its own replica, beside best-effort", 0.33)
        reserved, beside_reserved = _beside(bench, flying, _saturating(other))
        bench.progress("low-altitude and best-effort on one replica", 0.66)
        shared, beside_shared = _beside(bench, flying, _saturating(own, BEST_EFFORT))
    finally:
        own.cancel()
        other.cancel()
    measured = bench.measured
    alone_ms, reserved_ms, shared_ms = (each.load.p99_ms for each in (alone, reserved, shared))
    if alone_ms and reserved_ms:
        measured.values["low_altitude_reserved_p99_ratio"] = round(reserved_ms / alone_ms, 3)
    if alone_ms and shared_ms:
        measured.values["low_altitude_shared_delay_batches"] = round((shared_ms - alone_ms) / (BATCH_S * 1e3), 3)
    measured.details["low-altitude"] = {
        "duration_s": bench.plan.open_loop_s,
        "batch_ms": BATCH_S * 1e3,
        "per_s": LOW_ALTITUDE_PER_S,
        "unloaded": in_words(alone),
        "reserved": in_words(reserved),
        "shared": in_words(shared),
        "best_effort_beside_reserved_per_s": round(beside_reserved.load.requests_per_s, 1),
        "best_effort_beside_shared_per_s": round(beside_shared.load.requests_per_s, 1),
    }


def _beside(bench: Bench, flying: RequestClass, saturating: RequestClass) -> tuple[ClassResult, ClassResult]:
    """Generators in processes of their own, so that the flood does not delay the other's clock."""
    duration_s = bench.plan.open_loop_s
    with mix_running(_mix(bench, duration_s + 1.5, saturating)) as flooding:
        found = mix_elsewhere(_mix(bench, duration_s, flying))
        return found["low-altitude"], flooding.result()["best-effort"]


def _saturating(service: Service, *headers: tuple[str, str]) -> RequestClass:
    call = service.call(ONE, *headers)
    return RequestClass("best-effort", call.url, call.body, None, SATURATING_CLIENTS, call.headers)


def _batch(bench: Bench, name: str, priority_class: str) -> Service:
    model = MODELS / "batch_ms.py"
    return bench.site.serve(name, model, "TenMillisecondBatch", priority_class=priority_class)


# ---- what they share -----------------------------------------------------------------------------------------------


def _ten_ms(bench: Bench, name: str, priority_class: str) -> Service:
    slo = {"p99_ms": SLO_ORDINARY_MS}
    service = bench.site.serve(name, MODELS / "ten_ms.py", "TenMilliseconds", priority_class=priority_class, slo=slo)
    service.wait_until_it_answers(ONE)
    return service


def _capacity(bench: Bench, service: Service) -> float:
    """Requests a second that it really answers, kept busy by a few callers."""
    bench.progress("what the model can do", 0.0)
    return bench.generate(service.call(ONE), CAPACITY_CLIENTS, min(CAPACITY_S, bench.plan.duration_s)).per_s


def _class(service: Service, name: str, per_s: float, slo_ms: float | None, *headers: tuple[str, str]) -> RequestClass:
    deadline = () if slo_ms is None else (("X-Suanli-Timeout-Ms", f"{slo_ms:.0f}"),)
    call = service.call(ONE, *deadline, *headers)
    return RequestClass(name, call.url, call.body, per_s, 8, call.headers, slo_ms)


def _mix(bench: Bench, duration_s: float, *classes: RequestClass) -> Mix:
    return Mix(classes, duration_s, bench.site.token, bench.plan.seed)
