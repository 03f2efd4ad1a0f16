"""A workload's YAML file, checked against the cluster that it is meant for: `load_workload(path, cluster)`.

Names of tenants, classes, devices and sites must exist. All faults at once, as BadInput with file, line and field.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from scheduler.core.demand import Constraints, Level
from scheduler.core.jobs import JobKind
from scheduler.schema.cluster_file import ClusterConfig
from scheduler.schema.fields import ConfigName, Text, duration, expected, finite_number, one_of, positive, without_nulls
from scheduler.schema.job_checks import NO_DEVICE
from scheduler.schema.job_models import (
    DEFAULT_GRACE_S,
    MAX_GRACE_S,
    Bounds,
    Near,
    ReplicaBounds,
    ResourcesShape,
    as_bounds,
)
from scheduler.schema.jobfile import ANY_DEVICE, demand_of, device_named, vendors
from scheduler.schema.problems import Problems, Shape, nearest, validated
from scheduler.schema.workload_model import (
    Ask,
    Durations,
    RequestRate,
    Rhythm,
    Saving,
    ServiceAsk,
    Stream,
    WorkloadFile,
)
from scheduler.schema.yaml_source import read_yaml

MAX_SPAN_S: Final = 366 * 86_400.0
DEFAULT_MOST_S: Final = 7 * 86_400.0


def between(low: float, high: float, words: str) -> PlainValidator:
    def check(value: object) -> float:
        number = finite_number(value)
        if number is None or not low <= number <= high:
            raise expected(f"{words}: a number from {low:g} to {high:g}")
        return number

    return PlainValidator(check)


def _as_some(words: str) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, list) or not value:
            raise expected(words)
        return value

    return BeforeValidator(check)


def _as_pause_s(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else duration(high_s=MAX_GRACE_S)(value)


class RhythmShape(Shape):
    peak_hour: Annotated[float, between(0, 24, "hour of the day")] = 15.0
    swing: Annotated[float, between(0, 1, "swing about the mean")] = 0.0
    weekend: Annotated[float, between(0, 10, "factor on Saturdays and Sundays")] = 1.0


class LognormalShape(Shape):
    median: Annotated[float, PlainValidator(duration())]
    sigma: Annotated[float, PlainValidator(positive(5, "standard deviation of the logarithm: a number"))]


class ParetoShape(Shape):
    least: Annotated[float, PlainValidator(duration())]
    shape: Annotated[float, PlainValidator(positive(10, "exponent: a number"))]


class DurationShape(Shape):
    lognormal: LognormalShape | None = None
    pareto: ParetoShape | None = None
    fixed: Annotated[float, PlainValidator(duration())] | None = None
    most: Annotated[float, PlainValidator(duration())] = DEFAULT_MOST_S


class AskShape(ResourcesShape):
    """As `resources` of a job file, with how often it comes and how many workers of it a job has."""

    weight: Annotated[float, PlainValidator(positive(1e6, "weight: a number"))] = 1.0
    workers: Annotated[Bounds, BeforeValidator(as_bounds)] = Field(default_factory=lambda: Bounds(min=1, max=1))
    within: Near | None = None


class SavingShape(Shape):
    part: Annotated[float, between(0, 1, "part of the jobs")] = 1.0
    every: Annotated[float, PlainValidator(duration())] | None = None
    save: Annotated[float, PlainValidator(_as_pause_s)] = 10.0
    grace: Annotated[float, PlainValidator(duration(high_s=MAX_GRACE_S))] = DEFAULT_GRACE_S


class StreamShape(Shape):
    name: ConfigName
    tenant: Text
    priority_class: Text = "normal"
    kind: Annotated[str, PlainValidator(one_of("training", "batch", "benchmark"))] = "training"
    per_day: Annotated[float, PlainValidator(positive(1e7, "jobs a day: a number"))]
    rhythm: RhythmShape = Field(default_factory=RhythmShape)
    duration: DurationShape
    asks: Annotated[list[AskShape], _as_some("a list of what its jobs ask for (device, count, cpus, weight, ...)")]
    checkpoint: SavingShape | None = None


class RequestsShape(Shape):
    trace: Text | None = None
    mean_per_s: Annotated[float, PlainValidator(positive(1e9, "requests a second: a number"))] | None = None
    rhythm: RhythmShape = Field(default_factory=RhythmShape)
    step: Annotated[float, PlainValidator(duration(low_s=60.0))] = 900.0


class ServiceShape(Shape):
    name: ConfigName
    tenant: Text
    priority_class: Text = "production"
    resources: ResourcesShape = Field(default_factory=ResourcesShape)
    replicas: Annotated[ReplicaBounds, BeforeValidator(as_bounds)]
    slo_p99_ms: Annotated[float, PlainValidator(positive(3_600_000, "milliseconds: a number"))]
    service_time_ms: Annotated[float, PlainValidator(positive(3_600_000, "milliseconds: a number"))]
    busy_target: Annotated[float, between(0.05, 0.99, "part of the time that a replica is to be busy")] = 0.7
    requests: RequestsShape


class WorkloadShape(Shape):
    name: ConfigName
    span: Annotated[float, PlainValidator(duration(low_s=60.0, high_s=MAX_SPAN_S))]
    jobs: list[StreamShape] = Field(default_factory=list)
    services: list[ServiceShape] = Field(default_factory=list)
    files: list[Text] = Field(default_factory=list)


def load_workload(path: Path, cluster: ClusterConfig) -> WorkloadFile:
    """Read and check. Raises BadInput with one line for each fault."""
    document = read_yaml(path)
    data = without_nulls(document.mapping())
    problems = Problems(str(path), document.lines)
    file = validated(WorkloadShape, data, problems)
    problems.raise_if_any()
    assert file is not None
    if not (file.jobs or file.services or file.files):
        problems.add("", "expected jobs, services or files, and there is nothing to do")
    _check_names([(f"jobs[{i}]", each) for i, each in enumerate(file.jobs)], cluster, problems)
    _check_names([(f"services[{i}]", each) for i, each in enumerate(file.services)], cluster, problems)
    for i, stream in enumerate(file.jobs):
        _check_stream(f"jobs[{i}]", stream, cluster, problems)
    for i, service in enumerate(file.services):
        _check_service(f"services[{i}]", service, cluster, path, problems)
    for i, name in enumerate(file.files):
        if not (path.parent / name).is_file():
            problems.expected(f"files[{i}]", "the path of a CSV file, relative to this one", name)
    problems.raise_if_any()
    return WorkloadFile(
        name=file.name,
        path=path,
        span_s=file.span,
        streams=tuple(_stream(each, cluster) for each in file.jobs),
        services=tuple(_service(each, cluster, path) for each in file.services),
        files=tuple(path.parent / name for name in file.files),
    )


# ---- what must hold between fields, and with the cluster -----------------------------------------------------------


def _check_names(
    entries: Sequence[tuple[str, StreamShape | ServiceShape]], cluster: ClusterConfig, problems: Problems
) -> None:
    seen: dict[str, str] = {}
    for field, entry in entries:
        if entry.tenant not in cluster.tenants:
            problems.unknown_name(f"{field}.tenant", list(cluster.tenants), entry.tenant)
        if entry.priority_class not in cluster.priority_classes:
            problems.unknown_name(f"{field}.priority_class", list(cluster.priority_classes), entry.priority_class)
        if entry.name in seen:
            problems.add(f"{field}.name", f"{entry.name!r} is the name of {seen[entry.name]}; give each its own")
        seen.setdefault(entry.name, field)


def _check_stream(field: str, stream: StreamShape, cluster: ClusterConfig, problems: Problems) -> None:
    laws = [law for law in ("lognormal", "pareto", "fixed") if getattr(stream.duration, law) is not None]
    if len(laws) != 1:
        problems.add(
            f"{field}.duration", f"expected one of lognormal, pareto, fixed; got {' and '.join(laws) or 'none'}"
        )
    for i, ask in enumerate(stream.asks):
        _check_device(f"{field}.asks[{i}]", ask, cluster, problems)
        if ask.workers.min > ask.workers.max:
            problems.expected(f"{field}.asks[{i}].workers.min", f"at most max, {ask.workers.max}", ask.workers.min)
        if ask.workers.min < ask.workers.max and (stream.kind != "training" or stream.checkpoint is None):
            problems.add(
                f"{field}.asks[{i}].workers", "an elastic job (min below max) is of kind training with a checkpoint"
            )


def _check_service(field: str, service: ServiceShape, cluster: ClusterConfig, path: Path, problems: Problems) -> None:
    _check_device(f"{field}.resources", service.resources, cluster, problems)
    if service.replicas.min > service.replicas.max:
        problems.expected(f"{field}.replicas.min", f"at most max, {service.replicas.max}", service.replicas.min)
    if service.service_time_ms > service.slo_p99_ms:
        problems.expected(
            f"{field}.service_time_ms", f"at most slo_p99_ms, {service.slo_p99_ms:g}", service.service_time_ms
        )
    if (service.requests.trace is None) == (service.requests.mean_per_s is None):
        problems.add(f"{field}.requests", "expected either trace (a CSV file) or mean_per_s; give one of them")
    elif service.requests.trace is not None and not (path.parent / service.requests.trace).is_file():
        problems.expected(
            f"{field}.requests.trace", "the path of a CSV file, relative to this one", service.requests.trace
        )


def _check_device(field: str, asked: ResourcesShape, cluster: ClusterConfig, problems: Problems) -> None:
    if device_named(asked.device, cluster) is None:
        words = f"a model of the hardware catalogue, a vendor ({', '.join(vendors(cluster))}), any or none"
        names = nearest(asked.device, [ANY_DEVICE, NO_DEVICE, *vendors(cluster), *cluster.catalogue], count=3)
        problems.expected(f"{field}.device", words, asked.device, names=names)
    if asked.site is not None and asked.site not in cluster.sites:
        problems.unknown_name(f"{field}.site", list(cluster.sites), asked.site)
    if asked.simulated:
        problems.add(f"{field}.simulated", "all nodes are simulated here, and count as ordinary ones; leave it out")


# ---- values ----------------------------------------------------------------------------------------------------------


def _stream(shape: StreamShape, cluster: ClusterConfig) -> Stream:
    saving = shape.checkpoint
    return Stream(
        name=shape.name,
        tenant=shape.tenant,
        priority_class=shape.priority_class,
        priority=cluster.priority_classes[shape.priority_class].priority,
        kind=JobKind(shape.kind),
        per_day=shape.per_day,
        rhythm=_rhythm(shape.rhythm),
        durations=_durations(shape.duration),
        asks=tuple(
            Ask(
                ask.weight,
                demand_of(ask, cluster),
                ask.workers.min,
                ask.workers.max,
                Constraints(within=None if ask.within is None else Level(ask.within)),
            )
            for ask in shape.asks
        ),
        saving=None if saving is None else Saving(saving.part, saving.every, saving.save, saving.grace),
    )


def _rhythm(shape: RhythmShape) -> Rhythm:
    return Rhythm(shape.peak_hour, shape.swing, shape.weekend)


def _durations(shape: DurationShape) -> Durations:
    if shape.lognormal is not None:
        return Durations("lognormal", shape.lognormal.median, shape.lognormal.sigma, shape.most)
    if shape.pareto is not None:
        return Durations("pareto", shape.pareto.least, shape.pareto.shape, shape.most)
    assert shape.fixed is not None, "checked in _check_stream"
    law: Literal["fixed"] = "fixed"
    return Durations(law, shape.fixed, 0.0, max(shape.most, shape.fixed))


def _service(shape: ServiceShape, cluster: ClusterConfig, path: Path) -> ServiceAsk:
    requests = shape.requests
    return ServiceAsk(
        name=shape.name,
        tenant=shape.tenant,
        priority_class=shape.priority_class,
        priority=cluster.priority_classes[shape.priority_class].priority,
        demand=demand_of(shape.resources, cluster),
        replicas_min=shape.replicas.min,
        replicas_max=shape.replicas.max,
        slo_p99_ms=shape.slo_p99_ms,
        service_time_s=shape.service_time_ms / 1000,
        busy_target=shape.busy_target,
        requests=RequestRate(
            trace=None if requests.trace is None else path.parent / requests.trace,
            mean_per_s=requests.mean_per_s or 0.0,
            rhythm=_rhythm(requests.rhythm),
            step_s=requests.step,
        ),
    )


def is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")
