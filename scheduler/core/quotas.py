"""How much a tenant may hold, what of it is borrowed, and who may take what back from whom.

A tenant is *guaranteed* so many devices and may hold up to a *maximum*. What others do not use of their guarantees it
may borrow; a tenant under its guarantee takes back (reclaims) what it needs from borrowers, by preemption. Sources: the
capacity guarantees and elasticity of Hadoop's CapacityScheduler (Apache Hadoop YARN documentation, "Capacity
Scheduler"); nominal quota, borrowing limit and reclaimWithinCohort of a ClusterQueue in Kueue (Kubernetes SIGs, Kueue
documentation, "Cluster Queue"); deserved quota and reclaim of KAI-Scheduler ("Fairness"). Two things are ours: what is
leaving no longer counts as borrowed, so that the same devices are not reclaimed twice while their jobs save their work;
and reclaim takes the whole smallest gang to stay within the guarantee, so that it never leads back:

    Let a borrower hold `used` > `guaranteed`, and lose one job of `w`. To reclaim with that job it would need
    (used - w) + w <= guaranteed, which is false. So no two tenants take the same devices from each other in turn.

A victim may be larger than what its tenant borrowed (gangs are not divisible); otherwise one large gang could keep
another tenant's guarantee from it for good.

Jobs that allow simulated devices are booked apart from the others, against the same numbers. A job counts there if any
of its alternatives allows them: what decides is the job, not where it landed, so that the answer is the same before it
starts and after. Units: thousandths of devices.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from scheduler.core.decisions import PendingJob, Policy, RunningJob, TenantPolicy
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, Placement
from scheduler.core.fair_share import NOTHING, Amount, Held, Totals, account, share_of
from scheduler.core.reasons import JobLimitReached, QuotaReached

_Key = TypeVar("_Key", bound=Hashable)
_NOTHING: Held = (0, 0, 0)


def worker_milli(alternatives: Iterable[Demand]) -> int:
    """What one worker may come to hold: the largest of its alternatives, as it is not known yet which will be met."""
    return max([demand.milli for demand in alternatives], default=0)


def is_simulated(alternatives: Iterable[Demand]) -> bool:
    """Whether the job is booked with those that allow simulated devices."""
    simulated = False
    for demand in alternatives:  # of one or two: without a generator
        simulated = simulated or demand.simulated
    return simulated


def wanted_milli(job: PendingJob) -> int:
    """What the smallest gang of the job asks for."""
    return job.workers_min * worker_milli(job.alternatives)


class QuotaLedger:
    """What each tenant holds and how many jobs it runs, kept as jobs come and go.

    A pass works on a `copy()` (as many entries as tenants) and tells it what it decides: `start`, `promise`, `evict`.
    Not thread-safe.
    """

    __slots__ = ("_held", "_jobs", "_leaving_milli", "_of_gangs", "_promised_milli")

    def __init__(self, running: Iterable[RunningJob] = ()) -> None:
        self._held: dict[tuple[str, bool], Held] = {}
        self._leaving_milli: dict[tuple[str, bool], int] = {}
        self._promised_milli: dict[tuple[str, bool], int] = {}
        self._jobs: dict[str, int] = {}
        self._of_gangs: dict[str, Held] = {}  # what running jobs of several workers hold, by id: no part of a copy
        for job in running:
            self.add(job)

    def copy(self) -> QuotaLedger:
        new = QuotaLedger()
        new._held = self._held.copy()
        new._leaving_milli = self._leaving_milli.copy()
        new._promised_milli = self._promised_milli.copy()
        new._jobs = self._jobs.copy()
        return new

    # ---- what happened -------------------------------------------------------------------------------------------

    def add(self, job: RunningJob) -> None:
        """The job holds its devices. One that changes is removed as it was and added as it is."""
        held = held_on(job.placements)
        if len(job.placements) > 1:
            self._of_gangs[job.job_id] = held
        self._hold((job.tenant, job.simulated), held)
        self._jobs[job.tenant] = self._jobs.get(job.tenant, 0) + 1
        if job.stopping:
            _count(self._leaving_milli, (job.tenant, job.simulated), held[0])

    def remove(self, job: RunningJob) -> None:
        """The job, exactly as it was added, holds nothing any more."""
        key = (job.tenant, job.simulated)
        held = self._of_gangs.pop(job.job_id, None) or held_on(job.placements)
        left = self._hold(key, (-held[0], -held[1], -held[2]))
        assert min(left) >= 0, f"never added: {job}"
        _count(self._jobs, job.tenant, -1)
        if job.stopping:
            _count(self._leaving_milli, key, -held[0])

    # ---- what a pass decides -------------------------------------------------------------------------------------

    def start(self, job: PendingJob, more: Held, totals: Totals) -> float:
        """The pass gives so much to the job. By how much that raises its account's dominant share: at most by the share
        of `more` itself, and by less where another resource dominates."""
        simulated = is_simulated(job.alternatives)
        key, whole = (job.tenant, simulated), totals.whole(simulated)
        before = self._held.get(key, _NOTHING)
        held = self._hold(key, more)
        self._jobs[job.tenant] = self._jobs.get(job.tenant, 0) + 1
        return share_of(held, whole) - share_of(before, whole)

    def promise(self, job: PendingJob) -> None:
        """What leaves, or is made to, is kept for the job. It does not hold it yet, but no job after it may use up the
        quota with which it will start, or victims would have gone in vain."""
        _count(self._promised_milli, (job.tenant, is_simulated(job.alternatives)), wanted_milli(job))
        _count(self._jobs, job.tenant, 1)

    def evict(self, job: RunningJob) -> None:
        """The pass asks the job to go. It holds its devices until it has gone, but they are not borrowed any more."""
        if not job.stopping:
            _count(self._leaving_milli, (job.tenant, job.simulated), job.milli)

    # ---- what is so ----------------------------------------------------------------------------------------------

    def held(self, tenant: str, simulated: bool) -> Amount:
        held = self._held.get((tenant, simulated))
        return NOTHING if held is None else Amount(*held)

    def share(self, tenant: str, simulated: bool, totals: Totals) -> float | None:
        """The dominant share of what it holds; None: it holds nothing at all."""
        held = self._held.get((tenant, simulated))
        return None if held is None else share_of(held, totals.whole(simulated))

    def used_milli(self, tenant: str, simulated: bool) -> int:
        """All that the tenant holds, also what is about to leave."""
        return self._held.get((tenant, simulated), _NOTHING)[0]

    def claimed_milli(self, tenant: str, simulated: bool) -> int:
        """What it holds and what this pass has promised it."""
        return self.used_milli(tenant, simulated) + self._promised_milli.get((tenant, simulated), 0)

    def staying_milli(self, tenant: str, simulated: bool) -> int:
        """What it holds of which nothing is on its way out."""
        return self.used_milli(tenant, simulated) - self._leaving_milli.get((tenant, simulated), 0)

    def jobs(self, tenant: str) -> int:
        """How many jobs it runs (or was promised room for), on real and simulated devices together."""
        return self._jobs.get(tenant, 0)

    def tenants(self) -> tuple[str, ...]:
        """All that hold devices, CPUs or memory."""
        return tuple(sorted({tenant for tenant, _ in self._held}))

    def shares(self, totals: Totals) -> dict[str, float]:
        """Fair-share account -> dominant share held now."""
        return {
            account(tenant, simulated): share_of(held, totals.whole(simulated))
            for (tenant, simulated), held in self._held.items()
        }

    def _hold(self, key: tuple[str, bool], more: Held) -> Held:
        """So much more of each than before: as it is then. Who holds nothing has no entry."""
        before = self._held.get(key, _NOTHING)
        held = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
        if held != _NOTHING:
            self._held[key] = held
        else:
            self._held.pop(key, None)
        return held


def held_on(placements: Sequence[Placement]) -> Held:
    """What these workers hold."""
    if len(placements) == 1:
        (one,) = placements
        return one.share_milli or WHOLE_DEVICE_MILLI * len(one.devices), one.cpus_milli, one.memory_bytes
    amount = Amount.of(placements)
    return amount.devices_milli, amount.cpus_milli, amount.memory_bytes


def _count(counts: dict[_Key, int], key: _Key, more: int) -> None:
    count = counts.get(key, 0) + more
    assert count >= 0, (key, count)
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)


# ---- what follows ------------------------------------------------------------------------------------------------


def allowed_workers(policy: Policy, ledger: QuotaLedger, job: PendingJob) -> int | QuotaReached | JobLimitReached:
    """How many workers the job may have by its tenant's limits: `workers_max`, or as many as the maximum leaves room
    for if that is a gang at all; otherwise why none."""
    limits = policy.tenant(job.tenant)
    if limits.max_running_jobs is not None:
        running = ledger.jobs(job.tenant)
        if running >= limits.max_running_jobs:
            return JobLimitReached(job.tenant, running, limits.max_running_jobs)
    if limits.maximum_milli is None:
        return job.workers_max
    each_milli = worker_milli(job.alternatives)
    if not each_milli:
        return job.workers_max
    simulated = is_simulated(job.alternatives)
    claimed_milli = ledger.claimed_milli(job.tenant, simulated)
    workers = min(job.workers_max, (limits.maximum_milli - claimed_milli) // each_milli)
    if workers >= job.workers_min:
        return workers
    return QuotaReached(job.tenant, claimed_milli, limits.maximum_milli, job.workers_min * each_milli, simulated)


def may_reclaim(policy: Policy, ledger: QuotaLedger, job: PendingJob) -> bool:
    """Whether the job may take devices back from borrowers of its own class: with the whole of its smallest gang its
    tenant stays within its guarantee. A job without devices takes none back: nothing else is guaranteed."""
    wanted = wanted_milli(job)
    claimed = ledger.claimed_milli(job.tenant, is_simulated(job.alternatives))
    return 0 < wanted <= policy.tenant(job.tenant).guaranteed_milli - claimed


def borrowed_milli(policy: Policy, tenant: str, simulated: bool, ledger: QuotaLedger) -> int:
    """What the tenant holds above its guarantee, and is not giving up already. 0: nothing may be reclaimed from it."""
    return max(0, ledger.staying_milli(tenant, simulated) - policy.tenant(tenant).guaranteed_milli)


def submission_limit(
    tenant: str,
    limits: TenantPolicy,
    *,
    queued_jobs: int,
    queued_milli: int,
    new_jobs: int,
    new_milli: int,
    simulated: bool = False,
) -> str | None:
    """None: the tenant may submit `new_jobs` jobs that ask for `new_milli` in all, beside what it has waiting already;
    otherwise a sentence for whoever submits. Asked for is what smallest gangs would hold, as `wanted_milli` says.

    As maximum-applications of Hadoop's CapacityScheduler: a runaway script fills its own tenant's queue, nobody else's.
    """
    most_jobs, most_milli = limits.max_queued_jobs, limits.max_queued_milli
    if most_jobs is not None and queued_jobs + new_jobs > most_jobs:
        return _refusal(tenant, queued_jobs, most_jobs, new_jobs, "jobs", "limits.queued_jobs")
    if most_milli is not None and new_milli and queued_milli + new_milli > most_milli:
        what = "simulated devices asked for by jobs" if simulated else "devices asked for by jobs"
        queued, most, new = (milli / WHOLE_DEVICE_MILLI for milli in (queued_milli, most_milli, new_milli))
        return _refusal(tenant, queued, most, new, what, "limits.queued_devices")
    return None


def _refusal(tenant: str, queued: float, most: float, new: float, what: str, setting: str) -> str:
    room = max(0, most - queued)
    if new > most:
        advice = f"submit at most {most:.10g} at a time"
    elif room:
        advice = f"submit at most {room:.10g} now and the rest once others have started"
    else:
        advice = "wait until some of them have started, or cancel some"
    return (
        f"tenant {tenant} has {queued:.10g} of at most {most:.10g} {what} that wait, and this adds {new:.10g}: "
        f"{advice}, or ask an operator to raise the tenant's {setting}"
    )
