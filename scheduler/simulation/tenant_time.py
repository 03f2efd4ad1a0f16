"""How long did each tenant hold how much, and wait, and what has it used of late? Counted only where something changes.

Whenever anybody's holding changes, time has gone on for all: a *step*. What a step means for a tenant that neither came
nor went in it is worked out later, together with other steps of the same kind (`catch_up`): before what the tenant
holds or waits for changes, and before somebody looks. The sums are those that come of adding every step to every tenant
at once, to the last digit, since each tenant's steps are added in the same order.

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
    account of real ones. `known`: `holding` (anything at all), `share` and `devices` are as it is now. `counted`: so
    many of the steps are."""

    tenant: str
    simulated: bool
    name: str
    waiting: int = 0
    known: bool = True
    holding: bool = False
    share: float = 0.0
    devices: float = 0.0
    average: float = 0.0
    counted: int = 0


class TenantTimes:
    """`holds`: what an account holds at present; None: nothing. `times`: where the sums are kept, by name."""

    def __init__(
        self, half_life_s: float, holds: Callable[[str, bool], Holds | None], times: dict[str, TenantTime]
    ) -> None:
        self._law = DecayedUsage(half_life_s)
        self._holds = holds
        self._times = times
        self._accounts: dict[tuple[str, bool], Account] = {}
        self._steps: list[tuple[float, float]] = []  # seconds, and how far an average moves in them
        self._at_s = 0.0

    def of(self, tenant: str, simulated: bool) -> Account:
        """Its account, which is opened where it has none."""
        found = self._accounts.get((tenant, simulated))
        if found is None:
            found = self._accounts[tenant, simulated] = Account(
                tenant, simulated, account(tenant, simulated), counted=len(self._steps)
            )
        return found

    def step(self, now_s: float) -> None:
        """To be told before anything that counts changes."""
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0:
            self._at_s = now_s
            self._steps.append((elapsed_s, self._law.moved_in(elapsed_s)))

    def holding_changes(self, of: Account, now_s: float) -> None:
        """What it holds is about to change."""
        self.step(now_s)
        self._catch_up(of)
        of.known = False

    def waits(self, of: Account, more: int, now_s: float) -> None:
        """So many more of its jobs wait from now on."""
        before, after = of.waiting, of.waiting + more
        if not (before and after):
            self.step(now_s)
            self._catch_up(of)
        of.waiting = after

    def averages(self, now_s: float) -> Mapping[str, float]:
        """Account -> decayed average of its share, up to now; one that is not there has used nothing of late."""
        self.step(now_s)
        for each in self._accounts.values():
            self._catch_up(each)
            each.counted = 0
        self._steps.clear()
        return {each.name: each.average for each in self._accounts.values() if each.average}

    def _catch_up(self, of: Account) -> None:
        """Count the steps that are not, through which it held and waited as it does."""
        if of.counted == len(self._steps):
            return
        steps, of.counted = self._steps[of.counted :], len(self._steps)
        if not of.known:
            held = self._holds(of.tenant, of.simulated)
            of.known, of.holding = True, held is not None
            of.share, of.devices = held or (0.0, 0.0)
        share, devices, average = of.share, of.devices, of.average
        if of.holding or of.waiting:
            time = self._times.get(of.name) or self._times.setdefault(of.name, TenantTime())
            device_s, share_s, backlogged_s = time.device_s, time.share_s, time.backlogged_s
            for elapsed_s, moved in steps:
                average += (share - average) * moved  # as `DecayedUsage.advance` does
                if average <= FORGOTTEN:
                    average = 0.0
                device_s += devices * elapsed_s
                share_s += share * elapsed_s
                backlogged_s += elapsed_s
            time.device_s = device_s
            if of.waiting:
                time.share_s, time.backlogged_s = share_s, backlogged_s
            of.average = average
        elif average:
            for _, moved in steps:
                average += (0.0 - average) * moved
                if average <= FORGOTTEN:
                    average = 0.0
            of.average = average
