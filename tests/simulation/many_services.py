"""What do a thousand registered services cost the loop? `python -m tests.simulation.many_services [COUNT]`

A service on fakes (a store in memory, an engine without processes) with COUNT services that have no replica; then a
plain job is submitted, starts and ends, again and again, and one service after the other is woken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from scheduler.core.jobs import Autoscale, JobSpec
from scheduler.ports import ServiceLoad
from tests.fakes.fake_engine import node_facts
from tests.fakes.loads import load
from tests.fakes.service_world import World, service_spec, spec

REPEATS = 200


def main(count: int = 1_000) -> None:
    print("services  register all  job start, p50        p99  report, p50  wake, p50")
    for services in (0, count):
        world = World(node_facts("n1", 8), max_live_jobs=10 * count)
        began = time.perf_counter()
        jobs = [job for number in range(services) for job in world.submit(_sleeping(f"m{number}"))]
        register_s = time.perf_counter() - began
        starts = sorted(_timed(partial(_one_job, world)) for _ in range(REPEATS))
        everyone = [load(job) for job in jobs]
        reports = [_timed(partial(_report, world, everyone)) for _ in range(20)]
        wakes = [_timed(partial(_wake, world, job)) for job in jobs[:: max(1, services // 50)]] or [0.0]
        print(
            f"{services:8} {register_s * 1e3:10.0f} ms {median(starts) * 1e3:12.2f} ms"
            f" {starts[int(0.99 * REPEATS)] * 1e3:7.2f} ms {median(reports) * 1e3:9.2f} ms"
            f" {median(wakes) * 1e3:7.2f} ms"
        )
        world.no_bugs()


def _sleeping(name: str) -> JobSpec:
    return service_spec(name=name, workers_min=0, workers_max=2, autoscale=Autoscale())


def _one_job(world: World) -> None:
    (job,) = world.submit(spec())
    world.engine.exit(job)
    world.run()


def _report(world: World, loads: list[ServiceLoad]) -> None:
    world.service.take_loads("g", loads)
    world.run()


def _wake(world: World, job: str) -> None:
    world.service.take_loads("g", [load(job, arrivals=1, answered=0, waiting=1)])
    world.run()
    world.clock.advance(20)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
