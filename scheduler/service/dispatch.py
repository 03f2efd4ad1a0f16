"""How a decision becomes commands to nodes: keys, launch specs, and the secret that a service's replicas ask for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.messages import (
    CHECKPOINT_SIGNAL,
    LOG_KEEP_S,
    LaunchSpec,
    Prepare,
    ProbeSpec,
    RunKey,
    ServingSpec,
    Stop,
)
from scheduler.core.jobs import EndCause, Job, JobKind, JobSpec, Probe, Serving, WorkerRun

_ATTEMPT_DIR = re.compile(r"/attempt-(\d+)/?$")

# How long a job without a checkpoint has between SIGTERM and SIGKILL.
PLAIN_GRACE_S = 10.0

# Why a run is stopped that is asked to save its work first, if it can.
SAVING_CAUSES = frozenset(
    {
        EndCause.PREEMPTED,
        EndCause.RESIZED,
        EndCause.REQUEUED,
        EndCause.DRAINED,
        EndCause.UNHEALTHY,
        EndCause.SITE_DOWN,
        EndCause.TIME_LIMIT,
    }
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the site's configuration says of every run. `unix_users`: by tenant, the account that its processes run as.

    Logs: as in messages.LaunchSpec.
    """

    unix_users: Mapping[str, str] = field(default_factory=dict)
    log_cap_bytes: int = 0
    log_keep_s: float = LOG_KEEP_S


def key_of(job: Job, run: WorkerRun) -> RunKey:
    return RunKey(job.id, run.attempt, run.placement.worker, run.placement.node)


def grace_s(job: Job) -> float:
    return job.spec.checkpoint.grace_s if job.spec.checkpoint is not None else PLAIN_GRACE_S


def is_service(job: Job) -> bool:
    """Its workers are replicas: independent of one another, each restarted alone."""
    return job.spec.kind is JobKind.INFERENCE


def is_gang(job: Job, workers: int) -> bool:
    """Its workers start together or not at all."""
    return workers > 1 and not is_service(job)


def replica_secret(service_secret: bytes, job_id: str) -> str:
    """What the gateway shows to this job's replicas. Derived, so that it is the same after a restart."""
    return hmac.new(service_secret, f"suanli replica {job_id}".encode(), hashlib.sha256).hexdigest()


def attempt_checkpoint_dir(job: Job, attempt: int) -> str | None:
    """Where attempt `attempt` of the job saves its work: every attempt has a directory of its own."""
    if job.spec.checkpoint is None:
        return None
    return f"{job.spec.checkpoint.dir.rstrip('/')}/{job.id}/attempt-{attempt}"


def attempt_of_checkpoint(job: Job) -> int:
    """Which attempt saved what the job is to resume from: 0 for nothing. A directory that does not say was last named
    by the attempt before the newest, at the earliest."""
    if job.resume_from is None:
        return 0
    found = _ATTEMPT_DIR.search(job.resume_from)
    return int(found[1]) if found else job.attempts - 1


def launch_spec(job: Job, run: WorkerRun, world_size: int, service_secret: bytes, settings: RunSettings) -> LaunchSpec:
    spec = job.spec
    env = list(spec.env)
    if job.array_index is not None:
        env.append(("SUANLI_ARRAY_INDEX", str(job.array_index)))
    if is_service(job):
        env.append(("SUANLI_REPLICA_SECRET", replica_secret(service_secret, job.id)))
    return LaunchSpec(
        argv=spec.command,
        model_path=spec.model.path if spec.model is not None else None,
        model_class=spec.model.class_name if spec.model is not None else None,
        env=tuple(env),
        working_dir=spec.working_dir,
        checkpoint_dir=spec.checkpoint.dir if spec.checkpoint is not None else None,  # the node adds job and attempt
        resume_from=job.resume_from,
        device_indices=run.placement.devices,
        share_milli=run.placement.share_milli,
        cpus_milli=run.placement.cpus_milli,
        memory_bytes=run.placement.memory_bytes,
        world_size=1 if is_service(job) else world_size,
        grace_s=grace_s(job),
        lease_bound=not is_service(job),
        serves=is_service(job),
        job_name=spec.name,
        tenant=spec.tenant,
        kind=spec.kind.value,
        unix_user=settings.unix_users.get(spec.tenant),
        checkpoint_signal=spec.checkpoint.signal if spec.checkpoint is not None else CHECKPOINT_SIGNAL,
        log_cap_bytes=settings.log_cap_bytes,
        log_keep_s=settings.log_keep_s,
        serving=serving_spec(spec) if is_service(job) else None,
    )


def serving_spec(spec: JobSpec) -> ServingSpec:
    said = spec.serving or Serving()
    return ServingSpec(
        port=said.port,
        readiness=_probe(said.readiness),
        liveness=_probe(said.liveness),
        batch_max=said.batch_max,
        batch_wait_s=said.batch_wait_s,
        slo_ms=spec.slo_p99_ms,
    )


def _probe(said: Probe | None) -> ProbeSpec | None:
    return None if said is None else ProbeSpec(said.path, said.interval_s, said.timeout_s, said.status, said.failures)


def prepare(
    epoch: int, job: Job, run: WorkerRun, workers: int, service_secret: bytes, settings: RunSettings
) -> Prepare:
    """`release` tells the node to start it as soon as its check passes: nobody else has to be waited for."""
    spec = launch_spec(job, run, workers, service_secret, settings)
    return Prepare(epoch, key_of(job, run), spec, release=not is_gang(job, workers))


def stop(epoch: int, job: Job, run: WorkerRun, cause: EndCause) -> Stop:
    """Some causes leave the time to save; a worker that goes because another failed has nothing consistent to save."""
    save = cause in SAVING_CAUSES and job.spec.checkpoint is not None
    own = cause in SAVING_CAUSES or cause is EndCause.CANCELLED
    told = (cause if own else EndCause.GANG_PEER).value
    if job.spec.checkpoint is None:
        return Stop(epoch, key_of(job, run), False, grace_s(job), told)
    how = job.spec.checkpoint
    return Stop(epoch, key_of(job, run), save, how.grace_s, told, how.signal, how.kill_wait_s)
