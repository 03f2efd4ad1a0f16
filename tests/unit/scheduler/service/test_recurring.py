"""Jobs that are submitted again and again: each time once, whatever is killed, and none that nobody wants."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.jobs import JobSpec, Misfire, Recurrence
from scheduler.errors import BadInput, Conflict, Forbidden, NotFound, Overloaded, Unavailable
from scheduler.ports import Schedule
from scheduler.service.outcome import JobsSubmitted, UnscheduleRequested
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, VIEWER, Make, World, spec

DAY_S = 86_400.0


def at(text: str, zone: str = "Asia/Shanghai") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def nightly(cron: str = "0 2 * * *", *, misfire: str = "once", zone: str = "Asia/Shanghai", **given: Any) -> JobSpec:
    given.setdefault("time_limit_s", 30 * DAY_S)
    return spec(name="nightly", schedule=Recurrence(cron, zone, Misfire(misfire)), **given)


@pytest.fixture
def night(make: Make) -> World:
    """A service at one in the morning, an hour before the time of `nightly`."""
    return set_clock(make(), "2026-11-28 01:00")


def set_clock(world: World, text: str) -> World:
    """While no service runs, as if the machine were started then."""
    world.kill_service()
    world.clock.time_s = at(text)
    return world.start_service().run()


def make_one(world: World, wanted: JobSpec | None = None, by: Any = STUDIO) -> dict[str, Any]:
    answer = world.service.submit([wanted or nightly()], by)
    assert answer["jobs"] == []
    return answer["schedules"][0]


def wait_until(world: World, text: str) -> World:
    """Nodes are not asked what becomes of a lease meanwhile: the service renews it first."""
    world.clock.time_s = at(text)
    return world.run()


def jobs(world: World) -> list[str]:
    return sorted(world.store.kept.jobs, key=lambda job_id: [int(part) for part in job_id.split(".")])


def kept(world: World) -> Schedule:
    (found,) = world.store.schedules()
    return found


def end_all(world: World) -> World:
    for key in world.engine.live():
        world.engine.end(key, "exit", 0)
    return world.run()


# ---- the times ---------------------------------------------------------------------------------------------------


def test_it_is_submitted_at_its_time_every_night(night: World) -> None:
    view = make_one(night)
    assert (view["state"], view["next_s"], view["runs"]) == ("active", at("2026-11-28 02:00"), 0)
    assert jobs(night) == []
    wait_until(night, "2026-11-28 01:59:59")
    assert jobs(night) == []
    wait_until(night, "2026-11-28 02:00:00")
    assert (jobs(night), night.words("1")) == (["1"], "running")
    (submitted, *_) = night.store.job_events("1")
    assert submitted.detail == {"by": "schedule nightly", "due_s": at("2026-11-28 02:00")}
    assert night.job("1").spec == replace(nightly(), schedule=None)
    end_all(night)
    wait_until(night, "2026-11-29 02:00")
    assert (jobs(night), night.words("1", "2")) == (["1", "2"], "succeeded running")
    found = night.service.schedule("nightly", STUDIO, tenant=None)
    assert (found["runs"], found["last_job"], found["last_is_live"]) == (2, "2", True)
    assert found["upcoming_s"][:2] == [at("2026-11-30 02:00"), at("2026-12-01 02:00")]
    assert kept(night).next_s == at("2026-11-30 02:00")


def test_a_time_is_left_out_while_the_last_job_has_not_ended(night: World) -> None:
    make_one(night, nightly(devices=4))
    blocker = night.one(devices=4, time_limit_s=30 * DAY_S)
    wait_until(night, "2026-11-28 02:00")
    assert night.words("2") == "pending"
    wait_until(night, "2026-11-29 02:00")
    assert jobs(night) == [blocker, "2"]
    (view,) = night.service.schedules(OPERATOR)["schedules"]
    assert (view["runs"], view["skips"], view["skipped_s"]) == (1, 1, at("2026-11-29 02:00"))
    assert view["skipped_why"] == "job 2, the last one, had not ended"
    assert kept(night).next_s == at("2026-11-30 02:00")
    night.service.cancel_jobs([blocker, "2"], OPERATOR, reason="")
    night.run()
    wait_until(night, "2026-11-30 02:00")
    assert jobs(night) == [blocker, "2", "3"]


def test_an_array_has_not_ended_before_its_last_task(night: World) -> None:
    make_one(night, nightly(array_size=3))
    wait_until(night, "2026-11-28 02:00")
    assert jobs(night) == ["1.0", "1.1", "1.2"]
    night.engine.exit("1.0")
    night.engine.exit("1.1")
    wait_until(night, "2026-11-29 02:00")
    assert len(jobs(night)) == 3
    end_all(night)
    wait_until(night, "2026-11-30 02:00")
    assert jobs(night)[3:] == ["2.0", "2.1", "2.2"]


@pytest.mark.parametrize(("misfire", "ran"), [("once", 1), ("skip", 0)])
def test_times_that_passed_while_the_service_was_away(night: World, misfire: str, ran: int) -> None:
    make_one(night, nightly(misfire=misfire))
    set_clock(night, "2026-12-01 09:30")  # three nights later
    assert len(jobs(night)) == ran
    found = kept(night)
    assert (found.next_s, found.runs, found.skips) == (at("2026-12-02 02:00"), ran, 1 - ran)
    if misfire == "skip":
        assert found.skipped_why.startswith("nobody was there to submit it in time")
    end_all(night)
    wait_until(night, "2026-12-02 02:00")
    assert len(jobs(night)) == ran + 1


def test_a_restart_at_the_time_itself_misses_nothing(night: World) -> None:
    make_one(night, nightly(misfire="skip"))
    set_clock(night, "2026-11-28 02:00:40")
    assert jobs(night) == ["1"]


def test_a_clock_that_was_set_back_does_not_bring_a_time_back(night: World) -> None:
    make_one(night)
    wait_until(night, "2026-11-28 02:00")
    end_all(night)
    set_clock(night, "2026-11-27 12:00")
    wait_until(night, "2026-11-28 02:00:30")
    assert jobs(night) == ["1"]


def test_nights_on_which_clocks_are_set(make: Make) -> None:
    """In Berlin 02:30 does not come on 29 March 2026, and comes twice on 25 October."""
    world = make()
    for start, nights in (("2026-03-27 12:00", 4), ("2026-10-23 12:00", 4)):
        set_clock(world, start)
        made = make_one(world, nightly("30 2 * * *", zone="Europe/Berlin"))
        before = len(jobs(world))
        for _ in range(nights * 24):
            world.clock.advance(3_600.0)
            world.engine.tick()
            end_all(world.run())
        assert len(jobs(world)) - before == nights, start
        world.service.delete_schedule(made["name"], OPERATOR, tenant=None)


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_a_job_that_can_never_run_is_refused_when_it_is_scheduled(night: World) -> None:
    with pytest.raises(BadInput, match="this cluster can never take"):
        make_one(night, nightly(devices=99))
    with pytest.raises(BadInput, match="never comes"):
        make_one(night, nightly("0 0 31 2 *"))
    with pytest.raises(BadInput, match="by itself"):
        night.service.submit([nightly(), spec()], STUDIO)
    with pytest.raises(Forbidden):
        make_one(night, nightly(tenant="hospital"))
    with pytest.raises(Forbidden):
        make_one(night, by=VIEWER)
    assert night.store.schedules() == []


def test_a_full_queue_refuses_no_schedule_but_a_submission_of_it(make: Make) -> None:
    world = set_clock(make(max_live_jobs=1), "2026-11-28 01:00")
    blocker = world.one(time_limit_s=30 * DAY_S)
    make_one(world)
    wait_until(world, "2026-11-28 02:00")
    assert jobs(world) == [blocker]
    assert kept(world).skipped_why.startswith("it was refused: 1 jobs are waiting or running and at most 1 may be")
    with pytest.raises(Overloaded):
        world.service.submit([spec()], STUDIO)
    end_all(world)
    wait_until(world, "2026-11-29 02:00")
    assert len(jobs(world)) == 2


@pytest.mark.parametrize("limit", ["site", "tenant"])
def test_those_that_are_due_at_once_count_for_each_other(make: Make, limit: str) -> None:
    world = make(max_live_jobs=2) if limit == "site" else make()
    if limit == "tenant":
        world.policy = Policy(tenants={"studio": TenantPolicy(max_queued_jobs=2)})
    set_clock(world, "2026-11-28 01:00")
    for name in ("a", "b", "c"):
        make_one(world, replace(nightly(devices=4), name=name))
    wait_until(world, "2026-11-28 02:00")
    found = world.store.schedules()
    assert (len(jobs(world)), sum(each.runs for each in found), sum(each.skips for each in found)) == (2, 2, 1)
    (why,) = {each.skipped_why for each in found} - {""}
    assert why.startswith("it was refused: ")


def test_a_tenant_that_is_not_there_any_more_gets_nothing(make: Make) -> None:
    world = set_clock(make(), "2026-11-28 01:00")
    make_one(world)
    world.policy = Policy(tenants={"hospital": TenantPolicy()})
    world.restart()
    wait_until(world, "2026-11-28 02:00")
    assert (jobs(world), kept(world).skipped_why) == ([], "there is no tenant studio any more")


def test_names_are_each_tenants_own(night: World) -> None:
    make_one(night)
    with pytest.raises(Conflict, match="tenant studio has a schedule nightly already"):
        make_one(night)
    make_one(night, nightly(tenant="hospital"), by=HOSPITAL)
    assert [view["tenant"] for view in night.service.schedules(STUDIO)["schedules"]] == ["studio"]
    assert len(night.service.schedules(OPERATOR)["schedules"]) == 2
    with pytest.raises(Conflict, match="tenants hospital, studio have a schedule nightly each: say whose"):
        night.service.pause_schedule("nightly", OPERATOR, tenant=None, reason="r")
    assert night.service.schedule("nightly", OPERATOR, tenant="hospital")["by"] == "zhao"
    assert night.service.schedule("nightly", HOSPITAL, tenant=None)["by"] == "zhao"
    with pytest.raises(Forbidden):
        night.service.schedule("nightly", STUDIO, tenant="hospital")
    with pytest.raises(NotFound, match="there is no schedule other; there are: nightly"):
        night.service.schedule("other", STUDIO, tenant=None)


# ---- pause, resume, delete ---------------------------------------------------------------------------------------


def test_a_paused_schedule_lets_its_times_pass_also_over_a_restart(night: World) -> None:
    make_one(night)
    view = night.service.pause_schedule("nightly", STUDIO, tenant=None, reason="new fans")
    assert (view["state"], view["next_s"], view["paused"]["reason"]) == ("paused", None, "new fans")
    wait_until(night, "2026-11-28 03:00").restart()
    wait_until(night, "2026-11-29 03:00")
    assert jobs(night) == []
    detail = night.service.schedule("nightly", STUDIO, tenant=None)
    assert (detail["state"], detail["upcoming_s"][0]) == ("paused", at("2026-11-30 02:00"))
    view = night.service.resume_schedule("nightly", STUDIO, tenant=None)
    assert (view["state"], view["next_s"]) == ("active", at("2026-11-30 02:00"))
    assert jobs(night) == []  # nothing is made up for
    with pytest.raises(Conflict, match="not paused"):
        night.service.resume_schedule("nightly", STUDIO, tenant=None)
    wait_until(night, "2026-11-30 02:00")
    assert jobs(night) == ["1"]


def test_what_an_operator_pauses_a_tenant_neither_resumes_nor_replaces(night: World) -> None:
    make_one(night)
    night.service.pause_schedule("nightly", OPERATOR, tenant=None, reason="the site is moving")
    for change in (
        lambda: night.service.resume_schedule("nightly", STUDIO, tenant=None),
        lambda: night.service.pause_schedule("nightly", STUDIO, tenant=None, reason="mine"),
        lambda: night.service.delete_schedule("nightly", STUDIO, tenant=None),
    ):
        with pytest.raises(Forbidden, match=r"paused by the operator wang \(the site is moving\)"):
            change()
    night.service.resume_schedule("nightly", OPERATOR, tenant=None)


def test_a_deleted_schedule_is_gone_and_its_job_goes_on(night: World) -> None:
    make_one(night)
    wait_until(night, "2026-11-28 02:00")
    was = night.service.delete_schedule("nightly", STUDIO, tenant=None)
    assert (was["last_job"], was["last_is_live"]) == ("1", True)
    night.restart()
    wait_until(night, "2026-11-29 02:00")
    assert (night.store.schedules(), jobs(night), night.words("1")) == ([], ["1"], "running")
    make_one(night)  # under the same name
    wait_until(night, "2026-11-30 02:00")
    assert jobs(night) == ["1", "2"]


def test_a_site_that_is_being_taken_down_submits_nothing(night: World) -> None:
    make_one(night)
    night.service.close_down(OPERATOR)
    wait_until(night, "2026-11-28 02:00")
    assert jobs(night) == []
    night.restart()
    assert jobs(night) == ["1"]


# ---- whatever is killed ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As kill -9: nothing catches it."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["submit_scheduled", "commit"])
def test_a_service_killed_around_the_write_submits_once(night: World, what: str, when: str) -> None:
    make_one(night, nightly(array_size=2))

    def kill(write: str) -> None:
        if write == what:
            raise Killed(write)

    if when == "before":
        night.store.before_write = kill
    else:
        night.store.after_write = kill
    with pytest.raises(Killed):
        wait_until(night, "2026-11-28 02:00")
    night.store.before_write = night.store.after_write = None
    night.restart()
    assert jobs(night) == ["1.0", "1.1"]
    assert night.words("1.0", "1.1") == "running running"
    assert (kept(night).runs, kept(night).last_job) == (1, "1")
    night.restart()
    wait_until(night, "2026-11-28 12:00")
    assert len(jobs(night)) == 2


def test_a_store_that_takes_nothing_is_waited_for_and_takes_it_once(night: World) -> None:
    make_one(night, nightly(misfire="skip"))
    night.store.full = True
    wait_until(night, "2026-11-28 02:00")
    assert night.service.loop.store_error is not None
    wait_until(night, "2026-11-28 02:30")  # decided in time, so that it is no misfire
    night.store.full = False
    night.run()
    assert (jobs(night), night.words("1")) == (["1"], "running")
    assert kept(night).last_s == at("2026-11-28 02:00")


def test_a_write_that_was_kept_without_a_word_is_not_repeated(night: World) -> None:
    """The store took it and the answer was lost: asked again it says what it has taken."""
    make_one(night)
    lost = [True]

    def lose(write: str) -> None:
        if write == "submit_scheduled" and lost:
            lost.clear()
            raise Unavailable("the connection broke")

    night.store.after_write = lose
    wait_until(night, "2026-11-28 02:00")
    night.store.after_write = None
    night.run()
    assert (jobs(night), night.words("1")) == (["1"], "running")
    assert night.service.schedule("nightly", STUDIO, tenant=None)["last_job"] == "1"


def test_a_batch_that_is_written_again_still_knows_what_it_submitted(night: World) -> None:
    """The schedule was deleted in the same batch, and the commit after both failed at first."""
    make_one(night)
    other = night.one()
    failures = [True]

    def fail(write: str) -> None:
        if write == "commit" and failures:
            failures.clear()
            raise Unavailable("the disk is full")

    night.store.before_write = fail
    night.clock.time_s = at("2026-11-28 02:00")
    night.engine.exit(other)
    with pytest.raises(Unavailable, match="carried out when the store is back"):
        night.service.loop.request(UnscheduleRequested(("studio", "nightly"), by_operator=True))
    night.run()
    assert (night.words(other, "2"), night.store.schedules()) == ("succeeded running", [])


def test_two_services_submit_once_between_them(night: World) -> None:
    make_one(night)
    old = night.service
    night.start_service()
    night.clock.time_s = at("2026-11-28 02:00")
    old.loop.run_once()
    night.run()
    assert jobs(night) == ["1"]
    assert old.loop.store_error is not None


def test_a_job_of_a_schedule_is_heard_of_before_whatever_was_submitted_after_it(night: World) -> None:
    """Otherwise one that runs after it would fail: the store knows its number before the loop does."""
    make_one(night)
    real = night.store.submit_scheduled

    def with_another_behind_it(due: Schedule, next_s: float | None, *, at_s: float) -> Any:
        submitted = real(due, next_s, at_s=at_s)
        (later,) = night.store.submit([spec(after=("1",))], at_s=at_s, by="li")
        night.service.loop.post(JobsSubmitted((later,)), force=True)
        return submitted

    night.store.submit_scheduled = with_another_behind_it  # type: ignore[method-assign]
    wait_until(night, "2026-11-28 02:00")
    assert night.words("1", "2") == "running pending"
    assert night.view("2")["reason"]["text"] == "waits for job 1"
