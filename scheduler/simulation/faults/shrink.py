"""The shortest story that still breaks the same promise.

Steps are left out, in halves, quarters and so on down to single ones, as long as the promise stays broken: delta
debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002). Every step
keeps its number and its time, so that the shortened story can be told by the numbers of its steps. What is found is
1-minimal: no single step can be left out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scheduler.simulation.faults.story import Step, Story
from scheduler.simulation.faults.world import Run, World

MOST_RUNS = 600


def shrink(
    story: Story, promise: str, *, most_runs: int = MOST_RUNS, ran: Callable[[int], None] = lambda runs: None
) -> Run:
    """The run of the shortest story found. `story` must break `promise`; `ran` hears how many runs were tried."""
    best = World(story).run()
    assert best.violation is not None, story
    assert best.violation.promise == promise, (promise, best.violation)
    runs = 1
    parts = 2
    while len(best.story.steps) > 1 and runs < most_runs:
        smaller = None
        for left in _without_one_part(best.story.steps, parts):
            runs += 1
            ran(runs)
            run = World(replace(best.story, steps=left)).run()
            if run.violation is not None and run.violation.promise == promise:
                smaller = run
                break
            if runs >= most_runs:
                break
        if smaller is not None:
            best = smaller
            parts = max(2, parts - 1)
        elif parts >= len(best.story.steps):
            break
        else:
            parts = min(len(best.story.steps), parts * 2)
    return best


def _without_one_part(steps: tuple[Step, ...], parts: int) -> list[tuple[Step, ...]]:
    """The steps without each of so many parts, the last part first: what comes late matters least."""
    size, rest = divmod(len(steps), parts)
    left: list[tuple[Step, ...]] = []
    begin = 0
    for part in range(parts):
        end = begin + size + (part < rest)
        left.append(steps[:begin] + steps[end:])
        begin = end
    return left[::-1]


def chosen(story: Story, numbers: set[int]) -> Story:
    """The story with these of its steps alone. Raises KeyError for a number that it does not have."""
    missing = numbers - {step.number for step in story.steps}
    if missing:
        raise KeyError(min(missing))
    return replace(story, steps=tuple(step for step in story.steps if step.number in numbers))
