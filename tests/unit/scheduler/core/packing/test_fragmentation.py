"""F of nodes, against its definition written out shape by shape, and the cluster's live figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.packing.fragmentation import ONE, Fragmentation
from scheduler.core.packing.rows import NodeKinds
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.packing.stranding import stranded_share
from tests.fakes.packing_table import packing_table

QUARTER = Shape(2000, 1, 250)
HALF = Shape(4000, 1, 500)
WHOLE = Shape(4000, 1, 1000)
PAIR = Shape(8000, 2, 1000)
CPU = Shape(4000)


def defined(typical: TypicalShapes, models: frozenset[str], left: list[int], cpus_milli: int) -> float:
    """Expected stranded milli, straight from the definition."""
    expected = 0.0
    for each in typical.shapes:
        shape = each.shape
        enough = [milli for milli in left if milli >= shape.gpu_milli]
        fits = (
            shape.devices > 0
            and (shape.models is None or bool(shape.models & models))
            and shape.cpus_milli <= cpus_milli
            and len(enough) >= shape.devices
        )
        expected += each.weight * (sum(milli for milli in left if milli < shape.gpu_milli) if fits else sum(left))
    return expected


def stranded(typical: TypicalShapes, left: list[int], cpus_milli: int, model: str = "G2") -> float:
    kinds = NodeKinds.of_nodes([[model] * len(left)], np.array([cpus_milli]), np.array([0]))
    row = np.array([left], np.int32)
    return int(Fragmentation(typical, kinds, len(left)).stranded(kinds.kind, row, np.array([cpus_milli]))[0]) / ONE


@pytest.mark.parametrize(
    ("shape", "left", "cpus", "lost"),
    [
        (HALF, [1000, 500, 499], 4000, 499),
        (HALF, [400, 400], 4000, 800),
        (WHOLE, [1000, 900], 4000, 900),
        (WHOLE, [900, 900], 4000, 1800),
        (PAIR, [1000, 1000, 900], 8000, 900),
        (PAIR, [1000, 900, 900], 8000, 2800),
        (HALF, [1000, 1000], 3999, 2000),
        (CPU, [1000, 1000], 64000, 2000),
        (Shape(1000, 1, 500, frozenset({"T4"})), [1000], 4000, 1000),
        (Shape(1000, 1, 500, frozenset({"T4", "G2"})), [1000], 4000, 0),
        (HALF, [0, 0], 4000, 0),
    ],
)
def test_what_a_shape_strands(shape: Shape, left: list[int], cpus: int, lost: int) -> None:
    assert stranded(TypicalShapes.of([shape]), left, cpus) == lost


def test_it_is_the_mean_over_the_shapes() -> None:
    assert stranded(TypicalShapes.of([HALF, HALF, HALF, CPU]), [1000, 300], 4000) == 0.75 * 300 + 0.25 * 1300


SHAPES = st.builds(
    lambda cpus, asked, models: Shape(cpus, *asked, models if asked[0] else None),
    st.sampled_from([0, 1000, 4000, 9000]),
    st.one_of(
        st.just((0, 0)),
        st.tuples(st.just(1), st.sampled_from([1, 250, 330, 500, 999, 1000])),
        st.tuples(st.integers(2, 9), st.just(1000)),
    ),
    st.sampled_from([None, frozenset({"A"}), frozenset({"B"}), frozenset({"A", "B"}), frozenset({"C"})]),
)
NODES = st.tuples(
    st.lists(st.sampled_from([0, 1, 249, 250, 333, 500, 999, 1000]), min_size=1, max_size=8),
    st.sampled_from([0, 999, 1000, 4000, 8999, 20000]),
    st.sampled_from(["A", "B"]),
)


@given(st.lists(SHAPES, max_size=12), st.lists(NODES, min_size=1, max_size=6))
def test_it_is_what_the_definition_says(shapes: list[Shape], nodes: list[tuple[list[int], int, str]]) -> None:
    typical = TypicalShapes.of(shapes)
    kinds = NodeKinds.of_nodes(
        [[model] * len(left) for left, _, model in nodes],
        np.array([cpus for _, cpus, _ in nodes]),
        np.zeros(len(nodes)),
    )
    width = max(len(left) for left, _, _ in nodes)
    milli = np.array([left + [0] * (width - len(left)) for left, _, _ in nodes], np.int32)
    found = Fragmentation(typical, kinds, width).stranded(kinds.kind, milli, np.array([cpus for _, cpus, _ in nodes]))
    expected = [defined(typical, frozenset({model}), left, cpus) for left, cpus, model in nodes]
    assert (found / ONE).tolist() == pytest.approx(expected, abs=1e-4)


@given(st.lists(SHAPES, min_size=1, max_size=12), st.permutations([1000, 1000, 250, 0, 500, 999]))
def test_the_order_of_devices_is_nothing_to_it(shapes: list[Shape], left: list[int]) -> None:
    typical = TypicalShapes.of(shapes)
    assert stranded(typical, left, 4000, "A") == stranded(typical, sorted(left), 4000, "A")


@pytest.mark.parametrize(
    ("nodes", "share"),
    [
        (["1000 1000", "1000 1000"], 0.0),
        (["400 400", "1000"], 800 / 1800),
        (["400 0", "0 0"], 1.0),
        (["0 0"], 0.0),
        (["1000, 1 CPUs", "1000"], 0.5),
    ],
)
def test_the_live_figure_is_the_expected_stranded_part_of_what_is_idle(nodes: list[str], share: float) -> None:
    table = packing_table(*nodes)
    typical = TypicalShapes.of([HALF, HALF, CPU])  # work without devices is left out
    assert stranded_share(typical, table.kinds, table.free) == pytest.approx(share)


def test_the_live_figure_of_a_cluster_that_has_seen_no_work_is_zero() -> None:
    table = packing_table("1000 400")
    assert stranded_share(TypicalShapes(), table.kinds, table.free) == 0.0
    assert stranded_share(TypicalShapes.of([CPU]), table.kinds, table.free) == 0.0
