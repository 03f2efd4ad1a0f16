"""A whole service on fakes, driven by hand: `world.submit()`, `world.engine.exit()`, `world.run()`, `world.words()`.

Nothing runs in threads; time moves only by `world.pass_time`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scheduler.core.decisions import Policy
from scheduler.core.demand import Demand, NodeFacts
from scheduler.core.jobs import Checkpoint, Job, JobKind, JobSpec, shown
from scheduler.ports import Json, Principal
from scheduler.schema.cron import next_after
from scheduler.service.control import Service
from scheduler.service.dispatch import RunSettings
from scheduler.service.health_book import HealthSettings
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_engine import FakeEngine, node_facts
from tests.fakes.fake_gateway import FakeGateway
from tests.fakes.fake_store import FakeStore

OPERATOR = Principal("wang", "site", "operator", "emergency")
STUDIO = Principal("li", "studio", "tenant", "normal")
HOSPITAL = Principal("zhao", "hospital", "tenant", "normal")
VIEWER = Principal("guest", "site", "viewer", "best-effort")

CLASS_OF = {0: "best-effort", 40: "normal", 90: "urgent"}
LEASE_S = 60.0
SECRET = b"s" * 32


def spec(**given: Any) -> JobSpec:
    """A training job of one worker with one device, unless told otherwise. `devices`, `workers`, `saves` are short."""
    devices = given.pop("devices", 1)
    workers = given.pop("workers", 1)
    if given.pop("saves", False):
        given["checkpoint"] = Checkpoint("/ck", 30.0)
    given.setdefault("priority_class", CLASS_OF[given.get("priority", 40)])
    base = JobSpec(
        name="job",
        tenant="studio",
        kind=JobKind.TRAINING,
        priority_class="normal",
        priority=40,
        command=("true",),
        model=None,
        workers_min=workers,
        workers_max=workers,
        alternatives=(Demand(devices=devices),),
        time_limit_s=3600.0,
    )
    return replace(base, **given)


def service_spec(**given: Any) -> JobSpec:
    given = {"name": "svc", "kind": JobKind.INFERENCE, "time_limit_s": None, "retries": 3, **given}
    return spec(**given)


class World:
    def __init__(
        self,
        *nodes: NodeFacts,
        max_live_jobs: int = 1_000,
        policy: Policy | None = None,
        half_life_s: float = 3_600.0,
        run_settings: RunSettings | None = None,
        health: HealthSettings | None = None,
        start_s: float = 1_000.0,
        zone: str = "UTC",
        status_extra: Json | None = None,
    ) -> None:
        self.clock = FakeClock(start_s)
        self.zone = zone
        self.store = FakeStore()
        self.gateway = FakeGateway()
        self.engine = FakeEngine(self.clock, *(nodes or (node_facts("n1"),)))
        self.max_live_jobs = max_live_jobs
        self.policy = policy or Policy()
        self.half_life_s = half_life_s
        self.run_settings = run_settings
        self.health = health
        self.status_extra = status_extra or {"version": "test"}
        self.service = self._new_service()
        self.run()

    def _new_service(self) -> Service:
        service = Service(
            self.store,
            self.engine,
            self.gateway,
            self.clock,
            policy=self.policy,
            priority_classes={name: priority for priority, name in CLASS_OF.items()},
            lease_s=LEASE_S,
            secret=SECRET,
            status_extra=self.status_extra,
            max_live_jobs=self.max_live_jobs,
            half_life_s=self.half_life_s,
            next_time=next_after,
            run_settings=self.run_settings,
            health=self.health,
            zone=self.zone,
        )
        service.start(thread=False)
        return service

    # -- driving ---------------------------------------------------------------------------------------------------

    def run(self) -> World:
        """Until nothing is left to do at this moment. A service that never comes to rest fails the test."""
        for _ in range(50):
            self.service.loop.run_once()
            busy = self.service.loop.backlog() or self.service.loop.has_more
            if not busy or self.service.loop.store_error:
                return self
        raise AssertionError(f"the service does not come to rest; last sent: {self.engine.sent[-10:]}")

    def once(self) -> World:
        self.service.loop.run_once()
        return self

    def pass_time(self, seconds: float) -> World:
        """In steps that leave no lease to lapse by themselves."""
        while seconds > 0:
            step_s = min(10.0, seconds)
            seconds -= step_s
            self.clock.advance(step_s)
            self.engine.tick()
            self.run()
        return self

    def kill_service(self) -> World:
        """SIGKILL: what was not committed is gone. Nodes and their processes go on."""
        self.engine.disconnect()
        return self

    def start_service(self) -> World:
        """Another process: it opens the store for itself."""
        self.store = self.store.reopened()
        self.service = self._new_service()
        return self

    def restart(self) -> World:
        return self.kill_service().start_service().run()

    def submit(self, *specs: JobSpec, by: Principal = OPERATOR) -> list[str]:
        ids = [view["id"] for view in self.service.submit(specs, by)["jobs"]]
        self.run()
        return ids

    def one(self, **given: Any) -> str:
        return self.submit(spec(**given))[0]

    # -- looking ---------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """As committed."""
        job = self.store.job(job_id)
        assert job is not None, job_id
        return job

    def view(self, job_id: str) -> dict[str, Any]:
        return self.service.job(job_id, OPERATOR)

    def words(self, *ids: str) -> str:
        return " ".join(shown(self.job(job_id).state) for job_id in ids)

    def events(self, job_id: str) -> str:
        return " ".join(event.event for event in self.store.job_events(job_id))

    def sent(self, kind: type) -> list[Any]:
        return [command for _, command in self.engine.sent if isinstance(command, kind)]

    def used_milli(self) -> int:
        nodes = self.service.nodes(OPERATOR)["nodes"]
        return sum(device["used_milli"] for node in nodes for device in node["devices"])

    def no_bugs(self) -> None:
        assert self.service.loop.bugs == 0


Make = Callable[..., World]


def gang(make: Make, **given: object) -> tuple[World, str]:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    return world, world.one(workers=2, devices=2, **given)
