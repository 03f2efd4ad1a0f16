"""May this be asked of a deployed service, of which one, and what follows? `deployments` carries it out."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.jobs import Canary
from scheduler.core.rollout import Deployed, Rollout, Version
from scheduler.errors import Conflict, NotFound
from scheduler.service import deployments
from scheduler.service.deployments import Key
from scheduler.service.outcome import Outcome, ServiceDeleteRequested, ServiceRollbackRequested
from scheduler.service.state import ServiceState

AT_ONCE = Canary(steps=(100,), step_s=0.0, min_requests=0)


def check_deploy(state: ServiceState, key: Key) -> None:
    """Raises Conflict where no new version can be deployed now."""
    found = state.deployed.get(key)
    if found is None:
        plain = deployments.plain_jobs(state, key)
        if len(plain) > 1:
            ids = ", ".join(job.id for job in plain[:10])
            raise Conflict(
                f"jobs {ids} of tenant {key[0]} are all called {key[1]}: cancel all but one, which then becomes"
                " version 1",
                field="name",
            )
        return
    if found.deleted:
        raise Conflict(f"service {key[1]} is being deleted; deploy it when its jobs have ended", field="name")
    if found.rollout is not None:
        raise Conflict(
            f"version {found.rollout.to} of service {key[1]} is being rolled out: wait for it (suanli service show"
            f" {key[1]}), or give it up first (suanli service rollback {key[1]})",
            field="name",
        )


def check_plain(state: ServiceState, key: Key) -> None:
    """Raises Conflict where a plain job would take requests from a deployed service's versions."""
    if key in state.deployed:
        raise Conflict(
            f"{key[1]} is a deployed service of tenant {key[0]}: deploy a new version of it (suanli service deploy"
            " FILE), or give this job another name",
            field="name",
        )


def roll_back(state: ServiceState, out: Outcome, event: ServiceRollbackRequested, now_s: float) -> None:
    """Raises NotFound and Conflict."""
    found = known(state, event.key)
    if found.deleted:
        raise Conflict(f"service {found.name} is being deleted")
    if found.rollout is not None:
        current = found.rollout
        if event.to in (None, current.base) and current.base is not None:
            deployments.give_up(state, out, found, f"rolled back by {event.by}", None, now_s)
            return
        raise Conflict(
            f"version {current.to} of {found.name} is being rolled out: go back to version {current.base} first"
        )
    live = found.live
    to = event.to if event.to is not None else _before(found, live)
    target = next((each for each in found.versions if each.number == to), None)
    if target is None:
        numbers = ", ".join(str(each.number) for each in found.versions)
        raise NotFound(f"service {found.name} has no version {to}; it has {numbers}", field="to")
    if target is live:
        raise Conflict(f"version {to} of service {found.name} is the live one already", field="to")
    if target.job_id not in state.jobs:
        raise Conflict(
            f"version {to} of service {found.name} is {target.state} and its job has ended: deploy its file again",
            field="to",
        )
    keep = 0 if live is None else deployments.present(state, live)
    base = live.number if live is not None and live.job_id in state.jobs else None
    found = deployments.with_word(found, target.number, "starting", f"back by {event.by}")
    deployments.start(state, out, found, Rollout(target.number, base, AT_ONCE, now_s, keep=keep, back=True), now_s)


def delete(state: ServiceState, out: Outcome, event: ServiceDeleteRequested, now_s: float) -> None:
    """All its versions stop for good; the record goes when the last has ended."""
    found = replace(known(state, event.key), deleted=True, rollout=None)
    deployments.keep(state, out, found)
    deployments.settle(state, out, found, now_s)


def known(state: ServiceState, key: Key) -> Deployed:
    found = state.deployed.get(key)
    if found is None:
        raise NotFound(
            f"tenant {key[0]} has no deployed service {key[1]}; `suanli service list` lists them", field="name"
        )
    return found


def key_of(state: ServiceState, name: str, tenant: str | None) -> Key:
    """Whose service is meant, deployed or a plain job; without `tenant` the name must be one tenant's alone."""
    keys = set(state.deployed) | {deployments.key_of_job(state.jobs[job_id]) for job_id in state.services}
    found = sorted(key for key in keys if key[1] == name and tenant in (None, key[0]))
    if len(found) == 1:
        return found[0]
    if found:
        raise Conflict(
            f"tenants {', '.join(key[0] for key in found)} have a service {name} each: say whose (TENANT/NAME)"
        )
    names = sorted({key[1] for key in keys if tenant in (None, key[0])})
    raise NotFound(f"there is no service {name}; there are: {', '.join(names[:20]) or 'none'}", field="name")


def _before(found: Deployed, live: Version | None) -> int | None:
    """The newest version that was live before this one."""
    stopped = [each.number for each in found.versions if each.state == "stopped" and each is not live]
    if not stopped:
        raise Conflict(f"service {found.name} has no version that was live before; name one with --to", field="to")
    return max(stopped)
