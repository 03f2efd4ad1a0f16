"""Whatever health wants, no more is taken out of a pool than its budget, and the worst goes first."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.demand import DeviceFacts, NodeFacts
from scheduler.core.health_budget import Budget, Target, Wish, allowances, granted, pool_of


def node(name: str, devices: int, model: str = "H100") -> NodeFacts:
    cards = tuple(DeviceFacts(i, f"{name}-{i}", model, "nvidia", 80 << 30, False) for i in range(devices))
    return NodeFacts(name, "s", "10.0.0.1", cards, 64_000, 1 << 40, False)


def site(*nodes: NodeFacts) -> dict[str, NodeFacts]:
    return {each.name: each for each in nodes}


def taken(targets: frozenset[Target], nodes: dict[str, NodeFacts], drained: set[str]) -> Counter[tuple[str, str, bool]]:
    out = {
        (name, device.index): pool_of(device)
        for name, index in targets
        if name in nodes and name not in drained
        for device in nodes[name].devices
        if index in (None, device.index)
    }
    return Counter(out.values())


def test_a_share_of_the_pool_or_one_node_whichever_is_more() -> None:
    large = [node(f"n{i}", 8) for i in range(100)]
    assert allowances(large, Budget()) == {("nvidia", "H100", False): 16}
    assert allowances(large[:3], Budget()) == {("nvidia", "H100", False): 8}
    assert allowances([*large, node("a", 4, "A100")], Budget(share=0.0, nodes=2))["nvidia", "A100", False] == 4


def test_the_worst_goes_first_and_takes_the_place_of_the_less_bad() -> None:
    nodes = site(*(node(f"n{i}", 1) for i in range(3)))
    mild, worse = Wish(("n0", 0), 1, 5.0), Wish(("n2", 0), 3, 9.0)
    assert granted([mild], nodes, Budget()) == {("n0", 0)}
    assert granted([mild, worse], nodes, Budget(), out={("n0", 0)}) == {("n2", 0)}


def test_of_equals_those_that_are_out_stay_out() -> None:
    nodes = site(*(node(f"n{i}", 1) for i in range(3)))
    older, newer = Wish(("n0", 0), 2, 5.0), Wish(("n1", 0), 2, 9.0)
    assert granted([older, newer], nodes, Budget()) == {("n0", 0)}
    assert granted([older, newer], nodes, Budget(), out={("n1", 0)}) == {("n1", 0)}


def test_what_an_operator_drained_takes_nothing_from_it() -> None:
    nodes = site(*(node(f"n{i}", 2) for i in range(4)))
    wishes = [Wish(("n0", None), 3, 1.0), Wish(("n1", None), 2, 1.0)]
    assert granted(wishes, nodes, Budget()) == {("n0", None)}
    assert granted(wishes, nodes, Budget(), drained={"n0"}) == {("n0", None), ("n1", None)}


def test_a_device_of_a_node_that_is_out_costs_no_more() -> None:
    nodes = site(*(node(f"n{i}", 2) for i in range(4)))
    wishes = [Wish(("n0", None), 3, 1.0), Wish(("n0", 1), 2, 1.0)]
    assert granted(wishes, nodes, Budget()) == {("n0", None), ("n0", 1)}


def test_no_budget_at_all_takes_nothing_out() -> None:
    assert granted([Wish(("n0", 0), 3, 1.0)], site(node("n0", 8)), Budget(share=0.0, nodes=0)) == frozenset()


NAMES = [f"n{i}" for i in range(6)]
wishes = st.builds(
    Wish,
    st.tuples(st.sampled_from([*NAMES, "gone"]), st.none() | st.integers(0, 4)),
    st.integers(0, 6),
    st.floats(0, 100),
)


@given(
    st.lists(st.lists(wishes, max_size=12), max_size=6),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["H100", "A100"])), min_size=6, max_size=6),
    st.sets(st.sampled_from(NAMES)),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.integers(0, 2),
)
def test_never_more_than_the_budget_whatever_arrives(
    rounds: list[list[Wish]], sizes: list[tuple[int, str]], drained: set[str], share: float, whole_nodes: int
) -> None:
    nodes = site(*(node(name, count, model) for name, (count, model) in zip(NAMES, sizes, strict=True)))
    budget = Budget(share, whole_nodes)
    most = allowances(nodes.values(), budget)
    out: frozenset[Target] = frozenset()
    for wanted in rounds:
        out = granted(wanted, nodes, budget, out=out, drained=drained)
        assert out <= {wish.target for wish in wanted}
        assert all(count <= most[pool] for pool, count in taken(out, nodes, drained).items())
        refused = [wish for wish in wanted if wish.target not in out]
        for wish in refused:  # nothing that is less bad stands where it would have fitted
            kept = frozenset(
                each.target for each in wanted if each.target in out and each.severity >= wish.severity
            ) | {wish.target}
            assert any(count > most[pool] for pool, count in taken(kept, nodes, drained).items())
