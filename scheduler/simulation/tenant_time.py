"""How long did each tenant hold how much, and wait, and what has it used of late? Counted only where something changes.

While what a tenant holds and waits for stays as it is, its sums grow in proportion to time and its average follows one
formula (`fair_share.DecayedUsage`): so its time is counted all at once, before one of the two changes (`catch_up`) and
before somebody looks. What the others do meanwhile does not matter.

Times in seconds of virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scheduler.core.fair_share import FORGOTTEN, DecayedUsage, account
from scheduler.simulation.journal import TenantTime

Holds = tuple[float, float]
"""The dominant share that an account holds, and how many real devices."""


@dataclass(slots=True, eq=False)
class Account:
    """A tenant's account of real, or of simulated devices. `waiting`: how many of its jobs wait, all counted on the
    account of real ones. `known`: `holding` (anything at all), `share` and `devices` are as it is now. All is counted
    up to `counted_s`."""

    tenant: str
    simulated: bool
    name: str
    counted_s: float
    waiting: int = 0
    known: bool = True
    holding: bool = False
    share: float = 0.0
    devices: float = 0.0
    average: float = 0.0


class TenantTimes:
    """`holds`: what an account holds at present; None: nothing. `times`: where the sums are kept, by name."""

    def __init__(
        self, half_life_s: float, holds: Callable[[str, bool], Holds | None], times: dict[str, TenantTime]
    ) -> None:
        self._law = DecayedUsage(half_life_s)
        self._holds = holds
        self._times = times
        self._accounts: dict[tuple[str, bool], Account] = {}

    def of(self, tenant: str, simulated: bool) -> Account:
        """Its account, which is opened where it has none. What it does counts from its first change."""
        found = self._accounts.get((tenant, simulated))
        if found is None:
            name = account(tenant, simulated)
            found = self._accounts[tenant, simulated] = Account(tenant, simulated, name, counted_s=0.0)
        return found

    def holding_changes(self, of: Account, now_s: float) -> None:
        """What it holds is about to change."""
        if now_s > of.counted_s:
            self._catch_up(of, now_s)
        of.known = False

    def waits(self, of: Account, more: int, now_s: float) -> None:
        """So many more of its jobs wait from now on."""
        before, after = of.waiting, of.waiting + more
        if not (before and after) and now_s > of.counted_s:
            self._catch_up(of, now_s)
        of.waiting = after

    def averages(self, now_s: float) -> Mapping[str, float]:
        """Account -> decayed average of its share, up to now; one that is not there has used nothing of late."""
        for each in self._accounts.values():
            if now_s > each.counted_s:
                self._catch_up(each, now_s)
        return {each.name: each.average for each in self._accounts.values() if each.average}

    def _catch_up(self, of: Account, now_s: float) -> None:
        """Count the time since it was last counted, through which it held and waited as it does."""
        elapsed_s, of.counted_s = now_s - of.counted_s, now_s
        if not of.known:
            held = self._holds(of.tenant, of.simulated)
            of.known, of.holding = True, held is not None
            of.share, of.devices = held or (0.0, 0.0)
        if of.holding or of.waiting:
            time = self._times.get(of.name) or self._times.setdefault(of.name, TenantTime())
            time.device_s += of.devices * elapsed_s
            if of.waiting:
                time.share_s += of.share * elapsed_s
                time.backlogged_s += elapsed_s
        if of.average or of.share:
            average = of.average + (of.share - of.average) * self._law.moved_in(elapsed_s)
            of.average = average if average > FORGOTTEN else 0.0
