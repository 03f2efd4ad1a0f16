"""Time that is counted for a tenant when its own things change is the time that counting for everybody always gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.fair_share import DecayedUsage, account
from scheduler.simulation.journal import TenantTime
from scheduler.simulation.tenant_time import TenantTimes

HALF_LIFE_S = 1_000.0
ACCOUNTS = [("lab", False), ("lab", True), ("studio", False), ("plant", False)]

Event = tuple[str, int, float, int]
"""What happens, to which account, after how many seconds, and how much."""

events = st.lists(
    st.tuples(
        st.sampled_from(["holds", "waits", "told"]),
        st.integers(0, len(ACCOUNTS) - 1),
        st.sampled_from([0.0, 1e-9, 0.25, 3.0, 700.0, 1e6]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@dataclass
class Always:
    """The plain way: at each event that counts, everybody's time since the last one is counted."""

    usage: DecayedUsage = field(default_factory=lambda: DecayedUsage(HALF_LIFE_S, at_s=0.0))
    times: dict[str, TenantTime] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    at_s: float = 0.0

    def settle(self, held: dict[tuple[str, bool], float], now_s: float) -> None:
        elapsed_s = now_s - self.at_s
        if elapsed_s <= 0:
            return
        self.at_s = now_s
        shares = {account(*key): share for key, share in held.items()}
        self.usage.advance(now_s, shares)
        for name, share in shares.items():
            time = self.times.setdefault(name, TenantTime())
            time.device_s += 100 * share * elapsed_s
            if self.waiting.get(name):
                time.share_s += share * elapsed_s
        for name, waiting in self.waiting.items():
            if waiting:
                self.times.setdefault(name, TenantTime()).backlogged_s += elapsed_s


@given(events)
def test_it_counts_what_counting_for_everybody_at_every_change_counts(happened: list[Event]) -> None:
    held: dict[tuple[str, bool], float] = {}
    always = Always()
    times: dict[str, TenantTime] = {}

    def holds(tenant: str, simulated: bool) -> tuple[float, float] | None:
        share = held.get((tenant, simulated))
        return None if share is None else (share, 100 * share)

    lazily = TenantTimes(HALF_LIFE_S, holds, times)
    now_s = 0.0
    for what, which, after_s, much in happened:
        now_s += after_s
        tenant, simulated = ACCOUNTS[which]
        if what == "holds":
            always.settle(held, now_s)
            lazily.holding_changes(lazily.of(tenant, simulated), now_s)
            held.pop((tenant, simulated), None)
            if much:
                held[tenant, simulated] = (much - 1) / 7  # nothing of what counts is a share as well
        elif what == "waits":
            before = always.waiting.get(tenant, 0)
            if not (before and much):
                always.settle(held, now_s)
            always.waiting[tenant] = much
            lazily.waits(lazily.of(tenant, False), much - before, now_s)
        else:
            always.settle(held, now_s)
            _same(lazily.averages(now_s), times, always)
    always.settle(held, now_s + 1.0)
    _same(lazily.averages(now_s + 1.0), times, always)


def _same(averages: Mapping[str, float], times: Mapping[str, TenantTime], always: Always) -> None:
    """But for the last digits, and for what is small enough to be forgotten."""
    assert dict(averages) | dict.fromkeys(always.usage.averages.keys() - averages.keys(), 0.0) == pytest.approx(
        dict(always.usage.averages) | dict.fromkeys(averages.keys() - always.usage.averages.keys(), 0.0), abs=1e-11
    )
    assert times.keys() == always.times.keys()
    for name, time in times.items():
        assert asdict(time) == pytest.approx(asdict(always.times[name]))


def test_one_that_neither_holds_nor_waits_has_no_time_of_its_own() -> None:
    times: dict[str, TenantTime] = {}
    counted = TenantTimes(HALF_LIFE_S, lambda tenant, simulated: None, times)
    counted.of("lab", False)
    assert counted.averages(20.0) == {}
    assert times == {}
