"""Each policy on a few nodes: which node and which device it picks, and why the other one would have been worse."""

from __future__ import annotations

import pytest

from scheduler.core.packing.policies import PACKINGS, packing_named
from scheduler.core.packing.shapes import Shape, TypicalShapes
from tests.fakes.packing_table import packing_table

HALVES = TypicalShapes.of([Shape(4000, 1, 500)])
MIX = TypicalShapes.of([Shape(4000, 1, 1000)] * 6 + [Shape(4000, 1, 250)] * 3 + [Shape(8000)])
ALL = sorted(PACKINGS)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'tetris' is unknown; there are: default, fgd, best-fit, dot-product"):
        packing_named("tetris")
    assert ALL == ["best-fit", "default", "dot-product", "fgd", "gpu-packing", "random"]


@pytest.mark.parametrize("policy", ALL)
def test_every_policy_places_only_where_there_is_room(policy: str) -> None:
    table = packing_table(
        "1000 1000, 1 CPUs", "500 0", "1000 900, 1 GiB", "1000 900, model T4", "1000 900", typical=MIX
    )
    not_on_t4 = [True, True, True, False, True]
    asked = {"cpus_milli": 4000, "memory_bytes": 2**31, "rows": not_on_t4}
    assert table.best(policy, table.ask(devices=1, **asked)) == (4, (0,))
    assert table.best(policy, table.ask(devices=2, **asked)) is None
    row, devices = table.best(policy, table.ask(share_milli=901, **asked)) or (None, ())
    assert (row, devices) == (4, (0,))
    assert table.best(policy, table.ask(**asked)) is not None
    assert table.best(policy, table.ask(cpus_milli=97_000)) is None


@pytest.mark.parametrize("policy", [name for name in ALL if name != "random"])
def test_equals_are_told_apart_by_the_node_order_alone(policy: str) -> None:
    table = packing_table("1000 1000", "1000 1000", "1000 1000", typical=MIX)
    for tie_rank, first in (([0, 1, 2], 0), ([2, 1, 0], 2), ([1, 0, 2], 1)):
        assert table.scorer(policy, tie_rank).best(table.free, table.ask(devices=1, cpus_milli=1000)) == first


@pytest.mark.parametrize(
    ("policy", "nodes", "asked", "picked"),
    [
        # the published integer scores, by hand
        ("best-fit", ["1000 1000, 64 CPUs", "1000 0, 64 CPUs"], {"devices": 1, "cpus_milli": 4000}, (1, (0,))),
        ("best-fit", ["1000 0, 64 CPUs", "1000 0, 16 CPUs"], {"devices": 1, "cpus_milli": 4000}, (1, (0,))),
        ("best-fit", ["1000 600 300"], {"share_milli": 250}, (0, (2,))),
        ("dot-product", ["1000 1000, 64 CPUs", "1000 0, 64 CPUs"], {"devices": 1, "cpus_milli": 4000}, (1, (0,))),
        ("gpu-packing", ["1000 1000", "1000 500"], {"share_milli": 250}, (1, (1,))),
        ("gpu-packing", ["1000 1000", "1000 0"], {"devices": 1}, (1, (0,))),
        ("gpu-packing", ["1000 900", "1000 300"], {"share_milli": 250}, (1, (1,))),
        ("gpu-packing", ["1000 1000 1000", "1000 1000"], {"devices": 1}, (1, (0,))),
    ],
)
def test_what_looks_at_the_node_alone(
    policy: str, nodes: list[str], asked: dict[str, int], picked: tuple[int, tuple[int, ...]]
) -> None:
    table = packing_table(*nodes)
    assert table.best(policy, table.ask(**asked)) == picked


@pytest.mark.parametrize(
    ("policy", "nodes", "asked", "score"),
    [
        ("best-fit", "1000 1000, 64 CPUs", {"devices": 1, "cpus_milli": 4000}, 70),  # 1 - 60/256 - 1/16 = .703
        ("dot-product", "1000 1000, 64 CPUs", {"devices": 1, "cpus_milli": 4000}, 97),  # 1 - (.0156 + .0313)/2 = .977
        ("gpu-packing", "1000 1000", {"devices": 1}, 31),
        ("gpu-packing", "1000 0", {"devices": 1}, 49),
        ("gpu-packing", "640 0", {"share_milli": 250}, 94),
        ("gpu-packing", "640 0", {"cpus_milli": 1000}, 0),
        ("fgd", "1000 1000", {"devices": 1, "cpus_milli": 4000}, 50),
        ("fgd", "1000 1000", {"share_milli": 750, "cpus_milli": 4000}, 43),  # 250 stranded: sigmoid(-.25) = .438
        ("fgd", "750 1000", {"share_milli": 500, "cpus_milli": 4000}, 50),  # the 1000: nothing stranded
    ],
)
def test_published_scores(policy: str, nodes: str, asked: dict[str, int], score: int) -> None:
    table = packing_table(nodes, typical=HALVES)
    assert table.scores(policy, table.ask(**asked)) == [score]


def test_fgd_leaves_the_device_that_typical_work_can_use() -> None:
    table = packing_table("1000 700", typical=HALVES)
    assert table.best("fgd", table.ask(share_milli=200, cpus_milli=0)) == (0, (1,))
    assert table.best("fgd", table.ask(share_milli=300, cpus_milli=0)) == (0, (0,))  # else 300 of 700 were stranded


def test_fgd_among_equal_devices_takes_the_tightest() -> None:
    table = packing_table("1000 500 600", typical=HALVES)
    assert table.best("fgd", table.ask(share_milli=500, cpus_milli=0)) == (0, (1,))


def test_random_takes_every_node_and_device_about_as_often() -> None:
    table = packing_table("900 1000", "1000 700", "1000 1000", "1000 1000")
    seen: dict[tuple[int, tuple[int, ...]], int] = {}
    for extra in range(4000):
        table.free.cpus_milli[:] = 96_000 + extra
        placed = table.best("random", table.ask(share_milli=800))
        assert placed is not None
        seen[placed] = seen.get(placed, 0) + 1
    assert set(seen) == {(0, (0,)), (0, (1,)), (1, (0,)), (2, (0,)), (3, (0,))}  # equal devices are one
    by_node = [sum(count for (row, _), count in seen.items() if row == node) for node in range(4)]
    assert all(850 < count < 1150 for count in by_node), seen


def test_random_deals_equal_clusters_equal_cards() -> None:
    one, other = (packing_table(*["1000 1000"] * 20) for _ in range(2))
    other.free.stamps += 17
    assert one.best("random", one.ask(devices=1)) == other.best("random", other.ask(devices=1))
