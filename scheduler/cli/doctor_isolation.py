"""For `suanli doctor`: are tenants kept apart on this machine as the configuration says, and jobs to their limits?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from node_agent.execution.accounts import Account, NoSuchAccount, acting_as, find_account, why_single_user
from node_agent.launcher.cgroups import OsControlGroups
from node_agent.nodes import limits_notes
from scheduler.cli.finding import Finding

CHECK = "isolation"


def users(unix_users: Mapping[str, str | None], home: Path) -> Iterator[Finding]:
    """`unix_users`: by tenant, the account that tenants.yaml names for it. `home` is the instance's directory."""
    named = {tenant: user for tenant, user in unix_users.items() if user is not None}
    why = why_single_user()
    if why:
        said = f"single-user mode: all jobs run as one user ({why})"
        mend = "run the agents as root to separate tenants"
        if named:  # whoever wrote that believes it
            said += f", although tenants.yaml names accounts for {', '.join(named)}"
        yield Finding(CHECK, "bad" if named else "note", said, mend)
        return
    nameless = [tenant for tenant, user in unix_users.items() if user is None]
    if nameless:
        said = f"jobs of {', '.join(nameless)} run as root"
        yield Finding(CHECK, "note", said, "name an account for each by unix_user in tenants.yaml")
    accounts: dict[str, Account] = {}
    for tenant, user in named.items():
        try:
            accounts[tenant] = find_account(user)
        except NoSuchAccount as error:
            said = f"{error} on this machine, as which jobs of {tenant} are to run"
            yield Finding(CHECK, "bad", said, f"make it (`useradd -r {user}`) on every node, or name another")
    for tenant, account in accounts.items():
        if account.uid == 0:
            said = f"{account.name}, as which jobs of {tenant} run, is root"
            yield Finding(CHECK, "bad", said, "name an account without rights in tenants.yaml")
    yield from _shared(accounts)
    kept_out = [tenant for tenant, account in accounts.items() if not _gets_in(account, home)]
    if kept_out:
        said = f"the accounts of {', '.join(kept_out)} cannot pass through {home}, where their runs' files are"
        yield Finding(CHECK, "bad", said, "set SUANLI_HOME where every user may pass, such as /var/lib/suanli")
    if named and len(accounts) == len(named) and not kept_out and all(each.uid for each in accounts.values()):
        yield Finding(CHECK, "ok", f"jobs of {', '.join(named)} run as Unix users of their own")


def limits() -> Iterator[Finding]:
    """By trying it out. An agent started from elsewhere may find otherwise: `suanli nodes --reasons` says."""
    with tempfile.TemporaryDirectory(prefix="suanli-doctor-") as directory:
        groups = OsControlGroups.find(Path(directory).name, Path(directory) / "cgroups", _unsaid)
        groups.close()
    missing = limits_notes(groups.limits)
    mend = "run the agents as root, or in a systemd unit with Delegate=yes and DelegateSubgroup=agent"
    yield from (Finding("limits", "note", said, mend) for said in missing)
    if not missing:
        yield Finding("limits", "ok", "the kernel holds jobs to their memory and CPUs")


def _unsaid(text: str) -> None:
    """What went wrong is in the limits' `why`."""


def _shared(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    by_uid: dict[int, list[str]] = {}
    for tenant, account in accounts.items():
        by_uid.setdefault(account.uid, []).append(tenant)
    for uid, tenants in by_uid.items():
        if len(tenants) > 1:
            said = f"{', '.join(tenants)} share uid {uid}, so they are not kept apart"
            yield Finding(CHECK, "note", said, "name an account for each in tenants.yaml")


def _gets_in(account: Account, home: Path) -> bool:
    """As far as the way exists: what is below it will be made passable."""
    while not home.exists():
        home = home.parent
    with acting_as(account):
        return os.access(home, os.X_OK, effective_ids=True)
