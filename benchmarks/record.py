"""What does a benchmark answer, as values and as JSON? One shape for all: provenance, cases, devices, peers.

`{"schema": "suanli/bench/1", "provenance": {...}, "cases": [{"case", "value", "unit", "must", "aim", "ok"}],
"devices": [...], "peers": {}}`. A value that was not measured is null, never 0. Standard library only.

A device entry covers one accelerator, or the CPU devices of one job as a group (they share memory, cache and one thread
pool, so dividing their rate would invent figures): `covers` lists the uuids, `device` names the one or joins them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from benchmarks.evidence import FLOPS_PER_GFLOPS, Measured, MeasuredOn, Simulated
from benchmarks.protocol import PROTOCOL_VERSION, Verdict
from benchmarks.served import Served, longest_waits, served_of

BENCH_SCHEMA = "suanli/bench/1"
# Which of several precisions stands for a run in its headline cases.
HEADLINE_PRECISIONS = ("bf16", "fp16", "fp32", "fp64")


class BadRecord(ValueError):
    """A result that cannot be read. The message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One line of a benchmark's answer and of the history.

    `gflops` is what counts: 0 where the window does not (see `verdict`), None where nothing could be run at all.
    `observed_gflops` is what was seen and verified over the time spent, for the one who looks into a failure.
    `evidence` and `on` travel together: measured on accelerator or cpu, or simulated on nothing.

    `value` in `unit` is the figure of a workload that counts no FLOP (`GB/s`, `requests/s`); `gflops` is then None or 0
    where the window does not count. `clock_bound` is `ok`, `over`, or `not checked: ` and why. `energy_quality` is
    `measured` or `simulated`; energy, clocks, `ecc_uncorrected` and `faults` are what the window added or saw, None
    where nobody could read them. `held_back_share`: of the readings, those in which something held the clock down.
    `digest` is of a fixed product's bytes, the same for all sound cards of one model and software. `raw_sha256` names
    the line of raw batches (benchmarks.raw_batches, raw_requests) that the figure can be computed from. `serving` is of
    that workload alone. `clock_offset_s`: the node's clock minus the coordinator's, known to `clock_uncertainty_s`.
    """

    device: str
    covers: tuple[str, ...]
    node: str | None
    site: str | None
    model: str
    vendor: str
    evidence: Literal["measured", "simulated"]
    on: Literal["accelerator", "cpu", "nothing"]
    workload: str
    precision: str
    gflops: float | None
    verified: bool
    verdict: Verdict
    reason: str | None
    observed_gflops: float | None = None
    shape: tuple[int, int, int] | None = None
    flop: int = 0
    window_s: float | None = None
    window_start_s: float | None = None
    elapsed_s: float | None = None
    warmup_s: float | None = None
    steady: bool | None = None
    batches: int = 0
    products: int = 0
    products_per_batch: int | None = None
    samples: int = 0
    detection_probability: float | None = None
    detection_probability_one_percent: float | None = None
    check_share: float | None = None
    batch_gflops_p5: float | None = None
    batch_gflops_p50: float | None = None
    batch_gflops_p95: float | None = None
    threads: int | None = None
    library: str | None = None
    seed: int | None = None
    basis: str | None = None
    rack: str | None = None
    driver: str | None = None
    runtime: str | None = None
    clock_offset_s: float | None = None
    clock_uncertainty_s: float | None = None
    clock_bound: str | None = None
    mean_clock_megahertz: float | None = None
    energy_joules: float | None = None
    energy_quality: str | None = None
    mean_power_watts: float | None = None
    peak_temperature_celsius: float | None = None
    held_back_share: float | None = None
    ecc_uncorrected: int | None = None
    faults: int | None = None
    digest: str | None = None
    value: float | None = None
    unit: str | None = None
    mfu: float | None = None
    best_shape: tuple[int, int, int] | None = None
    best_shape_gflops: float | None = None
    arming_s: float | None = None
    raw_sha256: str | None = None
    serving: Served | None = None
    protocol: str = PROTOCOL_VERSION

    def rate(self) -> Measured | Simulated | None:
        """The counted figure with its evidence; None where there is none."""
        if self.gflops is None:
            return None
        flops = self.gflops * FLOPS_PER_GFLOPS
        if self.evidence == "simulated":
            return Simulated(flops)
        return Measured(flops, MeasuredOn.ACCELERATOR if self.on == "accelerator" else MeasuredOn.CPU)

    def should_count(self) -> bool:
        """Whether this is a figure that a goal waits for: a real accelerator's."""
        return self.evidence == "measured" and self.on == "accelerator"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": str(self.verdict), "covers": list(self.covers)}


@dataclass(frozen=True, slots=True)
class WhichDevice:
    """The identity that a record carries: who was measured, and where it stands."""

    device: str
    covers: tuple[str, ...]
    node: str | None
    site: str | None
    model: str
    vendor: str
    on: Literal["accelerator", "cpu"]


def failed_record(
    which: WhichDevice,
    *,
    precision: str,
    verdict: Verdict,
    reason: str,
    window_s: float | None = None,
    workload: str = "gemm",
) -> DeviceRecord:
    """A device that should have been measured and was not: it counts zero, and says why."""
    return DeviceRecord(
        device=which.device,
        covers=which.covers,
        node=which.node,
        site=which.site,
        model=which.model,
        vendor=which.vendor,
        evidence="measured",
        on=which.on,
        workload=workload,
        precision=precision,
        gflops=None if verdict is Verdict.UNAVAILABLE else 0.0,
        verified=False,
        verdict=verdict,
        reason=reason,
        window_s=window_s,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of an answer. `must` and `aim` are bounds where there are any; `ok` None where nothing is demanded."""

    case: str
    value: float | int | None
    unit: str
    must: float | None = None
    aim: float | None = None
    ok: bool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    provenance: Mapping[str, Any]
    cases: Sequence[Case]
    devices: Sequence[DeviceRecord]
    peers: Mapping[str, Any] = field(default_factory=dict)
    not_covered: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": dict(self.provenance),
            "cases": [asdict(c) for c in self.cases],
            "devices": [d.to_json() for d in self.devices],
            "peers": dict(self.peers),
        }
        if self.not_covered:
            answer["not_covered"] = [dict(d) for d in self.not_covered]
        return answer


def is_invalid(record: DeviceRecord) -> bool:
    """Whether a figure that should count does not. What a card cannot do (no such precision) is no failure of it."""
    return record.should_count() and not record.verified and record.verdict is not Verdict.UNAVAILABLE


def cases_of(devices: Sequence[DeviceRecord], *, not_covered: int = 0) -> tuple[Case, ...]:
    """The stable case names of `bench run`. Sums are over one kind of evidence each, and null where it was not run.

    The headline cases hold GEMM in one precision; where a run had more, each has a case of its own behind them.
    """
    kinds = {
        "accelerator": [d for d in devices if d.should_count()],
        "cpu": [d for d in devices if d.evidence == "measured" and d.on == "cpu"],
        "simulated": [d for d in devices if d.evidence == "simulated"],
    }
    invalid = len({uuid for d in kinds["accelerator"] if is_invalid(d) for uuid in d.covers})
    measured = [d for d in devices if d.evidence == "measured"]
    unsound = {uuid for d in measured if not d.verified for uuid in d.covers}
    sound = {uuid for d in measured if d.verified for uuid in d.covers} - unsound
    chances = [d.detection_probability for d in devices if d.verified and d.detection_probability is not None]
    return (
        Case("measured_accelerator_pflops", _in_pflops(_summed(_headline(kinds["accelerator"]))), "PFlops"),
        Case("measured_accelerators", _covered(kinds["accelerator"]), "devices"),
        Case("cpu_gflops", _summed(_headline(kinds["cpu"])), "GFLOP/s"),
        Case("simulated_pflops", _in_pflops(_summed(_headline(kinds["simulated"]))), "PFlops (simulated)"),
        Case("simulated_devices", _covered(kinds["simulated"]), "devices (simulated)"),
        Case("devices_verified", len(sound), "devices"),
        Case("devices_invalid", invalid, "devices", must=0, aim=0, ok=invalid == 0),
        Case("devices_not_covered", not_covered, "devices"),
        Case("detection_probability_min", min(chances, default=None), "probability"),
        *(case for kind, records in kinds.items() for case in _further_cases(kind, records)),
    )


def _headline(records: Sequence[DeviceRecord]) -> list[DeviceRecord]:
    gemm = [d for d in records if d.workload == "gemm"]
    there = list(dict.fromkeys(d.precision for d in gemm))
    chosen = next((p for p in HEADLINE_PRECISIONS if p in there), there[0] if there else None)
    return [d for d in gemm if d.precision == chosen]


def _further_cases(kind: str, records: Sequence[DeviceRecord]) -> list[Case]:
    """`cpu_bandwidth_fp32`, `accelerator_gemm_fp8`, ... where a run measured more than one thing."""
    groups: dict[tuple[str, str], list[DeviceRecord]] = {}
    for record in records:
        groups.setdefault((record.workload, record.precision), []).append(record)
    if len(groups) == 1 and records[0].workload == "gemm":
        return []  # the headline has said it
    cases = []
    for (workload, precision), members in groups.items():
        values = [d.value for d in members if d.value is not None]
        unit = next((d.unit for d in members if d.unit), None)
        value = sum(values) if unit else _summed(members)
        suffix = " (simulated)" if kind == "simulated" else ""
        cases.append(Case(f"{kind}_{workload}_{precision}", value, f"{unit or 'GFLOP/s'}{suffix}"))
        served = [d.serving for d in members if d.verified and d.serving is not None]
        cases += [
            Case(f"{kind}_{workload}_{precision}_{q}_ms", longest, "ms, on the slowest device")
            for q, longest in longest_waits(served)
        ]
    return cases


def _covered(records: Sequence[DeviceRecord]) -> int:
    return len({uuid for d in records for uuid in d.covers})


def _summed(records: Sequence[DeviceRecord]) -> float | None:
    known = [d.gflops for d in records if d.gflops is not None]
    return sum(known) if known else None


def _in_pflops(gflops: float | None) -> float | None:
    return None if gflops is None else gflops / 1e6


# ---- reading back ------------------------------------------------------------------------------------------------

_TEXT = ("device", "model", "vendor", "workload", "precision", "protocol")
_TEXT_OR_NULL = (
    *("node", "site", "reason", "library", "basis", "rack", "driver", "runtime", "clock_bound", "energy_quality"),
    *("digest", "unit", "raw_sha256"),
)
_COUNTS = ("flop", "batches", "products", "samples")
_COUNTS_OR_NULL = ("products_per_batch", "threads", "seed", "ecc_uncorrected", "faults")
_SIGNED_OR_NULL = ("clock_offset_s", "peak_temperature_celsius")
_NUMBERS_OR_NULL = (
    "gflops",
    "observed_gflops",
    "window_s",
    "window_start_s",
    "elapsed_s",
    "warmup_s",
    "detection_probability",
    "detection_probability_one_percent",
    "check_share",
    "batch_gflops_p5",
    "batch_gflops_p50",
    "batch_gflops_p95",
    "mean_clock_megahertz",
    "energy_joules",
    "mean_power_watts",
    "held_back_share",
    "value",
    "mfu",
    "best_shape_gflops",
    "arming_s",
    "clock_uncertainty_s",
)
_DEFAULTS = {f.name: f.default for f in fields(DeviceRecord)}


def device_record(data: Mapping[str, Any]) -> DeviceRecord:
    """A record from JSON. Unknown fields are left aside (a newer writer). Raises BadRecord."""
    value: dict[str, Any] = {}
    for name in _TEXT:
        value[name] = _checked(data, name, isinstance(data.get(name, _DEFAULTS[name]), str))
    for name in _TEXT_OR_NULL:
        value[name] = _checked(data, name, data.get(name) is None or isinstance(data[name], str))
    for name in _COUNTS:
        value[name] = _checked(data, name, _is_count(data.get(name, 0)))
    for name in _COUNTS_OR_NULL:
        value[name] = _checked(data, name, data.get(name) is None or _is_count(data[name]))
    for name in _NUMBERS_OR_NULL:
        value[name] = _checked(data, name, data.get(name) is None or _is_number(data[name]))
    for name in _SIGNED_OR_NULL:
        value[name] = _checked(data, name, data.get(name) is None or _is_finite(data[name]))
    value["verified"] = _checked(data, "verified", isinstance(data.get("verified"), bool))
    value["steady"] = _checked(data, "steady", data.get("steady") in (None, True, False))
    value["evidence"] = _checked(data, "evidence", data.get("evidence") in ("measured", "simulated"))
    value["on"] = _checked(data, "on", data.get("on") in ("accelerator", "cpu", "nothing"))
    value["verdict"] = Verdict(_checked(data, "verdict", data.get("verdict") in tuple(Verdict)))
    covers = data.get("covers")
    _checked(
        data, "covers", isinstance(covers, (list, tuple)) and covers != [] and all(isinstance(u, str) for u in covers)
    )
    value["covers"] = tuple(covers or ())
    for name in ("shape", "best_shape"):
        shape = data.get(name)
        is_shape = isinstance(shape, (list, tuple)) and len(shape) == 3 and all(map(_is_count, shape))
        value[name] = tuple(_checked(data, name, shape is None or is_shape) or ()) or None
    try:
        value["serving"] = served_of(data.get("serving"))
    except ValueError:
        _checked(data, "serving", False)
    record = DeviceRecord(**value)
    if (record.evidence == "simulated") != (record.on == "nothing"):
        raise BadRecord("evidence and on contradict each other: only a simulated figure is measured on nothing")
    if record.verified and (record.verdict is not Verdict.OK or not (record.gflops or record.value)):
        raise BadRecord("verified is true although the window does not count")
    if record.evidence == "measured" and not record.verified and record.gflops:
        raise BadRecord("gflops is not 0 although the device was not verified")
    return record


def _checked(data: Mapping[str, Any], name: str, good: bool) -> Any:
    if not good:
        shown = json.dumps(data.get(name), default=str)
        raise BadRecord(f"field {name} is missing or of the wrong kind: {shown[:80]}")
    return data.get(name, _DEFAULTS[name])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and _is_finite(value) and value >= 0


def placed(record: DeviceRecord, *, node: str, site: str) -> DeviceRecord:
    """The same record, at the node and site that the service knows it at."""
    return replace(record, node=node, site=site)
