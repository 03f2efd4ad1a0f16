"""`python -m tests.measure_nodes [NODES]`: for how long `GET /v1/nodes` keeps the planning thread.

Not a test: figures of a machine. A service on fakes with so many nodes (1,250) of 8 devices, all of them taken by jobs
of one node each; the answer without readings is asked for 30 times. Printed: the median and the longest.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from scheduler.api.answers import encoded_large
from scheduler.service.state import ServiceState
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, World, spec

TIMES = 30
T = TypeVar("T")


def main(nodes: str = "1250") -> None:
    facts = (node_facts(f"n{row:04}", 8) for row in range(int(nodes)))
    world = World(*facts, max_live_jobs=10 * int(nodes))
    world.submit(*(spec(devices=8) for _ in range(int(nodes))))
    held_s: list[float] = []
    call = world.service.loop.call

    def timed(question: Callable[[ServiceState], T]) -> T:
        def ask(state: ServiceState) -> T:
            began_s = time.perf_counter()
            try:
                return question(state)
            finally:
                held_s.append(time.perf_counter() - began_s)

        return call(ask)

    world.service.loop.call = timed  # type: ignore[method-assign]
    took_s, size = [], 0
    for _ in range(TIMES):
        began_s = time.perf_counter()
        size = len(encoded_large("nodes", world.service.nodes(OPERATOR, readings=False)))
        took_s.append(time.perf_counter() - began_s)
    print(f"{nodes} nodes of 8 devices, all taken; {size / 1e6:.1f} MB; {TIMES} times")
    _show("the planning thread is held", held_s)
    _show("asked and encoded", took_s)


def _show(what: str, seconds: list[float]) -> None:
    print(f"{what}: median {1e3 * statistics.median(seconds):.1f} ms, longest {1e3 * max(seconds):.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
