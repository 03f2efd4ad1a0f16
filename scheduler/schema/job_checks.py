"""What must hold between a job's fields?

Asked of the data as written, so that it speaks up also when single fields are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scheduler.core.demand import Level
from scheduler.core.jobs import JobKind
from scheduler.schema import serving_models
from scheduler.schema.job_models import is_date
from scheduler.schema.problems import Problems, shown

NO_DEVICE: Final = "none"


def check_together(data: Mapping[str, Any], problems: Problems) -> None:
    kind = data.get("kind")
    if "command" in data and "model" in data:
        problems.add("model", "expected either command or model, and both are given; keep one")
    elif "command" not in data and "model" not in data:
        problems.add("command", "required, and not given (or model, for kind inference)")
    if kind == JobKind.INFERENCE:
        if "workers" in data:
            problems.add("workers", "kind inference counts replicas; write replicas instead of workers")
        if "array" in data:
            problems.add("array", "kind inference cannot be an array; use replicas")
        if "deadline" in data:
            problems.add("deadline", "kind inference has no end to reach; leave it out")
        serving_models.check_serving(data, problems)
    elif isinstance(kind, str) and kind in set(JobKind):
        if "time_limit" not in data:
            problems.add(
                "time_limit", f'required for kind {kind}: the longest it may run, such as "2h30m" or 90 (seconds)'
            )
        if "replicas" in data:
            problems.add("replicas", f"kind {kind} counts workers; write workers instead of replicas")
        if "model" in data:
            problems.add("model", f"is for kind inference; kind {kind} needs a command")
        for field in ("slo", "autoscale", "canary", "hosts", *serving_models.FIELDS):
            if field in data:
                problems.add(field, f"is for kind inference; leave it out of kind {kind}")
    if data.get("schedule") is not None:
        _check_recurring(data, problems)
    for field in ("workers", "replicas"):
        _check_bounds(field, data.get(field), problems)
    for field, demand in demands(data):
        _check_demand(field, demand, problems)
    _check_nearness(data, problems)
    _check_autoscale(data, problems)
    apart_from = data.get("apart_from")
    if data.get("name") in (apart_from if isinstance(apart_from, list | tuple) else [apart_from]) and apart_from:
        problems.add("apart_from", "names the job itself; to keep its own workers apart write one_per: node")


def _check_autoscale(data: Mapping[str, Any], problems: Problems) -> None:
    """There must be something to choose from."""
    if data.get("autoscale") is None:
        return
    bounds = data.get("replicas")
    low = bounds.get("min") if isinstance(bounds, Mapping) else bounds
    high = bounds.get("max") if isinstance(bounds, Mapping) else bounds
    if low == high:
        problems.add("autoscale", "needs room to scale in: replicas: {min: 1, max: 4}, with max above min")
    settings = data["autoscale"]
    if isinstance(settings, Mapping) and "idle" in settings and low != 0:
        problems.add("autoscale.idle", "is for a service that may have no replica at all: replicas: {min: 0, max: ...}")


def _check_recurring(data: Mapping[str, Any], problems: Problems) -> None:
    """What is submitted again and again must make sense each time."""
    if data.get("kind") == JobKind.INFERENCE:
        problems.add("schedule", "kind inference has no end and so no next time; leave the schedule out")
    for field in ("after", "after_any"):
        if field in data:
            problems.add(field, "names jobs of one time, and a job with a schedule comes again; leave one of them out")
    if is_date(data.get("deadline")):
        problems.add("deadline", 'of a job with a schedule: a duration from each submission is expected ("6h")')


def _check_nearness(data: Mapping[str, Any], problems: Problems) -> None:
    """Workers that stand within one node are not one a node, nor spread over racks. An island may reach over nodes."""
    levels = [level.value for level in Level]
    within = data.get("within")
    if not isinstance(within, str) or within not in levels:
        return
    for field in ("spread", "one_per"):
        other = data.get(field)
        if not isinstance(other, str) or other not in levels:
            continue
        if other == within or (within != Level.ISLAND and levels.index(other) > levels.index(within)):
            said = "at most one worker in each" if field == "one_per" else "spread over several"
            problems.add(field, f"{said} {other} contradicts within: {within}; leave one of them out")


def _check_bounds(field: str, bounds: object, problems: Problems) -> None:
    if not isinstance(bounds, Mapping):
        return
    low, high = bounds.get("min"), bounds.get("max")
    if type(low) is int and type(high) is int and low > high:
        problems.expected(f"{field}.max", f"at least min, which is {shown(low)}", high)


def demands(data: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each demand as written with its field path; what is no mapping has been complained of already."""
    written = data.get("resources")
    if isinstance(written, Mapping):
        return [("resources", written)]
    if isinstance(written, list):
        return [(f"resources[{i}]", demand) for i, demand in enumerate(written) if isinstance(demand, Mapping)]
    return []


def _check_demand(field: str, demand: Mapping[str, Any], problems: Problems) -> None:
    if "count" in demand and "share" in demand:
        problems.add(f"{field}.share", "expected either count (whole devices) or share (a part of one); keep one")
    if demand.get("device") == NO_DEVICE:
        for name in ("count", "share", "mig", "device_labels"):
            if name in demand:
                problems.add(f"{field}.{name}", "device none asks for no device; leave it out")


def check_absolute(data: Mapping[str, Any], problems: Problems) -> None:
    """A service cannot know what a client's relative path meant, nor a path relative to nothing."""
    working_dir = data.get("working_dir")
    if isinstance(working_dir, str) and not working_dir.startswith("/"):
        problems.expected("working_dir", "an absolute path (it must be the same on every node)", working_dir)
    if working_dir is not None:
        return
    checkpoint, model = data.get("checkpoint"), data.get("model")
    where = "an absolute path, because the job has no working_dir"
    if isinstance(checkpoint, Mapping):
        directory = checkpoint.get("dir")
        if isinstance(directory, str) and not directory.startswith("/"):
            problems.expected("checkpoint.dir", where, directory)
    if isinstance(model, str) and not model.startswith("/"):
        problems.expected("model", where, model)
