"""Ask a what-if question: replay one workload on a cluster in several ways, and answer with one document.

The document's shape is `suanli/simulate-run/1`: `about`, and `runs`, of which the first is what the others are compared
with. Times of series are seconds from the start; missing values are null. Everything in it is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scheduler.core.decisions import Policy
from scheduler.schema.cluster_file import ClusterConfig, NodeGroup
from scheduler.schema.model import PolicySettings
from scheduler.schema.policy import planner_policy
from scheduler.simulation.collecting import rarely_collecting
from scheduler.simulation.measures import Measured, measured
from scheduler.simulation.replay import Replay, ReplaySettings
from scheduler.simulation.simulated_cluster import AddedNodes, measured_groups, nodes_of
from scheduler.simulation.workload import Workload

SCHEMA = "suanli/simulate-run/1"
EVIDENCE = "simulated"

Clock = Callable[[], float]
Progress = Callable[[str, float, int], None]
"""Name of the run, virtual seconds, jobs that have ended."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run it. `name` is unique among those that are compared."""

    name: str
    policy: PolicySettings
    added: tuple[AddedNodes, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    cluster: ClusterConfig
    workload: Workload
    ways: tuple[Way, ...]
    seed: int
    pass_every_s: float = 0.0
    until_s: float | None = None


def answer(question: Question, *, clock: Clock, progress: Progress, about: Mapping[str, object]) -> dict[str, Any]:
    """`about`: what only the caller knows (version, command, ...). KeyboardInterrupt during a run keeps what it has
    computed until then, marked partial, and leaves out the ways after it."""
    began_s = clock()
    runs = []
    for way in question.ways:
        runs.append(_run(question, way, clock, progress))
        if runs[-1]["partial"]:
            break
    return {
        "schema": SCHEMA,
        "evidence": EVIDENCE,
        "about": _about(question, about, partial=any(run["partial"] for run in runs), elapsed_s=clock() - began_s),
        "runs": runs,
        "classes": list(question.cluster.priority_classes),
        "titles": _titles(question.cluster),
    }


@rarely_collecting()
def _run(question: Question, way: Way, clock: Clock, progress: Progress) -> dict[str, Any]:
    began_s = clock()
    cluster = question.cluster
    groups = (*cluster.groups, *(added.group for added in way.added))
    measured_as, group_of = measured_groups(groups)
    policy = policy_of(cluster, way.policy)
    replay = Replay(
        nodes_of(groups),
        policy,
        question.workload,
        lambda facts: group_of[facts.name],
        ReplaySettings(question.pass_every_s, question.until_s, way.policy.fair_share_half_life_s),
        progress=lambda now_s, ended: progress(way.name, now_s, ended),
        clock=clock,
    )
    journal = replay.run()
    figures = measured(
        Measured(
            journal,
            measured_as,
            policy,
            question.workload.services,
            question.workload.span_s,
            tuple(cluster.priority_classes),
        )
    )
    return {
        "name": way.name,
        "policy": {
            "packing": policy.packing,
            "backfill": policy.backfill,
            "preemption": policy.preemption,
            "pass_every_s": question.pass_every_s,
        },
        "added": [added.said for added in way.added],
        "nodes": sum(group.nodes.count for group in groups),
        "devices": sum(group.devices for group in groups),
        "partial": journal.partial,
        "simulated_s": round(journal.end_s, 3),
        "elapsed_s": round(clock() - began_s, 3),
        "passes": journal.passes,
        "planning": {"elapsed_s": round(replay.planning_s, 3)},
        **figures,
    }


def policy_of(cluster: ClusterConfig, settings: PolicySettings) -> Policy:
    return planner_policy(replace(cluster, policy=settings))


def _about(question: Question, more: Mapping[str, object], *, partial: bool, elapsed_s: float) -> dict[str, Any]:
    cluster, workload = question.cluster, question.workload
    names = " | ".join(way.name for way in question.ways)
    return {
        "title": f"{workload.name} on {cluster.name}: {names}",
        "cluster": cluster.name,
        "nodes": sum(group.nodes.count for group in cluster.groups),
        "devices": sum(group.devices for group in cluster.groups),
        "devices_by_model": _by(cluster.groups, lambda group: group.nodes.model),
        "devices_by_site": _by(cluster.groups, lambda group: group.nodes.site),
        "workload": workload.name,
        "jobs": len(workload.jobs),
        "services": len(workload.services),
        "span_s": round(workload.span_s, 3),
        "seed": question.seed,
        "partial": partial,
        **more,
        "elapsed_s": round(elapsed_s, 3),
        "notes": notes(question),
    }


def _by(groups: Sequence[NodeGroup], name: Callable[[NodeGroup], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for group in groups:
        found[name(group)] = found.get(name(group), 0) + group.devices
    return found


def notes(question: Question) -> list[str]:
    """What the reader must know."""
    said = [
        "Simulated: the live planner's decisions in virtual time; nothing was measured on a device.",
        "An attempt runs from the moment it is placed, takes the workload's duration on any device, and no node fails.",
    ]
    if question.pass_every_s:
        said.append(
            f"The planner looked at most every {question.pass_every_s:g} s of virtual time, so a wait may be as much "
            "longer than live."
        )
    if any(job.spec.workers_min < job.spec.workers_max for job in question.workload.jobs):
        said.append("An elastic job works in proportion to its workers.")
    if question.workload.services:
        said.append(
            "Requests wait as in an M/M/c queue (Erlang C) with the replicas that ran; a step with more load than "
            "these can serve counts as not attained at all."
        )
    said += question.workload.notes
    said += [f"{added.said}: {added.assumed}" for way in question.ways for added in way.added if added.assumed]
    return list(dict.fromkeys(said))


def _titles(cluster: ClusterConfig) -> dict[str, Any]:
    return {
        "classes": {c.name: {"en": c.title_en, "zh": c.title_zh} for c in cluster.priority_classes.values()},
        "tenants": {t.name: {"en": t.title_en, "zh": t.title_zh} for t in cluster.tenants.values()},
        "sites": {s.name: {"en": s.title_en, "zh": s.title_zh} for s in cluster.sites.values()},
    }
