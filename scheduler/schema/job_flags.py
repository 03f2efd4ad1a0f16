"""The flags of `suanli submit` as the mapping that a job file would hold, so that both are read by one schema.

A flag's text is turned into what YAML would have made of it (a number where it is one); judging the values is left to
jobfile.py. Faults of the flags' own notation (`--env` without `=`) are BadInput here, all at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from scheduler.schema.problems import Problems

_WHOLE: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?(?:\d{1,18})?\.\d{1,18}", re.ASCII)
_LIMITED: Final = re.compile(r"(?P<count>-?\d{1,9})\s*%\s*(?P<limit>-?\d{1,9})", re.ASCII)
_RANGE: Final = re.compile(r"(?P<low>-?\d{1,9})\s*(?:-|\.\.|:)\s*(?P<high>-?\d{1,9})", re.ASCII)


def mapping_from_flags(
    *,
    name: str | None = None,
    tenant: str | None = None,
    kind: str | None = None,
    priority_class: str | None = None,
    command: Sequence[str] = (),
    shell: str | None = None,
    model: str | None = None,
    workers: str | int | None = None,
    replicas: str | int | None = None,
    device: str | None = None,
    count: str | int | None = None,
    share: str | float | None = None,
    cpus: str | float | None = None,
    memory: str | int | None = None,
    simulated: bool | None = None,
    node: str | None = None,
    site: str | None = None,
    time_limit: str | float | None = None,
    retries: str | int | None = None,
    checkpoint_dir: str | None = None,
    grace: str | float | None = None,
    p99_ms: str | float | None = None,
    env: Sequence[str] = (),
    working_dir: str | None = None,
    array: str | int | None = None,
    after: Sequence[str] = (),
    after_any: Sequence[str] = (),
    deadline: str | float | None = None,
    within: str | None = None,
    spread: str | None = None,
    one_per: str | None = None,
    apart_from: Sequence[str] = (),
    reservation: str | None = None,
    schedule: str | None = None,
    zone: str | None = None,
    labels: Sequence[str] = (),
    device_labels: Sequence[str] = (),
    mig: str | None = None,
    defaults: bool = True,
    source: str = "flags",
) -> dict[str, Any]:
    """A job file's mapping with the fields whose flags were given. `command` is argv, `shell` a shell string.

    `workers` and `replicas` are N or MIN-MAX, `array` is N or N%LIMIT, `env` and labels NAME=VALUE, `after` job ids.
    With `defaults` (no job file beside the flags) a missing kind is inference for a model or replicas and batch
    otherwise, and a missing name is taken from the command or model.
    """
    problems = Problems(source)
    if command and shell is not None:
        problems.add("command", "expected either a command after -- or --shell, and both are given; keep one")
    job: dict[str, Any] = {
        "name": name,
        "tenant": tenant,
        "kind": kind,
        "priority_class": priority_class,
        "command": list(command) or shell,
        "model": model,
        "workers": _bounds(workers),
        "replicas": _bounds(replicas),
        "resources": _given(
            device=device,
            count=_number(count),
            share=_number(share),
            cpus=_number(cpus),
            memory=_number(memory),
            simulated=simulated,
            node=node,
            site=site,
            labels=_variables(labels, problems, field="resources.labels"),
            device_labels=_variables(device_labels, problems, field="resources.device_labels"),
            mig=mig,
        ),
        "time_limit": _number(time_limit),
        "retries": _number(retries),
        "checkpoint": _given(dir=checkpoint_dir, grace=_number(grace)),
        "slo": _given(p99_ms=_number(p99_ms)),
        "env": _variables(env, problems),
        "working_dir": working_dir,
        "array": _array(array),
        "after": list(after) or None,
        "after_any": list(after_any) or None,
        "deadline": _number(deadline),
        "within": within,
        "spread": spread,
        "one_per": one_per,
        "apart_from": list(apart_from) or None,
        "reservation": reservation,
        "schedule": _given(cron=schedule, zone=zone),
    }
    problems.raise_if_any()
    job = {field: value for field, value in job.items() if value is not None}
    if defaults:
        job.setdefault("kind", "inference" if "model" in job or "replicas" in job else "batch")
        job.setdefault("name", _name_for(job))
    return job


def overlay(
    data: Mapping[str, Any], lines: Mapping[str, int], flags: Mapping[str, Any], *, source: str = "flags"
) -> tuple[dict[str, Any], dict[str, int]]:
    """A job file with flags laid over it (made with `defaults=False`), and its lines (0: given by a flag).

    Mappings (resources, checkpoint, slo, env) are merged field by field, everything else is replaced. `--device any`
    over a list of alternatives would be ambiguous and is BadInput. A command replaces a model and the other way round,
    and count replaces share likewise.
    """
    merged = dict(data)
    kept = dict(lines)
    for field, value in flags.items():
        before = merged.get(field)
        if field == "resources" and isinstance(before, list):
            problems = Problems(source)
            problems.add(
                "resources", "the job file lists alternatives; change them there, a flag cannot say which it means"
            )
            problems.raise_if_any()
        if isinstance(value, dict) and isinstance(before, dict) and field not in ("workers", "replicas"):
            rivals = {"count": "share", "share": "count"} if field == "resources" else {}
            dropped = {rivals[name] for name in value if name in rivals} - set(value)
            merged[field] = {name: old for name, old in before.items() if name not in dropped} | value
            _forget(kept, [f"{field}.{name}" for name in value])
        else:
            merged[field] = value
            _forget(kept, [field])
    for given, rival in (("command", "model"), ("model", "command")):
        if given in flags and rival not in flags:
            merged.pop(rival, None)
    return merged, kept


def _forget(lines: dict[str, int], fields: Sequence[str]) -> None:
    """A field that a flag gave stands on no line of the file; 0 says so (problems.py)."""
    for field in fields:
        for path in [path for path in lines if path == field or path.startswith((f"{field}.", f"{field}["))]:
            del lines[path]
        lines[field] = 0


def _given(**fields: Any) -> dict[str, Any] | None:
    return {name: value for name, value in fields.items() if value is not None} or None


def _number(value: str | float | None) -> str | float | None:
    """Text that is a plain number as that number, as YAML would read it; anything else as it is."""
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
    return value


def _bounds(value: str | int | None) -> Any:
    """`4`, or `2-8` as {min: 2, max: 8}."""
    if isinstance(value, str):
        match = _RANGE.fullmatch(value.strip())
        if match:
            return {"min": int(match["low"]), "max": int(match["high"])}
    return _number(value)


def _array(value: str | int | None) -> Any:
    """`100`, or `100%5` as {count: 100, limit: 5}."""
    if isinstance(value, str):
        match = _LIMITED.fullmatch(value.strip())
        if match:
            return {"count": int(match["count"]), "limit": int(match["limit"])}
    return _number(value)


def _variables(items: Sequence[str], problems: Problems, *, field: str = "env") -> dict[str, str] | None:
    variables: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            problems.expected(field, "NAME=VALUE", item)
        elif name in variables:
            problems.add(f"{field}.{name}", "is given twice; keep one")
        variables[name] = value
    return variables or None


def _name_for(job: Mapping[str, Any]) -> str:
    """A name from what is run: `train.py` of `[python, train.py]`, the class of a model, `shell` for a shell string."""
    model, command = job.get("model"), job.get("command")
    raw = "shell"
    if isinstance(model, str):
        raw = model.rpartition(":")[2]
    elif isinstance(command, list) and command:
        scripts = [part for part in command[1:] if part.endswith((".py", ".sh"))]
        raw = PurePosixPath(scripts[0] if scripts else command[0]).name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", raw).lstrip("._-")[:100]
    return name or "job"
