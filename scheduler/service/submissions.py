"""How submissions reach the store and the loop: those that wait together are admitted, committed and handed on
together.

One transaction, one sync and one question to the loop serve all of a group, so two hundred clients at once cost little
more than one. Each is acknowledged only when it is durable, and refused alone when it is bad. Groups follow one
another: what one has brought is counted before the next is admitted, and ids reach the loop in their order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.errors import SuanliError, Superseded
from scheduler.ports import Clock, Principal, Store, Submission
from scheduler.service.admission import Admission
from scheduler.service.loop import ServiceLoop
from scheduler.service.outcome import JobsSubmitted, SupersededBy
from scheduler.service.recovery import ended_before
from scheduler.service.state import ServiceState
from scheduler.service.together import Together

log = logging.getLogger(__name__)

# The loop's own commit may have to wait for one such transaction.
MOST_JOBS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    specs: tuple[JobSpec, ...]
    by: Principal
    held: Hold | None = None

    def jobs(self) -> int:
        return sum(max(1, spec.array_size) for spec in self.specs)


class Submissions:
    """`loop` is asked for anew each time: there is none before the service has started."""

    def __init__(self, store: Store, clock: Clock, loop: Callable[[], ServiceLoop], *, max_live_jobs: int) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._max_live_jobs = max_live_jobs
        self._together: Together[Wanted, Sequence[Job]] = Together(
            self._perform, size=Wanted.jobs, most=MOST_JOBS_AT_ONCE
        )

    def submit(self, wanted: Wanted) -> Sequence[Job]:
        """Durable, and handed to the loop, when it returns. From any thread."""
        return self._together.call(wanted)

    def _perform(self, group: Sequence[Wanted]) -> Sequence[Sequence[Job] | Exception]:
        loop = self._loop()
        answers: list[Sequence[Job] | Exception] = list(loop.call(lambda state: self._admit(state, group)))
        admitted = [place for place, answer in enumerate(answers) if not isinstance(answer, Exception)]
        if not admitted:
            return answers
        specs = [spec for place in admitted for spec in group[place].specs]
        # Looked up before, as nothing may come between the commit and the loop's hearing of it. What ends meanwhile the
        # loop remembers itself.
        ended = ended_before(self._store, (before for spec in specs for before in spec.waits_for))
        try:
            kept = self._store.submit_together(
                [Submission(group[place].specs, group[place].by.name, group[place].held) for place in admitted],
                at_s=self._clock.now_s(),
            )
        except Superseded as error:
            loop.post(SupersededBy(error.epoch), force=True)
            raise
        for place, jobs in zip(admitted, kept, strict=True):
            answers[place] = jobs
            if isinstance(jobs, Exception) and not isinstance(jobs, SuanliError):
                log.error("a submission by %s cannot be kept: %r", group[place].by.name, jobs)
        new = tuple(job for jobs in kept if not isinstance(jobs, Exception) for job in jobs)
        if new:
            loop.post(JobsSubmitted(new, ended), force=True)
        return answers

    def _admit(self, state: ServiceState, group: Sequence[Wanted]) -> list[Sequence[Job] | Exception]:
        """In the loop's thread."""
        admission = Admission(state, max_live_jobs=self._max_live_jobs, now_s=self._clock.now_s())
        answers: list[Sequence[Job] | Exception] = []
        for wanted in group:
            try:
                admission.admit(wanted.specs, wanted.by)
            except Exception as error:
                answers.append(error)
            else:
                answers.append(())
        return answers
