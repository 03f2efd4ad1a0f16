"""Holding, releasing and requeueing as the API asks for it: rights, what the ids stand for, the request, the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.errors import Forbidden
from scheduler.ports import Clock, Json, Principal, Store
from scheduler.service import changing
from scheduler.service.loop import ServiceLoop
from scheduler.service.named_jobs import Meant, live_ids, meant_by
from scheduler.service.outcome import HoldRequested, ReleaseRequested, RequeueRequested
from scheduler.service.rights import may_change, may_see


class JobChanges:
    """`submit` takes what has ended and is to run anew. `loop` is asked for anew each time."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        loop: Callable[[], ServiceLoop],
        submit: Callable[[JobSpec, Principal, Hold | None], Sequence[Job]],
        priority_classes: Mapping[str, int],
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._submit = submit
        self._priority_classes = priority_classes

    def hold(self, ids: Sequence[str], by: Principal, reason: str) -> Json:
        may_change(by)
        wanted = meant_by(self._loop(), self._store, ids, lambda job: may_see(job, by))
        asked = HoldRequested(live_ids(wanted), self._hold(by, reason))
        if asked.job_ids:
            self._loop().request(asked)
        return changing.answer(wanted, changing.Done("hold", asked.became, asked.refused, {}, {}))

    def release(self, ids: Sequence[str], by: Principal) -> Json:
        may_change(by)
        wanted = meant_by(self._loop(), self._store, ids, lambda job: may_see(job, by))
        asked = ReleaseRequested(live_ids(wanted), by.name, by.role == "operator")
        if asked.job_ids:
            self._loop().request(asked)
        return changing.answer(wanted, changing.Done("release", asked.became, asked.refused, {}, {}))

    def requeue(self, ids: Sequence[str], by: Principal, reason: str, hold: bool) -> Json:
        may_change(by)
        wanted = meant_by(self._loop(), self._store, ids, lambda job: may_see(job, by))
        held = self._hold(by, reason) if hold else None
        asked = RequeueRequested(live_ids(wanted), by.name, reason, held)
        if asked.job_ids:
            self._loop().request(asked)
        new, failed = changing.resubmitted(wanted, lambda meant: self._submit_again(meant, by, held))
        return changing.answer(wanted, changing.Done("requeue", asked.became, asked.refused, new, failed))

    def _submit_again(self, meant: Meant, by: Principal, held: Hold | None) -> Sequence[Job]:
        spec = changing.spec_again(meant, self._store)
        highest = self._priority_classes.get(by.max_priority_class)
        if highest is not None and spec.priority > highest and spec.priority > min(self._priority_classes.values()):
            raise Forbidden(
                f"job {meant.id} is of class {spec.priority_class}, above {by.max_priority_class}, the highest of your"
                " token: ask an operator to requeue it",
                field="priority_class",
            )
        return self._submit(spec, by, held)

    def _hold(self, by: Principal, reason: str) -> Hold:
        return Hold(by.name, reason, self._clock.now_s(), by.role == "operator")
