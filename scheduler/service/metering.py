"""What is written down of a run when it ends, for the bill: see core.usage_records for the rules.

A run ends here in one of three ways: its node says how (`ended`); it is given up with its node (`given_up`); or it was
given up before, and its node comes back and says how it really ended (`ended_late`).

Clocks. A node says when a process began and when it ended, by one clock. An end that nobody saw is taken for the last
hearing of its node before the news that it is gone, by the service's clock: the time between that and the moment at
which the service heard of the start is counted from the node's own start on. Where the service was started anew since
and has not heard of the node again, nothing is known of that time and none is counted. A wall clock that was set
between two starts of the service can put the first of these differences out by as much, until the end is seen.

What a run made its devices do comes with its end, as its node metered it; nothing is made of it here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from node_agent.messages import Exited, RunKey
from scheduler.core.jobs import EndCause, Job, JobKind, WorkerPhase, WorkerRun
from scheduler.core.usage_records import Achieved, MeteredUse, SeenLate, UsageRecord, models_of
from scheduler.service.benchmark_result import achieved
from scheduler.service.dispatch import key_of
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.state import ServiceState


def ended(state: ServiceState, out: Outcome, job: Job, run: WorkerRun, said: Exited, cause: EndCause) -> None:
    """The node's own account of a run of the present attempt."""
    state.unheard.pop(said.key, None)
    from_s = run.started_s if said.started_s is None else said.started_s
    if from_s is None or said.how == "never_started":
        return
    if said.started_s is None and run.phase is WorkerPhase.EXITED:
        return  # told again by somebody who knows nothing of it: the first account was made when less time had passed
    words = said.asked or cause.value
    if said.how == "unknown":
        # A node that says when it began says also until when it is known to have lived; one without a record does not.
        known = said.started_s is not None
        to_s = max(from_s, said.at_s) if known else _believed_s(state, run, from_s)
        record = _record(state, job, run, from_s, to_s, "unseen", words)
    else:
        record = _record(state, job, run, from_s, max(from_s, said.at_s), "seen", words)
    did = _achieved(said, simulated=record.simulated) if job.spec.kind is JobKind.BENCHMARK else ()
    out.usage_records.append(replace(record, use=_use(said), achieved=did))


def given_up(state: ServiceState, out: Outcome, job: Job, run: WorkerRun, cause: EndCause) -> None:
    """The run is gone with its node, or perhaps lives on there and nobody hears of it."""
    if run.started_s is None:
        # It may have a process all the same: if its node ever says so, this is what is known of it.
        state.unheard[key_of(job, run)] = _record(state, job, run, 0.0, 0.0, "unseen", cause.value)
        return
    to_s = _believed_s(state, run, run.started_s)
    out.usage_records.append(_record(state, job, run, run.started_s, to_s, "unseen", cause.value))


def ended_late(state: ServiceState, out: Outcome, said: Exited) -> None:
    """A run that is nobody's any more has ended, or ended long ago."""
    key, from_s = said.key, said.started_s
    unheard = state.unheard.pop(key, None)
    if from_s is None or said.how == "never_started":
        return
    to_s, cause = max(from_s, said.at_s), said.asked or said.how
    if unheard is not None:
        end: Literal["seen", "unseen"] = "seen" if said.how != "unknown" else "unseen"
        did = _achieved(said, simulated=unheard.simulated) if unheard.kind == JobKind.BENCHMARK.value else ()
        out.usage_records.append(
            replace(unheard, from_s=from_s, to_s=to_s, end=end, cause=cause, use=_use(said), achieved=did)
        )
    elif said.how != "unknown":
        site, models = _node(state, key.node)
        out.usage_records.append(
            SeenLate(
                key.job_id,
                key.attempt,
                key.worker,
                key.node,
                from_s,
                to_s,
                cause,
                site=site,
                models=models,
                use=_use(said),
            )
        )


def node_is_back(state: ServiceState, node: str, known: Iterable[RunKey]) -> None:
    """Of runs that had not been heard of, those that the node does not know of never had a process."""
    known = set(known)
    for key in [key for key in state.unheard if key.node == node and key not in known]:
        del state.unheard[key]


def running(state: ServiceState, now_s: float) -> list[UsageRecord]:
    """What runs still, up to now, or where its node is not heard of up to when it is known to have lived. For books of
    months: these are no records, and none of them is kept."""
    found = []
    for job in state.jobs.values():
        for run in workers_of(job):
            if run.started_s is None or run.phase is WorkerPhase.EXITED:
                continue
            to_s = _believed_s(state, run, run.started_s)
            if state.nodes[run.placement.node].up and run.start_heard_s is not None:
                to_s = max(to_s, run.started_s + (now_s - run.start_heard_s))
            found.append(_record(state, job, run, run.started_s, to_s, "unseen", ""))
    return found


def _believed_s(state: ServiceState, run: WorkerRun, from_s: float) -> float:
    """Until when the run is known to have lived, by the clock of `from_s`."""
    status = state.nodes[run.placement.node]
    heard_s = status.before_s if status.lived_s is None else status.lived_s
    if heard_s is None or run.start_heard_s is None:
        return from_s
    return from_s + max(0.0, heard_s - run.start_heard_s)


def _use(said: Exited) -> MeteredUse | None:
    """What is no number cannot be kept: it counts as not read."""
    use = said.use
    if use is None or _known(use.metered_s) is None:
        return None
    return MeteredUse(
        use.devices,
        use.metered_s,
        _known(use.joules),
        use.joules_at_least,
        _known(use.mean_watts),
        _known(use.peak_memory_bytes),
        _known(use.mean_utilisation_percent),
        use.simulated,
    )


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def _achieved(said: Exited, *, simulated: bool) -> tuple[Achieved, ...]:
    return () if said.result is None else achieved(said.result, simulated=simulated)


def _node(state: ServiceState, node: str) -> tuple[str | None, tuple[tuple[int, str], ...]]:
    """Its site and the models of its devices by index, as far as they are known."""
    status = state.nodes.get(node)
    if status is None or status.facts is None:
        return None, ()
    return status.facts.site, tuple((device.index, device.model) for device in status.facts.devices)


def _record(
    state: ServiceState,
    job: Job,
    run: WorkerRun,
    from_s: float,
    to_s: float,
    end: Literal["seen", "unseen"],
    cause: str,
) -> UsageRecord:
    place, spec = run.placement, job.spec
    site, models = _node(state, place.node)
    return UsageRecord(
        job_id=job.id,
        attempt=run.attempt,
        worker=place.worker,
        tenant=spec.tenant,
        priority_class=spec.priority_class,
        kind=spec.kind.value,
        node=place.node,
        devices=place.devices,
        share_milli=place.share_milli,
        cpus_milli=place.cpus_milli,
        memory_bytes=place.memory_bytes,
        simulated=state.simulated(job, place),
        from_s=from_s,
        to_s=to_s,
        end=end,
        cause=cause,
        name=spec.name,
        site=site,
        models=models_of(place.devices, models),
    )
