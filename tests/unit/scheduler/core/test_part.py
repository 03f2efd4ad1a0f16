"""The nodes that serve a job, as a cluster of their own: what is asked of them is answered as of all nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.claims import Claim
from scheduler.core.part import Part
from scheduler.core.plan import plan
from tests.fakes.cluster_table import ClusterTable, cluster
from tests.unit.scheduler.core.test_properties import rebuilt, said

MODELS = ("H100 SXM", "A100", "L40S")


def three_pools() -> ClusterTable:
    table = cluster(nodes=3, devices=4, prefix="h", model=MODELS[0])
    return table.nodes(2, devices=4, prefix="a", model=MODELS[1]).nodes(3, devices=4, prefix="l", model=MODELS[2])


def part_of(table: ClusterTable, prefix: str) -> Part:
    nodes = np.array([name.startswith(prefix) for name in table.state.node_names])
    part = Part.serving(table.state.plain_pools(0), nodes, {})
    assert part is not None
    return part


def test_what_is_free_there_and_put_back_is_the_whole() -> None:
    table = three_pools().run("a", "a0", 3).run("h", "h1", 2)
    part, free = part_of(table, "a"), table.state.free
    inside = part.of(free)
    assert inside.whole.tolist() == [1, 4]
    assert (part.put(inside, free).milli == free.milli).all()
    inside.take(Claim.of(part.pools.nodes, table.state.held("a")[:0]))
    inside.milli[1] = 0
    put = part.put(inside, free)
    assert put.whole.tolist() == [4, 2, 4, 1, 0, 4, 4, 4]
    assert (put.stamps == free.stamps).tolist() == [True] * 4 + [False] + [True] * 3


def test_of_a_claim_only_what_is_there_counts() -> None:
    table = three_pools().run("a", "a1", 2).run("h", "h0", 2)
    part, nodes = part_of(table, "a"), table.state.nodes
    both = Claim.joined([Claim.of(nodes, table.state.held(job)) for job in ("h", "a")])
    inside = part.claim(both)
    assert (inside.rows.tolist(), inside.worker_rows.tolist(), inside.devices.tolist()) == ([1, 1], [1], [0, 1])


def test_a_part_that_spares_little_or_a_job_with_siblings_elsewhere_gets_none() -> None:
    table = three_pools()
    assert Part.serving(table.state.plain_pools(0), np.ones(8, np.bool_), {}) is None
    few = np.arange(8) < 2
    assert Part.serving(table.state.plain_pools(0), few, {"beside": ("l0",)}) is None
    assert Part.serving(table.state.plain_pools(0), few, {}) is Part.serving(table.state.plain_pools(0), few, {})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4), st.integers(1, 3), st.integers(5, 60)), max_size=10),
    st.lists(
        st.tuples(st.sampled_from(MODELS), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)),
        min_size=1,
        max_size=8,
    ),
)
def test_plans_are_those_made_over_all_nodes(
    running: list[tuple[int, int, int, int]], waiting: list[tuple[str, int, int, int]]
) -> None:
    table = three_pools()
    taken = [0] * 8
    for number, (row, devices, priority, ends_in) in enumerate(running):
        if taken[row] + devices <= 4:
            own = list(range(taken[row], taken[row] + devices))
            table.run(f"r{number}", table.state.node_names[row], own, priority=priority, ends_in=float(ends_in))
            taken[row] += devices
    for number, (model, devices, workers, priority) in enumerate(waiting):
        limit = 10.0 * (number + 1)
        table.submit(f"w{number}", devices=devices, workers=workers, model=model, priority=priority, limit=limit)
    in_parts = plan(table.state, table.kept, table.settings, now_s=table.now_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "serving", lambda pools, nodes, where: None)
        over_all = plan(rebuilt(table), table.queue, table.settings, now_s=table.now_s)
    assert said(in_parts) == said(over_all)
