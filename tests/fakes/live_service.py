"""A service that runs in a thread of its own, on a fake engine with one node of eight devices."""

from __future__ import annotations

import threading
import time

from scheduler.core.decisions import Policy
from scheduler.ports import Store
from scheduler.service.control import Service
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_engine import FakeEngine, node_facts
from tests.fakes.fake_gateway import FakeGateway
from tests.fakes.service_world import OPERATOR, SECRET


class Live:
    """A service in a thread on the store that it is given."""

    def __init__(self, store: Store, *, max_live_jobs: int = 1_000) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(self.clock, node_facts("n1", 8))
        self.store = store
        self.service = Service(
            self.store,
            self.engine,
            FakeGateway(),
            self.clock,
            policy=Policy(),
            priority_classes={"normal": 40},
            lease_s=60.0,
            secret=SECRET,
            status_extra={},
            max_live_jobs=max_live_jobs,
        )
        self.service.start()

    def until(self, job: str, state: str) -> None:
        deadline = time.monotonic() + 20
        while self.service.job(job, OPERATOR)["state"] != state:
            assert time.monotonic() < deadline, f"job {job} did not become {state}"
            threading.Event().wait(0.005)

    def close(self) -> None:
        self.service.close()
        self.store.close()
