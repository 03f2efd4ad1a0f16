"""Why each waiting job waits, kept once for all jobs that wait for the same reason.

A hundred thousand reasons, one a job, would cost more than finding them. So a pass says one for each kind of jobs, and
one for single jobs that were promised something; each job points to its own through the kind that it is of. Counting
nodes by what they lack is put off until somebody asks: it is a question about what the pass leaves behind, and that no
longer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.core.decisions import PendingJob
from scheduler.core.reasons import NoFit, Reason
from scheduler.core.waiting import Kind, Shape, WaitingLine


@dataclass(frozen=True, slots=True)
class Unsaid:
    """It does not fit; `job` is the first of its shape that did not."""

    shape: Shape
    job: PendingJob


class WaitingReasons(Mapping[str, Reason]):
    """Job id -> reason, for all that wait and did not start. A view: it looks into the waiting line as it is when
    asked, so that a job that came since is answered as its like were, and one that left is not there any more."""

    __slots__ = ("_of_job", "_of_kind", "_say", "_started", "_waiting")

    def __init__(
        self,
        waiting: WaitingLine,
        of_job: Mapping[str, Reason | Unsaid],
        of_kind: Mapping[Kind, Reason | Unsaid],
        started: frozenset[str],
        say: Callable[[Unsaid], NoFit],
    ) -> None:
        self._waiting = waiting
        self._of_job = of_job
        self._of_kind = {kind.key: reason for kind, reason in of_kind.items()}
        self._started = started
        self._say = say

    def __getitem__(self, job_id: str) -> Reason:
        if job_id not in self._waiting or job_id in self._started:
            raise KeyError(job_id)
        reason = self._of_job.get(job_id)
        if reason is None:
            reason = self._of_kind[self._waiting.kind_of(job_id).key]
        return self._say(reason) if isinstance(reason, Unsaid) else reason

    def kind_of(self, job_id: str) -> str | None:
        """Of what kind the job's reason is; None where there is none. No nodes are counted for it."""
        if job_id not in self._waiting or job_id in self._started:
            return None
        reason = self._of_job.get(job_id) or self._of_kind.get(self._waiting.kind_of(job_id).key)
        if reason is None:
            return None
        return "no_fit" if isinstance(reason, Unsaid) else reason.kind

    def without_counts(self) -> WaitingReasons:
        """The same where nobody will ask for more than kinds of reasons: without the pass that could count nodes, which
        is large."""
        kinds = WaitingReasons(self._waiting, self._of_job, {}, self._started, _not_counted)
        kinds._of_kind = self._of_kind
        return kinds

    def answers_like_of(self, job_id: str) -> bool:
        """Whether the pass blocked the whole kind of this waiting job, which may have come since."""
        return self._waiting.kind_of(job_id).key in self._of_kind

    def __iter__(self) -> Iterator[str]:
        for kind in self._waiting.kinds():
            known = kind.key in self._of_kind
            for job in kind:
                if job.job_id not in self._started and (known or job.job_id in self._of_job):
                    yield job.job_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"WaitingReasons({len(self._of_job)} of jobs, {len(self._of_kind)} of kinds)"


def _not_counted(unsaid: Unsaid) -> NoFit:
    raise AssertionError(f"why {unsaid.job.job_id} does not fit was not kept")
