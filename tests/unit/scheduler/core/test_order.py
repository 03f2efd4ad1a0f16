"""Whose turn it is: class, then who waits too long, then fair share, then deadline, then submission."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.decisions import PendingJob, Policy, TenantPolicy
from scheduler.core.demand import Demand
from scheduler.core.order import Line, in_order, is_starved
from scheduler.core.waiting import Kind, WaitingLine

NOW_S = 1_000.0
STARVED_S = 100.0  # submitted before 900: starved
POLICY = Policy(starve_after_s=STARVED_S, tenants={"heavy": TenantPolicy(weight=4.0)})


def job(
    job_id: str,
    seq: int = 0,
    *,
    tenant: str = "t",
    priority: int = 0,
    ago: float = 10.0,
    due: float | None = None,
    devices: int = 1,
    simulated: bool = False,
) -> PendingJob:
    return PendingJob(
        job_id=job_id,
        seq=seq,
        tenant=tenant,
        priority=priority,
        submitted_s=NOW_S - ago,
        workers_min=1,
        workers_max=1,
        alternatives=(Demand(devices=devices, simulated=simulated),),
        time_limit_s=60.0,
        deadline_s=due,
    )


def line_of(*jobs: PendingJob, usage: dict[str, float] | None = None, held: dict[str, float] | None = None) -> Line:
    return Line(WaitingLine(jobs), POLICY, usage or {}, held or {}, NOW_S)


def walked(line: Line, **share: float) -> str:
    """The ids in the order they are named; every job starts with the share given for its tenant, or else waits."""
    ids = []
    while (named := line.next()) is not None:
        ids.append(named[0].job_id)
        if named[0].tenant in share:
            line.started(named[0], share[named[0].tenant])
        else:
            line.passed(named[0])
    return " ".join(ids)


# ---- each factor, and which goes before which --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "order"),
    [
        ([job("b", 2), job("a", 1)], "a b"),
        ([job("low", 1), job("high", 2, priority=5)], "high low"),
        ([job("low", 1, ago=1e6), job("high", 2, priority=5)], "high low"),  # no age passes a class
        ([job("greedy", 1, tenant="g"), job("modest", 2, tenant="m")], "modest greedy"),
        ([job("greedy", 1, tenant="g", ago=101.0), job("modest", 2, tenant="m")], "greedy modest"),  # starved
        ([job("greedy", 1, tenant="g", ago=100.0), job("modest", 2, tenant="m")], "modest greedy"),  # not yet
        ([job("late", 1, tenant="m", ago=150), job("later", 2, tenant="g", ago=200)], "later late"),
        ([job("due", 2, ago=150, due=1.0), job("old", 1, ago=200)], "old due"),  # a deadline does not pass the starved
        ([job("first", 1), job("due", 2, due=5_000.0), job("sooner", 3, due=4_000.0)], "sooner due first"),
        ([job("due", 1, tenant="g", due=1.0), job("share", 2, tenant="m")], "share due"),
        ([job("a", 1, tenant="x"), job("b", 2, tenant="m"), job("c", 3, tenant="x")], "a b c"),  # level accounts mix
        ([job("real", 1, tenant="s"), job("sim", 2, tenant="s", simulated=True), job("m", 3)], "real m sim"),
    ],
)
def test_order(jobs: list[PendingJob], order: str) -> None:
    usage = {"g": 0.5, "s/simulated": 0.9}
    assert " ".join(j.job_id for j in in_order(jobs, POLICY, usage, {}, NOW_S)) == order
    assert walked(line_of(*jobs, usage=usage)) == order


def test_standing_is_use_over_weight_and_what_is_held_counts_as_much_as_the_past() -> None:
    jobs = [job("h", 1, tenant="heavy"), job("p", 2, tenant="past"), job("n", 3, tenant="now"), job("z", 4, tenant="z")]
    usage, held = {"heavy": 0.8, "past": 0.3, "z": 0.1}, {"now": 0.25, "z": 0.1}
    # heavy: 0.8 / 2 / 4 = 0.1; past: 0.15; now: 0.125; z: 0.1, submitted after heavy
    assert [j.job_id for j in in_order(jobs, POLICY, usage, held, NOW_S)] == ["h", "z", "n", "p"]
    assert walked(line_of(*jobs, usage=usage, held=held)) == "h z n p"


def test_without_facts_it_is_class_and_submission() -> None:
    assert [j.job_id for j in in_order([job("a", 2), job("b", 1, ago=1e9), job("c", 3, priority=1)])] == ["c", "b", "a"]
    assert in_order([]) == []
    assert line_of().next() is None


# ---- starts count at once ----------------------------------------------------------------------------------------


def test_tenants_take_turns_within_a_pass() -> None:
    jobs = [job(f"{tenant}{i}", 10 * n + i, tenant=tenant) for n, tenant in enumerate("ab") for i in range(3)]
    assert walked(line_of(*jobs), a=0.1, b=0.1) == "a0 b0 a1 b1 a2 b2"
    assert walked(line_of(*jobs), a=0.1, b=0.05) == "a0 b0 b1 a1 b2 a2"


def test_a_heavier_tenant_gets_more_turns() -> None:
    jobs = [job(f"{tenant[0]}{i}", i, tenant=tenant) for tenant in ("heavy", "light") for i in range(8)]
    assert walked(line_of(*jobs), heavy=0.125, light=0.125).startswith("h0 l0 h1 h2 h3 l1 h4 h5 h6 h7 l2 ")


def test_what_starts_in_a_higher_class_or_because_it_starved_counts_in_the_class_below() -> None:
    jobs = [job("a9", 1, tenant="a", priority=9), job("a", 2, tenant="a"), job("b", 3, tenant="b")]
    assert walked(line_of(*jobs), a=0.1) == "a9 b a"
    jobs = [job("old", 1, tenant="a", ago=500), job("a", 2, tenant="a"), job("b", 3, tenant="b")]
    assert walked(line_of(*jobs), a=0.1) == "old b a"


# ---- what a walk is told -----------------------------------------------------------------------------------------


def test_of_a_blocked_kind_no_more_is_named() -> None:
    jobs = [job(f"a{i}", i, ago=500 if i < 3 else 5) for i in range(9)] + [job("wide", 99, devices=8)]
    line = line_of(*jobs)
    named = line.next()
    assert named is not None
    line.blocked(named[1])
    assert walked(line) == "wide"


def test_a_pass_over_a_full_cluster_asks_for_one_job_a_kind() -> None:
    jobs = [job(str(i), i, devices=1 + i % 5, tenant="tu"[i % 2], ago=i % 200) for i in range(1000)]
    waiting = WaitingLine(jobs)
    line, seen = Line(waiting, POLICY, {}, {}, NOW_S), []
    while (named := line.next()) is not None:
        seen.append(named[1])
        line.blocked(named[1])
    assert len(seen) == len(set(seen)) == len(list(waiting.kinds())) == 10


def test_each_job_named_needs_an_answer_about_itself() -> None:
    line = line_of(job("a", 1), job("b", 2), job("c", 3, devices=2))
    named = line.next()
    assert named is not None
    with pytest.raises(AssertionError, match="what became of"):
        line.next()
    with pytest.raises(AssertionError, match="job a was named last, not b"):
        line.started(job("b", 2), 0.1)
    line.passed(named[0])
    with pytest.raises(AssertionError, match="nothing was named"):
        line.passed(named[0])
    with pytest.raises(AssertionError, match="was not named last"):
        line.blocked(named[1])


# ---- the walk is the order ---------------------------------------------------------------------------------------


def random_jobs(rng: random.Random, count: int) -> list[PendingJob]:
    jobs = [
        job(
            str(i),
            i,
            tenant=rng.choice(["t", "u", "heavy"]),
            priority=rng.choice([0, 0, 5]),
            ago=float(rng.choice([10, 50, 100, 101, 150, rng.randrange(300)])),
            due=rng.choice([None, None, 2_000.0, 3_000.0]),
            devices=rng.choice([1, 2]),
            simulated=rng.random() < 0.2,
        )
        for i in range(count)
    ]
    rng.shuffle(jobs)
    return jobs


ACCOUNTS = ["t", "u", "heavy", "t/simulated", "u/simulated", "heavy/simulated"]


def random_shares(rng: random.Random) -> dict[str, float]:
    return {name: rng.choice([0.0, 0.25, 0.5, rng.random()]) for name in ACCOUNTS if rng.random() < 0.7}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 60))
def test_where_nothing_starts_the_walk_is_the_order(seed: int, count: int) -> None:
    rng = random.Random(seed)
    jobs, usage, held = random_jobs(rng, count), random_shares(rng), random_shares(rng)
    expected = [j.job_id for j in in_order(jobs, POLICY, usage, held, NOW_S)]
    assert walked(line_of(*jobs, usage=usage, held=held)).split() == expected


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40))
def test_each_job_named_is_the_first_in_order_of_those_left(seed: int, count: int) -> None:
    """Whatever starts, passes or blocks on the way: the order is recomputed from scratch at each step."""
    rng = random.Random(seed)
    jobs, usage, held = random_jobs(rng, count), random_shares(rng), random_shares(rng)
    owed = [*rng.sample([j.job_id for j in jobs], min(count, rng.choice([0, 0, 3]))), "gone"]
    waiting = WaitingLine(jobs)
    line = Line(waiting, POLICY, usage, held, NOW_S, owed)
    left = {j.job_id: j for j in jobs}
    kind: Kind
    while (named := line.next()) is not None:
        found, kind = named
        # Who waits too long, and the class, are not undone by a start: only what is left is ordered anew.
        assert found is in_order(left.values(), POLICY, usage, held, NOW_S, owed)[0]
        assert kind is waiting.kind_of(found.job_id)
        del left[found.job_id]
        match rng.randrange(3):
            case 0:
                share = rng.choice([0.0, 0.25, rng.random()])
                held[kind.account] = held.get(kind.account, 0.0) + share
                line.started(found, share)
            case 1:
                line.passed(found)
            case _:
                line.blocked(kind)
                left = {job_id: j for job_id, j in left.items() if waiting.kind_of(job_id) is not kind}
    assert not left


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nobody_waits_for_ever_behind_those_who_come_later(seed: int) -> None:
    """Once a job is starved, only jobs of a higher class and older starved ones are before it."""
    jobs = random_jobs(random.Random(seed), 40)
    ordered = in_order(jobs, POLICY, random_shares(random.Random(seed)), {}, NOW_S)
    for i, starved in enumerate(ordered):
        if is_starved(starved, POLICY, NOW_S):
            for before in ordered[:i]:
                assert before.priority > starved.priority or before.submitted_s <= starved.submitted_s
