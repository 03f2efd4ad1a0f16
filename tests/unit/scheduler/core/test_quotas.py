"""What a tenant may hold, borrow, take back, and queue."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.decisions import PendingJob, Policy, RunningJob, TenantPolicy
from scheduler.core.demand import Demand, Placement
from scheduler.core.fair_share import NOTHING, Amount, Held, Totals, dominant_share
from scheduler.core.quotas import (
    QuotaLedger,
    allowed_workers,
    borrowed_milli,
    held_on,
    is_simulated,
    may_reclaim,
    submission_limit,
    wanted_milli,
    worker_milli,
)
from scheduler.core.reasons import JobLimitReached, QuotaReached

NO_TOTALS = Totals(NOTHING, NOTHING)


def waiting(
    devices: int | float = 1,
    workers: int | tuple[int, int] = 1,
    *,
    tenant: str = "t",
    simulated: bool = False,
    alternatives: tuple[Demand, ...] | None = None,
) -> PendingJob:
    """A share where `devices` is no whole number."""
    least, most = (workers, workers) if isinstance(workers, int) else workers
    whole = isinstance(devices, int)
    demand = Demand(
        devices=int(devices) if whole else 0, share_milli=0 if whole else round(1000 * devices), simulated=simulated
    )
    return PendingJob("j", 1, tenant, 0, 0.0, least, most, alternatives or (demand,), 60.0)


def placed(devices: int, workers: int = 1, share_milli: int = 0) -> tuple[Placement, ...]:
    return tuple(Placement(i, f"n{i}", tuple(range(devices)), share_milli, 1_000, 0, 0) for i in range(workers))


def running(job_id: str = "r", devices: int = 1, workers: int = 1, *, tenant: str = "t", **facts: object) -> RunningJob:
    return RunningJob(job_id, tenant, 0, 0.0, None, 0.0, placed(devices, workers), **facts)  # type: ignore[arg-type]


def policy(**limits: object) -> Policy:
    return Policy(tenants={"t": TenantPolicy(**limits)})  # type: ignore[arg-type]


# ---- the ledger --------------------------------------------------------------------------------------------------


def test_it_adds_up_by_tenant_and_by_real_or_simulated() -> None:
    ledger = QuotaLedger([running(devices=4, workers=2), running("s", 3, simulated=True), running("u", 1, tenant="u")])
    assert (ledger.used_milli("t", False), ledger.used_milli("t", True), ledger.used_milli("u", False)) == (
        8_000,
        3_000,
        1_000,
    )
    assert (ledger.jobs("t"), ledger.jobs("u"), ledger.jobs("nobody")) == (2, 1, 0)
    assert ledger.held("t", False) == Amount(8_000, 2_000, 0)
    assert ledger.held("nobody", True) == NOTHING


def test_shares_of_devices_count_in_thousandths() -> None:
    ledger = QuotaLedger([replace(running(), placements=placed(1, 3, share_milli=250))])
    assert ledger.used_milli("t", False) == 750


def test_dominant_shares_come_by_account() -> None:
    ledger = QuotaLedger([running(devices=4), running("s", 3, simulated=True), running("c", 0, 6, tenant="u")])
    totals = Totals(real=Amount(8_000, 12_000, 0), everything=Amount(12_000, 20_000, 0))
    assert ledger.shares(totals) == {"t": 0.5, "t/simulated": 0.25, "u": 0.5}


def test_more_of_what_does_not_dominate_raises_less() -> None:
    whole = Amount(8_000, 64_000, 0)
    totals = Totals(whole, whole)
    for more, rise in [((0, 40_000, 0), 0.0), ((1_000, 1_000, 0), 0.125), ((0, 48_000, 0), 0.125)]:
        ledger = QuotaLedger()
        assert ledger.start(waiting(1), (6_000, 8_000, 0), totals) == 0.75
        assert ledger.start(waiting(1), more, totals) == rise


held = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
amounts = st.builds(Amount, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))


@given(starts=st.lists(held, max_size=4), whole=amounts | st.just(NOTHING))
def test_what_a_start_raises_is_the_difference_of_dominant_shares(starts: list[Held], whole: Amount) -> None:
    ledger, totals = QuotaLedger(), Totals(whole, whole)
    for more in starts:
        before = dominant_share(ledger.held("t", False), whole)
        assert ledger.start(waiting(1), more, totals) == dominant_share(ledger.held("t", False), whole) - before
        assert ledger.shares(totals).get("t") == ledger.share("t", False, totals)


def test_what_never_ran_cannot_end() -> None:
    ledger = QuotaLedger([running()])
    with pytest.raises(AssertionError, match="never added"):
        ledger.remove(running("x", 2))


def test_a_pass_works_on_a_copy() -> None:
    ledger = QuotaLedger([running()])
    copy = ledger.copy()
    copy.start(waiting(2), held_on(placed(2)), NO_TOTALS)
    copy.promise(waiting(4))
    copy.evict(running())
    assert (ledger.used_milli("t", False), ledger.claimed_milli("t", False), ledger.jobs("t")) == (1_000, 1_000, 1)
    assert ledger.staying_milli("t", False) == 1_000
    assert (copy.used_milli("t", False), copy.claimed_milli("t", False), copy.jobs("t")) == (3_000, 7_000, 3)
    assert copy.staying_milli("t", False) == 2_000


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 80))
def test_it_is_what_adding_up_anew_gives(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    ledger, jobs = QuotaLedger(), dict[str, RunningJob]()
    for i in range(steps):
        if rng.random() < 0.6 or not jobs:
            facts = {"stopping": rng.random() < 0.3, "simulated": rng.random() < 0.3}
            jobs[str(i)] = running(str(i), rng.randrange(4), rng.randint(1, 3), tenant=rng.choice("tu"), **facts)
            ledger.add(jobs[str(i)])
        elif rng.random() < 0.5:
            ledger.remove(jobs.pop(rng.choice(list(jobs))))
        else:  # a job changes
            job_id = rng.choice(list(jobs))
            ledger.remove(jobs[job_id])
            jobs[job_id] = replace(jobs[job_id], stopping=not jobs[job_id].stopping, placements=placed(2))
            ledger.add(jobs[job_id])
    for tenant in "tu":
        mine = [job for job in jobs.values() if job.tenant == tenant]
        assert ledger.jobs(tenant) == len(mine)
        for simulated in (False, True):
            booked = [job for job in mine if job.simulated == simulated]
            assert ledger.used_milli(tenant, simulated) == sum(job.milli for job in booked)
            assert ledger.staying_milli(tenant, simulated) == sum(job.milli for job in booked if not job.stopping)
    for job in jobs.values():
        ledger.remove(job)
    assert ledger.shares(Totals(Amount(1, 1, 1), Amount(1, 1, 1))) == {}


# ---- what a job counts as ----------------------------------------------------------------------------------------


def test_the_largest_alternative_counts_and_any_simulated_one() -> None:
    mixed = (Demand(devices=2), Demand(devices=4, simulated=True), Demand(devices=0, share_milli=500))
    job = waiting(workers=(3, 9), alternatives=mixed)
    assert (worker_milli(mixed), wanted_milli(job), is_simulated(mixed)) == (4_000, 12_000, True)
    assert (worker_milli(()), is_simulated(())) == (0, False)
    assert not is_simulated((Demand(),))


# ---- maximum -----------------------------------------------------------------------------------------------------

# The tenant may hold 16 devices and holds 8.


@pytest.mark.parametrize(
    ("job", "allowed"),
    [
        (waiting(8), 1),
        (waiting(9), QuotaReached("t", 8_000, 16_000, 9_000)),
        (waiting(4, 2), 2),
        (waiting(4, 3), QuotaReached("t", 8_000, 16_000, 12_000)),
        (waiting(2, (1, 3)), 3),
        (waiting(2, (1, 9)), 4),  # an elastic job is cut down
        (waiting(3, (2, 9)), 2),
        (waiting(3, (3, 9)), QuotaReached("t", 8_000, 16_000, 9_000)),
        (waiting(0.5, (1, 99)), 16),
        (waiting(0, 99), 99),  # devices alone are counted
        (waiting(9, tenant="other"), 1),
        (waiting(16, simulated=True), 1),  # counted apart
        (waiting(17, simulated=True), QuotaReached("t", 0, 16_000, 17_000, simulated=True)),
        (waiting(alternatives=(Demand(devices=1), Demand(devices=9))), QuotaReached("t", 8_000, 16_000, 9_000)),
    ],
)
def test_no_more_than_the_maximum(job: PendingJob, allowed: object) -> None:
    assert allowed_workers(policy(maximum_milli=16_000), QuotaLedger([running(devices=8)]), job) == allowed


def test_where_the_maximum_was_lowered_nothing_more_starts() -> None:
    over = QuotaLedger([running(devices=8)])
    assert allowed_workers(policy(maximum_milli=4_000), over, waiting(1, (1, 4))) == QuotaReached(
        "t", 8_000, 4_000, 1_000
    )


def test_without_a_maximum_all_that_is_idle_may_be_borrowed() -> None:
    ledger = QuotaLedger([running(devices=8, workers=100)])
    assert allowed_workers(policy(guaranteed_milli=8_000), ledger, waiting(8, (1, 500))) == 500


def test_starts_and_promises_of_the_pass_count() -> None:
    ledger = QuotaLedger()
    settings_ = policy(maximum_milli=8_000)
    ledger.start(waiting(4), held_on(placed(4)), NO_TOTALS)
    assert allowed_workers(settings_, ledger, waiting(2, (1, 9))) == 2
    ledger.promise(waiting(3))
    assert allowed_workers(settings_, ledger, waiting(2)) == QuotaReached("t", 7_000, 8_000, 2_000)


def test_what_is_about_to_leave_is_still_held() -> None:
    ledger = QuotaLedger([running(devices=8, stopping=True)])
    assert isinstance(allowed_workers(policy(maximum_milli=8_000), ledger, waiting()), QuotaReached)


def test_no_more_jobs_at_a_time_than_allowed() -> None:
    ledger = QuotaLedger([running(), running("s", simulated=True)])
    assert allowed_workers(policy(max_running_jobs=3), ledger, waiting(0)) == 1
    ledger.promise(waiting(0))
    assert allowed_workers(policy(max_running_jobs=3), ledger, waiting(0)) == JobLimitReached("t", 3, 3)
    assert allowed_workers(policy(max_running_jobs=3), ledger, waiting(0, tenant="u")) == 1


# ---- borrowing and reclaim ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "guaranteed", "job", "may"),
    [
        (0, 8, waiting(8), True),
        (0, 8, waiting(9), False),
        (0, 8, waiting(4, (2, 9)), True),  # the smallest gang is what counts
        (4, 8, waiting(4), True),
        (4, 8, waiting(5), False),
        (0, 0, waiting(1), False),
        (0, 8, waiting(0), False),  # no devices, no guarantee
        (12, 8, waiting(0), False),
    ],
)
def test_a_job_reclaims_only_within_the_guarantee(held: int, guaranteed: int, job: PendingJob, may: bool) -> None:
    ledger = QuotaLedger([running(devices=held)])
    assert may_reclaim(policy(guaranteed_milli=1_000 * guaranteed), ledger, job) is may


def test_two_jobs_do_not_reclaim_the_same_guarantee() -> None:
    ledger, settings_ = QuotaLedger(), policy(guaranteed_milli=8_000)
    assert may_reclaim(settings_, ledger, waiting(8))
    ledger.promise(waiting(8))
    assert not may_reclaim(settings_, ledger, waiting(8))
    assert may_reclaim(settings_, ledger, waiting(8, simulated=True))


def test_borrowed_is_what_is_above_the_guarantee_and_stays() -> None:
    job = running(devices=6)
    ledger = QuotaLedger([job, running("s", 6), running("sim", 1, simulated=True)])
    settings_ = policy(guaranteed_milli=8_000)
    assert borrowed_milli(settings_, "t", False, ledger) == 4_000
    assert borrowed_milli(settings_, "t", True, ledger) == 0
    assert borrowed_milli(Policy(), "t", True, ledger) == 1_000  # without a guarantee all is borrowed
    ledger.evict(job)
    assert borrowed_milli(settings_, "t", False, ledger) == 0
    ledger.evict(replace(job, stopping=True))  # it was asked before: no second time
    assert ledger.staying_milli("t", False) == 6_000


def test_a_job_that_leaves_is_not_reclaimed_twice() -> None:
    """1: a borrower's 8 devices are reclaimed. 2: while it saves its work, the next pass must not take 8 more."""
    ledger = QuotaLedger([running("a", 8, stopping=True), running("b", 8)])
    assert borrowed_milli(policy(guaranteed_milli=8_000), "t", False, ledger) == 0


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=8), guaranteed=st.integers(0, 32), which=st.integers(0, 7)
)
def test_a_victim_of_reclaim_never_reclaims_in_turn(sizes: list[int], guaranteed: int, which: int) -> None:
    settings_ = policy(guaranteed_milli=1_000 * guaranteed)
    ledger = QuotaLedger(jobs := [running(str(i), size) for i, size in enumerate(sizes)])
    if borrowed_milli(settings_, "t", False, ledger) == 0:
        return
    victim = jobs[which % len(jobs)]
    ledger.remove(victim)
    assert not may_reclaim(settings_, ledger, waiting(len(victim.placements[0].devices)))


# ---- limits on what is queued ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "queued", "new", "says"),
    [
        ({}, (10**6, 10**9), (10**6, 10**9), None),
        ({"max_queued_jobs": 10}, (9, 0), (1, 0), None),
        (
            {"max_queued_jobs": 10},
            (8, 0),
            (3, 0),
            "8 of at most 10 jobs that wait, and this adds 3: submit at most 2 now",
        ),
        (
            {"max_queued_jobs": 10},
            (0, 0),
            (11, 0),
            "0 of at most 10 jobs that wait, and this adds 11: submit at most 10 a",
        ),
        ({"max_queued_jobs": 10}, (1, 0), (10, 0), "submit at most 9 now and the rest once others have started"),
        ({"max_queued_jobs": 10}, (10, 0), (1, 0), "10 of at most 10 jobs that wait, and this adds 1: wait until some"),
        ({"max_queued_jobs": 10}, (12, 0), (1, 0), "12 of at most 10 jobs that wait, and this adds 1: wait until some"),
        ({"max_queued_milli": 8_000}, (1, 4_000), (1, 4_000), None),
        (
            {"max_queued_milli": 8_000},
            (1, 7_500),
            (1, 750),
            "7.5 of at most 8 devices asked for by jobs that wait, and",
        ),
        ({"max_queued_milli": 8_000}, (1, 9_000), (1, 0), None),  # it asks for no device
        ({"max_queued_milli": 8_000, "max_queued_jobs": 1}, (1, 9_000), (1, 1), "the tenant's limits.queued_jobs"),
        ({"max_queued_milli": 8_000}, (1, 9_000), (1, 1), "raise the tenant's limits.queued_devices"),
    ],
)
def test_queues_are_bounded(
    limits: dict[str, int], queued: tuple[int, int], new: tuple[int, int], says: str | None
) -> None:
    answer = submission_limit(
        "film",
        TenantPolicy(**limits),  # type: ignore[arg-type]
        queued_jobs=queued[0],
        queued_milli=queued[1],
        new_jobs=new[0],
        new_milli=new[1],
    )
    if says is None:
        assert answer is None
    else:
        assert answer is not None
        assert answer.startswith("tenant film has ")
        assert says in answer


def test_a_refusal_says_which_devices() -> None:
    answer = submission_limit(
        "t",
        TenantPolicy(max_queued_milli=1_000),
        queued_jobs=0,
        queued_milli=0,
        new_jobs=1,
        new_milli=2_000,
        simulated=True,
    )
    assert answer == (
        "tenant t has 0 of at most 1 simulated devices asked for by jobs that wait, and this adds 2: "
        "submit at most 1 at a time, or ask an operator to raise the tenant's limits.queued_devices"
    )
