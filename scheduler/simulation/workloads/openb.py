"""The pods of the openb trace (Alibaba cluster-trace-gpu-v2023) as jobs with their own times.

A pod comes at `creation_time` and lasts from `scheduled_time` (if empty, from its creation) to `deletion_time`; times
are shifted so that the first one comes at 0. Pods without a deletion, or that last no time, are left out and counted.
Its `qos` becomes a class: LS (latency sensitive) and Guaranteed `production`, Burstable `normal`, BE (best effort)
`best-effort`. The trace names no tenants: all pods are tenant `default`'s. `gpu_spec` names models of that cluster;
where ours has none of them, any device serves.
"""

from __future__ import annotations

from pathlib import Path

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.jobs import JobKind, JobSpec
from scheduler.errors import BadInput
from scheduler.schema.cluster_file import ClusterConfig
from scheduler.simulation.csv_lines import CsvLine, lines
from scheduler.simulation.openb import POD_COLUMNS, asked
from scheduler.simulation.workload import COMMAND, LONGEST_S, SimJob, usual_limit_s

COLUMNS = (*POD_COLUMNS, "creation_time", "deletion_time")
CLASS_OF_QOS = {"LS": "production", "Guaranteed": "production", "Burstable": "normal", "BE": "best-effort"}
TENANT = "default"


def read_pod_jobs(path: Path, cluster: ClusterConfig) -> tuple[list[SimJob], list[str]]:
    """Jobs in the order of their coming, and what is to be known of them."""
    if TENANT not in cluster.tenants:
        raise BadInput(f"{path}: the pods are tenant {TENANT}'s, and the cluster has no such tenant", field="tenant")
    here = {group.nodes.model for group in cluster.groups}
    found: list[tuple[float, float, JobSpec]] = []
    known: dict[tuple[Demand, ...], tuple[Demand, ...]] = {}
    timeless = elsewhere = 0
    for line in lines(path, COLUMNS):
        created_s = line.real("creation_time", 0, 1e11)
        begun_s = line.real("scheduled_time", 0, 1e11) if line.has("scheduled_time") else created_s
        ended_s = line.real("deletion_time", 0, 1e11) if line.has("deletion_time") else 0.0
        lasts_s = min(ended_s - max(created_s, begun_s), LONGEST_S)
        if lasts_s <= 0:
            timeless += 1
            continue
        alternatives, foreign = _alternatives(line, here)
        elsewhere += foreign
        name = CLASS_OF_QOS.get(line.text("qos", may_be_empty=True), "normal")
        name = name if name in cluster.priority_classes else "normal"
        spec = JobSpec(
            name=line.text("name"),
            tenant=TENANT,
            kind=JobKind.BATCH,
            priority_class=name,
            priority=cluster.priority_classes[name].priority,
            command=COMMAND,
            model=None,
            workers_min=1,
            workers_max=1,
            alternatives=known.setdefault(alternatives, alternatives),
            time_limit_s=usual_limit_s(lasts_s),
        )
        found.append((created_s, lasts_s, spec))
    if not found:
        raise BadInput(
            f"{path}: no pod has a deletion_time after its start; nothing can be replayed", field="deletion_time"
        )
    first_s = min(at_s for at_s, _, _ in found)
    jobs = [SimJob(spec, at_s - first_s, lasts_s) for at_s, lasts_s, spec in found]
    notes = [f"{path.name}: all pods are tenant {TENANT}'s, and their class is made of their qos"]
    if timeless:
        notes.append(f"{path.name}: {timeless} pods without a duration are left out")
    if elsewhere:
        notes.append(f"{path.name}: {elsewhere} pods name models that this cluster has none of; any device serves them")
    return sorted(jobs, key=lambda job: job.submit_s), notes


def _alternatives(line: CsvLine, here: set[str]) -> tuple[tuple[Demand, ...], bool]:
    """The pod's demand for each model that it accepts and the cluster has; whether it named only others."""
    shape = asked(line)
    whole = shape.gpu_milli == WHOLE_DEVICE_MILLI
    models = sorted((shape.models or frozenset()) & here)

    def demand(model: str | None) -> Demand:
        return Demand(
            model=model,
            devices=shape.devices if whole else 0,
            share_milli=0 if whole else shape.gpu_milli,
            cpus_milli=shape.cpus_milli,
            memory_bytes=shape.memory_bytes,
        )

    if not models:
        return (demand(None),), bool(shape.models)
    return tuple(demand(model) for model in models), False
