"""Replays small enough to be computed by hand, what holds of any, and that they decide as the live service does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.simulation.journal import Became
from scheduler.simulation.replay import Replay, ReplaySettings
from tests.fakes.fake_engine import node_facts
from tests.fakes.replay_table import ReplayTable, replaying
from tests.fakes.service_world import OPERATOR, World

# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_waits_use_makespan_and_energy_of_two_nodes() -> None:
    """Two nodes of 4. A gang of 2 x 4 holds all until 100; then 4 devices for 50 s beside 2 for 100 s."""
    done = (
        replaying(nodes=2, devices=4, busy_watts=700.0, idle_watts=100.0)
        .job(0, 100, devices=4, workers=2)
        .job(10, 50, devices=4)
        .job(20, 100, devices=2)
        .run()
    )
    assert done.starts() == [0, 100, 100]
    assert done.ends() == [100, 150, 200]
    figures = done.figures
    assert figures["wait_s"]["all"]["mean"] == pytest.approx((0 + 90 + 80) / 3, abs=1e-3)
    assert (figures["wait_s"]["all"]["p50"], figures["wait_s"]["all"]["max"]) == (80, 90)
    assert figures["completion_s"]["all"]["p50"] == 140
    assert figures["makespan_s"] == 200
    device_s = 8 * 100 + 4 * 50 + 2 * 100
    assert figures["utilisation"]["mean"] == pytest.approx(device_s / (8 * 200))
    assert figures["utilisation"]["peak"] == 1.0
    joules = 700 * device_s + 100 * (8 * 200 - device_s)
    assert figures["energy"]["kwh"] == pytest.approx(joules / 3.6e6, abs=1e-3)
    # 4 wait from 10 to 100, 2 from 20 to 100
    waiting = figures["utilisation"]["series"]["waiting_devices"]
    assert sum(waiting) * 200 / len(waiting) == pytest.approx(4 * 90 + 2 * 80, rel=1e-3) or len(waiting) == 4


def test_slowdown_counts_ten_seconds_at_least() -> None:
    done = replaying(devices=1).job(0, 30).job(0, 1).run()
    assert done.figures["slowdown"]["all"]["max"] == pytest.approx(31 / 10)


@pytest.mark.parametrize(
    ("victim", "lost_s", "ends_s"),
    [
        ({}, 60, 60 + 20 + 100),  # no checkpoint: all of it again
        ({"saves": True, "save": 5.0}, 0, 65 + 20 + 40),  # saves in time
        ({"saves": True, "save": 50.0, "grace": 30.0, "every": 25.0}, 10, 90 + 20 + 50),  # too slow: as of 50
        ({"saves": True, "save": 50.0, "grace": 30.0}, 60, 90 + 20 + 100),  # too slow, and never before
    ],
)
def test_a_victim_loses_what_it_had_not_saved(victim: dict[str, object], lost_s: float, ends_s: float) -> None:
    done = replaying(devices=4).job(0, 100, devices=4, name="best-effort", **victim)  # type: ignore[arg-type]
    ran = done.job(60, 20, devices=4, name="urgent").run()
    assert ran.figures["preemptions"]["count"] == 1
    assert ran.figures["preemptions"]["by_class"] == {"best-effort": 1}
    assert ran.figures["preemptions"]["work_lost_device_s"] == 4 * lost_s
    assert ran.ends()[0] == pytest.approx(ends_s)
    assert ran.job(0).attempts == 2


def test_a_job_that_outruns_its_limit_is_ended() -> None:
    done = replaying().job(0, 100, limit=40).run()
    assert (done.words(), done.ends()) == ("ended_at_limit", [40])


def test_a_job_that_never_fits_is_refused_with_a_reason() -> None:
    done = replaying(nodes=2, devices=4).job(0, 10, devices=5).job(0, 10).run()
    assert done.words() == "refused succeeded"
    ((reason),) = done.figures["jobs"]["refused_reasons"]
    assert "4 x any device" in reason["reason"]
    assert done.figures["jobs"]["refused"] == 1


def test_limits_of_a_tenant_refuse_as_the_service_does() -> None:
    tenants = {"t": TenantPolicy(max_queued_jobs=1, maximum_milli=2000)}
    done = replaying(tenants=tenants).job(0, 10, devices=2).job(1, 10).job(2, 10).job(3, 10, devices=3).run()
    assert done.words() == "succeeded succeeded refused refused"


def test_a_failure_uses_a_retry_and_goes_on_from_the_last_save() -> None:
    done = replaying().job(0, 100, fails=60, retries=1, saves=True, every=25.0).job(0, 10, fails=5).run()
    assert done.words() == "succeeded failed"
    assert done.ends() == [pytest.approx(60 + 50), 5]


def test_an_elastic_job_grows_once_there_is_room_and_loses_nothing() -> None:
    table = replaying(devices=4, min_run_before_growth_s=50.0).job(0, 100, devices=2)
    done = table.job(0, 1000, devices=2, workers=(1, 2), saves=True).run()
    assert done.figures["preemptions"]["resizes"] == 1
    # 100 s with one worker, then the rest of 2,000 worker-seconds with two
    assert done.ends()[1] == pytest.approx(100 + 1900 / 2)


def test_services_get_replicas_by_their_rate_and_give_them_back() -> None:
    """0.1 s a request, half busy: 10/s is 1 erlang and wants 2; 30/s wants 6."""
    done = replaying(devices=8).service(10, 30, 10).run()
    assert [count for _, count in done.journal.services[0].replicas][-1] == 0
    (service,) = done.figures["services"]
    assert service["requests"] == 5000
    assert service["replicas_mean"] == pytest.approx((2 + 6 + 2) / 3, abs=1e-3)
    assert 0.9 < service["attained"] < 1
    assert service["p99_ms"] > 100


def test_a_service_without_room_attains_less_and_takes_from_lower_classes() -> None:
    alone = replaying(devices=2).service(30, 30).run()
    assert alone.figures["services"][0]["attained"] == 0
    assert alone.figures["services"][0]["p99_ms"] is None
    table = replaying(devices=8).job(0, 1000, devices=6, name="best-effort").service(10, 30)
    assert table.run().figures["preemptions"]["count"] >= 1


def test_interrupted_it_keeps_what_was_computed() -> None:
    def stop(now_s: float, ended: int) -> None:
        raise KeyboardInterrupt

    table = replaying(devices=1)
    for i in range(600):
        table.job(i, 0.5)
    done = table.run(stop)
    assert done.journal.partial
    assert 0 < done.figures["jobs"]["succeeded"] < 600
    assert done.figures["makespan_s"] is None


def test_until_a_time_what_runs_and_waits_is_told() -> None:
    table = replaying(devices=1).job(0, 100).job(0, 100).job(500, 1)
    table.settings = ReplaySettings(until_s=50.0)
    done = table.run()
    assert done.figures["jobs"]["running"] == 1
    assert done.figures["jobs"]["waiting"] == 1
    assert done.figures["jobs"]["submitted"] == 2
    assert done.figures["wait_s"]["all"]["never"] == 1
    assert done.figures["utilisation"]["mean"] == 1.0
    assert done.job(1).reason


def test_rare_passes_start_later_and_lose_nobody() -> None:
    table = replaying(devices=1).job(0, 10).job(5, 10).job(7, 10)
    table.settings = ReplaySettings(pass_every_s=60.0)
    assert table.run().starts() == [0, 60, 120]


def test_passes_rarer_than_the_look_at_what_time_changes() -> None:
    """A replay that was to plan once an hour looked again after ten minutes, found that no pass was due before the hour
    was over, and looked again at that same moment, for ever."""
    table = replaying(nodes=1, devices=1).job(0, 5_000, devices=1).job(1, 10, devices=1).job(2, 10, devices=1)
    table.settings = ReplaySettings(pass_every_s=3_600.0)
    assert table.run().starts() == [0, 7_200, 10_800]


# ---- of any ----------------------------------------------------------------------------------------------------------

_JOB = st.fixed_dictionaries(
    {
        "at": st.integers(0, 200).map(float),
        "lasts": st.integers(1, 300).map(float),
        "devices": st.integers(1, 5),
        "workers": st.sampled_from([1, 1, 2, 3]),
        "name": st.sampled_from(["urgent", "normal", "best-effort"]),
        "tenant": st.sampled_from(["a", "b"]),
        "saves": st.booleans(),
        "save": st.sampled_from([0.0, 5.0, 60.0]),
        "limit": st.sampled_from([50.0, 500.0, 5000.0]),
    }
)


def _table(jobs: list[dict[str, object]]) -> ReplayTable:
    table = replaying(nodes=2, devices=4)
    for job in jobs:
        table.job(**job)  # type: ignore[arg-type]
    return table


@settings(max_examples=45, deadline=None)
@given(st.lists(_JOB, min_size=1, max_size=14))
def test_nothing_is_lost_and_nothing_comes_from_nowhere(jobs: list[dict[str, object]]) -> None:
    done = _table(jobs).run()
    figures = done.figures
    for record in done.journal.jobs:
        assert record.became in (Became.SUCCEEDED, Became.ENDED_AT_LIMIT, Became.REFUSED)
        assert bool(record.reason) == (record.became is Became.REFUSED)
        if record.became is Became.SUCCEEDED:
            work_s = record.job.duration_s * record.job.spec.workers_max * record.job.spec.alternatives[0].devices
            assert record.device_s >= work_s - 1e-6
            if not record.preemptions:
                assert record.device_s == pytest.approx(work_s)
    used = math.fsum(record.device_s for record in done.journal.jobs)
    assert figures["utilisation"]["mean"] * 8 * done.journal.end_s == pytest.approx(used, rel=1e-4, abs=1e-2)
    tenants = figures["fairness"]["tenants"]
    assert math.fsum(each["device_s"] for each in tenants) == pytest.approx(used, rel=1e-6, abs=1e-2)
    assert all(0 <= each <= 1 for each in figures["utilisation"]["series"]["used"])
    assert figures["utilisation"]["peak"] <= 1
    wasted = figures["preemptions"]["work_lost_device_s"] + figures["preemptions"]["saving_device_s"]
    ended_s = math.fsum(
        record.job.duration_s * record.job.spec.workers_max * record.job.spec.alternatives[0].devices
        for record in done.journal.jobs
        if record.became is Became.SUCCEEDED
    )
    if "ended_at_limit" not in done.words():
        assert used == pytest.approx(ended_s + wasted, rel=1e-6, abs=1e-2)
    assert done.journal.waits == [] or sum(jobs for _, jobs, _ in done.journal.waits) == 0
    assert not done.replay.site.cluster.holders


@settings(max_examples=15, deadline=None)
@given(st.lists(_JOB, min_size=1, max_size=14))
def test_equal_inputs_give_equal_answers(jobs: list[dict[str, object]]) -> None:
    assert _table(jobs).run().figures == _table(jobs).run().figures


@settings(max_examples=30, deadline=None)
@given(st.lists(_JOB, min_size=1, max_size=20))
def test_passes_that_are_left_out_would_have_changed_nothing(jobs: list[dict[str, object]]) -> None:
    class EveryPass(Replay):
        def _is_behind_its_like(self, job_id: str) -> bool:
            return False

    table = _table(jobs)
    sparing = table.run()
    replay = EveryPass(table.nodes, table.policy, sparing.replay.workload, lambda facts: 0, table.settings)
    thorough = replay.run()
    assert thorough.passes >= sparing.journal.passes
    assert [(r.first_start_s, r.ended_s, r.attempts) for r in thorough.jobs] == [
        (r.first_start_s, r.ended_s, r.attempts) for r in sparing.journal.jobs
    ]


# ---- as the service does ---------------------------------------------------------------------------------------------


def _live_starts(table: ReplayTable) -> list[tuple[float, str, int, tuple[str, ...]]]:
    """(Time, job, attempt, nodes) of every start that the whole live service makes of the same work."""
    policy = Policy(min_run_before_preemption_s=0.0)
    world = World(*(node_facts(f"n{i}", 4) for i in range(2)), policy=policy, half_life_s=7 * 86_400.0)
    begin_s = world.clock.now_s()
    jobs = sorted(table.jobs, key=lambda job: job.submit_s)
    seen: list[tuple[float, str, int, tuple[str, ...]]] = []
    ends: dict[str, tuple[int, float]] = {}
    ids: list[str] = []

    def note() -> None:
        now_s = world.clock.now_s() - begin_s
        for job_id in ids:
            job = world.job(job_id)
            if job.state.kind == "running" and ends.get(job_id, (0, 0.0))[0] != job.attempts:
                nodes = tuple(sorted(run.placement.node for run in job.state.workers))  # type: ignore[union-attr]
                seen.append((now_s, job_id, job.attempts, nodes))
                ends[job_id] = (job.attempts, now_s + jobs[int(job_id) - 1].duration_s)

    while len(ids) < len(jobs) or ends:
        now_s = world.clock.now_s() - begin_s
        due = [job for job in jobs[len(ids) :] if job.submit_s <= now_s]
        over = [i for i, (attempt, at_s) in ends.items() if at_s <= now_s and world.job(i).attempts == attempt]
        for job_id in over:
            if world.words(job_id) == "running":
                for worker in range(jobs[int(job_id) - 1].spec.workers_max):
                    world.engine.exit(job_id, worker=worker)
            del ends[job_id]
        if due:
            ids += [view["id"] for view in world.service.submit([job.spec for job in due], OPERATOR)["jobs"]]
        world.run()
        note()
        world.pass_time(1.0)
        assert now_s < 5_000, "the service does not end"
    return seen


def test_the_live_service_makes_the_same_starts_at_the_same_times_and_places() -> None:
    table = (
        replaying(nodes=2, devices=4)
        .job(0, 60, devices=3, name="normal", tenant="studio")
        .job(1, 40, devices=4, name="best-effort", tenant="hospital")
        .job(3, 30, devices=4, workers=2, name="normal", tenant="hospital")
        .job(5, 20, devices=1, name="best-effort", tenant="studio", limit=25)
        .job(7, 15, devices=2, name="urgent", tenant="studio")
        .job(9, 10, devices=4, name="urgent", tenant="hospital")
        .job(11, 25, devices=2, name="normal", tenant="studio")
        .job(11, 25, devices=2, name="normal", tenant="hospital")
    )
    done = table.run()
    assert done.words().split() == ["succeeded"] * 8
    assert len(done.placed) > 8, "nobody was preempted and started again"
    # What starts at one moment has no order among itself.
    assert sorted(_live_starts(table)) == sorted(done.placed)
