"""What may each tenant hold, what does it hold and wait for, and whose turn is it? The numbers behind `suanli tenants`
and behind the limits of what may wait.

Devices in thousandths; shares are fractions of the whole (see core/fair_share.py).
"""

from __future__ import annotations

from scheduler.core.fair_share import DecayedUsage, account, standing
from scheduler.core.quotas import borrowed_milli, is_simulated
from scheduler.ports import Json
from scheduler.service.planner_words import asked_milli
from scheduler.service.state import ServiceState

_SIMULATED = "/simulated"  # ends the name of such an account


def queued_jobs(state: ServiceState, tenant: str) -> int:
    """Jobs that wait, in the queue or for something else: as `limits.queued_jobs` counts them."""
    return state.queue.waiting.queued_jobs(tenant) + len(state.parked.get(tenant, ()))


def queued_milli(state: ServiceState, tenant: str, simulated: bool) -> int:
    """What they ask for, as `limits.queued_devices` counts it."""
    parked = [state.jobs[job_id].spec for job_id in state.parked.get(tenant, ())]
    return state.queue.waiting.queued_milli(tenant, simulated) + sum(
        asked_milli(spec) for spec in parked if is_simulated(spec.alternatives) is simulated
    )


def tenants_view(state: ServiceState, now_s: float, *, tenant: str | None) -> Json:
    """All that are configured, have jobs, or used something of late; the one whose turn on real devices is next first.
    `tenant`: only that one."""
    usage = DecayedUsage(state.usage.half_life_s, state.usage.averages, state.usage.at_s)
    usage.advance(now_s, state.held_shares)
    held_shares = state.queue.held.shares(state.cluster.totals)
    names = set(state.policy.tenants) | {job.spec.tenant for job in state.jobs.values()}
    names |= {name.removesuffix(_SIMULATED) for name in usage.averages}

    def of_account(name: str, simulated: bool) -> Json:
        mine = account(name, simulated)
        average, held = usage.average(mine), held_shares.get(mine, 0.0)
        return {
            "held_milli": state.queue.held.used_milli(name, simulated),
            "borrowed_milli": borrowed_milli(state.policy, name, simulated, state.queue.held),
            "queued_milli": queued_milli(state, name, simulated),
            "held_share": held,
            "usage": average,
            "standing": standing(average, held, state.policy.tenant(name).weight),
        }

    def of_tenant(name: str) -> Json:
        due = state.policy.tenant(name)
        rehearsed = of_account(name, simulated=True)
        return {
            "name": name,
            "weight": due.weight,
            "guaranteed_milli": due.guaranteed_milli,
            "maximum_milli": due.maximum_milli,
            "max_running_jobs": due.max_running_jobs,
            "max_queued_jobs": due.max_queued_jobs,
            "max_queued_milli": due.max_queued_milli,
            "running_jobs": state.queue.held.jobs(name),
            "queued_jobs": queued_jobs(state, name),
            "real": of_account(name, simulated=False),
            "simulated": rehearsed if any(rehearsed.values()) else None,
        }

    shown = [of_tenant(name) for name in ([tenant] if tenant is not None else names)]
    shown.sort(key=lambda view: (view["real"]["standing"], view["name"]))
    return {"tenants": shown, "half_life_s": usage.half_life_s}
