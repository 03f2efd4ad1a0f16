"""Many seeds, one after the other or on several cores: which of them break a promise, and how, told so that it can be
replayed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context

from scheduler.simulation.faults.chance import Rates, story_of
from scheduler.simulation.faults.shrink import shrink
from scheduler.simulation.faults.story import told
from scheduler.simulation.faults.world import Run, World

SEEDS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken promise: `history` is the shortest story found, a line a step; `numbers` name its steps; `events` what
    then happened, up to the breach."""

    seed: int
    promise: str
    text: str
    at_s: float
    setup: str
    history: tuple[str, ...]
    numbers: tuple[int, ...]
    events: tuple[str, ...]
    rates: Rates | None = None

    @property
    def command(self) -> str:
        """Replays the shortened story, and prints what happens."""
        only = ",".join(map(str, self.numbers))
        rates = "".join(f" --rate {name}={rate:g}" for name, rate in (self.rates or {}).items())
        return f"suanli simulate faults --from {self.seed} --seeds 1{rates} --only {only or 'none'} --trace"


@dataclass(frozen=True, slots=True)
class Part:
    """Some seeds that were run: `steps` of virtual time in all, and each seed that broke a promise, with its name."""

    seeds: int
    steps: int
    jobs: int
    broken: tuple[tuple[int, str], ...]


def run_part(first: int, count: int, rates: Rates | None = None) -> Part:
    steps = jobs = 0
    broken: list[tuple[int, str]] = []
    for seed in range(first, first + count):
        run = World(story_of(seed, rates)).run()
        steps += run.steps
        jobs += run.jobs
        if run.violation is not None:
            broken.append((seed, run.violation.promise))
    return Part(count, steps, jobs, tuple(broken))


def _leave_interrupts_to_the_parent() -> None:
    """A ctrl-C reaches all processes of the terminal: a worker ends the part that it is at, and its parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_seeds(
    first: int, count: int, rates: Rates | None = None, *, workers: int = 1, at_once: int = SEEDS_AT_ONCE
) -> Iterator[Part]:
    """Parts as they are done. Each seed is a single thread of a single process, on however many cores they run."""
    parts = [(first + i, min(at_once, count - i)) for i in range(0, count, at_once)]
    if workers <= 1 or len(parts) <= 1:
        for part in parts:
            yield run_part(*part, rates)
        return
    # Spawned, not forked: whoever calls may have threads (a progress bar).
    pool = ProcessPoolExecutor(min(workers, len(parts)), get_context("spawn"), _leave_interrupts_to_the_parent)
    running: set[Future[Part]] = set()
    try:
        for part in parts:
            running.add(pool.submit(run_part, *part, rates))
            if len(running) < 2 * workers:
                continue
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        for future in running:
            yield future.result()
    except KeyboardInterrupt:  # what is under way is not thrown away
        pool.shutdown(wait=True, cancel_futures=True)
        for future in running:
            if not future.cancelled():
                yield future.result()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def explain(seed: int, promise: str, rates: Rates | None = None) -> Breach:
    """Shorten the story of a seed that breaks the promise, and tell it."""
    return breach_of(shrink(story_of(seed, rates), promise), rates)


def breach_of(run: Run, rates: Rates | None = None) -> Breach:
    """Of a run that broke a promise: it is run once more, to tell what happens."""
    assert run.violation is not None, run
    events: list[str] = []
    World(run.story, events.append).run()
    steps: Sequence[str] = [f"{step.at_s:9.3f}  {step.number}: {told(step.what)}" for step in run.story.steps]
    setup = run.story.setup
    nodes = ", ".join(f"{name} with {count}" for name, count in zip(setup.nodes, setup.devices, strict=True))
    return Breach(
        seed=setup.seed,
        promise=run.violation.promise,
        text=run.violation.text,
        at_s=round(run.at_s, 3),
        setup=f"nodes {nodes} devices; lease {setup.lease_s:g} s; faults for {setup.faults_until_s:g} s",
        history=tuple(steps),
        numbers=tuple(step.number for step in run.story.steps),
        events=tuple(events),
        rates=rates,
    )
