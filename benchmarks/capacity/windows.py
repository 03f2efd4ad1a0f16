"""Which shared window stands in the report, and what did each accepted night achieve?

All results of one run in one precision share a window and a denominator. A night is what `history/which_night.py` says:
from noon to noon. The window that stands is of the last night that has one of full length (600 s and more); a smoke
window stands only where there is no full one at all. Of several in a night the one that ran most cards is its figure,
and of equals the newest: chosen by how much was covered, never by how fast it was. A window that was interrupted did
not last as long as it says, so it is none of full length, and takes no other's place. Later windows that were passed
over (smoke runs, interrupted ones, re-runs of a few cards) are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.evidence import FLOPS_PER_GFLOPS, FLOPS_PER_PFLOPS
from benchmarks.history.store import StoredResult
from benchmarks.history.which_night import night_of
from benchmarks.protocol import NIGHTLY_WINDOW_S, Verdict, window_label

# What a goal in FLOP/s is measured with. Other workloads (bandwidth, training steps, serving) are other figures.
GOAL_WORKLOAD = "gemm"


@dataclass(frozen=True, slots=True)
class Window:
    """The shared window behind a measured figure. `passed_over`: so many later ones, which do not stand."""

    run: str
    start_at_s: float | None
    window_s: float
    label: str
    precision: str
    protocol: str
    commit: str | None
    detection_probability: float | None
    samples: int
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class Night:
    """One accepted night: the total of verified cards in its full window."""

    at_s: float
    run: str
    precision: str
    window_s: float
    pflops: float
    cards_run: int
    cards_verified: int


@dataclass(frozen=True, slots=True)
class SharedWindow:
    """Results that share a run and a precision, one a device (the last written where a device has several)."""

    run: str
    precision: str
    window_s: float
    at_s: float
    results: Mapping[str, StoredResult]

    @property
    def was_interrupted(self) -> bool:
        return any(r.record.verdict == Verdict.INTERRUPTED for r in self.results.values())

    @property
    def is_full(self) -> bool:
        return self.window_s >= NIGHTLY_WINDOW_S and not self.was_interrupted


def shared_windows(results: Sequence[StoredResult]) -> tuple[SharedWindow, ...]:
    """In the order of their last results; those without any window length are no windows."""
    groups: dict[tuple[str, str], dict[str, StoredResult]] = {}
    for result in results:
        groups.setdefault((result.run, result.record.precision), {})[result.record.device] = result
    made = []
    for (run, precision), members in groups.items():
        lengths = [r.record.window_s for r in members.values() if r.record.window_s]
        made.append(
            SharedWindow(
                run, precision, max(lengths, default=0.0), max(r.recorded_at_s for r in members.values()), members
            )
        )
    return tuple(sorted(made, key=lambda w: w.at_s))


def standing(windows: Sequence[SharedWindow], precisions: Sequence[str]) -> tuple[SharedWindow | None, int]:
    """The window that stands, and how many later ones were passed over."""
    full = [w for w in windows if w.is_full]
    nights = _by_night(full or windows, precisions)
    if not nights:
        return None, 0
    chosen = nights[max(nights)]
    return chosen, sum(w.at_s > chosen.at_s for w in windows)


def _by_night(windows: Sequence[SharedWindow], precisions: Sequence[str]) -> dict[int, SharedWindow]:
    """Of each night the window with most cards; of equals the newest, then the one in the goal's first precision. An
    interrupted one only where there is no other."""

    def standing_of(window: SharedWindow) -> tuple[bool, int, float, int]:
        return (
            not window.was_interrupted,
            len(window.results),
            window.at_s,
            -precisions.index(window.precision),
        )

    chosen: dict[int, SharedWindow] = {}
    for window in sorted(windows, key=standing_of):
        chosen[night_of(window.at_s)] = window
    return chosen


def window_facts(shared: SharedWindow | None, passed_over: int = 0) -> Window | None:
    if shared is None or not shared.window_s:
        return None
    records = [r.record for r in shared.results.values()]
    last = max(shared.results.values(), key=lambda r: r.recorded_at_s)
    chances = [r.detection_probability for r in records if r.verified and r.detection_probability is not None]
    return Window(
        run=shared.run,
        start_at_s=min((r.window_start_s for r in records if r.window_start_s), default=None),
        window_s=shared.window_s,
        label=window_label(shared.window_s),
        precision=shared.precision,
        protocol=last.record.protocol,
        commit=last.commit,
        detection_probability=min(chances, default=None),
        samples=sum(r.samples for r in records),
        passed_over=passed_over,
    )


def accepted_nights(windows: Sequence[SharedWindow], precision: str) -> tuple[Night, ...]:
    """Nights in order, in one precision: those whose figure has a full window and at least one verified card."""
    chosen = _by_night([w for w in windows if w.is_full and w.precision == precision], (precision,))
    nights = []
    for shared in (chosen[number] for number in sorted(chosen)):
        verified = [r.record for r in shared.results.values() if r.record.verified]
        if not verified:
            continue
        starts = [r.record.window_start_s for r in shared.results.values() if r.record.window_start_s]
        nights.append(
            Night(
                at_s=min(starts, default=shared.at_s),
                run=shared.run,
                precision=precision,
                window_s=shared.window_s,
                pflops=sum(r.gflops or 0.0 for r in verified) * FLOPS_PER_GFLOPS / FLOPS_PER_PFLOPS,
                cards_run=len(shared.results),
                cards_verified=len(verified),
            )
        )
    return tuple(nights)
