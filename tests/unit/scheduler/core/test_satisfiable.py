"""What no node could ever take is refused, with the nearest thing that one could."""

from __future__ import annotations

import pytest

from scheduler.core.demand import Constraints, Demand, Level
from scheduler.core.node_columns import NodeColumns
from scheduler.core.satisfiable import demand_text, nearest_possible
from tests.fakes.cluster_table import demand, node_facts

HALVES = ["left"] * 4 + ["right"] * 4
SITE = NodeColumns().with_nodes(
    [
        node_facts("h0", rack="a", labels={"gpu-driver": "550"}, island=HALVES),
        node_facts("h1", rack="a", labels={"gpu-driver": "535"}, device_labels={"cooling": "air"}),
        node_facts("h2", rack="b"),
        node_facts("m0", 7, model="A100", mig="1g.10gb"),
        node_facts("c0", 0),
    ]
)
H100 = "H100 SXM"


@pytest.mark.parametrize(
    ("wants", "workers", "constraints", "nearest"),
    [
        (demand(8, model=H100), 3, {}, None),
        (demand(8, model=H100), 4, {}, "3 workers of 8 x H100 SXM"),
        (demand(1, model=H100), 8, {"within": Level.NODE}, None),
        (demand(1, model=H100), 16, {"within": Level.NODE}, "8 x H100 SXM in one node (8 workers)"),
        (demand(4, model=H100), 4, {"within": Level.NODE}, "8 x H100 SXM in one node (2 workers)"),
        (demand(8, model=H100), 2, {"within": Level.RACK}, None),
        (demand(8, model=H100), 3, {"within": Level.RACK}, "16 x H100 SXM in one rack (2 workers)"),
        (demand(8, model=H100), 3, {"one_per": Level.NODE}, None),
        (demand(1), 9, {"one_per": Level.NODE}, "3 workers of 1 x any device, at most one in each node"),
        (demand(1), 9, {"one_per": Level.RACK}, "2 workers of 1 x any device, at most one in each rack"),
        (demand(1, model=H100), 99, {"spread": Level.RACK}, "24 workers of 1 x H100 SXM"),
        (
            demand(8, node="h0"),
            1,
            {"within": Level.ISLAND},
            "4 x any device a worker (the most that one island has)",
        ),
        (demand(9), 1, {"within": Level.RACK}, "8 x any device a worker (the most that one node has)"),
        (
            demand(labels={"gpu-driver": "560"}),
            1,
            {},
            "the same with gpu-driver=550 (no such node is labelled gpu-driver=560)",
        ),
        (
            demand(model=H100, device_labels={"cooling": "liquid"}),
            1,
            {},
            "the same with cooling=air (no such device is labelled cooling=liquid)",
        ),
        (demand(labels={"zone": "7"}), 1, {}, "the same without label zone (no such node is labelled zone=7)"),
        (
            demand(labels={"gpu-driver": "550"}, device_labels={"cooling": "air"}),
            1,
            {},
            "the same with fewer labels (no such device has all of them)",
        ),
        (demand(mig="1g.10gb"), 7, {}, None),
        (demand(mig="1g.20gb"), 1, {}, "1 x MIG 1g.10gb of any device"),
        (demand(model=H100, mig="1g.10gb"), 1, {}, "1 x H100 SXM"),
        (demand(model="A100"), 1, {}, "1 x MIG 1g.10gb of A100"),
        (demand(8, mig="1g.10gb"), 1, {}, "7 x MIG 1g.10gb of any device a worker (the most that one node has)"),
        (demand(model="H200"), 1, {}, "1 x H100 SXM"),
    ],
)
def test_the_nearest_possible_demand(
    wants: Demand, workers: int, constraints: dict[str, Level], nearest: str | None
) -> None:
    assert nearest_possible(SITE, (wants,), workers, Constraints(**constraints)) == nearest
    assert nearest_possible(SITE, (wants,), workers, Constraints(**constraints)) == nearest  # as it was kept


@pytest.mark.parametrize(
    ("wants", "workers", "constraints", "words"),
    [
        (demand(8), 2, {}, "2 workers of 8 x any device"),
        (demand(8), 2, {"within": Level.RACK}, "2 workers of 8 x any device, all in one rack"),
        (demand(8), 1, {"within": Level.RACK}, "1 worker of 8 x any device"),
        (
            demand(1, labels={"gpu-driver": "550"}),
            2,
            {"within": Level.SITE, "one_per": Level.NODE},
            "2 workers of 1 x any device with gpu-driver=550, all in one site, at most one in each node",
        ),
    ],
)
def test_a_demand_in_words(wants: Demand, workers: int, constraints: dict[str, Level], words: str) -> None:
    assert demand_text((wants,), workers, Constraints(**constraints)) == words
