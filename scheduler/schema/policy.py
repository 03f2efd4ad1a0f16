"""What a site's configuration means to the planner: its Policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from scheduler.core.decisions import Policy, TenantPolicy
from scheduler.schema.model import PolicySettings, PriorityClass, SiteConfig, Tenant


class Governed(Protocol):
    """What a policy is made of: a site's configuration has it, and a cluster's that is to be simulated."""

    @property
    def policy(self) -> PolicySettings: ...
    @property
    def priority_classes(self) -> Mapping[str, PriorityClass]: ...
    @property
    def tenants(self) -> Mapping[str, Tenant]: ...


def planner_policy(site: Governed) -> Policy:
    """Without reservations: those are made while the service runs, and kept in its store."""
    settings = site.policy
    return Policy(
        tie_seed=settings.tie_seed,
        packing=settings.packing,
        backfill=settings.backfill,
        min_run_before_preemption_s=settings.min_run_before_preemption_s,
        non_preempting=frozenset(c.priority for c in site.priority_classes.values() if not c.may_preempt),
        tenants={
            name: TenantPolicy(
                weight=tenant.share.weight,
                guaranteed_milli=tenant.share.guaranteed_milli,
                maximum_milli=tenant.share.maximum_milli,
                max_running_jobs=tenant.share.max_running_jobs,
                max_queued_jobs=tenant.share.max_queued_jobs,
                max_queued_milli=tenant.share.max_queued_milli,
            )
            for name, tenant in site.tenants.items()
        },
        starve_after_s=settings.starve_after_s,
        reservation_depth=settings.reservation_depth,
        min_run_before_growth_s=settings.min_run_before_growth_s,
    )


def guaranteed_too_much(site: SiteConfig, *, installed: int, what: str) -> str | None:
    """A sentence where the guarantees of all tenants come to more than is installed: then none of them is one."""
    total_milli = sum(tenant.share.guaranteed_milli for tenant in site.tenants.values())
    if not installed or total_milli <= 1000 * installed:
        return None
    return (
        f"tenants are guaranteed {total_milli / 1000:g} devices in all, and {installed} {what} are installed: "
        "not all guarantees can be kept at once"
    )
