"""Where gangs, shares and CPU-only work stand on an otherwise quiet cluster."""

from __future__ import annotations

import pytest

from scheduler.core.reasons import NoFit, Unsatisfiable
from tests.fakes.cluster_table import cluster, demand


@pytest.mark.parametrize(
    ("workers", "devices", "nodes", "started"),
    [(1, 8, 1, 1), (1, 9, 2, 0), (2, 8, 2, 1), (3, 8, 2, 0), (16, 1, 2, 1), (17, 1, 2, 0), (5, 3, 2, 0), (4, 3, 2, 1)],
)
def test_a_gang_starts_whole_or_not_at_all(workers: int, devices: int, nodes: int, started: int) -> None:
    cluster(nodes=nodes, devices=8).submit(workers=workers, devices=devices).expect(started=started)


def test_workers_are_numbered_and_hold_distinct_devices() -> None:
    table = cluster(nodes=2).submit("a", workers=4, devices=4).expect(started="a")
    taken = [(p.node, d) for p in table.placements("a") for d in p.devices]
    assert [p.worker for p in table.placements("a")] == [0, 1, 2, 3]
    assert len(set(taken)) == 16


def test_single_worker_goes_where_fewest_devices_are_left() -> None:
    table = cluster(nodes=3).run("r0", "n0", 2).run("r1", "n1", 5).run("r2", "n2", 7).submit("a", devices=2)
    assert list(table.expect(started="a").where("a")) == ["n1"]


def test_gang_takes_as_few_nodes_as_possible_and_best_fit_for_the_rest() -> None:
    table = cluster(nodes=4).run("r1", "n1", 5).run("r2", "n2", 6).submit("a", workers=10, devices=1)
    where = table.expect(started="a").where("a")
    assert len(where["n2"]) == 2
    assert len(where) == 2


def test_share_goes_to_the_tightest_device_and_spares_whole_ones() -> None:
    table = cluster(nodes=2).run("r0", "n0", [3], share=0.5).run("r1", "n1", [5], share=0.7).submit("a", share=0.3)
    assert table.expect(started="a").where("a") == {"n1": [5]}
    table = cluster(nodes=2).run("r0", "n0", [3], share=0.5).run("r1", "n1", [5], share=0.8).submit("a", share=0.3)
    assert table.expect(started="a").where("a") == {"n0": [3]}


@pytest.mark.parametrize(("share", "workers", "started"), [(0.5, 4, 1), (0.5, 5, 0), (0.4, 5, 0), (0.3, 6, 1)])
def test_shares_never_add_up_over_a_device(share: float, workers: int, started: int) -> None:
    cluster(nodes=1, devices=2).submit(share=share, workers=workers).expect(started=started)


def test_whole_device_never_lands_on_a_shared_one() -> None:
    table = cluster(nodes=1, devices=2).run("r", "n0", [0], share=0.1).submit("a", devices=1).submit("b", devices=1)
    assert table.expect(started="a", waiting="b").where("a") == {"n0": [1]}


def test_cpu_only_work_goes_where_no_devices_lie_idle() -> None:
    table = cluster(nodes=1).nodes(1, 0, "c").submit("a", devices=0)
    assert table.expect(started="a").where("a") == {"c0": []}


@pytest.mark.parametrize(
    ("wants", "started"),
    [
        ({"cpus": 64}, 1),
        ({"cpus": 65}, 0),
        ({"memory_gib": 512}, 1),
        ({"memory_gib": 513}, 0),
        ({"node": "n1"}, 1),
        ({"node": "n7"}, 0),
        ({"site": "north"}, 1),
        ({"site": "south"}, 0),
        ({"model": "H100 SXM"}, 1),
        ({"model": "A100"}, 0),
        ({"vendor": "nvidia"}, 1),
        ({"vendor": "huawei"}, 0),
    ],
)
def test_sizes_pins_and_kinds(wants: dict[str, object], started: int) -> None:
    cluster(nodes=2).submit("a", **wants).expect(started=started)


def test_named_node_is_the_one() -> None:
    table = cluster(nodes=3).run("r", "n0", 7).submit("a", node="n2")
    assert list(table.expect(started="a").where("a")) == ["n2"]


def test_node_of_mixed_models_gives_only_the_right_devices() -> None:
    models = ["H100 SXM", "A100", "H100 SXM", "A100"]
    table = cluster(nodes=1, devices=4, model=models).submit("a", model="A100", devices=2)
    assert table.expect(started="a").where("a") == {"n0": [1, 3]}
    cluster(nodes=1, devices=4, model=models).submit("a", model="A100", devices=3).expect(started=0)
    table = cluster(nodes=1, devices=4, model=models).submit("a", model="A100", share=0.5, workers=4)
    assert sorted(table.expect(started="a").where("a")["n0"]) == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("wants", "stands"),
    [
        ({"labels": {"gpu-driver": "550"}}, {"new0": [0]}),
        ({"labels": {"gpu-driver": "550", "zone": "7"}}, None),
        ({"labels": {"gpu-driver": "560"}}, None),
        ({"device_labels": {"cooling": "liquid"}}, {"wet0": [0]}),
        ({"labels": {"zone": "7"}, "device_labels": {"cooling": "liquid"}}, {"wet0": [0]}),
        ({"device_labels": {"cooling": "liquid"}, "share": 0.5}, {"wet0": [0]}),
        ({"labels": {"gpu-driver": "550"}, "devices": 0}, {"new0": []}),
        ({"device_labels": {"cooling": "liquid"}, "devices": 0, "labels": {"gpu-driver": "550"}}, {"new0": []}),
    ],
)
def test_labels(wants: dict[str, object], stands: dict[str, list[int]] | None) -> None:
    table = cluster(1, 1, "old", labels={"gpu-driver": "535"}).nodes(1, 2, "new", labels={"gpu-driver": "550"})
    table.nodes(1, 3, "wet", labels={"zone": "7"}, device_labels={"cooling": "liquid"}).submit("a", **wants)
    table.expect(started=0 if stands is None else 1)
    if stands is not None:
        assert table.where("a") == stands


@pytest.mark.parametrize(
    ("wants", "workers", "stands"),
    [
        ({"mig": "1g.10gb"}, 2, {"n0": [1, 3]}),
        ({"mig": "1g.10gb"}, 3, None),
        ({"mig": "3g.40gb", "model": "H100 SXM"}, 1, {"n0": [2]}),
        ({"mig": "3g.40gb", "model": "A100"}, 1, None),
        ({"mig": "1g.10gb", "share": 0.5}, 4, {"n0": [1, 1, 3, 3]}),
        ({}, 2, {"n0": [0, 4]}),
        ({}, 3, None),
        ({"share": 0.5}, 5, None),
    ],
)
def test_mig_instances_serve_those_that_ask_for_their_profile_alone(
    wants: dict[str, object], workers: int, stands: dict[str, list[int]] | None
) -> None:
    table = cluster(1, 5, mig=[None, "1g.10gb", "3g.40gb", "1g.10gb", None]).submit("a", workers=workers, **wants)
    table.expect(started=0 if stands is None else 1)
    if stands is not None:
        assert {node: sorted(devices) for node, devices in table.where("a").items()} == stands


# ---- alternatives ------------------------------------------------------------------------------------------------


def test_first_alternative_wins_where_it_fits() -> None:
    table = cluster(nodes=1).nodes(1, 8, "a", model="A100")
    table.submit("j", demand(2, model="A100"), demand(2, model="H100 SXM")).expect(started="j")
    assert [p.alternative for p in table.placements("j")] == [0]


def test_gang_mixes_alternatives_only_for_workers_that_do_not_fit() -> None:
    table = cluster(nodes=1, devices=4).nodes(1, 8, "a", model="A100")
    table.submit("j", demand(2, model="H100 SXM"), demand(2, model="A100"), workers=3).expect(started="j")
    assert [p.alternative for p in table.placements("j")] == [0, 0, 1]


def test_later_alternative_alone_where_mixing_is_a_dead_end() -> None:
    # Two devices for the first worker leave one, and three workers of one device each would have fitted.
    table = cluster(nodes=1, devices=3).submit("j", demand(2), demand(1), workers=3).expect(started="j")
    assert [p.alternative for p in table.placements("j")] == [1, 1, 1]


# ---- the simulated gate ------------------------------------------------------------------------------------------


def test_simulated_nodes_are_only_for_demands_that_say_so() -> None:
    table = cluster(nodes=1, simulated=True).submit("a").submit("c", devices=0).submit("b", simulated=True)
    table.expect(started="b", waiting="a c")
    assert isinstance(table.last.reasons["a"], Unsatisfiable)


def test_simulated_nodes_come_before_real_ones_and_real_ones_still_serve() -> None:
    table = cluster(nodes=1, devices=2).nodes(1, 2, "s", simulated=True)
    for name in "abc":
        table.submit(name, simulated=True, devices=1)
    table.expect(started="a b c")
    assert [list(table.where(name)) for name in "abc"] == [["s0"], ["s0"], ["n0"]]


# ---- elastic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "most", "got"), [(1, 4, 4), (1, 8, 8), (2, 12, 8), (8, 20, 8), (9, 20, None)])
def test_elastic_job_takes_the_most_that_fits(least: int, most: int, got: int | None) -> None:
    table = cluster(nodes=1).submit("a", workers=(least, most))
    table.expect(started=0 if got is None else 1)
    if got is not None:
        assert len(table.placements("a")) == got


# ---- drained and down --------------------------------------------------------------------------------------------


def test_drained_and_silent_nodes_get_nothing_but_still_exist() -> None:
    table = cluster(nodes=2).unschedulable("n0", "draining: disk swap").unschedulable("n1", "down").submit("a")
    reason = table.reason("a")
    assert isinstance(reason, NoFit)
    assert reason.nodes_by_reason == (("down", 1), ("draining", 1))


# ---- ties --------------------------------------------------------------------------------------------------------


def test_ties_follow_the_seed_and_nothing_else() -> None:
    def first_node(seed: int) -> str:
        table = cluster(nodes=16).policy(tie_seed=seed).submit("a", devices=8)
        return next(iter(table.expect(started="a").where("a")))

    chosen = {seed: first_node(seed) for seed in range(20)}
    assert chosen == {seed: first_node(seed) for seed in range(20)}
    assert len(set(chosen.values())) > 5


def test_a_node_that_joins_does_not_reorder_the_others() -> None:
    def order(names: list[str]) -> list[str]:
        table = cluster(nodes=0)
        for name in names:
            table.nodes(1, 1, name)
        for i in range(len(names)):
            table.submit(f"j{i}")
        table.expect(started=len(names))
        return [next(iter(table.where(f"j{i}"))) for i in range(len(names))]

    few, more = order(list("abcdef")), order(list("xfedcba"))
    assert [name for name in more if name != "x0"] == few


def test_devices_that_a_narrower_node_does_not_have_take_no_room_from_those_it_has() -> None:
    """A mutant that counted absent devices as less than nothing survived."""
    table = cluster(nodes=1, devices=2).nodes(1, 8, "wide").run("r", "wide0", 8)
    table.submit("a", workers=4, share=0.5).expect(started="a")
    assert list(table.where("a")) == ["n0"]
