"""Who may do what, by a token's role: viewers change nothing, tenants see and touch their own jobs, operators all."""

from __future__ import annotations

from scheduler.core.jobs import Job
from scheduler.errors import Forbidden
from scheduler.ports import Json, Principal
from scheduler.service.state import ServiceState


def may_change(by: Principal) -> None:
    if by.role == "viewer":
        raise Forbidden(f"the token {by.name} is a viewer's: it may look and change nothing")


def must_be_operator(by: Principal, what: str) -> None:
    if by.role != "operator":
        raise Forbidden(f"only operators may {what}; the token {by.name} is a {by.role}'s")


def may_see(job: Job, by: Principal) -> bool:
    return by.role != "tenant" or job.spec.tenant == by.tenant


def hide_others(nodes: list[Json], state: ServiceState, tenant: str) -> None:
    """Whose jobs the other devices carry is not a tenant's business; that they are taken is."""
    for node in nodes:
        if node["drain"] is not None:
            node["drain"]["left"] = [each for each in node["drain"]["left"] if each["tenant"] == tenant]
        for device in node["devices"]:
            device["jobs"] = [i for i in device["jobs"] if i in state.jobs and state.jobs[i].spec.tenant == tenant]
