"""Known bugs, planted one at a time: the fault simulator has to find each.

Each is a small change of the live code, of the kind that people make. Some are the very bugs that the simulator found
first. `FOUND_BY` says which promise breaks, and by which seed; `python -m tests.simulation.planted` looks anew.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from node_agent.agent_runs import AgentRuns
from node_agent.launcher.supervisor import Supervisor
from scheduler.core.jobs import Job
from scheduler.core.usage_records import UsageRecord
from scheduler.errors import Unavailable
from scheduler.service import endings, fencing, nodes, replicas, runs
from scheduler.service.state import ServiceState
from scheduler.service.steps import ServiceSteps
from scheduler.service.submissions import Submissions, Wanted
from scheduler.simulation import virtual_store
from scheduler.simulation.faults import agent as simulated_agent
from scheduler.simulation.faults.chance import story_of
from scheduler.simulation.faults.world import Run, World
from scheduler.store.job_rows import number_jobs

Plant = Callable[[], contextlib.AbstractContextManager[Any]]


def _acknowledges_what_was_refused() -> contextlib.AbstractContextManager[Any]:
    """A submission is answered with ids although the store could not take it."""
    real = Submissions._perform

    def perform(self: Submissions, group: Sequence[Wanted]) -> Sequence[Sequence[Job] | Exception]:
        try:
            return real(self, group)
        except Unavailable:
            return [number_jobs(wanted.specs, 100_000, 100_000, at_s=self._clock.now_s()) for wanted in group]

    return patch.object(Submissions, "_perform", perform)


def _acts_before_the_commit() -> contextlib.AbstractContextManager[Any]:
    """Commands and acknowledgements go out, and then the batch is committed."""
    real = ServiceSteps._perform

    def perform(self: ServiceSteps, batch: Any) -> bool:
        if self.state.superseded_by is None:
            self._act(batch)
            batch.out.commands.clear()
            batch.out.acks.clear()
            batch.answers.clear()
        return real(self, batch)

    return patch.object(ServiceSteps, "_perform", perform)


def _drops_what_could_not_be_kept() -> contextlib.AbstractContextManager[Any]:
    """A batch that the store did not take is forgotten instead of being tried again."""
    real = ServiceSteps._keep_for_later

    def drop(self: ServiceSteps, batch: Any, error: Unavailable) -> None:
        real(self, batch, error)
        self._unkept = None

    return patch.object(ServiceSteps, "_keep_for_later", drop)


def _no_fence() -> contextlib.AbstractContextManager[Any]:
    """A lost job is started elsewhere at once, while its node's lease may still run."""
    return patch.object(fencing, "doubtful_runs", lambda state, job: set())


def _lease_never_lapses() -> contextlib.AbstractContextManager[Any]:
    """The launcher lets runs go on although nobody renews its lease."""
    return patch.object(Supervisor, "_lapse", lambda self, now: setattr(self._lease, "lapsed", True))


def _lost_re_adopt() -> contextlib.AbstractContextManager[Any]:
    """A new agent does not ask its launcher what runs."""
    real = AgentRuns.agree

    def agree(self: AgentRuns, epoch: int, table: Any, now_s: float) -> Any:
        return real(self, epoch, [known for known in table if known.key in self.states], now_s)

    return patch.object(AgentRuns, "agree", agree)


def _double_count() -> contextlib.AbstractContextManager[Any]:
    """A better account of a run is added to the one before instead of taking its place."""
    real = virtual_store.accounted

    def added(known: UsageRecord | None, entry: Any) -> UsageRecord | None:
        better = real(known, entry)
        if known is None or better is None:
            return better
        return replace(better, to_s=better.to_s + known.seconds)

    return patch.object(virtual_store, "accounted", added)


def _gang_released_by_the_first() -> contextlib.AbstractContextManager[Any]:
    """A gang is released as soon as any of its workers is prepared."""
    return patch.object(runs, "all", any, create=True)


def _strays_go_on() -> contextlib.AbstractContextManager[Any]:
    """A run that is nobody's any more is not told to stop when its node is back."""
    real = nodes._reconcile_known

    def reconcile(state: ServiceState, out: Any, report: Any, now_s: float) -> None:
        if report.exited is not None or state.find_run(report.key) is not None:
            real(state, out, report, now_s)

    return patch.object(nodes, "_reconcile_known", reconcile)


def _replica_beside_itself() -> contextlib.AbstractContextManager[Any]:
    """A replica is started again where it stood, though it may live there still (as it was once)."""

    def can_be_used(state: ServiceState, place: Any) -> bool:
        return state.is_up(place.node) and place.node not in state.drains

    return patch.object(replicas, "_can_be_used", can_be_used)


def _reconnects_beyond_quota() -> contextlib.AbstractContextManager[Any]:
    """A job that counted as lost comes back whatever its tenant has started meanwhile (as it did once)."""
    return patch.object(fencing, "_may_go_on", lambda state, before: True)


def _believes_the_clock() -> contextlib.AbstractContextManager[Any]:
    """After a restart a job's time counts by a clock that somebody may have set (as it did once)."""
    return patch.object(nodes, "_set_right", lambda state, job_id, worker, began_s, now_s: None)


def _goes_on_from_a_torn_checkpoint() -> contextlib.AbstractContextManager[Any]:
    """The newest directory is taken, whether its checkpoint is whole or not."""
    real = simulated_agent.newest_saved

    def newest(told: Any, key: Any, directory: str, attempts: Any, holds: Any) -> Any:
        return real(told, key, directory, attempts, lambda name: True)

    return patch.object(simulated_agent, "newest_saved", newest)


def _succeeds_when_told_to_go() -> contextlib.AbstractContextManager[Any]:
    """A job that leaves with 0 when it is asked to go counts as finished."""
    real = endings.conclude

    def conclude(state: ServiceState, out: Any, job: Job, cause: Any, **how: Any) -> None:
        well = [run.exit_code == 0 for run in getattr(job.state, "workers", ())]
        if well and all(well) and cause is endings.EndCause.PREEMPTED:
            cause = endings.EndCause.SUCCEEDED
        real(state, out, job, cause, **how)

    return patch.object(endings, "conclude", conclude)


PLANTS: Mapping[str, Plant] = {
    "acknowledges_what_was_refused": _acknowledges_what_was_refused,
    "acts_before_the_commit": _acts_before_the_commit,
    "drops_what_could_not_be_kept": _drops_what_could_not_be_kept,
    "no_fence": _no_fence,
    "lease_never_lapses": _lease_never_lapses,
    "lost_re_adopt": _lost_re_adopt,
    "double_count": _double_count,
    "gang_released_by_the_first": _gang_released_by_the_first,
    "strays_go_on": _strays_go_on,
    "replica_beside_itself": _replica_beside_itself,
    "reconnects_beyond_quota": _reconnects_beyond_quota,
    "believes_the_clock": _believes_the_clock,
    "goes_on_from_a_torn_checkpoint": _goes_on_from_a_torn_checkpoint,
    "succeeds_when_told_to_go": _succeeds_when_told_to_go,
}


FOUND_BY: Mapping[str, tuple[int, str]] = {
    "acknowledges_what_was_refused": (7, "acknowledged"),
    "acts_before_the_commit": (36, "committed_first"),
    "drops_what_could_not_be_kept": (7, "everything_ends"),
    "no_fence": (1, "one_writer"),
    "lease_never_lapses": (174, "one_writer"),
    "lost_re_adopt": (0, "nothing_left"),
    "double_count": (1, "bill"),
    "gang_released_by_the_first": (2, "no_bugs"),
    "strays_go_on": (36, "nothing_left"),
    "replica_beside_itself": (18, "one_owner"),
    "reconnects_beyond_quota": (212, "no_bugs"),
    "believes_the_clock": (243, "ends_rightly"),
    "goes_on_from_a_torn_checkpoint": (2, "whole_checkpoint"),
    "succeeds_when_told_to_go": (6, "ends_rightly"),
}
"""The first seed that finds it, and the promise that it breaks."""


def look_for(plant: Plant, seeds: Sequence[int]) -> Run | None:
    """The first run that breaks a promise with the bug in place."""
    with plant():
        for seed in seeds:
            run = World(story_of(seed)).run()
            if run.violation is not None:
                return run
    return None


def main() -> None:
    names = sys.argv[1:] or list(PLANTS)
    for name in names:
        run = look_for(PLANTS[name], range(2000))
        if run is None:
            print(f'    "{name}": not found within 2,000 seeds')
        else:
            assert run.violation is not None
            print(f'    "{name}": ({run.story.setup.seed}, "{run.violation.promise}"),', flush=True)


if __name__ == "__main__":
    main()
