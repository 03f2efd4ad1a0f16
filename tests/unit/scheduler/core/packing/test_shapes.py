"""Which shapes are typical, and that the answer does not depend on the order in which they were seen."""

from __future__ import annotations

import pytest

from scheduler.core.demand import Demand
from scheduler.core.packing.shapes import Shape, ShapeHistory, TypicalShapes

CPU = Shape(4000)
HALF = Shape(4000, 1, 500)
WHOLE = Shape(4000, 1, 1000)
PAIR = Shape(4000, 2, 1000)
ON_T4 = Shape(4000, 1, 1000, frozenset({"T4"}))


def weights(typical: TypicalShapes) -> dict[Shape, float]:
    return {each.shape: each.weight for each in typical.shapes}


@pytest.mark.parametrize(
    ("demand", "shape"),
    [
        (Demand(devices=0, cpus_milli=4000), CPU),
        (Demand(devices=0, share_milli=500, cpus_milli=4000), HALF),
        (Demand(devices=2, cpus_milli=4000), PAIR),
        (Demand(devices=1, cpus_milli=4000, model="T4"), ON_T4),
    ],
)
def test_a_demand_has_a_shape(demand: Demand, shape: Shape) -> None:
    assert Shape.of(demand) == shape


def test_weights_are_parts_of_all_and_the_most_frequent_stands_first() -> None:
    typical = TypicalShapes.of([HALF, WHOLE, WHOLE, CPU])
    assert [each.shape for each in typical.shapes] == [WHOLE, CPU, HALF]
    assert weights(typical) == {WHOLE: 0.5, HALF: 0.25, CPU: 0.25}


def test_covering_takes_the_most_frequent_until_they_are_enough_and_renormalises() -> None:
    typical = TypicalShapes.of([WHOLE] * 90 + [HALF] * 5 + [CPU] * 3 + [PAIR] * 2)
    assert weights(typical.covering(0.95)) == {WHOLE: 90 / 95, HALF: 5 / 95}
    assert set(weights(typical.covering(0.951))) == {WHOLE, HALF, CPU}
    assert typical.covering(1.0) == typical


def test_equally_frequent_shapes_are_ranked_the_same_whoever_came_first() -> None:
    seen = [CPU, HALF, WHOLE, PAIR, ON_T4]
    assert TypicalShapes.of(seen) == TypicalShapes.of(reversed(seen))
    assert [each.shape for each in TypicalShapes.of(seen).shapes] == [CPU, HALF, WHOLE, ON_T4, PAIR]


def test_shapes_without_devices_can_be_left_out() -> None:
    assert weights(TypicalShapes.of([CPU, CPU, HALF, WHOLE]).wanting_devices()) == {HALF: 0.5, WHOLE: 0.5}


def test_nothing_seen_is_nothing_typical() -> None:
    assert (
        TypicalShapes.of([]) == TypicalShapes.of_counts({CPU: 0.0}) == TypicalShapes().covering(0.95) == TypicalShapes()
    )


def test_a_history_fades_by_half_in_a_half_life_and_forgets() -> None:
    history = ShapeHistory(half_life_s=100.0)
    history.saw(HALF, now_s=0.0, workers=4)
    history.saw(WHOLE, now_s=100.0)
    assert history.counts(now_s=100.0) == {HALF: 2.0, WHOLE: 1.0}
    assert weights(history.typical(now_s=200.0)) == pytest.approx({HALF: 2 / 3, WHOLE: 1 / 3})
    assert history.counts(now_s=5000.0) == {}


def test_a_clock_that_steps_back_changes_no_count() -> None:
    history = ShapeHistory(half_life_s=100.0)
    history.saw(HALF, now_s=100.0)
    history.saw(HALF, now_s=50.0)
    assert history.counts(now_s=60.0) == {HALF: 2.0}


@pytest.mark.parametrize("wrong", [{"devices": 1}, {"gpu_milli": 500}, {"devices": 2, "gpu_milli": 500}])
def test_a_shape_is_whole_devices_or_a_part_of_one(wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        Shape(1000, **wrong)
