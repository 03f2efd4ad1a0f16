"""Requests of a service over time, from a CSV file `time_s,requests_per_s`: each line's rate holds until the next
line's time, and the last one's as long as the step before it."""

from __future__ import annotations

from pathlib import Path

from scheduler.core.demand import Demand
from scheduler.errors import BadInput
from scheduler.schema.workload_model import RequestRate, Rhythm, ServiceAsk
from scheduler.simulation.csv_lines import lines
from scheduler.simulation.workload import LONGEST_S, RequestTrace

COLUMNS = ("time_s", "requests_per_s")
_LAST_STEP_S = 3_600.0
# What is assumed of the service where a trace alone is the workload.
SLO_P99_MS, SERVICE_TIME_S, REPLICAS_MAX, BUSY_TARGET = 200.0, 0.05, 1_000, 0.7


def read_trace(path: Path) -> RequestTrace:
    times: list[float] = []
    rates: list[float] = []
    for line in lines(path, COLUMNS):
        at_s = line.real("time_s", 0, LONGEST_S)
        if times and at_s <= times[-1]:
            raise line.refused("time_s", f"{at_s:g} does not come after {times[-1]:g}: times must increase")
        times.append(at_s)
        rates.append(line.real("requests_per_s", 0, 1e9))
    if not times:
        raise BadInput(f"{path}: there is no line of data; nothing is asked for", field="time_s")
    last_s = times[-1] - times[-2] if len(times) > 1 else _LAST_STEP_S
    return RequestTrace(tuple(times), tuple(rates), times[-1] + last_s)


def assumed_service(path: Path, tenant: str, priority_class: str, priority: int) -> tuple[ServiceAsk, str]:
    """The service that a trace without any more is of, and a note that says so."""
    ask = ServiceAsk(
        name=path.stem.lower().replace("_", "-")[:60],
        tenant=tenant,
        priority_class=priority_class,
        priority=priority,
        demand=Demand(devices=1),
        replicas_min=1,
        replicas_max=REPLICAS_MAX,
        slo_p99_ms=SLO_P99_MS,
        service_time_s=SERVICE_TIME_S,
        busy_target=BUSY_TARGET,
        requests=RequestRate(path, 0.0, Rhythm(), _LAST_STEP_S),
    )
    note = (
        f"{path.name} gives requests alone: one device a replica, {1000 * SERVICE_TIME_S:g} ms a request, an SLO of "
        f"{SLO_P99_MS:g} ms and 1 to {REPLICAS_MAX} replicas are assumed; describe the service in a YAML file instead"
    )
    return ask, note
