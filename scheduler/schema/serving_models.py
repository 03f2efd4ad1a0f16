"""The fields of a job file that say what a replica is: its port, how it is asked whether it is well, its batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainValidator

from scheduler.core.jobs import Probe, Serving
from scheduler.schema.fields import duration, expected, whole
from scheduler.schema.problems import Problems, Shape

FIELDS: Final = ("port", "readiness", "liveness", "batching")
FIRST_PORT: Final = 1024  # those below are the system's
LAST_PORT: Final = 65_535
MAX_BATCH: Final = 65_536
MAX_WAIT_S: Final = 10.0
MAX_PROBE_S: Final = 86_400.0
MAX_FAILURES: Final = 1000
READY_TIMEOUT_S: Final = 600.0
ALIVE_TIMEOUT_S: Final = 5.0
ALIVE_INTERVAL_S: Final = 5.0
MODEL_TIMEOUT_S: Final = 60.0

_MILLISECONDS: Final = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*ms\s*", re.ASCII)
_PATH: Final = re.compile(r"/[!-~]{0,1000}", re.ASCII)


def _as_path(value: object) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise expected('a path on the replica that begins with /, such as "/health", without blanks')
    return value


def _as_probe(value: object) -> object:
    """A path alone stands for {path: ...}."""
    return {"path": value} if isinstance(value, str) else value


def _seconds(low_s: float, high_s: float) -> Callable[[object], float]:
    """As a duration, or in milliseconds: "5ms"."""
    in_words = duration(low_s=low_s, high_s=high_s)

    def check(value: object) -> float:
        match = _MILLISECONDS.fullmatch(value) if isinstance(value, str) else None
        return in_words(value if match is None else float(match[1]) / 1e3)

    return check


def _as_wait_s(value: object) -> float:
    """0 for none."""
    if not isinstance(value, bool) and value in (0, "0", "0ms", "0s"):
        return 0.0
    return _seconds(0.0, MAX_WAIT_S)(value)


class ReadinessShape(Shape):
    """Ready once a GET of `path` answers with `status`; without a path, once something listens on the port."""

    path: Annotated[str | None, PlainValidator(_as_path)] = None
    interval: Annotated[float, PlainValidator(_seconds(0.05, MAX_PROBE_S))] = 1.0
    timeout: Annotated[float, PlainValidator(_seconds(0.05, MAX_PROBE_S))] = READY_TIMEOUT_S
    status: Annotated[int, PlainValidator(whole(100, 599))] = 200


class LivenessShape(Shape):
    """Ended, and started again, after `failures` bad answers in a row. Of a model: after one turn of over `timeout`."""

    path: Annotated[str | None, PlainValidator(_as_path)] = None
    interval: Annotated[float, PlainValidator(_seconds(0.05, MAX_PROBE_S))] = ALIVE_INTERVAL_S
    timeout: Annotated[float | None, PlainValidator(_seconds(0.05, MAX_PROBE_S))] = None
    status: Annotated[int, PlainValidator(whole(100, 599))] = 200
    failures: Annotated[int, PlainValidator(whole(1, MAX_FAILURES))] = 3


class BatchingShape(Shape):
    max: Annotated[int | None, PlainValidator(whole(1, MAX_BATCH))] = None
    max_wait: Annotated[float | None, PlainValidator(_as_wait_s)] = None


PortField = Annotated[int | None, PlainValidator(whole(FIRST_PORT, LAST_PORT))]
ReadinessField = Annotated[ReadinessShape | None, BeforeValidator(_as_probe)]
LivenessField = Annotated[LivenessShape | None, BeforeValidator(_as_probe)]


def check_serving(data: Mapping[str, Any], problems: Problems) -> None:
    """What must hold between fields of kind inference."""
    if data.get("model") is not None:
        for field in ("port", "readiness"):
            if data.get(field) is not None:
                problems.add(field, "is for a command that serves by itself; a model's server sees to it, leave it out")
        liveness = data.get("liveness")
        for field in ("path", "interval", "status", "failures"):
            if isinstance(liveness, Mapping) and field in liveness:
                problems.add(f"liveness.{field}", "is for a command; of a model only timeout can be said, see docs")
        if isinstance(liveness, str):
            problems.add("liveness", "of a model only {timeout: DURATION} can be said: the longest turn it may take")
    elif data.get("batching") is not None:
        problems.add("batching", "is for a model; a command makes batches of its own, leave it out")
    elif isinstance(data.get("liveness"), Mapping) and "path" not in data["liveness"]:
        problems.add("liveness.path", "required for a command: the path that is asked, such as /health")


def serving_of(
    port: int | None,
    readiness: ReadinessShape | None,
    liveness: LivenessShape | None,
    batching: BatchingShape | None,
    *,
    model: bool,
) -> Serving | None:
    """None: nothing was said."""
    if port is None and readiness is None and liveness is None and batching is None:
        return None
    ready = alive = None
    if readiness is not None:
        ready = Probe(readiness.path, readiness.interval, readiness.timeout, readiness.status)
    if liveness is not None:
        usual_s = MODEL_TIMEOUT_S if model else ALIVE_TIMEOUT_S
        within_s = usual_s if liveness.timeout is None else liveness.timeout
        alive = Probe(liveness.path, liveness.interval, within_s, liveness.status, liveness.failures)
    batches = batching or BatchingShape()
    return Serving(port, ready, alive, batches.max, batches.max_wait)
