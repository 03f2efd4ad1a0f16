"""What tenants used is counted, kept over restarts and told to the planner; what they may have waiting is bounded."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.demand import Constraints, Demand, Level
from scheduler.core.jobs import EndCause, JobKind
from scheduler.errors import BadInput, Overloaded
from scheduler.ports import Usage
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, service_spec, spec

HALF_LIFE_S = 3_600.0


def usage(world: World) -> dict[str, float]:
    return {name: round(average, 3) for name, average in world.service.loop._state.queue.usage.items()}


def test_use_is_averaged_over_the_past_and_fades(world: World) -> None:
    job = world.one(devices=2, time_limit_s=9e9)
    world.pass_time(HALF_LIFE_S)
    assert usage(world) == {"studio": 0.25}  # half of the site for one half-life
    world.engine.exit(job)
    world.run().pass_time(HALF_LIFE_S)
    world.one(time_limit_s=1.0)
    assert usage(world) == {"studio": 0.125}


def test_the_tenant_that_used_less_goes_first_and_the_list_shows_it(make: Make) -> None:
    world = make(node_facts("n1", 1))
    first = world.one(time_limit_s=9e9)
    world.pass_time(HALF_LIFE_S)
    studio, hospital = world.one(), world.one(tenant="hospital")
    listed = [view["id"] for view in world.service.jobs(OPERATOR, tenant=None, states=None, limit=9)["jobs"]]
    assert listed == [first, hospital, studio]
    world.engine.exit(first)
    assert world.run().words(studio, hospital) == "pending running"


def test_a_tenant_at_its_maximum_waits_while_others_start(make: Make) -> None:
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": TenantPolicy(maximum_milli=2_000)}))
    jobs = [world.one(), world.one(), world.one()]
    other = world.one(tenant="hospital")
    assert world.words(*jobs, other) == "running running pending running"
    reason = world.view(jobs[2])["reason"]
    assert (reason["kind"], reason["used_milli"], reason["maximum_milli"]) == ("quota_reached", 2_000, 2_000)
    assert reason["text"] == "tenant studio holds 2 of at most 2 devices; this needs 1 more"


def test_a_job_larger_than_its_tenant_may_ever_hold_is_refused(make: Make) -> None:
    """It was accepted once, and waited for ever."""
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": TenantPolicy(maximum_milli=2_000)}))
    with pytest.raises(BadInput, match="needs 3 devices at once, and tenant studio may hold at most 2: ask for fewer"):
        world.one(devices=3)
    assert world.words(world.one(devices=2), world.one(devices=3, tenant="hospital")) == "running pending"


def test_why_names_no_time_for_a_job_that_its_quota_keeps_out(make: Make) -> None:
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": TenantPolicy(maximum_milli=2_000)}))
    world.one(devices=2, time_limit_s=60.0)
    why = world.service.why(world.one(), OPERATOR)
    assert (why["reason"]["kind"], why["est_start_s"], why["changes"]) == ("quota_reached", None, [])
    assert why["quota"]["used_milli"] == 2_000
    assert "quota         tenant studio holds 2 devices (0 guaranteed, at most 2)" in why["text"]


def test_rehearsals_on_simulated_devices_have_an_account_of_their_own(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("sim", 2, simulated=True))
    world.one(alternatives=(Demand(devices=4 - 2, simulated=True),), time_limit_s=9e9)
    assert usage(world.pass_time(HALF_LIFE_S)) == {"studio/simulated": 0.25}


def test_it_is_kept_once_a_minute_and_at_the_end(world: World) -> None:
    world.one(devices=4, time_limit_s=9e9)
    world.pass_time(30)
    world.pass_time(600)
    kept = world.store.usage()
    assert kept is not None
    assert world.clock.now_s() - 61 <= kept.at_s <= world.clock.now_s()
    world.pass_time(30)
    world.service.close()
    kept = world.store.usage()
    assert kept is not None
    assert kept.at_s == world.clock.now_s()


def test_an_idle_site_writes_nothing(world: World) -> None:
    world.pass_time(600)
    assert (world.store.usage(), world.store.commits) == (None, 0)


def test_it_survives_a_restart_and_what_was_held_meanwhile_is_not_guessed(world: World) -> None:
    world.one(devices=4, time_limit_s=9e9)
    world.pass_time(HALF_LIFE_S)
    before = usage(world)["studio"]
    world.service.close()
    world.restart()
    assert usage(world.once())["studio"] == pytest.approx(before, abs=0.01)
    world.pass_time(HALF_LIFE_S)
    assert usage(world)["studio"] == pytest.approx(0.75, abs=0.02)


def test_a_clock_that_was_set_back_counts_no_time_twice(make: Make) -> None:
    world = make()
    world.store.set_usage(Usage({"studio": 0.5}, world.clock.now_s() + 1e6))
    world.restart()
    world.one(devices=1, time_limit_s=9e9)
    world.pass_time(HALF_LIFE_S)
    assert usage(world)["studio"] == pytest.approx(0.375, abs=0.01)  # half-way from 0.5 to 0.25


def test_a_full_store_at_the_end_costs_a_minute_of_memory_and_no_more(world: World) -> None:
    world.one(devices=4, time_limit_s=9e9)
    world.pass_time(90)
    kept = world.store.usage()
    assert kept is not None
    world.store.full = True
    world.service.close()
    assert world.store.usage() == kept


# ---- what is typical ---------------------------------------------------------------------------------------------


def typical(world: World) -> dict[tuple[int, int], float]:
    """By devices and thousandths of each: how often it was seen."""
    shapes = world.service.loop._state.cluster.shapes.shapes
    return {(each.shape.devices, each.shape.gpu_milli): round(each.count, 2) for each in shapes}


def test_packing_is_told_what_was_submitted_also_after_a_restart(world: World) -> None:
    half = (Demand(devices=0, share_milli=500),)
    first = world.one(alternatives=half)
    assert typical(world) == {(1, 500): 1.0}
    world.submit(spec(workers=3, devices=1, after=(first,)), spec(alternatives=half))
    assert typical(world) == {(1, 500): 1.0}  # not with every job that comes
    world.pass_time(601)
    assert typical(world) == {(1, 1000): 3.0, (1, 500): 2.0}
    assert typical(world.restart()) == {(1, 1000): 3.0, (1, 500): 2.0}


def test_what_is_stranded_is_shown(make: Make) -> None:
    world = make(node_facts("n1", 2), node_facts("sim", 2, simulated=True))
    world.one(alternatives=(Demand(devices=0, share_milli=600),))
    world.one(alternatives=(Demand(devices=0, share_milli=600),))
    figure = world.service.status(OPERATOR)["fragmentation"]
    assert figure["real"] == {"idle_milli": 800, "stranded_milli": 800, "share": 1.0}
    assert figure["simulated"]["idle_milli"] == 2000
    assert world.service.nodes(OPERATOR)["fragmentation"] == figure


# ---- what may wait -----------------------------------------------------------------------------------------------


def limited(make: Make, **limits: int) -> World:
    return make(node_facts("n1", 1), policy=Policy(tenants={"studio": TenantPolicy(**limits)}))


def test_so_many_jobs_may_wait(make: Make) -> None:
    world = limited(make, max_queued_jobs=3)
    world.submit(spec(), spec(), spec())  # one of them starts
    world.one()
    with pytest.raises(Overloaded, match="tenant studio has 3 of at most 3 jobs that wait, and this adds 1"):
        world.one()
    world.one(tenant="hospital")
    with pytest.raises(Overloaded, match="has 3 of at most 3"):
        world.service.dry_run(spec(), OPERATOR)


def test_jobs_that_wait_for_others_count_too(make: Make) -> None:
    world = limited(make, max_queued_jobs=3)
    first = world.one()
    world.submit(*(spec(after=(first,)) for _ in range(3)))
    with pytest.raises(Overloaded, match="has 3 of at most 3"):
        world.one()
    world.engine.exit(first)
    world.run()  # one of the three starts
    world.one()


def test_an_array_counts_each_of_its_tasks(make: Make) -> None:
    with pytest.raises(Overloaded, match="this adds 5: submit at most 3 at a time"):
        limited(make, max_queued_jobs=3).one(array_size=5)


def test_so_many_devices_may_be_asked_for(make: Make) -> None:
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": TenantPolicy(max_queued_milli=6_000)}))
    world.one(devices=4)
    world.submit(spec(workers=2, devices=2), spec(devices=2))
    with pytest.raises(Overloaded, match=r"has 6 of at most 6 devices asked for by jobs that wait, and this adds 0\.5"):
        world.one(alternatives=(Demand(devices=0, share_milli=500),))
    world.one(alternatives=(Demand(devices=0, cpus_milli=1000),))  # asks for none


# ---- what the planner is told of jobs ----------------------------------------------------------------------------


def test_a_waiting_job_is_told_with_all_that_its_file_says(world: World) -> None:
    world.one(devices=4)
    near = Constraints(within=Level.RACK, spread=Level.NODE, apart_from=("db",))
    job = world.one(name="train", devices=4, deadline_after_s=600.0, constraints=near)
    waiting = world.service.loop._state.queue.pending_job(job)
    assert waiting is not None
    assert (waiting.name, waiting.constraints) == ("train", near)
    assert waiting.deadline_s == world.clock.now_s() + 600
    view = world.view(job)
    assert view["deadline_s"] == waiting.deadline_s
    assert view["constraints"] == {"within": "rack", "spread": "node", "one_per": None, "apart_from": ["db"]}
    text = world.service.why(job, OPERATOR)["text"]
    assert "placed        within one rack, spread over nodes, on no node with db" in text
    assert "deadline      in 10 min" in text


def test_a_deadline_that_is_over_is_refused(world: World) -> None:
    with pytest.raises(BadInput, match="the deadline is over already") as caught:
        world.one(deadline_at_s=world.clock.now_s() - 1)
    assert caught.value.field == "deadline"


def test_a_running_job_is_told_with_what_it_could_become(world: World) -> None:
    near = Constraints(apart_from=("db",))
    rigid, elastic, unsaved = world.submit(
        spec(name="a", constraints=near),
        spec(workers_min=1, workers_max=2, saves=True),
        spec(workers_min=1, workers_max=2),
    )
    told = world.service.loop._state.queue.running_job
    (a, b, c) = (told(job) for job in (rigid, elastic, unsaved))
    assert a is not None
    assert b is not None
    assert c is not None
    assert (a.name, a.apart_from, a.workers_max, a.workers_wanted, a.simulated) == ("a", ("db",), None, None, False)
    assert (b.workers_max, b.alternatives) == (2, (Demand(devices=1, linked=True),))
    assert c.workers_max is None  # without a checkpoint a restart would cost it everything


def test_a_replica_that_lost_its_place_holds_its_services_slo(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 1))
    (job,) = world.submit(service_spec(workers=2, slo_p99_ms=50.0))
    world.engine.vanish("n2", proof=True)
    state = world.run().service.loop._state
    (asked,) = state.asked.values()
    assert (asked.pending.holds_slo, asked.pending.beside) == (True, ("n1",))
    assert (asked.pending.workers_min, asked.pending.workers_max, asked.worker) == (1, 1, 1)
    world.service.cancel(job, OPERATOR, reason="")
    world.run()
    assert (state.asked, state.queue.pending) == ({}, ())


def test_preemptions_are_counted_and_survive(world: World) -> None:
    low = world.one(devices=4, priority=0)
    world.one(devices=4, priority=90)
    assert world.view(low)["preemptions"] == 1
    assert world.restart().view(low)["preemptions"] == 1


def test_an_elastic_job_is_stopped_to_go_on_larger(make: Make) -> None:
    world = make(node_facts("n1", 2), policy=Policy(min_run_before_growth_s=60.0))
    other = world.one()
    job = world.one(kind=JobKind.TRAINING, workers_min=1, workers_max=2, saves=True, time_limit_s=9e9)
    world.engine.saves.add(job)
    assert len(world.view(job)["workers"]) == 1
    world.engine.exit(other)
    world.run().pass_time(120)
    view = world.view(job)
    assert (view["state"], len(view["workers"]), view["failures"], view["preemptions"]) == ("running", 2, 0, 0)
    assert view["resume_from"] == f"/ck/{job}/attempt-1"
    events = world.store.job_events(job)
    (requeued,) = [event for event in events if event.event == "requeued"]
    assert requeued.detail["cause"] == EndCause.RESIZED.value
    assert requeued.detail["detail"] == "resized, to go on with 2 workers instead of 1"
