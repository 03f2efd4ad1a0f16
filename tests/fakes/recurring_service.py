"""A service with a real store and a recurring job, in a process of its own, to be killed: for tests of schedules.

`python -m tests.fakes.recurring_service STORE_URL T0_S` runs until it is killed. Its clock shows 2,000,000,000 at T0_S
(epoch seconds of the real one) and runs MINUTE_S real seconds a minute; its nodes are fakes whose jobs end at once. It
says on stdout `up`, and around each write of a submission `writing` and `wrote ID`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from scheduler.core.decisions import Policy
from scheduler.core.jobs import Job, Recurrence
from scheduler.errors import Conflict
from scheduler.ports import Schedule
from scheduler.schema.cron import next_after
from scheduler.service.control import Service
from scheduler.store.sql import SqlStore, open_store
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_engine import FakeEngine, node_facts
from tests.fakes.fake_gateway import FakeGateway
from tests.fakes.service_world import STUDIO, spec

STARTED_S = 2_000_000_000.0
MINUTE_S = 0.02


class FastClock(FakeClock):
    def __init__(self, t0_s: float) -> None:
        super().__init__()
        self._t0_s = t0_s

    def now_s(self) -> float:
        return STARTED_S + (time.time() - self._t0_s) * 60.0 / MINUTE_S


class TellingStore(SqlStore):
    def submit_scheduled(self, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
        print("writing", flush=True)
        jobs = super().submit_scheduled(due, next_s, at_s=at_s)
        print("wrote", *(job.id for job in jobs), flush=True)
        return jobs


def main(url: str, t0_s: float) -> None:
    opened = open_store(url)
    clock = FastClock(t0_s)
    engine = FakeEngine(clock, node_facts("n1"))
    service = Service(
        TellingStore(opened.engine, opened.shown_url),
        engine,
        FakeGateway(),
        clock,
        policy=Policy(),
        priority_classes={},
        lease_s=1e9,
        secret=b"s" * 32,
        status_extra={},
        next_time=next_after,
    )
    service.start(thread=False)
    service.loop.run_once()
    try:
        service.submit([spec(name="often", time_limit_s=1e8, schedule=Recurrence("* * * * *", "UTC"))], STUDIO)
    except Conflict:
        pass  # an earlier process made it
    print("up", flush=True)
    while True:
        service.loop.run_once()
        for key in engine.live():
            engine.end(key, "exit", 0)
        time.sleep(MINUTE_S / 10)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
