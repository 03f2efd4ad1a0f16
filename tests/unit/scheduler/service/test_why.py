"""The text of `suanli why`: what a person is told beside the reason, and what is left out as it is beside the point."""

from __future__ import annotations

import pytest

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.core.demand import Demand
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, spec

MINUTE = 60.0


def text(world: World, job: str) -> str:
    said = world.service.why(job, OPERATOR)["text"]
    assert isinstance(said, str)
    return said


def line(world: World, job: str, word: str) -> str:
    """The one that begins with this word; nothing where there is none."""
    found = [line for line in text(world, job).splitlines() if line.split()[:1] == word.split()[:1]]
    return found[0].removeprefix(f"  {word:<13} ") if found else ""


@pytest.mark.parametrize(
    ("deadline", "limit", "said"),
    [
        (120, 50, "in 2 h"),
        (60, 50, "in 1 h; will miss its deadline by 20 min, if it takes all of its time limit"),
        (20, 50, "in 20 min; will miss its deadline by 1 h"),
        (79, 49.5, "in 1 h 19 min; will miss its deadline by 30 s, if it takes all of its time limit"),
    ],
)
def test_a_deadline_that_will_be_missed(world: World, deadline: float, limit: float, said: str) -> None:
    world.one(devices=4, time_limit_s=30 * MINUTE)
    job = world.one(devices=4, time_limit_s=limit * MINUTE, deadline_after_s=deadline * MINUTE)
    assert line(world, job, "deadline") == said


def test_a_deadline_of_which_nobody_can_tell(world: World) -> None:
    world.one(devices=4, time_limit_s=None)
    assert line(world, world.one(devices=4, deadline_after_s=60.0), "deadline") == "in 60 s"


def test_a_running_job_says_its_share_its_deadline_and_that_it_had_to_make_room(world: World) -> None:
    low = world.one(alternatives=(Demand(devices=0, share_milli=250),), priority=0, deadline_after_s=10 * MINUTE)
    assert "preempted" not in text(world, low)
    high = world.one(devices=4, priority=90)
    world.engine.exit(high)
    said = text(world.run(), low)
    assert world.words(low) == "running"
    assert "worker 0 on n1, devices 0 (0.25 of it): " in said
    assert "  preempted     once" in said
    assert "  deadline      in 10 min; will miss its deadline by 50 min, if it takes all of its time limit" in said


def test_a_job_that_waits_for_others_says_when_they_are_over(world: World) -> None:
    bounded, unbounded = world.one(name="prep", time_limit_s=20 * MINUTE), world.one(name="serve", time_limit_s=None)
    queued = world.one(name="next", devices=3, time_limit_s=None)
    likely = world.one(name="big", devices=3, time_limit_s=10 * MINUTE)
    after = world.one(after=(bounded, unbounded, queued, likely))
    world.pass_time(5 * MINUTE)
    lines = text(world, after).splitlines()
    at = lines.index(f"  waits for     job {bounded}, {unbounded}, {queued}, {likely}")
    assert [line.strip() for line in lines[at + 1 : at + 5]] == [
        f"{bounded} (prep, normal) is running, over in 15 min by time limits",
        f"{unbounded} (serve, normal) is running, and no time limit bounds it",
        f"{queued} (next, normal) is pending, and when it is over is not known",
        f"{likely} (big, normal) is pending, and when it is over is not known",
    ]


def test_a_job_that_waits_for_one_that_waits_itself(world: World) -> None:
    world.one(devices=4, time_limit_s=20 * MINUTE)
    queued = world.one(devices=4, time_limit_s=10 * MINUTE)
    assert f"{queued} (job, normal) is pending, over in 30 min by time limits" in text(
        world, world.one(after=(queued,))
    )


@pytest.mark.parametrize(
    ("limits", "setting", "kind"),
    [
        (TenantPolicy(max_running_jobs=2), "limits.running_jobs", "job_limit_reached"),
        (TenantPolicy(maximum_milli=2_000), "quota.maximum", "quota_reached"),
    ],
)
def test_a_job_that_a_limit_of_its_tenant_keeps_out_says_what_would_help_and_no_more(
    make: Make, limits: TenantPolicy, setting: str, kind: str
) -> None:
    world = make(node_facts("n1", 4), policy=Policy(tenants={"studio": limits}))
    world.one(tenant="hospital")
    long, short = world.one(name="long", time_limit_s=None), world.one(name="short", time_limit_s=10 * MINUTE)
    job = world.one()
    assert world.view(job)["reason"]["kind"] == kind
    said = text(world, job)
    assert line(world, job, "try") == f"raise {setting} of tenant studio, or wait for one of its jobs to end"
    assert line(world, job, "its jobs") == f"job {short}, {long}"
    assert f"{short} (short, normal) is running, over in 10 min by time limits" in said
    assert f"{long} (long, normal) is running, and no time limit bounds it" in said
    assert ("  quota  " in said) == (kind == "quota_reached")
    for beside_the_point in ("  nodes", "in the way", "could start", "hospital"):
        assert beside_the_point not in said
    dry = world.service.dry_run(spec(), OPERATOR)
    assert dry["suggestions"] == [f"raise {setting} of tenant studio, or wait for one of its jobs to end"]


@pytest.mark.parametrize(
    ("backfill", "said"),
    [
        ("none", "behind job {} (backfill is off)"),
        ("easy", "would delay job {}, which is first for these devices"),
    ],
)
def test_a_job_that_nothing_lets_pass_says_so(make: Make, backfill: str, said: str) -> None:
    """It was told that it would delay the other, though it would not."""
    world = make(node_facts("n1", 4), policy=Policy(backfill=backfill))  # type: ignore[arg-type]
    world.one(devices=3, time_limit_s=60 * MINUTE)
    first = world.one(devices=4)
    behind = world.one(time_limit_s=MINUTE if backfill == "none" else 90 * MINUTE)
    expected = said.format(first)
    assert text(world, behind).splitlines()[0].endswith(f"is pending: {expected}")
    assert world.view(behind)["reason"]["text"] == expected
    assert world.service.why(behind, OPERATOR)["reason"]["text"] == expected
    assert world.service.dry_run(spec(time_limit_s=90 * MINUTE), OPERATOR)["reason"]["text"] == expected
