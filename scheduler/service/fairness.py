"""Whose turn it is: tenants' decayed usage, kept up to date for the planner and over restarts.

What was held since the last look counts for the time in between, so `advance` comes before anything is started and
`note_held` after it.
"""

from __future__ import annotations

from scheduler.core.fair_share import DecayedUsage
from scheduler.ports import Usage
from scheduler.service.outcome import Outcome
from scheduler.service.state import ServiceState

# A crash may forget so much of what was used: nobody's turn changes by a minute.
KEEP_EVERY_S = 60.0


def restored(kept: Usage | None, half_life_s: float, now_s: float) -> DecayedUsage:
    """As it was kept. A clock that was set back since must not make the time until then count twice."""
    if kept is None:
        return DecayedUsage(half_life_s)
    return DecayedUsage(half_life_s, kept.averages, min(kept.at_s, now_s))


def advance(state: ServiceState, now_s: float) -> None:
    state.usage.advance(now_s, state.held_shares)
    state.queue.usage.clear()
    state.queue.usage.update(state.usage.averages)


def note_held(state: ServiceState) -> None:
    state.held_shares = state.queue.held.shares(state.cluster.totals)


def keep(state: ServiceState, out: Outcome, now_s: float) -> None:
    """At most once a minute, and only while something is held or is written anyway."""
    if now_s - state.usage_kept_s < KEEP_EVERY_S:
        return
    if state.usage.averages and (state.held_shares or out.must_be_kept()):
        state.usage_kept_s = now_s
        out.usage = snapshot(state, now_s)


def snapshot(state: ServiceState, now_s: float) -> Usage:
    return Usage(dict(state.usage.averages), now_s if state.usage.at_s is None else state.usage.at_s)
