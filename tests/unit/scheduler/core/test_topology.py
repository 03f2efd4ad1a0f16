"""Near and far: islands, nodes, racks and sites; what a gang prefers, and what `within`, `spread`, `one_per` ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from scheduler.core.claims import Claim
from scheduler.core.demand import UNCONSTRAINED, WHOLE_DEVICE_MILLI, Constraints, Demand, Level, NodeFacts, Placement
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns
from scheduler.core.placement import Pools, how_many, place
from tests.fakes.cluster_table import demand, node_facts

HALVES = ["left"] * 4 + ["right"] * 4


def halves(name: str) -> list[str]:
    return [f"{name}-{half}" for half in HALVES]


def racks(*sizes: int, devices: int = 2, site: str = "north") -> list[NodeFacts]:
    """Nodes a0, a1, ... in rack a, b0, ... in rack b, and so on."""
    return [
        node_facts(f"{rack}{i}", devices, rack=rack, site=site)
        for rack, size in zip("abcdefgh", sizes, strict=False)
        for i in range(size)
    ]


def cluster(
    nodes: Sequence[NodeFacts], busy: Mapping[str, Sequence[int] | int] | None = None
) -> tuple[Pools, FreeColumns]:
    """`busy`: which devices of a node are taken, or the first so many."""
    columns = NodeColumns().with_nodes(nodes)
    free = FreeColumns.empty(columns)
    taken = {name: tuple(range(which)) if isinstance(which, int) else which for name, which in (busy or {}).items()}
    free.take(Claim.of(columns, [Placement(0, name, tuple(which), 0, 0, 0, 0) for name, which in taken.items()]))
    return Pools(columns, np.ones(len(columns), np.bool_), columns.tie_rank(0)), free


def where(
    nodes: Sequence[NodeFacts],
    *alternatives: Demand,
    busy: Mapping[str, Sequence[int] | int] | None = None,
    workers: int = 1,
    within: Level | None = None,
    spread: Level | None = None,
    one_per: Level | None = None,
    beside: Sequence[str] = (),
    excluded: str = "",
    only: str | None = None,
) -> dict[str, list[int]] | None:
    """Node -> devices of the gang, in order; None where it finds no place."""
    pools, free = cluster(nodes, busy)
    names = pools.nodes.names
    fit = place(
        pools,
        free,
        alternatives or (demand(),),
        wanted=workers,
        at_least=workers,
        constraints=Constraints(within, spread, one_per),
        beside=beside,
        excluded=np.array([name in excluded.split() for name in names], np.bool_) if excluded else None,
        only=None if only is None else np.array([name in only.split() for name in names], np.bool_),
    )
    if fit is None:
        return None
    found: dict[str, list[int]] = {}
    for placement in sorted(fit.placements, key=lambda p: (p.node, p.devices)):
        found.setdefault(placement.node, []).extend(placement.devices)
    return found


def first_letters(found: dict[str, list[int]] | None) -> str:
    return "".join(sorted(name[0] for name in found or {}))


# ---- a gang stays together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "busy", "stands"),
    [
        (2, {}, {"n0": [0, 1]}),  # an island, rather than any two devices
        (4, {"n0": [0]}, {"n0": [4, 5, 6, 7]}),
        (2, {"n0": [0, 1]}, {"n0": [2, 3]}),  # the tightest island with room
        (3, {"n0": [0, 1, 4]}, {"n0": [5, 6, 7]}),
        (4, {"n0": [0, 4]}, {"n0": [1, 2, 3, 5]}),  # no island holds it: one node does
    ],
)
def test_a_gang_keeps_to_one_island_of_a_node(
    workers: int, busy: dict[str, list[int]], stands: dict[str, list[int]]
) -> None:
    assert where([node_facts("n0", 8, island=halves("n0"))], workers=workers, busy=busy) == stands


def test_the_island_of_another_node_comes_before_two_islands_of_one() -> None:
    nodes = [node_facts(name, 8, island=halves(name)) for name in ("n0", "n1")]
    assert where(nodes, workers=4, busy={"n0": [0, 4], "n1": [0]}) == {"n1": [4, 5, 6, 7]}


def test_an_island_that_spans_nodes_comes_before_a_rack() -> None:
    nodes = [*racks(4), *(node_facts(f"x{i}", 2, rack="x", island="nvl") for i in range(3))]
    assert first_letters(where(nodes, workers=6)) == "xxx"


def test_one_node_comes_before_one_rack_and_one_rack_before_one_site() -> None:
    assert where([*racks(2), node_facts("x0", 4)], workers=4) == {"x0": [0, 1, 2, 3]}
    assert first_letters(where([*racks(3, 2)], busy={"a0": 1, "b0": 1}, workers=3)) == "bb"
    far = [*racks(1, 1, 1), *(node_facts(f"y{i}", 2, site="south") for i in range(2))]
    assert first_letters(where(far, workers=4)) == "yy"


@pytest.mark.parametrize(("workers", "rack"), [(1, "c"), (3, "b"), (4, "b"), (5, "aaa"), (6, "aaa"), (7, "aaab")])
def test_the_tightest_rack_that_holds_the_gang(workers: int, rack: str) -> None:
    found = where([*racks(3, 2, 1)], busy={"c0": 1}, workers=workers)
    assert set(first_letters(found)) <= set("abc")
    if workers < 7:
        assert set(first_letters(found)) == set(rack)


def test_the_last_node_of_a_gang_is_the_tightest_with_room_for_the_rest() -> None:
    nodes = [node_facts(f"n{i}", 4) for i in range(4)]
    found = where(nodes, workers=7, busy={"n1": 1, "n2": 1, "n3": 3})
    assert found is not None
    assert sorted(map(len, found.values())) == [3, 4]
    assert where(nodes, workers=6, busy={"n1": 2, "n3": 3}) in (
        {"n0": [0, 1, 2, 3], "n1": [2, 3]},
        {"n2": [0, 1, 2, 3], "n1": [2, 3]},
    )


def test_racks_of_one_name_at_two_sites_are_two() -> None:
    nodes = [*racks(1), node_facts("z0", 2, rack="a", site="south")]
    assert where(nodes, workers=4, within=Level.RACK) is None


# ---- one worker and its devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "busy", "stands"),
    [
        (2, [], [0, 1]),
        (2, [0, 1], [2, 3]),
        (3, [0, 1], [4, 5, 6]),
        (4, [1], [4, 5, 6, 7]),
        (5, [0], [1, 4, 5, 6, 7]),  # no island has five: the fuller one wholly, then one of the other
        (4, [0, 1, 4], [2, 5, 6, 7]),
        (1, [0], [1]),  # the island that is broken already
    ],
)
def test_a_workers_devices_are_of_one_island_or_of_few(devices: int, busy: list[int], stands: list[int]) -> None:
    found = where([node_facts("n0", 8, island=halves("n0"))], demand(devices), busy={"n0": busy})
    assert found == {"n0": stands}


def test_workers_of_two_devices_do_not_straddle_islands() -> None:
    pools, free = cluster([node_facts("n0", 8, island=halves("n0"))], {"n0": [0, 5]})
    fit = place(pools, free, (demand(2),), wanted=3, at_least=3)
    assert fit is not None
    assert sorted(p.devices for p in fit.placements) == [(1, 2), (3, 7), (4, 6)]


def test_a_node_where_one_island_has_room_comes_before_a_tighter_one_where_two_must_do() -> None:
    nodes = [node_facts(name, 8, island=halves(name)) for name in ("n0", "n1")]
    assert where(nodes, demand(4), busy={"n0": [0, 1, 4, 5]}) == {"n1": [0, 1, 2, 3]}
    assert where(nodes, demand(2), busy={"n0": [0, 1, 4, 5]}) == {"n0": [2, 3]}


# ---- within -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "workers", "fits"),
    [
        (Level.ISLAND, 2, True),
        (Level.ISLAND, 3, False),
        (Level.NODE, 2, True),
        (Level.NODE, 3, False),
        (Level.RACK, 6, True),
        (Level.RACK, 7, False),
        (Level.SITE, 10, True),
        (Level.SITE, 11, False),
    ],
)
def test_within_a_level(level: Level, workers: int, fits: bool) -> None:
    nodes = [*racks(3, 2), node_facts("s0", 2, site="south")]
    assert (where(nodes, workers=workers, within=level) is not None) == fits


def test_within_a_rack_a_gang_still_prefers_one_node() -> None:
    nodes = [*racks(2), node_facts("x0", 4, rack="x")]
    assert where(nodes, workers=3, within=Level.RACK) == {"x0": [0, 1, 2]}


def test_without_a_rack_a_node_is_one() -> None:
    nodes = [node_facts("n0", 2), node_facts("n1", 2)]
    assert where(nodes, workers=2, within=Level.RACK) == where(nodes, workers=2, within=Level.NODE)
    assert where(nodes, workers=3, within=Level.RACK) is None


def test_within_holds_over_alternatives() -> None:
    nodes = [
        node_facts("a0", 2, model="H100", rack="a"),
        node_facts("b0", 1, model="H100", rack="b"),
        node_facts("b1", 2, model="A100", rack="b"),
    ]
    either = (demand(model="H100"), demand(model="A100"))
    assert where(nodes, *either, workers=2, within=Level.RACK) == {"a0": [0, 1]}
    assert where(nodes, *either, workers=3, within=Level.RACK) == {"b0": [0], "b1": [0, 1]}
    assert where(nodes, *either, workers=4, within=Level.RACK) is None
    assert where(nodes, *either, workers=4) is not None


def test_within_means_the_siblings_domain() -> None:
    nodes = [*racks(2, 3)]
    assert first_letters(where(nodes, within=Level.RACK, beside=("a0",), excluded="a0")) == "a"
    assert where(nodes, workers=5, within=Level.RACK, beside=("a0",)) is None
    assert where(nodes, workers=5, within=Level.RACK, beside=("gone",)) is not None


def test_an_elastic_gang_takes_the_domain_that_holds_most() -> None:
    pools, free = cluster([*racks(1, 3)])
    fit = place(pools, free, (demand(),), wanted=9, at_least=2, constraints=Constraints(within=Level.RACK))
    assert fit is not None
    assert len(fit.placements) == 6
    assert how_many(pools, free, (demand(),), 9, constraints=Constraints(within=Level.RACK)) == 6


def test_of_racks_as_near_the_tightest() -> None:
    assert first_letters(where(racks(3, 2, 4), workers=3, within=Level.RACK)) == "bb"


def test_most_workers_come_before_the_first_alternative() -> None:
    nodes = [
        node_facts("a0", 2, model="H100", rack="a"),
        node_facts("b0", 1, model="H100", rack="b"),
        node_facts("b1", 3, model="A100", rack="b"),
    ]
    either = (demand(model="H100"), demand(model="A100"))
    pools, free = cluster(nodes)
    assert how_many(pools, free, either, 9, constraints=Constraints(within=Level.RACK)) == 4
    fit = place(pools, free, either, wanted=9, at_least=1, constraints=Constraints(within=Level.RACK))
    assert fit is not None
    assert len(fit.placements) == 4


def test_cpus_bound_what_islands_of_one_node_take_together_but_not_each_alone() -> None:
    nodes = [node_facts("n0", 8, island=halves("n0"), cpus=2)]
    assert where(nodes, workers=2, within=Level.ISLAND, busy={"n0": [0, 1, 2]}) == {"n0": [4, 5]}
    pools, free = cluster([node_facts("n0", 8, island=halves("n0"), cpus=1)])
    assert how_many(pools, free, (demand(),), 2, constraints=Constraints(one_per=Level.ISLAND)) == 1


# ---- spread and one_per -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "busy", "beside", "counts"),
    [
        (3, {}, (), {"a": 1, "b": 1, "c": 1}),
        (2, {"a0": 2}, (), {"b": 1, "c": 1}),
        (5, {"a0": 1, "b0": 1}, (), {"a": 1, "b": 1, "c": 2}),  # only four fit
        (4, {"a0": 1, "b0": 1}, (), {"a": 1, "b": 1, "c": 2}),
        (1, {}, ("a0", "b0"), {"c": 1}),
        (3, {}, ("a0", "a0", "b0"), {"b": 1, "c": 2}),
        (1, {"c0": 2}, ("a0", "a0", "b0"), {"b": 1}),
        (1, {}, ("gone", "a0", "b0"), {"c": 1}),
    ],
)
def test_spread_is_as_even_as_there_is_room(
    workers: int, busy: dict[str, int], beside: tuple[str, ...], counts: dict[str, int]
) -> None:
    pools, free = cluster(racks(1, 1, 1), busy)
    constraints = Constraints(spread=Level.RACK)
    fit = place(pools, free, (demand(),), wanted=workers, at_least=1, constraints=constraints, beside=beside)
    assert fit is not None
    assert {letter: sum(p.node[0] == letter for p in fit.placements) for letter in counts} == counts


def test_spread_gives_way_where_there_is_no_room_elsewhere() -> None:
    assert where(racks(1), workers=2, spread=Level.NODE) == {"a0": [0, 1]}
    nodes = [node_facts("n0", 8, island=halves("n0"))]
    assert where(nodes, demand(6), spread=Level.ISLAND) is not None


def test_inside_a_domain_spread_workers_are_packed() -> None:
    nodes = racks(3, 1, devices=4)
    found = where(nodes, workers=2, spread=Level.RACK, busy={"a1": 3})
    assert found == {"a1": [3], "b0": [0]}


def test_many_domains_are_filled_at_once() -> None:
    nodes = [node_facts(f"n{i}", 2, rack=f"r{i // 2}") for i in range(200)]
    busy = {f"n{i}": 1 for i in range(0, 200, 2)}
    found = where(nodes, workers=100, spread=Level.RACK, busy=busy)
    assert found == {f"n{i}": [1] for i in range(0, 200, 2)}


@pytest.mark.parametrize(
    ("level", "workers", "beside", "fits"),
    [
        (Level.NODE, 5, (), True),
        (Level.NODE, 6, (), False),
        (Level.NODE, 4, ("a0",), True),
        (Level.NODE, 5, ("a0",), False),
        (Level.RACK, 2, (), True),
        (Level.RACK, 3, (), False),
        (Level.RACK, 1, ("b1",), True),
        (Level.RACK, 2, ("b1",), False),
        (Level.SITE, 1, (), True),
        (Level.SITE, 2, (), False),
        (Level.SITE, 1, ("b1",), False),
    ],
)
def test_one_per(level: Level, workers: int, beside: tuple[str, ...], fits: bool) -> None:
    assert (where(racks(3, 2), workers=workers, one_per=level, beside=beside) is not None) == fits


def test_one_per_island_of_a_node() -> None:
    nodes = [node_facts("n0", 8, island=halves("n0"))]
    assert where(nodes, demand(2), workers=2, one_per=Level.ISLAND) == {"n0": [0, 1, 4, 5]}
    assert where(nodes, demand(2), workers=3, one_per=Level.ISLAND) is None
    assert where(nodes, demand(2), one_per=Level.ISLAND, beside=("n0",)) is None  # nobody knows in which it stands


def test_one_per_node_keeps_a_gang_in_one_rack() -> None:
    assert first_letters(where(racks(2, 3, 4), workers=3, one_per=Level.NODE)) == "bbb"
    assert (
        first_letters(where(racks(2, 3, 4), workers=3, one_per=Level.NODE, within=Level.RACK, excluded="b2")) == "ccc"
    )


def test_one_per_counts_workers_of_every_alternative() -> None:
    nodes = [node_facts("n0", 2, model=["H100", "A100"]), node_facts("n1", 1, model="A100")]
    either = (demand(model="H100"), demand(model="A100"))
    assert where(nodes, *either, workers=2, one_per=Level.NODE) == {"n0": [0], "n1": [0]}
    assert where(nodes, *either, workers=3, one_per=Level.NODE) is None


# ---- nodes left out -------------------------------------------------------------------------------------------------


def test_excluded_and_only() -> None:
    nodes = racks(1, 1, 1)
    assert where(nodes, only="b0") == {"b0": [0]}
    assert where(nodes, only="b0 c0", excluded="b0") == {"c0": [0]}
    assert where(nodes, only="b0", excluded="b0") is None
    assert where(nodes, workers=4, excluded="a0") == {"b0": [0, 1], "c0": [0, 1]}
    assert where(nodes, workers=5, excluded="a0") is None
    pools, free = cluster(nodes)
    excluded = np.array([True, False, False])
    assert how_many(pools, free, (demand(),), 9, excluded=excluded) == 4
    assert how_many(pools, free, (demand(),), 9, only=excluded) == 2


# ---- the packing policy is asked -----------------------------------------------------------------------------------


class LastNode:
    """A policy that wants the last candidate and the last device with room."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

    def best(self, free: FreeColumns, demand: Demand, candidates: np.ndarray, workers: int) -> int:
        rows = np.flatnonzero(candidates).tolist()
        self.asked.append((rows, workers))
        return int(rows[-1])

    def first_choice(self, free: FreeColumns, demand: Demand) -> int | None:
        room = free.milli.max(axis=1) >= (demand.share_milli or WHOLE_DEVICE_MILLI * (demand.devices > 0))
        return self.best(free, demand, room, 1) if room.any() else None

    def devices(self, free: FreeColumns, row: int, demand: Demand) -> tuple[int, ...]:
        return (int(np.flatnonzero(free.milli[row] >= demand.share_milli)[-1]),)


@pytest.mark.parametrize(
    ("wants", "workers", "asked", "stands"),
    [
        (demand(1), 1, [([0, 1, 2], 1)], {"c0": [0]}),
        (demand(0, share=0.5), 1, [([0, 1, 2], 1)], {"c0": [1]}),
        (demand(1), 2, [([0, 2], 2)], {"c0": [0, 1]}),  # a gang that one node holds
        (demand(1), 5, [], {"a0": [0, 1], "b0": [1], "c0": [0, 1]}),  # nothing is left to choose
        (demand(1), 3, [([0, 1], 1)], None),
        (demand(2), 2, [], {"a0": [0, 1], "c0": [0, 1]}),
    ],
)
def test_what_a_packing_policy_is_asked(
    wants: Demand, workers: int, asked: list[tuple[list[int], int]], stands: dict[str, list[int]] | None
) -> None:
    pools, free = cluster(racks(1, 1, 1), {"b0": 1})
    packing = LastNode()
    pools = Pools(pools.nodes, pools.schedulable, np.array([2, 1, 0]), packing)
    fit = place(pools, free, (wants,), wanted=workers, at_least=workers, constraints=UNCONSTRAINED)
    assert fit is not None
    assert packing.asked == asked
    if stands is not None:
        found: dict[str, list[int]] = {}
        for placement in sorted(fit.placements, key=lambda p: p.node):
            found.setdefault(placement.node, []).extend(placement.devices)
        assert found == stands


# ---- the numbers themselves -----------------------------------------------------------------------------------------


def test_domains_and_cells() -> None:
    columns = NodeColumns().with_nodes(
        [
            node_facts("n0", 2, island="nvl", rack="r", site="north"),
            node_facts("n1", 2, island="nvl", rack="r", site="south"),
            node_facts("n2", 3, island=["p", "q", None]),
            node_facts("n3", 0),
        ]
    )
    topology = columns.topology
    assert topology.split.tolist() == [False, False, True, False]
    assert topology.cells.row.tolist() == [0, 1, 2, 2, 2, 3]
    cell_of = topology.cells.of_device
    assert cell_of is not None
    assert cell_of[2].tolist() == [2, 3, 4]
    islands = topology.cells.domains[Level.ISLAND].tolist()
    assert islands[0] == islands[1]
    assert len(set(islands)) == 5
    assert len(set(topology.rows.domains[Level.RACK].tolist())) == 4
    assert topology.ladder == (Level.ISLAND, Level.NODE, Level.SITE)
    assert topology.parent(Level.RACK, Level.SITE) is not None
    assert topology.parent(Level.ISLAND, Level.NODE) is None
    assert topology.siblings(np.array([2, 2, 0]), Level.ISLAND)[islands].tolist() == [1, 1, 2, 2, 2, 0]


def test_a_plain_cluster_has_no_ladder_to_climb() -> None:
    assert NodeColumns().with_nodes([node_facts("n0"), node_facts("n1")]).topology.ladder == (Level.ISLAND,)
    assert NodeColumns().with_nodes([node_facts("n0")]).topology.ladder == ()
    assert NodeColumns().topology.ladder == ()
