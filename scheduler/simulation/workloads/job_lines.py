"""Jobs from a CSV file, one a line. Required columns: `name,submit_s,duration_s,tenant`. Others, with what an empty
cell or a missing column means:

priority_class (normal), kind (training; batch, benchmark), workers (1), workers_min (workers; fewer makes it elastic),
devices (1; 0 for none), share (a part of one device, above 0 and below 1, instead of devices), model or vendor (any),
site (any), cpus (1), memory_gib (0), time_limit_s (the next of 1 h, 4 h, 12 h, 1 d, 3 d, 7 d above the duration),
checkpoint (no; yes), checkpoint_every_s (saves only when asked to go), save_s (10), grace_s (30), fails_after_s (never:
otherwise its first attempt fails then), retries (0), within (nowhere; island, node, rack, site).

Lines may come in any order. Cells that are not understood are refused with file, line and column.
"""

from __future__ import annotations

from pathlib import Path

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Constraints, Demand, Level
from scheduler.core.jobs import Checkpoint, JobKind, JobSpec
from scheduler.errors import BadInput
from scheduler.schema.cluster_file import ClusterConfig
from scheduler.schema.jobfile import device_named
from scheduler.schema.problems import did_you_mean, nearest
from scheduler.simulation.csv_lines import CsvLine, lines
from scheduler.simulation.workload import COMMAND, DEFAULT_GRACE_S, LONGEST_S, SimJob, usual_limit_s

NEEDED = ("name", "submit_s", "duration_s", "tenant")
COLUMNS = (
    *NEEDED,
    *("priority_class", "kind", "workers", "workers_min", "devices", "share", "model", "vendor", "site"),
    *("cpus", "memory_gib", "time_limit_s", "checkpoint", "checkpoint_every_s", "save_s", "grace_s"),
    *("fails_after_s", "retries", "within"),
)
_KINDS = (JobKind.TRAINING.value, JobKind.BATCH.value, JobKind.BENCHMARK.value)
_MOST_WORKERS, _MOST_DEVICES, _MOST_GRACE_S = 100_000, 1024, 3_600.0


def read_jobs(path: Path, titles: tuple[str, ...], cluster: ClusterConfig) -> list[SimJob]:
    """In the order of their submission; at least one."""
    for title in titles:
        if title not in COLUMNS:
            raise BadInput(
                f"{path}, line 1, column {title}: expected one of {', '.join(COLUMNS)}"
                f"{did_you_mean(nearest(title, COLUMNS))}",
                field=title,
            )
    known: dict[tuple[Demand, ...], tuple[Demand, ...]] = {}
    jobs = [_job(line, cluster, known) for line in lines(path, NEEDED)]
    if not jobs:
        raise BadInput(f"{path}: there is no line of data; nothing is submitted", field="name")
    return sorted(jobs, key=lambda job: job.submit_s)


def _job(line: CsvLine, cluster: ClusterConfig, known: dict[tuple[Demand, ...], tuple[Demand, ...]]) -> SimJob:
    duration_s = line.real("duration_s", 1e-3, LONGEST_S)
    name = line.one_of("priority_class", list(cluster.priority_classes)) if line.has("priority_class") else "normal"
    workers = _count(line, "workers", 1, 1, _MOST_WORKERS)
    workers_min = _count(line, "workers_min", workers, 1, workers)
    kind = JobKind(line.one_of("kind", _KINDS)) if line.has("kind") else JobKind.TRAINING
    saves = line.has("checkpoint") and line.one_of("checkpoint", ("yes", "no")) == "yes"
    if workers_min < workers and not (saves and kind is JobKind.TRAINING):
        raise line.refused("workers_min", "fewer than workers: only training with a checkpoint is elastic")
    alternatives = (_demand(line, cluster),)
    grace_s = _real(line, "grace_s", DEFAULT_GRACE_S, 0, _MOST_GRACE_S)
    within = Level(line.one_of("within", [level.value for level in Level])) if line.has("within") else None
    limit_s = usual_limit_s(duration_s * workers / workers_min)
    spec = JobSpec(
        name=line.text("name")[:100],
        tenant=line.one_of("tenant", list(cluster.tenants)),
        kind=kind,
        priority_class=name,
        priority=cluster.priority_classes[name].priority,
        command=COMMAND,
        model=None,
        workers_min=workers_min,
        workers_max=workers,
        alternatives=known.setdefault(alternatives, alternatives),
        time_limit_s=_real(line, "time_limit_s", limit_s, 1e-3, LONGEST_S),
        retries=_count(line, "retries", 0, 0, 100),
        checkpoint=Checkpoint("/checkpoint", grace_s) if saves else None,
        constraints=Constraints(within=within),
    )
    return SimJob(
        spec=spec,
        submit_s=line.real("submit_s", 0, LONGEST_S),
        duration_s=duration_s,
        checkpoint_every_s=line.real("checkpoint_every_s", 1e-3, LONGEST_S) if line.has("checkpoint_every_s") else None,
        save_s=_real(line, "save_s", 10.0, 0, _MOST_GRACE_S),
        fails_after_s=line.real("fails_after_s", 1e-3, LONGEST_S) if line.has("fails_after_s") else None,
    )


def _demand(line: CsvLine, cluster: ClusterConfig) -> Demand:
    share = line.real("share", 0, 0.999) if line.has("share") else 0.0
    devices = _count(line, "devices", 0 if share else 1, 0, _MOST_DEVICES)
    if share and devices:
        raise line.refused("share", "expected either devices (whole ones) or share (a part of one); keep one")
    if line.has("model") and line.has("vendor"):
        raise line.refused("vendor", "stands beside model; keep one")
    model = vendor = None
    for column in ("model", "vendor"):
        if line.has(column):
            word = line.text(column)
            found = device_named(word, cluster)
            if found is None or (column == "model") != (found.model is not None):
                names = list(cluster.catalogue) if column == "model" else [c.vendor for c in cluster.catalogue.values()]
                close = did_you_mean(nearest(word, names, count=3))
                raise line.refused(column, f"expected a {column} of the hardware catalogue; got {word[:40]!r}{close}")
            model, vendor = found.model, found.vendor
    cpus = _real(line, "cpus", 1.0, 0, 4096)
    return Demand(
        vendor=vendor,
        model=model,
        devices=devices,
        share_milli=round(share * WHOLE_DEVICE_MILLI),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(_real(line, "memory_gib", 0.0, 0, 2**20) * 2**30),
        site=line.one_of("site", list(cluster.sites)) if line.has("site") else None,
    )


def _count(line: CsvLine, column: str, otherwise: int, low: int, high: int) -> int:
    if not line.has(column):
        return otherwise
    value = line.number(column, high)
    if value < low:
        raise line.refused(column, f"{value} is not between {low} and {high}")
    return value


def _real(line: CsvLine, column: str, otherwise: float, low: float, high: float) -> float:
    return line.real(column, low, high) if line.has(column) else otherwise
