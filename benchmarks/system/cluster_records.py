"""What is believed of what workers say? Results of jobs in, records under the service's names out.

What a worker says of itself is not believed where the service knows better: node, site, rack, model and whether a
device is simulated are the service's words, and a result that contradicts them counts zero. Its clock was measured
from here, its raw batches must give its figure, its rate must be possible at its clock, and equal cards must have got
equal bits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.card_facts import CardFacts
from benchmarks.inventory import Device, Node
from benchmarks.job_devices import group_name
from benchmarks.measured import held_to_clock, voided
from benchmarks.protocol import NIGHTLY_WINDOW_S, Verdict
from benchmarks.raw_batches import from_line, sha256_of
from benchmarks.raw_requests import requests_from_line
from benchmarks.record import BadRecord, DeviceRecord, WhichDevice, device_record, failed_record
from benchmarks.suite import Measurement
from benchmarks.system.meeting_place import ClockOffset

NEVER_COMPARED = (
    "this node's clock was never compared with the coordinator's, which a window of 600 s and more asks for; let nodes "
    "reach the coordinator (--meet ADDRESS)"
)


@dataclass(frozen=True, slots=True)
class LastFigure:
    """The newest verified figure of a device."""

    at_s: float
    workload: str
    precision: str
    gflops: float | None
    value: float | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class NotCovered:
    """Devices of one node that were not measured, and why; and for those that ever were, how old that is."""

    node: str
    site: str
    devices: tuple[str, ...]
    reason: str
    simulated: bool
    last_verified: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_last(self, last: Mapping[str, LastFigure], now_s: float) -> NotCovered:
        known = {
            uuid: {
                "at_s": figure.at_s,
                "age_s": max(0.0, now_s - figure.at_s),
                "workload": figure.workload,
                "precision": figure.precision,
                "gflops": figure.gflops,
                "value": figure.value,
                "unit": figure.unit,
            }
            for uuid in self.devices
            if (figure := last.get(uuid)) is not None
        }
        return replace(self, last_verified=known)

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "site": self.site,
            "devices": list(self.devices),
            "reason": self.reason,
            "simulated": self.simulated,
            "last_verified": {uuid: dict(figure) for uuid, figure in self.last_verified.items()},
        }


@dataclass(frozen=True, slots=True)
class Submitted:
    node: Node
    devices: tuple[Device, ...]
    job_id: str


def left_alone(node: Node) -> NotCovered:
    if node.state == "ready":
        busy = tuple(d.uuid for d in node.devices if not d.free)
        return NotCovered(node.name, node.site, busy, "in use; not disturbed", node.simulated)
    everything = tuple(d.uuid for d in node.devices)
    return NotCovered(node.name, node.site, everything, f"the node is {node.state}", node.simulated)


def nothing_made_up(node: Node) -> NotCovered:
    everything = tuple(d.uuid for d in node.devices)
    return NotCovered(node.name, node.site, everything, "simulated: GEMM alone is made up of such cards", True)


def never_started(job: Submitted, view: Mapping[str, Any]) -> NotCovered:
    """Its devices were taken by others before its turn came: they are not disturbed, and not covered."""
    why = (view.get("reason") or {}).get("text") or view.get("detail") or "no reason was given"
    uuids = tuple(d.uuid for d in job.devices)
    reason = f"job {job.job_id} did not start in time: {why}"
    return NotCovered(job.node.name, job.node.site, uuids, reason, job.node.simulated)


def collected(
    job: Submitted,
    view: Mapping[str, Any] | None,
    window_s: float,
    measurements: Sequence[Measurement],
    offsets: Sequence[ClockOffset | None] | None,
    facts: Mapping[str, CardFacts],
) -> tuple[list[DeviceRecord], list[str]]:
    """The job's records under the service's names, or a failure for each device and measurement that is missing; and
    the raw lines that came with them. `offsets`: by window; None where clocks were not compared."""
    asked = _Asked(job, window_s)
    # Of a simulated card one precision of GEMM is made up, and nothing else.
    first = [m for m in measurements if m.workload == "gemm"][:1] if job.node.simulated else measurements
    wanted = [(m.workload, asked.precision(m)) for m in first]
    try:
        document = result_of(view)
        if document is None:
            return asked.all_failed(wanted, _why_nothing(job.job_id, view)), []
        reported = [device_record(d) for d in document["devices"]]
        lines = [str(line) for line in document.get("raw") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return asked.all_failed(wanted, f"the result of job {job.job_id} cannot be read: {error}"), []
    records: list[DeviceRecord] = []
    for place, (workload, precision) in enumerate(wanted):
        mine = [r for r in reported if (r.workload, r.precision) == (workload, precision)]
        if len(wanted) == 1:
            mine = [r for r in reported if r.workload == workload]  # its own precision, where none was asked for
        clock = None if offsets is None else offsets[place]
        for record in asked.known(mine, workload, precision):
            bounded = held_to_clock(record, _per_clock(facts, record)) if record.evidence == "measured" else record
            records.append(_by_clock(_with_mfu(bounded, facts), clock))
    return records, lines


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job was asked for, to hold its answer against."""

    job: Submitted
    window_s: float

    def precision(self, measurement: Measurement) -> str:
        return measurement.precision_or("fp32" if self.job.devices and self.job.devices[0].is_cpu else "bf16")

    def known(self, reported: Sequence[DeviceRecord], workload: str, precision: str) -> list[DeviceRecord]:
        """One measurement's records with the service's facts in place of the worker's words."""
        known = {d.uuid: d for d in self.job.node.devices}
        records: list[DeviceRecord] = []
        covered: set[str] = set()
        for record in reported:
            if not set(record.covers) <= set(known) or set(record.covers) & covered:
                continue  # no devices of this node, or devices reported twice
            covered |= set(record.covers)
            records.append(self._as_known(record, [known[uuid] for uuid in record.covers]))
        # As many as it was given; which of the free ones these were is the scheduler's choice.
        short = max(0, len(self.job.devices) - len(covered))
        missing = [d for d in self.job.devices if d.uuid not in covered][:short]
        why = f"the result of job {self.job.job_id} leaves this device out"
        return records + self._failures(missing, workload, precision, why)

    def all_failed(self, wanted: Sequence[tuple[str, str]], reason: str) -> list[DeviceRecord]:
        return [
            record
            for workload, precision in wanted
            for record in self._failures(self.job.devices, workload, precision, reason)
        ]

    def _as_known(self, record: DeviceRecord, devices: Sequence[Device]) -> DeviceRecord:
        node, device = self.job.node, devices[0]
        contradiction = self._contradiction(record, devices)
        if contradiction is not None:
            return self._failure(devices, record.workload, record.precision, contradiction)
        on = record.on if node.simulated else ("cpu" if device.is_cpu else "accelerator")
        return replace(
            record,
            device=group_name(record.covers),
            node=node.name,
            site=node.site,
            rack=node.rack,
            model=device.model,
            vendor=device.vendor,
            on=on,
        )

    def _contradiction(self, record: DeviceRecord, devices: Sequence[Device]) -> str | None:
        simulated = self.job.node.simulated
        if (record.evidence == "simulated") != simulated:
            return f"reported as {record.evidence}, but it is {'simulated' if simulated else 'real'}"
        if len(devices) > 1 and not devices[0].is_cpu and record.workload != "collective":
            return "several accelerators were reported as one"
        if record.verified and record.window_s != self.window_s:
            return f"ran a window of {record.window_s} s, not the one asked"
        return None

    def _failures(self, devices: Sequence[Device], workload: str, precision: str, reason: str) -> list[DeviceRecord]:
        """A group of CPU devices fails as a group, and so do those that work together; others one by one."""
        if not devices:
            return []
        if devices[0].is_cpu or workload == "collective":
            return [self._failure(devices, workload, precision, reason)]
        return [self._failure((d,), workload, precision, reason) for d in devices]

    def _failure(self, devices: Sequence[Device], workload: str, precision: str, reason: str) -> DeviceRecord:
        uuids = tuple(d.uuid for d in devices)
        node, first = self.job.node, devices[0]
        on = "cpu" if first.is_cpu else "accelerator"
        which = WhichDevice(group_name(uuids), uuids, node.name, node.site, first.model, first.vendor, on=on)  # type: ignore[arg-type]
        record = failed_record(
            which,
            precision=precision,
            verdict=Verdict.NO_RESULT,
            reason=reason,
            window_s=self.window_s,
            workload=workload,
        )
        record = replace(record, rack=node.rack)
        return replace(record, evidence="simulated", on="nothing", gflops=None) if node.simulated else record


def _per_clock(facts: Mapping[str, CardFacts], record: DeviceRecord) -> float | None:
    return facts.get(record.model, CardFacts()).flop_per_clock.get(record.precision)


def _with_mfu(record: DeviceRecord, facts: Mapping[str, CardFacts]) -> DeviceRecord:
    peak = facts.get(record.model, CardFacts()).peak_tflops.get(record.precision)
    if record.workload != "training" or not record.gflops or peak is None:
        return record
    return replace(record, mfu=record.gflops / 1e3 / peak)


def _by_clock(record: DeviceRecord, clock: ClockOffset | None) -> DeviceRecord:
    """The clock as it was measured from here, whatever the worker says of it."""
    if record.evidence == "simulated":
        return record
    if clock is None:
        if record.verified and (record.window_s or 0.0) >= NIGHTLY_WINDOW_S:
            return voided(record, Verdict.CLOCK_SKEW, NEVER_COMPARED)
        return record
    record = replace(record, clock_offset_s=clock.offset_s, clock_uncertainty_s=clock.uncertainty_s)
    refusal = clock.refusal()
    if refusal is not None and record.verified:
        return voided(record, Verdict.CLOCK_SKEW, refusal["detail"])
    return record


def equal_digests(records: Sequence[DeviceRecord]) -> list[DeviceRecord]:
    """A fixed product has the same bits on every sound card of one model and software. Who differs from the majority
    counts zero; where there is none, nobody of that group does."""
    groups: dict[tuple[object, ...], Counter[str]] = {}
    for record in records:
        if record.digest is not None:
            groups.setdefault(_like(record), Counter())[record.digest] += 1
    answer = []
    for record in records:
        counted = groups.get(_like(record), Counter()) if record.digest is not None else Counter()
        total = counted.total()
        if len(counted) < 2 or not record.verified or 2 * counted[str(record.digest)] > total:
            answer.append(record)
            continue
        most, how_many = counted.most_common(1)[0]
        if 2 * how_many > total:
            own = str(record.digest)[:12]
            why = f"a fixed product's digest is {own}; {how_many} of {total} equal cards have {most[:12]}"
        else:
            why = f"a fixed product has {len(counted)} digests on {total} equal cards, and none has a majority"
        answer.append(voided(record, Verdict.DIGEST_MISMATCH, why))
    return answer


def _like(record: DeviceRecord) -> tuple[object, ...]:
    return (
        record.evidence,
        record.model,
        record.library,
        record.runtime,
        record.driver,
        record.workload,
        record.precision,
        record.shape,
    )


def with_raw(records: Sequence[DeviceRecord], lines: Sequence[str], run: str) -> tuple[list[str], list[DeviceRecord]]:
    """The raw lines that belong to a record, in the records' order; a record whose line gives another figure counts
    zero.

    A record whose line did not come keeps its figure and loses `raw_sha256`: nobody could recompute it.
    """
    by_digest = {sha256_of(line): line for line in lines}
    kept: list[str] = []
    answer: list[DeviceRecord] = []
    for record in records:
        line = None if record.raw_sha256 is None else by_digest.get(record.raw_sha256)
        if line is None:
            answer.append(replace(record, raw_sha256=None))
            continue
        try:
            gives = _gives(line, record, run)
        except BadRecord as error:
            answer.append(replace(_contradicted(record, str(error)), raw_sha256=None))
            continue
        if not gives:
            answer.append(_contradicted(record, "its raw batches do not give its figure"))
        else:
            answer.append(record)
        kept.append(line)
    return kept, answer


def _gives(line: str, record: DeviceRecord, run: str) -> bool:
    """Whether what the record says follows from its line. Raises BadRecord."""
    if record.serving is not None:
        requests = requests_from_line(line)
        if requests.run != run or requests.batches != record.batches:
            return False
        waits = record.serving.latency_p50_ms, record.serving.latency_p95_ms, record.serving.latency_p99_ms
        return not record.verified or (
            _is_near(requests.per_s, record.value) and requests.gives_quantiles(waits, (0.5, 0.95, 0.99))
        )
    raw = from_line(line)
    if raw.run != run or raw.batches != record.batches:
        return False
    if not record.verified:
        return True
    return raw.flop == record.flop if record.unit is None else _is_near(raw.flop / raw.window_s / 1e9, record.value)


def _is_near(one: float, other: float | None) -> bool:
    return other is not None and abs(one - other) <= 1e-9 * max(one, other)


def _contradicted(record: DeviceRecord, why: str) -> DeviceRecord:
    return voided(record, Verdict.NO_RESULT, why) if record.verified else record


def result_of(view: Mapping[str, Any] | None) -> Any:
    """What worker 0 of the newest attempt left, as parsed JSON where it is JSON; None where it left nothing.

    `results` is [{"attempt", "worker", "result"}], or {"ATTEMPT/WORKER": text}.
    """
    results = (view or {}).get("results") or ()
    if isinstance(results, Mapping):
        keyed = [(*(int(part) for part in key.split("/")), value) for key, value in results.items()]
    else:
        keyed = [(int(r["attempt"]), int(r["worker"]), r["result"]) for r in results]
    of_worker_0 = {attempt: value for attempt, worker, value in keyed if worker == 0}
    newest = of_worker_0[max(of_worker_0)] if of_worker_0 else None
    return json.loads(newest) if isinstance(newest, str) else newest


def _why_nothing(job_id: str, view: Mapping[str, Any] | None) -> str:
    if view is None:
        return f"job {job_id} was stopped before it left a result"
    cause = view.get("detail") or view.get("cause") or "no result was left"
    return f"job {job_id} {view['state']}: {str(cause).strip().splitlines()[0]}"
