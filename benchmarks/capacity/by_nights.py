"""What do the nights of a report's period tell beside its figures? Change points, slow cards, and totals of samples.

Of the same results as the figures, so that whoever has the log computes it again. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.capacity.arithmetic import comparable_results
from benchmarks.capacity.verify import Told
from benchmarks.capacity.windows import SharedWindow, shared_windows, standing
from benchmarks.catalogue import goal_precisions
from benchmarks.history.analysis import analysed
from benchmarks.history.columns import columns_of
from benchmarks.history.findings import Estimate
from benchmarks.history.night_sample import estimated
from benchmarks.history.sampling import CannotEstimate, Unit
from benchmarks.history.store import History
from benchmarks.inventory import Node
from scheduler.schema.model import Goal


def told_by_nights(history: History, nodes: Sequence[Node], goals: Sequence[Goal]) -> Told:
    """Findings of nights with windows as long as the one behind the goals' figures, so that a smoke run by day hides no
    night; measured and simulated ones each among themselves."""
    windows = {goal.name: _window(goal, nodes, history) for goal in goals if not goal.is_context}
    lengths = [window.window_s for window, _ in windows.values() if window is not None]
    found = analysed(columns_of(history.results), measured_window_s=max(lengths, default=None))
    return Told(
        changes=tuple(change for each in found for change in each.own_changes),
        outliers=tuple(outlier for each in found for outlier in each.outliers),
        estimates=_estimates(windows, nodes, goals),
    )


def _window(goal: Goal, nodes: Sequence[Node], history: History) -> tuple[SharedWindow | None, int]:
    """The shared window that the goal's figures are of, and how many cards it could have run."""
    precisions = goal_precisions(goal.precision)
    owned = {d.uuid for n in nodes if n.site in goal.sites and not n.simulated for d in n.devices if not d.is_cpu}
    mine = [r for r in comparable_results(history.results, precisions) if r.record.device in owned]
    shared, _ = standing(shared_windows(mine), precisions)
    return shared, len(owned)


def _estimates(
    windows: Mapping[str, tuple[SharedWindow | None, int]], nodes: Sequence[Node], goals: Sequence[Goal]
) -> Mapping[str, Estimate]:
    """Of the goals whose last shared window ran some of the cards and not all, where the sample carries an interval."""
    answer = {}
    for goal in goals:
        shared, owned = windows.get(goal.name, (None, 0))
        if shared is None or not 0 < len(shared.results) < owned:
            continue
        units = tuple(
            Unit(node.name, node.site, cards[0].model, node.rack or "", len(cards))
            for node in nodes
            if node.site in goal.sites and not node.simulated and (cards := [d for d in node.devices if not d.is_cpu])
        )
        try:
            answer[goal.name] = estimated(units, [result.record for result in shared.results.values()])
        except CannotEstimate:
            continue  # the report says what was run; a total that nothing carries is not made up
    return answer
