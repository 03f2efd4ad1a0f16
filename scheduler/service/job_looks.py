"""Which job is meant, and what is to be seen of it?

Live jobs are answered by the loop's thread, ended ones from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node_agent.messages import LogChunk
from scheduler.core.jobs import Job
from scheduler.errors import BadInput, Forbidden, NotFound
from scheduler.ports import Clock, Engine, Json, Principal, Store, StoredEvent
from scheduler.service import run_usage, views
from scheduler.service.check_book import is_check
from scheduler.service.loop import ServiceLoop
from scheduler.service.places import PLACING
from scheduler.service.rights import may_see
from scheduler.service.state import ServiceState
from scheduler.service.why import why_ended, why_live

ENDED_STATES = ("succeeded", "failed", "cancelled")
_MOST_LOOKS = 100


class JobLooks:
    """`engine` has the logs. `loop` is asked for anew each time."""

    def __init__(self, store: Store, engine: Engine, clock: Clock, loop: Callable[[], ServiceLoop]) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._loop = loop

    def all(self, by: Principal, *, tenant: str | None, states: Sequence[str] | None, limit: int) -> Json:
        if by.role == "tenant":
            if tenant not in (None, by.tenant):
                raise Forbidden(f"your token is of tenant {by.tenant}; it sees no jobs of {tenant}", field="tenant")
            tenant = by.tenant

        def live(state: ServiceState) -> tuple[list[Json], int]:
            now_s = self._clock.now_s()
            found = [job for job in state.jobs.values() if _is_asked_for(job, tenant)]
            wanted = [job for job in found if states is None or views.word(job) in states]
            first = views.in_queue_order(state, wanted, now_s)[:limit]
            return [views.job_view(state, job, now_s) for job in first], len(wanted)

        shown, total = self._loop().call(live)
        more = False
        ended = [word for word in ENDED_STATES if states is None or word in states]
        if ended:
            there = {view["id"] for view in shown}
            room = limit - len(shown)
            rows = self._recent(tenant, ended, room + 1)
            more = len(rows) > room
            rows = [job for job in rows[:room] if job.id not in there]
            placed = self._store.events_named([job.id for job in rows], PLACING)
            shown += [views.ended_view(job, placed.get(job.id, ())) for job in rows]
        return {"jobs": shown, "total": None if more else max(total, len(shown))}

    def _recent(self, tenant: str | None, states: Sequence[str] | None, limit: int) -> list[Job]:
        """The newest that were asked for, of which the store may have many others in between."""
        found: list[Job] = []
        before_seq: int | None = None
        for _ in range(_MOST_LOOKS):
            rows = self._store.recent_jobs(tenant=tenant, states=states, limit=limit, before_seq=before_seq)
            found += [job for job in rows if _is_asked_for(job, tenant)]
            if len(rows) < limit or len(found) >= limit:
                break
            before_seq = rows[-1].seq
        return found[:limit]

    def one(self, job_id: str, by: Principal) -> Json:
        job = self.find(job_id, by)
        return {
            **self.view(job),
            "spec": views.spec_view(job.spec),
            "events": [views.event_view(event) for event in self._store.job_events(job.id)],
            "results": views.result_views(self._store.results(job.id)),
            "usage": run_usage.shown(self._store.usage_records(job.id), self._loop().call),
        }

    def why(self, job_id: str, by: Principal) -> Json:
        job = self.find(job_id, by)

        def ask(state: ServiceState) -> Json | None:
            live = state.jobs.get(job.id)
            return None if live is None else why_live(state, live, self._clock.now_s())

        return self._loop().call(ask) or why_ended(*self._stored(job.id))

    def wait(self, job_id: str, by: Principal, *, timeout_s: float) -> Json:
        job = self.find(job_id, by)
        loop = self._loop()
        ended = loop.call(lambda state: loop.on_end(state, job.id) if job.id in state.jobs else None)
        if ended is not None:
            try:
                ended.result(timeout=timeout_s if loop.has_thread else 0)  # without one nothing happens meanwhile
            except TimeoutError:
                loop.call(lambda _state: loop.forget_waiter(job.id, ended))
        return self.view(job)

    def read_log(
        self, job_id: str, by: Principal, *, worker: int, attempt: int | None, stream: str, offset: int, limit: int
    ) -> LogChunk:
        job = self.find(job_id, by)
        if stream not in ("stdout", "stderr"):
            raise BadInput(f"a run has stdout and stderr, not {stream}", field="stream")
        node, found = self._node_of(job, worker, attempt)
        return self._engine.read_log(node, job.id, found, worker, stream, offset, limit)

    def _node_of(self, job: Job, worker: int, attempt: int | None) -> tuple[str, int]:
        """Where that worker's attempt ran, by the job's events; without `attempt`: the newest."""
        for event in reversed(self._store.job_events(job.id)):
            if event.event not in PLACING:
                continue
            node = event.detail["nodes"].get(str(worker))
            if node is not None and attempt in (None, event.detail["attempt"]):
                return node, event.detail["attempt"]
        if attempt is None and worker == 0:
            raise NotFound(f"job {job.id} has not started yet, so it has no log; see: suanli why {job.id}")
        which = "" if attempt is None else f" in attempt {attempt}"
        raise NotFound(f"job {job.id} has had no worker {worker}{which}")

    def find(self, job_id: str, by: Principal) -> Job:
        """The job, as the loop knows it or else the store; NotFound if there is none that `by` may see."""
        tenant = by.tenant if by.role == "tenant" else None
        if job_id == "last":
            newest = self._recent(tenant, None, 1)
            if not newest:
                raise NotFound("there is no job yet")
            job_id = newest[0].id
        job = self._loop().call(lambda state: state.jobs.get(job_id)) or self._store.job(job_id)
        if job is not None and may_see(job, by):
            return job
        task = self._store.job(f"{job_id}.0") if job is None else None
        if task is not None and may_see(task, by):
            size = task.spec.array_size
            raise NotFound(f"job {job_id} is an array: name one of its tasks, {job_id}.0 to {job_id}.{size - 1}")
        raise NotFound(f"there is no job {job_id}")

    def view(self, job: Job) -> Json:
        """The job as it is now."""

        def ask(state: ServiceState) -> Json | None:
            live = state.jobs.get(job.id)
            return None if live is None else views.job_view(state, live, self._clock.now_s())

        return self._loop().call(ask) or views.ended_view(*self._stored(job.id))

    def _stored(self, job_id: str) -> tuple[Job, Sequence[StoredEvent]]:
        """The job, and the events that say where it ran."""
        job = self._store.job(job_id)
        assert job is not None, job_id
        return job, self._store.events_named([job_id], PLACING).get(job_id, ())


def _is_asked_for(job: Job, tenant: str | None) -> bool:
    """Checks of idle devices are shown to those alone who ask for their tenant's jobs."""
    return tenant == job.spec.tenant or (tenant is None and not is_check(job.spec))
