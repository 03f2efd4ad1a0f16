"""Who may do what, by a token's role: viewers change nothing, tenants see and touch their own jobs, operators all."""

from __future__ import annotations

from scheduler.core.jobs import Job
from scheduler.errors import Forbidden
from scheduler.ports import Principal


def may_change(by: Principal) -> None:
    if by.role == "viewer":
        raise Forbidden(f"the token {by.name} is a viewer's: it may look and change nothing")


def must_be_operator(by: Principal, what: str) -> None:
    if by.role != "operator":
        raise Forbidden(f"only operators may {what}; the token {by.name} is a {by.role}'s")


def may_see(job: Job, by: Principal) -> bool:
    return by.role != "tenant" or job.spec.tenant == by.tenant
