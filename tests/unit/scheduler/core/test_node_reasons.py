"""One reason a node, counted and in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.cluster import ClusterState
from scheduler.core.demand import Demand, NodeFacts, Placement
from scheduler.core.node_reasons import nodes_by_reason
from scheduler.core.placement import Pools, how_many
from tests.fakes.cluster_table import GIB, demand, node_facts
from tests.fakes.examples import examples

SITE = [
    node_facts("h0", labels={"gpu-driver": "550"}),
    node_facts("h1", labels={"gpu-driver": "535"}, device_labels={"cooling": "air"}),
    node_facts("a0", model="A100", site="south"),
    node_facts("m0", mig=["1g.10gb"] * 7 + [None]),
    node_facts("x0", model="910B", vendor="huawei"),
    node_facts("s0", simulated=True),
    node_facts("c0", 0),
]


def reasons(
    nodes: list[NodeFacts], *alternatives: Demand, busy: dict[str, int] | None = None, **more: object
) -> dict[str, int]:
    """Reason -> nodes; `busy`: how many devices of a node are taken, each with 8 CPUs and 64 GiB."""
    state = ClusterState(nodes)
    for name, count in (busy or {}).items():
        state.take(name, [Placement(i, name, (i,), 0, 8000, 64 * GIB, 0) for i in range(count)])
    pools = Pools(state.nodes, state.schedulable, state.nodes.tie_rank(0))
    found = nodes_by_reason(pools, state.free, alternatives, {}, **more)  # type: ignore[arg-type]
    assert list(found) == sorted(found, key=lambda each: (-each[1], each[0]))
    assert nodes_by_reason(pools, state.free, alternatives, {}, **more) == found  # type: ignore[arg-type]  # kept
    return dict(found)


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        (
            demand(model="H100 SXM"),
            {"model differs": 2, "simulated, which the demand does not allow": 1, "no devices": 1},
        ),
        (
            demand(vendor="nvidia", model="H100 SXM"),
            {"model differs": 1, "vendor differs": 1, "simulated, which the demand does not allow": 1, "no devices": 1},
        ),
        (demand(2, model="A100", site="south"), {"other site": 6}),
        (demand(node="h0"), {"not the named node": 6}),
        (
            demand(vendor="nvidia", labels={"gpu-driver": "550"}),
            {"lacks label gpu-driver=550": 5, "simulated, which the demand does not allow": 1},
        ),
        (
            demand(model="H100 SXM", device_labels={"cooling": "air"}),
            {
                "no device with label cooling=air": 2,
                "model differs": 2,
                "simulated, which the demand does not allow": 1,
                "no devices": 1,
            },
        ),
        (
            demand(mig="1g.10gb"),
            {"no MIG 1g.10gb instances": 4, "simulated, which the demand does not allow": 1, "no devices": 1},
        ),
        (
            demand(mig="2g.20gb", model="A100"),
            {
                "no MIG 2g.20gb instances": 1,
                "model differs": 4,
                "simulated, which the demand does not allow": 1,
                "no devices": 1,
            },
        ),
        (
            demand(8, simulated=True, vendor="nvidia"),
            {"1 of 1 devices free": 1, "vendor differs": 1, "no devices": 1},
        ),
    ],
)
def test_what_keeps_a_demand_off_each_node(wants: Demand, expected: dict[str, int]) -> None:
    assert reasons(SITE, wants) == expected


def test_only_mig_instances() -> None:
    assert reasons([node_facts("m0", 7, mig="1g.10gb")], demand()) == {"only MIG instances": 1}


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        (demand(6), {"3 of 8 devices free": 1, "5 of 8 devices free": 2}),
        (demand(4), {"3 of 8 devices free": 1}),
        (demand(1, cpus=30), {"under 30 CPUs free": 1}),
        (demand(1, cpus=41), {"under 41 CPUs free": 3}),
        (demand(1, memory_gib=250), {"under 250 GiB free": 1}),
        (demand(0, share=0.5), {}),
        (demand(8, cpus=64), {"3 of 8 devices free": 1, "5 of 8 devices free": 2}),
    ],
)
def test_sizes(wants: Demand, expected: dict[str, int]) -> None:
    nodes = [node_facts(f"n{i}") for i in range(4)]
    assert reasons(nodes, wants, busy={"n0": 3, "n1": 3, "n2": 5}) == expected


def test_shares_and_devices_of_several_models() -> None:
    nodes = [node_facts("n0", 3, model=["H100", "H100", "A100"])]
    assert reasons(nodes, demand(0, share=0.5, model="H100"), busy={"n0": 2}) == {"0 of 2 devices have 0.5 free": 1}
    assert reasons(nodes, demand(2, model="H100"), busy={"n0": 1}) == {"1 of 2 devices free": 1}


def test_a_node_is_named_by_the_alternative_that_came_closest() -> None:
    nodes = [node_facts("h0"), node_facts("a0", model="A100"), node_facts("c0", 0)]
    either = (demand(4, model="H100 SXM"), demand(8, model="A100"))
    assert reasons(nodes, *either, busy={"h0": 6, "a0": 1}) == {
        "2 of 8 devices free": 1,
        "7 of 8 devices free": 1,
        "no devices": 1,
    }
    assert reasons(nodes, demand(9), demand(2, cpus=33), busy={"h0": 4}) == {"under 33 CPUs free": 1, "no devices": 1}


def test_several_labels_are_named_one_by_one() -> None:
    nodes = [
        node_facts("n0", labels={"a": "1"}, device_labels={"x": "1"}),
        node_facts("n1", labels={"a": "1", "b": "2"}, device_labels={"y": "1"}),
        node_facts("n2"),
    ]
    assert reasons(nodes, demand(labels={"a": "1", "b": "2"})) == {"lacks label a=1": 1, "lacks label b=2": 1}
    assert reasons(nodes, demand(device_labels={"x": "1", "y": "1"})) == {
        "no device with label x=1": 2,
        "no device with label y=1": 1,
    }


def test_excluded_nodes_have_a_word_of_their_own() -> None:
    nodes = [node_facts(f"n{i}") for i in range(3)]
    excluded = np.array([True, True, False])
    assert reasons(nodes, demand(8), busy={"n0": 1, "n2": 1}, excluded=excluded) == {
        "reserved": 2,
        "7 of 8 devices free": 1,
    }
    word = "reserved for the nightly benchmark"
    assert reasons(nodes, demand(model="A100"), excluded=excluded, excluded_word=word) == {"model differs": 3}
    assert reasons(nodes, demand(8), excluded=excluded, excluded_word=word) == {word: 2}


def test_unschedulable_nodes_have_the_words_of_the_moment() -> None:
    state = ClusterState([node_facts(f"n{i}") for i in range(4)])
    for name, reason in (("n0", "down"), ("n1", "draining: fan"), ("n2", "draining")):
        state.set_schedulable(name, reason)
    pools = Pools(state.nodes, state.schedulable, state.nodes.tie_rank(0))
    assert nodes_by_reason(pools, state.free, (demand(9),), state.unschedulable) == (
        ("draining", 2),
        ("8 of 8 devices free", 1),
        ("down", 1),
    )
    state.set_schedulable("n1", None)
    pools = Pools(state.nodes, state.schedulable, state.nodes.tie_rank(0))
    assert dict(nodes_by_reason(pools, state.free, (demand(9),), state.unschedulable))["8 of 8 devices free"] == 2


some_demands = st.builds(
    demand,
    st.integers(0, 9),
    share=st.sampled_from([0, 0, 0.5]),
    cpus=st.sampled_from([0, 1, 9, 40, 65]),
    memory_gib=st.sampled_from([0, 1, 200, 600]),
    mig=st.sampled_from([None, None, "1g.10gb"]),
    labels=st.sampled_from([{}, {}, {"gpu-driver": "550"}]),
    device_labels=st.sampled_from([{}, {}, {"cooling": "air"}]),
    vendor=st.sampled_from([None, "nvidia", "huawei", "amd"]),
    model=st.sampled_from([None, "H100 SXM", "910B"]),
    simulated=st.booleans(),
    site=st.sampled_from([None, None, "south"]),
    node=st.sampled_from([None, None, "h1"]),
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(some_demands, min_size=1, max_size=3), st.lists(st.integers(0, 7), min_size=7, max_size=7))
def test_every_node_has_one_reason_or_room(alternatives: list[Demand], busy: list[int]) -> None:
    state = ClusterState(SITE)
    for facts, count in zip(SITE, busy, strict=True):
        held = range(min(count, len(facts.devices)))
        state.take(facts.name, [Placement(i, facts.name, (i,), 0, 8000, 64 * GIB, 0) for i in held])
    pools = Pools(state.nodes, state.schedulable, state.nodes.tie_rank(0))
    found = nodes_by_reason(pools, state.free, alternatives, {})
    with_room = sum(
        how_many(pools, state.free, alternatives, 1, only=np.arange(len(SITE)) == row) for row in range(len(SITE))
    )
    assert sum(count for _, count in found) + with_room == len(SITE)
    assert nodes_by_reason(pools, state.free, [*alternatives, *alternatives], {}) == found
