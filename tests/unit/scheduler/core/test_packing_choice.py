"""The planner and its packing policies: one ask for demands alike, best fit where nothing is known, a live figure."""

from __future__ import annotations

import pytest

from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.packing_choice import PackingChoice
from tests.fakes.cluster_table import ClusterTable, cluster, demand

QUARTERS = TypicalShapes.of_counts({Shape(1000, 1, 250): 10})
WHOLE_NODES = TypicalShapes.of_counts({Shape(8000, 8, 1000): 10})


def choice(table: ClusterTable, policy: str, shapes: TypicalShapes) -> PackingChoice:
    return PackingChoice(policy, table.state.nodes, shapes, table.state.nodes.tie_rank(0))


def test_a_policy_that_does_not_exist_is_refused_with_the_ones_that_do() -> None:
    table = cluster().policy(packing="tightest").submit("a")
    with pytest.raises(ValueError, match=r"tightest.*best-fit"):
        table.plan()


def test_demands_that_differ_in_little_share_one_ask() -> None:
    table = cluster(nodes=2)
    chosen = choice(table, "fgd", QUARTERS)
    for cpus in (4, 5, 7, 8):
        chosen.best(table.state.free, demand(1, cpus=cpus), table.state.schedulable, 1)
    assert len(chosen._alike) == 2  # 4 to 7 CPUs, and 8
    assert chosen._ask(demand(1, cpus=7)) is chosen._ask(demand(1, cpus=4))
    assert chosen._ask(demand(1, cpus=7)) is not chosen._ask(demand(2, cpus=4))
    assert chosen._ask(demand(1, cpus=7)) is not chosen._ask(demand(share=0.5, cpus=4))


def test_whether_a_node_has_room_is_not_rounded() -> None:
    """7 CPUs count as 4 for the score; the node with 5 left is the better fit by it, and has no room."""
    table = cluster(nodes=1, cpus=64).nodes(1, 8, "small", cpus=5)
    table.state.set_shapes(QUARTERS)
    table.submit("a", cpus=7).expect(started="a")
    assert list(table.where("a")) == ["n0"]


@pytest.mark.parametrize("packing", ["default", "fgd"])
def test_where_no_typical_work_is_known_best_fit_decides(packing: str) -> None:
    table = cluster(nodes=2).policy(packing=packing).run("r", "n1", 3)
    table.submit("a", devices=2).expect(started="a")
    assert list(table.where("a")) == ["n1"]


def test_what_is_typical_decides_where_a_job_goes() -> None:
    """Where work of eight devices is typical the node that has lost one already takes the next, in any node order."""
    for seed in range(4):
        table = cluster(nodes=2).policy(packing="default", tie_seed=seed).run("r", "n1", 1)
        table.state.set_shapes(WHOLE_NODES)
        table.submit("a", devices=1).expect(started="a")
        assert list(table.where("a")) == ["n1"]


@pytest.mark.parametrize("packing", ["random", "dot-product", "gpu-packing", "fgd", "default", "best-fit"])
def test_every_policy_places_what_fits(packing: str) -> None:
    table = cluster(nodes=3).policy(packing=packing)
    table.state.set_shapes(TypicalShapes.of_counts({Shape(1000, 1, 250): 3, Shape(4000, 2, 1000): 2}))
    for _ in range(6):
        table.submit(devices=4)
    table.expect(started=6).apply()
    table.submit("late", share=0.25).expect(started="", waiting="late")


# ---- the live figure ---------------------------------------------------------------------------------------------


def test_the_fragmentation_figure_counts_what_typical_work_could_not_use() -> None:
    table = cluster(nodes=2)
    assert table.state.fragmentation().share is None  # no work is known
    table.state.set_shapes(WHOLE_NODES)
    assert table.state.fragmentation().share == 0.0
    table.run("r", "n0", 1)
    figure = table.state.fragmentation()
    assert (figure.idle_milli, figure.stranded_milli) == (15_000, 7_000)
    assert figure.share == pytest.approx(7 / 15)
    table.state.set_shapes(QUARTERS)
    assert table.state.fragmentation().share == 0.0


def test_drained_and_simulated_nodes_are_not_in_the_figure() -> None:
    table = cluster(nodes=2).nodes(1, 8, "s", simulated=True).unschedulable("n1", "draining: fan")
    table.state.set_shapes(QUARTERS)
    assert table.state.fragmentation().idle_milli == 8_000
    assert table.state.fragmentation(simulated=True).idle_milli == 8_000


def test_a_full_cluster_has_no_figure() -> None:
    table = cluster(nodes=1).run("r", "n0", 8)
    table.state.set_shapes(QUARTERS)
    assert table.state.fragmentation() == type(table.state.fragmentation())(0, 0, None)


# ---- reasons by kind ---------------------------------------------------------------------------------------------


def test_jobs_of_a_kind_point_to_one_reason_also_those_that_come_later() -> None:
    table = cluster(nodes=1).run("r", "n0", 8, ends_in=None)
    for name in ("a", "b", "c"):
        table.submit(name, devices=2, limit=None)
    reasons = table.plan().reasons
    assert reasons["b"] is reasons["c"]
    assert sorted(reasons) == ["a", "b", "c"]
    assert len(reasons) == 3
    table.submit("d", devices=2, limit=None)
    table.queue  # noqa: B018  (brings the queue up to date)
    assert reasons["d"] is reasons["c"]
    with pytest.raises(KeyError):
        reasons["nobody"]
