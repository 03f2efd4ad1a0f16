"""The fields of a job file, one by one: what each may hold. What must hold between fields is in jobfile.py.

The models take plain data (from YAML, JSON or flags) and leave parsed values: durations in seconds, sizes in bytes,
CPUs and shares in thousandths, commands as argv.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from node_agent.execution import rendezvous
from node_agent.messages import CHECKPOINT_SIGNAL, KILL_WAIT_S
from scheduler.core.demand import Level
from scheduler.core.jobs import Autoscale, Canary, JobKind, Misfire, ModelRef
from scheduler.schema.cron import as_cron, as_zone
from scheduler.schema.fields import (
    ConfigName,
    CpusMilli,
    Flag,
    LabelMap,
    MigProfile,
    ShareMilli,
    SizeOrZeroBytes,
    Text,
    as_moment_s,
    duration,
    expected,
    finite_number,
    matching,
    one_of,
    positive,
    whole,
)
from scheduler.schema.problems import Shape
from scheduler.schema.serving_models import BatchingShape, LivenessField, PortField, ReadinessField

MAX_WORKERS: Final = 100_000
MAX_ARRAY: Final = 10_000
MAX_ALTERNATIVES: Final = 16
MAX_DEVICES: Final = 1024
MAX_GRACE_S: Final = 3600.0
DEFAULT_GRACE_S: Final = 30.0
# SIGTERM for programs that save and leave on it; it is sent again at the end of the grace, to go. Not SIGINT: shells
# and Python catch it before a program has said what it means, and end on it.
CHECKPOINT_SIGNALS: Final = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGTERM")
MAX_ARGUMENTS: Final = 4096
MAX_ARGUMENT_BYTES: Final = 128 << 10  # Linux refuses a longer single argument (MAX_ARG_STRLEN)
MAX_APART_FROM: Final = 64
MAX_ENV: Final = 256
MAX_CONCURRENCY: Final = 100_000
MAX_STEPS: Final = 20
MAX_HOSTS: Final = 64
MAX_ENV_CHARS: Final = 32_768

# Set by the node for each run, or kept from jobs: a job that could set them would misplace itself or its peers.
RESERVED_ENV: Final = rendezvous.OURS | {"CUDA_DEVICE_ORDER"}
RESERVED_ENV_PREFIXES: Final = ("SUANLI_", "RAY_", "CUDA_MPS_")
RESERVED_ENV_SUFFIX: Final = "_VISIBLE_DEVICES"

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_MODEL: Final = re.compile(r"(?P<path>.+\.py):(?P<name>[^\W\d]\w*)")
_JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_DATE_START: Final = re.compile(r"\s*\d{4}-")
_JOB_ID: Final = re.compile(r"[1-9]\d{0,17}(?:\.\d{1,5})?", re.ASCII)


def _as_command(value: object) -> tuple[str, ...]:
    """argv from a list; a shell string becomes an argv that runs it, so that no later code needs a shell."""
    words = 'a command: a list such as [python3, train.py, "60"], or one shell string'
    if isinstance(value, str):
        arguments: tuple[str, ...] = ("/bin/sh", "-c", value)
        if not value.strip():
            raise expected(words)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            if not isinstance(item, str):
                raise expected(words + " with every item as text (put numbers in quotes)")
        arguments = tuple(value)
        if not arguments[0].strip():
            raise expected(words + " whose first item names a program")
    else:
        raise expected(words)
    if len(arguments) > MAX_ARGUMENTS:
        raise expected(f"a command of at most {MAX_ARGUMENTS} arguments")
    for argument in arguments:
        if "\0" in argument or len(argument.encode("utf-8", "replace")) >= MAX_ARGUMENT_BYTES or not _is_utf8(argument):
            raise expected(f"arguments under {MAX_ARGUMENT_BYTES} bytes, without NUL characters or broken Unicode")
    return arguments


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _as_model(value: object) -> ModelRef:
    match = _MODEL.fullmatch(value) if isinstance(value, str) else None
    if match is None or "\0" in match["path"] or not _is_utf8(match["path"]):
        raise expected('a model as "path/to/file.py:Class"')
    return ModelRef(match["path"], match["name"])


def _as_env_name(value: object) -> str:
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        raise expected("a variable name: letters, digits and _, not starting with a digit")
    if is_reserved_env(value):
        raise expected("variables of the job's own; this one is set by Suanli or kept from jobs, leave it out")
    return value


def _as_env_value(value: object) -> str:
    """Text, or a number as Python writes it. Values are never echoed: they may be secrets."""
    if isinstance(value, bool):
        raise expected("text or a number (put true and false in quotes)", hide=True)
    if not isinstance(value, str) and finite_number(value) is None:
        raise expected("text or a finite number", hide=True)
    text = str(value)
    if "\0" in text or not _is_utf8(text) or len(text) > MAX_ENV_CHARS:
        raise expected(f"at most {MAX_ENV_CHARS} characters without NUL or broken Unicode", hide=True)
    return text


def _as_env(value: object) -> object:
    if not isinstance(value, Mapping):
        raise expected("a mapping of variables (NAME: value)")
    if len(value) > MAX_ENV:
        raise expected(f"at most {MAX_ENV} variables", hide=True)
    return value


def is_reserved_env(name: str) -> bool:
    upper = name.upper()
    return upper in RESERVED_ENV or upper.startswith(RESERVED_ENV_PREFIXES) or upper.endswith(RESERVED_ENV_SUFFIX)


def _as_after(value: object) -> tuple[str, ...]:
    """Job ids `7` or `7.3`. A bare 7.1 in YAML is a number, and 7.10 the same number: tasks must be quoted."""
    words = 'a list of job ids such as [7, "8.2"] (a task of an array in quotes)'
    items = value if isinstance(value, list | tuple) else [value]
    if not items or len(items) > 1000:
        raise expected(words + ", from 1 to 1000 of them")
    ids: list[str] = []
    for item in items:
        text = item if isinstance(item, str) else None
        if isinstance(item, int) and not isinstance(item, bool) and 0 < item < 10**18:
            text = str(item)
        if text is None or not _JOB_ID.fullmatch(text):
            raise expected(words)
        if text not in ids:
            ids.append(text)
    return tuple(ids)


@dataclass(frozen=True, slots=True)
class Deadline:
    """Exactly one of the two: seconds from submission, or epoch seconds."""

    after_s: float | None = None
    at_s: float | None = None


def _as_checkpoint_signal(value: object) -> str:
    """By its name, with or without SIG, as kill(1) takes it."""
    name = value.upper() if isinstance(value, str) else ""
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in CHECKPOINT_SIGNALS:
        words = "a signal that a program can be asked with: one that it may catch, and that means nothing else to it"
        raise expected(f"{words} ({', '.join(CHECKPOINT_SIGNALS)})")
    return name


def _as_deadline(value: object) -> Deadline:
    if is_date(value):
        return Deadline(at_s=as_moment_s(value))
    try:
        return Deadline(after_s=duration()(value))
    except PydanticCustomError:
        raise expected('a duration from submission ("6h") or a time with its zone ("2026-12-01T02:00+08:00")') from None


def _as_apart_from(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(items) <= MAX_APART_FROM:
        raise expected(f"a list of 1 to {MAX_APART_FROM} names of jobs")
    for item in items:
        if not isinstance(item, str) or not _JOB_NAME.fullmatch(item):
            raise expected("a list of names of jobs, such as [db-a, db-b] (names, not ids)")
    return tuple(dict.fromkeys(items))


def as_bounds(value: object) -> object:
    """A plain count N stands for {min: N, max: N}."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS:
        raise expected(f"a whole number from 1 to {MAX_WORKERS}, or {{min: N, max: N}}")
    return {"min": value, "max": value}


def _as_array(value: object) -> object:
    """A plain count N stands for {count: N}."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ARRAY:
        raise expected(f"a whole number from 1 to {MAX_ARRAY}, or {{count: N, limit: HOW MANY AT A TIME}}")
    return {"count": value}


def _as_schedule(value: object) -> object:
    """A cron expression stands for {cron: ...}."""
    return value if isinstance(value, Mapping) else {"cron": as_cron(value)}


def is_date(value: object) -> bool:
    """Whether it looks like a moment, not a duration."""
    return isinstance(value, str) and _DATE_START.match(value) is not None


def _as_list(value: object) -> object:
    """One demand stands for a list of one alternative."""
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_ALTERNATIVES:
        raise expected(f"one demand (device, count, cpus, ...) or a list of 1 to {MAX_ALTERNATIVES} alternatives")
    return list(value)


Near = Annotated[str, PlainValidator(one_of(*(level.value for level in Level)))]


class Bounds(Shape):
    min: Annotated[int, PlainValidator(whole(1, MAX_WORKERS))]
    max: Annotated[int, PlainValidator(whole(1, MAX_WORKERS))]


class ReplicaBounds(Bounds):
    """`min: 0` for a service that may be scaled to nothing."""

    min: Annotated[int, PlainValidator(whole(0, MAX_WORKERS))]


class ResourcesShape(Shape):
    device: Text = "any"
    count: Annotated[int, PlainValidator(whole(1, MAX_DEVICES))] = 1
    share: ShareMilli = 0
    cpus: CpusMilli = 1000
    memory: SizeOrZeroBytes = 0
    simulated: Flag = False
    node: Text | None = None
    site: Text | None = None
    labels: LabelMap = Field(default_factory=dict)
    device_labels: LabelMap = Field(default_factory=dict)
    mig: MigProfile | None = None


class CheckpointShape(Shape):
    dir: Text
    grace: Annotated[float, PlainValidator(duration(high_s=MAX_GRACE_S))] = DEFAULT_GRACE_S
    signal: Annotated[str, PlainValidator(_as_checkpoint_signal)] = CHECKPOINT_SIGNAL
    kill_wait: Annotated[float, PlainValidator(duration(high_s=MAX_GRACE_S))] = KILL_WAIT_S


class ArrayShape(Shape):
    """`limit`: so many tasks may run at a time."""

    count: Annotated[int, PlainValidator(whole(1, MAX_ARRAY))]
    limit: Annotated[int | None, PlainValidator(whole(1, MAX_ARRAY))] = None


class ScheduleShape(Shape):
    """`zone`: the site's where it is left out."""

    cron: Annotated[str, PlainValidator(as_cron)]
    zone: Annotated[str | None, PlainValidator(as_zone)] = None
    misfire: Annotated[str, PlainValidator(one_of(*(rule.value for rule in Misfire)))] = Misfire.ONCE.value


def _as_autoscale(value: object) -> object:
    """`true` stands for {}."""
    if isinstance(value, Mapping):
        return value
    if value is not True:
        raise expected("true, or a mapping such as {idle: 10m, concurrency: 8}")
    return {}


class AutoscaleShape(Shape):
    """How a service is scaled by its load; see core.autoscaling."""

    idle: Annotated[float, PlainValidator(duration(low_s=1.0))] = Autoscale().idle_s
    concurrency: Annotated[int, PlainValidator(whole(1, MAX_CONCURRENCY))] = Autoscale().concurrency
    down_after: Annotated[float, PlainValidator(duration(low_s=1.0, high_s=86_400.0))] = Autoscale().down_after_s


def _as_steps(value: object) -> tuple[int, ...]:
    """[5, 25, 100], "5,25,100" or one of them."""
    words = "per cent of the requests, rising to 100, such as [5, 25, 100]"
    items: list[object] = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        items = [int(part) if part.strip().isdecimal() else part for part in value.split(",")]
    if not 1 <= len(items) <= MAX_STEPS:
        raise expected(f"{words}; at most {MAX_STEPS} of them")
    steps: list[int] = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int) or not 1 <= item <= 100:
            raise expected(f"{words}: whole numbers from 1 to 100")
        steps.append(item)
    if steps[-1] != 100 or any(after <= before for before, after in pairwise(steps)):
        raise expected(words)
    return tuple(steps)


def _as_canary(value: object) -> object:
    """The steps alone stand for {steps: ...}."""
    return value if isinstance(value, Mapping) else {"steps": _as_steps(value)}


class CanaryShape(Shape):
    """How a new version of a service takes over; see core.jobs.Canary."""

    steps: Annotated[tuple[int, ...], PlainValidator(_as_steps)] = Canary().steps
    step: Annotated[float, PlainValidator(duration(low_s=1.0, high_s=7 * 86_400.0))] = Canary().step_s
    min_requests: Annotated[int, PlainValidator(whole(0, 1_000_000))] = Canary().min_requests
    ready_within: Annotated[float, PlainValidator(duration(low_s=1.0, high_s=86_400.0))] = Canary().ready_within_s


def _as_hosts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(items) <= MAX_HOSTS:
        raise expected(f"a list of 1 to {MAX_HOSTS} host names")
    for item in items:
        if not isinstance(item, str) or len(item) > 253 or not _HOST.fullmatch(item.lower()):
            raise expected("host names such as detect.example.org, without port or path")
    return tuple(dict.fromkeys(item.lower() for item in items if isinstance(item, str)))


class SloShape(Shape):
    p99_ms: Annotated[float, PlainValidator(positive(3_600_000, "milliseconds: a number"))]


class JobShape(Shape):
    """A job file. Fields without a default are required of every job; jobfile.py says which others a kind needs."""

    name: Annotated[
        str,
        PlainValidator(
            matching(
                _JOB_NAME.pattern,
                "a name of ASCII letters, digits, dots, hyphens and underscores, at most 100, first a letter or digit",
            )
        ),
    ]
    tenant: Text | None = None
    kind: Annotated[str, PlainValidator(one_of(*(kind.value for kind in JobKind)))]
    priority_class: Text = "normal"
    command: Annotated[tuple[str, ...] | None, PlainValidator(_as_command)] = None
    model: Annotated[ModelRef | None, PlainValidator(_as_model)] = None
    workers: Annotated[Bounds, BeforeValidator(as_bounds)] = Field(default_factory=lambda: Bounds(min=1, max=1))
    replicas: Annotated[ReplicaBounds, BeforeValidator(as_bounds)] = Field(
        default_factory=lambda: ReplicaBounds(min=1, max=1)
    )
    resources: Annotated[list[ResourcesShape], BeforeValidator(_as_list)] = Field(
        default_factory=lambda: [ResourcesShape()]
    )
    time_limit: Annotated[float | None, PlainValidator(duration())] = None
    retries: Annotated[int, PlainValidator(whole(0, 100))] = 0
    checkpoint: CheckpointShape | None = None
    slo: SloShape | None = None
    port: PortField = None
    readiness: ReadinessField = None
    liveness: LivenessField = None
    batching: BatchingShape | None = None
    env: Annotated[
        dict[Annotated[str, PlainValidator(_as_env_name)], Annotated[str, PlainValidator(_as_env_value)]],
        BeforeValidator(_as_env),
    ] = Field(default_factory=dict)
    working_dir: Text | None = None
    array: Annotated[ArrayShape | None, BeforeValidator(_as_array)] = None
    after: Annotated[tuple[str, ...], PlainValidator(_as_after)] = ()
    after_any: Annotated[tuple[str, ...], PlainValidator(_as_after)] = ()
    deadline: Annotated[Deadline | None, PlainValidator(_as_deadline)] = None
    within: Near | None = None
    spread: Near | None = None
    one_per: Near | None = None
    apart_from: Annotated[tuple[str, ...], PlainValidator(_as_apart_from)] = ()
    reservation: ConfigName | None = None
    schedule: Annotated[ScheduleShape | None, BeforeValidator(_as_schedule)] = None
    autoscale: Annotated[AutoscaleShape | None, BeforeValidator(_as_autoscale)] = None
    canary: Annotated[CanaryShape | None, BeforeValidator(_as_canary)] = None
    hosts: Annotated[tuple[str, ...], PlainValidator(_as_hosts)] = ()
