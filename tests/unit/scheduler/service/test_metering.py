"""What is written down of each run for the bill. Clocks start at 1,000 s; `used` gives (attempt.worker, from, to, end,
cause) of a job's records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.messages import DeviceUse, Exited, RunKey
from scheduler.core.demand import Demand
from scheduler.core.jobs import JobKind
from scheduler.core.usage_records import Achieved, MeteredUse, by_tenant
from scheduler.errors import NotFound
from scheduler.ports import Change, RunEvent
from scheduler.service.keeping import Keeping
from scheduler.service.outcome import Outcome
from tests.fakes.fake_engine import node_facts
from tests.fakes.fake_store import FakeStore
from tests.fakes.service_world import HOSPITAL, OPERATOR, Make, World, service_spec, spec
from tests.fakes.used_by_runs import used

# ---- ends that are seen ------------------------------------------------------------------------------------------


def test_a_run_from_its_start_to_its_end(world: World) -> None:
    job = world.one(devices=2)
    assert used(world, job) == []  # it runs still
    world.pass_time(30)
    world.engine.exit(job)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_030.0, "seen", "succeeded")]
    (record,) = world.store.usage_records(job)
    assert (record.tenant, record.priority_class, record.kind, record.node) == ("studio", "normal", "training", "n1")
    assert (record.devices, record.share_milli, record.cpus_milli) == ((0, 1), 0, 1_000)
    assert (record.simulated, record.seconds, record.device_seconds) == (False, 30.0, 60.0)
    world.pass_time(300)
    assert len(used(world, job)) == 1


def test_each_attempt_has_its_own(world: World) -> None:
    job = world.one(retries=1)
    world.pass_time(10)
    world.engine.exit(job, 3)
    world.run().pass_time(1).pass_time(4)
    world.engine.exit(job, how="out_of_memory")
    world.run()
    assert used(world, job) == [
        ("1.0", 1_000.0, 1_010.0, "seen", "exit code"),
        ("2.0", 1_011.0, 1_015.0, "seen", "out of memory"),  # after a second's back-off
    ]


def test_each_worker_of_a_gang_has_its_own(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(spec(workers=2))
    world.pass_time(10)
    world.engine.exit(job, worker=0)
    world.run().pass_time(10)
    world.engine.exit(job, 1, worker=1)
    world.run()
    assert used(world, job) == [
        ("1.0", 1_000.0, 1_010.0, "seen", "succeeded"),
        ("1.1", 1_000.0, 1_020.0, "seen", "exit code"),
    ]
    assert {record.node for record in world.store.usage_records(job)} == {"n1", "n2"}


def test_those_that_are_brought_down_with_another_say_so(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(spec(workers=2))
    world.engine.stubborn.add(job)
    world.pass_time(10)
    world.engine.exit(job, 1, worker=1)
    world.run().pass_time(10)
    assert used(world, job) == [
        ("1.0", 1_000.0, 1_020.0, "seen", "gang peer ended"),
        ("1.1", 1_000.0, 1_010.0, "seen", "exit code"),
    ]


def test_a_share_of_a_device_counts_for_its_share(world: World) -> None:
    job = world.one(alternatives=(Demand(devices=0, share_milli=250),))
    world.pass_time(40)
    world.engine.exit(job)
    world.run()
    (record,) = world.store.usage_records(job)
    assert (record.share_milli, record.seconds, record.device_seconds) == (250, 40.0, 10.0)


def test_cancelled(world: World) -> None:
    job = world.one()
    world.engine.stubborn.add(job)
    world.pass_time(10)
    world.service.cancel(job, OPERATOR, reason="")
    world.run().pass_time(10)
    assert used(world, job) == [("1.0", 1_000.0, 1_020.0, "seen", "cancelled")]


def test_preempted(make: Make) -> None:
    world = make(node_facts("n1", 1))
    victim = world.one(priority=0, saves=True)
    world.engine.saves.add(victim)
    world.pass_time(20)
    (urgent,) = world.submit(spec(priority=90))
    assert world.words(victim, urgent) == "pending running"
    assert used(world, victim) == [("1.0", 1_000.0, 1_020.0, "seen", "preempted")]


def test_simulated_devices_say_so(make: Make) -> None:
    world = make(node_facts("n1"), node_facts("s1", simulated=True))
    real = world.one()
    simulated = world.one(alternatives=(Demand(simulated=True, node="s1"),))
    world.pass_time(10)
    for job in (real, simulated):
        world.engine.exit(job)
    world.run()
    sums = by_tenant(world.store.usage_records_between(0.0, 2_000.0))
    assert [(each.simulated, each.device_seconds) for each in sums] == [(False, 10.0), (True, 10.0)]


@pytest.mark.parametrize("why", ["check", "launcher", "waits"])
def test_what_never_had_a_process_has_no_record(world: World, why: str) -> None:
    if why == "check":
        world.engine.bad_checks["n1"] = ("command", "not found")
    elif why == "launcher":
        world.engine.refuses["n1"] = "no memory"
    else:
        world.one(devices=4)
    job = world.one(devices=4)
    world.pass_time(600)
    assert world.words(job) == ("pending" if why == "waits" else "failed")
    if why == "waits":
        world.service.cancel(job, OPERATOR, reason="")
        world.run()
    assert used(world, job) == []


# ---- what its devices did ------------------------------------------------------------------------------------------

USE = DeviceUse(2, 25.0, 12_500.0, True, 500.0, 2.0**34, 87.5, False)
RESULT = (
    '{"schema": "suanli/bench/1", "devices": [{"workload": "gemm", "precision": "bf16", "evidence": "measured",'
    ' "on": "accelerator", "gflops": 812000.0, "verified": true, "covers": ["a"]}]}'
)


def test_a_record_says_what_the_run_made_its_devices_do_and_what_they_are(world: World) -> None:
    job = world.one(devices=2)
    world.engine.uses[job] = USE
    world.pass_time(30)
    world.engine.exit(job)
    world.run()
    (record,) = world.store.usage_records(job)
    assert record.use == MeteredUse(2, 25.0, 12_500.0, True, 500.0, 2.0**34, 87.5, False)
    assert (record.unmetered_s, record.name, record.site) == (5.0, world.job(job).spec.name, "site")
    assert record.models == ("H100 SXM", "H100 SXM")


@pytest.mark.parametrize(("field", "value"), [("joules", float("nan")), ("mean_watts", float("inf"))])
def test_what_is_no_number_was_not_read(world: World, field: str, value: float) -> None:
    job = world.one()
    world.engine.uses[job] = replace(USE, **{field: value})  # type: ignore[arg-type]
    world.pass_time(30)
    world.engine.exit(job)
    world.run()
    (record,) = world.store.usage_records(job)
    assert record.use is not None
    assert getattr(record.use, field) is None


def test_a_run_that_ended_while_its_node_was_away_is_metered_too(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.engine.uses[job] = replace(USE, devices=1)
    world.pass_time(10)
    world.engine.vanish(lost.node)
    world.run().pass_time(200)
    assert world.store.usage_records(job)[0].use is None
    world.engine.come_back(lost.node)
    world.run()
    record = world.store.usage_records(job)[0]
    assert (record.end, record.models, record.site) == ("seen", ("H100 SXM",), "site")
    assert record.use is not None
    assert record.use.joules == 12_500.0


def test_a_benchmark_says_what_it_achieved_and_no_other_job_does(make: Make) -> None:
    world = make(node_facts("n1", 2))
    bench, train = world.one(kind=JobKind.BENCHMARK), world.one()
    for job in (bench, train):
        world.engine.exit(job, result=RESULT)
    world.run()
    assert world.store.usage_records(bench)[0].achieved == (Achieved("gemm", "bf16", "accelerator", 812_000.0, 1, 1),)
    assert world.store.usage_records(train)[0].achieved == ()
    shown = world.service.job(bench, OPERATOR)["usage"][0]["achieved"]
    assert shown[0]["gflops"] == 812_000.0


# ---- a service that comes and goes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", range(5))
def test_a_service_killed_anywhere_between_start_and_end(make: Make, batches: int) -> None:
    world = make(node_facts("n1", 1))
    world.service.submit([spec()], OPERATOR)
    for _ in range(batches):
        world.once()
    world.kill_service()
    world.clock.advance(20)
    for key in world.engine.live("1"):
        world.engine.end(key, "exit", 0)
    world.clock.advance(500)
    world.start_service().run()
    if batches == 0:  # nothing had been sent
        world.engine.exit("1")
        world.run()
        assert used(world, "1") == [("1.0", 1_520.0, 1_520.0, "seen", "succeeded")]
    else:
        assert used(world, "1") == [("1.0", 1_000.0, 1_020.0, "seen", "succeeded")]


def test_a_service_killed_right_after_the_commit_says_the_same_again(make: Make) -> None:
    """The node was not told to forget it, so it tells the new service once more."""
    world = make(node_facts("n1", 1))
    job = world.one()
    world.pass_time(20)
    world.engine.exit(job)

    class Killed(BaseException):
        pass

    def kill(_what: str) -> None:
        raise Killed

    world.store.after_write = kill
    with pytest.raises(Killed):
        world.run()
    world.store.after_write = None
    assert used(world, job) == [("1.0", 1_000.0, 1_020.0, "seen", "succeeded")]
    world.clock.advance(50)
    world.restart()
    assert used(world, job) == [("1.0", 1_000.0, 1_020.0, "seen", "succeeded")]
    assert world.engine.nodes["n1"].runs == {}


def test_a_service_that_starts_anew_and_never_hears_of_the_node(make: Make) -> None:
    """Of the time since the start nothing is known any more: none is billed, until the node comes back."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (lost,) = world.engine.live(job)
    world.pass_time(30)
    world.kill_service()
    world.engine.vanish(lost.node)
    world.start_service().run().pass_time(40)
    assert used(world, job) == [("1.0", 1_000.0, 1_000.0, "unseen", "node lost")]
    world.engine.come_back(lost.node)
    world.run()
    world.engine.exit(job)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_070.0, "seen", "succeeded")]


def test_replicas_one_by_one(make: Make) -> None:
    world = make(node_facts("n1"))
    (job,) = world.submit(service_spec(workers=2))
    world.pass_time(10)
    world.engine.exit(job, 1, worker=1)
    world.run().pass_time(1).pass_time(19)
    world.restart().pass_time(10)
    world.service.cancel(job, OPERATOR, reason="")
    world.run()
    assert used(world, job) == [
        ("1.0", 1_000.0, 1_040.0, "seen", "cancelled"),
        ("1.1", 1_000.0, 1_010.0, "seen", "exit code"),
        ("2.1", 1_011.0, 1_040.0, "seen", "cancelled"),
    ]


def test_a_replica_on_a_silent_node_and_the_one_that_replaces_it_both_count(make: Make) -> None:
    """Both do run, and serve whom they reach."""
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(service_spec())
    (lost,) = world.engine.live(job)
    world.pass_time(10)
    world.engine.vanish(lost.node)
    world.run().pass_time(100)
    assert len(world.engine.live(job)) == 2
    assert used(world, job) == [("1.0", 1_000.0, 1_010.0, "unseen", "node lost")]
    world.engine.come_back(lost.node)
    world.run()
    assert used(world, job) == [("1.0", 1_000.0, 1_110.0, "seen", "not the current attempt")]


# ---- what it must not do -------------------------------------------------------------------------------------------


def test_news_of_another_stores_job_of_that_number_mends_nothing(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    job = world.one()
    (key,) = world.engine.live(job)
    world.pass_time(10)
    world.engine.vanish(key.node, proof=True)
    world.run()
    (other,) = world.engine.live(job)
    before = used(world, job)
    foreign = Exited(RunKey(job, 1, 0, other.node), "exit", 0, None, "", 9_000.0, started_s=5_000.0)
    world.service.loop.post(RunEvent(foreign, other.node, 0))
    world.run()
    assert used(world, job) == before


def test_tenants_see_what_their_own_jobs_used(world: World) -> None:
    job = world.one()
    world.pass_time(10)
    world.engine.exit(job)
    world.run()
    (said,) = world.service.job(job, OPERATOR)["usage"]
    assert (said["seconds"], said["device_seconds"], said["end"]) == (10.0, 10.0, "seen")
    with pytest.raises(NotFound):
        world.service.job(job, HOSPITAL)


def test_a_record_that_cannot_be_stored_costs_only_its_job() -> None:
    """And its job does not end without it."""
    world = World()
    bad, good = world.submit(spec(), spec())
    real = FakeStore.commit

    class Picky(FakeStore):
        def commit(self, changes, usage_records=()) -> None:  # type: ignore[no-untyped-def]
            if any(entry.job_id == bad for entry in usage_records):
                raise ValueError("the record is odd")
            real(self, changes, usage_records)

    world.store.__class__ = Picky  # type: ignore[assignment]
    world.pass_time(10)
    for job in (bad, good):
        world.engine.exit(job)
    world.run()
    assert world.words(bad, good) == "running succeeded"
    assert (used(world, bad), len(used(world, good))) == ([], 1)
    assert world.service.loop.bugs == 1
    world.store.__class__ = FakeStore  # type: ignore[assignment]
    world.pass_time(10).restart()
    assert world.words(bad) == "succeeded"
    assert used(world, bad) == [("1.0", 1_000.0, 1_010.0, "seen", "succeeded")]


def test_a_jobs_later_changes_are_not_tried_without_its_record() -> None:
    store = FakeStore()
    world = World()
    (job,) = store.submit([spec()], at_s=1.0, by="x")
    finished = world.one()
    world.engine.exit(finished)
    world.run()
    (record,) = world.store.usage_records(finished)
    odd = Outcome(changes=[Change(job, name, 2.0) for name in ("ended", "placed")], usage_records=[record])
    store.poison.add(job.id)
    keeping = Keeping(odd)
    keeping.keep(store)
    assert (keeping.bugs, keeping.set_aside) == (1, {job.id})
    assert [event.event for event in store.job_events(job.id)] == ["submitted"]
