"""Anything in any order: whatever nodes, store, time and kill -9 do, no acknowledged job is lost and none runs twice.

The fake engine checks by itself, at every command, that no (job, attempt, worker) has two placements, no key is
launched twice, no device is given to two processes and no two attempts of a job are alive at once.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scheduler.core.jobs import LIVE_STATES
from scheduler.errors import BadInput, SuanliError
from tests.fakes.examples import examples
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, World, service_spec, spec

NODES = ("n1", "n2", "n3")


class Torture(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.world = World(*(node_facts(name, 2) for name in NODES))
        self.acknowledged: list[str] = []
        self.alive = True
        self.kills = 0

    # -- what people do --------------------------------------------------------------------------------------------

    @rule(
        workers=st.sampled_from([1, 1, 2, 3]),
        devices=st.sampled_from([1, 1, 2]),
        priority=st.sampled_from([0, 40, 90]),
        retries=st.sampled_from([0, 2]),
        saves=st.booleans(),
        settle=st.booleans(),
    )
    @precondition(lambda self: self.alive)
    def submit(self, workers: int, devices: int, priority: int, retries: int, saves: bool, settle: bool) -> None:
        wanted = spec(workers=workers, devices=devices, priority=priority, retries=retries, saves=saves)
        self._submit(wanted, settle)

    @rule(replicas=st.sampled_from([1, 2]), settle=st.booleans())
    @precondition(lambda self: self.alive)
    def submit_service(self, replicas: int, settle: bool) -> None:
        self._submit(service_spec(workers_min=0, workers_max=replicas + 1), settle)

    @rule(pick=st.integers(0, 99), replicas=st.integers(0, 3))
    @precondition(lambda self: self.alive and self.acknowledged)
    def scale(self, pick: int, replicas: int) -> None:
        try:
            self.world.service.scale(self.acknowledged[pick % len(self.acknowledged)], OPERATOR, replicas=replicas)
        except SuanliError:
            pass  # no service, beyond its bounds, being stopped, ended, or the store is full

    @rule(pick=st.integers(0, 99))
    @precondition(lambda self: self.alive and self.acknowledged)
    def submit_after(self, pick: int) -> None:
        self._submit(spec(after=(self.acknowledged[pick % len(self.acknowledged)],)), True)

    def _submit(self, wanted: object, settle: bool) -> None:
        try:
            views = self.world.service.submit([wanted], OPERATOR)["jobs"]  # type: ignore[list-item]
        except SuanliError as error:
            unheard = len(self.world.service.nodes(OPERATOR)["nodes"]) < len(NODES)
            if self.world.store.full or (unheard and isinstance(error, BadInput)):
                return
            raise
        self.acknowledged += [view["id"] for view in views]
        if settle:
            self.world.run()

    @rule(pick=st.integers(0, 99))
    @precondition(lambda self: self.alive and self.acknowledged)
    def cancel(self, pick: int) -> None:
        try:
            self.world.service.cancel(self.acknowledged[pick % len(self.acknowledged)], OPERATOR, reason="")
        except SuanliError:
            pass  # it has ended, or the store is full

    @rule(node=st.sampled_from(NODES), on=st.booleans())
    @precondition(lambda self: self.alive)
    def drain(self, node: str, on: bool) -> None:
        try:
            if on:
                self.world.service.drain(node, OPERATOR, reason="test")
            else:
                self.world.service.resume(node, OPERATOR)
        except SuanliError:
            pass  # not drained, not known yet, or the store is full

    # -- what the world does ---------------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 99), code=st.sampled_from([0, 0, 1]))
    def process_ends(self, pick: int, code: int) -> None:
        live = self.world.engine.live()
        if live:
            key = live[pick % len(live)]
            self.world.engine.end(key, "exit", code)

    @rule(pick=st.integers(0, 99))
    def replica_is_ready(self, pick: int) -> None:
        live = [key for key in self.world.engine.live() if self.world.engine.nodes[key.node].specs[key].serves]
        if live:
            key = live[pick % len(live)]
            self.world.engine.ready(key.job_id, key.worker)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        if self.alive:
            self.world.pass_time(seconds)
        else:
            self.world.clock.advance(seconds)
            self.world.engine.tick()

    @rule()
    @precondition(lambda self: self.alive)
    def one_batch(self) -> None:
        self.world.once()

    @rule(node=st.sampled_from(NODES), how=st.sampled_from(["silent", "dead", "unnoticed"]))
    def node_goes(self, node: str, how: str) -> None:
        if not self.world.engine.nodes[node].reachable:
            return
        if how == "unnoticed" and not self.alive:
            self.world.engine.die_unnoticed(node)
        else:
            self.world.engine.vanish(node, proof=how == "dead")

    @rule(node=st.sampled_from(NODES))
    def node_returns(self, node: str) -> None:
        if not self.world.engine.nodes[node].reachable:
            self.world.engine.come_back(node)

    @rule(node=st.sampled_from(NODES))
    @precondition(lambda self: self.alive)
    def node_shows_itself(self, node: str) -> None:
        """It is back for as long as it takes to renew its lease, and hears of nothing else."""
        if self.world.engine.nodes[node].reachable:
            return
        self.world.engine.deaf.add(node)
        self.world.engine.come_back(node)
        self.world.once()
        self.world.engine.vanish(node)
        self.world.engine.deaf.discard(node)

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.world.store.full = full

    @rule()
    @precondition(lambda self: self.alive)
    def kill(self) -> None:
        self.world.kill_service()
        self.alive = False
        self.kills += 1

    @rule()
    @precondition(lambda self: not self.alive and not self.world.store.full)
    def start(self) -> None:
        self.world.start_service()
        self.alive = True

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        if hasattr(self, "world"):
            assert [job_id for job_id in self.acknowledged if self.world.store.job(job_id) is None] == []
            assert self.world.service.loop.bugs == 0

    def teardown(self) -> None:
        """When all is well again every job comes to an end, and nothing is left on any node."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.store.full = False
        if not self.alive:
            world.start_service()
        for name in NODES:
            if not world.engine.nodes[name].reachable:
                world.engine.come_back(name)
        world.run()
        for name in [drain.node for drain in world.store.drains()]:
            world.service.resume(name, OPERATOR)
        for _ in range(200):
            live = [job for job in world.store.live_jobs() if isinstance(job.state, LIVE_STATES)]
            if not live:
                break
            for job in live:
                if job.spec.time_limit_s is None:
                    world.service.cancel(job.id, OPERATOR, reason="the test is over")
            for key in world.engine.live():
                world.engine.end(key, "exit", 0)
            world.run().pass_time(30)
        assert world.words(*(job.id for job in world.store.live_jobs())) == ""
        world.run()
        assert world.engine.live() == []
        assert world.used_milli() == 0
        assert {name: node.runs for name, node in world.engine.nodes.items() if node.runs} == {}
        state = world.service.loop._state
        left = (
            state.jobs,
            state.queue.pending,
            state.queue.running,
            state.parked,
            state.services,
            state.scaled,
            state.restarts,
            state.asked,
            state.leaving,
            state.fenced,
        )
        within = (state.prepared, state.released, state.own_ends, state.limits, state.dependents, state.unseen_ends)
        assert [each for each in (*left, *within, state.unheard) if each] == []
        assert world.service.loop.bugs == 0
        self._every_second_is_billed_once()

    def _every_second_is_billed_once(self) -> None:
        """What the records say of each process, against when it really lived."""
        world = self.world
        records = {record.key: record for record in world.store.usage_records_between(0.0, float("inf"))}
        lived = {(key.job_id, key.attempt, key.worker): (key, run) for key, run in world.engine.lived.items()}
        assert records.keys() <= lived.keys()
        for name, record in records.items():
            key, run = lived[name]
            assert run.to_s is not None
            assert (record.node, record.from_s) == (key.node, run.from_s)
            assert record.to_s <= run.to_s, (record, run)
            assert run.told is None or record.end == ("seen" if run.told else "unseen"), (record, run)
            assert record.end == "unseen" or record.to_s == run.to_s, (record, run)
        # Of a run that was given up before its start was heard of, a service that starts anew knows nothing.
        assert self.kills or {name for name, (_, run) in lived.items() if run.told} <= records.keys()


Torture.TestCase.settings = settings(
    max_examples=examples(60),
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTorture = Torture.TestCase
