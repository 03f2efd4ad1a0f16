"""Run the cases that are wanted, one after the other, and answer: what was done until then where it is interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from benchmarks.planner.answer import BOUNDS, Figure, PlannerAnswer, planner_provenance
from benchmarks.planner.cases import CASES, Bench
from benchmarks.planner.timing import reference_step_s

Progress = Callable[[str, float], None]


def run_planner(
    bench: Bench,
    *,
    wanted: Collection[str] = (),
    quick: bool = False,
    progress: Progress = lambda what, share: None,
) -> PlannerAnswer:
    """The figures of `wanted` (names of cases; none: all). Raises KeyError for a name that is no case.

    `progress` hears the case under way and how far all of them are, 0 to 1. KeyboardInterrupt ends the run early with
    an answer marked partial.
    """
    for name in wanted:
        BOUNDS[name]
    chosen = [(run, names) for run, names in CASES.items() if not wanted or any(name in wanted for name in names)]
    figures: list[Figure] = []
    partial = False
    about: dict[str, Any] = planner_provenance(seed=bench.seed, quick=quick, reference_step_s=reference_step_s())
    about["nodes"], about["openb"] = bench.sizes.nodes, bench.openb.origin
    try:
        for number, (run, names) in enumerate(chosen):

            def each(share: float, number: int = number, name: str = names[0]) -> None:
                progress(name, (number + share) / len(chosen))

            each(0.0)
            seen = run(dataclasses.replace(bench, each=each))
            figures += [figure for figure in seen if not wanted or figure.case in wanted]
    except KeyboardInterrupt:
        partial = True
    order = list(BOUNDS)
    return PlannerAnswer(about, sorted(figures, key=lambda figure: order.index(figure.case)), partial)
