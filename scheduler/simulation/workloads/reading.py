"""A workload from its file, whatever its kind: YAML that describes it, or CSV of jobs, of openb pods or of requests."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from scheduler.errors import BadInput
from scheduler.schema.cluster_file import ClusterConfig
from scheduler.schema.workload_file import is_yaml, load_workload
from scheduler.simulation.collecting import rarely_collecting
from scheduler.simulation.csv_lines import titles_of
from scheduler.simulation.workload import SimJob, SimService, Workload
from scheduler.simulation.workloads import job_lines, openb, requests
from scheduler.simulation.workloads.generated import jobs_of, requests_of, service_of


def read_workload(path: Path, cluster: ClusterConfig, seed: int) -> Workload:
    """`seed`: of what is drawn. Raises BadInput."""
    with rarely_collecting():
        return _described(path, cluster, seed) if is_yaml(path) else _listed(path, cluster)


def _listed(path: Path, cluster: ClusterConfig) -> Workload:
    jobs, services, notes = _from_csv(path, cluster)
    ends_s = [service.requests.end_s for service in services]
    span_s = max([job.submit_s for job in jobs[-1:]] + ends_s)
    return Workload(path.stem, tuple(jobs), tuple(services), span_s, tuple(notes))


def _described(path: Path, cluster: ClusterConfig, seed: int) -> Workload:
    file = load_workload(path, cluster)
    jobs = [job for stream in file.streams for job in jobs_of(stream, file.span_s, seed)]
    services: list[SimService] = []
    notes: list[str] = []
    for ask in file.services:
        rate = ask.requests
        trace = requests_of(rate, file.span_s) if rate.trace is None else requests.read_trace(rate.trace)
        services.append(service_of(ask, trace))
    for name in file.files:
        more_jobs, more_services, more_notes = _from_csv(name, cluster)
        jobs += more_jobs
        services += more_services
        notes += more_notes
    jobs.sort(key=attrgetter("submit_s"))
    return Workload(file.name, tuple(jobs), tuple(services), file.span_s, tuple(notes))


def _from_csv(path: Path, cluster: ClusterConfig) -> tuple[list[SimJob], list[SimService], list[str]]:
    titles = titles_of(path)
    if "num_gpu" in titles:
        jobs, notes = openb.read_pod_jobs(path, cluster)
        return jobs, [], notes
    if "submit_s" in titles:
        return job_lines.read_jobs(path, titles, cluster), [], []
    if set(requests.COLUMNS) <= set(titles):
        tenant = "operations" if "operations" in cluster.tenants else next(iter(cluster.tenants))
        name = "production" if "production" in cluster.priority_classes else "normal"
        ask, note = requests.assumed_service(path, tenant, name, cluster.priority_classes[name].priority)
        return [], [service_of(ask, requests.read_trace(path))], [note]
    raise BadInput(
        f"{path}, line 1: expected columns of jobs ({','.join(job_lines.NEEDED)},...), of openb pods "
        f"({','.join(openb.COLUMNS)}) or of requests ({','.join(requests.COLUMNS)})",
        field="workload",
    )
